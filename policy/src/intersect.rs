//! Several policies at once: each must allow.

use crate::evaluate::{self, Act, Audited, Verdict};
use crate::model::{Decision, Policy, RuleName};
use crate::subject::Subject;

/// Policies that hold together. Their order has no meaning, and a policy given twice is there once.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Ascending by name, then by what they say; never empty.
    policies: Vec<(String, Policy)>,
}

impl From<Policy> for Policies {
    fn from(policy: Policy) -> Self {
        Self { policies: vec![(policy.effective_yaml(), policy)] }
    }
}

impl Policies {
    /// Adds one more, which can only take away.
    #[must_use]
    pub fn and(mut self, policy: Policy) -> Self {
        let text = policy.effective_yaml();
        let key = (policy.name(), text.as_str());
        match self.policies.binary_search_by(|(text, policy)| (policy.name(), text.as_str()).cmp(&key)) {
            Ok(_) => {}
            Err(at) => self.policies.insert(at, (text, policy)),
        }
        self
    }

    /// Each of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|(_, policy)| policy)
    }

    /// Judges an attempt: the strictest verdict, of equal ones that of the first rule by name.
    pub fn judge(&self, subject: &Subject<'_>, act: &Act<'_>) -> Verdict<'_> {
        let (_, first) = &self.policies[0];
        let mut law = evaluate::judge(first, subject, act);
        let mut trial = law.audited.take();
        for policy in self.iter().skip(1) {
            let Verdict { decision, rule, because, audited } = evaluate::judge(policy, subject, act);
            if stricter((decision, rule), (law.decision, law.rule)) {
                law = Verdict { decision, rule, because, audited: None };
            }
            if let Some(audited) = audited {
                let so_far = trial.as_ref().map(|trial: &Audited<'_>| (trial.decision, trial.rule));
                if so_far.is_none_or(|so_far| stricter((audited.decision, audited.rule), so_far)) {
                    trial = Some(audited);
                }
            }
        }
        law.audited = trial.filter(|trial| trial.decision > law.decision);
        law
    }
}

fn stricter(a: (Decision, &RuleName), b: (Decision, &RuleName)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1 < b.1)
}
