//! For each rule the layers that hold it.

use std::collections::BTreeMap;
use std::fmt;

use super::landlock::LandlockPlan;
use super::lsm::{Held, LsmPlan};
use super::{Unheld, seccomp};
use crate::model::{Policy, RuleName, Section};

/// A layer that holds rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// BPF programs on LSM hooks.
    Lsm,
    /// Landlock.
    Landlock,
    /// The system call filter.
    Seccomp,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lsm => "lsm",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        })
    }
}

/// The layers of a run, with their plans.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plans<'a> {
    /// The plan of `lsm`, and what it holds.
    pub lsm: Option<(&'a LsmPlan, Held)>,
    /// The plan of Landlock.
    pub landlock: Option<&'a LandlockPlan>,
}

/// For every rule of the policy, and every default, the layers that hold all of it; none where no layer does so
/// alone.
pub fn holding(policy: &Policy, plans: Plans<'_>) -> BTreeMap<RuleName, Vec<Layer>> {
    let lsm = plans.lsm.map(|(plan, held)| plan.unheld(&held));
    let landlock = plans.landlock.map(|plan| plan.unheld().to_vec());
    let layers = [(Layer::Lsm, lsm), (Layer::Landlock, landlock)];
    let mut all: BTreeMap<RuleName, Vec<Layer>> = BTreeMap::new();
    for name in names(policy) {
        let holds = |unheld: &Vec<Unheld>| !unheld.iter().any(|unheld| unheld.rule == name);
        let holding = layers.iter().filter(|(_, unheld)| unheld.as_ref().is_some_and(holds));
        all.insert(name.clone(), holding.map(|(layer, _)| *layer).collect());
    }
    // Of what `kernel` closes, some is the filter's, and the rest the programs'.
    let closed = |word: &str| !policy.settings.kernel_allowed().contains(&word);
    let kernel = all.entry(policy.kernel_default()).or_default();
    kernel.retain(|layer| *layer == Layer::Lsm);
    if !kernel.is_empty() && seccomp::words(seccomp::Hooks::Judge).any(closed) {
        kernel.push(Layer::Seccomp);
    }
    all
}

fn names(policy: &Policy) -> Vec<RuleName> {
    fn of<O>(section: &Section<O>) -> impl Iterator<Item = &RuleName> {
        section.rules.iter().map(|rule| &rule.name).chain([&section.default_name])
    }
    let rules = of(&policy.files).chain(of(&policy.exec)).chain(of(&policy.network)).cloned();
    rules.chain([policy.kernel_default()]).collect()
}
