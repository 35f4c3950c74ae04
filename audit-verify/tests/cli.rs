//! The binary: targets, verdicts, exit codes, and what people and programs read.

#![allow(clippy::unwrap_used, reason = "this is test code, also where clippy does not know it as such")]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use audit_verify::canonical::Record;
use support::sample;
use tempfile::TempDir;

/// A store of its own, and the binary told to use it.
struct Bench {
    directory: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> &Path {
        self.directory.path()
    }

    fn run(&self, id: &str, log: &[u8]) -> PathBuf {
        let directory = self.store().join("runs").join(id);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("events.jsonl"), log).unwrap();
        directory
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_audit-verify"));
        command.args(args).env("SANDBOX_HOME", self.store()).current_dir(self.store()).stdin(Stdio::null());
        command
    }

    fn ask(&self, args: &[&str]) -> Answer {
        self.command(args).output().unwrap().into()
    }
}

#[derive(Debug)]
struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        Answer {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `hash_self` of a line.
fn hash(line: &[u8]) -> String {
    Record::parse(line.strip_suffix(b"\n").unwrap()).unwrap().text("hash_self").unwrap().to_owned()
}

fn edited(lines: u64) -> Vec<u8> {
    let text = String::from_utf8(sample(lines).concat()).unwrap();
    text.replacen("\"pid\": 4242", "\"pid\": 4243", 1).into_bytes()
}

#[test]
fn each_verdict_has_its_code_and_its_words() {
    let bench = Bench::new();
    let lines = sample(6);
    let head = hash(&lines[5]);
    let name = "20260721-101010-test";
    let run = bench.run(name, &lines.concat());

    let answer = bench.ask(&["last"]);
    let words = format!(
        "intact: {name}\n  events    6, none lost\n  head      {head}\n  anchored  no: compare the head with one kept \
         elsewhere (--expect-head)\n  signed    no\n"
    );
    assert_eq!((answer.code, &*answer.stdout, &*answer.stderr), (0, &*words, ""));

    let answer = bench.ask(&["check", "--expect-head", &head, name]);
    assert_eq!(answer.code, 0);
    assert!(answer.stdout.contains("anchored  yes"), "{answer:?}");

    let answer = bench.ask(&["--expect-head", &hash(&lines[4]), name]);
    assert_eq!(answer.code, 1);
    assert!(
        answer.stdout.contains("the expected head is that of line 5, and the log goes on behind it"),
        "{answer:?}"
    );

    // The head of another log is no fault of the format.
    let answer = bench.ask(&["--expect-head", &"0".repeat(64), name]);
    assert_eq!(answer.code, 1);
    assert!(answer.stdout.contains("chain     holds by itself: it is another log"), "{answer:?}");

    let answer = bench.ask(&["--chain-only", run.join("events.jsonl").to_str().unwrap()]);
    assert_eq!(answer.code, 0);
    assert!(answer.stdout.starts_with("chain-holds: "), "{answer:?}");

    fs::write(run.join("events.jsonl"), edited(6)).unwrap();
    let answer = bench.ask(&[name]);
    assert_eq!(answer.code, 1);
    let words =
        format!("tampered: {name}\n  line      1\n  why       hash_self is not the hash of the line\n");
    assert!(answer.stdout.starts_with(&words), "{answer:?}");

    fs::write(run.join("events.jsonl"), &lines.concat()[..1500]).unwrap();
    let answer = bench.ask(&[run.to_str().unwrap()]);
    assert_eq!(answer.code, 2);
    assert!(answer.stdout.contains(" is torn, it has no newline: the run crashed"), "{answer:?}");

    fs::write(run.join("events.jsonl"), "").unwrap();
    let answer = bench.ask(&[run.to_str().unwrap()]);
    assert_eq!(answer.code, 2);
    assert!(answer.stdout.contains("why       the file is empty\n"), "{answer:?}");

    fs::write(run.join("events.jsonl"), "garbage\nmore garbage\n").unwrap();
    let answer = bench.ask(&["last"]);
    assert_eq!(answer.code, 3);
    assert!(answer.stdout.contains("not a log: no line is a JSON object with a hash_self"), "{answer:?}");
}

#[test]
fn standard_input() {
    let bench = Bench::new();
    let mut child = bench.command(&["-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&sample(3).concat()).unwrap();
    let answer: Answer = child.wait_with_output().unwrap().into();
    assert_eq!(answer.code, 0);
    assert!(answer.stdout.starts_with("intact: standard input\n"), "{answer:?}");
    assert_eq!(bench.ask(&["-"]).code, 2);
}

#[test]
fn last_is_the_latest_run_and_never_an_earlier_one() {
    let bench = Bench::new();
    bench.run("20260721-101010-zsh", &sample(3).concat());
    let late = bench.run("20260721-101011-bash", &sample(4).concat());
    assert!(bench.ask(&["last"]).stdout.starts_with("intact: 20260721-101011-bash\n"));
    fs::remove_file(late.join("events.jsonl")).unwrap();
    let answer = bench.ask(&["last"]);
    assert_eq!((answer.code, &*answer.stdout), (3, ""));
    assert!(answer.stderr.starts_with("audit-verify: failed to read "), "{answer:?}");
    assert!(
        answer.stderr.contains("20260721-101011-bash/events.jsonl: No such file or directory"),
        "{answer:?}"
    );
}

#[test]
fn a_store_is_each_of_its_runs_and_the_worst_code() {
    let bench = Bench::new();
    bench.run("20260721-101010-a", &sample(3).concat());
    bench.run("20260721-101011-b", &sample(4).concat());
    // Which runs there were only a ledger says.
    assert_eq!(bench.ask(&["."]).code, 2);
    bench.run("20260721-101012-c", &sample(4)[..2].concat());
    assert_eq!(bench.ask(&["."]).code, 2);
    bench.run("20260721-101013-d", b"garbage");
    let nothing = bench.run("20260721-101014-e", b"");
    fs::remove_file(nothing.join("events.jsonl")).unwrap();
    // A pipe in the place of a log would be read for ever.
    make_pipe(&nothing.join("events.jsonl"));
    assert_eq!(bench.ask(&["."]).code, 3);
    bench.run("20260721-101015-f", &edited(4));

    let answer = bench.ask(&[bench.store().to_str().unwrap()]);
    assert_eq!(answer.code, 1);
    let expected = "\
intact              3 events  20260721-101010-a
intact              4 events  20260721-101011-b
incomplete          2 events  20260721-101012-c
            no seal (run_end): the run goes on, crashed, or the log was cut
unchecked                     20260721-101013-d
            not a log: no line is a JSON object with a hash_self
unchecked                     20260721-101014-e
tampered                      20260721-101015-f
            line 1: hash_self is not the hash of the line
incomplete                    ledger.jsonl
            the store has runs, and no ledger that says which
7 logs: 2 good, 1 tampered, 2 incomplete, 2 unchecked
";
    assert_eq!(answer.stdout, expected);
    assert!(answer.stderr.contains("20260721-101014-e/events.jsonl: not a regular file"), "{answer:?}");
    assert!(expected.lines().all(|line| line.len() <= 80));

    // Two targets are one question too; a head belongs to one log.
    let two = ["20260721-101010-a", "20260721-101012-c"];
    assert_eq!(bench.ask(&two).code, 2);
    let answer = bench.ask(&["--expect-head", &"0".repeat(64), two[0], two[1]]);
    assert_eq!((answer.code, &*answer.stdout), (3, ""));
}

/// By mkfifo(1), because the crate has no business with system calls.
fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A ledger of these runs, which only began.
fn ledger(runs: &[&str]) -> Vec<u8> {
    let mut chain = audit_verify::chain::ChainWriter::default();
    let lines = runs.iter().map(|run| {
        let first = audit_verify::Hash::of(&[run.as_bytes()]);
        let entry = audit_verify::ledger::Entry::Begin { run_id: (*run).to_owned(), first };
        audit_verify::ledger::line(&mut chain, &entry, "2026-11-26T14:00:00.000000000Z", None).unwrap()
    });
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn a_store_whose_runs_were_removed_altogether_is_tampered_with() {
    let bench = Bench::new();
    let store = bench.store().to_str().unwrap();
    let path = bench.store().join("ledger.jsonl");
    fs::write(&path, ledger(&["20260721-101010-a", "20260721-101011-b"])).unwrap();
    let without = bench.ask(&[store]);
    assert_eq!((without.code, &*without.stderr), (1, ""), "{without:?}");
    for run in ["20260721-101010-a", "20260721-101011-b"] {
        assert!(without.stdout.contains(&format!("tampered                      {run}\n")), "{without:?}");
    }
    fs::create_dir(bench.store().join("runs")).unwrap();
    assert_eq!(bench.ask(&[store]).stdout, without.stdout);
    let answer = bench.ask(&["--chain-only", store]);
    assert_eq!((answer.code, &*answer.stdout), (3, ""), "{answer:?}");

    // What is wrong with the ledger is said once, and of a run alone with it.
    bench.run("20260721-101010-a", &sample(3).concat());
    bench.run("20260721-101011-b", &sample(3).concat());
    fs::write(&path, [&ledger(&["20260721-101010-a"])[..], &ledger(&["20260721-101011-b"])].concat())
        .unwrap();
    let fault = "ledger line 2: hash_prev is not the hash of the line before it";
    let answer = bench.ask(&[store]);
    assert_eq!((answer.code, answer.stdout.matches(fault).count()), (1, 1), "{answer:?}");
    assert_eq!(answer.stdout.matches("see the ledger below").count(), 2, "{answer:?}");
    let answer = bench.ask(&["20260721-101010-a"]);
    assert!(answer.code == 1 && answer.stdout.contains(fault), "{answer:?}");

    // The file itself is no log.
    fs::write(&path, ledger(&["20260721-101010-a"])).unwrap();
    let answer = bench.ask(&[path.to_str().unwrap()]);
    assert_eq!((answer.code, &*answer.stdout), (3, ""), "{answer:?}");
    assert!(answer.stderr.contains(&format!("give the store's directory ({store})")), "{answer:?}");
    let answer = bench.ask(&["--json", "ledger.jsonl"]);
    assert!(answer.stdout.contains("\"reason\": \"ledger-file\""), "{answer:?}");
    assert_eq!(bench.ask(&["--chain-only", "ledger.jsonl"]).code, 0);
}

#[test]
fn what_is_not_there_is_an_error_that_helps() {
    let bench = Bench::new();
    let answer = bench.ask(&["last"]);
    assert_eq!((answer.code, &*answer.stdout), (3, ""));
    assert!(answer.stderr.contains("no runs in "), "{answer:?}");

    for id in ["20260721-101010-bash", "20260721-101011-make", "20260722-000000-bash"] {
        bench.run(id, &sample(3).concat());
    }
    let answer = bench.ask(&["20260721-101011-mak"]);
    assert_eq!((answer.code, &*answer.stdout), (3, ""));
    let runs = bench.store().join("runs");
    let expected = format!(
        "audit-verify: no such run, file or directory: 20260721-101011-mak; the nearest runs in {} are\n  \
         20260721-101011-make\n  20260721-101010-bash\n  20260722-000000-bash\n",
        runs.display()
    );
    assert_eq!(answer.stderr, expected);

    let answer = bench.ask(&["/nonexistent/events.jsonl"]);
    let expected =
        "audit-verify: failed to read /nonexistent/events.jsonl: No such file or directory (os error 2)\n";
    assert_eq!((answer.code, &*answer.stderr), (3, expected));

    fs::create_dir(bench.store().join("empty")).unwrap();
    let answer = bench.ask(&["empty"]);
    assert_eq!(answer.code, 3);
    let expected =
        "audit-verify: no events.jsonl and no runs in empty: neither a run's directory nor a store\n";
    assert_eq!(answer.stderr, expected);
}

#[test]
fn usage_errors_are_code_3_and_help_is_not_one() {
    let bench = Bench::new();
    for args in [
        &[][..],
        &["check"],
        &["--nonsense", "x"],
        &["--expect-head", "12", "x"],
        &["--chain-only", "--strict", "x"],
    ] {
        let answer = bench.ask(args);
        assert_eq!((answer.code, &*answer.stdout), (3, ""), "{args:?}");
        assert!(answer.stderr.contains("error: "), "{answer:?}");
    }
    let answer = bench.ask(&["--help"]);
    assert_eq!((answer.code, &*answer.stderr), (0, ""));
    assert!(answer.stdout.contains("audit-verify --expect-head"), "{answer:?}");
    assert!(answer.stdout.lines().all(|line| line.len() <= 80), "{}", answer.stdout);
    assert_eq!(bench.ask(&["--version"]).code, 0);
}

#[test]
fn a_record_that_may_not_be_read() {
    let bench = Bench::new();
    let run = bench.run("20260721-101010-bash", &sample(3).concat());
    fs::set_permissions(run.join("events.jsonl"), fs::Permissions::from_mode(0o000)).unwrap();
    // Without capabilities root may not read it either.
    let root = fs::File::open(run.join("events.jsonl")).is_ok();
    let answer = if root {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_audit-verify"), "last"]);
        command.env("SANDBOX_HOME", bench.store()).output().unwrap().into()
    } else {
        bench.ask(&["last"])
    };
    assert_eq!((answer.code, &*answer.stdout), (3, ""));
    assert!(answer.stderr.contains("Permission denied (os error 13); a record can be read by"), "{answer:?}");
}

#[test]
fn one_json_object_for_each_log() {
    let bench = Bench::new();
    let lines = sample(5);
    bench.run("20260721-101010-a", &lines.concat());
    bench.run("20260721-101011-b", &edited(5));
    bench.run("20260721-101012-c", &lines[..2].concat());
    bench.run("20260721-101013-d\u{1b}[31m", b"garbage");
    bench.run("20260721-101014-e", b"").pop_file();
    let answer = bench.ask(&["--json", ".", "nonexistent"]);
    assert_eq!((answer.code, &*answer.stderr), (1, ""));
    let records: Vec<Record<'_>> =
        answer.stdout.lines().map(|line| Record::parse(line.as_bytes()).unwrap()).collect();
    let of = |key| records.iter().map(|record| record.text(key)).collect::<Vec<_>>();
    assert_eq!(
        of("verdict"),
        ["intact", "tampered", "incomplete", "unchecked", "unchecked", "unchecked", "incomplete"].map(Some)
    );
    assert_eq!(
        of("reason"),
        [
            None,
            Some("hash-self"),
            Some("no-seal"),
            Some("not-a-log"),
            Some("read"),
            Some("no-such-run"),
            Some("ledger")
        ]
    );
    assert_eq!(of("chain"), [Some("holds"), Some("broken"), Some("holds"), Some("broken"), None, None, None]);
    let codes: Vec<Option<u64>> = records.iter().map(|record| record.uint("code")).collect();
    assert_eq!(codes, [0, 1, 2, 3, 3, 3, 2].map(Some));
    assert_eq!((records[0].uint("events"), records[0].uint("lost")), (Some(5), Some(0)));
    assert_eq!(records[0].text("head"), Some(&*hash(&lines[4])));
    assert_eq!((records[0].flag("anchored"), records[0].flag("signed")), (Some(false), Some(false)));
    assert_eq!(records[1].uint("line"), Some(1));
    assert!(records[1].text("expected").is_some() && records[1].text("found").is_some());

    let chain = bench.ask(&["--json", "--chain-only", "20260721-101010-a"]);
    let record = Record::parse(chain.stdout.trim_end().as_bytes()).unwrap();
    assert_eq!((record.text("verdict"), record.uint("events")), (Some("chain-holds"), Some(5)));

    // What an adversary may name reaches the terminal escaped.
    let text = bench.ask(&["."]).stdout;
    assert!(text.contains("20260721-101013-d\\x1b[31m") && !text.contains('\u{1b}'), "{text}");
}

/// Takes the log out of a run's directory.
trait PopFile {
    fn pop_file(&self);
}

impl PopFile for PathBuf {
    fn pop_file(&self) {
        fs::remove_file(self.join("events.jsonl")).unwrap();
    }
}

#[test]
fn lost_events_under_strict() {
    let bench = Bench::new();
    let mut chain = audit_verify::chain::ChainWriter::default();
    let mut tree = audit_verify::merkle::Tree::default();
    let mut log = chain.append(|event| _ = event.put("event_type", "run_start")).unwrap().to_vec();
    tree.push(&chain.position().head);
    log.extend_from_slice(chain.append(|event| _ = event.put("event_type", "gap").put("lost", 12)).unwrap());
    tree.push(&chain.position().head);
    let head = chain.position().head;
    log.extend_from_slice(
        chain
            .append(|event| {
                event
                    .put("event_type", "run_end")
                    .put("events", 3)
                    .put("head", head.as_str())
                    .put("lost", 12)
                    .put("merkle_root", tree.root().as_str());
            })
            .unwrap(),
    );
    bench.run("20260721-101010-a", &log);
    let answer = bench.ask(&["last"]);
    assert_eq!(answer.code, 0);
    assert!(answer.stdout.contains("events    3, 12 lost\n"), "{answer:?}");
    let answer = bench.ask(&["--strict", "last"]);
    assert_eq!(answer.code, 2);
    assert!(answer.stdout.contains("why       the log says that events were lost\n"), "{answer:?}");
}

#[test]
fn within_a_second_the_start_decides() {
    let bench = Bench::new();
    for (id, start_ns) in [("20260721-101010-a", 5), ("20260721-101010-b", 3), ("20260721-101010-c", 4)] {
        let run = bench.run(id, &sample(3).concat());
        fs::write(run.join("meta.json"), format!("{{\n  \"v\": 1,\n  \"start_ns\": {start_ns}\n}}\n"))
            .unwrap();
    }
    assert!(bench.ask(&["last"]).stdout.starts_with("intact: 20260721-101010-a\n"));
    // A suffix tells runs of the same name apart: -10 is later than -9.
    for id in ["20260722-101010-a-9", "20260722-101010-a-10"] {
        bench.run(id, &sample(3).concat());
    }
    assert!(bench.ask(&["last"]).stdout.starts_with("intact: 20260722-101010-a-10\n"));
}
