//! `sandbox baseline`: what runs usually do, and what of another run is new.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use audit_verify::text;
use serde::Serialize;

use super::{different, doubtful, output};
use crate::baseline::check::{Checked, check};
use crate::baseline::deeds::Gathered;
use crate::baseline::file::Baseline;
use crate::baseline::make::make;
use crate::baseline::page::{self, Shown};
use crate::baseline::{BASE, classes};
use crate::cli::{BaselineArgs, BaselineCheckArgs, BaselineCommand, BaselineCreateArgs, BaselineShowArgs};
use crate::error::{self, say};
use crate::exit::Exit;
use crate::record::store::open_regular;
use crate::review::{stores, terminal_width};

/// `sandbox baseline check` could not check.
const NOT_CHECKED: Exit = Exit::from_code(3);
/// Fewer runs than this are told as too few for a baseline.
const FEW: usize = 3;
/// Notes on the runs of a baseline that are told one by one.
const NOTES: usize = 10;

/// Runs `sandbox baseline`.
pub fn execute(args: &BaselineArgs) -> Exit {
    match &args.command {
        BaselineCommand::Create(args) => {
            create(args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        BaselineCommand::Show(args) => {
            show(args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        BaselineCommand::Check(args) => {
            compare(args).unwrap_or_else(|error| error::report(&error, NOT_CHECKED))
        }
    }
}

fn create(args: &BaselineCreateArgs) -> anyhow::Result<Exit> {
    let output = &args.output;
    output::must_be_absent(output)?;
    let mut runs = Vec::new();
    for run in &different(&args.runs)? {
        let gathered = Gathered::of(run)?;
        if let Some(doubt) = &gathered.read.doubt {
            bail!("{}\nleave it out: a baseline is made of whole records", doubtful(run, doubt));
        }
        runs.push(gathered);
    }
    let baseline = make(&runs)?;
    let text = baseline.text()?;
    let notes: Vec<&String> = runs.iter().flat_map(|run| &run.read.notes).collect();
    notes.iter().take(NOTES).for_each(|note| say(&format!("note: {note}")));
    if notes.len() > NOTES {
        say(&format!("and {} more such notes", notes.len() - NOTES));
    }
    if runs.len() < FEW {
        say(&format!(
            "note: fewer than {FEW} runs hardly tell what is usual: much of what an honest run does will be new; record more"
        ));
    }
    output::create(output, &text)?;
    let noun = if runs.len() == 1 { "run" } else { "runs" };
    say(&format!(
        "wrote {}: {} behaviours of {} {noun}",
        output.display(),
        baseline.behaviours.len(),
        runs.len()
    ));
    Ok(Exit::SUCCESS)
}

fn show(args: &BaselineShowArgs) -> anyhow::Result<Exit> {
    let baseline = read(&args.file)?;
    if args.json {
        return print(&(text::json(&serde_json::to_string_pretty(&baseline)?) + "\n"));
    }
    print(&page::shown_baseline(&baseline, most(args.limit)))
}

/// The answer, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    run: &'a str,
    agent: &'a str,
    /// Whose runs it was compared with; all where it is null.
    compared_with: Option<&'a str>,
    runs: u64,
    findings: Vec<Shown<'a>>,
    notes: &'a [String],
}

fn compare(args: &BaselineCheckArgs) -> anyhow::Result<Exit> {
    let baseline = Arc::new(read(&args.against)?);
    let run = stores().find(&args.run)?;
    let gathered = Gathered::of(&run)?;
    if let Some(doubt) = &gathered.read.doubt {
        bail!("{}", doubtful(&run, doubt));
    }
    let base = classes(&gathered.variables).with_context(|| {
        format!("{}: the record's variables cannot be put into the policy {BASE}", run.id)
    })?;
    let checked = check(&gathered, base, &baseline)
        .with_context(|| format!("the baseline {} cannot be used", args.against.display()))?;
    let mut notes = gathered.read.notes.clone();
    if baseline.base != BASE || baseline.groups != policy::groups::VERSION {
        notes.push(
            "the baseline was made with another version of what is sensitive: what changed there looks new; make it \
             again of its runs"
                .to_owned(),
        );
    }
    tell(args, &gathered, &checked, &notes)?;
    match (checked.findings.is_empty(), gathered.read.missing) {
        (false, _) => Ok(Exit::FAILURE),
        (true, 0) => Ok(Exit::SUCCESS),
        (true, missing) => bail!(
            "{missing} events of the run {} are missing or cannot be read: that nothing new is among the others says \
             nothing of these",
            run.id
        ),
    }
}

fn tell(args: &BaselineCheckArgs, run: &Gathered, checked: &Checked, notes: &[String]) -> anyhow::Result<()> {
    let text = if args.json {
        let answer = Answer {
            run: &run.id,
            agent: &run.agent,
            compared_with: checked.agent.as_deref(),
            runs: checked.runs,
            findings: checked.findings.iter().map(|finding| Shown::of(finding, checked)).collect(),
            notes,
        };
        text::json(&serde_json::to_string_pretty(&answer)?) + "\n"
    } else {
        notes.iter().for_each(|note| say(&format!("note: {note}")));
        let width = terminal_width(std::io::stdout()).unwrap_or(usize::MAX);
        page::checked(&run.id, checked, most(args.limit), width)
    };
    print(&text).map(|_| ())
}

/// Reads a baseline.
///
/// # Errors
/// It is not there, or none.
pub(super) fn read(path: &Path) -> anyhow::Result<Baseline> {
    let file = open_regular(path).with_context(|| format!("cannot open the baseline {}", path.display()))?;
    Baseline::read(&file).with_context(|| format!("cannot use the baseline {}", path.display()))
}

fn most(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

fn print(text: &str) -> anyhow::Result<Exit> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // `sandbox baseline show | head` has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        written => Ok(written.map(|()| Exit::SUCCESS).context("cannot print")?),
    }
}
