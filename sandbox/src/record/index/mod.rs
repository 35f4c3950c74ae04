//! `index.sqlite`: the log's events in a form that answers questions quickly.
//!
//! The log is the truth and the index a copy: it is built by reading the log, by the same code while a run
//! goes on ([`Indexer`]) and afterwards ([`reindex`]), and [`compare`] proves row by row that the two agree.
//! It holds what is searched for and where each line stands in the log; everything else is read there.
//!
//! # Schema
//!
//! `event` has one row a line, its key the line's `seq`. Strings repeat on almost every line, so each stands
//! once in `strings` and `event` has its number; the view `events` puts them back:
//!
//! ```sql
//! SELECT seq, pid, path FROM events WHERE type = 'file_delete' AND path LIKE '/etc/%';
//! ```
//!
//! A string that is UTF-8 without NUL is TEXT, any other is BLOB, so that paths come back byte for byte and
//! usual ones compare with usual text. `wall_ns` is nanoseconds since 1970, `mono_ns` CLOCK_MONOTONIC;
//! `offset` and `length` are the line's place in `events.jsonl` in bytes, without its newline. Integers
//! beyond `i64` stand as the `i64` with the same bits.
//!
//! While a run goes on the file is in WAL mode, so that readers see whole batches and hold nothing up; a
//! finished one is a single file, with its indexes made.

mod build;
mod compare;
mod row;
mod thread;

use std::io;
use std::path::{Path, PathBuf};

use audit_verify::canonical::Deviation;

pub use build::reindex;
pub use compare::{IndexVerdict, compare};
pub use thread::Indexer;

/// The index's name in the run's directory.
pub const FILE: &str = "index.sqlite";

/// Version of the schema, SQLite's `user_version`.
pub const SCHEMA_VERSION: i32 = 1;

const TABLES: &str = "
CREATE TABLE strings (id INTEGER PRIMARY KEY, value UNIQUE NOT NULL);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    wall_ns INTEGER NOT NULL,
    mono_ns INTEGER NOT NULL,
    type INTEGER NOT NULL,
    action INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    proc_id INTEGER NOT NULL,
    ppid INTEGER,
    uid INTEGER,
    exe INTEGER,
    path INTEGER,
    path2 INTEGER,
    dst_ip INTEGER,
    dst_port INTEGER,
    ret INTEGER,
    policy_rule INTEGER,
    layer INTEGER,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL
);
CREATE VIEW events AS SELECT
    e.seq, e.wall_ns, e.mono_ns, t.value AS type, a.value AS action, e.pid, p.value AS proc_id, e.ppid, e.uid,
    x.value AS exe, f.value AS path, g.value AS path2, d.value AS dst_ip, e.dst_port, e.ret,
    r.value AS policy_rule, l.value AS layer, e.offset, e.length
FROM event e
LEFT JOIN strings t ON t.id = e.type
LEFT JOIN strings a ON a.id = e.action
LEFT JOIN strings p ON p.id = e.proc_id
LEFT JOIN strings x ON x.id = e.exe
LEFT JOIN strings f ON f.id = e.path
LEFT JOIN strings g ON g.id = e.path2
LEFT JOIN strings d ON d.id = e.dst_ip
LEFT JOIN strings r ON r.id = e.policy_rule
LEFT JOIN strings l ON l.id = e.layer;
";

/// Made when all rows are there, which is quicker. Those of columns that most rows lack leave them out.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS event_type ON event (type);
CREATE INDEX IF NOT EXISTS event_time ON event (wall_ns);
CREATE INDEX IF NOT EXISTS event_pid ON event (pid);
CREATE INDEX IF NOT EXISTS event_path ON event (path) WHERE path IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_path2 ON event (path2) WHERE path2 IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_address ON event (dst_ip) WHERE dst_ip IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_rule ON event (policy_rule) WHERE policy_rule IS NOT NULL;
";

/// An index that could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite's answer.
    #[error("{act} {}: {why}; `sandbox reindex` makes it again from the log", .path.display())]
    Sqlite {
        /// What was being done.
        act: &'static str,
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
    #[error("{}: line {line} cannot be indexed: {fault}; check the log with audit-verify", .path.display())]
    Line {
        /// The log.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// The thread is gone.
    #[error("index {}: the thread ended by a fault of its own; `sandbox reindex` makes it again from the log", .0.display())]
    Thread(PathBuf),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It is not canonical.
    #[error(transparent)]
    Form(#[from] Deviation),
    /// It has no such key, or another kind of value there.
    #[error("`{0}` is missing or of another kind")]
    Key(&'static str),
    /// Its `seq` is not its number.
    #[error("its seq is {0}")]
    Seq(u64),
}

impl IndexError {
    fn sqlite(act: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        move |why| IndexError::Sqlite { act, path, why }
    }

    fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |why| IndexError::Io { act, path, why }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
