//! What the index keeps of a line.

use std::borrow::Cow;

use audit_verify::canonical::{Member, Raw, Value, scan};

use super::LineFault;
use crate::record::lines::Line;
use crate::record::time;

/// A string of a row, decoded.
pub(super) type Text<'l> = Cow<'l, [u8]>;

/// The columns of strings, in the order of [`Row::strings`].
pub(super) const STRINGS: [&str; 9] =
    ["type", "action", "proc_id", "exe", "path", "path2", "dst_ip", "policy_rule", "layer"];

/// The columns of integers, in the order of [`Row::numbers`].
pub(super) const NUMBERS: [&str; 9] =
    ["wall_ns", "mono_ns", "pid", "ppid", "uid", "dst_port", "ret", "offset", "length"];

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row<'l> {
    pub seq: i64,
    pub numbers: [Option<i64>; NUMBERS.len()],
    pub strings: [Option<Text<'l>>; STRINGS.len()],
}

impl<'l> Row<'l> {
    /// Reads a line; what is there must be of the right kind.
    pub fn of(line: &Line<'l>) -> Result<Self, LineFault> {
        let mut row = Row::default();
        let mut fault = None;
        scan(line.text, |member| {
            if let Err(key) = row.take(&member) {
                fault.get_or_insert(LineFault::Key(key));
            }
        })?;
        row.numbers[7] = Some(line.offset as i64);
        row.numbers[8] = Some(line.text.len() as i64);
        if let Some(fault) = fault {
            return Err(fault);
        }
        for (at, key) in [(0, "timestamp"), (1, "mono_ns"), (2, "pid")] {
            row.numbers[at].ok_or(LineFault::Key(key))?;
        }
        for (at, key) in [(0, "event_type"), (1, "action"), (2, "proc_id")] {
            row.strings[at].as_ref().ok_or(LineFault::Key(key))?;
        }
        if row.seq == 0 { Err(LineFault::Key("seq")) } else { Ok(row) }
    }

    fn take(&mut self, member: &Member<'l>) -> Result<(), &'static str> {
        match member.key {
            "seq" => self.seq = integer(&member.raw).ok_or("seq")?,
            "timestamp" => {
                let text = member.raw.as_text().and_then(time::parse);
                self.numbers[0] = Some(text.ok_or("timestamp")?);
            }
            "mono_ns" => self.numbers[1] = Some(integer(&member.raw).ok_or("mono_ns")?),
            "pid" => self.numbers[2] = Some(integer(&member.raw).ok_or("pid")?),
            "ppid" => self.numbers[3] = Some(integer(&member.raw).ok_or("ppid")?),
            "uid" => self.numbers[4] = Some(integer(&member.raw).ok_or("uid")?),
            "dst_port" => self.numbers[5] = Some(integer(&member.raw).ok_or("dst_port")?),
            "ret" => self.numbers[6] = Some(integer(&member.raw).ok_or("ret")?),
            "event_type" => self.strings[0] = Some(string(&member.raw).ok_or("event_type")?),
            "action" => self.strings[1] = Some(string(&member.raw).ok_or("action")?),
            "proc_id" => self.strings[2] = Some(string(&member.raw).ok_or("proc_id")?),
            "exe" => self.strings[3] = Some(string(&member.raw).ok_or("exe")?),
            "path" => self.strings[4] = Some(string(&member.raw).ok_or("path")?),
            "path2" => self.strings[5] = Some(string(&member.raw).ok_or("path2")?),
            "dst_ip" => self.strings[6] = Some(string(&member.raw).ok_or("dst_ip")?),
            "policy_rule" => self.strings[7] = Some(string(&member.raw).ok_or("policy_rule")?),
            "layer" => self.strings[8] = Some(string(&member.raw).ok_or("layer")?),
            _ => {}
        }
        Ok(())
    }
}

fn integer(raw: &Raw<'_>) -> Option<i64> {
    match raw.decode() {
        Value::Int(number) => Some(number),
        Value::Uint(number) => Some(number as i64),
        _ => None,
    }
}

fn string<'l>(raw: &Raw<'l>) -> Option<Text<'l>> {
    match raw.decode() {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
