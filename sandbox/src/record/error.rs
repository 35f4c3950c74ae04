//! What can go wrong while a run is recorded.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the log itself: what was written until then stands, nothing is rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{act} {}: {}; {}", .path.display(), describe(*.errno), advice(*.errno))]
pub struct LogError {
    /// What was being done.
    pub act: LogAct,
    /// The log.
    pub path: PathBuf,
    /// The error number; 0 where the kernel wrote nothing and said nothing.
    pub errno: i32,
    /// `seq` of the last event whose line stands whole in the log.
    pub written_seq: u64,
}

/// What was being done to the log when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAct {
    /// write(2)
    Write,
    /// fdatasync(2): the kernel may have dropped what it could not store, so this is never tried again.
    Sync,
    /// The log has no name any more: somebody removed it.
    Keep,
    /// The writer thread ended by a fault of its own.
    Run,
}

impl std::fmt::Display for LogAct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LogAct::Write => "write",
            LogAct::Sync => "sync",
            LogAct::Keep => "keep",
            LogAct::Run => "run the writer of",
        })
    }
}

impl LogError {
    pub(crate) fn new(act: LogAct, path: &Path, error: &io::Error, written_seq: u64) -> Self {
        Self { act, path: path.to_owned(), errno: error.raw_os_error().unwrap_or(0), written_seq }
    }

    /// Whether space ran out (ENOSPC, EDQUOT), which may pass.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno, libc::ENOSPC | libc::EDQUOT)
    }
}

fn describe(errno: i32) -> String {
    match errno {
        0 => "nothing was taken".to_owned(),
        errno => io::Error::from_raw_os_error(errno).to_string(),
    }
}

fn advice(errno: i32) -> &'static str {
    match errno {
        libc::ENOSPC | libc::EDQUOT => "free space there, or set SANDBOX_HOME to another file system",
        libc::ENOENT => "it was removed while it was written, and what it held is lost",
        libc::ESTALE => {
            "another file was put in its place while it was written; what was recorded is not in that"
        }
        libc::EROFS => "the file system turned read-only: see the kernel's log",
        _ => "the record ends here and stays incomplete",
    }
}

/// What to do about an error that people can do something about, ready to follow it.
fn remedy(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno @ (libc::ENOSPC | libc::EDQUOT | libc::EROFS)) => format!("; {}", advice(errno)),
        _ => String::new(),
    }
}

/// A failure around the log: run directory, index, meta.json.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store or a run's directory.
    #[error(transparent)]
    Store(#[from] super::store::StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] super::ledger::LedgerError),
    /// An anchor.
    #[error(transparent)]
    Anchor(#[from] super::anchor::AnchorError),
    /// The index.
    #[error(transparent)]
    Index(#[from] super::index::IndexError),
    /// A file of the run.
    #[error("{act} {}: {why}{}", .path.display(), remedy(why))]
    File {
        /// What was being done.
        act: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
}

impl RecordError {
    pub(crate) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |why| RecordError::File { act, path, why }
    }
}
