//! `sandbox why`: what was denied, by which rule and for what reason, and the line that would allow it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::WhyArgs;
use crate::error::say;
use crate::exit::Exit;
use crate::explain::{Group, Remedies, lines, page};
use crate::inside::ask::ask;
use crate::review::{denials, stores};

/// How long lines that would allow something are looked for.
const SEARCH: Duration = Duration::from_secs(10);

/// Denials of one run.
struct Told {
    title: String,
    groups: Vec<Group>,
    more: u64,
    /// Groups that were not asked for.
    left_out: usize,
}

/// Runs `sandbox why`.
///
/// # Errors
/// There is no such run, its log cannot be read, or output cannot be written.
pub fn execute(args: &WhyArgs) -> anyhow::Result<Exit> {
    let wanted = Wanted::new(args)?;
    let told = match &args.run {
        Some(run) => recorded(run, &wanted)?,
        None => match from_inside(&wanted)? {
            Some(told) => told,
            None => recorded("last", &wanted)?,
        },
    };
    let nothing_matches = told.groups.is_empty() && told.left_out > 0;
    if nothing_matches {
        let (left_out, noun) = (told.left_out, if told.left_out == 1 { "group" } else { "groups" });
        say(&format!(
            "nothing matches --rule or --path; without them there are {left_out} {noun} of denials"
        ));
    }
    let mut out = Vec::new();
    if args.json {
        told.groups.iter().for_each(|group| lines::write(group, &mut out));
        lines::write_more(told.more, &mut out);
    } else if !nothing_matches {
        out = page::page(&told.title, &told.groups, told.more).into_bytes();
    }
    match std::io::stdout().write_all(&out) {
        // `sandbox why | head` has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        written => Ok(written.map(|()| Exit::SUCCESS).context("cannot print the denials")?),
    }
}

/// From the runner, where this process is in an enforced run.
fn from_inside(wanted: &Wanted<'_>) -> anyhow::Result<Option<Told>> {
    let answer = ask().context("the runner of this run did not answer; try again")?;
    let title = "this run, so far".to_owned();
    Ok(answer.map(|mut answer| {
        let left_out = wanted.keep(&mut answer.groups);
        Told { title, groups: answer.groups, more: answer.more, left_out }
    }))
}

/// From the record of a run.
fn recorded(which: &str, wanted: &Wanted<'_>) -> anyhow::Result<Told> {
    let run = stores().find(which)?;
    let mut found = denials::read(&run)?;
    found.notes.iter().for_each(|note| say(note));
    if !found.judged {
        say(&format!("no policy judged the run {}", run.id));
    }
    let left_out = wanted.keep(&mut found.groups);
    if let Some(policies) = &found.policies {
        let left = Remedies::new(policies).fill(&mut found.groups, Instant::now() + SEARCH);
        if left > 0 {
            say(&format!(
                "no line was looked for in {left} groups: it takes long; choose by --rule or --path"
            ));
        }
    }
    let title = format!("run {}", crate::review::text::safe(run.id.as_bytes()));
    Ok(Told { title, groups: found.groups, more: found.more, left_out })
}

/// Which groups were asked for.
struct Wanted<'a> {
    rule: Option<&'a str>,
    path: Option<PathBuf>,
}

impl Wanted<'_> {
    fn new(args: &WhyArgs) -> anyhow::Result<Wanted<'_>> {
        let absolute =
            |path: &PathBuf| std::path::absolute(path).context("cannot read the current directory");
        Ok(Wanted { rule: args.rule.as_deref(), path: args.path.as_ref().map(absolute).transpose()? })
    }

    /// Leaves those that were asked for; gives how many others there were.
    fn keep(&self, groups: &mut Vec<Group>) -> usize {
        let before = groups.len();
        groups.retain(|group| self.includes(group));
        before - groups.len()
    }

    fn includes(&self, group: &Group) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let matter = &group.matter;
        let rule = self.rule.is_none_or(|wanted| {
            let rule = matter.rule.as_deref().unwrap_or_default();
            rule == wanted || rule.split_once('/').is_some_and(|(_, name)| name == wanted)
        });
        let paths = [&matter.path, &matter.path2].into_iter().flatten();
        let mut paths = paths.map(|path| Path::new(std::ffi::OsStr::from_bytes(path)));
        rule && self.path.as_ref().is_none_or(|wanted| paths.any(|path| path.starts_with(wanted)))
    }
}
