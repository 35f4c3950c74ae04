//! One run, for a person: a header, the denials, the story.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use audit_verify::canonical::Record;
use audit_verify::progress::Progress;
use audit_verify::verify::{Question, Report, Verdict, Verifier};

use super::list::{Status, status};
use super::timeline::{Detail, Effect, Entry, Story, Timeline};
use super::{tell_wait, text};
use crate::record::LOG;
use crate::record::lines::Lines;
use crate::record::meta::{Meta, MetaEnd};
use crate::record::store::{Found, open_regular};

/// How many lines of the story are shown where nothing else is asked for.
pub const LIMIT: usize = 200;

/// A run that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The log cannot be read.
    #[error("{act} {}: {why}{}", .path.display(), match why.kind() {
        io::ErrorKind::PermissionDenied => "; it is another user's record: read it with sudo",
        _ => "",
    })]
    Log {
        /// What was being done.
        act: &'static str,
        /// The log.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// The output takes nothing more.
    #[error("write the view: {0}")]
    Output(io::Error),
}

/// How a view is cut to size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The most lines of the story (or of the log, as JSON); `None` for all.
    pub limit: Option<usize>,
    /// The widest line in characters, where the output is a terminal.
    pub width: Option<usize>,
}

/// Prints the lines of the log as they are; on a terminal, what would act on it is escaped.
pub fn json(run: &Found, size: Size, out: &mut impl Write) -> Result<(), ViewError> {
    let path = run.path.join(LOG);
    let mut lines = Lines::new(open(&path)?, 0);
    let mut left = size.limit.unwrap_or(usize::MAX);
    while left > 0
        && let Some(line) = lines.next_line().map_err(|e| log_error("read", &path, e))?
    {
        let printable = line.text.iter().all(|byte| matches!(byte, b' '..=b'~'));
        // A line that the product wrote is ASCII; one that somebody forged must not act on a terminal.
        match size.width {
            Some(_) if !printable => out.write_all(text::safe(line.text).as_bytes()),
            _ => out.write_all(line.text),
        }
        .and_then(|()| out.write_all(b"\n"))
        .map_err(ViewError::Output)?;
        left -= 1;
    }
    Ok(())
}

/// Prints the run for a person. Returns what verifying the log said.
pub fn text(run: &Found, size: Size, detail: Detail, out: &mut impl Write) -> Result<Report, ViewError> {
    let path = run.path.join(LOG);
    let log = open(&path)?;
    tell_wait(&path, "the log is verified and read");
    let verified = Progress::of(log).and_then(|log| Verifier::new(Question::Log).run(log));
    let report = verified.map_err(|e| log_error("verify", &path, e))?;
    let meta = Meta::read(&run.path).ok();
    let mut page = String::new();
    header(&mut page, run, meta.as_ref(), &report);

    let mut timeline = Timeline::new(detail);
    let mut begun = None;
    let mut unheld: Vec<String> = Vec::new();
    let mut lines = Lines::new(open(&path)?, 0);
    let mut unread = 0u64;
    while let Some(line) = lines.next_line().map_err(|e| log_error("read", &path, e))? {
        // A line that is not one of ours is the verdict's business; the story goes on behind it.
        match Record::parse(line.text) {
            Ok(record) => {
                begun = begun.or(record.uint("mono_ns"));
                if record.text("event_type") == Some("run_start") {
                    unheld.extend(
                        record.list("unheld").unwrap_or_default().iter().map(|line| text::safe(line)),
                    );
                    told_otherwise(&mut page, meta.as_ref(), &record);
                }
                timeline.add(&record);
            }
            Err(_) => unread += 1,
        }
    }
    let story = timeline.finish();
    let begun = begun.unwrap_or(0);
    for line in unheld {
        // Writing to a String does not fail.
        let _ = writeln!(page, "not held  {line}");
    }
    tell_denials(&mut page, &story, begun);
    tell_story(&mut page, &story.entries, begun, size.limit);
    if unread > 0 {
        // Writing to a String does not fail.
        let noun = if unread == 1 { "line" } else { "lines" };
        let _ = writeln!(page, "\n{} {noun} could not be read.", text::grouped(unread));
    }
    for line in page.lines() {
        let line = size.width.map_or(line.into(), |width| text::cut(line, width));
        writeln!(out, "{}", line.trim_end()).map_err(ViewError::Output)?;
    }
    Ok(report)
}

fn open(path: &Path) -> Result<File, ViewError> {
    open_regular(path).map_err(|e| log_error("open", path, e))
}

pub(super) fn log_error(act: &'static str, path: &Path, why: io::Error) -> ViewError {
    ViewError::Log { act, path: path.to_owned(), why }
}

fn header(page: &mut String, run: &Found, meta: Option<&Meta>, report: &Report) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "{name:<9} {value}");
    };
    line("run", &text::safe(run.id.as_bytes()));
    match meta {
        None => line("meta", "meta.json is missing or cannot be read"),
        Some(meta) => {
            line("command", &text::command(&meta.command));
            line("in", &text::safe(meta.cwd.as_bytes()));
            let started = meta.start.get(..19).unwrap_or(&meta.start).replace('T', " ");
            line("started", &text::safe(format!("{started} UTC, by {}", meta.agent_id).as_bytes()));
            line("ended", &ending(run, meta));
            line("mode", &text::safe(format!("{}, {} store", meta.mode, meta.store).as_bytes()));
            line("layers", &layers(meta));
            line("policy", &policy(meta));
            if let Some(end) = &meta.end {
                line("events", &counts(end));
            }
            if let Some(error) = meta.end.as_ref().and_then(|end| end.error.as_ref()) {
                line("error", &text::safe(error.as_bytes()));
            }
        }
    }
    line("chain", &verdict(report));
}

/// Says where meta.json, which nothing binds, and the first line of the log differ.
fn told_otherwise(page: &mut String, meta: Option<&Meta>, start: &Record<'_>) {
    let Some(meta) = meta else { return };
    let policy = meta.policy.as_ref().map(|policy| policy.sha256.as_str());
    let pairs = [
        ("mode", start.text("mode"), Some(meta.mode.as_str())),
        ("store", start.text("store"), Some(meta.store.as_str())),
        ("policy", start.text("policy_sha256"), policy),
    ];
    for (name, ..) in pairs.into_iter().filter(|(_, logged, told)| logged != told) {
        // Writing to a String does not fail.
        let _ =
            writeln!(page, "NOTE      meta.json has another {name} than the log: what it says is not proven");
    }
}

fn layers(meta: &Meta) -> String {
    let layers = meta.layers.iter().map(|layer| {
        let held = layer.selftest.iter().filter(|test| test.result == "held").count();
        let proven = match layer.selftest.len() {
            _ if layer.is_off() => String::new(),
            0 => String::new(),
            all => format!(", {held} of {all} checks held"),
        };
        text::safe(format!("{} ({}{proven})", layer.name, layer.role).as_bytes())
    });
    match layers.collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        layers => layers.join("; "),
    }
}

fn policy(meta: &Meta) -> String {
    meta.policy.as_ref().map_or("none".to_owned(), |policy| {
        let hash = policy.sha256.get(..16).unwrap_or(&policy.sha256);
        text::safe(format!("{} (sha256 {hash}…)", policy.name).as_bytes())
    })
}

fn counts(end: &MetaEnd) -> String {
    let mut counts = format!("{}, {} lost", text::grouped(end.events), text::grouped(end.lost));
    for (count, what) in
        [(end.folded, "folded"), (end.blocked, "blocked"), (end.would_block, "would be blocked")]
    {
        if count > 0 {
            let _ = write!(counts, ", {} {what}", text::grouped(count));
        }
    }
    counts
}

fn ending(run: &Found, meta: &Meta) -> String {
    match (&meta.end, status(&run.path, Some(meta))) {
        (_, Status::Running) => "the run goes on".to_owned(),
        (None, _) => "unknown: the record breaks off before the run's end".to_owned(),
        (Some(end), _) => {
            let how = match (end.signal, end.exit_code) {
                (Some(signal), _) => text::signal(signal.into()),
                (None, Some(code)) => format!("exit {code}"),
                (None, None) => text::safe(end.reason.as_bytes()),
            };
            let left = match end.left_running {
                0 => String::new(),
                1 => ", 1 process goes on".to_owned(),
                more => format!(", {more} processes go on"),
            };
            format!("{how} after {}{left}", text::duration(end.duration_ns))
        }
    }
}

/// The verification in one line.
fn verdict(report: &Report) -> String {
    match &report.verdict {
        Verdict::Intact { events, head, .. } => {
            format!("intact and complete, {} events\n{:<9} head {head}", text::grouped(*events), "")
        }
        Verdict::Incomplete { events, why, .. } => {
            format!("incomplete, intact for {} events\n{:<9} {why}", text::grouped(*events), "")
        }
        Verdict::Tampered(fault) => {
            format!("TAMPERED, from line {} on\n{:<9} {}", text::grouped(fault.line), "", fault.why)
        }
        Verdict::Unchecked(why) => format!("cannot be checked\n{:<9} {why}", ""),
        Verdict::ChainHolds { lines, .. } => format!("holds for {} lines", text::grouped(*lines)),
    }
}

fn tell_denials(page: &mut String, story: &Story, begun: u64) {
    for (effect, title) in [(Effect::Blocked, "Blocked"), (Effect::WouldBlock, "Would be blocked")] {
        let mut listed = story.denials.iter().filter(|denial| denial.effect == effect).peekable();
        if listed.peek().is_none() {
            continue;
        }
        let _ = writeln!(page, "\n{title}");
        for denial in listed {
            let times = match denial.count {
                1 => String::new(),
                count => format!(" ×{}", text::grouped(count)),
            };
            let _ = writeln!(page, "{} {}{times}", since(denial.mono_ns, begun), denial.text);
            let _ = writeln!(page, "{:>10} rule {}", "", denial.rule);
        }
    }
    if story.more_denials > 0 {
        let _ = writeln!(page, "{:>10} and {} attempts more", "", text::grouped(story.more_denials));
    }
}

fn tell_story(page: &mut String, entries: &[Entry], begun: u64, limit: Option<usize>) {
    if entries.is_empty() {
        return;
    }
    let shown = limit.unwrap_or(usize::MAX).min(entries.len());
    let _ = writeln!(page, "\n{:>10} {:>7} WHAT", "TIME", "PID");
    for entry in &entries[..shown] {
        let Entry { mono_ns, pid, what, text } = entry;
        let _ = writeln!(page, "{} {pid:>7} {what:<8} {text}", since(*mono_ns, begun));
    }
    if shown < entries.len() {
        let left = text::grouped((entries.len() - shown) as u64);
        let _ = writeln!(page, "… {left} lines more: --limit 0 shows all, --files every file");
    }
}

/// Seconds since the run began, in ten characters.
fn since(mono_ns: u64, begun: u64) -> String {
    let ms = mono_ns.saturating_sub(begun) / 1_000_000;
    format!("{:>10}", format!("+{}.{:03}", ms / 1000, ms % 1000))
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
