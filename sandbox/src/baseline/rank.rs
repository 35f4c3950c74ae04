//! How unusual something new is, so that what matters stands first.
//!
//! Two things are put together: how much a kind of behaviour matters (a credential more than a file), and how surprising
//! it is that *anything* new of this kind happens. The second is asked of the runs themselves: in how many of them was
//! something of the kind that none of the others did? Good and Turing take that share for the chance of the next run to
//! bring something new (Good 1953); half a run is added, of one run more, so that it is never nothing. A kind in which
//! each run brings something new is no surprise, however much it matters.
//!
//! The score is the weight times the surprise in bits. It orders what is new; it is no probability of an attack.

use super::fact::{Doing, Kind};
use super::file::{Agent, Metric, Spread};

/// The chance that a further run brings something of a kind that no run had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance(f64);

impl Chance {
    /// By what the runs tell: the key is one of [`Agent::key`].
    pub fn of(agent: &Agent, key: &str) -> Self {
        let alone = agent.alone.get(key).copied().unwrap_or(0);
        Self((alone as f64 + 0.5) / (agent.runs as f64 + 1.0))
    }

    /// How surprising it is.
    pub fn bits(self) -> f64 {
        -self.0.log2()
    }

    /// In runs of a hundred, rounded up.
    pub fn percent(self) -> u64 {
        (self.0 * 100.0).ceil() as u64
    }
}

/// How much a kind of behaviour matters.
pub fn weight(kind: &Kind) -> f64 {
    match (kind.name.as_str(), kind.access) {
        // What acts in the user's name elsewhere, also after the run.
        ("base/credentials" | "base/cloud-metadata", _) => 10.0,
        // The rest of what `base` closes, and what `kernel` does.
        (name, _) if name.contains('/') => 8.0,
        ("kernel", _) => 8.0,
        (_, Doing::Run | Doing::Reach) => 6.0,
        (_, Doing::Serve | Doing::Socket | Doing::Abstract | Doing::Ask) => 4.0,
        (_, Doing::Change) => 3.0,
        _ => 2.0,
    }
}

/// Of what is known, by somebody for whom it is new.
pub const BY_ANOTHER: f64 = 0.5;
/// Of volume.
const VOLUME: f64 = 4.0;
/// Of an agent that no run had.
const AGENT: f64 = 4.0;

/// The score.
pub fn score(weight: f64, bits: f64) -> u32 {
    // Both are small and not negative.
    (weight * bits).round() as u32
}

/// The score of an agent that none of so many runs had.
pub fn of_agent(all: &Agent) -> u32 {
    score(AGENT, Chance::of(all, "").bits())
}

/// What is too little to speak of, whatever the runs had.
fn floor(metric: Metric) -> u64 {
    match metric {
        Metric::Processes => 8,
        Metric::FilesWritten | Metric::FilesDeleted => 16,
        Metric::BytesSent => 64 << 10,
    }
}

/// The score of so much, where it is more than runs like these explain: at least twice the most of them, and as much
/// above the most as that is above the middle (up to eight times).
///
/// The most of N runs is exceeded by one of N + 1; each doubling beyond it counts as one bit more, as where amounts
/// have the longest tail that they still have a mean with.
pub fn of_volume(metric: Metric, value: u64, of: &Spread, runs: u64) -> Option<u32> {
    let most = of.most.max(floor(metric)) as f64;
    let middle = of.median.max(floor(metric)) as f64;
    let room = (most / middle).clamp(2.0, 8.0);
    let times = value as f64 / most;
    (times > room).then(|| score(VOLUME, (runs as f64 + 1.0).log2() + times.log2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: u64, alone: u64) -> Agent {
        Agent { runs, alone: [("exec run".to_owned(), alone)].into(), ..Agent::default() }
    }

    #[test]
    fn what_each_run_brings_is_no_surprise() {
        let bits = |all, alone| Chance::of(&runs(all, alone), "exec run").bits();
        assert!(bits(100, 0) > bits(10, 0), "more runs, more surprise");
        assert!(bits(100, 0) > bits(100, 5) && bits(100, 5) > bits(100, 50));
        assert!(bits(100, 100) < 0.1);
        assert_eq!(Chance::of(&runs(1, 1), "exec run").percent(), 75);
        let credential = weight(&Kind::new("base/credentials", Doing::Read));
        assert!(credential > weight(&Kind::new("exec", Doing::Run)));
        assert!(weight(&Kind::new("network", Doing::Reach)) > weight(&Kind::new("files", Doing::Read)));
    }

    #[test]
    fn volume_counts_from_twice_the_most_on() {
        let of = Spread { least: 90, median: 100, most: 110 };
        assert_eq!(of_volume(Metric::Processes, 111, &of, 5), None);
        assert_eq!(of_volume(Metric::Processes, 220, &of, 5), None);
        assert!(of_volume(Metric::Processes, 221, &of, 5).is_some());
        assert!(of_volume(Metric::Processes, 5000, &of, 5) > of_volume(Metric::Processes, 500, &of, 5));
        // Runs that differ much explain more.
        let wide = Spread { least: 1, median: 100, most: 500 };
        assert_eq!(of_volume(Metric::Processes, 2400, &wide, 5), None);
        // Little is little.
        let none = Spread { least: 0, median: 0, most: 0 };
        assert_eq!(of_volume(Metric::BytesSent, 4096, &none, 5), None);
        assert!(of_volume(Metric::BytesSent, 1 << 20, &none, 5).is_some());
        assert!(of_volume(Metric::BytesSent, u64::MAX, &of, u64::MAX).is_some());
    }
}
