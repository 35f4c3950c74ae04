//! Reading what lies in a store that somebody else may write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file for reading if it is a regular one: whoever put a pipe or a device in its place would let the
/// reader wait, or read, for ever.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // A pipe without a writer would hold up the open itself. For a regular file the flag means nothing.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}
