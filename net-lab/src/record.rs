//! What a run's record says, compared with a table.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use audit_verify::canonical::{Record, Value};

use crate::trial::Event;

/// Fails unless the record has each of the events, and blocks nothing beside them.
pub(crate) fn compare(directory: &Path, expected: &[Event]) -> Result<()> {
    let path = directory.join("events.jsonl");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let events: Vec<Record<'_>> = lines
        .map(|line| Record::parse(line).map_err(|why| anyhow!("{why:?}: {}", String::from_utf8_lossy(line))))
        .collect::<Result<_>>()?;
    let mut wrong = Vec::new();
    for event in expected {
        if !events.iter().any(|found| matches(found, event)) {
            wrong.push(format!("should tell: {event:?}"));
        }
    }
    let unexpected = events.iter().filter(|found| {
        let blocked = text(found, "action") == "BLOCKED" && !sorts_addresses(found);
        blocked && !keeps_account(found) && !expected.iter().any(|event| matches(found, event))
    });
    wrong.extend(unexpected.map(|found| format!("should not tell:{}", show(found))));
    if !wrong.is_empty() {
        let about = |found: &&Record<'_>| {
            let kind = text(found, "event_type");
            kind.starts_with("net_") || kind.starts_with("dns_")
        };
        wrong.push("it tells of the network:".to_owned());
        wrong.extend(events.iter().filter(about).map(show));
    }
    ensure!(wrong.is_empty(), "the record\n{}", wrong.join("\n"));
    Ok(())
}

/// The C library's getaddrinfo connects a datagram socket to each address that it found, to see which of its own the
/// machine would use (RFC 6724); nothing is sent.
fn sorts_addresses(found: &Record<'_>) -> bool {
    text(found, "event_type") == "net_connect"
        && text(found, "proto") == "udp"
        && ["443", "80"].contains(&&*text(found, "dst_port"))
}

/// Cargo's account of what it used last is a database, which wants a journal beside it: ~/.cargo is nobody's to make files
/// in, since credentials and configuration lie there, and cargo goes on without.
fn keeps_account(found: &Record<'_>) -> bool {
    text(found, "event_type") == "file_create"
        && text(found, "path").ends_with("/.cargo/.global-cache-journal")
        && text(found, "policy_rule").ends_with("/files.default")
}

fn matches(found: &Record<'_>, event: &Event) -> bool {
    text(found, "event_type") == event.kind
        && text(found, "action") == event.action
        && event.fields.iter().all(|(key, value)| text(found, key) == *value)
}

/// A value as a table has it: numbers in decimal, lists with commas, nothing for what is missing.
fn text(found: &Record<'_>, key: &str) -> String {
    found.get(key).map(readable).unwrap_or_default()
}

fn readable(value: &Value<'_>) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::List(items) => {
            items.iter().map(|item| String::from_utf8_lossy(item)).collect::<Vec<_>>().join(",")
        }
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// An event as a person reads it.
fn show(found: &Record<'_>) -> String {
    const KEYS: &[&str] = &[
        "event_type",
        "action",
        "policy_rule",
        "host",
        "sni",
        "question",
        "rcode",
        "answers",
        "target",
        "src_ip",
        "src_port",
        "dst_ip",
        "dst_port",
        "proto",
        "path",
        "ret",
        "reason",
        "comm",
    ];
    let known = KEYS.iter().filter(|key| found.get(key).is_some());
    known.map(|key| format!(" {key}={}", text(found, key))).collect()
}
