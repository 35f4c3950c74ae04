//! What a program can do with the runner's answer about denials beside reading it.

use crate::raw::{self, Errno};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The question, as `sandbox` asks it (`sandbox/src/inside/mod.rs`).
const QUESTION: libc::c_long = 0x0057_4859;
const PASSWORD: libc::c_long = 0x7361_6e64;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(2);

fn ask() -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(QUESTION, PASSWORD, 0, 0, 0, 0, 0) };
    let fd = raw::check(answer)?;
    // SAFETY: the answer is a descriptor that was just made for this process alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Asks, and changes the answer: by write(2), by a mapping, by its length. The first that is not refused is a
/// success.
pub fn write() -> Result<(), Errno> {
    let board = ask()?;
    let fd = board.as_raw_fd();
    // SAFETY: the text lives through the call.
    let written = unsafe { libc::pwrite(fd, c"x".as_ptr().cast(), 1, 0) };
    let refused = match raw::check(written as libc::c_long) {
        Ok(_) => return Ok(()),
        Err(errno) => errno,
    };
    // SAFETY: a new mapping at a place of the kernel's choice, which is not used.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
    };
    // SAFETY: no pointers.
    let (shorter, longer) = unsafe { (libc::ftruncate(fd, 0), libc::ftruncate(fd, 1 << 30)) };
    if mapped != libc::MAP_FAILED || shorter == 0 || longer == 0 { Ok(()) } else { Err(refused) }
}

/// Asks in many threads at once for a while, and keeps what it gets until it can have no more. Succeeds when somebody
/// was answered.
pub fn flood(threads: usize) -> Result<(), Errno> {
    let end = Instant::now() + FLOOD;
    let ask_on = move || {
        let mut answers = Vec::new();
        while Instant::now() < end {
            match ask() {
                Ok(answer) => answers.push(answer),
                Err(libc::EMFILE) => break,
                Err(_) => {}
            }
        }
        answers.len()
    };
    let all: Vec<_> = (0..threads).map(|_| std::thread::spawn(ask_on)).collect();
    let answered: usize = all.into_iter().filter_map(|thread| thread.join().ok()).sum();
    if answered > 0 { Ok(()) } else { Err(libc::ENODATA) }
}
