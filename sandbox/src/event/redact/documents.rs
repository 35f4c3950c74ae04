//! Texts as files have them: lines of settings, entries of a netrc, elements of XML.

use super::{
    cuts::Cuts,
    inside,
    names::{self, NAME_MAX, Secrecy},
};

/// How far an entry or the beginning of an element is read.
const LOOK: usize = 512;

/// How far an element is read.
const VALUE: usize = 4096;

/// Cuts the secrets of a text that is a file, or what a program is given to read.
pub fn scan(text: &[u8], cuts: &mut Cuts) {
    let mut at = 0;
    for line in text.split(|byte| *byte == b'\n') {
        setting(text, at, line, cuts);
        at += line.len() + 1;
    }
    inside::scan(text, cuts);
}

/// A line with nothing but a setting in it, without quotes. Elsewhere that may be a sentence or code.
fn setting(text: &[u8], at: usize, line: &[u8], cuts: &mut Cuts) {
    let line = line.trim_ascii_end();
    let skip = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'-')).count();
    let skip = if line[skip..].starts_with(b"export ") { skip + b"export ".len() } else { skip };
    let len = line[skip..].iter().take(NAME_MAX).take_while(|byte| inside::is_name_byte(**byte)).count();
    let (name, rest) = line[skip..].split_at(len);
    let blanks = |text: &[u8]| text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let sign = blanks(rest);
    let (Some(b'=' | b':'), Secrecy::Secret) = (rest.get(sign), names::secrecy(name)) else { return };
    let begin = sign + 1 + blanks(&rest[sign + 1..]);
    let value = &rest[begin..];
    let variable = rest[0] == b'=' && begin == 1 && !name.iter().any(u8::is_ascii_lowercase);
    if variable && !matches!(value.first(), Some(b'$' | b'"' | b'\'' | b'`')) || is_value(value) {
        let begin = at + skip + len + begin;
        cuts.add_value(text, begin..begin + value.len());
    }
}

/// Whether a word is no name of a type or of something else in code, nor what YAML has signs for.
fn is_value(word: &[u8]) -> bool {
    let tells = |byte: &u8| byte.is_ascii_digit() || b"!@#%^*~+=".contains(byte);
    let fits = |byte: &u8| byte.is_ascii_alphabetic() || tells(byte) || b"_-/".contains(byte);
    word.len() >= 6 && !b"!*@%".contains(&word[0]) && word.iter().all(fits) && word.iter().any(tells)
}

/// `machine HOST login USER password SECRET`, whose parts may stand on lines of their own, if it begins at `at`.
pub fn netrc(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    let rest = &text[at..];
    let begun = rest.starts_with(b"machine") || rest.starts_with(b"default");
    if !begun || at > 0 && inside::is_name_byte(text[at - 1]) {
        return None;
    }
    let mut words = Entry { text: &text[..text.len().min(at + LOOK)], at: at + b"machine".len() };
    if rest.starts_with(b"machine") {
        words.next()?;
    }
    let (mut login, mut password) = (false, None);
    while let (false, Some(key)) = (login && password.is_some(), words.next()) {
        let value = words.next()?;
        match &text[key] {
            b"login" | b"user" => login = true,
            b"password" | b"passwd" => password = Some(value),
            b"account" => {}
            _ => return None,
        }
    }
    let password = password.filter(|_| login)?;
    // It may be longer than what was looked at.
    let end = password.start + Entry::word_len(&text[password.start..]);
    cuts.add_value(text, password.start..end);
    Some(end)
}

/// The words of an entry.
struct Entry<'t> {
    text: &'t [u8],
    at: usize,
}

impl Entry<'_> {
    /// How long a blank is; `\n` is one, for what is yet to be printed.
    fn blank_len(text: &[u8]) -> usize {
        match text {
            [b'\\', b'n' | b't', ..] => 2,
            [byte, ..] if byte.is_ascii_whitespace() => 1,
            _ => 0,
        }
    }

    fn word_len(text: &[u8]) -> usize {
        let ends = |at: &usize| Self::blank_len(&text[*at..]) > 0 || matches!(text[*at], b'"' | b'\'');
        (0..text.len()).find(ends).unwrap_or(text.len())
    }

    fn next(&mut self) -> Option<std::ops::Range<usize>> {
        let begun = self.at;
        while let len @ 1.. = Self::blank_len(&self.text[self.at.min(self.text.len())..]) {
            self.at += len;
        }
        let begin = self.at;
        self.at += Self::word_len(self.text.get(begin..)?);
        (begin > begun && self.at > begin).then_some(begin..self.at)
    }
}

/// `<name>SECRET</name>`, if it begins at `at`.
pub fn element(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    let rest = &text[at + 1..];
    let is_name = |byte: &u8| inside::is_name_byte(*byte) || *byte == b':';
    let len = rest.iter().take(NAME_MAX).take_while(|byte| is_name(byte)).count();
    let (name, behind) = rest.split_at(len);
    let secrecy = names::secrecy(name);
    if secrecy == Secrecy::None || !matches!(behind.first(), Some(b'>' | b' ')) {
        return None;
    }
    let tag = behind.iter().take(LOOK).position(|byte| matches!(byte, b'>' | b'<'))?;
    if behind[tag] != b'>' {
        return None;
    }
    let value = &behind[tag + 1..];
    // Without its end it is none: `<token>` stands for one in what people are told.
    let value_len = value.windows(2).take(VALUE).position(|two| two == b"</")?;
    let end = &value[value_len + 2..];
    if !end.starts_with(name) || !inside::is_secret_value(&value[..value_len], secrecy) {
        return None;
    }
    let begin = at + 1 + len + tag + 1;
    cuts.add_value(text, begin..begin + value_len);
    Some(begin + value_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        Cuts::redacted(text, scan)
    }

    #[test]
    fn lines_of_settings_are_told_from_code() {
        for (text, expected) in [
            ("\nDB_PASSWORD=a#b c\nX=y", "\nDB_PASSWORD=[redacted]\nX=y"),
            ("\n  password: hunter2\n  user: a", "\n  password: [redacted]\n  user: a"),
            ("\n[client]\npassword = hunter2\n", "\n[client]\npassword = [redacted]\n"),
            ("\nexport TOKEN=a;b\n", "\nexport TOKEN=[redacted]\n"),
        ] {
            assert_eq!(redacted(text), expected);
        }
        for text in [
            "\n  token: str\n",
            "\n  password: Option<String>,\n",
            "\ntoken: u64,\n",
            "\npassword: yes it is\n",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    #[test]
    fn entries_and_elements_have_an_end() {
        for (text, expected) in [
            ("machine h login u password p\n", "machine h login u password [redacted]\n"),
            ("machine h\n  password p\n  login u\n", "machine h\n  password [redacted]\n  login u\n"),
            ("default login u password p", "default login u password [redacted]"),
            ("machine h\\nlogin u\\npassword p\\n", "machine h\\nlogin u\\npassword [redacted]\\n"),
            ("<a><password>p q</password></a>", "<a><password>[redacted]</password></a>"),
            ("<db:Password x='1'>p</db:Password>", "<db:Password x='1'>[redacted]</db:Password>"),
        ] {
            assert_eq!(redacted(text), expected);
        }
        for text in [
            "a machine has a password for you",
            "machine h login u",
            "run x <token> <file>",
            "<password></password>",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
