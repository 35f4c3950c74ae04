//! What learning from long runs costs: ten records of 100,000 events each, made here, in time and memory.
//!
//! They have the shape of a build: files of a workspace of their own, of the system and of a cache, temporary names that
//! differ, programs, a few connections.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit_verify::chain::{ChainWriter, EventWriter};
use audit_verify::merkle::Tree;
use sandbox_tests::binaries::binary;

use super::random::Random;

/// Events of one run, and runs.
const EVENTS: u64 = 100_000;
const RUNS: usize = 10;
/// What it may take in a release build.
const PATIENCE: Duration = Duration::from_secs(5);
const MEMORY: u64 = 300 << 20;

/// Measures and prints; whether it stays within what it may take, where that can be said.
pub fn run(place: &Path) -> bool {
    let directory = place.join("long");
    let runs: Vec<_> = (0..RUNS).map(|number| directory.join(format!("run-{number}"))).collect();
    for (number, run) in runs.iter().enumerate() {
        fs::create_dir_all(run).expect("a place for a record");
        write(&run.join("events.jsonl"), number).expect("a record");
    }
    let mut command = Command::new(binary("sandbox"));
    command.arg("learn").args(&runs).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env("SANDBOX_HOME", place.join("store"));
    let begun = Instant::now();
    let mut child = command.spawn().expect("sandbox learn");
    let mut text = String::new();
    let mut output = child.stdout.take().expect("its output");
    std::io::Read::read_to_string(&mut output, &mut text).expect("the policy");
    let memory = ended(child);
    let took = begun.elapsed();
    assert!(text.contains("version: 1"), "no policy: {text}");
    println!(
        "\nlearning from {RUNS} runs of {EVENTS} events: {:.2} s, {} MiB, a policy of {} lines{}",
        took.as_secs_f64(),
        memory >> 20,
        text.lines().count(),
        if cfg!(debug_assertions) { " (not a release build)" } else { "" }
    );
    cfg!(debug_assertions) || (took < PATIENCE && memory < MEMORY)
}

/// Waits for it; the most memory that it had, in bytes.
fn ended(child: Child) -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let mut status = 0;
    // SAFETY: the child is this process's and was not waited for; both pointers lead to what the call fills in.
    let pid = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(pid, child.id().cast_signed(), "sandbox learn cannot be waited for");
    // 1: nobody should enforce it yet.
    let code = libc::WEXITSTATUS(status);
    assert!(libc::WIFEXITED(status) && (code == 0 || code == 1), "sandbox learn ended with {status}");
    // SAFETY: zeros are a valid rusage, and wait4 filled it in.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}

/// Writes one record, without a seal.
fn write(path: &Path, number: usize) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let (mut chain, mut tree) = (ChainWriter::default(), Tree::default());
    let mut random = Random::of(1, &["long"], number);
    let workspace = format!("/home/u/work/project-{number}");
    for at in 0..EVENTS {
        let line =
            chain.append(|line| event(line, at, number, &workspace, &mut random)).expect("keys ascend");
        out.write_all(line)?;
        tree.push(&chain.position().head);
    }
    out.flush()
}

fn event(line: &mut EventWriter<'_>, at: u64, number: usize, workspace: &str, random: &mut Random) {
    let kind = match at {
        0 => "run_start",
        _ if at % 211 == 1 => "exec",
        _ if at % 997 == 2 => "net_connect",
        _ => "file_open",
    };
    let is_file = kind == "file_open";
    let access = if at.is_multiple_of(5) { vec!["write", "create"] } else { vec!["read"] };
    if is_file {
        line.list("access", &access);
    }
    line.put("action", "OBSERVED").put("agent_id", "make");
    match kind {
        "run_start" => _ = line.list("command", ["make"]),
        "exec" => _ = line.list("argv", ["cc1", "-quiet"]),
        _ => {}
    }
    if kind == "net_connect" {
        let address = format!("203.0.113.{}", random.between(1, 30));
        line.put("dst_ip", address.as_str()).put("dst_port", 443u64);
    }
    line.put("event_type", kind);
    let programs = ["/usr/bin/make", "/usr/bin/as", "/usr/bin/ld", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1"];
    let program = *random.pick(&programs);
    line.put("exe", program);
    if kind == "net_connect" {
        line.put("family", "inet");
    }
    line.put("kseq", at).put("layer", "trace").put("mono_ns", 81_000_000_000_000 + at * 5_000);
    if is_file {
        let path = match (access.len(), random.between(0, 3)) {
            (2, 0) => format!("/tmp/cc{}.s", random.hex(6)),
            (2, 1) => format!("/home/u/.cache/tool/{}/{}", random.hex(2), random.hex(30)),
            (2, _) => {
                format!("{workspace}/build/part-{}/unit-{}.o", random.between(0, 40), random.between(0, 9000))
            }
            (_, 0) => {
                format!("/usr/include/dir-{}/header-{}.h", random.between(0, 90), random.between(0, 330))
            }
            (_, 1) => format!("/proc/{}/stat", random.between(1000, 60_000)),
            (_, _) => {
                format!("{workspace}/src/part-{}/unit-{}.c", random.between(0, 40), random.between(0, 9000))
            }
        };
        line.put("path", path.as_str());
    } else if kind == "exec" {
        line.put("path", program);
    }
    let process = 1000 + at / 400;
    line.put("pid", process).put("ppid", 999u64).put("proc_id", format!("{process}-{number}").as_str());
    if kind == "net_connect" {
        line.put("proto", "tcp");
    }
    line.put("ret", if is_file { 3i64 } else { 0 })
        .put("run_id", format!("20261127-14171{number}-make").as_str());
    line.put("timestamp", "2026-11-27T14:00:00.000000000Z").put("uid", 1000u64).put("v", 1u64);
    if kind == "run_start" {
        let told =
            ["HOME=/home/u".to_owned(), "TMP=/tmp".to_owned(), "UID=1000".to_owned(), "USER=u".to_owned()];
        let told = told.into_iter().chain([format!("WORKSPACE={workspace}")]);
        line.list("variables", told.collect::<Vec<_>>());
    }
}
