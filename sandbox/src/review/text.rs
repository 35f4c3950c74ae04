//! Text for people: safe to print on a terminal ([`audit_verify::text`]), short, broken where a line ends, and in columns.

use std::borrow::Cow;
use std::fmt::Write;

pub use audit_verify::text::{clean, is_plain, json, safe};

/// A command as one line: words as [`safe`] shows them, quoted where a space or a quote would mislead.
pub fn command<W: AsRef<[u8]>>(words: &[W]) -> String {
    const SPECIAL: &str = " '\"|&;<>()$`*?";
    let mut line = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            line.push(' ');
        }
        let word = safe(word.as_ref());
        if word.is_empty() || word.contains(|character| SPECIAL.contains(character)) {
            let _ = write!(line, "'{}'", word.replace('\'', "'\\''"));
        } else {
            line.push_str(&word);
        }
    }
    line
}

/// `text` in at most `width` characters, with an ellipsis where it was cut.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    Cow::Owned(short)
}

/// Breaks a text at blanks into lines of at most `width` characters, all but the first indented by two. What
/// stands in double quotes is not broken and neither is a comment, so that a line of YAML stays one entry; what is
/// longer by itself stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in words(text) {
        if !line.trim_start().is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The words between blanks that stand in no quotes; a comment is one.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut from) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted && from == at => break,
            ' ' if !quoted => {
                words.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    words.push(&text[from..]);
    words.retain(|word| !word.is_empty());
    words
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in at most five characters: `999`, `12.4k`, `123k`, `3.1M`.
pub fn brief(number: u64) -> String {
    let units = [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1_000, 'k')];
    let Some((unit, letter)) = units.into_iter().find(|(unit, _)| number >= *unit) else {
        return number.to_string();
    };
    let tenths = number / (unit / 10);
    if tenths >= 1000 {
        format!("{}{letter}", tenths / 10)
    } else {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    }
}

/// A duration in at most five characters: `40ms`, `0.4s`, `12s`, `3m05`, `2h10`, `4d`.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0 if ns < 100_000_000 => format!("{}ms", ns / 1_000_000),
        0..10 => format!("{seconds}.{}s", ns / 100_000_000 % 10),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago: `now`, `12s`, `5m`, `3h`, `2d`.
pub fn ago(ns: i64) -> String {
    match ns / 1_000_000_000 {
        i64::MIN..1 => "now".to_owned(),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// The name of an error number (`ENOENT`), or the number.
pub fn errno(number: i64) -> String {
    match i32::try_from(number).map(nix::errno::Errno::from_raw) {
        Ok(known) if known != nix::errno::Errno::UnknownErrno => format!("{known:?}"),
        _ => format!("error {number}"),
    }
}

/// The name of a signal (`SIGKILL`), or the number.
pub fn signal(number: i64) -> String {
    let known = i32::try_from(number).ok().and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    known.map_or_else(|| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_told_apart() {
        assert_eq!(command(&[&b"sh"[..], b"-c", b"echo 'a b'; ls", b""]), r"sh -c 'echo '\''a b'\''; ls' ''");
        assert_eq!(command(&[b"a\nb"]), r"a\nb");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0, 999, 1_000, 12_431, 99_999, 123_456, 3_100_000].map(brief),
            ["0", "999", "1.0k", "12.4k", "99.9k", "123k", "3.1M"]
        );
        assert_eq!(
            [5, 400, 9_990, 12_000, 185_000, 7_800_000, 400_000_000].map(|ms| duration(ms * 1_000_000)),
            ["5ms", "0.4s", "9.9s", "12s", "3m05", "2h10", "4d"]
        );
        assert_eq!([-5, 12, 7_200].map(|seconds| ago(seconds * 1_000_000_000)), ["now", "12s", "2h"]);
        assert_eq!([12, 123_456, 1_234_567].map(grouped), ["12", "123,456", "1,234,567"]);
        assert_eq!([13, 9999].map(errno), ["EACCES", "error 9999"]);
        assert_eq!([9, 64].map(signal), ["SIGKILL", "signal 64"]);
        assert_eq!((cut("abcdef", 4), cut("abcd", 4)), ("abc…".into(), "abcd".into()));
    }
}
