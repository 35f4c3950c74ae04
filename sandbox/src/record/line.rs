//! Events to lines: an event's details and the keys that every line has, in order.
//!
//! Events of one kind come by the thousand, so what their lines have in common is put in order and proven once, for
//! each [`Shape`].
//!
//! A [`LineBatch`] is made where events come from, on the thread that has them at hand, and lacks the chain; that is
//! put in by [`super::log`], on the thread that writes. The bytes, the hash and the links are [`audit_verify::chain`]'s.
//! This module does no I/O.

use audit_verify::chain::{ChainError, Draft, Drafts, Template, ValueWriter};

use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::time::{self, Timestamps};

/// Version of the format, `v` on every line.
pub const FORMAT_VERSION: u64 = 1;

/// Lines of one run that wait to be chained and written, in memory that is used again.
#[derive(Debug, Default)]
pub struct LineBatch {
    drafts: Drafts,
    weights: Vec<Weight>,
}

/// One of a [`LineBatch`]: what stands in it, and what it counts for.
pub(super) type Line<'b> = (Draft<'b>, Weight);

/// What a line counts for in the run's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Attempts that it stands for.
    pub attempts: u64,
    /// What became of them.
    pub action: Action,
    /// Attempts that it says were lost, if it is a gap.
    pub gap: Option<u64>,
}

impl Weight {
    fn of(event: &Event) -> Self {
        let gap = (event.event_type == EventType::Gap).then(|| uint(event.get(Key::Lost)).unwrap_or(0));
        Self { attempts: uint(event.get(Key::Count)).unwrap_or(1).max(1), action: event.action, gap }
    }

    /// How many attempts are lost when the line is: a gap takes what it counted with it.
    pub fn lost_with(self) -> u64 {
        self.gap.unwrap_or(self.attempts)
    }
}

impl LineBatch {
    /// How many bytes they have so far.
    pub fn bytes(&self) -> usize {
        self.drafts.bytes()
    }

    /// Forgets all lines, and keeps the memory.
    pub fn clear(&mut self) {
        self.drafts.clear();
        self.weights.clear();
    }

    /// The lines in order.
    pub(super) fn lines(&self) -> impl ExactSizeIterator<Item = Line<'_>> {
        self.drafts.iter().zip(self.weights.iter().copied())
    }
}

/// Makes the lines of one run.
#[derive(Debug)]
pub struct LineWriter {
    agent_id: String,
    run_id: String,
    /// Those met last, by the number of their type.
    shapes: Vec<Vec<Shape>>,
    timestamps: Timestamps,
    /// The process of the last event, and its text: many events share it with their neighbour.
    process: ProcId,
    proc_id: String,
}

/// What lines have in common whose events have the same details in the same order.
#[derive(Debug)]
struct Shape {
    action: Action,
    keys: Vec<Key>,
    template: Template,
    /// What belongs in each place of the template.
    values: Vec<Part>,
}

/// A part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// By its number.
    Detail(usize),
    Kseq,
    MonoNs,
    Pid,
    ProcId,
    Timestamp,
}

/// Shapes that are kept of one type. An event has few: with a result or without, folded or not.
const SHAPES: usize = 16;

impl Shape {
    #[inline]
    fn fits(&self, event: &Event) -> bool {
        self.action == event.action
            && self.keys.len() == event.details.len()
            && self.keys.iter().zip(&event.details).all(|(key, (other, _))| key == other)
    }
}

impl LineWriter {
    /// Of a run.
    pub fn new(run_id: &str, agent_id: &str) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
            run_id: run_id.to_owned(),
            shapes: EventType::ALL.iter().map(|_| Vec::new()).collect(),
            timestamps: Timestamps::default(),
            process: ProcId::default(),
            proc_id: ProcId::default().to_string(),
        }
    }

    /// The template of lines like this one.
    fn shape(&self, event: &Event) -> Result<Shape, ChainError> {
        enum Content<'l> {
            Same(&'l str),
            Version,
            Part(Part),
        }
        let common = [
            ("action", Content::Same(event.action.name())),
            ("agent_id", Content::Same(&self.agent_id)),
            ("event_type", Content::Same(event.event_type.name())),
            ("kseq", Content::Part(Part::Kseq)),
            ("mono_ns", Content::Part(Part::MonoNs)),
            ("pid", Content::Part(Part::Pid)),
            ("proc_id", Content::Part(Part::ProcId)),
            ("run_id", Content::Same(&self.run_id)),
            ("timestamp", Content::Part(Part::Timestamp)),
            ("v", Content::Version),
        ];
        let keys: Vec<Key> = event.details.iter().map(|(key, _)| *key).collect();
        let details = keys.iter().enumerate().map(|(at, key)| (key.name(), Content::Part(Part::Detail(at))));
        let mut members: Vec<_> = common.into_iter().chain(details).collect();
        members.sort_by_key(|(key, _)| *key);
        let mut values = Vec::new();
        let template = Template::new(|line| {
            for (key, content) in members {
                match content {
                    Content::Same(text) => line.put(key, text),
                    Content::Version => line.put(key, FORMAT_VERSION),
                    Content::Part(part) => {
                        line.leave(key);
                        values.push(part);
                    }
                }
            }
        })?;
        Ok(Shape { action: event.action, keys, template, values })
    }

    /// Adds the line of an event to a batch. Of one that fits no line a gap is added, so that nothing is dropped in
    /// silence.
    pub fn add(&mut self, event: &Event, batch: &mut LineBatch) {
        let mut weight = Weight::of(event);
        if let Err(error) = self.add_draft(event, &mut batch.drafts) {
            let mut gap = runner_event(EventType::Gap, event.process);
            gap.set(Key::Lost, Value::Uint(weight.attempts));
            gap.set(Key::Reason, Value::Bytes(format!("{}: {error}", event.event_type.name()).into_bytes()));
            gap.kseq = event.kseq;
            weight = Weight::of(&gap);
            // A gap has two short details, each once: it always fits.
            let _ = self.add_draft(&gap, &mut batch.drafts);
        }
        batch.weights.push(weight);
    }

    /// Adds the line of an event to drafts.
    ///
    /// # Errors
    /// A key that stands twice, or a line beyond what a verifier reads: nothing is added.
    pub fn add_draft(&mut self, event: &Event, drafts: &mut Drafts) -> Result<(), ChainError> {
        let number = event.event_type as usize;
        let at = match self.shapes[number].iter().position(|shape| shape.fits(event)) {
            Some(at) => at,
            None => {
                let shape = self.shape(event)?;
                let shapes = &mut self.shapes[number];
                if shapes.len() == SHAPES {
                    shapes.remove(0);
                }
                shapes.push(shape);
                shapes.len() - 1
            }
        };
        if event.process != self.process {
            self.process = event.process;
            self.proc_id = event.process.to_string();
        }
        let timestamp = &self.timestamps.format(event.wall_ns)[..];
        let Shape { template, values, .. } = &self.shapes[number][at];
        drafts.add_like(template, |number, out| match values[number] {
            Part::Detail(at) => put(out, &event.details[at].1),
            Part::Kseq => out.put(event.kseq),
            Part::MonoNs => out.put(event.mono_ns),
            Part::Pid => out.put(event.process.pid),
            Part::ProcId => out.put(&*self.proc_id),
            Part::Timestamp => out.put(timestamp),
        })
    }
}

#[inline]
fn put(out: &mut ValueWriter<'_>, value: &Value) {
    match value {
        Value::Int(value) => out.put(*value),
        Value::Uint(value) => out.put(*value),
        Value::Flag(value) => out.put(*value),
        Value::Bytes(value) => out.put(&value[..]),
        Value::List(value) => out.put(&value[..]),
    }
}

fn uint(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Uint(number)) => Some(*number),
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// An event of the runner's own, stamped now.
pub fn runner_event(event_type: EventType, process: ProcId) -> Event {
    Event {
        event_type,
        action: Action::Observed,
        wall_ns: time::wall_now_ns(),
        mono_ns: time::mono_now_ns(),
        kseq: 0,
        process,
        details: Vec::new(),
    }
}

/// The lines of a log with these events, for the tests of other stages.
#[cfg(test)]
pub(crate) fn log_of<'e>(
    run_id: &str,
    agent_id: &str,
    events: impl IntoIterator<Item = &'e Event>,
) -> Vec<u8> {
    let (mut writer, mut drafts) = (LineWriter::new(run_id, agent_id), Drafts::default());
    events.into_iter().for_each(|event| writer.add_draft(event, &mut drafts).unwrap());
    let (mut chain, mut log) = (audit_verify::chain::ChainWriter::default(), Vec::new());
    drafts.iter().for_each(|draft| chain.link(draft, &mut log));
    log
}

#[cfg(test)]
mod tests {
    use audit_verify::canonical::Record;

    use super::*;
    #[test]
    fn types_are_numbered_as_they_are_listed() {
        assert!(EventType::ALL.iter().enumerate().all(|(number, event_type)| *event_type as usize == number));
    }

    #[test]
    fn more_shapes_than_are_kept_are_written_all_the_same() {
        let keys = &Key::ALL[..8];
        let events: Vec<Event> = (0..3usize << keys.len())
            .map(|number| {
                let mut event =
                    runner_event(EventType::FileOpen, ProcId { pid: number as u32 / 5, start_ns: 7 });
                let chosen = keys.iter().enumerate().filter(|(bit, _)| number >> bit & 1 == 1);
                event.details = chosen.map(|(bit, key)| (*key, value(bit + number))).collect();
                if number % 3 == 0 {
                    event.details.reverse();
                }
                event
            })
            .collect();
        let log = log_of("r", "a", &events);
        let lines: Vec<_> = log.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), events.len());
        for (line, event) in lines.iter().zip(&events) {
            let record = Record::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!(record.text("proc_id"), Some(&*event.process.to_string()));
            assert_eq!(record.fields().len(), event.details.len() + 13);
            // By itself, as the first of its shape.
            let alone = log_of("r", "a", [event]);
            let alone = Record::parse(alone.strip_suffix(b"\n").unwrap()).unwrap();
            for (key, _) in &event.details {
                assert_eq!(record.get(key.name()), alone.get(key.name()));
            }
        }
    }

    /// No key of the event model may be one that the line has anyway.
    #[test]
    fn every_type_every_key_and_every_shape_of_value_fits_a_line() {
        let mut events = Vec::new();
        for (index, event_type) in EventType::ALL.iter().enumerate() {
            let details =
                Key::ALL.iter().rev().enumerate().map(|(at, key)| (*key, value(at + index))).collect();
            events.push(Event {
                event_type: *event_type,
                action: Action::Observed,
                wall_ns: index as i64,
                mono_ns: u64::MAX,
                kseq: u64::MAX,
                process: ProcId { pid: u32::MAX, start_ns: u64::MAX },
                details,
            });
        }
        let out = log_of("20260101-000000-x", "agent\n\"", &events);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), EventType::ALL.len());
        for line in out.split_inclusive(|byte| *byte == b'\n') {
            let mut keys = 0;
            audit_verify::canonical::scan(line.strip_suffix(b"\n").unwrap(), |_| keys += 1).unwrap();
            assert_eq!(keys, Key::ALL.len() + 13);
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let mut writer = LineWriter::new("r", "a");
        let mut drafts = Drafts::default();
        let mut event = runner_event(EventType::Gap, ProcId::default());
        event.details = vec![(Key::Lost, Value::Int(1)), (Key::Lost, Value::Int(2))];
        assert!(matches!(writer.add_draft(&event, &mut drafts), Err(ChainError::Write(_))));
        assert!(drafts.is_empty());
    }

    fn value(at: usize) -> Value {
        match at % 6 {
            0 => Value::Int(i64::MIN),
            1 => Value::Uint(u64::MAX),
            2 => Value::Bytes(b"/tmp/\xff\xfe\n\x1b[31m\x7f\"\\\xc3\xa9\xf0\x9f\x98\x80".to_vec()),
            3 => Value::List(vec![b"sh".to_vec(), b"\xed\xa0\x80".to_vec(), Vec::new()]),
            4 => Value::Flag(true),
            _ => Value::Bytes(Vec::new()),
        }
    }
}
