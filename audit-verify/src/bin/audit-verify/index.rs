//! `--index`: whether the index beside a log says what the log says.

use std::path::{Path, PathBuf};

use audit_verify::verify::Verdict;

use crate::target::Source;

/// What is to be said of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFinding {
    /// The exit code: 0 it agrees, 1 it differs, 2 it is missing, of another version or unfinished, 3 it could not
    /// be read.
    pub code: u8,
    /// One word.
    pub name: &'static str,
    /// What was found, in words.
    pub message: String,
}

impl IndexFinding {
    fn new(code: u8, name: &'static str, message: impl Into<String>) -> Self {
        IndexFinding { code, name, message: message.into() }
    }
}

/// Looks at the index of a log. `verdict` is the log's own.
pub fn check(source: &Source, verdict: &Verdict) -> IndexFinding {
    let log: &Path = match source {
        Source::Stdin => return IndexFinding::new(3, "unread", "standard input has no index beside it"),
        Source::File(path) | Source::Run(path) => path,
    };
    compare(log, &log.with_file_name("index.sqlite"), verdict)
}

/// What to do about an index that cannot be used.
#[cfg(feature = "index")]
const AGAIN: &str = "`sandbox reindex` makes it again from the log";

#[cfg(feature = "index")]
fn compare(log: &Path, index: &PathBuf, verdict: &Verdict) -> IndexFinding {
    use audit_verify::index::{CompareError, IndexVerdict, compare};
    match compare(log, index) {
        Ok(found @ IndexVerdict::Agrees { .. }) => IndexFinding::new(0, "agrees", found.to_string()),
        // A run that goes on or crashed left its index behind; beside a finished log somebody cut it.
        Ok(found @ IndexVerdict::Behind { .. }) if matches!(verdict, Verdict::Incomplete { .. }) => {
            IndexFinding::new(2, "behind", format!("{found}; {AGAIN}"))
        }
        Ok(found @ IndexVerdict::Version { .. }) => {
            IndexFinding::new(2, "version", format!("{found}; {AGAIN}"))
        }
        Ok(found) => IndexFinding::new(1, "differs", found.to_string()),
        Err(CompareError::Io { path, why, .. })
            if path == *index && why.kind() == std::io::ErrorKind::NotFound =>
        {
            IndexFinding::new(2, "missing", format!("there is no {}; {AGAIN}", index.display()))
        }
        Err(error) => IndexFinding::new(3, "unread", error.to_string()),
    }
}

#[cfg(not(feature = "index"))]
fn compare(_: &Path, _: &PathBuf, _: &Verdict) -> IndexFinding {
    IndexFinding::new(
        3,
        "unread",
        "this audit-verify was built without the feature `index`, and cannot read one",
    )
}
