//! Long logs and long lines, in constant memory.
//!
//! A log of 64 MiB and such a line here. Any other size, and how fast it went:
//!
//!     AUDIT_VERIFY_LARGE_MIB=10240 cargo test --release -p audit-verify --test large -- --nocapture

#![allow(clippy::unwrap_used, reason = "this is test code, also where clippy does not know it as such")]

mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use audit_verify::chain::ChainWriter;

const MIB: u64 = 1 << 20;

/// More than this the verifier never has in memory, whatever the size of the log. A line of 16 MiB fits.
const MEMORY_KIB: u64 = 64 << 10;

/// Runs a command and says on stderr how much memory it had at most: getrusage(2), in KiB.
const MEASURE: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)";

/// Runs the binary on several threads and measures the memory that it takes.
fn check(target: &Path) -> Output {
    let start = Instant::now();
    let output = Command::new("python3")
        .args(["-I", "-c", MEASURE, env!("CARGO_BIN_EXE_audit-verify"), "--threads", "4"])
        .arg(target)
        .output()
        .expect("these tests need python3");
    let mib = std::fs::metadata(target).unwrap().len() / MIB;
    let peak: u64 = std::str::from_utf8(&output.stderr).unwrap().trim().parse().unwrap();
    println!("{mib} MiB in {:.1} s, {} MiB at most", start.elapsed().as_secs_f64(), peak >> 10);
    assert!(peak <= MEMORY_KIB, "{peak} KiB");
    output
}

/// Writes a log of `size` bytes with one edited line past its middle; returns the number of that line.
fn write_log(path: &Path, size: u64) -> u64 {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut chain = ChainWriter::default();
    let mut written = 0;
    let mut edited = 0;
    while written < size {
        let seq = chain.position().seq + 1;
        let kind = if seq == 1 { "run_start" } else { "file_open" };
        let line = chain.append(|event| {
            event
                .put("action", "OBSERVED")
                .put("agent_id", "bash")
                .put("comm", "bash")
                .put("event_type", kind);
            event.put("exe", "/usr/bin/bash").put("path", "/usr/lib/x86_64-linux-gnu/libsomething.so.6.0.0");
            event.put("pid", 4242).put("run_id", "20260721-101010-bash").put("uid", 1000).put("v", 1);
        });
        let line = line.unwrap();
        written += line.len() as u64;
        if edited == 0 && written > size / 2 {
            edited = seq;
            let text = std::str::from_utf8(line).unwrap().replace("\"uid\": 1000", "\"uid\": 1001");
            file.write_all(text.as_bytes()).unwrap();
        } else {
            file.write_all(line).unwrap();
        }
    }
    file.flush().unwrap();
    edited
}

/// The size that the environment asks for, bytes.
fn size() -> u64 {
    std::env::var("AUDIT_VERIFY_LARGE_MIB").map_or(64, |mib| mib.parse().unwrap()) * MIB
}

#[test]
fn a_bad_line_in_the_middle_of_a_long_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let edited = write_log(&path, size());
    let output = check(&path);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains(&format!("  line      {edited}\n  why       hash_self is not")), "{stdout}");
}

#[test]
fn a_line_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut file = File::create(&path).unwrap();
    file.write_all(&support::sample(3).concat()).unwrap();
    // A hole: zero bytes that take no room.
    file.set_len(size()).unwrap();
    let output = check(&path);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("  line      4\n  why       it stands behind the seal\n"), "{stdout}");

    let mut file = File::create(&path).unwrap();
    file.write_all(&support::sample(3)[..2].concat()).unwrap();
    file.write_all(b"{\"a\": \"").unwrap();
    file.set_len(size()).unwrap();
    let output = check(&path);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(
        stdout.contains("  line      3\n  why       longer than 16 MiB: sandbox writes no such line\n"),
        "{stdout}"
    );
}
