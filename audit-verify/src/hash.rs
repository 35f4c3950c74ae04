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
        const DIGIT: &[u8; 16] = b"0123456789abcdef";
        let mut sha = Sha256::new();
        for part in parts {
            sha.update(part);
        }
        let mut digits = [0; Hash::DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(sha.finalize()) {
            pair[0] = DIGIT[usize::from(byte >> 4)];
            pair[1] = DIGIT[usize::from(byte & 15)];
        }
        Hash(digits)
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
    fn text_round_trip() {
        let hash = Hash::of(&[b"x"]);
        assert_eq!(hash.as_str().to_uppercase().parse(), Ok(hash));
        assert!("0".repeat(63).parse::<Hash>().is_err());
        assert!("g".repeat(64).parse::<Hash>().is_err());
        assert_eq!(Hash::from_digits("A".repeat(64).as_bytes()), None);
    }
}
