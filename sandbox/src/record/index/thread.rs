//! The index of a run that goes on: a thread that follows the log.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::build::{Advance, Audience, Builder, reindex_in};
use super::place::is_shared;
use super::{FILE, IndexError};
use crate::record::recorder::LOG;
use crate::record::store::RunDir;

/// How often the log is looked at when nothing new was there.
const LOOK: Duration = Duration::from_millis(100);

/// Follows a log and indexes it, at the lowest priority: the command and the writer come first. When the log is
/// finished somebody waits for the index, and its priority is that of the others again.
///
/// Where somebody else could change the directories on the way to the index, root makes it when the log is finished
/// (see [`super::place`]).
#[derive(Debug)]
pub struct Indexer {
    stop: Sender<Infallible>,
    thread: JoinHandle<Result<u64, IndexError>>,
    path: PathBuf,
}

impl Indexer {
    /// Makes an empty index beside the log, and starts to follow.
    pub fn start(dir: &RunDir) -> Result<Self, IndexError> {
        let path = dir.path().join(FILE);
        let (stop, stopped) = channel();
        let run_dir = dir.path().to_owned();
        // By a descriptor of its own: what locks it then is this thread.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::openat(dir.as_fd(), ".", flags, Mode::empty())
            .map_err(|error| IndexError::io("open", &run_dir)(error.into()))?;
        let held = File::from(held);
        let user = rustix::process::geteuid().as_raw();
        let shared = is_shared(&held, user).map_err(IndexError::io("look at", &run_dir))?;
        let builder = if shared { None } else { Some(begin(dir)?) };
        let thread = thread::Builder::new()
            .name("record-index".into())
            .spawn(move || {
                let Some(builder) = builder else {
                    // Nobody sends anything: it ends when the log is finished.
                    let _ = stopped.recv();
                    return reindex_in(held, &run_dir);
                };
                follow(builder, &stopped).or_else(|error| match error {
                    // A reader that will not let go of the file, or a full disk that has room again: one more
                    // attempt, into a file of its own.
                    IndexError::Sqlite { .. } => reindex_in(held, &run_dir),
                    other => Err(other),
                })
            })
            .map_err(IndexError::io("start a thread for", &path))?;
        Ok(Self { stop, thread, path })
    }

    /// Says that the log is finished; waits until the index is, and returns its number of rows.
    pub fn finish(self) -> Result<u64, IndexError> {
        // Dropping the sender says it; whether the thread waits or has ended, the answer is its result.
        let Self { stop, thread, path } = self;
        drop(stop);
        thread.join().unwrap_or(Err(IndexError::Thread(path)))
    }
}

/// An empty index beside the log, and what fills it.
fn begin(dir: &RunDir) -> Result<Builder, IndexError> {
    let path = dir.path().join(FILE);
    let log = dir.path().join(LOG);
    // Made here, so that the mode is right from the first moment.
    dir.create_file(FILE).map_err(IndexError::io("create", &path))?;
    let log_file = dir.open_file(LOG).map_err(IndexError::io("open", &log))?;
    Builder::new(&path, &log, log_file, Audience::Readers)
}

fn follow(mut builder: Builder, stopped: &Receiver<Infallible>) -> Result<u64, IndexError> {
    let usual = rustix::process::getpriority_process(None).unwrap_or(0);
    // Where the priority cannot be lowered the index is only less polite.
    let _ = rustix::process::setpriority_process(None, 19);
    let followed = loop {
        let finished = match builder.advance() {
            Err(error) => break Err(error),
            // Who holds the index holds up nothing but the index.
            Ok(Advance::UpToDate | Advance::Held) => match stopped.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Ok(never) => match never {},
            },
            Ok(Advance::Added) => matches!(stopped.try_recv(), Err(TryRecvError::Disconnected)),
        };
        if finished {
            // Where it cannot be raised again the wait is longer.
            let _ = rustix::process::setpriority_process(None, usual);
            break builder.finish();
        }
    };
    if followed.is_err() {
        // Making it again makes sense only when the log is finished.
        let _ = stopped.recv();
    }
    followed
}
