//! A page that the collector and the guardian share: which call the supervisor took last, and how many calls went on
//! without it.
//!
//! A call that was taken by a supervisor which then died waits for an answer that nobody else knows how to give: its
//! number stands here. Numbers go up by one, so the one after the last that was written is all that a death between
//! taking and writing can have left.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::MemfdFlags;

const SIZE: usize = 4096;

/// The shared page.
#[derive(Debug)]
pub struct Flight {
    file: OwnedFd,
    memory: NonNull<AtomicU64>,
}

// SAFETY: the mapping belongs to the value, stays where it is, and is only used as atomics.
unsafe impl Send for Flight {}
// SAFETY: as above.
unsafe impl Sync for Flight {}

impl Flight {
    /// A new one.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new() -> io::Result<Flight> {
        let file = rustix::fs::memfd_create("sandbox-flight", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, SIZE as u64)?;
        Flight::of(file)
    }

    /// The one behind a descriptor that came from [`Flight::as_fd`].
    ///
    /// # Errors
    /// It is too short for one, or cannot be mapped.
    pub fn of(file: OwnedFd) -> io::Result<Flight> {
        let file = File::from(file);
        if file.metadata()?.len() < SIZE as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice, of a file that is long enough and nobody cuts.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), SIZE, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Flight { file: file.into(), memory })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: both words lie in the page, which is aligned and mapped as long as `self` lives.
        unsafe { &*self.memory.as_ptr().add(index) }
    }

    /// This call was taken.
    pub fn took(&self, id: u64) {
        self.word(0).store(id, Ordering::Release);
    }

    /// The call that was taken last.
    pub fn last(&self) -> u64 {
        self.word(0).load(Ordering::Acquire)
    }

    /// A call went on unrecorded.
    pub fn passed(&self) {
        self.word(1).fetch_add(1, Ordering::AcqRel);
    }

    /// How many did.
    pub fn unrecorded(&self) -> u64 {
        self.word(1).load(Ordering::Acquire)
    }
}

impl AsFd for Flight {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_numbers() {
        let one = Flight::new().unwrap();
        let other = Flight::of(one.as_fd().try_clone_to_owned().unwrap()).unwrap();
        one.took(u64::MAX - 1);
        other.passed();
        assert_eq!((other.last(), one.unrecorded()), (u64::MAX - 1, 1));
        let short = rustix::fs::memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
        assert!(Flight::of(short).is_err());
    }
}
