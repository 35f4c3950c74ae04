//! One event to one line: the event's details and the keys that every line has, merged in order.
//!
//! The bytes, the hash and the links are [`audit_verify::chain`]'s. This module does no I/O.

use audit_verify::Hash;
use audit_verify::chain::{ChainError, ChainWriter, EventWriter, Position};
use audit_verify::merkle::Tree;
use audit_verify::sign::SigningKey;

use crate::event::{Event, Key, Value};
use crate::record::time::Timestamps;

/// Version of the format, `v` on every line.
pub const FORMAT_VERSION: u64 = 1;

/// Makes the lines of one run.
#[derive(Debug)]
pub struct LineWriter {
    chain: ChainWriter,
    tree: Tree,
    same: SameOnEveryLine,
    timestamps: Timestamps,
    proc_id: Vec<u8>,
}

#[derive(Debug)]
struct SameOnEveryLine {
    agent_id: Vec<u8>,
    run_id: Vec<u8>,
}

impl LineWriter {
    /// A chain that has no line yet.
    pub fn new(run_id: &str, agent_id: &str) -> Self {
        Self {
            chain: ChainWriter::default(),
            tree: Tree::default(),
            same: SameOnEveryLine { agent_id: agent_id.into(), run_id: run_id.into() },
            timestamps: Timestamps::default(),
            proc_id: Vec::new(),
        }
    }

    /// Where the chain stands: `seq` and `hash_self` of the last line.
    pub fn position(&self) -> Position {
        self.chain.position()
    }

    /// The root of the Merkle tree over all lines so far.
    pub fn merkle_root(&self) -> Hash {
        self.tree.root()
    }

    /// Appends the line of `event`, with its newline, to `out`. Sorts the details in place.
    ///
    /// On an error (a key that stands twice, a line beyond what a verifier reads) nothing is appended, and
    /// the chain stands where it stood.
    pub fn write(&mut self, event: &mut Event, out: &mut Vec<u8>) -> Result<(), ChainError> {
        self.prepare(event);
        let (same, proc_id, timestamp) =
            (&self.same, &self.proc_id[..], self.timestamps.format(event.wall_ns));
        let line = self.chain.append(|line| fill(line, event, same, proc_id, timestamp))?;
        out.extend_from_slice(line);
        self.tree.push(&self.chain.position().head);
        Ok(())
    }

    /// [`LineWriter::write`] with a signature over the line.
    ///
    /// # Errors
    /// As [`LineWriter::write`].
    pub fn write_signed(
        &mut self,
        event: &mut Event,
        signer: &SigningKey,
        out: &mut Vec<u8>,
    ) -> Result<(), ChainError> {
        event.set(Key::KeyId, Value::Bytes(signer.id().to_string().into_bytes()));
        self.prepare(event);
        let (same, proc_id, timestamp) =
            (&self.same, &self.proc_id[..], self.timestamps.format(event.wall_ns));
        let unsigned = self.chain.next_hash(|line| fill(line, event, same, proc_id, timestamp))?;
        event.set(Key::Signature, Value::Bytes(signer.sign(&unsigned).into_bytes()));
        self.write(event, out)
    }

    /// Puts the details in order and makes what is written from other fields.
    fn prepare(&mut self, event: &mut Event) {
        event.details.sort_unstable_by_key(|(key, _)| *key);
        self.proc_id.clear();
        // Display of ProcId, without the formatting machinery: this runs once an event.
        push_decimal(&mut self.proc_id, event.process.pid.into());
        self.proc_id.push(b'-');
        push_decimal(&mut self.proc_id, event.process.start_ns);
    }
}

/// Pushes all keys ascending. The chain puts its own among them.
fn fill(line: &mut EventWriter<'_>, event: &Event, same: &SameOnEveryLine, proc_id: &[u8], timestamp: &[u8]) {
    let mut details = event.details.iter().peekable();
    let mut put_details_before = |name: &str, line: &mut EventWriter<'_>| {
        while let Some((key, value)) = details.next_if(|(key, _)| key.name() < name) {
            put(line, *key, value);
        }
    };
    put_details_before("action", line);
    line.put("action", event.action.name());
    put_details_before("agent_id", line);
    line.put("agent_id", &same.agent_id[..]);
    put_details_before("event_type", line);
    line.put("event_type", event.event_type.name());
    put_details_before("kseq", line);
    line.put("kseq", event.kseq);
    put_details_before("mono_ns", line);
    line.put("mono_ns", event.mono_ns);
    put_details_before("pid", line);
    line.put("pid", event.process.pid);
    put_details_before("proc_id", line);
    line.put("proc_id", proc_id);
    put_details_before("run_id", line);
    line.put("run_id", &same.run_id[..]);
    put_details_before("timestamp", line);
    line.put("timestamp", timestamp);
    put_details_before("v", line);
    line.put("v", FORMAT_VERSION);
    for (key, value) in details {
        put(line, *key, value);
    }
}

fn put(line: &mut EventWriter<'_>, key: Key, value: &Value) {
    match value {
        Value::Int(value) => line.put(key.name(), *value),
        Value::Uint(value) => line.put(key.name(), *value),
        Value::Flag(value) => line.put(key.name(), *value),
        Value::Bytes(value) => line.put(key.name(), &value[..]),
        Value::List(value) => line.put(key.name(), &value[..]),
    };
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, EventType, ProcId};

    /// No key of the event model may be one that the line has anyway.
    #[test]
    fn every_type_every_key_and_every_shape_of_value_fits_a_line() {
        let mut writer = LineWriter::new("20260101-000000-x", "agent\n\"");
        let mut out = Vec::new();
        for (index, event_type) in EventType::ALL.iter().enumerate() {
            let details =
                Key::ALL.iter().rev().enumerate().map(|(at, key)| (*key, value(at + index))).collect();
            let mut event = Event {
                event_type: *event_type,
                action: Action::Observed,
                wall_ns: index as i64,
                mono_ns: u64::MAX,
                kseq: u64::MAX,
                process: ProcId { pid: u32::MAX, start_ns: u64::MAX },
                details,
            };
            writer.write(&mut event, &mut out).unwrap();
        }
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), EventType::ALL.len());
        for line in out.split_inclusive(|byte| *byte == b'\n') {
            let mut keys = 0;
            audit_verify::canonical::scan(line.strip_suffix(b"\n").unwrap(), |_| keys += 1).unwrap();
            assert_eq!(keys, Key::ALL.len() + 13);
        }
    }

    #[test]
    fn a_key_that_stands_twice_leaves_the_chain_alone() {
        let mut writer = LineWriter::new("r", "a");
        let mut out = Vec::new();
        let mut event = crate::record::log::runner_event(EventType::Gap, ProcId::default());
        event.details = vec![(Key::Lost, Value::Int(1)), (Key::Lost, Value::Int(2))];
        assert!(matches!(writer.write(&mut event, &mut out), Err(ChainError::Write(_))));
        assert!(out.is_empty());
        assert_eq!(writer.position(), Position::GENESIS);
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
