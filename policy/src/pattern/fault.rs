//! Why a pattern cannot be: each fault says what to write instead.

use super::{MAX_ALTERNATIVES, MAX_NESTING, MAX_PATH};
use crate::error::cut;
use crate::variables::VariableFault;

/// Why a pattern cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternFault {
    /// A variable in it.
    #[error("{0}")]
    Variable(#[from] VariableFault),
    /// Nothing there.
    #[error("is empty; write an absolute path")]
    Empty,
    /// `~/x`.
    #[error("`~` is not expanded; write `{}`", cut(.instead))]
    Tilde {
        /// The pattern without it.
        instead: String,
    },
    /// `**` alone.
    #[error("write `/**` for every path")]
    Everything,
    /// Neither `/…` nor `**/…`.
    #[error(
        "must be absolute or begin with `**/`; write `${{WORKSPACE}}/{0}` for one place, `**/{0}` for every depth",
        cut(.rest)
    )]
    Relative {
        /// The pattern without `./`.
        rest: String,
    },
    /// `$HOME/x`.
    #[error("a variable is written in braces: `${{{name}}}`")]
    Unbraced {
        /// The variable.
        name: String,
    },
    /// Ends in a slash.
    #[error("a path never ends with `/`; write `{0}` or `{0}/**`", cut(.instead))]
    TrailingSlash {
        /// The pattern without it.
        instead: String,
    },
    /// `//`.
    #[error("a path never has `//`; write one slash")]
    DoubleSlash,
    /// `.` or `..`.
    #[error("a resolved path never has `{component}` as a component; write the path it leads to")]
    Dots {
        /// The component.
        component: &'static str,
    },
    /// `/proc/self`.
    #[error(
        "`/proc/{name}` is another number for each process, and the kernel judges by numbers; write `{}` for every one",
        cut(.instead)
    )]
    ProcSelf {
        /// `self` or `thread-self`.
        name: String,
        /// The pattern with numbers.
        instead: String,
    },
    /// `***`.
    #[error("`***` means nothing; write `*` inside a component or `**` across them")]
    ThreeStars,
    /// `[` without `]`.
    #[error("`[` begins a set that never ends; close it with `]`, or write `\\[`")]
    UnclosedSet,
    /// `[]`.
    #[error("an empty set matches nothing; write `\\[\\]` for the characters themselves")]
    EmptySet,
    /// `[^a]`.
    #[error("a set is negated with `!`; write `[!…]`, or `\\^` for the character")]
    CaretSet,
    /// `[b-a]`.
    #[error("the range `{low}-{high}` runs backwards")]
    BackwardRange {
        /// Its first byte, printable.
        low: String,
        /// Its last byte, printable.
        high: String,
    },
    /// A slash in a set.
    #[error("a set is one byte of a component and cannot hold `/`")]
    SlashInSet,
    /// A character of several bytes in a set.
    #[error("a set is of single bytes and cannot hold `{character}`; write `{{{character},…}}`")]
    WideInSet {
        /// The character.
        character: char,
    },
    /// `{` without `}`.
    #[error("`{{` begins alternatives that never end; close them with `}}`, or write `\\{{`")]
    UnclosedBrace,
    /// `}` without `{`.
    #[error("`}}` closes nothing; write `\\}}` for the character")]
    StrayBrace,
    /// `{}`.
    #[error("`{{}}` has no alternatives; write `\\{{\\}}` for the characters themselves")]
    EmptyBrace,
    /// Braces in braces in ….
    #[error("braces are nested more than {MAX_NESTING} deep")]
    DeepBraces,
    /// Too many combinations.
    #[error(
        "the braces make more than {MAX_ALTERNATIVES} alternatives; write several rules, or a wider pattern"
    )]
    ManyAlternatives,
    /// `\q`.
    #[error("`\\{found}` is not an escape; write `\\\\{found}` for a backslash before it")]
    BadEscape {
        /// What follows the backslash.
        found: char,
    },
    /// `\` at the end.
    #[error("ends in a lone `\\`; write `\\\\` for a backslash")]
    LoneEscape,
    /// `\x` without two digits.
    #[error("`\\x` needs two hexadecimal digits, as in `\\x0a`")]
    BadHex,
    /// `\x00`.
    #[error("no path has a NUL byte")]
    Nul,
    /// Longer than any path.
    #[error("every path it could match is longer than {MAX_PATH} bytes")]
    TooLong,
}
