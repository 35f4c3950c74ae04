//! Indexes of older versions of the schema, brought to this one.
//!
//! What an older one lacks stands in the log, so it is made again from there. An index of a newer version is left
//! alone: whoever made it knows more.

use std::path::Path;

use super::build::reindex;
use super::{FILE, IndexError, SCHEMA_VERSION};

/// What was done to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// It was of this version already.
    Nothing,
    /// It was made again.
    Rebuilt {
        /// The version that it was.
        from: i32,
        /// Its rows.
        rows: u64,
    },
}

/// Brings the index of a finished run to this version of the schema.
///
/// # Errors
/// It is of a newer version, or it cannot be written. What was there stays.
pub fn migrate(run_dir: &Path) -> Result<Migrated, IndexError> {
    let path = run_dir.join(FILE);
    let from: i32 = audit_verify::index::open(&path)?
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(IndexError::sqlite("migrate", &path))?;
    match from.cmp(&SCHEMA_VERSION) {
        std::cmp::Ordering::Greater => Err(IndexError::Newer { path, found: from }),
        std::cmp::Ordering::Equal => Ok(Migrated::Nothing),
        std::cmp::Ordering::Less => Ok(Migrated::Rebuilt { from, rows: reindex(run_dir)? }),
    }
}
