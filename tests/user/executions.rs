//! Executions as an ordinary user's run records them: what happened is told as that, what did not is not, however short the
//! program lives and whatever it shows of itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use audit_verify::canonical::Record;
use sandbox_tests::closed::Closed;
use sandbox_tests::requirement::Need;
use sandbox_tests::scene::{Done, finish};

use crate::place::{Place, USER, possible};

const NEEDS: &[Need<'_>] = &[Need::Program("python3"), Need::Program("cc")];

/// A place with programs that end at once: `open`, and `shut/closed`, which may be neither read nor run.
fn place() -> Place {
    let place = Place::new();
    let work = place.work();
    fs::create_dir(work.join("shut")).expect("a directory");
    fs::write(place.scene.path("p.c"), "int main(void) { return 5; }\n").expect("a source");
    for (name, how) in [("open", "-static"), ("shut/closed", "-static"), ("linked", "-O0")] {
        let program = work.join(name);
        let built = Command::new("cc").arg(how).arg("-o").arg(&program).arg(place.scene.path("p.c")).status();
        assert!(built.expect("cc").success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    for path in [work.join("shut"), work.join("shut/closed"), work.join("open"), work.join("linked")] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("of the user's own");
    }
    place
}

/// Runs a script where `shut` is closed, without a layer that says by itself what it refused.
fn run(place: &Place, script: &str) -> Done {
    let work = place.work();
    let rules = format!("- {{ name: shut, deny: [all], path: [\"{}/shut/**\"] }}", work.display());
    let text = Closed { work: Some(&work), proc: true, rules: &rules, ..Closed::default() }.policy();
    let exec = format!(
        "exec: {{ default: allow, rules: [{{ name: shut-run, deny: [run], path: [\"{}/shut/**\"] }}] }}",
        work.display()
    );
    let file = place.scene.path("policy.yaml");
    fs::write(&file, text.replace("exec: { default: allow }", &exec)).expect("a policy");
    fs::write(work.join("script.py"), script).expect("a script");
    let words = ["run".into(), "--enforce".into(), file.into_os_string(), "--".into()];
    let command = ["python3", "-I", "script.py"].map(Into::into);
    finish(place.sandbox(words.into_iter().chain(command))).expect(0)
}

/// The executions that were called by this name.
fn executed<'l>(log: &'l sandbox_tests::log::Log, name: &[u8]) -> Vec<Record<'l>> {
    crate::place::at(log, "exec", name)
}

/// Tries that fail: each in a process that ends as late as it likes, and whose parent takes its time.
const REFUSED: &str = r#"
import os, sys, time, subprocess
W = os.getcwd()
os.symlink("shut/closed", "sulink")
os.symlink("shut", "ddl")
for name in ["shut/closed", "sulink", "ddl/closed", "open/../shut/closed", "ddl/../shut/closed", "nowhere"]:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(W + "/" + name, ["x"])
        except OSError as error:
            os._exit(error.errno)
    time.sleep(0.2)
    print(name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
# A shell that is replaced, or is not.
print("shell", subprocess.run(["sh", "-c", "exec " + W + "/shut/closed"], stderr=subprocess.DEVNULL).returncode)
"#;

#[test]
fn what_was_refused_is_told_as_that() {
    if !possible("refused executions", NEEDS) {
        return;
    }
    let place = place();
    let done = run(&place, REFUSED);
    let results: Vec<&str> = done.stdout.lines().collect();
    let wanted = [
        "shut/closed 13",
        "sulink 13",
        "ddl/closed 13",
        "open/../shut/closed 20",
        "ddl/../shut/closed 13",
        "nowhere 2",
        "shell 126",
    ];
    assert_eq!(results, wanted, "{}", done.stderr);
    let log = place.log();
    let closed = place.name("shut/closed");
    for (name, times) in [("shut/closed", 2), ("sulink", 1), ("ddl/closed", 1), ("ddl/../shut/closed", 1)] {
        let found = executed(&log, &place.name(name));
        assert_eq!(found.len(), times, "{name}");
        for record in found {
            assert_eq!(record.text("action"), Some("BLOCKED"), "{name}");
            assert_eq!(record.text("policy_rule"), Some("p/shut-run"), "{name}");
            // Behind what is closed no name is looked up any more.
            let target = match name {
                "shut/closed" => None,
                "ddl/../shut/closed" => Some(place.name("shut/../shut/closed")),
                _ => Some(closed.clone()),
            };
            assert_eq!(record.bytes("target"), target.as_deref(), "{name}");
            assert_eq!(record.int("ret"), None, "{name}");
        }
    }
    for name in ["nowhere", "open/../shut/closed"] {
        let found = executed(&log, &place.name(name));
        assert_eq!((found.len(), found[0].text("action")), (1, Some("OBSERVED")), "{name}");
        assert_eq!(found[0].text("reason"), Some("nothing had this name"), "{name}");
    }
    // Control: `sh` and what the place opens were executed.
    assert_eq!(log.seal().uint("blocked"), Some(5));
    place.verified().expect(0);
}

/// Programs that are over before anybody looks.
const SHORT: &str = r#"
import os, time
W = os.getcwd()
def run(name, argv):
    pid = os.fork()
    if pid == 0:
        os.execv(name, argv)
    time.sleep(0.2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
fd = os.open("open", os.O_RDONLY)
os.set_inheritable(fd, True)
os.symlink(W + "/open", "link")
for name in [W + "/open", W + "/link", "/proc/self/fd/%d" % fd, W + "/linked"]:
    print(run(name, ["x", name, name]))
print(fd)
"#;

#[test]
fn what_ran_is_told_as_that_however_short() {
    if !possible("short executions", NEEDS) {
        return;
    }
    let place = place();
    let done = run(&place, SHORT);
    let fd = done.stdout.strip_prefix("5\n5\n5\n5\n").unwrap_or_else(|| panic!("{done:?}")).trim();
    let log = place.log();
    let by_descriptor = format!("/proc/self/fd/{fd}").into_bytes();
    for (name, program) in [
        (place.name("open"), "open"),
        (place.name("link"), "open"),
        (by_descriptor, "open"),
        (place.name("linked"), "linked"),
    ] {
        let found = executed(&log, &name);
        let called = String::from_utf8_lossy(&name).into_owned();
        assert_eq!(found.len(), 1, "{called}");
        assert_eq!(found[0].text("action"), Some("ALLOWED"), "{called}");
        assert_eq!(found[0].int("ret"), Some(0), "{called}");
        assert_eq!(found[0].bytes("exe"), Some(place.name(program).as_slice()), "{called}");
        let argv = found[0].list("argv").expect("arguments");
        let own = [b"x".to_vec(), name.clone(), name];
        assert!(argv.iter().eq(own.iter().map(Vec::as_slice)), "{called}: the caller's own, not {argv:?}");
    }
    assert_eq!(log.seal().uint("blocked"), Some(0));
    place.verified().expect(0);
}

/// One that fails, and a process that shows afterwards as if it had not.
const FORGED: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.getauxval.restype = ctypes.c_ulong
libc.execv.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_ulong, ctypes.c_int, ctypes.c_size_t]
random = libc.getauxval(25)
argv = (ctypes.c_char_p * 2)(b"x", None)
name = os.fsencode(os.getcwd() + "/shut/closed")
libc.memset(random, 1, 0)
failed = libc.execv(name, argv)
libc.memset(random, 7, 16)
os.close(os.open("after", os.O_WRONLY | os.O_CREAT, 0o600))
print(failed)
"#;

#[test]
fn nobody_shows_an_execution_that_was_none() {
    if !possible("forged executions", NEEDS) {
        return;
    }
    let place = place();
    assert_eq!(run(&place, FORGED).stdout, "-1\n");
    let log = place.log();
    let found = executed(&log, &place.name("shut/closed"));
    assert_eq!((found.len(), found[0].int("ret")), (1, None));
    assert_ne!(found[0].text("action"), Some("ALLOWED"));
    place.verified().expect(0);
}

/// One thread begins what fails, and waits; another one becomes a program.
const THREADS: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static char *name;
static int ready[2];
static void *fails(void *unused) {
    char *argv[] = { "innocent", "x", 0 };
    (void)unused;
    execv(name, argv);
    write(ready[1], "x", 1);
    for (;;) pause();
}
static void *succeeds(void *program) {
    char *argv[] = { "done", 0 };
    char got;
    read(ready[0], &got, 1);
    execv(program, argv);
    _exit(9);
}
int main(int argc, char **argv) {
    pthread_t thread;
    (void)argc;
    pipe(ready);
    name = argv[2];
    if (atoi(argv[1])) { pthread_create(&thread, 0, fails, 0); succeeds(argv[3]); }
    pthread_create(&thread, 0, succeeds, argv[3]);
    fails(0);
}
"#;

const RACES: &str = r#"
import os, time
W = os.getcwd()
for kind in ["0", "1"]:
    for name in [W + "/shut/closed", W + "/nowhere"]:
        pid = os.fork()
        if pid == 0:
            os.execv(W + "/threads", ["threads", kind, name, W + "/open"])
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn of_two_threads_one_gets_through() {
    if !possible("executions of two threads", NEEDS) {
        return;
    }
    let place = place();
    fs::write(place.scene.path("threads.c"), THREADS).expect("a source");
    let (source, program) = (place.scene.path("threads.c"), place.work().join("threads"));
    let built = Command::new("cc").args(["-w", "-pthread", "-o"]).arg(program).arg(source).status();
    assert!(built.expect("cc").success());
    fs::set_permissions(place.work().join("threads"), fs::Permissions::from_mode(0o755)).expect("its mode");
    assert_eq!(run(&place, RACES).stdout, "5\n".repeat(4));
    let log = place.log();
    for name in ["shut/closed", "nowhere"] {
        let found = executed(&log, &place.name(name));
        assert_eq!(found.len(), 2, "{name}");
        for record in found {
            assert_eq!(
                (record.int("ret"), record.bytes("exe") == Some(&place.name("open"))),
                (None, false),
                "{name}"
            );
            assert_ne!(record.text("action"), Some("ALLOWED"), "{name}");
        }
    }
    let done = executed(&log, &place.name("open"));
    assert_eq!(done.len(), 4);
    assert!(
        done.iter().all(|record| record.int("ret") == Some(0) && record.text("action") == Some("ALLOWED"))
    );
    place.verified().expect(0);
}

/// The collector without descriptors, for a moment.
const WITHOUT: &str = r#"
import os, resource
collector, all = os.getppid(), resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)
resource.prlimit(collector, resource.RLIMIT_NOFILE, (3, all[1]))
os.mkdir("unseen")
resource.prlimit(collector, resource.RLIMIT_NOFILE, all)
os.mkdir("seen")
"#;

#[test]
fn what_could_not_be_looked_at_is_counted() {
    if !possible("a collector without descriptors", NEEDS) {
        return;
    }
    let place = Place::new();
    place.record(["python3", "-I", "-c", WITHOUT]).expect(0);
    let log = place.log();
    let made = |name: &str| crate::place::at(&log, "dir_create", &place.name(name)).len();
    assert_eq!((made("unseen"), made("seen")), (0, 1));
    assert!(log.seal().uint("lost").is_some_and(|lost| lost > 0));
}
