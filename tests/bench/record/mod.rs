//! What the record itself costs: writing a log beside the hashes that it needs, and checking one beside Python and
//! openssl.
//!
//! The log has a million events of the real shape (`SANDBOX_BENCH_EVENTS` changes that), written by the log's own
//! writer. Ratios are of medians of rounds in which all take turns, by the clock and by CPU time; where others use the
//! machine, believe CPU time.

mod clock;
mod events;
mod live;
mod write;

use std::path::Path;
use std::process::Command;

use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};

use clock::{Cost, costs_of};

/// Name for `--only`.
pub const KEY: &str = "record";

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/record/reference.py");

/// Measures and prints; `false` where something is missing.
pub fn run(repetitions: usize) -> bool {
    if !met("the benchmark of the record", &[Need::Program("python3"), Need::Program("openssl")]) {
        return false;
    }
    let count = std::env::var("SANDBOX_BENCH_EVENTS").map_or(1_000_000, |count| {
        count
            .parse()
            .ok()
            .filter(|count| *count >= 1000)
            .expect("SANDBOX_BENCH_EVENTS is a number from 1000 on")
    });
    let directory = tempfile::tempdir().expect("a directory for logs");
    let log = directory.path().join("events.jsonl");
    write::write_log(&log, count);
    let size = std::fs::metadata(&log).expect("the log").len();
    println!("\nthe record: {count} events, {} MiB, {} bytes a line", size >> 20, size / count);
    verifying(&log, repetitions);
    writing(directory.path(), count, size, repetitions);
    indexing(directory.path(), count);
    true
}

/// Who checks.
const CHECKERS: [&str; 4] =
    ["openssl dgst -sha256", "audit-verify --threads 1", "audit-verify --threads 2", "python"];

fn verifying(log: &Path, repetitions: usize) {
    let audit_verify = binary("audit-verify");
    let mut rounds: [Vec<Cost>; 4] = Default::default();
    // Python takes a while, so it takes part in the first rounds only.
    for round in 0..repetitions {
        for turn in 0..CHECKERS.len() {
            let who = (round + turn) % CHECKERS.len();
            let mut command = match who {
                0 => Command::new("openssl"),
                3 => Command::new("python3"),
                _ => Command::new(&audit_verify),
            };
            match who {
                0 => command.args(["dgst", "-sha256"]),
                3 if round > 1 => continue,
                3 => command.args(["-I", REFERENCE]),
                threads => command.args(["--threads", &threads.to_string()]),
            };
            rounds[who].push(costs_of(command.arg(log)));
        }
    }
    let medians = rounds.map(median);
    println!("\nchecking                      wall       CPU   openssl ÷ it   Python ÷ it");
    println!("                                               wall    CPU    wall    CPU");
    for (name, cost) in CHECKERS.iter().zip(medians) {
        let (openssl, python) = (ratio(medians[0], cost), ratio(medians[3], cost));
        println!(
            "  {name:<25}{:>8.3} s{:>8.3} s{:>7.2}{:>7.2}{:>8.1}{:>7.1}",
            cost.wall.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            openssl.0,
            openssl.1,
            python.0,
            python.1
        );
    }
}

fn writing(directory: &Path, count: u64, size: u64, repetitions: usize) {
    let costs = write::measure(directory, count, repetitions);
    let [floor, file, kept, durable] = [costs.floor, costs.file, costs.kept, costs.durable].map(median);
    let [paced, paced_durable] = [costs.paced, costs.paced_durable].map(median);
    println!("\nwriting                       wall       CPU     floor ÷ it");
    println!("                                               wall    CPU");
    for (name, cost) in [
        ("the hashes alone", floor),
        ("making lines alone", median(costs.lines)),
        ("chaining them alone", median(costs.chain)),
        ("to /dev/null", median(costs.null)),
        ("to a file", file),
        ("to a file, synced then", kept),
        ("to a file, synced 100 ms", durable),
    ] {
        let floor = ratio(floor, cost);
        println!(
            "  {name:<25}{:>8.3} s{:>8.3} s{:>7.2}{:>7.2}",
            cost.wall.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            floor.0,
            floor.1
        );
    }
    // Where the disk is the slower one, fdatasync waits for it, however often it comes: hence the pace.
    let pace = |cost: Cost| size as f64 / 1e6 / cost.wall.as_secs_f64();
    println!("\nfdatasync every 100 ms costs     wall       CPU");
    for (name, durable, other) in [
        ("at full speed", durable, file),
        ("  beside one at the end", durable, kept),
        ("at a pace", paced_durable, paced),
    ] {
        let (wall, cpu) = ratio(durable, other);
        let [wall, cpu] = [wall, cpu].map(|ratio| 100.0 * ratio - 100.0);
        println!("  {name:<25}{wall:>+8.1} %{cpu:>+8.1} %");
    }
    println!(
        "  At full speed the log grows by {:.0} MB/s and gets to the disk at {:.0} MB/s; the pace is {:.0} MB/s, {} events a second.",
        pace(file),
        pace(kept),
        pace(paced),
        write::PACE
    );
}

/// A whole recorder, at the pace that an index must keep up with at least, and as fast as it goes.
fn indexing(directory: &Path, count: u64) {
    const PACE: u32 = 80_000;
    println!("\nlog and index, live           log      index behind it     events/s");
    for (name, pace) in [("at 80,000 events a second", Some(PACE)), ("at full speed", None)] {
        let live::Took { log, behind } = live::record(directory, count, pace);
        let rate = count as f64 / (log + behind).as_secs_f64();
        println!("  {name:<25}{:>8.3} s{:>14.3} s{rate:>16.0}", log.as_secs_f64(), behind.as_secs_f64());
    }
}

/// How many times `other` goes into `cost`, by the clock and by CPU time.
fn ratio(cost: Cost, other: Cost) -> (f64, f64) {
    (cost.wall.as_secs_f64() / other.wall.as_secs_f64(), cost.cpu.as_secs_f64() / other.cpu.as_secs_f64())
}

/// The median of each time by itself.
fn median(rounds: Vec<Cost>) -> Cost {
    let middle = |mut times: Vec<_>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    Cost {
        wall: middle(rounds.iter().map(|cost| cost.wall).collect()),
        cpu: middle(rounds.iter().map(|cost| cost.cpu).collect()),
    }
}
