//! Whether there is an index that can be asked, and of how much of the log.

use std::path::Path;

use audit_verify::index::{CompareError, INDEXES, check_schema};
use rusqlite::{Connection, OptionalExtension};

use super::{FILE, SCHEMA_VERSION};
use crate::record::recorder::LOG;

/// What stands beside a log.
#[derive(Debug)]
pub enum Standing {
    /// An index of this version, whole as far as it goes.
    Ready(OpenIndex),
    /// Nothing.
    Missing,
    /// An index of an older version of the schema.
    Older(i32),
    /// An index of a version that this program does not know.
    Newer(i32),
    /// Something that cannot be asked: why.
    Damaged(String),
}

/// An index that can be asked. All questions see it at the same moment.
#[derive(Debug)]
pub struct OpenIndex {
    /// For reading alone.
    pub connection: Connection,
    /// Its rows: those of the lines 1 to this one.
    pub rows: u64,
    /// Where the next line begins in the log.
    pub end: u64,
    /// Whether it is finished: while a run goes on the secondary indexes are missing.
    pub secondary: Secondary,
}

/// Whether there are secondary indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secondary {
    /// All of them.
    Made,
    /// Some are missing.
    Missing,
}

/// Looks at the index of a run. Changes nothing.
pub fn look(run_dir: &Path) -> Standing {
    let path = run_dir.join(FILE);
    match audit_verify::index::open(&path) {
        Err(CompareError::Io { why, .. }) if why.kind() == std::io::ErrorKind::NotFound => Standing::Missing,
        Err(error) => Standing::Damaged(error.to_string()),
        Ok(connection) => read(run_dir, connection).unwrap_or_else(|why| Standing::Damaged(why.to_string())),
    }
}

fn read(run_dir: &Path, connection: Connection) -> rusqlite::Result<Standing> {
    connection.execute_batch("BEGIN")?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        // Whoever makes it has not got further.
        0 => return Ok(Standing::Damaged("it was not begun properly".into())),
        older if older < SCHEMA_VERSION => return Ok(Standing::Older(older)),
        newer if newer > SCHEMA_VERSION => return Ok(Standing::Newer(newer)),
        _ => {}
    }
    if let Some(fault) = check_schema(&connection)? {
        return Ok(Standing::Damaged(fault.to_string()));
    }
    let last: Option<(i64, i64)> = connection
        .query_row("SELECT seq, offset + length + 1 FROM event ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (last, end) = last.unwrap_or((0, 0));
    let rows: i64 = connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
    if rows != last {
        return Ok(Standing::Damaged(format!("it has {rows} rows, and the last is of line {last}")));
    }
    let log_size = run_dir.join(LOG).metadata().map_or(0, |about| about.len());
    if u64::try_from(end).map_or(true, |end| end > log_size) {
        return Ok(Standing::Damaged("it tells of lines that are not in the log".into()));
    }
    let made: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL",
        [],
        |row| row.get(0),
    )?;
    let secondary = if made as usize == INDEXES.matches("CREATE INDEX").count() {
        Secondary::Made
    } else {
        Secondary::Missing
    };
    Ok(Standing::Ready(OpenIndex { connection, rows: rows as u64, end: end as u64, secondary }))
}
