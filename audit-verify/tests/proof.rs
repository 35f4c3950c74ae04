//! `prove` and `check-proof`: one event is shown without its log, and nothing that was changed holds.

#![allow(clippy::unwrap_used, reason = "this is test code, also where clippy does not know it as such")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use audit_verify::canonical::Record;
use audit_verify::proof::Proof;
use support::{Random, sample};
use tempfile::TempDir;

fn audit_verify(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_audit-verify"));
    command.args(args).env("SANDBOX_HOME", directory).current_dir(directory).stdin(Stdio::null());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn head(line: &[u8]) -> String {
    Record::parse(line.strip_suffix(b"\n").unwrap()).unwrap().text("hash_self").unwrap().to_owned()
}

/// A store with one run.
fn store(log: &[u8]) -> (TempDir, PathBuf) {
    let store = tempfile::tempdir().unwrap();
    let run = store.path().join("runs/20260721-101010-test");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("events.jsonl"), log).unwrap();
    (store, run)
}

#[test]
fn an_event_is_shown_without_its_log() {
    let lines = sample(40);
    let (store, _) = store(&lines.concat());
    let head = head(&lines[39]);
    let made = audit_verify(store.path(), &["prove", "last", "17", "-o", "proof.json"]);
    assert_eq!((made.status.code(), stdout(&made), stderr(&made)), (Some(0), String::new(), String::new()));
    let proof = fs::read(store.path().join("proof.json")).unwrap();
    assert_eq!(stdout(&audit_verify(store.path(), &["prove", "last", "17"])).as_bytes(), proof);

    // From here on there is no log.
    fs::remove_dir_all(store.path().join("runs")).unwrap();
    let checked = audit_verify(store.path(), &["check-proof", "proof.json"]);
    let event = std::str::from_utf8(&lines[16]).unwrap();
    let expected = format!(
        "holds: event 17 of a log of 40\n  head      {head}\n  anchored  no: compare the head with one kept elsewhere \
         (--expect-head)\n{event}"
    );
    assert_eq!((checked.status.code(), stdout(&checked)), (Some(0), expected));
    let checked = audit_verify(store.path(), &["check-proof", "proof.json", "--expect-head", &head]);
    assert_eq!(checked.status.code(), Some(0));
    assert!(stdout(&checked).contains("anchored  yes: it leads to the expected head\n"), "{checked:?}");
    let other = "0".repeat(64);
    let checked = audit_verify(store.path(), &["check-proof", "proof.json", "--expect-head", &other]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).starts_with(&format!("does not hold: it leads to the head {head}, and ")));

    let checked = audit_verify(store.path(), &["check-proof", "--json", "proof.json"]);
    let answer = stdout(&checked);
    let record = Record::parse(answer.trim_end().as_bytes()).unwrap();
    assert_eq!((record.text("verdict"), record.uint("seq")), (Some("holds"), Some(17)));
    assert_eq!((record.text("head"), record.flag("anchored")), (Some(&*head), Some(false)));
    assert_eq!(record.text("event"), Some(event.trim_end()));
}

#[test]
fn every_event_of_logs_of_every_length() {
    for length in 2..20 {
        let lines = sample(length);
        let log = lines.concat();
        for seq in 1..length {
            let proof = Proof::make(&log[..], seq).unwrap().unwrap();
            let again = Proof::parse(&proof.to_json()).unwrap();
            assert_eq!(again, proof);
            let shown = again.check().unwrap();
            assert_eq!((shown.seq, shown.events), (seq, length));
            assert_eq!(shown.head.as_str(), head(&lines[length as usize - 1]));
            assert_eq!(again.event, lines[seq as usize - 1].strip_suffix(b"\n").unwrap());
        }
        assert_eq!(Proof::make(&log[..], 0).unwrap(), None);
        assert_eq!(Proof::make(&log[..], length).unwrap(), None, "the seal is no leaf");
        assert_eq!(Proof::make(&log[..], u64::MAX).unwrap(), None);
    }
}

/// Whatever byte of a proof is changed, it never shows another event under the same head.
#[test]
fn no_changed_proof_shows_anything_else() {
    let lines = sample(23);
    let proof = Proof::make(&lines.concat()[..], 9).unwrap().unwrap();
    let shown = proof.check().unwrap();
    let text = proof.to_json();
    let mut random = Random(7);
    for at in 0..text.len() {
        for byte in [text[at] ^ 1, text[at] ^ 0x20, b' ', b'0', b'"', random.next() as u8] {
            let mut changed = text.clone();
            changed[at] = byte;
            let Ok(found) = Proof::parse(&changed) else { continue };
            if let Ok(other) = found.check() {
                assert!(
                    other != shown || found == proof,
                    "byte {at} 0x{byte:02x}: {}",
                    changed.escape_ascii()
                );
                assert_ne!((other.head == shown.head, found == proof), (true, false), "byte {at}");
            }
        }
    }
    // White space and the order of keys are nobody's.
    let loose = String::from_utf8(text).unwrap().replacen(", \"index\"", " ,\n\t\"index\"", 1);
    assert_eq!(Proof::parse(loose.as_bytes()).unwrap(), proof);
}

#[test]
fn parts_of_two_proofs_do_not_fit() {
    let log = sample(23).concat();
    let [one, other] = [9, 10].map(|seq| Proof::make(&log[..], seq).unwrap().unwrap());
    let mixed = Proof { event: other.event.clone(), ..one.clone() };
    assert!(mixed.check().unwrap_err().to_string().contains("seq of the event is 10 where 9 is due"));
    let mixed = Proof { path: other.path.clone(), ..one.clone() };
    assert!(mixed.check().is_err());
    let longer = Proof::make(&sample(24).concat()[..], 9).unwrap().unwrap();
    assert!(Proof { seal: longer.seal, ..one.clone() }.check().is_err());
    let error = Proof { seal: one.event.clone(), ..one.clone() }.check().unwrap_err();
    assert!(error.to_string().contains("no run_end"), "{error}");
}

#[test]
fn a_log_that_does_not_verify_proves_nothing() {
    let lines = sample(9);
    let edited = String::from_utf8(lines.concat()).unwrap().replacen("4242", "4243", 1);
    for (log, code, words) in [
        (edited.into_bytes(), 1, "is tampered, and nothing is proven from it"),
        (lines[..8].concat(), 2, "is incomplete, and nothing is proven from it"),
        (b"garbage\n".to_vec(), 3, "is unchecked"),
    ] {
        let (store, run) = store(&log);
        let made = audit_verify(store.path(), &["prove", run.to_str().unwrap(), "3", "-o", "proof.json"]);
        assert_eq!((made.status.code(), stdout(&made)), (Some(code), String::new()));
        assert!(stderr(&made).contains(words), "{made:?}");
        assert!(!store.path().join("proof.json").exists());
    }
    let (store, _) = store(&lines.concat());
    let made = audit_verify(store.path(), &["prove", "last", "9"]);
    assert_eq!(made.status.code(), Some(3));
    assert!(stderr(&made).contains("has no event 9: it has events 1 to 8"), "{made:?}");
    let made = audit_verify(store.path(), &["prove", "-", "1"]);
    assert!(stderr(&made).contains("standard input cannot be read twice"), "{made:?}");
}

#[test]
fn a_proof_replaces_nothing_that_it_should_not() {
    let log = sample(9).concat();
    let (store, run) = store(&log);
    let prove = |args: &[&str]| audit_verify(store.path(), &[&["prove", "last", "3"], args].concat());
    let names = |at: &Path| {
        let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(prove(&["-o", "proof.json"]).status.code(), Some(0));
    let proof = fs::read(store.path().join("proof.json")).unwrap();
    fs::write(store.path().join("proof.json"), "mine").unwrap();
    let refused = prove(&["-o", "proof.json"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("proof.json: it is there already; --force replaces it"), "{refused:?}");
    assert_eq!(fs::read(store.path().join("proof.json")).unwrap(), b"mine");
    assert_eq!(prove(&["-o", "proof.json", "--force"]).status.code(), Some(0));
    assert_eq!(fs::read(store.path().join("proof.json")).unwrap(), proof);
    assert_eq!(names(store.path()), ["proof.json", "runs"]);

    // The log itself, by any name of its directory.
    let path = run.join("events.jsonl");
    std::os::unix::fs::symlink(&run, store.path().join("alias")).unwrap();
    for place in [path.to_str().unwrap(), "alias/events.jsonl"] {
        let refused = prove(&["--force", "-o", place]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(stderr(&refused).contains("nothing is written into the directory of a run"), "{refused:?}");
    }
    fs::write(run.join("meta.json"), "{}").unwrap();
    let refused = prove(&["-o", "alias/proof.json"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("nothing is written into the directory of a run"), "{refused:?}");
    assert_eq!((fs::read(&path).unwrap(), names(&run).len()), (log, 2));
    let refused = prove(&["--force", "-o", "runs"]);
    assert!(stderr(&refused).contains("it is no regular file"), "{refused:?}");
}

#[test]
fn what_is_no_proof_is_an_error_and_help_is_none() {
    let (store, _) = store(&sample(3).concat());
    for text in ["", "garbage", "{}", "[1]", "{\"v\": 2}", "{\"v\": 1, \"path\": [1]}"] {
        fs::write(store.path().join("p"), text).unwrap();
        let checked = audit_verify(store.path(), &["check-proof", "p"]);
        assert_eq!((checked.status.code(), stdout(&checked)), (Some(3), String::new()), "{text}");
        assert!(stderr(&checked).contains("proof"), "{checked:?}");
        let checked = audit_verify(store.path(), &["check-proof", "--json", "p"]);
        let answer = stdout(&checked);
        let record = Record::parse(answer.trim_end().as_bytes()).unwrap();
        assert_eq!((record.uint("code"), record.text("reason")), (Some(3), Some("not-a-proof")));
    }
    for args in [&["prove", "last"][..], &["prove", "last", "0"], &["check-proof"], &["prove", "last", "x"]] {
        assert_eq!(audit_verify(store.path(), args).status.code(), Some(3), "{args:?}");
    }
    for command in ["prove", "check-proof"] {
        let help = audit_verify(store.path(), &[command, "--help"]);
        assert_eq!((help.status.code(), stderr(&help)), (Some(0), String::new()));
        assert!(stdout(&help).contains("check-proof event-42.json"), "{help:?}");
        assert!(stdout(&help).lines().all(|line| line.len() <= 80), "{}", stdout(&help));
    }
}

/// The programs of docs/verify.md, which share nothing with this crate, agree with it.
#[test]
fn the_programs_in_the_documentation_do_what_it_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verify.md");
    let page = fs::read_to_string(page).unwrap();
    let programs: Vec<&str> =
        page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    // The second is about a signature, which the tests of whole runs make.
    let [verifier, _, checker] = programs[..] else { panic!("{} programs", programs.len()) };
    let directory = tempfile::tempdir().unwrap();
    let run = |program: &str, text: &[u8]| {
        let path = directory.path().join("input");
        fs::write(&path, text).unwrap();
        let output = Command::new("python3").args(["-I", "-c", program]).arg(&path).output();
        let output = output.expect("these tests need python3");
        output.status.success().then(|| stdout(&output).trim_end().to_owned())
    };
    let lines = sample(21);
    let log = lines.concat();
    let head = head(&lines[20]);
    assert_eq!(run(verifier, &log), Some(head.clone()));
    assert_eq!(run(verifier, &lines[..20].concat()), None);
    let edited = String::from_utf8(log.clone()).unwrap().replacen("4242", "4243", 1);
    assert_eq!(run(verifier, edited.as_bytes()), None);
    for seq in [1, 2, 8, 17, 20] {
        let proof = Proof::make(&log[..], seq).unwrap().unwrap();
        assert_eq!(run(checker, &proof.to_json()), Some(head.clone()), "event {seq}");
        let mut other = proof;
        other.path.index ^= 1;
        assert_eq!(run(checker, &other.to_json()), None, "event {seq}");
    }
}
