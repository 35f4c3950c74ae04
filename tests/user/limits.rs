//! Limits of an ordinary user's run, on a machine that gives it no control group: what its process sets on itself, and the
//! runner's clock. What is not held is refused by name.

use std::fs;
use std::time::{Duration, Instant};

use sandbox_tests::requirement::Need;
use sandbox_tests::scene::{Done, finish};

use crate::place::{Place, possible};

/// Leaves a daemon and a chain of forks behind, then `rest`.
fn leaver(place: &Place, rest: &str) -> [String; 3] {
    let [workload, work] = [place.bin("workload"), place.work()].map(|path| path.display().to_string());
    let script = format!("{workload} odd daemon {work}; {workload} odd chain {work}; {rest}");
    ["sh".to_owned(), "-c".to_owned(), script]
}

/// Whether the daemon that it left is alive.
fn daemon_is_alive(place: &Place) -> bool {
    let pid = fs::read_to_string(place.work().join("daemon")).expect("its pid");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A policy that an ordinary user's run holds, with these limits or none; `{network}` is its default.
fn policy(place: &Place, network: &str, limits: &str) -> String {
    let work = place.work();
    let work = work.display();
    let limits = if limits.is_empty() { String::new() } else { format!("limits: {{ {limits} }}\n") };
    format!(
        "version: 1
name: p
files:
  default: deny
  rules:
    - {{ name: open, allow: [read, load, attributes], path: [\"/**\"] }}
    - {{ name: work, allow: [write, create, delete], path: [\"{work}/**\"] }}
    - {{ name: devices, allow: [write], path: [\"/dev/null\"] }}
exec: {{ default: allow }}
network: {{ default: {network} }}
kernel: {{ allow: [ptrace-own, raw-devices] }}
{limits}"
    )
}

fn enforced(place: &Place, policy: &str, options: &[&str], command: &[&str]) -> Done {
    let file = place.scene.path("policy.yaml");
    fs::write(&file, policy).expect("a policy");
    let words = ["run", "--enforce", file.to_str().expect("UTF-8")].into_iter();
    let words = words.chain(options.iter().copied()).chain(["--"]).chain(command.iter().copied());
    finish(place.sandbox(words))
}

/// What of the limits the last run did not hold, as its first line says.
fn unheld(place: &Place) -> Vec<String> {
    let log = place.log();
    let list = log.records().next().and_then(|(_, record)| record.list("unheld").map(<[_]>::to_vec));
    let lines = list.unwrap_or_default().into_iter().map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains("limit")).collect()
}

/// Tries to have its limit raised, then makes as many processes as it can, up to sixty, and says how many.
const MANY: &str = r#"
import errno, os, resource, signal
_, hard = resource.getrlimit(resource.RLIMIT_NPROC)
try:
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, -1))
    print("raised")
except (OSError, ValueError):
    print("not raised")
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

#[test]
fn processes_are_counted_without_a_control_group() {
    if !possible("processes of an ordinary user", &[Need::Program("python3")]) {
        return;
    }
    let place = Place::new();
    let command = ["python3", "-I", "-c", MANY];
    let free = enforced(&place, &policy(&place, "deny", ""), &[], &command).expect(0);
    assert!(free.stdout.ends_with("\n60\n"), "{}", free.stdout);

    // In a user namespace of its own: nobody else's count.
    let place = Place::new();
    let done = enforced(&place, &policy(&place, "deny", "processes: 20"), &[], &command).expect(0);
    assert_eq!(done.stdout, "not raised\nEAGAIN\n19\n", "{}", done.stderr);
    assert!(done.stderr.contains("`processes: 20` is held by RLIMIT_NPROC"), "{}", done.stderr);
    assert_eq!(unheld(&place), [""; 0]);
    place.verified().expect(0);

    // In the user's own: whatever else the user runs counts too.
    let place = Place::new();
    let policy = policy(&place, "allow", "processes: 20");
    let options = ["--best-effort", "--layers", "notify,landlock"];
    let done = enforced(&place, &policy, &options, &command).expect(0);
    let made: usize = done.stdout.lines().last().expect("a line").parse().expect("a number");
    assert!(made < 20 && done.stdout.starts_with("not raised\nEAGAIN\n"), "{}{}", done.stdout, done.stderr);
    assert_eq!(unheld(&place), [""; 0]);
}

/// Fills memory, and says so.
const FILL: &str = "b = bytearray(200 << 20); print(len(b))";

#[test]
fn memory_and_processor_time_are_refused_by_name() {
    if !possible("memory of an ordinary user", &[Need::Program("python3")]) {
        return;
    }
    let place = Place::new();
    for (limit, why) in [
        ("memory: 64MiB", "`memory` is limited for each process alone (RLIMIT_DATA), not for the run"),
        ("cpu: 50%", "`cpu` is not limited"),
    ] {
        let done = enforced(&place, &policy(&place, "deny", limit), &[], &["touch", "ran"]).expect(125);
        let name = limit.split(':').next().expect("a name");
        assert!(done.stderr.contains(&format!("limits `{name}`")), "{}", done.stderr);
        assert!(done.stderr.contains(why), "{}", done.stderr);
        assert!(!place.work().join("ran").exists());
    }
    // The way round: each process alone, and the record says so.
    let place = Place::new();
    let fill = ["python3", "-I", "-c", FILL];
    let free = enforced(&place, &policy(&place, "deny", ""), &[], &fill).expect(0);
    assert_eq!(free.stdout, "209715200\n");
    let place = Place::new();
    let done =
        enforced(&place, &policy(&place, "deny", "memory: 64MiB"), &["--best-effort"], &fill).expect(1);
    assert!(done.stderr.contains("MemoryError") && done.stdout.is_empty(), "{}", done.stderr);
    assert!(
        unheld(&place).iter().any(|line| line.contains("for each process alone")),
        "{:?}",
        unheld(&place)
    );
}

#[test]
fn time_ends_a_users_run() {
    if !possible("time of an ordinary user", &[]) {
        return;
    }
    let place = Place::new();
    let begun = Instant::now();
    let sleepers = ["sh", "-c", "sleep 100 & sleep 100"];
    let done = enforced(&place, &policy(&place, "deny", "time: 1s"), &[], &sleepers).expect(124);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(done.stderr.contains("the run was ended: its time is over (`limits`: 1s)"), "{}", done.stderr);
    place.verified().expect(0);
    // Whoever is done before has its own status.
    let place = Place::new();
    enforced(&place, &policy(&place, "deny", "time: 100s"), &[], &["sh", "-c", "exit 3"]).expect(3);
    assert_eq!(unheld(&place), [""; 0]);
}

#[test]
fn time_ends_daemons_and_chains_of_forks() {
    if !possible("what an ordinary user's run left behind", &[]) {
        return;
    }
    // The control: an audit-only run leaves them, and counts them.
    let place = Place::new();
    let command = leaver(&place, "exit 3");
    let done = place.record(&command).expect(3);
    assert!(daemon_is_alive(&place) && place.chain_goes_on(), "{}", done.stderr);
    assert!(done.stderr.contains("go on unrecorded"), "{}", done.stderr);
    assert!(place.log().seal().uint("left_running") >= Some(2));
    fs::write(place.work().join("stop"), "").expect("a file");
    let end = Instant::now() + Duration::from_secs(60);
    while daemon_is_alive(&place) || place.chain_goes_on() {
        assert!(Instant::now() < end, "they end by themselves");
        std::thread::sleep(Duration::from_millis(10));
    }

    // A chain alone is counted, too.
    let place = Place::new();
    let [workload, work] = [place.bin("workload"), place.work()].map(|path| path.display().to_string());
    place.record(["sh", "-c", &format!("{workload} odd chain {work}; exit 3")]).expect(3);
    assert!(place.chain_goes_on());
    assert!(place.log().seal().uint("left_running") >= Some(1));
    fs::write(place.work().join("stop"), "").expect("a file");

    // An enforced run ends them: when its time is over, and when its command ends.
    for (time, rest, status) in [("limits: { time: 2s }\n", "sleep 1000", 124), ("", "exit 3", 3)] {
        let place = Place::new();
        let policy = place.closed_world(time);
        let command = leaver(&place, rest);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let done = enforced(&place, &policy, &[], &command).expect(status);
        assert!(!daemon_is_alive(&place) && !place.chain_goes_on(), "{}", done.stderr);
        assert_eq!(place.log().seal().uint("left_running"), Some(0));
        assert!(!done.stderr.contains("could not be ended"), "{}", done.stderr);
        assert_eq!(unheld(&place), [""; 0]);
        place.verified().expect(0);
    }
}

#[test]
fn time_is_refused_where_nothing_makes_sure_of_it() {
    if !possible("time that is not held", &[]) {
        return;
    }
    let place = Place::new();
    let policy = place.closed_world("limits: { time: 2s }\n");
    let policy = policy.replace("raw-devices]", "raw-devices, signal-outside]");
    let done = enforced(&place, &policy, &[], &["touch", "ran"]).expect(125);
    assert!(done.stderr.contains("limits `time`"), "{}", done.stderr);
    assert!(done.stderr.contains("and the policy allows `signal-outside`"), "{}", done.stderr);
    assert!(!place.work().join("ran").exists());

    // The way round: what is found is ended, and the record says that this is all.
    let command = leaver(&place, "sleep 1000");
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let done = enforced(&place, &policy, &["--best-effort"], &command).expect(124);
    fs::write(place.work().join("stop"), "").expect("a file");
    assert!(
        done.stderr.contains("a chain of processes that fork without a pause may go on"),
        "{}",
        done.stderr
    );
    assert!(!daemon_is_alive(&place), "{}", done.stderr);
    assert!(unheld(&place).iter().any(|line| line.contains("limits `time`")), "{:?}", unheld(&place));
    place.verified().expect(0);
}

/// Root's own shell, in which no control group can be made.
const NO_GROUP: &str = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";

#[test]
fn time_ends_a_run_of_roots_that_has_no_control_group() {
    if !possible("a run without control groups", &[Need::Program("unshare")]) {
        return;
    }
    for user in ["nobody", "root"] {
        let place = Place::new();
        std::os::unix::fs::chown(place.scene.store(), Some(0), Some(0)).expect("a store of root's");
        let policy = place.scene.path("policy.yaml");
        fs::write(&policy, place.closed_world("limits: { time: 2s }\n")).expect("a policy");
        let before = ["-m", "sh", "-c", NO_GROUP, "sh"].map(str::to_owned).into_iter();
        let sandbox = place.bin("sandbox").display().to_string();
        let policy = policy.display().to_string();
        let run =
            [&sandbox, "run", "--user", user, "--best-effort", "--enforce", &policy, "--"].map(str::to_owned);
        let words = before.chain(run).chain(leaver(&place, "sleep 1000"));
        let done = finish(place.scene.command(std::path::Path::new("unshare"), words)).expect(124);
        assert!(!daemon_is_alive(&place) && !place.chain_goes_on(), "{}", done.stderr);
        assert_eq!(place.log().seal().uint("left_running"), Some(0), "{}", done.stderr);
        assert_eq!(unheld(&place), [""; 0], "{}", done.stderr);
    }
}
