//! What recording costs: the same work bare, under `sandbox run --audit-only` and under `strace -f`, side by
//! side in one run.
//!
//!     cargo run --release -p sandbox-tests --bin bench
//!     cargo run --release -p sandbox-tests --bin bench -- --repetitions 9 --only compile
//!
//! The variants take turns, so that a machine which slows down slows them all; each round begins with another
//! one. The table gives the median, the fastest and the slowest, and the median's ratio to bare. strace is
//! slow and takes part in the first rounds only. Needs root, strace, gcc and make.
//!
//! `index` has what the index of a long log costs, and how quickly it answers. `record` has what the record costs,
//! written and checked. Both need neither root nor strace.
//!
//! `notify` has what it costs an ordinary user: the same work bare, under `sandbox run` by notify and under
//! `strace -f -e trace=…` of the same calls, all as uid 65534.
//!
//! `learn` has what policies are worth that were learned from recorded runs; it has options of its own ([`learn`]).
//!
//! `network` has what the network costs, and needs what the laboratory needs.

mod index;
mod learn;
mod measure;
mod network;
mod notify;
mod record;
mod table;

use std::process::ExitCode;

use sandbox_tests::binaries::binary;
use sandbox_tests::project;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

use measure::{Plan, Work, measure};

const USAGE: &str = "usage: bench [--repetitions N] [--only WORK]
works: open, spawn, compile, start; of the record: index, record; of a user: notify;
of the network: connect, send, ask, transfer; network: all of these
bench learn …: what learned policies are worth";

struct Options {
    repetitions: usize,
    only: Option<String>,
}

fn options() -> Option<Options> {
    let mut options = Options { repetitions: 7, only: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next()?;
        match arg.as_str() {
            "--repetitions" => options.repetitions = value.parse().ok().filter(|n| *n > 0)?,
            "--only" => options.only = Some(value),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(learn::guest::KEY) {
        learn::guest::inside();
        return ExitCode::SUCCESS;
    }
    if std::env::args().nth(1).as_deref() == Some(learn::KEY) {
        return match learn::run(std::env::args().skip(2)) {
            Some(true) => ExitCode::SUCCESS,
            Some(false) => ExitCode::FAILURE,
            None => {
                eprintln!("{}", learn::USAGE);
                ExitCode::from(2)
            }
        };
    }
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let only = options.only.as_deref();
    let of_network = |work: &network::Work| only.is_none_or(|only| only == "network" || only == work.key);
    let has_network = network::WORKS.iter().any(of_network);
    let has_index = only.is_none_or(|only| only == index::KEY);
    let needs = [Need::Trace, Need::Program("strace"), Need::Program("gcc"), Need::Program("make")];
    let has_record = only.is_none_or(|only| only == record::KEY);
    let has_notify = only.is_none_or(|only| only == notify::KEY);
    let has_others = only.is_none() || !(has_network || has_index || has_record || has_notify);
    if has_others && !met("the benchmark", &needs) {
        return ExitCode::FAILURE;
    }
    let scene = Scene::new();
    let works = works(&scene);
    let chosen: Vec<&Work> = works.iter().filter(|work| only.is_none_or(|only| work.key == only)).collect();
    if chosen.is_empty() && !has_network && !has_index && !has_record && !has_notify {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    table::machine();
    for work in chosen {
        let plan = Plan { rounds: options.repetitions * work.more, strace_rounds: work.strace_rounds };
        table::print(work, &measure(&scene, work, plan));
    }
    if has_notify && !notify::run(options.repetitions) {
        return ExitCode::FAILURE;
    }
    if has_record && !record::run(options.repetitions) {
        return ExitCode::FAILURE;
    }
    if has_index {
        index::run(options.repetitions);
    }
    if has_network && !network::run(options.repetitions, of_network) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn works(scene: &Scene) -> Vec<Work> {
    let workload = binary("workload").into_os_string();
    let target = scene.work().join("target");
    std::fs::write(&target, "").expect("a file to open");
    let source = scene.work().join("project");
    std::fs::create_dir(&source).expect("a directory for the project");
    project::write(&source, 40);
    let own = |args: [&str; 3]| {
        let mut command = vec![workload.clone()];
        command.extend(args.map(Into::into));
        command
    };
    let target = target.to_str().expect("a temporary path is UTF-8");
    let work = |key, title, command| Work { key, title, command, strace_rounds: 2, more: 1, clean: None };
    let make = |title, jobs: &str| Work {
        clean: Some(source.clone()),
        ..work(
            "compile",
            title,
            ["make".into(), "-C".into(), source.clone().into(), "-s".into(), jobs.into()].into(),
        )
    };
    vec![
        work("open", "(a) 200,000 open and close", own(["open-close", "200000", target])),
        work("spawn", "(b) 2,000 fork and exec of /bin/true", own(["spawn", "2000", "/bin/true"])),
        make("(c) compile of 40 C files, make -j1", "-j1"),
        make("(c) compile of 40 C files, make -j2", "-j2"),
        Work { more: 5, strace_rounds: 0, ..work("start", "start-up: /bin/true", vec!["/bin/true".into()]) },
    ]
}
