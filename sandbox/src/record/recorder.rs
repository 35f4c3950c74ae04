//! The recorder: a run's log, index and meta.json, from the first line to the seal.
//!
//! ```text
//! append ──▶ bounded queue of batches ──▶ writer thread ──▶ events.jsonl ──▶ index thread ──▶ index.sqlite
//!                                                              ▲
//!                                          sync thread, fdatasync every 100 ms
//! ```
//!
//! When the disk is slow the queue fills, [`Recorder::append`] waits, and the kernel's ring is the buffer:
//! memory stays bounded, and what does not fit the ring is counted there as lost. The index only reads the
//! log, so it can fall behind without holding anything up.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use audit_verify::Hash;
use audit_verify::chain::Position;
use audit_verify::ledger::Entry;
use audit_verify::sign::SigningKey;

use super::anchor::{self, Anchor, AnchorReport};
use super::error::{LogAct, LogError, RecordError};
use super::index::{IndexError, Indexer};
use super::ledger::{LedgerError, LedgerFile};
use super::log::{Counts, LogWriter, RunEnd, Sealed};
use super::meta::Meta;
use super::start::{Bound, KeyReach, RunStart};
use super::store::RunDir;
use crate::event::Event;

/// The log's name in the run's directory.
pub const LOG: &str = "events.jsonl";

/// Batches that wait for the writer. With [`BATCH_MAX`] events of about 1 KiB this bounds the queue's memory
/// to some 16 MiB.
const QUEUE: usize = 16;

/// The most events that one call of [`Recorder::append`] queues at once; more are split.
pub const BATCH_MAX: usize = 1024;

/// How often a log that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(100);

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
    /// Who signs.
    pub signer: Option<(SigningKey, KeyReach)>,
    /// Where heads go.
    pub anchors: Vec<anchor::Target>,
}

enum Request {
    Append(Vec<Event>),
    Flush(SyncSender<Result<u64, LogError>>),
    Seal(RunEnd, SyncSender<Result<Sealed, LogError>>),
}

/// What the threads tell each other and the collector.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    written_seq: AtomicU64,
    synced_seq: AtomicU64,
    counts: Mutex<Counts>,
    /// The first failure of any kind.
    fault: OnceLock<LogError>,
    /// Durability failed, or the log was removed: nothing says any more what the disk has.
    unsealable: AtomicBool,
    dirty: AtomicBool,
    stop_sync: AtomicBool,
}

impl Shared {
    fn fail(&self, act: LogAct, error: &io::Error) -> LogError {
        let fault = LogError::new(act, &self.path, error, self.written_seq.load(Ordering::Acquire));
        if matches!(act, LogAct::Sync | LogAct::Keep) {
            self.unsealable.store(true, Ordering::Release);
        }
        self.fault.get_or_init(|| fault.clone());
        fault
    }
}

/// Records one run. Dropping it without [`Recorder::seal`] leaves the log intact and incomplete.
#[derive(Debug)]
pub struct Recorder {
    dir: RunDir,
    meta: Meta,
    on_log_error: OnLogError,
    shared: Arc<Shared>,
    queue: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
    index: Option<Indexer>,
    ledger: Option<LedgerFile>,
    signer: Option<SigningKey>,
    anchored: Arc<OnceLock<AnchorReport>>,
}

impl Recorder {
    /// Opens the log with `run_start`, durable on the disk, and starts the threads.
    ///
    /// The log is locked (flock(2)) for as long as it is written: that is how a reader tells a run that goes
    /// on from one that crashed.
    pub fn begin(
        dir: RunDir,
        agent_id: &str,
        start: &RunStart,
        settings: RecordSettings,
        attestation: Attestation,
    ) -> Result<Self, RecordError> {
        let Attestation { ledger, signer, anchors } = attestation;
        let path = dir.path().join(LOG);
        let file = dir.create_file(LOG).map_err(RecordError::file("create", &path))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| RecordError::file("lock", &path)(e.into()))?;
        let sync_file = file.try_clone().map_err(RecordError::file("open", &path))?;

        let mut log = LogWriter::new(file, dir.id(), agent_id);
        let mut locked = ledger.as_ref().map(LedgerFile::lock).transpose()?;
        let bound = Bound {
            trust: dir.trust(),
            ledger_prev: locked.as_ref().map_or(Hash::ZERO, |ledger| ledger.head()),
            key: signer.as_ref().map(|(key, reach)| (key.id(), *reach)),
        };
        let signer = signer.map(|(key, _)| key);
        let first = start.event(&bound).map_err(RecordError::file("read", Path::new("/dev/urandom")))?;
        log.append(&mut vec![first]).map_err(|e| LogError::new(LogAct::Write, &path, &e, 0))?;
        if settings.durability != Durability::None {
            sync_file.sync_data().map_err(|e| LogError::new(LogAct::Sync, &path, &e, 1))?;
        }
        let meta = Meta::started(&dir, agent_id, start);
        meta.write(&dir)?;
        if let Some(ledger) = &mut locked {
            let first = log.position().head;
            ledger.append(&Entry::Begin { run_id: dir.id().to_owned(), first }, signer.as_ref())?;
        }
        drop(locked);
        let anchor = match anchors.is_empty() {
            true => None,
            false => Some(Anchor::start(anchors, dir.id(), log.position())?),
        };

        let shared = Arc::new(Shared {
            path: path.clone(),
            written_seq: AtomicU64::new(log.written_seq()),
            synced_seq: AtomicU64::new(log.written_seq()),
            counts: Mutex::new(log.counts()),
            fault: OnceLock::new(),
            unsealable: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            stop_sync: AtomicBool::new(false),
        });
        let spawned = RecordError::file("start a thread for", &path);
        let (queue, requests) = sync_channel(QUEUE);
        let anchored = Arc::new(OnceLock::new());
        let writer = WriterThread {
            log,
            file: sync_file,
            settings,
            shared: Arc::clone(&shared),
            checkpoint: Due::new(settings.checkpoints, signer.is_some() || anchor.is_some()),
            signer: signer.clone(),
            anchor,
            anchored: Arc::clone(&anchored),
        };
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
            queue: Some(queue),
            writer: Some(writer),
            index,
            ledger,
            signer,
            anchored,
        })
    }

    /// Hands a batch to the writer, in order. Waits while the queue is full.
    ///
    /// An error means that the record ended (with [`OnLogError::Stop`], or when the writer itself died); it
    /// may be that of an earlier batch. What was handed over counts as stored once
    /// [`Recorder::written_seq`] has reached it.
    pub fn append(&self, mut batch: Vec<Event>) -> Result<(), LogError> {
        self.check()?;
        while batch.len() > BATCH_MAX {
            let rest = batch.split_off(BATCH_MAX);
            self.send(Request::Append(std::mem::replace(&mut batch, rest)))?;
        }
        if batch.is_empty() { Ok(()) } else { self.send(Request::Append(batch)) }
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
    /// On an error the log stays as it is, incomplete; `meta.json` says why, as far as it can be written.
    pub fn seal(&mut self, end: &RunEnd) -> Result<Sealed, RecordError> {
        let (answer, wait) = sync_channel(1);
        let sealed = self
            .send(Request::Seal(end.clone(), answer))
            .and_then(|()| wait.recv().unwrap_or_else(|_| Err(self.writer_died())));
        self.join_writer();
        let log = sealed.as_ref().map_err(|error| (self.counts(), error.to_string()));
        let written = self.meta.clone().ended(end, log).write(&self.dir);
        let sealed = sealed?;
        written?;
        Ok(sealed)
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
        ledger.lock()?.append(&entry, self.signer.as_ref())
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
        if let Some(index) = self.index.take() {
            // Nobody is left to tell; the log is the truth.
            let _ = index.finish();
        }
    }
}

/// When the next checkpoint is due.
#[derive(Debug)]
struct Due {
    checkpoints: Checkpoints,
    /// Whether there is anything that a checkpoint would serve.
    wanted: bool,
    /// `seq` of the last checkpoint, or of the first line.
    last_seq: u64,
    last: Instant,
}

impl Due {
    fn new(checkpoints: Checkpoints, wanted: bool) -> Self {
        Self { checkpoints, wanted, last_seq: 1, last: Instant::now() }
    }

    /// How long until one is due, with `seq` lines in the log; `None` if nothing is new.
    fn within(&self, seq: u64) -> Option<Duration> {
        let new = seq.saturating_sub(self.last_seq);
        (self.wanted && new > 0).then(|| {
            if new >= self.checkpoints.events {
                Duration::ZERO
            } else {
                self.checkpoints.every.saturating_sub(self.last.elapsed())
            }
        })
    }

    /// How many more events may come before one is due.
    fn room(&self, seq: u64) -> usize {
        let new = seq.saturating_sub(self.last_seq);
        match self.wanted {
            true => usize::try_from(self.checkpoints.events.saturating_sub(new).max(1)).unwrap_or(usize::MAX),
            false => usize::MAX,
        }
    }

    fn made(&mut self, seq: u64) {
        (self.last_seq, self.last) = (seq, Instant::now());
    }
}

struct WriterThread {
    log: LogWriter<File>,
    file: File,
    settings: RecordSettings,
    shared: Arc<Shared>,
    checkpoint: Due,
    signer: Option<SigningKey>,
    anchor: Option<Anchor>,
    anchored: Arc<OnceLock<AnchorReport>>,
}

impl WriterThread {
    fn run(mut self, requests: &Receiver<Request>) {
        let sync = self.start_sync();
        loop {
            let request = if self.log.is_whole() || self.has_stopped() {
                match self.checkpoint.within(self.log.position().seq).filter(|_| !self.has_stopped()) {
                    None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(Duration::ZERO) => {
                        self.checkpoint();
                        continue;
                    }
                    Some(wait) => requests.recv_timeout(wait),
                }
            } else {
                match requests.try_recv() {
                    Ok(request) => Ok(request),
                    Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
                    Err(TryRecvError::Empty) => requests.recv_timeout(RETRY),
                }
            };
            match request {
                Ok(Request::Append(mut batch)) => _ = self.append(&mut batch),
                Ok(Request::Flush(answer)) => {
                    let flushed = self.append(&mut Vec::new()).map(|()| self.log.written_seq());
                    let _ = answer.send(flushed);
                }
                Ok(Request::Seal(end, answer)) => {
                    let sealed = self.seal(&end);
                    let _ = answer.send(sealed);
                    break;
                }
                Err(RecvTimeoutError::Timeout) => _ = self.append(&mut Vec::new()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.stop_sync(sync);
        if let Some(anchor) = self.anchor.take() {
            let _ = self.anchored.set(anchor.report());
        }
    }

    /// Writes a checkpoint, and hands its head on when it is as durable as the settings ask.
    fn checkpoint(&mut self) {
        let made = self.log.checkpoint(self.signer.as_ref());
        self.publish();
        match made {
            Ok(at) => {
                self.checkpoint.made(at.seq);
                if let Some(anchor) = &self.anchor {
                    // Nobody is to keep the head of a line that a power failure may take back.
                    match self.file.sync_data() {
                        Ok(()) => anchor.checkpoint(at),
                        Err(error) => _ = self.shared.fail(LogAct::Sync, &error),
                    }
                }
            }
            Err(error) => {
                // It is due again when the log is whole again.
                self.shared.fail(LogAct::Write, &error);
            }
        }
    }

    /// Hands the seal's head on.
    fn anchor_seal(&mut self, at: Position) {
        if let Some(anchor) = self.anchor.take() {
            let _ = self.anchored.set(anchor.seal(at));
        }
    }

    fn has_stopped(&self) -> bool {
        self.settings.on_log_error == OnLogError::Stop && self.shared.fault.get().is_some()
    }

    /// Writes a batch, in parts where a checkpoint is due within it.
    fn append(&mut self, batch: &mut Vec<Event>) -> Result<(), LogError> {
        let mut outcome = Ok(());
        loop {
            let room = self.checkpoint.room(self.log.position().seq).min(batch.len());
            let mut rest = batch.split_off(room);
            // What comes behind a failure is counted as lost there.
            outcome = outcome.and(self.append_part(batch));
            if rest.is_empty() {
                return outcome;
            }
            if self.checkpoint.within(self.log.position().seq) == Some(Duration::ZERO) {
                self.checkpoint();
            }
            std::mem::swap(batch, &mut rest);
        }
    }

    fn append_part(&mut self, batch: &mut Vec<Event>) -> Result<(), LogError> {
        if let Some(fault) = self.shared.fault.get().filter(|_| self.has_stopped()) {
            return Err(fault.clone());
        }
        let mut written = self.log.append(batch).map_err(|e| (LogAct::Write, e));
        if written.is_ok() {
            written = self.look_for_name().map_err(|e| (LogAct::Keep, e));
        }
        if written.is_ok() && self.settings.durability == Durability::Each {
            written = self.file.sync_data().map_err(|e| (LogAct::Sync, e));
        }
        self.publish();
        if self.settings.durability == Durability::Each && written.is_ok() {
            self.shared.synced_seq.store(self.log.written_seq(), Ordering::Release);
        }
        written.map_err(|(act, error)| self.shared.fail(act, &error))
    }

    fn seal(&mut self, end: &RunEnd) -> Result<Sealed, LogError> {
        if let Some(fault) = self.shared.fault.get().filter(|_| self.has_stopped()) {
            return Err(fault.clone());
        }
        self.look_for_name().map_err(|error| self.shared.fail(LogAct::Keep, &error))?;
        if self.shared.unsealable.load(Ordering::Acquire) {
            // A log that may have lost pages is not one to be called complete.
            let lost = || self.shared.fail(LogAct::Sync, &io::Error::from_raw_os_error(libc::EIO));
            return Err(self.shared.fault.get().cloned().unwrap_or_else(lost));
        }
        let sealed = self.log.seal(end, self.signer.as_ref());
        self.publish();
        let sealed = sealed.map_err(|e| self.shared.fail(LogAct::Write, &e))?;
        if self.settings.durability != Durability::None {
            self.file.sync_data().map_err(|e| self.shared.fail(LogAct::Sync, &e))?;
            self.shared.synced_seq.store(self.log.written_seq(), Ordering::Release);
        }
        self.anchor_seal(self.log.position());
        Ok(sealed)
    }

    /// Whether the file still has a name: what is written into one that has none goes with this process.
    fn look_for_name(&self) -> io::Result<()> {
        match rustix::fs::fstat(&self.file)?.st_nlink {
            0 => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            _ => Ok(()),
        }
    }

    fn publish(&mut self) {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.log.counts();
        self.shared.written_seq.store(self.log.written_seq(), Ordering::Release);
        self.shared.dirty.store(true, Ordering::Release);
    }

    fn start_sync(&self) -> Option<JoinHandle<()>> {
        let Durability::Every(interval) = self.settings.durability else { return None };
        let shared = Arc::clone(&self.shared);
        let started = self.file.try_clone().and_then(|file| {
            thread::Builder::new()
                .name("record-sync".into())
                .spawn(move || sync_loop(&file, interval, &shared))
        });
        started.map_err(|error| self.shared.fail(LogAct::Run, &error)).ok()
    }

    fn stop_sync(&self, sync: Option<JoinHandle<()>>) {
        self.shared.stop_sync.store(true, Ordering::Release);
        if let Some(sync) = sync {
            sync.thread().unpark();
            if sync.join().is_err() {
                self.shared.fail(LogAct::Run, &io::Error::other("the sync thread panicked"));
            }
        }
    }
}

/// Makes durable what was written, once an interval, and never again after it failed once: the kernel may
/// have dropped the pages that it could not store, and a second call would say that all is well.
fn sync_loop(file: &File, interval: Duration, shared: &Shared) {
    while !shared.stop_sync.load(Ordering::Acquire) {
        thread::park_timeout(interval);
        if shared.dirty.swap(false, Ordering::AcqRel) {
            let seq = shared.written_seq.load(Ordering::Acquire);
            if let Err(error) = file.sync_data() {
                shared.fail(LogAct::Sync, &error);
                return;
            }
            shared.synced_seq.fetch_max(seq, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
pub(crate) mod tests;
