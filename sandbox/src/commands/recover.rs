//! `sandbox recover`: runs that crashed are entered into the ledger, and their indexes made.

use std::io::Write;

use anyhow::Context;

use crate::cli::RecoverArgs;
use crate::error::say;
use crate::exit::Exit;
use crate::record::crashed::{self, Crashed, Entered};
use crate::record::ledger::LedgerFile;
use crate::record::store::{Found, StoreDir};
use crate::review::list::{Status, status};
use crate::review::{place, text};

/// Runs `sandbox recover`. 1 where a run could not be entered.
pub fn execute(args: &RecoverArgs) -> anyhow::Result<Exit> {
    let Some(store) = StoreDir::existing(&place())? else {
        say("no store yet, so nothing to recover");
        return Ok(Exit::SUCCESS);
    };
    let Some(ledger) = LedgerFile::existing(&store)? else {
        say("the store has no ledger, so nothing to recover");
        return Ok(Exit::SUCCESS);
    };
    let mut out = std::io::stdout().lock();
    let mut exit = Exit::SUCCESS;
    let mut entered = 0;
    for run in unfinished(&store, &ledger)? {
        match crashed::enter(&run, &ledger) {
            Ok(Entered::Crashed(crashed)) => {
                print(&mut out, &crashed, args).context("cannot print the runs")?;
            }
            Ok(Entered::Already) => continue,
            Ok(Entered::Ended) => say(&format!("{}: it ended well; the ledger has its end now", run.id)),
            Err(error) => {
                say(&error.to_string());
                exit = Exit::FAILURE;
            }
        }
        entered += 1;
    }
    if entered == 0 {
        say("every run in the ledger has ended or goes on: nothing to recover");
    }
    Ok(exit)
}

/// Runs that began, have no end in the ledger, and are not written any more.
fn unfinished(store: &StoreDir, ledger: &LedgerFile) -> anyhow::Result<Vec<Found>> {
    let known = ledger.read()?;
    if let Some(fault) = known.fault {
        anyhow::bail!("{fault}: check the store with `audit-verify {}`", store.path().display());
    }
    let open = known.runs.into_iter().filter(|run| run.outcome.is_none() && run.removed.is_none());
    let runs = open.map(|run| Found { path: store.path().join("runs").join(&run.run_id), id: run.run_id });
    Ok(runs.filter(|run| status(&run.path, None) != Status::Running).collect())
}

fn print(out: &mut impl Write, run: &Crashed, args: &RecoverArgs) -> std::io::Result<()> {
    if args.json {
        return writeln!(out, "{}", text::json(&serde_json::to_string(run)?));
    }
    writeln!(
        out,
        "{}  incomplete, {} events hold: {}",
        text::safe(run.id.as_bytes()),
        run.events,
        text::clean(&run.reason)
    )
}
