//! The name, byte by byte: stored the first time, compared when it comes again.

use super::{Hello, MAX_NAME, mark};

impl Hello {
    /// Before the first byte of a name.
    #[inline(always)]
    pub(super) fn begin_name(&mut self) {
        self.cursor = 0;
        self.marks &= !(mark::DOT | mark::COLON | mark::NOT_HEX);
    }

    /// A byte of the name; false where no name has it, or the name that is stored is another.
    #[inline(always)]
    pub(super) fn name_byte(&mut self, byte: u8) -> bool {
        let byte = byte.to_ascii_lowercase();
        let at = self.cursor;
        if at as usize == MAX_NAME {
            return false;
        }
        if byte == b'.' {
            // No label is empty; a dot at the very end is the root's.
            if at == 0 || self.marked(mark::DOT) {
                return false;
            }
            self.marks |= mark::DOT;
        } else {
            self.marks &= !mark::DOT;
            if byte == b':' {
                self.marks |= mark::COLON;
            } else if !byte.is_ascii_digit() && !matches!(byte, b'a'..=b'f') {
                if !matches!(byte, b'g'..=b'z' | b'-' | b'_') {
                    return false;
                }
                self.marks |= mark::NOT_HEX;
            }
        }
        self.cursor = at.wrapping_add(1);
        if !self.marked(mark::NAMED) {
            self.name[at as usize] = byte;
            return true;
        }
        if at < self.length { self.name[at as usize] == byte } else { at == self.length && byte == b'.' }
    }

    /// Behind the last byte of a name; false where it is none, or another than the one that is stored.
    #[inline(always)]
    pub(super) fn end_name(&mut self) -> bool {
        let dot = self.marked(mark::DOT) as u8;
        let length = self.cursor.wrapping_sub(dot);
        if self.cursor == 0 || self.marked(mark::COLON) && self.marked(mark::NOT_HEX) {
            return false;
        }
        if self.marked(mark::NAMED) {
            return length == self.length;
        }
        self.length = length;
        self.marks |= mark::NAMED;
        true
    }
}
