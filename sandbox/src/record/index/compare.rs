//! Whether an index says what its log says.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::build::is_text;
use super::row::{NUMBERS, Row, STRINGS};
use super::{FILE, IndexError, SCHEMA_VERSION};
use crate::record::lines::Lines;
use crate::record::recorder::LOG;
use crate::record::store::open_regular;

/// What comparing an index with its log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexVerdict {
    /// A row for each line, and each says what its line says.
    Agrees {
        /// How many.
        rows: u64,
    },
    /// A row says something else than its line.
    Differs {
        /// `seq` of the line.
        seq: u64,
        /// The column.
        column: &'static str,
        /// What the line says.
        log: String,
        /// What the row says.
        index: String,
    },
    /// A line has no row.
    Missing {
        /// `seq` of the line.
        seq: u64,
    },
    /// A row has no line.
    Extra {
        /// `seq` of the row.
        seq: i64,
    },
    /// The index is of another version of the schema.
    Version {
        /// The version that stands there.
        found: i32,
    },
}

const SELECT: &str = "SELECT seq, wall_ns, mono_ns, pid, ppid, uid, dst_port, ret, offset, length, \
    type, action, proc_id, exe, path, path2, dst_ip, policy_rule, layer FROM events ORDER BY seq";

/// Compares `index.sqlite` with `events.jsonl`, row by row, in constant memory. Changes neither.
///
/// Lines are read as they stand: whether the log itself is true is `audit-verify`'s question. A line that
/// cannot be read is an error.
pub fn compare(run_dir: &Path) -> Result<IndexVerdict, IndexError> {
    let path = run_dir.join(FILE);
    let log = run_dir.join(LOG);
    let log_file = open_regular(&log).map_err(IndexError::io("open", &log))?;
    // SQLite says only "unable to open database file".
    open_regular(&path).map_err(IndexError::io("open", &path))?;
    let mut lines = Lines::new(log_file, 0);
    let failed = || IndexError::sqlite("read", &path);

    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(failed())?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed())?;
    if version != SCHEMA_VERSION {
        return Ok(IndexVerdict::Version { found: version });
    }
    let mut select = connection.prepare(SELECT).map_err(failed())?;
    let mut rows = select.query([]).map_err(failed())?;
    let mut number = 0;
    while let Some(line) = lines.next_line().map_err(IndexError::io("read", &log))? {
        number += 1;
        let fault = |fault| IndexError::Line { path: log.clone(), line: number, fault };
        let expected = Row::of(&line).map_err(fault)?;
        let Some(found) = rows.next().map_err(failed())? else {
            return Ok(IndexVerdict::Missing { seq: number });
        };
        let seq: i64 = found.get(0).map_err(failed())?;
        match seq.cmp(&expected.seq) {
            std::cmp::Ordering::Less => return Ok(IndexVerdict::Extra { seq }),
            std::cmp::Ordering::Greater => return Ok(IndexVerdict::Missing { seq: number }),
            std::cmp::Ordering::Equal => {}
        }
        if let Some(verdict) = difference(&expected, found).map_err(failed())? {
            return Ok(verdict);
        }
    }
    match rows.next().map_err(failed())? {
        Some(row) => Ok(IndexVerdict::Extra { seq: row.get(0).map_err(failed())? }),
        None => Ok(IndexVerdict::Agrees { rows: number }),
    }
}

fn difference(expected: &Row<'_>, found: &rusqlite::Row<'_>) -> rusqlite::Result<Option<IndexVerdict>> {
    let differs = |column, log: String, index: String| {
        Ok(Some(IndexVerdict::Differs { seq: expected.seq as u64, column, log, index }))
    };
    for (at, column) in NUMBERS.iter().enumerate() {
        let stands = found.get_ref(at + 1)?;
        let same = match (expected.numbers[at], stands) {
            (Some(number), ValueRef::Integer(other)) => number == other,
            (None, ValueRef::Null) => true,
            _ => false,
        };
        if !same {
            let log = expected.numbers[at].map_or("nothing".to_owned(), |number| number.to_string());
            return differs(column, log, show(stands));
        }
    }
    for (at, column) in STRINGS.iter().enumerate() {
        let stands = found.get_ref(at + 1 + NUMBERS.len())?;
        let same = match (&expected.strings[at], stands) {
            (Some(text), ValueRef::Text(other)) => **text == *other && is_text(text),
            (Some(text), ValueRef::Blob(other)) => **text == *other && !is_text(text),
            (None, ValueRef::Null) => true,
            _ => false,
        };
        if !same {
            let log = expected.strings[at].as_ref().map_or("nothing".to_owned(), |text| escape(text));
            return differs(column, log, show(stands));
        }
    }
    Ok(None)
}

fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "nothing".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => escape(text),
    }
}

fn escape(text: &[u8]) -> String {
    format!("`{}`", text.escape_ascii())
}
