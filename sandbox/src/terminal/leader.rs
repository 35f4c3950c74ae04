//! The leader of the session on the pseudo terminal: passes on what the holder sends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{ForkResult, Pid, fork, setpgid, setsid};
use rustix::process::{getpid, ioctl_tiocsctty};
use rustix::termios::tcsetpgrp;

use super::Ring;
use crate::exit::{CommandStatus, Exit};
use crate::launch::background;
use crate::launch::handshake::Channel;
use crate::launch::process::{Change, LookFor, Process};
use crate::launch::signals::Signals;

/// Begins the session; comes back in the process that is to be the run's front-end, in the foreground.
///
/// # Errors
/// The system refuses something.
pub(super) fn lead(slave: &OwnedFd, signals: &Signals, to: &Channel<Ring, ()>) -> io::Result<()> {
    setsid()?;
    ioctl_tiocsctty(slave)?;
    // SAFETY: the process has one thread, as its parent (see `super::split`).
    match unsafe { fork() }? {
        ForkResult::Child => {
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            // SIGTTOU, which this would bring, is blocked.
            Ok(tcsetpgrp(slave, getpid())?)
        }
        ForkResult::Parent { child } => {
            let ended = Process::open(child.as_raw().unsigned_abs())
                .and_then(|run| follow(&run, child, slave, signals, to))
                .unwrap_or(CommandStatus::Exited(Exit::ENDED_BY_RUNNER.code()));
            // SAFETY: _exit takes an integer and does not return; nothing of the original's is to run at its end.
            unsafe { libc::_exit(Exit::from(ended).code().into()) }
        }
    }
}

/// Stays with the front-end until it has ended. The pseudo terminal stays open here, so that it is there for as long as the
/// session is.
fn follow(
    run: &Process,
    group: Pid,
    slave: &OwnedFd,
    signals: &Signals,
    to: &Channel<Ring, ()>,
) -> io::Result<CommandStatus> {
    background::close_to_others();
    background::keep_no_stream(&[slave.as_fd(), signals.as_fd(), run.as_fd(), to.as_fd()])?;
    loop {
        while let Some(change) = run.change(LookFor::StopsAndEnd)? {
            match change {
                Change::Ended(status) => return Ok(status),
                // Before it has a command: later it does not stop itself, and tells when its command was stopped.
                Change::Stopped(_) => _ = to.send(&Ring::Stopped),
                Change::Continued => {}
            }
        }
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(incoming) = signals.next()? {
            match incoming.signal {
                libc::SIGCHLD => {}
                // As a shell has its job go on: all of it.
                libc::SIGCONT => {
                    let _ = killpg(group, Signal::SIGCONT);
                    // From now on what is typed stops it again.
                    let _ = to.send(&Ring::GoesOn);
                }
                // It may just have ended.
                signal => _ = run.signal_number(signal),
            }
        }
    }
}
