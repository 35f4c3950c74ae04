//! What a verification can find.

use std::fmt;

use crate::Hash;
use crate::canonical::{Deviation, LINE_MAX};
use crate::lines::LineEnd;
use crate::python::JsonError;
use crate::sign::KeyId;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The answer.
    pub verdict: Verdict,
    /// Whether the hash chain holds, asked by itself.
    pub chain: Chain,
    /// Lines that were read.
    pub lines: u64,
    /// Who signed it, as far as it was read.
    pub signed: Signed,
    /// What its first line binds it to, if that holds.
    pub genesis: Option<Genesis>,
    /// The policies that were applied later, at most [`APPLIED_MAX`] of them, as far as the log holds.
    pub applied: Vec<Applied>,
}

/// So many policies that were applied later are kept: a log may be anybody's, and a run has a few.
pub const APPLIED_MAX: usize = 4096;

/// A policy that was applied while the run went on (`policy_apply`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The file beside the log, `target` in the line, escapes as they stand there.
    pub file: String,
    /// Its SHA-256.
    pub sha256: Hash,
}

/// Who signed a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signed {
    /// Nobody.
    #[default]
    No,
    /// A key that nobody handed in and that the store does not have.
    Unchecked {
        /// The key that it names.
        key: KeyId,
        /// The last line that has a signature.
        line: u64,
    },
    /// This key, and all of its signatures are good.
    Good {
        /// The key.
        key: KeyId,
        /// The last line that it signed: it vouches for all lines up to there.
        line: u64,
    },
}

impl Signed {
    /// The key that the signatures name.
    pub fn key(self) -> Option<KeyId> {
        match self {
            Signed::No => None,
            Signed::Unchecked { key, .. } | Signed::Good { key, .. } => Some(key),
        }
    }
}

/// What the first line of a log binds it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The run, escapes as they stand in the line.
    pub run_id: String,
    /// `hash_self` of the first line.
    pub first: Hash,
    /// The ledger's last hash when the run began.
    pub ledger_prev: Option<Hash>,
    /// SHA-256 of `policy.effective.yaml`, where the run had a policy.
    pub policy_sha256: Option<Hash>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A log that was written and finished by `sandbox`, and not edited.
    Intact {
        /// Events in it, the seal included.
        events: u64,
        /// Events that the log itself says were lost.
        lost: u64,
        /// `hash_self` of the last line.
        head: Hash,
    },
    /// Asked for nothing else than the hash chain: it holds.
    ChainHolds {
        /// Lines in it.
        lines: u64,
        /// `hash_self` of the last line, [`Hash::ZERO`] if there is none.
        head: Hash,
    },
    /// Edited, or never written by `sandbox`.
    Tampered(Fault),
    /// Not edited as far as it goes, but it does not go to the end.
    Incomplete {
        /// Events that hold.
        events: u64,
        /// Events that the log itself says were lost.
        lost: u64,
        /// `hash_self` of the last line that holds, [`Hash::ZERO`] if there is none.
        head: Hash,
        /// What is missing.
        why: Missing,
    },
    /// There is no answer.
    Unchecked(Unchecked),
}

impl Verdict {
    /// The exit code: 0 intact, 1 tampered, 2 incomplete, 3 could not be checked.
    pub fn code(&self) -> u8 {
        match self {
            Verdict::Intact { .. } | Verdict::ChainHolds { .. } => 0,
            Verdict::Tampered(_) => 1,
            Verdict::Incomplete { .. } => 2,
            Verdict::Unchecked(_) => 3,
        }
    }

    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Intact { .. } => "intact",
            Verdict::ChainHolds { .. } => "chain-holds",
            Verdict::Tampered(_) => "tampered",
            Verdict::Incomplete { .. } => "incomplete",
            Verdict::Unchecked(_) => "unchecked",
        }
    }
}

/// Whether the hash chain holds. The answer is that of a few lines of Python for every file, see
/// [`crate::python`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// It does.
    Holds,
    /// It does not.
    Broken(Fault),
    /// It was not read to its end.
    Unknown,
}

/// What an incomplete log lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Everything: the file is empty.
    All,
    /// The seal.
    Seal,
    /// The rest of the last line.
    LineRest {
        /// Number of that line, from 1.
        line: u64,
    },
    /// Events that were lost, where that was asked to count.
    Events,
}

impl Missing {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            Missing::All => "empty",
            Missing::Seal => "no-seal",
            Missing::LineRest { .. } => "torn-line",
            Missing::Events => "lost-events",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::All => f.write_str("the file is empty"),
            Missing::Seal => f.write_str("no seal (run_end): the run goes on, crashed, or the log was cut"),
            Missing::LineRest { line } => {
                write!(f, "line {line} is torn, it has no newline: the run crashed, or the log was cut")
            }
            Missing::Events => f.write_str("the log says that events were lost"),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchecked {
    /// No line of the file is a JSON object with a `hash_self`.
    NotALog,
    /// The chain has a line that is too long to be read.
    TooLong {
        /// Number of that line, from 1.
        line: u64,
    },
}

impl Unchecked {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            Unchecked::NotALog => "not-a-log",
            Unchecked::TooLong { .. } => "line-too-long",
        }
    }
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unchecked::NotALog => f.write_str("not a log: no line is a JSON object with a hash_self"),
            Unchecked::TooLong { line } => {
                write!(f, "line {line} is longer than {} MiB, which is not read", LINE_MAX >> 20)
            }
        }
    }
}

/// The first bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: Why,
    /// What should have stood there.
    pub expected: String,
    /// What stands there, shortened and with everything unprintable escaped.
    pub found: String,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not the canonical form of its content.
    Canonical(Deviation),
    /// It ends with something else than one newline.
    End(LineEnd),
    /// It is longer than a line of a log.
    TooLong,
    /// It is not JSON, or no object.
    Json(JsonError),
    /// It lacks a key, or the key has a value of the wrong kind.
    Key(&'static str),
    /// It is not linked to the line before it.
    Link,
    /// Its hash is not its own.
    Itself,
    /// It does not follow in the count.
    Sequence,
    /// It belongs to another run.
    Run,
    /// The log does not begin with `run_start`, or begins twice.
    Genesis,
    /// The seal names another number of events.
    SealEvents,
    /// The seal names another head.
    SealHead,
    /// The seal names another root of the Merkle tree.
    SealRoot,
    /// It stands behind the seal.
    BehindSeal,
    /// It must be signed and is not.
    Unsigned,
    /// Its signature is not good, or not by a key that counts.
    Signature,
    /// It is not the line that the anchor names.
    Anchor {
        /// The line that the anchor names, if the log has it.
        anchored: Option<u64>,
    },
}

impl Why {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            Why::Canonical(_) => "not-canonical",
            Why::End(_) => "line-end",
            Why::TooLong => "line-too-long",
            Why::Json(_) => "not-json",
            Why::Key(_) => "key",
            Why::Link => "hash-prev",
            Why::Itself => "hash-self",
            Why::Sequence => "seq",
            Why::Run => "run-id",
            Why::Genesis => "genesis",
            Why::SealEvents => "seal-events",
            Why::SealHead => "seal-head",
            Why::SealRoot => "seal-root",
            Why::BehindSeal => "behind-seal",
            Why::Unsigned => "unsigned",
            Why::Signature => "signature",
            Why::Anchor { .. } => "anchor",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Canonical(deviation) => write!(f, "not as sandbox writes it, at byte {}", deviation.offset),
            Why::End(_) => f.write_str("it does not end with a newline alone"),
            Why::TooLong => write!(f, "longer than {} MiB: sandbox writes no such line", LINE_MAX >> 20),
            Why::Json(JsonError::NotAnObject) => f.write_str("not a JSON object"),
            Why::Json(_) => f.write_str("not JSON"),
            Why::Key(key) => write!(f, "no usable `{key}`"),
            Why::Link => f.write_str("hash_prev is not the hash of the line before it"),
            Why::Itself => f.write_str("hash_self is not the hash of the line"),
            Why::Sequence => f.write_str("seq does not follow"),
            Why::Run => f.write_str("it belongs to another run"),
            Why::Genesis => f.write_str("a log begins with run_start, and only once"),
            Why::SealEvents => f.write_str("it counts another number of events than there are"),
            Why::SealHead => f.write_str("it names another head than that of the line before"),
            Why::SealRoot => f.write_str("merkle_root of the seal is not that of the lines before it"),
            Why::BehindSeal => f.write_str("it stands behind the seal"),
            Why::Unsigned => f.write_str("it is not signed"),
            Why::Signature => f.write_str("its signature is not the one that is expected"),
            Why::Anchor { anchored: Some(line) } => {
                write!(f, "the expected head is that of line {line}, and the log goes on behind it")
            }
            Why::Anchor { anchored: None } => f.write_str("the log does not have the expected head"),
        }
    }
}

/// Bytes of a log for people: printable ASCII, short.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text: String =
        bytes.iter().take(SHOWN).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    if bytes.len() > SHOWN { format!("{text}...") } else { text }
}
