//! Made-up events of the real shape: the kinds of a build by a tool, in the share in which they come, each with the keys
//! that it has in a real record.

use sandbox::event::{Action, Event, EventType, Key, ProcId, Value};

/// The agent of the made-up run.
pub const AGENT: &str = "python3";

/// The id of the made-up run.
pub const RUN: &str = "20260721-101010-python3";

/// Events of a batch.
pub const BATCH: u64 = 256;

/// Events number `from` to `from + count`, which are the same each time.
pub fn events(from: u64, count: u64) -> Vec<Event> {
    (from..from + count).map(event).collect()
}

/// The first event of a run, as far as the log's form asks for it.
pub fn start() -> Event {
    let mut event = common(0, EventType::RunStart);
    event.details = vec![(Key::Command, list(&["python3", "setup.py", "build"])), (Key::Cwd, text("/work"))];
    event
}

fn event(number: u64) -> Event {
    // In a hundred events: opens, programs, processes that begin and end, connections.
    match number % 100 {
        0..=13 => exec(number),
        14..=16 => fork(number),
        17..=19 => exit(number),
        20 => connect(number),
        _ => open(number),
    }
}

fn common(number: u64, event_type: EventType) -> Event {
    Event {
        event_type,
        action: Action::Observed,
        wall_ns: 1_784_628_610_000_000_000 + number as i64 * 41_017,
        mono_ns: 27_964_954_763_483 + number * 41_017,
        kseq: number,
        process: process(number),
        details: Vec::with_capacity(12),
    }
}

fn process(number: u64) -> ProcId {
    ProcId {
        pid: 12_000 + (number / 97 % 4000) as u32,
        start_ns: 27_964_000_000_000 + number / 97 * 1_000_003,
    }
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| item.as_bytes().to_vec()).collect())
}

fn actor(event: &mut Event, number: u64) {
    event.details.extend([
        (Key::Uid, Value::Uint(1000)),
        (Key::Ppid, Value::Uint(11_000 + number / 97 % 900)),
        (Key::Comm, text(["python3", "cc1", "make", "sh"][(number / 97 % 4) as usize])),
        (
            Key::Exe,
            text(
                ["/usr/bin/python3.11", "/usr/libexec/gcc/cc1", "/usr/bin/make"][(number / 97 % 3) as usize],
            ),
        ),
    ]);
}

fn open(number: u64) -> Event {
    let mut event = common(number, EventType::FileOpen);
    actor(&mut event, number);
    let path = format!("/usr/lib/python3.11/site-packages/package{}/module{number}.py", number % 613);
    event.details.extend([
        (Key::Ret, if number.is_multiple_of(5) { Value::Int(-2) } else { Value::Int(3) }),
        (Key::Syscall, text("openat")),
        (Key::Path, text(&path)),
        (Key::Access, list(&["read"])),
        (Key::Flags, Value::Uint(524_288)),
        (Key::Ino, Value::Uint(240_000 + number * 7 % 90_001)),
        (Key::Dev, Value::Uint(65_024)),
        (Key::Layer, text("trace")),
    ]);
    event
}

fn exec(number: u64) -> Event {
    let mut event = common(number, EventType::Exec);
    actor(&mut event, number);
    let source = format!("/work/build/source{number}.c");
    event.details.extend([
        (Key::Ret, Value::Int(0)),
        (Key::Syscall, text("execve")),
        (Key::Path, text("/usr/bin/cc")),
        (Key::Argv, list(&["cc", "-O2", "-I", "include", "-DNAME=\"x\"", "-c", &source])),
        (Key::Cwd, text("/work/build")),
        (Key::ExeIno, Value::Uint(247_153)),
        (Key::ExeDev, Value::Uint(65_024)),
        (Key::Layer, text("trace")),
    ]);
    event
}

fn fork(number: u64) -> Event {
    let mut event = common(number, EventType::Fork);
    actor(&mut event, number);
    let child = process(number + 97);
    event.details.extend([
        (Key::ChildPid, Value::Uint(child.pid.into())),
        (Key::ChildProcId, text(&format!("{}-{}", child.pid, child.start_ns))),
    ]);
    event
}

fn exit(number: u64) -> Event {
    let mut event = common(number, EventType::Exit);
    actor(&mut event, number);
    event.details.push((Key::ExitCode, Value::Int(0)));
    event
}

fn connect(number: u64) -> Event {
    let mut event = common(number, EventType::NetConnect);
    actor(&mut event, number);
    event.details.extend([
        (Key::Ret, Value::Int(-115)),
        (Key::Syscall, text("connect")),
        (Key::Family, text("inet")),
        (Key::Proto, text("tcp")),
        (Key::DstIp, text("151.101.0.223")),
        (Key::DstPort, Value::Uint(443)),
        (Key::Host, text("pypi.org")),
    ]);
    event
}
