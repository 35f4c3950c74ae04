//! How a run that is being written is told from one that crashed: by locks (flock(2)) that end with their holder.
//!
//! The recorder holds two. `.lock` can be opened by itself and root alone, so that nobody else can hold it: that one decides.
//! The log is locked too, for those who may only read the record; whoever may read it can lock it as well, and so make them
//! believe that it goes on, but nobody who acts on it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::recorder::LOG;
use super::store::{RunDir, open_regular};

/// What decides, in the run's directory.
const LOCK: &str = ".lock";

/// How long to wait for those who only look: each takes microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often to look whether others are done.
const LOOK: Duration = Duration::from_millis(1);

/// That a run is being written, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    own: File,
    log: File,
}

impl Drop for Held {
    /// Closing alone leaves the lock with whoever was forked meanwhile, until it executes something or ends.
    fn drop(&mut self) {
        for file in [&self.own, &self.log] {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

impl Held {
    /// Takes both locks of a new run, whose log this is.
    ///
    /// # Errors
    /// The first cannot be taken. That of the log can be held by any reader, and then is done without.
    pub fn take(directory: &RunDir, log: &File) -> io::Result<Self> {
        let own = directory.lock_file(LOCK)?;
        if !lock(&own, PATIENCE)? {
            return Err(Errno::WOULDBLOCK.into());
        }
        let log = log.try_clone()?;
        lock(&log, PATIENCE)?;
        Ok(Self { own, log })
    }
}

/// Locks a file for oneself; false where somebody else holds it for longer than `patience`.
pub(super) fn lock(file: &File, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOOK),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a recorder holds the lock of a run: until the run's end is in the ledger.
pub fn is_being_written(directory: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory.join(LOCK), flags, Mode::empty()) {
        Ok(own) => File::from(own),
        Err(_) => match open_regular(&directory.join(LOG)) {
            Ok(log) => log,
            Err(_) => return false,
        },
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordSettings;
    use crate::record::recorder::tests::begin;

    #[test]
    fn readers_neither_stop_a_run_nor_make_one_seem_to_go_on() {
        let home = tempfile::tempdir().unwrap();
        let recorder = begin(home.path(), RecordSettings::default());
        let directory = recorder.dir().path().to_owned();
        assert!(is_being_written(&directory));
        drop(recorder);
        assert!(!is_being_written(&directory));
        let reader = File::open(directory.join(LOG)).unwrap();
        rustix::fs::flock(&reader, FlockOperation::LockExclusive).unwrap();
        assert!(!is_being_written(&directory), "the lock of a reader counts for nothing");
        use std::os::unix::fs::PermissionsExt;
        let mode = directory.join(LOCK).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_log_that_somebody_looks_at_is_begun_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let store =
            crate::record::store::StoreDir::open(&crate::record::made_up::place(home.path())).unwrap();
        let name = crate::record::store::RunName::new(1_763_688_205_000_000_007, b"test");
        let directory = RunDir::create_in(&store, &name).unwrap();
        let log = directory.create_file(LOG).unwrap();
        let reader = File::open(directory.path().join(LOG)).unwrap();
        rustix::fs::flock(&reader, FlockOperation::LockShared).unwrap();
        let held = Held::take(&directory, &log).unwrap();
        assert!(is_being_written(directory.path()));
        drop(held);
        assert!(!is_being_written(directory.path()));
    }
}
