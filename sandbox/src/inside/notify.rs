//! The three things that are said to a listener (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting(u64);

impl Waiting {
    /// A call that was taken from the listener elsewhere, by its number there.
    pub fn of(id: u64) -> Waiting {
        Waiting(id)
    }
}

/// `_IOC` of include/uapi/asm-generic/ioctl.h for seccomp's letter; `direction` is 1 to write, 3 for both.
const fn request(direction: u64, number: u64, size: usize) -> libc::c_ulong {
    (direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number) as libc::c_ulong
}

const RECEIVE: libc::c_ulong = request(3, 0, size_of::<libc::seccomp_notif>());
const SEND: libc::c_ulong = request(3, 1, size_of::<libc::seccomp_notif_resp>());
const ADD_FD: libc::c_ulong = request(1, 3, size_of::<libc::seccomp_notif_addfd>());

/// Takes the next call; waits while there is none. `ENOENT` when the caller has gone meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Waiting> {
    // SAFETY: integers, for which zero is a value; the kernel wants them zero.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request's size is that of the struct, which is written.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut call) })?;
    Ok(Waiting(call.id))
}

/// Answers a call with a descriptor for `fd` in the caller, closed by exec.
pub fn answer(listener: BorrowedFd<'_>, call: Waiting, fd: BorrowedFd<'_>) -> io::Result<()> {
    let add = libc::seccomp_notif_addfd {
        id: call.0,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: fd.as_raw_fd().unsigned_abs(),
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC.unsigned_abs(),
    };
    // SAFETY: the request's size is that of the struct, which is only read.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), ADD_FD as _, &raw const add) })
}

/// Answers a call with an error.
pub fn refuse(listener: BorrowedFd<'_>, call: Waiting, errno: i32) -> io::Result<()> {
    let answer = libc::seccomp_notif_resp { id: call.0, val: 0, error: -errno, flags: 0 };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const answer) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
