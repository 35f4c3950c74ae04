//! `sandbox asks`.

use clap::{Args, Subcommand};

const ASKS_EXAMPLES: &str = "\
Examples:
  sandbox asks                   list what waits; on a terminal, answer it
  sandbox asks allow 3           let the call that asked pass, and no other
  sandbox asks allow 3 --run     … and whatever asks the same in this run
  sandbox asks allow 3 --always  … and in later runs: a rule in the policy's file
  sandbox asks deny 3
  sandbox asks --json | jq -r .act

Questions come from runs with rules that ask, and with --ask (docs/asking.md).

Exit status: 0 when the answer counts, 1 when the runner refuses it, there is no
such question, or the policy's file cannot hold it.";

/// `sandbox asks`.
#[derive(Debug, Args)]
#[command(after_help = ASKS_EXAMPLES)]
pub struct AsksArgs {
    /// An answer; without one, list what waits
    #[command(subcommand)]
    pub answer: Option<AsksCommand>,

    /// Only questions of this run: its id, its directory, or `last` [default: all
    /// that go on]
    #[arg(long, value_name = "RUN", global = true)]
    pub of: Option<String>,

    /// Print one JSON object a line, and answer nothing
    #[arg(long)]
    pub json: bool,
}

/// Answers.
#[derive(Debug, Subcommand)]
pub enum AsksCommand {
    /// Let the call that asked pass
    Allow(AllowArgs),
    /// Deny it, and what waits behind it
    Deny {
        /// The question's number
        number: u64,
    },
}

/// `sandbox asks allow`.
#[derive(Debug, Args)]
pub struct AllowArgs {
    /// The question's number
    pub number: u64,

    /// Only the call that asked (the default)
    #[arg(long, conflicts_with = "run")]
    pub once: bool,

    /// Whatever asks the same, until the run ends
    #[arg(long)]
    pub run: bool,

    /// The same, and write a rule that allows it into the file of the run's policy
    #[arg(long, conflicts_with_all = ["once", "run"])]
    pub always: bool,
}
