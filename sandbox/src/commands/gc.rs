//! `sandbox gc`: old runs go, and the ledger says so.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use audit_verify::ledger::{Entry, Ledger};
use audit_verify::sign::SigningKey;
use serde::Serialize;

use crate::cli::GcArgs;
use crate::error::{Refusal, say};
use crate::exit::Exit;
use crate::quantity::{duration, size};
use crate::record::crashed;
use crate::record::keys;
use crate::record::ledger::LedgerFile;
use crate::record::meta::Meta;
use crate::record::store::{Found, FoundStores, StoreDir};
use crate::record::time;
use crate::review::list::{Status, status};
use crate::review::place;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    keep: Option<usize>,
    older_than: Option<Duration>,
    max_size: Option<u64>,
}

/// A run that goes.
#[derive(Debug, Serialize)]
struct Going {
    id: String,
    bytes: u64,
    reason: String,
    #[serde(skip)]
    run: Option<Found>,
}

/// Runs `sandbox gc`. 1 where a run could not be removed.
pub fn execute(args: &GcArgs) -> anyhow::Result<Exit> {
    let limits = limits(args)?;
    let place = place();
    let Some(store) = StoreDir::existing(&place)? else {
        say(&format!("no store in {}, so nothing to remove", place.store().display()));
        return Ok(Exit::SUCCESS);
    };
    let runs = FoundStores::only(store.path()).runs()?;
    let going = choose(&runs, limits);
    let mut out = std::io::stdout().lock();
    let mut exit = Exit::SUCCESS;
    let mut sum = 0;
    let ledger = LedgerFile::existing(&store)?;
    let signer = keys::signer(&store)?;
    let known = ledger.as_ref().map(LedgerFile::read).transpose()?.unwrap_or_default();
    if let Some(fault) = &known.fault {
        anyhow::bail!(
            "{fault}; nothing was removed: check the store with `audit-verify {}`",
            store.path().display()
        );
    }
    for run in &going {
        let done = match (args.dry_run, &run.run) {
            (false, Some(found)) => remove(found, &run.reason, ledger.as_ref(), &known, signer.as_ref()),
            _ => Ok(()),
        };
        match done {
            Ok(()) => {
                sum += run.bytes;
                print(&mut out, run, args).context("cannot print the runs")?;
            }
            Err(error) => {
                say(&format!("{}: not removed: {error:#}", run.id));
                exit = Exit::FAILURE;
            }
        }
    }
    let what = if args.dry_run { "would go" } else { "gone" };
    say(&format!(
        "{} of {} runs {what}, {:.1} MiB",
        going.len(),
        runs.len(),
        sum as f64 / f64::from(1 << 20)
    ));
    Ok(exit)
}

fn limits(args: &GcArgs) -> Result<Limits, Refusal> {
    let wrong = |option: &str, text: &str, like: &str| {
        Refusal::new(Exit::USAGE, format!("{option} {text:?} is not understood; write it like {like}"))
    };
    let older_than = match &args.older_than {
        None => None,
        Some(text) => Some(duration(text).ok_or_else(|| wrong("--older-than", text, "45m, 12h or 30d"))?),
    };
    let max_size = match &args.max_size {
        None => None,
        // A bare number may be a forgotten unit, and all runs would go.
        Some(text) if text.parse::<u64>().is_ok() => {
            let message =
                format!("--max-size {text} has no unit; write {text}M, {text}G, or {text}B for bytes");
            return Err(Refusal::new(Exit::USAGE, message));
        }
        Some(text) => Some(size(text).ok_or_else(|| wrong("--max-size", text, "500M or 10G"))?),
    };
    Ok(Limits { keep: args.keep, older_than, max_size })
}

/// The runs that go, the oldest first. `runs` stand in that order.
fn choose(runs: &[Found], limits: Limits) -> Vec<Going> {
    let now = time::wall_now_ns();
    let sizes: Vec<u64> = runs.iter().map(|run| bytes(&run.path)).collect();
    let mut left: u64 = sizes.iter().sum();
    let mut going = Vec::new();
    for (at, (run, bytes)) in runs.iter().zip(sizes).enumerate() {
        let meta = Meta::read(&run.path).ok();
        if status(&run.path, meta.as_ref()) == Status::Running {
            continue;
        }
        let younger = runs.len() - at - 1;
        let age = meta.map(|meta| Duration::from_nanos(now.saturating_sub(meta.start_ns).max(0) as u64));
        let reason = match limits {
            Limits { keep: Some(keep), .. } if younger >= keep => format!("gc --keep {keep}"),
            Limits { older_than: Some(limit), .. } if age.is_some_and(|age| age > limit) => {
                format!("gc --older-than {} s", limit.as_secs())
            }
            Limits { max_size: Some(limit), .. } if left > limit => format!("gc --max-size {limit}B"),
            _ => continue,
        };
        left -= bytes;
        going.push(Going { id: run.id.clone(), bytes, reason, run: Some(run.clone()) });
    }
    going
}

/// The size of the files of a run, in bytes.
fn bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

/// Enters that a run is removed, and removes it. In this order: what is gone without an entry would be tampering.
fn remove(
    run: &Found,
    reason: &str,
    ledger: Option<&LedgerFile>,
    known: &Ledger,
    signer: Option<&SigningKey>,
) -> anyhow::Result<()> {
    if let Some(ledger) = ledger
        && let Some(entry) = known.run(&run.id).filter(|entry| entry.removed.is_none())
    {
        let (events, head) = match &entry.outcome {
            Some(outcome) => (outcome.events, outcome.head),
            None => {
                let extent = crashed::extent(&run.path)?;
                (extent.events, extent.head)
            }
        };
        let entry = Entry::Removed { run_id: run.id.clone(), events, head, reason: reason.to_owned() };
        ledger.lock(signer)?.append(&entry, signer)?;
    }
    std::fs::remove_dir_all(&run.path).with_context(|| format!("remove {}", run.path.display()))
}

fn print(out: &mut impl Write, run: &Going, args: &GcArgs) -> std::io::Result<()> {
    if args.json {
        serde_json::to_writer(&mut *out, run)?;
        return out.write_all(b"\n");
    }
    writeln!(out, "{}  {} bytes, {}", run.id, run.bytes, run.reason)
}
