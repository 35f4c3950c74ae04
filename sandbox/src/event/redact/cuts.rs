//! The parts of a text that are to be cut out.

use std::ops::Range;

use super::{names, shapes};

/// What stands in the place of a secret.
pub const REDACTED: &[u8] = b"[redacted]";

/// Whether the text around is read by a shell before anybody else reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is what it is.
    Plain,
    /// `$NAME` and `$(…)` stand for something else.
    Shell,
}

/// Parts of one word, in any order; they may overlap.
#[derive(Debug)]
pub struct Cuts {
    ranges: Vec<Range<usize>>,
    /// Where the text that is being looked at begins in the word.
    base: usize,
    read: Read,
}

impl Default for Cuts {
    fn default() -> Self {
        Self { ranges: Vec::new(), base: 0, read: Read::Plain }
    }
}

impl Cuts {
    /// Cuts this part of the text that is being looked at.
    pub fn add(&mut self, part: Range<usize>) {
        if !part.is_empty() {
            self.ranges.push(self.base + part.start..self.base + part.end);
        }
    }

    /// Cuts a value, but for the beginning that says what kind of token it is, and unless it says nothing or is a name
    /// that a shell replaces.
    pub fn add_value(&mut self, text: &[u8], part: Range<usize>) {
        let value = &text[part.clone()];
        if names::is_plain_answer(value) || (self.read == Read::Shell && is_replaced(value)) {
            return;
        }
        self.add(part.start + shapes::prefix_len(value)..part.end);
    }

    /// Whether a shell reads the text.
    pub fn read(&self) -> Read {
        self.read
    }

    /// Looks at a part of the text, read as `read` says.
    pub fn within<T>(&mut self, at: usize, read: Read, look: impl FnOnce(&mut Cuts) -> T) -> T {
        let before = (self.base, self.read);
        (self.base, self.read) = (self.base + at, read);
        let looked = look(self);
        (self.base, self.read) = before;
        looked
    }

    /// Whether nothing is to be cut.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Forgets everything, for the next word.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The word without these parts; `None` where they were cut out before.
    pub fn apply(&mut self, word: &[u8]) -> Option<Vec<u8>> {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut out = Vec::with_capacity(word.len());
        let mut done = 0;
        let mut ranges = self.ranges.iter().peekable();
        while let Some(first) = ranges.next() {
            let mut end = first.end;
            while let Some(next) = ranges.next_if(|next| next.start <= end) {
                end = end.max(next.end);
            }
            out.extend_from_slice(&word[done..first.start]);
            // What was cut before stays one mark.
            if !out.ends_with(REDACTED) || done != first.start {
                out.extend_from_slice(REDACTED);
            }
            done = end;
        }
        out.extend_from_slice(&word[done..]);
        (out != word).then_some(out)
    }
}

/// Whether a shell puts something else in the place of all of this: `$NAME`, `${NAME}`, `$(command)`.
fn is_replaced(value: &[u8]) -> bool {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    match inner {
        // A parenthesis ends a word.
        [b'$'] | [b'$', b'(', ..] | [b'`', ..] => true,
        [b'$', b'{', rest @ .., b'}'] => is_variable(rest.split(|b| *b == b':').next().unwrap_or_default()),
        [b'$', rest @ ..] => is_variable(rest),
        _ => false,
    }
}

fn is_variable(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}
