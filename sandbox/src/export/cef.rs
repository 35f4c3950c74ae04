//! ArcSight's Common Event Format, version 0: one line an event, a header and an extension of `key=value`.
//!
//! Source: "ArcSight Common Event Format (CEF) Implementation Standard". In the header `|` and `\` are escaped, in the
//! extension `=`, `\` and ends of lines. Keys of the log that the dictionary of CEF has no key for have one of the own:
//! `policy_sha256` is `sandboxPolicySha256`.

use std::fmt::Write as _;
use std::net::IpAddr;

use audit_verify::canonical::{Member, Raw};

use super::entry::{Entry, Text, as_list, as_text};
use super::told::{self, MODE_MAX, Outcome};
use super::{Form, Run, Sink};

/// Writes the lines.
#[derive(Debug, Default)]
pub struct Cef {
    run: Run,
    line: String,
}

impl Form for Cef {
    fn event(&mut self, entry: &Entry<'_>, out: &mut Sink) -> std::io::Result<()> {
        self.run.learn(entry);
        self.line.clear();
        self.header(entry);
        self.device(entry);
        self.process(entry);
        self.file(entry);
        self.network(entry);
        self.verdict(entry);
        self.rest(entry);
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }
}

impl Cef {
    fn header(&mut self, entry: &Entry<'_>) {
        self.line.push_str("CEF:0|sandbox|sandbox|");
        let version = self.run.version().to_owned();
        push_header(&mut self.line, &version);
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let event_type = match entry.event_type() {
            // The header has fewer escapes than the extension: a type that nobody knows stands there.
            hostile if !is_word(hostile) => "unknown",
            _ => entry.text("event_type").map_or("unknown", |text| text.raw()),
        };
        // It is the signature's id, and the name.
        let _ = write!(self.line, "|{event_type}|{event_type}");
        let severity = match (entry.action(), entry.event_type()) {
            ("BLOCKED", _) => 7,
            ("WOULD_BLOCK", _) => 5,
            (_, "gap") => 6,
            _ => 1,
        };
        let _ = write!(self.line, "|{severity}|");
    }

    fn device(&mut self, entry: &Entry<'_>) {
        if let Some(ns) = told::wall_ns(entry) {
            self.put("rt", &ns.div_euclid(1_000_000).to_string());
        }
        self.number(entry, "externalId", "seq");
        if let Some(name) = self.run.hostname.clone() {
            self.put("dvchost", &name);
        }
        if let Some(id) = self.run.machine_id.clone() {
            self.put("deviceExternalId", &id);
        }
        self.text(entry, "act", "action");
        match Outcome::of(entry) {
            Outcome::Success => self.put("outcome", "success"),
            Outcome::Failure => self.put("outcome", "failure"),
            Outcome::Unknown => {}
        }
        self.labelled(entry, "cs2", "hash_self");
        self.labelled(entry, "cs3", "run_id");
    }

    fn process(&mut self, entry: &Entry<'_>) {
        self.number(entry, "spid", "pid");
        self.text(entry, "sproc", "exe");
        self.number(entry, "suid", "uid");
        self.text(entry, "suser", "user");
        self.labelled(entry, "cs4", "proc_id");
        self.labelled_number(entry, "cn2", "ppid");
        self.labelled_number(entry, "cn3", "exit_code");
        // One event has at most one of the two.
        let other = if entry.peek_int("target_pid").is_some() { "target_pid" } else { "child_pid" };
        self.number(entry, "dpid", other);
    }

    fn file(&mut self, entry: &Entry<'_>) {
        if let Some(path) = entry.text("path") {
            let path = shown(&path);
            self.put("filePath", &path);
            self.put("fname", told::base_name(&path));
        }
        self.number(entry, "fileId", "ino");
        if let Some(mode) = entry.int_in("file_mode", 0..=MODE_MAX) {
            self.put("filePermission", &format!("{mode:04o}"));
        }
    }

    fn network(&mut self, entry: &Entry<'_>) {
        self.address(entry, "dst_ip", "dst", "c6a3", "Destination IPv6 Address");
        self.address(entry, "src_ip", "src", "c6a2", "Source IPv6 Address");
        self.port(entry, "dpt", "dst_port");
        self.port(entry, "spt", "src_port");
        self.text(entry, "dhost", "host");
        self.text(entry, "proto", "proto");
        self.number(entry, "in", "bytes_in");
        self.number(entry, "out", "bytes_out");
    }

    fn verdict(&mut self, entry: &Entry<'_>) {
        self.labelled(entry, "cs1", "policy_rule");
        self.text(entry, "msg", "because");
        self.text(entry, "reason", "reason");
        self.labelled_number(entry, "cn1", "ret");
    }

    fn rest(&mut self, entry: &Entry<'_>) {
        let escaped = entry.escaped_texts(fits);
        for member in entry.rest_beside_escaped() {
            let value = value(member);
            self.put(&own_key(member.key), &value);
        }
        if !escaped.is_empty() {
            self.put("sandboxEscaped", &escaped.join(" "));
        }
        // Behind the last value stands a space that none of them has.
        self.line.truncate(self.line.trim_end_matches(' ').len());
    }

    fn put(&mut self, key: &str, value: &str) {
        self.line.push_str(key);
        self.line.push('=');
        push_value(&mut self.line, value);
        self.line.push(' ');
    }

    fn text(&mut self, entry: &Entry<'_>, to: &str, key: &str) {
        if let Some(text) = entry.text(key) {
            self.put(to, &shown(&text));
        }
    }

    fn number(&mut self, entry: &Entry<'_>, to: &str, key: &str) {
        if entry.uint(key).is_some() {
            self.put(to, entry.digits(key).unwrap_or_default());
        }
    }

    fn labelled(&mut self, entry: &Entry<'_>, to: &str, key: &str) {
        if let Some(text) = entry.text(key) {
            self.put(to, &shown(&text));
            self.put(&format!("{to}Label"), key);
        }
    }

    fn labelled_number(&mut self, entry: &Entry<'_>, to: &str, key: &str) {
        if let Some(number) = entry.int(key) {
            self.put(to, &number.to_string());
            self.put(&format!("{to}Label"), key);
        }
    }

    fn port(&mut self, entry: &Entry<'_>, to: &str, key: &str) {
        if let Some(port) = entry.int_in(key, 0..=65535) {
            self.put(to, &port.to_string());
        }
    }

    /// `dst` and `src` are IPv4 alone; IPv6 has fields of its own.
    fn address(&mut self, entry: &Entry<'_>, key: &str, v4: &str, v6: &str, label: &str) {
        match entry.peek_text(key).and_then(|text| told::address(text.shown())) {
            Some(IpAddr::V4(_)) => self.text(entry, v4, key),
            Some(IpAddr::V6(_)) => {
                self.text(entry, v6, key);
                self.put(&format!("{v6}Label"), label);
            }
            None => {}
        }
    }
}

/// Whether a text can stand in a line as it is: no control characters but ends of lines, which have an escape; nothing
/// else that some reader takes for an end of a line; no space at an end, which a reader may cut off.
fn fits(text: &str) -> bool {
    let stops = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\r'))
            || matches!(character, '\u{2028}' | '\u{2029}')
    };
    !text.contains(stops) && !text.starts_with(' ') && !text.ends_with(' ')
}

/// The text, or the log's own escapes for it; spaces at the ends of those are escaped as well.
fn shown(text: &Text<'_>) -> String {
    match text.plain().filter(|plain| fits(plain)) {
        Some(plain) => plain.to_owned(),
        None => {
            let inner = text.raw().trim_matches(' ');
            let before = text.raw().len() - text.raw().trim_start_matches(' ').len();
            let after = text.raw().len() - before - inner.len();
            const SPACE: &str = "\\u0020";
            [SPACE.repeat(before), inner.to_owned(), SPACE.repeat(after)].concat()
        }
    }
}

fn value(member: &Member<'_>) -> String {
    match &member.raw {
        Raw::Flag(flag) => flag.to_string(),
        Raw::Integer(digits) => String::from_utf8_lossy(digits).into_owned(),
        raw => match (as_text(raw), as_list(raw)) {
            (Some(text), _) => shown(&text),
            (None, Some(_)) => list(raw),
            (None, None) => String::new(),
        },
    }
}

/// A list as JSON, in the log's own bytes.
fn list(raw: &Raw<'_>) -> String {
    match raw {
        Raw::List(items) => format!("[{}]", String::from_utf8_lossy(items)),
        _ => String::new(),
    }
}

/// `policy_sha256` is `sandboxPolicySha256`: CEF has letters and digits in keys, and nothing else.
fn own_key(key: &str) -> String {
    let mut own = "sandbox".to_owned();
    for word in key.split('_') {
        let mut letters = word.chars().filter(char::is_ascii_alphanumeric);
        own.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        own.extend(letters);
    }
    own
}

fn push_header(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '|' | '\\' => line.extend(['\\', character]),
            // A header has no escape for ends of lines.
            '\n' | '\r' => line.push(' '),
            _ => line.push(character),
        }
    }
}

fn push_value(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '=' | '\\' => line.extend(['\\', character]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            _ => line.push(character),
        }
    }
}
