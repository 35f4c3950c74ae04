//! Reading one line and printing it anew in one pass.
//!
//! The printed form is made while the text is read; an object whose members turn out not to be in order is
//! put in order when it ends. No tree is built, so memory stays a small multiple of the line.

use super::float::write_float;
use crate::canonical::{write_char, write_unit};

/// How deep objects and lists may nest, the outermost object included.
pub const MAX_DEPTH: usize = 994;

/// How many digits an integer may have.
pub const MAX_DIGITS: usize = 4300;

/// Why Python would not read a line, or would read something that is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("byte {offset}: not UTF-8")]
    Utf8 {
        /// Offset in the line, bytes from 0.
        offset: usize,
    },
    /// Not JSON.
    #[error("byte {offset}: expected {expected}")]
    Syntax {
        /// Offset in the line, bytes from 0.
        offset: usize,
        /// What could have stood there.
        expected: &'static str,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("byte {offset}: nested deeper than {MAX_DEPTH}")]
    Depth {
        /// Offset in the line, bytes from 0.
        offset: usize,
    },
    /// An integer of more than [`MAX_DIGITS`] digits.
    #[error("byte {offset}: an integer of more than {MAX_DIGITS} digits")]
    Digits {
        /// Offset in the line, bytes from 0.
        offset: usize,
    },
    /// JSON, and no object.
    #[error("not a JSON object")]
    NotAnObject,
}

/// Where a member stands in the printed text, and its key.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The key's characters in `Printer::keys`: UTF-8, with surrogates encoded as if they were characters, so
    /// that the order of bytes is the order of code points.
    key: (usize, usize),
    /// From the quote before the key.
    start: usize,
    /// From the first character of the value.
    value: usize,
    end: usize,
}

/// One object, printed as Python prints it.
#[derive(Debug)]
pub struct Object {
    text: Vec<u8>,
    keys: Vec<u8>,
    entries: Vec<Entry>,
}

impl Object {
    /// Reads one line, with or without white space around the object.
    pub fn parse(line: &[u8]) -> Result<Object, JsonError> {
        let line =
            std::str::from_utf8(line).map_err(|error| JsonError::Utf8 { offset: error.valid_up_to() })?;
        let mut printer = Printer { line, at: 0, text: Vec::with_capacity(line.len()), keys: Vec::new() };
        printer.space();
        let entries = if printer.peek() == Some(b'{') {
            Some(printer.members(1)?)
        } else {
            printer.value(1)?;
            None
        };
        printer.space();
        if printer.peek().is_some() {
            return Err(printer.expected("the end of the line"));
        }
        let mut entries = entries.ok_or(JsonError::NotAnObject)?;
        printer.sort(&mut entries);
        Ok(Object { text: printer.text, keys: printer.keys, entries })
    }

    /// The printed value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let at = self.entries.binary_search_by(|entry| self.key(entry).cmp(key.as_bytes())).ok()?;
        let entry = &self.entries[at];
        Some(&self.text[entry.value..entry.end])
    }

    /// Appends the object without one of its keys.
    pub fn print_without(&self, key: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut separator: &[u8] = b"";
        for entry in self.entries.iter().filter(|entry| self.key(entry) != key.as_bytes()) {
            out.extend_from_slice(separator);
            out.extend_from_slice(&self.text[entry.start..entry.end]);
            separator = b", ";
        }
        out.push(b'}');
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.keys[entry.key.0..entry.key.1]
    }
}

struct Printer<'l> {
    line: &'l str,
    at: usize,
    text: Vec<u8>,
    keys: Vec<u8>,
}

impl Printer<'_> {
    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax { offset: self.at, expected }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let there = self.line.as_bytes()[self.at..].starts_with(text.as_bytes());
        self.at += if there { text.len() } else { 0 };
        there
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => {
                let start = self.text.len();
                let keys = self.keys.len();
                let mut entries = self.members(depth)?;
                let ascending = self.sort(&mut entries);
                self.close_object(start, &entries, ascending);
                self.keys.truncate(keys);
                Ok(())
            }
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string(Purpose::Value),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for constant in ["null", "true", "false", "NaN", "Infinity"] {
                    if self.eat(constant) {
                        self.text.extend_from_slice(constant.as_bytes());
                        return Ok(());
                    }
                }
                Err(self.expected("a value"))
            }
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::Depth { offset: self.at });
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        self.text.push(b'[');
        if self.peek() != Some(b']') {
            loop {
                self.value(depth + 1)?;
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.space();
                self.text.extend_from_slice(b", ");
            }
        }
        if !self.eat("]") {
            return Err(self.expected("`,` or `]`"));
        }
        self.text.push(b']');
        Ok(())
    }

    /// Prints the members of an object in the order in which they stand, `, ` between them.
    fn members(&mut self, depth: usize) -> Result<Vec<Entry>, JsonError> {
        self.enter(depth)?;
        let mut entries = Vec::new();
        self.text.push(b'{');
        if self.peek() != Some(b'}') {
            loop {
                let start = self.text.len();
                let key = self.keys.len();
                if self.peek() != Some(b'"') {
                    return Err(self.expected("a key"));
                }
                self.string(Purpose::Key)?;
                let key = (key, self.keys.len());
                self.space();
                if !self.eat(":") {
                    return Err(self.expected("`:`"));
                }
                self.space();
                self.text.extend_from_slice(b": ");
                let value = self.text.len();
                self.value(depth + 1)?;
                entries.push(Entry { key, start, value, end: self.text.len() });
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.space();
                self.text.extend_from_slice(b", ");
            }
        }
        if !self.eat("}") {
            return Err(self.expected("`,` or `}`"));
        }
        Ok(entries)
    }

    /// Puts entries in order and keeps the last of equal keys; says whether they were so already.
    fn sort(&self, entries: &mut Vec<Entry>) -> bool {
        let key = |entry: &Entry| &self.keys[entry.key.0..entry.key.1];
        if entries.is_sorted_by(|a, b| key(a) < key(b)) {
            return true;
        }
        // Stable, so that equal keys stay in the order of the line; then the last shall be first.
        entries.reverse();
        entries.sort_by(|a, b| key(a).cmp(key(b)));
        entries.dedup_by(|later, first| key(later) == key(first));
        false
    }

    /// Ends the object that was begun at `start`, with its members as `entries` order them.
    fn close_object(&mut self, start: usize, entries: &[Entry], ascending: bool) {
        if !ascending {
            let mut ordered = Vec::with_capacity(self.text.len() - start);
            for (index, entry) in entries.iter().enumerate() {
                ordered.extend_from_slice(if index > 0 { b", " } else { b"" });
                ordered.extend_from_slice(&self.text[entry.start..entry.end]);
            }
            self.text.truncate(start + 1);
            self.text.extend_from_slice(&ordered);
        }
        self.text.push(b'}');
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.eat("-Infinity") {
            self.text.extend_from_slice(b"-Infinity");
            return Ok(());
        }
        let start = self.at;
        self.eat("-");
        let digits = self.at;
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.expected("a digit")),
        }
        let whole = self.at;
        self.fraction();
        self.exponent();
        let text = &self.line[start..self.at];
        if self.at > whole {
            write_float(&mut self.text, text.parse().unwrap_or(f64::NAN));
        } else if whole - digits > MAX_DIGITS {
            return Err(JsonError::Digits { offset: start });
        } else {
            self.text.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// Passes over `.digits`, or over nothing.
    fn fraction(&mut self) {
        if let [b'.', b'0'..=b'9', ..] = &self.line.as_bytes()[self.at..] {
            self.at += 1;
            self.digits();
        }
    }

    /// Passes over `e±digits`, or over nothing.
    fn exponent(&mut self) {
        let sign = match &self.line.as_bytes()[self.at..] {
            [b'e' | b'E', b'0'..=b'9', ..] => 0,
            [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => 1,
            _ => return,
        };
        self.at += 1 + sign;
        self.digits();
    }

    fn string(&mut self, purpose: Purpose) -> Result<(), JsonError> {
        self.at += 1;
        self.text.push(b'"');
        loop {
            match self.line[self.at..].chars().next() {
                None => return Err(self.expected("`\"`")),
                Some('"') => break,
                Some('\\') => {
                    let code = self.escape()?;
                    self.code(code, purpose);
                }
                Some(control) if control < ' ' => return Err(self.expected("no control character")),
                Some(char) => {
                    self.at += char.len_utf8();
                    self.code(u32::from(char), purpose);
                }
            }
        }
        self.at += 1;
        self.text.push(b'"');
        Ok(())
    }

    /// Prints one code point, and remembers it if it is part of a key.
    fn code(&mut self, code: u32, purpose: Purpose) {
        match char::from_u32(code) {
            Some(char) => {
                write_char(&mut self.text, char);
                if let Purpose::Key = purpose {
                    self.keys.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            None => {
                write_unit(&mut self.text, code as u16);
                if let Purpose::Key = purpose {
                    let tail = |bits: u32| 0x80 | (bits & 0x3f) as u8;
                    self.keys.extend_from_slice(&[0xed, tail(code >> 6), tail(code)]);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let code = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'b') => 0x8,
            Some(b'f') => 0xc,
            Some(b'u') => {
                self.at += 1;
                let high = self.unit()?;
                if !(0xd800..=0xdbff).contains(&high) || !self.eat("\\u") {
                    return Ok(high);
                }
                let low = self.unit()?;
                if (0xdc00..=0xdfff).contains(&low) {
                    return Ok(0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff));
                }
                self.at -= "\\uXXXX".len();
                return Ok(high);
            }
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(u32::from(code))
    }

    fn unit(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.expected("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// What a string is for.
#[derive(Clone, Copy)]
enum Purpose {
    Key,
    Value,
}
