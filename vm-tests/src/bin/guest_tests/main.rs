//! The trials of the enforcement suite, run inside a guest: `guest-tests SUITE`.
//!
//! Each drives the built `sandbox` with [`guest-probe`](../guest_probe/index.html) as the command, and
//! compares what the kernel answered and what the log says with a table. The last line is
//! `N trials, M failed`; the exit status says the same.

mod acts;
mod answers;
mod apply;
mod asking;
mod attempt;
mod attributes;
mod code;
mod denials;
mod doctor;
mod ends;
mod lab;
mod learned;
mod log;
mod matrix;
mod membership;
mod names;
mod network;
mod oracle;
mod origins;
mod packages;
mod peers;
mod process;
mod races;
mod replay;
mod run;
mod settings;
mod shipped;
mod slots;
mod spellings;
mod subjects;
mod terminal;
mod why;

use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// A trial's name and what it does.
pub type Trial = (&'static str, fn() -> Result<()>);

/// Where trials keep their files; made afresh at each boot.
pub const WORK: &str = "/tmp/trial";

const SUITES: &[(&str, &[Trial])] = &[
    ("denials", denials::TRIALS),
    ("names", names::TRIALS),
    ("network", network::TRIALS),
    ("matrix", matrix::TRIALS),
    ("attributes", attributes::TRIALS),
    ("acts", acts::TRIALS),
    ("why", why::TRIALS),
    ("shipped", shipped::TRIALS),
    ("settings", settings::TRIALS),
    ("subjects", subjects::TRIALS),
    ("apply", apply::TRIALS),
    ("answers", answers::TRIALS),
    ("asking", asking::TRIALS),
    ("slots", slots::TRIALS),
    ("origins", origins::TRIALS),
    ("code", code::TRIALS),
    ("oracle", oracle::TRIALS),
    ("peers", peers::TRIALS),
    ("races", races::TRIALS),
    ("membership", membership::TRIALS),
    ("replay", replay::TRIALS),
    ("ends", ends::TRIALS),
    ("lab", lab::TRIALS),
    ("packages", packages::TRIALS),
    ("without-lsm", doctor::WITHOUT_LSM),
    ("with-lsm-again", doctor::WITH_LSM_AGAIN),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    let only = arguments.next();
    let Some((_, trials)) = SUITES.iter().find(|(name, _)| *name == wanted) else {
        let names: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: guest-tests {} [TRIAL]", names.join("|"));
        return ExitCode::from(2);
    };
    if let Err(error) = std::fs::create_dir(WORK) {
        eprintln!("guest-tests: cannot make {WORK}: {error}");
        return ExitCode::FAILURE;
    }
    let (mut count, mut failed) = (0, 0);
    for (name, trial) in trials.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let start = Instant::now();
        count += 1;
        match trial() {
            Ok(()) => println!("ok     {name} ({:.1} s)", start.elapsed().as_secs_f32()),
            Err(error) => {
                failed += 1;
                println!("FAILED {name} ({:.1} s): {error:?}", start.elapsed().as_secs_f32());
            }
        }
    }
    println!("{count} trials, {failed} failed");
    if failed == 0 && count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a file of a trial and returns its path.
pub fn write(name: &str, text: &str) -> Result<String> {
    let path = Path::new(WORK).join(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}
