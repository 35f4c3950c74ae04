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
    /// The file that was asked for cannot be made.
    #[error("{act} {}: {why}", .path.display())]
    File {
        /// What was being done.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// The file that was asked for is there.
    #[error("{}: it is there already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// The file that was asked for is no file.
    #[error("{}: it is no regular file, and nothing else is replaced; leave -o away and redirect stdout", .0.display())]
    NotAFile(PathBuf),
    /// The file that was asked for would be part of the record.
    #[error("{}: nothing is written into the directory of a run; choose another place", .0.display())]
    InTheRecord(PathBuf),
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

    pub(super) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |why| ExportError::File { act, path: path.to_owned(), why }
    }
}
