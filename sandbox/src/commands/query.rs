//! `sandbox query`: which events of a run meet some conditions.

use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;

use crate::cli::QueryArgs;
use crate::error::{Refusal, say};
use crate::exit::Exit;
use crate::review::query::filter::{ExeFilter, Filter, FilterError, Needle, Outcome, Prefix};
use crate::review::query::{Asked, Form, QueryError, answer};
use crate::review::view::LIMIT;
use crate::review::{stores, terminal_width, text};

/// Runs `sandbox query`.
///
/// # Errors
/// A condition means nothing, there is no such run, or its log cannot be read.
pub fn execute(args: &QueryArgs) -> anyhow::Result<Exit> {
    let stdout = std::io::stdout();
    let width = terminal_width(&stdout);
    let form = match (args.count, args.json) {
        (true, _) => Form::Count,
        (false, true) => Form::Json,
        (false, false) => Form::Text(width),
    };
    // A program counts for itself.
    let usual = if args.json { 0 } else { LIMIT };
    let limit = Some(args.limit.unwrap_or(usual)).filter(|limit| *limit > 0);
    let asked =
        Asked { filter: filter(args).map_err(usage)?, since: args.since, until: args.until, form, limit };
    let run = stores().find(&args.run)?;
    let mut out = BufWriter::new(stdout.lock());
    let answered = answer(&run, &asked, &mut out);
    match answered.and_then(|told| out.flush().map(|()| told).map_err(QueryError::Output)) {
        // `sandbox query | head` has what it wanted.
        Err(QueryError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        Err(error) => Err(error.into()),
        Ok(told) => {
            told.notes.iter().for_each(|note| say(note));
            if told.more {
                say(&format!("these are the first {}: --limit 0 prints all", text::grouped(told.matched)));
            } else if told.matched == 0 && form != Form::Count {
                say("no event matches");
            }
            Ok(Exit::SUCCESS)
        }
    }
}

/// A condition that means nothing is a fault of the command line, as those that clap finds.
fn usage(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<FilterError>() {
        Ok(error) => Refusal::new(Exit::USAGE, error.to_string()).into(),
        Err(other) => other,
    }
}

fn filter(args: &QueryArgs) -> anyhow::Result<Filter> {
    let not_empty = |what, path: &Path| match path.as_os_str().is_empty() {
        true => Err(FilterError::Empty(what)),
        false => Ok(()),
    };
    let prefix = |path: &Path| {
        std::path::absolute(path).map(|path| Prefix::new(&path)).context("cannot read the current directory")
    };
    let path = |path: &std::path::PathBuf| {
        not_empty("--path", path)?;
        prefix(path)
    };
    let exe = |exe: &std::path::PathBuf| {
        not_empty("--exe", exe)?;
        let bytes = exe.as_os_str().as_bytes();
        match bytes.contains(&b'/') {
            true => prefix(exe).map(ExeFilter::Prefix),
            false => Ok(ExeFilter::Name(bytes.to_vec())),
        }
    };
    Ok(Filter {
        types: args.types.clone(),
        actions: args.actions.clone(),
        rules: args.rules.clone(),
        paths: args.paths.iter().map(path).collect::<anyhow::Result<_>>()?,
        contains: args
            .contains
            .iter()
            .map(|text| Needle::new(text.as_bytes()))
            .collect::<Result<_, FilterError>>()?,
        destinations: args.destinations.clone(),
        pids: args.pids.iter().map(|pid| i64::from(*pid)).collect(),
        exes: args.exes.iter().map(exe).collect::<anyhow::Result<_>>()?,
        since: None,
        until: None,
        outcome: if args.failed { Outcome::Failed } else { Outcome::Any },
    })
}
