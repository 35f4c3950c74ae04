//! The record of a run as its readers find it: exit status intact, a log that verifies with `audit-verify`
//! and with a few lines of Python that share nothing with it, an index whose rows are the log's lines.

use std::path::Path;

use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};
use sandbox_tests::watched::GIT_AND_PYTHON;

/// Runs this package's own check of a run's directory.
fn check_with_python(scene: &Scene, run: &Path) -> Done {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("check_log.py");
    finish(scene.command("python3", [script.as_path(), run]))
}

#[test]
fn a_real_command_is_recorded_and_verifies() {
    let needs = [GIT_AND_PYTHON.needs(), vec![Need::Trace]].concat();
    if !met("the record of a real command", &needs) {
        return;
    }
    let scene = Scene::new();
    let done = scene.record((GIT_AND_PYTHON.prepare)(&scene)).expect(0);
    let run = scene.run();
    let log = Log::of_run(&run);
    let head = String::from_utf8_lossy(log.seal().bytes("hash_self").expect("a hash")).into_owned();
    assert!(done.stderr.contains(&head), "the head is printed when the run ends:\n{}", done.stderr);
    assert_eq!(done.stdout, "", "git -q and python3 say nothing, and the runner adds nothing");
    finish(scene.audit_verify([&run])).expect(0);
    finish(scene.audit_verify(["--expect-head", &head, run.to_str().expect("UTF-8")])).expect(0);
    let checked = check_with_python(&scene, &run).expect(0);
    assert_eq!(checked.stdout, format!("{} events, head {head}\n", log.len()));
    let execs = log.records().filter(|(_, record)| record.text("event_type") == Some("exec"));
    let mut names = execs.filter_map(|(_, record)| record.list("argv").map(|argv| argv.concat()));
    assert!(names.any(|argv| argv == b"gitadda"), "the record tells of `git add a`");
}

#[test]
fn the_record_is_complete_when_the_run_returns() {
    if !met("the index of a run that has just ended", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    // More than is indexed in passing.
    let script = "for i in range(30000):\n  try: open(f'/nonexistent/{i}')\n  except OSError: pass\n";
    scene.record(["python3", "-c", script]).expect(0);
    let run = scene.run();
    let mut names: Vec<_> = std::fs::read_dir(&run)
        .expect("the run's directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    // Beside locks, which stay.
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    // An index that is being made has two files beside it.
    assert_eq!(names, ["events.jsonl", "index.sqlite", "meta.json"]);
    check_with_python(&scene, &run).expect(0);
}

#[test]
fn the_exit_status_is_the_commands() {
    if !met("exit status", &[Need::Trace]) {
        return;
    }
    for (script, code, key) in [("exit 7", 7, "exit_code"), ("kill -9 $$", 137, "signal")] {
        let scene = Scene::new();
        scene.record(["sh", "-c", script]).expect(code);
        let log = Log::of_run(&scene.run());
        let expected = if key == "signal" { 9 } else { 7 };
        assert_eq!(log.seal().int(key), Some(expected), "{script}");
    }
}

#[test]
fn the_command_that_shows_the_record_is_printed() {
    if !met("the way to the record", &[Need::Trace, Need::Program("cat")]) {
        return;
    }
    let scene = Scene::new();
    let done = scene.record(["true"]).expect(0);
    assert!(done.stderr.ends_with("(sandbox view last)\n"), "{}", done.stderr);
    // A record outside the store is not its last one.
    let aside = scene.path("an aside");
    let args = ["run", "--run-dir", aside.to_str().expect("UTF-8"), "--", "cat", "/etc/hostname"];
    let done = finish(scene.sandbox(args)).expect(0);
    let hint = format!("(sandbox view '{}')\n", aside.display());
    assert!(done.stderr.ends_with(&hint), "{}", done.stderr);

    let view = |args: &[&str]| {
        let mut command = scene.sandbox(["view"].iter().chain(args));
        command.current_dir(scene.path(""));
        finish(command).expect(0).stdout
    };
    assert!(view(&["an aside", "--files"]).contains(" read     /etc/hostname\n"));
    assert!(!view(&["an aside/events.jsonl"]).contains(" read     /etc/hostname\n"));
}

#[test]
fn an_edit_shows() {
    if !met("an edited log", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    scene.record(["cat", "/etc/hostname"]).expect(0);
    let run = scene.run();
    let path = run.join("events.jsonl");
    let whole = std::fs::read_to_string(&path).expect("the log is ASCII");
    // Somebody hides which file was read.
    let edited = whole.replacen("/etc/hostname\"", "/etc/hostnamf\"", 1);
    assert_ne!(whole, edited, "the log tells of /etc/hostname");
    std::fs::write(&path, &edited).expect("edit the log");
    finish(scene.audit_verify([&run])).expect(1);
    check_with_python(&scene, &run).expect(1);
    // A tail cut off: a log outside its store may be one that crashed; in its store the ledger knows better.
    let copy = scene.path("copy.jsonl");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for cut in [&lines[..lines.len() - 1].concat()[..], &whole[..whole.len() - 10]] {
        std::fs::write(&copy, cut).expect("cut a copy of the log");
        finish(scene.audit_verify([&copy])).expect(2);
        std::fs::write(&path, cut).expect("cut the log");
        let done = finish(scene.audit_verify([&run])).expect(1);
        assert!(done.stdout.contains("the ledger has its seal, and the log does not"), "{}", done.stdout);
    }
    // And back again.
    std::fs::write(&path, &whole).expect("restore the log");
    finish(scene.audit_verify([&run])).expect(0);
    check_with_python(&scene, &run).expect(0);
}

#[test]
fn a_long_command_line_says_that_it_is_cut() {
    if !met("a long command line", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let long = "a".repeat(100_000);
    scene.record(["/bin/true", &long]).expect(0);
    let log = Log::of_run(&scene.run());
    let mut found = 0;
    for (_, record) in log.records().filter(|(_, record)| record.text("event_type") == Some("exec")) {
        let argv = record.list("argv").expect("an exec has its arguments");
        assert_eq!(argv[0], b"/bin/true");
        let whole = argv.len() == 2 && argv[1] == long.as_bytes();
        assert_eq!(record.flag("argv_truncated") == Some(true), !whole, "cut if and only if it says so");
        assert!(long.as_bytes().starts_with(argv.get(1).map_or(b"", |arg| arg)));
        found += 1;
    }
    assert_eq!(found, 1);
}
