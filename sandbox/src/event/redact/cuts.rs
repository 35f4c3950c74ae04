//! The parts of a text that are to be cut out.

use std::ops::Range;

use super::{names, replaced, shapes};

/// What stands in the place of a secret.
pub const REDACTED: &[u8] = b"[redacted]";

/// Who reads the text around before anybody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is what it is.
    Plain,
    /// `$NAME` and `$(…)` stand for something else.
    Shell,
    /// So they do in a program, and names without quotes do too.
    Code,
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

#[cfg(test)]
impl Cuts {
    /// A text without what is found in it.
    pub fn redacted(text: &str, find: fn(&[u8], &mut Cuts)) -> String {
        let mut cuts = Cuts::default();
        find(text.as_bytes(), &mut cuts);
        let word = cuts.apply(text.as_bytes()).unwrap_or_else(|| text.into());
        String::from_utf8(word).unwrap()
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
        let part = if self.read == Read::Plain {
            part
        } else {
            let literal = replaced::literal(&text[part.clone()]);
            part.start + literal.start..part.start + literal.end
        };
        let value = &text[part.clone()];
        if names::is_plain_answer(value) {
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
