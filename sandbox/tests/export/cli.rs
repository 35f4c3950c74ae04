//! What `sandbox export` does with its arguments, with logs that are not whole, and with files.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

use crate::logs;
use crate::scene::Scene;

const FORMATS: &[&str] = &["jsonl", "csv", "parquet", "ocsf", "ecs", "cef", "otlp-json"];

fn refused(done: &Output, code: i32, said: &str) {
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
    assert!(done.stdout.is_empty());
}

#[test]
fn jsonl_is_the_log() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        assert_eq!(Scene::new(&log).exported(&["--format", "jsonl"]), log);
    }
}

#[test]
fn a_tampered_log_is_not_exported_unless_that_is_asked_for() {
    let log = logs::every_type();
    let at = log.windows(7).position(|part| part == b"/path/o").unwrap();
    let mut edited = log.clone();
    edited[at + 1] = b'q';
    let scene = Scene::new(&edited);
    for format in FORMATS {
        let place = scene.path("out");
        refused(&scene.export(&["--format", format]), 1, "TAMPERED from line 1 on");
        let done = scene.export(&["--format", format, "-o", place.to_str().unwrap()]);
        refused(&done, 1, "--unverified");
        assert_eq!(std::fs::read_dir(scene.path("")).unwrap().count(), 1, "nothing is left");
    }
    let done = scene.export(&["--format", "jsonl", "--unverified"]);
    assert_eq!((done.status.code(), &done.stdout), (Some(0), &edited));
    assert!(String::from_utf8_lossy(&done.stderr).contains("TAMPERED"));
}

#[test]
fn lines_that_cannot_be_read_are_counted() {
    let mut log = logs::every_type();
    log.extend_from_slice(b"{\"not\": canonical}\nnor this\n");
    let scene = Scene::new(&log);
    let events = logs::lines(&log).len() - 2;
    for format in ["ecs", "ocsf", "cef"] {
        let done = scene.export(&["--format", format, "--unverified"]);
        assert_eq!(done.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&done.stderr).contains("2 lines could not be read"));
        assert_eq!(done.stdout.iter().filter(|byte| **byte == b'\n').count(), events);
    }
    assert_eq!(scene.export(&["--format", "jsonl", "--unverified"]).stdout, log);
}

#[test]
fn a_log_without_a_seal_is_exported_as_far_as_it_goes() {
    let log = logs::every_type();
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let whole = lines[..lines.len() - 1].concat();
    for log in [whole.clone(), [&whole[..], b"{\"action\": \"OBS"].concat(), log[..log.len() - 1].to_vec()] {
        let done = Scene::new(&log).export(&["--format", "jsonl"]);
        assert_eq!((done.status.code(), &done.stdout), (Some(0), &whole));
        assert!(String::from_utf8_lossy(&done.stderr).contains("is incomplete, intact for"));
    }
    let done = Scene::new(b"").export(&["--format", "csv"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout.starts_with(b"seq,timestamp,") && done.stdout.ends_with(b"more\r\n"));
    refused(&Scene::new(b"no log\n").export(&["--format", "csv", "--unverified"]), 1, "not a log");
}

#[test]
fn a_file_is_written_whole_and_kept() {
    let scene = Scene::new(&logs::every_type());
    let place = scene.path("out.csv");
    let to = place.to_str().unwrap();
    scene.exported(&["--format", "csv", "-o", to]);
    let written = std::fs::read(&place).unwrap();
    assert_eq!(written, scene.exported(&["--format", "csv"]));
    assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o600, "as private as the record");
    let inode = place.metadata().unwrap().ino();
    refused(&scene.export(&["--format", "ecs", "-o", to]), 1, "--force replaces it");
    assert_eq!(place.metadata().unwrap().ino(), inode);
    scene.exported(&["--format", "jsonl", "-o", to, "--force"]);
    assert_eq!(std::fs::read(&place).unwrap(), logs::every_type());
    assert_eq!(std::fs::read_dir(scene.path("")).unwrap().count(), 2, "nothing is left beside it");
    refused(&scene.export(&["--format", "jsonl", "-o", "/nonexistent/x"]), 1, "open /nonexistent");
}

#[test]
fn the_record_itself_is_never_written_over() {
    let log = logs::every_type();
    let scene = Scene::new(&log);
    let own = scene.log();
    refused(
        &scene.export(&["--format", "csv", "-o", own.to_str().unwrap(), "--force"]),
        1,
        "directory of a run",
    );
    assert_eq!(std::fs::read(own).unwrap(), log);
    assert_eq!(std::fs::read_dir(scene.run()).unwrap().count(), 1);
}

#[test]
fn wrong_arguments_are_told() {
    let scene = Scene::new(&logs::sealed([]));
    refused(&scene.export(&["--format", "ecs", "--csv-safe"]), 2, "--csv-safe is for --format csv alone");
    refused(&scene.export(&["--format", "xml"]), 2, "otlp-json");
    refused(&scene.export(&[]), 2, "--format");
    refused(&scene.export(&["--format", "csv", "--force"]), 2, "--output");
}

#[test]
fn a_terminal_gets_nothing_that_it_would_act_on() {
    let scene = Scene::new(&logs::hostile());
    for format in ["csv", "ecs", "cef", "jsonl"] {
        let (code, shown) = on_a_terminal(&scene, format);
        assert_eq!(code, Some(0));
        assert!(shown.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')), "{format}");
        assert!(shown.len() > 10_000);
    }
    assert_eq!(on_a_terminal(&scene, "parquet"), (Some(2), Vec::new()));
}

/// Exports to a terminal; the exit status, and what stands on it.
fn on_a_terminal(scene: &Scene, format: &str) -> (Option<i32>, Vec<u8>) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut master = std::fs::File::from(pty.master);
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // The last end of the other side that is closed is an error here.
        let _ = master.read_to_end(&mut shown);
        shown
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.arg("export").arg(scene.run()).args(["--format", format]).stdin(Stdio::null());
    command.stdout(Stdio::from(pty.slave)).stderr(Stdio::null());
    let code = command.status().unwrap().code();
    // It holds the terminal as well.
    drop(command);
    (code, reader.join().unwrap())
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let scene = Scene::new(&logs::sealed((0..3_000).map(|_| logs::small())));
    for format in FORMATS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        command.arg("export").arg(scene.run()).args(["--format", format]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{format}");
        assert_eq!(done.status.code(), Some(0), "{format}");
    }
}

#[test]
fn help_has_examples_and_fits() {
    let done = Scene::new(b"").export(&["--help"]);
    let help = String::from_utf8(done.stdout).unwrap();
    assert!(help.contains("Examples:\n  sandbox export"));
    let widest = help.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|width| width <= 80), "{help}");
}
