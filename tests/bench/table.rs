//! The report: on stdout, 80 columns.

use std::time::Duration;

use crate::measure::{Times, Variant, Work};

/// Says what the figures were measured on.
pub fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    println!(
        "kernel {}, {cpus} CPUs{}",
        read("/proc/sys/kernel/osrelease").trim(),
        model.replace("\t:", ",")
    );
    println!("load before: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
}

/// Prints one table.
pub fn print(work: &Work, all: &[Times]) {
    println!("\n{}", work.title);
    println!(
        "  {:<22}{:>9}{:>9}{:>9}{:>8}{:>6}  events",
        "", "median", "fastest", "slowest", "ratio", "times"
    );
    let bare = all.iter().find(|times| times.variant == Variant::Bare).map(|times| median(&times.rounds));
    for times in all {
        let median = median(&times.rounds);
        let ratio = bare.map_or(0.0, |bare| median.as_secs_f64() / bare.as_secs_f64());
        let (fastest, slowest) = (times.rounds.iter().min(), times.rounds.iter().max());
        let events = times.events.map_or(String::new(), |(events, lost)| match lost {
            0 => events.to_string(),
            lost => format!("{events}, {lost} lost"),
        });
        println!(
            "  {:<22}{:>9}{:>9}{:>9}{ratio:>8.3}{:>6}  {events}",
            times.variant.name(),
            show(median),
            fastest.map_or(String::new(), |time| show(*time)),
            slowest.map_or(String::new(), |time| show(*time)),
            times.rounds.len(),
        );
    }
    let sandbox = all.iter().find(|times| times.variant == Variant::Sandbox);
    if let (Some(bare), Some(sandbox)) = (bare, sandbox) {
        let beyond = median(&sandbox.rounds).as_secs_f64() - bare.as_secs_f64();
        println!(
            "  sandbox beyond bare: {:+.1} ms, {:+.2} %",
            beyond * 1e3,
            100.0 * beyond / bare.as_secs_f64()
        );
    }
}

/// A time in a readable unit.
pub fn show(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.3} s"),
    }
}

/// The middle one.
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => Duration::ZERO,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2,
    }
}
