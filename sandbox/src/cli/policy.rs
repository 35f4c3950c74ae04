//! `sandbox policy` and its verbs, as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::quantity::whole;

const POLICY_EXAMPLES: &str = "\
Examples:
  sandbox policy check agent.yaml
  sandbox policy eval agent.yaml --open ~/.ssh/id_ed25519
  sandbox policy replay agent.yaml last
  sandbox policy diff agent.yaml stricter.yaml last

Exit status: 0 when the policy is right, or allows; 1 when it is wrong, or
denies or asks; 2 when it could not be judged.";

/// `sandbox policy`.
#[derive(Debug, Args)]
#[command(after_help = POLICY_EXAMPLES)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The subcommands of `sandbox policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Report all errors of policies, what is doubtful, and what could not be
    /// enforced
    Check {
        /// Exit with 1 also where there are warnings
        #[arg(long)]
        strict: bool,
        /// The policies
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Where a run would happen
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Print a policy as it holds: inherited rules, groups and variables in place
    Show {
        /// The policy
        file: PathBuf,
        /// Where a run would happen
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Say what a policy decides about one attempt, by which rule, and what
    /// would allow it
    Eval(PolicyEvalArgs),
    /// Try the examples of a policy one by one
    Test(PolicyTestArgs),
    /// Say what a policy would have blocked in recorded runs
    Replay(PolicyReplayArgs),
    /// Say what changes from one policy to another
    Diff(PolicyDiffArgs),
    /// Put a policy in force in a run that goes on
    Apply(PolicyApplyArgs),
    /// List the groups that ship, and what they stand for
    Groups(PolicyGroupsArgs),
    /// List the system calls that an enforced run closes, and why
    Syscalls(PolicySyscallsArgs),
    /// Print the JSON Schema of policies, for editors
    Schema,
    /// Read policies of other tools, write a policy for them
    Convert(PolicyConvertArgs),
}

/// Where a run would happen: what the variables of a policy mean.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// What ${WORKSPACE} means
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
}

const EVAL_EXAMPLES: &str = "\
Examples:
  sandbox policy eval agent.yaml --open out.txt --access write,create
  sandbox policy eval agent.yaml --connect 10.2.3.4:443 --by /usr/bin/curl
  sandbox policy eval coding-agent --connect registry.npmjs.org:443
  sandbox policy eval agent.yaml --run /usr/bin/wget --json | jq .allow_with

Exit status: 0 when it allows, 1 when it denies or asks.";

/// `sandbox policy eval`.
#[derive(Debug, Args)]
#[command(after_help = EVAL_EXAMPLES)]
#[group(skip)]
pub struct PolicyEvalArgs {
    /// The policy
    pub file: PathBuf,

    /// Open this file
    #[arg(long, value_name = "PATH", group = "act")]
    pub open: Option<PathBuf>,

    /// How to open it: some of read,write,create,delete,attributes,load
    /// [default: read]
    #[arg(long, value_name = "ACCESS", value_delimiter = ',', requires = "open")]
    pub access: Option<Vec<String>>,

    /// Execute this file
    #[arg(long, value_name = "PATH", group = "act")]
    pub run: Option<PathBuf>,

    /// Connect to ADDRESS:PORT, HOST:PORT, own:PORT (a listener of the run), unix:/PATH
    /// or unix:@NAME; with /udp for UDP
    #[arg(long, value_name = "END", group = "act")]
    pub connect: Option<String>,

    /// Send to it
    #[arg(long, value_name = "END", group = "act")]
    pub send: Option<String>,

    /// Bind to it
    #[arg(long, value_name = "END", group = "act")]
    pub bind: Option<String>,

    /// Listen on it
    #[arg(long, value_name = "END", group = "act")]
    pub listen: Option<String>,

    /// The program that tries it (default: unknown, so that what only one
    /// program may do is denied)
    #[arg(long, value_name = "EXE")]
    pub by: Option<PathBuf>,

    /// Where a run would happen
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

const TEST_EXAMPLES: &str = "\
Examples:
  sandbox policy test agent.yaml
  sandbox policy test agent.yaml --examples must-work.yaml

Exit status: 0 when all examples hold, 1 when one does not.";

/// `sandbox policy test`.
#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub struct PolicyTestArgs {
    /// The policy
    pub file: PathBuf,

    /// Also try the `examples` of this file (may be given again)
    #[arg(long, value_name = "FILE")]
    pub examples: Vec<PathBuf>,

    /// Where a run would happen
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  sandbox policy replay agent.yaml
  sandbox policy replay agent.yaml 20261121-093000-make last
  sandbox policy replay agent.yaml --json | jq -r '.groups[].allow_with[]'

Exit status: 0 when nothing would be blocked, 1 when something would.";

/// `sandbox policy replay`.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub struct PolicyReplayArgs {
    /// The policy
    pub file: PathBuf,

    /// Recorded runs: ids, directories or logs, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub runs: Vec<String>,

    /// Where a run would happen
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Show at most N objects; 0 for all [default: 20, with --json all]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub limit: Option<usize>,

    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

const DIFF_EXAMPLES: &str = "\
Examples:
  sandbox policy diff agent.yaml stricter.yaml
  sandbox policy diff agent.yaml stricter.yaml last

With runs it also says which recorded attempts would be judged otherwise.
Exit status: 0 when nothing differs, 1 when something does.";

/// `sandbox policy diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct PolicyDiffArgs {
    /// The policy as it was
    pub before: PathBuf,

    /// The policy as it is
    pub after: PathBuf,

    /// Recorded runs: ids, directories or logs, or `last`
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,

    /// Where a run would happen
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Show at most N objects; 0 for all [default: 20, with --json all]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub limit: Option<usize>,

    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

const APPLY_EXAMPLES: &str = "\
Examples:
  sandbox policy apply last no-network.yaml
  sandbox policy apply 20261121-093000-claude readonly
  sudo sandbox policy apply last wider.yaml --widen

The policy holds beside those that the run has: each must allow. What a process
has open already stays open. The change is recorded in the run's log.

Exit status: 0 when it holds, 1 when the runner refuses, 2 when the policy is
wrong or there is no such run.";

/// `sandbox policy apply`.
#[derive(Debug, Args)]
#[command(after_help = APPLY_EXAMPLES)]
pub struct PolicyApplyArgs {
    /// The run: its id, its directory, or `last`
    pub run: String,

    /// The policy: a file, or the name of one that ships
    pub file: PathBuf,

    /// Put it in the place of those that hold, which may allow more (root only)
    #[arg(long)]
    pub widen: bool,

    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

const GROUPS_EXAMPLES: &str = "\
Examples:
  sandbox policy groups
  sandbox policy groups credentials
  sandbox policy groups --policy agent.yaml";

/// `sandbox policy groups`.
#[derive(Debug, Args)]
#[command(after_help = GROUPS_EXAMPLES)]
pub struct PolicyGroupsArgs {
    /// Only this group, with or without its `@`
    pub name: Option<String>,

    /// Also the groups of this policy
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

const SYSCALLS_EXAMPLES: &str = "\
Examples:
  sandbox policy syscalls
  sandbox policy syscalls --json | jq -r 'select(.group == \"ptrace\").name'";

/// `sandbox policy syscalls`.
#[derive(Debug, Args)]
#[command(after_help = SYSCALLS_EXAMPLES)]
pub struct PolicySyscallsArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

const CONVERT_EXAMPLES: &str = "\
Examples:
  sandbox policy convert kubearmor.yaml > agent.yaml
  sandbox policy convert gateway.yaml --from openclaw > agent.yaml
  sandbox policy convert agent.yaml --to kubearmor --select app=agent
  sandbox policy convert agent.yaml --to oci-seccomp > seccomp.json

What cannot be carried over is said on stderr, line by line; with --strict
nothing is written then, and the exit status is 1. A `note` is no loss. Nothing
is made wider in silence.";

/// `sandbox policy convert`.
#[derive(Debug, Args)]
#[command(after_help = CONVERT_EXAMPLES)]
pub struct PolicyConvertArgs {
    /// The file to read
    pub file: PathBuf,

    /// What the file is [default: told by its content]
    #[arg(long, value_name = "FORMAT")]
    pub from: Option<Dialect>,

    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "policy")]
    pub to: Written,

    /// Write nothing unless everything can be carried over
    #[arg(long)]
    pub strict: bool,

    /// Labels of the containers that a KubeArmorPolicy is about
    #[arg(long, value_name = "KEY=VALUE")]
    pub select: Vec<String>,

    /// Where a run would happen
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// A policy of this language
    Policy,
    /// A KubeArmorPolicy (security.kubearmor.com/v1)
    Kubearmor,
    /// A gateway file: ALLOW, HUMAN_APPROVAL, BLOCK
    Openclaw,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Written {
    /// A policy of this language
    Policy,
    /// A KubeArmorPolicy (security.kubearmor.com/v1)
    Kubearmor,
    /// A seccomp profile as OCI runtimes take it
    OciSeccomp,
}
