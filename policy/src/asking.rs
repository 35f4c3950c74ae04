//! What a person may be asked about, and what an answer opens.
//!
//! An [`Inquiry`] says of an attempt whether all that keeps it closed may be asked about; a [`Permit`] is the answer:
//! the narrowest change of those policies, and of no others, that lets the attempt pass. Everything that neither names
//! stays as it was, and so a permit never opens what another policy closes.
//!
//! No question is put where it is not certain that the policies deny: of what is not known here (contents of a file, what
//! the ancestors of a process were) the kernel judges alone, without anybody being asked.

use std::time::Duration;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::{Target, reached};
use crate::ends::End;
use crate::evaluate::{self, Act, covers};
use crate::intersect::Policies;
use crate::model::{Decision, Mode, Policy, Rule, RuleName, Section};
use crate::pattern::{Parsed, Pattern, escape};
use crate::subject::{Subject, Who};
use crate::variables::{Scope, Variables};

/// The accesses that somebody can be asked about: calls that can wait for an answer make them.
pub const ASKED: [Access; 8] = [
    Access::Read,
    Access::Write,
    Access::Create,
    Access::Delete,
    Access::Attributes,
    Access::Run,
    Access::Connect,
    Access::Send,
];

/// How long a question waits whose rule does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// The name that records give to what an answer allows.
const ANSWERED: &str = "answered";

/// What may be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Askable {
    /// What rules that ask say.
    Rules,
    /// Everything that policies deny, but those of this name.
    Denials {
        /// The runner's own policy.
        but: String,
    },
}

/// A question to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The rules and defaults that keep the attempt closed, in order; at least one.
    pub rules: Vec<RuleName>,
    /// How long it waits: what the most impatient of them says.
    pub timeout: Duration,
    /// The first explanation that one of them gives.
    pub because: Option<String>,
}

/// Policies, as somebody can be asked about them.
#[derive(Clone, Debug)]
pub struct Inquiry {
    policies: Vec<Policy>,
    askable: Askable,
}

impl Inquiry {
    /// Of policies that hold together.
    pub fn new(policies: &Policies, askable: Askable) -> Self {
        Self { policies: policies.iter().map(certain).collect(), askable }
    }

    /// Whether anything in this section may ever be asked about.
    pub fn concerns(&self, kind: SectionKind) -> bool {
        self.policies.iter().any(|policy| match kind {
            SectionKind::Files => self.asks(policy, &policy.files),
            SectionKind::Exec => self.asks(policy, &policy.exec),
            SectionKind::Network => self.asks(policy, &policy.network),
        })
    }

    fn asks<O>(&self, policy: &Policy, section: &Section<O>) -> bool {
        let law = |rule: &&Rule<O>| rule.mode == Mode::Enforce && !rule.is_void();
        let denies = self.may_ask_denials(policy)
            && (section.default != Decision::Allow
                || section.rules.iter().filter(law).any(|rule| rule.effect == Decision::Deny));
        let asks = section.rules.iter().filter(law).any(|rule| rule.effect == Decision::Ask);
        policy.mode == Mode::Enforce && (asks || denies)
    }

    /// The question that an attempt needs, all of whose acts must be allowed; `None` where it needs none, or where
    /// something that is not asked about keeps it closed.
    pub fn about(&self, subject: &Subject<'_>, acts: &[Act<'_>]) -> Option<Question> {
        let mut found: Vec<(&RuleName, Option<Duration>, Option<&str>)> = Vec::new();
        for act in acts {
            for policy in &self.policies {
                let verdict = evaluate::judge(policy, subject, act);
                match verdict.decision {
                    Decision::Allow => continue,
                    Decision::Deny if !self.may_ask_denials(policy) => return None,
                    Decision::Ask | Decision::Deny => {}
                }
                if !can_wait(act) {
                    return None;
                }
                if !found.iter().any(|(rule, ..)| *rule == verdict.rule) {
                    found.push((verdict.rule, timeout(policy, verdict.rule), verdict.because));
                }
            }
        }
        found.sort_by_key(|(rule, ..)| (rule.is_default(), *rule));
        let timeout = found.iter().filter_map(|(_, timeout, _)| *timeout).min().unwrap_or(DEFAULT_TIMEOUT);
        let because = found.iter().find_map(|(.., because)| because.map(str::to_owned));
        let rules: Vec<RuleName> = found.into_iter().map(|(rule, ..)| rule.clone()).collect();
        (!rules.is_empty()).then_some(Question { rules, timeout, because })
    }

    /// Whether it matters what the ancestors of a process are.
    pub fn by_ancestors(&self) -> bool {
        fn of<O>(section: &Section<O>) -> bool {
            section.rules.iter().any(|rule| rule.who.under.is_some())
        }
        self.policies.iter().any(|policy| of(&policy.files) || of(&policy.exec) || of(&policy.network))
    }

    fn may_ask_denials(&self, policy: &Policy) -> bool {
        matches!(&self.askable, Askable::Denials { but } if policy.name() != but)
    }
}

/// Whether all of an act is something that can wait.
fn can_wait(act: &Act<'_>) -> bool {
    match act {
        Act::Exec { .. } => true,
        Act::File { accesses, .. } | Act::Network { accesses, .. } => {
            accesses.iter().all(|access| ASKED.contains(&access))
        }
    }
}

/// The policy as far as it is certain what it says: without rules on contents, which the kernel alone reads, and with
/// rules that allow some processes by their ancestors taken to allow all.
pub(crate) fn certain(policy: &Policy) -> Policy {
    fn of<O>(section: &mut Section<O>) {
        section.rules.retain(|rule| rule.sha256.is_empty() && !rule.is_void());
        for rule in section.rules.iter_mut().filter(|rule| rule.effect == Decision::Allow) {
            rule.who.under = None;
        }
    }
    let mut policy = policy.clone();
    of(&mut policy.files);
    of(&mut policy.exec);
    of(&mut policy.network);
    policy
}

fn timeout(policy: &Policy, name: &RuleName) -> Option<Duration> {
    let paths = policy.files.rules.iter().chain(&policy.exec.rules);
    let mut found = paths.map(|rule| (&rule.name, rule.timeout));
    let targets = policy.network.rules.iter().map(|rule| (&rule.name, rule.timeout));
    found.by_ref().chain(targets).find(|(rule, _)| *rule == name).and_then(|(_, timeout)| timeout)
}

/// What of a policy asks and is asked by nobody, since no call that could wait makes these attempts: each as a line.
pub fn never_asked(policy: &Policy) -> Vec<String> {
    fn of<O>(section: &Section<O>, lines: &mut Vec<String>) {
        let asking = section.rules.iter().filter(|rule| rule.effect == Decision::Ask && !rule.is_void());
        for rule in asking.filter(|rule| rule.mode == Mode::Enforce) {
            let closed: AccessSet = rule.accesses.iter().filter(|access| !ASKED.contains(access)).collect();
            let name = &rule.name;
            if !rule.sha256.is_empty() {
                lines.push(format!("rule `{name}` names contents"));
            } else if !closed.is_empty() {
                lines.push(format!("rule `{name}` asks for {closed}"));
            }
        }
    }
    let mut lines = Vec::new();
    if policy.mode == Mode::Enforce {
        of(&policy.files, &mut lines);
        of(&policy.exec, &mut lines);
        of(&policy.network, &mut lines);
    }
    lines
}

/// The names of rules that ask and are law, in these sections.
pub fn asking_rules(policy: &Policy, sections: &[SectionKind]) -> Vec<RuleName> {
    fn of<O>(section: &Section<O>) -> impl Iterator<Item = &RuleName> {
        let asking = section.rules.iter().filter(|rule| rule.effect == Decision::Ask && !rule.is_void());
        asking.filter(|rule| rule.mode == Mode::Enforce).map(|rule| &rule.name)
    }
    if policy.mode != Mode::Enforce {
        return Vec::new();
    }
    let of_kind = |kind: &SectionKind| -> Vec<RuleName> {
        match kind {
            SectionKind::Files => of(&policy.files).cloned().collect(),
            SectionKind::Exec => of(&policy.exec).cloned().collect(),
            SectionKind::Network => of(&policy.network).cloned().collect(),
        }
    };
    sections.iter().flat_map(of_kind).collect()
}

/// One thing that an answer opens.
#[derive(Clone, Debug)]
struct Grant {
    kind: SectionKind,
    accesses: AccessSet,
    object: Object,
    /// The rules that kept it closed, to this process: no others get an exception.
    rules: Vec<RuleName>,
}

#[derive(Clone, Debug)]
enum Object {
    Path(Pattern),
    End(Target),
}

impl Grant {
    /// What an act of `subject` needs of the policies that were asked about; `None` where nothing can name its object.
    fn of(asked: &[&Policy], subject: &Subject<'_>, act: &Act<'_>) -> Option<Grant> {
        let closing = |rules: &mut Vec<RuleName>, name: &RuleName| {
            if !rules.contains(name) {
                rules.push(name.clone());
            }
        };
        let mut rules = Vec::new();
        let mut at = |kind, accesses: AccessSet, path: &[u8]| {
            for policy in asked {
                let section = if kind == SectionKind::Exec { &policy.exec } else { &policy.files };
                let hits = |rule: &Rule<Pattern>, _| covers(rule, |object: &Pattern| object.matches(path));
                section
                    .rules
                    .iter()
                    .filter(|rule| closes(rule, subject, accesses, hits))
                    .for_each(|rule| closing(&mut rules, &rule.name));
            }
            let pattern = path.starts_with(b"/").then(|| Pattern::exactly(path))?;
            Some((kind, accesses, Object::Path(pattern)))
        };
        let (kind, accesses, object) = match *act {
            Act::File { accesses, path } => at(SectionKind::Files, accesses, path)?,
            Act::Exec { path, .. } => at(SectionKind::Exec, Access::Run.into(), path)?,
            Act::Network { accesses, end } => {
                let target = target(&end)?;
                if !accesses.iter().all(|access| target.matches_end(access, &end)) {
                    return None;
                }
                for policy in asked {
                    let hits = |rule: &Rule<Target>, access| {
                        covers(rule, |object: &Target| object.matches_end(access, &end))
                    };
                    let section = policy.network.rules.iter();
                    section
                        .filter(|rule| closes(rule, subject, accesses, hits))
                        .for_each(|rule| closing(&mut rules, &rule.name));
                }
                (SectionKind::Network, accesses, Object::End(target))
            }
        };
        Some(Grant { kind, accesses, object, rules })
    }
}

/// Whether a rule may close one of `accesses` to `subject`.
fn closes<O>(
    rule: &Rule<O>,
    subject: &Subject<'_>,
    accesses: AccessSet,
    hits: impl Fn(&Rule<O>, Access) -> bool,
) -> bool {
    rule.effect != Decision::Allow
        && rule.sha256.is_empty()
        && rule.who.holds(subject, true)
        && accesses.iter().any(|access| rule.accesses.contains(access) && hits(rule, access))
}

/// The target that means this end by its address, or by its name where it is a unix socket.
fn target(end: &End<'_>) -> Option<Target> {
    let variables = Variables::new();
    let unix = |text: &str| match Target::parse_unix(text, &Scope::new(&variables, &[]).0) {
        Ok(Parsed::Read(target)) => Some(target),
        _ => None,
    };
    match *end {
        End::Address { address, port, protocol, .. } => {
            let host = match reached(address) {
                std::net::IpAddr::V4(address) => address.to_string(),
                std::net::IpAddr::V6(address) => format!("[{address}]"),
            };
            Target::parse(&format!("{host}:{port}{}", protocol.suffix())).ok()
        }
        End::Path(path) => unix(&escape(path)),
        End::Abstract(name) => unix(&format!("@{}", escape(name))),
        End::Other => None,
    }
}

/// An answer that allows: what of which policies is opened.
#[derive(Clone, Debug)]
pub struct Permit {
    /// The policies that were asked about, as they were.
    of: Vec<String>,
    grants: Vec<Grant>,
}

impl Permit {
    /// For an attempt at these acts under `policies`, about which was asked; `None` where no rule can name its objects.
    pub fn new(
        policies: &Policies,
        askable: &Askable,
        subject: &Subject<'_>,
        acts: &[Act<'_>],
    ) -> Option<Self> {
        let is_asked = |policy: &&Policy| {
            let alone = Inquiry { policies: vec![certain(policy)], askable: askable.clone() };
            alone.about(subject, acts).is_some()
        };
        let asked: Vec<&Policy> = policies.iter().filter(is_asked).collect();
        let grants = acts.iter().map(|act| Grant::of(&asked, subject, act)).collect::<Option<Vec<_>>>()?;
        Some(Self { of: asked.iter().map(|policy| policy.effective_yaml()).collect(), grants })
    }

    /// The policies with all of `permits` in them.
    #[must_use]
    pub fn apply<'a>(permits: impl Iterator<Item = &'a Permit> + Clone, policies: &Policies) -> Policies {
        policies.map(|policy| {
            let text = policy.effective_yaml();
            let own = permits.clone().filter(|permit| permit.of.contains(&text));
            own.fold(policy.clone(), |policy, permit| permit.open(policy))
        })
    }

    fn open(&self, mut policy: Policy) -> Policy {
        let name = RuleName::new(&policy.name, ANSWERED);
        for grant in &self.grants {
            match (&grant.object, grant.kind) {
                (Object::End(target), _) => open(&mut policy.network, &name, grant, target),
                (Object::Path(path), SectionKind::Exec) => open(&mut policy.exec, &name, grant, path),
                (Object::Path(path), _) => open(&mut policy.files, &name, grant, path),
            }
        }
        policy
    }
}

/// Lets a grant's accesses to `object` pass, and nothing else: the rules that close them get an exception, for these
/// accesses only, and where the default closes them a rule opens them.
fn open<O: Clone>(section: &mut Section<O>, name: &RuleName, grant: &Grant, object: &O) {
    let mut rules = Vec::with_capacity(section.rules.len() + 2);
    for rule in section.rules.drain(..) {
        let closed = rule.accesses.intersection(grant.accesses);
        if !grant.rules.contains(&rule.name) || closed.is_empty() {
            rules.push(rule);
            continue;
        }
        let rest = rule.accesses.without(closed);
        if !rest.is_empty() {
            rules.push(Rule { accesses: rest, ..rule.clone() });
        }
        let mut narrowed = Rule { accesses: closed, ..rule };
        narrowed.except.push(object.clone());
        rules.push(narrowed);
    }
    if section.default != Decision::Allow {
        rules.push(Rule {
            short_name: ANSWERED.to_owned(),
            name: name.clone(),
            effect: Decision::Allow,
            accesses: grant.accesses,
            objects: vec![object.clone()],
            existing: Vec::new(),
            except: Vec::new(),
            sha256: Vec::new(),
            who: Who::default(),
            mode: Mode::Enforce,
            timeout: None,
            because: None,
        });
    }
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    section.rules = rules;
}
