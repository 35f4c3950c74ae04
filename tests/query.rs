//! `sandbox query`, `sandbox reindex` and `audit-verify check --index`, on records of real commands.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};
use serde_json::Value;

const POLICY: &str = r#"
version: 1
name: agent
files:
  default: allow
  rules:
    - { name: no-keys, deny: [read], path: ["${WORKSPACE}/keys/**"] }
"#;

const SCRIPT: &str = "cat keys/one keys/two; cat nothing; mv plain moved; cat /dev/null; exit 0";

/// A run that would have been denied two files.
fn recorded() -> Option<Scene> {
    if !met("questions to a record", &[Need::Trace, Need::Program("cat"), Need::Program("python3")]) {
        return None;
    }
    let scene = Scene::new();
    let work = scene.work();
    fs::create_dir(work.join("keys")).expect("the scene is set");
    for file in ["keys/one", "keys/two", "plain"] {
        fs::write(work.join(file), "").expect("the scene is set");
    }
    fs::write(work.join("agent.yaml"), POLICY).expect("the scene is set");
    finish(scene.sandbox(["run", "--policy", "agent.yaml", "--", "sh", "-c", SCRIPT])).expect(0);
    Some(scene)
}

fn query(scene: &Scene, args: &[&str]) -> Done {
    finish(scene.sandbox(["query", "last"].iter().chain(args))).expect(0)
}

fn log(scene: &Scene) -> Vec<String> {
    let log = fs::read_to_string(scene.run().join("events.jsonl")).expect("the log");
    log.lines().map(str::to_owned).collect()
}

/// What Python's SQLite does to the index: code that shares nothing with the product.
fn sql(index: &Path, statement: &str) {
    let program =
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()";
    let status = Command::new("python3").args(["-c", program]).arg(index).arg(statement).status();
    assert!(status.expect("python3 starts").success(), "{statement}");
}

#[test]
fn conditions_choose_the_lines_that_meet_them() {
    let Some(scene) = recorded() else { return };
    let lines = log(&scene);
    let all = query(&scene, &["--json"]);
    assert_eq!(
        all.stdout.lines().collect::<Vec<_>>(),
        lines,
        "without conditions it is the log, byte for byte"
    );
    assert_eq!(all.stderr, "");
    let work = scene.work().canonicalize().expect("a path");
    let work = work.to_str().expect("a temporary path is UTF-8");
    let keys = format!("{work}/keys");
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let below = |path: &str, directory: &str| path == directory || path.starts_with(&format!("{directory}/"));
    type Oracle<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let pid = serde_json::from_str::<Value>(&lines[0]).expect("JSON")["pid"].as_u64().expect("a pid");
    let pid_text = pid.to_string();
    let cases: Vec<(Vec<&str>, Oracle<'_>)> = vec![
        (vec!["--type", "exec"], Box::new(|e| e["event_type"] == "exec")),
        (vec!["--type", "exec,exit"], Box::new(|e| e["event_type"] == "exec" || e["event_type"] == "exit")),
        (
            vec!["--type", "file"],
            Box::new(|e| {
                let kind = text(e, "event_type");
                kind.starts_with("file_") || kind.starts_with("dir_")
            }),
        ),
        (vec!["--action", "would_block"], Box::new(|e| e["action"] == "WOULD_BLOCK")),
        (vec!["--rule", "no-keys"], Box::new(|e| e["policy_rule"] == "agent/no-keys")),
        (vec!["--path", "keys"], Box::new(|e| below(&text(e, "path"), &keys))),
        (vec!["--path", "nowhere/.././keys/"], Box::new(|e| below(&text(e, "path"), &keys))),
        (
            vec!["--path", "plain", "--path", "moved"],
            Box::new(|e| {
                [text(e, "path"), text(e, "path2")].iter().any(|path| {
                    below(path, &format!("{work}/plain")) || below(path, &format!("{work}/moved"))
                })
            }),
        ),
        (
            vec!["--exe", "cat", "--failed"],
            Box::new(|e| text(e, "exe").ends_with("/cat") && e["ret"].as_i64().is_some_and(|ret| ret < 0)),
        ),
        (vec!["--pid", &pid_text], Box::new(move |e| e["pid"].as_u64() == Some(pid))),
        (vec!["--contains", "nothing"], Box::new(|e| e.to_string().contains("nothing"))),
        (vec!["--type", "net"], Box::new(|e| text(e, "event_type").starts_with("net_"))),
        (
            vec!["--since", "+0s", "--until", "2100-01-01T00:00:00Z", "--type", "exec"],
            Box::new(|e| e["event_type"] == "exec"),
        ),
    ];
    for (args, oracle) in cases {
        let expected: Vec<&String> =
            lines.iter().filter(|line| oracle(&serde_json::from_str(line).expect("JSON"))).collect();
        let found = query(&scene, &[&args[..], &["--json"]].concat());
        assert_eq!(found.stdout.lines().collect::<Vec<_>>(), expected, "{args:?}");
        let count = query(&scene, &[&args[..], &["--count"]].concat());
        assert_eq!(count.stdout.trim(), expected.len().to_string(), "{args:?}");
        let shown = query(&scene, &[&args[..], &["--limit", "0"]].concat());
        let head = usize::from(!expected.is_empty());
        assert_eq!(shown.stdout.lines().count(), expected.len() + head, "{args:?}");
    }
    assert!(query(&scene, &["--rule", "no-keys", "--count"]).stdout != "0\n", "the policy judged something");
    let shown = query(&scene, &["--rule", "no-keys"]).stdout;
    assert!(shown.contains("read     WOULD BE BLOCKED by agent/no-keys: "), "{shown}");
    assert_eq!(query(&scene, &["--rule", "none"]).stderr, "sandbox: no event matches\n");
    let first = query(&scene, &["--limit", "1", "--json"]);
    assert_eq!(first.stdout, format!("{}\n", lines[0]));
    assert!(first.stderr.contains("these are the first 1"), "{}", first.stderr);
}

#[test]
fn an_index_is_compared_with_its_log_and_made_again() {
    let Some(scene) = recorded() else { return };
    let (run, lines) = (scene.run(), log(&scene));
    let index = run.join("index.sqlite");
    let check = || finish(scene.audit_verify(["check", "--index", "last"]));
    let reindex = || finish(scene.sandbox(["reindex", "last"]));
    let all = lines.len().to_string();
    let found = check().expect(0);
    assert!(found.stdout.contains(&format!("the index agrees with the log, {all} rows")), "{}", found.stdout);

    for (change, code, says) in [
        ("UPDATE event SET path = 1 WHERE seq = 5", 1, "index differs from the log: seq 5, column path: "),
        (
            "UPDATE event SET pid = pid + 1 WHERE seq = 3",
            1,
            "index differs from the log: seq 3, column pid: ",
        ),
        ("DELETE FROM event WHERE seq = 4", 1, "index differs from the log: seq 4 has no row"),
        (
            "DELETE FROM event WHERE seq > 4; DELETE FROM block",
            1,
            "the index ends before the log does, behind row 4",
        ),
        (
            "DELETE FROM event WHERE seq > 4",
            1,
            "of the rows from seq 1 on, column rows, is not what they say",
        ),
        ("UPDATE block SET path = x''", 1, "of the rows from seq 1 on, column path, is not what they say"),
        ("UPDATE block SET latest = latest - 1", 1, "of the rows from seq 1 on, column latest, is not"),
        ("CREATE INDEX event_path ON event (path)", 1, "`event_path` is not of version"),
        ("CREATE TRIGGER t AFTER DELETE ON event BEGIN SELECT 1; END", 1, "`t` is not of version"),
        ("PRAGMA user_version = 1", 2, "of version 1 of the schema"),
        ("PRAGMA user_version = 99", 2, "of version 99 of the schema"),
    ] {
        sql(&index, change);
        let found = check().expect(code);
        assert!(found.stdout.contains(says), "{change}: {}", found.stdout);
        assert!(found.stdout.starts_with("index "), "{change}: {}", found.stdout);
        assert!(found.stdout.contains("\n  log       intact\n"), "{change}: {}", found.stdout);
        fs::remove_file(&index).expect("the index is removed");
        let made = reindex().expect(0);
        assert!(made.stdout.contains(&format!(": {all} rows")), "{}", made.stdout);
        check().expect(0);
    }
    fs::remove_file(&index).expect("the index is removed");
    let found = check().expect(2);
    assert!(
        found.stdout.starts_with("index missing: ")
            && found.stdout.contains("there is no ")
            && found.stdout.contains("sandbox reindex"),
        "{}",
        found.stdout
    );
    let asked = query(&scene, &["--type", "exec", "--count"]);
    assert!(
        asked.stderr.contains(&format!("there is no index: it was made again, {all} rows")),
        "{}",
        asked.stderr
    );
    check().expect(0);

    sql(&index, "PRAGMA user_version = 99");
    let refused = reindex().expect(1);
    assert!(
        refused.stderr.contains("version 99") && refused.stderr.contains("newer sandbox"),
        "{}",
        refused.stderr
    );
    let asked = query(&scene, &["--json"]);
    assert_eq!(asked.stdout.lines().count(), lines.len());
    assert!(asked.stderr.contains("newer than this program"), "{}", asked.stderr);
    let said = finish(scene.audit_verify(["check", "--index", "--json", "last"])).expect(2).stdout;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&said["index"], &said["verdict"], &said["code"]),
        (&"version".into(), &"intact".into(), &2.into())
    );
}

#[test]
fn a_crashed_run_is_indexed_to_its_last_whole_line() {
    let Some(scene) = recorded() else { return };
    let run = scene.run();
    let log = fs::read(run.join("events.jsonl")).expect("the log");
    // As a crash leaves it: no seal, a torn line, an index that is behind.
    fs::write(run.join("events.jsonl"), &log[..log.len() - 20]).expect("the log is cut");
    // The ledger knows that this run did not crash.
    fs::remove_file(scene.store().join("ledger.jsonl")).expect("the ledger goes");
    let meta = fs::read_to_string(run.join("meta.json")).expect("meta.json");
    let mut meta: Value = serde_json::from_str(&meta).expect("JSON");
    meta["end"] = Value::Null;
    fs::write(run.join("meta.json"), meta.to_string()).expect("meta.json is changed");
    sql(&run.join("index.sqlite"), "DELETE FROM event WHERE seq > 5; DELETE FROM block");
    let whole = log.iter().filter(|byte| **byte == b'\n').count() - 1;
    let found = finish(scene.audit_verify(["check", "--index", "last"])).expect(2);
    assert!(found.stdout.contains("behind row 5; `sandbox reindex`"), "{}", found.stdout);
    let asked = query(&scene, &["--count"]);
    assert_eq!(asked.stdout, format!("{whole}\n"));
    assert!(asked.stderr.contains("the index ends at line 5, before the log does"), "{}", asked.stderr);
    let made = finish(scene.sandbox(["reindex", "last"])).expect(0);
    assert!(made.stdout.contains(&format!(": {whole} rows")), "{}", made.stdout);
    assert!(made.stderr.contains("torn"), "{}", made.stderr);
}

#[test]
fn a_run_that_goes_on_is_asked_and_not_reindexed() {
    if !met("questions to a run that goes on", &[Need::Trace, Need::Program("cat")]) {
        return;
    }
    let scene = Scene::new();
    let script = "echo begun; cat";
    let mut command = scene.sandbox(["run", "--audit-only", "--", "sh", "-c", script]);
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // `cat` waits for its input; its exec comes into the log and the answer while it does.
    let started = Instant::now();
    let cat = ["query", "last", "--type", "exec", "--exe", "cat", "--count"];
    loop {
        let done = finish(scene.sandbox(cat));
        if done.code() == 0 && done.stdout == "1\n" {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "the run is answered while it goes on: {done:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = finish(scene.sandbox(["reindex", "last"])).expect(1);
    assert!(refused.stderr.contains("the run goes on"), "{}", refused.stderr);
    drop(running.stdin.take());
    assert!(running.wait().expect("it ends").success());
    finish(scene.audit_verify(["check", "--index", "last"])).expect(0);
}

#[test]
fn words_that_mean_nothing_say_what_would() {
    let scene = Scene::new();
    for (args, says) in [
        (["--type", "file_opn"], "Groups are file, net, proc and dns"),
        (["--action", "block"], "WOULD_BLOCK"),
        (["--dest", "10.0.0.0/99"], "too many bits"),
        (["--since", "yesterday"], "write 2026-"),
        (["--pid", "x"], "a whole number is wanted"),
    ] {
        let done = finish(scene.sandbox(["query", "last"].iter().chain(&args))).expect(2);
        assert!(done.stderr.contains(says) && done.stdout.is_empty(), "{args:?}: {}", done.stderr);
    }
    let done = finish(scene.sandbox(["query", "last", "--contains", ""])).expect(2);
    assert!(done.stderr.contains("--contains: is empty"), "{}", done.stderr);
    for command in ["query", "reindex"] {
        let help = finish(scene.sandbox([command, "--help"])).expect(0).stdout;
        assert!(help.contains("Examples:") && help.lines().all(|line| line.chars().count() <= 80), "{help}");
        let done = finish(scene.sandbox([command, "last"])).expect(1);
        assert!(done.stderr.contains("no runs yet"), "{}", done.stderr);
    }
}
