//! Made-up runs of an agent that builds, tests and looks around: the same each time, and long.
//!
//! Written by the product's own recorder, event by event in the form that real ones have. Beside what such runs have in
//! common each has a workspace of its own, and names that no other has: of processes, temporary files, caches and objects.

use std::path::{Path, PathBuf};

use sandbox::event::{Action, Event, EventType, Key, ProcId, Value};
use sandbox::record::store::{Account, Place, RunDir, RunName};
use sandbox::record::{Attestation, Durability, Mode, RecordSettings, Recorder, RunEnd, RunStart};

use super::random::Random;
use super::work::Work;

/// When the first run began, nanoseconds since 1970 and since boot.
const BEGUN: (i64, u64) = (1_784_628_610_000_000_000, 27_964_954_763_483);

/// From one event to the next, nanoseconds.
const PACE: u64 = 41_017;

/// Events that are handed to the recorder at once.
const BATCH: usize = 256;

const HOME: &str = "/home/u";

/// A process of a made-up run.
#[derive(Clone, Debug)]
pub struct Process {
    id: ProcId,
    parent: u32,
    exe: String,
}

impl Process {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.id.pid
    }
}

/// A run that is being made up.
pub struct Build<'r> {
    recorder: &'r Recorder,
    batch: Vec<Event>,
    /// Events that are still to come.
    left: u64,
    kseq: u64,
    pids: u32,
    /// Nanoseconds since 1970.
    begun: i64,
    pub random: Random,
    /// Which one it is.
    pub number: usize,
    /// The run's own workspace.
    pub workspace: String,
}

/// Records run number `number` of `events` events in all, and returns its directory.
pub fn record(place: &Path, number: usize, events: u64) -> PathBuf {
    let owner = Account { uid: 0, gid: 0, home: place.to_owned() };
    let store = Place { sandbox_home: Some(place.join("store")), recorder: owner.clone(), reader: owner };
    let wall_ns = BEGUN.0 + number as i64 * 3_600_000_000_000;
    let dir = RunDir::create(&store, &RunName::new(wall_ns, b"agent")).expect("a run's directory");
    let path = dir.path().to_owned();
    let workspace = format!("{HOME}/work/project-{number}");
    let first = ProcId { pid: 4_000, start_ns: BEGUN.1 };
    let start = start(&workspace, wall_ns, first);
    let settings = RecordSettings { durability: Durability::None, ..RecordSettings::default() };
    let mut recorder =
        Recorder::begin(dir, "agent", &start, settings, Attestation::default()).expect("a recorder");
    let mut build = Build {
        recorder: &recorder,
        batch: Vec::new(),
        // Without the first and the last.
        left: events - 2,
        kseq: 0,
        pids: first.pid,
        begun: wall_ns,
        random: Random::of(1, &["long"], number),
        number,
        workspace,
    };
    let mut agent = Process { id: first, parent: 3_999, exe: "/usr/bin/sandbox".to_owned() };
    build.execute(&mut agent, "/usr/bin/node", &["node", "agent.js"]);
    while build.left > 0 {
        Work::next(&mut build.random).done(&mut build, &agent);
    }
    build.flush();
    let end = RunEnd { exit_code: Some(0), reason: "exit".into(), process: first, ..RunEnd::default() };
    let sealed = recorder.seal(&end).expect("the seal");
    assert_eq!(sealed.counts.events, events, "of a run of {events} events");
    recorder.finish_index().expect("the index");
    path
}

fn start(workspace: &str, wall_ns: i64, process: ProcId) -> RunStart {
    let bytes = |text: &str| text.as_bytes().to_vec();
    RunStart {
        command: vec![bytes("node"), bytes("agent.js")],
        cwd: bytes(workspace),
        uid: 1000,
        user: "u".into(),
        home: b"/nonexistent".to_vec(),
        environment: Vec::new(),
        mode: Mode::AuditOnly,
        layers: Vec::new(),
        policy: None,
        variables: vec![
            ("HOME", bytes(HOME)),
            ("TMP", bytes("/tmp")),
            ("UID", bytes("1000")),
            ("USER", bytes("u")),
            ("WORKSPACE", bytes(workspace)),
        ],
        unheld: Vec::new(),
        tmp: None,
        process,
        wall_ns,
        mono_ns: BEGUN.1,
    }
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| item.as_bytes().to_vec()).collect())
}

impl Build<'_> {
    /// A child that executes a program; it lives until it is ended.
    pub fn child(&mut self, parent: &Process, program: &str, argv: &[&str]) -> Process {
        self.pids += 1;
        let id = ProcId { pid: self.pids, start_ns: BEGUN.1 + self.kseq * PACE };
        let details = [
            (Key::ChildPid, Value::Uint(id.pid.into())),
            (Key::ChildProcId, text(&format!("{}-{}", id.pid, id.start_ns))),
        ];
        self.event(parent, EventType::Fork, details);
        let mut child = Process { id, parent: parent.id.pid, exe: parent.exe.clone() };
        self.execute(&mut child, program, argv);
        child
    }

    fn execute(&mut self, process: &mut Process, program: &str, argv: &[&str]) {
        process.exe = program.to_owned();
        let details = [
            (Key::Ret, Value::Int(0)),
            (Key::Syscall, text("execve")),
            (Key::Path, text(program)),
            (Key::Argv, list(argv)),
            (Key::Cwd, text(&self.workspace)),
            (Key::ExeIno, Value::Uint(247_153)),
            (Key::ExeDev, Value::Uint(65_024)),
            (Key::Layer, text("trace")),
        ];
        self.event(process, EventType::Exec, details);
        for library in ["/etc/ld.so.cache", "/usr/lib/x86_64-linux-gnu/libc.so.6"] {
            self.open(process, library, &["read"]);
        }
    }

    /// The process ends.
    pub fn end(&mut self, process: &Process) {
        self.event(process, EventType::Exit, [(Key::ExitCode, Value::Int(0))]);
    }

    /// An open of a file that is there.
    pub fn open(&mut self, process: &Process, path: &str, access: &[&str]) {
        let made = access.contains(&"create");
        let kind = if made { EventType::FileCreate } else { EventType::FileOpen };
        self.file(process, kind, path, [(Key::Access, list(access)), (Key::Ret, Value::Int(3))]);
    }

    /// An open of a file that is not there.
    pub fn miss(&mut self, process: &Process, path: &str) {
        let details = [(Key::Access, list(&["read"])), (Key::Ret, Value::Int(-2))];
        self.file(process, EventType::FileOpen, path, details);
    }

    /// A file that is removed.
    pub fn delete(&mut self, process: &Process, path: &str) {
        self.file(process, EventType::FileDelete, path, [(Key::Ret, Value::Int(0))]);
    }

    /// A directory that is made.
    pub fn directory(&mut self, process: &Process, path: &str) {
        self.file(process, EventType::DirCreate, path, [(Key::Ret, Value::Int(0))]);
    }

    /// A file that gets another name.
    pub fn rename(&mut self, process: &Process, old: &str, new: &str) {
        let details = [(Key::Path2, text(new)), (Key::Ret, Value::Int(0))];
        self.file(process, EventType::FileRename, old, details);
    }

    fn file<const N: usize>(
        &mut self,
        process: &Process,
        kind: EventType,
        path: &str,
        more: [(Key, Value); N],
    ) {
        let common = [
            (Key::Path, text(path)),
            (Key::Flags, Value::Uint(524_288)),
            (Key::Ino, Value::Uint(240_000 + self.kseq * 7 % 90_001)),
            (Key::Dev, Value::Uint(65_024)),
            (Key::Layer, text("trace")),
        ];
        self.event(process, kind, more.into_iter().chain(common));
    }

    /// A question for a name, its answer, and a connection to what it says.
    pub fn connect(&mut self, process: &Process, host: &str, address: &str) {
        let answer = [
            (Key::Host, text(host)),
            (Key::Answers, list(&[address])),
            (Key::DstIp, text("192.0.2.53")),
            (Key::DstPort, Value::Uint(53)),
        ];
        self.event(process, EventType::DnsAnswer, answer);
        let end = [(Key::DstIp, text(address)), (Key::DstPort, Value::Uint(443)), (Key::Host, text(host))];
        self.socket(process, EventType::NetConnect, end);
    }

    /// A server of the run's own, and a connection to it.
    pub fn serve(&mut self, process: &Process, port: u64) {
        for kind in [EventType::NetBind, EventType::NetListen] {
            let end = [(Key::SrcIp, text("127.0.0.1")), (Key::SrcPort, Value::Uint(port))];
            self.socket(process, kind, end);
        }
        let end = [(Key::DstIp, text("127.0.0.1")), (Key::DstPort, Value::Uint(port))];
        self.socket(process, EventType::NetConnect, end);
    }

    fn socket<const N: usize>(&mut self, process: &Process, kind: EventType, end: [(Key, Value); N]) {
        let common = [(Key::Family, text("inet")), (Key::Proto, text("tcp")), (Key::Ret, Value::Int(0))];
        self.event(process, kind, end.into_iter().chain(common));
    }

    /// One event, unless the run has all of its events.
    fn event(&mut self, process: &Process, kind: EventType, more: impl IntoIterator<Item = (Key, Value)>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        self.kseq += 1;
        let name = process.exe.rsplit('/').next().unwrap_or_default();
        let actor = [
            (Key::Uid, Value::Uint(1000)),
            (Key::Ppid, Value::Uint(process.parent.into())),
            (Key::Comm, text(name)),
            (Key::Exe, text(&process.exe)),
        ];
        self.batch.push(Event {
            event_type: kind,
            action: Action::Observed,
            wall_ns: self.begun + (self.kseq * PACE) as i64,
            mono_ns: BEGUN.1 + self.kseq * PACE,
            kseq: self.kseq,
            process: process.id,
            details: actor.into_iter().chain(more).collect(),
        });
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.recorder.append(&self.batch).expect("the log");
        self.batch.clear();
    }
}
