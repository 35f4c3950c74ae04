//! A table of attempts, and what the kernel and the log must say of them.

use crate::log::{Log, attempts, show, text};
use anyhow::{Result, bail};
use audit_verify::canonical::Record;
use std::collections::BTreeMap;

/// -EACCES, what a denied file or exec gives.
pub const ACCES: i32 = -libc::EACCES;
/// -EPERM, what a denied network access gives.
pub const PERM: i32 = -libc::EPERM;

/// Where an event has no `ret`.
const NO_RESULT: &str = "no result";

/// One attempt of the probe and the event that it must leave.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The probe's step.
    pub step: &'static str,
    /// `event_type` of its event.
    pub event: &'static str,
    /// The key that names the object, and the object.
    pub object: (&'static str, &'static str),
    /// What denies it: the result then, and the rule. `None`: allowed, with result 0.
    pub denied: Option<(i32, &'static str)>,
}

/// An attempt that the policy allows.
pub const fn allowed(
    step: &'static str,
    event: &'static str,
    object: (&'static str, &'static str),
) -> Attempt {
    Attempt { step, event, object, denied: None }
}

/// An attempt that a rule denies with `result`.
pub const fn denied(
    step: &'static str,
    event: &'static str,
    object: (&'static str, &'static str),
    result: i32,
    rule: &'static str,
) -> Attempt {
    Attempt { step, event, object, denied: Some((result, rule)) }
}

/// How a run treats what the policy denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// No policy.
    Observed,
    /// Recorded only.
    Audited,
    /// Blocked.
    Enforced,
}

/// The steps of a table.
pub fn steps(table: &[Attempt]) -> Vec<&'static str> {
    table.iter().map(|attempt| attempt.step).collect()
}

/// Fails unless the probe printed exactly what the table says, in order.
pub fn expect_answers(table: &[Attempt], treatment: Treatment, stdout: &str) -> Result<()> {
    let answer = |attempt: &Attempt| match attempt.denied {
        Some((result, _)) if treatment == Treatment::Enforced => result,
        _ => 0,
    };
    let expected: Vec<String> = table.iter().map(|a| format!("{}\t{}", a.step, answer(a))).collect();
    let found: Vec<&str> = stdout.lines().collect();
    if expected == found {
        return Ok(());
    }
    let lines =
        expected.iter().map(String::as_str).zip(found.iter().copied().chain(std::iter::repeat("nothing")));
    let wrong: Vec<String> = lines
        .filter(|(want, got)| want != got)
        .map(|(want, got)| format!("expected {want:?}, found {got:?}"))
        .collect();
    bail!("{} answers for {} attempts\n{}", found.len(), expected.len(), wrong.join("\n"))
}

/// Fails unless the log has, for each attempt of the table, an event with the right type, object, verdict,
/// rule and result, as many as there were attempts; and no verdict against anything else. An operation of
/// io_uring is no system call: its event has no result, and the worker may try more than once.
pub fn expect_events(table: &[Attempt], treatment: Treatment, log: &Log) -> Result<()> {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for attempt in table {
        let (action, rule, result) = match (treatment, attempt.denied) {
            (Treatment::Observed, _) => ("OBSERVED", "", 0),
            (_, None) => ("ALLOWED", "", 0),
            (Treatment::Audited, Some((_, rule))) => ("WOULD_BLOCK", rule, 0),
            (Treatment::Enforced, Some((result, rule))) => ("BLOCKED", rule, result),
        };
        // Of these calls only the hook tells, which knows no result but its own.
        let told_by_hook = ["file_flags", "file_load"].contains(&attempt.event)
            && action != "BLOCKED"
            && action != "OBSERVED";
        let untold = attempt.step.starts_with("uring-") || told_by_hook;
        let result = if untold { None } else { Some(i64::from(result)) };
        *expected.entry(line(attempt.event, attempt.object.1, action, rule, result)).or_default() += 1;
    }
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for event in &log.events()? {
        let action = text(event, "action");
        let kind = text(event, "event_type");
        if opens_nothing(event) {
            continue;
        }
        let object = table.iter().find(|a| a.event == kind && object_of(event, a.object.0) == a.object.1);
        let against = action == "BLOCKED" || action == "WOULD_BLOCK";
        let name = match object {
            Some(attempt) => attempt.object.1.to_owned(),
            None if against => format!("something else: {}", show(event)),
            None => continue,
        };
        let rule = if against { text(event, "policy_rule") } else { "" };
        // What a call that succeeded returned, a descriptor say, is no matter here.
        let result = event.int("ret").map(|result| result.min(0));
        *found.entry(line(kind, &name, action, rule, result)).or_default() += attempts(event);
    }
    for (line, count) in &mut found {
        if line.ends_with(NO_RESULT) {
            *count = expected.get(line).copied().unwrap_or(0).min(*count);
        }
    }
    if expected == found {
        return Ok(());
    }
    let missing = expected.iter().filter(|(line, count)| found.get(*line) != Some(count));
    let surplus = found.iter().filter(|(line, count)| expected.get(*line) != Some(count));
    let show = |lines: Vec<(&String, &u64)>| {
        lines.iter().map(|(line, count)| format!("  {count} x {line}")).collect::<Vec<_>>().join("\n")
    };
    bail!("the log\nshould have\n{}\nbut has\n{}", show(missing.collect()), show(surplus.collect()))
}

/// The object of an event. That of an exec is what a hook judged: `target` beside the name that it was called
/// by, `path` where the hook alone tells of it; without a judgement it is what was executed.
fn object_of<'e>(event: &'e Record<'_>, key: &str) -> &'e str {
    let exec = text(event, "event_type") == "exec";
    match event.text("target") {
        Some(target) if exec => target,
        None if exec && event.int("ret").is_some_and(|result| result < 0) => text(event, "path"),
        _ => text(event, key),
    }
}

/// An O_PATH open: it gives no access, no hook judges it, and no table lists it.
fn opens_nothing(event: &Record<'_>) -> bool {
    text(event, "event_type") == "file_open"
        && event.int("flags").is_some_and(|flags| flags & i64::from(libc::O_PATH) != 0)
}

fn line(event: &str, object: &str, action: &str, rule: &str, result: Option<i64>) -> String {
    let result = result.map_or(NO_RESULT.to_owned(), |result| result.to_string());
    format!("{event} {object} {action} {rule} {result}")
}
