//! `meta.json`: what a run was, for people and for lists; the log is the truth.
//!
//! Written whole at the start and replaced whole at the end. A run that crashed leaves the start's version,
//! which has no `end`. Text that is no UTF-8 stands with U+FFFD here; the log has the bytes.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::log::{Counts, RunEnd, Sealed};
use super::start::{LayerReport, OwnTmp, Redacted, RunStart};
use super::store::{RunDir, open_regular};
use super::time;

/// The file's name in the run's directory.
pub const FILE: &str = "meta.json";

/// The longest meta.json that is read, in bytes.
const SIZE_MAX: u64 = 16 << 20;

/// The content of `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the log's format.
    pub v: u64,
    /// The run's id.
    pub run_id: String,
    /// Who acts, by `--agent-id` or the tool's name.
    pub agent_id: String,
    /// The command with its arguments.
    pub command: Vec<String>,
    /// Secrets were cut out of the command.
    #[serde(skip_serializing_if = "is_false", default)]
    pub command_redacted: bool,
    /// Where it was started.
    pub cwd: String,
    /// `audit-only` or `enforce`.
    pub mode: String,
    /// The layers with what their self-tests found.
    pub layers: Vec<LayerReport>,
    /// The policy, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<MetaPolicy>,
    /// Directories for temporary files of the run's own, where it has some.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tmp: Option<MetaTmp>,
    /// `root-owned` or `user-writable`.
    pub store: String,
    /// Version of the runner.
    pub version: String,
    /// Start, RFC 3339.
    pub start: String,
    /// Start, nanoseconds since 1970.
    pub start_ns: i64,
    /// How it ended; missing while it runs, and for ever after a crash.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<MetaEnd>,
}

/// The policy of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaPolicy {
    /// Its name.
    pub name: String,
    /// SHA-256 of the effective policy.
    pub sha256: String,
}

/// Directories for temporary files of a run's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaTmp {
    /// Where they are seen.
    pub private: Vec<String>,
    /// What of the machine's lies in them.
    pub kept: Vec<String>,
}

impl MetaTmp {
    fn of(tmp: &OwnTmp) -> Self {
        let text = |paths: &[PathBuf]| paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        Self { private: text(&tmp.private), kept: text(&tmp.kept) }
    }
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaEnd {
    /// End, RFC 3339.
    pub end: String,
    /// Nanoseconds from the command's start to its end.
    pub duration_ns: u64,
    /// Exit code of the command, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended the command, if one did.
    pub signal: Option<i32>,
    /// Why the run ended.
    pub reason: String,
    /// `hash_self` of the seal; missing where the log could not be sealed.
    pub head: Option<String>,
    /// Lines in the log.
    pub events: u64,
    /// Attempts counted in other lines.
    pub folded: u64,
    /// Attempts that no line stands for.
    pub lost: u64,
    /// Attempts denied.
    pub blocked: u64,
    /// Attempts that would have been denied.
    pub would_block: u64,
    /// Processes that outlive the run.
    pub left_running: u64,
    /// What went wrong with the record, where something did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl Meta {
    pub(crate) fn started(dir: &RunDir, agent_id: &str, start: &RunStart) -> Self {
        let Redacted { command, redacted } = start.redacted_command();
        Self {
            v: super::line::FORMAT_VERSION,
            run_id: dir.id().to_owned(),
            agent_id: agent_id.to_owned(),
            command: command.iter().map(|word| lossy(word)).collect(),
            command_redacted: redacted,
            cwd: lossy(&start.cwd),
            mode: start.mode.name().to_owned(),
            layers: start.layers.clone(),
            policy: start.policy.clone(),
            tmp: start.tmp.as_ref().map(MetaTmp::of),
            store: dir.trust().name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start: time::format(start.wall_ns),
            start_ns: start.wall_ns,
            end: None,
        }
    }

    pub(crate) fn ended(mut self, end: &RunEnd, log: Result<&Sealed, (Counts, String)>) -> Self {
        let (counts, head, error) = match log {
            Ok(sealed) => (sealed.counts, Some(sealed.head.clone()), None),
            Err((counts, error)) => (counts, None, Some(error)),
        };
        self.end = Some(MetaEnd {
            end: time::format(time::wall_now_ns()),
            duration_ns: end.duration_ns,
            exit_code: end.exit_code,
            signal: end.signal,
            reason: end.reason.clone(),
            head,
            events: counts.events,
            folded: counts.folded,
            lost: counts.lost,
            blocked: counts.blocked,
            would_block: counts.would_block,
            left_running: end.left_running,
            error,
        });
        self
    }

    pub(crate) fn write(&self, dir: &RunDir) -> Result<(), RecordError> {
        let failed = RecordError::file("write", &dir.path().join(FILE));
        let mut text = match serde_json::to_vec_pretty(self) {
            Ok(text) => text,
            Err(error) => return Err(failed(io::Error::other(error))),
        };
        text.push(b'\n');
        dir.replace_file(FILE, &text).map_err(failed)
    }

    /// Reads the `meta.json` of a run's directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let file = open_regular(&directory.join(FILE))?;
        serde_json::from_reader(io::BufReader::new(io::Read::take(file, SIZE_MAX))).map_err(io::Error::from)
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
