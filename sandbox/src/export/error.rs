//! What an export can fail at.

use std::io;
use std::path::{Path, PathBuf};

/// An export that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error("{act} {}: {why}{}", .path.display(), match why.kind() {
        io::ErrorKind::PermissionDenied => "; it is another user's record: read it with sudo",
        _ => "",
    })]
    Log {
        /// What was being done.
        act: &'static str,
        /// The log.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// What is read is not what was verified a moment before.
    #[error("{}: line {line} is not what it was when the log was verified; somebody writes to it", .path.display())]
    Changed {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// The output takes nothing more.
    #[error("write the export: {0}")]
    Output(io::Error),
    /// The Parquet file cannot be written.
    #[error("write the export: {0}")]
    Parquet(parquet::errors::ParquetError),
}

impl ExportError {
    /// Whether whoever reads the output has had enough of it.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            ExportError::Output(why) => why.kind() == io::ErrorKind::BrokenPipe,
            ExportError::Parquet(parquet::errors::ParquetError::External(why)) => {
                why.downcast_ref::<io::Error>().is_some_and(|why| why.kind() == io::ErrorKind::BrokenPipe)
            }
            _ => false,
        }
    }

    pub(super) fn log(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |why| ExportError::Log { act, path: path.to_owned(), why }
    }
}
