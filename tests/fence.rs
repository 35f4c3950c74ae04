//! Policies that Landlock holds, where no hook does: what is denied fails with its errno and is recorded with its rule,
//! the control beside it works, and what it cannot hold is refused by name before the command starts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_tests::binaries::binary;
use sandbox_tests::closed::Closed;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const NEEDS: &[Need<'_>] = &[Need::Trace, Need::Program("python3")];

/// A closed world in which programs run; `{rules}` are more.
fn policy(scene: &Scene, rules: &str, rest: &str) -> String {
    let secrets = scene.path("secrets");
    let keys = format!(
        "- {{ name: keys, deny: [read, write, create, delete], path: [\"{}/**\"], because: keys stay here }}\n{rules}",
        secrets.display()
    );
    Closed { work: Some(&scene.work()), proc: true, rules: &keys, network: "deny", rest, ..Closed::default() }
        .policy()
}

/// A scene with a workspace that belongs to nobody, and things beside it.
fn scene() -> Scene {
    let scene = Scene::new();
    std::os::unix::fs::chown(scene.work(), Some(65534), Some(65534)).expect("chown");
    for directory in ["secrets", "other"] {
        let path = scene.path(directory);
        fs::create_dir(&path).expect("a directory");
        // Nothing but the policy denies anything here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        fs::write(path.join("file"), "text").expect("a file");
        fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o666)).expect("chmod");
    }
    scene
}

fn enforced(scene: &Scene, policy: &str, options: &[&str], script: &str) -> Done {
    fs::write(scene.path("policy.yaml"), policy).expect("a policy");
    let mut command = scene.sandbox(["run", "-q"]);
    command.args(options).arg("--enforce").arg(scene.path("policy.yaml"));
    command.args(["--", "python3", "-I", "-c", script]);
    finish(command)
}

/// Makes attempts and prints for each its name and 0 or the errno.
const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import os, signal, socket, sys
TOP = os.path.dirname(os.getcwd())
def at(place, name="file"):
    return os.path.join(TOP, place, name)
def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
for place in ["work", "other", "secrets"]:
    if place == "work":
        open(at(place), "w").write("text")
    attempt(place + " read", lambda: open(at(place)).close())
    attempt(place + " list", lambda: os.listdir(at(place, "")))
    attempt(place + " write", lambda: os.close(os.open(at(place), os.O_WRONLY)))
    attempt(place + " truncate", lambda: os.truncate(at(place), 1))
    attempt(place + " create", lambda: touch(at(place, "new")))
    attempt(place + " mkdir", lambda: os.mkdir(at(place, "directory")))
    attempt(place + " symlink", lambda: os.symlink("x", at(place, "link")))
    attempt(place + " mkfifo", lambda: os.mkfifo(at(place, "fifo")))
    attempt(place + " link", lambda: os.link(at(place), at("work", "linked-" + place)))
    attempt(place + " rename", lambda: os.rename(at(place), at("work", "moved-" + place)))
    attempt(place + " unlink", lambda: os.unlink(at(place, "file")))
    attempt(place + " proc", lambda: open("/proc/self/root" + at(place)).close())
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("signal own", lambda: os.kill(os.getpid(), 0))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
attempt("pair", lambda: socket.socketpair()[0].close())
"#
);

#[test]
fn what_is_denied_fails_and_is_recorded_and_the_rest_works() {
    if !met("landlock holds files", NEEDS) {
        return;
    }
    let scene = scene();
    let options = ["--user", "nobody", "--layers", "trace,landlock,netns"];
    let done = enforced(&scene, &policy(&scene, "", ""), &options, ATTEMPTS).expect(0);
    let found = done.results();
    let of = |name: &str| found.get(name).map_or("?", String::as_str);
    let acts = ["read", "list", "write", "truncate", "create", "mkdir", "symlink", "mkfifo"];
    for act in acts {
        assert_eq!(of(&format!("work {act}")), "0", "{act}\n{}", done.stdout);
        for place in ["other", "secrets"] {
            assert_eq!(of(&format!("{place} {act}")), "EACCES", "{place} {act}\n{}", done.stdout);
        }
    }
    let own = ["work link", "work rename", "signal own", "pair"].map(of);
    assert_eq!(own, ["0"; 4], "{}", done.stdout);
    assert_eq!(of("unix"), "EPERM", "no rule opens one");
    for place in ["other", "secrets"] {
        // From where nothing is granted to where something is.
        assert_eq!(of(&format!("{place} link")), "EXDEV");
        assert_eq!(of(&format!("{place} rename")), "EACCES");
        assert_eq!(of(&format!("{place} unlink")), "EACCES");
        assert_eq!(of(&format!("{place} proc")), "EACCES");
    }
    assert_eq!(of("signal"), "EPERM", "{}", done.stdout);
    assert_eq!(fs::read_to_string(scene.path("secrets/file")).expect("it is whole"), "text");
    finish(scene.audit_verify(["--strict", "last"])).expect(0);

    // Each denial of files stands in the record, with the rule that it is by.
    let log = Log::of_run(&scene.run());
    let denied = |path: &str| -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for (_, record) in log.records() {
            let named = ["path", "path2", "target"].iter().any(|key| {
                record
                    .text(key)
                    .is_some_and(|found| found.starts_with(scene.path(path).to_str().expect("UTF-8")))
            });
            if named && record.text("action") == Some("BLOCKED") {
                assert_eq!(record.text("layer"), Some("landlock"));
                *all.entry(record.text("policy_rule").unwrap_or("?").to_owned()).or_default() += 1;
            }
        }
        all
    };
    assert_eq!(denied("secrets").keys().collect::<Vec<_>>(), ["p/keys"]);
    assert_eq!(denied("other").keys().collect::<Vec<_>>(), ["p/files.default"]);
    assert!(
        denied("secrets")["p/keys"] >= 10 && denied("other")["p/files.default"] >= 10,
        "{denied:?}",
        denied = denied("other")
    );

    // The control: the same attempts, with nothing around them.
    let scene = self::scene();
    let free = finish(scene.command("python3", ["-I", "-c", ATTEMPTS]));
    let found = free.results();
    assert!(
        found.iter().all(|(name, code)| code == "0" || name.ends_with("proc") || name.ends_with("unlink")),
        "{}",
        free.stdout
    );
}

#[test]
fn what_it_cannot_hold_is_refused_by_name() {
    if !met("landlock refuses", NEEDS) {
        return;
    }
    let scene = scene();
    let options = ["--user", "nobody", "--layers", "trace,landlock,netns"];
    let pem = "    - { name: pem, deny: [read], path: [\"**/*.pem\"] }\n";
    let floating = policy(&scene, pem, "");
    let read = "open('x.pem', 'w').close(); open('x.pem').close(); print('read')";
    let refused = enforced(&scene, &floating, &options, read).expect(125);
    assert!(
        refused.stderr.contains("rule `p/pem` denies `read`, which no layer of this run holds"),
        "{}",
        refused.stderr
    );
    assert!(refused.stdout.is_empty() && scene.runs().is_empty(), "it never started");
    // The way round is there, and is recorded: before, and when it happens.
    let mut with = vec!["--best-effort"];
    with.extend(options);
    let went = enforced(&scene, &floating, &with, read).expect(0);
    assert_eq!(went.stdout, "read\n");
    let log = Log::of_run(&scene.run());
    let first = log.records().next().expect("a line").1;
    let unheld = first.list("unheld").expect("what is not held").to_vec();
    assert!(unheld.iter().any(|line| String::from_utf8_lossy(line).contains("`p/pem`")));
    let passed = log.records().any(|(_, record)| {
        record.text("policy_rule") == Some("p/pem") && record.text("action") == Some("WOULD_BLOCK")
    });
    assert!(passed, "what went past it is in the record");

    // Each of these is refused for its own reason.
    let cases = [
        ("files: { default: allow }\n", "`p/kernel.default` closes `raw-devices`"),
        (
            "files: { default: allow, rules: [{ name: x, deny: [read], path: [\"/x\"] }] }\n",
            "rule `p/x` denies `read`",
        ),
    ];
    for (files, why) in cases {
        let text = format!(
            "version: 1\nname: p\n{files}exec: {{ default: allow }}\nnetwork: {{ default: allow }}\n"
        );
        let open = ["--user", "nobody", "--layers", "trace,landlock"];
        let refused = enforced(&scene, &text, &open, "print('started')").expect(125);
        assert!(refused.stderr.contains(why) && refused.stdout.is_empty(), "{files}\n{}", refused.stderr);
    }
    let off = policy(&scene, "", "landlock: off\n");
    let refused = enforced(&scene, &off, &options, "print('started')").expect(125);
    assert!(refused.stderr.contains("rule `p/files.default` denies"), "{}", refused.stderr);
    // What is not listed cannot be rebuilt by lists: this rule allows by a pattern.
    let logs = "    - { name: logs, allow: [read], path: [\"/var/log/*.log\"] }\n";
    let refused = enforced(&scene, &policy(&scene, logs, ""), &options, "print('started')").expect(125);
    assert!(
        refused.stderr.contains("rule `p/logs` allows what no list of directories and ports says"),
        "{}",
        refused.stderr
    );
}

/// Without hooks and without permissions that speak for it, the record of a run is not kept from who it is about.
#[test]
fn the_record_is_kept_from_the_command_or_the_run_does_not_start() {
    if !met("the record is kept", NEEDS) {
        return;
    }
    let scene = scene();
    let refused =
        enforced(&scene, &policy(&scene, "", ""), &["--layers", "trace,landlock,netns"], "print('started')")
            .expect(125);
    assert!(refused.stderr.contains("rule `runner/record` denies `attributes`"), "{}", refused.stderr);
    assert!(refused.stdout.is_empty());
    // A policy that the command's user owns is one that it may change for the next run.
    fs::write(scene.path("policy.yaml"), "").expect("a file");
    std::os::unix::fs::chown(scene.path("policy.yaml"), Some(65534), None).expect("chown");
    let options = ["--user", "nobody", "--layers", "trace,landlock,netns"];
    let refused = enforced(&scene, &policy(&scene, "", ""), &options, "print('started')").expect(125);
    assert!(refused.stderr.contains("rule `runner/policy` denies `attributes`"), "{}", refused.stderr);
}

#[test]
fn doctor_says_what_holds_each_rule() {
    if !met("doctor on landlock", NEEDS) {
        return;
    }
    let scene = scene();
    fs::write(scene.path("policy.yaml"), policy(&scene, "", "")).expect("a policy");
    let mut command = scene.sandbox(["doctor", "--json", "--policy"]);
    command
        .arg(scene.path("policy.yaml"))
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534")
        .env("SUDO_USER", "nobody");
    let done = finish(command);
    let diagnosis: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
    let layer =
        diagnosis["layers"].as_array().expect("layers").iter().find(|layer| layer["name"] == "landlock");
    let layer = layer.expect("landlock is named");
    assert_eq!(layer["role"], "enforces", "{layer}");
    assert!(layer["selftest"].as_array().expect("checks").iter().all(|check| check["result"] == "held"));
    let hooks = diagnosis["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .any(|l| l["name"] == "lsm" && l["role"] != "off");
    let rules = diagnosis["policies"][0]["rules"].as_array().expect("rules");
    let keys = rules.iter().find(|rule| rule["rule"] == "p/keys").expect("the rule");
    assert_eq!(keys["held_by"][0], if hooks { "lsm" } else { "landlock" });
    assert!(rules.iter().all(|rule| rule["unheld"].as_array().expect("a list").is_empty()), "{rules:?}");
}

/// Ways past lists of directories and ports, each with its name and 0 or the errno. Arguments: a port of the machine's, a
/// program that must not run.
const LEAKS: &str = sandbox_tests::attempts!(
    r#"
import ctypes, errno, os, socket, subprocess, sys
PORT, PROGRAM = int(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result
def fast_open():
    with socket.socket() as made:
        made.sendto(b"hello", socket.MSG_FASTOPEN, ("127.0.0.1", PORT))
        made.recv(1)
def connect(protocol):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as made:
        made.settimeout(20)
        made.connect(("127.0.0.1", PORT))
def loaded(program):
    done = subprocess.run(["/lib64/ld-linux-x86-64.so.2", program], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise PermissionError(errno.EACCES, "") if "cannot open shared object file" in done.stderr else OSError(errno.EIO, done.stderr)
def compat():
    done = subprocess.run(["./workload", "odd", "compat", "."], stdout=subprocess.PIPE, text=True, check=True)
    if int(done.stdout) < 0:
        raise OSError(-int(done.stdout), "")
attempt("tcp", lambda: connect(socket.IPPROTO_TCP))
attempt("fast open", fast_open)
attempt("mptcp", lambda: connect(socket.IPPROTO_MPTCP))
attempt("io_uring", lambda: os.close(call(425, ctypes.c_uint(4), ctypes.create_string_buffer(120))))
attempt("x32", lambda: call(0x40000000 | 39))
attempt("32-bit", compat)
attempt("run", lambda: subprocess.run([PROGRAM], check=True))
attempt("ld.so", lambda: loaded(PROGRAM))
attempt("ld.so allowed", lambda: loaded("/usr/bin/true"))
"#
);

/// A closed world in which what may be read may also be run, so that no loader reads what must not run.
fn where_programs_are_closed(scene: &Scene) -> String {
    let work = scene.work();
    let run = format!(
        "exec:\n  default: deny\n  rules:\n    - {{ name: programs, allow: [run], path: [\"/usr/**\", \"/etc/**\", \"/lib/**\", \
         \"/lib64/**\", \"/proc/**\", \"/memfd:*\", \"/memfd:*/**\", \"{}/**\", \"/dev/null\", \"/dev/urandom\"] }}",
        work.display()
    );
    policy(scene, "", "").replace("exec: { default: allow }", &run)
}

/// TCP fast open, MPTCP, io_uring, x32 and `ld.so PROGRAM` go past Landlock: another layer closes them.
#[test]
fn known_ways_past_landlock_are_closed() {
    if !cfg!(target_arch = "x86_64") || !met("known ways past landlock", NEEDS) {
        return;
    }
    let scene = scene();
    let program = scene.path("secrets/program");
    fs::copy("/usr/bin/true", &program).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::copy(binary("workload"), scene.work().join("workload")).expect("a program");
    let machine = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = machine.local_addr().expect("an address").port().to_string();
    let arguments = [port.as_str(), program.to_str().expect("UTF-8")];
    fs::write(scene.path("policy.yaml"), where_programs_are_closed(&scene)).expect("a policy");
    let run = |layers: &str| {
        let mut command = scene.sandbox(["run", "-q", "--user", "nobody", "--layers", layers]);
        command.arg("--enforce").arg(scene.path("policy.yaml"));
        command.args(["--", "python3", "-I", "-c", LEAKS]).args(arguments);
        finish(command)
    };
    let done = run("trace,landlock,netns").expect(0);
    let found = done.results();
    for (name, code) in [
        // The loopback inside is another, where nobody listens.
        ("tcp", "ECONNREFUSED"),
        ("fast open", "ECONNREFUSED"),
        ("mptcp", "ECONNREFUSED"),
        ("io_uring", "EPERM"),
        ("x32", "ENOSYS"),
        ("32-bit", "ENOSYS"),
        ("run", "EACCES"),
        ("ld.so", "EACCES"),
        ("ld.so allowed", "0"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(code), "{name}\n{}{}", done.stdout, done.stderr);
    }
    machine.set_nonblocking(true).expect("it can");
    assert!(machine.accept().is_err(), "nobody came");
    finish(scene.audit_verify(["--strict", "last"])).expect(0);

    // Landlock alone would not hold the network, and says so.
    let refused = run("trace,landlock").expect(125);
    assert!(refused.stderr.contains("rule `p/network.default` denies `connect`"), "{}", refused.stderr);

    // The control: nothing around them. x32 is there only in kernels that are built with it.
    machine.set_nonblocking(false).expect("it can");
    std::thread::spawn(move || {
        while let Ok((mut one, _)) = machine.accept() {
            let _ = std::io::Write::write_all(&mut one, b"!");
        }
    });
    let mut free = scene.command("python3", ["-I", "-c", LEAKS]);
    free.args(arguments);
    let free = finish(free);
    let found = free.results();
    for name in ["tcp", "fast open", "mptcp", "io_uring", "32-bit", "run", "ld.so", "ld.so allowed"] {
        assert_eq!(found.get(name).map(String::as_str), Some("0"), "{name}\n{}{}", free.stdout, free.stderr);
    }
}

/// A place that may be read and not run: the dynamic loader reads it, and no list says otherwise.
#[test]
fn a_place_to_read_and_not_to_run_is_refused() {
    if !met("ld.so past landlock", NEEDS) {
        return;
    }
    let scene = scene();
    let program = scene.work().join("program");
    fs::copy("/usr/bin/true", &program).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let work = format!(", \"{}/**\"", scene.work().display());
    let policy = where_programs_are_closed(&scene);
    let read_only = policy.replacen(
        &format!("{work}, \"/dev/null\", \"/dev/urandom\"] }}"),
        ", \"/dev/null\", \"/dev/urandom\"] }",
        1,
    );
    assert_ne!(policy, read_only);
    let options = ["--user", "nobody", "--layers", "trace,landlock,netns"];
    let script = format!(
        "import subprocess, sys\nfor words in [{program:?}], ['/lib64/ld-linux-x86-64.so.2', {program:?}]:\n    \
         try: print(subprocess.run(words).returncode)\n    except PermissionError: print('EACCES')\n"
    );
    let refused = enforced(&scene, &read_only, &options, &script).expect(125);
    assert!(
        refused.stderr.contains("rule `p/exec.default` denies `run`, which no layer of this run holds"),
        "{}",
        refused.stderr
    );
    assert!(refused.stdout.is_empty());
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    // Beyond that the way is open, and the record says so in its first line.
    let went = enforced(&scene, &read_only, &[&["--best-effort"], &options[..]].concat(), &script).expect(0);
    assert_eq!(went.stdout, "EACCES\n0\n", "{}", went.stderr);
    let log = Log::of_run(&scene.run());
    let unheld = log.records().next().expect("a line").1.list("unheld").expect("what is not held").to_vec();
    assert!(
        unheld.iter().any(|line| String::from_utf8_lossy(line).contains("`p/exec.default` denies `run`"))
    );
}

/// A policy that names programs, as a learned one does: their loader is not among them, and they start.
#[test]
fn programs_start_that_are_allowed_by_name() {
    if !met("programs by name", &[Need::Trace, Need::Program("dash"), Need::Program("id")]) {
        return;
    }
    let scene = scene();
    let exec = "exec:\n  default: deny\n  rules:\n    - { name: programs, allow: [run], path: [\"/usr/bin/{cat,dash}\"] }";
    fs::write(scene.path("policy.yaml"), policy(&scene, "", "").replace("exec: { default: allow }", exec))
        .expect("a policy");
    let script = "cat ../other/file; id; echo $?; echo text > new; cat new";
    for user in ["nobody", "root"] {
        let options =
            ["run", "-q", "--best-effort", "--layers", "trace,landlock", "--user", user, "--enforce"];
        let mut command = scene.sandbox(options);
        command.arg(scene.path("policy.yaml")).args(["--", "/usr/bin/dash", "-c", script]);
        let done = finish(command).expect(0);
        assert_eq!(done.stdout, "126\ntext\n", "{user}: {}", done.stderr);
        assert!(done.stderr.contains("id: Permission denied"), "{user}: {}", done.stderr);
        let line = "not held: rule `p/exec.default` denies `run`";
        assert!(done.stderr.contains(line), "the loader reads any program: {}", done.stderr);
        fs::remove_file(scene.work().join("new")).expect("what was made");
    }
}
