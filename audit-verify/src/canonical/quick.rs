//! The common line, proven with few steps.
//!
//! [`object`] accepts nothing that [`super::scan`] does not, and says nothing about what it refuses: then
//! [`super::scan`] has the last word. Short keys are compared as numbers, strings are passed over in words.

use super::read::{Cursor, Raw};
use super::{plain_prefix, special_bytes, wide};

/// One key with its value, and where they stand.
pub(crate) struct QuickMember<'l> {
    /// The key's first eight bytes as a number, zeros behind a shorter one: keys in order are numbers in order.
    pub word: u64,
    /// The key.
    pub key: &'l [u8],
    /// The value.
    pub raw: Raw<'l>,
    /// Offset of the quote before the key.
    pub start: usize,
    /// Offset behind the value.
    pub end: usize,
}

/// The number that stands for the first eight bytes of a key.
pub(crate) const fn key_word(key: &[u8]) -> u64 {
    let mut word = [0; 8];
    let mut at = 0;
    while at < key.len() && at < word.len() {
        word[at] = key[at];
        at += 1;
    }
    u64::from_be_bytes(word)
}

/// Proves that `text` begins with a canonical object that has a key, and hands out its members; returns its length.
/// `None` where that takes a closer look, after any number of members.
#[inline]
pub(crate) fn object<'l>(text: &'l [u8], mut member: impl FnMut(QuickMember<'l>)) -> Option<usize> {
    let mut at = usize::from(*text.first()? == b'{');
    if at == 0 {
        return None;
    }
    let (mut last_word, mut last_key): (u64, &[u8]) = (0, b"");
    loop {
        let start = at;
        let (key, word, value) = key(text, at)?;
        if word < last_word || (word == last_word && key <= last_key) {
            return None;
        }
        (last_word, last_key) = (word, key);
        let (raw, end) = self::value(text, value)?;
        member(QuickMember { word, key, raw, start, end });
        match text.get(end)? {
            b',' if *text.get(end + 1)? == b' ' => at = end + 2,
            b'}' => return Some(end + 1),
            _ => return None,
        }
    }
}

/// The key at `at`, the number of its first eight bytes, and where its value begins.
#[inline(always)]
fn key(text: &[u8], at: usize) -> Option<(&[u8], u64, usize)> {
    if *text.get(at)? != b'"' {
        return None;
    }
    let from = at + 1;
    let (end, word) = match text[from..].first_chunk() {
        Some(eight) => {
            let word = u64::from_le_bytes(*eight);
            match special_bytes(word) {
                0 => (from + 8 + plain_prefix(&text[from + 8..]), word.swap_bytes()),
                special => {
                    // As many of its bits as the key has; none is no key.
                    let bits = special.trailing_zeros() & !7;
                    (from + bits as usize / 8, word.swap_bytes() & !u64::MAX.checked_shr(bits)?)
                }
            }
        }
        None => {
            let end = from + plain_prefix(&text[from..]);
            (end, key_word(&text[from..end]))
        }
    };
    let separator: &[u8; 3] = text[end..].first_chunk()?;
    (separator == b"\": " && end > from).then(|| (&text[from..end], word, end + 3))
}

/// The value at `at`, and where it ends.
#[inline(always)]
fn value(text: &[u8], at: usize) -> Option<(Raw<'_>, usize)> {
    match *text.get(at)? {
        b'"' => {
            let end = at + 1 + plain_prefix(&text[at + 1..]);
            match *text.get(end)? {
                b'"' => Some((Raw::Text(&text[at + 1..end]), end + 1)),
                _ => closely(text, at),
            }
        }
        b'1'..=b'9' => integer(text, at).map_or_else(|| closely(text, at), Some),
        _ => closely(text, at),
    }
}

/// An integer of at most fifteen digits, which fits 64 bits.
#[inline(always)]
fn integer(text: &[u8], at: usize) -> Option<(Raw<'_>, usize)> {
    let digits = wide::digits(text.get(at..)?.first_chunk()?);
    (digits < wide::WIDTH).then(|| (Raw::Integer(&text[at..at + digits]), at + digits))
}

/// Where the integer at `at` ends, if one stands there, or a value of another kind. It probably has `likely` bytes: to
/// be right about that saves time, because what stands behind need not wait for it.
#[inline(always)]
pub(crate) fn integer_end(text: &[u8], at: usize, likely: &mut usize) -> Option<usize> {
    let bytes = text.get(at..)?.first_chunk::<{ wide::WIDTH }>()?;
    let digits = wide::digits(bytes);
    // At most fifteen digits fit 64 bits. A zero begins no other number.
    let is_common = |digits: usize| (1..wide::WIDTH).contains(&digits) && (bytes[0] != b'0' || digits == 1);
    if is_common(*likely) && digits >= *likely && !text[at + *likely].is_ascii_digit() {
        return Some(at + *likely);
    }
    if !is_common(digits) {
        return value_end(text, at);
    }
    *likely = digits;
    Some(at + digits)
}

/// Where the string whose text begins at `at`, behind its quote, has its closing quote. Its text probably has `likely`
/// bytes.
#[inline(always)]
pub(crate) fn text_end(text: &[u8], at: usize, likely: &mut usize) -> Option<usize> {
    let end = at + *likely;
    if text.get(end) == Some(&b'"') && begins_plain(text.get(at..)?, *likely) {
        return Some(end);
    }
    let end = at + plain_prefix(text.get(at..)?);
    if *text.get(end)? == b'"' {
        *likely = end - at;
        return Some(end);
    }
    Some(value_end(text, at - 1)? - 1)
}

/// Whether the first `count` bytes are plain, if some more stand behind them.
#[inline(always)]
fn begins_plain(mut text: &[u8], mut count: usize) -> bool {
    while let Some((bytes, rest)) = text.split_first_chunk() {
        let plain = wide::plain(bytes);
        if count <= wide::WIDTH {
            return plain >= count;
        }
        if plain < wide::WIDTH {
            return false;
        }
        count -= wide::WIDTH;
        text = rest;
    }
    false
}

/// Where the value of any kind at `at` ends.
pub(crate) fn value_end(text: &[u8], at: usize) -> Option<usize> {
    closely(text, at).map(|(_, end)| end)
}

/// The same for values that are less common.
fn closely(text: &[u8], at: usize) -> Option<(Raw<'_>, usize)> {
    let mut cursor = Cursor { line: text, at };
    let raw = cursor.value().ok()?;
    Some((raw, cursor.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{ObjectWriter, scan};
    use proptest::prelude::*;

    type Members = Vec<(Vec<u8>, String, usize, usize)>;

    fn quickly(text: &[u8]) -> Option<(usize, Members)> {
        let mut members = Vec::new();
        let length = object(text, |member| {
            assert_eq!(member.word, key_word(member.key));
            members.push((member.key.to_vec(), format!("{:?}", member.raw), member.start, member.end));
        })?;
        Some((length, members))
    }

    /// Whatever is accepted quickly is accepted closely, with the same members.
    fn agrees(text: &[u8]) -> bool {
        let Some((length, members)) = quickly(text) else { return false };
        let mut expected = Vec::new();
        scan(&text[..length], |member| {
            let key = member.key.as_bytes().to_vec();
            expected.push((key, format!("{:?}", member.raw), member.start, member.end));
        })
        .unwrap();
        assert_eq!(members, expected);
        true
    }

    fn line() -> Vec<u8> {
        let mut line = Vec::new();
        let mut object = ObjectWriter::new(&mut line);
        object
            .list("a", ["x", "\"", "\u{e9}"])
            .put("aaaaaaaa", 0)
            .put("aaaaaaaab", "/usr/lib/x86_64-linux-gnu");
        object.put("b", -1).put("c", u64::MAX).put("d", true).put("e", &b"\xff\\"[..]).put("f", i64::MIN);
        object.put("hash_prev", "x".repeat(64).as_str()).put("z", 123_456_789_012_345_678u64);
        object.finish().unwrap();
        line
    }

    #[test]
    fn a_line_is_accepted_whatever_stands_behind_it() {
        for behind in ["", "\n", "\nmore that is long enough for a word\n"] {
            let text = [&line()[..], behind.as_bytes()].concat();
            assert!(agrees(&text));
            assert_eq!(quickly(&text).unwrap().0, line().len());
        }
    }

    #[test]
    fn any_other_byte_anywhere_is_judged_as_closely() {
        let line = line();
        for at in 0..line.len() {
            for byte in 0..=255 {
                let mut text = [&line[..], b"\nbehind it\n"].concat();
                text[at] = byte;
                agrees(&text);
            }
            agrees(&line[..at]);
            agrees(&[&line[..at], &line[at + 1..]].concat());
        }
    }

    proptest! {
        #[test]
        fn ends_are_those_that_are_found_closely(
            value in "-?[0-9]{1,21}|\"[a-z]{0,40}(\\\\n)?[a-z]{0,3}\"?|true|\\[\"a\", \"b\"\\]|x?",
            behind in "[,}0-9\"]? ?[a-z\": ]{0,24}",
            mut likely in 0usize..50,
        ) {
            let text = [value.as_bytes(), behind.as_bytes()].concat();
            let end = value_end(&text, 0);
            for _ in 0..2 {
                let found = integer_end(&text, 0, &mut likely);
                prop_assert!(found == end || (found.is_none() && text.len() < wide::WIDTH));
                if text.first() == Some(&b'"') {
                    prop_assert_eq!(text_end(&text, 1, &mut likely), end.map(|end| end - 1));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn made_up_text_is_judged_as_closely(text in "[{][{}\\[\\]\":, a-c0-9\\\\u-]{0,60}") {
            agrees(text.as_bytes());
        }

        #[test]
        fn keys_ascend(keys in proptest::collection::vec("[a-c]{1,10}", 1..5)) {
            let text = keys.iter().map(|key| format!("\"{key}\": 1")).collect::<Vec<_>>().join(", ");
            let ascend = keys.windows(2).all(|pair| pair[0] < pair[1]);
            prop_assert_eq!(agrees(format!("{{{text}}}").as_bytes()), ascend);
        }
    }
}
