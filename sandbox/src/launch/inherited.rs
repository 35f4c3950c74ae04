//! What `sandbox` found when it was started, so that the command finds the same.
//!
//! Rust's runtime ignores SIGPIPE and opens /dev/null on standard descriptors that are closed, both before
//! `main`. A constructor that runs before it notes how things were. Everything else (environment, directory,
//! umask, limits, other descriptors) the runner leaves alone, so there is nothing to note.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Bit `n - 1`: signal `n` was ignored.
static IGNORED: AtomicU64 = AtomicU64::new(0);
/// Bit `n`: descriptor `n` (0, 1, 2) was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// The highest signal number of Linux on x86_64 and aarch64.
const LAST_SIGNAL: i32 = 64;

#[used]
// SAFETY: the section is a table of functions that the C runtime calls once, before `main`, in a process with
// one thread; the entry has the right type (its arguments may be left out in the C calling convention).
#[unsafe(link_section = ".init_array")]
static NOTE_AT_START: extern "C" fn() = note_at_start;

extern "C" fn note_at_start() {
    let mut ignored = 0u64;
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: an all-zero sigaction is a valid value to be overwritten.
        let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only reads the disposition, into a place that is ours.
        let result = unsafe { libc::sigaction(signal, std::ptr::null(), &mut found) };
        if result == 0 && found.sa_sigaction == libc::SIG_IGN {
            ignored |= 1 << (signal - 1);
        }
    }
    IGNORED.store(ignored, Ordering::Relaxed);

    let mut closed = 0u8;
    for fd in 0..3 {
        // SAFETY: F_GETFD touches no memory.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            closed |= 1 << fd;
        }
    }
    CLOSED.store(closed, Ordering::Relaxed);
}

/// Whether `sandbox` was started with this signal ignored (nohup, a background job of a plain shell).
pub fn was_ignored(signal: i32) -> bool {
    (1..=LAST_SIGNAL).contains(&signal) && IGNORED.load(Ordering::Relaxed) & (1 << (signal - 1)) != 0
}

/// Puts every signal's disposition back to what was found. Call it in the child, before exec.
pub fn restore_dispositions() {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: an all-zero sigaction has an empty mask, no flags, and SIG_DFL (0) as handler.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        if was_ignored(signal) {
            action.sa_sigaction = libc::SIG_IGN;
        }
        // SAFETY: installs no handler, only SIG_DFL or SIG_IGN. SIGKILL, SIGSTOP and libc's own two fail, as
        // they must.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// Closes again the standard descriptors that were closed. Call it in the child, before exec.
pub fn restore_closed_descriptors() {
    let closed = CLOSED.load(Ordering::Relaxed);
    for fd in (0..3).filter(|fd| closed & (1 << fd) != 0) {
        // SAFETY: the descriptor holds the /dev/null that the runtime put there, and the child execs next.
        unsafe { libc::close(fd) };
    }
}

/// Keeps every descriptor but the standard ones from the program that is executed next: they were opened outside, and
/// nothing would judge them any more. Call it in the child, before exec.
pub fn keep_standard_descriptors_only() -> io::Result<()> {
    // SAFETY: no pointers; descriptors stay open here until exec.
    let closed =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a standard descriptor was open when `sandbox` was started.
pub fn was_open(fd: i32) -> bool {
    (0..3).contains(&fd) && CLOSED.load(Ordering::Relaxed) & (1 << fd) == 0
}

/// Whether stderr was open, so that writing there reaches somebody.
pub fn stderr_was_open() -> bool {
    was_open(2)
}

/// The signal mask in force now; at the start of `main` it is the one that was found.
pub fn signal_mask() -> io::Result<nix::sys::signal::SigSet> {
    Ok(nix::sys::signal::SigSet::thread_get_mask()?)
}
