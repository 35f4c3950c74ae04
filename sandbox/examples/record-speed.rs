//! How fast a run is recorded: `cargo run --release -p sandbox --example record-speed [EVENTS] [DIRECTORY]`.
//!
//! Prints events a second and microseconds an event for the log alone, for the log with its live index, and
//! for the index made again; and the processor time of each thread, which other load does not change. Events
//! are of the shape that a compile has: mostly opens, half of them failed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use sandbox::event::{Action, Event, EventType, Key, ProcId, Value};
use sandbox::record::store::{Account, Place, RunDir, RunName};
use sandbox::record::{
    Attestation, Durability, Mode, OnLogError, RecordSettings, Recorder, RunEnd, RunStart, index, time,
};

const BATCH: usize = 512;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let total: u64 =
        arguments.next().map_or(Ok(1_000_000), |text| text.parse()).context("EVENTS is a number")?;
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let home = base.join(format!("record-speed-{}", std::process::id()));
    println!("{:<34} {:>10} {:>12} {:>10} {:>10}", "", "seconds", "events/s", "us/event", "cpu us/ev");
    for durability in [Durability::None, Durability::Every(Duration::from_millis(100))] {
        let (recorder, written, log_cpu) = record(&home, total, durability)?;
        line(&format!("log, fdatasync {}", name(durability)), written, log_cpu, total);
        let directory = recorder.dir().path().to_owned();
        let followed = thread_cpu("record-index")?;
        let (waited, cpu) = timed(|| recorder.finish_index().map(|_| ()))?;
        line("log and live index, to the end", written + waited, followed + cpu, total);
        line("  of which after the seal", waited, cpu, total);
        if durability != Durability::None {
            let (took, cpu) = timed(|| index::reindex(&directory).map(|_| ()))?;
            line("index made again", took, cpu, total);
            let (took, cpu) = timed(|| index::compare(&directory).map(|_| ()))?;
            line("index compared with the log", took, cpu, total);
            let size = |name: &str| directory.join(name).metadata().map(|meta| meta.len());
            println!(
                "log {} bytes an event, index {} bytes an event",
                size("events.jsonl")? / total,
                size(index::FILE)? / total
            );
        }
    }
    std::fs::remove_dir_all(&home)?;
    Ok(())
}

/// How long something takes, and how much processor time this process spends on it.
fn timed<E>(act: impl FnOnce() -> Result<(), E>) -> Result<(Duration, Duration), E> {
    let cpu = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let (start, before) = (Instant::now(), cpu());
    act()?;
    Ok((start.elapsed(), cpu() - before))
}

/// Processor time of the thread with this name so far.
fn thread_cpu(name: &str) -> anyhow::Result<Duration> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim_end() == name {
            let stat = std::fs::read_to_string(task.join("schedstat"))?;
            let ns = stat.split(' ').next().unwrap_or_default().parse()?;
            return Ok(Duration::from_nanos(ns));
        }
    }
    anyhow::bail!("no thread has the name {name}")
}

fn record(
    home: &std::path::Path,
    total: u64,
    durability: Durability,
) -> anyhow::Result<(Recorder, Duration, Duration)> {
    let account = Account { uid: rustix::process::geteuid().as_raw(), gid: 0, home: home.to_owned() };
    let place = Place { sandbox_home: Some(home.join("store")), recorder: account.clone(), reader: account };
    let dir = RunDir::create(&place, &RunName::new(time::wall_now_ns(), b"speed"))?;
    let start = RunStart {
        command: vec![b"make".to_vec()],
        cwd: b"/tmp".to_vec(),
        uid: 0,
        user: "root".into(),
        home: Vec::new(),
        environment: Vec::new(),
        mode: Mode::AuditOnly,
        layers: Vec::new(),
        policy: None,
        unheld: Vec::new(),
        tmp: None,
        variables: Vec::new(),
        process: ProcId::default(),
        wall_ns: time::wall_now_ns(),
        mono_ns: time::mono_now_ns(),
    };
    let settings = RecordSettings { durability, on_log_error: OnLogError::Stop, ..RecordSettings::default() };
    let mut recorder = Recorder::begin(dir, "speed", &start, settings, Attestation::default())?;
    // Made before the clock runs, as far as memory allows: making events is not what is measured.
    let mut batches: Vec<Vec<Event>> = Vec::new();
    let mut elapsed = Duration::ZERO;
    let mut next = 0;
    while next < total {
        while next < total && batches.len() < 400 {
            let size = BATCH.min((total - next) as usize);
            batches.push((0..size as u64).map(|at| event(next + at)).collect());
            next += size as u64;
        }
        let begun = Instant::now();
        for batch in batches.drain(..) {
            recorder.append(&batch)?;
        }
        recorder.flush()?;
        elapsed += begun.elapsed();
    }
    let log_cpu = thread_cpu("record-log")?;
    let begun = Instant::now();
    recorder.seal(&RunEnd { exit_code: Some(0), reason: "exit".into(), ..RunEnd::default() })?;
    Ok((recorder, elapsed + begun.elapsed(), log_cpu))
}

fn event(number: u64) -> Event {
    let failed = number.is_multiple_of(2);
    let path = format!("/usr/lib/x86_64-linux-gnu/module-{}/header-{}.h", number / 64 % 97, number % 4099);
    Event {
        event_type: EventType::FileOpen,
        action: Action::Observed,
        wall_ns: time::wall_now_ns(),
        mono_ns: number * 1000,
        kseq: number + 1,
        process: ProcId { pid: 1000 + (number / 700) as u32, start_ns: 123_456_789_000 + number / 700 },
        details: vec![
            (Key::Path, Value::Bytes(path.into_bytes())),
            (Key::Access, Value::List(vec![b"read".to_vec()])),
            (Key::Flags, Value::Uint(0o2000000)),
            (Key::Ret, Value::Int(if failed { -2 } else { 3 })),
            (Key::Ino, Value::Uint(number)),
            (Key::Dev, Value::Uint(65025)),
            (Key::Exe, Value::Bytes(b"/usr/lib/gcc/x86_64-linux-gnu/12/cc1".to_vec())),
            (Key::Comm, Value::Bytes(b"cc1".to_vec())),
            (Key::Ppid, Value::Uint(999)),
            (Key::Uid, Value::Uint(1000)),
        ],
    }
}

fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::Each => "each batch",
        Durability::Every(_) => "every 100 ms",
        Durability::None => "never",
    }
}

fn line(what: &str, took: Duration, cpu: Duration, events: u64) {
    let (seconds, number) = (took.as_secs_f64(), events as f64);
    let (rate, each) = (number / seconds, seconds * 1e6 / number);
    let cpu = cpu.as_secs_f64() * 1e6 / number;
    println!("{what:<34} {seconds:>10.3} {rate:>12.0} {each:>10.3} {cpu:>10.3}");
}
