//! Reading what a task that waits passed by pointer.
//!
//! Another thread of the task may change it at any moment, also between this and the call itself: what is read here is
//! what the record says, and never a reason to let a call happen or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSliceMut};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

const PAGE: u64 = 4096;

/// How memory of others is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// process_vm_readv(2).
    Call,
    /// /proc/PID/mem, where a filter above the runner refuses the call.
    File,
}

/// Why memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is there: the call will find the same.
    Address,
    /// This process may not look, or cannot: the task is not dumpable, the kernel's settings forbid it, or the memory is
    /// shown to nobody else (memfd_secret(2)).
    Closed,
}

impl Fault {
    fn of(errno: Errno) -> Fault {
        match errno {
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS => Fault::Closed,
            _ => Fault::Address,
        }
    }
}

/// Whether a task has memory at an address that it may use in any way; so too where that cannot be told.
fn maps(tid: u32, address: u64) -> bool {
    let Ok(maps) = File::open(format!("/proc/{tid}/maps")) else { return true };
    for line in BufReader::new(maps).split(b'\n') {
        let Ok(line) = line else { return true };
        // `7f…-7f… rw-p …`
        let mut words = line.split(|byte| *byte == b' ');
        let (range, modes) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut ends = std::str::from_utf8(range).unwrap_or_default().split('-');
        let mut end = || u64::from_str_radix(ends.next().unwrap_or_default(), 16).ok();
        let (Some(from), Some(to)) = (end(), end()) else { return true };
        if (from..to).contains(&address) {
            return modes.iter().take(3).any(|mode| *mode != b'-');
        }
    }
    false
}

/// How a string ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With its NUL.
    Whole,
    /// It is longer than what was asked for.
    Cut,
    /// Behind it nothing can be read.
    Fault(Fault),
}

/// The memory of one task.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The task.
    pub tid: u32,
    /// How it is read.
    pub way: Way,
}

impl Memory {
    /// Fills `buffer` from `address`; gives how much there was before memory ended.
    ///
    /// # Errors
    /// Nothing could be read.
    fn some(self, address: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.read(self.way, address, buffer) {
            // What may only be written is read by the kernel nevertheless, and by /proc/PID/mem; memory without pages of its
            // own (memfd_secret(2), devices) by the kernel alone.
            Err(Fault::Address) if maps(self.tid, address) => {
                self.read(Way::File, address, buffer).map_err(|_| Fault::Closed)
            }
            read => read,
        }
    }

    fn read(self, way: Way, address: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        let read = match way {
            Way::Call => {
                let base = usize::try_from(address).map_err(|_| Fault::Address)?;
                let pid = Pid::from_raw(i32::try_from(self.tid).map_err(|_| Fault::Address)?);
                let remote = [RemoteIoVec { base, len: buffer.len() }];
                process_vm_readv(pid, &mut [IoSliceMut::new(buffer)], &remote)
            }
            Way::File => File::open(format!("/proc/{}/mem", self.tid))
                .and_then(|file| file.read_at(buffer, address))
                .map_err(|error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
        };
        match read {
            Ok(0) => Err(Fault::Address),
            Ok(read) => Ok(read),
            Err(errno) => Err(Fault::of(errno)),
        }
    }

    /// Fills all of `buffer`.
    ///
    /// # Errors
    /// Some of it cannot be read.
    pub fn exact(self, address: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0;
        while done < buffer.len() {
            done += self.some(address.wrapping_add(done as u64), &mut buffer[done..])?;
        }
        Ok(())
    }

    /// A string without its NUL, at most `longest` bytes of it.
    pub fn string(self, address: u64, longest: usize) -> (Vec<u8>, Ended) {
        let mut text = Vec::new();
        while text.len() <= longest {
            let from = address.wrapping_add(text.len() as u64);
            // Page by page: what lies behind a string need not be there.
            let room = (PAGE - from % PAGE) as usize;
            let mut piece = vec![0; room.min(longest + 1 - text.len())];
            match self.some(from, &mut piece) {
                Err(fault) => return (text, Ended::Fault(fault)),
                Ok(read) => piece.truncate(read),
            }
            match piece.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(&piece[..end]);
                    return (text, Ended::Whole);
                }
                None => text.extend_from_slice(&piece),
            }
        }
        text.truncate(longest);
        (text, Ended::Cut)
    }

    /// Words of `size` bytes (4 or 8) from `address` on.
    ///
    /// # Errors
    /// Some of them cannot be read.
    pub fn words<const N: usize>(self, address: u64, size: usize) -> Result<[u64; N], Fault> {
        let mut bytes = [0u8; 128];
        let bytes = bytes.get_mut(..N * size).ok_or(Fault::Address)?;
        self.exact(address, bytes)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(size)) {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(bytes);
            *word = u64::from_le_bytes(wide);
        }
        Ok(words)
    }

    /// Strings that an array of pointers (of `size` bytes) leads to, each ended by NUL, together at most `longest` bytes;
    /// whether that is all of them.
    pub fn strings(self, array: u64, size: usize, longest: usize) -> (Vec<u8>, bool) {
        let mut text = Vec::new();
        let mut place = array;
        if array == 0 {
            // No array is an empty one (execve(2)).
            return (text, true);
        }
        loop {
            let Ok([pointer]) = self.words::<1>(place, size) else { return (text, false) };
            if pointer == 0 {
                return (text, true);
            }
            let Some(left) = longest.checked_sub(text.len() + 1) else { return (text, false) };
            let (string, ended) = self.string(pointer, left);
            text.extend_from_slice(&string);
            if ended != Ended::Whole {
                return (text, false);
            }
            text.push(0);
            place = place.wrapping_add(size as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(way: Way) -> Memory {
        Memory { tid: std::process::id(), way }
    }

    #[test]
    fn strings_end_where_they_end() {
        for way in [Way::Call, Way::File] {
            let text = c"/a/name".to_owned();
            let address = text.as_ptr() as u64;
            assert_eq!(own(way).string(address, 100), (b"/a/name".to_vec(), Ended::Whole));
            assert_eq!(own(way).string(address, 7), (b"/a/name".to_vec(), Ended::Whole));
            assert_eq!(own(way).string(address, 6), (b"/a/nam".to_vec(), Ended::Cut));
            assert_eq!(own(way).string(16, 100), (Vec::new(), Ended::Fault(Fault::Address)));
            assert!(own(way).exact(16, &mut [0; 4]).is_err());
        }
    }

    /// A page of memory of its own; `None` where the kernel gives none.
    fn page(fd: i32, protection: i32, flags: i32) -> Option<u64> {
        // SAFETY: a new mapping, in no memory that is used.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE as usize, protection, flags, fd, 0) };
        (page != libc::MAP_FAILED).then_some(page as u64)
    }

    #[test]
    fn memory_that_only_the_kernel_reads_is_no_fault_of_the_caller() {
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let written = page(-1, libc::PROT_WRITE, anonymous).unwrap();
        // SAFETY: the page was made above, and may be written.
        unsafe { std::ptr::copy_nonoverlapping(c"/a".as_ptr(), written as *mut libc::c_char, 3) };
        assert_eq!(own(Way::Call).string(written, 100), (b"/a".to_vec(), Ended::Whole));
        let closed = page(-1, libc::PROT_NONE, anonymous).unwrap();
        assert_eq!(own(Way::Call).string(closed, 100).1, Ended::Fault(Fault::Address));
        // SAFETY: takes a number and touches no memory.
        let secret = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) };
        let Ok(secret @ 0..) = i32::try_from(secret) else { return };
        // SAFETY: the descriptor was made above.
        assert_eq!(unsafe { libc::ftruncate(secret, PAGE as i64) }, 0);
        let secret = page(secret, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED).unwrap();
        // SAFETY: the page was made above, and may be written.
        unsafe { std::ptr::copy_nonoverlapping(c"/a".as_ptr(), secret as *mut libc::c_char, 3) };
        for way in [Way::Call, Way::File] {
            assert_eq!(own(way).string(secret, 100), (Vec::new(), Ended::Fault(Fault::Closed)));
        }
    }

    #[test]
    fn a_string_over_pages_is_read_whole() {
        let mut long = vec![b'x'; 3 * PAGE as usize];
        long.push(0);
        let (text, ended) = own(Way::Call).string(long.as_ptr() as u64, 4 * PAGE as usize);
        assert_eq!((text.len(), ended), (3 * PAGE as usize, Ended::Whole));
    }

    #[test]
    fn arguments_are_read_as_far_as_there_is_room() {
        let words = [c"sh".to_owned(), c"-c".to_owned(), c"".to_owned()];
        let mut pointers: Vec<u64> = words.iter().map(|word| word.as_ptr() as u64).collect();
        pointers.push(0);
        let array = pointers.as_ptr() as u64;
        assert_eq!(own(Way::Call).strings(array, 8, 100), (b"sh\0-c\0\0".to_vec(), true));
        assert_eq!(own(Way::Call).strings(array, 8, 4), (b"sh\0".to_vec(), false));
        assert_eq!(own(Way::Call).strings(0, 8, 4), (Vec::new(), true));
    }
}
