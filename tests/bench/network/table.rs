//! The report: on stdout.
//!
//! Ratios are those of rounds to the bare one of the same round, so that a machine whose speed changes changes both.
//! `CPU` is the client's and the servers' time; it has the work of the kernel's programs in it, and is steadier than the
//! clock's where others use the machine. `runner` is what recording and answering take beside it.

use super::run::{Rounds, Times, Variant};
use super::{Unit, Work};

/// Prints one table.
pub fn print(work: &Work, all: &[Rounds]) {
    let per = match work.unit {
        Unit::One => "each",
        Unit::Gibibyte => "GiB",
    };
    println!("\n{}", work.title);
    println!(
        "  {:<16}{:>10} {:>19} {:>6}{:>10} {:>6} {:>13}{:>10}  events",
        format!("time per {per}"),
        "wall",
        "least-most",
        "ratio",
        "CPU",
        "ratio",
        "least-most",
        "runner"
    );
    let units = work.unit.of(work.count);
    let Some(bare) = all.iter().find(|rounds| rounds.variant == Variant::Bare) else { return };
    for rounds in all {
        let each = |of: fn(&Times) -> f64| -> Vec<f64> { rounds.times.iter().map(of).collect() };
        let ratios = |of: fn(&Times) -> f64| -> Vec<f64> {
            rounds.times.iter().zip(&bare.times).map(|(times, bare)| of(times) / of(bare)).collect()
        };
        let (wall, cpu) = (each(|times| times.wall), each(|times| times.cpu));
        let cpu_ratios = ratios(|times| times.cpu);
        let runner = match rounds.variant {
            Variant::Bare => String::new(),
            _ => show((median(&each(|times| times.rest)) - rounds.start).max(0.0) / units),
        };
        let events = rounds.events.map_or(String::new(), |(events, lost)| match lost {
            0 => events.to_string(),
            lost => format!("{events}, {lost} lost"),
        });
        println!(
            "  {:<16}{:>10} {:>19} {:>6.3}{:>10} {:>6.3} {:>13}{runner:>10}  {events}",
            rounds.variant.name(),
            show(median(&wall) / units),
            format!("{}-{}", show(least(&wall) / units), show(most(&wall) / units)),
            median(&ratios(|times| times.wall)),
            show(median(&cpu) / units),
            median(&cpu_ratios),
            format!("{:.3}-{:.3}", least(&cpu_ratios), most(&cpu_ratios)),
        );
    }
}

fn show(seconds: f64) -> String {
    match seconds {
        0.0 => "-".to_owned(),
        seconds if seconds < 2e-3 => format!("{:.2} us", seconds * 1e6),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

fn least(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(0.0, f64::max)
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
