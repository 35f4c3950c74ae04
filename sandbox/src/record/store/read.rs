//! Reading what lies in a store that somebody else may write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a file for reading if it is a regular one: whoever put a pipe or a device in its place would let the
/// reader wait, or read, for ever.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // A pipe without a writer would hold up the open itself. For a regular file the flag means nothing.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    regular(file)
}

/// The same of the file `name` in a directory, where a link is not followed.
pub(crate) fn open_regular_at(directory: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    regular(File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?))
}

/// The file, if it is a regular one.
pub(super) fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}
