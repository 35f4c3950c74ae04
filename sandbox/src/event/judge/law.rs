//! One law: the policies that held from some moment on, and what they said so far.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use policy::{Decision, Digest, Policies, RuleName, Verdict, compile::lsm};

use super::super::lines::Line;

/// Paths whose verdicts are remembered at most.
pub(super) const REMEMBERED: usize = 32_768;

/// What the policy says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub decision: Decision,
    /// None where the run's own objects are allowed by no rule.
    pub rule: Option<RuleName>,
    pub because: Option<Arc<str>>,
    /// Something on trial would block it: that is what rule and reason are about.
    pub on_trial: bool,
}

impl Said {
    pub fn of(verdict: &Verdict<'_>) -> Self {
        let (rule, because, on_trial) = match &verdict.audited {
            Some(audited) if verdict.decision == Decision::Allow => (audited.rule, audited.because, true),
            _ => (verdict.rule, verdict.because, false),
        };
        let (rule, because) = (Some(rule.clone()), because.map(Arc::from));
        Said { decision: verdict.decision, rule, because, on_trial }
    }

    /// Allowed by the language itself.
    pub const OWN: Said = Said { decision: Decision::Allow, rule: None, because: None, on_trial: false };

    /// Both must be allowed; of two rules that decide the first by name is told, and a default where no rule does.
    pub fn and(self, other: Said) -> Said {
        let strictness = |said: &Said| (said.decision, said.on_trial);
        match strictness(&self).cmp(&strictness(&other)) {
            Ordering::Greater => self,
            Ordering::Less => other,
            Ordering::Equal if precedes(&other.rule, &self.rule) => other,
            Ordering::Equal => self,
        }
    }
}

/// Whether the first is told where both decide; what the language itself allows has no rule to tell.
pub fn precedes(one: &Option<RuleName>, other: &Option<RuleName>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.precedes(other),
        (one, _) => one.is_some(),
    }
}

/// Policies that hold together from some moment on.
#[derive(Debug)]
pub(super) struct Law {
    /// Their number in the kernel.
    pub id: u32,
    /// Since when they hold, CLOCK_MONOTONIC nanoseconds.
    pub since_ns: u64,
    pub policies: Policies,
    /// Whether some rule depends on the process.
    pub conditional: bool,
    /// The contents that rules name.
    pub digests: Vec<Digest>,
    pub remembered: Remembered,
}

impl Law {
    /// Rules that the kernel's tables cannot express are no part of it.
    pub fn new(id: u32, since_ns: u64, policies: &Policies) -> Self {
        let policies = policies.map(|policy| lsm::expressible(policy).0);
        Self {
            id,
            since_ns,
            conditional: is_conditional(&policies),
            digests: digests(&policies),
            policies,
            remembered: Remembered::default(),
        }
    }
}

/// Whether some rule depends on the process.
fn is_conditional(policies: &Policies) -> bool {
    policies.iter().any(|policy| {
        let paths = [policy.files(), policy.exec()].into_iter().flat_map(|section| section.rules());
        paths
            .map(|rule| rule.who())
            .chain(policy.network().rules().iter().map(|rule| rule.who()))
            .any(|who| !who.is_anyone())
    })
}

/// The contents that rules name, each once.
fn digests(policies: &Policies) -> Vec<Digest> {
    let rules = policies.iter().flat_map(|policy| policy.exec().rules());
    let mut digests: Vec<Digest> = rules.flat_map(|rule| rule.sha256()).copied().collect();
    digests.sort();
    digests.dedup();
    digests
}

/// Verdicts by path.
type ByPath = HashMap<Box<[u8]>, Said>;

/// Verdicts on paths, by the accesses asked for and who asks.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    by_access: HashMap<(u16, Arc<Line>), ByPath>,
    pub count: usize,
}

impl Remembered {
    pub fn get(&self, asked: &(u16, Arc<Line>), path: &[u8]) -> Option<&Said> {
        self.by_access.get(asked)?.get(path)
    }

    pub fn insert(&mut self, asked: (u16, Arc<Line>), path: &[u8], said: Said) {
        if self.count >= REMEMBERED {
            *self = Remembered::default();
        }
        self.count += 1;
        self.by_access.entry(asked).or_default().insert(path.into(), said);
    }
}
