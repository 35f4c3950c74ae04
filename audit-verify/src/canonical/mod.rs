//! The bytes of one line.
//!
//! A line is one flat object, printed as Python's `json.dumps(obj, sort_keys=True)` prints it: keys
//! ascending, separators `, ` and `: `, ASCII only. Values are integers of 64 bits, true and false, byte
//! strings and lists of byte strings; there is no null, no fraction and no nesting.
//!
//! A byte string is what Python's `os.fsdecode` makes of it: UTF-8 stands as text, any other byte `XX` as the
//! lone surrogate `\udcXX` (PEP 383). That is lossless, and this module turns it back into bytes.
//!
//! [`ObjectWriter`] writes such a line, [`scan`] proves that bytes are one, [`Record`] reads one. Each
//! value has exactly one form that is accepted, so equal content means equal bytes. JSON that is not in this
//! form is the business of [`crate::python`].

mod quick;
mod read;
mod wide;
mod write;

pub(crate) use quick::{
    QuickMember, integer_end as quick_integer, key_word, object as quick_object, text_end as quick_text,
    value_end as quick_value,
};
pub use read::{Deviation, Member, Raw, Record, Value, scan};
pub use write::{Field, ObjectWriter, WriteError};
pub(crate) use write::{write_char, write_field, write_uint, write_unit};

/// The longest line, in bytes without its newline, that is a line of a log: 16 MiB.
///
/// The longest real line is an exec with its arguments, which the recorder cuts far below this. The bound
/// keeps the memory of a verifier constant.
pub const LINE_MAX: usize = 16 << 20;

/// Whether a byte stands for itself inside a string: printable ASCII but `"` and `\`.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

/// [`is_plain`] for each byte.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_plain(byte as u8);
        byte += 1;
    }
    table
};

/// How many bytes at the beginning of `text` stand for themselves.
#[inline]
fn plain_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(bytes) = text[at..].first_chunk() {
        let plain = wide::plain(bytes);
        at += plain;
        if plain < wide::WIDTH {
            return at;
        }
    }
    at + text[at..].iter().take_while(|byte| PLAIN[usize::from(**byte)]).count()
}

/// A byte in each of the eight places of a word.
const fn everywhere(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Eight bytes at once: the lowest bit that is set lies in the first byte that does not stand for itself.
/// Bits above it mean nothing, because a sum or difference carries into the bytes above it.
#[inline(always)]
const fn special_bytes(word: u64) -> u64 {
    // Each term has the highest bit of a byte that it looks for, and else only of bytes from 0x80 on.
    let control = word.wrapping_sub(everywhere(b' '));
    let quote = (word ^ everywhere(b'"')).wrapping_sub(everywhere(1));
    let backslash = (word ^ everywhere(b'\\')).wrapping_sub(everywhere(1));
    let delete = word.wrapping_add(everywhere(1));
    (word | control | quote | backslash | delete) & everywhere(0x80)
}

#[cfg(test)]
mod tests {
    use super::{is_plain, plain_prefix};

    #[test]
    fn plain_prefix_sees_every_byte_in_every_place() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=255 {
                    // What stands behind must not matter, also where it borrows.
                    for behind in [b'x', 0, 0xff, b'"', b'#', b'!', b']', 0x7f, 0x80] {
                        let mut text = vec![behind; len];
                        text[..at].fill(b'~');
                        text[at] = byte;
                        let plain = plain_prefix(&text);
                        if is_plain(byte) {
                            assert!(plain > at);
                        } else {
                            assert_eq!(plain, at, "{text:?}");
                        }
                    }
                }
            }
        }
    }
}
