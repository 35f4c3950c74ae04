//! What a command of root's cannot do where no hooks judge it: files by handles, the memory of processes outside, and what
//! capabilities give. Each attempt with its errno, and with its control in a run that only records.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use sandbox_tests::closed::Closed;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("python3")];

/// `{words}` of `kernel` are allowed.
fn policy(scene: &Scene, words: &str) -> String {
    let work = scene.work();
    let git = format!(
        "- {{ name: git, deny: [write, create, delete, attributes], path: [\"{}/.git/config\"] }}",
        work.display()
    );
    Closed { work: Some(&work), proc: true, rules: &git, kernel: words, ..Closed::default() }.policy()
}

/// Prints for each attempt its name and 0 or the errno. Arguments: a process outside; the handle of a file outside.
const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
outside, handle = sys.argv[1], bytes.fromhex(sys.argv[2])
def by_handle(directory, flags):
    mount = os.open(directory, os.O_RDONLY)
    fd = libc.open_by_handle_at(mount, ctypes.create_string_buffer(handle), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "")
def look(process, name):
    with open("/proc/%s/%s" % (process, name), "rb") as file:
        file.read(1)
for name in [".git", ".", "/usr"]:
    attempt("handle " + name, lambda: by_handle(name, os.O_RDONLY))
attempt("handle write", lambda: by_handle(".git", os.O_RDWR))
for name in ["environ", "maps", "smaps", "auxv", "mem"]:
    attempt(name, lambda: look(outside, name))
    attempt("own " + name, lambda: look("self", name) if name != "mem" else open("/proc/self/mem", "rb").close())
attempt("status", lambda: look(outside, "status"))
for name, call in [("snapshot", 0x50009401), ("snapshot 2", 0x50009417)]:
    attempt(name, lambda: fcntl.ioctl(os.open(".", os.O_RDONLY), call, bytearray(4096)))
attempt("chown", lambda: os.chown("file", 1, 1))
attempt("chroot", lambda: os.chroot("/"))
attempt("kmsg", lambda: os.close(os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK)))
attempt("idle", lambda: os.sched_setscheduler(int(outside), os.SCHED_OTHER, os.sched_param(0)))
attempt("kcore", lambda: open("/proc/kcore", "rb").close())
for line in open("/proc/self/status"):
    if line.startswith("Cap"):
        print(*line.split())
"#
);

/// The handle of a file, as open_by_handle_at(2) takes it.
fn handle(path: &std::path::Path) -> String {
    const SCRIPT: &str = r#"
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(136)
ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint))[0] = 128
mount = ctypes.c_int()
if libc.name_to_handle_at(-100, sys.argv[1].encode(), buffer, ctypes.byref(mount), 0):
    sys.exit("name_to_handle_at: %d" % ctypes.get_errno())
print(buffer.raw.hex())
"#;
    let made = Command::new("python3").args(["-I", "-c", SCRIPT]).arg(path).output().expect("python3");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("text").trim().to_owned()
}

fn scene() -> Scene {
    let scene = Scene::new();
    fs::create_dir(scene.work().join(".git")).expect("a directory");
    for name in ["work/.git/config", "work/file", "secret"] {
        fs::write(scene.path(name), "text").expect("a file");
    }
    scene
}

fn attempts(scene: &Scene, options: &[&str]) -> Done {
    let mut command = scene.sandbox(["run", "-q"]);
    command.args(options).args(["--", "python3", "-I", "-c", ATTEMPTS]);
    command.args([std::process::id().to_string(), handle(&scene.path("secret"))]);
    finish(command)
}

/// Whether a set of /proc/PID/status has a capability.
fn has(found: &BTreeMap<String, String>, set: &str, number: u32) -> bool {
    u64::from_str_radix(&found[set], 16).expect("a set") & 1 << number != 0
}

const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const SYS_NICE: u32 = 23;
const SYSLOG: u32 = 34;
const PERFMON: u32 = 38;

#[test]
fn root_inside_reaches_no_file_by_its_handle_and_no_process_outside() {
    if !met("root without hooks", NEEDS) {
        return;
    }
    let scene = scene();
    let control = attempts(&scene, &["--audit-only"]).expect(0).results();
    fs::write(scene.path("policy.yaml"), policy(&scene, "ptrace-own")).expect("a policy");
    let path = scene.path("policy.yaml");
    let path = path.to_str().expect("text");
    let done = attempts(&scene, &["--user", "root", "--layers", "trace,landlock,mountns", "--enforce", path])
        .expect(0);
    let found = done.results();
    for (name, control_code, code) in [
        ("handle .git", "0", "EPERM"),
        ("handle .", "0", "EPERM"),
        ("handle write", "0", "EPERM"),
        ("environ", "0", "EACCES"),
        ("maps", "0", "EACCES"),
        ("smaps", "0", "EACCES"),
        ("auxv", "0", "EACCES"),
        ("mem", "EIO", "EACCES"),
        ("own environ", "0", "0"),
        ("own maps", "0", "0"),
        ("own smaps", "0", "0"),
        ("own auxv", "0", "0"),
        ("own mem", "0", "0"),
        ("status", "0", "0"),
        ("snapshot", "ENOTTY", "EPERM"),
        ("snapshot 2", "ENOTTY", "EPERM"),
        ("chown", "0", "0"),
        ("chroot", "0", "EPERM"),
        ("kmsg", "0", "EPERM"),
        ("idle", "0", "EPERM"),
    ] {
        assert_eq!(control[name], control_code, "without: {name}");
        assert_eq!(found[name], code, "{name}\n{}{}", done.stdout, done.stderr);
    }
    // Not every kernel shows its memory as a file.
    let kernel_memory = (control["kcore"].as_str(), found["kcore"].as_str());
    assert!([("0", "EPERM"), ("ENOENT", "ENOENT")].contains(&kernel_memory), "{kernel_memory:?}");
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert!(has(&control, set, SYS_ADMIN) && has(&control, set, PERFMON), "{set}");
        for gone in [DAC_READ_SEARCH, NET_ADMIN, NET_RAW, SYS_NICE, SYSLOG, SYS_ADMIN, PERFMON] {
            assert!(!has(&found, set, gone), "{set} {gone}");
        }
        // What the policy opens, and what its rules on files are about.
        assert!(has(&found, set, SYS_PTRACE) && has(&found, set, DAC_OVERRIDE), "{set}");
    }
}

#[test]
fn a_word_that_leaves_root_a_look_at_others_is_said_not_to_hold() {
    if !met("root without hooks", NEEDS) {
        return;
    }
    let scene = scene();
    fs::write(scene.path("policy.yaml"), policy(&scene, "ptrace-own, perf")).expect("a policy");
    let path = scene.path("policy.yaml");
    let path = path.to_str().expect("text");
    let enforce = ["--user", "root", "--layers", "trace,landlock,mountns", "--enforce", path];
    let refused = attempts(&scene, &enforce);
    assert_eq!(refused.code(), 125, "{refused:?}");
    assert!(refused.stderr.contains("`ptrace-any`"), "{}", refused.stderr);
    assert!(refused.stdout.is_empty());
    // The user may choose so; then the word gives what it says.
    let mut best = enforce.to_vec();
    best.push("--best-effort");
    let found = attempts(&scene, &best).expect(0).results();
    assert!(has(&found, "CapEff:", PERFMON) && !has(&found, "CapEff:", DAC_READ_SEARCH));
    assert_eq!(found["handle ."], "EPERM");
}
