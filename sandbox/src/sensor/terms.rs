//! What other policies must fit to take the place of those that a run began with.
//!
//! Whoever prepares a change has the terms, and nothing else of the sensor: finding out whether policies fit takes
//! long, and the sensor must be read meanwhile. Nothing is put in force here.

use std::sync::Arc;

use policy::{
    Policy,
    compile::{
        Unheld,
        lsm::{Held, LsmPlan, SetTable, compile},
        seccomp::Hooks,
    },
    other_names::Marks,
};

use super::{SensorError, spellings};
use crate::enforce::lsm::{Known, Marker};

/// What a run holds and knows, as far as other policies depend on it.
pub struct Terms {
    /// Whether anything in the kernel judges; else nobody there needs a plan.
    pub(super) judges: bool,
    /// What it holds.
    pub(super) held: Held,
    /// Whether verdicts are law.
    pub(super) law: bool,
    pub(super) known: Known,
    pub(super) sets: SetTable,
    /// Whether the runner answers the run's questions for names.
    pub(super) names: bool,
    /// Whether it is known which listeners are the run's.
    pub(super) own: bool,
    /// The number of the next policy.
    pub(super) next: u32,
    /// What is not held, as the user accepted when the run began.
    pub(super) accepted: Vec<String>,
    pub(super) marker: Option<Marker>,
}

/// Policies that fit.
#[derive(Debug)]
pub struct Planned {
    /// Their number; records name it.
    pub id: u32,
    /// `None` where nothing in the kernel judges.
    pub(super) plan: Option<Arc<LsmPlan>>,
    sets: SetTable,
}

/// What the next policies must fit, in addition.
#[derive(Debug)]
pub struct Successor {
    sets: SetTable,
    next: u32,
}

impl Terms {
    /// Whether hooks judge; else what they would hold is the filter's, as it was when the run began.
    pub fn hooks(&self) -> Hooks {
        if self.marker.is_some() { Hooks::Judge } else { Hooks::Missing }
    }

    /// Compiles policies. Nothing changes.
    ///
    /// # Errors
    /// They do not fit the kernel's tables, or say something that nothing holds in this run.
    pub fn plan(&self, policies: &[&Policy]) -> Result<Planned, SensorError> {
        let (id, mut sets) = (self.next, self.sets.clone());
        if !self.judges {
            return match self.law {
                true => Err(SensorError::Unheld(vec!["no layer of this run enforces".to_owned()])),
                false => Ok(Planned { id, plan: None, sets }),
            };
        }
        let plan = compile(policies, id, &mut sets)?;
        let mut unheld: Vec<String> = Vec::new();
        if self.law {
            unheld.extend(self.not_accepted(&plan.unheld(&self.held)));
        }
        if plan.header.hashes != 0 && self.known == Known::Path {
            unheld.push("rules on contents (`sha256`) need a run that began with some".to_owned());
        }
        if self.law && plan.header.names != 0 && !self.names {
            unheld.push("rules on host names need a run that began with some".to_owned());
        }
        if self.law && plan.header.own.count != 0 && !self.own {
            unheld.push("rules on `own` need a run that began with some, or with host names".to_owned());
        }
        match unheld.as_slice() {
            [] => Ok(Planned { id, plan: Some(Arc::new(plan)), sets }),
            _ => Err(SensorError::Unheld(unheld)),
        }
    }

    /// Looks where the names that policies go by have other spellings, and gives what to tell of it. Policies that only
    /// open more than those before need no look: what goes by names was looked at then.
    ///
    /// # Errors
    /// A rule is not held for it, or the mounts cannot be read.
    pub fn spellings(&self, policies: &[&Policy]) -> Result<Vec<String>, SensorError> {
        if self.marker.is_none() {
            return Ok(Vec::new());
        }
        let found = spellings::look(policies)?;
        let unheld = if self.law { self.not_accepted(&found.unheld) } else { Vec::new() };
        if unheld.is_empty() { Ok(found.notes) } else { Err(SensorError::Unheld(unheld)) }
    }

    fn not_accepted(&self, unheld: &[Unheld]) -> Vec<String> {
        Unheld::lines(unheld).into_iter().filter(|line| !self.accepted.contains(line)).collect()
    }

    /// Marks the files that policies deny by another name, before they are in force. Gives what was not looked at.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mark(&mut self, policies: &[&Policy]) -> Result<Vec<String>, SensorError> {
        self.marker.as_mut().map_or(Ok(Vec::new()), |marker| Ok(marker.mark(policies)?))
    }

    /// Takes the marks away that the last look did not make again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_earlier_marks(&self) -> Result<(), SensorError> {
        self.marker.as_ref().map_or(Ok(()), |marker| Ok(marker.forget_earlier()?))
    }

    /// All marked files so far.
    pub fn marks(&self) -> Marks {
        self.marker.as_ref().map(|marker| marker.marks().clone()).unwrap_or_default()
    }

    /// Goes on from policies that were put in force.
    pub fn adopt(&mut self, Successor { sets, next }: Successor) {
        self.sets = sets;
        self.next = next;
    }
}

impl Planned {
    /// Their tables, where something in the kernel judges.
    pub fn plan(&self) -> Option<&Arc<LsmPlan>> {
        self.plan.as_ref()
    }

    /// How much memory their tables take in the kernel.
    pub fn bytes(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.pages().map(|page| size_of_val(&page)).sum())
    }

    /// What becomes of the terms when these policies are in force.
    pub fn successor(&self) -> Successor {
        Successor { sets: self.sets.clone(), next: self.id + 1 }
    }
}
