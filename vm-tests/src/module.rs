//! Modules of the kernel that an image has in /vm, loaded inside.

use anyhow::{Context, Result};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Loads one, unless it is there: a trial before may have come no further.
///
/// # Errors
/// The image has none, or the kernel does not take it.
pub fn load(name: &str) -> Result<()> {
    let path = format!("/vm/{name}.ko");
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    // SAFETY: the descriptor is open, and the string of parameters is empty and ends.
    let loaded = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    let error = io::Error::last_os_error();
    if loaded == 0 || error.raw_os_error() == Some(libc::EEXIST) {
        return Ok(());
    }
    Err(error).with_context(|| format!("cannot load {path}"))
}
