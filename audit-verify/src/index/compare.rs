//! Whether an index says what its log says.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Statement};

use super::block::{Block, BlockBuilder, Field, HEAD, MOMENTS, block_columns};
use super::lines::Lines;
use super::row::{LineFault, NUMBERS, Row, STRINGS, is_text};
use super::schema::{SCHEMA_VERSION, check_schema, columns};

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
    /// A line has no row, though a later one has.
    Missing {
        /// `seq` of the line.
        seq: u64,
    },
    /// The index ends before the log does; what it has is right.
    Behind {
        /// Rows that it has.
        rows: u64,
    },
    /// What stands in `block` is not what its rows say, so that questions could be answered wrongly.
    Block {
        /// `seq` of the first row that it is about.
        first: i64,
        /// The column.
        column: &'static str,
    },
    /// A row has no line.
    Extra {
        /// `seq` of the row.
        seq: i64,
    },
    /// It has a table, view, trigger or secondary index that no index of this version has, or lacks one.
    Schema {
        /// Its name.
        object: String,
    },
    /// The file is not whole.
    Damaged {
        /// What SQLite says of it.
        why: String,
    },
    /// The index is of another version of the schema.
    Version {
        /// The version that stands there.
        found: i32,
    },
}

impl IndexVerdict {
    /// Whether the index is what the log says.
    pub fn agrees(&self) -> bool {
        matches!(self, IndexVerdict::Agrees { .. })
    }
}

impl fmt::Display for IndexVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexVerdict::Agrees { rows } => write!(f, "the index agrees with the log, {rows} rows"),
            IndexVerdict::Differs { seq, column, log, index } => {
                write!(f, "index differs from the log: seq {seq}, column {column}: {index} instead of {log}")
            }
            IndexVerdict::Missing { seq } => write!(f, "index differs from the log: seq {seq} has no row"),
            IndexVerdict::Behind { rows } => {
                write!(f, "the index ends before the log does, behind row {rows}")
            }
            IndexVerdict::Block { first, column } => {
                write!(
                    f,
                    "index differs from the log: what it says of the rows from seq {first} on, column {column}, is not what they say"
                )
            }
            IndexVerdict::Extra { seq } => {
                write!(f, "index differs from the log: seq {seq} has a row and no line")
            }
            IndexVerdict::Schema { object } => {
                let object = object.escape_debug();
                write!(f, "index is not one that sandbox made: `{object}` is not of version {SCHEMA_VERSION}")
            }
            IndexVerdict::Damaged { why } => {
                write!(f, "index differs from the log: the file is damaged: {}", why.escape_debug())
            }
            IndexVerdict::Version { found } => {
                write!(
                    f,
                    "the index is of version {found} of the schema, and this program knows {SCHEMA_VERSION}"
                )
            }
        }
    }
}

/// An index or a log that could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// SQLite's answer.
    #[error("read {}: {why}; `sandbox reindex` makes it again from the log", .path.display())]
    Sqlite {
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
    #[error("{}: line {line} cannot be compared: {fault}; check the log with audit-verify", .path.display())]
    Line {
        /// The log.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// The longest value and row that is read from an index, in bytes. Those of ours are not longer than a line, whose bytes
/// may stand in its row in another form.
const LENGTH_MAX: i32 = 2 * crate::canonical::LINE_MAX as i32;

/// Opens an index that may be anybody's, for reading alone.
///
/// # Errors
/// There is no regular file, or SQLite cannot open it.
pub fn open(path: &Path) -> Result<Connection, CompareError> {
    let io = |why| CompareError::Io { act: "open", path: path.to_owned(), why };
    // SQLite says only "unable to open database file", and would wait for ever for the writer of a pipe.
    if !path.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // What stands in a schema that somebody else wrote is not to be run.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|why| CompareError::Sqlite { path: path.to_owned(), why })
}

/// Compares the index at `index` with the log at `log`, row by row, in constant memory. Changes neither.
///
/// Lines are read as they stand: whether the log itself is true is the question of [`crate::verify`]. A torn last
/// line has no row.
///
/// # Errors
/// A file cannot be read, or a line is none of ours.
pub fn compare(log: &Path, index: &Path) -> Result<IndexVerdict, CompareError> {
    match compare_rows(log, index) {
        Err(CompareError::Sqlite { why, .. }) if why.sqlite_error_code() == Some(ErrorCode::TooBig) => {
            Ok(IndexVerdict::Damaged { why: format!("a value or row of more than {LENGTH_MAX} bytes") })
        }
        other => other,
    }
}

fn compare_rows(log: &Path, index: &Path) -> Result<IndexVerdict, CompareError> {
    let failed = |why| CompareError::Sqlite { path: index.to_owned(), why };
    let connection = open(index)?;
    // Rows and blocks are seen at one moment, also while a run goes on.
    connection.execute_batch("BEGIN").map_err(failed)?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if version != SCHEMA_VERSION {
        return Ok(IndexVerdict::Version { found: version });
    }
    if let Some(fault) = check_schema(&connection).map_err(failed)? {
        return Ok(IndexVerdict::Schema { object: fault.0 });
    }
    // Rows may be right and what leads to them not.
    let whole: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if whole != "ok" {
        return Ok(IndexVerdict::Damaged { why: whole });
    }
    let io = |act| move |why| CompareError::Io { act, path: log.to_owned(), why };
    if !log.metadata().map_err(io("open"))?.is_file() {
        return Err(io("open")(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut lines = Lines::new(File::open(log).map_err(io("open"))?, 0);
    let select = format!("SELECT {} FROM event ORDER BY seq", columns());
    let mut select = connection.prepare(&select).map_err(failed)?;
    let mut rows = select.query([]).map_err(failed)?;
    let mut strings = Strings::new(&connection).map_err(failed)?;
    let mut blocks = Blocks::new(&connection).map_err(failed)?;
    let mut number = 0;
    while let Some(line) = lines.next_line().map_err(io("read"))? {
        number += 1;
        let fault = |fault| CompareError::Line { path: log.to_owned(), line: number, fault };
        let expected = Row::of(&line).map_err(fault)?;
        let Some(found) = rows.next().map_err(failed)? else {
            let lie = blocks.finish().map_err(failed)?;
            return Ok(lie.unwrap_or(IndexVerdict::Behind { rows: number - 1 }));
        };
        if let Some(verdict) = difference(&expected, found, &mut strings).map_err(failed)? {
            return Ok(verdict);
        }
        if let Some(lie) = blocks.push(&expected.numbers, &strings.ids).map_err(failed)? {
            return Ok(lie);
        }
    }
    if let Some(row) = rows.next().map_err(failed)? {
        return Ok(IndexVerdict::Extra { seq: row.get(0).map_err(failed)? });
    }
    let lie = blocks.finish().map_err(failed)?;
    Ok(lie.unwrap_or(IndexVerdict::Agrees { rows: number }))
}

fn difference(
    expected: &Row<'_>,
    found: &rusqlite::Row<'_>,
    strings: &mut Strings<'_>,
) -> rusqlite::Result<Option<IndexVerdict>> {
    // The key of a table is an integer.
    let seq: i64 = found.get(0)?;
    match seq.cmp(&expected.seq) {
        std::cmp::Ordering::Less => return Ok(Some(IndexVerdict::Extra { seq })),
        std::cmp::Ordering::Greater => return Ok(Some(IndexVerdict::Missing { seq: expected.seq as u64 })),
        std::cmp::Ordering::Equal => {}
    }
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
        let expected = expected.strings[at].as_deref();
        let same = match (expected, stands) {
            (Some(text), ValueRef::Integer(id)) => strings.is(at, id, text)?,
            (None, ValueRef::Null) => true,
            _ => false,
        };
        if !same {
            let log = expected.map_or("nothing".to_owned(), escape);
            let index = match stands {
                ValueRef::Integer(id) => strings.show(id)?,
                other => show(other),
            };
            return differs(column, log, index);
        }
        if expected.is_none() {
            strings.ids[at] = None;
        }
    }
    Ok(None)
}

/// How much text of strings is kept to compare it, in bytes. Beyond it SQLite is asked again.
const KEPT_MAX: usize = 32 << 20;

/// The strings of an index by their numbers.
struct Strings<'c> {
    select: Statement<'c>,
    known: HashMap<i64, Box<[u8]>>,
    kept: usize,
    /// The numbers in the row that was compared last, column by column.
    ids: [Option<i64>; STRINGS.len()],
}

impl<'c> Strings<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let select = connection.prepare("SELECT value FROM strings WHERE id = ?")?;
        Ok(Strings { select, known: HashMap::new(), kept: 0, ids: [None; STRINGS.len()] })
    }

    /// Whether string `id` is this one, and of the kind that it should be; if so it stands in column `column`.
    fn is(&mut self, column: usize, id: i64, text: &[u8]) -> rusqlite::Result<bool> {
        self.ids[column] = Some(id);
        if let Some(known) = self.known.get(&id) {
            return Ok(**known == *text);
        }
        let mut rows = self.select.query([id])?;
        let same = match rows.next()?.map(|row| row.get_ref(0)).transpose()? {
            Some(ValueRef::Text(other)) => *text == *other && is_text(text),
            Some(ValueRef::Blob(other)) => *text == *other && !is_text(text),
            _ => false,
        };
        drop(rows);
        if same {
            if self.kept > KEPT_MAX {
                (self.known, self.kept) = (HashMap::new(), 0);
            }
            self.kept += text.len() + 64;
            self.known.insert(id, text.into());
        }
        Ok(same)
    }

    fn show(&mut self, id: i64) -> rusqlite::Result<String> {
        let mut rows = self.select.query([id])?;
        rows.next()?.map_or(Ok("nothing".to_owned()), |row| row.get_ref(0).map(show))
    }
}

/// The rows of `block`, compared with the rows of `event` as they go by.
///
/// They begin with the first and leave none out. They may end before the last: while a run goes on there are
/// whole ones alone, and what they do not tell of is read in the rows.
struct Blocks<'c> {
    connection: &'c Connection,
    select: Statement<'c>,
    builder: BlockBuilder,
    /// The end of what they tell of: behind it there may be none.
    end: i64,
}

impl<'c> Blocks<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let select = connection.prepare(&format!("SELECT {} FROM block WHERE first = ?", block_columns()))?;
        Ok(Blocks { connection, select, builder: BlockBuilder::new(1), end: 1 })
    }

    /// Takes the next row, as its line has it.
    fn push(
        &mut self,
        numbers: &[Option<i64>; NUMBERS.len()],
        strings: &[Option<i64>; STRINGS.len()],
    ) -> rusqlite::Result<Option<IndexVerdict>> {
        match self.builder.push(numbers, strings) {
            Some(block) => self.compare(&block),
            None => Ok(None),
        }
    }

    /// There are no more rows.
    fn finish(&mut self) -> rusqlite::Result<Option<IndexVerdict>> {
        if let Some(block) = self.builder.take()
            && let Some(lie) = self.compare(&block)?
        {
            return Ok(Some(lie));
        }
        // Whatever is left tells of rows that there are not, or stands behind a gap.
        let strange = "SELECT first FROM block WHERE first < 1 OR first >= ? LIMIT 1";
        let strange = self.connection.query_row(strange, [self.end], |row| row.get(0)).optional()?;
        Ok(strange.map(|first| IndexVerdict::Block { first, column: "first" }))
    }

    fn compare(&mut self, block: &Block) -> rusqlite::Result<Option<IndexVerdict>> {
        let mut rows = self.select.query([block.first])?;
        let Some(found) = rows.next()? else { return Ok(None) };
        if block.first != self.end {
            return Ok(Some(IndexVerdict::Block { first: block.first, column: "first" }));
        }
        let numbers = [block.first, block.rows as i64, block.earliest, block.latest];
        let heads = HEAD.iter().zip(numbers.map(ValueRef::Integer));
        let names = Field::ALL.iter().map(|field| field.name()).chain([MOMENTS]);
        let lists = block.lists.iter().chain([&block.moments]).map(|list| ValueRef::Blob(list));
        let expected = heads.map(|(name, value)| (*name, value)).chain(names.zip(lists));
        for (at, (column, value)) in expected.enumerate() {
            if found.get_ref(at)? != value {
                return Ok(Some(IndexVerdict::Block { first: block.first, column }));
            }
        }
        self.end += block.rows as i64;
        Ok(None)
    }
}

fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "nothing".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => escape(text),
        ValueRef::Blob(bytes) => format!("the bytes {}", escape(bytes)),
    }
}

/// At most 200 bytes of a string, so that what somebody put there fits a message.
fn escape(text: &[u8]) -> String {
    const SHOWN: usize = 200;
    let more = if text.len() > SHOWN { "…" } else { "" };
    format!("`{}{more}`", text[..text.len().min(SHOWN)].escape_ascii())
}
