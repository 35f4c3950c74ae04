//! Events to lines: an event's details and the keys that every line has, merged in order.
//!
//! A [`LineBatch`] is made where events come from, on the thread that has them at hand, and lacks the chain; that is
//! put in by [`super::log`], on the thread that writes. The bytes, the hash and the links are [`audit_verify::chain`]'s.
//! This module does no I/O.

use audit_verify::canonical::{Name, ReadyMember};
use audit_verify::chain::{ChainError, Draft, Drafts, EventWriter};

use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::log::runner_event;
use crate::record::time::Timestamps;

/// Version of the format, `v` on every line.
pub const FORMAT_VERSION: u64 = 1;

/// Lines of one run that wait to be chained and written, in memory that is used again.
#[derive(Debug, Default)]
pub struct LineBatch {
    drafts: Drafts,
    weights: Vec<Weight>,
}

/// One of a [`LineBatch`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'b> {
    /// What stands in it.
    pub draft: Draft<'b>,
    /// What it counts for.
    pub weight: Weight,
}

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
    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// How many bytes they have so far.
    pub fn bytes(&self) -> usize {
        self.drafts.bytes()
    }

    /// Forgets all lines, and keeps the memory.
    pub fn clear(&mut self) {
        self.drafts.clear();
        self.weights.clear();
    }

    /// Hashes what can be hashed before the chain is known.
    pub(super) fn hash_ahead(&mut self) {
        self.drafts.hash_ahead();
    }

    /// The lines in order.
    pub(super) fn lines(&self) -> impl ExactSizeIterator<Item = Line<'_>> {
        self.drafts.iter().zip(&self.weights).map(|(draft, weight)| Line { draft, weight: *weight })
    }
}

/// Makes the lines of one run.
#[derive(Debug)]
pub struct LineWriter {
    agent_id: ReadyMember,
    run_id: ReadyMember,
    version: ReadyMember,
    timestamps: Timestamps,
    /// The process of the last event, and its text: many events share it with their neighbour.
    process: ProcId,
    proc_id: String,
}

impl LineWriter {
    /// Of a run.
    pub fn new(run_id: &str, agent_id: &str) -> Self {
        Self {
            agent_id: ReadyMember::new(*Common::AgentId.name(), agent_id),
            run_id: ReadyMember::new(*Common::RunId.name(), run_id),
            version: ReadyMember::new(*Common::Version.name(), FORMAT_VERSION),
            timestamps: Timestamps::default(),
            process: ProcId::default(),
            proc_id: ProcId::default().to_string(),
        }
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
        if event.process != self.process {
            self.process = event.process;
            self.proc_id = event.process.to_string();
        }
        let timestamp = &self.timestamps.format(event.wall_ns)[..];
        let order = match Order::of(&event.details) {
            Ok(order) => order,
            // The chain has the words for it.
            Err(key) => return drafts.add(|line| twice(line, key)),
        };
        drafts.add(|line| {
            order.each(|place, at| match place {
                Place::Detail(key) => put(line, key.ready(), &event.details[at].1),
                Place::Common(common) => {
                    let name = common.name();
                    match common {
                        Common::Action => line.put_named(name, event.action.name()),
                        Common::AgentId => line.put_ready(&self.agent_id),
                        Common::EventType => line.put_named(name, event.event_type.name()),
                        Common::Kseq => line.put_named(name, event.kseq),
                        Common::MonoNs => line.put_named(name, event.mono_ns),
                        Common::Pid => line.put_named(name, event.process.pid),
                        Common::ProcId => line.put_named(name, &*self.proc_id),
                        Common::RunId => line.put_ready(&self.run_id),
                        Common::Timestamp => line.put_named(name, timestamp),
                        Common::Version => line.put_ready(&self.version),
                    };
                }
            });
        })
    }
}

fn twice(line: &mut EventWriter<'_>, key: Key) {
    line.put_named(key.ready(), 0).put_named(key.ready(), 0);
}

#[inline]
fn put(line: &mut EventWriter<'_>, name: &Name, value: &Value) {
    match value {
        Value::Int(value) => line.put_named(name, *value),
        Value::Uint(value) => line.put_named(name, *value),
        Value::Flag(value) => line.put_named(name, *value),
        Value::Bytes(value) => line.put_named(name, &value[..]),
        Value::List(value) => line.put_named(name, &value[..]),
    };
}

fn uint(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Uint(number)) => Some(*number),
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// The keys that every line has, beside those of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Common {
    Action,
    AgentId,
    EventType,
    Kseq,
    MonoNs,
    Pid,
    ProcId,
    RunId,
    Timestamp,
    Version,
}

impl Common {
    /// All, ascending by name.
    const ALL: [Common; 10] = [
        Common::Action,
        Common::AgentId,
        Common::EventType,
        Common::Kseq,
        Common::MonoNs,
        Common::Pid,
        Common::ProcId,
        Common::RunId,
        Common::Timestamp,
        Common::Version,
    ];

    const NAMES: [Name; Common::ALL.len()] = [
        Name::new("action"),
        Name::new("agent_id"),
        Name::new("event_type"),
        Name::new("kseq"),
        Name::new("mono_ns"),
        Name::new("pid"),
        Name::new("proc_id"),
        Name::new("run_id"),
        Name::new("timestamp"),
        Name::new("v"),
    ];

    fn name(self) -> &'static Name {
        static NAMES: [Name; Common::ALL.len()] = Common::NAMES;
        &NAMES[self as usize]
    }
}

/// What may stand somewhere in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Detail(Key),
    Common(Common),
}

/// How many places there are: a bit of a number for each.
const PLACES: usize = Key::ALL.len() + Common::ALL.len();
const _: () = assert!(PLACES <= u128::BITS as usize);

/// All places, ascending by name.
static PLACE: [Place; PLACES] = {
    let mut places = [Place::Common(Common::Action); PLACES];
    let (mut key, mut common) = (0, 0);
    while key + common < PLACES {
        let detail = common == Common::ALL.len()
            || (key < Key::ALL.len() && is_before(Key::ALL[key].name(), Common::NAMES[common].key()));
        places[key + common] =
            if detail { Place::Detail(Key::ALL[key]) } else { Place::Common(Common::ALL[common]) };
        (key, common) = if detail { (key + 1, common) } else { (key, common + 1) };
    }
    places
};

/// The place of each key, by its number.
static PLACE_OF: [u8; Key::ALL.len()] = {
    let mut place_of = [0; Key::ALL.len()];
    let mut place = 0;
    while place < PLACES {
        if let Place::Detail(key) = PLACE[place] {
            place_of[key as usize] = place as u8;
        }
        place += 1;
    }
    place_of
};

/// The places that every line has.
const ALWAYS: u128 = {
    let mut always = 0;
    let mut place = 0;
    while place < PLACES {
        if let Place::Common(_) = PLACE[place] {
            always |= 1 << place;
        }
        place += 1;
    }
    always
};

const fn is_before(one: &str, two: &str) -> bool {
    let (one, two) = (one.as_bytes(), two.as_bytes());
    let mut at = 0;
    while at < one.len() && at < two.len() {
        if one[at] != two[at] {
            return one[at] < two[at];
        }
        at += 1;
    }
    one.len() < two.len()
}

/// The members of a line in order, found without comparing any two of them.
struct Order {
    places: u128,
    /// Which detail is in each place that one is in.
    details: [u8; PLACES],
}

impl Order {
    /// Of a line with these details; a key that stands twice is an error.
    #[inline]
    fn of(details: &[(Key, Value)]) -> Result<Order, Key> {
        let mut order = Order { places: ALWAYS, details: [0; PLACES] };
        for (at, (key, _)) in details.iter().enumerate() {
            let place = PLACE_OF[*key as usize];
            if order.places >> place & 1 == 1 {
                return Err(*key);
            }
            order.places |= 1 << place;
            // Where no key stands twice there are not as many as a byte can count.
            order.details[usize::from(place)] = at as u8;
        }
        Ok(order)
    }

    /// Hands out each place that is taken, and the number of the detail that is in it.
    #[inline]
    fn each(&self, mut act: impl FnMut(Place, usize)) {
        let mut left = self.places;
        while left != 0 {
            let place = left.trailing_zeros() as usize;
            left &= left - 1;
            act(PLACE[place], usize::from(self.details[place]));
        }
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
    drafts.iter().for_each(|draft| _ = chain.link(draft, &mut log));
    log
}

#[cfg(test)]
mod tests {
    use super::*;
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
