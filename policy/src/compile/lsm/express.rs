//! The part of a policy that the tables can express.
//!
//! What is never law in them is left out and reported: never made wider, and never dropped in silence.

use super::held::{LIMITS, TMP};
use crate::compile::{Unheld, Unsupported};
use crate::model::{Decision, Mode, Policy, RuleName, Section};

/// The policy without the rules that match nobody or nothing, and what the tables cannot express: settings. A rule that
/// asks denies there: whoever asks opens it ([`crate::asking`]). What is on trial is still in it. What needs more than a
/// path or an address to be known is told by [`super::beyond`].
pub fn expressible(policy: &Policy) -> (Policy, Vec<Unheld>) {
    let mut kept = policy.clone();
    let mut unheld = Vec::new();
    let setting = |key| Unheld { rule: RuleName::new(&policy.name, key), what: Unsupported::Setting };
    // Whether these are held is a matter of the run's control group and its mounts (see `held`).
    unheld.extend(policy.settings.keys().filter(|key| ![LIMITS, TMP].contains(key)).map(setting));
    section(&mut kept.files);
    section(&mut kept.exec);
    section(&mut kept.network);
    (kept, unheld)
}

fn section<O>(section: &mut Section<O>) {
    // It matches nobody or nothing; without its conditions it would match.
    section.rules.retain(|rule| !rule.is_void());
}

/// The policy without what is on trial.
pub(super) fn law(mut policy: Policy) -> Policy {
    let mode = policy.mode;
    enforced(&mut policy.files, mode);
    enforced(&mut policy.exec, mode);
    enforced(&mut policy.network, mode);
    policy
}

fn enforced<O>(section: &mut Section<O>, mode: Mode) {
    if mode == Mode::Audit {
        section.default = Decision::Allow;
    }
    section.rules.retain(|rule| mode == Mode::Enforce && rule.mode == Mode::Enforce);
}
