//! Recorded runs become a policy: what they did that the base leaves open is allowed, in as few lines as a person would
//! write.
//!
//! [`learn`] takes what runs asked ([`Seen`]), each with the base as that run would have had it. What the base denies by
//! a rule is never allowed by what is learned: it is listed ([`LeftOut`]). Everything else is put together: paths by
//! [`tree`] and [`names`], other ends by [`network`] and [`hosts`]; [`write`] makes the text. The same runs in the same
//! order give the same bytes. Nothing here reads a file or a record.
//!
//! What records do not tell is not learned: files that are mapped as code are taken to be the programs, what
//! `@libraries` names, and what is named like a library.
//!
//! What puts things together ([`Roots`], [`grants`], [`targets`]) and finds them again ([`Known`], [`targets_of`]) also
//! serves those who want to know what is new, and not what may be.

mod confidence;
mod hosts;
mod known;
mod lessons;
mod names;
mod needs;
mod network;
mod paths;
mod place;
mod seen;
mod tree;
mod write;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::Protocol;
use crate::digest::Digest;
use crate::ends::{End, Owner};
use crate::evaluate::{Act, Indexed, Verdict};
use crate::model::{Decision, Policy};
use crate::questions;
use crate::subject::Subject;
use crate::variables::Variables;

use lessons::{Drafted, Lessons};
use needs::Detail;

pub use confidence::Confidence;
pub use known::{Known, KnownFault};
pub use network::{Target, generalise as targets, targets_of};
pub use place::{Place, Roots};
pub use seen::Seen;
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

/// One run, and what its variables stand for.
#[derive(Debug)]
pub struct Run<'a> {
    /// What the run's variables were.
    pub variables: &'a Variables,
    /// A policy that extends the base and closes all sections, with these variables.
    pub base: &'a Indexed<'a>,
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
    /// The same as rules about one object each, for whoever wants some of it; none where it has one object.
    pub parts: Vec<LearnedRule>,
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
    let lessons = Lessons::new(runs, options, read);
    let all: Vec<usize> = (0..runs.len()).collect();
    let Drafted { draft, rules, .. } = lessons.draft(&all, Detail::Whole)?;
    let confidence = Confidence::of(&lessons, &draft)?;
    let about: Vec<String> = options.about.iter().cloned().chain(confidence.lines()).collect();
    let text = write::policy(&rules, &draft.words, options, LearnedRule::text);
    let text = write::with_head(&about, text, &draft.left_out, runs.len());
    // So far it was read without its comments.
    (0..runs.len()).try_for_each(|index| read(index, &text).map(drop))?;
    let words = draft.words.into_iter().collect();
    Ok(Learned { text, rules, words, left_out: draft.left_out, confidence })
}

/// A process of which nothing is known: what is learned holds for everyone.
fn anyone<'p>(policy: &Indexed<'p>, act: &Act<'_>) -> Verdict<'p> {
    policy.judge(&Subject::UNKNOWN, act)
}

/// What a base says of something that was seen.
enum Base {
    Allows,
    /// By default: it may be learned.
    Silent,
    /// By a rule.
    Denies(String, Option<String>),
}

impl Base {
    fn strictness(&self) -> u8 {
        match self {
            Self::Allows => 0,
            Self::Silent => 1,
            Self::Denies(..) => 2,
        }
    }
}

fn base(policy: &Indexed<'_>, act: &Act<'_>) -> Base {
    said(&anyone(policy, act))
}

/// The same of programs, which are known: the strictest of what it says of each.
fn base_of(policy: &Indexed<'_>, act: &Act<'_>, programs: &BTreeSet<Vec<u8>>) -> Base {
    let each = programs.iter().map(|exe| said(&policy.judge(&Subject { exe, ancestors: &[] }, act)));
    each.reduce(|one, other| if other.strictness() > one.strictness() { other } else { one })
        .unwrap_or_else(|| base(policy, act))
}

fn said(verdict: &Verdict<'_>) -> Base {
    match verdict.decision {
        Decision::Allow => Base::Allows,
        _ if verdict.rule.is_default() => Base::Silent,
        _ => Base::Denies(verdict.rule.as_str().to_owned(), verdict.because.map(str::to_owned)),
    }
}

/// What a policy says of an access to a path.
fn at(policy: &Indexed<'_>, access: Access, path: &[u8]) -> Base {
    match access {
        Access::Run => base(policy, &Act::Exec { path, sha256: Some(&Digest::UNNAMED) }),
        _ => base(policy, &Act::File { accesses: access.into(), path }),
    }
}

/// The same of each of several accesses.
fn each_at(policy: &Indexed<'_>, accesses: AccessSet, path: &[u8]) -> impl Iterator<Item = (Access, Base)> {
    let run = accesses.contains(Access::Run).then(|| (Access::Run, at(policy, Access::Run, path)));
    policy
        .each_access(&Subject::UNKNOWN, accesses, path)
        .map(|(access, verdict)| (access, said(&verdict)))
        .chain(run)
}

/// What a policy says of a question for a name, whichever resolver is asked; `None` where no host can have the name, so that
/// no question for it leaves an enforced run.
fn question(policy: &Policy, name: &str) -> Option<Base> {
    let resolver = (IpAddr::from([0, 0, 0, 0]), sandbox_ebpf::abi::resolver::PORT);
    Some(match questions::ask(std::iter::once(policy), name, resolver, Protocol::Udp) {
        questions::Asked::Malformed => return None,
        questions::Asked::Allowed { .. } => Base::Allows,
        questions::Asked::Refused { rule, .. } if rule.is_default() => Base::Silent,
        questions::Asked::Refused { rule, because } => {
            Base::Denies(rule.as_str().to_owned(), because.map(str::to_owned))
        }
    })
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
