//! Lines into rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use audit_verify::index::lines::Lines;
use audit_verify::index::{Block, BlockBuilder, SCHEMA_VERSION, STRINGS, TABLES, block_columns, columns};
use audit_verify::progress::Gauge;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior, params_from_iter};

use super::IndexError;
use super::batch::{Batch, PlacedRow, ReadFault};
use super::dictionary::{Dictionary, Strings};
use super::place::Place;
use crate::record::recorder::LOG;

/// Batches that wait for the thread that inserts. Reading is the quicker half.
const QUEUE: usize = 2;

/// Rows that are inserted by one statement.
const AT_ONCE: usize = 16;

/// Bytes in a page of the file: larger ones make fewer steps of a walk over many rows.
const PAGE: i64 = 8192;

/// Pages of the file that are kept in memory at most, KiB.
const CACHE_KIB: i64 = 64 << 10;

/// Pages that are written beside the file before they are copied into it.
const WAL_PAGES: i64 = 8192;

/// Who else looks at the file while it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Readers, at any time.
    Readers,
    /// Nobody: it gets its name when it is finished.
    Nobody,
}

/// What [`Builder::advance`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// It added lines.
    Added,
    /// There are no more lines yet.
    UpToDate,
    /// Somebody else holds the index; what was read is kept until it is free.
    Held,
}

/// Builds an index from the lines of a log.
#[derive(Debug)]
pub(super) struct Builder {
    table: Table,
    source: Source,
    /// What was read and is not in the table yet.
    batch: Batch,
}

/// The log, as far as it was read.
#[derive(Debug)]
struct Source {
    log: PathBuf,
    lines: Lines,
    read: u64,
    /// Who waits is told how far it is.
    gauge: Option<Gauge>,
}

/// The index, as far as it was written.
#[derive(Debug)]
struct Table {
    connection: Connection,
    path: PathBuf,
    strings: Strings,
    blocks: BlockBuilder,
    rows: u64,
}

impl Builder {
    /// Begins in the empty file `path`.
    pub fn new(path: &Path, log: &Path, log_file: File, audience: Audience) -> Result<Self, IndexError> {
        let connection = begin(path, audience).map_err(IndexError::sqlite("create", path))?;
        Ok(Self {
            table: Table {
                connection,
                path: path.to_owned(),
                strings: Strings::default(),
                blocks: BlockBuilder::new(1),
                rows: 0,
            },
            source: Source { log: log.to_owned(), lines: Lines::new(log_file, 0), read: 0, gauge: None },
            batch: Batch::default(),
        })
    }

    /// Adds the lines that are there now, at most one batch of them.
    pub fn advance(&mut self) -> Result<Advance, IndexError> {
        if self.batch.rows().is_empty() {
            self.source.fill(&mut self.batch)?;
        }
        if self.batch.rows().is_empty() {
            return Ok(Advance::UpToDate);
        }
        match self.table.insert(&self.batch) {
            Err(error) if error.is_held() => return Ok(Advance::Held),
            inserted => inserted?,
        }
        self.batch.clear();
        Ok(Advance::Added)
    }

    /// Adds everything that is left, and leaves a single file.
    pub fn finish(self) -> Result<u64, IndexError> {
        let Self { mut table, source, batch } = self;
        table.insert(&batch)?;
        add_all(&mut table, source)?;
        let Table { connection, path, mut blocks, rows, .. } = table;
        let finish = || {
            if let Some(block) = blocks.take() {
                insert_block(&connection, &block)?;
            }
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            connection.close().map_err(|(_, error)| error)
        };
        finish().map_err(IndexError::sqlite("finish", &path))?;
        Ok(rows)
    }
}

fn begin(path: &Path, audience: Audience) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", PAGE)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Strings of many paths come in any order, and are looked for among all of them.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    match audience {
        Audience::Readers => {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // For the same reason most pages of them change in every batch: each is to be copied seldom.
            connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        }
        Audience::Nobody => {
            connection.pragma_update(None, "journal_mode", "OFF")?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
    }
    connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"))?;
    Ok(connection)
}

/// Reads in a thread of its own what this one inserts.
fn add_all(table: &mut Table, mut source: Source) -> Result<(), IndexError> {
    let (full, filled) = sync_channel::<Result<Batch, IndexError>>(QUEUE);
    let (used, empty) = channel();
    std::thread::scope(|scope| {
        let reader = move || read_all(&mut source, &empty, |batch| full.send(batch).is_ok());
        std::thread::Builder::new()
            .name("index-read".into())
            .spawn_scoped(scope, reader)
            .map_err(IndexError::io("start a thread for", &table.path))?;
        insert_all(table, filled, &used)
    })
}

/// Reads until there is nothing more, a line is at fault, or nobody takes what was read.
fn read_all(
    source: &mut Source,
    empty: &Receiver<Batch>,
    mut hand_on: impl FnMut(Result<Batch, IndexError>) -> bool,
) {
    loop {
        let mut batch = empty.try_recv().unwrap_or_default();
        let read = source.fill(&mut batch).map(|()| batch);
        let ends = read.as_ref().map_or(true, |batch| batch.rows().is_empty());
        if !hand_on(read) || ends {
            return;
        }
    }
}

/// Takes the receiver with it: the thread that reads ends when nobody takes what it read, also after a fault.
fn insert_all(
    table: &mut Table,
    filled: Receiver<Result<Batch, IndexError>>,
    used: &Sender<Batch>,
) -> Result<(), IndexError> {
    for batch in filled {
        let batch = batch?;
        table.insert(&batch)?;
        // At the end nobody wants it any more.
        let _ = used.send(batch);
    }
    Ok(())
}

impl Source {
    fn fill(&mut self, batch: &mut Batch) -> Result<(), IndexError> {
        batch.fill(&mut self.lines, self.read).map_err(|fault| match fault {
            ReadFault::Io(why) => IndexError::io("read", &self.log)(why),
            ReadFault::Line { number, fault } => {
                IndexError::Line { path: self.log.clone(), line: number, fault }
            }
        })?;
        self.read += batch.rows().len() as u64;
        if let Some(gauge) = &mut self.gauge {
            gauge.at(self.lines.offset());
        }
        Ok(())
    }
}

impl Table {
    /// Adds a batch in one transaction.
    fn insert(&mut self, batch: &Batch) -> Result<(), IndexError> {
        let Self { connection, path, strings, blocks, rows } = self;
        if batch.rows().is_empty() {
            return Ok(());
        }
        let mut insert = || {
            // Whoever holds the table is met here, before any string has a number and any row is in a block.
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            insert_rows(&transaction, strings, blocks, batch)?;
            transaction.commit()
        };
        insert().map_err(IndexError::sqlite("write", path))?;
        *rows += batch.rows().len() as u64;
        Ok(())
    }
}

fn insert_rows(
    connection: &Connection,
    strings: &mut Strings,
    blocks: &mut BlockBuilder,
    batch: &Batch,
) -> rusqlite::Result<()> {
    let mut dictionary = Dictionary::new(connection, strings, batch)?;
    let mut many = Insert::new(connection, AT_ONCE)?;
    let mut one = Insert::new(connection, 1)?;
    let (chunks, rest) = batch.rows().as_chunks::<AT_ONCE>();
    let chunks = chunks.iter().map(|chunk| &chunk[..]);
    for rows in chunks.chain(rest.chunks(1)) {
        let insert = if rows.len() == 1 { &mut one } else { &mut many };
        for row in rows {
            let mut ids = [None; STRINGS.len()];
            for (at, span) in row.strings.iter().enumerate() {
                if let Some(span) = span {
                    ids[at] = Some(dictionary.id(at, *span)?);
                }
            }
            insert.bind(row, &ids)?;
            if let Some(block) = blocks.push(&row.numbers, &ids) {
                insert_block(connection, &block)?;
            }
        }
        insert.execute()?;
    }
    Ok(())
}

/// A statement that inserts rows.
struct Insert<'c> {
    statement: CachedStatement<'c>,
    /// What its parameters are. Most of a row is as in the row that was there before, and need not be bound again.
    bound: Vec<Option<i64>>,
    next: usize,
}

impl<'c> Insert<'c> {
    /// Inserts so many rows, columns in the order of [`columns`].
    fn new(connection: &'c Connection, rows: usize) -> rusqlite::Result<Self> {
        let statement = connection.prepare_cached(&insert_statement("event", &columns(), rows))?;
        let bound = vec![None; statement.parameter_count()];
        // A statement from the cache has no parameters either.
        Ok(Insert { statement, bound, next: 0 })
    }

    fn bind(&mut self, row: &PlacedRow, ids: &[Option<i64>; STRINGS.len()]) -> rusqlite::Result<()> {
        for value in std::iter::once(&Some(row.seq)).chain(&row.numbers).chain(ids) {
            if self.bound[self.next] != *value {
                self.statement.raw_bind_parameter(self.next + 1, value)?;
                self.bound[self.next] = *value;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn execute(&mut self) -> rusqlite::Result<()> {
        self.next = 0;
        self.statement.raw_execute().map(drop)
    }
}

/// The statement that inserts so many rows into a table.
fn insert_statement(table: &str, columns: &str, rows: usize) -> String {
    let row = format!("(?{})", ",?".repeat(columns.matches(',').count()));
    format!("INSERT INTO {table} ({columns}) VALUES {}", vec![row; rows].join(","))
}

fn insert_block(connection: &Connection, block: &Block) -> rusqlite::Result<()> {
    let insert = insert_statement("block", &block_columns(), 1);
    let numbers = [block.first, block.rows as i64, block.earliest, block.latest];
    let numbers = numbers.into_iter().map(ValueRef::Integer);
    let lists = block.lists.iter().chain([&block.moments]).map(|list| ValueRef::Blob(list));
    let values = numbers.chain(lists).map(ToSqlOutput::Borrowed);
    connection.prepare_cached(&insert)?.execute(params_from_iter(values)).map(drop)
}

/// Makes the index of a run again, from the log alone, and puts it in place of the old one at once.
///
/// Returns the number of rows, which is the number of whole lines.
///
/// # Errors
/// Somebody else makes it at this moment, the log cannot be read or has a line that is none of ours, or the
/// index cannot be written. What was there stays.
pub fn reindex(run_dir: &Path) -> Result<u64, IndexError> {
    make(&Place::open(run_dir)?, run_dir, Waits::Somebody)
}

/// The same of a directory that is open; `run_dir` is its name for people.
pub(super) fn reindex_in(directory: File, run_dir: &Path) -> Result<u64, IndexError> {
    make(&Place::of(directory, run_dir)?, run_dir, Waits::Nobody)
}

/// Whether somebody at the terminal waits for an index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Somebody,
    Nobody,
}

fn make(place: &Place, run_dir: &Path, waits: Waits) -> Result<u64, IndexError> {
    let log = place.log()?;
    let size = log.metadata().map_or(0, |about| about.len());
    let made = place.begin()?;
    let builder = Builder::new(&made, &run_dir.join(LOG), log, Audience::Nobody);
    let built = builder.and_then(|mut builder| {
        builder.source.gauge = (waits == Waits::Somebody).then(|| Gauge::new(size, "indexed"));
        builder.finish()
    });
    let placed = built.and_then(|rows| place.finish().map(|()| rows));
    if placed.is_err() {
        place.give_up();
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who reads would wait for room for ever.
    #[test]
    fn after_a_fault_nobody_waits_for_what_is_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        let connection = begin(&path, Audience::Nobody).unwrap();
        let (strings, blocks) = (Strings::default(), BlockBuilder::new(1));
        let mut table = Table { connection, path: path.clone(), strings, blocks, rows: 0 };
        let (full, filled) = sync_channel(QUEUE);
        let (used, _empty) = channel();
        full.send(Err(IndexError::io("read", &path)(std::io::ErrorKind::Other.into()))).unwrap();
        insert_all(&mut table, filled, &used).unwrap_err();
        assert!(full.send(Ok(Batch::default())).is_err());
    }
}
