//! Limits of an ordinary user's run, on a machine that gives it no control group: what its process sets on itself, and the
//! runner's clock. What is not held is refused by name.

use std::fs;
use std::time::{Duration, Instant};

use sandbox_tests::requirement::Need;
use sandbox_tests::scene::{Done, finish};

use crate::place::{Place, possible};

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
