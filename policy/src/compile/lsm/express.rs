//! The part of a policy that the tables can express.
//!
//! A rule that they cannot is left out and reported: never made wider, and never dropped in silence. Where it
//! would have allowed, what it is about stays denied; where it would have denied, only a run that was told to
//! go on without it starts at all.

use std::collections::BTreeSet;

use crate::address::Target;
use crate::compile::{Unheld, Unsupported};
use crate::model::{Decision, Mode, Policy, RuleName, Section};

/// The policy without the rules that the tables cannot express, and those. What is on trial is still in it.
pub fn expressible(policy: &Policy) -> (Policy, Vec<Unheld>) {
    let mut kept = policy.clone();
    let mut unheld = Vec::new();
    let setting = |key| Unheld { rule: RuleName::new(&policy.name, key), what: Unsupported::Setting };
    unheld.extend(policy.settings.keys().map(setting));
    section(&mut kept.files, &mut unheld);
    section(&mut kept.exec, &mut unheld);
    addresses(&mut kept.network, &mut unheld);
    section(&mut kept.network, &mut unheld);
    (kept, unheld)
}

fn section<O>(section: &mut Section<O>, unheld: &mut Vec<Unheld>) {
    section.rules.retain(|rule| {
        // It matches nobody or nothing; without its conditions it would match.
        if rule.is_void() {
            return false;
        }
        if rule.effect == Decision::Ask {
            unheld.push(Unheld { rule: rule.name.clone(), what: Unsupported::Ask });
        }
        true
    });
}

/// Leaves addresses only. An exception that cannot be made makes a rule that denies wider, and takes away one
/// that allows.
fn addresses(section: &mut Section<Target>, unheld: &mut Vec<Unheld>) {
    section.rules.retain_mut(|rule| {
        if rule.is_void() {
            return true;
        }
        let mut add = |what| unheld.push(Unheld { rule: rule.name.clone(), what });
        let kinds = |targets: &[Target]| -> BTreeSet<&'static str> {
            targets.iter().filter_map(|target| target.meaning.inexpressible()).collect()
        };
        let (objects, except) = (kinds(&rule.objects), kinds(&rule.except));
        objects.iter().for_each(|what| add(Unsupported::Target(what)));
        except.iter().for_each(|what| add(Unsupported::Exception(what)));
        let is_address = |target: &Target| target.meaning.inexpressible().is_none();
        rule.objects.retain(is_address);
        rule.except.retain(is_address);
        !rule.objects.is_empty() && (except.is_empty() || rule.effect != Decision::Allow)
    });
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
