//! Arguments of `sandbox baseline`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::quantity::whole;

const BASELINE_EXAMPLES: &str = "\
Examples:
  sandbox baseline create RUN1 RUN2 RUN3 RUN4 RUN5 -o make.json
  sandbox baseline show make.json
  sandbox baseline check last --against make.json
  sudo sandbox run --baseline make.json -- make      tell it while the run goes on

docs/baseline.md says what counts as new, and how it is ranked.";

/// `sandbox baseline`.
#[derive(Debug, Args)]
#[command(after_help = BASELINE_EXAMPLES)]
pub struct BaselineArgs {
    /// What to do
    #[command(subcommand)]
    pub command: BaselineCommand,
}

/// What can be done with baselines.
#[derive(Debug, Subcommand)]
pub enum BaselineCommand {
    /// Write down what recorded runs did
    Create(BaselineCreateArgs),
    /// Show what a baseline holds
    Show(BaselineShowArgs),
    /// Say what a run did that the runs of a baseline did not
    Check(BaselineCheckArgs),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  sandbox baseline create RUN1 RUN2 RUN3 RUN4 RUN5 -o make.json

Look at what the runs did before they become what is usual: sandbox view RUN.

Exit status: 0 when the baseline was written, 1 when not.";

/// `sandbox baseline create`.
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub struct BaselineCreateArgs {
    /// Recorded runs, all whole: ids, directories or logs, or `last`
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<String>,

    /// Write the baseline to FILE, which must not be there yet
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  sandbox baseline show make.json
  sandbox baseline show make.json --json | jq -r '.behaviours[] | select(.kind == \"network\") | .what'";

/// `sandbox baseline show`.
#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub struct BaselineShowArgs {
    /// The baseline
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,

    /// Show at most N behaviours of each kind; 0 for all
    #[arg(long, value_name = "N", value_parser = whole::<usize>, default_value = "20", conflicts_with = "json")]
    pub limit: usize,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  sandbox baseline check last --against make.json
  sandbox baseline check last --against make.json --json | jq -r '.findings[].text'

Exit status: 0 when nothing is new, 1 when something is, 3 when the run could not
be checked (it goes on, crashed, was edited or is not there; the baseline is none).";

/// `sandbox baseline check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct BaselineCheckArgs {
    /// A run's id, its directory or log, or `last`
    #[arg(value_name = "RUN")]
    pub run: String,

    /// The baseline
    #[arg(long, value_name = "FILE")]
    pub against: PathBuf,

    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,

    /// Show at most N findings; 0 for all
    #[arg(long, value_name = "N", value_parser = whole::<usize>, default_value = "20", conflicts_with = "json")]
    pub limit: usize,
}
