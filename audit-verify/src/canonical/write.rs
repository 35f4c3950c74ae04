//! Writing a canonical line into a buffer that is used again.

use super::read::Value;
use super::{is_plain, plain_prefix, special_bytes};

/// A value to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'v> {
    /// An integer.
    Int(i64),
    /// An integer that may not fit `i64`.
    Uint(u64),
    /// True or false.
    Flag(bool),
    /// Text or any other bytes.
    Bytes(&'v [u8]),
    /// A list of byte strings. [`ObjectWriter::list`] takes other shapes.
    List(&'v [Vec<u8>]),
}

macro_rules! field_from {
    ($($variant:ident: $($from:ty),+);+ $(;)?) => {
        $($(impl From<$from> for Field<'_> {
            fn from(value: $from) -> Self {
                Field::$variant(value.into())
            }
        })+)+
    };
}

field_from! {
    Int: i8, i16, i32, i64;
    Uint: u8, u16, u32, u64;
    Flag: bool;
}

impl<'v> From<&'v str> for Field<'v> {
    fn from(value: &'v str) -> Self {
        Field::Bytes(value.as_bytes())
    }
}

impl<'v> From<&'v [u8]> for Field<'v> {
    fn from(value: &'v [u8]) -> Self {
        Field::Bytes(value)
    }
}

impl<'v> From<&'v [Vec<u8>]> for Field<'v> {
    fn from(value: &'v [Vec<u8>]) -> Self {
        Field::List(value)
    }
}

impl<'v> From<&'v Value<'_>> for Field<'v> {
    fn from(value: &'v Value<'_>) -> Self {
        match value {
            Value::Int(value) => Field::Int(*value),
            Value::Uint(value) => Field::Uint(*value),
            Value::Flag(value) => Field::Flag(*value),
            Value::Bytes(value) => Field::Bytes(value),
            Value::List(value) => Field::List(value),
        }
    }
}

/// Why an object could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The key does not sort behind the one before it.
    #[error("key `{key}` does not sort behind `{after}`: keys of a line are pushed ascending, each once")]
    Order {
        /// The key.
        key: String,
        /// The key before it.
        after: String,
    },
    /// The key is empty, or holds something else than printable ASCII, or a quote, or a backslash.
    #[error("key `{}` is not made of plain ASCII", .key.escape_debug())]
    Key {
        /// The key.
        key: String,
    },
}

/// Writes one object, key by key.
///
/// A mistake in the keys is kept and comes out of [`ObjectWriter::finish`]; what stands in the buffer then is
/// not to be used.
#[derive(Debug)]
pub struct ObjectWriter<'b> {
    out: &'b mut Vec<u8>,
    /// Where the last key stands in `out`, without its quotes.
    last_key: Option<(usize, usize)>,
    error: Option<WriteError>,
}

impl<'b> ObjectWriter<'b> {
    /// Begins an object at the end of `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        out.push(b'{');
        ObjectWriter { out, last_key: None, error: None }
    }

    /// Writes a key and its value.
    pub fn put<'v>(&mut self, key: &str, value: impl Into<Field<'v>>) -> &mut Self {
        self.key(key);
        write_field(self.out, value.into());
        self
    }

    /// Writes a key and a list of byte strings.
    pub fn list<I>(&mut self, key: &str, items: I) -> &mut Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.key(key);
        write_list(self.out, items);
        self
    }

    /// Ends the object.
    pub fn finish(self) -> Result<(), WriteError> {
        self.out.push(b'}');
        self.error.map_or(Ok(()), Err)
    }

    /// The number of bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes a member, or its beginning, that the caller formatted, separator included, and counts `key` as its key.
    pub(crate) fn reserve(&mut self, key: &str, member: &[u8]) {
        self.prove_key(key);
        let from = self.out.len() + b", \"".len();
        self.out.extend_from_slice(member);
        self.last_key = Some((from, from + key.len()));
    }

    /// Writes a key whose value the caller writes.
    pub(crate) fn key(&mut self, key: &str) {
        self.prove_key(key);
        self.out.extend_from_slice(if self.last_key.is_some() { b", \"" } else { b"\"" });
        let from = self.out.len();
        self.out.extend_from_slice(key.as_bytes());
        self.last_key = Some((from, self.out.len()));
        self.out.extend_from_slice(b"\": ");
    }

    /// Keeps the first mistake in the keys.
    fn prove_key(&mut self, key: &str) {
        let last = self.last_key.map_or(&[][..], |(from, to)| &self.out[from..to]);
        if self.error.is_some() {
        } else if key.is_empty() || plain_prefix(key.as_bytes()) != key.len() {
            self.error = Some(WriteError::Key { key: key.to_owned() });
        } else if key.as_bytes() <= last {
            let after = String::from_utf8_lossy(last).into_owned();
            self.error = Some(WriteError::Order { key: key.to_owned(), after });
        }
    }
}

/// Writes a value.
#[inline(always)]
pub(crate) fn write_field(out: &mut Vec<u8>, field: Field<'_>) {
    match field {
        Field::Int(value) => write_int(out, value),
        Field::Uint(value) => write_uint(out, value),
        Field::Flag(true) => out.extend_from_slice(b"true"),
        Field::Flag(false) => out.extend_from_slice(b"false"),
        Field::Bytes(value) => write_string(out, value),
        Field::List(items) => write_list(out, items),
    }
}

fn write_list<I>(out: &mut Vec<u8>, items: I)
where
    I: IntoIterator,
    I::Item: AsRef<[u8]>,
{
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(out, item.as_ref());
    }
    out.push(b']');
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_uint(out, value.unsigned_abs());
}

/// Writes a number that is not negative.
#[inline]
pub(crate) fn write_uint(out: &mut Vec<u8>, value: u64) {
    const EIGHT: u64 = 100_000_000;
    if value < EIGHT {
        let digits = eight_digits(value);
        // Zeros in front are left away, but for the last digit.
        let zeros = (digits.trailing_zeros() / 8).min(7);
        let end = out.len() + 8 - zeros as usize;
        // A copy of a fixed length takes one instruction.
        out.extend_from_slice(&((digits | ASCII_ZEROS) >> (8 * zeros)).to_le_bytes());
        out.truncate(end);
    } else {
        write_uint_before(out, value / EIGHT);
        out.extend_from_slice(&(eight_digits(value % EIGHT) | ASCII_ZEROS).to_le_bytes());
    }
}

/// [`write_uint`] by another name: a function that calls itself is not put in the place of its call.
fn write_uint_before(out: &mut Vec<u8>, value: u64) {
    write_uint(out, value);
}

/// `0` in each byte.
const ASCII_ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// The eight decimal digits of a number below 10^8, the first one in the lowest byte: all are divided at once, first
/// into halves of four, then of two, then of one.
#[inline(always)]
const fn eight_digits(number: u64) -> u64 {
    let halves = number / 10_000 + ((number % 10_000) << 32);
    // A number below 10,000 times 10,486 is, without its lowest 20 bits, that number divided by 100.
    let hundreds = ((halves * 10_486) >> 20) & 0x7f_0000_007f;
    let quarters = hundreds + ((halves - 100 * hundreds) << 16);
    // And a number below 100 times 103 is, without its lowest 10 bits, that number divided by 10.
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    tens + ((quarters - 10 * tens) << 8)
}

/// Writes a byte string with its quotes.
#[inline]
pub(super) fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if all_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        write_escaped(out, bytes);
    }
    out.push(b'"');
}

/// Whether every byte stands for itself.
#[inline]
fn all_plain(bytes: &[u8]) -> bool {
    // What is no whole number of blocks has a last one that overlaps the one before it.
    if let Some(last) = bytes.last_chunk() {
        // Nobody asks where the first other byte stands, so this is quicker than what finds it.
        let all = |block: &[u8; 16]| block.iter().fold(true, |all, byte| all & is_plain(*byte));
        return bytes.as_chunks().0.iter().all(all) && all(last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return [first, last].iter().all(|half| special_bytes(u64::from_le_bytes(**half)) == 0);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        return special_bytes(first | last << 32) == 0;
    }
    bytes.iter().all(|byte| is_plain(*byte))
}

/// Writes what is not all plain: UTF-8 as text, every other byte as a lone surrogate.
#[cold]
fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while !rest.is_empty() {
            let (plain, other) = rest.split_at(plain_prefix(rest.as_bytes()));
            out.extend_from_slice(plain.as_bytes());
            let mut chars = other.chars();
            if let Some(char) = chars.next() {
                write_char(out, char);
            }
            rest = chars.as_str();
        }
        for byte in chunk.invalid() {
            write_unit(out, 0xdc00 + u16::from(*byte));
        }
    }
}

/// Writes one character inside a string.
pub(crate) fn write_char(out: &mut Vec<u8>, char: char) {
    let short = match char {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        ' '..='~' => {
            out.push(char as u8);
            return;
        }
        _ => {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                write_unit(out, *unit);
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Writes a UTF-16 code unit as `\uXXXX`.
pub(crate) fn write_unit(out: &mut Vec<u8>, unit: u16) {
    const DIGIT: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u16| DIGIT[usize::from(unit >> shift & 15)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(&mut ObjectWriter<'_>)) -> Result<String, WriteError> {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        fill(&mut object);
        object.finish()?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_as_python_prints_them() {
        let line = written(|object| {
            object
                .put("a", i64::MIN)
                .put("b", u64::MAX)
                .put("c", true)
                .put("d", false)
                .put("e", 0u32)
                .put("f", "/tmp/\"x\"\\\n\r\t\u{8}\u{c}\u{1}\u{7f} é€😀/")
                .put("g", &b"\xff\xc3\x28/\xe2\x82"[..])
                .list("h", ["sh", "-c", ""])
                .list("i", Vec::<Vec<u8>>::new());
        });
        assert_eq!(
            line.unwrap(),
            concat!(
                r#"{"a": -9223372036854775808, "b": 18446744073709551615, "c": true, "d": false, "e": 0, "#,
                r#""f": "/tmp/\"x\"\\\n\r\t\b\f\u0001\u007f \u00e9\u20ac\ud83d\ude00/", "#,
                r#""g": "\udcff\udcc3(/\udce2\udc82", "h": ["sh", "-c", ""], "i": []}"#
            )
        );
        assert_eq!(written(|_| ()).unwrap(), "{}");
    }

    #[test]
    fn numbers_of_every_length_as_the_library_prints_them() {
        let mut out = Vec::new();
        let powers = (0..20).map(|power| 10u64.pow(power));
        let near = powers.flat_map(|power| (0..30).flat_map(move |by| [power.wrapping_sub(by), power + by]));
        let spread = (0..40_000u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 64));
        for number in (0..20_000).chain(near).chain(spread) {
            out.clear();
            write_uint(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn any_byte_in_any_place_is_plain_or_not() {
        for len in 0..50 {
            let mut text = vec![b'a'; len];
            assert!(all_plain(&text));
            for at in 0..len {
                for byte in 0..=255 {
                    text[at] = byte;
                    assert_eq!(all_plain(&text), is_plain(byte), "{text:?}");
                }
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn keys_out_of_order_twice_or_strange_are_errors() {
        let order = |key: &str, after: &str| WriteError::Order { key: key.into(), after: after.into() };
        assert_eq!(written(|o| _ = o.put("b", 1).put("a", 1).put("A", 1)), Err(order("a", "b")));
        assert_eq!(written(|o| _ = o.put("a", 1).put("a", 1)), Err(order("a", "a")));
        assert_eq!(written(|o| _ = o.put("ab", 1).put("a", 1)), Err(order("a", "ab")));
        for key in ["", "é", "a\"", "a\\", "a\n", "\u{7f}"] {
            assert_eq!(written(|o| _ = o.put(key, 1)), Err(WriteError::Key { key: key.into() }));
        }
    }
}
