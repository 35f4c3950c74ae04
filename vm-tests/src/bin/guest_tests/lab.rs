//! Names and addresses, with real clients, a real resolver and real servers: the cases of `net-lab` on a whole kernel,
//! held by all layers. Its image has the programs for it.

use crate::Trial;
use crate::run::SANDBOX;
use anyhow::{Context, Result, ensure};
use net_lab::{Lab, Mode, Sandbox, Side, cases};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use vm_tests::module;
use vm_tests::wire::LINK;

pub const TRIALS: &[Trial] = &[("without a sandbox", bare), ("enforced", enforced)];

/// One network for all trials: making it takes longer than a trial.
static LAB: Mutex<Option<Lab>> = Mutex::new(None);

fn try_all(mode: Mode<'_>) -> Result<()> {
    let mut lab = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    if lab.is_none() {
        module::load(LINK)?;
        let start = Instant::now();
        *lab = Some(Lab::start(Side::Machine)?);
        println!("       the network is there ({:.1} s)", start.elapsed().as_secs_f32());
    }
    let lab = lab.as_mut().context("a network")?;
    let mut failed = Vec::new();
    for group in cases::GROUPS {
        let start = Instant::now();
        let result = net_lab::run(lab, group, mode);
        let names: Vec<&str> = group.iter().map(|case| case.name).collect();
        println!("       {} ({:.1} s)", names.join(", "), start.elapsed().as_secs_f32());
        failed.extend(result.err().map(|error| format!("{error:#}")));
    }
    ensure!(
        failed.is_empty(),
        "{} of {} groups\n\n{}",
        failed.len(),
        cases::GROUPS.len(),
        failed.join("\n\n")
    );
    Ok(())
}

/// The control of all others: everything arrives.
fn bare() -> Result<()> {
    try_all(Mode::Bare)
}

fn enforced() -> Result<()> {
    let options = ["--require", "lsm"].map(str::to_owned).to_vec();
    try_all(Mode::Held(&Sandbox { program: SANDBOX.into(), options }))
}
