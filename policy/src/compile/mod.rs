//! Policies to plans: what each layer enforces, and what it cannot.

pub mod capabilities;
pub mod landlock;
pub mod layers;
pub mod lsm;
pub mod seccomp;

use crate::access::Access;
use crate::model::RuleName;

/// Why a policy does not become a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The automata for paths do not fit. Nothing is cut off instead.
    #[error("the patterns need automata of more than {limit} {what}; most of it comes from {}", names(.rules))]
    PathsTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
        /// The rules that take most of it, the largest first.
        rules: Vec<RuleName>,
    },
    /// More policies at once than the tables can keep apart.
    #[error(
        "{found} policies hold together, and {limit} can; give fewer, or make one of some with `extends`"
    )]
    PoliciesTooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too many different lists in `by`, `unless_by` and `under`, those of earlier policies of the run included.
    #[error("the run's conditions name more than {limit} different lists of patterns; most come from {}", names(.rules))]
    SetsTooMany {
        /// How many there may be.
        limit: usize,
        /// The rules with most conditions, the first ones first.
        rules: Vec<RuleName>,
    },
    /// Too many different lists of exceptions that another kind of targets makes.
    #[error("the network rules make more than {limit} different lists of exceptions of another kind than what they except from; most come from {}", names(.rules))]
    ExceptionsTooMany {
        /// How many there may be.
        limit: usize,
        /// The rules with most of them, the first ones first.
        rules: Vec<RuleName>,
    },
    /// Too many different conditions on one address, name or digest.
    #[error("more than {limit} different conditions hold at {place}; most come from {}", names(.rules))]
    ConditionsTooMany {
        /// The prefix, name or digest.
        place: String,
        /// How many there may be.
        limit: usize,
        /// The rules with most of them, the largest first.
        rules: Vec<RuleName>,
    },
    /// Too many port ranges at one prefix or name.
    #[error("the network rules cut the ports of {prefix} into more than {limit} ranges; most come from {}", names(.rules))]
    PortsTooMany {
        /// The prefix, or the name.
        prefix: String,
        /// How many there may be.
        limit: usize,
        /// The rules with most ports there, the largest first.
        rules: Vec<RuleName>,
    },
    /// Too many prefixes, too many port ranges altogether, or too many names.
    #[error("the network rules need more than {limit} {what}; most come from {}", names(.rules))]
    AddressesTooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
        /// The rules with most of them, the largest first.
        rules: Vec<RuleName>,
    },
}

/// Something that a policy says and that no layer of this run can hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unheld {
    /// The rule, the section's default, or `policy/section` for a section of settings.
    pub rule: RuleName,
    /// What of it.
    pub what: Unsupported,
}

/// What of a rule cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unsupported {
    /// It denies this access, and nothing judges such accesses.
    Access(Access),
    /// A condition on the process: `by`, `unless_by` or `under`.
    Condition(&'static str),
    /// It names contents. The rule is not in the plan.
    Sha256,
    /// A target that is no address: a host name, `own`, a unix socket.
    Target(&'static str),
    /// An exception that is no address.
    Exception(&'static str),
    /// It is a section of settings (`syscalls`, `observe`, …).
    Setting,
    /// It asks for directories for temporary files of the run's own.
    PrivateTmp,
    /// It sets a limit.
    Limit(&'static str),
    /// It allows more or less than whole directories, single files or ports of TCP: a list of those does not say it.
    Shape,
    /// It goes by the spelling of names in this directory, where one file has several.
    Spellings(String),
    /// It closes this word of the section `kernel`.
    Word(&'static str),
    /// It opens this word of the section `kernel`, and Landlock closes it.
    Closed(&'static str),
}

impl std::fmt::Display for Unheld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rule = &self.rule;
        match &self.what {
            Unsupported::Access(access) => write!(f, "rule `{rule}` denies `{access}`"),
            Unsupported::Condition(key) => write!(f, "rule `{rule}` is bound to a process by `{key}`"),
            Unsupported::Sha256 => write!(f, "rule `{rule}` names contents by `sha256`"),
            Unsupported::Target(what) => write!(f, "rule `{rule}` is about {what}"),
            Unsupported::Exception(what) => write!(f, "rule `{rule}` makes an exception of {what}"),
            Unsupported::Setting => write!(f, "section `{rule}` sets something"),
            Unsupported::PrivateTmp => write!(f, "section `{rule}` makes /tmp private"),
            Unsupported::Limit(what) => write!(f, "section `{rule}` limits `{what}`"),
            Unsupported::Shape => {
                write!(f, "rule `{rule}` allows what no list of directories and ports says")
            }
            Unsupported::Spellings(place) => {
                write!(
                    f,
                    "rule `{rule}` goes by the spelling of names in {place}, where one file has several"
                )
            }
            Unsupported::Word(word) => write!(f, "`{rule}` closes `{word}`"),
            Unsupported::Closed(word) => {
                return write!(f, "`{rule}` opens `{word}`, which Landlock closes to whoever it restricts");
            }
        }?;
        f.write_str(", which no layer of this run holds")
    }
}

impl Unheld {
    /// Each as a line for people; what one rule denies and nobody holds stands in one line.
    pub fn lines(all: &[Unheld]) -> Vec<String> {
        let mut lines = Vec::new();
        let denies = |unheld: &Unheld| match unheld.what {
            Unsupported::Access(access) => Some(access),
            _ => None,
        };
        for of_rule in all.chunk_by(|a, b| a.rule == b.rule && denies(a).is_some() && denies(b).is_some()) {
            let accesses: Vec<String> = of_rule.iter().filter_map(denies).map(|a| format!("`{a}`")).collect();
            match (of_rule, accesses.as_slice()) {
                ([unheld], _) | ([unheld, ..], []) => lines.push(unheld.to_string()),
                ([unheld, ..], accesses) => lines.push(format!(
                    "rule `{}` denies {}, which no layer of this run holds",
                    unheld.rule,
                    accesses.join(", ")
                )),
                ([], _) => {}
            }
        }
        lines
    }
}

/// How many rules an error names.
const NAMED: usize = 5;

/// The heaviest rules, the heaviest first.
pub(crate) fn heaviest(weights: impl IntoIterator<Item = (RuleName, usize)>) -> Vec<RuleName> {
    let mut by_name = std::collections::BTreeMap::<RuleName, usize>::new();
    for (name, weight) in weights {
        *by_name.entry(name).or_default() += weight;
    }
    let mut rules: Vec<(RuleName, usize)> = by_name.into_iter().collect();
    rules.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    rules.into_iter().take(NAMED).map(|(name, _)| name).collect()
}

fn names(rules: &[RuleName]) -> String {
    let names: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    names.join(", ")
}
