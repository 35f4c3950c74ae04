//! Where an index is made before it gets its name: never where somebody else could put a link in its way.
//!
//! SQLite opens files by name, and whoever may change a directory on the way to one decides where the name leads. Root
//! makes an index of a run that lies in such a directory elsewhere, and copies it into the directory that it holds open.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use super::{FILE, IndexError};
use crate::record::recorder::LOG;
use crate::record::store::{Trust, open_regular_at, trust_above};

/// Where root makes files that are nobody else's matter: sticky directories of root's own.
const OF_ROOT: [&str; 2] = ["/var/tmp", "/tmp"];

/// Who makes the index holds this one, beside it: readers can open the directory, and so lock it, but not this.
const LOCK: &str = ".index.lock";

/// A run's directory, held open and by nobody else, whose index is made again.
#[derive(Debug)]
pub(super) struct Place {
    directory: File,
    _lock: File,
    path: PathBuf,
    elsewhere: Option<TempDir>,
    /// The log, and what the index is to be like.
    log: File,
    like: std::fs::Metadata,
}

/// Where a directory that is held open lies now, whatever has the name by which it was opened.
fn place_of(directory: &File) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Whether somebody who is not `user` could change what lies in a directory, or put another in its place.
pub(super) fn is_shared(directory: &File, user: u32) -> io::Result<bool> {
    if user != 0 {
        // Others could only lead this user to what is this user's already.
        return Ok(false);
    }
    let (about, path) = (directory.metadata()?, place_of(directory)?);
    // It may have been moved or removed meanwhile: only who could do that is of interest.
    let Ok(above) = trust_above(&path, user) else { return Ok(true) };
    let there =
        path.symlink_metadata().is_ok_and(|there| (there.dev(), there.ino()) == (about.dev(), about.ino()));
    Ok(!there || about.uid() != 0 || about.mode() & 0o022 != 0 || above == Trust::UserWritable)
}

impl Place {
    /// Opens a run's directory and its log, and keeps others from making the same index.
    ///
    /// # Errors
    /// Somebody else makes it, there is no log, or there is nowhere to make it.
    pub fn open(run_dir: &Path) -> Result<Self, IndexError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(run_dir, flags, Mode::empty())
            .map_err(|error| IndexError::io("open", run_dir)(error.into()))?;
        Self::of(File::from(directory), run_dir)
    }

    /// The same of a directory that is open; `run_dir` is its name for people.
    pub fn of(directory: File, run_dir: &Path) -> Result<Self, IndexError> {
        let log_path = run_dir.join(LOG);
        let log = open_regular_at(&directory, LOG).map_err(IndexError::io("open", &log_path))?;
        let like = log.metadata().map_err(IndexError::io("look at", &log_path))?;
        let lock_path = run_dir.join(LOCK);
        let lock = open_lock(&directory, &like).map_err(IndexError::io("open", &lock_path))?;
        // With two of them one could put the other's unfinished file in place.
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(IndexError::Busy(run_dir.join(FILE))),
            Err(error) => return Err(IndexError::io("lock", &lock_path)(error.into())),
        }
        let user = rustix::process::geteuid().as_raw();
        let shared = is_shared(&directory, user).map_err(IndexError::io("look at", run_dir))?;
        let elsewhere = if shared {
            Some(of_root().map_err(IndexError::io("make", Path::new(OF_ROOT[0])))?)
        } else {
            None
        };
        Ok(Self { directory, _lock: lock, path: run_dir.to_owned(), elsewhere, log, like })
    }

    /// The log, from its beginning.
    pub fn log(&self) -> Result<File, IndexError> {
        self.log.try_clone().map_err(IndexError::io("open", &self.path.join(LOG)))
    }

    /// Makes the empty file that the index is made in, and gives its name.
    pub fn begin(&self) -> Result<PathBuf, IndexError> {
        if let Some(elsewhere) = &self.elsewhere {
            let path = elsewhere.path().join(FILE);
            File::create_new(&path).map_err(IndexError::io("create", &path))?;
            return Ok(path);
        }
        self.create()?;
        let place = place_of(&self.directory).map_err(IndexError::io("find", &self.path))?;
        Ok(place.join(temporary()))
    }

    /// Puts the finished index in its place, at once.
    pub fn finish(&self) -> Result<(), IndexError> {
        let path = self.path.join(FILE);
        if let Some(elsewhere) = &self.elsewhere {
            let made = elsewhere.path().join(FILE);
            let mut from = File::open(&made).map_err(IndexError::io("open", &made))?;
            let mut into = self.create()?;
            io::copy(&mut from, &mut into).map_err(IndexError::io("write", &path))?;
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            self.remove(&format!("{FILE}{suffix}"))?;
        }
        rustix::fs::renameat(&self.directory, temporary(), &self.directory, FILE)
            .map_err(|error| IndexError::io("put in place", &path)(error.into()))
    }

    /// Removes what was not finished.
    pub fn give_up(&self) {
        // The error that is told is the first one; what is left is removed by the next attempt.
        let _ = self.remove(&temporary());
    }

    /// A new file in the run's directory, the log's owner's and as readable as the log, and not more.
    fn create(&self) -> Result<File, IndexError> {
        let name = temporary();
        let path = self.path.join(&name);
        self.remove(&name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| IndexError::io("create", &path)(error.into()))?;
        let file = File::from(file);
        let made = file.metadata().map_err(IndexError::io("look at", &path))?;
        let like = &self.like;
        // Root may make it for somebody else, who is to read it as the log.
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))
                .map_err(IndexError::io("change the owner of", &path))?;
        }
        file.set_permissions(Permissions::from_mode(like.mode() & 0o660))
            .map_err(IndexError::io("change the mode of", &path))?;
        Ok(file)
    }

    fn remove(&self, name: &str) -> Result<(), IndexError> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(IndexError::io("remove", &self.path.join(name))(error.into())),
        }
    }
}

/// Opens the lock in a run's directory, made where it is missing, for the owner of its log alone.
fn open_lock(directory: &File, like: &std::fs::Metadata) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let new = flags | OFlags::CREATE | OFlags::EXCL;
    match rustix::fs::openat(directory, LOCK, new, Mode::RUSR | Mode::WUSR) {
        Ok(made) => {
            let made = File::from(made);
            // Root may make it for somebody else, who is to make an index as well.
            if made.metadata()?.uid() != like.uid() {
                fchown(&made, Some(like.uid()), Some(like.gid()))?;
            }
            Ok(made)
        }
        Err(Errno::EXIST) => {
            let file = File::from(rustix::fs::openat(directory, LOCK, flags, Mode::empty())?);
            match file.metadata()?.is_file() {
                true => Ok(file),
                false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn temporary() -> String {
    format!(".{FILE}.new")
}

/// A directory that only root can reach, wherever the environment would rather have it.
fn of_root() -> io::Result<TempDir> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for above in OF_ROOT {
        match tempfile::Builder::new().prefix("sandbox-index-").tempdir_in(above) {
            Ok(made) if trust_above(made.path(), 0).is_ok_and(|trust| trust == Trust::RootOwned) => {
                return Ok(made);
            }
            Ok(_) => last = io::Error::other("others may change the directories above it"),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root: to everybody else all directories are as good as their own.
    #[test]
    fn what_others_can_change_is_shared() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let shared = |user| is_shared(&File::open(&run).unwrap(), user).unwrap();
        assert!(!shared(1000));
        if rustix::process::geteuid().is_root() {
            assert!(!shared(0));
            std::fs::set_permissions(&run, Permissions::from_mode(0o777)).unwrap();
            assert!(shared(0), "anybody may write in it");
            std::fs::set_permissions(&run, Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&run, Some(1000), None).unwrap();
            assert!(shared(0), "it is somebody's");
            std::os::unix::fs::chown(&run, Some(0), None).unwrap();
            std::os::unix::fs::chown(home.path(), Some(1000), None).unwrap();
            assert!(shared(0), "somebody may put another in its place");
            // And what has its name by now is root's own.
            let held = File::open(&run).unwrap();
            std::fs::rename(&run, home.path().join("moved")).unwrap();
            std::os::unix::fs::symlink("/root", &run).unwrap();
            assert!(is_shared(&held, 0).unwrap());
            std::fs::remove_dir(home.path().join("moved")).unwrap();
            assert!(is_shared(&held, 0).unwrap(), "it is gone");
        }
    }
}
