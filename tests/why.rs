//! `sandbox why` and the end of `sandbox run`: what would have been denied, by which rule, and the line that would
//! allow it. By the `trace` layer, so on any machine that records.

use std::fs;

use audit_verify::canonical::Record;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const POLICY: &str = r#"
version: 1
name: agent
files:
  default: allow
  rules:
    - name: no-keys
      deny: [read]
      path: ["${WORKSPACE}/keys/**"]
      because: keys stay out of an agent's reach
    - { name: frozen, deny: [delete], path: ["${WORKSPACE}/frozen/**"] }
"#;

const OTHER: &str = r#"
version: 1
name: other
files:
  default: allow
  rules:
    - { name: also, deny: [read], path: ["${WORKSPACE}/keys/one"], because: twice is better }
"#;

const SCRIPT: &str = "cat keys/one keys/one keys/two; cat plain; rm -f frozen/file; exit 0";

fn scene() -> Scene {
    let scene = Scene::new();
    let work = scene.work();
    for folder in ["keys", "frozen"] {
        fs::create_dir(work.join(folder)).expect("the scene is set");
    }
    for file in ["keys/one", "keys/two", "plain", "frozen/file"] {
        fs::write(work.join(file), "").expect("the scene is set");
    }
    fs::write(work.join("agent.yaml"), POLICY).expect("the scene is set");
    fs::write(work.join("other.yaml"), OTHER).expect("the scene is set");
    scene
}

/// Runs the script with these options.
fn run(scene: &Scene, options: &[&str]) -> Done {
    let args = ["run"].iter().chain(options).chain(&["--", "sh", "-c", SCRIPT]);
    finish(scene.sandbox(args)).expect(0)
}

fn why(scene: &Scene, args: &[&str]) -> Done {
    finish(scene.sandbox(["why"].iter().chain(args))).expect(0)
}

/// A machine whose hooks work judges by them; these tests are about the layer that every machine has.
const TRACE: [&str; 2] = ["--layers", "trace"];

#[test]
fn the_end_of_a_run_and_why_tell_the_same() {
    if !met("why, audited", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let done = run(&scene, &[&TRACE[..], &["--policy", "agent.yaml"]].concat());
    let work = scene.work().canonicalize().expect("the scene is there");
    let work = work.display();
    let summary = &done.stderr;
    for text in [
        "sandbox: 4 would be blocked (all of it: sandbox why)\n",
        "     3  agent/no-keys (would be): keys stay out of an agent's reach\n",
        "(+1 more)\n",
        "     1  agent/frozen (would be)\n",
        "        delete ",
        "except: [",
    ] {
        assert!(summary.contains(text), "{text:?} in\n{summary}");
    }
    assert!(summary.lines().count() <= 24, "{summary}");
    assert_eq!(summary.matches("would be blocked (all").count(), 1, "{summary}");

    let page = why(&scene, &[]).stdout;
    for text in [
        format!("2x read {work}/keys/one\n"),
        format!("1x read {work}/keys/two\n"),
        format!("1x delete {work}/frozen/file\n"),
        "agent/no-keys (would be blocked 3, layer trace)\n".to_owned(),
        "  because keys stay out of an agent's reach\n".to_owned(),
        format!("except: [\"{work}/keys/two\"]"),
        "# in rule no-keys".to_owned(),
        "by /usr/bin/".to_owned(),
    ] {
        assert!(page.contains(&text), "{text:?} in\n{page}");
    }
    assert!(!page.contains("/plain"), "{page}");

    let json = why(&scene, &["--json"]).stdout;
    let two = json.lines().find(|line| line.contains("keys/two")).expect("a line about keys/two");
    for text in [
        "\"accesses\": [\"read\"]",
        "\"action\": \"WOULD_BLOCK\"",
        &format!("\"allow\": [\"except: [\\\"{work}/keys/two\\\"]  # in rule no-keys\"]"),
        "\"because\": \"keys stay out of an agent's reach\"",
        "\"count\": 1",
        "\"layer\": \"trace\"",
        &format!("\"path\": \"{work}/keys/two\""),
        "\"rule\": \"agent/no-keys\"",
    ] {
        assert!(two.contains(text), "{text} in {two}");
    }
    assert_eq!(json.lines().count(), 3, "{json}");
    let only = |args: &[&str]| why(&scene, &[args, &["--json"]].concat()).stdout.lines().count();
    assert_eq!(only(&["--rule", "frozen"]), 1);
    assert_eq!(only(&["--rule", "agent/no-keys"]), 2);
    assert_eq!(only(&["--rule", "keys"]), 0);
    assert_eq!(only(&["--path", "keys"]), 2);
    assert_eq!(only(&["--path", "keys/one", "--rule", "frozen"]), 0);
    let id = scene.run().file_name().expect("a run's name").to_owned();
    assert_eq!(only(&[id.to_str().expect("a run's name is text")]), 3);
}

#[test]
fn the_suggested_lines_allow_it() {
    if !met("why, the lines", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    run(&scene, &[&TRACE[..], &["--policy", "agent.yaml"]].concat());
    let json = why(&scene, &["--json", "--path", "keys/one"]).stdout;
    let record = Record::parse(json.trim_end().as_bytes()).expect("one line in the form of the log");
    let line = record.list("allow").expect("lines that allow it");
    let [line] = line else { panic!("one line: {line:?}") };
    let line = String::from_utf8_lossy(line);
    let widened = POLICY.replacen("      because:", &format!("      {line}\n      because:"), 1);
    fs::write(scene.work().join("agent.yaml"), widened).expect("the policy is written");
    let done = run(&scene, &[&TRACE[..], &["--policy", "agent.yaml"]].concat());
    // The first run deleted what the other rule is about.
    assert!(done.stderr.contains("sandbox: 1 would be blocked"), "{}", done.stderr);
    assert!(!why(&scene, &[]).stdout.contains("keys/one"), "the last run");
}

#[test]
fn quiet_says_nothing_and_nothing_denied_is_nothing_said() {
    if !met("why, quiet", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let quiet = run(&scene, &[&TRACE[..], &["--quiet", "--policy", "agent.yaml"]].concat());
    assert_eq!(quiet.stderr, "");
    let done =
        finish(scene.sandbox(["run", "--layers", "trace", "--policy", "agent.yaml", "--", "true"])).expect(0);
    assert!(!done.stderr.contains("blocked"), "{}", done.stderr);
    assert!(why(&scene, &[]).stdout.ends_with(": nothing was blocked\n"));
    scene.record(["true"]).expect(0);
    let without = why(&scene, &[]);
    assert!(without.stderr.contains("no policy judged the run"), "{}", without.stderr);
}

#[test]
fn names_that_would_act_on_a_terminal_are_shown_escaped() {
    if !met("why, hostile names", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let hostile = "keys/\u{1b}]0;x\u{7}\u{202e}";
    fs::write(scene.work().join(hostile), "").expect("a file with a hostile name");
    let args = ["run", "--layers", "trace", "--policy", "agent.yaml", "--", "cat", hostile];
    let done = finish(scene.sandbox(args)).expect(0);
    for text in [&done.stderr, &why(&scene, &[]).stdout, &why(&scene, &["--json"]).stdout] {
        assert!(text.contains("]0;x"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn the_policy_beside_the_log_is_the_one_that_the_log_names() {
    if !met("why, effective policy", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    run(&scene, &[&TRACE[..], &["--policy", "agent.yaml"]].concat());
    let file = scene.run().join("policy.effective.yaml");
    let text = fs::read_to_string(&file).expect("the policy of the run");
    assert!(!text.contains("${") && text.contains("/keys/**"), "{text}");
    let again = finish(scene.sandbox(["policy", "show", file.to_str().expect("a path")])).expect(0);
    assert_eq!(again.stdout, text, "it is read back as it is");
    // One that somebody put there afterwards is not believed.
    fs::write(&file, text.replace("/keys/**", "/other/**")).expect("the policy is changed");
    let done = why(&scene, &["--json"]);
    assert!(done.stderr.contains("it is not the policy that the log names"), "{}", done.stderr);
    assert!(
        done.stdout.contains("\"allow\": []") && done.stdout.contains("agent/no-keys"),
        "{}",
        done.stdout
    );
}

#[test]
fn several_policies_are_judged_together() {
    if !met("why, several policies", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    let policies = ["--policy", "other.yaml", "--policy", "agent.yaml", "--policy", "agent.yaml"];
    let done = run(&scene, &[&TRACE[..], &policies].concat());
    assert!(done.stderr.contains("     3  agent/no-keys (would be)"), "the first by name: {}", done.stderr);
    let json = why(&scene, &["--json", "--path", "keys/one"]).stdout;
    assert!(
        json.contains("# in rule no-keys of agent") && json.contains("# in rule also of other"),
        "{json}"
    );
    assert!(!why(&scene, &["--json", "--path", "keys/two"]).stdout.contains("of other"), "only who denies");
    let shown = finish(scene.sandbox(["view"])).expect(0).stdout;
    assert!(shown.contains("policy    agent, other ("), "{shown}");
}

#[test]
fn a_policy_that_ships_is_found_by_its_name() {
    let scene = scene();
    let refused = |args: &[&str]| {
        let done = finish(scene.sandbox(["run"].iter().chain(args).chain(&["--", "true"])));
        (done.code(), done.stderr)
    };
    if !met("why, shipped names", &[Need::Trace]) {
        return;
    }
    let (code, _) = refused(&["--layers", "trace", "--policy", "base"]);
    assert_eq!(code, 0);
    let (code, stderr) = refused(&["--policy", "bas"]);
    assert_eq!(code, 125);
    assert!(stderr.contains("no policy bas") && stderr.contains("base@1"), "{stderr}");
    // What lies in the directory does not take the name of one that ships.
    fs::write(scene.work().join("base"), "version: 1\nname: planted\n").expect("a file");
    refused(&["--layers", "trace", "--policy", "base"]);
    assert!(finish(scene.sandbox(["view"])).stdout.contains("policy    base ("));
}

#[test]
fn what_is_asked_for_and_not_there() {
    let scene = scene();
    let done = finish(scene.sandbox(["why", "20200101-000000-x"]));
    assert_eq!(done.code(), 1);
    assert!(done.stderr.contains("no runs yet"), "{}", done.stderr);
    let help = finish(scene.sandbox(["why", "--help"])).expect(0).stdout;
    assert!(help.lines().all(|line| line.chars().count() <= 80) && help.contains("Examples:"), "{help}");
}
