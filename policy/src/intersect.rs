//! Several policies at once: each must allow.

use crate::compile::seccomp::{Filter, Level};
use crate::ends::Source;
use crate::error::Errors;
use crate::evaluate::{self, Act, Audited, Verdict};
use crate::model::{Decision, Mode, Policy, RuleName};
use crate::settings::{KERNEL, Limits, Tmp};
use crate::subject::Subject;
use crate::variables::Variables;

/// The word of the section `kernel` for io_uring.
const RINGS: &str = "io-uring";

/// The line between two policies of [`Policies::effective_yaml`]: YAML's own between documents. No line within one
/// is like it, since every text stands quoted on one line.
const BETWEEN: &str = "---\n";

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

    /// All of them as YAML without variables, documents of one stream. Equal policies give equal text.
    pub fn effective_yaml(&self) -> String {
        let texts: Vec<&str> = self.policies.iter().map(|(text, _)| text.as_str()).collect();
        texts.join(BETWEEN)
    }

    /// Reads what [`Policies::effective_yaml`] wrote. `source_name` is what errors call it.
    ///
    /// # Errors
    ///
    /// Those of the first document that is no policy; lines count from its beginning.
    pub fn parse_effective(source_name: &str, text: &str) -> Result<Self, Errors> {
        let parse = |document: &str| Policy::parse(source_name, document, &Variables::new());
        let separator = format!("\n{BETWEEN}");
        let mut documents = text.split(separator.as_str());
        let first = Policies::from(parse(documents.next().unwrap_or_default())?);
        documents.try_fold(first, |policies, document| Ok(policies.and(parse(document)?)))
    }

    /// The same with another policy made of each.
    #[must_use]
    pub fn map(&self, change: impl Fn(&Policy) -> Policy) -> Self {
        let mut changed = self.iter().map(change);
        let first = changed.next().map(Self::from);
        // There is always one.
        first.map_or_else(|| self.clone(), |first| changed.fold(first, Self::and))
    }

    /// Their names, ascending, in one line.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.iter().map(Policy::name).collect();
        names.join(", ")
    }

    /// The words of the section `kernel` that none of them closes. One that is on trial closes nothing.
    pub fn kernel_allowed(&self) -> Vec<&'static str> {
        KERNEL.into_iter().filter(|word| self.kernel_closing(&[word]).is_none()).collect()
    }

    /// What they ask of the system call filter: each closes its own. One that is on trial asks nothing.
    pub fn filter(&self) -> Filter {
        let law = self.iter().filter(|policy| policy.mode() == Mode::Enforce);
        let none = Filter { level: Level::Off, ..Filter::new(self.kernel_allowed()) };
        law.fold(none, |filter, policy| filter.and(policy.settings().syscalls.as_ref()))
    }

    /// Whether none of them opens io_uring's rings, whose sockets and calls no system call filter sees.
    pub fn closes_rings(&self) -> bool {
        !self.kernel_allowed().contains(&RINGS)
    }

    /// Whether calls that they close by name (`syscalls: deny`) are open by rings.
    pub fn rings_pass(&self) -> bool {
        !self.closes_rings() && !self.filter().denied.is_empty()
    }

    /// Whether one of them, which is law, opens no unix socket at all: its default denies, and no rule of it allows one.
    /// Rings make sockets past the filter that closes them.
    pub fn closes_unix_sockets(&self) -> bool {
        let opens_one = |policy: &Policy| {
            policy.network.rules.iter().any(|rule| {
                let socket = rule.objects.iter().any(|target| target.meaning.source() == Source::Socket);
                rule.effect == Decision::Allow && !rule.is_void() && socket
            })
        };
        let mut law = self.iter();
        self.closes_rings()
            && law.any(|policy| {
                let closed = policy.mode() == Mode::Enforce && policy.network.default != Decision::Allow;
                closed && !opens_one(policy)
            })
    }

    /// The limits that hold: of each the tightest that one of them sets. One that is on trial sets none.
    pub fn limits(&self) -> Limits {
        let law = self.iter().filter(|policy| policy.mode() == Mode::Enforce);
        let all = law.filter_map(|policy| policy.settings().limits.as_ref());
        all.fold(Limits::default(), |all, limits| all.and(limits))
    }

    /// Whether one that is law asks for directories for temporary files of the run's own.
    pub fn private_tmp(&self) -> bool {
        self.iter()
            .any(|policy| policy.mode() == Mode::Enforce && policy.settings().tmp == Some(Tmp::Private))
    }

    /// What denies an act that any of `words` of the section `kernel` opens: the default of the first policy by name
    /// that has none of them.
    pub fn kernel_closing(&self, words: &[&str]) -> Option<RuleName> {
        let law = self.iter().filter(|policy| policy.mode() == Mode::Enforce);
        let closes = |policy: &&Policy| !policy.settings().kernel_allowed().iter().any(|w| words.contains(w));
        law.filter(closes).map(Policy::kernel_default).next()
    }

    /// Each of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|(_, policy)| policy)
    }

    /// Judges an attempt: the strictest verdict, of equal ones that of the first rule by name, and a default's only
    /// where no rule decides.
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
    a.0 > b.0 || (a.0 == b.0 && a.1.precedes(b.1))
}
