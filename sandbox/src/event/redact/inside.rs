//! Secrets within one word, wherever it stands: assignments, fields of JSON, headers, addresses with a password in them,
//! and everything that is known by its shape.

use super::{
    cuts::{Cuts, REDACTED, Read},
    documents,
    names::{self, NAME_MAX, Secrecy},
    replaced, shapes,
};

/// Cuts the secrets of one word. Reads it once, and around each `=`, `:` and `://` a bounded part again.
pub fn scan(text: &[u8], cuts: &mut Cuts) {
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        let end = match byte {
            b'=' => assignment(text, at, cuts),
            b':' => colon(text, at, cuts),
            b'%' if text[at..].starts_with(b"%3A//") => address(text, at + 5, cuts),
            b'<' => documents::element(text, at, cuts),
            b'$' if text[at..].starts_with(b"${") => default(text, at, cuts),
            b'd' | b'm' if text[at..].starts_with(b"default") || text[at..].starts_with(b"machine") => {
                documents::netrc(text, at, cuts)
            }
            _ if shapes::may_begin(byte) => shapes::cut_at(text, at, cuts),
            _ => None,
        };
        at = end.unwrap_or(at + 1).max(at + 1);
    }
}

/// How far a value is read that may turn out to be no secret.
const LOOK: usize = 2048;

/// A value and where it ends.
#[derive(Clone, Copy, Debug)]
struct Value {
    begin: usize,
    end: usize,
    /// Where to go on: behind the closing quote.
    next: usize,
}

/// `NAME=VALUE` around the `=` at `at`.
fn assignment(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    let name = name_before(text, at)?;
    let value = match text.get(at + 1) {
        // A comparison.
        Some(b'=') => return None,
        Some(b'>') => at + 2,
        _ => at + 1,
    };
    let query = matches!(name.begin.checked_sub(1).map(|before| text[before]), Some(b'?' | b'&'));
    let secrecy = match names::secrecy(name.of(text)) {
        Secrecy::None | Secrecy::ByValue if query => in_query(name.of(text)),
        secrecy => secrecy,
    };
    if matches!(secrecy, Secrecy::None | Secrecy::Place) {
        return None;
    }
    let spaced = name.spaced || text.get(value) == Some(&b' ');
    let begin = value + spaces(text, value);
    let first = name.is_first(text);
    // What a shell reads may have other quotes beside the first, or a `$` before them.
    let shell = first && !spaced && cuts.read() == Read::Shell;
    let dollar = usize::from(shell && matches!(text[begin..], [b'$', b'"' | b'\'', ..]));
    let value = match quoted(text, begin + dollar) {
        Some(value) if shell => joined(text, value),
        Some(value) => value,
        None if !spaced && is_taken_from(text, name, begin, cuts.read()) => return None,
        // A setting, or a sentence with a sign of equality in it.
        None if spaced => return material(text, begin, cuts),
        None => {
            let whole = !query && first && is_set_whole(name.of(text), text);
            // What may turn out to be none is not read to its end again and again.
            let most = if secrecy == Secrecy::Secret { text.len() } else { text.len().min(begin + LOOK) };
            let end = begin + value_len(&text[begin..most], whole);
            if text[begin..end] == *name.of(text) {
                // An argument of a call, in code.
                return None;
            }
            let value = Value { begin, end, next: end };
            if shell && end > begin { joined(text, value) } else { value }
        }
    };
    cut(text, value, secrecy, cuts).then_some(value.next)
}

/// A value with what a shell takes for the rest of it. It is then cut with its quotes.
fn joined(text: &[u8], value: Value) -> Value {
    let end = joined_end(text, value);
    if end == value.next {
        return value;
    }
    let quotes = text[..value.begin].last().is_some_and(|byte| matches!(byte, b'"' | b'\''));
    Value { begin: value.begin - usize::from(quotes), end, next: end }
}

/// Where the word ends that a value begins: what stands in quotes right behind it belongs to it, and what stands between.
fn joined_end(text: &[u8], value: Value) -> usize {
    let mut end = value.next;
    while let Some(byte) = text.get(end) {
        end = match byte {
            b'"' | b'\'' => quoted(text, end).map_or(text.len(), |value| value.next),
            b'\\' => (end + 2).min(text.len()),
            // What ends a value without quotes is no part of it.
            byte if end > value.end && is_joined(*byte) => end + 1,
            _ => break,
        };
    }
    end
}

/// Whether a byte behind a closing quote belongs to the same word.
fn is_joined(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"$!#%*+-./@^_~".contains(&byte)
}

/// Whether what stands behind a name without quotes is code that takes the value from elsewhere: `token=$1`.
fn is_taken_from(text: &[u8], name: Name, begin: usize, read: Read) -> bool {
    let before = name.begin.checked_sub(1).map(|before| text[before]);
    let statement = before.is_some_and(|before| b"{;( \t\n".contains(&before));
    let path = text[name.begin] == b'.';
    if before == Some(b'$') || ((statement || path) && read == Read::Code) {
        return true;
    }
    let value = &text[begin..text.len().min(begin + LOOK)];
    let sure = read != Read::Plain || matches!(value.get(1), Some(b'{' | b'(' | b'0'..=b'9'));
    if !sure || (name.is_first(text) && read != Read::Code) {
        return false;
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`;,&|)}".contains(byte);
    replaced::reference(value)
        .is_some_and(|taken| taken.default.is_none() && value.get(taken.len).is_none_or(ends))
}

/// `${NAME:-VALUE}`, which begins at `at`.
fn default(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    let len = text[at + 2..]
        .iter()
        .take(NAME_MAX)
        .take_while(|byte| is_name_byte(**byte) && **byte != b'-')
        .count();
    let name = at + 2..at + 2 + len;
    let begin = replaced::default_begin(text, name.end)?;
    let secrecy = names::secrecy(&text[name.clone()]);
    let other = matches!(text.get(begin), None | Some(b'$' | b'`' | b'}'));
    if other || text[..begin].ends_with(b"+") || matches!(secrecy, Secrecy::None | Secrecy::Place) {
        return None;
    }
    let most = if secrecy == Secrecy::Secret { text.len() } else { text.len().min(begin + LOOK) };
    let end = replaced::closing(&text[begin..most]).map_or(most, |len| begin + len);
    let value = replaced::without_quotes(text, begin..end);
    cut(text, Value { begin: value.start, end: value.end, next: end }, secrecy, cuts).then_some(end)
}

/// What stands before a `=` or `:`.
#[derive(Clone, Copy, Debug)]
struct Name {
    begin: usize,
    end: usize,
    /// There is a space behind it.
    spaced: bool,
    /// It stands in quotes.
    quoted: bool,
}

impl Name {
    fn of<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        &text[self.begin..self.end]
    }

    /// Whether nothing but dashes, or another `NAME=`, stands before it.
    fn is_first(&self, text: &[u8]) -> bool {
        let before = &text[..self.begin];
        before.last().is_none_or(|byte| *byte == b'=')
            || before.iter().take(3).all(|byte| *byte == b'-') && before.len() < 3
    }
}

/// Whether a name may have this byte.
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// The name that ends before `at`, where there is one.
fn name_before(text: &[u8], at: usize) -> Option<Name> {
    let mut end = at;
    let back = |end: usize, what: &[u8]| end > 0 && what.contains(&text[end - 1]);
    let mut limit = 8;
    while back(end, b" ") && limit > 0 {
        (end, limit) = (end - 1, limit - 1);
    }
    let spaced = end < at;
    let unquoted = end;
    while back(end, b"\"'\\]") && limit > 0 {
        (end, limit) = (end - 1, limit - 1);
    }
    let quoted = end < unquoted;
    let len = text[..end].iter().rev().take(NAME_MAX + 1).take_while(|byte| is_name_byte(**byte)).count();
    let begin = end - len;
    // Dashes before it are a flag's.
    let dashes = text[begin..end].iter().take_while(|byte| **byte == b'-').count();
    (len > dashes).then_some(Name { begin: begin + dashes, end, spaced, quoted })
}

fn spaces(text: &[u8], at: usize) -> usize {
    text[at.min(text.len())..].iter().take(8).take_while(|byte| **byte == b' ').count()
}

/// A value in quotes, which may be escaped, that begins at `at`. Without a closing quote it goes to the end.
fn quoted(text: &[u8], at: usize) -> Option<Value> {
    let rest = text.get(at..)?;
    let escapes = rest.iter().take(4).take_while(|byte| **byte == b'\\').count();
    let quote = *rest.get(escapes).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let begin = at + escapes + 1;
    let mut slashes = 0;
    for (len, byte) in text[begin..].iter().enumerate() {
        // A quote within the value has more before it than those around it: `\"` in JSON, `\\\"` in JSON in a string.
        let closes = match (quote, escapes) {
            (b'\'', 0) => true,
            (_, 0) => slashes % 2 == 0,
            _ => slashes <= escapes,
        };
        if *byte == quote && closes {
            let close = begin + len;
            return Some(Value { begin, end: close - slashes.min(escapes), next: close + 1 });
        }
        slashes = if *byte == b'\\' { slashes + 1 } else { 0 };
    }
    Some(Value { begin, end: text.len(), next: text.len() })
}

/// Whether a value with this name, the first of its word, takes all of the word: a variable, or the value of a flag,
/// and not the first field of a form.
fn is_set_whole(name: &[u8], text: &[u8]) -> bool {
    text.first() == Some(&b'-') && !name.contains(&b'.') || !name.iter().any(u8::is_ascii_lowercase)
}

/// How long a value without quotes is: to the end where `whole`, else to what begins another field.
fn value_len(value: &[u8], whole: bool) -> usize {
    if whole {
        return value.len();
    }
    let ends = |at: usize| match value[at] {
        b'"' | b'\'' | b'`' | b'#' | b'<' | b'>' | b')' | b'\n' | b'\r' => true,
        b'&' | b';' | b',' | b' ' | b'\t' => {
            let rest = &value[at + 1..];
            let skip = spaces(value, at + 1);
            // `User ID=` is one name, but behind a space it is the next word's.
            let of_name = |byte: u8| is_name_byte(byte) || (byte == b' ' && !value[at].is_ascii_whitespace());
            let name = rest[skip..].iter().take(NAME_MAX).take_while(|byte| of_name(**byte)).count();
            let behind = &rest[skip + name..];
            // What was cut before stood at the end, or the value would have gone with it.
            behind.first().is_none_or(|byte| *byte == b'=') || behind.starts_with(REDACTED)
        }
        _ => false,
    };
    (0..value.len()).find(|at| ends(*at)).unwrap_or(value.len())
}

/// Names that are a secret's in the query of an address.
fn in_query(name: &[u8]) -> Secrecy {
    const SECRET: &[&str] =
        &["sig", "signature", "x-amz-signature", "x-goog-signature", "sessionid", "session", "auth"];
    if SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes())) {
        Secrecy::Secret
    } else if name.eq_ignore_ascii_case(b"key") {
        Secrecy::ByValue
    } else {
        Secrecy::None
    }
}

/// Cuts a value if it is one that its name makes secret.
fn cut(text: &[u8], value: Value, secrecy: Secrecy, cuts: &mut Cuts) -> bool {
    let is_secret = is_secret_value(&text[value.begin..value.end], secrecy);
    if is_secret {
        cuts.add_value(text, value.begin..value.end);
    }
    is_secret
}

/// Whether a value is secret, with a name that says this much.
pub fn is_secret_value(value: &[u8], secrecy: Secrecy) -> bool {
    match secrecy {
        Secrecy::None | Secrecy::Place => false,
        Secrecy::ByValue => names::looks_like_material(value),
        Secrecy::UnlessPath => !names::is_path(value),
        Secrecy::Secret => true,
    }
}

/// What stands around the `:` at `at`.
fn colon(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    if text[at..].starts_with(b"://") {
        return address(text, at + 3, cuts);
    }
    let name = name_before(text, at)?;
    if name.quoted {
        return field(text, at, name, cuts);
    }
    header_at(text, at, name, false, cuts).or_else(|| setting(text, at, name, cuts))
}

/// `name: value`, as YAML has it. What is in no quotes may be a sentence.
fn setting(text: &[u8], at: usize, name: Name, cuts: &mut Cuts) -> Option<usize> {
    if names::secrecy(name.of(text)) != Secrecy::Secret || name.spaced {
        return None;
    }
    let begin = at + 1 + spaces(text, at + 1);
    match quoted(text, begin) {
        Some(value) => cut(text, value, Secrecy::Secret, cuts).then_some(value.next),
        None => material(text, begin, cuts),
    }
}

/// A word behind a name, if it looks like a secret by itself.
fn material(text: &[u8], begin: usize, cuts: &mut Cuts) -> Option<usize> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`,;".contains(byte);
    let most = text.len().min(begin + LOOK);
    let end = text[begin..most].iter().position(ends).map_or(most, |len| begin + len);
    cut(text, Value { begin, end, next: end }, Secrecy::ByValue, cuts).then_some(end)
}

/// A field of JSON.
fn field(text: &[u8], at: usize, name: Name, cuts: &mut Cuts) -> Option<usize> {
    let secrecy = names::secrecy(name.of(text));
    let begin = at + 1 + spaces(text, at + 1);
    if is_authorization(name.of(text)) {
        let value = quoted(text, begin)?;
        return authorization(&text[..value.end], value.begin, false, cuts).map(|_| value.next);
    }
    if matches!(secrecy, Secrecy::None | Secrecy::Place) {
        return None;
    }
    if text.get(begin) == Some(&b'[') && secrecy == Secrecy::Secret {
        return list(text, begin + 1, cuts);
    }
    let spliced = if cuts.read() == Read::Shell { spliced(text, begin) } else { None };
    let value = spliced.or_else(|| quoted(text, begin)).unwrap_or_else(|| {
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'\n' | b'[' | b'{');
        let most = if secrecy == Secrecy::Secret { text.len() } else { text.len().min(begin + LOOK) };
        let end = text[begin..most].iter().position(ends).map_or(most, |len| begin + len);
        Value { begin, end, next: end }
    });
    cut(text, value, secrecy, cuts).then_some(value.next)
}

/// A string of JSON for which a script leaves its single quotes: `'{"password":"'"$X"'"}'`.
fn spliced(text: &[u8], at: usize) -> Option<Value> {
    let begin = at + text.get(at..)?.starts_with(b"\"'").then_some(2)?;
    let most = text.len().min(begin + LOOK);
    let len = text[begin..most].windows(2).position(|two| two == b"'\"")?;
    Some(Value { begin, end: begin + len, next: begin + len + 2 })
}

/// The strings of a list, whose bracket stands before `begin`.
fn list(text: &[u8], begin: usize, cuts: &mut Cuts) -> Option<usize> {
    let mut at = begin;
    loop {
        at += text[at..].iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b',').count();
        let Some(value) = quoted(text, at) else { break };
        cut(text, value, Secrecy::Secret, cuts);
        at = value.next;
    }
    (at > begin).then_some(at)
}

/// `Name: value` as the value of a flag that takes a header.
pub fn header(text: &[u8], cuts: &mut Cuts) {
    if let Some(at) = text.iter().take(NAME_MAX).position(|byte| *byte == b':')
        && let Some(name) = name_before(text, at)
    {
        header_at(text, at, name, true, cuts);
    }
}

fn is_authorization(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"authorization") || name.eq_ignore_ascii_case(b"proxy-authorization")
}

/// Whether a word is the name of a header whose value is the next word, or words.
pub fn is_authorization_alone(word: &[u8]) -> bool {
    word.strip_suffix(b":").is_some_and(is_authorization)
}

/// Whether a word is a scheme, behind which the secret stands.
pub fn is_scheme(word: &[u8]) -> bool {
    SCHEMES.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// What stands behind an `Authorization:` that is a word of its own: a scheme with the secret, or something that looks
/// like one.
pub fn authorization_value(text: &[u8], cuts: &mut Cuts) {
    if text.contains(&b' ') {
        authorization(text, 0, false, cuts);
    } else {
        material(text, 0, cuts);
    }
}

/// A header, whose name ends at the `:` at `at`. Where it is not `certain` that it is one its name must say so: text for
/// people has colons too.
fn header_at(text: &[u8], at: usize, name: Name, certain: bool, cuts: &mut Cuts) -> Option<usize> {
    let (begin, named) = (name.begin, name.of(text));
    let is = |known: &[u8]| named.eq_ignore_ascii_case(known);
    let starts = begin.checked_sub(1).is_none_or(|before| match text[before] {
        // A field of an object in code.
        b'{' => is_authorization(named),
        byte => !matches!(byte, b'/' | b'@' | b'-' | b':' | b'$'),
    });
    if name.spaced || !starts {
        return None;
    }
    let value = at + 1 + spaces(text, at + 1);
    if is_authorization(named) {
        let value = quoted(text, value).map_or(value, |quoted| quoted.begin);
        return authorization(text, value, certain, cuts);
    }
    if is(b"cookie") || is(b"set-cookie") {
        let first = text[value..].iter().take(NAME_MAX).take_while(|byte| **byte != b' ');
        let cookies = certain || first.into_iter().any(|byte| *byte == b'=');
        let end = if cookies { header_end(text, value, text.len()) } else { value };
        cuts.add_value(text, value..end);
        return cookies.then_some(end);
    }
    let written_as_one = named.contains(&b'-') && named[0].is_ascii_uppercase() || named.starts_with(b"x-");
    let secrecy = names::secrecy(named);
    if !(certain || written_as_one) || matches!(secrecy, Secrecy::None | Secrecy::Place) {
        return None;
    }
    let most = if secrecy == Secrecy::Secret { text.len() } else { text.len().min(value + LOOK) };
    let end = header_end(text, value, most);
    let value = header_value(text, value, end, cuts.read());
    cut(text, value, secrecy, cuts);
    Some(value.end)
}

/// Schemes of `Authorization` (IANA's registry, and what services made up).
const SCHEMES: &[&str] = &[
    "apikey",
    "aws4-hmac-sha256",
    "basic",
    "bearer",
    "digest",
    "dpop",
    "genie-key",
    "hawk",
    "jwt",
    "negotiate",
    "ntlm",
    "oauth",
    "sharedkey",
    "ssws",
    "token",
];

/// Where a header's value that begins at `value` ends, `most` at the latest.
fn header_end(text: &[u8], value: usize, most: usize) -> usize {
    let ends = |byte: &u8| b"\"'\n\r`".contains(byte);
    text[value..most].iter().position(ends).map_or(most, |len| value + len)
}

/// A header's value up to where it ends, with what a shell takes for the rest of it.
fn header_value(text: &[u8], begin: usize, end: usize, read: Read) -> Value {
    let value = Value { begin, end, next: end };
    let closes = matches!(text.get(end), Some(b'"' | b'\''));
    if read != Read::Shell || !closes {
        return value;
    }
    let next = joined_end(text, Value { next: end + 1, ..value });
    match next > end + 1 {
        true if begin == end => Value { begin: end + 1, end: next, next },
        true => Value { begin, end: next, next },
        false => value,
    }
}

/// The value of an `Authorization` header: its scheme stays.
fn authorization(text: &[u8], begin: usize, certain: bool, cuts: &mut Cuts) -> Option<usize> {
    let value = &text[begin..];
    let scheme =
        value.iter().take(32).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    let space = spaces(value, scheme);
    let known = is_scheme(&value[..scheme]);
    if !certain && !known && space > 0 {
        return None;
    }
    let end = header_end(text, begin, text.len());
    let secret = if space > 0 { begin + scheme + space } else { begin };
    let value = header_value(text, secret.min(end), end, cuts.read());
    cuts.add_value(text, value.begin..value.end);
    Some(value.end)
}

/// `user:password@host`; one that begins with `http://` is an address like others.
pub fn proxy(text: &[u8], cuts: &mut Cuts) {
    let sign = text.iter().rposition(|byte| *byte == b'@').unwrap_or(0);
    let colon = text[..sign].iter().position(|byte| *byte == b':');
    if let Some(colon) = colon.filter(|colon| !text[*colon..].starts_with(b"://")) {
        cuts.add_value(text, colon + 1..sign);
    }
}

/// The password in an address, whose host or user begins at `at`.
fn address(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    let rest = &text[at..];
    let end = rest.iter().position(|byte| *byte == b'/' || shapes::ends_address(*byte)).unwrap_or(rest.len());
    let (end, sign) = match rest[..end].iter().rposition(|byte| *byte == b'@') {
        Some(sign) => (end, sign),
        None => spilled(rest, end)?,
    };
    let user = &rest[..sign];
    match user.iter().position(|byte| *byte == b':') {
        Some(colon) => cuts.add_value(text, at + colon + 1..at + sign),
        // A token may stand in the user's place.
        None if names::looks_like_material(user) => cuts.add_value(text, at..at + sign),
        None => return None,
    }
    // The host has no secret; the path and the query may.
    Some(at + end.min(rest.len()))
}

/// A password with a `/`, `?` or `#` in it, which should have been escaped: what stands where a port would is no number.
fn spilled(rest: &[u8], end: usize) -> Option<(usize, usize)> {
    let colon = rest[..end].iter().position(|byte| *byte == b':')?;
    if end > colon + 1 && rest[colon + 1..end].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`".contains(byte);
    let last = rest.iter().take(LOOK).position(ends).unwrap_or(rest.len().min(LOOK));
    let sign = rest[..last].iter().rposition(|byte| *byte == b'@')?;
    Some((sign + 1, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        Cuts::redacted(text, scan)
    }

    #[test]
    fn a_value_ends_where_the_next_field_begins() {
        assert_eq!(redacted("user=a&password=b&c&x=d"), "user=a&password=[redacted]&x=d");
        assert_eq!(redacted("Server=s;Password=p;Database=d"), "Server=s;Password=[redacted];Database=d");
        assert_eq!(redacted("host=h password=p q dbname=d"), "host=h password=[redacted] dbname=d");
        assert_eq!(redacted("DB_PASSWORD=a&b=c"), "DB_PASSWORD=[redacted]");
        assert_eq!(redacted("{\"password\": \"a\", \"b\": 1}"), "{\"password\": \"[redacted]\", \"b\": 1}");
        assert_eq!(redacted(r#"{\"password\":\"a\"}"#), r#"{\"password\":\"[redacted]\"}"#);
    }

    #[test]
    fn a_quote_within_a_value_does_not_end_it() {
        assert_eq!(redacted(r#"{"password":"a\"b","x":1}"#), r#"{"password":"[redacted]","x":1}"#);
        assert_eq!(redacted(r#"{"password":"a\\","x":1}"#), r#"{"password":"[redacted]","x":1}"#);
        assert_eq!(
            redacted(r#"{\"password\":\"a\\\"b\",\"x\":1}"#),
            r#"{\"password\":\"[redacted]\",\"x\":1}"#
        );
        assert_eq!(
            redacted(r#"{"password": ["a", "b"], "x": 1}"#),
            r#"{"password": ["[redacted]", "[redacted]"], "x": 1}"#
        );
    }

    #[test]
    fn settings_are_read_as_files_have_them() {
        assert_eq!(redacted("secret_key: \"a b\""), "secret_key: \"[redacted]\"");
        assert_eq!(redacted("db.password: 'a'"), "db.password: '[redacted]'");
        let key = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";
        assert_eq!(
            redacted(&format!("aws_secret_access_key = {key}\nregion = x")),
            "aws_secret_access_key = [redacted]\nregion = x"
        );
        assert_eq!(redacted("the password: it is not here"), "the password: it is not here");
    }

    #[test]
    fn what_only_looks_alike_stays() {
        for text in
            ["token: fix the lexer", "if token == 3", "http://h:8080/@scope/x", "ssh://git@h/x", "a.password"]
        {
            assert_eq!(redacted(text), text);
        }
    }
}
