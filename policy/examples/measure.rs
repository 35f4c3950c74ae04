//! How long policies of usual shape take to read and compile, and how large their tables become.
//!
//!     cargo run --release -p policy --example measure [RULES…]
//!
//! Of every ten rules five are directories with all below them, two are files, one names a file at any
//! depth, one a suffix, and one has a wildcard in the middle; they share directories as real ones do. Of every
//! hundred a few have exceptions, or hold for some programs only. Peak memory is that of the whole process so far,
//! so the counts ascend.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use policy::compile::lsm::{self, SetTable};
use policy::{Policy, Variables};

fn main() -> ExitCode {
    let mut counts: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10, 100, 1_000, 10_000];
    }
    println!(
        "{:>6} {:>9} {:>11} {:>9} {:>9}  states of each automaton",
        "rules", "parse ms", "compile ms", "cells KiB", "peak MiB"
    );
    for count in counts {
        let text = usual(count);
        let start = Instant::now();
        let policy = match Policy::parse("measured.yaml", &text, &Variables::new()) {
            Ok(policy) => policy,
            Err(errors) => {
                eprintln!("{errors}");
                return ExitCode::FAILURE;
            }
        };
        let parsed = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let plan = lsm::compile(&[&policy], 0, &mut SetTable::new());
        let compiled = start.elapsed().as_secs_f64() * 1e3;
        match plan {
            Ok(plan) => println!(
                "{count:>6} {parsed:>9.1} {compiled:>11.1} {:>9} {:>9}  {:?}",
                plan.cells.len() * 8 / 1024,
                peak_mib(),
                plan.states()
            ),
            Err(error) => println!("{count:>6} {parsed:>9.1} refused after {compiled:.1} ms: {error}"),
        }
    }
    ExitCode::SUCCESS
}

/// A policy of `count` rules of usual shape.
fn usual(count: usize) -> String {
    let words = [
        "src", "lib", "app", "core", "data", "cache", "config", "build", "test", "docs", "main", "util",
        "net", "auth", "index", "tmp",
    ];
    let word = |n: usize| words[n % words.len()];
    let mut text = String::from("version: 1\nname: measured\nfiles:\n  default: deny\n  rules:\n");
    for i in 0..count {
        // A number that looks random, the same each time.
        let n = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) as usize;
        let directory = format!(
            "/{}/{}/{}-{}",
            ["home/user", "opt", "srv", "var/lib"][n % 4],
            word(n >> 2),
            word(n >> 6),
            i / 4
        );
        let path = match i % 10 {
            0..5 => format!("{directory}/{}/**", word(n >> 10)),
            5 | 6 => format!("{directory}/{}.{}", word(n >> 10), ["json", "toml", "py", "rs"][(n >> 14) % 4]),
            7 => format!("**/{}-{i}.lock", word(n >> 10)),
            8 => format!("**/*.{}{i}", word(n >> 10)),
            _ => format!("{directory}/*/{}/**", word(n >> 10)),
        };
        let effect =
            ["allow: [read]", "allow: [read, write]", "deny: [write]", "deny: [read, write]"][(n >> 20) % 4];
        let more = match n % 100 {
            7 => format!(", except: [\"{directory}/{}/*.md\"]", word(n >> 10)),
            23 => String::from(", except: [\"**/.env\"]"),
            41 => format!(", by: [\"**/{}\"]", ["git", "npm", "node", "ssh"][(n >> 7) % 4]),
            67 => String::from(", under: [\"**/npm\", \"/usr/bin/make\"]"),
            83 => String::from(", unless_by: [\"/opt/**\"]"),
            _ => String::new(),
        };
        let _ = writeln!(text, "    - {{ name: rule-{i}, {effect}, path: [\"{path}\"]{more} }}");
    }
    text
}

/// The most memory that the process ever had; 0 where /proc does not say.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}
