//! Running the variants in turn, and their times.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::scene::Scene;

/// One thing to measure.
pub struct Work {
    /// Name for `--only`.
    pub key: &'static str,
    /// Title of its table.
    pub title: &'static str,
    /// The command.
    pub command: Vec<OsString>,
    /// How many rounds strace takes part in.
    pub strace_rounds: usize,
    /// Factor to the number of rounds, for work that is over at once.
    pub more: usize,
    /// A project to clean before each time.
    pub clean: Option<PathBuf>,
}

/// How often.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Rounds of bare and sandbox.
    pub rounds: usize,
    /// The first so many have strace as well.
    pub strace_rounds: usize,
}

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Nobody.
    Bare,
    /// `sandbox run --audit-only`.
    Sandbox,
    /// `strace -f -o /dev/null`.
    Strace,
}

impl Variant {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Bare => "bare",
            Variant::Sandbox => "sandbox --audit-only",
            Variant::Strace => "strace -f",
        }
    }
}

/// The times of one variant.
pub struct Times {
    /// Whose.
    pub variant: Variant,
    /// Each round's, in order.
    pub rounds: Vec<Duration>,
    /// Events in the last log, and how many were lost, where there is one.
    pub events: Option<(u64, u64)>,
}

/// Runs a piece of work under each variant in turn.
pub fn measure(scene: &Scene, work: &Work, plan: Plan) -> Vec<Times> {
    // A line that rewrites itself is for somebody who watches, not for a file.
    let watched = std::io::stderr().is_terminal();
    let times = |variant| Times { variant, rounds: Vec::new(), events: None };
    let mut all = [Variant::Bare, Variant::Sandbox, Variant::Strace].map(times);
    for round in 0..=plan.rounds {
        for turn in 0..all.len() {
            let times = &mut all[(round + turn) % 3];
            if times.variant == Variant::Strace && round > plan.strace_rounds {
                continue;
            }
            if watched {
                eprint!("\r\x1b[K{}: round {round} of {}, {}", work.title, plan.rounds, times.variant.name());
            }
            let took = once(scene, work, times);
            // Round 0 warms the caches.
            if round > 0 {
                times.rounds.push(took);
            }
        }
    }
    if watched {
        eprint!("\r\x1b[K");
    }
    all.into_iter().filter(|times| !times.rounds.is_empty()).collect()
}

fn once(scene: &Scene, work: &Work, times: &mut Times) -> Duration {
    if let Some(project) = &work.clean {
        let status = Command::new("make").arg("-C").arg(project).args(["-s", "clean"]).status();
        assert!(status.expect("make must start").success(), "make clean failed");
    }
    let mut prefix: Vec<OsString> = match times.variant {
        Variant::Bare => Vec::new(),
        Variant::Sandbox => {
            let mut prefix = vec![binary("sandbox").into_os_string()];
            prefix.extend(["run", "--audit-only", "--quiet", "--"].map(OsString::from));
            prefix
        }
        Variant::Strace => ["strace", "-f", "-o", "/dev/null"].map(OsString::from).to_vec(),
    };
    prefix.extend(work.command.iter().cloned());
    let mut command = scene.command(&prefix[0], &prefix[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("the command must start");
    let took = start.elapsed();
    assert!(status.success(), "{} failed: {status}", times.variant.name());
    if times.variant == Variant::Sandbox {
        let run = scene.run();
        let log = Log::of_run(&run);
        let seal = log.seal();
        times.events = seal.uint("events").zip(seal.uint("lost"));
        std::fs::remove_dir_all(run).expect("remove the run");
    }
    took
}
