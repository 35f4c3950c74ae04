//! kill -9, and SIGSTOP, of each process of the runner.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

use crate::processes::{Runner, is_alive, last_line, ready, signal, until, verified};

/// A run that goes on until a file `stop` is there, then ends with status 4. Gives the front-end and the pid
/// of the command.
fn start(scene: &Scene, options: &[&str]) -> (Child, u32) {
    let script = "echo $$ > ready; until [ -e stop ]; do sleep 0.01; done; exit 4";
    let mut command = scene.sandbox(["run"]);
    command.args(options).args(["--", "sh", "-c", script]);
    let stderr = fs::File::create(scene.path("stderr")).expect("a file");
    let child = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("sandbox starts");
    let command = ready(&scene.work().join("ready")).parse().expect("a pid");
    (child, command)
}

fn stop(scene: &Scene) {
    fs::write(scene.work().join("stop"), "").expect("a file");
}

fn said(scene: &Scene) -> String {
    fs::read_to_string(scene.path("stderr")).expect("stderr")
}

#[test]
fn an_audit_only_run_outlives_its_collector() {
    if !met("an_audit_only_run_outlives_its_collector", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, command) = start(&scene, &[]);
    let runner = Runner::of(front.id());
    signal(runner.collector, Signal::SIGKILL);
    until("the collector is dead", || !is_alive(runner.collector));
    until("the guardian has nothing left to guard", || !is_alive(runner.guardian));
    assert!(is_alive(command));
    stop(&scene);
    assert_eq!(front.wait().unwrap().code(), Some(4));
    assert!(
        said(&scene).contains("the collector died of signal 9: the record is incomplete"),
        "{}",
        said(&scene)
    );
    verified(&scene).expect(2);
}

#[test]
fn an_audit_only_run_that_lost_its_guardian_is_never_sealed() {
    if !met("an_audit_only_run_that_lost_its_guardian_is_never_sealed", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, _) = start(&scene, &[]);
    let runner = Runner::of(front.id());
    signal(runner.guardian, Signal::SIGKILL);
    until("the guardian is dead", || !is_alive(runner.guardian));
    stop(&scene);
    assert_eq!(front.wait().unwrap().code(), Some(4));
    assert!(said(&scene).contains("the record is incomplete: the guardian died"), "{}", said(&scene));
    verified(&scene).expect(2);
}

#[test]
fn an_audit_only_run_outlives_its_front_end_and_is_never_sealed() {
    if !met("an_audit_only_run_outlives_its_front_end_and_is_never_sealed", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, command) = start(&scene, &[]);
    let runner = Runner::of(front.id());
    front.kill().unwrap();
    front.wait().unwrap();
    // Several turns of the collector's clock later it is still there, and so is the command.
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_alive(command) && is_alive(runner.collector) && is_alive(runner.guardian));
    stop(&scene);
    until("nothing is left of the runner", || !is_alive(runner.collector) && !is_alive(runner.guardian));
    assert!(!is_alive(command));
    assert!(!last_line(&scene).contains("run_end"));
    verified(&scene).expect(2);
}

#[test]
fn a_stopped_collector_is_continued_at_the_end() {
    if !met("a_stopped_collector_is_continued_at_the_end", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, command) = start(&scene, &[]);
    let runner = Runner::of(front.id());
    signal(runner.collector, Signal::SIGSTOP);
    // Longer than the guardian waits in an enforced run.
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_alive(command));
    stop(&scene);
    assert_eq!(front.wait().unwrap().code(), Some(4));
    assert!(last_line(&scene).contains("run_end"));
}

#[test]
fn the_collector_can_be_told_to_end() {
    if !met("the_collector_can_be_told_to_end", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, command) = start(&scene, &[]);
    let runner = Runner::of(front.id());
    signal(runner.collector, Signal::SIGTERM);
    until("the collector is gone", || !is_alive(runner.collector));
    assert!(is_alive(command), "it was not the command that was told");
    stop(&scene);
    assert_eq!(front.wait().unwrap().code(), Some(4));
    assert!(said(&scene).contains("the record is incomplete"), "{}", said(&scene));
    verified(&scene).expect(2);
}

#[test]
fn what_goes_on_after_an_audit_only_run_is_named_and_not_killed() {
    if !met("what_goes_on_after_an_audit_only_run_is_named_and_not_killed", &[Need::Trace]) {
        return;
    }
    goes_on_and_is_named("");
}

#[test]
fn what_left_the_control_group_is_named_all_the_same() {
    if !met("what_left_the_control_group_is_named_all_the_same", &[Need::Trace]) {
        return;
    }
    // Root may move itself to the top of the hierarchy, wherever that is mounted.
    let top = "$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)";
    goes_on_and_is_named(&format!("echo $$ > \"{top}/cgroup.procs\"; "));
}

/// A run whose command takes this first step, and leaves a process behind.
#[track_caller]
fn goes_on_and_is_named(step: &str) {
    let scene = Scene::new();
    let script = step.to_owned()
        + "sh -c 'echo $$ > ready; until [ -e stop ]; do sleep 0.01; done' >/dev/null 2>&1 & \
        until [ -s ready ]; do sleep 0.01; done; exit 2";
    let done = scene.record(["sh", "-c", script.as_str()]).expect(2);
    let left: u32 = ready(&scene.work().join("ready")).parse().expect("a pid");
    assert!(is_alive(left));
    assert!(
        done.stderr.contains(" goes on unrecorded") || done.stderr.contains(" go on unrecorded"),
        "{}",
        done.stderr
    );
    let seal = last_line(&scene);
    assert!(seal.contains("\"left_running\": ") && !seal.contains("\"left_running\": 0"), "{seal}");
    verified(&scene).expect(0);
    stop(&scene);
    until("it ends by itself", || !is_alive(left));
}

/// An enforced run that starts on a machine without the `lsm` layer too: its only rule is held by nothing.
fn start_enforced(scene: &Scene) -> (Child, u32) {
    let policy = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
        - { name: r, deny: [write], path: [\"/nonexistent/**\"] }\n";
    fs::write(scene.work().join("p.yaml"), policy).expect("a file");
    start(scene, &["--enforce", "p.yaml", "--best-effort"])
}

/// Kills one process of the runner of an enforced run, and checks what must follow.
fn enforced_run_loses(test: &str, victim: fn(&Child, Runner) -> u32) {
    if !met(test, &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, command) = start_enforced(&scene);
    let runner = Runner::of(front.id());
    let victim = victim(&front, runner);
    signal(victim, Signal::SIGKILL);
    let killed = Instant::now();
    until("the command is dead", || !is_alive(command));
    assert!(killed.elapsed() < Duration::from_secs(1), "it took {:?}", killed.elapsed());
    let status = front.wait().expect("the status");
    if victim == front.id() {
        assert_eq!(status.code(), None);
    } else {
        assert_eq!(status.code(), Some(122), "{}", said(&scene));
        assert!(said(&scene).contains("the record is incomplete"), "{}", said(&scene));
    }
    until("nothing is left of the runner", || !is_alive(runner.collector) && !is_alive(runner.guardian));
    verified(&scene).expect(2);
}

#[test]
fn an_enforced_run_ends_with_its_collector() {
    enforced_run_loses("an_enforced_run_ends_with_its_collector", |_, runner| runner.collector);
}

#[test]
fn an_enforced_run_ends_with_its_guardian() {
    enforced_run_loses("an_enforced_run_ends_with_its_guardian", |_, runner| runner.guardian);
}

#[test]
fn an_enforced_run_ends_with_its_front_end() {
    enforced_run_loses("an_enforced_run_ends_with_its_front_end", |front, _| front.id());
}

#[test]
fn an_enforced_run_ends_with_a_stopped_collector() {
    if !met("an_enforced_run_ends_with_a_stopped_collector", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let (mut front, command) = start_enforced(&scene);
    let runner = Runner::of(front.id());
    signal(runner.collector, Signal::SIGSTOP);
    until("the command is dead", || !is_alive(command));
    assert_eq!(front.wait().unwrap().code(), Some(122), "{}", said(&scene));
    verified(&scene).expect(2);
}

#[test]
fn an_enforced_run_leaves_nobody_behind() {
    if !met("an_enforced_run_leaves_nobody_behind", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    fs::write(scene.work().join("p.yaml"), "version: 1\nname: p\nfiles: { default: allow }\n").unwrap();
    let script = "setsid sh -c 'echo $$ > ready; while :; do sleep 0.01; done' >/dev/null 2>&1 & \
        until [ -s ready ]; do sleep 0.01; done; exit 2";
    let mut command =
        scene.sandbox(["run", "-q", "--enforce", "p.yaml", "--best-effort", "--", "sh", "-c", script]);
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    let left: u32 = ready(&scene.work().join("ready")).parse().unwrap();
    assert!(!is_alive(left));
    verified(&scene).expect(0);
}
