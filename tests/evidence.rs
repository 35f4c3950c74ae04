//! What a record proves, and what it must not give away: secrets in command lines, hashes of what was executed, contents
//! of files before and after.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use audit_verify::canonical::Record;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

fn of_type<'l>(log: &'l Log, event_type: &str) -> Vec<Record<'l>> {
    log.records().map(|(_, record)| record).filter(|r| r.text("event_type") == Some(event_type)).collect()
}

/// SHA-256 by a program that shares nothing with this project.
fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    let text = String::from_utf8(output.stdout).expect("digits");
    text.split(' ').next().expect("a hash").to_owned()
}

fn copy(from: &str, to: &Path) {
    std::fs::copy(from, to).expect("copy");
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).expect("its permissions");
}

/// The hash of what an exec executed: beside it, or in the event that follows.
#[track_caller]
fn hash_of(log: &Log, exec: &Record<'_>) -> Result<String, String> {
    if let Some(hash) = exec.text("exe_sha256") {
        assert_eq!(exec.text("exe_sha256_missing"), None);
        return Ok(hash.to_owned());
    }
    let missing = exec.text("exe_sha256_missing").expect("a hash, or why there is none").to_owned();
    if missing != "follows" {
        return Err(missing);
    }
    let kseq = exec.uint("kseq");
    let mut told = of_type(log, "file_hash");
    told.retain(|event| event.uint("exec_kseq") == kseq && event.text("proc_id") == exec.text("proc_id"));
    assert_eq!(told.len(), 1, "what follows comes once");
    assert_eq!((told[0].uint("ino"), told[0].uint("dev")), (exec.uint("exe_ino"), exec.uint("exe_dev")));
    assert_eq!(told[0].text("path"), exec.text("exe"));
    told[0]
        .text("sha256")
        .map(str::to_owned)
        .ok_or_else(|| told[0].text("sha256_missing").expect("why").to_owned())
}

#[test]
fn a_secret_in_a_command_line_stands_nowhere_in_the_record() {
    if !met("secrets in command lines", &[Need::Trace, Need::Program("grep"), Need::Program("env")]) {
        return;
    }
    let scene = Scene::new();
    let secrets = ["hunter2hunter2", "tok5N0bodyKnows", "cookie7Value", "zq9Xw8Vu7Ts6Rq5Po4"];
    let [password, token, cookie, key] = secrets;
    let inner =
        format!("true --password {password} && /bin/true -H 'Authorization: Bearer {token}' --user ann");
    let script = format!(
        "env GITHUB_TOKEN={token} true --api-key={key}; \
         env true https://ann:{password}@example.org/ -H 'Cookie: sid={cookie}'; sh -c \"{inner}\""
    );
    scene.record(["sh", "-c", &script]).expect(0);
    let run = scene.run();
    let log = Log::of_run(&run);
    for secret in secrets {
        let found = finish(scene.command("grep", ["-rlaF", secret, scene.store().to_str().expect("UTF-8")]));
        assert_eq!((found.code(), found.stdout.as_str()), (1, ""), "{secret} stands in the record");
    }
    let redacted: Vec<String> = of_type(&log, "exec")
        .iter()
        .filter(|exec| exec.flag("argv_redacted") == Some(true))
        .map(|exec| String::from_utf8_lossy(&exec.list("argv").expect("arguments").join(&b' ')).into_owned())
        .collect();
    for line in [
        "env GITHUB_TOKEN=[redacted] true --api-key=[redacted]",
        "true --api-key=[redacted]",
        "env true https://ann:[redacted]@example.org/ -H Cookie: [redacted]",
        "/bin/true -H Authorization: Bearer [redacted] --user ann",
    ] {
        assert!(redacted.iter().any(|argv| argv == line), "{line}: {redacted:#?}");
    }
    let start = of_type(&log, "run_start").remove(0);
    assert_eq!(start.flag("command_redacted"), Some(true));
    assert!(start.list("command").expect("the command")[2].starts_with(b"env GITHUB_TOKEN=[redacted] true"));
    for shown in [["view", "last"].as_slice(), &["view", "--json"], &["runs", "--json"]] {
        let shown = finish(scene.sandbox(shown)).expect(0).stdout;
        assert!(shown.contains("[redacted]"), "{shown}");
    }
    finish(scene.audit_verify([&run])).expect(0);
}

#[test]
fn an_honest_command_line_is_left_as_it_is() {
    if !met("honest command lines", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    scene.record(["true", "--token-file", "/run/t", "-p", "8080", "--password-stdin"]).expect(0);
    let log = Log::of_run(&scene.run());
    let exec = of_type(&log, "exec").remove(0);
    let argv = [&b"true"[..], b"--token-file", b"/run/t", b"-p", b"8080", b"--password-stdin"];
    assert_eq!(exec.list("argv").expect("arguments"), argv);
    assert_eq!(exec.flag("argv_redacted"), None);
    assert_eq!(of_type(&log, "run_start")[0].flag("command_redacted"), None);
}

#[test]
fn what_was_executed_is_known_by_its_hash() {
    if !met("hashes of executables", &[Need::Trace, Need::Program("sha256sum"), Need::Program("grep")]) {
        return;
    }
    let scene = Scene::new();
    let at = |name: &str| scene.work().join(name);
    copy("/bin/true", &at("first"));
    let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
    copy(shell.to_str().expect("UTF-8"), &at("deleted"));
    // Too large to be hashed in passing.
    copy("/bin/sleep", &at("large"));
    std::fs::File::options()
        .write(true)
        .open(at("large"))
        .and_then(|file| file.set_len(32 << 20))
        .expect("grow");
    std::fs::write(at("script"), "#!/bin/sh\nexit 0\n").expect("script");
    std::fs::set_permissions(at("script"), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let hashes = ["first", "deleted", "large"].map(|name| sha256sum(&at(name)));
    // One name, two files: the second takes the name of the first when that has ended.
    // Until the record has the hash of $1, nothing happens to the file.
    let told = format!(
        "told() {{ until grep -qs -e '\"event_type\": \"exec\".*\"exe_sha256\": .*\"path\": \"{work}/'$1'\"' \
         -e '\"event_type\": \"file_hash\".*\"path\": \"{work}/'$1'\".*\"sha256\": ' {store}/runs/*/events.jsonl; \
         do :; done; }}",
        work = scene.work().display(),
        store = scene.store().display()
    );
    std::fs::write(at("functions"), told).expect("functions");
    let script = ". ./functions; ./first; ./script; ./deleted -c '. ./functions; rm deleted; told deleted'; \
                  cp /bin/false next; told first; mv next first; ./first; ./large 0; exit 0";
    scene.record(["sh", "-c", script]).expect(0);
    let log = Log::of_run(&scene.run());
    let execs = of_type(&log, "exec");
    let of = |name: &str| {
        let path = at(name);
        let found =
            execs.iter().filter(|exec| exec.text("path") == path.to_str() && exec.int("ret") == Some(0));
        found.map(|exec| hash_of(&log, exec)).collect::<Vec<_>>()
    };
    assert_eq!(of("deleted"), [Ok(hashes[1].clone())], "by the process that still runs it");
    assert_eq!(of("large"), [Ok(hashes[2].clone())]);
    assert_eq!(of("script"), [Ok(sha256sum(&shell))]);
    let first = of("first");
    assert_eq!(first.len(), 2);
    assert_eq!(first[1], Ok(sha256sum(&at("first"))), "the second file of this name");
    assert_eq!(first[0], Ok(hashes[0].clone()), "the first file of this name");
    for exec in execs.iter().filter(|exec| exec.int("ret") == Some(0)) {
        let _ = hash_of(&log, exec);
    }
}

#[test]
fn what_the_run_changed_is_known_before_and_after() {
    if !met("contents before and after", &[Need::Trace, Need::Program("sha256sum"), Need::Program("mkfifo")])
    {
        return;
    }
    let scene = Scene::new();
    let at = |name: &str| scene.work().join(name);
    for (name, text) in
        [("edited", "old"), ("deleted", "gone"), ("moved", "moved"), ("read", "read"), ("same", "same")]
    {
        std::fs::write(at(name), text).expect("a file");
    }
    std::fs::write(at("large"), vec![b'x'; 5000]).expect("a file");
    let before = ["edited", "deleted", "moved", "same"].map(|name| sha256sum(&at(name)));
    let script = "echo new > edited; rm deleted; mv moved target; cat read; echo made > made; echo y >> large; \
                  : >> same; mkfifo fifo; ln -s edited link; echo out > ../outside; exit 0";
    let args = ["run", "--hash-max-bytes", "4K", "--", "sh", "-c", script];
    let done = finish(scene.sandbox(args)).expect(0);
    assert!(done.stderr.contains("6 files below"), "says what it looked at:\n{}", done.stderr);
    let run = scene.run();
    let log = Log::of_run(&run);
    let changes = of_type(&log, "file_change");
    type Side = (Option<u64>, Option<String>, Option<String>);
    let told = |path: &Path| -> (Side, Side) {
        let found: Vec<_> = changes.iter().filter(|change| change.text("path") == path.to_str()).collect();
        assert_eq!(found.len(), 1, "{}", path.display());
        let text = |key: &str| found[0].text(key).map(str::to_owned);
        (
            (found[0].uint("size_before"), text("sha256_before"), text("before_missing")),
            (found[0].uint("size_after"), text("sha256_after"), text("after_missing")),
        )
    };
    let known = |size: u64, hash: &str| (Some(size), Some(hash.to_owned()), None);
    let now =
        |name: &str| known(std::fs::metadata(at(name)).expect("it is there").len(), &sha256sum(&at(name)));
    let missing = |why: &str| (None, None, Some(why.to_owned()));
    assert_eq!(told(&at("edited")), (known(3, &before[0]), now("edited")));
    assert_eq!(told(&at("deleted")), (known(4, &before[1]), missing("gone")));
    assert_eq!(told(&at("moved")), (known(5, &before[2]), missing("gone")));
    assert_eq!(told(&at("target")), (missing("did not exist"), now("target")));
    assert_eq!(now("target").1.as_deref(), Some(before[2].as_str()));
    assert_eq!(told(&at("made")), (missing("did not exist"), now("made")));
    assert_eq!(told(&at("same")), (known(4, &before[3]), known(4, &before[3])));
    let large = |size| (Some(size), None, Some("too large".to_owned()));
    assert_eq!(told(&at("large")), (large(5000), large(5002)));
    assert_eq!(told(&at("fifo")), (missing("did not exist"), missing("not a regular file")));
    let outside = scene.path("outside");
    assert_eq!(told(&outside), (missing("not below the workspace"), known(4, &sha256sum(&outside))));
    let names = ["read", "link"].map(at);
    assert!(!changes.iter().any(|change| names.iter().any(|name| change.text("path") == name.to_str())));
    assert_eq!(log.seal().uint("lost"), Some(0));
    finish(scene.audit_verify([&run])).expect(0);
}

#[test]
fn contents_that_cannot_be_known_refuse_to_start() {
    if !met("contents of no workspace", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    for (args, says) in [
        (&["--hash-max-bytes", "many"][..], "--hash-max-bytes"),
        (&["--hash-max-bytes", "1M", "--workspace", "none"], "--workspace: cannot use none"),
    ] {
        let args = [&["run"], args, &["--", "touch", "ran"]].concat();
        let done = finish(scene.sandbox(args)).expect(125);
        assert!(done.stderr.contains(says), "{}", done.stderr);
        assert!(!scene.work().join("ran").exists() && scene.runs().is_empty(), "nothing was done");
    }
}
