//! The log's writer: events in, lines out, with every failure of the disk thought through.
//!
//! Nothing that was written is ever rewritten or cut off. What could not be written is kept and tried again
//! before anything else, so that the bytes in the file are at every moment a beginning of one valid chain.
//! This module knows neither threads nor timers.

use std::io;
use std::iter::Peekable;
use std::ops::ControlFlow;

use audit_verify::Hash;
use audit_verify::chain::{ChainError, ChainWriter, Drafts, Position};
use audit_verify::merkle::Tree;
use audit_verify::sign::SigningKey;

use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::line::{Line, LineBatch, LineWriter, Weight, runner_event};

/// How much is chained before it is written, in bytes. A batch with more is written in several calls.
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

impl Counts {
    #[inline]
    fn add(&mut self, Weight { attempts, action, gap }: Weight) {
        self.events += 1;
        self.folded += attempts - 1;
        match action {
            Action::Blocked => self.blocked += attempts,
            Action::WouldBlock => self.would_block += attempts,
            Action::Observed | Action::Allowed => {}
        }
        self.lost += gap.unwrap_or(0);
    }
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
    chain: ChainWriter,
    tree: Tree,
    /// For the events of its own.
    own: LineWriter,
    own_batch: LineBatch,
    counts: Counts,
    /// Chained lines; those before `taken` are in the sink.
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
            chain: ChainWriter::default(),
            tree: Tree::default(),
            own: LineWriter::new(run_id, agent_id),
            own_batch: LineBatch::default(),
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

    /// Whether everything chained so far is in the sink, and nothing was dropped since the last gap.
    pub fn is_whole(&self) -> bool {
        self.taken == self.buffer.len() && self.dropped == 0
    }

    /// Chains the lines of a batch and writes them.
    ///
    /// On an error the unwritten rest is kept, the lines behind it are counted as lost, and the next call
    /// tries the rest first. When it goes through, a `gap` takes the place of what was lost.
    pub fn append(&mut self, batch: &LineBatch) -> io::Result<()> {
        self.append_lines(batch.lines())
    }

    /// The same for some lines of a batch.
    pub(super) fn append_lines<'b>(&mut self, lines: impl Iterator<Item = Line<'b>>) -> io::Result<()> {
        if let Err(error) = self.recover() {
            self.drop_all(lines, &error);
            return Err(error);
        }
        let mut lines = lines.peekable();
        while lines.peek().is_some() {
            self.chain(&mut lines);
            if let Err(error) = self.write_out() {
                self.drop_all(lines, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Tries again to write what an earlier call could not, and records the gap behind it.
    pub fn recover(&mut self) -> io::Result<()> {
        self.write_out()?;
        if self.dropped > 0 {
            let mut gap = runner_event(EventType::Gap, ProcId::default());
            gap.set(Key::Lost, Value::Uint(std::mem::take(&mut self.dropped)));
            gap.set(Key::Reason, Value::Bytes(self.dropped_reason.as_bytes().to_vec()));
            self.chain_own(&gap);
            self.write_out()?;
        }
        Ok(())
    }

    /// Where the chain stands: what an anchor keeps of it.
    pub fn position(&self) -> Position {
        self.chain.position()
    }

    /// Writes what the log is up to here, signed where there is a key.
    pub fn checkpoint(&mut self, signer: Option<&SigningKey>) -> io::Result<Position> {
        self.recover()?;
        let mut event = runner_event(EventType::Checkpoint, ProcId::default());
        event.set(Key::Events, Value::Uint(self.counts.events + 1));
        event.set(Key::Head, Value::Bytes(self.chain.position().head.digits().to_vec()));
        self.chain_signed(event, signer);
        self.write_out()?;
        Ok(self.chain.position())
    }

    /// Writes the seal, signed where there is a key. The log is finished only if this succeeds.
    pub fn seal(&mut self, end: &RunEnd, signer: Option<&SigningKey>) -> io::Result<Sealed> {
        self.recover()?;
        let mut event = runner_event(EventType::RunEnd, end.process);
        event.set(Key::Events, Value::Uint(self.counts.events + 1));
        event.set(Key::Folded, Value::Uint(self.counts.folded));
        event.set(Key::Lost, Value::Uint(self.counts.lost));
        event.set(Key::Blocked, Value::Uint(self.counts.blocked));
        event.set(Key::Head, Value::Bytes(self.chain.position().head.digits().to_vec()));
        event.set(Key::MerkleRoot, Value::Bytes(self.tree.root().digits().to_vec()));
        event.set(Key::LeftRunning, Value::Uint(end.left_running));
        event.set(Key::DurationNs, Value::Uint(end.duration_ns));
        event.set(Key::Reason, Value::Bytes(end.reason.as_bytes().to_vec()));
        if let Some(code) = end.exit_code {
            event.set(Key::ExitCode, Value::Int(code.into()));
        }
        if let Some(signal) = end.signal {
            event.set(Key::Signal, Value::Int(signal.into()));
        }
        self.chain_signed(event, signer);
        self.write_out()?;
        Ok(Sealed { head: self.chain.position().head.to_string(), counts: self.counts })
    }

    /// Chains lines, until there are no more or enough to be written.
    fn chain<'b>(&mut self, lines: &mut Peekable<impl Iterator<Item = Line<'b>>>) {
        let Self { chain, tree, counts, buffer, .. } = self;
        let _ = chain.link_each(lines, buffer, |weight, hash, buffer| {
            tree.push_bytes(hash);
            counts.add(weight);
            if buffer.len() < WRITE_SIZE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }

    /// Chains an event of the runner's own.
    fn chain_own(&mut self, event: &Event) {
        let mut batch = std::mem::take(&mut self.own_batch);
        batch.clear();
        self.own.add(event, &mut batch);
        self.chain(&mut batch.lines().peekable());
        self.own_batch = batch;
    }

    /// [`LogWriter::chain_own`] with a signature over the line.
    fn chain_signed(&mut self, mut event: Event, signer: Option<&SigningKey>) {
        if let Some(signer) = signer {
            event.set(Key::KeyId, Value::Bytes(signer.id().to_string().into_bytes()));
            // Without its signature it is worth less, and no less true.
            if let Ok(unsigned) = self.next_hash(&event) {
                event.set(Key::Signature, Value::Bytes(signer.sign(&unsigned).into_bytes()));
            }
        }
        self.chain_own(&event);
    }

    /// The hash that an event's line would have.
    fn next_hash(&mut self, event: &Event) -> Result<Hash, ChainError> {
        let mut drafts = Drafts::default();
        self.own.add_draft(event, &mut drafts)?;
        let mut ahead = ChainWriter::at(self.chain.position());
        drafts.iter().for_each(|draft| ahead.link(draft, &mut Vec::new()));
        Ok(ahead.position().head)
    }

    /// Writes all that is chained.
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
        self.written_seq = self.chain.position().seq;
        Ok(())
    }

    /// Works out which line is the last whole one.
    fn stopped_at(&mut self, error: io::Error) -> io::Error {
        let unwritten = self.buffer[self.taken..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.written_seq = self.chain.position().seq - unwritten;
        error
    }

    fn drop_all<'b>(&mut self, lines: impl Iterator<Item = Line<'b>>, error: &io::Error) {
        self.dropped += lines.map(|(_, weight)| weight.lost_with()).sum::<u64>();
        self.dropped_reason = match error.raw_os_error() {
            Some(libc::ENOSPC) => "log: no space left",
            Some(libc::EDQUOT) => "log: quota exceeded",
            Some(libc::EIO) => "log: input/output error",
            _ => "log: write error",
        };
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
