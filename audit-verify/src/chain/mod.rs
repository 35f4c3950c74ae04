//! Making the chain: each line carries the hash of the line before it and its own.
//!
//! `hash_self` is the SHA-256 of the line's canonical bytes without the member `hash_self`; `hash_prev` is the
//! `hash_self` of the line before, 64 zeros in the first; `seq` starts at 1 and rises by 1. Two steps make a line. All
//! that an event says is written into [`Drafts`], which may go on another thread; [`ChainWriter::link_each`] puts the three
//! members of the chain in their places and hashes the line. [`ChainWriter::append`] does both. Nothing here writes to
//! a file.

use std::iter::Peekable;
use std::ops::ControlFlow;

mod draft;
mod template;

pub use draft::{Draft, Drafts, EventWriter, ValueWriter};
use draft::{Links, SLOT};
pub use template::{Template, TemplateWriter};

use crate::Hash;
use crate::canonical::{LINE_MAX, WriteError, scan, write_uint};
use crate::lanes::{self, State};

/// Where a chain stands: what the next line will be linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// `seq` of the last line; 0 before the first.
    pub seq: u64,
    /// `hash_self` of the last line; [`Hash::ZERO`] before the first.
    pub head: Hash,
}

impl Position {
    /// Before the first line.
    pub const GENESIS: Position = Position { seq: 0, head: Hash::ZERO };
}

impl Default for Position {
    /// [`Position::GENESIS`].
    fn default() -> Self {
        Position::GENESIS
    }
}

/// Why a line could not be made. The chain then stands where it stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The keys are at fault.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The line could be longer than a verifier accepts.
    #[error("a line of {len} bytes is longer than the {LINE_MAX} bytes that a line may have")]
    TooLong {
        /// Length of the line in bytes, without its newline and with a `seq` of all its digits.
        len: usize,
    },
}

/// Makes the lines of one log.
///
/// ```
/// use audit_verify::chain::ChainWriter;
///
/// let mut chain = ChainWriter::default();
/// let line = chain.append(|event| {
///     event.put("action", "OBSERVED").put("event_type", "run_start").put("v", 1);
/// })?;
/// assert!(line.starts_with(br#"{"action": "OBSERVED", "event_type": "run_start", "hash_prev": "000"#));
/// assert!(line.ends_with(b"\"seq\": 1, \"v\": 1}\n"));
/// # Ok::<(), audit_verify::chain::ChainError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ChainWriter {
    at: Position,
    drafts: Drafts,
    line: Vec<u8>,
    message: Vec<u8>,
}

impl ChainWriter {
    /// A chain that goes on behind `position`, for example after a line that could not be stored.
    pub fn at(position: Position) -> Self {
        ChainWriter { at: position, ..ChainWriter::default() }
    }

    /// Where the chain stands. Its `head` is what an anchor holds and `--expect-head` compares.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The hash that the next line would have; the chain stays where it stands. For signatures, which are made over
    /// the line without themselves.
    ///
    /// # Errors
    /// As [`ChainWriter::append`].
    pub fn next_hash(&self, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<Hash, ChainError> {
        let mut ahead = ChainWriter::at(self.at);
        ahead.append(fill)?;
        Ok(ahead.at.head)
    }

    /// Makes the next line, newline included.
    ///
    /// `fill` pushes the event's keys, ascending. `hash_prev`, `hash_self` and `seq` are put among them
    /// here; `fill` must not push them. On an error the chain stands where it stood.
    pub fn append(&mut self, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<&[u8], ChainError> {
        let (mut drafts, mut line) = (std::mem::take(&mut self.drafts), std::mem::take(&mut self.line));
        drafts.clear();
        line.clear();
        let added = drafts.add(fill);
        drafts.iter().for_each(|draft| self.link(draft, &mut line));
        (self.drafts, self.line) = (drafts, line);
        added?;
        Ok(&self.line)
    }

    /// Makes a draft the next line: appends it to `out`, newline included.
    pub fn link(&mut self, draft: Draft<'_>, out: &mut Vec<u8>) {
        let ahead = lanes::ahead(draft.known());
        self.link_one(draft, ahead, &[], out);
    }

    /// Makes drafts the next lines, each with something of the caller's beside it. Behind each one `linked` gets that,
    /// the 32 bytes of its `hash_self`, and `out`; where it breaks off, the drafts behind are left in `drafts`.
    #[inline]
    pub fn link_each<'d, T, B>(
        &mut self,
        drafts: &mut Peekable<impl Iterator<Item = (Draft<'d>, T)>>,
        out: &mut Vec<u8>,
        mut linked: impl FnMut(T, &[u8; 32], &mut Vec<u8>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some((first, _)) = drafts.peek() else { return ControlFlow::Continue(()) };
        let mut ahead = lanes::ahead(first.known());
        while let Some((draft, beside)) = drafts.next() {
            // While a line waits for the hash of the one before it, there is time to begin with the next one.
            let next = drafts.peek().map_or(&[][..], |(next, _)| next.known());
            let (hash, next) = self.link_one(draft, ahead, next, out);
            ahead = next;
            linked(beside, &hash, out)?;
        }
        ControlFlow::Continue(())
    }

    /// Links a draft of which `ahead` is hashed, and returns its hash and what can be hashed ahead of the next one.
    #[inline]
    fn link_one(
        &mut self,
        draft: Draft<'_>,
        ahead: State,
        next: &[u8],
        out: &mut Vec<u8>,
    ) -> ([u8; 32], State) {
        let seq = self.at.seq + 1;
        let Links { prev, itself, seq: seq_at } = draft.links;
        let (before, behind) = draft.bytes.split_at(seq_at);
        // What is hashed: the line without hash_self.
        let message = &mut self.message;
        message.clear();
        message.extend_from_slice(&before[..itself]);
        message.extend_from_slice(&before[itself + SLOT.len()..]);
        write_uint(message, seq);
        message.extend_from_slice(behind);
        message[prev..][..Hash::DIGITS].copy_from_slice(self.at.head.digits());
        let len = message.len();
        lanes::pad(message);
        let (hash, next) =
            lanes::finish_and_ahead(ahead, &message[prev / lanes::BLOCK * lanes::BLOCK..], next);
        let head = Hash::from_bytes(&hash);
        out.reserve(len + SLOT.len() + 1);
        out.extend_from_slice(&message[..itself]);
        out.extend_from_slice(&SLOT[..SLOT.len() - Hash::DIGITS - 1]);
        out.extend_from_slice(head.digits());
        out.push(b'"');
        out.extend_from_slice(&message[itself..len]);
        out.push(b'\n');
        self.at = Position { seq, head };
        (hash, next)
    }
}

/// As many bytes as linking adds to a draft at most, a newline aside: the digits of `seq`.
const LINK_MAX: usize = 20;

/// What the `hash_self` of a line must be, its newline left out; `None` if the line is not canonical or has none.
pub fn own_hash(line: &[u8]) -> Option<Hash> {
    let mut place = None;
    scan(line, |member| {
        if member.key == "hash_self" {
            place = Some((member.start, member.end));
        }
    })
    .ok()?;
    let (start, end) = place?;
    // hash_prev stands before it in every line of a chain, so a separator does too.
    Some(Hash::of(&[line.get(..start.checked_sub(b", ".len())?)?, &line[end..]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{ObjectWriter, Record};

    fn hash_without_self(line: &[u8]) -> Hash {
        let record = Record::parse(line).unwrap();
        let mut bytes = Vec::new();
        let mut object = ObjectWriter::new(&mut bytes);
        for (key, value) in record.fields().iter().filter(|(key, _)| *key != "hash_self") {
            object.put(key, value);
        }
        object.finish().unwrap();
        Hash::of(&[&bytes])
    }

    #[test]
    fn lines_are_linked() {
        let mut chain = ChainWriter::default();
        let mut prev = Hash::ZERO;
        for seq in 1..=5u64 {
            let line = chain.append(|event| _ = event.put("a", seq * 7).put("z", "ü")).unwrap();
            let line = line.strip_suffix(b"\n").unwrap();
            let record = Record::parse(line).unwrap();
            assert_eq!(record.text("hash_prev"), Some(prev.as_str()));
            assert_eq!(record.uint("seq"), Some(seq));
            prev = hash_without_self(line);
            assert_eq!(record.text("hash_self"), Some(prev.as_str()));
            assert_eq!(chain.position(), Position { seq, head: prev });
        }
    }

    #[test]
    fn own_keys_find_their_place_among_any_others() {
        let keys = ["a", "hash_prev0", "hash_pz", "hash_self0", "i", "seq0", "z"];
        for chosen in 0..1 << keys.len() {
            let mut chain = ChainWriter::default();
            let chosen = keys.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            let line = chain.append(|event| chosen.for_each(|(_, key)| _ = event.put(key, 1))).unwrap();
            let line = line.strip_suffix(b"\n").unwrap();
            let record = Record::parse(line).unwrap();
            assert_eq!(record.text("hash_self"), Some(hash_without_self(line).as_str()));
        }
    }

    #[test]
    fn a_mistake_leaves_the_chain_where_it_was() {
        let mut chain = ChainWriter::default();
        chain.append(|event| _ = event.put("a", 1)).unwrap();
        let before = chain.position();
        for keys in
            [["b", "a"], ["a", "a"], ["a", "hash_prev"], ["a", "hash_self"], ["hash_self", "i"], ["a", "seq"]]
        {
            let error = chain.append(|event| keys.iter().for_each(|key| _ = event.put(key, 1))).unwrap_err();
            assert!(matches!(error, ChainError::Write(WriteError::Order { .. })), "{keys:?}: {error}");
        }
        let long = vec![b'x'; LINE_MAX];
        let error = chain.append(|event| _ = event.put("a", &long[..])).unwrap_err();
        assert!(matches!(error, ChainError::TooLong { len } if len > LINE_MAX));
        assert_eq!(chain.position(), before);

        let mut again = ChainWriter::at(before);
        let line = again.append(|event| _ = event.put("b", 2)).unwrap().to_vec();
        assert_eq!(chain.append(|event| _ = event.put("b", 2)).unwrap(), line);
    }
}
