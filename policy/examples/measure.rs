//! How long policies of usual shape take to read and compile, and how large their tables become.
//!
//!     cargo run --release -p policy --example measure [RULES…]
//!
//! Peak memory is that of the whole process so far, so the counts ascend.

mod usual;

use std::process::ExitCode;
use std::time::Instant;

use usual::Variety;

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
    for (variety, count) in [Variety::Plain, Variety::Varied]
        .into_iter()
        .flat_map(|variety| counts.iter().map(move |count| (variety, *count)))
    {
        let text = usual::policy(count, variety);
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
                "{count:>6} {parsed:>9.1} {compiled:>11.1} {:>9} {:>9}  {:?} {variety:?}",
                plan.cells.len() * 8 / 1024,
                peak_mib(),
                plan.states()
            ),
            Err(error) => println!("{count:>6} {parsed:>9.1} refused after {compiled:.1} ms: {error}"),
        }
    }
    ExitCode::SUCCESS
}

/// The most memory that the process ever had; 0 where /proc does not say.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}
