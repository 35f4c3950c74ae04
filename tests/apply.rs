//! `sandbox policy apply`: other policies for a run that goes on. By the `trace` layer, which judges without blocking,
//! on any machine that records.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use audit_verify::canonical::Record;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};
use sha2::{Digest, Sha256};

const FIRST: &str = "version: 1\nname: first\nfiles: { default: allow }\n";

const SECOND: &str = r#"
version: 1
name: second
files:
  default: allow
  rules:
    - { name: closed, deny: [read], path: ["${WORKSPACE}/data"], because: it is closed now }
"#;

/// Reads the file, says so, and reads it again when it is told to.
const SCRIPT: &str = "cat data; touch read-once; until test -e go; do sleep 0.02; done; cat data";

fn scene() -> Scene {
    let scene = Scene::new();
    for (name, text) in [("data", "x"), ("first.yaml", FIRST), ("second.yaml", SECOND)] {
        fs::write(scene.work().join(name), text).expect("the scene is set");
    }
    scene
}

/// Starts the script; returns when it has read once.
fn start(scene: &Scene, options: &[&str]) -> Child {
    let args = ["run", "--layers", "trace"].iter().chain(options).chain(&["--", "sh", "-c", SCRIPT]);
    let mut command = scene.sandbox(args);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.expect("sandbox starts");
    appears(&scene.work().join("read-once"));
    child
}

fn appears(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(scene: &Scene, mut child: Child) {
    fs::write(scene.work().join("go"), "").expect("the run is told to go on");
    assert!(child.wait().expect("it is waited for").success());
}

struct Seen {
    event_type: String,
    action: String,
    path: String,
    rule: String,
    sha256: String,
    target: String,
}

fn events(run: &Path) -> Vec<Seen> {
    let log = fs::read(run.join("events.jsonl")).expect("there is a log");
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let seen = |line| {
        let record = Record::parse(line).expect("each line is canonical");
        let text = |key| record.text(key).unwrap_or_default().to_owned();
        Seen {
            event_type: text("event_type"),
            action: text("action"),
            path: text("path"),
            rule: text("policy_rule"),
            sha256: text("policy_sha256"),
            target: text("target"),
        }
    };
    lines.map(seen).collect()
}

/// What became of the reads of the file, in order, with the changes of policy among them.
fn story(run: &Path) -> Vec<String> {
    let events = events(run).into_iter();
    let told = events.filter_map(|event| match event.event_type.as_str() {
        "policy_apply" => Some("apply".to_owned()),
        "file_open" if event.path.ends_with("/work/data") => Some(format!("{} {}", event.action, event.rule)),
        _ => None,
    });
    told.collect()
}

fn stored(run: &Path, name: &str) -> (PathBuf, String) {
    let path = run.join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn another_policy_holds_from_then_on_and_the_record_tells() {
    if !met("policy apply, audited", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let child = start(&scene, &["--policy", "first.yaml"]);
    let done = finish(scene.sandbox(["policy", "apply", "last", "second.yaml"])).expect(0);
    assert!(done.stdout.contains("from now on also: first, second\n"), "{}", done.stdout);
    // The same again changes nothing.
    let again = finish(scene.sandbox(["policy", "apply", "last", "second.yaml"])).expect(0);
    assert!(again.stdout.contains("holds already"), "{}", again.stdout);
    end(&scene, child);

    let run = scene.run();
    assert_eq!(story(&run), ["ALLOWED first/files.default", "apply", "WOULD_BLOCK second/closed"]);
    let change =
        events(&run).into_iter().find(|event| event.event_type == "policy_apply").expect("one change");
    let (path, sha256) = stored(&run, "policy.effective.2.yaml");
    assert_eq!((change.target.as_str(), change.sha256), ("policy.effective.2.yaml", sha256));
    let text = fs::read_to_string(&path).expect("it is text");
    assert!(text.contains("name: \"first\"") && text.contains("/work/data\""), "{text}");
    // What the run began with is still there as its first line names it.
    let start = events(&run).remove(0);
    assert_eq!(start.sha256, stored(&run, "policy.effective.yaml").1);
    finish(scene.audit_verify(["--strict", "last"])).expect(0);
    let honest = fs::read(&path).expect("the policy");
    fs::write(&path, [&honest[..], b"# more\n"].concat()).expect("it is changed");
    let done = finish(scene.audit_verify(["last"])).expect(1);
    assert!(done.stdout.contains("policy.effective.2.yaml is not the policy"), "{}", done.stdout);
    fs::remove_file(&path).expect("it goes");
    finish(scene.audit_verify(["last"])).expect(1);
    fs::write(&path, &honest).expect("it is back");
    // The denial is explained by the policy that made it.
    let why = finish(scene.sandbox(["why"])).expect(0);
    assert!(why.stdout.contains("second/closed") && why.stdout.contains("except: ["), "{}", why.stdout);
    let view = finish(scene.sandbox(["view", "last"])).expect(0);
    assert!(view.stdout.contains("first, second (narrowed)"), "{}", view.stdout);
    // It is over.
    let late = finish(scene.sandbox(["policy", "apply", "last", "second.yaml"])).expect(2);
    assert!(late.stderr.contains("it has ended"), "{}", late.stderr);
}

#[test]
fn only_root_widens() {
    if !met("policy apply --widen", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let child = start(&scene, &["--policy", "second.yaml"]);
    let done =
        finish(scene.sandbox(["policy", "apply", "last", "first.yaml", "--widen", "--json"])).expect(0);
    assert!(done.stdout.contains("\"names\":\"first\""), "{}", done.stdout);
    end(&scene, child);
    let run = scene.run();
    assert_eq!(story(&run), ["WOULD_BLOCK second/closed", "apply", "ALLOWED first/files.default"]);
    finish(scene.audit_verify(["last"])).expect(0);
}

#[test]
fn who_may_not_is_refused_and_nothing_changes() {
    if !met("policy apply, refused", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let own = scene.sandbox(["policy", "apply", "last", "first.yaml", "--widen"]);
    let own: Vec<_> =
        std::iter::once(own.get_program()).chain(own.get_args()).map(|w| w.to_owned()).collect();
    let own: Vec<_> = own.iter().map(|word| word.to_str().expect("the words are text")).collect();
    // A process of the run itself, with root's rights.
    let script = format!("{}; echo $? > answer; {SCRIPT}", own.join(" "));
    let args = ["run", "--layers", "trace", "--policy", "second.yaml", "--", "sh", "-c", &script];
    let mut command = scene.sandbox(args);
    let child =
        command.stdin(Stdio::null()).stderr(fs::File::create(scene.path("err")).expect("a file")).spawn();
    let child = child.expect("sandbox starts");
    appears(&scene.work().join("read-once"));
    assert_eq!(fs::read_to_string(scene.work().join("answer")).expect("it answered"), "1\n");
    let told = fs::read_to_string(scene.path("err")).expect("it said why");
    assert!(told.contains("a process of the run cannot apply policies to it"), "{told}");
    // A policy that is wrong, and one that is not there.
    fs::write(scene.work().join("wrong.yaml"), "version: 1\nname: w\nfils: {}\n").expect("a file");
    let wrong = finish(scene.sandbox(["policy", "apply", "last", "wrong.yaml"])).expect(2);
    assert!(wrong.stderr.contains("wrong.yaml:3:1"), "{}", wrong.stderr);
    finish(scene.sandbox(["policy", "apply", "last", "missing.yaml"])).expect(2);
    end(&scene, child);
    assert_eq!(story(&scene.run()), ["WOULD_BLOCK second/closed", "WOULD_BLOCK second/closed"]);
}

#[test]
fn a_run_without_policies_gets_none() {
    if !met("policy apply, nothing to narrow", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let child = start(&scene, &["--audit-only"]);
    let done = finish(scene.sandbox(["policy", "apply", "last", "second.yaml"])).expect(2);
    assert!(done.stderr.contains("it only records"), "{}", done.stderr);
    end(&scene, child);
}

#[test]
fn the_user_of_the_run_narrows_and_does_not_widen() {
    if !met("policy apply, as an ordinary user", &[Need::Trace, Need::Root]) {
        return;
    }
    const NOBODY: u32 = 65_534;
    let scene = scene();
    std::os::unix::fs::chown(scene.work(), Some(NOBODY), Some(NOBODY)).expect("the user's own directory");
    let child = start(&scene, &["--user", "nobody", "--policy", "first.yaml"]);
    let as_user = |args: &[&str]| {
        let mut command = scene.sandbox(["policy", "apply", "last"].iter().chain(args));
        command.uid(NOBODY).gid(NOBODY);
        finish(command)
    };
    let wider = as_user(&["first.yaml", "--widen"]).expect(1);
    assert!(wider.stderr.contains("only root may put other policies"), "{}", wider.stderr);
    as_user(&["second.yaml"]).expect(0);
    end(&scene, child);
    assert_eq!(story(&scene.run()), ["ALLOWED first/files.default", "apply", "WOULD_BLOCK second/closed"]);
}
