//! A baseline out of runs.
//!
//! First what the runs did is put together to patterns and targets as a policy would have them; then every deed is
//! looked up among these, by the same way as a check does it, and counted there. So a run of the baseline is never new
//! to it.

use std::collections::{BTreeMap, BTreeSet};

use policy::learn::{Place, Reach, Roots, Strictness, Tally, Use, grants, targets};

use super::deeds::Gathered;
use super::fact::{Classes, Doing, Fact, Kind, Object, accesses};
use super::file::{Agent, Baseline, Behaviour, FileError, MOST, Metric, Spread};
use super::index::Index;
use super::{BASE, classes};
use crate::launch::policy::PolicyError;

/// Programs that are named where it is only for people.
const NAMED: usize = 8;

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The variables of a run.
    #[error("{run}: the record's variables cannot be put into the policy base")]
    Variables {
        /// Its id.
        run: String,
        /// The cause.
        source: PolicyError,
    },
    /// Too much for one file.
    #[error(
        "these runs do more than {MOST} different things at places that have nothing in common; take fewer runs, or \
         runs with a --workspace"
    )]
    TooMuch,
    /// What was made could not be read again: a fault of this program.
    #[error("the baseline that was made is not one: {0}")]
    Wrong(#[from] FileError),
}

/// What a behaviour was seen in, before it is counts.
#[derive(Debug, Default)]
struct Seen {
    runs: BTreeSet<usize>,
    times: u64,
    by: BTreeMap<String, BTreeSet<usize>>,
}

/// A fact of one run, who did it, how often.
type Case<'a> = (Fact, &'a [u8], u64);

/// Puts runs together. Their order has no meaning.
///
/// # Errors
/// There is too much of it, or a run's variables cannot be used.
pub fn make(runs: &[Gathered]) -> Result<Baseline, MakeError> {
    let read = |run: &Gathered| -> Result<Classes, MakeError> {
        let base =
            classes(&run.variables).map_err(|source| MakeError::Variables { run: run.id.clone(), source })?;
        Ok(Classes::new(Roots::of(&run.variables), base))
    };
    let classes: Vec<Classes> = runs.iter().map(read).collect::<Result<_, _>>()?;
    let cases: Vec<Vec<Case<'_>>> =
        runs.iter().zip(&classes).map(|(run, classes)| cases_of(run, classes)).collect();
    let kinds = patterns(&cases);
    if kinds.values().map(BTreeSet::len).sum::<usize>() > MOST {
        return Err(MakeError::TooMuch);
    }
    let (mut list, mut index) = (Vec::new(), Index::default());
    for (kind, whats) in &kinds {
        for what in whats {
            index.insert(kind, what, list.len()).map_err(|fault| FileError::Object {
                at: list.len() + 1,
                kind: kind.name.clone(),
                access: kind.access.name(),
                fault,
            })?;
            list.push((kind.clone(), what.clone(), Seen::default()));
        }
    }
    for (run, cases) in cases.iter().enumerate() {
        for (fact, by, times) in cases {
            let Some(at) = index.find(fact) else { continue };
            let by = index.program(by, &classes[run]);
            let seen = &mut list[at].2;
            seen.runs.insert(run);
            seen.times = seen.times.saturating_add(*times);
            seen.by.entry(by).or_default().insert(run);
        }
    }
    list.retain(|(.., seen)| !seen.runs.is_empty());
    let all: BTreeSet<usize> = (0..runs.len()).collect();
    let mut agents: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (at, run) in runs.iter().enumerate() {
        agents.entry(&run.agent).or_default().insert(at);
    }
    let baseline = Baseline {
        version: super::file::VERSION,
        base: BASE.to_owned(),
        groups: policy::groups::VERSION,
        runs: runs.len() as u64,
        all: agent(&all, runs, &list),
        agents: agents.iter().map(|(name, of)| ((*name).to_owned(), agent(of, runs, &list))).collect(),
        behaviours: list.into_iter().map(|(kind, what, seen)| behaviour(kind, what, &seen, runs)).collect(),
    };
    Ok(baseline.checked()?)
}

/// What the deeds of a run are cases of.
fn cases_of<'a>(run: &'a Gathered, classes: &Classes) -> Vec<Case<'a>> {
    let deeds = run.deeds.all();
    deeds.filter_map(|(deed, by, times)| Some((classes.fact(deed)?, run.deeds.path(by), times))).collect()
}

/// What the objects of each kind are put together to.
fn patterns(cases: &[Vec<Case<'_>>]) -> BTreeMap<Kind, BTreeSet<String>> {
    let mut places: BTreeMap<Kind, BTreeMap<Place, Tally>> = BTreeMap::new();
    let mut ends: BTreeMap<Kind, BTreeMap<Reach, Tally>> = BTreeMap::new();
    let mut patterns: BTreeMap<Kind, BTreeSet<String>> = BTreeMap::new();
    for (run, cases) in cases.iter().enumerate() {
        for (Fact { kind, object }, _, times) in cases {
            let tally = match object {
                Object::Place(place) => places.entry(kind.clone()).or_default().entry(place.clone()),
                Object::End(end) => {
                    let tally = ends.entry(kind.clone()).or_default().entry(end.clone()).or_default();
                    tally.accesses = accesses(kind.access);
                    tally.runs.insert(run);
                    tally.count = tally.count.saturating_add(*times);
                    continue;
                }
                Object::Text(text) => {
                    patterns.entry(kind.clone()).or_default().insert(text.clone());
                    continue;
                }
            }
            .or_default();
            tally.runs.insert(run);
            tally.count = tally.count.saturating_add(*times);
        }
    }
    for (kind, places) in places {
        let (usage, strictness) = manner(&kind);
        let texts = grants(places, usage, strictness).into_iter().map(|grant| grant.pattern());
        patterns.entry(kind).or_default().extend(texts);
    }
    for (kind, ends) in ends {
        let (made, _) = targets(ends, Strictness::Balanced);
        patterns.entry(kind).or_default().extend(made.into_iter().map(|target| target.text));
    }
    patterns
}

/// How places of a kind are put together. What a rule speaks of stands for itself alone.
pub(super) fn manner(kind: &Kind) -> (Use, Strictness) {
    let usage = match kind.access {
        Doing::Read => Use::Read,
        Doing::Change => Use::Change,
        _ => Use::Run,
    };
    (usage, if kind.is_of_rule() { Strictness::Exact } else { Strictness::Balanced })
}

/// What some of the runs tell.
fn agent(of: &BTreeSet<usize>, runs: &[Gathered], list: &[(Kind, String, Seen)]) -> Agent {
    let mut alone: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (kind, _, seen) in list {
        let only = |runs: &BTreeSet<usize>| {
            let mut those = runs.intersection(of);
            those.next().copied().filter(|_| those.next().is_none())
        };
        match only(&seen.runs) {
            Some(run) => _ = alone.entry(Agent::key(kind, false)).or_default().insert(run),
            None if kind.is_by_program() => {
                let runs: BTreeSet<usize> = seen.by.values().filter_map(only).collect();
                if !runs.is_empty() {
                    alone.entry(Agent::key(kind, true)).or_default().extend(runs);
                }
            }
            None => {}
        }
    }
    let volumes = Metric::ALL.into_iter().filter_map(|metric| {
        let values: Vec<u64> = of.iter().filter_map(|run| runs[*run].volume(metric)).collect();
        Some((metric, Spread::of(values)?))
    });
    Agent {
        runs: of.len() as u64,
        alone: alone.into_iter().map(|(key, runs)| (key, runs.len() as u64)).collect(),
        volumes: volumes.collect(),
    }
}

fn behaviour(kind: Kind, what: String, seen: &Seen, runs: &[Gathered]) -> Behaviour {
    let mut of: BTreeMap<String, u64> = BTreeMap::new();
    for run in &seen.runs {
        *of.entry(runs[*run].agent.clone()).or_default() += 1;
    }
    let mut by: Vec<(String, u64)> =
        seen.by.iter().map(|(program, runs)| (program.clone(), runs.len() as u64)).collect();
    let mut more = 0;
    if !kind.is_by_program() && by.len() > NAMED {
        // The most frequent ones, of equals the first by name.
        by.sort_by(|(one, a), (other, b)| b.cmp(a).then(one.cmp(other)));
        more = (by.len() - NAMED) as u64;
        by.truncate(NAMED);
    }
    Behaviour {
        kind: kind.name,
        access: kind.access,
        what,
        runs: of,
        times: seen.times,
        by: by.into_iter().collect(),
        more_programs: more,
    }
}
