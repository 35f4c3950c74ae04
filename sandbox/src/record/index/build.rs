//! Lines into rows.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use super::row::{Row, STRINGS};
use super::{FILE, INDEXES, IndexError, LineFault, SCHEMA_VERSION, TABLES};
use crate::record::lines::Lines;
use crate::record::recorder::LOG;
use crate::record::store::open_regular;

/// Rows in one transaction.
const BATCH: usize = 20_000;

/// How much text of strings is kept to find their numbers, in bytes. Beyond it SQLite is asked.
const KEPT_MAX: usize = if cfg!(test) { 8 << 10 } else { 32 << 20 };

const INSERT: &str = "INSERT INTO event (seq, wall_ns, mono_ns, pid, ppid, uid, dst_port, ret, offset, length, \
    type, action, proc_id, exe, path, path2, dst_ip, policy_rule, layer) \
    VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)";

/// Who else looks at the file while it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Readers, at any time.
    Readers,
    /// Nobody: it gets its name when it is finished.
    Nobody,
}

/// Builds an index from the lines of a log.
#[derive(Debug)]
pub(super) struct Builder {
    connection: Connection,
    path: PathBuf,
    log: PathBuf,
    lines: Lines,
    strings: Strings,
    rows: u64,
}

impl Builder {
    /// Begins in the empty file `path`.
    pub fn new(path: &Path, log: &Path, log_file: File, audience: Audience) -> Result<Self, IndexError> {
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(std::time::Duration::from_secs(2))?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            match audience {
                Audience::Readers => connection.pragma_update(None, "journal_mode", "WAL")?,
                Audience::Nobody => {
                    connection.pragma_update(None, "journal_mode", "OFF")?;
                    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
                    connection.pragma_update(None, "cache_size", -65536)?;
                }
            }
            connection
                .execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"))?;
            Ok(connection)
        };
        let connection = open().map_err(IndexError::sqlite("create", path))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            log: log.to_owned(),
            lines: Lines::new(log_file, 0),
            strings: Strings::default(),
            rows: 0,
        })
    }

    /// Adds the lines that are there now, at most one transaction of them; says how many.
    pub fn advance(&mut self) -> Result<usize, IndexError> {
        let failed = |path: &Path| IndexError::sqlite("write", path);
        let Self { connection, path, log, lines, strings, rows } = self;
        let mut added = 0;
        let transaction = connection.unchecked_transaction().map_err(failed(path))?;
        {
            let mut insert = transaction.prepare_cached(INSERT).map_err(failed(path))?;
            let mut dictionary = Dictionary::new(&transaction, strings).map_err(failed(path))?;
            while added < BATCH {
                let Some(line) = lines.next_line().map_err(IndexError::io("read", log))? else { break };
                let number = *rows + 1;
                let fault = |fault| IndexError::Line { path: log.clone(), line: number, fault };
                let row = Row::of(&line).map_err(fault)?;
                if row.seq as u64 != number {
                    return Err(fault(LineFault::Seq(row.seq as u64)));
                }
                insert_row(&mut insert, &mut dictionary, &row).map_err(failed(path))?;
                *rows = number;
                added += 1;
            }
        }
        transaction.commit().map_err(failed(path))?;
        Ok(added)
    }

    /// Adds everything that is left, makes the indexes, and leaves a single file.
    pub fn finish(mut self) -> Result<u64, IndexError> {
        while self.advance()? > 0 {}
        let Self { connection, path, rows, .. } = self;
        let failed = IndexError::sqlite("finish", &path);
        let finish = || {
            connection.execute_batch(INDEXES)?;
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            connection.close().map_err(|(_, error)| error)
        };
        finish().map_err(failed)?;
        Ok(rows)
    }
}

/// Makes the index of a run again, from the log alone, and puts it in place of the old one at once.
///
/// Returns the number of rows, which is the number of whole lines.
pub fn reindex(run_dir: &Path) -> Result<u64, IndexError> {
    let log = run_dir.join(LOG);
    let log_file = open_regular(&log).map_err(IndexError::io("open", &log))?;
    let mode = log_file.metadata().map_err(IndexError::io("look at", &log))?.permissions().mode();
    let path = run_dir.join(FILE);
    let temporary = run_dir.join(format!(".{FILE}.new"));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(IndexError::io("remove", &temporary)(error));
        }
        _ => {}
    }
    let file = File::options()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .map_err(IndexError::io("create", &temporary))?;
    // As readable as the log is, and not more.
    file.set_permissions(PermissionsExt::from_mode(mode & 0o660))
        .map_err(IndexError::io("change the mode of", &temporary))?;
    let built = Builder::new(&temporary, &log, log_file, Audience::Nobody).and_then(Builder::finish);
    match built {
        Ok(rows) => {
            for suffix in ["-wal", "-shm", "-journal"] {
                let beside = run_dir.join(format!("{FILE}{suffix}"));
                match std::fs::remove_file(&beside) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(IndexError::io("remove", &beside)(error));
                    }
                    _ => {}
                }
            }
            std::fs::rename(&temporary, &path).map_err(IndexError::io("put in place", &path))?;
            Ok(rows)
        }
        Err(error) => {
            // The error that is told is the first one; what is left is removed by the next attempt.
            let _ = std::fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn insert_row(
    insert: &mut CachedStatement<'_>,
    dictionary: &mut Dictionary<'_>,
    row: &Row<'_>,
) -> rusqlite::Result<()> {
    insert.raw_bind_parameter(1, row.seq)?;
    for (at, number) in row.numbers.iter().enumerate() {
        insert.raw_bind_parameter(at + 2, number)?;
    }
    for (at, text) in row.strings.iter().enumerate() {
        let id = match text {
            Some(text) => Some(dictionary.id(at, text)?),
            None => None,
        };
        insert.raw_bind_parameter(at + 2 + row.numbers.len(), id)?;
    }
    insert.raw_execute()?;
    Ok(())
}

/// A string as SQLite keeps it: TEXT where it is text, else BLOB.
pub(super) struct SqlText<'t>(pub &'t [u8]);

impl ToSql for SqlText<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(if is_text(self.0) {
            ValueRef::Text(self.0)
        } else {
            ValueRef::Blob(self.0)
        }))
    }
}

/// Whether a string stands as TEXT.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
}

/// Numbers of strings that were seen.
#[derive(Debug, Default)]
struct Strings {
    known: HashMap<Box<[u8]>, i64>,
    kept: usize,
    /// Whether strings were forgotten, so that one that is not known may still stand in the table.
    forgetful: bool,
    /// The last string of each column: most rows repeat it.
    last: [(Vec<u8>, Option<i64>); STRINGS.len()],
}

/// [`Strings`] with the statements that add to them.
struct Dictionary<'c> {
    strings: &'c mut Strings,
    insert: CachedStatement<'c>,
    select: CachedStatement<'c>,
    connection: &'c Connection,
}

impl<'c> Dictionary<'c> {
    fn new(connection: &'c Connection, strings: &'c mut Strings) -> rusqlite::Result<Self> {
        Ok(Self {
            strings,
            insert: connection.prepare_cached("INSERT INTO strings (value) VALUES (?1)")?,
            select: connection.prepare_cached("SELECT id FROM strings WHERE value = ?1")?,
            connection,
        })
    }

    /// The number of `text`, which stands in column `column`.
    fn id(&mut self, column: usize, text: &[u8]) -> rusqlite::Result<i64> {
        if let (last, Some(id)) = &self.strings.last[column]
            && *last == text
        {
            return Ok(*id);
        }
        let id = match self.strings.known.get(text) {
            Some(id) => *id,
            None => {
                let id = self.find_or_add(text)?;
                self.strings.keep(text, id);
                id
            }
        };
        let (last, last_id) = &mut self.strings.last[column];
        last.clear();
        last.extend_from_slice(text);
        *last_id = Some(id);
        Ok(id)
    }

    fn find_or_add(&mut self, text: &[u8]) -> rusqlite::Result<i64> {
        if self.strings.forgetful
            && let Some(row) = self.select.query([SqlText(text)])?.next()?
        {
            return row.get(0);
        }
        self.insert.execute([SqlText(text)])?;
        Ok(self.connection.last_insert_rowid())
    }
}

impl Strings {
    fn keep(&mut self, text: &[u8], id: i64) {
        if self.kept > KEPT_MAX {
            self.known = HashMap::new();
            self.kept = 0;
            self.forgetful = true;
        }
        self.kept += text.len() + 64;
        self.known.insert(text.into(), id);
    }
}
