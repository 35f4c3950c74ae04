//! Bad input: a clear error, the right exit code, and nothing changed.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

/// Refused before anything started.
const CANNOT_START: i32 = 125;
/// The run was ended by its runner.
const ENDED_BY_RUNNER: i32 = 122;
/// `audit-verify`: could not be checked.
const NOT_CHECKED: i32 = 3;
/// `audit-verify`: intact as far as it goes.
const INCOMPLETE: i32 = 2;

/// Runs `sandbox run ARGS… -- touch ran`, and checks that it was refused with this code, that stderr says
/// all of `says`, and that nothing is left behind.
#[track_caller]
fn refused(scene: &Scene, args: &[&str], command: &[&str], code: i32, says: &[&str]) -> Done {
    let before = scene.inventory();
    let all = ["run"].iter().chain(args).chain(&["--"]).chain(command);
    let done = finish(scene.sandbox(all)).expect(code);
    check_refusal(scene, &done, says);
    assert_eq!(scene.inventory(), before, "a refusal changes nothing in the store");
    done
}

#[track_caller]
fn check_refusal(scene: &Scene, done: &Done, says: &[&str]) {
    assert_eq!(done.stdout, "", "errors go to stderr");
    for text in says {
        assert!(done.stderr.contains(text), "expected {text:?} in\n{}", done.stderr);
    }
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert!(!scene.work().join("ran").exists(), "the command did not run");
    assert_eq!(scene.runs(), Vec::<std::path::PathBuf>::new(), "no run was begun");
}

const TOUCH: &[&str] = &["touch", "ran"];

#[test]
fn a_malformed_policy_names_line_and_column() {
    if !met("a malformed policy", &[Need::Trace]) {
        return;
    }
    let cases: &[(&str, &str, &[&str])] = &[
        ("syntax", "version: 1\nname: [a\nfiles: {}\n", &["syntax.yaml:"]),
        ("key", "version: 1\nname: a\nfiless:\n  default: allow\n", &["key.yaml:3:1", "filess", "files"]),
        ("value", "version: 1\nname: a\nfiles:\n  default: alow\n", &["value.yaml:4:12", "alow"]),
        ("version", "version: 99\nname: a\n", &["version.yaml:1:10", "99"]),
        ("empty", "", &["empty.yaml"]),
        ("binary", "\0\x01\x02", &["binary.yaml"]),
    ];
    for (name, text, says) in cases {
        let scene = Scene::new();
        let file = format!("{name}.yaml");
        std::fs::write(scene.work().join(&file), text).expect("write the policy");
        for option in ["--policy", "--enforce"] {
            refused(&scene, &[option, &file], TOUCH, CANNOT_START, says);
        }
    }
}

#[test]
fn a_policy_that_fails_its_own_examples_is_not_enforced() {
    if !met("a policy that fails its own examples", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let text = "version: 1\nname: a\nfiles: { default: allow }\nexamples:\n  \
        - { open: /etc/shadow, access: read, verdict: deny }\n";
    std::fs::write(scene.work().join("a.yaml"), text).expect("write the policy");
    let says = ["a.yaml:5:5: the policy says allow by `a/files.default`", "`sandbox policy test a.yaml`"];
    refused(&scene, &["--enforce", "a.yaml"], TOUCH, CANNOT_START, &says);
}

#[test]
fn an_unreadable_policy_is_named() {
    if !met("an unreadable policy", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    refused(&scene, &["--policy", "no.yaml"], TOUCH, CANNOT_START, &["no.yaml", "No such file"]);
    refused(&scene, &["--enforce", "no.yaml"], TOUCH, CANNOT_START, &["no.yaml", "No such file"]);
    std::fs::create_dir(scene.work().join("dir.yaml")).expect("mkdir");
    refused(&scene, &["--policy", "dir.yaml"], TOUCH, CANNOT_START, &["dir.yaml", "directory"]);
}

#[test]
fn an_unknown_layer_is_named_with_those_there_are() {
    let scene = Scene::new();
    refused(&scene, &["--layers", "lms"], TOUCH, CANNOT_START, &["lms", "lsm", "trace"]);
    refused(&scene, &["--require", "tarce"], TOUCH, CANNOT_START, &["tarce", "lsm", "trace"]);
    refused(&scene, &["--layers", ""], TOUCH, CANNOT_START, &["layer"]);
}

#[test]
fn wrong_usage_is_an_error_of_the_runner() {
    let scene = Scene::new();
    refused(&scene, &["--no-such-option"], TOUCH, CANNOT_START, &["--no-such-option", "Usage"]);
    refused(&scene, &[], &[], CANNOT_START, &["CMD"]);
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    if !met("a missing command", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    for command in ["no-such-command", "./no-such-command", "/no/such/command"] {
        refused(&scene, &[], &[command], 127, &[command, "not found"]);
    }
    std::fs::write(scene.work().join("plain"), "text").expect("write");
    for command in ["./plain", "/"] {
        refused(&scene, &[], &[command], 126, &[command]);
    }
}

#[test]
fn without_privilege_it_prints_the_sudo_line() {
    if !met("no privilege", &[Need::Root, Need::Program("setpriv")]) {
        return;
    }
    let scene = Scene::new();
    // Where the account of nobody finds it, whatever the permissions above the build.
    let program = scene.path("sandbox");
    std::fs::copy(binary("sandbox"), &program).expect("copy");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::set_permissions(scene.work(), PermissionsExt::from_mode(0o777)).expect("chmod");
    let mut args: Vec<OsString> =
        ["--reuid=65534", "--regid=65534", "--clear-groups"].map(OsString::from).to_vec();
    args.push(program.clone().into());
    args.extend(["run", "--audit-only", "--", "touch", "it ran", "a'b"].map(OsString::from));
    let mut command = scene.command("setpriv", args);
    command.env("SANDBOX_HOME", scene.work().join("store"));
    let done = finish(command).expect(0);
    assert!(scene.work().join("it ran").exists(), "it is recorded all the same");
    let line = done.stderr.lines().find(|line| line.contains("sudo ")).expect("a sudo line");
    let line = &line[line.find("sudo ").expect("just found")..];
    // The exact line: a shell must take it apart into the same words, with or without options in between.
    let words = finish(scene.command("sh", ["-c", &format!("printf '%s\\n' {line}")]));
    let words: Vec<&str> = words.stdout.lines().collect();
    assert_eq!(words[0], "sudo", "{line}");
    assert!(words.ends_with(&["run", "--audit-only", "--", "touch", "it ran", "a'b"]), "{words:?}");
    assert!(
        words.iter().any(|word| Path::new(word).is_absolute() && word.ends_with("/sandbox")),
        "{words:?}"
    );
}

#[test]
fn without_privilege_the_doctor_says_nothing_about_the_machine() {
    if !met("the doctor without privilege", &[Need::Root, Need::Program("setpriv")]) {
        return;
    }
    let scene = Scene::new();
    let program = scene.path("sandbox");
    std::fs::copy(binary("sandbox"), &program).expect("copy");
    let mut args: Vec<OsString> =
        ["--reuid=65534", "--regid=65534", "--clear-groups"].map(OsString::from).to_vec();
    args.push(program.clone().into());
    args.push("doctor".into());
    let done = finish(scene.command("setpriv", args)).expect(1);
    let ask = format!("Ask as root: sudo {} doctor\n", program.display());
    assert!(done.stdout.ends_with(&ask), "{}", done.stdout);
    for untrue in ["missing", "cannot be"] {
        assert!(!done.stdout.contains(untrue), "{}", done.stdout);
    }
}

#[test]
fn values_that_mean_nothing_are_refused_with_what_is_wanted() {
    let scene = Scene::new();
    for (args, says) in [
        (&["query", "--pid", "x"][..], "a whole number is wanted"),
        (&["query", "--limit=-1"], "a whole number is wanted"),
        (&["view", "--limit", "x"], "a whole number is wanted"),
        (&["gc", "--keep", "x"], "a whole number is wanted"),
        (&["query", "--type", "foo"], "Groups are file, net, proc and dns"),
        (&["query", "--action", "foo"], "WOULD_BLOCK"),
        (&["query", "--contains", ""], "--contains: is empty"),
        (&["query", "--path", ""], "a value is required for '--path <PATH>'"),
    ] {
        let done = finish(scene.sandbox(args)).expect(2);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
        assert!(!done.stderr.contains("invalid digit"), "{args:?}: {}", done.stderr);
        assert!(done.stderr.lines().all(|line| line.len() <= 120), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn directories_that_are_not_there_are_refused_by_the_name_of_their_option() {
    if !met("missing directories", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    refused(&scene, &["--run-dir", "a/b/c"], TOUCH, CANNOT_START, &["--run-dir", "a/b", "mkdir -p"]);
    refused(&scene, &["--workspace", "/nonexistent"], TOUCH, CANNOT_START, &["--workspace", "/nonexistent"]);
    refused(&scene, &["--workspace", "/dev/null"], TOUCH, CANNOT_START, &["/dev/null", "ot a directory"]);
}

#[test]
fn a_store_by_a_relative_path_is_refused_by_all_who_would_use_it() {
    if !met("a store by a relative path", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    for args in [
        &["run", "--", "true"][..],
        &["recover"],
        &["runs"],
        &["view"],
        &["query"],
        &["export", "--format", "csv"],
        &["reindex"],
    ] {
        let mut command = scene.sandbox(args);
        command.env("SANDBOX_HOME", "store");
        let done = finish(command);
        assert_ne!(done.code(), 0, "{args:?}");
        assert!(done.stderr.contains("SANDBOX_HOME must be an absolute path"), "{args:?}: {}", done.stderr);
    }
    assert!(!scene.work().join("store").exists(), "nothing is made");
}

/// A store on a file system of so many KiB, in a mount namespace of its own.
fn on_a_small_disk(scene: &Scene, kib: u32, options: &[&str], command: &[&str]) -> Done {
    let store = scene.store();
    let (store, sandbox) = (store.to_str().expect("UTF-8"), binary("sandbox"));
    let script = format!(
        "mkdir {store} && mount -t tmpfs -o size={kib}k,mode=700 none {store} && \
         {{ \"$@\"; code=$?; ls -R {store} >listing; exit $code; }}"
    );
    let mut args: Vec<OsString> =
        ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"].map(OsString::from).to_vec();
    args.push(sandbox.into());
    let words = [&["run", "--audit-only"], options, &["--"], command].concat();
    args.extend(words.into_iter().map(OsString::from));
    finish(scene.command("unshare", args))
}

#[test]
fn a_full_disk_is_said_and_leaves_no_half_made_run() {
    if !met("a full disk", &[Need::Trace, Need::Program("unshare")]) {
        return;
    }
    let scene = Scene::new();
    let done = on_a_small_disk(&scene, 4, &[], TOUCH).expect(CANNOT_START);
    check_refusal(&scene, &done, &["No space left", "SANDBOX_HOME"]);
    let listing = std::fs::read_to_string(scene.work().join("listing")).expect("the listing");
    assert!(!listing.contains("events.jsonl"), "no half-made run:\n{listing}");
}

#[test]
fn a_disk_that_fills_is_said_and_the_command_goes_on() {
    if !met("a disk that fills", &[Need::Trace, Need::Program("unshare")]) {
        return;
    }
    let scene = Scene::new();
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; touch went-on; exit 5";
    let done = on_a_small_disk(&scene, 256, &[], &["sh", "-c", script]);
    assert!(scene.work().join("went-on").exists(), "an audit-only run goes on\n{}", done.stderr);
    assert_eq!(done.code(), 5, "{}", done.stderr);
    assert!(done.stderr.contains("No space left"), "{}", done.stderr);
}

#[test]
fn a_disk_that_fills_ends_an_audit_only_run_where_that_was_said() {
    if !met("a disk that fills, and stop", &[Need::Trace, Need::Program("unshare")]) {
        return;
    }
    let scene = Scene::new();
    // The loop has no end of its own, and what is in the background outlives it.
    let script = "sleep 1000 & echo $! >background; while :; do /bin/true; done";
    let done = on_a_small_disk(&scene, 256, &["--on-log-error", "stop"], &["sh", "-c", script]);
    assert_eq!(done.code(), ENDED_BY_RUNNER, "{}", done.stderr);
    for text in ["the run was ended: ", "No space left", "the record is incomplete"] {
        assert!(done.stderr.contains(text), "{text}: {}", done.stderr);
    }
    let pid = std::fs::read_to_string(scene.work().join("background")).expect("its pid");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    assert!(matches!(state, None | Some("Z" | "X")), "what is in the background ends too: {stat}");
}

#[test]
fn a_log_of_garbage_cannot_be_checked() {
    let scene = Scene::new();
    let garbage: &[(&str, &[u8])] = &[
        ("text", b"this is not a log\n"),
        ("bytes", b"\0\xff\xfe\x80garbage\n\n\n"),
        ("json", b"[1, 2]\n"),
        ("object", b"{}\n"),
    ];
    for (name, bytes) in garbage {
        let file = scene.work().join(name);
        std::fs::write(&file, bytes).expect("write");
        let done = finish(scene.audit_verify([&file]));
        assert!([1, NOT_CHECKED].contains(&done.code()), "{name}: {done:?}");
        let said = done.stdout + &done.stderr;
        assert!(said.contains(name) && said.contains("not a log"), "{name}: {said}");
        assert_eq!(std::fs::read(&file).expect("read"), *bytes, "it is left as it is");
    }
    finish(scene.audit_verify(["no-such-log"])).expect(NOT_CHECKED);
    finish(scene.audit_verify(["--no-such-option"])).expect(NOT_CHECKED);
}

#[test]
fn an_empty_log_is_incomplete() {
    let scene = Scene::new();
    std::fs::write(scene.work().join("empty.jsonl"), "").expect("write");
    let done = finish(scene.audit_verify(["empty.jsonl"])).expect(INCOMPLETE);
    assert!((done.stdout + &done.stderr).contains("empty"));
}
