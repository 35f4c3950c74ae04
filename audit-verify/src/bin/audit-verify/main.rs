//! `audit-verify`: was this log written by `sandbox`, finished, and left alone?
//!
//! Verdicts go to stdout, everything else to stderr. The exit code is the worst verdict of all logs that were
//! checked: 1 tampered, then 3 could not be checked, then 2 incomplete, then 0 intact.

#![forbid(unsafe_code)]

mod check_proof;
mod cli;
mod index;
mod ledger;
mod prove;
mod render;
mod store;
mod target;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_verify::progress::Progress;
use audit_verify::sign::PublicKey;
use audit_verify::text::clean_lines;
use audit_verify::verify::{Report, Verdict, Verifier};
use check_proof::CheckProof;
use clap::Parser;
use cli::{Cli, Output};
use ledger::{Contradiction, Keys, StoreFinding, StoreLedger};
use prove::Prove;
use render::Finding;
use target::{Log, Resolved, Source, TargetError, open_regular};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let stdout = &mut io::stdout().lock();
    let done = match args.get(1).and_then(|word| word.to_str()) {
        Some("prove") => Prove::try_parse_from(&args[1..]).map(|prove| prove.run(stdout)),
        Some("check-proof") => CheckProof::try_parse_from(&args[1..]).map(|check| check.run(stdout)),
        _ => Cli::from_args(args).map(|cli| run(&cli, stdout)),
    };
    match done {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => {
            eprintln!("audit-verify: failed to write to stdout: {error}");
            ExitCode::from(3)
        }
        Err(error) => {
            let code = if error.use_stderr() { 3 } else { 0 };
            // What cannot be printed cannot be reported either.
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}

/// Checks all targets and prints what was found; returns the exit code.
fn run(cli: &Cli, stdout: &mut impl Write) -> io::Result<u8> {
    let keys = match cli.keys() {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("audit-verify: {}", clean_lines(&error.to_string()));
            return Ok(3);
        }
    };
    let mut logs = Vec::new();
    let mut whole_stores = Vec::new();
    let mut in_stores = 0;
    for target in &cli.targets {
        match target::resolve(target) {
            Ok(Resolved { logs: found, store }) => {
                in_stores += if store.is_some() { found.len() } else { 0 };
                logs.extend(found.into_iter().map(Ok));
                whole_stores.extend(store);
            }
            Err(error) => logs.push(Err((target.to_string_lossy().into_owned(), error))),
        }
    }
    if logs.is_empty() && !cli.asks_of_run() {
        eprintln!("audit-verify: --chain-only asks of logs, and there is none here");
        return Ok(3);
    }
    if cli.expect_head.is_some() && logs.len() != 1 {
        eprintln!("audit-verify: --expect-head is the head of one log, and there are {} here", logs.len());
        return Ok(3);
    }
    let many = logs.len() + whole_stores.len() > 1;
    let mut ledgers = Ledgers { keys, read: Vec::new() };
    let style = render::Style::detect();
    // Every store that is a target is judged itself; logs beside it may lie in another, whose reason then stands at each.
    let stores_alone = logs.iter().flatten().count() == in_stores && !whole_stores.is_empty();
    let ledger_row = if stores_alone { render::LedgerRow::Follows } else { render::LedgerRow::None };
    let mut printer = Printer { cli, style, many, ledger_row, stdout, reader_left: false };
    let mut tally = render::Tally::default();
    for log in logs {
        let finding = match log {
            Ok(log) => check(&log, cli, &mut ledgers),
            Err((name, error)) => Finding { name, outcome: Err(error), against: None, index: None },
        };
        tally.add(finding.code());
        printer.log(&finding)?;
    }
    if cli.asks_of_run() {
        for store in &whole_stores {
            for finding in ledgers.of(store).findings() {
                tally.add(finding.code);
                printer.store(&finding)?;
            }
        }
    }
    printer.end(&tally)?;
    Ok(tally.code())
}

/// The ledgers of the stores that runs lie in, each read once.
struct Ledgers {
    keys: Vec<PublicKey>,
    read: Vec<StoreLedger>,
}

impl Ledgers {
    fn of(&mut self, store: &Path) -> &StoreLedger {
        let at = self.read.iter().position(|known| known.store() == store);
        let at = at.unwrap_or_else(|| {
            self.read.push(StoreLedger::of(store, &self.keys));
            self.read.len() - 1
        });
        &self.read[at]
    }

    /// That of the store that a log lies in, with the directory of its run.
    fn of_log(&mut self, log: &Log) -> Option<(&StoreLedger, PathBuf)> {
        let Source::Run(path) = &log.source else { return None };
        // What `--run-dir` put elsewhere is in no store.
        let run = path.parent()?.canonicalize().ok()?;
        let runs = run.parent().filter(|runs| runs.ends_with("runs"))?;
        let store = runs.parent()?.to_owned();
        Some((self.of(&store), run))
    }
}

/// Prints what was found.
struct Printer<'a, W> {
    cli: &'a Cli,
    style: render::Style,
    many: bool,
    ledger_row: render::LedgerRow,
    stdout: &'a mut W,
    reader_left: bool,
}

impl<W: Write> Printer<'_, W> {
    fn log(&mut self, finding: &Finding) -> io::Result<()> {
        let text = match self.cli.output() {
            Output::Json => render::json(finding, self.cli),
            Output::Text if self.many => render::row(finding, self.style, self.ledger_row),
            Output::Text => render::details(finding, self.cli, self.style),
        };
        if let (Err(error), Output::Text) = (&finding.outcome, self.cli.output()) {
            eprintln!("audit-verify: {}", clean_lines(&error.to_string()));
        }
        self.text(&text)
    }

    fn store(&mut self, finding: &StoreFinding) -> io::Result<()> {
        let text = match self.cli.output() {
            Output::Json => finding.json(),
            Output::Text => finding.row(self.style),
        };
        self.text(&text)
    }

    fn end(&mut self, tally: &render::Tally) -> io::Result<()> {
        if self.many && self.cli.output() == Output::Text {
            self.text(&format!("{tally}\n"))?;
        }
        left(self.stdout.flush()).map(|_| ())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if !self.reader_left {
            self.reader_left = left(self.stdout.write_all(text.as_bytes()))?;
        }
        Ok(())
    }
}

/// Whether the reader of a pipe has left, which changes no verdict.
fn left(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error),
    }
}

fn check(log: &Log, cli: &Cli, ledgers: &mut Ledgers) -> Finding {
    // Its chain may be asked for, as that of any JSON.
    if let Source::File(path) = &log.source
        && cli.asks_of_run()
        && let Some(error) = target::is_ledger(path)
    {
        return Finding { name: log.name.clone(), outcome: Err(error), against: None, index: None };
    }
    let (outcome, against) = match judge(log, cli.verifier(), ledgers, cli.asks_of_run()) {
        Ok((report, against)) => (Ok(report), against),
        Err(error) => (Err(error), None),
    };
    let index = match &outcome {
        // What its log does not prove an index cannot be measured by.
        Ok(report)
            if cli.index && !matches!(report.verdict, Verdict::Tampered(_) | Verdict::Unchecked(_)) =>
        {
            Some(index::check(&log.source, &report.verdict))
        }
        _ => None,
    };
    Finding { name: log.name.clone(), outcome, against, index }
}

/// Judges a log: by itself and, where the run is asked of, by what lies beside it.
fn judge(
    log: &Log,
    verifier: Verifier,
    ledgers: &mut Ledgers,
    asks_of_run: bool,
) -> Result<(Report, Option<Contradiction>), TargetError> {
    let demanded = ledgers.keys.clone();
    let store = ledgers.of_log(log).filter(|_| asks_of_run);
    let keys = match &store {
        Some((ledger, run)) => ledger.keys_for(run),
        None => Keys { demanded, known: Vec::new() },
    };
    let report = read(log, verifier.demand_keys(keys.demanded).know_keys(keys.known)).map_err(|source| {
        let path = match &log.source {
            Source::Stdin => log.name.clone(),
            Source::File(path) | Source::Run(path) => path.display().to_string(),
        };
        TargetError::Read { path, source }
    })?;
    let Source::Run(path) = &log.source else { return Ok((report, None)) };
    let by_ledger = store.and_then(|(ledger, run)| ledger.against(&run, &report));
    let policy = path.parent().filter(|_| asks_of_run);
    let against = by_ledger.or_else(|| ledger::policy_contradiction(policy?, &report));
    Ok((report, against))
}

fn read(log: &Log, verifier: Verifier) -> io::Result<Report> {
    let file = match &log.source {
        Source::Stdin => return verifier.run(io::stdin().lock()),
        Source::File(path) => File::open(path)?,
        Source::Run(path) => open_regular(path)?,
    };
    verifier.run(Progress::of(file)?)
}
