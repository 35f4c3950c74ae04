//! The ender: a process that ends a run at one stroke, where there is neither a hook nor a control group to do it.
//!
//! ```text
//! child, in its namespaces, behind its covers: Landlock domain A (scopes signals) ──fork twice──▶ ender, in A
//!   └──▶ domain B, below A (the policies' own), exec ──▶ the command and whatever it makes, in B
//! ```
//!
//! Who looks for processes one by one and kills them can lose against a run that forks faster than anybody looks. The ender
//! does not look: it calls kill(-1, SIGKILL), which the kernel does under the lock that every fork needs to add a
//! process, so that none is made beside it; and a process that has its SIGKILL makes none (kernel/fork.c, copy_process).
//! That call reaches every process of the user's that it may signal, and in a domain that scopes signals those are the
//! domain's own: the run, and nobody else. **It is never called unless the kernel refused a signal that it let through before
//! the domain was entered.** From below, B scopes signals again, so the run cannot reach its ender.
//!
//! It ends the run when it is told to by collector or guardian, and when both are gone: then its socket closes. It
//! records nothing, observes nothing, and is no member of the run. What it needs is Landlock's ABI 6 (Linux 6.12) and a
//! policy that closes `signal-outside`; who is to have one is not decided here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::background;
use super::process::Process;
use crate::enforce::landlock;

/// How long the ender may take to say who it is, or to have done what it is for.
const PATIENCE: Duration = Duration::from_secs(5);

/// All processes that the caller may signal (kill(2)).
const EVERYBODY: Pid = Pid::from_raw(-1);

/// An ender that waits for its word.
#[derive(Debug)]
pub struct Ender {
    process: Process,
    link: UnixStream,
}

impl Ender {
    /// Meets the one whose link the child has sent.
    ///
    /// # Errors
    /// It is not there.
    pub fn meet(link: OwnedFd) -> io::Result<Ender> {
        let mut link = UnixStream::from(link);
        link.set_read_timeout(Some(PATIENCE))?;
        let mut pid = [0; 4];
        link.read_exact(&mut pid)?;
        let process = Process::open(u32::from_ne_bytes(pid))?;
        Ok(Ender { process, link })
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What another process needs to have the same: see [`Ender::from_fds`].
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.process.as_fd(), self.link.as_fd()]
    }

    /// Takes over what [`Ender::descriptors`] gave, of the ender with this pid; `None` when there are too few.
    pub fn from_fds(pid: u32, fds: Vec<OwnedFd>) -> Option<Ender> {
        let mut fds = fds.into_iter();
        Some(Ender { process: Process::from_fd(pid, fds.next()?), link: UnixStream::from(fds.next()?) })
    }

    /// Has the run ended, and waits until it is: whatever belonged to it has been sent its SIGKILL when this returns. Says
    /// whether that was done, now or before.
    pub fn end(&self) -> bool {
        // One that has done it already is not there to hear it.
        let _ = (&self.link).write_all(&[1]);
        let mut fds = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let _ = nix::poll::poll(&mut fds, timeout);
        // Its answer stays to be seen by the others who have this link.
        let seen = recv(self.link.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        seen == Ok(1)
    }
}

/// In the child, which must have one thread and be nobody's member yet: enters the domain and makes the ender there. Gives
/// the link to it. `outside` is a process that stays outside and that this one may signal.
///
/// # Errors
/// Why there is none; the process may be in the domain then, which keeps it from signals to others and from mounting.
pub fn start(outside: u32) -> Result<OwnedFd, String> {
    let outside = Pid::from_raw(outside.cast_signed());
    kill(outside, None).map_err(|errno| format!("the collector cannot be signalled: {errno}"))?;
    landlock::scope_signals().map_err(|error| format!("Landlock scopes no signals: {error}"))?;
    if kill(outside, None) != Err(Errno::EPERM) {
        return Err("Landlock scopes signals, and lets them through all the same".to_owned());
    }
    let failed = |error: io::Error| format!("cannot make the process that ends the run: {error}");
    let (near, far) = UnixStream::pair().map_err(failed)?;
    // Twice, so that the command has no child that it did not make.
    // SAFETY: this process has one thread, so the copy may do everything that the original may.
    match unsafe { fork() }.map_err(|errno| failed(errno.into()))? {
        ForkResult::Child => {
            // SAFETY: as above.
            let status = match unsafe { fork() } {
                Ok(ForkResult::Child) => {
                    drop(near);
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_and_end(far))).unwrap_or(1)
                }
                Ok(ForkResult::Parent { .. }) => 0,
                Err(_) => 1,
            };
            // SAFETY: _exit takes an integer and does not return: nothing runs that the original registered for its own end.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(near.into()),
            other => Err(format!("cannot make the process that ends the run: {other:?}")),
        },
    }
}

/// The ender's life; gives its exit status.
fn wait_and_end(mut link: UnixStream) -> i32 {
    if background::detach(c"sandbox-ender", &[link.as_fd()]).is_err() {
        return 1;
    }
    background::close_to_others();
    // Who ends a session means the run, and the run's end is told by others.
    // SAFETY: ignoring a signal installs no code.
    let _ = unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) };
    if link.write_all(&std::process::id().to_ne_bytes()).is_err() {
        // Nobody wants it, and the child that waits is ended by who made it.
        return 1;
    }
    let mut word = [0];
    loop {
        match link.read(&mut word) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A word, or nobody left to say one.
            Ok(_) | Err(_) => break,
        }
    }
    match kill(EVERYBODY, Signal::SIGKILL) {
        // Or nobody was there.
        Ok(()) | Err(Errno::ESRCH) => i32::from(link.write_all(&word).is_err()),
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    /// A run of the test's: an ender, and a process that forks for ever, link by link, each in a session of its own. Gives
    /// the ender, and a pipe that is open as long as any link lives.
    fn chain() -> (Ender, io::PipeReader) {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let outside = std::process::id();
        // SAFETY: what other threads of the test hold is not touched: no lock of theirs is taken but the allocator's, which
        // the C library takes over in a fork.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop((near, reader));
                let Ok(link) = start(outside) else {
                    // SAFETY: ends the child at once.
                    unsafe { libc::_exit(1) }
                };
                let link = link.as_raw_fd();
                let sent = nix::sys::socket::sendmsg::<()>(
                    far.as_raw_fd(),
                    &[io::IoSlice::new(b"x")],
                    &[nix::sys::socket::ControlMessage::ScmRights(&[link])],
                    MsgFlags::empty(),
                    None,
                );
                // SAFETY: integers only: the run's copies of what is not its own.
                unsafe { libc::close(link) };
                // The run is in a domain below, from which the ender cannot be reached.
                if sent.is_err() || landlock::scope_signals().is_err() {
                    // SAFETY: ends the child at once.
                    unsafe { libc::_exit(1) }
                }
                loop {
                    // SAFETY: system calls only, in a process with one thread.
                    unsafe {
                        match libc::fork() {
                            0 => libc::setsid(),
                            _ => libc::_exit(0),
                        }
                    };
                }
            }
            ForkResult::Parent { child } => {
                drop((far, writer));
                let mut space = nix::cmsg_space!([i32; 1]);
                let mut byte = [0];
                let mut slices = [io::IoSliceMut::new(&mut byte)];
                let flags = MsgFlags::MSG_CMSG_CLOEXEC;
                let fd = near.as_raw_fd();
                let got = nix::sys::socket::recvmsg::<()>(fd, &mut slices, Some(&mut space), flags).unwrap();
                let Some(nix::sys::socket::ControlMessageOwned::ScmRights(fds)) = got.cmsgs().unwrap().next()
                else {
                    panic!("the child made no ender");
                };
                // SAFETY: the kernel has just made it for this process.
                let link = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fds[0]) };
                let ender = Ender::meet(link).unwrap();
                waitpid(child, None).unwrap();
                (ender, reader)
            }
        }
    }

    /// Whether the other ends of the pipe are closed within so many milliseconds.
    fn is_over(reader: &io::PipeReader, patience: u16) -> bool {
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, patience).unwrap() > 0
    }

    #[test]
    fn a_chain_of_forks_ends_at_one_stroke_and_nobody_else_does() {
        if landlock::abi().map_or(true, |abi| abi < 6) {
            assert!(std::env::var_os("SANDBOX_TESTS").is_none_or(|value| value != "required"));
            eprintln!("skipped: Landlock scopes no signals here");
            return;
        }
        let mut outsider = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        for told in [true, false] {
            let (ender, reader) = chain();
            assert!(!is_over(&reader, 300), "the chain goes on by itself");
            assert!(!ender.process().has_ended(), "and has not reached its ender");
            if told {
                assert!(ender.end());
                assert!(ender.end(), "it stays done");
            } else {
                // Nobody is left to tell it.
                let Ender { process, link } = ender;
                drop(link);
                let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                assert_eq!(nix::poll::poll(&mut fds, 10_000u16), Ok(1));
            }
            assert!(is_over(&reader, 10_000), "no link is left");
        }
        assert!(outsider.try_wait().unwrap().is_none(), "a process outside is untouched");
        outsider.kill().unwrap();
        assert_eq!(outsider.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
