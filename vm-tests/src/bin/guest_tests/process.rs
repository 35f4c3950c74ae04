//! Processes, watched by pidfd: nothing here can mistake a reused pid for the process that was meant.

use anyhow::{Context, Result, bail};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A process that is not necessarily a child.
#[derive(Debug)]
pub struct Watched {
    /// Its pid.
    pub pid: u32,
    fd: OwnedFd,
}

impl Watched {
    /// Takes hold of a process.
    pub fn open(pid: u32) -> Result<Watched> {
        // SAFETY: pidfd_open takes no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot watch process {pid}"));
        }
        // SAFETY: the kernel has just made this descriptor for the caller alone.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
        Ok(Watched { pid, fd })
    }

    /// Waits until the process has ended, zombie or gone; false when it still runs at the deadline.
    pub fn ended_by(&self, deadline: Instant) -> Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let wait = libc::c_int::try_from(left.as_millis()).unwrap_or(libc::c_int::MAX);
            // SAFETY: one entry, which lives through the call.
            match unsafe { libc::poll(&raw mut poll, 1, wait) } {
                1 => return Ok(true),
                0 if Instant::now() >= deadline => return Ok(false),
                0 => {}
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error).context("cannot poll a pidfd");
                    }
                }
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and no siginfo is passed.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, info, 0) };
        if sent == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error()).with_context(|| format!("cannot send signal {signal}"))
    }
}

/// What /proc says of a process: pid, name (`comm`), executable.
#[derive(Debug)]
pub struct Listed {
    /// Its pid.
    pub pid: u32,
    /// Its `comm`.
    pub name: String,
}

/// All processes that execute this file.
pub fn executing(executable: &str) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        let link = std::fs::read_link(format!("/proc/{pid}/exe"));
        if link.is_ok_and(|link| link.as_os_str() == executable) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(Listed { pid, name: name.trim_end().to_owned() });
        }
    }
    Ok(found)
}

/// Asks until the answer is yes, up to a bound.
pub fn until(what: &str, bound: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + bound;
    while !holds()? {
        if Instant::now() >= deadline {
            bail!("{what}: not within {bound:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
