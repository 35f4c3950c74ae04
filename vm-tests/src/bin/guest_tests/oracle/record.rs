//! The log of a run against the lines that must be in it: as many of each, and no verdict about anything else.

use super::model::Line;
use super::paths::ROOT;
use crate::log::{Log, attempts, show, text};
use anyhow::{Result, bail};
use audit_verify::canonical::Record;
use std::collections::BTreeMap;

/// Events of calls on paths and addresses.
const EVENTS: [&str; 16] = [
    "file_open",
    "file_create",
    "file_load",
    "file_truncate",
    "file_mode",
    "file_owner",
    "file_symlink",
    "file_delete",
    "file_link",
    "file_rename",
    "dir_create",
    "dir_delete",
    "exec",
    "net_bind",
    "net_connect",
    "net_send",
];

/// Most differences that a failure shows.
const SHOWN: usize = 40;

/// Fails unless the log has exactly these lines about the tree and the addresses, and blocks nothing else.
pub fn compare(log: &Log, expected: &[Line]) -> Result<()> {
    let mut balance: BTreeMap<Line, i64> = BTreeMap::new();
    for line in expected {
        *balance.entry(line.clone()).or_default() -= 1;
    }
    let mut elsewhere = Vec::new();
    for event in &log.events()? {
        match line(event) {
            Some(line) => *balance.entry(line).or_default() += i64::try_from(attempts(event))?,
            None if ["BLOCKED", "WOULD_BLOCK"].contains(&text(event, "action")) => {
                elsewhere.push(show(event));
            }
            None => {}
        }
    }
    let wrong: Vec<String> = balance
        .iter()
        .filter(|(_, count)| **count != 0)
        .map(|(line, count)| describe(line, *count))
        .collect();
    if wrong.is_empty() && elsewhere.is_empty() {
        return Ok(());
    }
    bail!(
        "the record differs in {} lines (+ is too many, - is missing), and blocks {} other things\n{}",
        wrong.len(),
        elsewhere.len(),
        wrong.into_iter().chain(elsewhere).take(SHOWN).collect::<Vec<_>>().join("\n")
    )
}

/// What was denied for another reason than a rule, and what the log says of what was lost.
pub fn unruled(log: &Log) -> Result<String> {
    let events = log.events()?;
    let denied = events
        .iter()
        .filter(|event| text(event, "action") == "BLOCKED" && text(event, "policy_rule").is_empty());
    let end = events.iter().filter(|event| text(event, "event_type") == "run_end");
    Ok(denied.chain(end).map(show).collect::<Vec<_>>().join("\n"))
}

fn describe(line: &Line, count: i64) -> String {
    let Line { event, objects: [one, two], action, rule, ret } = line;
    let shorten = |object: &[u8]| {
        let text = object.escape_ascii().to_string();
        if text.len() > 200 { format!("{}… ({} bytes)", &text[..200], object.len()) } else { text }
    };
    format!("  {count:+} {event} {} {} {action} {rule:?} {ret}", shorten(one), shorten(two))
}

/// The line of an event about the tree or about an address; `None` for all others.
fn line(event: &Record<'_>) -> Option<Line> {
    let event_type = text(event, "event_type");
    let event_type = EVENTS.into_iter().find(|known| *known == event_type)?;
    let ret = event.int("ret").unwrap_or(0).min(0);
    let bytes = |key| event.bytes(key).unwrap_or_default().to_vec();
    let objects = match event_type {
        "net_connect" | "net_send" if event.bytes("path").is_some() => [bytes("path"), Vec::new()],
        "net_bind" => {
            let port = event.uint("src_port").unwrap_or_default();
            [format!("{} {port}", text(event, "src_ip")).into_bytes(), Vec::new()]
        }
        "net_connect" | "net_send" => {
            let port = event.uint("dst_port").unwrap_or_default();
            [format!("{} {port}", text(event, "dst_ip")).into_bytes(), Vec::new()]
        }
        // What a hook judged; where it denied nothing, what runs now.
        "exec" => match event.bytes("target") {
            Some(target) => [target.to_vec(), Vec::new()],
            None => [bytes(if ret < 0 { "path" } else { "exe" }), Vec::new()],
        },
        // The second is the text of the link.
        "file_symlink" => [bytes("path"), Vec::new()],
        _ => [bytes("path"), bytes("path2")],
    };
    let in_tree = objects[0].strip_prefix(ROOT.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
    if !in_tree && !event_type.starts_with("net_") {
        return None;
    }
    let [action, rule] = ["action", "policy_rule"].map(|key| text(event, key).to_owned());
    Some(Line { event: event_type, objects, action, rule, ret })
}
