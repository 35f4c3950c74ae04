//! Runs whose log has no seal and never will: how far they hold, entered into the ledger.
//!
//! The log is left as it is; it is never sealed afterwards, which would launder a cut. Its index is made again.

use std::io;
use std::path::{Path, PathBuf};

use audit_verify::Hash;
use audit_verify::ledger::Entry;
use audit_verify::verify::{Question, Verdict, Verifier};

use super::index::{self, IndexError};
use super::ledger::{LedgerError, LedgerFile};
use super::recorder::LOG;
use super::store::{Found, open_regular};

/// A run that crashed and is entered now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Crashed {
    /// The run.
    pub id: String,
    /// Events that hold.
    pub events: u64,
    /// `hash_self` of the last of them.
    pub head: String,
    /// What is missing.
    pub reason: String,
}

/// Why a run could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum CrashedError {
    /// Its log cannot be read.
    #[error("read {}: {why}", .path.display())]
    Read {
        /// The log.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Its log does not hold.
    #[error("{}: {found}; nothing was entered: see `audit-verify {}`", .path.display(), .path.display())]
    Tampered {
        /// The log.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// How far a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Events that hold.
    pub events: u64,
    /// `hash_self` of the last of them.
    pub head: Hash,
    /// What is missing, if something is.
    pub missing: Option<String>,
}

/// How far the log of a run holds.
///
/// # Errors
/// It cannot be read, or was edited.
pub fn extent(directory: &Path) -> Result<Extent, CrashedError> {
    let path = directory.join(LOG);
    let read = open_regular(&path).and_then(|log| Verifier::new(Question::Log).run(log));
    let report = read.map_err(|why| CrashedError::Read { path: path.clone(), why })?;
    match report.verdict {
        Verdict::Intact { events, head, .. } => Ok(Extent { events, head, missing: None }),
        Verdict::Incomplete { events, head, why, .. } => {
            Ok(Extent { events, head, missing: Some(why.to_string()) })
        }
        Verdict::Tampered(fault) => {
            let found = format!("line {}: {}", fault.line, fault.why);
            Err(CrashedError::Tampered { path, found })
        }
        other => Err(CrashedError::Tampered { path, found: other.name().to_owned() }),
    }
}

/// What came of entering a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It crashed.
    Crashed(Crashed),
    /// Its log is sealed: it ended well, and only its entry was missing.
    Ended,
    /// Somebody else entered it meanwhile, or removed it.
    Already,
}

/// Enters a run that began and neither ended nor goes on.
///
/// # Errors
/// Its log does not hold, the ledger cannot be written, or the index cannot be made.
pub fn enter(run: &Found, ledger: &LedgerFile) -> Result<Entered, CrashedError> {
    let Extent { events, head, missing } = extent(&run.path)?;
    let run_id = run.id.clone();
    let entry = match &missing {
        None => Entry::End { run_id, events, head },
        Some(reason) => Entry::Incomplete { run_id, events, head, reason: reason.clone() },
    };
    let mut locked = ledger.lock()?;
    let known = locked.read()?;
    if !known.run(&run.id).is_some_and(|run| run.outcome.is_none() && run.removed.is_none()) {
        return Ok(Entered::Already);
    }
    locked.append(&entry)?;
    drop(locked);
    index::reindex(&run.path)?;
    Ok(missing.map_or(Entered::Ended, |reason| {
        Entered::Crashed(Crashed { id: run.id.clone(), events, head: head.to_string(), reason })
    }))
}
