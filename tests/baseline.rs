//! `sandbox baseline`: of recorded runs of a small job none is new to what the others did, and what no run did is told,
//! the worst first.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};
use serde_json::Value;

/// A job with files and names of its own each time; what a second word asks for comes at the end.
const JOB: &str = r#"
import os, pathlib, socket, subprocess, sys, tempfile
number, act, more = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
home = pathlib.Path(os.environ["HOME"])
for index in range(4 + number % 3):
    pathlib.Path(f"part{number}_{index}").write_text("text")
with tempfile.TemporaryDirectory() as place:
    pathlib.Path(place, f"log-{number}").write_text("done")
cache = home / ".cache/job" / str(number)
cache.mkdir(parents=True, exist_ok=True)
(cache / "entry").write_text("text")
(home / ".cache/job/index").write_text("text")
(home / ".ssh/id_known").read_text()
subprocess.run(["/bin/sh", "-c", "ls; true"], check=True, stdout=subprocess.DEVNULL)
subprocess.run(["/usr/bin/env", "true"], check=True)
with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    server.listen()
    with socket.create_connection(server.getsockname()) as client:
        client.send(b"own")
def send(port, size):
    with socket.create_connection(("127.0.0.1", int(port))) as other:
        other.sendall(b"x" * size)
        other.shutdown(socket.SHUT_WR)
        other.recv(1)
send(more[0], 1000)
def binary():
    pathlib.Path("dropped").write_bytes(pathlib.Path("/bin/true").read_bytes())
    pathlib.Path("dropped").chmod(0o755)
    subprocess.run(["./dropped"], check=True)
acts = {
    "work": lambda: None,
    "key": lambda: (home / ".ssh/id_job").read_text(),
    "known-key": lambda: subprocess.run(["/bin/sh", "-c", f"read line < {home}/.ssh/id_known"]),
    "profile": lambda: (home / ".bashrc").write_text("run me later"),
    "connect": lambda: send(more[1], 10),
    "binary": binary,
    "parent": lambda: subprocess.run(["ls"], check=True, stdout=subprocess.DEVNULL),
    "many": lambda: [pathlib.Path(f"more{index}").write_text("text") for index in range(50 * 7)],
    "much": lambda: send(more[0], 50 << 20),
}
acts[act]()
"#;

/// What no honest run does, and what is said of it first.
const NEW: [(&str, &str); 8] = [
    ("key", "reads a credential: ${HOME}/.ssh/id_job, by "),
    ("known-key", "new program for this: reads a credential: ${HOME}/.ssh/id_known, by /usr/bin/"),
    ("profile", "changes a place whose contents run later: ${HOME}/.bashrc, by "),
    ("connect", "new host: "),
    ("binary", "new program: ${WORKSPACE}/dropped, by "),
    ("parent", "new parent: "),
    ("many", " files written"),
    ("much", " bytes sent"),
];

/// A home with its jobs, and two servers of others.
struct Jobs {
    scene: Scene,
    top: tempfile::TempDir,
    ports: [u16; 2],
}

impl Jobs {
    fn new() -> Self {
        let scene = Scene::new();
        let top = tempfile::Builder::new().prefix("sandbox-test-").tempdir_in("/home").expect("a home");
        for name in [".ssh/id_job", ".ssh/id_known", ".bashrc"] {
            let path = top.path().join("home").join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("the scene is set");
            fs::write(path, "text\n").expect("the scene is set");
        }
        fs::write(top.path().join("job.py"), JOB).expect("the scene is set");
        Self { scene, top, ports: [server(), server()] }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn sandbox(&self, at: &Path, words: &[&str]) -> Done {
        let mut command = self.scene.sandbox(words);
        command.current_dir(at).env("HOME", self.path("home"));
        finish(command)
    }

    fn baseline(&self, words: &[&str]) -> Done {
        let words: Vec<&str> = ["baseline"].into_iter().chain(words.iter().copied()).collect();
        self.sandbox(&self.scene.work(), &words)
    }

    /// Records a job; the run's directory.
    fn record(&self, number: usize, act: &str) -> String {
        self.record_with(number, act, &[])
    }

    fn record_with(&self, number: usize, act: &str, options: &[&str]) -> String {
        let (run, place) =
            (self.text(&format!("record-{number}-{act}")), self.path(&format!("jobs/{number}")));
        fs::create_dir_all(&place).expect("the scene is set");
        let script = self.text("job.py");
        let (number, [known, new]) = (number.to_string(), self.ports.map(|port| port.to_string()));
        let words = ["run", "--audit-only", "--run-dir", &run, "--agent-id", "job", "--"];
        let command = ["/usr/bin/python3", &script, &number, act, &known, &new];
        let (before, behind) = words.split_at(words.len() - 1);
        self.sandbox(&place, &[before, options, behind, &command].concat()).expect(0);
        run
    }

    fn create(&self, runs: &[&String], file: &str) -> Done {
        let words = ["create"].into_iter().chain(runs.iter().map(|run| run.as_str()));
        self.baseline(&words.chain(["-o", file]).collect::<Vec<_>>())
    }

    fn check(&self, run: &str, file: &str) -> Done {
        self.baseline(&["check", run, "--against", file])
    }
}

/// A server that takes whatever comes; its port. It goes with the test's process.
fn server() -> u16 {
    let server = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = server.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for client in server.incoming() {
            let Ok(mut client) = client else { continue };
            let mut buffer = [0; 1 << 16];
            while client.read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
    });
    port
}

/// The lines of a log so far.
fn lines(run: &Path) -> Vec<Value> {
    let log = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    log.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
}

/// What a run says of itself that is new.
fn detections(run: &str) -> Vec<String> {
    let lines = lines(Path::new(run)).into_iter().filter(|line| line["event_type"] == "detection");
    lines.filter_map(|line| Some(line["reason"].as_str()?.to_owned())).collect()
}

fn can_record() -> bool {
    met("baseline", &[Need::Root, Need::Program("/usr/bin/python3")])
}

#[test]
fn honest_runs_are_not_new_and_what_no_run_did_is() {
    if !can_record() {
        return;
    }
    let jobs = Jobs::new();
    let runs: Vec<String> = (1..6).map(|number| jobs.record(number, "work")).collect();
    let file = jobs.text("job.json");
    let made = jobs.create(&runs.iter().collect::<Vec<_>>(), &file).expect(0);
    assert!(made.stderr.contains("of 5 runs") && !made.stderr.contains("note: "), "{}", made.stderr);
    let bytes = fs::read(&file).expect("it is there");

    // The same runs, in whatever order and however often named, are the same bytes.
    let turned = jobs.text("turned.json");
    let made = jobs.create(&runs.iter().rev().chain([&runs[2]]).collect::<Vec<_>>(), &turned).expect(0);
    let twice = "note: of the 6 runs that were named 5 are different; each counts once";
    assert!(made.stderr.contains(twice) && !made.stderr.contains("fewer than"), "{}", made.stderr);
    assert_eq!(fs::read(&turned).expect("it is there"), bytes);
    // It is never written over.
    let again = jobs.create(&[&runs[0]], &file).expect(1);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(fs::read(&file).expect("it is there"), bytes);

    for run in &runs {
        jobs.check(run, &file).expect(0);
    }
    for number in 6..9 {
        let run = jobs.record(number, "work");
        let done = jobs.check(&run, &file).expect(0);
        assert!(done.stdout.ends_with("against 5 runs of job: nothing new\n"), "{}", done.stdout);
    }
    for (index, (act, first)) in NEW.into_iter().enumerate() {
        let run = jobs.record(10 + index, act);
        let done = jobs.check(&run, &file);
        assert_eq!(done.code(), 1, "{act}: {}{}", done.stdout, done.stderr);
        assert!(
            done.stdout.lines().nth(1).is_some_and(|line| line.starts_with("score  ")),
            "{}",
            done.stdout
        );
        let told = done.stdout.lines().nth(2).unwrap_or_default();
        assert!(told.contains(first), "{act}: {}", done.stdout);
        let json = jobs.baseline(&["check", &run, "--against", &file, "--json"]).expect(1);
        let answer: Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert_eq!(answer["compared_with"], "job");
        assert!(answer["findings"][0]["text"].as_str().is_some_and(|text| text.contains(first)), "{answer}");
        assert!(answer["findings"][0]["score"].as_u64().is_some_and(|score| score > 0), "{answer}");
    }

    // The same while the run goes on, as events of its own, which change nothing about a check.
    let honest = jobs.record_with(30, "work", &["--baseline", &file]);
    assert_eq!(detections(&honest), [""; 0]);
    for (index, (act, first)) in NEW.into_iter().enumerate() {
        let run = jobs.record_with(31 + index, act, &["--baseline", &file]);
        let told = detections(&run);
        assert!(told.iter().any(|told| told.contains(first)), "{act}: {told:?}");
        let done = jobs.check(&run, &file).expect(1);
        assert!(
            done.stdout.lines().nth(2).is_some_and(|line| line.contains(first)),
            "{act}: {}",
            done.stdout
        );
        finish(jobs.scene.audit_verify([&run])).expect(0);
    }

    let shown = jobs.baseline(&["show", &file]).expect(0);
    for told in
        ["baseline of 5 runs", "agent job: 5 runs", "base/credentials read: 1", "${HOME}/.ssh/id_known"]
    {
        assert!(shown.stdout.contains(told), "{told}: {}", shown.stdout);
    }
    let shown = jobs.baseline(&["show", &file, "--json"]).expect(0);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(shown, serde_json::from_slice::<Value>(&bytes).expect("JSON"));
    let known = shown["behaviours"].as_array().expect("a list").iter();
    let mut credentials = known.filter(|behaviour| behaviour["kind"] == "base/credentials");
    assert_eq!(credentials.next().expect("one")["runs"]["job"], 5);
}

#[test]
fn another_agent_is_new_and_compared_with_all() {
    if !can_record() {
        return;
    }
    let scene = Scene::new();
    let record = |agent: &str| {
        finish(scene.sandbox(["run", "--audit-only", "--agent-id", agent, "--", "/bin/true"])).expect(0);
        scene.runs().pop().expect("a run").display().to_string()
    };
    let runs = [record("one"), record("one")];
    let file = scene.path("base.json").display().to_string();
    let made = finish(scene.sandbox(["baseline", "create", &runs[0], &runs[1], "-o", &file])).expect(0);
    assert!(made.stderr.contains("note: fewer than 3 runs"), "{}", made.stderr);
    let other = record("other");
    let done = finish(scene.sandbox(["baseline", "check", &other, "--against", &file])).expect(1);
    assert!(done.stdout.contains("new agent: other"), "{}", done.stdout);
    let same = record("one");
    finish(scene.sandbox(["baseline", "check", &same, "--against", &file])).expect(0);
}

#[test]
fn what_cannot_be_checked_is_said_with_status_3() {
    if !can_record() {
        return;
    }
    let scene = Scene::new();
    scene.record(["/bin/true"]).expect(0);
    let run = scene.run();
    let name = run.display().to_string();
    let file = scene.path("base.json").display().to_string();
    let check = |run: &str, file: &str| finish(scene.sandbox(["baseline", "check", run, "--against", file]));
    finish(scene.sandbox(["baseline", "create", &name, "-o", &file])).expect(0);
    check(&name, &file).expect(0);

    let log = fs::read_to_string(run.join("events.jsonl")).expect("the log");
    let lines: Vec<&str> = log.lines().collect();
    let copy = |at: &str, text: &str| {
        let place = scene.path(at);
        fs::create_dir(&place).expect("a directory");
        fs::write(place.join("events.jsonl"), text).expect("a log");
        place.display().to_string()
    };
    let cut = copy("cut", &(lines[..lines.len() - 1].join("\n") + "\n"));
    let edited = copy("edited", &log.replacen("/usr/bin/true", "/usr/bin/tru3", 1));
    let text = fs::read_to_string(&file).expect("it is there");
    let newer = scene.path("newer.json");
    fs::write(&newer, text.replace("\"sandbox_baseline\": 1", "\"sandbox_baseline\": 9")).expect("a file");
    let wrong = scene.path("wrong.json");
    fs::write(&wrong, "{\"sandbox_baseline\": 1, \"\u{1b}[2J\": 0}").expect("a file");
    let (newer, wrong) = (newer.display().to_string(), wrong.display().to_string());
    let missing = scene.path("missing.json").display().to_string();
    for (run, file, told) in [
        (cut.as_str(), file.as_str(), "has no end"),
        (&edited, &file, "cannot be trusted"),
        ("no-such-run", &file, "no run no-such-run"),
        (&name, &newer, "sandbox baseline create"),
        (&name, &wrong, "is no baseline that this program wrote"),
        (&name, &missing, "missing.json"),
    ] {
        let done = check(run, file);
        assert_eq!(done.code(), 3, "{told}: {}", done.stderr);
        assert!(done.stderr.contains(told), "{told}: {}", done.stderr);
        assert!(!done.stderr.contains('\u{1b}'), "{:?}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    // Why it is none is said, and once.
    fs::write(&wrong, "no JSON").expect("a file");
    let done = check(&name, &wrong);
    let said = "is no baseline that this program wrote: expected ident at line 1 column 2";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    assert_eq!(done.stderr.matches("at line 1").count(), 1, "{}", done.stderr);
    // A baseline is made of whole records only.
    let other = scene.path("other.json").display().to_string();
    for run in [&cut, &edited] {
        finish(scene.sandbox(["baseline", "create", &name, run, "-o", &other])).expect(1);
        assert!(!Path::new(&other).exists());
    }
    // Where it cannot be written is said before anything is read.
    fs::create_dir(scene.path("there")).expect("a directory");
    for (place, told) in [
        ("there", "is a directory; name a file in it"),
        ("nowhere/x.json", "nowhere is not there; make it first"),
        ("newer.json/x.json", "newer.json is no directory"),
    ] {
        let place = scene.path(place).display().to_string();
        let done = finish(scene.sandbox(["baseline", "create", &name, "-o", &place])).expect(1);
        assert!(done.stderr.contains(told) && !done.stderr.contains("remove it"), "{}", done.stderr);
    }
    // Called wrongly, as everywhere.
    finish(scene.sandbox(["baseline", "check", &name])).expect(2);
    finish(scene.sandbox(["baseline", "create", "-o", &other])).expect(2);
}

#[test]
fn a_run_that_goes_on_is_not_checked() {
    if !can_record() {
        return;
    }
    let scene = Scene::new();
    scene.record(["/bin/true"]).expect(0);
    let file = scene.path("base.json").display().to_string();
    finish(scene.sandbox(["baseline", "create", "last", "-o", &file])).expect(0);
    let mut command = scene.sandbox(["run", "--audit-only", "--", "/bin/cat"]);
    let mut going = command.stdin(std::process::Stdio::piped()).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let log = |run: &Path| fs::metadata(run.join("events.jsonl")).is_ok_and(|about| about.len() > 0);
    let run = loop {
        // By its name: of two runs that began in the same second the order says nothing.
        match scene.runs().iter().find(|run| run.to_string_lossy().contains("-cat")) {
            Some(second) if log(second) => break second.display().to_string(),
            _ => assert!(std::time::Instant::now() < deadline, "the run did not begin"),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let done = finish(scene.sandbox(["baseline", "check", &run, "--against", &file]));
    drop(going.stdin.take());
    going.wait().expect("it ends");
    assert_eq!(done.code(), 3, "{}", done.stderr);
    assert!(done.stderr.contains("goes on"), "{}", done.stderr);
    finish(scene.sandbox(["baseline", "check", &run, "--against", &file])).expect(1);
}

#[test]
fn what_is_new_is_told_while_the_run_goes_on() {
    if !can_record() {
        return;
    }
    let scene = Scene::new();
    let home = tempfile::Builder::new().prefix("sandbox-test-").tempdir_in("/home").expect("a home");
    fs::create_dir(home.path().join(".ssh")).expect("a directory");
    fs::write(home.path().join(".ssh/id_job"), "text").expect("a file");
    let sandbox = |words: &[&str]| {
        let mut command = scene.sandbox(words);
        command.env("HOME", home.path());
        command
    };
    let honest = ["--agent-id", "job", "--", "/bin/sh", "-c", "cat /etc/hostname >/dev/null; cat"];
    finish(sandbox(&[&["run", "--audit-only"][..], &honest].concat())).expect(0);
    let file = scene.path("base.json").display().to_string();
    finish(sandbox(&["baseline", "create", "last", "-o", &file])).expect(0);

    let script = "cat $HOME/.ssh/id_job >/dev/null; cat";
    let words =
        ["run", "--audit-only", "--baseline", &file, "--agent-id", "job", "--", "/bin/sh", "-c", script];
    let mut command = sandbox(&words);
    command.stderr(std::process::Stdio::piped());
    let mut going = command.stdin(std::process::Stdio::piped()).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let found = loop {
        let so_far = scene.runs().get(1).map(|run| lines(run)).unwrap_or_default();
        if let Some(at) = so_far.iter().position(|line| line["event_type"] == "detection") {
            break so_far[at - 1..=at].to_vec();
        }
        assert!(std::time::Instant::now() < deadline, "nothing was told: {so_far:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert!(going.try_wait().expect("its state").is_none(), "the command still waits");
    let [shown, told] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(shown["event_type"], "file_open");
    assert!(shown["path"].as_str().is_some_and(|path| path.ends_with("/.ssh/id_job")), "{shown}");
    assert_eq!((&told["action"], &told["pid"]), (&Value::from("OBSERVED"), &shown["pid"]));
    assert_eq!(told["target"], "${HOME}/.ssh/id_job");
    assert!(told["reason"].as_str().is_some_and(|text| text.starts_with("reads a credential: ")), "{told}");
    assert!(told["because"].as_str().is_some_and(|text| text.contains("in none of 1 run of job")), "{told}");
    assert!(told["score"].as_u64().is_some_and(|score| score > 0), "{told}");
    drop(going.stdin.take());
    let ended = going.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("1 new against the baseline"), "{said}");
    finish(scene.audit_verify(["last"])).expect(0);
    let view = finish(sandbox(&["view"])).expect(0);
    assert!(view.stdout.contains("NEW") && view.stdout.contains("reads a credential"), "{}", view.stdout);

    // A file that is no baseline is told before anything starts.
    let wrong = scene.path("wrong.json");
    fs::write(&wrong, "{}").expect("a file");
    let wrong = wrong.display().to_string();
    let done = finish(sandbox(&["run", "--baseline", &wrong, "--", "/bin/true"])).expect(125);
    assert!(done.stderr.contains("is no baseline that this program wrote"), "{}", done.stderr);
    assert_eq!(scene.runs().len(), 2);
}
