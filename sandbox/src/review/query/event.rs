//! One event in one line, for people.

use audit_verify::canonical::Record;

use crate::review::text;
use crate::review::timeline::what_and_text;

/// The head of the columns that [`line()`] prints.
pub fn head() -> String {
    format!("{:>8} {:>10} {:>7} WHAT", "SEQ", "TIME", "PID")
}

/// The event of a line, safe to print. `begun` is the run's start, nanoseconds of CLOCK_MONOTONIC.
pub fn line(event: &Record<'_>, begun: u64) -> String {
    let (what, told) = what_and_text(event);
    let number = |key| event.uint(key).unwrap_or(0);
    let ms = number("mono_ns").saturating_sub(begun) / 1_000_000;
    let time = format!("+{}.{:03}", ms / 1000, ms % 1000);
    let times = match number("count") {
        0 | 1 => String::new(),
        count => format!(" ×{}", text::grouped(count)),
    };
    let verdict = verdict(event);
    let (seq, pid) = (number("seq"), number("pid"));
    let line = format!("{seq:>8} {time:>10} {pid:>7} {what:<8} {verdict}{told}{times}");
    line.trim_end().to_owned()
}

/// What a policy said, before everything that a narrow terminal cuts.
fn verdict(event: &Record<'_>) -> String {
    let word = match event.text("action") {
        Some("BLOCKED") => "BLOCKED",
        Some("WOULD_BLOCK") => "WOULD BE BLOCKED",
        _ => return String::new(),
    };
    let rule = event.bytes("policy_rule").map(|rule| format!(" by {}", text::safe(rule))).unwrap_or_default();
    format!("{word}{rule}: ")
}
