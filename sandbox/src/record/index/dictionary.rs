//! Each string once: its number in the table `strings`.

use std::collections::HashMap;

use audit_verify::index::{STRINGS, SqlText};
use rusqlite::{CachedStatement, Connection};

use super::batch::{Batch, Span};

/// How much text of strings is kept to find their numbers, in bytes. Beyond it SQLite is asked.
const KEPT_MAX: usize = if cfg!(test) { 8 << 10 } else { 32 << 20 };

/// Numbers of strings that were seen.
#[derive(Debug, Default)]
pub(super) struct Strings {
    known: HashMap<Box<[u8]>, i64>,
    kept: usize,
    /// Whether strings were forgotten, so that one that is not known may still stand in the table.
    forgetful: bool,
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

/// [`Strings`] with the statements that add to them, for one batch.
pub(super) struct Dictionary<'c> {
    strings: &'c mut Strings,
    insert: CachedStatement<'c>,
    select: CachedStatement<'c>,
    connection: &'c Connection,
    batch: &'c Batch,
    /// The last string of each column.
    last: [Option<(Span, i64)>; STRINGS.len()],
}

impl<'c> Dictionary<'c> {
    pub fn new(
        connection: &'c Connection,
        strings: &'c mut Strings,
        batch: &'c Batch,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            strings,
            insert: connection.prepare_cached("INSERT INTO strings (value) VALUES (?1)")?,
            select: connection.prepare_cached("SELECT id FROM strings WHERE value = ?1")?,
            connection,
            batch,
            last: Default::default(),
        })
    }

    /// The number of the string at `span`, which stands in column `column`.
    pub fn id(&mut self, column: usize, span: Span) -> rusqlite::Result<i64> {
        if let Some((last, id)) = self.last[column]
            && last == span
        {
            return Ok(id);
        }
        let text = self.batch.text(span);
        let id = match self.strings.known.get(text) {
            Some(id) => *id,
            None => {
                let id = self.find_or_add(text)?;
                self.strings.keep(text, id);
                id
            }
        };
        self.last[column] = Some((span, id));
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
