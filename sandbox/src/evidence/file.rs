//! One file: opened as what it is said to be or not at all, and hashed as it stands.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Read at once.
const CHUNK: usize = 256 << 10;

/// Why a hash is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No file has the name any more.
    Gone,
    /// It is another file, or was written to since.
    Changed,
    /// It is larger than what is hashed.
    TooLarge,
    /// It cannot be read.
    Unreadable,
    /// It is no regular file.
    NotRegular,
    /// More files wait than can be held open.
    TooMany,
    /// There was no time before the end of the run.
    RunEnded,
    /// Nothing could be started that hashes.
    NoThread,
    /// It is known later, and told in an event of its own.
    Follows,
    /// It was not looked at before the run.
    NotBelow,
    /// There was no such file before the run.
    New,
    /// A symbolic link leads to it, which was not followed.
    BehindLink,
    /// It lies where the run had a place of its own, which is gone with it.
    OwnPlace,
}

impl Missing {
    /// The reason in the log.
    pub fn reason(self) -> &'static str {
        match self {
            Missing::Gone => "gone",
            Missing::Changed => "changed",
            Missing::TooLarge => "too large",
            Missing::Unreadable => "not readable",
            Missing::NotRegular => "not a regular file",
            Missing::TooMany => "too many files wait",
            Missing::RunEnded => "the run ended first",
            Missing::NoThread => "no thread could be started",
            Missing::Follows => "follows",
            Missing::NotBelow => "not below the workspace",
            Missing::New => "did not exist",
            Missing::BehindLink => "behind a symbolic link",
            Missing::OwnPlace => "in a place of the run's own",
        }
    }

    /// What an error of a call on a path means.
    pub fn of(error: &io::Error) -> Missing {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Missing::Gone,
            Some(libc::ELOOP | libc::ENXIO) => Missing::NotRegular,
            _ => Missing::Unreadable,
        }
    }
}

/// One state of one file: what has the same identity has the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device, as stat(2) has it.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the contents, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of anything, nanoseconds since 1970: no call sets this one.
    pub ctime_ns: i64,
}

impl Identity {
    /// That of an open file.
    pub fn of(about: &Metadata) -> Identity {
        let ns = |seconds: i64, nanoseconds: i64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Identity {
            dev: about.dev(),
            ino: about.ino(),
            size: about.size(),
            mtime_ns: ns(about.mtime(), about.mtime_nsec()),
            ctime_ns: ns(about.ctime(), about.ctime_nsec()),
        }
    }
}

/// Opens a regular file for reading. No symbolic link is followed, at the end or on the way: the run may have put it there for
/// whoever may read more than it. What is no regular file is never opened, since that alone can wait for ever or do something.
pub fn open_regular(path: &Path) -> Result<(File, Identity), Missing> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(place) => File::from(place),
        // One at the end is opened itself: it was on the way.
        Err(Errno::LOOP) => return Err(Missing::BehindLink),
        Err(error) => return Err(Missing::of(&error.into())),
    };
    let about = place.metadata().map_err(|error| Missing::of(&error))?;
    if !about.is_file() {
        return Err(Missing::NotRegular);
    }
    // The very file, whatever has its name by now.
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(again)
        .map_err(|_| Missing::Unreadable)?;
    let about = file.metadata().map_err(|_| Missing::Unreadable)?;
    Ok((file, Identity::of(&about)))
}

/// SHA-256 of an open file, which must stay what it is meanwhile.
pub fn hash(file: &File, identity: Identity, stop: &AtomicBool) -> Result<[u8; 32], Missing> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK.min(usize::try_from(identity.size).unwrap_or(CHUNK)).max(1)];
    let mut at = 0;
    while at < identity.size {
        if stop.load(Ordering::Relaxed) {
            return Err(Missing::RunEnded);
        }
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Err(Missing::Changed),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Missing::Unreadable),
        }
    }
    let now = file.metadata().map_err(|_| Missing::Unreadable)?;
    // Another name, or none, changes the time of change, but nothing in the file.
    let now = Identity { ctime_ns: identity.ctime_ns, ..Identity::of(&now) };
    if now != identity || at != identity.size {
        return Err(Missing::Changed);
    }
    Ok(hasher.finalize().into())
}

/// Digits of a hash as the log has them.
pub fn hex(hash: &[u8; 32]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    hash.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_their_hash_is_the_usual_one() {
        let directory = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        let (file, identity) = open_regular(&path).unwrap();
        let never = AtomicBool::new(false);
        let digits = hex(&hash(&file, identity, &never).unwrap());
        assert_eq!(digits, b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        std::fs::write(&path, b"abcd").unwrap();
        assert_eq!(hash(&file, identity, &never), Err(Missing::Changed), "it grew");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(&path, directory.path().join("link")).unwrap();
        let missing = |name: &str| open_regular(&directory.path().join(name)).map(drop).unwrap_err();
        assert_eq!(missing("fifo"), Missing::NotRegular);
        assert_eq!(missing("link"), Missing::NotRegular);
        assert_eq!(missing("."), Missing::NotRegular);
        assert_eq!(missing("none"), Missing::Gone);
        assert_eq!(missing("file/none"), Missing::Gone);
        std::os::unix::fs::symlink(directory.path(), directory.path().join("way")).unwrap();
        assert_eq!(missing("way/file"), Missing::BehindLink, "who may read more than the run is not led on");
    }

    #[test]
    fn a_large_file_is_not_hashed_to_its_end_when_the_run_ends() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        let identity = Identity::of(&file.metadata().unwrap());
        assert_eq!(hash(&file, identity, &AtomicBool::new(true)), Err(Missing::RunEnded));
    }
}
