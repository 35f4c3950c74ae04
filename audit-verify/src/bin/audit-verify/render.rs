//! What people and programs read.

use std::fmt::{self, Write};
use std::io::{IsTerminal, stdout};

use audit_verify::canonical::ObjectWriter;
use audit_verify::text::{clean_lines, safe};
use audit_verify::verify::{Chain, Report, Signed, Verdict, Why};

use crate::cli::Cli;
use crate::index::IndexFinding;
use crate::ledger::Contradiction;
use crate::target::TargetError;

/// What came of one log.
pub struct Finding {
    /// What the log is called.
    pub name: String,
    /// What was found.
    pub outcome: Result<Report, TargetError>,
    /// What speaks against it beside the log.
    pub against: Option<Contradiction>,
    /// What was found of its index, where that was asked for.
    pub index: Option<IndexFinding>,
}

impl Finding {
    /// The exit code.
    pub fn code(&self) -> u8 {
        let log = self.outcome.as_ref().map_or(3, |report| report.verdict.code());
        let against = self.against.as_ref().map_or(0, |against| against.code);
        let index = self.index.as_ref().map_or(0, |index| index.code);
        [1, 3, 2].into_iter().find(|code| [log, against, index].contains(code)).unwrap_or(0)
    }

    /// What speaks against a log that holds by itself.
    fn contradiction(&self) -> Option<&Contradiction> {
        self.against.as_ref().filter(|_| self.outcome.as_ref().is_ok_and(|report| report.verdict.code() != 1))
    }

    fn verdict(&self) -> &'static str {
        match self.contradiction() {
            Some(Contradiction { code: 1, .. }) => return "tampered",
            Some(Contradiction { code: 3, .. }) => return "unchecked",
            Some(_) => return "incomplete",
            None => {}
        }
        self.outcome.as_ref().map_or("unchecked", |report| report.verdict.name())
    }

    /// The first word for people. A good log beside an index that is none does not read as if all were well.
    fn headline(&self) -> String {
        let log = self.outcome.as_ref().map_or(3, |report| report.verdict.code());
        match &self.index {
            Some(index) if index.code != 0 && log == 0 && self.contradiction().is_none() => {
                format!("index {}", index.name)
            }
            _ => self.verdict().to_owned(),
        }
    }

    /// What there is to say about it in one line.
    fn message(&self) -> String {
        if let Some(against) = self.contradiction() {
            return against.message.clone();
        }
        match &self.outcome {
            Err(error) => error.to_string(),
            Ok(report) => match &report.verdict {
                Verdict::Intact { .. } => "written and finished by sandbox, and not edited".into(),
                Verdict::ChainHolds { .. } => "the hash chain holds; nothing else was asked".into(),
                Verdict::Tampered(fault) => format!("line {}: {}", fault.line, fault.why),
                Verdict::Incomplete { why, .. } => why.to_string(),
                Verdict::Unchecked(why) => why.to_string(),
            },
        }
    }
}

/// How text for people looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Verdicts are coloured.
    colour: bool,
    /// Lines are not longer than this, in characters, where words can be parted.
    width: Option<usize>,
}

impl Style {
    /// On a terminal its width and colour, but that never against NO_COLOR.
    pub fn detect() -> Style {
        if !stdout().is_terminal() {
            return Style::default();
        }
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let size = rustix::termios::tcgetwinsize(stdout()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Style { colour: !unwanted, width }
    }

    /// A line that begins with `head`: what does not fit goes on below, under where `text` began. What others chose is shown
    /// escaped.
    pub fn told(self, head: &str, text: &str) -> String {
        let indent = head.chars().count();
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(ROOM_MIN));
        let mut out = head.to_owned();
        for (at, line) in clean_lines(text).split('\n').enumerate() {
            if at > 0 {
                let _ = write!(out, "\n{:indent$}", "");
            }
            let mut used = 0;
            for word in line.split(' ') {
                let len = word.chars().count();
                if used > 0 && used + 1 + len > room {
                    let _ = write!(out, "\n{:indent$}", "");
                    used = 0;
                } else if used > 0 {
                    out.push(' ');
                    used += 1;
                }
                out.push_str(word);
                used += len;
            }
        }
        out.push('\n');
        out
    }

    fn verdict(self, finding: &Finding) -> String {
        self.word(&finding.headline(), finding.code())
    }

    /// The word for a verdict.
    pub fn word(self, verdict: &str, code: u8) -> String {
        let colour = match code {
            0 => 32,
            2 => 33,
            _ => 31,
        };
        match self.colour {
            false => verdict.to_owned(),
            true => format!("\x1b[1;{colour}m{verdict}\x1b[0m"),
        }
    }
}

/// Whether the ledger of a log's store has a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerRow {
    /// Below the logs: the whole store is judged.
    Follows,
    /// Nowhere: only logs are judged.
    None,
}

/// What stands before what is wrong with a row.
pub const BELOW: &str = "            ";

/// The narrowest column that text is broken for, in characters.
const ROOM_MIN: usize = 20;

/// One log among many: a row, and what is wrong below it.
///
/// What is said of its store as a whole stands in the row of the ledger, below all logs.
pub fn row(finding: &Finding, style: Style, ledger_row: LedgerRow) -> String {
    let pad = " ".repeat(11usize.saturating_sub(finding.headline().len()));
    let events = match finding.outcome.as_ref().map(|report| &report.verdict) {
        Ok(Verdict::Intact { events, .. } | Verdict::Incomplete { events, .. }) => {
            format!("{events:>9} events")
        }
        Ok(Verdict::ChainHolds { lines, .. }) => format!("{lines:>9} lines "),
        _ => " ".repeat(16),
    };
    let lost = match finding.outcome.as_ref().map(|report| &report.verdict) {
        Ok(Verdict::Intact { lost, .. } | Verdict::Incomplete { lost, .. }) if *lost > 0 => {
            format!(", {}", losses(*lost))
        }
        _ => String::new(),
    };
    let mut text =
        format!("{}{pad} {events}  {}{lost}\n", style.verdict(finding), safe(finding.name.as_bytes()));
    if let Ok(report) = &finding.outcome
        && (report.verdict.code() != 0 || finding.contradiction().is_some())
    {
        let of_store = finding.contradiction().is_some_and(|against| against.of_store);
        let message = match (of_store, ledger_row) {
            (true, LedgerRow::Follows) => "see the ledger below".to_owned(),
            _ => finding.message(),
        };
        text.push_str(&style.told(BELOW, &message));
    }
    if let Some(index) = finding.index.as_ref().filter(|index| index.code != 0) {
        text.push_str(&style.told(BELOW, &index.message));
    }
    text
}

/// The only log, with all there is to say.
pub fn details(finding: &Finding, cli: &Cli, style: Style) -> String {
    let Ok(report) = &finding.outcome else { return String::new() };
    let mut text = format!("{}: {}\n", style.verdict(finding), safe(finding.name.as_bytes()));
    let mut line = |name: &str, value: &dyn fmt::Display| {
        text.push_str(&style.told(&format!("  {name:<9} "), &value.to_string()));
    };
    let anchored = match cli.expect_head {
        Some(_) => "yes: it ends with the expected head",
        None => "no: compare the head with one kept elsewhere (--expect-head)",
    };
    if let Some(against) = finding.contradiction() {
        line("why", &against.message);
    }
    match &report.verdict {
        Verdict::Intact { events, lost, head } => {
            if finding.headline() != finding.verdict() {
                line("log", &finding.verdict());
            }
            line("events", &format_args!("{events}, {}", losses(*lost)));
            line("head", head);
            line("anchored", &anchored);
            line("signed", &signed(report, cli));
        }
        Verdict::ChainHolds { lines, head } => {
            line("lines", lines);
            line("head", head);
            line("anchored", &anchored);
            line("asked", &"only whether the hash chain holds");
        }
        Verdict::Tampered(fault) => {
            line("line", &fault.line);
            line("why", &fault.why);
            line("expected", &fault.expected);
            line("found", &fault.found);
            if let Some(chain) = chain_alone(report) {
                line("chain", &chain);
            }
        }
        Verdict::Incomplete { events, lost, head, why } => {
            line(if finding.contradiction().is_some() { "log" } else { "why" }, why);
            line("events", &format_args!("{events} hold, {}", losses(*lost)));
            line("head", head);
            line("anchored", &anchored);
            line("signed", &signed(report, cli));
        }
        Verdict::Unchecked(why) => line("why", why),
    }
    if let Some(index) = &finding.index {
        line("index", &index.message);
    }
    text
}

fn signed(report: &Report, cli: &Cli) -> String {
    let up_to = |line: u64| match report.verdict {
        Verdict::Incomplete { events, .. } if line < events => format!(", up to event {line}"),
        _ => String::new(),
    };
    match report.signed {
        Signed::No => "no".to_owned(),
        Signed::Unchecked { key, .. } => format!("by {key}, not checked: hand the key in (--key)"),
        Signed::Good { key, line } if cli.demands_keys() => format!("yes, by {key}{}", up_to(line)),
        Signed::Good { key, line } => {
            format!("by {key}{}, a key of this store (see --key)", up_to(line))
        }
    }
}

fn losses(lost: u64) -> String {
    if lost == 0 { "none lost".into() } else { format!("{lost} lost") }
}

/// What is to be said about the chain where that differs from the verdict.
fn chain_alone(report: &Report) -> Option<String> {
    match (&report.chain, &report.verdict) {
        (Chain::Holds, Verdict::Tampered(fault)) if matches!(fault.why, Why::Anchor { .. }) => {
            Some("holds by itself: it is another log, or this one cut or written anew".into())
        }
        (Chain::Holds, _) => Some("holds by itself: not a break of the hashes, but of the format".into()),
        (Chain::Broken(broken), Verdict::Tampered(fault)) if broken.line == fault.line => None,
        (Chain::Broken(broken), _) => Some(format!("breaks at line {}: {}", broken.line, broken.why)),
        (Chain::Unknown, _) => Some("unknown: the file could not be read to its end".into()),
    }
}

/// One JSON object, keys ascending.
pub fn json(finding: &Finding, cli: &Cli) -> String {
    let mut line = Vec::new();
    let mut object = ObjectWriter::new(&mut line);
    let report = finding.outcome.as_ref();
    let verdict = report.map(|report| &report.verdict);
    let counted = match verdict {
        Ok(Verdict::Intact { events, lost, head } | Verdict::Incomplete { events, lost, head, .. }) => {
            Some((*events, Some(*lost), head))
        }
        Ok(Verdict::ChainHolds { lines, head }) => Some((*lines, None, head)),
        _ => None,
    };
    let fault = match verdict {
        Ok(Verdict::Tampered(fault)) => Some(fault),
        _ => None,
    };
    let reason = match verdict {
        Ok(Verdict::Tampered(fault)) => Some(fault.why.name()),
        Ok(Verdict::Incomplete { why, .. }) => Some(why.name()),
        Ok(Verdict::Unchecked(why)) => Some(why.name()),
        Ok(Verdict::Intact { .. } | Verdict::ChainHolds { .. }) => None,
        Err(error) => Some(error.name()),
    };
    if counted.is_some() {
        object.put("anchored", cli.expect_head.is_some());
    }
    if let Ok(report) = report {
        let chain = match report.chain {
            Chain::Holds => "holds",
            Chain::Broken(_) => "broken",
            Chain::Unknown => "unknown",
        };
        object.put("chain", chain);
    }
    object.put("code", finding.code());
    if let Some((events, ..)) = counted {
        object.put("events", events);
    }
    if let Some(fault) = fault {
        object.put("expected", fault.expected.as_str()).put("found", fault.found.as_str());
    }
    if let Some((_, _, head)) = counted {
        object.put("head", head.as_str());
    }
    if let Some(index) = &finding.index {
        object.put("index", index.name).put("index_message", index.message.as_str());
    }
    if let Some(key) = report.ok().and_then(|report| report.signed.key()) {
        object.put("key_id", key.as_str());
    }
    if let Some(fault) = fault {
        object.put("line", fault.line);
    }
    if let Some((_, Some(lost), _)) = counted {
        object.put("lost", lost);
    }
    object.put("message", finding.message().as_str());
    if let Some(reason) = finding.contradiction().map(|_| "ledger").or(reason) {
        object.put("reason", reason);
    }
    if counted.is_some() {
        object.put("signed", matches!(report.map(|report| report.signed), Ok(Signed::Good { .. })));
    }
    object.put("target", finding.name.as_str()).put("verdict", finding.verdict());
    // The keys above ascend, so nothing can fail; a test prints every kind of finding.
    let _ = object.finish();
    line.push(b'\n');
    String::from_utf8(line).unwrap_or_default()
}

/// How many logs came out how.
#[derive(Default)]
pub struct Tally([usize; 4]);

impl Tally {
    /// Counts one.
    pub fn add(&mut self, code: u8) {
        self.0[usize::from(code)] += 1;
    }

    /// The worst exit code.
    pub fn code(&self) -> u8 {
        [1, 3, 2].into_iter().find(|code| self.0[usize::from(*code)] > 0).unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [good, tampered, incomplete, unchecked] = self.0;
        write!(f, "{} logs: {good} good", self.0.iter().sum::<usize>())?;
        for (count, name) in [(tampered, "tampered"), (incomplete, "incomplete"), (unchecked, "unchecked")] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}
