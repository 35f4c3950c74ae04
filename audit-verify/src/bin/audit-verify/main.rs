//! `audit-verify`: was this log written by `sandbox`, finished, and left alone?
//!
//! Verdicts go to stdout, everything else to stderr. The exit code is the worst verdict of all logs that were
//! checked: 1 tampered, then 3 could not be checked, then 2 incomplete, then 0 intact.

#![forbid(unsafe_code)]

mod cli;
mod index;
mod progress;
mod render;
mod store;
mod target;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use audit_verify::verify::{Report, Verdict};
use cli::{Cli, Output};
use progress::Progress;
use render::Finding;
use target::{Log, Source, TargetError};

fn main() -> ExitCode {
    let cli = match Cli::from_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 3 } else { 0 };
            // What cannot be printed cannot be reported either.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&cli, &mut io::stdout().lock()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("audit-verify: failed to write to stdout: {error}");
            ExitCode::from(3)
        }
    }
}

/// Checks all targets and prints what was found; returns the exit code.
fn run(cli: &Cli, stdout: &mut impl Write) -> io::Result<u8> {
    let mut logs = Vec::new();
    for target in &cli.targets {
        match target::resolve(target) {
            Ok(found) => logs.extend(found.into_iter().map(Ok)),
            Err(error) => logs.push(Err((target.to_string_lossy().into_owned(), error))),
        }
    }
    if cli.expect_head.is_some() && logs.len() != 1 {
        eprintln!("audit-verify: --expect-head is the head of one log, and there are {} here", logs.len());
        return Ok(3);
    }
    let many = logs.len() > 1;
    let style = render::Style::detect();
    let mut tally = render::Tally::default();
    let mut reader_left = false;
    for log in logs {
        let finding = match log {
            Ok(log) => check(&log, cli),
            Err((name, error)) => Finding { name, outcome: Err(error), index: None },
        };
        tally.add(finding.code());
        let text = match cli.output() {
            Output::Json => render::json(&finding, cli),
            Output::Text if many => render::row(&finding, style),
            Output::Text => render::details(&finding, cli, style),
        };
        if let (Err(error), Output::Text) = (&finding.outcome, cli.output()) {
            eprintln!("audit-verify: {error}");
        }
        reader_left = reader_left || left(stdout.write_all(text.as_bytes()))?;
    }
    if many && cli.output() == Output::Text && !reader_left {
        left(writeln!(stdout, "{tally}"))?;
    }
    left(stdout.flush())?;
    Ok(tally.code())
}

/// Whether the reader of a pipe has left, which changes no verdict.
fn left(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error),
    }
}

fn check(log: &Log, cli: &Cli) -> Finding {
    let outcome = read(log, cli).map_err(|source| {
        let path = match &log.source {
            Source::Stdin => log.name.clone(),
            Source::File(path) | Source::Run(path) => path.display().to_string(),
        };
        TargetError::Read { path, source }
    });
    let index = match &outcome {
        // What its log does not prove an index cannot be measured by.
        Ok(report)
            if cli.index && !matches!(report.verdict, Verdict::Tampered(_) | Verdict::Unchecked(_)) =>
        {
            Some(index::check(&log.source, &report.verdict))
        }
        _ => None,
    };
    Finding { name: log.name.clone(), outcome, index }
}

fn read(log: &Log, cli: &Cli) -> io::Result<Report> {
    let path = match &log.source {
        Source::Stdin => return cli.verifier().run(io::stdin().lock()),
        Source::Run(path) if !fs::metadata(path)?.is_file() => {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        Source::File(path) | Source::Run(path) => path,
    };
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    cli.verifier().run(Progress::new(file, size))
}
