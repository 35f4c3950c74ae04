//! `sandbox runs`: what was recorded.

use std::io::{ErrorKind, Write};

use anyhow::Context;
use audit_verify::text;

use crate::cli::RunsArgs;
use crate::error::say;
use crate::exit::Exit;
use crate::record::time;
use crate::review::list::{Listed, table};
use crate::review::stores;

/// Runs `sandbox runs`.
pub fn execute(args: &RunsArgs) -> anyhow::Result<Exit> {
    let stores = stores();
    let runs: Vec<Listed> = stores.runs()?.iter().map(Listed::of).collect();
    if runs.is_empty() && !args.json {
        say(&format!("{}", crate::record::store::FindError::NoRuns(stores.stores().to_vec())));
    }
    match print(&runs, args) {
        // `sandbox runs | head` has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        printed => printed.map(|()| Exit::SUCCESS).context("cannot print the list"),
    }
}

fn print(runs: &[Listed], args: &RunsArgs) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        for run in runs {
            writeln!(out, "{}", text::json(&serde_json::to_string(run)?))?;
        }
    } else if !runs.is_empty() {
        out.write_all(table(runs, time::wall_now_ns()).as_bytes())?;
    }
    Ok(())
}
