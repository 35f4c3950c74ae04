//! Reading a canonical line: a proof of its form, and its values.
//!
//! This is a parser of hostile bytes. It accepts the writer's one form of each value and nothing else, so it
//! says at the first differing byte what should have stood there.

use std::borrow::Cow;
use std::fmt;

use super::write::write_string;
use super::{PLAIN, plain_prefix};

/// Where a line leaves the canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Offset in the line, in bytes from 0.
    pub offset: usize,
    /// What would have been canonical there.
    pub expected: &'static str,
    /// The byte that stands there; `None` where the line ends too early.
    pub found: Option<u8>,
}

impl Deviation {
    /// Whether the line is canonical as far as it goes, and ends too early.
    pub fn is_cut(&self) -> bool {
        self.found.is_none()
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: expected {}, found ", self.offset, self.expected)?;
        match self.found {
            None => f.write_str("the end of the line"),
            Some(byte @ 0x20..=0x7e) => write!(f, "`{}`", char::from(byte)),
            Some(byte) => write!(f, "byte 0x{byte:02x}"),
        }
    }
}

impl std::error::Error for Deviation {}

/// A value, proven canonical and not yet decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw<'l> {
    /// An integer of at most 64 bits.
    Integer(&'l [u8]),
    /// True or false.
    Flag(bool),
    /// What stands between the quotes of a string.
    Text(&'l [u8]),
    /// What stands between the brackets of a list of strings.
    List(&'l [u8]),
}

/// One key with its value, and where they stand in the line.
#[derive(Clone, Copy, Debug)]
pub struct Member<'l> {
    /// The key.
    pub key: &'l str,
    /// The value.
    pub raw: Raw<'l>,
    /// Offset of the quote before the key.
    pub start: usize,
    /// Offset behind the value.
    pub end: usize,
}

impl<'l> Raw<'l> {
    /// The integer, if it is one that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Raw::Integer(digits) => unsigned(digits),
            _ => None,
        }
    }

    /// The text between the quotes if it is a string; escapes are left as they are.
    pub fn as_text(&self) -> Option<&'l [u8]> {
        match self {
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value, decoded.
    pub fn decode(&self) -> Value<'l> {
        match *self {
            Raw::Flag(flag) => Value::Flag(flag),
            Raw::Text(text) => Value::Bytes(decode_text(text)),
            Raw::List(items) => Value::List(decode_list(items)),
            Raw::Integer(digits) => match digits.strip_prefix(b"-") {
                Some(digits) => {
                    Value::Int(0i64.saturating_sub_unsigned(unsigned(digits).unwrap_or(u64::MAX)))
                }
                None => {
                    let value = unsigned(digits).unwrap_or(u64::MAX);
                    i64::try_from(value).map_or(Value::Uint(value), Value::Int)
                }
            },
        }
    }
}

/// The number that decimal digits make, if it fits.
fn unsigned(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A value of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'l> {
    /// An integer that fits `i64`.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// True or false.
    Flag(bool),
    /// A byte string.
    Bytes(Cow<'l, [u8]>),
    /// A list of byte strings.
    List(Vec<Vec<u8>>),
}

/// Proves that `line` (without its newline) is canonical, and hands out its members in order.
pub fn scan<'l>(line: &'l [u8], mut member: impl FnMut(Member<'l>)) -> Result<(), Deviation> {
    let mut cursor = Cursor { line, at: 0 };
    cursor.literal(b"{", "`{`")?;
    let mut last_key: &[u8] = b"";
    if cursor.peek() != Some(b'}') {
        loop {
            let start = cursor.at;
            let key = cursor.key()?;
            if !last_key.is_empty() && last_key >= key {
                return Err(cursor.deviation_at(start + 1, "a key that sorts behind the one before it"));
            }
            last_key = key;
            cursor.literal(b": ", "`: ` behind the key")?;
            let raw = cursor.value()?;
            let key = std::str::from_utf8(key).unwrap_or_default();
            member(Member { key, raw, start, end: cursor.at });
            if cursor.peek() == Some(b'}') {
                break;
            }
            cursor.literal(b", ", "`, ` or `}`")?;
        }
    }
    cursor.literal(b"}", "`}`")?;
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(cursor.deviation("the end of the line behind `}`")),
    }
}

pub(super) struct Cursor<'l> {
    pub line: &'l [u8],
    pub at: usize,
}

impl<'l> Cursor<'l> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn deviation(&self, expected: &'static str) -> Deviation {
        self.deviation_at(self.at, expected)
    }

    fn deviation_at(&self, offset: usize, expected: &'static str) -> Deviation {
        Deviation { offset, expected, found: self.line.get(offset).copied() }
    }

    /// Passes over `literal`, or says at which of its bytes the line differs.
    fn literal(&mut self, literal: &[u8], expected: &'static str) -> Result<(), Deviation> {
        for byte in literal {
            if self.peek() != Some(*byte) {
                return Err(self.deviation(expected));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn key(&mut self) -> Result<&'l [u8], Deviation> {
        self.literal(b"\"", "a key")?;
        let start = self.at;
        self.at += plain_prefix(&self.line[start..]);
        let key = &self.line[start..self.at];
        if key.is_empty() {
            return Err(self.deviation("a key of at least one plain ASCII character"));
        }
        self.literal(b"\"", "plain ASCII in a key")?;
        Ok(key)
    }

    /// Passes over a value of any kind.
    pub fn value(&mut self) -> Result<Raw<'l>, Deviation> {
        match self.peek() {
            Some(b'"') => self.string().map(Raw::Text),
            Some(b'-' | b'0'..=b'9') => self.integer().map(Raw::Integer),
            Some(b'[') => self.list().map(Raw::List),
            Some(b't') => self.literal(b"true", "`true`").map(|()| Raw::Flag(true)),
            Some(b'f') => self.literal(b"false", "`false`").map(|()| Raw::Flag(false)),
            _ => Err(self.deviation("an integer, a string, true, false or a list of strings")),
        }
    }

    fn integer(&mut self) -> Result<&'l [u8], Deviation> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.at;
        self.at += self.line[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = &self.line[digits..self.at];
        let bound = if negative { i64::MIN.unsigned_abs() } else { u64::MAX };
        match text {
            [] => Err(self.deviation("a digit")),
            [b'0', _, ..] => Err(self.deviation_at(digits + 1, "an integer without leading zeros")),
            [b'0'] if negative => Err(self.deviation_at(start, "`0` without a sign")),
            _ if unsigned(text).is_none_or(|value| value > bound) => {
                Err(self.deviation_at(start, "an integer of at most 64 bits"))
            }
            _ => Ok(&self.line[start..self.at]),
        }
    }

    fn list(&mut self) -> Result<&'l [u8], Deviation> {
        self.literal(b"[", "`[`")?;
        let start = self.at;
        if self.peek() != Some(b']') {
            loop {
                self.string()?;
                if self.peek() == Some(b']') {
                    break;
                }
                self.literal(b", ", "`, ` or `]`")?;
            }
        }
        let items = &self.line[start..self.at];
        self.literal(b"]", "`]`")?;
        Ok(items)
    }

    fn string(&mut self) -> Result<&'l [u8], Deviation> {
        self.literal(b"\"", "a string")?;
        let start = self.at;
        let mut byte_escapes = false;
        loop {
            self.at += plain_prefix(&self.line[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => byte_escapes |= self.escape()?,
                _ => return Err(self.deviation("printable ASCII or an escape in a string")),
            }
        }
        let text = &self.line[start..self.at];
        if byte_escapes {
            self.prove_bytes(text, start)?;
        }
        self.at += 1;
        Ok(text)
    }

    /// Passes over one escape; says whether it stands for a byte that is not UTF-8.
    fn escape(&mut self) -> Result<bool, Deviation> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b'u') => self.at += 1,
            _ => return Err(self.deviation("one of the escapes \\\" \\\\ \\n \\r \\t \\b \\f \\u")),
        }
        match self.unit()? {
            unit @ 0..0x80 => {
                let byte = unit as u8;
                let short = matches!(byte, b'\n' | b'\r' | b'\t' | 0x8 | 0xc | b'"' | b'\\');
                if short || PLAIN[usize::from(byte)] {
                    return Err(self.deviation_at(start, "the short form of this character"));
                }
                Ok(false)
            }
            0xd800..=0xdbff => {
                self.literal(b"\\u", "the second half of a surrogate pair")?;
                let second = self.at;
                match self.unit()? {
                    0xdc00..=0xdfff => Ok(false),
                    _ => Err(self.deviation_at(second, "the second half of a surrogate pair")),
                }
            }
            0xdc80..=0xdcff => Ok(true),
            0xdc00..=0xdfff => Err(self.deviation_at(start, "a character, or a byte as \\udc80 to \\udcff")),
            _ => Ok(false),
        }
    }

    fn unit(&mut self) -> Result<u16, Deviation> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = match self.peek() {
                Some(byte @ b'0'..=b'9') => byte - b'0',
                Some(byte @ b'a'..=b'f') => byte - b'a' + 10,
                _ => return Err(self.deviation("a lower-case hexadecimal digit")),
            };
            unit = unit << 4 | u16::from(digit);
            self.at += 1;
        }
        Ok(unit)
    }

    /// Bytes that are UTF-8 when put together are to stand as text, so write them again and compare.
    fn prove_bytes(&self, text: &[u8], start: usize) -> Result<(), Deviation> {
        let mut again = Vec::with_capacity(text.len() + 2);
        write_string(&mut again, &decode_text(text));
        let again = &again[1..again.len() - 1];
        if again == text {
            return Ok(());
        }
        let same = again.iter().zip(text).take_while(|(a, b)| a == b).count();
        Err(self.deviation_at(start + same, "bytes that are UTF-8 as text"))
    }
}

/// Decodes what stands between the quotes of a proven string.
fn decode_text(text: &[u8]) -> Cow<'_, [u8]> {
    let plain = plain_prefix(text);
    if plain == text.len() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (plain, other) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        rest = match other {
            [b'\\', b'u', tail @ ..] => decode_unit(&mut out, tail),
            [b'\\', short, tail @ ..] => {
                out.push(match short {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x8,
                    b'f' => 0xc,
                    other => *other,
                });
                tail
            }
            _ => return Cow::Owned(out),
        };
    }
}

/// Decodes the digits behind `\u`, with the second half of a pair where there is one; returns what follows.
fn decode_unit<'l>(out: &mut Vec<u8>, digits: &'l [u8]) -> &'l [u8] {
    let (unit, rest) = hex_unit(digits);
    let (code, rest) = match (unit, rest) {
        (0xd800..=0xdbff, [b'\\', b'u', second @ ..]) => {
            let (low, rest) = hex_unit(second);
            (0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff), rest)
        }
        _ => (unit, rest),
    };
    match char::from_u32(code) {
        Some(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        // What is left of the surrogates is \udc80 to \udcff, a byte.
        None => out.push(code as u8),
    }
    rest
}

fn hex_unit(digits: &[u8]) -> (u32, &[u8]) {
    let (digits, rest) = digits.split_at(digits.len().min(4));
    let unit = digits.iter().fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16).unwrap_or(0);
        unit << 4 | value
    });
    (unit, rest)
}

fn decode_list(items: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = items;
    while let [b'"', tail @ ..] = rest {
        let mut end = 0;
        loop {
            end += plain_prefix(&tail[end..]);
            match tail.get(end) {
                Some(b'\\') => end += 2,
                _ => break,
            }
        }
        out.push(decode_text(&tail[..end]).into_owned());
        rest = tail[end..].strip_prefix(b"\", ").unwrap_or_default();
    }
    out
}

/// One line of a log, read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'l> {
    fields: Vec<(&'l str, Value<'l>)>,
}

impl<'l> Record<'l> {
    /// Reads a line without its newline. It must be canonical.
    pub fn parse(line: &'l [u8]) -> Result<Record<'l>, Deviation> {
        let mut fields = Vec::with_capacity(24);
        scan(line, |member| fields.push((member.key, member.raw.decode())))?;
        Ok(Record { fields })
    }

    /// Keys and values, keys ascending.
    pub fn fields(&self) -> &[(&'l str, Value<'l>)] {
        &self.fields
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value<'l>> {
        // There are few, and most differ in length: cheaper than to search by order.
        let is_it = |name: &str| name.len() == key.len() && name == key;
        self.fields.iter().find(|(name, _)| is_it(name)).map(|(_, value)| value)
    }

    /// An integer that fits `i64`.
    pub fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer that is not negative.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Int(value) => u64::try_from(*value).ok(),
            Value::Uint(value) => Some(*value),
            _ => None,
        }
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Flag(value) => Some(*value),
            _ => None,
        }
    }

    /// A byte string.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        match self.get(key)? {
            Value::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// A byte string that is UTF-8.
    pub fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(key)?).ok()
    }

    /// A list of byte strings.
    pub fn list(&self, key: &str) -> Option<&[Vec<u8>]> {
        match self.get(key)? {
            Value::List(value) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
