//! What a policy says of recorded attempts: the verdicts that an enforced run of the same command would give.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use policy::{
    Access, AccessSet, Act, Decision, Digest, End, Mode, Policy, Protocol, RuleName, SectionKind, Subject,
    Verdict,
    compile::lsm::{LsmPlan, SetTable, compile},
    evaluate, questions,
};
use sandbox_ebpf::abi::{event::Cause, resolver::PORT};

use super::attempt::Asked;
use crate::event::decode::reason;
use crate::event::judge::precedes;
use crate::event::lines::Line;

/// Verdicts that are remembered at most.
const REMEMBERED: usize = 65_536;

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The verdict.
    pub outcome: Outcome,
    /// The rule or default behind it; `None` where the kernel could not judge.
    pub rule: Option<RuleName>,
    /// The rule's own explanation; for what the kernel could not judge why.
    pub because: Option<Arc<str>>,
}

/// What would become of an attempt; the later ones beat the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It goes ahead.
    Allowed,
    /// It goes ahead, and the record says that something on trial would deny it.
    OnTrial,
    /// It is denied; an `ask` where nobody answers too.
    Blocked,
}

impl Outcome {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::OnTrial => "on trial",
            Self::Blocked => "blocked",
        }
    }
}

impl Ruling {
    fn of(verdict: &Verdict<'_>) -> Self {
        let (outcome, rule, because) = match &verdict.audited {
            Some(audited) if verdict.decision == Decision::Allow => {
                (Outcome::OnTrial, audited.rule, audited.because)
            }
            _ if verdict.decision == Decision::Allow => (Outcome::Allowed, verdict.rule, verdict.because),
            _ => (Outcome::Blocked, verdict.rule, verdict.because),
        };
        Ruling { outcome, rule: Some(rule.clone()), because: because.map(Arc::from) }
    }

    /// Whether this one is told where several decide: the stricter, else the first by name, else what has a rule.
    fn precedes(&self, other: &Ruling) -> bool {
        match self.outcome.cmp(&other.outcome) {
            Ordering::Equal => precedes(&self.rule, &other.rule),
            order => order == Ordering::Greater,
        }
    }
}

/// The ruling on an event, and which of its parts it is about.
#[derive(Clone, Debug)]
pub struct Judged<'a, 'l> {
    /// The strictest; of equal ones that of the first rule by name, and a default's only where no rule decides.
    pub ruling: Arc<Ruling>,
    /// The part.
    pub about: &'a Asked<'l>,
    /// The accesses of [`Asked::NewName`] that the new name would open.
    pub gained: AccessSet,
}

/// One line of a process, told from others by its place in memory: equal ones are mostly one.
#[derive(Debug)]
struct Same(Arc<Line>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// What is remembered of accesses to a path.
#[derive(Debug)]
enum Remembered {
    /// No rule about the path asks who acts.
    Everyone(Arc<Ruling>),
    /// Some do.
    Each(HashMap<Same, Arc<Ruling>>),
}

/// Judges attempts by one policy.
#[derive(Debug)]
pub struct Court<'p> {
    policy: &'p Policy,
    /// By accesses and path.
    remembered: HashMap<AccessSet, HashMap<Box<[u8]>, Remembered>>,
    count: usize,
    /// What hooks judge by, made when a directory moves.
    compiled: OnceCell<Option<LsmPlan>>,
}

impl<'p> Court<'p> {
    /// For one policy.
    pub fn new(policy: &'p Policy) -> Self {
        Self { policy, remembered: HashMap::new(), count: 0, compiled: OnceCell::new() }
    }

    /// The policy.
    pub fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// Judges an event; `None` where nothing is asked.
    pub fn judge<'a, 'l>(&mut self, asked: &'a [Asked<'l>], who: &Arc<Line>) -> Option<Judged<'a, 'l>> {
        let mut strictest: Option<Judged<'a, 'l>> = None;
        for about in asked {
            let (ruling, gained) = self.part(about, who);
            // What an open is to the kernel is asked before what it is to the rules.
            if matches!(about, Asked::Kernel(_)) && ruling.outcome == Outcome::Blocked {
                return Some(Judged { ruling, about, gained });
            }
            if strictest.as_ref().is_none_or(|other| ruling.precedes(&other.ruling)) {
                strictest = Some(Judged { ruling, about, gained });
            }
        }
        strictest
    }

    fn part(&mut self, asked: &Asked<'_>, who: &Arc<Line>) -> (Arc<Ruling>, AccessSet) {
        let plain = |ruling| (ruling, AccessSet::EMPTY);
        match *asked {
            Asked::File(accesses, path) => plain(self.at(accesses, path, who)),
            Asked::Run(path) => plain(self.at(Access::Run.into(), path, who)),
            Asked::End(access, mut end, ref host) => {
                if let End::Address { names, .. } = &mut end {
                    *names = host.as_slice();
                }
                let act = Act::Network { accesses: access.into(), end };
                let verdict =
                    |subject: &Subject<'_>| Ruling::of(&evaluate::judge(self.policy, subject, &act));
                plain(Arc::new(who.with(verdict)))
            }
            Asked::Question(name, resolver) => plain(Arc::new(self.question(name, resolver))),
            Asked::NewName { old, new, swap, tree } => self.new_name((old, new), swap, tree, who),
            Asked::Kernel(words) => {
                let open = self.policy.settings().kernel_allowed().iter().any(|word| words.contains(word));
                let outcome = match self.policy.mode() {
                    _ if open => Outcome::Allowed,
                    Mode::Enforce => Outcome::Blocked,
                    // One that is on trial closes nothing.
                    Mode::Audit => Outcome::Allowed,
                };
                plain(Arc::new(Ruling { outcome, rule: Some(self.policy.kernel_default()), because: None }))
            }
            Asked::Unjudged(reason) => {
                let because = Some(Arc::from(reason));
                plain(Arc::new(Ruling { outcome: Outcome::Blocked, rule: None, because }))
            }
        }
    }

    /// Whether a name may be asked for.
    fn question(&self, name: &str, resolver: IpAddr) -> Ruling {
        match questions::ask(std::iter::once(self.policy), name, (resolver, PORT), Protocol::Udp) {
            questions::Asked::Allowed { rule } => {
                Ruling { outcome: Outcome::Allowed, rule: rule.cloned(), because: None }
            }
            questions::Asked::Refused { rule, because } => Ruling {
                outcome: Outcome::Blocked,
                rule: Some(rule.clone()),
                because: because.map(Arc::from),
            },
            questions::Asked::Malformed => Ruling {
                outcome: Outcome::Blocked,
                rule: None,
                because: Some(Arc::from("no host has such a name")),
            },
        }
    }

    /// What is closed at one name must not be open at the other.
    fn new_name(
        &mut self,
        (old, new): (&[u8], &[u8]),
        swap: bool,
        tree: bool,
        who: &Arc<Line>,
    ) -> (Arc<Ruling>, AccessSet) {
        let mut gained = AccessSet::EMPTY;
        let mut found: Option<Arc<Ruling>> = None;
        for access in Access::OBJECT {
            let [at_old, at_new] = [old, new].map(|path| self.at(access.into(), path, who));
            let closed = match (at_old.outcome, at_new.outcome) {
                (Outcome::Blocked, open) if open != Outcome::Blocked => at_old,
                (open, Outcome::Blocked) if swap && open != Outcome::Blocked => at_new,
                _ => continue,
            };
            gained.insert(access);
            if found.as_ref().is_none_or(|other| closed.precedes(other)) {
                found = Some(closed);
            }
        }
        let free = || Arc::new(Ruling { outcome: Outcome::Allowed, rule: None, because: None });
        let tree = tree && found.is_none() && self.opens_below(old, new, swap);
        (found.unwrap_or_else(|| if tree { below(self.policy) } else { free() }), gained)
    }

    /// Whether the hooks would say that something below a directory is closed where it is, and not where it goes.
    fn opens_below(&self, old: &[u8], new: &[u8], swap: bool) -> bool {
        let compiled =
            self.compiled.get_or_init(|| compile(&[self.policy], 0, &mut SetTable::default()).ok());
        // A policy that is too large for the hooks is refused before anything begins.
        compiled.as_ref().is_some_and(|plan| !plan.lets_move(old, new, swap))
    }

    /// Accesses to a path, all of one section.
    fn at(&mut self, accesses: AccessSet, path: &[u8], who: &Arc<Line>) -> Arc<Ruling> {
        let paths = self.remembered.entry(accesses).or_default();
        match paths.get(path) {
            Some(Remembered::Everyone(ruling)) => return Arc::clone(ruling),
            Some(Remembered::Each(rulings)) => {
                if let Some(ruling) = rulings.get(&Same(Arc::clone(who))) {
                    return Arc::clone(ruling);
                }
            }
            None => {}
        }
        let act = match accesses.contains(Access::Run) {
            // No record has contents: they are taken to be none that a rule names.
            true => Act::Exec { path, sha256: Some(&Digest::UNNAMED) },
            false => Act::File { accesses, path },
        };
        let ruling = Arc::new(who.with(|subject| Ruling::of(&evaluate::judge(self.policy, subject, &act))));
        self.remember(accesses, path, who, &ruling);
        ruling
    }

    fn remember(&mut self, accesses: AccessSet, path: &[u8], who: &Arc<Line>, ruling: &Arc<Ruling>) {
        if self.count >= REMEMBERED {
            self.remembered.clear();
            self.count = 0;
        }
        self.count += 1;
        let personal = is_personal(self.policy, accesses, path);
        let paths = self.remembered.entry(accesses).or_default();
        let new = || match personal {
            true => Remembered::Each(HashMap::new()),
            false => Remembered::Everyone(Arc::clone(ruling)),
        };
        if let Remembered::Each(rulings) = paths.entry(path.into()).or_insert_with(new) {
            rulings.insert(Same(Arc::clone(who)), Arc::clone(ruling));
        }
    }
}

/// What becomes of a directory that may not move.
fn below(policy: &Policy) -> Arc<Ruling> {
    let outcome = match policy.mode() {
        Mode::Enforce => Outcome::Blocked,
        Mode::Audit => Outcome::OnTrial,
    };
    Arc::new(Ruling { outcome, rule: None, because: reason(Cause::Below).map(Arc::from) })
}

/// Whether a rule that could decide about accesses to a path asks who acts.
fn is_personal(policy: &Policy, accesses: AccessSet, path: &[u8]) -> bool {
    let section = if accesses.contains(Access::Run) { policy.exec() } else { policy.files() };
    section.rules().iter().any(|rule| {
        !rule.who().is_anyone()
            && rule.accesses().overlaps(accesses)
            && (rule.objects().iter().any(|pattern| pattern.matches(path)) || !rule.sha256().is_empty())
    })
}

/// What a replay cannot tell of a policy, because records do not have it; each in one line.
pub fn blind_spots(policy: &Policy) -> Vec<String> {
    let mut notes = Vec::new();
    for rule in policy.exec().rules().iter().filter(|rule| !rule.sha256().is_empty()) {
        notes.push(format!(
            "rule {} is about contents, which records do not have: it is left out",
            rule.name()
        ));
    }
    if policy.names_hosts() {
        notes.push("names of addresses are known where the record has questions for them".to_owned());
    }
    let closes_load =
        |kind: Decision, accesses: AccessSet| kind != Decision::Allow && accesses.contains(Access::Load);
    let files = policy.files();
    if files.rules().iter().any(|rule| closes_load(rule.effect(), rule.accesses()))
        || closes_load(files.default(), SectionKind::Files.accesses())
    {
        notes.push("files mapped as code (load) are recorded only where they are denied".to_owned());
    }
    notes
}
