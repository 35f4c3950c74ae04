//! The tables, as SQL.

use rusqlite::Connection;

use super::row::{NUMBERS, STRINGS};

/// Version of the schema, SQLite's `user_version`.
pub const SCHEMA_VERSION: i32 = 4;

/// Tables and view. What is asked for most stands first in a row, because SQLite reads a row from its front.
pub const TABLES: &str = "
CREATE TABLE strings (id INTEGER PRIMARY KEY, value UNIQUE NOT NULL);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    action INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    exe INTEGER,
    path INTEGER,
    path2 INTEGER,
    ret INTEGER,
    dst_ip INTEGER,
    dst_port INTEGER,
    host INTEGER,
    sni INTEGER,
    policy_rule INTEGER,
    wall_ns INTEGER NOT NULL,
    mono_ns INTEGER NOT NULL,
    proc_id INTEGER NOT NULL,
    ppid INTEGER,
    uid INTEGER,
    layer INTEGER,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL
);
CREATE TABLE block (
    first INTEGER PRIMARY KEY,
    rows INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest INTEGER NOT NULL,
    type BLOB NOT NULL,
    action BLOB NOT NULL,
    ret BLOB NOT NULL,
    policy_rule BLOB NOT NULL,
    dst_port BLOB NOT NULL,
    dst_ip BLOB NOT NULL,
    host BLOB NOT NULL,
    sni BLOB NOT NULL,
    path2 BLOB NOT NULL,
    exe BLOB NOT NULL,
    pid BLOB NOT NULL,
    path BLOB NOT NULL,
    wall_ns BLOB NOT NULL
);
CREATE VIEW events AS SELECT
    e.seq, e.wall_ns, e.mono_ns, t.value AS type, a.value AS action, e.pid, p.value AS proc_id, e.ppid, e.uid,
    x.value AS exe, f.value AS path, g.value AS path2, e.ret, d.value AS dst_ip, e.dst_port,
    h.value AS host, s.value AS sni, r.value AS policy_rule, l.value AS layer, e.offset, e.length
FROM event e
LEFT JOIN strings t ON t.id = e.type
LEFT JOIN strings a ON a.id = e.action
LEFT JOIN strings p ON p.id = e.proc_id
LEFT JOIN strings x ON x.id = e.exe
LEFT JOIN strings f ON f.id = e.path
LEFT JOIN strings g ON g.id = e.path2
LEFT JOIN strings d ON d.id = e.dst_ip
LEFT JOIN strings h ON h.id = e.host
LEFT JOIN strings s ON s.id = e.sni
LEFT JOIN strings r ON r.id = e.policy_rule
LEFT JOIN strings l ON l.id = e.layer;
";

/// The columns in the order of [`super::Row`]: `seq`, then [`NUMBERS`], then [`STRINGS`]. A list for SQL.
pub fn columns() -> String {
    let mut list = String::from("seq");
    for column in NUMBERS.iter().chain(&STRINGS) {
        list.push_str(", ");
        list.push_str(column);
    }
    list
}

/// Something that an index of this version does not have, or has otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not what an index of version {SCHEMA_VERSION} has under that name")]
pub struct SchemaFault(pub String);

/// Whether the tables and the view of an open index are exactly ours, and there is nothing else. A file that
/// somebody else made could have a view where a table should be, or a trigger, and tell anything.
pub fn check_schema(connection: &Connection) -> rusqlite::Result<Option<SchemaFault>> {
    let ours = Connection::open_in_memory()?;
    ours.execute_batch(TABLES)?;
    let expected = objects(&ours)?;
    let found = objects(connection)?;
    let strange = found.iter().find(|object| !expected.contains(object));
    let missing = expected.iter().find(|object| !found.contains(object));
    Ok(strange.or(missing).map(|object| SchemaFault(object.name.clone())))
}

#[derive(Debug, PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    sql: Option<String>,
}

fn objects(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    let mut select = connection.prepare("SELECT type, name, sql FROM sqlite_schema")?;
    let object =
        |row: &rusqlite::Row<'_>| Ok(Object { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? });
    select.query_map([], object)?.collect()
}
