//! `sandbox learn`: what it makes of recorded runs of a small project blocks none of them, nor the next one, and does block
//! what no run did.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};
use sandbox_tests::terminal::Terminal;

/// Builds and runs a program, with files and names of its own each time; what a second word asks for comes at the end.
const JOB: &str = r#"
import os, pathlib, socket, subprocess, sys, tempfile
number, act = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "work"
home = pathlib.Path(os.environ["HOME"])
names = [f"part{number}_{index}" for index in range(2 + int(number) % 3)]
for name in names:
    pathlib.Path(f"{name}.c").write_text(f"int {name}(void) {{ return 1; }}\n")
pathlib.Path("main.c").write_text("int main(void) { return 0; }\n")
os.makedirs("build", exist_ok=True)
subprocess.run(["cc", "-o", "build/app", "main.c", *[f"{name}.c" for name in names]], check=True)
subprocess.run(["build/app"], check=True)
with tempfile.TemporaryDirectory() as place:
    pathlib.Path(place, f"log-{number}").write_text("done")
cache = home / ".cache/job" / number
cache.mkdir(parents=True, exist_ok=True)
(cache / "entry").write_text(number)
(home / ".cache/job/index").write_text(number)
def lateral(path):
    subprocess.run([path], check=False)
def dropper():
    dropped = pathlib.Path(tempfile.gettempdir(), f"dropped-{number}")
    dropped.write_bytes(pathlib.Path("build/app").read_bytes())
    dropped.chmod(0o755)
    lateral(dropped)
    dropped.unlink()
def connect():
    with socket.socket() as other:
        other.settimeout(0.2)
        try:
            other.connect(("192.0.2.1", 443))
        except OSError:
            pass
def link():
    os.link(home / ".ssh/id_job", "copy")
    pathlib.Path("copy").read_text()
    os.unlink("copy")
acts = {
    "work": lambda: None,
    "key": lambda: (home / ".ssh/id_job").read_text(),
    "letters": lambda: (home / "letters/one").read_text(),
    "profile": lambda: (home / ".bashrc").write_text("run me later"),
    "lateral": lambda: lateral("/usr/bin/id"),
    "dropper": dropper,
    "connect": connect,
    "link": link,
    "two": lambda: [lateral("/usr/bin/false"), lateral("/usr/bin/true")],
}
acts[act]()
"#;

/// What no honest run does, and what a policy says of it.
const ATTACKS: [(&str, &str); 6] = [
    ("key", "base/credentials"),
    ("letters", "job/files.default"),
    ("profile", "base/persistence"),
    ("lateral", "job/exec.default"),
    ("dropper", "job/exec.default"),
    ("connect", "job/network.default"),
];

/// A store, and a home with its jobs beside it: not below /tmp, which what is learned opens as a whole.
struct Jobs(Scene, tempfile::TempDir);

impl Jobs {
    fn new() -> Self {
        let scene = Scene::new();
        let top = tempfile::Builder::new().prefix("sandbox-test-").tempdir_in("/home").expect("a home");
        for (name, text) in [(".ssh/id_job", "secret"), ("letters/one", "dear"), (".bashrc", "")] {
            let path = top.path().join("home").join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("the scene is set");
            fs::write(path, text).expect("the scene is set");
        }
        fs::write(top.path().join("job.py"), JOB).expect("the scene is set");
        Self(scene, top)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.1.path().join(name)
    }

    /// Where a job works.
    fn workspace(&self, number: usize) -> PathBuf {
        let place = self.path(&format!("jobs/{number}"));
        fs::create_dir_all(&place).expect("the scene is set");
        place
    }

    fn command(&self, at: &Path, words: &[&str]) -> Command {
        let mut command = self.0.sandbox(words);
        command.current_dir(at).env("HOME", self.path("home"));
        command
    }

    fn sandbox(&self, at: &Path, words: &[&str]) -> Done {
        finish(self.command(at, words))
    }

    /// Records a job; the run's directory.
    fn record(&self, number: usize, act: &str) -> String {
        let run = self.path(&format!("record-{number}-{act}")).display().to_string();
        let script = self.path("job.py").display().to_string();
        let number_word = number.to_string();
        let words = ["run", "--audit-only", "--run-dir", &run, "--", "python3", &script, &number_word, act];
        self.sandbox(&self.workspace(number), &words).expect(0);
        run
    }

    fn learn(&self, runs: &[String], more: &[&str]) -> Done {
        let words: Vec<&str> = ["learn"]
            .into_iter()
            .chain(runs.iter().map(String::as_str))
            .chain(more.iter().copied())
            .collect();
        self.sandbox(&self.0.work(), &words)
    }

    /// Records three jobs, and learns a policy of them: their directories, and its file.
    fn three(&self) -> (Vec<String>, String) {
        let runs: Vec<String> = (1..4).map(|number| self.record(number, "work")).collect();
        let policy = self.path("job.yaml").display().to_string();
        assert!(self.learn(&runs, &["-o", &policy]).stderr.contains("wrote "));
        (runs, policy)
    }

    fn replay(&self, policy: &str, number: usize, run: &str) -> Done {
        self.sandbox(&self.workspace(number), &["policy", "replay", policy, run])
    }
}

#[test]
fn what_is_learned_blocks_no_honest_run_and_what_no_run_did() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let runs: Vec<String> = (1..6).map(|number| jobs.record(number, "work")).collect();
    for strictness in ["exact", "balanced", "loose"] {
        let policy = jobs.path(&format!("{strictness}/job.yaml")).display().to_string();
        fs::create_dir_all(jobs.path(strictness)).expect("the scene is set");
        let learned = jobs.learn(&runs, &["--strictness", strictness, "-o", &policy]);
        assert!([0, 1].contains(&learned.code()), "{}", learned.stderr);
        assert!(learned.stderr.contains("wrote "), "{}", learned.stderr);
        jobs.sandbox(&jobs.workspace(1), &["policy", "check", &policy]).expect(0);
        for (index, run) in runs.iter().enumerate() {
            let replayed = jobs.replay(&policy, index + 1, run);
            assert_eq!(
                replayed.code(),
                0,
                "{strictness}: {}\n{}",
                replayed.stdout,
                fs::read_to_string(&policy).expect("it is there")
            );
        }
    }
    let policy = jobs.path("balanced/job.yaml").display().to_string();
    let text = fs::read_to_string(&policy).expect("it is there");
    assert!(text.lines().count() < 60, "{text}");
    for number in 6..9 {
        let run = jobs.record(number, "work");
        let replayed = jobs.replay(&policy, number, &run);
        assert_eq!(replayed.code(), 0, "{}\n{text}", replayed.stdout);
    }
    for (index, (act, rule)) in ATTACKS.into_iter().enumerate() {
        let number = 10 + index;
        let run = jobs.record(number, act);
        let replayed = jobs.replay(&policy, number, &run);
        assert_eq!(replayed.code(), 1, "{act}: {}\n{text}", replayed.stdout);
        assert!(replayed.stdout.contains(rule), "{act}: {}\n{text}", replayed.stdout);
    }
    // The same runs, in whatever order, give the same bytes.
    let turned: Vec<String> = runs.iter().rev().cloned().collect();
    let [one, other] = [&runs, &turned].map(|runs| jobs.learn(runs, &["--name", "job"]).stdout);
    assert_eq!(one, other);
    assert!(one.contains("extends: [base@1]"), "{one}");
}

#[test]
fn what_a_base_denies_is_told_and_not_learned() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    for (number, act) in ["key", "link"].into_iter().enumerate() {
        let runs = vec![jobs.record(number, act)];
        let learned = jobs.learn(&runs, &["--strictness", "loose"]);
        assert_eq!(learned.code(), 1, "one run is not enough: {}", learned.stderr);
        let told = |line: &str| line.contains("${HOME}/.ssh/id_job") && line.contains("base/credentials");
        assert!(learned.stderr.lines().any(told), "{act}: {}", learned.stderr);
        assert!(learned.stderr.contains("NOT ENOUGH YET"), "{}", learned.stderr);
        let head: Vec<&str> = learned.stdout.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(head.into_iter().any(told), "{act}: {}", learned.stdout);
        let rules = learned.stdout.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(!rules.into_iter().any(|line| line.contains(".ssh")), "{}", learned.stdout);
    }
}

/// What a layer without hooks denied in an enforced run is an attempt as any other.
#[test]
fn what_an_enforced_run_was_denied_is_told_and_not_learned() {
    if !met("learn from an enforced run", &[Need::Root, Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let key = jobs.path("home/.ssh/id_job").display().to_string();
    let words = ["run", "--enforce", "coding-agent", "--", "cat", &key];
    let done = jobs.sandbox(&jobs.workspace(1), &words).expect(1);
    assert!(done.stderr.contains("Permission denied"), "{}", done.stderr);
    let replayed = jobs.replay("base", 1, "last").expect(1);
    assert!(replayed.stdout.contains("base/credentials"), "{}", replayed.stdout);
    let learned = jobs.learn(&["last".to_owned()], &[]);
    assert!(learned.stderr.contains("${HOME}/.ssh/id_job"), "{}", learned.stderr);
}

/// Whoever can cut a record or write into it could choose what is learned.
#[test]
fn records_that_are_not_whole_teach_nothing() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let (runs, policy) = jobs.three();
    let before = fs::read_to_string(&policy).expect("it is there");
    let log = Path::new(&runs[1]).join("events.jsonl");
    let whole = fs::read_to_string(&log).expect("a log");
    let edited = whole.replacen("/index\"", "/other\"", 1);
    assert_ne!(edited, whole);
    let lines: Vec<&str> = whole.lines().collect();
    let cut = lines[..lines.len() / 2].join("\n") + "\n";
    for (text, told) in [(edited, "TAMPERED"), (cut, "incomplete")] {
        fs::write(&log, text).expect("it can be written");
        for more in [vec!["--update", &policy, "--yes"], vec![], vec!["--strictness", "loose"]] {
            let done = jobs.learn(&runs, &more).expect(2);
            assert!(
                done.stderr.contains(told) && done.stderr.contains("nothing is learned"),
                "{}",
                done.stderr
            );
            assert_eq!(done.stdout, "");
        }
    }
    assert_eq!(fs::read_to_string(&policy).expect("it is there"), before);
    // The control.
    fs::write(&log, whole).expect("it can be written");
    let done = jobs.learn(&runs, &["--update", &policy, "--yes"]).expect(0);
    assert!(done.stderr.contains("nothing to add"), "{}", done.stderr);
}

/// A home that is a link is the place it leads to: what lies there is no less a credential.
#[test]
fn a_home_may_be_a_link() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let (link, run) = (jobs.path("link"), jobs.path("linked").display().to_string());
    std::os::unix::fs::symlink(jobs.path("home"), &link).expect("a link");
    let mut command = jobs.0.sandbox(["run", "--audit-only", "--run-dir", &run, "--", "python3"]);
    command.arg(jobs.path("job.py")).args(["1", "key"]).current_dir(jobs.workspace(1)).env("HOME", &link);
    finish(command).expect(0);
    let learned = jobs.learn(&[run], &[]);
    assert!(learned.stderr.contains("${HOME}/.ssh/id_job"), "{}", learned.stderr);
    assert!(learned.stderr.contains("base/credentials"), "{}", learned.stderr);
}

/// A base of one's own is found from where the policy lies, whatever it is called.
#[test]
fn a_base_is_named_from_where_the_policy_lies() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let run = jobs.record(1, "work");
    let place = jobs.path("my \"own\"");
    fs::create_dir_all(&place).expect("a directory");
    fs::write(place.join("mine, too].yaml"), "version: 1\nname: mine\nextends: [base@1]\n").expect("a base");
    let base = "my \"own\"/mine, too].yaml";
    for output in ["my \"own\"/beside.yaml", "elsewhere.yaml", "no.yaml"] {
        let mut command = jobs.0.sandbox(["learn", &run, "--base", base, "-o", output]);
        command.current_dir(jobs.path("."));
        let done = finish(command).expect(1);
        assert!(done.stderr.contains("wrote "), "{}", done.stderr);
        let output = jobs.path(output).display().to_string();
        assert_eq!(jobs.replay(&output, 1, &run).code(), 0);
    }
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    let jobs = Jobs::new();
    let there = jobs.path("there.yaml");
    fs::write(&there, "mine").expect("the scene is set");
    let there = there.display().to_string();
    for (words, told) in [
        (vec!["learn", "no-such-run"], "no runs yet"),
        (vec!["learn", "-o", &there], "is there already"),
        (vec!["learn", "--base", "bsae"], "bsae"),
        (vec!["learn", "--name", "two words"], "--name takes a word"),
    ] {
        let done = jobs.sandbox(&jobs.0.work(), &words);
        assert_eq!(done.code(), 2, "{words:?}: {}", done.stderr);
        assert!(done.stderr.contains(told), "{words:?}: {}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    assert_eq!(fs::read_to_string(there).expect("it is there"), "mine");
}

#[test]
fn more_runs_add_rules_to_a_policy_and_change_nothing_else() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let (runs, policy) = jobs.three();
    let before = fs::read_to_string(&policy).expect("it is there") + "\n# my own words\n";
    fs::write(&policy, &before).expect("it can be written");
    let letters = jobs.record(4, "letters");
    assert_eq!(jobs.replay(&policy, 4, &letters).code(), 1);
    // What is allowed already adds nothing.
    let same = jobs.learn(&runs[..1], &["--update", &policy]).expect(0);
    assert!(same.stderr.contains("nothing to add"), "{}", same.stderr);
    // Nobody is there to be asked.
    let shown = jobs.learn(std::slice::from_ref(&letters), &["--update", &policy]);
    assert_eq!(shown.code(), 1, "{}", shown.stderr);
    assert!(shown.stderr.contains("files:\n+ # "), "{}", shown.stderr);
    assert!(shown.stderr.contains("${HOME}/letters/one"), "{}", shown.stderr);
    assert!(shown.stderr.contains("nobody is there to be asked"), "{}", shown.stderr);
    assert_eq!(fs::read_to_string(&policy).expect("it is there"), before);
    let added = jobs.learn(std::slice::from_ref(&letters), &["--update", &policy, "--yes"]).expect(0);
    assert!(added.stderr.contains("1 more rule"), "{}", added.stderr);
    let after = fs::read_to_string(&policy).expect("it is there");
    let kept: Vec<&str> = after.lines().filter(|line| before.lines().any(|old| old == *line)).collect();
    assert_eq!(kept, before.lines().collect::<Vec<_>>(), "{after}");
    assert_eq!(after.lines().count(), before.lines().count() + 2, "{after}");
    assert_eq!(jobs.replay(&policy, 4, &letters).code(), 0);
    // What the base denies stays denied.
    let key = jobs.record(5, "key");
    let denied = jobs.learn(std::slice::from_ref(&key), &["--update", &policy, "--yes"]);
    assert!(denied.stderr.contains("base/credentials"), "{}", denied.stderr);
    assert_eq!(denied.code(), 1, "{}", denied.stderr);
    assert_eq!(jobs.replay(&policy, 5, &key).code(), 1);
    assert_eq!(fs::read_to_string(&policy).expect("it is there"), after);
    // One that ships is nobody's to change.
    let ships = jobs.learn(&runs, &["--update", "base", "--yes"]);
    assert!(ships.code() == 2 && ships.stderr.contains("ships with this program"), "{}", ships.stderr);
}

#[test]
fn who_is_asked_about_a_rule_may_take_a_part_of_it() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let (_, policy) = jobs.three();
    let two = jobs.record(4, "two");
    let sandbox = jobs.command(&jobs.0.work(), &["learn", &two, "--update", &policy]);
    let words: Vec<_> = std::iter::once(sandbox.get_program())
        .chain(sandbox.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let mut terminal = Terminal::open(&sandbox);
    terminal.type_in(&format!("{}; echo status $((0 + $?))\n", words.join(" ")));
    let mut asked = terminal.expect("add it? ");
    while !asked.contains("exec:") {
        terminal.type_in("y\n");
        asked = terminal.expect("add it? ");
    }
    assert!(asked.contains("path: [\"/usr/bin/{false,true}\"]"), "{asked}");
    assert!(terminal.expect("[q]uit: ").contains("[s]plit"));
    terminal.type_in("s\n");
    for (program, answer) in [("false", "n\n"), ("true", "y\n")] {
        let asked = terminal.expect("add it? ");
        assert!(asked.contains(&format!("path: [\"/usr/bin/{program}\"]")), "{asked}");
        // What is one already is not to be split.
        assert!(!terminal.expect("[q]uit: ").contains("[s]plit"));
        terminal.type_in(answer);
    }
    terminal.expect("1 not added");
    terminal.expect("status 1");
    let replayed = jobs.replay(&policy, 4, &two);
    assert_eq!(replayed.code(), 1, "{}", replayed.stdout);
    assert!(replayed.stdout.contains("run /usr/bin/false"), "{}", replayed.stdout);
    assert!(!replayed.stdout.contains("/usr/bin/true"), "{}", replayed.stdout);
}

#[test]
fn a_run_proposes_a_policy_and_what_it_needs_besides() {
    if !met("learn", &[Need::Root, Need::Program("cc"), Need::Program("python3")]) {
        return;
    }
    let jobs = Jobs::new();
    let policy = jobs.path("job.yaml").display().to_string();
    let script = jobs.path("job.py").display().to_string();
    let learn = |number: usize, act: &str| {
        let number_word = number.to_string();
        let words = ["run", "--learn", &policy, "--", "python3", &script, &number_word, act];
        jobs.sandbox(&jobs.workspace(number), &words).expect(0)
    };
    let first = learn(1, "work");
    assert!(first.stderr.contains("NOT ENOUGH YET") && first.stderr.contains("wrote "), "{}", first.stderr);
    let made = fs::read_to_string(&policy).expect("it was made");
    assert_eq!(jobs.replay(&policy, 1, "last").code(), 0);
    let second = learn(2, "letters");
    assert!(second.stderr.contains("${HOME}/letters/one"), "{}", second.stderr);
    assert_eq!(fs::read_to_string(&policy).expect("it is there"), made, "nobody was asked");
    // What could not be written is told before the command starts.
    let (directory, shipped) = (jobs.path("home").display().to_string(), "base".to_owned());
    let broken = jobs.path("broken.yaml").display().to_string();
    fs::write(&broken, "no policy").expect("the scene is set");
    let missing = "/nonexistent/job.yaml".to_owned();
    for (file, says) in [
        (&missing, "there is no directory /nonexistent"),
        (&directory, "is no regular file"),
        (&shipped, "`./base` is a file of your own"),
        (&broken, "is no policy"),
    ] {
        if file == "base" {
            fs::write(jobs.workspace(3).join("base"), "").expect("the scene is set");
        }
        let words = ["run", "--learn", file, "--", "touch", "begun"];
        let failed = jobs.sandbox(&jobs.workspace(3), &words).expect(125);
        assert!(failed.stderr.contains(says), "{}", failed.stderr);
        assert!(!jobs.workspace(3).join("begun").exists(), "{says}");
    }
}

/// What the run made of the name under which a policy is proposed leads nobody with more rights than the run's user has.
#[test]
fn a_proposal_is_written_by_the_user_of_the_run() {
    if !met("learn as the run's user", &[Need::Root]) {
        return;
    }
    let scene = Scene::new();
    let work = scene.work();
    let (sub, kept) = (work.join("sub"), scene.path("kept"));
    let open = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let learn = |script: &str| {
        let _ = (fs::remove_dir_all(&sub), fs::remove_file(&sub), fs::remove_dir_all(work.join("old")));
        fs::create_dir(&sub).expect("a directory");
        [work.as_path(), &sub].iter().for_each(|path| open(path, 0o777));
        let file = sub.join("out.yaml");
        let mut run = scene.sandbox(["run", "--user", "nobody", "--learn"]);
        run.arg(&file).args(["--", "sh", "-c", script]).arg("sh").arg(&kept);
        (finish(run).expect(0).stderr, file)
    };
    fs::create_dir(&kept).expect("a directory");
    open(&kept, 0o700);
    // The control: it is the user's own.
    let (told, file) = learn("true");
    let about = fs::metadata(&file).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(about.uid(), 65534);
    let (told, _) = learn("mv sub old && ln -s \"$1\" sub");
    assert!(told.contains("no policy was proposed"), "{told}");
    assert_eq!(fs::read_dir(&kept).expect("a directory").count(), 0);
    fs::write(kept.join("key"), "- of root alone\n").expect("a file");
    let (told, _) = learn("ln -s \"$1/key\" sub/out.yaml");
    assert!(told.contains("no policy was proposed") && !told.contains("of root alone"), "{told}");
    let (told, _) = learn("mkfifo sub/out.yaml");
    assert!(told.contains("is no regular file"), "{told}");
}
