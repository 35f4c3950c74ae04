//! The filter that hands the question to the runner. It denies nothing; the one that does is `enforce::seccomp`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{PASSWORD, QUESTION};

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h); of an argument its low half.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_ARGUMENT: u32 = 16;

/// Instruction codes of classic BPF (include/uapi/linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Installs the filter on the calling thread, for good, with no_new_privs, and gives the listener. What the thread
/// executes inherits the filter; the listener is closed by exec.
///
/// # Errors
/// EBUSY: the thread has a filter with a listener already.
pub fn listen() -> io::Result<OwnedFd> {
    nix::sys::prctl::set_no_new_privs()?;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, DATA_ARCH),
        step(JUMP_EQUAL, 0, 5, ARCHITECTURE),
        step(LOAD_WORD, 0, 0, DATA_NR),
        step(JUMP_EQUAL, 0, 3, QUESTION as u32),
        step(LOAD_WORD, 0, 0, DATA_ARGUMENT),
        step(JUMP_EQUAL, 0, 1, PASSWORD),
        step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the program and its length belong together and live through the call, which copies it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match i32::try_from(listener) {
        // SAFETY: the kernel has just made this descriptor for the caller alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
