//! `sandbox export`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const EXPORT_EXAMPLES: &str = "\
Examples:
  sandbox export --format ecs | jq -r .event.action | sort | uniq -c
  sandbox export 20261121-093000-make --format parquet -o make.parquet
  sandbox export last --format otlp-json -o /var/log/otel/run.jsonl

The forms and how they are loaded: docs/export.md. Exit status: 0 when all
events were written, 1 when some could not be read or the log was refused.";

/// `sandbox export`.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// A run's id, its directory or log, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,

    /// The form to write
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: ExportFormat,

    /// Write this file, whole or not at all, instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    pub force: bool,

    /// Write also what does not verify: every line that can be read
    #[arg(long)]
    pub unverified: bool,

    /// Put an apostrophe before cells that a spreadsheet would calculate
    #[arg(long)]
    pub csv_safe: bool,
}

/// The forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The lines of the log, which still verify
    Jsonl,
    /// A table, RFC 4180
    Csv,
    /// A table with types, Apache Parquet
    Parquet,
    /// Open Cybersecurity Schema Framework, a JSON object a line
    Ocsf,
    /// Elastic Common Schema, a JSON object a line
    Ecs,
    /// Common Event Format of ArcSight, a line an event
    Cef,
    /// OpenTelemetry logs, a JSON message of many events a line
    OtlpJson,
}
