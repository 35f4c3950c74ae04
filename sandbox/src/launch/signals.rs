//! Signals that reach the front-end, and which of them are for the command.
//!
//! The front-end shares the command's process group, as strace does. What the terminal sends goes to the whole
//! group, so the command has it already; what somebody sends to the front-end alone is passed on. The
//! front-end takes every signal from a descriptor and has no handlers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::inherited;

/// `si_code` of signals that the kernel itself sends (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// Signals of a terminal, which the kernel sends to the whole foreground group.
const OF_THE_TERMINAL: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
];

/// Others that anybody may send.
const OF_OTHERS: [Signal; 10] = [
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGURG,
    Signal::SIGCONT,
];

/// A signal that has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its number.
    pub signal: i32,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The terminal: every process of the foreground group has it.
    Terminal,
    /// Anything else; with the sender's pid where it has one that can be seen.
    Sender(Option<u32>),
}

/// The front-end's signals, blocked and read from a descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    found: SigSet,
}

impl Signals {
    /// Blocks them. Those that were ignored from the start stay ignored, as nohup(1) and background jobs of
    /// plain shells mean it.
    pub fn take() -> io::Result<Signals> {
        let found = inherited::signal_mask()?;
        // With SIGCHLD ignored the kernel would reap the command, and its status would be lost.
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action installs no code.
        unsafe { sigaction(Signal::SIGCHLD, &default)? };
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        for signal in OF_THE_TERMINAL.into_iter().chain(OF_OTHERS) {
            if !inherited::was_ignored(signal as i32) {
                set.add(signal);
            }
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, found })
    }

    /// The mask that `sandbox` was started with.
    pub fn found_mask(&self) -> &SigSet {
        &self.found
    }

    /// The next signal that has come in, if any.
    pub fn next(&self) -> io::Result<Option<Incoming>> {
        loop {
            match self.fd.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => {
                    let signal = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
                    return Ok(Some(Incoming {
                        signal,
                        origin: origin(signal, info.ssi_code, info.ssi_pid),
                    }));
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a signal waits that the terminal stops jobs with.
    pub fn stops_again(&self) -> bool {
        // SAFETY: all zeroes is a set of signals, which sigpending fills.
        let mut pending: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is ours.
        let asked = unsafe { libc::sigpending(&raw mut pending) };
        let waits = |signal| {
            // SAFETY: reads the set, and knows the number.
            unsafe { libc::sigismember(&raw const pending, signal) == 1 }
        };
        asked == 0 && [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].into_iter().any(waits)
    }

    /// Stops this process as signal number `signal` stopped the command, and returns when it is continued.
    pub fn stop_like(&self, signal: i32) -> io::Result<()> {
        let of_job_control = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]
            .into_iter()
            .find(|stop| *stop as i32 == signal && !inherited::was_ignored(signal));
        let Some(stop) = of_job_control else {
            return Ok(nix::sys::signal::raise(Signal::SIGSTOP)?);
        };
        nix::sys::signal::raise(stop)?;
        let mut set = SigSet::empty();
        set.add(stop);
        // The stop happens in the first of these calls.
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None)?;
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn origin(signal: i32, code: i32, pid: u32) -> Origin {
    let of_the_terminal = OF_THE_TERMINAL.into_iter().any(|known| known as i32 == signal);
    if code == SI_KERNEL && of_the_terminal {
        Origin::Terminal
    } else {
        Origin::Sender((pid != 0).then_some(pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_speaks_for_the_terminal() {
        assert_eq!(origin(libc::SIGINT, SI_KERNEL, 0), Origin::Terminal);
        assert_eq!(origin(libc::SIGINT, libc::SI_USER, 7), Origin::Sender(Some(7)));
        // A timer set before sandbox was executed belongs to the command's caller: it is passed on.
        assert_eq!(origin(libc::SIGALRM, SI_KERNEL, 0), Origin::Sender(None));
    }
}
