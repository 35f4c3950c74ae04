//! Proof that calls can be handed to a supervisor here, that it can read what they are about, and that they go on.

use std::io;

use nix::poll::PollTimeout;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::{HELD, SelfTestError};
use crate::launch::handshake::{self, Received};
use crate::observe::notify::{Supervisor, filter, probe};
use crate::record::SelfTest;

/// What the child ends with when its call had the result that it should have.
const WENT_ON: i32 = 7;

/// A child installs the filter and makes one call; it must be seen, read from the child's memory, and go on. This process
/// must have one thread.
///
/// # Errors
/// The test could not be run; that is no proof.
pub fn check() -> Result<Vec<SelfTest>, SelfTestError> {
    let shown = SelfTest { check: "/proc shows the run".to_owned(), result: shown() };
    let (here, there) = handshake::pair::<(), i32>()?;
    // SAFETY: this process has one thread; the child leaves by _exit.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Child => {
            drop(here);
            let status = act(&there).unwrap_or(1);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop(there);
            let looked = match here.receive() {
                Ok(Received::Message(0, fds)) => match fds.into_iter().next() {
                    Some(listener) => look(listener),
                    None => Err(io::Error::other("the filter gave no listener")),
                },
                Ok(Received::Message(errno, _)) => Err(match errno {
                    libc::EBUSY => io::Error::other("this process has a filter with a listener already"),
                    errno => io::Error::from_raw_os_error(errno),
                }),
                Ok(Received::Closed) => Err(io::Error::other("the process that tries it died")),
                Err(error) => Err(error),
            };
            if looked.is_err() {
                // It may wait for an answer that nobody gives.
                let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
            }
            let ended = waitpid(child, None).map_err(io::Error::from)?;
            let (seen, went_on) = match looked {
                Ok(()) if ended == WaitStatus::Exited(child, WENT_ON) => (HELD.to_owned(), HELD.to_owned()),
                Ok(()) => (HELD.to_owned(), "the call did not go on".to_owned()),
                Err(error) => (error.to_string(), "not tried".to_owned()),
            };
            let test = |check: &str, result| SelfTest { check: check.to_owned(), result };
            Ok(vec![test("call seen and read", seen), test("call goes on", went_on), shown])
        }
    }
}

/// Whether /proc belongs to this process's own pid namespace: else its numbers are those of other processes, and names
/// would be resolved against their directories and descriptors.
fn shown() -> String {
    match std::fs::read_link("/proc/self") {
        Ok(found) if found.to_str() == Some(std::process::id().to_string().as_str()) => HELD.to_owned(),
        Ok(_) => "/proc belongs to another pid namespace; one of this is needed (bwrap --proc /proc, unshare --mount-proc)"
            .to_owned(),
        Err(error) => format!("/proc shows no processes: {error}"),
    }
}

/// In the child: a filter, and one call through it.
fn act(to: &handshake::Channel<i32, ()>) -> io::Result<i32> {
    let sent = filter::hand_over(filter::Question::None, |listener| match listener {
        Ok(listener) => to.send_with(&0, &[std::os::fd::AsFd::as_fd(&listener)]).is_ok(),
        Err(error) => {
            let _ = to.send(&error.raw_os_error().unwrap_or(libc::EIO));
            false
        }
    })?;
    if !sent {
        return Ok(1);
    }
    probe();
    // The name is nobody's, so the call that went on says this.
    let missing = nix::errno::Errno::last_raw() == libc::ENOENT;
    Ok(if missing { WENT_ON } else { 1 })
}

fn look(listener: std::os::fd::OwnedFd) -> io::Result<()> {
    Supervisor::try_once(listener, PollTimeout::from(10_000u16))
}
