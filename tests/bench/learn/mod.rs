//! What `sandbox learn` is worth: policies made of a few recorded runs, put to honest runs that they were not made of and
//! to attacks inside of such runs.
//!
//!     cargo run --release -p sandbox-tests --bin bench -- learn
//!     … learn --only make,git --runs 3 --honest 5 --place DIR
//!
//! Eight kinds of work ([`workloads`]) are recorded, each run with another seed. Attacks ([`attacks`]) are recorded
//! without a policy, and each must come through then: that is their control. [`score`] puts a policy to them by replay,
//! and looks at what it opens that nobody needs. A policy that denies everything and one that allows everything are put to
//! the same, and must fail; else nothing here means anything. With `--place` recordings stay, and are used again.
//!
//! With `--enforce 6.12` (or 6.1) the policies of five runs are also enforced, by all hooks, in a guest with that kernel:
//! on the runs that they were learned from, on the honest ones and on the attacks ([`guest`]).
//!
//! [`events`] measures what learning from long runs takes; `--events only` nothing else, for which any user will do.
//!
//! The rest needs root and what the laboratory needs (`net-lab`).

mod attacks;
mod build;
mod events;
pub mod guest;
mod random;
mod record;
mod score;
mod site;
mod table;
mod work;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::Command;

use net_lab::{PROGRAMS, PYTHON, Side};
use sandbox_tests::requirement::{Need, met};

use record::{Recorded, record};
use score::{Candidate, Runs, Score, score};
use site::{Purpose, Site};
use table::Row;
use workloads::{WORKLOADS, Workload};

/// The word for it on the command line.
pub const KEY: &str = "learn";

pub const USAGE: &str =
    "usage: bench learn [--only WORKLOAD,…] [--runs N,…] [--honest N] [--attacks N] [--seed N]
                   [--strictness WORD] [--reach N] [--place DIR] [--events yes|no|only]
                   [--enforce KERNEL]
workloads: make, cargo, unittest, npm, git, sqlite, keys, agent
--attacks N: so many of the list, evenly
--reach N: how many of the workloads must reach the goal at 5 runs, or at the most that are given
--enforce KERNEL: enforce them in a guest of this series (6.1, 6.12) as well, which counts for the goal";

/// The number of lessons that the goal is meant for.
const LESSONS: usize = 5;

/// Policies that must fail, whatever the workload.
const EXTREMES: [(&str, &str); 2] = [
    (
        "everything denied",
        "version: 1\nname: nothing\nfiles: { default: deny }\nexec: { default: deny }\nnetwork: { default: deny }\n",
    ),
    (
        "everything allowed",
        "version: 1\nname: everything\nfiles: { default: allow }\nexec: { default: allow }\nnetwork: { default: allow }\n",
    ),
];

/// Runs of each kind that are enough to show it.
const EXTREME: usize = 5;

struct Options {
    only: Vec<String>,
    runs: Vec<usize>,
    honest: usize,
    attacks: usize,
    seed: u64,
    strictness: String,
    reach: Option<usize>,
    place: Option<PathBuf>,
    events: Events,
    /// The series of kernels that enforces.
    enforce: Option<String>,
}

/// Whether long records are learned from, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Events {
    Yes,
    No,
    /// And nothing else.
    Only,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        only: Vec::new(),
        runs: vec![1, 2, 5, 10],
        honest: 20,
        attacks: attacks::ATTACKS.len(),
        seed: 1,
        strictness: "balanced".to_owned(),
        reach: None,
        place: None,
        events: Events::Yes,
        enforce: None,
    };
    while let Some(arg) = args.next() {
        let value = args.next()?;
        match arg.as_str() {
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--runs" => {
                options.runs =
                    value.split(',').map(|n| n.parse().ok().filter(|n| *n > 0)).collect::<Option<_>>()?;
            }
            "--honest" => options.honest = value.parse().ok()?,
            "--attacks" => {
                options.attacks = value.parse().ok().filter(|n| (1..=attacks::ATTACKS.len()).contains(n))?
            }
            "--seed" => options.seed = value.parse().ok()?,
            "--strictness" => options.strictness = value,
            "--reach" => options.reach = Some(value.parse().ok()?),
            "--events" => {
                options.events = match value.as_str() {
                    "yes" => Events::Yes,
                    "no" => Events::No,
                    "only" => Events::Only,
                    _ => return None,
                }
            }
            "--enforce" => options.enforce = Some(value),
            "--place" => options.place = Some(value.into()),
            _ => return None,
        }
    }
    options.only.iter().all(|name| WORKLOADS.iter().any(|known| known.name == name)).then_some(options)
}

/// Temporary places: a home in one of them would be the runs' own.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Measures and prints; whether the goal was reached, `None` where the arguments are wrong.
pub fn run(args: impl Iterator<Item = String>) -> Option<bool> {
    let options = options(args)?;
    if options.events == Events::Only {
        let made = tempfile::tempdir().expect("a place for records");
        crate::table::machine();
        events::run(options.place.as_deref().unwrap_or(made.path()));
        return Some(true);
    }
    let chosen: Vec<&Workload> = WORKLOADS
        .iter()
        .filter(|workload| options.only.is_empty() || options.only.iter().any(|name| name == workload.name))
        .collect();
    let programs = PROGRAMS.iter().chain(&["nsenter", PYTHON, "perl", "unshare"]);
    let programs = programs.chain(chosen.iter().flat_map(|workload| workload.programs));
    let needs: Vec<Need<'_>> =
        [Need::Trace].into_iter().chain(programs.map(|program| Need::Program(program))).collect();
    if !met("the bench of what is learned", &needs) {
        return Some(false);
    }
    let made = tempfile::Builder::new().prefix("sandbox-learn-").tempdir_in("/home").expect("a place");
    let place = options.place.clone().unwrap_or_else(|| made.path().to_owned());
    if let Some(temporary) = TEMPORARY.iter().find(|temporary| place.starts_with(temporary)) {
        println!("--place lies in {temporary}, which what is learned may open as a whole: choose another");
        return Some(false);
    }
    let path = path();
    let mut rows = Vec::new();
    let mut reached = 0;
    for workload in &chosen {
        let (of_workload, reaches) = measure(workload, &place, &path, &options);
        rows.extend(of_workload);
        reached += usize::from(reaches);
    }
    table::print(&rows);
    rows.iter().for_each(table::explain);
    let needed = options.reach.unwrap_or(chosen.len() * 7 / 8);
    if options.events == Events::Yes {
        events::run(&place);
    }
    println!("\n{reached} of {} workloads reach the goal; {needed} must", chosen.len());
    Some(reached >= needed)
}

/// Where programs are found: cargo and rustc as they are, not what chooses between several.
fn path() -> String {
    let root = Command::new("rustc").args(["--print", "sysroot"]).output();
    let root =
        root.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{root}/bin:/usr/sbin:/usr/bin")
}

/// Most runs of these, or five.
fn decisive(runs: &[usize]) -> usize {
    let most = runs.iter().copied().max().unwrap_or(1);
    if runs.contains(&LESSONS) { LESSONS } else { most }
}

fn measure(workload: &Workload, place: &Path, path: &str, options: &Options) -> (Vec<Row>, bool) {
    let mut site = Site::new(&place.join(workload.name), Side::Private, path);
    let most = options.runs.iter().copied().max().unwrap_or(1);
    let lessons: Vec<Recorded> =
        (0..most).map(|number| record(&mut site, workload, &Purpose::Lesson(number), options.seed)).collect();
    let honest: Vec<Recorded> = (0..options.honest)
        .map(|number| record(&mut site, workload, &Purpose::Honest(number), options.seed))
        .collect();
    let attacks: Vec<(Recorded, String)> = attacks::some(options.attacks)
        .map(|(number, attack)| {
            let purpose = Purpose::Attacked(attack, number);
            (record(&mut site, workload, &purpose, options.seed), purpose.token(workload))
        })
        .collect();
    let controls = attacks.iter().map(|(run, _)| run).filter(|run| !(run.begun && run.through));
    let failed: Vec<&str> = controls.map(|run| run.name.as_str()).collect();
    assert!(failed.is_empty(), "{}: without a policy these do not come through: {failed:?}", workload.name);
    let row = |runs: Option<usize>, score: Score| Row {
        title: workload.title.to_owned(),
        runs,
        score,
        enforced: None,
    };
    let mut rows = Vec::new();
    let mut reaches = false;
    for count in &options.runs {
        let taught: Vec<&Recorded> = lessons.iter().take(*count).collect();
        let name = format!("{}-{count}", workload.name);
        let candidate = Candidate::learned(&site, &name, &taught, &options.strictness);
        let runs = Runs { lessons: &taught, honest: &honest, attacks: &attacks };
        let score = score(&site, &candidate, &runs);
        if *count == decisive(&options.runs) {
            reaches = score.reaches();
        }
        let mut row = row(Some(*count), score);
        if let (Some(kernel), true) = (&options.enforce, *count == decisive(&options.runs)) {
            let orders = guest::Orders {
                kernel,
                workload,
                policy: &candidate.text,
                path,
                seed: options.seed,
                lessons: *count,
                honest: options.honest,
                attacks: options.attacks,
            };
            let attacked = attacks.iter().map(|(run, _)| run);
            let recorded: Vec<&Recorded> = lessons.iter().chain(&honest).chain(attacked).collect();
            let enforced = guest::enforce(place, &orders, &recorded);
            reaches &= enforced.reaches();
            row.enforced = Some(enforced);
        }
        rows.push(row);
    }
    for (name, text) in EXTREMES {
        let candidate = Candidate::given(&site, &name.replace(' ', "-"), text);
        let few = |count: usize| count.min(EXTREME);
        let (honest, attacks) = (&honest[..few(honest.len())], &attacks[..few(attacks.len())]);
        let score = score(&site, &candidate, &Runs { lessons: &[], honest, attacks });
        assert!(!score.reaches(), "{}: {name} reaches the goal: {score:?}", workload.name);
        let title = format!("  {name}");
        rows.push(Row { title, ..row(None, score) });
    }
    (rows, reaches)
}
