//! A piece of a log judged by itself: quickly, and only if all of its lines are plain.
//!
//! A plain line is a whole canonical line of the run that follows the one before it and says nothing about the log
//! itself. Of a piece with plain lines alone a [`Summary`] says all that the judge would have learned from them, once
//! it is known to follow what came before. Everything else is left to the judge of [`super::state`], line by line.

use super::shape::{Decimal, Due, MEMBERS, Place, Role, Shapes};
use super::state::{State, is_statement};
use crate::Hash;
use crate::canonical::{QuickMember, key_word, quick_object};
use crate::hash::sha256;
use crate::lanes;
use crate::merkle::{Node, Span};

/// What lines are compared with.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// `run_id` of the first line, as it is written there.
    pub run_id: Option<Vec<u8>>,
    /// The head that is expected at the end.
    pub expected_head: Option<Hash>,
}

/// What plain lines come to.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    /// `hash_prev` of the first line.
    prev: Hash,
    /// `seq` of the first line.
    first: u64,
    /// How many lines there are.
    lines: u64,
    /// `hash_self` of the last line.
    head: Hash,
    /// Events that gaps say were lost.
    lost: u64,
    /// `seq` of the first line that has the expected head.
    anchored: Option<u64>,
    /// The part of the tree over these lines.
    span: Span,
}

/// No log has as many lines.
const SEQ_MAX: u64 = 1 << 62;

/// Judges pieces, each quicker for what it saw in those before. Its answers do not depend on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    shapes: Shapes,
    /// Members of the line that is read, in memory that is used again.
    places: Vec<Place>,
    /// Hashes of the lines of a piece, likewise.
    entries: Vec<Node>,
}

impl Judge {
    /// Judges whole lines, each with its newline. `None` if one of them is not plain, or there is none.
    pub fn summary(&mut self, bytes: &[u8], terms: &Terms) -> Option<Summary> {
        self.places.clear();
        let (first, _) = PlainLine::of(bytes, &mut self.places)?;
        let (prev, first) = (Hash::from_digits(first.prev)?, first.seq);
        if first == 0 || first > SEQ_MAX {
            return None;
        }
        let mut rest =
            Rest { text: bytes, due: Due { prev: prev.digits(), seq: Decimal::new(first) }, terms };
        let (mut head, mut lost, mut anchored) = (prev, 0u64, None);
        self.entries.clear();
        while !rest.text.is_empty() {
            // Two at a time, because two are hashed in little more time than one.
            let one = self.line(&mut rest)?;
            let two = if rest.text.is_empty() { None } else { Some(self.line(&mut rest)?) };
            let hashes = match &two {
                Some(two) => lanes::both([one.message, two.message]),
                None => [sha256(&one.message), Node::default()],
            };
            for (line, hash) in [Some(one), two].into_iter().flatten().zip(hashes) {
                head = Hash::from_bytes(&hash);
                if line.itself != head.digits() {
                    return None;
                }
                lost = lost.saturating_add(line.lost);
                if terms.expected_head == Some(head) {
                    anchored = anchored.or(Some(first + self.entries.len() as u64));
                }
                self.entries.push(hash);
            }
        }
        let span = Span::of(first - 1, &self.entries);
        Some(Summary { prev, first, lines: self.entries.len() as u64, head, lost, anchored, span })
    }

    /// Takes the next line, whose `hash_self` is still to be compared with its hash.
    #[inline]
    fn line<'t>(&mut self, rest: &mut Rest<'t, '_>) -> Option<Linked<'t>> {
        let text = rest.text;
        let (itself, length, lost) = match self.shapes.find(text, &rest.due) {
            Some(found) => (found.itself, found.length, 0),
            None => self.closely(rest)?,
        };
        let digits = text.get(itself..)?.first_chunk()?;
        // hash_prev stands before it, so a separator does too.
        let before = text.get(..itself - b", \"hash_self\": \"".len())?;
        let behind = text.get(itself + Hash::DIGITS + b"\"".len()..length - b"\n".len())?;
        rest.text = &text[length..];
        rest.due.prev = digits;
        rest.due.seq.advance();
        Some(Linked { itself: digits, message: [before, behind], lost })
    }

    /// Reads a line without a known shape: where the digits of its `hash_self` stand, its length with its newline, and
    /// how many events it says were lost.
    fn closely(&mut self, rest: &Rest<'_, '_>) -> Option<(usize, usize, u64)> {
        self.places.clear();
        let (line, length) = PlainLine::of(rest.text, &mut self.places)?;
        let (itself, start) = line.itself;
        let due = &rest.due;
        let follows = line.prev == due.prev && line.seq == due.seq.value() && itself.len() == Hash::DIGITS;
        if !follows || line.run_id != rest.terms.run_id.as_deref() || is_statement(line.event_type) {
            return None;
        }
        let lost = if line.event_type == b"gap" {
            line.lost.unwrap_or(0)
        } else {
            // A line of a known shape says nothing of losses.
            self.shapes.learn(&rest.text[..length], &self.places);
            0
        };
        Some((start, length, lost))
    }
}

/// Lines that are still to be judged.
struct Rest<'t, 's> {
    text: &'t [u8],
    due: Due<'t>,
    terms: &'s Terms,
}

/// A plain line, if its hash is what it says.
struct Linked<'t> {
    itself: &'t [u8; Hash::DIGITS],
    /// The line without `hash_self`: what stands before it and behind it.
    message: [&'t [u8]; 2],
    lost: u64,
}

impl Summary {
    /// Whether these lines come next.
    pub fn follows(&self, state: &State) -> bool {
        self.first == state.lines + 1 && self.prev == state.prev && state.lines == state.tree.len()
    }

    /// Learns what the lines say, which come next.
    pub fn tell(self, state: &mut State) {
        state.lines += self.lines;
        state.events += self.lines;
        state.prev = self.head;
        state.lost = state.lost.saturating_add(self.lost);
        state.log_line_seen = true;
        state.anchored = state.anchored.or(self.anchored);
        state.tree.extend(&self.span);
    }
}

/// The members of a plain line that are judged, as they are written.
struct PlainLine<'l> {
    prev: &'l [u8],
    /// `hash_self`, and where its text stands.
    itself: (&'l [u8], usize),
    seq: u64,
    event_type: &'l [u8],
    run_id: Option<&'l [u8]>,
    lost: Option<u64>,
}

impl<'l> PlainLine<'l> {
    /// The line at the beginning of `text`, and its length with the newline that must follow. Its members are added to
    /// `places`.
    fn of(text: &'l [u8], places: &mut Vec<Place>) -> Option<(PlainLine<'l>, usize)> {
        const EVENT_TYPE: u64 = key_word(b"event_type");
        const HASH_PREV: u64 = key_word(b"hash_prev");
        const HASH_SELF: u64 = key_word(b"hash_self");
        const LOST: u64 = key_word(b"lost");
        const RUN_ID: u64 = key_word(b"run_id");
        const SEQ: u64 = key_word(b"seq");
        let (mut prev, mut itself, mut seq) = (None, None, None);
        let (mut event_type, mut run_id, mut lost) = (None, None, None);
        let length = quick_object(text, |QuickMember { word, key, raw, start, end }| {
            let value = start + key.len() + b"\"\": ".len();
            let role = match word {
                EVENT_TYPE if key == b"event_type" => {
                    event_type = raw.as_text();
                    Role::Fixed
                }
                HASH_PREV if key == b"hash_prev" => {
                    prev = raw.as_text();
                    Role::Prev
                }
                HASH_SELF if key == b"hash_self" => {
                    itself = raw.as_text().map(|text| (text, value + b"\"".len()));
                    Role::Itself
                }
                LOST => {
                    lost = raw.as_u64();
                    Role::of(raw)
                }
                RUN_ID => {
                    run_id = raw.as_text();
                    Role::Fixed
                }
                SEQ => {
                    seq = raw.as_u64();
                    Role::Seq
                }
                _ => Role::of(raw),
            };
            // Of more it is enough to know that they are too many.
            if places.len() <= MEMBERS {
                places.push(Place { start, value, end, role });
            }
        })?;
        if *text.get(length)? != b'\n' {
            return None;
        }
        let (prev, itself, seq, event_type) = (prev?, itself?, seq?, event_type?);
        Some((PlainLine { prev, itself, seq, event_type, run_id, lost }, length + 1))
    }
}
