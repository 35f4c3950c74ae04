//! Indexes of older versions of the schema, brought to this one.
//!
//! What only needs other secondary indexes is a piece of SQL, done where it stands. A new column needs the log:
//! the index is made again. An index of a newer version is left alone: whoever made it knows more.

use std::path::Path;

use rusqlite::Connection;

use super::build::reindex;
use super::{FILE, IndexError, SCHEMA_VERSION};

/// How one version becomes the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// By SQL, in a transaction.
    Sql(&'static str),
    /// From the log.
    Rebuild,
}

/// `MIGRATIONS[n]` leads from version n + 1 to n + 2.
pub(super) const MIGRATIONS: [Step; SCHEMA_VERSION as usize - 1] = [
    // Columns `host` and `sni`.
    Step::Rebuild,
    // Denials by action, failures, programs and ports are found without reading every row.
    Step::Sql(
        "DROP INDEX IF EXISTS event_type;
        CREATE INDEX event_type ON event (type, action);
        CREATE INDEX event_exe ON event (exe) WHERE exe IS NOT NULL;
        CREATE INDEX event_failed ON event (ret) WHERE ret < 0;
        CREATE INDEX event_port ON event (dst_port) WHERE dst_port IS NOT NULL;",
    ),
];

/// What was done to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// It was of this version already.
    Nothing,
    /// It was changed where it stands.
    InPlace {
        /// The version that it was.
        from: i32,
    },
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
    let failed = || IndexError::sqlite("migrate", &path);
    let mut connection = audit_verify::index::open(&path)?;
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let from: i32 = version(&connection).map_err(failed())?;
    if from > SCHEMA_VERSION {
        return Err(IndexError::Newer { path, found: from });
    }
    // Version 0 is a file that nobody finished.
    let steps = usize::try_from(from - 1).map_or(&[Step::Rebuild][..], |from| &MIGRATIONS[from..]);
    if steps.is_empty() {
        return Ok(Migrated::Nothing);
    }
    if steps.contains(&Step::Rebuild) {
        drop(connection);
        return Ok(Migrated::Rebuilt { from, rows: reindex(run_dir)? });
    }
    connection =
        Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed())?;
    let change = |connection: &mut Connection| {
        connection.busy_timeout(std::time::Duration::from_secs(2))?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Somebody else may have been quicker.
        if version(&transaction)? == from {
            for step in steps {
                if let Step::Sql(sql) = step {
                    transaction.execute_batch(sql)?;
                }
            }
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        transaction.commit()
    };
    change(&mut connection).map_err(failed())?;
    Ok(Migrated::InPlace { from })
}
