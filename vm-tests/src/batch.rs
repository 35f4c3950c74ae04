//! Attempts in a file: how a suite hands the probe more of them, and stranger names, than a command line holds.
//!
//! Each field is followed by a NUL, which no name has. What the words mean is the probe's.

/// An attempt on one name or two; a word on one leaves the second empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// One of the probe's words.
    pub word: String,
    /// What it is about: paths, or an address.
    pub names: [Vec<u8>; 2],
}

/// The bytes of a file of attempts.
pub fn encode<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Attempt { word, names: [first, second] } in attempts {
        for field in [word.as_bytes(), first, second] {
            bytes.extend_from_slice(field);
            bytes.push(0);
        }
    }
    bytes
}

/// The reverse of [`encode`]; `None` when the bytes are no attempts.
pub fn decode(bytes: &[u8]) -> Option<Vec<Attempt>> {
    let Some(bytes) = bytes.strip_suffix(&[0]) else { return bytes.is_empty().then(Vec::new) };
    let mut fields = bytes.split(|byte| *byte == 0);
    let mut attempts = Vec::new();
    while let Some(word) = fields.next() {
        let word = String::from_utf8(word.to_vec()).ok()?;
        attempts.push(Attempt { word, names: [fields.next()?.to_vec(), fields.next()?.to_vec()] });
    }
    Some(attempts)
}

#[cfg(test)]
mod tests {
    use super::{Attempt, decode, encode};

    #[test]
    fn attempts_come_back_as_they_were() {
        let attempt = |word: &str, first: &[u8], second: &[u8]| Attempt {
            word: word.to_owned(),
            names: [first.to_vec(), second.to_vec()],
        };
        let all = [attempt("read", b"/a\n\xff", b""), attempt("link", b"/a", b"/b"), attempt("x", b"", b"")];
        assert_eq!(decode(&encode(&all)), Some(all.to_vec()));
        assert_eq!(decode(b""), Some(Vec::new()));
        assert_eq!(decode(b"read\0/a\0"), None);
        assert_eq!(decode(b"read\0/a\0\0x"), None);
    }
}
