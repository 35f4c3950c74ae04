//! What a policy denies and what must be known to judge by it, rule by rule: the lists that a layer's abilities are
//! compared with.

use std::collections::BTreeSet;

use crate::access::{AccessSet, SectionKind};
use crate::address::Target;
use crate::compile::{Unheld, Unsupported};
use crate::ends::Source;
use crate::model::{Decision, Mode, Policy, Rule, RuleName, Section};
use crate::settings::{Limit, LimitSet, Tmp};

/// The section of limits.
pub(super) const LIMITS: &str = "limits";

/// The section of directories for temporary files.
pub(super) const TMP: &str = "tmp";

/// What the layers of a run judge, and what of an attempt they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The accesses that are judged.
    pub accesses: AccessSet,
    /// Whether the names are known that a process has for an address. Where they are not, nothing is ever opened by
    /// a name, nor denied by one.
    pub names: bool,
    /// Whether the run's own listeners are known. Where they are not, no end is taken for one.
    pub own: bool,
    /// Whether unix sockets are judged.
    pub unix: bool,
    /// Whether it is known which process acts, for `by`, `unless_by` and `under`.
    pub conditions: bool,
    /// The limits of the whole run that are held.
    pub limits: LimitSet,
    /// Whether the run has directories for temporary files of its own.
    pub tmp: bool,
}

impl Held {
    /// Nothing at all.
    pub const NOTHING: Self = Self {
        accesses: AccessSet::EMPTY,
        names: false,
        own: false,
        unix: false,
        conditions: false,
        limits: LimitSet::EMPTY,
        tmp: false,
    };

    /// These accesses of every process, to files and addresses.
    pub fn of(accesses: AccessSet) -> Self {
        Self { accesses, conditions: true, ..Self::NOTHING }
    }

    /// These accesses of every process, to whatever rules can name.
    pub fn whole(accesses: AccessSet) -> Self {
        Self { accesses, names: true, own: true, unix: true, ..Self::of(accesses) }
    }

    /// Whether it is known what a condition, or a target of a source, asks.
    fn knows(&self, need: Need) -> bool {
        match need {
            Need::Source(Source::Address) => true,
            Need::Source(Source::Name) => self.names,
            Need::Source(Source::Own) => self.own,
            Need::Source(Source::Socket) => self.unix,
            Need::Process => self.conditions,
            Need::PrivateTmp => self.tmp,
            Need::Limit(limit) => self.limits.contains(limit),
        }
    }

    /// Those of `needs` that are not met.
    pub(super) fn unmet<'a>(&self, needs: &'a [(Need, Unheld)]) -> impl Iterator<Item = &'a Unheld> {
        let held = *self;
        needs.iter().filter(move |(need, _)| !held.knows(*need)).map(|(_, unheld)| unheld)
    }
}

/// What must be known to judge by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Source(Source),
    Process,
    PrivateTmp,
    Limit(Limit),
}

/// What of a policy's rules, those on trial included, is not judged where only `held` is: targets and exceptions that
/// are no addresses, and conditions on the process.
pub fn beyond(policy: &Policy, held: &Held) -> Vec<Unheld> {
    held.unmet(&needs(policy)).cloned().collect()
}

/// What must be known to judge by each rule.
pub(super) fn needs(policy: &Policy) -> Vec<(Need, Unheld)> {
    let mut all = Vec::new();
    policy.files.rules.iter().for_each(|rule| conditions(rule, &mut all));
    policy.exec.rules.iter().for_each(|rule| conditions(rule, &mut all));
    for rule in &policy.network.rules {
        conditions(rule, &mut all);
        let sources = |targets: &[Target]| -> BTreeSet<Source> {
            targets.iter().map(|target| target.meaning.source()).collect()
        };
        let mut add = |source: Source, what: fn(&'static str) -> Unsupported| {
            let unheld = source.words().map(|words| Unheld { rule: rule.name.clone(), what: what(words) });
            all.extend(unheld.map(|unheld| (Need::Source(source), unheld)));
        };
        if !rule.is_void() {
            sources(&rule.objects).into_iter().for_each(|source| add(source, Unsupported::Target));
            sources(&rule.except).into_iter().for_each(|source| add(source, Unsupported::Exception));
        }
    }
    if policy.settings.tmp == Some(Tmp::Private) && policy.mode == Mode::Enforce {
        let rule = RuleName::new(&policy.name, TMP);
        all.push((Need::PrivateTmp, Unheld { rule, what: Unsupported::PrivateTmp }));
    }
    if let Some(limits) = policy.settings.limits.as_ref().filter(|_| policy.mode == Mode::Enforce) {
        let rule = RuleName::new(&policy.name, LIMITS);
        all.extend(limits.set().iter().map(|limit| {
            (Need::Limit(limit), Unheld { rule: rule.clone(), what: Unsupported::Limit(limit.name()) })
        }));
    }
    all
}

fn conditions<O>(rule: &Rule<O>, all: &mut Vec<(Need, Unheld)>) {
    let unheld = |key| Unheld { rule: rule.name.clone(), what: Unsupported::Condition(key) };
    if !rule.is_void() {
        all.extend(rule.who.keys().map(|key| (Need::Process, unheld(key))));
    }
}

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
