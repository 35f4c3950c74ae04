//! The recorder: a run's log, index and meta.json, from the first line to the seal.
//!
//! ```text
//! append ──▶ bounded queue of batches ──▶ writer thread ──▶ events.jsonl ──▶ index thread ──▶ index.sqlite
//!   events to lines                          chain             ▲
//!                                          sync thread, fdatasync every 100 ms
//! ```
//!
//! When the disk is slow the queue fills, [`Recorder::append`] waits, and the kernel's ring is the buffer:
//! memory stays bounded, and what does not fit the ring is counted there as lost. The index only reads the
//! log, so it can fall behind without holding anything up.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use audit_verify::Hash;
use audit_verify::ledger::Entry;
use audit_verify::sign::SigningKey;

use super::anchor::{self, Anchor, AnchorReport};
use super::error::{LogAct, LogError, RecordError};
use super::index::{IndexError, Indexer};
use super::ledger::{LedgerError, LedgerFile};
use super::line::{LineBatch, LineWriter};
use super::lock::Held;
use super::log::{Counts, LogWriter, RunEnd, Sealed};
use super::meta::Meta;
use super::start::{Bound, KeyReach, RunStart};
use super::store::RunDir;
use super::writer::{Attested, Request, Shared, WriterThread};
use crate::event::Event;

/// The log's name in the run's directory.
pub const LOG: &str = audit_verify::output::EVENTS;

/// Batches that wait for the writer. With [`BATCH_MAX`] lines of about 1 KiB this bounds the queue's memory
/// to some 16 MiB.
const QUEUE: usize = 16;

/// The most lines of a batch; more events are split.
pub const BATCH_MAX: usize = 1024;

/// When the log is made durable with fdatasync(2). It is at the start and at the seal in any case but `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After each batch, before it counts as stored.
    Each,
    /// At this interval.
    Every(Duration),
    /// Never: the kernel writes it back when it likes.
    None,
}

/// What a run does when its log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLogError {
    /// The record ends; the run is to end too.
    Stop,
    /// The record goes on with a gap when writing is possible again.
    Continue,
}

/// How a run is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// When the log is made durable.
    pub durability: Durability,
    /// What happens when it cannot be written.
    pub on_log_error: OnLogError,
    /// How often it is signed and anchored, where there is a key or an anchor.
    pub checkpoints: Checkpoints,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            durability: Durability::Every(Duration::from_millis(100)),
            on_log_error: OnLogError::Stop,
            checkpoints: Checkpoints::default(),
        }
    }
}

/// When a checkpoint is due: whichever comes first, and only if there is something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// After this many events.
    pub events: u64,
    /// After this time.
    pub every: Duration,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { events: 10_000, every: Duration::from_secs(10) }
    }
}

/// What makes a log one that others can trust: its place in the ledger, who signs it, who keeps its heads.
#[derive(Debug, Default)]
pub struct Attestation {
    /// The ledger of the store that the run is in.
    pub ledger: Option<LedgerFile>,
    /// Who signs where there is no ledger; where there is one, that knows.
    pub signer: Option<SigningKey>,
    /// Whether the command could read the key that signs.
    pub reach: KeyReach,
    /// Where heads go.
    pub anchors: Vec<anchor::Target>,
}

/// Records one run. Dropping it without [`Recorder::seal`] leaves the log intact and incomplete.
#[derive(Debug)]
pub struct Recorder {
    dir: RunDir,
    meta: Meta,
    on_log_error: OnLogError,
    shared: Arc<Shared>,
    lines: RefCell<LineWriter>,
    queue: Option<SyncSender<Request>>,
    /// Batches that were written, to be filled again.
    spent: Receiver<LineBatch>,
    writer: Option<JoinHandle<()>>,
    index: Option<Indexer>,
    /// Held until the run's end is in the ledger.
    lock: Option<Held>,
    meta_fault: Option<RecordError>,
    ledger: Option<LedgerFile>,
    anchored: Arc<OnceLock<AnchorReport>>,
}

impl Recorder {
    /// Opens the log with `run_start`, durable on the disk, and starts the threads.
    ///
    /// The run is locked for as long as it is written ([`super::lock`]): that is how a reader tells a run that goes on
    /// from one that crashed.
    pub fn begin(
        dir: RunDir,
        agent_id: &str,
        start: &RunStart,
        settings: RecordSettings,
        attestation: Attestation,
    ) -> Result<Self, RecordError> {
        let Attestation { ledger, signer, reach, anchors } = attestation;
        let path = dir.path().join(LOG);
        let file = dir.create_file(LOG).map_err(RecordError::file("create", &path))?;
        let lock = Some(Held::take(&dir, &file).map_err(RecordError::file("lock", &path))?);
        let sync_file = file.try_clone().map_err(RecordError::file("open", &path))?;

        let mut log = LogWriter::new(file, dir.id(), agent_id);
        let mut locked = ledger.as_ref().map(LedgerFile::lock).transpose()?;
        let signer = locked.as_ref().map_or(signer, |ledger| ledger.signer().cloned());
        let bound = Bound {
            trust: dir.trust(),
            ledger_prev: locked.as_ref().map_or(Hash::ZERO, |ledger| ledger.head()),
            key: signer.as_ref().map(|key| (key.id(), reach)),
        };
        let first = start.event(&bound).map_err(RecordError::file("get", Path::new("random bytes")))?;
        let mut lines = LineWriter::new(dir.id(), agent_id);
        let mut batch = LineBatch::default();
        lines.add(&first, &mut batch);
        log.append(&batch).map_err(|e| LogError::new(LogAct::Write, &path, &e, 0))?;
        if settings.durability != Durability::None {
            sync_file.sync_data().map_err(|e| LogError::new(LogAct::Sync, &path, &e, 1))?;
        }
        let meta = Meta::started(&dir, agent_id, start);
        meta.write(&dir)?;
        if let Some(ledger) = &mut locked {
            let first = log.position().head;
            ledger.append(&Entry::Begin { run_id: dir.id().to_owned(), first })?;
        }
        drop(locked);
        let anchor = match anchors.is_empty() {
            true => None,
            false => Some(Anchor::start(anchors, dir.id(), log.position())?),
        };

        let shared = Arc::new(Shared::of(&path, &log));
        let spawned = RecordError::file("start a thread for", &path);
        let (queue, requests) = sync_channel(QUEUE);
        let (give, spent) = channel();
        let anchored = Arc::new(OnceLock::new());
        let attested = Attested { signer, anchor, anchored: Arc::clone(&anchored) };
        let writer = WriterThread::new(log, sync_file, settings, Arc::clone(&shared), attested, give);
        let writer = thread::Builder::new()
            .name("record-log".into())
            .spawn(move || writer.run(&requests))
            .map_err(spawned)?;
        let index = Some(Indexer::start(&dir)?);
        Ok(Self {
            dir,
            meta,
            on_log_error: settings.on_log_error,
            shared,
            lines: RefCell::new(lines),
            queue: Some(queue),
            spent,
            writer: Some(writer),
            index,
            lock,
            meta_fault: None,
            ledger,
            anchored,
        })
    }

    /// Makes lines of events and hands them to the writer, in order. Waits while the queue is full.
    ///
    /// An error means that the record ended (with [`OnLogError::Stop`], or when the writer itself died); it
    /// may be that of an earlier batch. What was handed over counts as stored once
    /// [`Recorder::written_seq`] has reached it.
    pub fn append(&self, events: &[Event]) -> Result<(), LogError> {
        self.check()?;
        for events in events.chunks(BATCH_MAX) {
            let mut batch = self.spent.try_recv().unwrap_or_default();
            let mut lines = self.lines.borrow_mut();
            for event in events {
                lines.add(event, &mut batch);
            }
            self.send(Request::Append(batch))?;
        }
        Ok(())
    }

    /// Waits until everything handed over so far is written; returns `seq` of the last event in the log.
    pub fn flush(&self) -> Result<u64, LogError> {
        let (answer, wait) = sync_channel(1);
        self.send(Request::Flush(answer))?;
        wait.recv().unwrap_or_else(|_| Err(self.writer_died()))
    }

    /// The failure that ended the record, as soon as there is one. Cheap: for the collector's heartbeat.
    pub fn check(&self) -> Result<(), LogError> {
        match self.shared.fault.get() {
            Some(fault) if self.on_log_error == OnLogError::Stop || fault.act == LogAct::Run => {
                Err(fault.clone())
            }
            _ => Ok(()),
        }
    }

    /// The first failure of the log, also one that the run went on after.
    pub fn fault(&self) -> Option<&LogError> {
        self.shared.fault.get()
    }

    /// `seq` of the last event that write(2) took.
    pub fn written_seq(&self) -> u64 {
        self.shared.written_seq.load(Ordering::Acquire)
    }

    /// `seq` of the last event that fdatasync(2) made durable.
    pub fn synced_seq(&self) -> u64 {
        self.shared.synced_seq.load(Ordering::Acquire)
    }

    /// What stood in the run when the last batch was written.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's directory.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Ends the log with the seal, makes it durable, and completes `meta.json`.
    ///
    /// On an error the log stays as it is, incomplete; `meta.json` says why, as far as it can be written. Where that cannot
    /// be written and the log is sealed all the same, [`Recorder::meta_fault`] says so.
    pub fn seal(&mut self, end: &RunEnd) -> Result<Sealed, RecordError> {
        let (answer, wait) = sync_channel(1);
        let sealed = self
            .send(Request::Seal(end.clone(), answer))
            .and_then(|()| wait.recv().unwrap_or_else(|_| Err(self.writer_died())));
        self.join_writer();
        let log = sealed.as_ref().map_err(|error| (self.counts(), error.to_string()));
        self.meta_fault = self.meta.clone().ended(end, log).write(&self.dir).err();
        Ok(sealed?)
    }

    /// Why `meta.json` does not say how the run ended, if it does not.
    pub fn meta_fault(&self) -> Option<&RecordError> {
        self.meta_fault.as_ref()
    }

    /// Enters the end of a sealed run into the ledger, where it is in one. How far a log without seal holds is for
    /// whoever reads it to say.
    ///
    /// # Errors
    /// It cannot be entered: the ledger then has a run that began, and no end.
    pub fn enter_end(&self, sealed: &Sealed) -> Result<(), LedgerError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        // The head was made from a hash.
        let (run_id, head) = (self.dir.id().to_owned(), sealed.head.parse().unwrap_or_default());
        let entry = Entry::End { run_id, events: sealed.counts.events, head };
        ledger.lock()?.append(&entry)
    }

    /// What became of the anchors, once the log is closed; nothing where there are none.
    pub fn anchored(&self) -> Option<&AnchorReport> {
        self.anchored.get()
    }

    /// Waits until the index has all lines, and closes it. Returns the number of rows.
    ///
    /// A failure here costs nothing but queries: `sandbox reindex` makes the index again from the log.
    pub fn finish_index(mut self) -> Result<u64, IndexError> {
        self.join_writer();
        self.lock = None;
        self.index.take().map_or(Ok(0), Indexer::finish)
    }

    fn send(&self, request: Request) -> Result<(), LogError> {
        let queue = self.queue.as_ref().ok_or_else(|| self.writer_died())?;
        queue.send(request).map_err(|_| self.writer_died())
    }

    fn writer_died(&self) -> LogError {
        let fault = self.shared.fault.get().cloned();
        fault.unwrap_or_else(|| self.shared.fail(LogAct::Run, &io::Error::other("the thread is gone")))
    }

    fn join_writer(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            self.shared.fail(LogAct::Run, &io::Error::other("the thread panicked"));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.join_writer();
        self.lock = None;
        if let Some(index) = self.index.take() {
            // Nobody is left to tell; the log is the truth.
            let _ = index.finish();
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
pub(crate) mod tests;
