//! The list of runs.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::text;
use crate::record::is_being_written;
use crate::record::meta::{Meta, MetaEnd};
use crate::record::store::Found;

/// The widest that the table is, in characters.
const WIDTH: usize = 80;

/// The least that is left for commands.
const COMMAND_MIN: usize = 3;

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its log is still being written.
    Running,
    /// It ended and its log was sealed.
    Finished,
    /// It crashed, or its log could not be finished.
    Incomplete,
}

/// One run of the list.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The run's id.
    pub id: String,
    /// Its directory.
    pub directory: String,
    /// What became of it.
    pub status: Status,
    /// What `meta.json` says; nothing if it cannot be read.
    pub meta: Option<Meta>,
}

impl Listed {
    /// Looks at a run.
    pub fn of(run: &Found) -> Self {
        let meta = Meta::read(&run.path).ok();
        Self {
            id: run.id.clone(),
            directory: run.path.to_string_lossy().into_owned(),
            status: status(&run.path, meta.as_ref()),
            meta,
        }
    }

    fn end(&self) -> Option<&MetaEnd> {
        self.meta.as_ref()?.end.as_ref()
    }

    /// `exit 0`, `SIGKILL`, `running`, `incomplete`.
    fn outcome(&self) -> String {
        match (self.status, self.end()) {
            (Status::Running, _) => "running".to_owned(),
            (Status::Incomplete, _) => "incomplete".to_owned(),
            (Status::Finished, Some(MetaEnd { signal: Some(signal), .. })) => text::signal((*signal).into()),
            (Status::Finished, Some(MetaEnd { exit_code: Some(code), .. })) => format!("exit {code}"),
            (Status::Finished, _) => "ended".to_owned(),
        }
    }
}

/// Whether a run goes on, is finished, or crashed.
pub fn status(directory: &Path, meta: Option<&Meta>) -> Status {
    let sealed = meta.and_then(|meta| meta.end.as_ref()).is_some_and(|end| end.head.is_some());
    if sealed {
        Status::Finished
    } else if is_being_written(directory) {
        Status::Running
    } else {
        Status::Incomplete
    }
}

/// The table, in 80 columns, the newest run last. `now_ns` is nanoseconds since 1970.
pub fn table(runs: &[Listed], now_ns: i64) -> String {
    let head = ["ID", "AGO", "TOOK", "STATUS", "EVENTS", "BLOCKED", "COMMAND"].map(str::to_owned);
    let rows: Vec<[String; 7]> =
        std::iter::once(head).chain(runs.iter().map(|run| cells(run, now_ns))).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let left = WIDTH.saturating_sub(widths.iter().map(|width| width + 2).sum()).max(COMMAND_MIN);
    let mut out = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Figures to the right, words to the left. Writing to a String does not fail.
            let _ = match column {
                0 | 3 => write!(out, "{cell:<width$}  "),
                _ => write!(out, "{cell:>width$}  "),
            };
        }
        out.push_str(&text::cut(&row[6], left));
        out.push('\n');
    }
    out
}

fn cells(run: &Listed, now_ns: i64) -> [String; 7] {
    let started = run.meta.as_ref().map(|meta| now_ns.saturating_sub(meta.start_ns));
    let took = match (run.end(), run.status, started) {
        (Some(end), _, _) => text::duration(end.duration_ns),
        (None, Status::Running, Some(so_far)) => text::duration(so_far.max(0) as u64),
        _ => "-".to_owned(),
    };
    let count = |of: fn(&MetaEnd) -> u64| run.end().map_or("-".to_owned(), |end| text::brief(of(end)));
    [
        text::safe(run.id.as_bytes()),
        started.map_or("-".to_owned(), text::ago),
        took,
        run.outcome(),
        count(|end| end.events),
        count(|end| end.blocked),
        run.meta.as_ref().map_or("?".to_owned(), |meta| text::command(&meta.command)),
    ]
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
