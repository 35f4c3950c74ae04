//! The section `syscalls`, and what the filter holds of `kernel` where no hooks do: calls that are refused, each beside
//! one that is not, and the tools that must go on working.
//!
//! `--best-effort` and without the `lsm` layer, so that it is the same on every machine.

use std::fs;

use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const REST: &str =
    "version: 1\nname: p\nfiles: { default: allow }\nexec: { default: allow }\nnetwork: { default: allow }\n";

/// Runs a command under a policy with these settings.
fn under(scene: &Scene, settings: &[&str], command: &[&str]) -> Done {
    let mut args = vec!["run", "-q", "--layers", "trace,cgroup-net", "--best-effort"];
    let policies: Vec<String> = (0..settings.len()).map(|number| format!("p{number}.yaml")).collect();
    for (policy, settings) in policies.iter().zip(settings) {
        let text = format!("{}{settings}\n", REST.replace("name: p", &format!("name: {}", &policy[..2])));
        fs::write(scene.work().join(policy), text).expect("a policy");
        args.extend(["--enforce", policy]);
    }
    args.push("--");
    args.extend(command);
    finish(scene.sandbox(args))
}

/// Makes calls that come to nothing, and prints each with its errno's name.
const CALLS: &str = "\
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
for call in sys.argv[1:]:
    name, number, *arguments = call.split(',')
    arguments = [ctypes.c_long(int(a, 0)) for a in arguments] + [ctypes.c_long(-1)] * 6
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(int(number)), *arguments[:6])
    print(name, errno.errorcode.get(ctypes.get_errno(), '0') if result == -1 else '0')
";

/// Calls by name, with their numbers and arguments.
fn calls() -> Vec<String> {
    let plain = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("move_mount", libc::SYS_move_mount),
        ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot),
        ("setns", libc::SYS_setns),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("clone3", libc::SYS_clone3),
        ("reboot", libc::SYS_reboot),
        ("swapoff", libc::SYS_swapoff),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("kcmp", libc::SYS_kcmp),
        ("io_cancel", libc::SYS_io_cancel),
        ("chmod", libc::SYS_fchmod),
        ("getpid", libc::SYS_getpid),
    ];
    let plain = plain.iter().map(|(name, number)| format!("{name},{number}"));
    let with = [
        format!("userns,{},{}", libc::SYS_unshare, libc::CLONE_NEWUSER),
        format!("files,{},{}", libc::SYS_unshare, libc::CLONE_FILES),
        format!("tiocsti,{},-1,0x5412", libc::SYS_ioctl),
        format!("size,{},-1,0x5413", libc::SYS_ioctl),
        format!("persona,{},0xffffffff", libc::SYS_personality),
        format!("randomised,{},0x0040000", libc::SYS_personality),
        format!("data-as-code,{},0x0400000", libc::SYS_personality),
        format!("x25,{},9,5,0", libc::SYS_socket),
        // Nobody has this number, and the caller itself is 0.
        format!("prlimit,{},0x7ffffffe,7,0,0", libc::SYS_prlimit64),
        format!("prlimit own,{},0,7,0,0", libc::SYS_prlimit64),
        format!("setpriority user,{},2,0x7ffffffe,0", libc::SYS_setpriority),
        format!("setpriority group,{},1,0x7ffffffe,0", libc::SYS_setpriority),
        format!("setpriority own,{},0,0,0", libc::SYS_setpriority),
        format!("ioprio user,{},3,0x7ffffffe,0", libc::SYS_ioprio_set),
        format!("ioprio one,{},1,0x7ffffffe,0", libc::SYS_ioprio_set),
        format!("ioprio own,{},1,0,0", libc::SYS_ioprio_set),
        format!("affinity,{},0x7ffffffe,0,0", libc::SYS_sched_setaffinity),
        format!("scheduler,{},0x7ffffffe,0,1", libc::SYS_sched_setscheduler),
    ];
    plain.chain(with).collect()
}

/// What became of them under these policies: `name errno`, a line each.
fn answers(scene: &Scene, settings: &[&str]) -> Vec<String> {
    let calls = calls();
    let mut command = vec!["python3", "-I", "-c", CALLS];
    command.extend(calls.iter().map(String::as_str));
    let done = under(scene, settings, &command).expect(0);
    done.stdout.lines().map(str::to_owned).collect()
}

/// Fails unless these are refused with EPERM, and these others with something else or not at all.
#[track_caller]
fn expect(answers: &[String], refused: &[&str], open: &[&str]) {
    let of = |name: &str| {
        let line = answers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("nothing about {name} in {answers:?}"))
    };
    for name in refused {
        assert_eq!(of(name), "EPERM", "{name} in {answers:?}");
    }
    for name in open {
        assert_ne!(of(name), "EPERM", "{name} in {answers:?}");
    }
    for (name, answer) in [("getpid", "0"), ("size", "EBADF"), ("persona", "0")] {
        assert_eq!(of(name), answer, "{name} in {answers:?}");
    }
}

/// What hooks would hold.
const OF_HOOKS: [&str; 10] = [
    "mount",
    "umount2",
    "move_mount",
    "pivot_root",
    "chroot",
    "userns",
    "ptrace",
    "process_vm_readv",
    "pidfd_getfd",
    "bpf",
];
const SURFACE: [&str; 5] = ["reboot", "swapoff", "userfaultfd", "data-as-code", "x25"];
const ALWAYS: [&str; 3] = ["setns", "keyctl", "tiocsti"];
/// Limits and priorities of others.
const OTHERS: [&str; 5] = ["prlimit", "setpriority user", "setpriority group", "ioprio user", "ioprio one"];
/// What programs do with their own, and with their threads'.
const OWN: [&str; 5] = ["prlimit own", "setpriority own", "ioprio own", "affinity", "scheduler"];

fn needs(test: &str) -> bool {
    met(test, &[Need::Trace, Need::Program("python3")])
}

#[test]
fn without_hooks_the_filter_holds_what_it_can_of_kernel() {
    if !needs("without_hooks_the_filter_holds_what_it_can_of_kernel") {
        return;
    }
    let scene = Scene::new();
    let closed = answers(&scene, &[""]);
    let others = ["kcmp", "chmod", "files", "randomised"];
    expect(&closed, &[&OF_HOOKS[..], &SURFACE, &ALWAYS, &OTHERS].concat(), &[&others[..], &OWN].concat());
    let may_signal = answers(&scene, &["kernel: { allow: [signal-outside] }"]);
    expect(&may_signal, &ALWAYS, &[&OTHERS[..], &OWN].concat());
    assert!(closed.contains(&"clone3 ENOSYS".to_owned()), "{closed:?}");
    // What the policy allows is open, and nothing else.
    let open = answers(&scene, &["kernel: { allow: [mount, userns, chroot, ptrace-own, bpf] }"]);
    expect(&open, &[&SURFACE[..], &ALWAYS].concat(), &OF_HOOKS);
    assert!(open.contains(&"clone3 ENOSYS".to_owned()), "no word opens it: {open:?}");
    let some = answers(&scene, &["kernel: { allow: [mount] }"]);
    expect(&some, &OF_HOOKS[4..], &OF_HOOKS[..4]);
}

#[test]
fn off_opens_the_surface_and_a_list_closes_its_own() {
    if !needs("off_opens_the_surface_and_a_list_closes_its_own") {
        return;
    }
    let scene = Scene::new();
    let off = answers(&scene, &["syscalls: off"]);
    // The first two need capabilities besides, which root gives up where no hooks judge.
    expect(&off, &[&OF_HOOKS[..], &ALWAYS].concat(), &SURFACE[2..]);
    let list = answers(&scene, &["syscalls: { deny: [fchmod, kcmp] }"]);
    expect(&list, &[&SURFACE[..], &ALWAYS, &["chmod", "kcmp"]].concat(), &["io_cancel", "files"]);
    // Several policies: each closes its own.
    let several = answers(&scene, &["syscalls: { deny: [fchmod] }", "syscalls: { deny: [kcmp] }"]);
    expect(&several, &["chmod", "kcmp", "reboot"], &["io_cancel"]);
    let several = answers(&scene, &["syscalls: off", "syscalls: default"]);
    expect(&several, &SURFACE, &["kcmp"]);
    let misspelt = under(&scene, &["syscalls: { deny: [chmdo] }"], &["true"]).expect(125);
    assert!(misspelt.stderr.contains("write `chmod`?"), "{}", misspelt.stderr);
}

#[test]
fn strict_leaves_a_list() {
    if !needs("strict_leaves_a_list") {
        return;
    }
    let scene = Scene::new();
    let strict = answers(&scene, &["syscalls: strict"]);
    let closed = ["kcmp", "io_cancel", "files"];
    expect(&strict, &[&OF_HOOKS[..], &SURFACE, &ALWAYS, &closed].concat(), &["chmod", "randomised"]);
    let traced = answers(&scene, &["syscalls: strict\nkernel: { allow: [ptrace-own] }"]);
    expect(&traced, &["mount", "kcmp"], &["ptrace", "process_vm_readv"]);
}

#[test]
fn a_run_reports_the_filter_and_its_proof() {
    if !met("a_run_reports_the_filter_and_its_proof", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    under(&scene, &["syscalls: strict"], &["true"]).expect(0);
    let run = scene.run();
    let text = fs::read_to_string(run.join("meta.json")).expect("meta.json");
    let meta: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let layers = meta["layers"].as_array().expect("layers");
    let filter = layers.iter().find(|layer| layer["name"] == "seccomp").expect("the filter is reported");
    assert_eq!(filter["role"], "enforces");
    let checks = filter["selftest"].as_array().expect("checks");
    assert!(checks.iter().all(|check| check["result"] == "held"), "{checks:?}");
    for group in ["unseen", "keyrings", "ptrace", "userns", "machine", "families", "strict"] {
        assert!(checks.iter().any(|check| check["check"] == group), "{group} in {checks:?}");
    }
    let log = Log::of_run(&run);
    let unheld = log.records().next().and_then(|(_, record)| record.list("unheld").map(<[_]>::to_vec));
    let unheld: Vec<String> =
        unheld.unwrap_or_default().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    assert!(!unheld.iter().any(|line| line.contains("syscalls")), "{unheld:?}");
    // Who only records has no filter.
    let scene = Scene::new();
    scene.record(["true"]).expect(0);
    let text = fs::read_to_string(scene.run().join("meta.json")).expect("meta.json");
    assert!(!text.contains("seccomp"), "{text}");
}

/// What is tried where there is one.
const OPTIONAL: [&str; 4] = ["sqlite3", "ssh-keygen", "java", "go"];

#[test]
fn tools_work_under_every_filter() {
    let scene = Scene::new();
    let work = scene.work();
    fs::write(work.join("hello.c"), "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n")
        .unwrap();
    fs::write(work.join("Makefile"), "hello: hello.c\n\tgcc -o hello hello.c\n").unwrap();
    let tools: [(&str, &str); 15] = [
        (
            "bash",
            "f() { echo \"$1\" | tr a-z A-Z; }; [ $(f x) = X ] && (sleep 0 & wait) && diff <(echo a) <(echo a)",
        ),
        (
            "git",
            "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log",
        ),
        ("make", "make && ./hello"),
        ("gcc", "gcc -O2 -pthread -o hi hello.c && ./hi"),
        (
            "python3",
            "python3 -I -c 'import subprocess,threading,tempfile,sqlite3,ssl,socket,multiprocessing as m\n\
                     t=threading.Thread(target=print); t.start(); t.join()\n\
                     subprocess.run([\"true\"],check=True); m.get_context(\"fork\").Pool(2).map(abs,[1])'",
        ),
        (
            "node",
            "node -e 'require(\"fs\").writeFileSync(\"n\",\"x\"); new (require(\"worker_threads\").Worker)(\"1\",{eval:true}); \
                  require(\"child_process\").execFileSync(\"true\")'",
        ),
        ("npm", "npm --offline --cache ./npm ls -g >/dev/null; npm --version"),
        ("curl", "curl -sf file:///etc/hostname >/dev/null"),
        (
            "sqlite3",
            "sqlite3 d.db 'create table t(a); insert into t values(1); pragma journal_mode=wal; select * from t'",
        ),
        (
            "tar",
            "mkdir -p d && echo x >d/f && mkfifo d/p && tar czf d.tgz d && tar tzf d.tgz && tar xzf d.tgz",
        ),
        ("ssh-keygen", "rm -f k k.pub; ssh-keygen -q -t ed25519 -N '' -f k"),
        ("perl", "perl -e 'system(\"true\") == 0 or die; fork // die'"),
        ("cargo", "cargo --version"),
        ("java", "java -version"),
        ("go", "go version"),
    ];
    for (tool, script) in tools {
        let there = finish(scene.command("sh", ["-c", &format!("command -v {tool}")])).code() == 0;
        if OPTIONAL.contains(&tool) && !there {
            continue;
        }
        if !met(tool, &[Need::Trace, Need::Program(tool), Need::Program("bash")]) {
            continue;
        }
        for settings in ["", "syscalls: strict", "syscalls: off"] {
            let script = format!("set -e; export HOME=$PWD; rm -rf r d d.db* hello; {script}");
            let done = under(&scene, &[settings], &["bash", "-c", &script]);
            assert_eq!(done.code(), 0, "{tool} with {settings:?}:\n{}\n{}", done.stdout, done.stderr);
        }
    }
}

#[test]
fn tracers_work_where_the_policy_allows_them() {
    if !met("tracers_work_where_the_policy_allows_them", &[Need::Trace, Need::Program("strace")]) {
        return;
    }
    let scene = Scene::new();
    let strace = ["strace", "-f", "-o", "out", "sh", "-c", "true"];
    for settings in ["", "syscalls: strict"] {
        assert_ne!(under(&scene, &[settings], &strace).code(), 0, "{settings}");
        let settings = format!("{settings}\nkernel: {{ allow: [ptrace-own] }}");
        under(&scene, &[&settings], &strace).expect(0);
        let out = fs::read_to_string(scene.work().join("out")).expect("what strace saw");
        assert!(out.contains("execve("), "{out}");
    }
}
