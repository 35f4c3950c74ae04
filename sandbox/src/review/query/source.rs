//! What a question is put to: the index, as far as it goes, and the log itself behind it.
//!
//! An index that is missing, old, behind or damaged is made again where that is possible; where it is not, the
//! log is read instead. Either way the answer is whole, and a note says what happened.

use std::fs::File;

use super::{QueryError, log_error};
use crate::record::LOG;
use crate::record::index::{Migrated, OpenIndex, Standing, look, migrate, reindex};
use crate::record::lines::Lines;
use crate::record::meta::Meta;
use crate::record::store::{Found, open_regular};
use crate::review::list::{Status, status};
use crate::review::tell_wait;

/// What a question is put to.
#[derive(Debug)]
pub struct Source {
    /// The index, if there is one that can be asked.
    pub index: Option<OpenIndex>,
    /// Whether the run goes on.
    pub status: Status,
    /// What a person should know about how the answer came about.
    pub notes: Vec<String>,
}

/// Opens the log of a run and its index, which is made again if need be.
///
/// # Errors
/// The log cannot be read.
pub fn prepare(run: &Found) -> Result<Source, QueryError> {
    let path = run.path.join(LOG);
    let open = || open_regular(&path).map_err(|why| log_error("open", &path, why));
    let status = status(&run.path, Meta::read(&run.path).ok().as_ref());
    let mut notes = Vec::new();
    let standing = look(&run.path);
    let index = match standing {
        Standing::Ready(index) if status == Status::Running || !is_behind(open()?, &index, run)? => {
            Some(index)
        }
        standing => mend(run, status, standing, &mut notes),
    };
    Ok(Source { index, status, notes })
}

/// Whether a whole line stands behind what the index has.
fn is_behind(log: File, index: &OpenIndex, run: &Found) -> Result<bool, QueryError> {
    let next = Lines::new(log, index.end).next_line().map(|line| line.is_some());
    next.map_err(|why| log_error("read", &run.path.join(LOG), why))
}

/// Makes an index that can be asked; `None` where the log is to be read from its beginning.
fn mend(run: &Found, status: Status, standing: Standing, notes: &mut Vec<String>) -> Option<OpenIndex> {
    let fault = match &standing {
        Standing::Ready(index) => format!("the index ends at line {}, before the log does", index.rows),
        Standing::Missing => "there is no index".to_owned(),
        Standing::Older(version) => format!("the index is of version {version} of the schema"),
        Standing::Newer(version) => format!(
            "the index is of version {version} of the schema, which is newer than this program; use the newer sandbox for it"
        ),
        Standing::Damaged(why) => format!("the index cannot be asked ({why})"),
    };
    if status == Status::Running || matches!(standing, Standing::Newer(_)) {
        notes.push(format!("{fault}: the log is read instead"));
        return None;
    }
    tell_wait(&run.path.join(LOG), &format!("{fault}: it is made"));
    let made = match standing {
        Standing::Older(_) => migrate(&run.path).map(|done| match done {
            Migrated::Nothing => "it is of this version now".to_owned(),
            Migrated::Rebuilt { rows, .. } => format!("it was made again, {rows} rows"),
        }),
        Standing::Ready(_) | Standing::Missing | Standing::Newer(_) | Standing::Damaged(_) => {
            reindex(&run.path).map(|rows| format!("it was made again, {rows} rows"))
        }
    };
    match (made, standing) {
        (Ok(done), _) => {
            notes.push(format!("{fault}: {done}"));
            match look(&run.path) {
                Standing::Ready(index) => Some(index),
                other => {
                    notes.push(format!("and yet it cannot be asked ({other:?}): the log is read instead"));
                    None
                }
            }
        }
        // What it has is right, and the rest is read in the log.
        (Err(error), Standing::Ready(index)) => {
            notes.push(format!(
                "{fault}, and it cannot be made again here ({error}): the rest is read in the log"
            ));
            Some(index)
        }
        (Err(error), _) => {
            notes.push(format!(
                "{fault}, and it cannot be made again here ({error}): the log is read instead"
            ));
            None
        }
    }
}
