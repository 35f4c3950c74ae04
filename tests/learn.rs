//! `sandbox learn`: what it makes of recorded runs of a small project blocks none of them, nor the next one, and does block
//! what no run did.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

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
acts = {
    "work": lambda: None,
    "key": lambda: (home / ".ssh/id_job").read_text(),
    "letters": lambda: (home / "letters/one").read_text(),
    "profile": lambda: (home / ".bashrc").write_text("run me later"),
    "lateral": lambda: lateral("/usr/bin/id"),
    "dropper": dropper,
    "connect": connect,
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

    fn sandbox(&self, at: &Path, words: &[&str]) -> Done {
        let mut command = self.0.sandbox(words);
        command.current_dir(at).env("HOME", self.path("home"));
        finish(command)
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
    let runs = vec![jobs.record(1, "key")];
    let learned = jobs.learn(&runs, &["--strictness", "loose"]);
    assert_eq!(learned.code(), 1, "one run is not enough: {}", learned.stderr);
    let key = "read ${HOME}/.ssh/id_job";
    assert!(
        learned.stderr.contains(key) && learned.stderr.contains("base/credentials"),
        "{}",
        learned.stderr
    );
    assert!(learned.stderr.contains("NOT ENOUGH YET"), "{}", learned.stderr);
    let head: Vec<&str> = learned.stdout.lines().take_while(|line| line.starts_with('#')).collect();
    assert!(head.iter().any(|line| line.contains(key)), "{}", learned.stdout);
    let rules = learned.stdout.lines().filter(|line| !line.trim_start().starts_with('#'));
    assert!(!rules.into_iter().any(|line| line.contains(".ssh")), "{}", learned.stdout);
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
    let runs: Vec<String> = (1..4).map(|number| jobs.record(number, "work")).collect();
    let policy = jobs.path("job.yaml").display().to_string();
    jobs.learn(&runs, &["-o", &policy]);
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
    assert!(shown.stderr.contains("nobody is there to be asked; --yes adds them"), "{}", shown.stderr);
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
    assert_eq!(jobs.replay(&policy, 5, &key).code(), 1);
    assert_eq!(fs::read_to_string(&policy).expect("it is there"), after);
    // One that ships is nobody's to change.
    let ships = jobs.learn(&runs, &["--update", "base", "--yes"]);
    assert!(ships.code() == 2 && ships.stderr.contains("ships with this program"), "{}", ships.stderr);
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
    // The status is the command's, and one that cannot be proposed is said.
    let words = ["run", "--learn", "/nonexistent/job.yaml", "--", "false"];
    let failed = jobs.sandbox(&jobs.workspace(3), &words).expect(1);
    for says in ["cannot write /nonexistent/job.yaml", "no policy was proposed"] {
        assert!(failed.stderr.contains(says), "{}", failed.stderr);
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
