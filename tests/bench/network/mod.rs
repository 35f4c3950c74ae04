//! What the network costs: connections, datagrams, questions and transfers, between the two sides of the laboratory.
//!
//! The same work runs in turns without a sandbox, watched, and held by policies of addresses and of names, by the layer
//! `cgroup-net` (with `trace` for the record). The client takes the times of its loop itself, so that nobody's start
//! counts.

mod run;
mod table;

use net_lab::{Lab, PROGRAMS, PYTHON, Side};
use sandbox_tests::requirement::{Need, met};

use run::Bench;

/// One thing to measure.
pub struct Work {
    /// Name for `--only`.
    pub key: &'static str,
    /// Title of its table.
    title: &'static str,
    /// What one of it is, in the table.
    unit: Unit,
    /// The client's arguments; [`COUNT`] stands for how many.
    client: &'static [&'static str],
    /// How many, in each round.
    count: u64,
}

/// What times are told for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// One of those that are counted.
    One,
    /// A GiB, where bytes are counted.
    Gibibyte,
}

impl Unit {
    /// How many of them there are in a round.
    fn of(self, count: u64) -> f64 {
        match self {
            Unit::One => count as f64,
            Unit::Gibibyte => count as f64 / (1u64 << 30) as f64,
        }
    }
}

const COUNT: &str = "COUNT";

const fn one(key: &'static str, title: &'static str, count: u64, client: &'static [&'static str]) -> Work {
    Work { key, title, unit: Unit::One, client, count }
}

/// In the order of their tables.
pub const WORKS: &[Work] = &[
    one("connect", "(n1) connect and close, TCP", 20_000, &["connections", COUNT, "good.lab.test:7001"]),
    one("send", "(n2) a datagram with its address", 100_000, &["datagrams", COUNT, "good.lab.test:7002"]),
    one(
        "ask",
        "(n3) a question by a fresh socket",
        5_000,
        &["questions", COUNT, "203.0.113.53:53", "good.lab.test", "fresh"],
    ),
    one(
        "ask",
        "(n3) a question by a socket that is used again",
        5_000,
        &["questions", COUNT, "203.0.113.53:53", "good.lab.test", "reused"],
    ),
    one(
        "ask",
        "(n3) getaddrinfo: two questions, and addresses sorted",
        2_000,
        &["questions", COUNT, "203.0.113.53:53", "good.lab.test", "library"],
    ),
    Work {
        key: "transfer",
        title: "(n4) download by TCP",
        unit: Unit::Gibibyte,
        client: &["download", COUNT, "good.lab.test:7003"],
        count: 2 << 30,
    },
    Work {
        key: "transfer",
        title: "(n4) upload by TCP",
        unit: Unit::Gibibyte,
        client: &["upload", COUNT, "good.lab.test:7003"],
        count: 2 << 30,
    },
];

/// Measures and prints all that `chosen` takes.
pub fn run(rounds: usize, chosen: impl Fn(&Work) -> bool) -> bool {
    let programs = PROGRAMS.iter().chain(&["nsenter", PYTHON]).map(|program| Need::Program(program));
    if !met("the benchmark of the network", &[Need::Trace].into_iter().chain(programs).collect::<Vec<_>>()) {
        return false;
    }
    let lab = Lab::start(Side::Private).expect("a laboratory");
    let bench = Bench::start(&lab);
    for work in WORKS.iter().filter(|work| chosen(work)) {
        table::print(work, &bench.measure(work, rounds));
    }
    true
}
