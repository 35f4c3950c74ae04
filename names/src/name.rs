//! A domain name as it stands in a message (RFC 1035, 3.1 and 4.1.4), and as text.
//!
//! Text is lower case without a dot at the end. Bytes that a host name does not have are escaped, so that no two
//! names read alike; [`Name::is_plain`] says whether there are any. Internationalised names are not decoded: on
//! the wire they are plain (`xn--…`).

use std::fmt::Write as _;

/// Most bytes of a name on the wire, with the root's (RFC 1035, 2.3.4): 253 characters of text.
pub(crate) const MAX_NAME: usize = 255;

/// Most pointers on the way through a name: one before each label, and the root's. Pointers to pointers, of which a
/// message holds thousands, would make each of its names as long to read.
const MAX_POINTERS: usize = MAX_NAME / 2 + 1;

/// It is not a message that one can make sense of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Junk;

/// A name: its labels, each behind its length, and the root's empty one. Upper and lower case are kept.
#[derive(Clone, Debug)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// Reads the name at `at`, and where the bytes behind it begin. A pointer must lead to before where the bytes
    /// that it ends began, but not into the header, so that reading comes to an end.
    pub(crate) fn read(message: &[u8], at: usize) -> Result<(Name, usize), Junk> {
        const HEADER: usize = 12;
        let (mut wire, mut at, mut began, mut end) = (Vec::with_capacity(32), at, at, None);
        let mut pointers = 0;
        loop {
            let length = usize::from(*message.get(at).ok_or(Junk)?);
            match length {
                0 => {
                    wire.push(0);
                    return Ok((Name(wire), end.unwrap_or(at + 1)));
                }
                1..=63 => {
                    wire.extend_from_slice(message.get(at..=at + length).ok_or(Junk)?);
                    if wire.len() >= MAX_NAME {
                        return Err(Junk);
                    }
                    at += 1 + length;
                }
                0xc0.. => {
                    let low = usize::from(*message.get(at + 1).ok_or(Junk)?);
                    let target = (length & 0x3f) << 8 | low;
                    pointers += 1;
                    if !(HEADER..began).contains(&target) || pointers > MAX_POINTERS {
                        return Err(Junk);
                    }
                    end = end.or(Some(at + 2));
                    (at, began) = (target, target);
                }
                _ => return Err(Junk), // RFC 6891, 5: there are no other kinds of labels.
            }
        }
    }

    /// A plain name from its text, without a dot at its end.
    pub(crate) fn of_host(text: &str) -> Option<Name> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            wire.push(length);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        (wire.len() <= MAX_NAME).then_some(Name(wire))
    }

    /// The bytes on the wire, uncompressed.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the same name: case does not count (RFC 4343). Lengths are no letters, so they need no care.
    pub(crate) fn is(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// Whether this is the root.
    pub(crate) fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let length = usize::from(*self.0.get(at)?);
            let label = self.0.get(at + 1..=at + length).filter(|label| !label.is_empty())?;
            at += 1 + length;
            Some(label)
        })
    }

    /// Whether it is below the other, which it is not itself.
    pub(crate) fn is_below(&self, other: &Name) -> bool {
        self.below(other).is_some()
    }

    /// Where the other's labels begin, which are not all of this one's.
    fn below(&self, other: &Name) -> Option<usize> {
        let mut at = 0;
        while at + other.0.len() < self.0.len() {
            at += 1 + usize::from(self.0[at]);
            if self.0[at..].eq_ignore_ascii_case(&other.0) {
                return Some(at);
            }
        }
        None
    }

    /// What a DNAME at `owner` makes of this name (RFC 6672, 2.2): `None` where it is not below the owner, or the
    /// new name would be too long.
    pub(crate) fn redirected(&self, owner: &Name, target: &Name) -> Option<Name> {
        let at = self.below(owner)?;
        let wire = [&self.0[..at], &target.0].concat();
        (wire.len() <= MAX_NAME).then_some(Name(wire))
    }

    /// Whether all of its bytes are those of host names: letters, digits, `-` and `_`, with dots between labels only.
    pub(crate) fn is_plain(&self) -> bool {
        self.labels().flatten().all(|&byte| is_plain(byte))
    }

    /// The name in lower case, without a dot at the end; the root is `.`. A dot or a backslash inside a label has a
    /// backslash before it, any other byte that is not plain is `\DDD` (RFC 1035, 5.1).
    pub(crate) fn text(&self) -> String {
        if self.is_root() {
            return ".".to_owned();
        }
        let mut text = String::with_capacity(self.0.len());
        for label in self.labels() {
            if !text.is_empty() {
                text.push('.');
            }
            for &byte in label {
                match byte {
                    _ if is_plain(byte) => text.push(char::from(byte.to_ascii_lowercase())),
                    b'.' | b'\\' => text.extend(['\\', char::from(byte)]),
                    // Writing to a string does not fail.
                    _ => _ = write!(text, "\\{byte:03}"),
                }
            }
        }
        text
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The name that a file has, in lower case and without the dot at its end; `None` where it is not plain.
pub(crate) fn from_text(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
    (text.len() + 2 <= MAX_NAME && text.split('.').all(fits)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(labels: &[&[u8]]) -> Name {
        let mut wire = Vec::new();
        for label in labels {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label);
        }
        wire.push(0);
        Name::read(&wire, 0).unwrap().0
    }

    #[test]
    fn text_is_lower_case_and_tells_odd_names_apart() {
        assert_eq!(name(&[b"WWW", b"Example", b"org"]).text(), "www.example.org");
        assert_eq!(name(&[]).text(), ".");
        assert_eq!(name(&[b"a.b", b"org"]).text(), "a\\.b.org");
        assert_eq!(name(&[b"a\\", b"b\0 \xff"]).text(), "a\\\\.b\\000\\032\\255");
        assert!(name(&[b"_dmarc", b"x-1", b"org"]).is_plain());
        for odd in [b"a.b".as_slice(), b"a b", b"a\0", b"a\\", b"\xc3\xa4", b"a/b", b"*"] {
            assert!(!name(&[odd, b"org"]).is_plain(), "{odd:?}");
        }
    }

    #[test]
    fn pointers_lead_back_and_not_into_the_header() {
        let mut message = vec![0; 12];
        message.extend_from_slice(b"\x03org\x00\x07example\xc0\x0c\x03www\xc0\x11");
        let (read, end) = Name::read(&message, 27).unwrap();
        assert_eq!((read.text().as_str(), end), ("www.example.org", message.len()));
        for (bytes, at) in [
            (b"\xc0\x0c".as_slice(), 12), // itself
            (b"\xc0\x0e\x00", 12),        // ahead
            (b"\x01a\xc0\x0c", 12),       // a loop
            (b"\xc0\x00", 12),            // the header
            (b"\xc0", 12),
            (b"\x40a\x00", 12),
            (b"\x80a\x00", 12),
            (b"\x05abc", 12),
        ] {
            let message = [&[0; 12], bytes].concat();
            assert!(Name::read(&message, at).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn pointers_to_pointers_have_an_end() {
        let message = |pointers: u16| {
            let mut message = [&[0; 12][..], b"\x01a\x00"].concat();
            let mut target = 12_u16;
            for _ in 0..pointers {
                let at = u16::try_from(message.len()).unwrap();
                message.extend((0xc000 | target).to_be_bytes());
                target = at;
            }
            (message, usize::from(target))
        };
        let (good, at) = message(128);
        assert_eq!(Name::read(&good, at).unwrap().0.text(), "a");
        let (long, at) = message(129);
        assert!(Name::read(&long, at).is_err());
    }

    #[test]
    fn a_name_has_at_most_255_bytes() {
        let label = [b'a'; 63];
        let longest = name(&[&label, &label, &label, &label[..61]]);
        assert_eq!((longest.wire().len(), longest.text().len()), (255, 253));
        let mut wire: Vec<u8> = Vec::new();
        for label in [&label[..], &label, &label, &label[..62]] {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label);
        }
        wire.push(0);
        assert!(Name::read(&wire, 0).is_err());
    }

    #[test]
    fn dname_takes_what_is_below_it() {
        let (owner, target) = (name(&[b"old", b"org"]), name(&[b"new", b"net"]));
        let redirected = |labels: &[&[u8]]| name(labels).redirected(&owner, &target).map(|name| name.text());
        assert_eq!(redirected(&[b"a", b"b", b"OLD", b"org"]).as_deref(), Some("a.b.new.net"));
        assert_eq!(redirected(&[b"old", b"org"]), None);
        assert_eq!(redirected(&[b"xold", b"org"]), None);
        assert_eq!(redirected(&[b"org"]), None);
        let label = [b'a'; 63];
        let long = name(&[&label, &label, &label, &label[..50], b"x"]);
        assert!(name(&[b"abcdefghi", b"x"]).redirected(&name(&[b"x"]), &long).is_none());
    }

    #[test]
    fn names_of_hosts() {
        assert_eq!(Name::of_host("a.bc").unwrap().wire(), b"\x01a\x02bc\x00");
        assert_eq!(Name::of_host("www.example.org").unwrap().text(), "www.example.org");
        let long = ["a".repeat(63).as_str(); 4].join(".");
        for bad in ["", ".", "a..b", &"a".repeat(64), &long] {
            assert!(Name::of_host(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_of_files() {
        assert_eq!(from_text("Host.Example.").as_deref(), Some("host.example"));
        for bad in ["", ".", "a..b", "a b", "ä", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn different_names_have_different_texts(
            a in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 1..4),
            b in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 1..4),
        ) {
            let named = |labels: &[Vec<u8>]| name(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(named(&a).text() == named(&b).text(), named(&a).is(&named(&b)));
        }
    }
}
