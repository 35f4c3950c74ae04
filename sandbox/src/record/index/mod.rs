//! `index.sqlite`: the log's events in a form that answers questions quickly.
//!
//! The log is the truth and the index a copy: it is built by reading the log, by the same code while a run
//! goes on ([`Indexer`]) and afterwards ([`reindex`]), and [`compare()`] proves row by row that the two agree.
//! It holds what is searched for and where each line stands in the log; everything else is read there.
//!
//! The schema is [`audit_verify::index`]'s, so that the verifier knows it without this program.
//!
//! While a run goes on the file is in WAL mode, so that readers see whole batches and hold nothing up; a
//! finished one is a single file. Of each 65,536 rows a block is made as soon as they are there, of the last ones
//! at the end.

mod batch;
mod build;
mod dictionary;
mod migrate;
mod place;
mod ready;
mod thread;

use std::io;
use std::path::{Path, PathBuf};

pub use audit_verify::index::{CompareError, FILE, IndexVerdict, LineFault, SCHEMA_VERSION};

use crate::record::recorder::LOG;

pub use build::reindex;
pub use migrate::{Migrated, migrate};
pub use ready::{BlockHead, OpenIndex, Standing, look};
pub use thread::Indexer;

/// Compares a run's index with its log, row by row, in constant memory. Changes neither.
///
/// # Errors
/// A file cannot be read, or a line is none of ours.
pub fn compare(run_dir: &Path) -> Result<IndexVerdict, CompareError> {
    audit_verify::index::compare(&run_dir.join(LOG), &run_dir.join(FILE))
}

/// An index that could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite's answer.
    #[error("{act} {}: {why}; {}", .path.display(), again(path, Some(why)))]
    Sqlite {
        /// What was being done.
        act: &'static str,
        /// The index.
        path: PathBuf,
        /// Why it failed.
        why: rusqlite::Error,
    },
    /// A file operation.
    #[error("{act} {}: {why}", .path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// A line that is not one of ours.
    #[error("{}: line {line} cannot be indexed: {fault}; check the log with audit-verify", .path.display())]
    Line {
        /// The log.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] CompareError),
    /// It is of a newer version of the schema.
    #[error("index {}: is of version {found} of the schema, and this program knows {SCHEMA_VERSION}: use the newer sandbox, or remove the file to have it made again", .path.display())]
    Newer {
        /// The index.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// Another process makes it.
    #[error("make {}: another process makes this index just now; try again when it has finished", .0.display())]
    Busy(PathBuf),
    /// The thread is gone.
    #[error("index {}: the thread ended by a fault of its own; {}", .0.display(), again(.0, None))]
    Thread(PathBuf),
}

/// How to have the index at this path again.
pub(crate) fn again(path: &Path, why: Option<&rusqlite::Error>) -> String {
    let full = why.and_then(rusqlite::Error::sqlite_error_code) == Some(rusqlite::ErrorCode::DiskFull);
    match path.parent() {
        _ if full => "free space there; until then `sandbox query` reads the log itself".to_owned(),
        Some(run) if run != Path::new("") => {
            format!("`sandbox reindex {}` makes it again from the log", run.display())
        }
        _ => "`sandbox reindex` makes it again from the log".to_owned(),
    }
}

impl IndexError {
    /// Whether somebody else holds the index, who may let go of it.
    fn is_held(&self) -> bool {
        matches!(self, IndexError::Sqlite { why, .. }
            if why.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy))
    }

    fn sqlite(act: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        move |why| IndexError::Sqlite { act, path, why }
    }

    fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |why| IndexError::Io { act, path, why }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
