//! What the index costs while a run goes on: the whole recorder, with its writer, its fdatasync and its index.

use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::event::ProcId;
use sandbox::record::store::{Account, Place, RunDir, RunName};
use sandbox::record::{Attestation, Mode, RecordSettings, Recorder, RunEnd, RunStart};

use super::clock::keep_pace;
use super::events::{AGENT, BATCH, events};

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From the first event to the seal.
    pub log: Duration,
    /// From the seal to the index with its last row.
    pub behind: Duration,
}

/// Records `count` events that are all different, at most `pace` a second.
pub fn record(home: &Path, count: u64, pace: Option<u32>) -> Took {
    let owner = Account { uid: 0, gid: 0, home: home.to_owned() };
    let place = Place { sandbox_home: Some(home.join("store")), recorder: owner.clone(), reader: owner };
    let dir = RunDir::create(&place, &RunName::new(1_784_628_610_000_000_000, AGENT.as_bytes()))
        .expect("a run's directory");
    let path = dir.path().to_owned();
    let attestation = Attestation::default();
    let mut recorder = Recorder::begin(dir, AGENT, &run_start(), RecordSettings::default(), attestation)
        .expect("a recorder");
    let start = Instant::now();
    for from in (0..count).step_by(BATCH as usize) {
        let batch = events(1 + from, BATCH);
        keep_pace(start, pace, from);
        recorder.append(&batch).expect("the log");
    }
    recorder.seal(&RunEnd::default()).expect("the seal");
    let log = start.elapsed();
    let rows = recorder.finish_index().expect("the index");
    assert!(rows > count, "the index has {rows} rows");
    let behind = start.elapsed() - log;
    std::fs::remove_dir_all(path).expect("remove the run");
    Took { log, behind }
}

fn run_start() -> RunStart {
    RunStart {
        command: vec![b"python3".to_vec()],
        cwd: b"/work".to_vec(),
        uid: 0,
        user: "root".into(),
        home: b"/nonexistent".to_vec(),
        environment: Vec::new(),
        mode: Mode::AuditOnly,
        layers: Vec::new(),
        policy: None,
        variables: Vec::new(),
        unheld: Vec::new(),
        tmp: None,
        process: ProcId { pid: 12_000, start_ns: 27_964_000_000_000 },
        wall_ns: 1_784_628_610_000_000_000,
        mono_ns: 27_964_954_763_483,
    }
}
