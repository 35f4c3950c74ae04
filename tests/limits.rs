//! Limits of a whole run, on a machine whose control groups may lie in either version of the hierarchies.

use std::fs;
use std::time::{Duration, Instant};

use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, Scene, finish};

const REST: &str =
    "version: 1\nname: p\nfiles: { default: allow }\nexec: { default: allow }\nnetwork: { default: allow }\n";

/// Runs a script as nobody, under a policy with these limits or none.
fn limited(scene: &Scene, limits: &str, script: &str) -> Done {
    start(scene, limits, &["--user", "nobody"], script)
}

/// `--best-effort`, since without hooks nothing keeps the record of a run from root inside.
fn start(scene: &Scene, limits: &str, options: &[&str], script: &str) -> Done {
    let policy = scene.path("limits.yaml");
    let limits = if limits.is_empty() { String::new() } else { format!("limits: {{ {limits} }}\n") };
    fs::write(&policy, format!("{REST}{limits}")).expect("a policy");
    let mut command =
        scene.sandbox(["run", "-q", "--layers", "trace,cgroup-net", "--best-effort", "--enforce"]);
    command.arg(&policy).args(options).args(["--", "sh", "-c", script]);
    finish(command)
}

/// What of the limits the last run did not hold, as its first line says.
fn unheld(scene: &Scene) -> Vec<String> {
    let mut lines = all_unheld(scene);
    lines.retain(|line| line.contains("limit"));
    lines
}

/// What the last run did not hold.
fn all_unheld(scene: &Scene) -> Vec<String> {
    let log = Log::of_run(scene.runs().last().expect("a run"));
    let list = log.records().next().and_then(|(_, record)| record.list("unheld").map(<[_]>::to_vec));
    list.unwrap_or_default().into_iter().map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

/// Makes as many processes as it can, up to sixty, and says how many.
const MANY: &str =
    "exec 2>/dev/null; cd /; i=0; while [ $i -lt 60 ]; do sleep 20 & i=$((i+1)); echo $i; done; echo all";

#[test]
fn processes_are_counted() {
    if !met("limits of processes", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let free = limited(&scene, "", MANY).expect(0);
    assert!(free.stdout.ends_with("60\nall\n"), "{}", free.stdout);
    let done = limited(&scene, "processes: 20", MANY);
    assert!(done.stdout.contains("10\n") && !done.stdout.contains("30\n"), "{}{}", done.stdout, done.stderr);
    assert!(!done.stdout.contains("all"), "{}", done.stdout);
    assert_eq!(unheld(&scene), [""; 0]);
}

#[test]
fn memory_is_counted() {
    if !met("limits of memory", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let scene = Scene::new();
    let fill = "exec python3 -I -c 'b = bytearray(200 << 20); print(len(b))'";
    let free = limited(&scene, "", fill).expect(0);
    assert_eq!(free.stdout, "209715200\n");
    let done = limited(&scene, "memory: 64MiB", fill);
    assert!(done.stdout.is_empty(), "{}", done.stdout);
    // Killed for want of memory, or refused it.
    assert!([137, 1].contains(&done.code()), "{}: {}", done.code(), done.stderr);
}

#[test]
fn time_ends_a_run() {
    if !met("limits of time", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let begun = Instant::now();
    let done = limited(&scene, "time: 1s", "cd /; sleep 100 & sleep 100").expect(124);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(done.stderr.contains("the run was ended: its time is over (`limits`: 1s)"), "{}", done.stderr);
    // It was seen to its end.
    finish(scene.audit_verify(["--strict", "last"])).expect(0);
    let log = Log::of_run(scene.runs().last().expect("a run"));
    let reason = log.records().last().and_then(|(_, record)| record.text("reason").map(str::to_owned));
    assert_eq!(reason.as_deref(), Some("its time is over (`limits`: 1s)"));
    // Whoever is done before has its own status.
    limited(&scene, "time: 100s", "exit 3").expect(3);
}

#[test]
fn nothing_is_left_of_the_groups() {
    if !met("groups of limits", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let done = limited(&scene, "memory: 1GiB, processes: 100, cpu: 50%", "cat /proc/self/cgroup").expect(0);
    let run = scene.run();
    let name = format!("sandbox-{}", run.file_name().expect("an id").to_str().expect("UTF-8"));
    assert!(done.stdout.contains(&name), "{}", done.stdout);
    // Another store may have a run of the same name, whose group then has another.
    let groups = done.stdout.lines().filter(|line| line.contains(&name));
    let names: Vec<&str> = groups.filter_map(|line| line.rsplit('/').next()).collect();
    assert!(names.iter().all(|name| *name == names[0]), "{}", done.stdout);
    let left = finish(scene.command("find", ["/sys/fs/cgroup", "-name", names[0]]));
    assert_eq!(left.stdout, "");
}

/// Tries to leave its groups, by their files and by being born elsewhere; then makes processes.
const LEAVE: &str = r#"
import ctypes, errno, glob, os, signal
for procs in glob.glob("/sys/fs/cgroup/*/cgroup.procs") + ["/sys/fs/cgroup/cgroup.procs"]:
    if "/systemd/" not in procs and os.path.exists(procs):
        try:
            open(procs, "w").write(str(os.getpid()))
        except OSError as error:
            print("leave", errno.errorcode[error.errno])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(ctypes.c_long(435), None, ctypes.c_long(0))
print("clone3", errno.errorcode[ctypes.get_errno()])
made = []
try:
    for _ in range(60):
        pid = os.fork()
        if not pid:
            signal.pause()
        made.append(pid)
except OSError as error:
    print(errno.errorcode[error.errno])
for pid in made:
    os.kill(pid, signal.SIGKILL)
print(len(made))
"#;

/// Where Landlock closes the files of the groups, and the filter clone3, root stays in them without hooks.
#[test]
fn root_does_not_leave_where_landlock_closes_the_groups() {
    if !met("limits of root behind Landlock", &[Need::Trace, Need::Program("python3")]) {
        return;
    }
    let run = |layers: &str| {
        let scene = Scene::new();
        let work = scene.work();
        let policy = format!(
            "version: 1
name: p
files:
  default: deny
  rules:
    - {{ name: open, allow: [read, load, attributes], path: [\"/**\"] }}
    - {{ name: work, allow: [write, create, delete], path: [\"{}/**\"] }}
    - {{ name: devices, allow: [write], path: [\"/dev/null\"] }}
exec: {{ default: allow }}
network: {{ default: allow }}
limits: {{ processes: 20 }}
",
            work.display()
        );
        fs::write(scene.path("limits.yaml"), policy).expect("a policy");
        let mut command = scene.sandbox(["run", "-q", "--best-effort", "--layers", layers, "--enforce"]);
        command.arg(scene.path("limits.yaml")).args(["--", "python3", "-I", "-c", LEAVE]);
        let done = finish(command).expect(0);
        // Who asks for quiet is told all the same what nothing holds.
        assert_eq!(done.stderr.contains("not held: "), !all_unheld(&scene).is_empty(), "{}", done.stderr);
        (done.stdout, unheld(&scene))
    };
    let (stdout, unheld) = run("trace,landlock");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines.iter().filter(|line| **line == "leave EACCES").count() >= 1, "{stdout}");
    assert!(lines.iter().all(|line| !line.starts_with("leave") || *line == "leave EACCES"), "{stdout}");
    assert_eq!(lines[lines.len() - 3..], ["clone3 ENOSYS", "EAGAIN", "19"], "{stdout}");
    assert_eq!(unheld, [""; 0]);
    // The control: nothing keeps it there.
    let (stdout, unheld) = run("trace");
    assert!(!stdout.contains("EACCES") && stdout.ends_with("clone3 ENOSYS\n60\n"), "{stdout}");
    assert!(unheld.iter().any(|line| line.starts_with("root inside the run can leave")), "{unheld:?}");
}

/// Root can leave a control group where no hook keeps it: that is said.
#[test]
fn a_limit_that_root_could_leave_is_not_promised() {
    if !met("limits of root", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    start(&scene, "processes: 20", &[], "true").expect(0);
    let [limit, why] = &unheld(&scene)[..] else { panic!("{:?}", unheld(&scene)) };
    assert!(limit.starts_with("section `p/limits` limits `processes`"), "{limit}");
    assert!(why.starts_with("root inside the run can leave the control groups that limit it"), "{why}");
    // Nor is who left it found when the time is over.
    let scene = Scene::new();
    start(&scene, "time: 100s", &[], "true").expect(0);
    let [limit, why] = &unheld(&scene)[..] else { panic!("{:?}", unheld(&scene)) };
    assert!(limit.starts_with("section `p/limits` limits `time`"), "{limit}");
    assert!(why.contains("root inside the run can leave the control groups that limit it"), "{why}");
    // Another user's run stays in it.
    let scene = Scene::new();
    limited(&scene, "time: 100s", "true").expect(0);
    assert_eq!(unheld(&scene), [""; 0]);
}
