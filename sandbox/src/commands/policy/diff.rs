//! `sandbox policy diff`: what changes from one policy to another, in words and on recorded runs.

use std::fmt::Write as _;

use policy::Policy;
use policy::difference::{Change, Item, KeyChange, difference};
use serde::Serialize;

use super::replay::{Shown, most, tell};
use super::{Place, find, print, print_json};
use crate::cli::PolicyDiffArgs;
use crate::exit::Exit;
use crate::record::store::Found;
use crate::review::replay;
use crate::review::replay::court::{Court, Outcome, blind_spots};
use crate::review::replay::groups::{Groups, Ranked};
use crate::review::text::{grouped, safe};

/// The answer, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    before: &'a str,
    after: &'a str,
    changes: Vec<Changed<'a>>,
    attempts: u64,
    /// What the second blocks and the first does not, or has on trial.
    closed: Vec<Shown<'a>>,
    /// What the first blocks and the second does not, or has on trial.
    opened: Vec<Shown<'a>>,
    notes: &'a [String],
}

/// An item that differs, for programs.
#[derive(Serialize)]
struct Changed<'a> {
    section: &'static str,
    name: &'a str,
    change: &'static str,
    keys: Vec<Key<'a>>,
}

#[derive(Serialize)]
struct Key<'a> {
    key: &'static str,
    removed: &'a [String],
    added: &'a [String],
}

pub fn execute(args: &PolicyDiffArgs) -> anyhow::Result<Exit> {
    let place = Place::here(&args.place)?;
    let (before, after) = (place.read(&args.before)?, place.read(&args.after)?);
    let items = difference(&before, &after);
    let limit = most(args.limit, args.json);
    let replayed = replay(&place, (&before, &after), &find(&args.runs)?, limit)?;
    if args.json {
        print_json(&Answer {
            before: before.name(),
            after: after.name(),
            changes: items.iter().map(changed).collect(),
            attempts: replayed.attempts,
            closed: replayed.closed.shown.iter().map(Shown::of).collect(),
            opened: replayed.opened.shown.iter().map(Shown::of).collect(),
            notes: &replayed.notes,
        })?;
    } else {
        replayed.notes.iter().for_each(|note| eprintln!("note: {}", safe(note.as_bytes())));
        let mut text = String::new();
        describe(&mut text, &items);
        if !args.runs.is_empty() {
            replayed.describe(&mut text);
        }
        print(&text)?;
    }
    let same = items.is_empty() && replayed.closed.is_empty() && replayed.opened.is_empty();
    Ok(if same { Exit::SUCCESS } else { Exit::FAILURE })
}

fn changed(item: &Item) -> Changed<'_> {
    let keys = item.keys.iter().map(|KeyChange { key, removed, added }| Key { key, removed, added });
    Changed { section: item.section, name: &item.name, change: item.change.name(), keys: keys.collect() }
}

/// What recorded attempts make of the difference.
struct Replayed {
    attempts: u64,
    closed: Ranked,
    opened: Ranked,
    notes: Vec<String>,
}

fn replay(
    place: &Place,
    (before, after): (&Policy, &Policy),
    runs: &[Found],
    limit: usize,
) -> anyhow::Result<Replayed> {
    let variables = place.variables()?;
    let (mut old, mut new) = (Court::new(before), Court::new(after));
    let (mut closed, mut opened) = (Groups::default(), Groups::default());
    let mut notes = Vec::new();
    if !runs.is_empty() {
        notes.extend(blind_spots(before).into_iter().chain(blind_spots(after)));
        notes.dedup();
    }
    let mut attempts = 0;
    for run in runs {
        let read = replay::read(run, |attempt| {
            let judge = |court: &mut Court<'_>| court.judge(attempt.asked, attempt.who);
            let (Some(was), Some(is)) = (judge(&mut old), judge(&mut new)) else { return };
            match is.ruling.outcome.cmp(&was.ruling.outcome) {
                std::cmp::Ordering::Greater => closed.add(&is, attempt.who, attempt.count),
                std::cmp::Ordering::Less => opened.add(&was, attempt.who, attempt.count),
                std::cmp::Ordering::Equal => {}
            }
        })?;
        attempts += read.attempts;
        notes.extend(read.notes);
    }
    let closed = closed.finish(after, &variables, limit);
    let opened = opened.finish(before, &variables, limit);
    Ok(Replayed { attempts, closed, opened, notes })
}

impl Replayed {
    fn describe(&self, text: &mut String) {
        let sides = [
            (&self.closed, "would be closed by the second"),
            (&self.opened, "are closed by the first only; the lines would open them there too"),
        ];
        let _ = writeln!(text, "\n{} recorded events", grouped(self.attempts));
        for (groups, what) in sides {
            let trial = if groups.has(Outcome::OnTrial) { ", some on trial" } else { "" };
            let _ = writeln!(text, "\n{} {what}{trial}", grouped(groups.count()));
            tell(text, groups);
        }
    }
}

/// Items by section, one line each, and one for each key of what changed.
fn describe(text: &mut String, items: &[Item]) {
    if items.is_empty() {
        text.push_str("the policies say the same\n");
    }
    let mut section = "";
    for item in items {
        if section != item.section {
            section = item.section;
            let _ = writeln!(text, "{section}");
        }
        let sign = match item.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed => '~',
        };
        let _ = writeln!(text, "  {sign} {}", item.name);
        for KeyChange { key, removed, added } in &item.keys {
            let _ = writeln!(text, "      {key}:");
            removed.iter().for_each(|entry| _ = writeln!(text, "        - {}", safe(entry.as_bytes())));
            added.iter().for_each(|entry| _ = writeln!(text, "        + {}", safe(entry.as_bytes())));
        }
    }
}
