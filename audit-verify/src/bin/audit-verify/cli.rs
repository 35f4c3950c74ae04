//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use audit_verify::Hash;
use audit_verify::sign::PublicKey;
use audit_verify::verify::{Losses, Question, Verifier};
use clap::Parser;

use crate::ledger::public_key;

const HELP: &str = "\
TARGET is one of
  last          the latest run of the store
  RUN-ID        a run of the store
  DIRECTORY     a run's directory, or a store: then each of its runs
  FILE          an events.jsonl
  -             standard input

The store is $SANDBOX_HOME if set, else /var/lib/sandbox/UID and ~/.sandbox;
under sudo those of the invoking user, and root's own.

Exit codes, the worst of all logs in the order 1, 3, 2, 0:
  0  intact and complete
  1  tampered: edited, or not written by sandbox; an index that differs
  2  intact as far as it goes, but incomplete; no index, or an old one
  3  could not be checked: usage, I/O, not a log

A run that lies in a store is held against the store's ledger too; of a store
the ledger says which runs are missing.

A chain shows edits relative to a head that the attacker could not change. Keep
the head that a run prints at its end elsewhere, and hand it in again:

  audit-verify last
  audit-verify --expect-head \"$HEAD\" 20260721-101010-bash
  audit-verify --json ~/.sandbox | grep -v '\"code\": 0'

Two words in the place of check ask something else (each has a --help):
  prove RUN SEQ     proves that one event stands in a log, without the others
  check-proof FILE  checks such a proof without the log";

/// Proves that a log was written and finished by sandbox, and not edited since
#[derive(Debug, Parser)]
#[command(
    name = "audit-verify",
    version,
    override_usage = "audit-verify [check] [OPTIONS] TARGET...",
    after_help = HELP,
    max_term_width = 80
)]
pub struct Cli {
    /// What to check
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<OsString>,

    /// Ask only whether the hash chain holds, in any JSON
    #[arg(long, conflicts_with = "strict")]
    chain_only: bool,

    /// Lost events make a log incomplete (2)
    #[arg(long)]
    strict: bool,

    /// The hash that the last line must have, else tampered (1)
    #[arg(long, value_name = "HASH")]
    pub expect_head: Option<Hash>,

    /// A public key (PEM) that must have signed checkpoints and seal, else
    /// tampered (may be given again)
    #[arg(long, value_name = "FILE", conflicts_with = "chain_only")]
    key: Vec<PathBuf>,

    /// How many threads judge one log [default: the processors there are, at
    /// most 8]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Compare index.sqlite beside the log with it, row by row
    #[arg(long, conflicts_with = "chain_only")]
    pub index: bool,

    /// One JSON object for each log
    #[arg(long)]
    json: bool,
}

/// Reading keeps no more threads busy than these.
const THREADS_MAX: usize = 8;

/// How many threads judge one log where nothing else is asked for.
pub fn cores() -> NonZeroUsize {
    let most = NonZeroUsize::MIN.saturating_add(THREADS_MAX - 1);
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(most))
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Cli {
    /// Reads the command line; the word `check` before everything else is optional.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let mut args: Vec<OsString> = args.into_iter().collect();
        if args.get(1).is_some_and(|word| word == "check") {
            args.remove(1);
        }
        Cli::try_parse_from(args)
    }

    /// How findings are printed.
    pub fn output(&self) -> Output {
        if self.json { Output::Json } else { Output::Text }
    }

    /// Whether keys were handed in.
    pub fn demands_keys(&self) -> bool {
        !self.key.is_empty()
    }

    /// Whether the run is judged beside its log: by its ledger and its policy.
    pub fn asks_of_run(&self) -> bool {
        !self.chain_only
    }

    /// The keys that were handed in.
    ///
    /// # Errors
    /// One cannot be read, or is none.
    pub fn keys(&self) -> Result<Vec<PublicKey>, String> {
        self.key.iter().map(|path| public_key(path)).collect()
    }

    /// A verifier that asks what was asked for.
    pub fn verifier(&self) -> Verifier {
        let question = if self.chain_only { Question::Chain } else { Question::Log };
        let losses = if self.strict { Losses::Incomplete } else { Losses::Count };
        let threads = self.threads.unwrap_or_else(cores);
        Verifier::new(question).losses(losses).expect_head(self.expect_head).threads(threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_well_formed_and_its_help_fits() {
        Cli::command().debug_assert();
        assert!(HELP.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn check_is_optional() {
        let args = |args: &[&str]| Cli::from_args(args.iter().map(OsString::from)).unwrap().targets;
        assert_eq!(args(&["audit-verify", "check", "last"]), ["last"]);
        assert_eq!(args(&["audit-verify", "last"]), ["last"]);
        assert_eq!(args(&["audit-verify", "check", "check"]), ["check"]);
        assert!(Cli::from_args(["audit-verify", "check"].map(OsString::from)).is_err());
    }
}
