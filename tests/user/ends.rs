//! How runs of an ordinary user end: statuses, signals, daemons, and a runner that is stopped or killed.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sandbox_tests::scene::finish;

use crate::place::{Place, at, possible};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it did not come to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn signal(pid: u32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), signal).expect("kill");
}

/// Stops a process, and waits until each of its threads has stopped: until then they go on with what they do.
fn stop_whole(pid: u32) {
    signal(pid, Signal::SIGSTOP);
    until("it is stopped whole", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
        tasks.map(|task| task.path().join("stat")).all(|stat| {
            fs::read_to_string(stat)
                .is_ok_and(|text| text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        })
    });
}

/// The child of `parent` with this name.
fn child_named(parent: u32, name: &str) -> u32 {
    let mut found = None;
    until(name, || {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        found = pids.find(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim_end() == name && stat(*pid).is_some_and(|(_, above)| above == parent)
        });
        found.is_some()
    });
    found.expect("just found")
}

/// A run that looks at files until there is one named `stop`, then ends with status 4; and the pid of its command.
fn start(place: &Place) -> (Child, u32) {
    let script =
        "echo $$ > ready; until cat stop >/dev/null 2>&1; do sleep 0.01; done; echo x > last; exit 4";
    let mut command = place.sandbox(["run", "--", "sh", "-c", script]);
    let stderr = fs::File::create(place.scene.path("stderr")).expect("a file");
    let child = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("sandbox starts");
    let ready = place.work().join("ready");
    until("the command is ready", || fs::read_to_string(&ready).is_ok_and(|text| text.ends_with('\n')));
    let pid = fs::read_to_string(ready).expect("a pid").trim().parse().expect("a pid");
    (child, pid)
}

fn stop(place: &Place) {
    fs::write(place.work().join("stop"), "").expect("a file");
}

fn said(place: &Place) -> String {
    fs::read_to_string(place.scene.path("stderr")).expect("stderr")
}

#[test]
fn statuses_and_signals_are_the_commands_own() {
    if !possible("statuses_and_signals_are_the_commands_own", &[]) {
        return;
    }
    for (script, status) in [("exit 0", 0), ("exit 77", 77), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        let place = Place::new();
        place.record(["sh", "-c", script]).expect(status);
        place.verified().expect(0);
    }
    let place = Place::new();
    place.record(["/no/such/command"]).expect(127);
    let place = Place::new();
    let (mut front, command) = start(&place);
    signal(front.id(), Signal::SIGTERM);
    assert_eq!(front.wait().expect("its end").code(), Some(143), "passed on to the command");
    assert!(!is_alive(command));
}

#[test]
fn a_daemon_is_named_and_goes_on() {
    if !possible("a_daemon_is_named_and_goes_on", &[]) {
        return;
    }
    let place = Place::new();
    let done = place.odd("daemon").expect(0);
    let pid: u32 =
        fs::read_to_string(place.work().join("daemon")).expect("its pid").trim().parse().expect("a pid");
    assert!(done.stderr.contains(&format!("process {pid} goes on unrecorded")), "{}", done.stderr);
    assert_eq!(place.log().seal().uint("left_running"), Some(1));
    place.verified().expect(0);
    assert!(is_alive(pid));
    // The runner is gone; its guardian lets the calls go on.
    stop(&place);
    let over = place.work().join("over");
    until("the daemon is over", || fs::read_to_string(&over).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(fs::read_to_string(over).expect("its word"), "0\n");
    assert!(place.work().join("from-daemon").exists());
    until("it is gone", || !is_alive(pid));
}

#[test]
fn a_run_outlives_its_collector() {
    if !possible("a_run_outlives_its_collector", &[]) {
        return;
    }
    let place = Place::new();
    let (mut front, command) = start(&place);
    let collector = child_named(front.id(), "sandbox-collect");
    let guardian = child_named(front.id(), "sandbox-guard");
    assert_eq!(stat(command).map(|(_, above)| above), Some(collector), "the collector is its parent");
    signal(collector, Signal::SIGKILL);
    until("the collector is dead", || !is_alive(collector));
    assert!(is_alive(command) && is_alive(guardian));
    // Calls go on, new programs too.
    stop(&place);
    assert_eq!(front.wait().expect("its end").code(), Some(4));
    assert_eq!(fs::read_to_string(place.work().join("last")).expect("its last word"), "x\n");
    assert!(
        said(&place).contains("the collector died of signal 9: the record is incomplete"),
        "{}",
        said(&place)
    );
    until("the guardian has nothing left to guard", || !is_alive(guardian));
    place.verified().expect(2);
}

#[test]
fn a_stopped_collector_holds_nobody_up_for_long() {
    if !possible("a_stopped_collector_holds_nobody_up_for_long", &[]) {
        return;
    }
    let place = Place::new();
    let (mut front, _) = start(&place);
    let collector = child_named(front.id(), "sandbox-collect");
    stop_whole(collector);
    stop(&place);
    let last = place.work().join("last");
    until("the command goes on", || last.exists());
    signal(collector, Signal::SIGCONT);
    assert_eq!(front.wait().expect("its end").code(), Some(4));
    let lost = place.log().seal().uint("lost").expect("a count");
    assert!(lost > 0, "what went by is counted; it said {}", said(&place));
    let log = place.log();
    let gap = log.records().find(|(_, record)| record.text("event_type") == Some("gap")).expect("a gap").1;
    let reason = "calls went on without being looked at while the collector was stopped";
    assert_eq!(gap.text("reason"), Some(reason));
}

#[test]
fn a_run_goes_on_without_its_front_end() {
    if !possible("a_run_goes_on_without_its_front_end", &[]) {
        return;
    }
    let place = Place::new();
    let (mut front, command) = start(&place);
    let collector = child_named(front.id(), "sandbox-collect");
    let guardian = child_named(front.id(), "sandbox-guard");
    front.kill().expect("kill");
    assert_eq!(front.wait().expect("its end").signal(), Some(libc::SIGKILL));
    assert!(is_alive(command) && is_alive(collector));
    stop(&place);
    until("nothing is left of the runner", || !is_alive(collector) && !is_alive(guardian));
    assert!(!is_alive(command));
    assert_eq!(at(&place.log(), "file_open", &place.name("last")).len(), 1, "it was recorded to its end");
    place.verified().expect(2);
}

/// Which of the runner's processes are killed.
const VICTIMS: [&[&str]; 6] = [
    &["sandbox-collect"],
    &["sandbox-guard"],
    &["sandbox-ender"],
    &["sandbox"],
    &["sandbox-collect", "sandbox-guard"],
    &["sandbox", "sandbox-collect", "sandbox-guard"],
];

#[test]
fn an_enforced_run_ends_whole_with_any_of_its_runner() {
    if !possible("an enforced run of an ordinary user that loses its runner", &[]) {
        return;
    }
    for victims in VICTIMS {
        let place = Place::new();
        let policy = place.scene.path("policy.yaml");
        fs::write(&policy, place.closed_world("")).expect("a policy");
        let [workload, work] = [place.bin("workload"), place.work()].map(|path| path.display().to_string());
        let script =
            format!("{workload} odd daemon {work}; {workload} odd chain {work}; echo $$ > ready; sleep 1000");
        let words = ["run", "--enforce", policy.to_str().expect("UTF-8"), "--", "sh", "-c", &script];
        let stderr = fs::File::create(place.scene.path("stderr")).expect("a file");
        let mut command = place.sandbox(words);
        let mut front = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("sandbox starts");
        let ready = place.work().join("ready");
        until("the command is ready", || fs::read_to_string(&ready).is_ok_and(|text| text.ends_with('\n')));
        let pid = |path: &str| -> u32 {
            fs::read_to_string(place.work().join(path)).expect("a pid").trim().parse().expect("a pid")
        };
        let left = [pid("ready"), pid("daemon")];
        assert!(left.into_iter().all(is_alive) && place.chain_goes_on(), "{}", said(&place));
        let collector = child_named(front.id(), "sandbox-collect");
        let found = |name: &&str| match *name {
            "sandbox" => front.id(),
            "sandbox-collect" => collector,
            "sandbox-guard" => child_named(front.id(), name),
            name => child_named(collector, name),
        };
        for victim in victims.iter().map(found).collect::<Vec<_>>() {
            // One that went with another is a zombie of this test's, or nobody's any more.
            let _ = nix::sys::signal::kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL);
        }
        let killed = Instant::now();
        until("all of the run is dead", || !left.into_iter().any(is_alive) && !place.chain_goes_on());
        assert!(killed.elapsed() < Duration::from_secs(10), "{victims:?}: it took {:?}", killed.elapsed());
        let ended = front.wait().expect("its end");
        match victims.contains(&"sandbox") {
            true => assert_eq!(ended.signal(), Some(libc::SIGKILL), "{victims:?}"),
            false => assert_eq!(ended.code(), Some(122), "{victims:?}: {}", said(&place)),
        }
        until("its record is left alone", || !is_alive(collector));
        place.verified().expect(2);
    }
}

#[test]
fn a_run_inside_another_is_refused_with_the_reason() {
    if !possible("a_run_inside_another_is_refused_with_the_reason", &[]) {
        return;
    }
    let place = Place::new();
    let inner = place.scene.path("inner");
    fs::create_dir(&inner).expect("a directory");
    std::os::unix::fs::chown(&inner, Some(crate::place::USER), None).expect("the user's own");
    let sandbox = place.bin("sandbox");
    let script = format!("SANDBOX_HOME={} {} run -- true", inner.display(), sandbox.display());
    let done = finish(place.sandbox(["run", "--", "sh", "-c", &script])).expect(125);
    assert!(done.stderr.contains("listener already"), "{}", done.stderr);
}
