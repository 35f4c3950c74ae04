//! What a policy denies, rule by rule: the list that a layer's abilities are compared with.

use crate::access::{AccessSet, SectionKind};
use crate::compile::{Unheld, Unsupported};
use crate::model::{Decision, Policy, Rule, RuleName, Section};

/// Every (rule or default, access) that denies something.
pub(super) fn denials(policy: &Policy) -> Vec<Unheld> {
    let mut all = Vec::new();
    section(&policy.files, SectionKind::Files.accesses(), |p| p.is_everything(), &mut all);
    section(&policy.exec, SectionKind::Exec.accesses(), |p| p.is_everything(), &mut all);
    section(&policy.network, SectionKind::Network.accesses(), |t| t.is_everything(), &mut all);
    all
}

fn section<O>(
    section: &Section<O>,
    accesses: AccessSet,
    is_everything: impl Fn(&O) -> bool,
    all: &mut Vec<Unheld>,
) {
    let everywhere = |rule: &&Rule<O>| {
        rule.except.is_empty() && rule.who.is_anyone() && rule.objects.iter().any(&is_everything)
    };
    let mut add = |name: &RuleName, accesses: AccessSet| {
        all.extend(
            accesses.iter().map(|access| Unheld { rule: name.clone(), what: Unsupported::Access(access) }),
        );
    };
    let by_effect = |effect| section.rules.iter().filter(move |rule| rule.effect == effect);
    let strict = section.rules.iter().filter(|rule| rule.effect != Decision::Allow);
    for rule in strict.filter(|rule| !rule.is_void()) {
        add(&rule.name, rule.accesses);
    }
    if section.default == Decision::Deny {
        let open = by_effect(Decision::Allow).filter(everywhere);
        let open = open.fold(AccessSet::EMPTY, |set, rule| set.union(rule.accesses));
        add(&section.default_name, accesses.without(open));
    }
}
