//! A piece of a log judged by itself: quickly, and only if all of its lines are plain.
//!
//! A plain line is a whole canonical line of the run that follows the one before it and says nothing about the log
//! itself. Of a piece with plain lines alone a [`Summary`] says all that the judge would have learned from them, once
//! it is known to follow what came before. Everything else is left to the judge of [`super::state`], line by line.

use super::state::{State, is_statement};
use crate::Hash;
use crate::canonical::{QuickMember, key_word, quick_object};
use crate::lanes::{self, Message};
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

impl Summary {
    /// Judges whole lines, each with its newline. `None` if one of them is not plain, or there is none.
    pub fn of(bytes: &[u8], terms: &Terms) -> Option<Summary> {
        let (first, _) = PlainLine::of(bytes)?;
        let (prev, first) = (Hash::from_digits(first.prev)?, first.seq);
        if first == 0 || first > SEQ_MAX {
            return None;
        }
        let (mut head, mut lost, mut anchored) = (prev, 0u64, None);
        let mut entries = Vec::with_capacity(bytes.len() / 512);
        let mut messages = [Message::default(), Message::default()];
        let mut rest = bytes;
        while !rest.is_empty() {
            // Two at a time, because two are hashed in little more time than one.
            let one = plain_line(&mut rest, &mut messages[0])?;
            let two = if rest.is_empty() { None } else { Some(plain_line(&mut rest, &mut messages[1])?) };
            let hashes = match two {
                Some(_) => lanes::both([&messages[0], &messages[1]]),
                None => [lanes::one(&messages[0]), Node::default()],
            };
            for (line, hash) in [Some(one), two].into_iter().flatten().zip(hashes) {
                let seq = first + entries.len() as u64;
                let follows = line.prev == head.digits() && line.seq == seq;
                if !follows || line.run_id != terms.run_id.as_deref() || is_statement(line.event_type) {
                    return None;
                }
                head = Hash::from_bytes(&hash);
                if line.itself.0 != head.digits() {
                    return None;
                }
                if line.event_type == b"gap" {
                    lost = lost.saturating_add(line.lost.unwrap_or(0));
                }
                if terms.expected_head == Some(head) {
                    anchored = anchored.or(Some(seq));
                }
                entries.push(hash);
            }
        }
        let span = Span::of(first - 1, &entries);
        Some(Summary { prev, first, lines: entries.len() as u64, head, lost, anchored, span })
    }

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

/// Takes a line off `text`, and makes what it hashes the message: itself without `hash_self`.
#[inline]
fn plain_line<'l>(text: &mut &'l [u8], message: &mut Message) -> Option<PlainLine<'l>> {
    let (line, length) = PlainLine::of(text)?;
    let (_, start, end) = line.itself;
    // hash_prev stands before it, so a separator does too.
    message.set(&[&text[..start - b", ".len()], &text[end..length]]);
    *text = &text[length + 1..];
    Some(line)
}

/// The members of a plain line that are judged, as they are written.
struct PlainLine<'l> {
    prev: &'l [u8],
    itself: (&'l [u8], usize, usize),
    seq: u64,
    event_type: &'l [u8],
    run_id: Option<&'l [u8]>,
    lost: Option<u64>,
}

impl<'l> PlainLine<'l> {
    /// The line at the beginning of `text`, and its length without the newline that must follow.
    #[inline]
    fn of(text: &'l [u8]) -> Option<(PlainLine<'l>, usize)> {
        const EVENT_TYPE: u64 = key_word(b"event_type");
        const HASH_PREV: u64 = key_word(b"hash_prev");
        const HASH_SELF: u64 = key_word(b"hash_self");
        const LOST: u64 = key_word(b"lost");
        const RUN_ID: u64 = key_word(b"run_id");
        const SEQ: u64 = key_word(b"seq");
        let (mut prev, mut itself, mut seq) = (None, None, None);
        let (mut event_type, mut run_id, mut lost) = (None, None, None);
        let length = quick_object(text, |QuickMember { word, key, raw, start, end }| match word {
            EVENT_TYPE if key == b"event_type" => event_type = raw.as_text(),
            HASH_PREV if key == b"hash_prev" => prev = raw.as_text(),
            HASH_SELF if key == b"hash_self" => itself = raw.as_text().map(|text| (text, start, end)),
            LOST => lost = raw.as_u64(),
            RUN_ID => run_id = raw.as_text(),
            SEQ => seq = raw.as_u64(),
            _ => {}
        })?;
        if *text.get(length)? != b'\n' {
            return None;
        }
        let (prev, itself, seq, event_type) = (prev?, itself?, seq?, event_type?);
        Some((PlainLine { prev, itself, seq, event_type, run_id, lost }, length))
    }
}
