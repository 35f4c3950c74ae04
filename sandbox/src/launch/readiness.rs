//! Waiting for descriptors in the collector's event loop.

use std::io;
use std::os::fd::BorrowedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness to be read the event loop watches, for as long as it is borrowed. Call it
/// inside a runtime.
pub fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open, and the same file, for longer than the AsyncFd can live.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
