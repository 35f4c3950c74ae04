//! Limits and priorities of other processes of the same user, the runner's own among them: an enforced run does not get at
//! them, and programs go on setting their own.

use std::ffi::OsString;
use std::fs;

use sandbox_tests::requirement::Need;
use sandbox_tests::scene::finish;

use crate::place::{Place, possible};

/// Attempts against the runner, which is the command's parent, and that one's; each prints its name and 0 or the errno.
/// With `enforced` as well those that would end it, or reach everything of the user's.
const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import ctypes, os, resource, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*map(ctypes.c_long, arguments)) == -1:
        raise OSError(ctypes.get_errno(), "")
IOPRIO_SET = 251 if os.uname().machine == "x86_64" else 30
collector = os.getppid()
front = int(open(f"/proc/{collector}/stat").read().rsplit(")", 1)[1].split()[1])
for name, pid in ("collector", collector), ("front", front):
    core = (0, resource.RLIM_INFINITY)
    attempt(name + " core", lambda: resource.prlimit(pid, resource.RLIMIT_CORE, core))
    attempt(name + " io", lambda: call(IOPRIO_SET, 1, pid, 2 << 13 | 4))
    if sys.argv[1] == "enforced":
        for limit in "CPU", "NOFILE", "FSIZE":
            which = getattr(resource, "RLIMIT_" + limit)
            attempt(name + " " + limit, lambda: resource.prlimit(pid, which, (0, 0)))
        attempt(name + " group", lambda: os.setpriority(os.PRIO_PGRP, pid, 19))
if sys.argv[1] == "enforced":
    attempt("user", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
    attempt("user io", lambda: call(IOPRIO_SET, 3, os.getuid(), 3 << 13))
attempt("own core", lambda: resource.setrlimit(resource.RLIMIT_CORE, core))
attempt("own io", lambda: call(IOPRIO_SET, 1, 0, 2 << 13 | 4))
attempt("own nice", lambda: os.nice(1))
attempt("own thread", lambda: os.sched_setaffinity(threading.get_native_id(), os.sched_getaffinity(0)))
attempt("own thread nice", lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19))
attempt("own scheduler", lambda: os.sched_setscheduler(threading.get_native_id(), os.SCHED_BATCH, os.sched_param(0)))
"#
);

#[test]
fn a_run_does_not_limit_its_runner() {
    if !possible("limits of the runner", &[Need::Program("python3")]) {
        return;
    }
    let place = Place::new();
    let file = place.scene.path("policy.yaml");
    let work = place.work();
    let policy = format!(
        "version: 1
name: p
files:
  default: deny
  rules:
    - {{ name: open, allow: [read, load, attributes], path: [\"/**\"] }}
    - {{ name: work, allow: [write, create, delete], path: [\"{}/**\"] }}
exec: {{ default: allow }}
network: {{ default: deny }}
kernel: {{ allow: [ptrace-own, raw-devices] }}
",
        work.display()
    );
    fs::write(&file, policy).expect("a policy");
    let words = |options: Vec<OsString>, how: &str| {
        let command = ["--", "python3", "-I", "-c", ATTEMPTS, how].map(OsString::from);
        [OsString::from("run")].into_iter().chain(options).chain(command).collect::<Vec<_>>()
    };
    let done = finish(place.sandbox(words(vec!["--enforce".into(), file.into()], "enforced"))).expect(0);
    let found = done.results();
    assert_eq!(found.len(), 20, "{}{}", done.stdout, done.stderr);
    for (name, code) in &found {
        let expected = if name.starts_with("own") { "0" } else { "EPERM" };
        assert_eq!(code, expected, "{name}\n{}", done.stdout);
    }
    place.verified().expect(0);

    // The control: nothing but the filter keeps one process of a user from another.
    let place = Place::new();
    let done = finish(place.sandbox(words(vec!["--audit-only".into()], "watched"))).expect(0);
    let found = done.results();
    assert_eq!(found.len(), 10, "{}{}", done.stdout, done.stderr);
    assert!(found.values().all(|code| code == "0"), "{}", done.stdout);
}
