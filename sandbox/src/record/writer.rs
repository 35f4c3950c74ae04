//! The writer of a log: one thread that makes lines and writes them, and one that makes them durable.
//!
//! It decides when a checkpoint is due. What the bytes are is [`super::log`]'s business, and what the run does about a
//! failure that of whoever asks [`super::recorder`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use audit_verify::chain::Position;
use audit_verify::sign::SigningKey;

use super::anchor::{Anchor, AnchorReport};
use super::error::{LogAct, LogError};
use super::line::{Line, LineBatch};
use super::log::{Counts, LogWriter, RunEnd, Sealed};
use super::recorder::{Checkpoints, Durability, OnLogError, RecordSettings};

/// How often a log that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the recorder asks its writer for.
pub(super) enum Request {
    Append(LineBatch),
    Flush(SyncSender<Result<u64, LogError>>),
    Seal(RunEnd, SyncSender<Result<Sealed, LogError>>),
}

/// What the threads tell each other and the collector.
#[derive(Debug)]
pub(super) struct Shared {
    pub path: PathBuf,
    pub written_seq: AtomicU64,
    pub synced_seq: AtomicU64,
    pub counts: Mutex<Counts>,
    /// The first failure of any kind.
    pub fault: OnceLock<LogError>,
    /// Durability failed, or the log was removed: nothing says any more what the disk has.
    unsealable: AtomicBool,
    dirty: AtomicBool,
    stop_sync: AtomicBool,
}

impl Shared {
    /// Of a log that stands as `log` says.
    pub fn of(path: &Path, log: &LogWriter<File>) -> Self {
        Self {
            path: path.to_owned(),
            written_seq: AtomicU64::new(log.written_seq()),
            synced_seq: AtomicU64::new(log.written_seq()),
            counts: Mutex::new(log.counts()),
            fault: OnceLock::new(),
            unsealable: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            stop_sync: AtomicBool::new(false),
        }
    }

    /// Keeps a failure, and the first one for ever.
    pub fn fail(&self, act: LogAct, error: &io::Error) -> LogError {
        let fault = LogError::new(act, &self.path, error, self.written_seq.load(Ordering::Acquire));
        if matches!(act, LogAct::Sync | LogAct::Keep) {
            self.unsealable.store(true, Ordering::Release);
        }
        self.fault.get_or_init(|| fault.clone());
        fault
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

/// Who signs and keeps the heads of a log.
pub(super) struct Attested {
    pub signer: Option<SigningKey>,
    pub anchor: Option<Anchor>,
    /// Where it says at the end what became of them.
    pub anchored: Arc<OnceLock<AnchorReport>>,
}

/// The thread that writes.
pub(super) struct WriterThread {
    log: LogWriter<File>,
    file: File,
    settings: RecordSettings,
    shared: Arc<Shared>,
    checkpoint: Due,
    signer: Option<SigningKey>,
    anchor: Option<Anchor>,
    anchored: Arc<OnceLock<AnchorReport>>,
    /// Where batches go that are written, to be filled again.
    spent: Sender<LineBatch>,
}

/// Memory of a batch that is worth keeping, in bytes. One with a huge line is not.
const KEPT: usize = 4 << 20;

impl WriterThread {
    /// Writes `log` into `file`, and gives batches back to `spent`.
    pub fn new(
        log: LogWriter<File>,
        file: File,
        settings: RecordSettings,
        shared: Arc<Shared>,
        attested: Attested,
        spent: Sender<LineBatch>,
    ) -> Self {
        let Attested { signer, anchor, anchored } = attested;
        let checkpoint = Due::new(settings.checkpoints, signer.is_some() || anchor.is_some());
        Self { log, file, settings, shared, checkpoint, signer, anchor, anchored, spent }
    }

    /// Works off what is asked for, until the seal or until nobody asks any more.
    pub fn run(mut self, requests: &Receiver<Request>) {
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
                Ok(Request::Append(mut batch)) => {
                    self.append(&batch);
                    if batch.bytes() <= KEPT {
                        batch.clear();
                        // Where nobody wants it any more it is of no use.
                        let _ = self.spent.send(batch);
                    }
                }
                Ok(Request::Flush(answer)) => {
                    let flushed = self.append_part(std::iter::empty()).map(|()| self.log.written_seq());
                    let _ = answer.send(flushed);
                }
                Ok(Request::Seal(end, answer)) => {
                    let sealed = self.seal(&end);
                    let _ = answer.send(sealed);
                    break;
                }
                Err(RecvTimeoutError::Timeout) => _ = self.append_part(std::iter::empty()),
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
    fn append(&mut self, batch: &LineBatch) {
        let mut lines = batch.lines();
        loop {
            let room = self.checkpoint.room(self.log.position().seq);
            // What comes behind a failure is counted as lost there.
            let _ = self.append_part(lines.by_ref().take(room));
            // Of a record that has ended nobody takes any more.
            if lines.len() == 0 || self.has_stopped() {
                return;
            }
            if self.checkpoint.within(self.log.position().seq) == Some(Duration::ZERO) {
                self.checkpoint();
            }
        }
    }

    fn append_part<'b>(&mut self, lines: impl Iterator<Item = Line<'b>>) -> Result<(), LogError> {
        if let Some(fault) = self.shared.fault.get().filter(|_| self.has_stopped()) {
            return Err(fault.clone());
        }
        let mut written = self.log.append_lines(lines).map_err(|e| (LogAct::Write, e));
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
        self.look_for_name()
            .and_then(|()| self.is_its_name())
            .map_err(|error| self.shared.fail(LogAct::Keep, &error))?;
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

    /// Whether the log's name still means this file: what readers find is to be what is sealed.
    fn is_its_name(&self) -> io::Result<()> {
        let (written, found) = (rustix::fs::fstat(&self.file)?, rustix::fs::lstat(&self.shared.path)?);
        if (written.st_dev, written.st_ino) != (found.st_dev, found.st_ino) {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        Ok(())
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
