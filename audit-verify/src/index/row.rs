//! What the index keeps of a line.

use std::borrow::Cow;

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::lines::Line;
use super::time::parse_timestamp;
use crate::canonical::{Deviation, Raw, Value, quick_object, scan};

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
        let mut take = |key: &[u8], raw: &Raw<'l>| {
            if let Err(key) = row.take(key, raw) {
                fault.get_or_insert(LineFault::Key(key));
            }
        };
        let quick = quick_object(line.text, |member| take(member.key, &member.raw));
        if quick != Some(line.text.len()) {
            // What it took so far is taken once more.
            scan(line.text, |member| take(member.key.as_bytes(), &member.raw))?;
        }
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

    #[inline]
    fn take(&mut self, key: &[u8], raw: &Raw<'l>) -> Result<(), &'static str> {
        match key {
            b"seq" => self.seq = integer(raw).ok_or("seq")?,
            b"timestamp" => {
                let text = raw.as_text().and_then(parse_timestamp);
                self.numbers[0] = Some(text.ok_or("timestamp")?);
            }
            b"mono_ns" => self.numbers[1] = Some(integer(raw).ok_or("mono_ns")?),
            b"pid" => self.numbers[2] = Some(integer(raw).ok_or("pid")?),
            b"ppid" => self.numbers[3] = Some(integer(raw).ok_or("ppid")?),
            b"uid" => self.numbers[4] = Some(integer(raw).ok_or("uid")?),
            b"dst_port" => self.numbers[5] = Some(integer(raw).ok_or("dst_port")?),
            b"ret" => self.numbers[6] = Some(integer(raw).ok_or("ret")?),
            b"event_type" => self.strings[0] = Some(string(raw).ok_or("event_type")?),
            b"action" => self.strings[1] = Some(string(raw).ok_or("action")?),
            b"proc_id" => self.strings[2] = Some(string(raw).ok_or("proc_id")?),
            b"exe" => self.strings[3] = Some(string(raw).ok_or("exe")?),
            b"path" => self.strings[4] = Some(string(raw).ok_or("path")?),
            b"path2" => self.strings[5] = Some(string(raw).ok_or("path2")?),
            b"dst_ip" => self.strings[6] = Some(string(raw).ok_or("dst_ip")?),
            b"host" => self.strings[7] = Some(string(raw).ok_or("host")?),
            b"sni" => self.strings[8] = Some(string(raw).ok_or("sni")?),
            b"policy_rule" => self.strings[9] = Some(string(raw).ok_or("policy_rule")?),
            b"layer" => self.strings[10] = Some(string(raw).ok_or("layer")?),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{ObjectWriter, Record};

    fn line() -> Vec<u8> {
        let mut line = Vec::new();
        let mut object = ObjectWriter::new(&mut line);
        object.put("action", "BLOCKED").put("event_type", "file_open").put("exe", "/bin/\u{e9}");
        object.put("mono_ns", u64::MAX).put("path", &b"/tmp/\xff"[..]).put("pid", 7).put("proc_id", "7-1");
        object.put("ret", -13).put("seq", 1).put("timestamp", "2025-11-21T01:23:25.000000007Z").put("uid", 0);
        object.finish().unwrap();
        line
    }

    /// What a row of this line should have in a column, or that it should be none.
    fn agrees(text: &[u8]) {
        let row = Row::of(&Line { offset: 9, text });
        let Ok(record) = Record::parse(text) else {
            assert!(matches!(row, Err(LineFault::Form(_))), "{}", text.escape_ascii());
            return;
        };
        let Ok(row) = row else { return };
        assert_eq!(Some(row.seq as u64), record.uint("seq"));
        for column in ["mono_ns", "pid", "ppid", "uid", "dst_port", "ret"] {
            let expected = record.int(column).or(record.uint(column).map(|number| number as i64));
            assert_eq!(row.number(column), expected, "{column}");
        }
        for column in STRINGS {
            let key = if column == "type" { "event_type" } else { column };
            assert_eq!(row.string(column), record.bytes(key), "{column}");
        }
        assert_eq!((row.number("offset"), row.number("length")), (Some(9), Some(text.len() as i64)));
        let moment = record.bytes("timestamp").and_then(parse_timestamp);
        assert_eq!(row.number("wall_ns"), moment);
    }

    #[test]
    fn a_line_with_any_other_byte_anywhere_is_read_as_its_record() {
        let line = line();
        assert!(Row::of(&Line { offset: 9, text: &line }).is_ok());
        for at in 0..line.len() {
            agrees(&line[..at]);
            for byte in 0..=255 {
                let mut text = line.clone();
                text[at] = byte;
                agrees(&text);
            }
        }
        agrees(&[&line[..], b" "].concat());
        agrees(&[&line[..], &line[..]].concat());
    }
}
