//! Text that others chose, safe to print on a terminal.
//!
//! Paths and arguments are chosen by those who are watched, and files by those who made them. Everything that could move the
//! cursor, hide or reorder text is shown escaped, never sent.

use std::borrow::Cow;
use std::fmt::Write;

/// `bytes` with everything escaped that a terminal would act on: control characters (C0, DEL, C1), marks that
/// change the direction of text, characters without width, line separators; bytes that are no UTF-8 as
/// `\xNN`. A backslash is doubled, so that what is shown is unambiguous.
pub fn safe(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_safe(&mut out, character);
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A text of our own with parts that others chose: as [`safe`], but what is printable stays as it is, also backslashes.
pub fn clean(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\\' => out.push(character),
            _ => push_safe(&mut out, character),
        }
    }
    Cow::Owned(out)
}

/// As [`clean`], of a text of several lines, which stay lines.
pub fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// A JSON text, on one line or on several: what a terminal would act on stands in strings, and is escaped as JSON does it.
pub fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || !is_unsafe(character) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

fn push_safe(out: &mut String, character: char) {
    match character {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if is_unsafe(character) => {
            let code = u32::from(character);
            let _ = if code < 0x100 { write!(out, "\\x{code:02x}") } else { write!(out, "\\u{{{code:x}}}") };
        }
        _ => out.push(character),
    }
}

/// Control characters, and those of Unicode's property Default_Ignorable_Code_Point, line and paragraph
/// separators and interlinear marks: what is there and cannot be seen.
fn is_unsafe(character: char) -> bool {
    let is_unseen = matches!(u32::from(character),
        0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
        | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff);
    character.is_control() || is_unseen
}

/// Whether a text can be printed as it is: nothing in it that [`safe`] would escape, but backslashes.
pub fn is_plain(text: &str) -> bool {
    !text.contains(is_unsafe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_json() {
        let text = "{\n  \"a\": \"\u{9b}31m\u{7f}\u{202e}é\u{e0041}\"\n}";
        let shown = json(text);
        assert_eq!(shown, "{\n  \"a\": \"\\u009b31m\\u007f\\u202eé\\udb40\\udc41\"\n}");
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown_raw() {
        let hostile =
            "\x1b]0;title\x07\x1b[2J\r\n\t\u{9b}31m\u{7f}\u{202e}evil\u{200b}\u{feff}\u{e0041}\\é€😀";
        assert_eq!(
            safe(hostile.as_bytes()),
            r"\x1b]0;title\x07\x1b[2J\r\n\t\x9b31m\x7f\u{202e}evil\u{200b}\u{feff}\u{e0041}\\é€😀"
        );
        assert_eq!(safe(b"/tmp/\xff\xc3("), r"/tmp/\xff\xc3(");
        for byte in 0..=255u8 {
            assert!(safe(&[byte]).chars().all(|shown| (' '..='~').contains(&shown)), "{byte}");
        }
        for character in '\0'..=char::MAX {
            let shown = safe(character.encode_utf8(&mut [0; 4]).as_bytes());
            assert!(!shown.contains(is_unsafe), "{character:?}");
            assert!(!shown.contains(char::is_control), "{character:?}");
        }
    }

    #[test]
    fn a_text_of_our_own_keeps_its_backslashes_and_its_lines() {
        assert_eq!(clean("a\\b \u{1b}[2J\u{202e}"), "a\\b \\x1b[2J\\u{202e}");
        assert_eq!(clean_lines("one\n  two\r\n\u{7}"), "one\n  two\\r\n\\x07");
    }
}
