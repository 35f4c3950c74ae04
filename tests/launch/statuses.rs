//! Exit statuses, and what is told with those that are the runner's own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

use crate::processes::{last_line, verified};

#[test]
fn the_commands_status_passes_through() {
    if !met("the_commands_status_passes_through", &[Need::Trace]) {
        return;
    }
    for (script, code, sealed) in [
        ("exit 0", 0, "\"exit_code\": 0"),
        ("exit 3", 3, "\"exit_code\": 3"),
        ("exit 127", 127, "\"exit_code\": 127"),
        ("exit 255", 255, "\"exit_code\": 255"),
        ("kill -TERM $$", 143, "\"signal\": 15"),
        ("kill -KILL $$", 137, "\"signal\": 9"),
        ("kill -40 $$", 168, "\"signal\": 40"),
    ] {
        let scene = Scene::new();
        let done = scene.record(["sh", "-c", script]).expect(code);
        assert!(done.stderr.contains("events") && done.stderr.contains("head"), "{script}: {}", done.stderr);
        let seal = last_line(&scene);
        assert!(seal.contains("run_end") && seal.contains(sealed), "{script}: {seal}");
        verified(&scene).expect(0);
    }
}

#[test]
fn the_summary_tells_head_and_place_and_quiet_tells_nothing() {
    if !met("the_summary_tells_head_and_place_and_quiet_tells_nothing", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let done = scene.record(["true"]).expect(0);
    let seal = last_line(&scene);
    let (_, hash) = seal.split_once("\"hash_self\": \"").expect("a hash");
    assert!(done.stderr.contains(&hash[..64]), "the head is the seal's hash:\n{}\n{seal}", done.stderr);
    assert!(done.stderr.contains(&scene.run().display().to_string()));
    assert_eq!(done.stdout, "");
    let quiet =
        finish(scene.sandbox(["run", "--quiet", "--", "sh", "-c", "echo out; echo err >&2"])).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn what_cannot_be_executed_is_told_before_anything_is_made() {
    if !met("what_cannot_be_executed_is_told_before_anything_is_made", &[Need::Root]) {
        return;
    }
    let scene = Scene::new();
    let plain = scene.work().join("plain");
    fs::write(&plain, "echo no\n").unwrap();
    for (command, code, said) in [
        ("no-such-command", 127, "sandbox: no-such-command: command not found\n"),
        ("/no/such/command", 127, "sandbox: /no/such/command: command not found\n"),
        ("", 127, "sandbox: '': command not found\n"),
        ("./plain", 126, "sandbox: ./plain: permission denied (not executable)\n"),
        ("/tmp", 126, "sandbox: /tmp: is a directory\n"),
    ] {
        let done = scene.record([command]).expect(code);
        assert_eq!(done.stderr, said);
    }
    assert!(scene.inventory().is_empty(), "{:?}", scene.inventory());
    assert!(!scene.store().exists());
}

#[test]
fn what_exec_refuses_is_told_after_it() {
    if !met("what_exec_refuses_is_told_after_it", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let make = |name: &str, text: &str| {
        let path = scene.work().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    make("no-interpreter", "#!/no/such/interpreter\n");
    let done = scene.record(["./no-interpreter"]).expect(126);
    assert!(
        done.stderr.contains("./no-interpreter: its interpreter or loader does not exist"),
        "{}",
        done.stderr
    );
    // execvp(3) and every shell give a text without #! to sh.
    make("script", "echo \"$0 $1\"; exit 5\n");
    assert_eq!(scene.record(["./script", "word"]).expect(5).stdout, "./script word\n");
}

#[test]
fn wrong_usage_is_125_and_changes_nothing() {
    let scene = Scene::new();
    for (args, said) in [
        (vec!["run"], "required"),
        (vec!["run", "--"], "required"),
        (vec!["run", "--no-such-option", "--", "true"], "--no-such-option"),
        (vec!["run", "--layers", "lms", "--", "true"], "unknown layer \"lms\"; there are: lsm, trace"),
        (vec!["run", "--require", "tarce", "--", "true"], "unknown layer \"tarce\""),
        (vec!["run", "--layers", "trace", "--require", "lsm", "--", "true"], "contradicts"),
        (vec!["run", "--audit-only", "--enforce", "p.yaml", "--", "true"], "cannot be used with"),
        (vec!["run", "--agent-id", "", "--", "true"], "--agent-id is empty"),
    ] {
        let done = finish(scene.sandbox(&args)).expect(125);
        assert!(done.stderr.contains(said), "{args:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{args:?}");
    }
    assert!(!scene.store().exists());
    let help = finish(scene.sandbox(["run", "--help"])).expect(0);
    assert!(help.stdout.contains("$SANDBOX_HOME/runs"), "where records go: {}", help.stdout);
    assert!(help.stdout.contains("Examples:") && help.stdout.lines().all(|line| line.chars().count() <= 80));
    finish(scene.sandbox(["no-such-verb"])).expect(2);
}

#[test]
fn a_policy_that_is_none_is_told_and_changes_nothing() {
    if !met("a_policy_that_is_none_is_told_and_changes_nothing", &[Need::Root]) {
        return;
    }
    let scene = Scene::new();
    fs::write(scene.work().join("p.yaml"), "version: 1\nname: p\nfils:\n  default: deny\n").unwrap();
    for option in ["--policy", "--enforce"] {
        let done = finish(scene.sandbox(["run", option, "p.yaml", "--", "true"])).expect(125);
        assert!(done.stderr.starts_with("sandbox: p.yaml:3:1: "), "{}", done.stderr);
        let done = finish(scene.sandbox(["run", option, "missing.yaml", "--", "true"])).expect(125);
        assert!(done.stderr.contains("cannot read the policy missing.yaml: No such file"), "{}", done.stderr);
    }
    assert!(!scene.store().exists());
}

#[test]
fn a_run_dir_must_be_new_or_empty() {
    if !met("a_run_dir_must_be_new_or_empty", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (new, full) = (scene.path("new"), scene.path("full"));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "x").unwrap();
    let run = |path: &std::path::Path| {
        finish(scene.sandbox([
            "run".as_ref(),
            "--run-dir".as_ref(),
            path.as_os_str(),
            "--".as_ref(),
            "true".as_ref(),
        ]))
    };
    run(&new).expect(0);
    assert!(new.join("events.jsonl").is_file());
    for used in [&new, &full] {
        assert!(run(used).expect(125).stderr.contains("not empty"));
    }
    assert_eq!(fs::read(full.join("file")).unwrap(), b"x");
}

#[test]
fn input_and_output_are_the_commands() {
    if !met("input_and_output_are_the_commands", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    // More than a pipe holds, both ways.
    let text: Vec<u8> = (0..1_000_000u32).flat_map(|number| (number as u8).to_le_bytes()).collect();
    let mut child = scene
        .sandbox(["run", "-q", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let mut back = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(back == text);
}

#[test]
fn nobody_but_the_command_holds_its_pipes() {
    if !met("nobody_but_the_command_holds_its_pipes", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    // The command closes its output and input and goes on until a file is there.
    let script = "exec >&- <&-; until [ -e go ]; do sleep 0.01; done; exit 9";
    let mut child = scene
        .sandbox(["run", "-q", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    crate::processes::until("writing to the closed input fails", || stdin.write_all(b"x").is_err());
    fs::write(scene.work().join("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}
