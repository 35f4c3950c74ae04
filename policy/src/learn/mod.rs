//! Recorded runs become a policy: what they did that the base leaves open is allowed, in as few lines as a person would
//! write.
//!
//! [`learn`] takes what runs asked ([`Seen`]), each with the base as that run would have had it. What the base denies by
//! a rule is never allowed by what is learned: it is listed ([`LeftOut`]). Everything else is put together: paths by
//! [`tree`] and [`names`], other ends by [`network`]; [`write`] makes the text. The same runs in the same order give the
//! same bytes. Nothing here reads a file or a record.
//!
//! What records do not tell is not learned: files that are mapped as code are taken to be the programs, what
//! `@libraries` names, and what is named like a library.
//!
//! What puts things together ([`Roots`], [`grants`], [`targets`]) and finds them again ([`Known`], [`targets_of`]) also
//! serves those who want to know what is new, and not what may be.

mod confidence;
mod known;
mod names;
mod network;
mod place;
mod tree;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::Protocol;
use crate::digest::Digest;
use crate::ends::{End, Owner};
use crate::evaluate::{Act, Verdict, judge};
use crate::model::{Decision, Policy};
use crate::questions;
use crate::subject::Subject;
use crate::variables::Variables;

pub use confidence::Confidence;
pub use known::{Known, KnownFault};
pub use network::{Target, generalise as targets, targets_of};
pub use place::{Place, Roots};
pub use tree::{Grant, Use, generalise as grants};

/// How far what was seen is taken for more than itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// What was seen, but for numbers and hashes in names.
    Exact,
    /// What a person would have written.
    #[default]
    Balanced,
    /// One file in a directory stands for all of it.
    Loose,
}

impl Strictness {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Balanced => "balanced",
            Self::Loose => "loose",
        }
    }
}

/// Most programs that are told of one thing.
const PROGRAMS: usize = 16;

/// How often something was seen, where, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What was asked for.
    pub accesses: AccessSet,
    /// The runs, by their place among those that were given.
    pub runs: BTreeSet<usize>,
    /// How often, in all of them.
    pub count: u64,
    /// Executables of the processes that did it; of many not all.
    pub programs: BTreeSet<Vec<u8>>,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Tally) {
        self.accesses = self.accesses.union(other.accesses);
        self.runs.extend(&other.runs);
        self.count = self.count.saturating_add(other.count);
        for program in &other.programs {
            self.by(program);
        }
    }

    fn by(&mut self, program: &[u8]) {
        if self.programs.len() < PROGRAMS && !self.programs.contains(program) {
            self.programs.insert(program.to_vec());
        }
    }

    fn with(&self, accesses: AccessSet) -> Tally {
        Tally { accesses, ..self.clone() }
    }
}

/// The other end of a network access.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// An address; for `listens` the own one.
    Address {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The name by which it is known.
        host: Option<String>,
        /// The run listens there itself.
        own: bool,
        /// Bound or listened on, and not reached.
        listens: bool,
    },
    /// A unix socket; an abstract one begins with `@`.
    Socket(Vec<u8>),
    /// A name that was asked for.
    Question(String),
    /// What no rule can name.
    Other,
}

/// What one run asked of a policy.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    files: HashMap<Vec<u8>, Tally>,
    executed: HashMap<Vec<u8>, Tally>,
    ends: HashMap<Reach, Tally>,
    renamed: BTreeSet<(Vec<u8>, Vec<u8>, bool)>,
    words: BTreeMap<&'static [&'static str], Tally>,
}

/// Adds to a tally under a key that is only copied where it is new.
fn count(map: &mut HashMap<Vec<u8>, Tally>, key: &[u8], accesses: AccessSet, by: &[u8], times: u64) {
    if !map.contains_key(key) {
        map.insert(key.to_vec(), Tally::default());
    }
    if let Some(tally) = map.get_mut(key) {
        tally.accesses = tally.accesses.union(accesses);
        tally.count = tally.count.saturating_add(times);
        tally.by(by);
    }
}

impl Seen {
    /// Accesses of the section `files` to a path.
    pub fn file(&mut self, accesses: AccessSet, path: &[u8], by: &[u8], times: u64) {
        count(&mut self.files, path, accesses, by, times);
    }

    /// The execution of a file.
    pub fn executed(&mut self, path: &[u8], by: &[u8], times: u64) {
        count(&mut self.executed, path, Access::Run.into(), by, times);
    }

    /// A network access, or a question for a name.
    pub fn reached(&mut self, access: Option<Access>, end: Reach, by: &[u8], times: u64) {
        let tally = self.ends.entry(end).or_default();
        tally.accesses = tally.accesses.union(access.map_or(AccessSet::EMPTY, AccessSet::from));
        tally.count = tally.count.saturating_add(times);
        tally.by(by);
    }

    /// What lies at `old` got the name `new`; with `swap` also the other way round.
    pub fn renamed(&mut self, old: &[u8], new: &[u8], swap: bool) {
        self.renamed.insert((old.to_vec(), new.to_vec(), swap));
    }

    /// An act that any of these words of `kernel` opens.
    pub fn kernel(&mut self, words: &'static [&'static str], by: &[u8], times: u64) {
        let tally = self.words.entry(words).or_default();
        tally.count = tally.count.saturating_add(times);
        tally.by(by);
    }
}

/// One run, and what its variables stand for.
#[derive(Debug)]
pub struct Run<'a> {
    /// What the run's variables were.
    pub variables: &'a Variables,
    /// A policy that extends the base and closes all sections, with these variables.
    pub base: &'a Policy,
    /// What it asked.
    pub seen: &'a Seen,
}

/// Something that was seen and is not allowed by what is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The object, written as a pattern or a target; a word of `kernel`.
    pub object: String,
    /// The rule of the base that denies it; `None` where no rule can name it, or it is a matter of `kernel`.
    pub rule: Option<String>,
    /// Why, in the rule's words or ours.
    pub because: Option<String>,
    /// What was asked for, how often, by whom.
    pub tally: Tally,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The policy, as YAML with comments.
    pub text: String,
    /// Its rules, one by one.
    pub rules: Vec<LearnedRule>,
    /// The words of `kernel` that it allows.
    pub words: Vec<&'static str>,
    /// What it does not allow of what was seen.
    pub left_out: Vec<LeftOut>,
    /// How much it may be trusted to fit the next run.
    pub confidence: Confidence,
}

/// A rule that was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedRule {
    /// Where it stands.
    pub section: SectionKind,
    /// Its name.
    pub name: String,
    /// How often it was needed, and by whom.
    pub comment: String,
    /// What follows the name, in one line or several.
    body: String,
}

/// What to make of it.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Its name.
    pub name: &'a str,
    /// The base, as `extends` names it.
    pub base: &'a str,
    /// How far to go beyond what was seen.
    pub strictness: Strictness,
    /// What stands above the policy, each line a comment.
    pub about: &'a [String],
}

/// Reads a text as the policy of the run at this place among all.
pub type Reader<'a, E> = &'a dyn Fn(usize, &str) -> Result<Policy, E>;

/// Turns runs into a policy.
///
/// # Errors
/// What `read` says of a text that was made here: a fault of this module, or of a base that cannot be extended so.
pub fn learn<E>(runs: &[Run<'_>], options: &Options<'_>, read: Reader<'_, E>) -> Result<Learned, E> {
    let all: Vec<usize> = (0..runs.len()).collect();
    let (draft, text) = draft(runs, &all, options, read)?;
    let confidence = Confidence::of(runs, options, read, &draft)?;
    let about: Vec<String> = options.about.iter().cloned().chain(confidence.lines()).collect();
    let text = write::with_head(&about, text, &draft.left_out, runs.len());
    let rules = write::rules(&draft, runs.len());
    let words = draft.words.into_iter().collect();
    Ok(Learned { text, rules, words, left_out: draft.left_out, confidence })
}

/// What is allowed, before it is text.
#[derive(Debug, Default)]
struct Draft {
    files: Vec<Grant>,
    /// May be mapped as code, beside programs.
    code: Vec<Grant>,
    programs: Vec<Grant>,
    targets: Vec<Target>,
    words: BTreeSet<&'static str>,
    left_out: Vec<LeftOut>,
}

/// What runs need that the base does not give.
#[derive(Debug, Default)]
struct Needs {
    read: BTreeMap<Place, Tally>,
    change: BTreeMap<Place, Tally>,
    code: BTreeMap<Place, Tally>,
    run: BTreeMap<Place, Tally>,
    ends: BTreeMap<Reach, Tally>,
    words: BTreeSet<&'static str>,
    left_out: BTreeMap<(String, Option<String>), LeftOut>,
}

/// Most rounds in which new names ask for more at the old ones.
const ROUNDS: usize = 4;

/// The draft of these runs, and its text without a head.
fn draft<E>(
    runs: &[Run<'_>],
    which: &[usize],
    options: &Options<'_>,
    read: Reader<'_, E>,
) -> Result<(Draft, String), E> {
    let mut needs = Needs::default();
    for index in which {
        needs.gather(*index, &runs[*index]);
    }
    let mut round = 0;
    loop {
        let draft = needs.draft(options.strictness);
        let text = write::policy(&draft, options, which.len());
        round += 1;
        let mut more = false;
        if round < ROUNDS {
            for index in which.iter().filter(|index| !runs[**index].seen.renamed.is_empty()) {
                let policy = read(*index, &text)?;
                more |= needs.new_names(*index, &runs[*index], &policy);
            }
        }
        if !more {
            return Ok((draft, text));
        }
    }
}

/// A process of which nothing is known: what is learned holds for everyone.
fn anyone<'p>(policy: &'p Policy, act: &Act<'_>) -> Verdict<'p> {
    judge(policy, &Subject::UNKNOWN, act)
}

/// What a base says of something that was seen.
enum Base {
    Allows,
    /// By default: it may be learned.
    Silent,
    /// By a rule.
    Denies(String, Option<String>),
}

fn base(policy: &Policy, act: &Act<'_>) -> Base {
    let verdict = anyone(policy, act);
    match verdict.decision {
        Decision::Allow => Base::Allows,
        _ if verdict.rule.is_default() => Base::Silent,
        _ => Base::Denies(verdict.rule.as_str().to_owned(), verdict.because.map(str::to_owned)),
    }
}

/// What a policy says of a question for a name, whichever resolver is asked.
fn question(policy: &Policy, name: &str) -> Base {
    let resolver = (IpAddr::from([0, 0, 0, 0]), sandbox_ebpf::abi::resolver::PORT);
    match questions::ask(std::iter::once(policy), name, resolver, Protocol::Udp) {
        questions::Asked::Allowed { .. } | questions::Asked::Malformed => Base::Allows,
        questions::Asked::Refused { rule, .. } if rule.is_default() => Base::Silent,
        questions::Asked::Refused { rule, because } => {
            Base::Denies(rule.as_str().to_owned(), because.map(str::to_owned))
        }
    }
}

/// What a policy closes by default at an old name and opens at the new one: the access, and the old name.
fn gained<'s>(seen: &'s Seen, policy: &'s Policy) -> impl Iterator<Item = (Access, &'s [u8])> {
    /// What a new name must not open.
    const OBJECT: [Access; 5] = [Access::Read, Access::Write, Access::Attributes, Access::Run, Access::Load];
    let at = |access: Access, path: &[u8]| match access {
        Access::Run => base(policy, &Act::Exec { path, sha256: Some(&Digest::UNNAMED) }),
        _ => base(policy, &Act::File { accesses: access.into(), path }),
    };
    let pairs = seen.renamed.iter().flat_map(|(old, new, swap)| {
        let turned = swap.then_some((new.as_slice(), old.as_slice()));
        std::iter::once((old.as_slice(), new.as_slice())).chain(turned)
    });
    let each = pairs.flat_map(|(old, new)| OBJECT.map(|access| (access, old, new)));
    each.filter(move |(access, old, new)| {
        matches!((at(*access, old), at(*access, new)), (Base::Silent, Base::Allows))
    })
    .map(|(access, old, _)| (access, old))
}

impl Needs {
    fn gather(&mut self, index: usize, run: &Run<'_>) {
        let roots = Roots::of(run.variables);
        let tally_of = |tally: &Tally| Tally { runs: BTreeSet::from([index]), ..tally.clone() };
        for (path, tally) in &run.seen.files {
            let Some(place) = roots.place(path) else { continue };
            let tally = tally_of(tally);
            for access in tally.accesses.iter() {
                let one = tally.with(access.into());
                match base(run.base, &Act::File { accesses: access.into(), path }) {
                    Base::Allows => {}
                    Base::Silent => self.need(access, &place, &one),
                    Base::Denies(rule, because) => self.leave(place.pattern(), Some(rule), because, &one),
                }
            }
        }
        for (path, tally) in &run.seen.executed {
            let Some(place) = roots.place(path) else { continue };
            let tally = tally_of(tally);
            match base(run.base, &Act::Exec { path, sha256: Some(&Digest::UNNAMED) }) {
                Base::Allows => {}
                Base::Silent => self.need(Access::Run, &place, &tally),
                Base::Denies(rule, because) => self.leave(place.pattern(), Some(rule), because, &tally),
            }
        }
        for (end, tally) in &run.seen.ends {
            self.end(run.base, end, &tally_of(tally));
        }
        for (words, tally) in &run.seen.words {
            let allowed = run.base.settings().kernel_allowed();
            if words.iter().any(|word| allowed.contains(word)) {
                continue;
            }
            match words.first() {
                // It reaches nobody but the run's own processes.
                Some(word) if *word == "ptrace-own" => _ = self.words.insert(word),
                Some(word) => {
                    let because =
                        "this opens more than what was seen; add it by hand if it must be".to_owned();
                    self.leave(format!("kernel: {word}"), None, Some(because), &tally_of(tally));
                }
                None => {}
            }
        }
    }

    fn need(&mut self, access: Access, place: &Place, tally: &Tally) {
        let map = match access {
            Access::Read => &mut self.read,
            Access::Load => &mut self.code,
            Access::Run => &mut self.run,
            _ => &mut self.change,
        };
        map.entry(place.clone()).or_default().add(tally);
        let name = place.parts.last().map_or("", String::as_str);
        let versioned = |at: usize| name[at + 4..].starts_with(|c: char| c.is_ascii_digit());
        let library =
            name.ends_with(".so") || name.ends_with(".node") || name.find(".so.").is_some_and(versioned);
        if access == Access::Read && library {
            self.code.entry(place.clone()).or_default().add(&tally.with(Access::Load.into()));
        }
    }

    fn end(&mut self, policy: &Policy, end: &Reach, tally: &Tally) {
        let silent = match end {
            Reach::Question(name) => question(policy, name),
            _ => end.with(|act_end| base(policy, &Act::Network { accesses: tally.accesses, end: act_end })),
        };
        match silent {
            Base::Allows => {}
            Base::Silent => self.ends.entry(end.clone()).or_default().add(tally),
            Base::Denies(rule, because) => self.leave(end.to_string(), Some(rule), because, tally),
        }
    }

    fn leave(&mut self, object: String, rule: Option<String>, because: Option<String>, tally: &Tally) {
        let new = || LeftOut {
            object: object.clone(),
            rule: rule.clone(),
            because: because.clone(),
            tally: Tally::default(),
        };
        self.left_out.entry((object.clone(), rule.clone())).or_insert_with(new).tally.add(tally);
    }

    fn draft(&self, strictness: Strictness) -> Draft {
        let read = tree::generalise(self.read.clone(), Use::Read, strictness);
        let change = tree::generalise(self.change.clone(), Use::Change, strictness);
        let (targets, unnamed) = network::generalise(self.ends.clone(), strictness);
        let mut left_out: Vec<LeftOut> = self.left_out.values().cloned().collect();
        left_out.extend(unnamed.into_iter().map(|end| LeftOut {
            object: end.to_string(),
            rule: None,
            because: Some("no rule can name it".to_owned()),
            tally: self.ends.get(&end).cloned().unwrap_or_default(),
        }));
        Draft {
            files: together(read, change, strictness),
            code: tree::generalise(self.code.clone(), Use::Read, strictness),
            programs: tree::generalise(self.run.clone(), Use::Run, strictness),
            targets,
            words: self.words.clone(),
            left_out,
        }
    }

    /// What the policy closes at an old name and opens at the new one is needed at the old one too; whether there is
    /// any that was not known.
    fn new_names(&mut self, index: usize, run: &Run<'_>, policy: &Policy) -> bool {
        let roots = Roots::of(run.variables);
        let mut more = false;
        for (access, old) in gained(run.seen, policy) {
            let Some(place) = roots.place(old) else { continue };
            let tally = Tally {
                accesses: access.into(),
                runs: BTreeSet::from([index]),
                count: 1,
                programs: BTreeSet::new(),
            };
            self.need(access, &place, &tally);
            more = true;
        }
        more
    }
}

/// What is read and what is changed, in one list: a tree that is changed is mostly read as well.
fn together(read: Vec<Grant>, change: Vec<Grant>, strictness: Strictness) -> Vec<Grant> {
    let mut all: BTreeMap<(Place, bool), Grant> = BTreeMap::new();
    for mut grant in change {
        let made = grant.tally.accesses.contains(Access::Create);
        if grant.below && made && strictness != Strictness::Exact {
            // Whoever makes files somewhere also replaces and removes its own.
            let own = [Access::Write, Access::Create, Access::Delete].into_iter().collect();
            grant.tally.accesses = grant.tally.accesses.union(own);
        }
        all.insert((grant.place.clone(), grant.below), grant);
    }
    for grant in read {
        let key = (grant.place.clone(), grant.below);
        match all.get_mut(&key) {
            Some(same) => same.tally.add(&grant.tally),
            None => _ = all.insert(key, grant),
        }
    }
    all.into_values().collect()
}

impl Reach {
    /// Hands over the end as rules are asked about it.
    fn with<T>(&self, take: impl FnOnce(End<'_>) -> T) -> T {
        match self {
            Self::Address { address, port, protocol, host, own, .. } => {
                let name = host.as_deref();
                let owner = if *own { Owner::Run } else { Owner::Elsewhere };
                let (address, port, protocol) = (*address, *port, *protocol);
                take(End::Address { address, port, protocol, names: name.as_slice(), owner })
            }
            Self::Socket(path) => match path.strip_prefix(b"@") {
                Some(name) => take(End::Abstract(name)),
                None => take(End::Path(path)),
            },
            Self::Question(_) | Self::Other => take(End::Other),
        }
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { address, port, protocol, host, .. } => {
                match (host, address) {
                    (Some(host), _) => write!(f, "{host}")?,
                    (None, IpAddr::V4(address)) => write!(f, "{address}")?,
                    (None, IpAddr::V6(address)) => write!(f, "[{address}]")?,
                }
                write!(f, ":{port}{}", protocol.suffix())
            }
            Self::Socket(path) => write!(f, "unix:{}", crate::pattern::escape(path)),
            Self::Question(name) => write!(f, "the name {name}"),
            Self::Other => f.write_str("a socket of another family"),
        }
    }
}

#[cfg(test)]
mod tests;
