//! `sandbox gc`: old runs go, and the ledger says so.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use audit_verify::ledger::{Entry, Ledger};
use serde::Serialize;

use crate::cli::GcArgs;
use crate::error::{Refusal, say};
use crate::exit::Exit;
use crate::quantity::{duration, size};
use crate::record::crashed;
use crate::record::ledger::{LedgerFile, Locked};
use crate::record::meta::Meta;
use crate::record::store::{Found, FoundStores, StoreDir};
use crate::record::time;
use crate::record::{LOG, is_being_written};
use crate::review::{place, text};

/// How long a run may take from making its directory to writing its log.
const YOUNG: Duration = Duration::from_secs(60);

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
    // A link in its place would lead elsewhere, and what is there is nobody's run.
    store.enter("runs")?;
    let runs = FoundStores::only(store.path()).runs()?;
    let going = choose(&runs, limits);
    let mut out = std::io::stdout().lock();
    let mut exit = Exit::SUCCESS;
    let (mut sum, mut gone) = (0, 0);
    let file = LedgerFile::existing(&store)?;
    let mut book = file.as_ref().map(|file| Book::open(file, &store)).transpose()?;
    for run in &going {
        let done = match (args.dry_run, &run.run) {
            (false, Some(found)) => {
                // A ledger that does not hold any more ends all.
                let locked = book.as_mut().map(Book::lock).transpose()?;
                remove(found, &run.reason, locked)
            }
            _ => Ok(Removed::Now),
        };
        match done {
            Ok(Removed::BySomebody) => {}
            Ok(Removed::Now) => {
                sum += run.bytes;
                gone += 1;
                print(&mut out, run, args).context("cannot print the runs")?;
            }
            Err(error) => {
                say(&format!("{}: not removed: {error:#}", run.id));
                exit = Exit::FAILURE;
            }
        }
    }
    let what = if args.dry_run { "would go" } else { "gone" };
    say(&format!("{gone} of {} runs {what}, {:.1} MiB", runs.len(), sum as f64 / f64::from(1 << 20)));
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
        if goes_on(&run.path) {
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

/// Who removed a run.
enum Removed {
    Now,
    BySomebody,
}

/// The ledger, and what it said when it was read last.
struct Book<'l> {
    file: &'l LedgerFile,
    known: Ledger,
}

/// The ledger while nobody else adds to it.
struct Page<'b> {
    locked: Locked<'b>,
    known: &'b mut Ledger,
}

impl<'l> Book<'l> {
    fn open(file: &'l LedgerFile, store: &StoreDir) -> anyhow::Result<Self> {
        let known = file.read()?;
        let advice =
            || format!("nothing was removed: check the store with `audit-verify {}`", store.path().display());
        held(&known).with_context(advice)?;
        Ok(Self { file, known })
    }

    /// Locks it. It is read again where somebody else added to it.
    fn lock(&mut self) -> anyhow::Result<Page<'_>> {
        let locked = self.file.lock()?;
        if locked.head() != self.known.head {
            self.known = locked.read()?;
            held(&self.known).context("the ledger was changed meanwhile, and nothing more is removed")?;
        }
        Ok(Page { locked, known: &mut self.known })
    }
}

fn held(ledger: &Ledger) -> anyhow::Result<()> {
    match &ledger.fault {
        Some(fault) => Err(anyhow::anyhow!("{fault}")),
        None => Ok(()),
    }
}

/// Enters that a run is removed, and removes it. In this order: what is gone without an entry would be tampering. What
/// the entry says is found out with the ledger locked, so that nobody else enters anything of this run meanwhile.
fn remove(run: &Found, reason: &str, mut page: Option<Page<'_>>) -> anyhow::Result<Removed> {
    if !run.path.exists() {
        return Ok(Removed::BySomebody);
    }
    let removed = match &mut page {
        Some(page) => page.enter(run, reason)?,
        None => may_go(run).map(|()| Removed::Now)?,
    };
    match std::fs::remove_dir_all(&run.path) {
        // Two may be at it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(removed),
        done => done.map(|()| removed).with_context(|| format!("remove {}", run.path.display())),
    }
}

impl Page<'_> {
    /// Enters that a run is removed, if the ledger has it and does not say so yet. If it does, somebody else is removing it,
    /// or was, and what is left goes too.
    fn enter(&mut self, run: &Found, reason: &str) -> anyhow::Result<Removed> {
        let entry = self.known.run(&run.id);
        if entry.is_some_and(|entry| entry.removed.is_some()) {
            return Ok(Removed::BySomebody);
        }
        may_go(run)?;
        let Some(entry) = entry else { return Ok(Removed::Now) };
        let (events, head) = match &entry.outcome {
            Some(outcome) => (outcome.events, outcome.head),
            None => {
                let extent = crashed::extent(&run.path)?;
                (extent.events, extent.head)
            }
        };
        let entry = Entry::Removed { run_id: run.id.clone(), events, head, reason: reason.to_owned() };
        self.locked.append(&entry)?;
        // Each run is asked for once, so that what was known of the others is still true.
        self.known.head = self.locked.head();
        Ok(Removed::Now)
    }
}

/// Looks again whether a run may go: much may have happened since it was chosen.
fn may_go(run: &Found) -> anyhow::Result<()> {
    anyhow::ensure!(!goes_on(&run.path), "it goes on, or is only just beginning or ending");
    Ok(())
}

/// Whether a run is being written, or may be so in a moment: its directory is there before its log is.
fn goes_on(directory: &Path) -> bool {
    let log = directory.join(LOG);
    let young = |about: std::fs::Metadata| about.modified().ok()?.elapsed().ok().map(|age| age < YOUNG);
    is_being_written(directory)
        || (!log.exists() && directory.metadata().ok().and_then(young).unwrap_or(false))
}

fn print(out: &mut impl Write, run: &Going, args: &GcArgs) -> std::io::Result<()> {
    if args.json {
        return writeln!(out, "{}", text::json(&serde_json::to_string(run)?));
    }
    writeln!(out, "{}  {} bytes, {}", text::safe(run.id.as_bytes()), run.bytes, run.reason)
}
