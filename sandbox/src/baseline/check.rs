//! One run against a baseline: what is new in it.
//!
//! A run is held against those of its own agent, where the baseline has some; else against all of them, and the agent
//! itself is new. Files that are new are put together as a policy would put them, so that a directory is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::learn::{Known, Place, Reach, Roots, Tally, grants};

use super::deeds::{Deed, Gathered, START, UNKNOWN};
use super::fact::{Classes, Doing, Fact, Kind, Object};
use super::file::{Agent, Baseline, Behaviour, FileError, Metric, Spread};
use super::index::Index;
use super::rank::{self, BY_ANOTHER, Chance};

/// A baseline, and which of its runs are meant.
#[derive(Debug)]
pub struct Against {
    baseline: Arc<Baseline>,
    index: Index,
    /// The agent's own runs, or all.
    pub of: Agent,
    /// The agent, where the baseline knows it.
    pub agent: Option<String>,
}

/// In what way something is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newness<'b> {
    /// No run did it.
    Behaviour,
    /// Runs did it, but none of this agent.
    OfAgent(&'b Behaviour),
    /// Runs did it, but by other programs.
    Program(&'b Behaviour),
}

impl Against {
    /// For a run of this agent.
    ///
    /// # Errors
    /// The baseline is wrong.
    pub fn new(baseline: Arc<Baseline>, agent: &str) -> Result<Self, FileError> {
        let known = baseline.agents.get(agent);
        Ok(Self {
            index: baseline.index()?,
            of: known.unwrap_or(&baseline.all).clone(),
            agent: known.map(|_| agent.to_owned()),
            baseline,
        })
    }

    /// How a program is called in the baseline.
    pub fn program(&self, path: &[u8], classes: &Classes) -> String {
        self.index.program(path, classes)
    }

    /// In what way a fact by this program is new, if it is.
    pub fn newness(&self, fact: &Fact, by: &str) -> Option<Newness<'_>> {
        let Some(behaviour) = self.index.find(fact).and_then(|at| self.baseline.behaviours.get(at)) else {
            return Some(Newness::Behaviour);
        };
        if self.agent.as_ref().is_some_and(|agent| !behaviour.runs.contains_key(agent)) {
            return Some(Newness::OfAgent(behaviour));
        }
        // Of whom nothing is known, nothing is new either.
        let named = by.as_bytes() != START && by.as_bytes() != UNKNOWN;
        let new = named && fact.kind.is_by_program() && !behaviour.by.contains_key(by);
        new.then_some(Newness::Program(behaviour))
    }

    fn chance(&self, kind: &Kind, by: bool) -> Chance {
        Chance::of(&self.of, &Agent::key(kind, by))
    }
}

/// Something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How unusual it is.
    pub score: u32,
    /// What it is.
    pub about: About,
    /// The programs that did it.
    pub by: BTreeSet<String>,
    /// How often.
    pub times: u64,
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Something that no run did, or none of the agent's.
    Behaviour {
        /// Its kind.
        kind: Kind,
        /// The object, or what the objects have in common.
        what: String,
        /// How many objects.
        objects: u64,
        /// How many things of the kind the baseline has.
        known: u64,
        /// In how many runs of other agents it was seen.
        others: u64,
        /// How many runs of a hundred bring something new of this kind.
        percent: u64,
        /// What the rule says that speaks of it.
        because: Option<String>,
    },
    /// A program does what only others did.
    Program {
        /// Its kind.
        kind: Kind,
        /// The object.
        what: String,
        /// In how many runs it was seen.
        runs: u64,
        /// By which programs.
        known: Vec<String>,
        /// How many runs of a hundred bring something new of this kind.
        percent: u64,
        /// What the rule says that speaks of it.
        because: Option<String>,
    },
    /// Much more than in any run.
    Volume {
        /// Of what.
        metric: Metric,
        /// How much.
        value: u64,
        /// How much there was in the runs.
        of: Spread,
    },
    /// An agent that no run had.
    Agent(String),
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// With how many runs it was compared.
    pub runs: u64,
    /// Whose they were; all where it is `None`.
    pub agent: Option<String>,
    /// What is new, the most unusual first.
    pub findings: Vec<Finding>,
}

/// New objects of one kind, before they are put together.
#[derive(Debug, Default)]
struct New {
    places: BTreeMap<Place, (BTreeSet<String>, u64)>,
    ends: BTreeMap<String, (BTreeSet<String>, u64)>,
}

/// Holds a run against a baseline.
///
/// # Errors
/// The baseline is wrong.
pub fn check(run: &Gathered, base: policy::Policy, baseline: &Arc<Baseline>) -> Result<Checked, FileError> {
    let against = Against::new(Arc::clone(baseline), &run.agent)?;
    let classes = Classes::new(Roots::of(&run.variables), base);
    let mut new: BTreeMap<Kind, New> = BTreeMap::new();
    let mut hosts = BTreeSet::new();
    // By behaviour: who did it, how often; for a program that is new to it, by that program.
    let mut of_agent: BTreeMap<(Kind, &str), (&Behaviour, BTreeSet<String>, u64)> = BTreeMap::new();
    let mut by_program: BTreeMap<(Kind, &str, String), (&Behaviour, u64)> = BTreeMap::new();
    for (deed, program, times) in run.deeds.all() {
        let Some(fact) = classes.fact(deed) else { continue };
        let by = against.program(run.deeds.path(program), &classes);
        match against.newness(&fact, &by) {
            None => {}
            Some(Newness::Behaviour) => {
                if let Deed::Reach(Reach::Address { host: Some(host), .. }) = deed {
                    hosts.insert(host.to_ascii_lowercase());
                }
                let new = new.entry(fact.kind).or_default();
                let who = match fact.object {
                    Object::Place(place) => new.places.entry(place).or_default(),
                    object => {
                        new.ends.entry(object.texts().into_iter().next().unwrap_or_default()).or_default()
                    }
                };
                who.0.insert(by);
                who.1 = who.1.saturating_add(times);
            }
            Some(Newness::OfAgent(behaviour)) => {
                let key = (fact.kind, behaviour.what.as_str());
                let entry = of_agent.entry(key).or_insert_with(|| (behaviour, BTreeSet::new(), 0));
                entry.1.insert(by);
                entry.2 = entry.2.saturating_add(times);
            }
            Some(Newness::Program(behaviour)) => {
                let entry =
                    by_program.entry((fact.kind, behaviour.what.as_str(), by)).or_insert((behaviour, 0));
                entry.1 = entry.1.saturating_add(times);
            }
        }
    }
    // Who connects to a host has asked for its name.
    if let Some(asked) = new.get_mut(&Kind::new("network", Doing::Ask)) {
        asked.ends.retain(|name, _| !hosts.contains(name));
    }
    let mut findings = Vec::new();
    let mut programs = BTreeSet::new();
    for (kind, new) in new {
        for (what, objects, by, times) in together(&kind, new) {
            if kind.access == Doing::Run {
                programs.insert(what.clone());
            }
            findings.push(against.behaviour(&classes, &kind, (what, objects), 0, by, times));
        }
    }
    for ((kind, what), (behaviour, by, times)) in of_agent {
        findings.push(against.behaviour(
            &classes,
            &kind,
            (what.to_owned(), 1),
            behaviour.in_runs(),
            by,
            times,
        ));
    }
    for ((kind, _, by), (behaviour, times)) in by_program {
        // What a new program starts is told by the program itself.
        if kind.access == Doing::Run && programs.contains(&by) {
            continue;
        }
        findings.push(against.program_finding(&classes, &kind, behaviour, by, times));
    }
    findings.extend(against.volumes(|metric| run.volume(metric)));
    if against.agent.is_none() {
        findings.push(Finding {
            score: rank::of_agent(&baseline.all),
            about: About::Agent(run.agent.clone()),
            by: BTreeSet::new(),
            times: 1,
        });
    }
    findings.sort_by(|one, other| other.score.cmp(&one.score).then_with(|| one.about.cmp(&other.about)));
    Ok(Checked { runs: against.of.runs, agent: against.agent, findings })
}

impl Against {
    fn behaviour(
        &self,
        classes: &Classes,
        kind: &Kind,
        (what, objects): (String, u64),
        others: u64,
        by: BTreeSet<String>,
        times: u64,
    ) -> Finding {
        let chance = self.chance(kind, false);
        let weight = rank::weight(kind) * if others > 0 { BY_ANOTHER } else { 1.0 };
        let about = About::Behaviour {
            kind: kind.clone(),
            what,
            objects,
            known: self.index.count(kind),
            others,
            percent: chance.percent(),
            because: classes.because(&kind.name),
        };
        Finding { score: rank::score(weight, chance.bits()), about, by, times }
    }

    fn program_finding(
        &self,
        classes: &Classes,
        kind: &Kind,
        behaviour: &Behaviour,
        by: String,
        times: u64,
    ) -> Finding {
        let chance = self.chance(kind, true);
        Finding {
            score: rank::score(rank::weight(kind) * BY_ANOTHER, chance.bits()),
            about: About::Program {
                because: classes.because(&kind.name),
                what: behaviour.what.clone(),
                runs: behaviour.in_runs(),
                known: behaviour.by.keys().cloned().collect(),
                percent: chance.percent(),
                kind: kind.clone(),
            },
            by: BTreeSet::from([by]),
            times,
        }
    }

    /// Something new by itself, as it is met: the object, and who did it.
    pub fn finding(
        &self,
        classes: &Classes,
        kind: &Kind,
        newness: Newness<'_>,
        object: String,
        by: String,
    ) -> Finding {
        let who = |by| BTreeSet::from([by]);
        match newness {
            Newness::Behaviour => self.behaviour(classes, kind, (object, 1), 0, who(by), 1),
            Newness::OfAgent(of) => {
                self.behaviour(classes, kind, (of.what.clone(), 1), of.in_runs(), who(by), 1)
            }
            Newness::Program(of) => self.program_finding(classes, kind, of, by, 1),
        }
    }

    /// What there is much more of than in the runs; `value` tells how much there is.
    pub fn volumes(&self, value: impl Fn(Metric) -> Option<u64>) -> Vec<Finding> {
        let much = |metric: Metric| {
            let (value, of) = (value(metric)?, *self.of.volumes.get(&metric)?);
            let score = rank::of_volume(metric, value, &of, self.of.runs)?;
            let about = About::Volume { metric, value, of };
            Some(Finding { score, about, by: BTreeSet::new(), times: 1 })
        };
        Metric::ALL.into_iter().filter_map(much).collect()
    }
}

impl Finding {
    /// The object, or what it is about.
    pub fn what(&self) -> &str {
        match &self.about {
            About::Behaviour { what, .. } | About::Program { what, .. } => what,
            About::Volume { metric, .. } => metric.noun(),
            About::Agent(name) => name,
        }
    }

    /// What there is much of, where it is about that.
    pub fn metric(&self) -> Option<Metric> {
        match &self.about {
            About::Volume { metric, .. } => Some(*metric),
            _ => None,
        }
    }
}

/// New objects as they are told: what they have in common, how many, by whom, how often.
fn together(kind: &Kind, new: New) -> Vec<(String, u64, BTreeSet<String>, u64)> {
    let (usage, strictness) = super::make::manner(kind);
    let tally = |times| Tally { runs: BTreeSet::from([0]), count: times, ..Tally::default() };
    let tallies = new.places.iter().map(|(place, (_, times))| (place.clone(), tally(*times))).collect();
    let mut known = Known::default();
    let mut patterns: Vec<(String, Vec<&Place>)> = Vec::new();
    for grant in grants(tallies, usage, strictness) {
        let pattern = grant.pattern();
        if known.insert(&pattern, patterns.len()).is_ok() {
            patterns.push((pattern, Vec::new()));
        }
    }
    let mut told = Vec::new();
    for place in new.places.keys() {
        match known.find(place) {
            Some(at) => patterns[*at].1.push(place),
            None => patterns.push((place.pattern(), vec![place])),
        }
    }
    for (pattern, places) in patterns.into_iter().filter(|(_, places)| !places.is_empty()) {
        let (mut by, mut times) = (BTreeSet::new(), 0u64);
        for (programs, count) in places.iter().filter_map(|place| new.places.get(place)) {
            by.extend(programs.iter().cloned());
            times = times.saturating_add(*count);
        }
        let what = match places.as_slice() {
            [one] => one.pattern(),
            _ => pattern,
        };
        told.push((what, places.len() as u64, by, times));
    }
    told.extend(new.ends.into_iter().map(|(what, (by, times))| (what, 1, by, times)));
    told
}
