//! Making the chain: each line carries the hash of the line before it and its own.
//!
//! `hash_self` is the SHA-256 of the line's canonical bytes without the member `hash_self`; `hash_prev` is the
//! `hash_self` of the line before, 64 zeros in the first; `seq` starts at 1 and rises by 1. [`ChainWriter`]
//! formats a line once, hashes it around the place of `hash_self` and puts the digits there. It writes to
//! no file.

use crate::Hash;
use crate::canonical::{Field, LINE_MAX, ObjectWriter, WriteError, scan};

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

/// Why a line could not be made. The chain then stands where it stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The keys are at fault.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The line is longer than a verifier accepts.
    #[error("a line of {len} bytes is longer than the {LINE_MAX} bytes that a line may have")]
    TooLong {
        /// Length of the line in bytes, without its newline.
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
#[derive(Clone, Debug)]
pub struct ChainWriter {
    at: Position,
    line: Vec<u8>,
}

impl Default for ChainWriter {
    fn default() -> Self {
        ChainWriter::at(Position::GENESIS)
    }
}

impl ChainWriter {
    /// A chain that goes on behind `position`, for example after a line that could not be stored.
    pub fn at(position: Position) -> Self {
        ChainWriter { at: position, line: Vec::with_capacity(4096) }
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
        let mut ahead = self.clone();
        ahead.append(fill)?;
        Ok(ahead.at.head)
    }

    /// Makes the next line, newline included.
    ///
    /// `fill` pushes the event's keys, ascending. `hash_prev`, `hash_self` and `seq` are put among them
    /// here; `fill` must not push them. On an error the chain stands where it stood.
    pub fn append(&mut self, fill: impl FnOnce(&mut EventWriter<'_>)) -> Result<&[u8], ChainError> {
        let seq = self.at.seq + 1;
        self.line.clear();
        let mut event = EventWriter {
            object: ObjectWriter::new(&mut self.line),
            prev: &self.at.head,
            seq,
            next: Link::Prev,
            slot: 0,
        };
        fill(&mut event);
        let slot = event.finish()?;

        if self.line.len() > LINE_MAX {
            return Err(ChainError::TooLong { len: self.line.len() });
        }
        let head = Hash::of(&[&self.line[..slot], &self.line[slot + SLOT.len()..]]);
        let digits = slot + SLOT.len() - Hash::DIGITS - 1;
        self.line[digits..digits + Hash::DIGITS].copy_from_slice(head.digits());
        self.line.push(b'\n');
        self.at = Position { seq, head };
        Ok(&self.line)
    }
}

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

/// The member `hash_self`, its digits still unknown, with the separator before it.
const SLOT: &[u8] = b", \"hash_self\": \"0000000000000000000000000000000000000000000000000000000000000000\"";

/// The chain's own keys in the order in which they stand in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Prev,
    Itself,
    Seq,
    None,
}

impl Link {
    fn key(self) -> Option<&'static str> {
        match self {
            Link::Prev => Some("hash_prev"),
            Link::Itself => Some("hash_self"),
            Link::Seq => Some("seq"),
            Link::None => None,
        }
    }
}

/// Takes the keys of one event, ascending.
#[derive(Debug)]
pub struct EventWriter<'b> {
    object: ObjectWriter<'b>,
    prev: &'b Hash,
    seq: u64,
    next: Link,
    /// Where `hash_self` stands in the buffer.
    slot: usize,
}

impl EventWriter<'_> {
    /// Writes a key and its value.
    pub fn put<'v>(&mut self, key: &str, value: impl Into<Field<'v>>) -> &mut Self {
        self.link_up_to(key);
        self.object.put(key, value);
        self
    }

    /// Writes a key and a list of byte strings.
    pub fn list<I>(&mut self, key: &str, items: I) -> &mut Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.link_up_to(key);
        self.object.list(key, items);
        self
    }

    /// Writes those of the chain's own keys that stand before `key`, and the one that it equals: pushing that
    /// again is then the error of a key that stands twice.
    fn link_up_to(&mut self, key: &str) {
        while self.next.key().is_some_and(|own| own <= key) {
            self.link();
        }
    }

    fn link(&mut self) {
        self.next = match self.next {
            Link::Prev => {
                self.object.put("hash_prev", &self.prev.digits()[..]);
                Link::Itself
            }
            Link::Itself => {
                self.slot = self.object.len();
                self.object.reserve("hash_self", SLOT);
                Link::Seq
            }
            Link::Seq | Link::None => {
                self.object.put("seq", self.seq);
                Link::None
            }
        };
    }

    fn finish(mut self) -> Result<usize, WriteError> {
        while self.next != Link::None {
            self.link();
        }
        self.object.finish()?;
        Ok(self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::Record;

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
