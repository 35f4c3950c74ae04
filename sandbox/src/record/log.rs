//! The log's writer: events in, lines out, with every failure of the disk thought through.
//!
//! Nothing that was written is ever rewritten or cut off. What could not be written is kept and tried again
//! before anything else, so that the bytes in the file are at every moment a beginning of one valid chain.
//! This module knows neither threads nor timers.

use std::io;

use audit_verify::chain::Position;
use audit_verify::sign::SigningKey;

use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::line::LineWriter;
use crate::record::time;

/// How much is formatted before it is written, in bytes. A batch with more is written in several calls.
const WRITE_SIZE: usize = 512 << 10;

/// Where the lines go: one write(2) a call, which may take less than it is given.
pub trait Sink {
    /// Writes from the beginning of `bytes`, and says how many were taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

impl Sink for std::fs::File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }
}

/// What stood in the run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines in the log.
    pub events: u64,
    /// Attempts that lines stand for beyond the first (`count` less one, summed).
    pub folded: u64,
    /// Attempts that no line stands for (`lost` of all gaps, summed).
    pub lost: u64,
    /// Attempts that a policy denied.
    pub blocked: u64,
    /// Attempts that a policy would have denied.
    pub would_block: u64,
}

/// How a run ended: what the seal says beside the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunEnd {
    /// Exit code of the command, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended the command, if one did.
    pub signal: Option<i32>,
    /// Why the run ended: `exit`, `signal`, `time limit`, …
    pub reason: String,
    /// Processes that outlive the run.
    pub left_running: u64,
    /// From the first process's start to its end, nanoseconds.
    pub duration_ns: u64,
    /// The first process of the run.
    pub process: ProcId,
}

/// The end of a finished log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// `hash_self` of the seal: what an anchor keeps.
    pub head: String,
    /// The run's counts, the seal included.
    pub counts: Counts,
}

/// Writes one log into a [`Sink`].
#[derive(Debug)]
pub struct LogWriter<S> {
    sink: S,
    lines: LineWriter,
    counts: Counts,
    /// Formatted lines; those before `taken` are in the sink.
    buffer: Vec<u8>,
    taken: usize,
    /// `seq` of the last line that is whole in the sink.
    written_seq: u64,
    /// Attempts that came while the sink took nothing.
    dropped: u64,
    dropped_reason: &'static str,
}

impl<S: Sink> LogWriter<S> {
    /// A writer into a sink that is empty.
    pub fn new(sink: S, run_id: &str, agent_id: &str) -> Self {
        Self {
            sink,
            lines: LineWriter::new(run_id, agent_id),
            counts: Counts::default(),
            buffer: Vec::with_capacity(WRITE_SIZE + (64 << 10)),
            taken: 0,
            written_seq: 0,
            dropped: 0,
            dropped_reason: "",
        }
    }

    /// What stood in the run so far, dropped attempts included.
    pub fn counts(&self) -> Counts {
        Counts { lost: self.counts.lost + self.dropped, ..self.counts }
    }

    /// `seq` of the last event whose line stands whole in the sink.
    pub fn written_seq(&self) -> u64 {
        self.written_seq
    }

    /// Whether everything formatted so far is in the sink, and nothing was dropped since the last gap.
    pub fn is_whole(&self) -> bool {
        self.taken == self.buffer.len() && self.dropped == 0
    }

    /// Chains `events` and writes them, leaving the vector empty.
    ///
    /// On an error the unwritten rest is kept, the events behind it are counted as lost, and the next call
    /// tries the rest first. When it goes through, a `gap` takes the place of what was lost.
    pub fn append(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if let Err(error) = self.recover() {
            self.drop_all(events.drain(..), &error);
            return Err(error);
        }
        let mut rest = events.drain(..);
        while let Some(mut event) = rest.next() {
            self.format(&mut event);
            if self.buffer.len() >= WRITE_SIZE
                && let Err(error) = self.write_out()
            {
                self.drop_all(rest, &error);
                return Err(error);
            }
        }
        drop(rest);
        self.write_out()
    }

    /// Tries again to write what an earlier call could not, and records the gap behind it.
    pub fn recover(&mut self) -> io::Result<()> {
        self.write_out()?;
        if self.dropped > 0 {
            let mut gap = runner_event(EventType::Gap, ProcId::default());
            gap.set(Key::Lost, Value::Uint(std::mem::take(&mut self.dropped)));
            gap.set(Key::Reason, Value::Bytes(self.dropped_reason.as_bytes().to_vec()));
            self.format(&mut gap);
            self.write_out()?;
        }
        Ok(())
    }

    /// Where the chain stands: what an anchor keeps of it.
    pub fn position(&self) -> Position {
        self.lines.position()
    }

    /// Writes what the log is up to here, signed where there is a key.
    pub fn checkpoint(&mut self, signer: Option<&SigningKey>) -> io::Result<Position> {
        self.recover()?;
        let mut event = runner_event(EventType::Checkpoint, ProcId::default());
        event.set(Key::Events, Value::Uint(self.counts.events + 1));
        event.set(Key::Head, Value::Bytes(self.lines.position().head.digits().to_vec()));
        self.format_signed(&mut event, signer);
        self.write_out()?;
        Ok(self.lines.position())
    }

    /// Writes the seal, signed where there is a key. The log is finished only if this succeeds.
    pub fn seal(&mut self, end: &RunEnd, signer: Option<&SigningKey>) -> io::Result<Sealed> {
        self.recover()?;
        let mut event = runner_event(EventType::RunEnd, end.process);
        event.set(Key::Events, Value::Uint(self.counts.events + 1));
        event.set(Key::Folded, Value::Uint(self.counts.folded));
        event.set(Key::Lost, Value::Uint(self.counts.lost));
        event.set(Key::Blocked, Value::Uint(self.counts.blocked));
        event.set(Key::Head, Value::Bytes(self.lines.position().head.digits().to_vec()));
        event.set(Key::MerkleRoot, Value::Bytes(self.lines.merkle_root().digits().to_vec()));
        event.set(Key::LeftRunning, Value::Uint(end.left_running));
        event.set(Key::DurationNs, Value::Uint(end.duration_ns));
        event.set(Key::Reason, Value::Bytes(end.reason.as_bytes().to_vec()));
        if let Some(code) = end.exit_code {
            event.set(Key::ExitCode, Value::Int(code.into()));
        }
        if let Some(signal) = end.signal {
            event.set(Key::Signal, Value::Int(signal.into()));
        }
        self.format_signed(&mut event, signer);
        self.write_out()?;
        Ok(Sealed { head: self.lines.position().head.to_string(), counts: self.counts })
    }

    /// Formats an event; one that fits no line becomes a gap, so that nothing is dropped in silence.
    fn format(&mut self, event: &mut Event) {
        if let Err(error) = self.lines.write(event, &mut self.buffer) {
            let mut gap = runner_event(EventType::Gap, event.process);
            gap.set(Key::Lost, Value::Uint(attempts(event)));
            gap.set(Key::Reason, Value::Bytes(format!("{}: {error}", event.event_type.name()).into_bytes()));
            gap.kseq = event.kseq;
            *event = gap;
            // A gap has three short details, each once: it always fits.
            let _ = self.lines.write(event, &mut self.buffer);
        }
        self.count(event);
    }

    /// [`LogWriter::format`] for the runner's own short events, which always fit.
    fn format_signed(&mut self, event: &mut Event, signer: Option<&SigningKey>) {
        match signer.map(|signer| self.lines.write_signed(event, signer, &mut self.buffer)) {
            Some(Ok(())) => self.count(event),
            // Without its signature it is worth less, and no less true.
            Some(Err(_)) | None => self.format(event),
        }
    }

    fn count(&mut self, event: &Event) {
        let attempts = attempts(event);
        self.counts.events += 1;
        self.counts.folded += attempts - 1;
        match event.action {
            Action::Blocked => self.counts.blocked += attempts,
            Action::WouldBlock => self.counts.would_block += attempts,
            Action::Observed | Action::Allowed => {}
        }
        if event.event_type == EventType::Gap {
            self.counts.lost += uint(event.get(Key::Lost)).unwrap_or(0);
        }
    }

    /// Writes all that is formatted.
    fn write_out(&mut self) -> io::Result<()> {
        while self.taken < self.buffer.len() {
            match self.sink.write(&self.buffer[self.taken..]) {
                Ok(0) => return Err(self.stopped_at(io::Error::from(io::ErrorKind::WriteZero))),
                Ok(taken) => self.taken += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.stopped_at(error)),
            }
        }
        self.buffer.clear();
        self.taken = 0;
        self.written_seq = self.lines.position().seq;
        Ok(())
    }

    /// Works out which line is the last whole one.
    fn stopped_at(&mut self, error: io::Error) -> io::Error {
        let unwritten = self.buffer[self.taken..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.written_seq = self.lines.position().seq - unwritten;
        error
    }

    fn drop_all(&mut self, events: impl Iterator<Item = Event>, error: &io::Error) {
        self.dropped += events.map(|event| lost_with(&event)).sum::<u64>();
        self.dropped_reason = match error.raw_os_error() {
            Some(libc::ENOSPC) => "log: no space left",
            Some(libc::EDQUOT) => "log: quota exceeded",
            Some(libc::EIO) => "log: input/output error",
            _ => "log: write error",
        };
    }
}

/// How many attempts an event stands for.
fn attempts(event: &Event) -> u64 {
    uint(event.get(Key::Count)).unwrap_or(1).max(1)
}

/// How many attempts are lost when an event is: a gap takes what it counted with it.
fn lost_with(event: &Event) -> u64 {
    match event.event_type {
        EventType::Gap => uint(event.get(Key::Lost)).unwrap_or(0),
        _ => attempts(event),
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

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
