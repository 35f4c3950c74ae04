//! A run against a baseline while it goes on: what is new becomes an event of its own, `detection`, behind the one that
//! shows it.
//!
//! Each event is read as it would be read from the log, so that a check of the ended run finds what was told. It costs
//! the collector about what a reader of the log takes, and only where a baseline was given. What a run does to make it
//! cost more is bounded: so many are told, so many deeds are kept, and beyond that an event says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use audit_verify::canonical::ObjectWriter;
use policy::Variables;
use policy::learn::Roots;

use super::check::{Against, Checked, Finding, Newness};
use super::deeds::{Deed, Deeds};
use super::fact::{Classes, Kind, Object};
use super::file::{Baseline, FileError, Metric};
use super::{classes, page};
use crate::event::{Event, EventType, Key, ProcId, Value};
use crate::launch::policy::PolicyError;
use crate::record::runner_event;
use crate::review::replay::Story;

/// New things of one kind that are told.
const TOLD: usize = 100;
/// Different deeds that are kept.
const KEPT: usize = if cfg!(test) { 2_000 } else { 500_000 };

/// Bytes that they may take, about.
const BYTES: usize = 128 << 20;

/// Why a run cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The baseline.
    #[error("the baseline cannot be used: {0}")]
    Baseline(#[from] FileError),
    /// The run's variables.
    #[error("the policy {} cannot be read with this run's variables", super::BASE)]
    Classes(#[source] PolicyError),
}

/// Watches one run.
#[derive(Debug)]
pub struct Watch {
    against: Against,
    classes: Classes,
    story: Story,
    deeds: Deeds,
    /// What was told: kind, object, and the program where only that is new.
    told: BTreeSet<(Kind, String, Option<String>)>,
    by_kind: BTreeMap<Kind, usize>,
    much: BTreeSet<Metric>,
    counts_bytes: bool,
    /// So many deeds, and volumes are counted again.
    next_count: usize,
    /// It looks no more.
    over: bool,
    found: u64,
    line: Vec<u8>,
}

impl Watch {
    /// For a run of this agent with these variables, which begins with this process; `counts_bytes` where connections end
    /// with their bytes.
    ///
    /// # Errors
    /// The baseline is wrong, or the variables are.
    pub fn new(
        baseline: Arc<Baseline>,
        agent: &str,
        variables: &Variables,
        process: ProcId,
        counts_bytes: bool,
    ) -> Result<Self, WatchError> {
        let base = classes(variables).map_err(WatchError::Classes)?;
        let (mut story, mut line) = (Story::default(), Vec::new());
        write(&runner_event(EventType::RunStart, process), &mut line);
        story.line(&line, |_| {});
        Ok(Self {
            against: Against::new(baseline, agent)?,
            classes: Classes::new(Roots::of(variables), base),
            story,
            deeds: Deeds::default(),
            told: BTreeSet::new(),
            by_kind: BTreeMap::new(),
            much: BTreeSet::new(),
            counts_bytes,
            next_count: 0,
            over: false,
            found: 0,
            line,
        })
    }

    /// How much was new so far.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// What of an event is new.
    pub fn look(&mut self, event: &Event) -> Vec<Event> {
        if self.over {
            return Vec::new();
        }
        write(event, &mut self.line);
        let (deeds, mut new, mut measured) = (&mut self.deeds, Vec::new(), false);
        self.story.line(&self.line, |attempt| {
            new = deeds.add(attempt);
            measured = attempt.asked.is_empty();
        });
        let mut findings = Vec::new();
        for (deed, program) in new {
            findings.extend(self.deed(&deed, program));
        }
        if measured || self.deeds.len() >= self.next_count {
            findings.extend(self.volumes());
        }
        let mut events: Vec<Event> = findings.iter().map(|finding| self.event(event, finding)).collect();
        if self.deeds.len() >= KEPT || self.deeds.bytes() >= BYTES {
            self.over = true;
            let mut last = runner_event(EventType::Detection, event.process);
            let text = "this run does too many different things to be watched any longer: `sandbox baseline check` \
                        tells the rest when it has ended";
            last.details.push((Key::Reason, Value::Bytes(text.as_bytes().to_vec())));
            events.push(last);
        }
        events
    }

    fn deed(&mut self, deed: &Deed, program: super::deeds::Program) -> Option<Finding> {
        let fact = self.classes.fact(deed)?;
        let by = self.against.program(self.deeds.path(program), &self.classes);
        let newness = self.against.newness(&fact, &by)?;
        let object = match &fact.object {
            Object::Place(place) => place.pattern(),
            object => object.texts().into_iter().next().unwrap_or_default(),
        };
        let count = self.by_kind.entry(fact.kind.clone()).or_default();
        if *count >= TOLD {
            return None;
        }
        let only = matches!(newness, Newness::Program(_)).then(|| by.clone());
        let finding = self.against.finding(&self.classes, &fact.kind, newness, object.clone(), by);
        let new = self.told.insert((fact.kind, object, only));
        *count += usize::from(new);
        new.then_some(finding)
    }

    fn volumes(&mut self) -> Vec<Finding> {
        let (deeds, counts_bytes) = (&self.deeds, self.counts_bytes);
        // Paths are many, and counting them takes as long: after each quarter more.
        let paths = deeds.len() >= self.next_count;
        if paths {
            self.next_count = deeds.len() + deeds.len() / 4 + 16;
        }
        let value = |metric| match metric {
            Metric::FilesWritten | Metric::FilesDeleted if !paths => None,
            Metric::BytesSent if !counts_bytes => None,
            metric => Some(deeds.volume(metric)),
        };
        let mut found = self.against.volumes(value);
        found.retain(|finding| finding.metric().is_some_and(|metric| self.much.insert(metric)));
        found
    }

    /// The event that tells of it.
    fn event(&mut self, shown_by: &Event, finding: &Finding) -> Event {
        self.found += 1;
        let of =
            Checked { runs: self.against.of.runs, agent: self.against.agent.clone(), findings: Vec::new() };
        let mut event = runner_event(EventType::Detection, shown_by.process);
        let mut text = |key, text: &str| event.details.push((key, Value::Bytes(text.as_bytes().to_vec())));
        text(Key::Because, &page::reason(finding, &of));
        text(Key::Reason, &page::headline(finding));
        text(Key::Target, finding.what());
        event.details.push((Key::Score, Value::Uint(finding.score.into())));
        event
    }
}

/// An event as the part of its line that says what was done.
fn write(event: &Event, line: &mut Vec<u8>) {
    line.clear();
    let process = event.process.to_string();
    let mut details: Vec<(&str, Option<&Value>)> =
        event.details.iter().map(|(key, value)| (key.name(), Some(value))).collect();
    details.extend([("action", None), ("event_type", None), ("proc_id", None)]);
    details.sort_unstable_by_key(|(key, _)| *key);
    let mut object = ObjectWriter::new(line);
    for (key, value) in details {
        match (key, value) {
            ("action", _) => _ = object.put(key, event.action.name()),
            ("event_type", _) => _ = object.put(key, event.event_type.name()),
            ("proc_id", _) => _ = object.put(key, process.as_str()),
            (_, Some(Value::Int(number))) => _ = object.put(key, *number),
            (_, Some(Value::Uint(number))) => _ = object.put(key, *number),
            (_, Some(Value::Flag(flag))) => _ = object.put(key, *flag),
            (_, Some(Value::Bytes(bytes))) => _ = object.put(key, bytes.as_slice()),
            (_, Some(Value::List(list))) => _ = object.list(key, list),
            (_, None) => {}
        }
    }
    // Keys are of one event, each once, and in order.
    let _ = object.finish();
}
