//! What the index costs and what it gives: making it again from a log of a million events, asking it, and
//! comparing it with the log.
//!
//! The log has the shape of a compile: nine of ten lines open files, half of them in vain, some processes begin
//! and end, a few connections, a few denials. The figures are of whole processes, with their start.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use audit_verify::chain::{ChainWriter, EventWriter};
use audit_verify::merkle::Tree;
use sandbox_tests::scene::Scene;

use crate::table::{median, show};

/// Name for `--only`.
pub const KEY: &str = "index";

/// Events in the log.
const EVENTS: u64 = 1_000_000;

/// Its name.
const RUN_ID: &str = "20261126-141712-make";

/// One process of the made-up compile has so many events.
const OF_ONE_PROCESS: u64 = 400;

/// Questions, each with what it is about.
const QUESTIONS: [(&str, &[&str]); 17] = [
    ("one type", &["--type", "exec"]),
    ("a type that most events have", &["--type", "file_open"]),
    ("its number", &["--type", "file_open", "--count"]),
    ("what was blocked", &["--action", "BLOCKED"]),
    ("a rule", &["--rule", "no-keys"]),
    ("a file", &["--path", "/usr/include/dir-7/header-77.h"]),
    ("a directory", &["--path", "/usr/include/dir-7"]),
    ("its number", &["--path", "/usr/include/dir-7", "--count"]),
    ("a directory that most files lie below", &["--path", "/usr"]),
    ("its number", &["--path", "/usr", "--count"]),
    ("an address", &["--dest", "10.0.0.0/8:443"]),
    ("a host", &["--dest", "*.example.org"]),
    ("a process", &["--pid", "1500"]),
    ("a program", &["--exe", "/usr/bin/as"]),
    ("a second, a type, failures", &["--since", "+1s", "--until", "+2s", "--type", "file", "--failed"]),
    ("its number", &["--since", "+1s", "--until", "+2s", "--type", "file", "--failed", "--count"]),
    ("free text", &["--contains", "no such text", "--count"]),
];

/// Whether a line of the table says how many events a second that is.
enum Rate {
    Events,
    None,
}

/// Measures and prints.
pub fn run(repetitions: usize) {
    let scene = Scene::new();
    let run = scene.path("run");
    std::fs::create_dir(&run).expect("a directory for the run");
    write_log(&run.join("events.jsonl")).expect("a log");
    let run = run.to_str().expect("a temporary path is UTF-8").to_owned();
    println!("\nindex of {EVENTS} events");
    println!("  {:<44}{:>11}{:>11}{:>12}", "", "median", "fastest", "events/s");
    // Round 0 warms the caches.
    let reindex = times(repetitions, || time(scene.sandbox(["reindex", &run])));
    print("sandbox reindex", &reindex, Rate::Events);
    let compare = times(1, || time(scene.audit_verify(["check", "--index", &run])));
    print("audit-verify check --index", &compare, Rate::Events);
    for (what, arguments) in QUESTIONS {
        let ask = || time(scene.sandbox(["query", &run].iter().chain(arguments).copied()));
        print(&format!("query: {what}"), &times(repetitions, ask), Rate::None);
    }
    let size = |name: &str| Path::new(&run).join(name).metadata().map_or(0, |about| about.len());
    let (log, index) = (size("events.jsonl") / EVENTS, size("index.sqlite") / EVENTS);
    println!("  {log} bytes an event in the log, {index} in the index");
}

fn times(repetitions: usize, mut act: impl FnMut() -> Duration) -> Vec<Duration> {
    act();
    (0..repetitions).map(|_| act()).collect()
}

fn time(mut command: std::process::Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.output().expect("the command must start");
    let took = start.elapsed();
    // The log has no seal, which `audit-verify` says with 2.
    let went_well = matches!(output.status.code(), Some(0 | 2));
    assert!(went_well, "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

fn print(what: &str, times: &[Duration], rate: Rate) {
    let middle = median(times);
    let fastest = times.iter().min().copied().unwrap_or_default();
    let rate = match rate {
        Rate::Events => format!("{:.0}", EVENTS as f64 / middle.as_secs_f64()),
        Rate::None => String::new(),
    };
    println!("  {what:<44}{:>11}{:>11}{rate:>12}", show(middle), show(fastest));
}

/// Writes a log of the real shape, without a seal.
fn write_log(path: &Path) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let (mut chain, mut tree) = (ChainWriter::default(), Tree::default());
    for number in 0..EVENTS - 1 {
        let line = chain.append(|line| event(line, number)).expect("keys ascend");
        out.write_all(line)?;
        tree.push(&chain.position().head);
    }
    let position = chain.position();
    let seal = chain.append(|line| {
        line.put("action", "OBSERVED").put("agent_id", "make").put("event_type", "run_end");
        line.put("events", EVENTS).put("head", position.head.as_str()).put("kseq", 0u64);
        line.put("merkle_root", tree.root().as_str()).put("mono_ns", 1u64).put("pid", 1000u64);
        line.put("proc_id", "1000-1")
            .put("run_id", RUN_ID)
            .put("timestamp", "2026-11-26T14:00:00.000000000Z");
        line.put("v", 1u64);
    });
    out.write_all(seal.expect("keys ascend"))?;
    out.flush()
}

/// One event; its number decides what it is.
fn event(line: &mut EventWriter<'_>, number: u64) {
    let process = number / OF_ONE_PROCESS;
    let kind = match number % OF_ONE_PROCESS {
        _ if number == 0 => "run_start",
        0 => "fork",
        1 => "exec",
        399 => "exit",
        at if at % 57 == 3 => "net_connect",
        at if at % 23 == 4 => "file_create",
        _ => "file_open",
    };
    let exe = ["/usr/lib/gcc/x86_64-linux-gnu/14/cc1", "/usr/bin/as", "/usr/bin/x86_64-linux-gnu-gcc-14"];
    let exe = exe[match process % 40 {
        0 => 1,
        at if at < 25 => 0,
        _ => 2,
    }];
    let is_file = kind.starts_with("file_");
    let is_net = kind == "net_connect";
    let is_blocked = is_net && number.is_multiple_of(5);
    let failed = is_blocked || (is_file && number.is_multiple_of(2));
    let (pid, ns) = (1000 + process % 30_000, number * 5_000);
    line.put("access", "read").put("action", if is_blocked { "BLOCKED" } else { "OBSERVED" });
    line.put("agent_id", "make");
    if kind == "exec" {
        let source = format!("src/part-{}/unit-{process}.c", process % 20);
        line.list("argv", ["cc1", "-quiet", "-I", "include", "-O2", "-g", &source, "-o", "/tmp/ccXyZ123.s"]);
    }
    line.put("comm", exe.rsplit('/').next().unwrap_or_default());
    if is_file {
        line.put("dev", 65_025u64);
    }
    if is_net {
        line.put("dst_ip", format!("10.{}.7.{}", number % 3, process % 200).as_str()).put("dst_port", 443u64);
    }
    line.put("event_type", kind).put("exe", exe).put("exe_dev", 65_025u64).put("exe_ino", 1_312_511u64);
    if is_net {
        line.put("family", "inet");
    }
    if is_file {
        line.put("flags", 0o2_000_000u64);
    }
    if is_net {
        line.put("host", format!("mirror-{}.example.org", process % 50).as_str());
    }
    if is_file {
        line.put("ino", number % 60_000);
    }
    line.put("kseq", number + 1).put("layer", "trace").put("mono_ns", 81_000_000_000_000 + ns);
    if is_file {
        let path = format!("/usr/include/dir-{}/header-{}.h", number / 3 % 89, number * 7 % 331);
        line.put("path", path.as_str());
    }
    line.put("pid", pid);
    if is_blocked {
        line.put("policy_rule", if number.is_multiple_of(3) { "agent/no-keys" } else { "agent/no-net" });
    }
    line.put("ppid", 999u64).put("proc_id", format!("{pid}-{}", 123_456_789_000 + process).as_str());
    line.put("ret", if failed { -2i64 } else { 3 }).put("run_id", RUN_ID);
    let (second, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    line.put("timestamp", format!("2026-11-26T14:17:{second:02}.{rest:09}Z").as_str());
    line.put("uid", 1000u64).put("v", 1u64);
}
