//! `sandbox query` and `sandbox reindex`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::quantity::whole;
use crate::review::query::destination::Destination;
use crate::review::query::filter::{TypeFilter, action};
use crate::review::query::when::When;

const QUERY_EXAMPLES: &str = "\
Examples:
  sandbox query last --path /etc --type file
  sandbox query --action BLOCKED --since 5m
  sandbox query --dest 10.0.0.0/8:443 --exe curl
  sandbox query --contains password --count
  sandbox query 20261126-141712-make --type exec --json | jq -c .argv

All kinds of conditions must hold; of one kind given again, or with commas for
--type, --action and --pid, any may. What is printed was read in the log itself
(docs/sqlite.md).";

/// `sandbox query`.
#[derive(Debug, Args)]
#[command(after_help = QUERY_EXAMPLES)]
pub struct QueryArgs {
    /// A run's id, its directory or log, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,

    /// Events of this type, or of a group: file, net, proc, dns
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = TypeFilter::parse)]
    pub types: Vec<TypeFilter>,

    /// OBSERVED, ALLOWED, BLOCKED or WOULD_BLOCK
    #[arg(long = "action", value_name = "ACTION", value_delimiter = ',', value_parser = action)]
    pub actions: Vec<&'static str>,

    /// What this rule judged: its name, or POLICY/NAME
    #[arg(long = "rule", value_name = "NAME")]
    pub rules: Vec<String>,

    /// What was done to this path, or below it
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Lines with this text in them, anywhere
    #[arg(long, value_name = "TEXT")]
    pub contains: Vec<OsString>,

    /// Connections to ADDR, ADDR/BITS, HOST or *.HOST, with :PORT if wanted;
    /// :PORT alone is any place
    #[arg(long = "dest", value_name = "DEST")]
    pub destinations: Vec<Destination>,

    /// What this process did
    #[arg(long = "pid", value_name = "N", value_delimiter = ',', value_parser = whole::<u32>)]
    pub pids: Vec<u32>,

    /// What this program did: a path, a directory above it, or a bare name
    #[arg(long = "exe", value_name = "EXE")]
    pub exes: Vec<PathBuf>,

    /// From then on: 2026-11-26T14:00:00Z, 5m (before the run's end), or
    /// +30s (from its start)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,

    /// Up to then, written like --since
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,

    /// Attempts that failed or were blocked
    #[arg(long)]
    pub failed: bool,

    /// Print the lines of the log
    #[arg(long)]
    pub json: bool,

    /// Print only how many there are
    #[arg(long, conflicts_with_all = ["json", "limit"])]
    pub count: bool,

    /// Print at most N events; 0 for all [default: 200, with --json all]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub limit: Option<usize>,
}

const REINDEX_EXAMPLES: &str = "\
Examples:
  sandbox reindex
  sandbox reindex /var/lib/sandbox/1000/runs/20261126-141712-make";

/// `sandbox reindex`.
#[derive(Debug, Args)]
#[command(after_help = REINDEX_EXAMPLES)]
pub struct ReindexArgs {
    /// A run's id, its directory or log, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
}
