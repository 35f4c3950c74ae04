//! A proof that one event stands in a sealed log, without the rest of the log.
//!
//! It carries the event's line, the seal's line and the hashes between them: the event's own hash is a leaf of the
//! [`crate::merkle`] tree whose root the seal names, and the head of the log is the hash of the seal. So who knows the
//! head, and nothing else, can check that this event stood at this place in that log. What the proof cannot show is
//! whose head it is: compare it with one that was kept elsewhere.
//!
//! A proof is one flat JSON object of the form of [`crate::canonical`]. Both lines stand in it as strings, so that
//! their bytes stay what they are.

use std::fmt;
use std::io::{self, Read};

use crate::Hash;
use crate::canonical::{Deviation, ObjectWriter, Raw, Record, scan};
use crate::lines::Lines;
use crate::merkle::{Path, PathBuilder, PathError};
use crate::python::{JsonError, Object};

/// Version of the form, `v` in a proof.
const VERSION: u64 = 1;

/// One event, the seal of its log, and what leads from the one to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The event's line, without its newline.
    pub event: Vec<u8>,
    /// The seal's line, without its newline.
    pub seal: Vec<u8>,
    /// From the event's hash to the seal's `merkle_root`.
    pub path: Path,
}

/// What a proof that holds has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `seq` of the event.
    pub seq: u64,
    /// Lines of the log, the seal included.
    pub events: u64,
    /// `hash_self` of the seal: the head of the log.
    pub head: Hash,
}

/// A line of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The event's.
    Event,
    /// The seal's.
    Seal,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Event => "the event",
            Part::Seal => "the seal",
        })
    }
}

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// A line is not canonical.
    #[error("{part} is not as sandbox writes it: {deviation}")]
    Canonical {
        /// Which line.
        part: Part,
        /// Where it differs.
        deviation: Deviation,
    },
    /// A line lacks a key, or the key has a value of the wrong kind.
    #[error("{part} has no usable `{key}`")]
    Key {
        /// Which line.
        part: Part,
        /// The key.
        key: &'static str,
    },
    /// The hash of a line is not its own.
    #[error("hash_self of {part} is not the hash of its line, {own}")]
    Itself {
        /// Which line.
        part: Part,
        /// The hash of the line.
        own: Hash,
    },
    /// The line that should be the seal is none.
    #[error("the line given as the seal is no run_end")]
    NoSeal,
    /// The seal's head is not the line before it.
    #[error("`head` of the seal is not its hash_prev")]
    Head,
    /// A number differs from what another says.
    #[error("{what} is {found} where {expected} is due")]
    Number {
        /// Which number.
        what: &'static str,
        /// What the others say.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// The two lines are of two runs.
    #[error("the event belongs to another run than the seal")]
    Run,
    /// The path leads nowhere.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path leads elsewhere.
    #[error("the path leads to {found}, and merkle_root of the seal is {expected}")]
    Root {
        /// What the seal names.
        expected: Box<Hash>,
        /// Where the path leads.
        found: Box<Hash>,
    },
}

/// Why bytes are no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAProof {
    /// They are no JSON object.
    #[error("not a proof: {0}")]
    Json(JsonError),
    /// It holds what no proof holds.
    #[error("not a proof: {0}")]
    Value(Deviation),
    /// A key is missing, or has a value of the wrong kind.
    #[error("not a proof: no usable `{0}`")]
    Key(&'static str),
    /// It is of a later form.
    #[error("a proof of version {0}, and this program knows version {VERSION}: use a later audit-verify")]
    Version(u64),
}

impl Proof {
    /// Makes the proof of the event that is line `seq` of a sealed log, in one pass; `None` if that line is not there,
    /// or is the last one.
    ///
    /// The log must have been verified: nothing is judged here. [`Proof::check`] then says whether it was the same log.
    pub fn make(log: impl Read, seq: u64) -> io::Result<Option<Proof>> {
        let Some(index) = seq.checked_sub(1) else { return Ok(None) };
        let mut lines = Lines::new(log);
        let mut builder = PathBuilder::new(index);
        let mut event = None;
        // The last line is the seal and no leaf, so each line is added when the next one has come.
        let mut before: Option<Hash> = None;
        let mut seal = Vec::new();
        let mut at = 0;
        while let Some(line) = lines.next_line()? {
            if let Some(hash) = before {
                builder.push(&hash);
            }
            if at == index {
                event = Some(line.bytes.to_vec());
            }
            before = hash_self(line.bytes);
            if before.is_none() {
                return Ok(None);
            }
            seal.clear();
            seal.extend_from_slice(line.bytes);
            at += 1;
        }
        let (Some(event), Some(path)) = (event, builder.finish()) else { return Ok(None) };
        Ok(Some(Proof { event, seal, path }))
    }

    /// Reads a proof. White space and the order of its keys do not matter.
    pub fn parse(text: &[u8]) -> Result<Proof, NotAProof> {
        let mut canonical = Vec::with_capacity(text.len());
        Object::parse(text).map_err(NotAProof::Json)?.print_without("", &mut canonical);
        let record = Record::parse(&canonical).map_err(NotAProof::Value)?;
        let number = |key| record.uint(key).ok_or(NotAProof::Key(key));
        let line = |key| record.bytes(key).map(<[u8]>::to_vec).ok_or(NotAProof::Key(key));
        match number("v")? {
            VERSION => {}
            other => return Err(NotAProof::Version(other)),
        }
        let hashes =
            record.list("path").and_then(|list| list.iter().map(|hash| Hash::from_digits(hash)).collect());
        let hashes = hashes.ok_or(NotAProof::Key("path"))?;
        let path = Path { index: number("index")?, size: number("size")?, hashes };
        Ok(Proof { event: line("event")?, seal: line("seal")?, path })
    }

    /// The proof as one line of JSON, with its newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        object.put("event", &self.event[..]).put("index", self.path.index);
        object.list("path", self.path.hashes.iter().map(Hash::as_str));
        object.put("seal", &self.seal[..]).put("size", self.path.size).put("v", VERSION);
        // These keys ascend, so nothing can fail.
        let _ = object.finish();
        out.push(b'\n');
        out
    }

    /// Checks all of it: both lines, and the way from the one to the other.
    pub fn check(&self) -> Result<Shown, ProofFault> {
        let event = Parts::of(Part::Event, &self.event)?;
        let seal = Parts::of(Part::Seal, &self.seal)?;
        if seal.event_type != b"run_end" {
            return Err(ProofFault::NoSeal);
        }
        let missing = |key| ProofFault::Key { part: Part::Seal, key };
        let events = seal.events.ok_or_else(|| missing("events"))?;
        let due = self.path.size.saturating_add(1);
        equal("events of the seal", due, events)?;
        equal("seq of the seal", due, seal.seq)?;
        equal("seq of the event", self.path.index.saturating_add(1), event.seq)?;
        if event.run_id != seal.run_id {
            return Err(ProofFault::Run);
        }
        if seal.head != Some(seal.prev) {
            return Err(ProofFault::Head);
        }
        let expected = seal.root.ok_or_else(|| missing("merkle_root"))?;
        let found = self.path.root(&event.hash)?;
        if found != expected {
            return Err(ProofFault::Root { expected: expected.into(), found: found.into() });
        }
        Ok(Shown { seq: event.seq, events, head: seal.hash })
    }
}

fn equal(what: &'static str, expected: u64, found: u64) -> Result<(), ProofFault> {
    if expected == found { Ok(()) } else { Err(ProofFault::Number { what, expected, found }) }
}

/// `hash_self` of a canonical line.
fn hash_self(line: &[u8]) -> Option<Hash> {
    let mut hash = None;
    scan(line, |member| {
        if member.key == "hash_self" {
            hash = member.raw.as_text().and_then(Hash::from_digits);
        }
    })
    .ok()?;
    hash
}

/// What is proven and judged of a line.
struct Parts<'l> {
    hash: Hash,
    prev: &'l [u8],
    seq: u64,
    event_type: &'l [u8],
    run_id: Option<&'l [u8]>,
    events: Option<u64>,
    head: Option<&'l [u8]>,
    root: Option<Hash>,
}

impl<'l> Parts<'l> {
    /// Proves the form and the hash of a line.
    fn of(part: Part, line: &'l [u8]) -> Result<Parts<'l>, ProofFault> {
        let mut itself = None;
        let (mut prev, mut seq, mut event_type) = (None, None, None);
        let (mut run_id, mut events, mut head, mut root) = (None, None, None, None);
        let text = |raw: Raw<'l>| raw.as_text();
        scan(line, |member| match member.key {
            "event_type" => event_type = text(member.raw),
            "events" => events = member.raw.as_u64(),
            "hash_prev" => prev = text(member.raw),
            "hash_self" => itself = text(member.raw).map(|text| (text, member.start, member.end)),
            "head" => head = text(member.raw),
            "merkle_root" => root = text(member.raw).and_then(Hash::from_digits),
            "run_id" => run_id = text(member.raw),
            "seq" => seq = member.raw.as_u64(),
            _ => {}
        })
        .map_err(|deviation| ProofFault::Canonical { part, deviation })?;
        let missing = |key| ProofFault::Key { part, key };
        let prev = prev.ok_or_else(|| missing("hash_prev"))?;
        let (itself, start, end) = itself.ok_or_else(|| missing("hash_self"))?;
        // hash_prev stands before it, so a separator does too.
        let hash = Hash::of(&[&line[..start - b", ".len()], &line[end..]]);
        if itself != hash.digits() {
            return Err(ProofFault::Itself { part, own: hash });
        }
        let seq = seq.ok_or_else(|| missing("seq"))?;
        let event_type = event_type.ok_or_else(|| missing("event_type"))?;
        Ok(Parts { hash, prev, seq, event_type, run_id, events, head, root })
    }
}
