//! Sixteen bytes of a line at once.
//!
//! Each function says how many of the bytes, from the first on, are of a kind; 16 if all are.

use super::everywhere;

/// Bytes that are looked at together.
pub(super) const WIDTH: usize = 16;

/// How many bytes stand for themselves. Of operations on bytes, without a choice between them, the compiler makes vector
/// instructions.
#[inline(always)]
pub(super) fn plain(bytes: &[u8; WIDTH]) -> usize {
    let is = |byte: u8, other: u8| 1u8.saturating_sub(byte ^ other);
    before(bytes, |byte| {
        b' '.saturating_sub(byte) | byte.saturating_sub(b'~') | is(byte, b'"') | is(byte, b'\\')
    })
}

/// How many bytes are decimal digits. In words, because what is made of few bytes is not worth a vector.
#[inline(always)]
pub(super) fn digits(bytes: &[u8; WIDTH]) -> usize {
    let bytes = u128::from_le_bytes(*bytes);
    let count = |word: u64| no_digits(word).trailing_zeros() as usize / 8;
    match count(bytes as u64) {
        8 => 8 + count((bytes >> 64) as u64),
        digits => digits,
    }
}

/// The lowest bit that is set lies in the first of eight bytes that is no digit. Bits above it mean nothing.
#[inline(always)]
const fn no_digits(word: u64) -> u64 {
    let below = word.wrapping_sub(everywhere(b'0'));
    let above = word.wrapping_add(everywhere(0x7f - b'9'));
    (word | below | above) & everywhere(0x80)
}

/// How many bytes stand before the first whose mark is not zero.
#[inline(always)]
fn before(bytes: &[u8; WIDTH], mark: impl Fn(u8) -> u8) -> usize {
    let mut marks = [0; WIDTH];
    for (into, byte) in marks.iter_mut().zip(bytes) {
        *into = mark(*byte);
    }
    u128::from_le_bytes(marks).trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::is_plain;

    #[test]
    fn every_byte_in_every_place_is_told() {
        for at in 0..WIDTH {
            for byte in 0..=255u8 {
                for behind in [b'0', b'x', 0, 0xff, b'"', b'#', b'!', b']', b'/', b':', 0x7f, 0x80] {
                    let text = |before| {
                        let mut text = [behind; WIDTH];
                        text[..at].fill(before);
                        text[at] = byte;
                        text
                    };
                    let (string, number) = (text(b'~'), text(b'9'));
                    let expected = string.iter().take_while(|byte| is_plain(**byte)).count();
                    assert_eq!(plain(&string), expected, "{string:?}");
                    let expected = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    assert_eq!(digits(&number), expected, "{number:?}");
                }
            }
        }
    }
}
