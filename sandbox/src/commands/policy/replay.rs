//! `sandbox policy replay`: what a policy would have blocked in recorded runs.

use std::fmt::Write as _;

use policy::Variables;
use policy::suggest::Suggestion;
use serde::Serialize;

use super::suggested::{self, Line};
use super::{Place, find, print, print_json};
use crate::cli::PolicyReplayArgs;
use crate::exit::Exit;
use crate::record::store::Found;
use crate::review::replay;
use crate::review::replay::court::{Court, Outcome, blind_spots};
use crate::review::replay::groups::{Group, Groups, Ranked};
use crate::review::start::Start;
use crate::review::text::{grouped, safe};

/// How many objects are shown where nothing else is asked for.
const LIMIT: usize = 20;

/// The answer, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    policy: &'a str,
    runs: Vec<String>,
    events: u64,
    attempts: u64,
    blocked: u64,
    on_trial: u64,
    notes: Vec<String>,
    groups: Vec<Shown<'a>>,
}

/// A group, for programs.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    outcome: &'static str,
    rule: Option<&'a str>,
    because: Option<&'a str>,
    object: &'a str,
    accesses: Vec<&'static str>,
    count: u64,
    programs: &'a [String],
    allow_with: Vec<Line>,
    opens_too: Vec<&'static str>,
    /// Why nothing is suggested.
    no_suggestion: Option<&'a str>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(group: &'a Group) -> Self {
        let found = group.suggestion.as_ref().ok();
        Shown {
            outcome: group.outcome.name(),
            rule: group.rule.as_ref().map(|rule| rule.as_str()),
            because: group.because.as_deref(),
            object: &group.object,
            accesses: group.accesses.iter().map(policy::Access::name).collect(),
            count: group.count,
            programs: &group.programs,
            allow_with: found.map(suggested::lines).unwrap_or_default(),
            opens_too: found.map(suggested::also).unwrap_or_default(),
            no_suggestion: group.suggestion.as_ref().err().map(String::as_str),
        }
    }
}

pub fn execute(args: &PolicyReplayArgs) -> anyhow::Result<Exit> {
    let place = Place::here(&args.place)?;
    let policy = place.read(&args.file)?;
    let variables = place.variables()?;
    let runs = find(&args.runs)?;
    let (mut court, mut groups) = (Court::new(&policy), Groups::default());
    let (mut events, mut attempts) = (0, 0);
    let mut notes = blind_spots(&policy);
    for run in &runs {
        let read = replay::read(run, |attempt| {
            let judged = court.judge(attempt.asked, attempt.who);
            if let Some(judged) = judged.filter(|judged| judged.ruling.outcome != Outcome::Allowed) {
                groups.add(&judged, attempt.who, attempt.count);
            }
        })?;
        notes.extend(elsewhere(run, &variables)?);
        events += read.events;
        attempts += read.attempts;
        notes.extend(read.notes);
    }
    let (blocked, on_trial) = (groups.count(Outcome::Blocked), groups.count(Outcome::OnTrial));
    let groups = groups.finish(&policy, &variables, most(args.limit, args.json));
    if args.json {
        print_json(&Answer {
            policy: policy.name(),
            runs: runs.iter().map(|run| safe(run.id.as_bytes())).collect(),
            events,
            attempts,
            blocked,
            on_trial,
            notes,
            groups: groups.shown.iter().map(Shown::of).collect(),
        })?;
    } else {
        notes.iter().for_each(|note| eprintln!("note: {}", safe(note.as_bytes())));
        let mut text = format!("would have blocked {} of {} events", grouped(blocked), grouped(attempts));
        if on_trial > 0 {
            let _ = write!(text, ", and reported {} on trial", grouped(on_trial));
        }
        let _ = writeln!(
            text,
            "\n  ({} recorded in {}; the others ask nothing of a policy)",
            grouped(events),
            match runs.len() {
                1 => safe(runs[0].id.as_bytes()),
                count => format!("{count} runs"),
            }
        );
        tell(&mut text, &groups);
        print(&text)?;
    }
    Ok(if blocked == 0 { Exit::SUCCESS } else { Exit::FAILURE })
}

/// What is told of a run that was recorded in another workspace: a policy's paths are those of here.
fn elsewhere(run: &Found, here: &Variables) -> anyhow::Result<Option<String>> {
    let start = Start::of(run)?;
    let [there, here] =
        [&start.variables, here].map(|variables| variables.get("WORKSPACE").unwrap_or_default());
    let differ = there != here && !there.is_empty() && !here.is_empty();
    Ok(differ.then(|| {
        format!(
            "{}: recorded in the workspace {}, and judged as in {}: --workspace names another one",
            run.id,
            safe(there),
            safe(here)
        )
    }))
}

/// How many objects are shown at most; nobody who asks for JSON counts lines.
pub(super) fn most(limit: Option<usize>, json: bool) -> usize {
    match limit.unwrap_or(if json { 0 } else { LIMIT }) {
        0 => usize::MAX,
        limit => limit,
    }
}

/// Rules with their objects, a blank line before each rule.
pub(super) fn tell(text: &mut String, groups: &Ranked) {
    let mut rule = None;
    for group in &groups.shown {
        let this = (group.outcome, &group.rule);
        if rule != Some(this) {
            rule = Some(this);
            let count = groups.of_rule(group);
            let name = group.rule.as_ref().map_or("the kernel could not judge", |rule| rule.as_str());
            let trial = if group.outcome == Outcome::OnTrial { " (on trial)" } else { "" };
            let _ = writeln!(text, "\n{:>8} {name}{trial}", grouped(count));
            if let Some(because) = &group.because {
                let _ = writeln!(text, "{:>8} because {because}", "");
            }
        }
        let accesses = group.accesses.to_string();
        let space = if accesses.is_empty() { "" } else { " " };
        let _ = writeln!(text, "{:>8}   {accesses}{space}{}", grouped(group.count), group.object);
        if !group.programs.is_empty() {
            let _ = writeln!(text, "{:>12} by {}", "", group.programs.join(", "));
        }
        suggest(text, &group.suggestion);
    }
    if groups.hidden > 0 {
        let _ = writeln!(text, "\nand {} objects more: --limit 0 shows all", grouped(groups.hidden as u64));
    }
}

fn suggest(text: &mut String, suggestion: &Result<Suggestion, String>) {
    match suggestion {
        Ok(suggestion) => {
            suggestion.to_string().lines().for_each(|line| _ = writeln!(text, "{:>12} {line}", ""));
        }
        Err(why) => _ = writeln!(text, "{:>12} no line: {why}", ""),
    }
}
