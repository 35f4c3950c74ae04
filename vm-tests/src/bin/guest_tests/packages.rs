//! npm, pip and cargo under the policy for agents as it ships, against registries of the names that they have built in:
//! the cases of `net-lab` on a whole kernel, held by all layers.

use crate::Trial;
use crate::run::SANDBOX;
use anyhow::{Context, Result};
use net_lab::{Case, Lab, Mode, Sandbox, Side, cases::packages};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use vm_tests::module;
use vm_tests::wire::LINK;

pub const TRIALS: &[Trial] =
    &[("without a sandbox", bare), ("as it ships", shipped), ("without the registries", closed)];

/// One network for all trials: making it takes longer than a trial.
static LAB: Mutex<Option<Lab>> = Mutex::new(None);

/// None of the temporary places, which the policy opens as a whole.
const PLACE: &str = "/srv/packages";

fn attempt(case: Case, mode: Mode<'_>) -> Result<()> {
    let mut lab = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    if lab.is_none() {
        module::load(LINK)?;
        *lab = Some(Lab::start(Side::Machine)?);
    }
    let lab = lab.as_mut().context("a network")?;
    lab.work_in(Path::new(PLACE), "/usr/sbin:/usr/bin".as_ref())?;
    net_lab::run(lab, &[case], mode)
}

fn held(case: Case) -> Result<()> {
    let options = ["--require", "lsm"].map(str::to_owned).to_vec();
    attempt(case, Mode::Held(&Sandbox { program: SANDBOX.into(), options }))
}

/// The control of the others.
fn bare() -> Result<()> {
    attempt(packages::CLOSED, Mode::Bare)
}

/// The group names of the policy are enough.
fn shipped() -> Result<()> {
    held(packages::SHIPPED)
}

/// Without them nothing is found.
fn closed() -> Result<()> {
    held(packages::CLOSED)
}
