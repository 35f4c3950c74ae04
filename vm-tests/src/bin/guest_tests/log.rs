//! Reads a run's log back, with the format's own reader.

use anyhow::{Context, Result, ensure};
use audit_verify::canonical::{Record, Value};
use std::path::{Path, PathBuf};

/// A log's bytes.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Log {
    /// The log of the run in this directory.
    pub fn read(dir: &Path) -> Result<Log> {
        let path = dir.join("events.jsonl");
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Log { path, bytes })
    }

    /// Its events in order; each line must be canonical, the last one whole.
    pub fn events(&self) -> Result<Vec<Record<'_>>> {
        ensure!(self.bytes.ends_with(b"\n"), "{} is empty or its last line is torn", self.path.display());
        let lines = self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let parse = |line| {
            Record::parse(line).map_err(|deviation| {
                anyhow::anyhow!("{deviation:?} in {}: {}", self.path.display(), String::from_utf8_lossy(line))
            })
        };
        lines.map(parse).collect()
    }
}

/// How many attempts an event stands for.
pub fn attempts(event: &Record<'_>) -> u64 {
    event.uint("count").unwrap_or(1)
}

/// The event's text under `key`; empty when there is none.
pub fn text<'e>(event: &'e Record<'_>, key: &str) -> &'e str {
    event.text(key).unwrap_or_default()
}

/// An event as a person reads it, without its hashes.
pub fn show(event: &Record<'_>) -> String {
    let mut text = String::new();
    for (key, value) in event.fields().iter().filter(|(key, _)| !key.starts_with("hash_")) {
        let value = match value {
            Value::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Value::List(items) => {
                format!("{:?}", items.iter().map(|item| String::from_utf8_lossy(item)).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        };
        text += &format!(" {key}={value}");
    }
    text
}
