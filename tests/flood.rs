//! A flood: nothing goes uncounted, however fast it comes.

use std::collections::BTreeMap;

use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met, say};
use sandbox_tests::scene::Scene;

const PROCESSES: u64 = 64;
const OPENS: u64 = 2_000;

/// What a log and its seal count.
#[derive(Debug)]
struct Count {
    /// Lines that stand for something the kernel saw.
    told: u64,
    /// Attempts counted in lines that tell another one.
    folded: u64,
    /// Attempts that found no room.
    lost: u64,
    /// Opens of the flood's file among those told or folded.
    opens: u64,
}

impl Count {
    fn attempts(&self) -> u64 {
        self.told + self.folded + self.lost
    }
}

/// 64 processes that open a file as fast as they can. A run of the same processes with no opens at all
/// tells how many attempts there are besides, so that the number is exact.
#[test]
fn a_flood_is_counted_to_the_last() {
    if !met("flood", &[Need::Trace]) {
        return;
    }
    let quiet = flood(0);
    assert_eq!((quiet.lost, quiet.opens), (0, 0), "the quiet run loses nothing: {quiet:?}");
    let loud = flood(OPENS);
    say(&format!(
        "flood: {} attempts; {} told, {} folded, {} lost",
        loud.attempts(),
        loud.told,
        loud.folded,
        loud.lost
    ));
    assert_eq!(loud.attempts(), quiet.attempts() + PROCESSES * OPENS, "{quiet:?} {loud:?}");
    assert!(loud.opens + loud.lost >= PROCESSES * OPENS, "{loud:?}");
    assert!(loud.opens <= PROCESSES * OPENS, "{loud:?}");
}

/// Processes that end by the thousand leave their addresses to those of others, who are not of the run.
#[test]
fn a_storm_of_processes_draws_nobody_else_in() {
    if !met("storm", &[Need::Trace]) {
        return;
    }
    const STORM: &str =
        "storm() { i=0; while [ $i -lt 4000 ]; do (:); i=$((i+1)); done; }; storm & storm; wait";
    let scene = Scene::new();
    let outsider = scene.path("outsider");
    std::fs::copy("/bin/true", &outsider).expect("a program of somebody else");
    let mut run = scene.sandbox(["run", "-q", "--", "sh", "-c", STORM]).spawn().expect("start the run");
    let mut outsiders = 0;
    let status = loop {
        if let Some(status) = run.try_wait().expect("wait for the run") {
            break status;
        }
        std::process::Command::new(&outsider).status().expect("start a process beside the run");
        outsiders += 1;
    };
    assert!(status.success() && outsiders > 100, "{status}, {outsiders} processes beside it");
    let log = Log::of_run(&scene.run());
    let forks = log.records().filter(|(_, record)| record.text("event_type") == Some("fork")).count();
    assert!(forks >= 8_000, "{forks}");
    let drawn_in = log.records().filter(|(_, record)| {
        let text = |key: &str| record.bytes(key).unwrap_or_default();
        [text("exe"), text("path")].iter().any(|path| path.ends_with(b"/outsider"))
    });
    assert_eq!(drawn_in.count(), 0, "of {outsiders} processes beside the run");
}

fn flood(opens: u64) -> Count {
    let scene = Scene::new();
    let target = scene.work().join("target");
    std::fs::write(&target, "").expect("write");
    let target = target.to_str().expect("a temporary path is UTF-8");
    let workload = binary("workload");
    let workload = workload.to_str().expect("a path of the build is UTF-8");
    scene.record([workload, "flood", &PROCESSES.to_string(), &opens.to_string(), target]).expect(0);
    count(&Log::of_run(&scene.run()), target.as_bytes())
}

fn count(log: &Log, target: &[u8]) -> Count {
    let mut count = Count { told: 0, folded: 0, lost: 0, opens: 0 };
    let mut lines = 0;
    let mut gaps = 0;
    let mut sequence: BTreeMap<u64, usize> = BTreeMap::new();
    for (line, record) in log.records() {
        lines += 1;
        match record.text("event_type").expect("every event has a type") {
            "run_start" | "run_end" | "checkpoint" | "file_hash" | "file_change" => continue,
            "gap" => {
                gaps += record.uint("lost").expect("a gap says how many");
                continue;
            }
            _ => {}
        }
        let times = record.uint("count").unwrap_or(1);
        count.told += 1;
        count.folded += times - 1;
        if record.bytes("path") == Some(target) {
            count.opens += times;
        }
        let kseq = record.uint("kseq").expect("every event has the kernel's number");
        assert!(kseq > 0, "line {line} of the log: the kernel counts from 1");
        assert!(sequence.insert(kseq, line).is_none(), "line {line} of the log: kseq {kseq} again");
    }
    let seal = log.seal();
    let sealed = |key| seal.uint(key).unwrap_or_else(|| panic!("the seal has no {key}"));
    count.lost = sealed("lost");
    assert_eq!(gaps, count.lost, "the gaps tell what the seal tells");
    assert_eq!(sealed("events"), lines, "the seal counts the lines, its own included");
    assert_eq!(sealed("folded"), count.folded, "the seal counts what was folded");
    count
}
