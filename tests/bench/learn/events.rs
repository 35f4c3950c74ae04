//! What learning from long runs costs: ten records of 100,000 events each ([`super::build`]), in time and memory, beside
//! `audit-verify` of the same logs, one after the other on one thread: less than to read and hash them it cannot cost.
//!
//! Both take turns. Times are medians, memory is the most that any round had at once. Where others use the machine,
//! believe CPU time.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sandbox::record::{LOG, sha256_hex};
use sandbox_tests::binaries::binary;

use super::build::record;
use crate::table::{median, show};

/// Events of one run, and runs.
const EVENTS: u64 = 100_000;
const RUNS: usize = 10;
/// How often each is measured.
const ROUNDS: usize = 3;
/// What it may take in a release build.
const PATIENCE: Duration = Duration::from_secs(5);
const MEMORY: u64 = 300 << 20;

/// What a program took.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
    /// The most memory that it had at once, bytes.
    memory: u64,
}

/// Measures and prints. What it took decides nothing: machines differ, and others may use this one.
pub fn run(place: &Path) {
    let directory = place.join("long");
    // Another version may have made other ones.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a place for records");
    let runs: Vec<PathBuf> = (0..RUNS).map(|number| record(&directory, number, EVENTS)).collect();
    let size: u64 = runs.iter().map(|run| run.join(LOG).metadata().map_or(0, |about| about.len())).sum();
    let (mut floors, mut learns, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    // Round 0 warms the caches.
    for round in 0..=ROUNDS {
        let floor = floor(&runs);
        let (learn, policy) = learn(&directory, &runs);
        if round > 0 {
            floors.push(floor);
            learns.push(learn);
        }
        policies.push(policy);
    }
    let policy = policies.swap_remove(0);
    assert!(policies.iter().all(|other| *other == policy), "the same runs gave several policies");
    let (floor, learn) = (typical(&floors), typical(&learns));
    println!("\nlearning from {RUNS} runs of {EVENTS} events, {} MiB", size >> 20);
    println!("  {:<32}{:>10}{:>10}{:>10}{:>12}", "", "wall", "CPU", "memory", "events/s");
    for (what, spent) in [("audit-verify --threads 1", floor), ("sandbox learn", learn)] {
        let rate = (EVENTS * RUNS as u64) as f64 / spent.wall.as_secs_f64();
        let memory = format!("{} MiB", spent.memory >> 20);
        println!("  {what:<32}{:>10}{:>10}{memory:>10}{rate:>12.0}", show(spent.wall), show(spent.cpu));
    }
    let ratio = |of: fn(&Spent) -> Duration| of(&learn).as_secs_f64() / of(&floor).as_secs_f64();
    let (wall, cpu) = (ratio(|spent| spent.wall), ratio(|spent| spent.cpu));
    println!("  {:<32}{wall:>10.2}{cpu:>10.2}", "learn beside audit-verify");
    println!("  a policy of {} lines, sha256 {}", policy.lines().count(), sha256_hex(policy.as_bytes()));
    let reached = match learn.wall < PATIENCE && learn.memory < MEMORY {
        _ if cfg!(debug_assertions) => "this is no release build",
        true => "reached",
        false => "missed",
    };
    println!("  goal: {}, {} MiB: {reached}", show(PATIENCE), MEMORY >> 20);
}

/// All logs, read and hashed.
fn floor(runs: &[PathBuf]) -> Spent {
    runs.iter().fold(Spent::default(), |sum, run| {
        let mut command = Command::new(binary("audit-verify"));
        let (spent, status, _) = spent(command.args(["--threads", "1"]).arg(run.join(LOG)));
        assert_eq!(status.code(), Some(0), "{} does not verify", run.display());
        let memory = sum.memory.max(spent.memory);
        Spent { wall: sum.wall + spent.wall, cpu: sum.cpu + spent.cpu, memory }
    })
}

/// The policy of all runs.
fn learn(directory: &Path, runs: &[PathBuf]) -> (Spent, String) {
    let mut command = Command::new(binary("sandbox"));
    command.arg("learn").args(runs).env("SANDBOX_HOME", directory.join("store"));
    let (spent, status, policy) = spent(&mut command);
    // 1: nobody should enforce it yet.
    assert!(matches!(status.code(), Some(0 | 1)), "sandbox learn ended with {status}");
    assert!(policy.contains("version: 1"), "no policy: {policy}");
    (spent, policy)
}

/// Runs a command; what it took, how it ended, and what it printed.
fn spent(command: &mut Command) -> (Spent, ExitStatus, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begun = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4(2) waits for it, and tells what it took")]
    let mut child = command.spawn().expect("the command must start");
    let mut text = String::new();
    let mut output = child.stdout.take().expect("its output");
    output.read_to_string(&mut text).expect("its output is text");
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let mut status = 0;
    let pid = child.id().cast_signed();
    // SAFETY: the child is this process's and was not waited for; both pointers lead to what the call fills in.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, pid, "{command:?} cannot be waited for");
    // SAFETY: zeros are a valid rusage, and wait4 filled it in.
    let usage = unsafe { usage.assume_init() };
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    let memory = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    (Spent { wall: begun.elapsed(), cpu, memory }, ExitStatus::from_raw(status), text)
}

fn duration(time: libc::timeval) -> Duration {
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

/// The median of each time by itself, and the most memory.
fn typical(rounds: &[Spent]) -> Spent {
    let times = |of: fn(&Spent) -> Duration| median(&rounds.iter().map(of).collect::<Vec<_>>());
    Spent {
        wall: times(|spent| spent.wall),
        cpu: times(|spent| spent.cpu),
        memory: rounds.iter().map(|spent| spent.memory).max().unwrap_or(0),
    }
}
