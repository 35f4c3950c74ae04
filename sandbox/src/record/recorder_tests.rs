//! Whole runs with synthetic events: log, index and meta.json together.

use std::process::Command;

use super::*;
use crate::event::{Action, EventType, Key, ProcId, Value};
use crate::record::index::{self, IndexVerdict};
use crate::record::line::runner_event;
use crate::record::store::{Account, Place, RunName};
use crate::record::{Mode, RunStart};

/// Ten lines that share no code with the product.
const PYTHON: &str = r#"
import hashlib, json, os, sys
prev, types, paths = "0" * 64, set(), []
for number, line in enumerate(open(sys.argv[1], encoding="utf-8"), 1):
    event = json.loads(line)
    own = event.pop("hash_self")
    text = json.dumps(event, sort_keys=True)
    assert event["hash_prev"] == prev and event["seq"] == number
    assert hashlib.sha256(text.encode()).hexdigest() == own
    event["hash_self"] = own
    assert json.dumps(event, sort_keys=True) + "\n" == line
    prev = own
    types.add(event["event_type"])
    paths += [os.fsencode(event["path"]).hex()] if isinstance(event.get("path"), str) else []
print(number, prev, len(types), *sorted(set(paths)))
"#;

pub(crate) fn place(home: &Path) -> Place {
    let uid = rustix::process::geteuid().as_raw();
    let account = Account { uid, gid: rustix::process::getegid().as_raw(), home: home.to_owned() };
    Place { sandbox_home: Some(home.join("store")), recorder: account.clone(), reader: account }
}

pub(crate) fn run_start() -> RunStart {
    RunStart {
        command: vec![b"./a\x1b[2Jb".to_vec(), b"\xff".to_vec()],
        cwd: b"/tmp/\xff".to_vec(),
        uid: 1000,
        user: "someone".into(),
        home: Vec::new(),
        environment: Vec::new(),
        mode: Mode::AuditOnly,
        layers: Vec::new(),
        policy: None,
        variables: Vec::new(),
        unheld: Vec::new(),
        tmp: None,
        process: ProcId { pid: 10, start_ns: 20 },
        wall_ns: 1_763_688_205_000_000_007,
        mono_ns: 1,
    }
}

/// The names in a directory, ascending.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn begin(home: &Path, settings: RecordSettings) -> Recorder {
    let dir = RunDir::create(&place(home), &RunName::new(1_763_688_205_000_000_007, b"/bin/test")).unwrap();
    Recorder::begin(dir, "agent", &run_start(), settings, Attestation::default()).unwrap()
}

fn every_kind() -> Vec<Event> {
    let paths: [&[u8]; 4] =
        [b"/etc/passwd", b"/tmp/\xff\xfe", b"/tmp/new\nline\x1b[31m\x7f", "/tmp/é€😀".as_bytes()];
    let mut events = Vec::new();
    for (at, event_type) in EventType::ALL.iter().enumerate() {
        for action in [Action::Observed, Action::Allowed, Action::Blocked, Action::WouldBlock] {
            if matches!(event_type, EventType::RunStart | EventType::RunEnd | EventType::Checkpoint) {
                continue;
            }
            let mut event = runner_event(*event_type, ProcId { pid: at as u32, start_ns: 5 });
            event.action = action;
            event.kseq = events.len() as u64 + 1;
            event.set(Key::Path, Value::Bytes(paths[at % paths.len()].to_vec()));
            event.set(Key::DstIp, Value::Bytes(b"::ffff:127.0.0.2".to_vec()));
            event.set(Key::DstPort, Value::Uint(443));
            event.set(Key::Ino, Value::Uint(u64::MAX));
            event.set(Key::Ret, Value::Int(-13));
            event.set(Key::Argv, Value::List(vec![b"sh".to_vec(), b"-c\x00".to_vec()]));
            if event_type == &EventType::Gap {
                event.set(Key::Lost, Value::Uint(1));
            }
            events.push(event);
        }
    }
    events
}

#[test]
fn a_run_of_every_type_is_chained_indexed_and_described() {
    let home = tempfile::tempdir().unwrap();
    let mut recorder = begin(home.path(), RecordSettings::default());
    let directory = recorder.dir().path().to_owned();
    assert!(Meta::read(&directory).unwrap().end.is_none(), "meta.json of a run that goes on has no end");

    let events = every_kind();
    let total = events.len() as u64 + 2;
    recorder.append(&events).unwrap();
    assert_eq!(recorder.flush().unwrap(), total - 1);
    let end = RunEnd { exit_code: Some(0), reason: "exit".into(), ..RunEnd::default() };
    let sealed = recorder.seal(&end).unwrap();
    assert_eq!(recorder.synced_seq(), total);
    assert_eq!(recorder.finish_index().unwrap(), total);

    let python = Command::new("python3").args(["-c", PYTHON]).arg(directory.join(LOG)).output().unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let said = String::from_utf8(python.stdout).unwrap();
    let mut said = said.split_whitespace();
    assert_eq!(said.next(), Some(&*total.to_string()));
    assert_eq!(said.next(), Some(&*sealed.head));
    // All but the checkpoint, which nothing here asks for.
    assert_eq!(said.next(), Some(&*(EventType::ALL.len() - 1).to_string()));
    let mut paths: Vec<_> =
        [&b"/etc/passwd"[..], b"/tmp/\xff\xfe", b"/tmp/new\nline\x1b[31m\x7f", "/tmp/é€😀".as_bytes()]
            .map(hex)
            .into();
    paths.sort();
    assert_eq!(said.collect::<Vec<_>>(), paths);

    assert_eq!(index::compare(&directory).unwrap(), IndexVerdict::Agrees { rows: total });
    let left = [".lock", "events.jsonl", "index.sqlite", "meta.json"];
    assert_eq!(files(&directory), left, "nothing else is left");

    let meta = Meta::read(&directory).unwrap();
    let end = meta.end.unwrap();
    assert_eq!((end.head.as_deref(), end.events), (Some(&*sealed.head), total));
    assert_eq!((end.blocked, end.would_block, end.lost), (43, 43, 4));
}

#[test]
fn run_start_says_what_the_format_asks_for() {
    let home = tempfile::tempdir().unwrap();
    let recorder = begin(home.path(), RecordSettings::default());
    let log = std::fs::read(recorder.dir().path().join(LOG)).unwrap();
    let first = audit_verify::canonical::Record::parse(log.strip_suffix(b"\n").unwrap()).unwrap();
    for key in [
        "boot_id",
        "command",
        "credentials",
        "cwd",
        "hostname",
        "kernel",
        "layers",
        "ledger_prev",
        "machine_id",
        "mode",
        "nonce",
        "store",
        "uid",
        "user",
        "version",
    ] {
        assert!(first.get(key).is_some(), "{key}");
    }
    assert_eq!(first.text("event_type"), Some("run_start"));
    assert_eq!(first.text("nonce").unwrap().len(), 64);
    assert_eq!(first.bytes("cwd"), Some(&b"/tmp/\xff"[..]));
    assert_eq!(first.text("timestamp"), Some("2025-11-21T01:23:25.000000007Z"));
    let other = begin(home.path(), RecordSettings::default());
    let log = std::fs::read(other.dir().path().join(LOG)).unwrap();
    let second = audit_verify::canonical::Record::parse(log.strip_suffix(b"\n").unwrap()).unwrap();
    assert_ne!(first.text("nonce"), second.text("nonce"));
    assert!(other.dir().id().ends_with("-test-2"));
}

#[test]
fn dropped_without_a_seal_the_log_is_intact_and_incomplete() {
    let home = tempfile::tempdir().unwrap();
    for durability in [Durability::Each, Durability::Every(Duration::from_millis(1)), Durability::None] {
        let settings = RecordSettings { durability, ..RecordSettings::default() };
        let recorder = begin(home.path(), settings);
        let directory = recorder.dir().path().to_owned();
        recorder.append(&every_kind()).unwrap();
        let seq = recorder.flush().unwrap();
        drop(recorder);
        let python = Command::new("python3").args(["-c", PYTHON]).arg(directory.join(LOG)).output().unwrap();
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
        assert_eq!(index::compare(&directory).unwrap(), IndexVerdict::Agrees { rows: seq });
        assert!(Meta::read(&directory).unwrap().end.is_none());
    }
}

#[test]
fn more_than_a_batch_at_once_keeps_its_order() {
    let home = tempfile::tempdir().unwrap();
    let recorder = begin(home.path(), RecordSettings::default());
    let events: Vec<_> = (1..=5 * BATCH_MAX as u64 + 3)
        .map(|kseq| {
            let mut event = runner_event(EventType::Fork, ProcId::default());
            event.kseq = kseq;
            event
        })
        .collect();
    recorder.append(&events).unwrap();
    recorder.flush().unwrap();
    let log = std::fs::read(recorder.dir().path().join(LOG)).unwrap();
    for (at, line) in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let record = audit_verify::canonical::Record::parse(line).unwrap();
        assert_eq!(record.uint("kseq"), Some(at as u64));
    }
}
