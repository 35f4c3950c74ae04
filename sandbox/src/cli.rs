//! The command line, as clap reads it. It says nothing about what the values mean: see `settings`.

pub mod asks;
pub mod baseline;
pub mod export;
pub mod learn;
pub mod policy;
pub mod query;
pub mod record;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::quantity::whole;

pub use asks::*;
pub use baseline::*;
pub use export::*;
pub use learn::*;
pub use policy::*;
pub use query::*;
pub use record::*;

const EXAMPLES: &str = "\
Examples:
  sudo sandbox run --audit-only -- claude        record, block nothing
  sudo sandbox run --enforce agent.yaml -- make  record, and hold the policy";

/// Record what a command really did, and hold it to a policy, in the kernel.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version, after_help = EXAMPLES, max_term_width = 80)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands, one file each in `commands/`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command, record what it does, and hold it to a policy if one is given
    Run(RunArgs),
    /// List what was recorded
    Runs(RunsArgs),
    /// Show what a run did
    View(ViewArgs),
    /// Write a run in a form that other tools read
    Export(ExportArgs),
    /// Ask which events of a run meet some conditions
    Query(QueryArgs),
    /// Make the index of a run again from its log
    Reindex(ReindexArgs),
    /// Say what was denied and by which rule, and the line that would allow it
    Why(WhyArgs),
    /// List what waits for an answer in runs that ask, and answer it
    Asks(AsksArgs),
    /// Make a policy of what runs did
    Learn(LearnArgs),
    /// Write down what runs usually do, and say what of another run is new
    Baseline(BaselineArgs),
    /// Check a policy, ask what it would decide, put recorded runs to it
    Policy(PolicyArgs),
    /// Make, show or replace the key that signs this store's records
    Key(KeyArgs),
    /// Enter runs that crashed into the ledger, and make their indexes
    Recover(RecoverArgs),
    /// Remove old runs, and say so in the ledger
    Gc(GcArgs),
    /// Say which layers work on this machine, and what would give the others
    Doctor(DoctorArgs),
}

const RUNS_EXAMPLES: &str = "\
Examples:
  sandbox runs
  sandbox runs --json | jq -r 'select(.status == \"incomplete\") | .id'

Listed are $SANDBOX_HOME/runs alone where that is set; else .sandbox/runs in
your account's home directory (not $HOME), and what root recorded for you
(sudo), in /var/lib/sandbox/UID/runs.";

/// `sandbox runs`.
#[derive(Debug, Args)]
#[command(after_help = RUNS_EXAMPLES)]
pub struct RunsArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

const VIEW_EXAMPLES: &str = "\
Examples:
  sandbox view
  sandbox view 20261121-093000-make --limit 0
  sandbox view --files --limit 0 | grep /etc/
  sandbox view last --json | jq -r 'select(.action == \"BLOCKED\") | .path'";

/// `sandbox view`.
#[derive(Debug, Args)]
#[command(after_help = VIEW_EXAMPLES)]
pub struct ViewArgs {
    /// A run's id, its directory or log, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,

    /// Name every file that was read or looked for, instead of counting them
    #[arg(long, conflicts_with = "json")]
    pub files: bool,

    /// Print the lines of the log
    #[arg(long)]
    pub json: bool,

    /// Show at most N lines; 0 for all [default: 200, with --json all]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub limit: Option<usize>,
}

const WHY_EXAMPLES: &str = "\
Examples:
  sandbox why
  sandbox why --rule no-keys --path ~/.ssh
  sandbox why 20261121-093000-make --json | jq -r '.allow[]' | sort -u

Inside an enforced run it tells what was denied in that run so far.";

/// `sandbox why`.
#[derive(Debug, Args)]
#[command(after_help = WHY_EXAMPLES)]
pub struct WhyArgs {
    /// A run's id, its directory or log [default: the run that this is called
    /// in, else the last one]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,

    /// Only what this rule denied: its name, or POLICY/NAME
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,

    /// Only what was denied at this path, or below it
    #[arg(long, value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// Print one JSON object a line (docs/why.md)
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo sandbox doctor
  sudo sandbox doctor --json | jq '.layers[].role'
  sudo sandbox doctor --policy agent.yaml

Exit status: 0 when every layer works and holds all of the policies, 1 when one
is missing or something is not held.";

/// `sandbox doctor`.
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub struct DoctorArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Say of each rule of this policy what holds it here (may be given again)
    #[arg(long, value_name = "POLICY")]
    pub policy: Vec<PathBuf>,

    /// Where a run would happen
    #[command(flatten)]
    pub place: PlaceArgs,
}

const RUN_EXAMPLES: &str = "\
Examples:
  sudo sandbox run -- make -j4
  sudo sandbox run --policy agent.yaml -- claude     what would be blocked?
  sudo sandbox run --enforce agent.yaml -- claude    block it
  sudo sandbox run --enforce base --audit agent.yaml -- claude
  sudo sandbox run --enforce agent.yaml --ask -- claude    and: sandbox asks
  sudo sandbox run --hash-max-bytes 10M -- make      what did files hold?

The record goes to $SANDBOX_HOME/runs where that is set; else to .sandbox/runs
in your account's home directory (not $HOME), or under sudo to
/var/lib/sandbox/UID/runs, UID being yours. --run-dir names another place.

Exit status: the command's own, 128+n when signal n ended it; 122 when the
runner ended the run, 125 when it could not start, 126 when the command could
not be executed, 127 when it was not found.";

/// `sandbox run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Record and block nothing (the default)
    #[arg(long, conflicts_with = "enforce")]
    pub audit_only: bool,

    /// Also record what this policy would block (may be given again: what any
    /// of them denies)
    #[arg(long, value_name = "POLICY", conflicts_with = "enforce")]
    pub policy: Vec<PathBuf>,

    /// Record, and block what this policy denies: a file, or the name of one that
    /// ships (may be given again: each must allow)
    #[arg(long, value_name = "POLICY")]
    pub enforce: Vec<PathBuf>,

    /// Beside the enforced policies, record what this one would block (may be
    /// given again)
    #[arg(long, value_name = "POLICY", requires = "enforce", conflicts_with_all = ["policy", "audit_only"])]
    pub audit: Vec<PathBuf>,

    /// Ask about what an enforced policy denies, instead of denying it at once:
    /// the call waits for `sandbox asks` (docs/asking.md)
    #[arg(long, requires = "enforce", conflicts_with_all = ["policy", "audit_only"])]
    pub ask: bool,

    /// Put each question to this program too: JSON on its stdin; status 0 allows
    /// once, 3 for this run, 4 leaves it to others, any other denies
    #[arg(long, value_name = "CMD", requires = "enforce", conflicts_with_all = ["policy", "audit_only"])]
    pub ask_cmd: Option<PathBuf>,

    /// Put questions on this terminal too; the command gets a terminal of its own
    /// for that, and nobody is asked here while it takes single keys
    #[arg(long, requires = "enforce", conflicts_with_all = ["policy", "audit_only"])]
    pub ask_here: bool,

    /// Record, block nothing, and propose a policy in FILE at the end, or what
    /// the one that is there would need besides
    #[arg(long, value_name = "FILE", conflicts_with = "enforce")]
    pub learn: Option<PathBuf>,

    /// Layers to use: auto, or some of lsm,trace,cgroup-net,netns
    #[arg(long, value_name = "LAYERS", default_value = "auto")]
    pub layers: String,

    /// Refuse to start without this layer (may be given again)
    #[arg(long, value_name = "LAYER")]
    pub require: Vec<String>,

    /// Start even if no layer can hold some of the policy's rules
    #[arg(long, requires = "enforce", conflicts_with_all = ["policy", "audit_only"])]
    pub best_effort: bool,

    /// Run the command as this user (name or id)
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// What ${WORKSPACE} means in the policy
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,

    /// Record size and SHA-256 of each file that the run changes, before and
    /// after, up to N bytes (or K, M, G); from before are known the files below
    /// the workspace (else the current directory)
    #[arg(long, value_name = "N")]
    pub hash_max_bytes: Option<String>,

    /// Record also what no run of this baseline did (docs/baseline.md)
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Name in the record for who acts (default: the command's name)
    #[arg(long, value_name = "ID")]
    pub agent_id: Option<String>,

    /// Write the record into this directory, which must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,

    /// Say nothing unless something is wrong
    #[arg(long, short)]
    pub quiet: bool,

    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, num_args = 1.., trailing_var_arg = true)]
    pub command: Vec<OsString>,

    /// How the record is written, signed and anchored; last, as its heading would be that of others
    #[command(flatten)]
    pub record: RecordArgs,
}
