//! What the index keeps of a line.

use std::borrow::Cow;

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::lines::Line;
use super::time::parse_timestamp;
use crate::canonical::{Deviation, Member, Raw, Value, scan};

/// A string of a row, decoded.
pub type Text<'l> = Cow<'l, [u8]>;

/// The columns of integers, in the order of [`Row::numbers`].
pub const NUMBERS: [&str; 9] =
    ["wall_ns", "mono_ns", "pid", "ppid", "uid", "dst_port", "ret", "offset", "length"];

/// The columns of strings, in the order of [`Row::strings`].
pub const STRINGS: [&str; 11] =
    ["type", "action", "proc_id", "exe", "path", "path2", "dst_ip", "host", "sni", "policy_rule", "layer"];

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It is not canonical.
    #[error(transparent)]
    Form(#[from] Deviation),
    /// It has no such key, or another kind of value there.
    #[error("`{0}` is missing or of another kind")]
    Key(&'static str),
    /// Its `seq` is not its number.
    #[error("its seq is {0}")]
    Seq(u64),
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row<'l> {
    /// `seq` of the line.
    pub seq: i64,
    /// The columns [`NUMBERS`].
    pub numbers: [Option<i64>; NUMBERS.len()],
    /// The columns [`STRINGS`].
    pub strings: [Option<Text<'l>>; STRINGS.len()],
}

impl<'l> Row<'l> {
    /// Reads a line; what is there must be of the right kind.
    ///
    /// # Errors
    /// The line is not canonical, or lacks what every line has, or has it as another kind of value.
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
        let raw = &member.raw;
        match member.key {
            "seq" => self.seq = integer(raw).ok_or("seq")?,
            "timestamp" => {
                let text = raw.as_text().and_then(parse_timestamp);
                self.numbers[0] = Some(text.ok_or("timestamp")?);
            }
            "mono_ns" => self.numbers[1] = Some(integer(raw).ok_or("mono_ns")?),
            "pid" => self.numbers[2] = Some(integer(raw).ok_or("pid")?),
            "ppid" => self.numbers[3] = Some(integer(raw).ok_or("ppid")?),
            "uid" => self.numbers[4] = Some(integer(raw).ok_or("uid")?),
            "dst_port" => self.numbers[5] = Some(integer(raw).ok_or("dst_port")?),
            "ret" => self.numbers[6] = Some(integer(raw).ok_or("ret")?),
            "event_type" => self.strings[0] = Some(string(raw).ok_or("event_type")?),
            "action" => self.strings[1] = Some(string(raw).ok_or("action")?),
            "proc_id" => self.strings[2] = Some(string(raw).ok_or("proc_id")?),
            "exe" => self.strings[3] = Some(string(raw).ok_or("exe")?),
            "path" => self.strings[4] = Some(string(raw).ok_or("path")?),
            "path2" => self.strings[5] = Some(string(raw).ok_or("path2")?),
            "dst_ip" => self.strings[6] = Some(string(raw).ok_or("dst_ip")?),
            "host" => self.strings[7] = Some(string(raw).ok_or("host")?),
            "sni" => self.strings[8] = Some(string(raw).ok_or("sni")?),
            "policy_rule" => self.strings[9] = Some(string(raw).ok_or("policy_rule")?),
            "layer" => self.strings[10] = Some(string(raw).ok_or("layer")?),
            _ => {}
        }
        Ok(())
    }

    /// The integer of one of [`NUMBERS`].
    pub fn number(&self, column: &str) -> Option<i64> {
        self.numbers[NUMBERS.iter().position(|name| *name == column)?]
    }

    /// The string of one of [`STRINGS`].
    pub fn string(&self, column: &str) -> Option<&[u8]> {
        self.strings[STRINGS.iter().position(|name| *name == column)?].as_deref()
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

/// A string as SQLite keeps it: TEXT where it is text, else BLOB.
#[derive(Clone, Copy, Debug)]
pub struct SqlText<'t>(pub &'t [u8]);

impl ToSql for SqlText<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(if is_text(self.0) {
            ValueRef::Text(self.0)
        } else {
            ValueRef::Blob(self.0)
        }))
    }
}

/// Whether a string stands as TEXT: it is UTF-8 without NUL.
pub fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
}
