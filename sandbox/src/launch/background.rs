//! What the runner's own processes do first: let go of what is the user's.
//!
//! None of them may hold a pipe open whose end somebody waits for. The collector and the guardian must besides
//! not keep a mount busy, hear the terminal's signals, or die of limits that were meant for the command.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::Mode;

/// Detaches the calling process and keeps only the given descriptors. `name` is what ps shows, at most 15
/// bytes.
pub fn detach(name: &CStr, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    nix::unistd::setsid()?;
    std::env::set_current_dir("/")?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    settle_signals()?;
    keep_only(Standard::None, keep)?;
    lift_limits();
    // SAFETY: PR_SET_NAME reads a string that ends in NUL; `name` does.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // Not allowed in every container; then the out-of-memory killer treats us like anybody.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    Ok(())
}

/// Keeps other processes of the same user from looking into this one, and from changing it: the command may be one of
/// them. They can still end it. Root may all the same, where it has CAP_SYS_PTRACE.
pub fn close_to_others() {
    // SAFETY: integers only. The kernel refuses no such wish.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Signals of a terminal or of its end are not for us; SIGTERM keeps its default until somebody handles it.
fn settle_signals() -> io::Result<()> {
    super::inherited::restore_dispositions();
    for ignored in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGXFSZ,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
    ] {
        // SAFETY: ignoring a signal installs no code.
        unsafe { signal(ignored, SigHandler::SigIgn)? };
    }
    for default in [Signal::SIGTERM, Signal::SIGCHLD] {
        // SAFETY: the default action installs no code.
        unsafe { signal(default, SigHandler::SigDfl)? };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Standard descriptors that a process goes on using.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standard {
    None,
    Error,
}

/// In the front-end, once the command's process exists: keeps stderr and the given descriptors. The command
/// alone now decides when its input and output are closed.
pub fn leave_streams_to_the_command(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    keep_only(Standard::Error, keep)
}

/// Keeps none of the standard streams, and of the other descriptors the given ones.
pub fn keep_no_stream(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    keep_only(Standard::None, keep)
}

/// Puts /dev/null on the standard descriptors that are not used and closes all others but `keep`.
fn keep_only(used: Standard, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let unused = match used {
        Standard::None => 0..3,
        Standard::Error => 0..2,
    };
    for standard in unused {
        // SAFETY: both are integers; what stood on a standard descriptor is given up on purpose, and Rust's
        // standard streams refer to it by number only.
        if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    drop(null);
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3u32;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the caller lists everything that is still in use. In a process that detaches, the copies of
    // other owners are never dropped, because it ends by _exit; the front-end has no other owners.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The user's limits on file size, processor time and descriptors are for the command.
fn lift_limits() {
    for resource in [Resource::RLIMIT_FSIZE, Resource::RLIMIT_CPU] {
        if setrlimit(resource, libc::RLIM_INFINITY, libc::RLIM_INFINITY).is_err()
            && let Ok((_, hard)) = getrlimit(resource)
        {
            let _ = setrlimit(resource, hard, hard);
        }
    }
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
