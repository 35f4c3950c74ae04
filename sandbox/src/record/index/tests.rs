//! Indexes of logs that are right, growing, torn and wrong.

use std::time::Duration;

use rusqlite::Connection;

use audit_verify::index::lists::{BLOCK_ROWS, ListFault, RowSet, read_list};
use audit_verify::index::{Field, MOMENTS, NUMBERS, STRINGS, SqlText};

use super::*;
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::recorder::LOG;
use crate::record::recorder::tests::{begin, files};
use crate::record::{RecordSettings, Recorder};
use crate::record::{RunEnd, runner_event};

/// Events whose strings are more than the builder keeps in a test.
fn events(count: u64) -> Vec<Event> {
    (0..count)
        .map(|at| {
            let mut event = runner_event(EventType::FileOpen, ProcId { pid: at as u32 % 7, start_ns: 1 });
            event.wall_ns = at as i64;
            let path: Vec<u8> = match at % 5 {
                0 => format!("/tmp/{at}").into(),
                1 => b"/etc/passwd".into(),
                2 => [b"/tmp/\xff", at.to_string().as_bytes()].concat(),
                3 => format!("/tmp/é\n{}", at % 20).into(),
                _ => b"/nul\0".into(),
            };
            event.set(Key::Path, Value::Bytes(path));
            event.set(Key::Exe, Value::Bytes(b"/usr/bin/make".into()));
            event.set(Key::Ret, Value::Int(-2));
            event.set(Key::Uid, Value::Uint(u64::MAX));
            if at.is_multiple_of(10) {
                event.event_type = EventType::NetConnect;
                event.action = Action::Blocked;
                event.set(Key::DstIp, Value::Bytes(b"127.0.0.2".into()));
                event.set(Key::DstPort, Value::Uint(443));
                event.set(Key::PolicyRule, Value::Bytes(b"p/no-net".into()));
                event.set(Key::Layer, Value::Bytes(b"lsm".into()));
            }
            event
        })
        .collect()
}

/// A finished run.
fn run(home: &Path, count: u64) -> PathBuf {
    let mut recorder = begin(home, RecordSettings::default());
    recorder.append(&events(count)).unwrap();
    recorder.seal(&RunEnd::default()).unwrap();
    let directory = recorder.dir().path().to_owned();
    assert_eq!(recorder.finish_index().unwrap(), count + 2);
    directory
}

fn open(directory: &Path) -> Connection {
    Connection::open(directory.join(FILE)).unwrap()
}

fn dump(directory: &Path) -> Vec<String> {
    let connection = open(directory);
    let mut statement = connection.prepare("SELECT * FROM events ORDER BY seq").unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        Ok((0..columns).map(|at| format!("{:?}|", row.get_ref(at).unwrap())).collect::<String>())
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What lies in the directory of a run whose index was made again.
const WITH_INDEX: [&str; 5] = [".index.lock", ".lock", "events.jsonl", "index.sqlite", "meta.json"];

#[test]
fn made_live_or_made_again_the_rows_are_the_same() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 3000);
    let live = dump(&directory);
    assert_eq!(live.len(), 3002);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 3002 });
    std::fs::write(directory.join("index.sqlite-wal"), "left by a crash").unwrap();
    assert_eq!(reindex(&directory).unwrap(), 3002);
    assert_eq!(dump(&directory), live);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 3002 });
    assert_eq!(files(&directory), WITH_INDEX);
    std::fs::remove_file(directory.join(FILE)).unwrap();
    assert_eq!(reindex(&directory).unwrap(), 3002);
    assert_eq!(dump(&directory), live);
}

/// Where somebody else may put links in the way, none of them leads anywhere: neither of an index that is made again
/// nor of one that is made for a run there. Needs root, who alone makes indexes for others.
#[test]
fn in_a_directory_of_somebody_else_no_link_is_followed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 50);
    let live = dump(&directory);
    let target = home.path().join("target");
    std::fs::remove_file(directory.join(FILE)).unwrap();
    for name in [FILE, ".index.sqlite.new", "index.sqlite-wal", "index.sqlite-journal"] {
        std::os::unix::fs::symlink(&target, directory.join(name)).unwrap();
    }
    for file in [&directory, &directory.join(LOG)] {
        std::os::unix::fs::chown(file, Some(1000), Some(1000)).unwrap();
    }
    assert_eq!(reindex(&directory).unwrap(), 52);
    assert!(!target.exists());
    let made = directory.join(FILE).symlink_metadata().unwrap();
    use std::os::unix::fs::MetadataExt;
    assert!(made.is_file() && made.uid() == 1000, "{made:?}");
    assert_eq!(dump(&directory), live);
    assert_eq!(files(&directory), WITH_INDEX);

    let others = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(others.path(), Some(1000), Some(1000)).unwrap();
    let mut recorder = begin(others.path(), RecordSettings::default());
    let directory = recorder.dir().path().to_owned();
    assert!(!directory.join(FILE).exists(), "it is made at the end");
    std::os::unix::fs::symlink(&target, directory.join(FILE)).unwrap();
    recorder.append(&events(20)).unwrap();
    recorder.seal(&RunEnd::default()).unwrap();
    assert_eq!(recorder.finish_index().unwrap(), 22);
    assert!(!target.exists() && directory.join(FILE).symlink_metadata().unwrap().is_file());
    assert_eq!(dump(&directory).len(), 22);
}

#[test]
fn blocks_say_what_the_rows_say() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 1000);
    let connection = open(&directory);
    let id = |text: &[u8]| -> i64 {
        connection
            .query_row("SELECT id FROM strings WHERE value = ?", [SqlText(text)], |row| row.get(0))
            .unwrap()
    };
    for (field, value, expected) in [
        (Field::Path, id(b"/etc/passwd"), 200),
        (Field::Path, id("/tmp/é\n13".as_bytes()), 50),
        (Field::Path, id(b"/tmp/\xff12"), 1),
        (Field::Type, id(b"net_connect"), 100),
        (Field::DstIp, id(b"127.0.0.2"), 100),
        (Field::PolicyRule, id(b"p/no-net"), 100),
        (Field::Pid, 3, 143),
        (Field::Ret, -2, 1000),
        (Field::Ret, 0, 0),
    ] {
        let select = format!("SELECT {}, rows FROM block", field.name());
        let (list, rows): (Vec<u8>, i64) =
            connection.query_row(&select, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut found = RowSet::none();
        read_list(&list, rows as usize, |other| Ok::<_, ListFault>(other == value), &mut found).unwrap();
        assert_eq!((rows, found.count()), (1002, expected), "{field:?} {value}");
        let wanted = format!("SELECT seq FROM event WHERE {} = {value} ORDER BY seq", field.name());
        let mut select = connection.prepare(&wanted).unwrap();
        let seqs: Vec<usize> = select
            .query_map([], |row| row.get::<_, isize>(0))
            .unwrap()
            .map(|seq| seq.unwrap() as usize)
            .collect();
        if field != Field::Ret {
            assert!(found.iter().map(|row| row + 1).eq(seqs), "{field:?} {value}");
        }
    }
    let place = "SELECT offset, length FROM events WHERE seq = 500";
    let (offset, length): (i64, i64) =
        connection.query_row(place, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let log = std::fs::read(directory.join(LOG)).unwrap();
    let record =
        audit_verify::canonical::Record::parse(&log[offset as usize..(offset + length) as usize]).unwrap();
    assert_eq!(record.uint("seq"), Some(500));
}

/// More rows than a block has, live and made again.
#[test]
fn there_are_as_many_blocks_as_rows_need() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), BLOCK_ROWS as u64 + 5);
    let heads = || match look(&directory) {
        Standing::Ready(index) => {
            index.blocks.iter().map(|block| (block.first, block.rows)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let expected = [(1, BLOCK_ROWS), (BLOCK_ROWS as i64 + 1, 7)];
    assert_eq!(heads(), expected);
    let agrees = IndexVerdict::Agrees { rows: BLOCK_ROWS as u64 + 7 };
    assert_eq!(compare(&directory).unwrap(), agrees);
    reindex(&directory).unwrap();
    assert_eq!(heads(), expected);
    assert_eq!(compare(&directory).unwrap(), agrees);
    let good = std::fs::read(directory.join(FILE)).unwrap();
    let first = BLOCK_ROWS as i64 + 1;
    let lie = |first, column| IndexVerdict::Block { first, column };
    for (change, verdict, asked) in [
        // What no block tells of is read in the rows.
        ("DELETE FROM block WHERE first > 1", agrees.clone(), true),
        ("DELETE FROM block", agrees, true),
        ("DELETE FROM block WHERE first = 1", lie(first, "first"), false),
        ("UPDATE block SET rows = 6 WHERE first > 1", lie(first, "rows"), true),
        ("UPDATE block SET rows = 8 WHERE first > 1", lie(first, "rows"), false),
        ("UPDATE block SET first = 3 WHERE first = 1", lie(first, "first"), false),
        ("UPDATE block SET rows = 'x' WHERE first > 1", lie(first, "rows"), false),
    ] {
        std::fs::write(directory.join(FILE), &good).unwrap();
        open(&directory).execute_batch(change).unwrap();
        assert_eq!(compare(&directory).unwrap(), verdict, "{change}");
        assert_eq!(matches!(look(&directory), Standing::Ready(_)), asked, "{change}");
    }
}

#[test]
fn a_run_that_goes_on_can_be_asked() {
    let home = tempfile::tempdir().unwrap();
    let recorder = begin(home.path(), RecordSettings::default());
    let directory = recorder.dir().path().to_owned();
    recorder.append(&events(5000)).unwrap();
    assert_eq!(recorder.flush().unwrap(), 5001);
    let reader = open(&directory);
    let rows = || reader.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    wait_until("the index has all lines while the run goes on", || rows() == 5001);
    recorder.append(&events(10)).unwrap();
    wait_until("more lines are followed", || rows() == 5011);
    drop(reader);
    finish(recorder, 5012);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 5012 });
}

/// A reader in the middle of a query keeps SQLite from leaving WAL; the index is then made in a new file.
#[test]
fn a_reader_that_does_not_let_go_does_not_spoil_the_index() {
    let home = tempfile::tempdir().unwrap();
    let recorder = begin(home.path(), RecordSettings::default());
    let directory = recorder.dir().path().to_owned();
    recorder.append(&events(100)).unwrap();
    recorder.flush().unwrap();
    let reader = open(&directory);
    wait_until("there are rows", || {
        reader.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap() == 101
    });
    let mut statement = reader.prepare("SELECT seq FROM event").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    finish(recorder, 102);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 102 });
}

#[test]
fn every_way_to_change_a_row_is_seen() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 40);
    let good = std::fs::read(directory.join(FILE)).unwrap();
    let differs = |column| move |verdict: &IndexVerdict| matches!(verdict, IndexVerdict::Differs { seq: 12, column: at, .. } if *at == column);
    type Check = Box<dyn Fn(&IndexVerdict) -> bool>;
    let mut cases: Vec<(String, Check)> = Vec::new();
    for column in NUMBERS {
        cases.push((
            format!("UPDATE event SET {column} = coalesce({column}, 0) + 1 WHERE seq = 12"),
            Box::new(differs(column)),
        ));
    }
    for column in STRINGS {
        cases.push((
            format!("INSERT INTO strings (id, value) VALUES (9999, '/forged'); UPDATE event SET {column} = 9999 WHERE seq = 12"),
            Box::new(differs(column)),
        ));
    }
    for column in ["earliest", "latest"] {
        let change = format!("UPDATE block SET {column} = {column} + 1");
        cases.push((change, Box::new(move |verdict| *verdict == IndexVerdict::Block { first: 1, column })));
    }
    for column in Field::ALL.map(Field::name).into_iter().chain([MOMENTS]) {
        for change in [
            "x''".to_owned(),
            format!("CAST({column} || x'00' AS BLOB)"),
            format!("CAST({column} AS TEXT)"),
            "7".into(),
        ] {
            // An empty list stays one.
            let change = format!("UPDATE block SET {column} = {change} WHERE {column} IS NOT {change}");
            let lie = IndexVerdict::Block { first: 1, column };
            let none = matches!(column, "host" | "sni" | "path2") && change.contains("= x''");
            cases.push((change, Box::new(move |verdict| none || *verdict == lie)));
        }
    }
    cases.push((
        "INSERT INTO block SELECT 43, 1, earliest, latest, type, action, ret, policy_rule, dst_port, dst_ip, host, sni, \
         path2, exe, pid, path, wall_ns FROM block"
            .into(),
        Box::new(|verdict| *verdict == IndexVerdict::Block { first: 43, column: "first" }),
    ));
    cases.push(("UPDATE event SET path = NULL WHERE seq = 12".into(), Box::new(differs("path"))));
    cases.push((
        "UPDATE strings SET value = CAST(value AS BLOB) WHERE id = (SELECT exe FROM event WHERE seq = 12)"
            .into(),
        Box::new(|verdict| matches!(verdict, IndexVerdict::Differs { column: "exe", .. })),
    ));
    cases.push((
        "DELETE FROM event WHERE seq = 12".into(),
        Box::new(|verdict| *verdict == IndexVerdict::Missing { seq: 12 }),
    ));
    cases.push((
        "DELETE FROM event WHERE seq = 42; DELETE FROM block".into(),
        Box::new(|verdict| *verdict == IndexVerdict::Behind { rows: 41 }),
    ));
    cases.push((
        "DELETE FROM event WHERE seq = 42".into(),
        Box::new(|verdict| *verdict == IndexVerdict::Block { first: 1, column: "rows" }),
    ));
    cases.push((
        "CREATE INDEX event_path ON event (path)".into(),
        Box::new(|verdict| *verdict == IndexVerdict::Schema { object: "event_path".into() }),
    ));
    cases.push((
        "UPDATE event SET seq = 43 WHERE seq = 42".into(),
        Box::new(|verdict| *verdict == IndexVerdict::Missing { seq: 42 }),
    ));
    for seq in [-1, 0, 43] {
        let copy = format!(
            "CREATE TEMP TABLE c AS SELECT * FROM event WHERE seq = 1; UPDATE c SET seq = {seq}; INSERT INTO event SELECT * FROM c"
        );
        cases.push((copy, Box::new(move |verdict| *verdict == IndexVerdict::Extra { seq })));
    }
    cases.push((
        "PRAGMA user_version = 7".into(),
        Box::new(|verdict| *verdict == IndexVerdict::Version { found: 7 }),
    ));
    for (change, expected) in cases {
        std::fs::write(directory.join(FILE), &good).unwrap();
        assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 42 });
        open(&directory).execute_batch(&change).unwrap();
        let verdict = compare(&directory).unwrap();
        assert!(expected(&verdict), "{change}: {verdict:?}");
    }
}

#[test]
fn a_torn_line_has_no_row() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 20);
    let log = std::fs::read(directory.join(LOG)).unwrap();
    std::fs::write(directory.join(LOG), &log[..log.len() - 3]).unwrap();
    assert_eq!(reindex(&directory).unwrap(), 21);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 21 });
}

#[test]
fn what_is_not_a_log_keeps_the_index_that_is_there() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 20);
    let (log, index) =
        (std::fs::read(directory.join(LOG)).unwrap(), std::fs::read(directory.join(FILE)).unwrap());
    let lines: Vec<_> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let with = |at: usize, line: &[u8]| [&lines[..at], &[line], &lines[at + 1..]].concat().concat();
    for (bytes, expected) in [
        (with(4, b"garbage\n"), "line 5 cannot be indexed: byte 0: expected `{`, found `g`"),
        (with(4, lines[5]), "line 5 cannot be indexed: its seq is 6"),
        (with(0, b"{\"seq\": 1}\n"), "line 1 cannot be indexed: `timestamp` is missing or of another kind"),
        (with(0, b"{\"pid\": \"x\", \"seq\": 1}\n"), "line 1 cannot be indexed: `pid` is missing"),
    ] {
        std::fs::write(directory.join(LOG), bytes).unwrap();
        let error = reindex(&directory).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(std::fs::read(directory.join(FILE)).unwrap(), index);
        assert_eq!(files(&directory), WITH_INDEX);
    }
    std::fs::write(directory.join(LOG), b"").unwrap();
    assert_eq!(reindex(&directory).unwrap(), 0);
}

/// The schema of version 1, as it was.
const VERSION_1: &str = "
CREATE TABLE strings (id INTEGER PRIMARY KEY, value UNIQUE NOT NULL);
CREATE TABLE event (seq INTEGER PRIMARY KEY, wall_ns INTEGER NOT NULL, mono_ns INTEGER NOT NULL,
    type INTEGER NOT NULL, action INTEGER NOT NULL, pid INTEGER NOT NULL, proc_id INTEGER NOT NULL, ppid INTEGER,
    uid INTEGER, exe INTEGER, path INTEGER, path2 INTEGER, dst_ip INTEGER, dst_port INTEGER, ret INTEGER,
    policy_rule INTEGER, layer INTEGER, offset INTEGER NOT NULL, length INTEGER NOT NULL);
CREATE VIEW events AS SELECT e.seq, t.value AS type FROM event e LEFT JOIN strings t ON t.id = e.type;
CREATE INDEX event_type ON event (type);
INSERT INTO strings VALUES (1, 'run_start'), (2, 'OBSERVED'), (3, '10-20');
INSERT INTO event (seq, wall_ns, mono_ns, type, action, pid, proc_id, offset, length)
    VALUES (1, 5, 1, 1, 2, 10, 3, 0, 700);
PRAGMA user_version = 1;";

#[test]
fn an_index_of_version_1_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 40);
    std::fs::remove_file(directory.join(FILE)).unwrap();
    open(&directory).execute_batch(VERSION_1).unwrap();
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Version { found: 1 });
    assert!(matches!(look(&directory), Standing::Older(1)));
    assert_eq!(migrate(&directory).unwrap(), Migrated::Rebuilt { from: 1, rows: 42 });
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 42 });
    assert_eq!(migrate(&directory).unwrap(), Migrated::Nothing);
}

/// Version 3 had secondary indexes in place of blocks.
#[test]
fn an_index_of_version_3_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 40);
    let back = "DROP TABLE block; CREATE INDEX event_type ON event (type, action);
        CREATE INDEX event_time ON event (wall_ns); PRAGMA user_version = 3";
    open(&directory).execute_batch(back).unwrap();
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Version { found: 3 });
    assert!(matches!(look(&directory), Standing::Older(3)));
    assert_eq!(migrate(&directory).unwrap(), Migrated::Rebuilt { from: 3, rows: 42 });
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 42 });
    assert!(matches!(look(&directory), Standing::Ready(index) if index.blocks.len() == 1));
}

#[test]
fn an_index_of_a_newer_version_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 40);
    open(&directory).execute_batch("PRAGMA user_version = 5").unwrap();
    let before = std::fs::read(directory.join(FILE)).unwrap();
    let error = migrate(&directory).unwrap_err().to_string();
    assert!(error.contains("is of version 5 of the schema, and this program knows 4"), "{error}");
    assert_eq!(std::fs::read(directory.join(FILE)).unwrap(), before);
}

/// One value of an index that somebody made is not to take all memory.
#[test]
fn values_beyond_all_bounds_are_not_read() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 40);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 42 });
    let change = "UPDATE strings SET value = zeroblob(40 << 20) WHERE id = (SELECT max(id) FROM strings)";
    open(&directory).execute_batch(change).unwrap();
    let verdict = compare(&directory).unwrap();
    assert!(matches!(&verdict, IndexVerdict::Damaged { why } if why.contains("bytes")), "{verdict:?}");
}

#[test]
fn only_one_makes_an_index_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let directory = run(home.path(), 40);
    let lock = |path: &Path| {
        let file = std::fs::File::open(path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        file
    };
    // Readers can hold the directory and the log, and nobody waits for them.
    let readers = [lock(&directory), lock(&directory.join("events.jsonl"))];
    assert_eq!(reindex(&directory).unwrap(), 42);
    drop(readers);
    let other = lock(&directory.join(".index.lock"));
    let error = reindex(&directory).unwrap_err().to_string();
    assert!(error.contains("another process makes this index just now"), "{error}");
    drop(other);
    assert_eq!(reindex(&directory).unwrap(), 42);
}

/// Whoever holds the index holds up neither the log nor, for ever, the index.
#[test]
fn a_held_index_catches_up_with_the_log() {
    let home = tempfile::tempdir().unwrap();
    let recorder = begin(home.path(), RecordSettings::default());
    let directory = recorder.dir().path().to_owned();
    let holder = open(&directory);
    holder.busy_timeout(Duration::from_secs(60)).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..20 {
        recorder.append(&events(1000)).unwrap();
    }
    assert_eq!(recorder.flush().unwrap(), 20_001, "the log does not wait");
    let rows = || holder.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(rows() <= 1, "nothing is added while it is held");
    holder.execute_batch("ROLLBACK").unwrap();
    wait_until("the index has all lines", || rows() == 20_001);
    drop(holder);
    finish(recorder, 20_002);
    assert_eq!(compare(&directory).unwrap(), IndexVerdict::Agrees { rows: 20_002 });
}

fn finish(mut recorder: Recorder, rows: u64) {
    recorder.seal(&RunEnd::default()).unwrap();
    assert_eq!(recorder.finish_index().unwrap(), rows);
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
