//! A process that cannot be mistaken for another: pid and pidfd together.
//!
//! Also what wait(2) and /proc say of a process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::exit::CommandStatus;

/// A process held by a pidfd (pidfd_open(2), Linux 5.3).
#[derive(Debug)]
pub struct Process {
    pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// Takes hold of a process. `ESRCH` when there is none with this pid.
    pub fn open(pid: u32) -> io::Result<Process> {
        // SAFETY: pidfd_open takes two integers and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0u32) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made this descriptor for us (close-on-exec); nobody else owns it.
        Ok(Process { pid, fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The process with this pid, held by a pidfd of it that was made elsewhere.
    pub fn from_fd(pid: u32, fd: OwnedFd) -> Process {
        Process { pid, fd }
    }

    /// The calling process.
    pub fn own() -> io::Result<Process> {
        Process::open(std::process::id())
    }

    /// Its pid, in this pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. `ESRCH` when the process has ended and was reaped.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.signal_number(signal as i32)
    }

    /// Sends a signal by number, real-time signals included.
    pub fn signal_number(&self, signal: i32) -> io::Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo means the kernel fills it in as for kill(2); the rest are integers.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, info, 0u32) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether it has ended (reaped or not).
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(count) if count > 0)
    }

    /// A second descriptor for the same process.
    pub fn try_clone(&self) -> io::Result<Process> {
        Ok(Process { pid: self.pid, fd: self.fd.try_clone()? })
    }
}

/// What has happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It has ended.
    Ended(CommandStatus),
    /// This signal stopped it.
    Stopped(i32),
    /// It goes on after a stop.
    Continued,
}

/// What to look for in a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookFor {
    /// Stops and goings-on; its end stays to be asked for.
    Stops,
    /// Stops and its end.
    StopsAndEnd,
}

impl Process {
    /// What has happened to this child since it was last asked; `None` when nothing has, or when its end was
    /// told before. Never waits. By pid, so that no other child is touched; nix's own waitpid cannot tell an
    /// end by a real-time signal.
    pub fn change(&self, look_for: LookFor) -> io::Result<Option<Change>> {
        self.wait(match look_for {
            LookFor::Stops => libc::WCONTINUED,
            LookFor::StopsAndEnd => libc::WEXITED,
        })
    }

    /// What [`Process::change`] would give next, which is not taken: it stays to be given.
    pub fn next_change(&self) -> io::Result<Option<Change>> {
        self.wait(libc::WEXITED | libc::WNOWAIT)
    }

    fn wait(&self, options: libc::c_int) -> io::Result<Option<Change>> {
        let options = libc::WNOHANG | libc::WSTOPPED | options;
        loop {
            // SAFETY: all zeroes is a valid siginfo; waitid leaves it so when there is nothing to tell.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: writes one siginfo, which is ours.
            let result = unsafe { libc::waitid(libc::P_PID, self.pid, &mut info, options) };
            if result < 0 {
                match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EINTR) => continue,
                    error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
                    error => return Err(error),
                }
            }
            // SAFETY: waitid has filled the fields of a child's siginfo, or left them zero.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok((pid != 0).then_some(match info.si_code {
                libc::CLD_EXITED => Change::Ended(CommandStatus::Exited(status.to_le_bytes()[0])),
                libc::CLD_STOPPED | libc::CLD_TRAPPED => Change::Stopped(status),
                libc::CLD_CONTINUED => Change::Continued,
                _ => Change::Ended(CommandStatus::Signalled(status)),
            }));
        }
    }

    /// Waits for the end of this child, at most so long; `None` when it goes on after that.
    pub fn wait_for_end(&self, patience: Duration) -> Option<CommandStatus> {
        let end = Instant::now() + patience;
        loop {
            match self.change(LookFor::StopsAndEnd) {
                Ok(Some(Change::Ended(status))) => return Some(status),
                Ok(Some(_)) => {}
                Ok(None) if self.has_ended() => return None,
                Ok(None) | Err(_) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
                    let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
                    let _ = nix::poll::poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX));
                }
            }
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What /proc/PID/stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// R, S, D, T, t, Z, X or I.
    pub state: char,
    /// Parent's pid.
    pub parent: u32,
    /// Threads that are left.
    pub threads: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl Stat {
    /// Reads it; `None` when the process is gone.
    pub fn of(pid: u32) -> Option<Stat> {
        parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether this is the process that started so many nanoseconds after boot, and not a later one with its
    /// pid. The tick may be rounded either way.
    pub fn started_at(&self, start_ns: u64) -> bool {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let tick_ns = 1_000_000_000 / ticks.unsigned_abs().max(1);
        self.started.abs_diff(start_ns / tick_ns) <= 1
    }

    /// Dead, though its parent has not asked for its status yet. A group leader that has ended while other
    /// threads go on is not dead.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

/// The name in parentheses may hold anything, parentheses and newlines included: fields follow the last `)`.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Whether a shell with job control would notice that this process stops: its process group is not orphaned (setpgid(2)).
/// Where it is, as below cron or setsid(1), nobody would have it go on either.
pub fn is_job() -> bool {
    use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid};
    let (group, session) = (getpgrp(), getsid(None).ok());
    let mut ancestor = getppid();
    // Its like are in its group; the first above them would be the shell.
    while ancestor.as_raw() > 0 && session.is_some() && getsid(Some(ancestor)).ok() == session {
        if getpgid(Some(ancestor)).ok() != Some(group) {
            return true;
        }
        let parent =
            Stat::of(ancestor.as_raw().unsigned_abs()).and_then(|stat| i32::try_from(stat.parent).ok());
        ancestor = Pid::from_raw(parent.unwrap_or(0));
    }
    false
}

/// Every process that /proc shows.
pub fn all_pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_hostile_name() {
        let stat = parse_stat(b"7 (a) Z 1 1) T 42 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 3 0 99\n").unwrap();
        assert_eq!(stat, Stat { state: 'T', parent: 42, threads: 3, started: 99 });
        assert!(parse_stat(b"7 (a").is_none());
    }

    #[test]
    fn real_time_signals_are_told_too() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert_eq!(process.change(LookFor::StopsAndEnd).unwrap(), None);
        process.signal_number(40).unwrap();
        assert_eq!(process.wait_for_end(Duration::from_secs(10)), Some(CommandStatus::Signalled(40)));
        let _ = child.wait();
    }

    #[test]
    fn a_handle_knows_when_its_process_has_ended() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(!process.has_ended());
        assert!(!Stat::of(child.id()).unwrap().is_dead());
        process.signal(Signal::SIGKILL).unwrap();
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, PollTimeout::from(10_000u16)), Ok(1));
        assert!(process.has_ended());
        assert!(Stat::of(child.id()).unwrap().is_dead());
        let ended = CommandStatus::Signalled(libc::SIGKILL);
        assert_eq!(process.wait_for_end(Duration::from_secs(10)), Some(ended));
        assert_eq!(process.wait_for_end(Duration::from_secs(10)), None, "told once");
        let _ = child.wait();
        assert_eq!(process.signal(Signal::SIGKILL).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
