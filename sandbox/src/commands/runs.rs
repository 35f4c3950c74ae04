//! `sandbox runs`: what was recorded.

use std::io::Write;

use anyhow::Context;

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
    let mut out = std::io::stdout().lock();
    if args.json {
        for run in &runs {
            serde_json::to_writer(&mut out, run).context("cannot print the list")?;
            out.write_all(b"\n").context("cannot print the list")?;
        }
    } else if runs.is_empty() {
        say(&format!("{}", crate::record::store::FindError::NoRuns(stores.stores().to_vec())));
    } else {
        out.write_all(table(&runs, time::wall_now_ns()).as_bytes()).context("cannot print the list")?;
    }
    Ok(Exit::SUCCESS)
}
