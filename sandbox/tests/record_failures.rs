//! Recording while the recorder is killed, and while the disk is full: real processes, real file systems.
//!
//! The test binary starts itself again for the part that dies or that needs a mount namespace of its own;
//! those parts are the ignored tests below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit_verify::canonical::Record;
use audit_verify::verify::{Missing, Question, Verdict, Verifier};
use sandbox::event::{Action, Event, EventType, Key, ProcId, Value};
use sandbox::record::index::{self, IndexVerdict};
use sandbox::record::meta::Meta;
use sandbox::record::store::{Account, Place, RunDir, RunName};
use sandbox::record::{
    Attestation, Durability, LOG, LogAct, Mode, OnLogError, RecordSettings, Recorder, RunEnd, RunStart,
    runner_event,
};

/// Where a child works.
const HOME: &str = "RECORD_TEST_HOME";

/// How often the writer is killed.
const KILLS: u32 = 200;

fn begin(home: &Path, settings: RecordSettings) -> anyhow::Result<Recorder> {
    let account = Account {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        home: home.to_owned(),
    };
    let place = Place { sandbox_home: Some(home.join("store")), recorder: account.clone(), reader: account };
    let dir = RunDir::create(&place, &RunName::new(0, b"test"))?;
    let start = RunStart {
        command: vec![b"test".to_vec()],
        cwd: b"/".to_vec(),
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
        wall_ns: 0,
        mono_ns: 0,
    };
    Ok(Recorder::begin(dir, "test", &start, settings, Attestation::default())?)
}

fn batch(count: usize) -> Vec<Event> {
    let mut event = runner_event(EventType::FileOpen, ProcId { pid: 7, start_ns: 1 });
    event.action = Action::Observed;
    event.set(Key::Path, Value::Bytes(b"/usr/lib/\xff/some/library.so.1".to_vec()));
    event.set(Key::Ret, Value::Int(-2));
    vec![event; count]
}

fn verdict(log: &Path) -> Verdict {
    Verifier::new(Question::Log).run(File::open(log).unwrap()).unwrap().verdict
}

fn whole_lines(log: &Path) -> u64 {
    std::fs::read(log).unwrap().iter().filter(|byte| **byte == b'\n').count() as u64
}

/// This binary, to run one of the ignored tests.
fn child(test: &str) -> Vec<std::ffi::OsString> {
    let binary = std::env::current_exe().unwrap().into_os_string();
    [binary].into_iter().chain(["--ignored", "--exact", "--nocapture", test].map(Into::into)).collect()
}

#[test]
fn killed_at_any_moment_the_log_holds_every_acknowledged_event() {
    let mut torn = 0;
    for number in 0..KILLS {
        let home = tempfile::tempdir().unwrap();
        let mut writer = start_writer(home.path());
        let mut acknowledged = writer.stdout.take().unwrap();
        // Wait for the first event, so that every writer is killed at work and at another moment of it.
        let mut acks = [0; 8];
        skip_to_acks(&mut acknowledged);
        acknowledged.read_exact(&mut acks).unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(number) * 1_300));
        writer.kill().unwrap();
        let ended = writer.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{ended}");

        let mut rest = Vec::new();
        acknowledged.read_to_end(&mut rest).unwrap();
        let last = rest.chunks_exact(8).last().unwrap_or(&acks);
        let acknowledged = u64::from_le_bytes(last.try_into().unwrap());
        let directory = home.path().join("store/runs/19700101-000000-test");
        match verdict(&directory.join(LOG)) {
            Verdict::Incomplete { events, why, .. } => {
                assert!(events >= acknowledged, "kill {number}: {events} events of {acknowledged}");
                torn += u32::from(matches!(why, Missing::LineRest { .. }));
                let rows = index::reindex(&directory).unwrap();
                // A line that lacks nothing but its newline holds, and is torn all the same: it has no row.
                let whole = whole_lines(&directory.join(LOG));
                assert_eq!(rows, whole, "kill {number}");
                let unended = matches!(why, Missing::LineRest { line } if line == events);
                assert_eq!(events, whole + u64::from(unended), "kill {number}: {why:?}");
                assert_eq!(index::compare(&directory).unwrap(), IndexVerdict::Agrees { rows });
            }
            other => panic!("kill {number}: {other:?}"),
        }
        assert!(Meta::read(&directory).unwrap().end.is_none());
    }
    eprintln!("{torn} of {KILLS} kills tore a line");
}

fn start_writer(home: &Path) -> Child {
    let words = child("child_writes_until_it_is_killed");
    Command::new(&words[0]).args(&words[1..]).env(HOME, home).stdout(Stdio::piped()).spawn().unwrap()
}

/// What the test harness says before the child's own output.
fn skip_to_acks(output: &mut impl Read) {
    let mut said = Vec::new();
    while !said.ends_with(b"\x00acks\x00") {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
}

/// Writes as fast as it can, and says on stdout which event was taken by the kernel last.
#[test]
#[ignore = "run by killed_at_any_moment_the_log_holds_every_acknowledged_event"]
fn child_writes_until_it_is_killed() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let recorder = begin(&home, RecordSettings::default()).unwrap();
    let mut out = std::io::stdout();
    out.write_all(b"\x00acks\x00").unwrap();
    for size in (1..).map(|number: usize| number * 37 % 500 + 1) {
        recorder.append(&batch(size)).unwrap();
        let seq = recorder.written_seq();
        if seq > 1 {
            out.write_all(&seq.to_le_bytes()).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn a_full_disk_stops_a_run_that_is_to_stop() {
    on_a_small_disk("child_stops_on_a_full_disk");
}

#[test]
fn a_full_disk_leaves_a_gap_in_a_run_that_goes_on() {
    on_a_small_disk("child_goes_on_after_a_full_disk");
}

#[test]
fn a_disk_that_is_full_from_the_start_refuses_the_run() {
    on_a_small_disk("child_finds_a_full_disk");
}

/// Runs an ignored test with a tmpfs of 4 MiB as its home, in a mount namespace of its own.
fn on_a_small_disk(test: &str) {
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    if !Command::new("unshare").args([namespace, "true"]).status().is_ok_and(|status| status.success()) {
        assert!(namespace != "-m", "root cannot make a mount namespace");
        eprintln!("skipped: {test}: no mount namespace to be had from this account");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mounted = "mount -t tmpfs -o size=4m,mode=700 tmpfs \"$RECORD_TEST_HOME\" && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args([namespace, "--propagation", "private", "sh", "-c", mounted])
        .args(child(test))
        .env(HOME, home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_log_that_is_removed_is_never_sealed() {
    for on_log_error in [OnLogError::Stop, OnLogError::Continue] {
        let home = tempfile::tempdir().unwrap();
        let mut recorder =
            begin(home.path(), RecordSettings { on_log_error, ..RecordSettings::default() }).unwrap();
        recorder.append(&batch(10)).unwrap();
        recorder.flush().unwrap();
        std::fs::remove_dir_all(home.path()).unwrap();
        // An event, or the end of the run: whichever is first finds out.
        if on_log_error == OnLogError::Stop {
            recorder.append(&batch(1)).unwrap();
            let error = recorder.flush().unwrap_err();
            assert_eq!((error.act, error.errno), (LogAct::Keep, libc::ENOENT));
            assert_eq!(recorder.check(), Err(error));
        }
        let error = recorder.seal(&RunEnd::default()).unwrap_err().to_string();
        assert!(error.contains("it was removed while it was written"), "{error}");
    }
}

/// A real device that fails: a file system whose backing file cannot grow any more.
#[test]
fn a_disk_that_fails_is_found_out_and_the_log_never_sealed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a_disk_that_fails_is_found_out: making a file system needs root");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mounted = "mount -t tmpfs -o size=24m,mode=700 tmpfs \"$RECORD_TEST_HOME\" && cd \"$RECORD_TEST_HOME\" && \
                   truncate -s 256M image && mkfs.ext4 -q image && mkdir mounted && mount -o loop image mounted && \
                   export RECORD_TEST_HOME=\"$RECORD_TEST_HOME/mounted\" && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", mounted])
        .args(child("child_finds_the_disk_failing"))
        .env(HOME, home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complaints}");
}

#[test]
#[ignore = "run by a_disk_that_fails_is_found_out_and_the_log_never_sealed"]
fn child_finds_the_disk_failing() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let mut recorder = begin(&home, RecordSettings::default()).unwrap();
    let log = recorder.dir().path().join(LOG);
    let error = loop {
        if let Err(error) = recorder.append(&batch(1000)) {
            break error;
        }
    };
    // What cannot be made durable is told with the device's error, be that what it may; the file system may also turn
    // read-only before the next write.
    assert!(error.act == LogAct::Sync || matches!(error.errno, libc::EIO | libc::EROFS), "{error}");
    let error = recorder.seal(&RunEnd::default()).unwrap_err();
    assert!(matches!(error, sandbox::record::RecordError::Log(_)), "{error}");
    drop(recorder);
    // What the kernel still has of it does not claim to be whole.
    if let Ok(file) = File::open(&log)
        && let Ok(report) = Verifier::new(Question::Log).run(file)
    {
        assert_ne!(report.verdict.code(), 0);
    }
}

#[test]
#[ignore = "run by a_full_disk_stops_a_run_that_is_to_stop"]
fn child_stops_on_a_full_disk() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    for durability in [Durability::Every(Duration::from_millis(100)), Durability::Each] {
        let settings =
            RecordSettings { durability, on_log_error: OnLogError::Stop, ..RecordSettings::default() };
        let mut recorder = begin(&home, settings).unwrap();
        let directory = recorder.dir().path().to_owned();
        let error = loop {
            if let Err(error) = recorder.append(&batch(100)) {
                break error;
            }
        };
        assert!(error.is_no_space() && error.act == LogAct::Write, "{error}");
        assert_eq!(recorder.check(), Err(error.clone()));
        assert_eq!(recorder.flush(), Err(error.clone()));
        recorder.seal(&RunEnd::default()).unwrap_err();
        drop(recorder);
        match verdict(&directory.join(LOG)) {
            Verdict::Incomplete { events, .. } => assert_eq!(events, error.written_seq),
            other => panic!("{other:?}"),
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
#[ignore = "run by a_full_disk_leaves_a_gap_in_a_run_that_goes_on"]
fn child_goes_on_after_a_full_disk() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let ballast = home.join("ballast");
    std::fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let settings = RecordSettings { on_log_error: OnLogError::Continue, ..RecordSettings::default() };
    let mut recorder = begin(&home, settings).unwrap();
    let directory = recorder.dir().path().to_owned();
    let mut attempts = 0;
    while recorder.fault().is_none() {
        recorder.append(&batch(50)).unwrap();
        attempts += 50;
    }
    let fault = recorder.fault().unwrap().clone();
    assert!(fault.is_no_space(), "{fault}");
    recorder.append(&batch(33)).unwrap();
    attempts += 33;
    assert!(recorder.flush().is_err(), "nothing is acknowledged while the disk is full");

    std::fs::remove_file(&ballast).unwrap();
    recorder.append(&batch(7)).unwrap();
    attempts += 7;
    recorder.flush().unwrap();
    let sealed = recorder.seal(&RunEnd::default()).unwrap();
    assert!(sealed.counts.lost >= 33);
    let log = std::fs::read(directory.join(LOG)).unwrap();
    let records = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records: Vec<_> = records.map(|line| Record::parse(line).unwrap()).collect();
    let of = |kind| records.iter().filter(move |record| record.text("event_type") == Some(kind));
    assert_eq!(of("file_open").count() as u64 + sealed.counts.lost, attempts);
    assert_eq!(of("gap").map(|gap| gap.uint("lost").unwrap()).sum::<u64>(), sealed.counts.lost);
    assert!(of("gap").all(|gap| gap.text("reason") == Some("log: no space left")));
    match verdict(&directory.join(LOG)) {
        Verdict::Intact { events, lost, .. } => {
            assert_eq!((events, lost), (sealed.counts.events, sealed.counts.lost));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(recorder.finish_index().unwrap(), sealed.counts.events);
    let agrees = IndexVerdict::Agrees { rows: sealed.counts.events };
    assert_eq!(index::compare(&directory).unwrap(), agrees);
    assert_eq!(Meta::read(&directory).unwrap().end.unwrap().lost, sealed.counts.lost);
}

#[test]
#[ignore = "run by a_disk_that_is_full_from_the_start_refuses_the_run"]
fn child_finds_a_full_disk() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let mut ballast = File::create(home.join("ballast")).unwrap();
    let chunk = vec![1; 4096];
    while ballast.write_all(&chunk).is_ok() {}
    let started = Instant::now();
    let error = begin(&home, RecordSettings::default()).map(|_| ()).unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("No space left on device") && said.contains("free space"), "{said}");
    assert_eq!(said.matches("No space left").count(), 1, "a cause is told once: {said}");
    assert!(started.elapsed() < Duration::from_secs(30));
}
