//! Descriptors that were opened outside of the run's own mounts, opened again inside.
//!
//! A descriptor keeps the mount that it was opened by. Through `/proc/self/fd/0` a file is opened again, executed, or, of a
//! directory, anything above and below it reached, all by that mount: as if nothing had been laid over it. So what leads
//! round a cover is opened by its path once more, behind the covers, and takes the place of the first.
//!
//! Which descriptors that is about is not decided here. The new one begins where the first stood, and goes on apart from it:
//! a file's position is no longer shared with whoever else has the first.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

/// A descriptor, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    descriptor: RawFd,
    #[serde(with = "super::wire::path")]
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

/// What of a descriptor's flags the new one has too.
const SAME: OFlag = OFlag::O_ACCMODE
    .union(OFlag::O_APPEND)
    .union(OFlag::O_DIRECT)
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_DSYNC)
    .union(OFlag::O_LARGEFILE)
    .union(OFlag::O_NOATIME)
    .union(OFlag::O_SYNC);

impl Stream {
    /// The descriptor with this number, which leads to the file at `path` (absolute, without symbolic links), known by
    /// device and inode.
    pub fn new(descriptor: RawFd, path: PathBuf, file: (u64, u64)) -> Stream {
        Stream { descriptor, path, file }
    }

    /// What it leads to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the same file, opened by its path now, in the descriptor's place.
    ///
    /// # Errors
    /// The path leads to another file here, or may not be opened so; the descriptor is as it was, and the command must not
    /// have it.
    pub(super) fn open_again(&self) -> io::Result<()> {
        // SAFETY: it only has to be open while this function looks at it, and nothing closes it meanwhile; where it is not
        // open, each call says so.
        let first = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        let flags = OFlag::from_bits_retain(fcntl(first, FcntlArg::F_GETFL)?);
        let handle = flags.contains(OFlag::O_PATH);
        let how = match handle {
            true => OFlag::O_PATH | OFlag::O_NOFOLLOW,
            // Nobody waits for the other end of a named pipe, and no terminal becomes this process's.
            false => flags.intersection(SAME) | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
        };
        let how = OFlags::from_bits_retain((how | OFlag::O_CLOEXEC).bits().cast_unsigned());
        let again: OwnedFd =
            rustix::fs::openat2(CWD, &self.path, how, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        let found = fstat(&again)?;
        if (found.st_dev, found.st_ino) != self.file {
            return Err(io::Error::other("another file has this path inside"));
        }
        if !handle {
            let position = nix::unistd::lseek(first, 0, nix::unistd::Whence::SeekCur);
            if let Ok(position) = position {
                nix::unistd::lseek(&again, position, nix::unistd::Whence::SeekSet)?;
            }
            fcntl(&again, FcntlArg::F_SETFL(flags))?;
        }
        // SAFETY: both are integers; what stood there is given up on purpose, and whoever uses the number goes on with the
        // same file.
        if unsafe { libc::dup2(again.as_raw_fd(), self.descriptor) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn stream(descriptor: &impl AsFd, path: &Path, like: &Path) -> Stream {
        let found = fs::metadata(like).unwrap();
        Stream::new(descriptor.as_fd().as_raw_fd(), path.to_owned(), (found.dev(), found.ino()))
    }

    fn flags(descriptor: &impl AsFd) -> OFlag {
        OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL).unwrap())
    }

    #[test]
    fn the_same_file_goes_on_where_it_stood() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        let path = top.join("file");
        fs::write(&path, "one two").unwrap();
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();
        let before = flags(&file);
        stream(&file, &path, &path).open_again().unwrap();
        assert_eq!(flags(&file), before);
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two");

        let mut log = File::options().append(true).open(&path).unwrap();
        let before = flags(&log);
        stream(&log, &path, &path).open_again().unwrap();
        assert_eq!(flags(&log), before);
        log.write_all(b" three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two three");

        let directory = File::open(&top).unwrap();
        stream(&directory, &top, &top).open_again().unwrap();
        assert!(directory.metadata().unwrap().is_dir());
        let handle = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        stream(&handle, &path, &path).open_again().unwrap();
        assert!(flags(&handle).contains(OFlag::O_PATH));
    }

    #[test]
    fn nobody_waits_for_the_other_end_of_a_pipe() {
        let place = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(place.path()).unwrap().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = File::options().read(true).write(true).open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        drop(pipe);
        let before = flags(&reader);
        stream(&reader, &path, &path).open_again().unwrap();
        assert_eq!(flags(&reader), before);
    }

    #[test]
    fn what_is_another_file_by_now_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        for name in ["first", "second"] {
            fs::write(top.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("first", top.join("link")).unwrap();
        let mut file = File::open(top.join("first")).unwrap();
        let again = |path: &str| stream(&file, &top.join(path), &top.join("first")).open_again();
        assert_eq!(again("second").unwrap_err().to_string(), "another file has this path inside");
        assert_eq!(again("link").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(again("none").unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first", "it is as it was");
    }
}
