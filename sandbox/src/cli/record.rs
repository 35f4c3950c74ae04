//! Arguments about the record: how it is written and attested, and what is done to a store.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::quantity::whole;

/// Options of `sandbox run` about its record.
#[derive(Debug, Args)]
#[command(next_help_heading = "Record")]
pub struct RecordArgs {
    /// When the log is made durable: each, none, or an interval such as 100ms
    #[arg(long, value_name = "WHEN", default_value = "100ms")]
    pub durability: String,

    /// When the log cannot be written: stop the run, or continue it and record
    /// the gap [default: continue, with --enforce stop]
    #[arg(long, value_name = "ACT", value_parser = ["continue", "stop"])]
    pub on_log_error: Option<String>,

    /// Hand each head of the log to this shell command as it happens: one line
    /// of JSON on its stdin; it must end with 0 before the run may start
    #[arg(long, value_name = "CMD")]
    pub anchor_cmd: Vec<OsString>,

    /// Hand each head of the log to the system's log
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = "/dev/log")]
    pub anchor_syslog: Option<PathBuf>,

    /// Sign and anchor after this many events, where there is a key or an anchor
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_events: u64,

    /// Sign and anchor after this many seconds, if something happened
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub checkpoint_secs: u64,
}

const KEY_EXAMPLES: &str = "\
Examples:
  sudo sandbox key init > sandbox-key.pem     keep this file elsewhere
  audit-verify --key sandbox-key.pem last
  sudo sandbox key rotate > sandbox-key-2.pem

The secret key is readable by the recorder alone, keys/signing.pem in the
store. With it every checkpoint, every seal and every entry of the ledger is
signed.";

/// `sandbox key`.
#[derive(Debug, Args)]
#[command(after_help = KEY_EXAMPLES)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Make the store's key, and print its public half
    Init,
    /// Print the public half
    Show,
    /// Make a new key, signed for by the one before, and print its public half
    Rotate,
}

const RECOVER_EXAMPLES: &str = "\
Examples:
  sudo sandbox recover

A run that crashed leaves a log without seal. It stays incomplete for ever; the
ledger is told how far it holds, and its index is made.";

/// `sandbox recover`.
#[derive(Debug, Args)]
#[command(after_help = RECOVER_EXAMPLES)]
pub struct RecoverArgs {
    /// Print one JSON object a run
    #[arg(long)]
    pub json: bool,
}

const GC_EXAMPLES: &str = "\
Examples:
  sudo sandbox gc --keep 100
  sudo sandbox gc --older-than 30d --dry-run
  sudo sandbox gc --max-size 10G

A run goes if any of the limits asks for it; one that goes on never does. The
ledger keeps what it was: number of events, head, and why it was removed.";

/// `sandbox gc`.
#[derive(Debug, Args)]
#[command(after_help = GC_EXAMPLES)]
#[command(group = ArgGroup::new("limits").args(["keep", "older_than", "max_size"]).required(true).multiple(true))]
pub struct GcArgs {
    /// Keep the N latest runs
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub keep: Option<usize>,

    /// Remove runs that began longer ago: 45m, 12h, 30d
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<String>,

    /// Remove the oldest runs until the store is not larger: 500M, 10G (a
    /// unit is needed)
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,

    /// Say what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print one JSON object a run
    #[arg(long)]
    pub json: bool,
}
