//! What is new, and what a baseline holds, in words and for programs. Everything that others chose is made safe.

use std::fmt::Write as _;

use audit_verify::text::safe;
use serde::Serialize;

use super::check::{About, Checked, Finding};
use super::fact::{Doing, Kind};
use super::file::{Baseline, Behaviour, Metric};
use crate::review::text::{cut, grouped, wrap};

/// Programs that are named in a line.
const NAMED: usize = 3;
/// Longest object that is shown to people, in characters.
const SHOWN: usize = 200;

/// A finding, for programs.
#[derive(Serialize)]
pub struct Shown<'a> {
    score: u32,
    new: &'static str,
    kind: &'a str,
    access: Option<&'static str>,
    what: &'a str,
    by: Vec<&'a str>,
    objects: u64,
    times: u64,
    expected_percent: Option<u64>,
    text: String,
    reason: String,
    because: Option<&'a str>,
}

impl<'a> Shown<'a> {
    /// Of a finding of this check.
    pub fn of(finding: &'a Finding, checked: &Checked) -> Self {
        let (new, kind, access, what, objects, percent, because) = match &finding.about {
            About::Behaviour { kind, what, objects, others, percent, because, .. } => {
                let new = if *others > 0 { "for_agent" } else { "behaviour" };
                (new, kind.name.as_str(), Some(kind.access), what.as_str(), *objects, Some(*percent), because)
            }
            About::Program { kind, what, percent, because, .. } => (
                "for_program",
                kind.name.as_str(),
                Some(kind.access),
                what.as_str(),
                1,
                Some(*percent),
                because,
            ),
            About::Volume { metric, value, .. } => {
                ("volume", "volume", None, metric.noun(), *value, None, &None)
            }
            About::Agent(name) => ("agent", "agent", None, name.as_str(), 1, None, &None),
        };
        Self {
            score: finding.score,
            new,
            kind,
            access: access.map(Doing::name),
            what,
            by: finding.by.iter().map(String::as_str).collect(),
            objects,
            times: finding.times,
            expected_percent: percent,
            text: headline(finding),
            reason: reason(finding, checked),
            because: because.as_deref(),
        }
    }
}

/// What a kind is called: something new of it, and several that are known.
fn nouns(kind: &Kind) -> (String, &'static str) {
    let reads = kind.access == Doing::Read;
    let of_rule = |noun: &str| {
        let verb = match kind.access {
            Doing::Read => "reads",
            Doing::Change => "changes",
            Doing::Run => "executes",
            Doing::Serve => "listens at",
            _ => "reaches",
        };
        (format!("{verb} {noun}"), "such objects")
    };
    match (kind.name.as_str(), kind.access) {
        ("base/credentials", _) => of_rule("a credential"),
        ("base/persistence", _) => of_rule("a place whose contents run later"),
        ("base/git-code", _) => of_rule("what git runs"),
        ("base/kernel-settings", _) => of_rule("a setting of the machine"),
        ("base/raw-devices", _) => of_rule("a device as it is"),
        ("base/cloud-metadata", _) => of_rule("the cloud's metadata service"),
        ("base/sockets-elsewhere" | "base/sockets-in-temporary-places" | "base/abstract-sockets", _) => {
            of_rule("a socket of a program that works elsewhere")
        }
        (name, _) if name.contains('/') => of_rule(&format!("what {} closes", safe(name.as_bytes()))),
        ("exec", _) => ("new program".to_owned(), "programs"),
        ("kernel", _) => ("new act of the section kernel".to_owned(), "such acts"),
        (_, Doing::Reach) => ("new host".to_owned(), "hosts"),
        (_, Doing::Serve) => ("new listener".to_owned(), "listeners"),
        (_, Doing::Ask) => ("new name asked for".to_owned(), "names"),
        (_, Doing::Socket | Doing::Abstract) => ("new socket".to_owned(), "sockets"),
        _ if reads => ("new place read".to_owned(), "places"),
        _ => ("new place changed".to_owned(), "places"),
    }
}

fn shown(text: &str) -> String {
    cut(&safe(text.as_bytes()), SHOWN).into_owned()
}

/// Some of them, and how many more.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.take(NAMED).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// What is new, in one line, safe to print.
pub fn headline(finding: &Finding) -> String {
    let by = || match finding.by.is_empty() {
        true => String::new(),
        false => format!(", by {}", some(finding.by.iter())),
    };
    match &finding.about {
        About::Behaviour { kind, what, objects, .. } => {
            let several =
                if *objects > 1 { format!(" ({} of them)", grouped(*objects)) } else { String::new() };
            format!("{}: {}{several}{}", nouns(kind).0, shown(what), by())
        }
        About::Program { kind, what, .. } if kind.access == Doing::Run => {
            format!("new parent: {} starts {}", some(finding.by.iter()), shown(what))
        }
        About::Program { kind, what, .. } => {
            let noun = match nouns(kind).0 {
                noun if kind.is_of_rule() => noun,
                noun => noun.replacen("new ", "", 1),
            };
            format!("new program for this: {}: {}{}", noun, shown(what), by())
        }
        About::Volume { metric, value, .. } => format!("{} {}", grouped(*value), metric.noun()),
        About::Agent(name) => format!("new agent: {}", shown(name)),
    }
}

/// So many runs, of the agent that they are of.
fn runs(checked: &Checked) -> String {
    let agent = checked.agent.as_deref().map(|agent| format!(" of {}", shown(agent))).unwrap_or_default();
    format!("{} {}{agent}", grouped(checked.runs), plural(checked.runs, "run", "runs"))
}

/// Why it is new, in one line, safe to print.
pub fn reason(finding: &Finding, checked: &Checked) -> String {
    let why = why(finding, checked);
    match &finding.about {
        About::Behaviour { others: 0, .. } => format!("in none of {}; {why}", runs(checked)),
        About::Behaviour { .. } => format!("in none of {}, and {why}", runs(checked)),
        _ => why,
    }
}

/// The same where it is said already that none of the runs did it.
fn why(finding: &Finding, checked: &Checked) -> String {
    let runs = runs(checked);
    let expected = |percent: &u64| format!("something new of this kind comes in about {percent} of 100 runs");
    let because = |kind: &Kind, because: &Option<String>| match because {
        Some(because) => format!("; {}: {}", shown(&kind.name), shown(because)),
        None => String::new(),
    };
    match &finding.about {
        About::Behaviour { kind, known, others, percent, because: rule, .. } => {
            let known = match others {
                0 => format!("the baseline has {} {}", grouped(*known), nouns(kind).1),
                others => {
                    format!("in {} {} of other agents", grouped(*others), plural(*others, "run", "runs"))
                }
            };
            format!("{known}; {}{}", expected(percent), because(kind, rule))
        }
        About::Program { kind, runs: seen, known, percent, because: rule, .. } => {
            let noun = plural(*seen, "run", "runs");
            let others = format!("in {} {noun} by others: {}", grouped(*seen), some(known.iter()));
            format!("{others}; {}{}", expected(percent), because(kind, rule))
        }
        About::Volume { of, .. } => format!(
            "in {runs} there were {} to {}, {} in the middle",
            grouped(of.least),
            grouped(of.most),
            grouped(of.median)
        ),
        About::Agent(_) => format!("none of {runs} was its; it is compared with all of them"),
    }
}

fn plural<'a>(count: u64, one: &'a str, several: &'a str) -> &'a str {
    if count == 1 { one } else { several }
}

/// What stands before the lines below a finding.
const INDENT: &str = "       ";

/// What a check came to, for people; at most `limit` findings, in lines of at most `width` characters where names let it.
pub fn checked(run: &str, checked: &Checked, limit: usize, width: usize) -> String {
    let runs = runs(checked);
    let head = format!("run {} against {runs}", safe(run.as_bytes()));
    let findings = &checked.findings;
    if findings.is_empty() {
        return format!("{head}: nothing new\n");
    }
    let room = width.saturating_sub(INDENT.len());
    let mut text = String::new();
    let _ = writeln!(text, "{head}: {} new", grouped(findings.len() as u64));
    let column =
        format!("what none of {runs} did, the most unusual first; a reason that is the same stands once");
    tell(&mut text, "score  ", &broken(column, room));
    let mut last = String::new();
    for finding in findings.iter().take(limit) {
        let times = match finding.times {
            0 | 1 => String::new(),
            times => format!(" ({} times)", grouped(times)),
        };
        let what = names_whole(format!("{}{times}", headline(finding)), room);
        tell(&mut text, &format!("{:>5}  ", finding.score), &what);
        let why = why(finding, checked);
        if why != last {
            tell(&mut text, INDENT, &broken(why.clone(), room));
            last = why;
        }
    }
    if findings.len() > limit {
        let _ = writeln!(text, "and {} more: --limit 0 shows all", grouped((findings.len() - limit) as u64));
    }
    text
}

/// At blanks, where it is too long.
fn broken(text: String, room: usize) -> Vec<String> {
    if text.chars().count() <= room { vec![text] } else { wrap(&text, room) }
}

/// Before the programs, where it is too long: names are not cut, as blanks in them count.
fn names_whole(text: String, room: usize) -> Vec<String> {
    match text.rfind(", by ").filter(|_| text.chars().count() > room) {
        Some(at) => vec![text[..=at].to_owned(), format!("  {}", &text[at + 2..])],
        None => vec![text],
    }
}

/// Lines below one another, the first with something before it.
fn tell(text: &mut String, before: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "{}{line}", if at == 0 { before } else { INDENT });
    }
}

/// What a baseline holds, for people; at most `limit` behaviours of a kind.
pub fn shown_baseline(baseline: &Baseline, limit: usize) -> String {
    let runs = |count: u64| format!("{} {}", grouped(count), plural(count, "run", "runs"));
    let mut text = format!("baseline of {}, by {}\n", runs(baseline.runs), shown(&baseline.base));
    for (name, agent) in &baseline.agents {
        let _ = writeln!(text, "agent {}: {}", shown(name), runs(agent.runs));
        for metric in Metric::ALL {
            if let Some(of) = agent.volumes.get(&metric) {
                let _ = writeln!(
                    text,
                    "  {}: {} to {}, {} in the middle",
                    metric.noun(),
                    grouped(of.least),
                    grouped(of.most),
                    grouped(of.median)
                );
            }
        }
    }
    let mut last: Option<(Kind, usize)> = None;
    for behaviour in &baseline.behaviours {
        let kind = behaviour.kind();
        let at = match last.take() {
            Some((same, at)) if same == kind => at + 1,
            _ => {
                let all = baseline.behaviours.iter().filter(|other| other.kind() == kind).count();
                let alone =
                    baseline.all.alone.get(&super::file::Agent::key(&kind, false)).copied().unwrap_or(0);
                let _ =
                    write!(text, "\n{} {}: {}", shown(&kind.name), kind.access.name(), grouped(all as u64));
                let _ = match alone {
                    0 => writeln!(text),
                    alone => {
                        writeln!(text, ", some of them only in one run each ({} such runs)", grouped(alone))
                    }
                };
                if limit < all {
                    let _ = writeln!(text, "  (the first {limit}; --limit 0 shows all)");
                }
                0
            }
        };
        last = Some((kind, at));
        if at < limit {
            let _ = writeln!(text, "  {}", line(behaviour, baseline.runs));
        }
    }
    text
}

fn line(behaviour: &Behaviour, runs: u64) -> String {
    let mut programs: Vec<(&String, &u64)> = behaviour.by.iter().collect();
    programs.sort_by(|(one, a), (other, b)| b.cmp(a).then(one.cmp(other)));
    let names: Vec<&String> = programs.iter().map(|(name, _)| *name).collect();
    let mut by = some(names.into_iter());
    if by.is_empty() {
        by.push('?');
    }
    format!(
        "{}  ({} of {}, {} times; {by})",
        shown(&behaviour.what),
        grouped(behaviour.in_runs()),
        grouped(runs),
        grouped(behaviour.times)
    )
}
