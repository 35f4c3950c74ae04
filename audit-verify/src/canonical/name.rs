//! Keys that are proven before a line is written.

use super::is_plain;

/// A key that is known when the program is built: made of plain characters, and ready to be written with the separators
/// around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    key: &'static str,
    /// `, "key": ` and zeros behind it.
    fragment: [u8; FRAGMENT],
    len: usize,
    word: Word,
}

/// Room for a key with the separators around it.
const FRAGMENT: usize = 32;

impl Name {
    /// The longest key, in bytes.
    pub const MAX: usize = FRAGMENT - b", \"\": ".len();

    /// Proves a key. Panics, in a constant when the program is built, where it is empty, longer than [`Name::MAX`] or
    /// not made of plain characters.
    pub const fn new(key: &'static str) -> Name {
        let bytes = key.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= Name::MAX, "a key has from one to 26 bytes");
        let mut fragment = [0; FRAGMENT];
        fragment[0] = b',';
        fragment[1] = b' ';
        fragment[2] = b'"';
        let mut at = 0;
        while at < bytes.len() {
            assert!(is_plain(bytes[at]), "a key is made of plain characters");
            fragment[3 + at] = bytes[at];
            at += 1;
        }
        fragment[3 + at] = b'"';
        fragment[4 + at] = b':';
        fragment[5 + at] = b' ';
        Name { key, fragment, len: at + 6, word: Word::of(bytes) }
    }

    /// The key.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// `, "key": `, zeros behind it, and its length without them.
    pub(super) const fn fragment(&self) -> (&[u8; FRAGMENT], usize) {
        (&self.fragment, self.len)
    }

    /// What it is compared by.
    pub(crate) const fn word(&self) -> Word {
        self.word
    }
}

/// The first sixteen bytes of a key, zeros behind a shorter one: keys in order have words in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Word(u128);

impl Word {
    /// That of no key.
    pub const NONE: Word = Word(0);

    /// Behind that of every key.
    pub const MAX: Word = Word(u128::MAX);

    /// That of a key.
    pub const fn of(key: &[u8]) -> Word {
        let mut word = [0; 16];
        let mut at = 0;
        while at < key.len() && at < word.len() {
            word[at] = key[at];
            at += 1;
        }
        Word(u128::from_be_bytes(word))
    }

    /// Whether it is certainly all of the key.
    pub const fn is_whole(self) -> bool {
        self.0 & 0xff == 0
    }

    /// The key, if it is certainly all here.
    pub fn whole(self) -> Option<Vec<u8>> {
        let bytes = self.0.to_be_bytes();
        self.is_whole().then(|| bytes.iter().copied().take_while(|byte| *byte != 0).collect())
    }
}
