//! Lines that look like earlier ones, proven by comparing.
//!
//! A log has few kinds of lines, and most of a line's bytes are those of an earlier line of its kind: all keys, and the
//! values that never change. A [`Shape`] is such an earlier line with the places where others differ. A line has that
//! shape if it has the same bytes everywhere else, and in those places canonical values. Then it is canonical too: its
//! keys are the same in the same order, and no value's form depends on what stands around it.
//!
//! Shapes are learned from lines that were proven canonical. They only save time: what has no known shape is read closely.
//! What is kept is bounded in number and length, whatever the log.

use crate::Hash;
use crate::canonical::{Raw, quick_integer, quick_text, quick_value};

/// How many shapes are kept.
const SHAPES: usize = 32;

/// The longest line that is kept, in bytes with its newline.
const LINE: usize = 4 << 10;

/// How many members such a line has at most.
pub(super) const MEMBERS: usize = 64;

/// Where all places are taken, one in so many lines without a shape gets one. To learn costs more than to read.
const PATIENCE: u32 = 64;

/// Bytes that are compared together.
const CHUNK: usize = 16;

/// What a member is for the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `hash_prev`, of 64 digits.
    Prev,
    /// `hash_self`, of 64 digits.
    Itself,
    /// `seq`.
    Seq,
    /// Its value is judged, so that another value is another shape.
    Fixed,
    /// A string of no meaning.
    Text,
    /// An integer of no meaning.
    Integer,
    /// A value of no meaning and any kind.
    Value,
}

impl Role {
    /// That of a value without a meaning.
    pub fn of(raw: Raw<'_>) -> Role {
        match raw {
            Raw::Text(_) => Role::Text,
            Raw::Integer(_) => Role::Integer,
            Raw::Flag(_) | Raw::List(_) => Role::Value,
        }
    }
}

/// Where a member stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset of the quote before the key.
    pub start: usize,
    /// Offset of the value.
    pub value: usize,
    /// Offset behind the value.
    pub end: usize,
    pub role: Role,
}

impl Place {
    fn key<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        &line[self.start..self.value]
    }

    fn value<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        &line[self.value..self.end]
    }
}

/// What the next line must say of its place in the log.
#[derive(Clone, Debug)]
pub(super) struct Due<'t> {
    /// `hash_prev`: the digits that the line before it has as `hash_self`.
    pub prev: &'t [u8; Hash::DIGITS],
    /// `seq`.
    pub seq: Decimal,
}

/// A line that has a known shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where the digits of `hash_self` stand: 64 bytes that are not proven to be digits.
    pub itself: usize,
    /// Its length with its newline.
    pub length: usize,
}

/// The shapes that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// The shape of the line before.
    last: usize,
    /// Lines that found no place.
    turned_away: u32,
}

impl Shapes {
    /// Finds the shape of the line at the beginning of `text`, whose place in the log must be the one that is `due`.
    ///
    /// If the 64 bytes of `hash_self` are digits the line is canonical and ends with a newline, and its other judged
    /// members are those of a line that was learned. `None` says nothing.
    #[inline]
    pub fn find(&mut self, text: &[u8], due: &Due<'_>) -> Option<Found> {
        let likely = self.known.get(self.last)?.next;
        let mut at = likely;
        let mut found = self.known.get_mut(likely)?.fits(text, due);
        let mut others = (0..self.known.len()).filter(|other| *other != likely);
        while found.is_none() {
            at = others.next()?;
            found = self.known[at].fits(text, due);
        }
        self.known[self.last].next = at;
        self.last = at;
        found
    }

    /// Learns from a line that is canonical, ends with a newline and has these members.
    pub fn learn(&mut self, line: &[u8], places: &[Place]) {
        if line.len() > LINE || places.len() > MEMBERS {
            return;
        }
        if let Some(at) = self.known.iter().position(|shape| shape.is_of(line, places)) {
            self.known[at].widen(line, places);
        } else if self.known.len() < SHAPES {
            self.known.push(Shape::of(line, places));
        } else {
            self.turned_away = self.turned_away.wrapping_add(1);
            if self.turned_away.is_multiple_of(PATIENCE) {
                self.known[(self.turned_away / PATIENCE) as usize % SHAPES] = Shape::of(line, places);
            }
        }
    }
}

/// Lines with the same keys and values of the same kinds.
#[derive(Clone, Debug)]
struct Shape {
    /// One of them.
    line: Vec<u8>,
    /// Its members, and whether other lines have other values there.
    members: Vec<(Place, bool)>,
    /// How a line is compared with it.
    steps: Vec<Step>,
    /// What is compared in the steps.
    chunks: Vec<Chunk>,
    /// The shape that a line behind one of this shape had most lately.
    next: usize,
}

/// Bytes that all lines have, and what follows them.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// How many bytes these are.
    length: usize,
    /// Where they stand among the chunks.
    chunks: (usize, usize),
    then: Option<Role>,
    /// How long the value that follows probably is.
    likely: usize,
}

/// Sixteen bytes, zeros where anything may stand.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    bytes: [u8; CHUNK],
    /// All ones where a byte is compared.
    mask: [u8; CHUNK],
}

impl Shape {
    fn of(line: &[u8], places: &[Place]) -> Shape {
        let mut shape =
            Shape { line: Vec::new(), members: Vec::new(), steps: Vec::new(), chunks: Vec::new(), next: 0 };
        let differs = |place: &Place| matches!(place.role, Role::Prev | Role::Itself | Role::Seq);
        shape.set(line, places.iter().map(|place| (*place, differs(place))).collect());
        shape
    }

    /// Whether a line has the same keys, kinds of values and judged values.
    fn is_of(&self, line: &[u8], places: &[Place]) -> bool {
        self.members.len() == places.len()
            && self.members.iter().zip(places).all(|((own, _), place)| {
                own.role == place.role
                    && own.key(&self.line) == place.key(line)
                    && (own.role != Role::Fixed || own.value(&self.line) == place.value(line))
            })
    }

    /// Lets values differ where those of `line` do, which is one of these lines.
    fn widen(&mut self, line: &[u8], places: &[Place]) {
        let members: Vec<(Place, bool)> = (self.members.iter().zip(places))
            .map(|((own, differs), place)| (*place, *differs || own.value(&self.line) != place.value(line)))
            .collect();
        let is_wider = self.members.iter().zip(&members).any(|((_, before), (_, after))| before != after);
        if is_wider {
            self.set(line, members);
        }
    }

    fn set(&mut self, line: &[u8], members: Vec<(Place, bool)>) {
        self.steps.clear();
        self.chunks.clear();
        let mut from = 0;
        for (place, _) in members.iter().filter(|(_, differs)| *differs) {
            // The quotes of a string are the same in all lines.
            let quote = usize::from(!matches!(place.role, Role::Seq | Role::Integer | Role::Value));
            self.step(&line[from..place.value + quote], Some(place.role));
            from = place.end - quote;
        }
        self.step(&line[from..], None);
        self.line.clear();
        self.line.extend_from_slice(line);
        self.members = members;
    }

    fn step(&mut self, bytes: &[u8], then: Option<Role>) {
        let from = self.chunks.len();
        self.chunks.extend(bytes.chunks(CHUNK).map(|bytes| {
            let mut chunk = Chunk::default();
            chunk.bytes[..bytes.len()].copy_from_slice(bytes);
            chunk.mask[..bytes.len()].fill(0xff);
            chunk
        }));
        self.steps.push(Step { length: bytes.len(), chunks: (from, self.chunks.len()), then, likely: 0 });
    }

    /// Compares the line at the beginning of `text`.
    #[inline]
    fn fits(&mut self, text: &[u8], due: &Due<'_>) -> Option<Found> {
        let (mut at, mut itself) = (0, 0);
        for step in &mut self.steps {
            let chunks = self.chunks.get(step.chunks.0..step.chunks.1)?;
            // What stands behind the line may be too short to be compared.
            let found = text.get(at..at + chunks.len() * CHUNK)?;
            if !are_equal(found, chunks) {
                return None;
            }
            at += step.length;
            at = match step.then {
                None => break,
                Some(Role::Prev) if *text[at..].first_chunk()? == *due.prev => at + Hash::DIGITS,
                Some(Role::Prev) => return None,
                Some(Role::Itself) => {
                    itself = at;
                    at + Hash::DIGITS
                }
                Some(Role::Seq) => at + due.seq.begins(text.get(at..)?)?,
                Some(Role::Text) => quick_text(text, at, &mut step.likely)?,
                Some(Role::Integer) => quick_integer(text, at, &mut step.likely)?,
                Some(Role::Fixed | Role::Value) => quick_value(text, at)?,
            }
        }
        Some(Found { itself, length: at })
    }
}

#[inline(always)]
fn are_equal(text: &[u8], chunks: &[Chunk]) -> bool {
    let mut differences = [0; CHUNK];
    for (text, Chunk { bytes, mask }) in text.as_chunks::<CHUNK>().0.iter().zip(chunks) {
        for at in 0..CHUNK {
            differences[at] |= (text[at] ^ bytes[at]) & mask[at];
        }
    }
    u128::from_ne_bytes(differences) == 0
}

/// A number as it is written, which counts up.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    value: u64,
    /// The digits of a number of at most sixteen.
    digits: [u8; CHUNK],
    length: usize,
}

impl Decimal {
    pub fn new(value: u64) -> Decimal {
        let length = value.checked_ilog10().unwrap_or(0) as usize + 1;
        let mut digits = [0; CHUNK];
        let mut rest = value;
        for digit in digits.get_mut(..length).unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        Decimal { value, digits, length }
    }

    pub fn value(&self) -> u64 {
        self.value
    }

    /// Goes on to the next number.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.value += 1;
        match self.length.checked_sub(1).and_then(|last| self.digits.get_mut(last)) {
            Some(last @ b'0'..=b'8') => *last += 1,
            _ => *self = Decimal::new(self.value),
        }
    }

    /// How many bytes of `text` are this number, if it begins with it and has some bytes more.
    #[inline(always)]
    fn begins(&self, text: &[u8]) -> Option<usize> {
        let different = u128::from_le_bytes(*text.first_chunk()?) ^ u128::from_le_bytes(self.digits);
        let beyond = 128u32.checked_sub(8 * self.length as u32)?;
        (different.checked_shl(beyond)? == 0).then_some(self.length)
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
