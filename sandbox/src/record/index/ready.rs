//! Whether there is an index that can be asked, and of how much of the log.

use std::path::Path;

use audit_verify::index::lists::BLOCK_ROWS;
use audit_verify::index::{CompareError, check_schema};
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
    /// Blocks of its rows, from the first on without a gap. Rows behind them are not in one yet.
    pub blocks: Vec<BlockHead>,
}

/// What stands at the front of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// `seq` of its first row.
    pub first: i64,
    /// How many rows it tells of, 1 to 65,536.
    pub rows: usize,
    /// The least `wall_ns` of them.
    pub earliest: i64,
    /// The greatest.
    pub latest: i64,
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
    let blocks = heads(&connection)?;
    let Some(told) = told_of(&blocks).filter(|told| *told <= last) else {
        return Ok(Standing::Damaged("its blocks are not those of its rows".into()));
    };
    // A row that a block tells of is missed when it is asked for, so the others alone are counted.
    let more: i64 =
        connection.query_row("SELECT count(*) FROM event WHERE seq > ?", [told], |row| row.get(0))?;
    if told + more != last {
        return Ok(Standing::Damaged(format!("it has {} rows, and the last is of line {last}", told + more)));
    }
    let log_size = run_dir.join(LOG).metadata().map_or(0, |about| about.len());
    if u64::try_from(end).map_or(true, |end| end > log_size) {
        return Ok(Standing::Damaged("it tells of lines that are not in the log".into()));
    }
    Ok(Standing::Ready(OpenIndex { connection, rows: last as u64, end: end as u64, blocks }))
}

fn heads(connection: &Connection) -> rusqlite::Result<Vec<BlockHead>> {
    let mut select = connection.prepare("SELECT first, rows, earliest, latest FROM block ORDER BY first")?;
    let head = |row: &rusqlite::Row<'_>| {
        let rows = row.get::<_, isize>(1)?.try_into().unwrap_or(0);
        Ok(BlockHead { first: row.get(0)?, rows, earliest: row.get(2)?, latest: row.get(3)? })
    };
    select.query_map([], head)?.collect()
}

/// The last row that blocks tell of; `None` where there are none such.
fn told_of(blocks: &[BlockHead]) -> Option<i64> {
    blocks.iter().try_fold(0i64, |told, block| {
        let fits = block.first == told + 1 && (1..=BLOCK_ROWS).contains(&block.rows);
        fits.then(|| told + block.rows as i64)
    })
}
