//! Who acted in a recorded run: the lines of its processes, as [`crate::event::lines`] keeps them while a run goes on,
//! fed from the record.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use audit_verify::canonical::Record;

use crate::event::ProcId;
use crate::event::lines::{Line, Lines};

/// The processes of one run.
#[derive(Debug, Default)]
pub struct Lineage {
    lines: Lines,
    /// Those that were seen to begin or to act, and not to end.
    going: HashSet<ProcId>,
    /// Processes whose beginning the record does not have so far.
    strangers: HashSet<ProcId>,
    /// The last that ended: what is told of them late (an answer to a question) is theirs all the same.
    ended: VecDeque<(ProcId, Arc<Line>)>,
}

/// Ended processes that are remembered.
const ENDED: usize = 256;

impl Lineage {
    /// Those of the run that begins with this line.
    pub fn begin(start: &Record<'_>) -> Self {
        let Some(first) = process(start, "proc_id") else { return Self::default() };
        // What tells of the start was written before the process was seen: its pid is all that it knows.
        let first = ProcId { pid: first.pid, start_ns: 0 };
        Self { lines: Lines::new(first), ..Self::default() }
    }

    /// Who does what the event tells of, as it was before the event.
    pub fn actor(&mut self, record: &Record<'_>) -> Arc<Line> {
        let Some(process) = process(record, "proc_id") else { return Arc::clone(self.lines.unknown()) };
        let line = Arc::clone(self.lines.of(process));
        if self.going.contains(&process) {
            return line;
        }
        if Arc::ptr_eq(&line, self.lines.unknown()) {
            if let Some((_, line)) = self.ended.iter().rev().find(|(ended, _)| *ended == process) {
                return Arc::clone(line);
            }
            self.strangers.insert(process);
        }
        self.going.insert(process);
        line
    }

    /// How many processes acted whose beginning the record does not have.
    pub fn strangers(&self) -> usize {
        self.strangers.len()
    }

    /// Learns what the event changes: a new process, another executable, an end.
    pub fn learn(&mut self, record: &Record<'_>) {
        let Some(acting) = process(record, "proc_id") else { return };
        match record.text("event_type") {
            Some("fork") => {
                if let Some(child) = process(record, "child_proc_id") {
                    self.lines.forked(acting, child);
                    self.going.insert(child);
                    self.strangers.remove(&child);
                }
            }
            Some("exec") if record.int("ret") == Some(0) => {
                self.lines.executed(acting, record.bytes("exe").unwrap_or_default());
            }
            Some("exit") => {
                if self.ended.len() == ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back((acting, Arc::clone(self.lines.of(acting))));
                self.lines.ended(acting);
                self.going.remove(&acting);
            }
            _ => {}
        }
    }

    /// Whether a process of the run has this pid.
    pub fn has_pid(&self, pid: u64) -> bool {
        self.going.iter().any(|process| u64::from(process.pid) == pid)
    }
}

fn process(record: &Record<'_>, key: &str) -> Option<ProcId> {
    record.text(key).and_then(ProcId::from_text)
}
