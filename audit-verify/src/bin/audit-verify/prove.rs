//! `audit-verify prove`: one event of a log, and the proof that it stands there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use audit_verify::output::{Draft, Existing, Origin, OutputError};
use audit_verify::progress::Progress;
use audit_verify::proof::{Proof, ProofFault};
use audit_verify::text::clean_lines;
use audit_verify::verify::{Verdict, Verifier};
use clap::Parser;

use crate::Ledgers;
use crate::ledger::Contradiction;
use crate::target::{self, Log, Source, TargetError, open_regular};

const HELP: &str = "\
The proof is one JSON object: the event, the seal of its log, and the hashes
that lead from the one to the other. It shows nothing else of the log. The log
must be intact, also by the ledger of its store; it is verified first. RUN is a
target as check takes it, but not standard input, which cannot be read twice.

  audit-verify prove last 42 -o event-42.json
  audit-verify check-proof event-42.json --expect-head \"$HEAD\"

Exit codes: 0 the proof was made, 1 the log is tampered, 2 it is incomplete,
3 it could not be read, or has no such event.";

/// Proves that one event stands in a log, without showing the others
#[derive(Debug, Parser)]
#[command(name = "audit-verify prove", bin_name = "audit-verify prove", after_help = HELP, max_term_width = 80)]
pub struct Prove {
    /// The log: last, a run id, a run's directory or a file
    #[arg(value_name = "RUN")]
    run: OsString,

    /// Number of the event in the log, from 1
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    seq: u64,

    /// Where the proof goes, else to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace FILE where it is there already
    #[arg(long, requires = "output")]
    force: bool,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
enum ProveError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("standard input cannot be read twice: save the log to a file first")]
    Stdin,
    #[error("{} is not one log but {count}: name one run of it", .target.display())]
    Many { target: PathBuf, count: usize },
    #[error("{name} is {verdict}, and nothing is proven from it: see audit-verify check")]
    NotIntact { name: String, verdict: &'static str, code: u8 },
    #[error("{name}: {message}; nothing is proven from it: see audit-verify check")]
    Against { name: String, message: String, code: u8 },
    #[error(
        "{name} has no event {seq}: it has events 1 to {last}, and the seal behind them, which is in each proof"
    )]
    NoEvent { name: String, seq: u64, last: u64 },
    #[error("{name} was changed while it was read: try again")]
    Changed { name: String },
    #[error("{name} changed while it was read: {fault}")]
    Fault { name: String, fault: ProofFault },
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ProveError {
    fn code(&self) -> u8 {
        match self {
            ProveError::NotIntact { code, .. } | ProveError::Against { code, .. } => *code,
            _ => 3,
        }
    }
}

impl Prove {
    /// Makes the proof; returns the exit code. An error is that of stdout.
    pub fn run(&self, stdout: &mut impl Write) -> io::Result<u8> {
        match self.make() {
            Ok(proof) => {
                crate::left(stdout.write_all(&proof.unwrap_or_default()).and_then(|()| stdout.flush()))?;
                Ok(0)
            }
            Err(error) => {
                eprintln!("audit-verify: {}", clean_lines(&error.to_string()));
                Ok(error.code())
            }
        }
    }

    /// The proof, unless it went to a file.
    fn make(&self) -> Result<Option<Vec<u8>>, ProveError> {
        let log = self.log()?;
        let (path, origin) = match &log.source {
            Source::Stdin => return Err(ProveError::Stdin),
            Source::File(path) => (path, Origin::File),
            Source::Run(path) => (path, Origin::Run),
        };
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let draft =
            self.output.as_ref().map(|place| Draft::create(place, existing, (path, origin))).transpose()?;
        let proof = self.prove(&log, path)?;
        match draft {
            None => Ok(Some(proof)),
            Some(draft) => Ok(draft.write(&proof).map(|()| None)?),
        }
    }

    /// The one log that is meant.
    fn log(&self) -> Result<Log, ProveError> {
        let mut logs = target::resolve(&self.run)?.logs;
        let Some(log) = logs.pop().filter(|_| logs.is_empty()) else {
            return Err(ProveError::Many { target: self.run.clone().into(), count: logs.len() + 1 });
        };
        Ok(log)
    }

    fn prove(&self, log: &Log, path: &Path) -> Result<Vec<u8>, ProveError> {
        let name = log.name.clone();
        let mut ledgers = Ledgers { keys: Vec::new(), read: Vec::new() };
        let verifier = Verifier::default().threads(crate::cli::cores());
        let (report, against) = crate::judge(log, verifier, &mut ledgers, true)?;
        let (events, head) = match report.verdict {
            Verdict::Intact { events, head, .. } => (events, head),
            other => {
                return Err(ProveError::NotIntact { name, verdict: other.name(), code: other.code() });
            }
        };
        if let Some(Contradiction { code, message, .. }) = against {
            return Err(ProveError::Against { name, message, code });
        }
        if self.seq >= events {
            return Err(ProveError::NoEvent { name, seq: self.seq, last: events - 1 });
        }
        let proof =
            open(path).and_then(|file| Proof::make(file, self.seq)).map_err(TargetError::read(path))?;
        let Some(proof) = proof else { return Err(ProveError::Changed { name }) };
        match proof.check() {
            Ok(shown) if shown.head == head => Ok(proof.to_json()),
            Ok(_) => Err(ProveError::Changed { name }),
            Err(fault) => Err(ProveError::Fault { name, fault }),
        }
    }
}

fn open(path: &Path) -> io::Result<Progress<File>> {
    Progress::of(open_regular(path)?)
}
