//! Finding the processes of a run, and waiting for what happens to them.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sandbox_tests::scene::{Done, Scene, finish};

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it did not come to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a value.
#[track_caller]
pub fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, || {
        found = value();
        found.is_some()
    });
    found.expect("just found")
}

/// The fields of /proc/PID/stat from the state on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// Whether a process runs or sleeps: it is neither gone nor waits to be reaped.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

/// Whether a process is stopped.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "T")
}

/// The child of `parent` that has this name.
pub fn child_named(parent: u32, name: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name && stat(*pid).is_some_and(|fields| fields[1] == parent.to_string())
    })
}

/// The processes of the runner whose front-end this is.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    /// The collector.
    pub collector: u32,
    /// The guardian.
    pub guardian: u32,
}

impl Runner {
    /// Finds them, once they have taken their names.
    #[track_caller]
    pub fn of(front: u32) -> Runner {
        let named = |name| wait_for(name, || child_named(front, name));
        Runner { collector: named("sandbox-collect"), guardian: named("sandbox-guard") }
    }
}

/// Sends a signal.
#[track_caller]
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("kill");
}

/// Waits for a file that a command makes to say that it is ready, and gives what is in it.
#[track_caller]
pub fn ready(path: &Path) -> String {
    wait_for(&format!("{} is written", path.display()), || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
    .trim_end()
    .to_owned()
}

/// What `audit-verify` says of the only run.
#[track_caller]
pub fn verified(scene: &Scene) -> Done {
    finish(scene.audit_verify([scene.run()]))
}

/// The last line of the only run's log.
#[track_caller]
pub fn last_line(scene: &Scene) -> String {
    let text = std::fs::read_to_string(scene.run().join("events.jsonl")).expect("the log");
    text.lines().last().expect("a line").to_owned()
}
