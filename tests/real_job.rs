//! What ships for agents and for jobs, enforced whole without hooks in the kernel, on real work: a clone, a build, packages
//! by name from a registry; for root, and for an ordinary user. Beside the work stands what a job has no business with, each
//! attempt with its errno, its record, and the same attempt without enforcement.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use net_lab::{Lab, PROGRAMS, PYTHON, Side};
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, finish};
use tempfile::TempDir;

/// Not those that somebody has in a home directory, which this run's home is not.
const PATH: &str = "/usr/sbin:/usr/bin";

/// Without hooks, also where the machine has them.
const LAYERS: [&str; 2] = ["--layers", "trace,landlock,mountns,netns"];

/// A name and an address of the laboratory that no policy here names.
const ELSEWHERE: (&str, &str) = ("denied.lab.test", "203.0.113.84");

/// Prints what came of each step: 0, an errno, or what was wrong.
const JOB: &str = r#"
import ctypes, errno, os, socket, subprocess, sys
LAB, OUTSIDER, PACKAGES = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, act):
    try:
        result = act()
        print(name, 0 if result is None else result, sep="\t", flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], sep="\t", flush=True)
def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"{command}: {done.stdout}{done.stderr}")
        return f"status {done.returncode}"
def says(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip() or "nothing"
def git(*words):
    return run("git", "-c", "user.name=job", "-c", "user.email=job@lab.test", *words)
def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o755))
def connect(address):
    with socket.create_connection(address, 20):
        pass
def own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect(server.getsockname())
def mount():
    place = os.path.abspath("mounted").encode()
    call(libc.mount, b"none", place, b"tmpfs", 0, None)
    call(libc.umount2, place, 0)
def forked(act):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            act()
            os.write(writer, b"0")
        except OSError as error:
            os.write(writer, errno.errorcode[error.errno].encode())
        os._exit(0)
    os.wait()
    return os.read(reader, 100).decode()
SEIZE, CLONE_NEWUSER = 0x4206, 0x10000000
def seize(pid):
    call(libc.ptrace, SEIZE, pid, None, None)
def seize_own():
    child = subprocess.Popen(["sleep", "1000"])
    try:
        return forked(lambda: seize(child.pid))
    finally:
        child.kill()
        child.wait()

attempt("clone", lambda: git("clone", "-q", "origin", "copy"))
attempt("build", lambda: run("make", "-s", "-C", "copy"))
attempt("what was built", lambda: says("copy/hello"))
attempt("commit", lambda: git("-C", "copy", "commit", "-q", "--allow-empty", "-m", "second"))
attempt("commit here", lambda: git("-C", "origin", "commit", "-q", "--allow-empty", "-m", "second"))
client = subprocess.run([sys.executable, LAB + "/client.py", LAB, *PACKAGES], stdin=subprocess.DEVNULL, capture_output=True, text=True)
sys.stderr.write(client.stderr)
print(client.stdout, end="", flush=True)
attempt("read key", lambda: open(os.path.expanduser("~/.ssh/id_ed25519")).close())
attempt("read settings", lambda: open(os.path.expanduser("~/.gitconfig")).close())
attempt("connect elsewhere", lambda: connect(("203.0.113.84", 80)))
attempt("ask for elsewhere", lambda: says("curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "http://denied.lab.test/"))
attempt("connect own", own)
attempt("mount", mount)
attempt("user namespace", lambda: forked(lambda: call(libc.unshare, CLONE_NEWUSER)))
attempt("trace outside", lambda: forked(lambda: seize(OUTSIDER)))
attempt("trace own", seize_own)
attempt("old hook", lambda: touch("origin/.git/hooks/pre-commit"))
attempt("new hook", lambda: touch("copy/.git/hooks/pre-commit"))
attempt("old settings", lambda: touch("origin/.git/config"))
attempt("add worktree", lambda: git("-C", "origin", "worktree", "add", "-q", "../new"))
attempt("commit in new worktree", lambda: git("-C", "new", "commit", "-q", "--allow-empty", "-m", "third"))
attempt("commit in old worktree", lambda: git("-C", "side", "commit", "-q", "--allow-empty", "-m", "third"))
attempt("old commondir", lambda: touch("origin/.git/worktrees/side/commondir"))
attempt("absent commondir", lambda: touch("origin/.git/commondir") or os.unlink("origin/.git/commondir"))
attempt("other identity", lambda: run("/usr/bin/setpriv", "--version"))
attempt("no other identity", lambda: run("/usr/bin/env", "--version"))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
attempt("pair", lambda: [one.close() for one in socket.socketpair()] and None)
"#;

/// As whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

/// The laboratory, a home and a workspace below /home: temporary places are open as a whole.
struct Site {
    lab: Lab,
    top: TempDir,
    who: Who,
}

/// A process of the same user's, outside.
struct Outsider(Child);

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn needed(test: &str) -> bool {
    let programs =
        PROGRAMS.iter().chain(&["nsenter", "setpriv", "make", "cc", "npm", "/usr/bin/pip3", PYTHON]);
    let programs = programs.map(|program| Need::Program(program));
    met(test, &[Need::Trace].into_iter().chain(programs).collect::<Vec<_>>())
}

impl Site {
    fn new(who: Who) -> Site {
        let lab = Lab::start(Side::Private).expect("a laboratory");
        let top = tempfile::Builder::new().prefix("sandbox-test-").tempdir_in("/home").expect("a home");
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
        };
        open(top.path());
        open(&lab.path(""));
        let site = Site { lab, top, who };
        for name in ["bin", "store"] {
            fs::create_dir(site.path(name)).expect("a directory");
        }
        for name in ["sandbox", "audit-verify"] {
            fs::copy(binary(name), site.path("bin").join(name)).expect("a binary that the user can read");
        }
        site.own("store");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn own(&self, name: &str) {
        if self.who == Who::User {
            let done = Command::new("chown").args(["-R", "65534:65534"]).arg(self.path(name)).status();
            assert!(done.expect("chown").success());
        }
    }

    /// A home as a person's is, and a workspace with a repository in it, both made anew.
    fn furnish(&mut self) {
        let place = self.path("place");
        self.lab.work_in(&place, OsStr::new(PATH)).expect("a place to work");
        let home = place.join("home");
        for directory in [".ssh", ".npm", ".cache"] {
            fs::create_dir(home.join(directory)).expect("a directory");
        }
        fs::write(home.join(".ssh/id_ed25519"), "secret").expect("a key");
        fs::write(home.join(".gitconfig"), "[init]\n\tdefaultBranch = main\n").expect("settings");
        let origin = place.join("work/origin");
        fs::create_dir_all(&origin).expect("a directory");
        fs::create_dir(place.join("work/mounted")).expect("a directory");
        let source = "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n";
        fs::write(origin.join("hello.c"), source).expect("a source");
        fs::write(origin.join("Makefile"), "hello: hello.c\n\tcc -o $@ $<\n").expect("a makefile");
        let git = "git init -q && mkdir -p .git/hooks && git add . && git -c user.name=a -c user.email=a@b commit -q -m first && git worktree add -q ../side";
        let mut made = self.lab.command("/bin/sh".as_ref());
        made.args(["-c", &format!("cd origin && {git}")]);
        finish(made).expect(0);
        self.own("place");
    }

    /// A program of the laboratory's side, as whom the job is.
    fn command(&self, program: &Path) -> Command {
        let mut command = match self.who {
            Who::Root => self.lab.command(program),
            Who::User => {
                let mut command = self.lab.command("/usr/bin/setpriv".as_ref());
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
                command.args(["--bounding-set=-all", "--"]).arg(program);
                command
            }
        };
        command.env("SANDBOX_HOME", self.path("store"));
        command
    }

    fn sandbox(&self, policy: &str) -> Command {
        let mut command = self.command(&self.path("bin/sandbox"));
        command.args(["run", "-q", "--enforce", policy]);
        if self.who == Who::Root {
            command.args(LAYERS);
        }
        command.arg("--workspace").arg(self.path("place/work")).arg("--");
        command
    }

    /// The job, by this command's program where it has one.
    fn job(&mut self, sandbox: Option<&str>, packages: &[&str]) -> (Done, BTreeMap<String, String>) {
        self.furnish();
        let mut sleeper = self.command("/usr/bin/sleep".as_ref());
        let outsider = Outsider(sleeper.arg("1000").stdout(Stdio::null()).spawn().expect("sleep"));
        let mut command = match sandbox {
            Some(policy) => {
                let mut command = self.sandbox(policy);
                command.arg(PYTHON);
                command
            }
            None => self.command(PYTHON.as_ref()),
        };
        let lab = self.lab.path("").display().to_string();
        command.args(["-c", JOB, lab.trim_end_matches('/'), &outsider.0.id().to_string()]).args(packages);
        let done = finish(command).expect(0);
        let lines = done.stdout.lines().filter_map(|line| line.split_once('\t'));
        let found = lines.map(|(name, result)| (name.to_owned(), result.to_owned())).collect();
        (done, found)
    }

    fn run(&self) -> PathBuf {
        let runs = fs::read_dir(self.path("store/runs")).expect("runs");
        let mut runs: Vec<_> = runs.map(|run| run.expect("a run").path()).collect();
        runs.retain(|run| run.is_dir() && !run.is_symlink());
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }
}

const PACKAGES: [&str; 2] = ["npm=netlab-top", "pip=netlab-top"];

/// What the job is for: the same with and without enforcement.
const WORK: &[(&str, &str)] = &[
    ("clone", "0"),
    ("build", "0"),
    ("what was built", "built"),
    ("commit", "0"),
    ("commit here", "0"),
    ("npm=netlab-top", "0 netlab-leaf@1.0.0 netlab-top@1.0.0"),
    ("pip=netlab-top", "0 netlab_leaf-1.0.0-py3-none-any.whl netlab_top-1.0.0-py3-none-any.whl"),
    ("read settings", "0"),
    ("connect own", "0"),
    ("trace own", "0"),
    ("new hook", "0"),
    ("add worktree", "0"),
    ("commit in new worktree", "0"),
    ("commit in old worktree", "0"),
    // What is not there when the run starts is not held without hooks, as the policies say.
    ("absent commondir", "0"),
    ("no other identity", "0"),
    ("pair", "0"),
];

/// What it has no business with: without enforcement, and with it.
const ELSE: &[(&str, &str, &str)] = &[
    ("read key", "0", "EACCES"),
    ("connect elsewhere", "0", "ENETUNREACH"),
    ("ask for elsewhere", "200", "403"),
    ("mount", "0", "EPERM"),
    ("user namespace", "0", "EPERM"),
    ("trace outside", "0", "EPERM"),
    ("old hook", "0", "EROFS"),
    ("old settings", "0", "EROFS"),
    ("old commondir", "0", "EROFS"),
    ("other identity", "0", "EACCES"),
    ("unix", "0", "EPERM"),
];

fn agent(name: &str, who: Who) {
    if !needed(name) {
        return;
    }
    let mut site = Site::new(who);
    let (free, found) = site.job(None, &PACKAGES);
    let of = |found: &BTreeMap<String, String>, name: &str| found.get(name).cloned().unwrap_or_default();
    for (name, result) in WORK.iter().copied().chain(ELSE.iter().map(|(name, free, _)| (*name, *free))) {
        // An ordinary user mounts nothing anyhow.
        let result = if who == Who::User && name == "mount" { "EPERM" } else { result };
        assert_eq!(of(&found, name), result, "without enforcement: {name}\n{}{}", free.stdout, free.stderr);
    }
    site.lab.settle().expect("the servers");
    let (held, found) = site.job(Some("coding-agent"), &PACKAGES);
    for (name, result) in WORK.iter().copied().chain(ELSE.iter().map(|(name, _, held)| (*name, *held))) {
        assert_eq!(of(&found, name), result, "{who:?}: {name}\n{}{}", held.stdout, held.stderr);
    }
    let arrived = site.lab.settle().expect("the servers");
    assert!(!arrived.iter().any(|line| line.contains(ELSEWHERE.0)), "{arrived:?}");
    assert!(arrived.iter().any(|line| line.contains("tls request registry.npmjs.org")), "{arrived:?}");

    let mut verified = site.command(&site.path("bin/audit-verify"));
    verified.arg(site.run());
    finish(verified).expect(0);
    let log = Log::of_run(&site.run());
    let first = log.records().next().expect("a line").1;
    assert_eq!(first.list("unheld"), None, "all of it is held");
    let told = |action: &str, rule: &str, key: &str, value: &[u8]| {
        log.records().any(|(_, record)| {
            record.text("action") == Some(action)
                && record.text("policy_rule") == Some(rule)
                && record.bytes(key) == Some(value)
        })
    };
    let path = |tail: &str| path(&site, tail);
    for (rule, key, value) in [
        ("base/credentials", "path", path("home/.ssh/id_ed25519")),
        ("coding-agent/git-hooks", "path", path("work/origin/.git/hooks/pre-commit")),
        ("coding-agent/git-settings", "path", path("work/origin/.git/config")),
        ("coding-agent/other-identities", "path", b"/usr/bin/setpriv".to_vec()),
        ("coding-agent/network.default", "dst_ip", ELSEWHERE.1.into()),
        ("coding-agent/network.default", "host", ELSEWHERE.0.into()),
    ] {
        assert!(told("BLOCKED", rule, key, &value), "{who:?}: {rule} {}", String::from_utf8_lossy(&value));
    }
    assert!(told("ALLOWED", "coding-agent/registries", "host", b"registry.npmjs.org"));
    assert!(told("ALLOWED", "strict/workspace", "path", &path("work/copy/.git/hooks/pre-commit")));
}

fn path(site: &Site, tail: &str) -> Vec<u8> {
    site.path("place").join(tail).into_os_string().into_encoded_bytes()
}

#[test]
fn an_agents_work_is_done_by_root_and_nothing_else_is() {
    agent("an_agents_work_is_done_by_root_and_nothing_else_is", Who::Root);
}

#[test]
fn an_agents_work_is_done_by_an_ordinary_user_and_nothing_else_is() {
    agent("an_agents_work_is_done_by_an_ordinary_user_and_nothing_else_is", Who::User);
}

#[test]
fn a_job_is_done_as_well() {
    const NAME: &str = "a_job_is_done_as_well";
    if !needed(NAME) {
        return;
    }
    for who in [Who::Root, Who::User] {
        let mut site = Site::new(who);
        let (held, found) = site.job(Some("ci-job"), &PACKAGES[..1]);
        let work = WORK.iter().filter(|(name, _)| !name.starts_with("pip=")).copied();
        for (name, result) in work.chain(ELSE.iter().map(|(name, _, held)| (*name, *held))) {
            let found = found.get(name).map_or("?", String::as_str);
            assert_eq!(found, result, "{who:?}: {name}\n{}{}", held.stdout, held.stderr);
        }
        let log = Log::of_run(&site.run());
        assert_eq!(log.records().next().expect("a line").1.list("unheld"), None, "all of it is held");
    }
}

/// What needs hooks is in the stricter policy, which says so where there are none.
#[test]
fn the_stricter_policy_is_refused_without_hooks() {
    const NAME: &str = "the_stricter_policy_is_refused_without_hooks";
    if !needed(NAME) {
        return;
    }
    for who in [Who::Root, Who::User] {
        let mut site = Site::new(who);
        site.furnish();
        let mut command = site.sandbox("coding-agent-strict");
        let refused = finish({
            command.args(["/bin/sh", "-c", "touch ran"]);
            command
        })
        .expect(125);
        for line in [
            "rule `coding-agent-strict/passwords` denies `read`",
            "rule `base/git-code` denies `write`",
            "`coding-agent-strict/kernel.default` closes `ptrace-own`",
            "closes unix sockets with a path too",
        ] {
            assert!(refused.stderr.contains(line), "{who:?}: {line}\n{}", refused.stderr);
        }
        assert!(!site.path("place/work/ran").exists());
        // The same start with the other policy.
        let mut command = site.sandbox("coding-agent");
        command.args(["/bin/sh", "-c", "touch ran"]);
        finish(command).expect(0);
        assert!(site.path("place/work/ran").exists());
    }
}
