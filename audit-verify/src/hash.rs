//! The hash that links lines: SHA-256 (FIPS 180-4), written as 64 lower-case hexadecimal digits.
//!
//! Kept as its text, because the text is what stands in a line and what is compared.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; Hash::DIGITS]);

impl Hash {
    /// Number of hexadecimal digits.
    pub const DIGITS: usize = 64;

    /// What the first line of a log names as the line before it.
    pub const ZERO: Hash = Hash([b'0'; Hash::DIGITS]);

    /// The hash of `parts`, one after the other.
    pub fn of(parts: &[&[u8]]) -> Hash {
        Hash::from_bytes(&sha256(parts))
    }

    /// The hash whose 32 bytes these are.
    pub fn from_bytes(bytes: &[u8; 32]) -> Hash {
        let mut digits = [0; Hash::DIGITS];
        for (eight, four) in digits.chunks_exact_mut(8).zip(bytes.chunks_exact(4)) {
            eight.copy_from_slice(&eight_digits(four));
        }
        Hash(digits)
    }

    /// Its 32 bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        let value = |digit: u8| (digit & 15) + 9 * (digit >> 6);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(self.0.chunks_exact(2)) {
            *byte = value(pair[0]) << 4 | value(pair[1]);
        }
        bytes
    }

    /// Reads 64 lower-case hexadecimal digits; `None` for anything else.
    pub fn from_digits(digits: &[u8]) -> Option<Hash> {
        let digits: [u8; Hash::DIGITS] = digits.try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Hash(digits))
    }

    /// The digits.
    pub fn digits(&self) -> &[u8; Hash::DIGITS] {
        &self.0
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// SHA-256 of `parts`, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part);
    }
    sha.finalize().into()
}

/// The digits of four bytes, all at once: each nibble moves to a byte of its own, and those above nine go on from
/// `0` to `a`.
fn eight_digits(four: &[u8]) -> [u8; 8] {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let bytes = four.iter().rev().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte));
    let apart = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff;
    let apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (apart >> 4 | apart << 8) & (ONES * 15);
    let above_nine = (nibbles + ONES * 6) >> 4 & ONES;
    (nibbles + ONES * u64::from(b'0') + above_nine * u64::from(b'a' - b'0' - 10)).to_le_bytes()
}

impl Default for Hash {
    fn default() -> Self {
        Hash::ZERO
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    /// Reads a hash that a person typed or pasted: upper case is accepted.
    fn from_str(text: &str) -> Result<Hash, NotAHash> {
        Hash::from_digits(text.to_ascii_lowercase().as_bytes()).ok_or(NotAHash)
    }
}

#[cfg(test)]
mod tests {
    use super::Hash;

    #[test]
    fn known_answer() {
        // FIPS 180-4, example "abc".
        assert_eq!(
            Hash::of(&[b"a", b"", b"bc"]).as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn bytes_round_trip() {
        for first in 0..=255 {
            let mut bytes = [0; 32];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::wrapping_add(first, at as u8 * 7);
            }
            let hash = Hash::from_bytes(&bytes);
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash.as_str(), text);
            assert_eq!(hash.to_bytes(), bytes);
        }
    }

    #[test]
    fn text_round_trip() {
        let hash = Hash::of(&[b"x"]);
        assert_eq!(hash.as_str().to_uppercase().parse(), Ok(hash));
        assert!("0".repeat(63).parse::<Hash>().is_err());
        assert!("g".repeat(64).parse::<Hash>().is_err());
        assert_eq!(Hash::from_digits("A".repeat(64).as_bytes()), None);
    }
}
