//! The listener: what is said to the kernel about calls that wait (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number at this listener; they go up by one.
    pub id: u64,
    /// Who waits, in this pid namespace; 0 where it cannot be seen from here.
    pub tid: u32,
    /// The architecture whose table the number is from, as audit names it.
    pub architecture: u32,
    /// The system call.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// `_IOC` of include/uapi/asm-generic/ioctl.h for seccomp's letter; `direction` is 1 to write, 3 for both.
const fn request(direction: u64, number: u64, size: usize) -> libc::c_ulong {
    (direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number) as libc::c_ulong
}

const RECEIVE: libc::c_ulong = request(3, 0, size_of::<libc::seccomp_notif>());
const SEND: libc::c_ulong = request(3, 1, size_of::<libc::seccomp_notif_resp>());
const ID_VALID: libc::c_ulong = request(1, 2, size_of::<u64>());
const SET_FLAGS: libc::c_ulong = request(1, 4, size_of::<u64>());

/// "Wake who waits on the processor of who answers" (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6).
const SYNC_WAKE_UP: u64 = 1;

/// What a wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A call waits.
    Call,
    /// Nothing, in the time given.
    Nothing,
    /// No task is left that has the filter.
    Over,
}

/// One end of the filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes a descriptor that a filter was installed with.
    pub fn new(fd: OwnedFd) -> Listener {
        // Older kernels do not know it; then each call costs a little more.
        // SAFETY: the request takes its flags by value and touches no memory.
        let _ = unsafe { libc::ioctl(fd.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) };
        Listener(fd)
    }

    /// A second descriptor of the same listener.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener(self.0.try_clone()?))
    }

    /// Waits for a call, at most so long, or until one of `others` can be read.
    ///
    /// # Errors
    /// poll(2) fails.
    pub fn wait(&self, others: &[BorrowedFd<'_>], timeout: PollTimeout) -> io::Result<Ready> {
        let mut polled = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        polled.extend(others.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        match nix::poll::poll(&mut polled, timeout) {
            Err(nix::errno::Errno::EINTR) => return Ok(Ready::Nothing),
            other => other?,
        };
        let found = polled[0].revents().unwrap_or(PollFlags::empty());
        Ok(match found {
            found if found.contains(PollFlags::POLLIN) => Ready::Call,
            found if found.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) => Ready::Over,
            _ => Ready::Nothing,
        })
    }

    /// Takes the next call; waits while there is none. `ENOENT` when the caller has gone meanwhile.
    ///
    /// # Errors
    /// As said, and `EINTR`.
    pub fn receive(&self) -> io::Result<Call> {
        // SAFETY: integers, for which zero is a value; the kernel wants them zero.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request's size is that of the struct, which is written.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), RECEIVE as _, &raw mut call) })?;
        Ok(Call {
            id: call.id,
            tid: call.pid,
            architecture: call.data.arch,
            number: call.data.nr as u32,
            arguments: call.data.args,
        })
    }

    /// Whether the call still waits: what was read from its caller before is the caller's.
    pub fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the request reads one number, which lives through the call.
        unsafe { libc::ioctl(self.0.as_raw_fd(), ID_VALID as _, &raw const id) == 0 }
    }

    /// Lets the call happen as it is.
    ///
    /// # Errors
    /// `ENOENT` when nobody waits for it any more, `EINPROGRESS` when it was not taken.
    pub fn go_on(&self, id: u64) -> io::Result<()> {
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
        // SAFETY: the request's size is that of the struct, which is only read.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), SEND as _, &raw const answer) })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
