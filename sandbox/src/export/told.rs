//! What several forms tell alike: whether an attempt came to something, what it was about, and how it reads in one
//! line.

use std::net::IpAddr;

use super::entry::Entry;
use crate::review::text;

/// The highest mode that a file has, type and permissions; others are not told as octal digits.
pub const MODE_MAX: i64 = 0o177_777;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was not: the call failed, or a policy denied it.
    Failure,
    /// The line does not say.
    Unknown,
}

impl Outcome {
    /// Of a line: a denial is a failure, else `ret` says it.
    pub fn of(entry: &Entry<'_>) -> Outcome {
        match (entry.action(), entry.peek_int("ret")) {
            ("BLOCKED", _) | (_, Some(i64::MIN..0)) => Outcome::Failure,
            (_, Some(0..)) => Outcome::Success,
            (_, None) => Outcome::Unknown,
        }
    }
}

/// The name of the error that a call failed with, as in `ENOENT`.
pub fn errno(entry: &Entry<'_>) -> Option<String> {
    let ret = entry.peek_int("ret").filter(|ret| *ret < 0)?;
    Some(text::errno(ret.checked_neg()?))
}

/// Nanoseconds since 1970; `None` where the line has no timestamp that this is one of.
pub fn wall_ns(entry: &Entry<'_>) -> Option<i64> {
    crate::record::time::parse(entry.peek_text("timestamp")?.raw().as_bytes())
}

/// The last part of a path, which is the path itself where it has no other.
pub fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

/// A command as one line, for people; the words themselves are in a list.
pub fn command_line<'w>(words: impl Iterator<Item = &'w str>) -> String {
    /// The longest that is shown, in bytes: search engines refuse longer terms, and nobody reads them.
    const LONGEST: usize = 8 << 10;
    let mut shown = Vec::new();
    let mut length = 0;
    for word in words {
        length += word.len() + 1;
        if length > LONGEST {
            shown.push("…");
            break;
        }
        shown.push(word);
    }
    text::command(&shown)
}

/// An address that is one.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// `ipv4` or `ipv6`, where the family or an address of the event is one.
pub fn ip_version(entry: &Entry<'_>) -> Option<&'static str> {
    let of = |key| entry.peek_text(key).and_then(|text| address(text.shown()));
    match (entry.peek_text("family").as_ref().map(|family| family.raw()), of("dst_ip").or(of("src_ip"))) {
        (_, Some(IpAddr::V4(_))) | (Some("inet"), None) => Some("ipv4"),
        (_, Some(IpAddr::V6(_))) | (Some("inet6"), None) => Some("ipv6"),
        _ => None,
    }
}

/// The event in one line, safe to print: type, object, and what became of it.
pub fn summary(entry: &Entry<'_>) -> String {
    let mut line = text::safe(entry.event_type().as_bytes());
    let mut add = |part: &str| {
        line.push(' ');
        line.push_str(&text::safe(part.as_bytes()));
    };
    let object = |key| entry.peek_text(key).map(|value| value.shown().to_owned());
    if let Some(command) = entry.peek_list("argv").or(entry.peek_list("command")) {
        add(&command_line(command.shown()));
    } else {
        for key in ["path", "host", "sni", "dst_ip", "src_ip", "target", "policy_name", "exe"] {
            if let Some(object) = object(key) {
                add(&object);
                break;
            }
        }
    }
    if let Some(path2) = object("path2") {
        add("->");
        add(&path2);
    }
    if let Some(port) = entry.peek_int("dst_port") {
        add(&format!("port {port}"));
    }
    match entry.action() {
        "BLOCKED" => add("blocked"),
        "WOULD_BLOCK" => add("would be blocked"),
        _ => {}
    }
    if let Some(rule) = object("policy_rule") {
        add(&format!("by {rule}"));
    }
    if let Some(errno) = errno(entry) {
        add(&errno);
    }
    line
}
