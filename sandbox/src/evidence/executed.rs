//! SHA-256 of what was executed.
//!
//! ```text
//! exec ──▶ opener (opens, compares, hashes what is small) ──▶ exe_sha256 beside the exec
//!              └──▶ hasher (what is large) ──▶ a file_hash event behind it
//! ```
//!
//! The pipeline touches no file: one that lies on a file system of the run's own making might never answer. It waits for
//! the opener for a moment, and for nobody where the opener is held up.
//!
//! It is the executed file or none. While the process lives, `/proc/PID/exe` is that file, whatever has its name. Later
//! the name must lead to the same inode, and nothing about it may have changed since the exec.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::{self, Identity, Missing};
use crate::event::{Event, EventType, Key, ProcId, Value};
use crate::launch::process::Stat;
use crate::record::runner_event;

/// The largest executable that is hashed.
pub const SIZE_MAX: u64 = 512 << 20;

/// Files up to this size are hashed at once: it takes less than a millisecond.
const SMALL: u64 = 128 << 10;

/// How long an exec waits for its hash.
const MOMENT: Duration = Duration::from_millis(5);

/// Execs whose file has not been opened yet.
const JOBS: usize = 1024;

/// Files that are held open to be hashed.
const LARGE: usize = 64;

/// Hashes that are remembered.
const REMEMBERED: usize = 16_384;

/// An exec whose hash is not known yet.
#[derive(Clone, Debug)]
struct Executed {
    exe: Vec<u8>,
    ino: u64,
    dev: u64,
    process: ProcId,
    kseq: u64,
    wall_ns: i64,
}

/// What became of one.
type Outcome = Result<Known, Missing>;

#[derive(Clone, Copy, Debug)]
struct Known {
    sha256: [u8; 32],
    size: u64,
}

struct Job {
    id: u64,
    executed: Executed,
}

enum Answer {
    /// The opener's word; there is one for each job.
    Opened(u64, Outcome),
    /// The hasher's, where the opener's was that it follows.
    Hashed(u64, Outcome),
}

/// Hashes of the executables of one run.
#[derive(Debug)]
pub struct Hashes {
    jobs: Option<SyncSender<Job>>,
    answers: Receiver<Answer>,
    stop: Arc<AtomicBool>,
    waiting: HashMap<u64, Executed>,
    next: u64,
    /// Jobs of which the opener has said nothing yet.
    unopened: usize,
    /// The opener is held up: nobody waits for it until it has caught up.
    held_up: bool,
    events: Vec<Event>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job {}", self.id)
    }
}

impl Hashes {
    /// Starts the two threads. Where they cannot be started, each exec says so.
    pub fn start() -> Hashes {
        let (answer, answers) = channel();
        let (jobs, receive) = sync_channel(JOBS);
        let stop = Arc::new(AtomicBool::new(false));
        let started = start_threads(receive, answer, &stop);
        Hashes {
            jobs: started.ok().map(|()| jobs),
            answers,
            stop,
            waiting: HashMap::new(),
            next: 0,
            unopened: 0,
            held_up: false,
            events: Vec::new(),
        }
    }

    /// Adds its executable's hash to an exec that succeeded, or why it is missing.
    pub fn add(&mut self, event: &mut Event) {
        let Some(executed) = executed(event) else { return };
        match self.ask(executed) {
            Ok(known) => event.set(Key::ExeSha256, Value::Bytes(file::hex(&known.sha256))),
            Err(missing) => event.set(Key::ExeSha256Missing, Value::Bytes(missing.reason().into())),
        }
    }

    /// The hashes that have become known since, each an event.
    pub fn take(&mut self) -> Vec<Event> {
        while let Ok(answer) = self.answers.try_recv() {
            self.hear(answer, None);
        }
        std::mem::take(&mut self.events)
    }

    /// Waits for what is not known yet, at most so long; after that it stays unknown, and is told so.
    pub fn finish(&mut self, patience: Duration) -> Vec<Event> {
        let end = Instant::now() + patience;
        while !self.waiting.is_empty() {
            match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => _ = self.hear(answer, None),
                Err(_) => break,
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        let mut left: Vec<_> = self.waiting.drain().collect();
        left.sort_unstable_by_key(|(id, _)| *id);
        self.events.extend(left.into_iter().map(|(_, executed)| told(executed, Err(Missing::RunEnded))));
        std::mem::take(&mut self.events)
    }

    fn ask(&mut self, executed: Executed) -> Outcome {
        let Some(jobs) = &self.jobs else { return Err(Missing::NoThread) };
        let id = self.next;
        self.next += 1;
        if jobs.try_send(Job { id, executed: executed.clone() }).is_err() {
            return Err(Missing::TooMany);
        }
        self.waiting.insert(id, executed);
        self.unopened += 1;
        let end = Instant::now() + MOMENT;
        while !self.held_up {
            match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => {
                    if let Some(outcome) = self.hear(answer, Some(id)) {
                        return outcome;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.held_up = true,
                Err(RecvTimeoutError::Disconnected) => {
                    self.waiting.remove(&id);
                    return Err(Missing::NoThread);
                }
            }
        }
        Err(Missing::Follows)
    }

    /// Takes an answer; gives it back if it is about `asked`, else it becomes an event.
    fn hear(&mut self, answer: Answer, asked: Option<u64>) -> Option<Outcome> {
        let (id, outcome) = match answer {
            Answer::Opened(id, outcome) => {
                self.unopened = self.unopened.saturating_sub(1);
                self.held_up &= self.unopened > 0;
                (id, outcome)
            }
            Answer::Hashed(id, outcome) => (id, outcome),
        };
        if matches!(outcome, Err(Missing::Follows)) {
            return (asked == Some(id)).then_some(outcome);
        }
        let executed = self.waiting.remove(&id)?;
        if asked == Some(id) {
            return Some(outcome);
        }
        self.events.push(told(executed, outcome));
        None
    }
}

impl Drop for Hashes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn executed(event: &Event) -> Option<Executed> {
    if event.event_type != EventType::Exec || !matches!(event.get(Key::Ret), Some(Value::Int(0))) {
        return None;
    }
    let number = |key| match event.get(key) {
        Some(Value::Uint(number)) => Some(*number),
        _ => None,
    };
    let exe = match event.get(Key::Exe) {
        Some(Value::Bytes(exe)) => exe.clone(),
        _ => Vec::new(),
    };
    Some(Executed {
        exe,
        ino: number(Key::ExeIno)?,
        dev: number(Key::ExeDev)?,
        process: event.process,
        kseq: event.kseq,
        wall_ns: event.wall_ns,
    })
}

/// The event of a hash that came after its exec.
fn told(executed: Executed, outcome: Outcome) -> Event {
    let mut event = runner_event(EventType::FileHash, executed.process);
    event.details = vec![
        (Key::Path, Value::Bytes(executed.exe)),
        (Key::Ino, Value::Uint(executed.ino)),
        (Key::Dev, Value::Uint(executed.dev)),
        (Key::ExecKseq, Value::Uint(executed.kseq)),
    ];
    match outcome {
        Ok(Known { sha256, size }) => {
            event.set(Key::Sha256, Value::Bytes(file::hex(&sha256)));
            event.set(Key::Size, Value::Uint(size));
        }
        Err(missing) => event.set(Key::Sha256Missing, Value::Bytes(missing.reason().into())),
    }
    event
}

type Cache = Arc<Mutex<HashMap<Identity, [u8; 32]>>>;

fn remember(cache: &Cache, identity: Identity, sha256: [u8; 32]) {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= REMEMBERED {
        cache.clear();
    }
    cache.insert(identity, sha256);
}

fn remembered(cache: &Cache, identity: Identity) -> Option<Known> {
    let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.get(&identity).map(|sha256| Known { sha256: *sha256, size: identity.size })
}

fn start_threads(jobs: Receiver<Job>, answer: Sender<Answer>, stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    let cache = Cache::default();
    let (large, receive) = sync_channel::<(u64, File, Identity)>(LARGE);
    let hasher = (answer.clone(), Arc::clone(&cache), Arc::clone(stop));
    thread::Builder::new().name("exe-hash".into()).spawn(move || {
        let (answer, cache, stop) = hasher;
        while let Ok((id, file, identity)) = receive.recv() {
            let outcome = hashed(&file, identity, &cache, &stop);
            if answer.send(Answer::Hashed(id, outcome)).is_err() {
                return;
            }
        }
    })?;
    let stop = Arc::clone(stop);
    thread::Builder::new().name("exe-open".into()).spawn(move || {
        while let Ok(Job { id, executed }) = jobs.recv() {
            let outcome = match open(&executed) {
                Err(missing) => Err(missing),
                Ok((_, identity)) if identity.size > SIZE_MAX => Err(Missing::TooLarge),
                Ok((file, identity)) => match remembered(&cache, identity) {
                    Some(known) => Ok(known),
                    None if identity.size <= SMALL => hashed(&file, identity, &cache, &stop),
                    // The word that it follows goes first: the hasher may be quicker than this thread.
                    None => {
                        if answer.send(Answer::Opened(id, Err(Missing::Follows))).is_err() {
                            return;
                        }
                        if large.try_send((id, file, identity)).is_err() {
                            let _ = answer.send(Answer::Hashed(id, Err(Missing::TooMany)));
                        }
                        continue;
                    }
                },
            };
            if answer.send(Answer::Opened(id, outcome)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn hashed(file: &File, identity: Identity, cache: &Cache, stop: &AtomicBool) -> Outcome {
    if let Some(known) = remembered(cache, identity) {
        return Ok(known);
    }
    let sha256 = file::hash(file, identity, stop)?;
    remember(cache, identity, sha256);
    Ok(Known { sha256, size: identity.size })
}

/// Opens the file that was executed, and no other.
fn open(executed: &Executed) -> Result<(File, Identity), Missing> {
    if let Some(found) = open_running(executed) {
        return Ok(found);
    }
    if executed.exe.first() != Some(&b'/') {
        return Err(Missing::Gone);
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(&executed.exe));
    let (file, identity) = file::open_regular(path)?;
    let same = (identity.ino, identity.dev) == (executed.ino, executed.dev);
    // Nothing sets this time but a change: where there was one since, what was executed is not known.
    if !same || identity.ctime_ns > executed.wall_ns {
        return Err(Missing::Changed);
    }
    Ok((file, identity))
}

/// The file of a process that still runs it. The kernel lets nobody write to it meanwhile.
fn open_running(executed: &Executed) -> Option<(File, Identity)> {
    let link = format!("/proc/{}/exe", executed.process.pid);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&link).ok()?;
    let about = file.metadata().ok()?;
    let identity = Identity::of(&about);
    // Subvolumes of btrfs have a device of their own for stat(2) only; then the name must be the same.
    let same_device = || {
        identity.dev == executed.dev
            || std::fs::read_link(&link).is_ok_and(|to| to.as_os_str().as_bytes() == executed.exe)
    };
    let same = about.is_file() && identity.ino == executed.ino && same_device();
    // Asked last: a process with this start that still has the file had it all the time.
    (same && Stat::of(executed.process.pid).is_some_and(|stat| stat.started_at(executed.process.start_ns)))
        .then_some((file, identity))
}
