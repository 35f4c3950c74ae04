//! Calls on names: one path, or two with a comma between.

use crate::raw::{self, Errno, check};
use std::ffi::CString;

/// The attempt behind a word; `None` when there is no such step.
pub fn attempt(word: &str, object: &str) -> Option<Result<(), Errno>> {
    let (first, second) = object.split_once(',').unwrap_or((object, ""));
    call(word, &CString::new(first).ok()?, &CString::new(second).ok()?)
}

/// open(2), where the machine has it.
///
/// # Safety
/// The name ends with a NUL.
unsafe fn open(name: *const libc::c_char, flags: i32) -> libc::c_long {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller promises.
    return unsafe { libc::syscall(libc::SYS_open, name, flags, 0o600) };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller promises.
    return unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name, flags, 0o600) };
}

/// The same on names as they are.
pub fn call(word: &str, first: &CString, second: &CString) -> Option<Result<(), Errno>> {
    let (one, two) = (first.as_ptr(), second.as_ptr());
    let at = libc::AT_FDCWD;
    // SAFETY: in every call the names end with a NUL and live through it; no other argument is a pointer.
    let returned = unsafe {
        match word {
            "create" => {
                return Some(raw::open(first, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).map(drop));
            }
            "create-read" => {
                return Some(raw::open(first, libc::O_RDONLY | libc::O_CREAT | libc::O_EXCL).map(drop));
            }
            "create-openat2" => {
                return Some(raw::openat2(first, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).map(drop));
            }
            "create-open" => {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
                open(one, flags)
            }
            "mkdir" => libc::syscall(libc::SYS_mkdirat, at, one, 0o755),
            "mknod" => libc::syscall(libc::SYS_mknodat, at, one, libc::S_IFIFO | 0o644, 0),
            "symlink" => libc::syscall(libc::SYS_symlinkat, c"elsewhere".as_ptr(), at, one),
            "link" => libc::syscall(libc::SYS_linkat, at, one, at, two, 0),
            "rename" => libc::syscall(libc::SYS_renameat2, at, one, at, two, 0),
            "exchange" => libc::syscall(libc::SYS_renameat2, at, one, at, two, libc::RENAME_EXCHANGE),
            "unlink" => libc::syscall(libc::SYS_unlinkat, at, one, 0),
            "rmdir" => libc::syscall(libc::SYS_unlinkat, at, one, libc::AT_REMOVEDIR),
            "truncate" => libc::syscall(libc::SYS_truncate, one, 0),
            "chmod" => libc::syscall(libc::SYS_fchmodat, at, one, 0o600),
            "chown" => libc::syscall(libc::SYS_fchownat, at, one, 1, 1, 0),
            "bind-path" => return Some(bind(first)),
            "tmpfile" => return Some(tmpfile(first, second)),
            _ => return None,
        }
    };
    Some(check(returned).map(|fd| {
        if word == "create-open" {
            close(fd)
        }
    }))
}

fn close(fd: libc::c_long) {
    // SAFETY: the descriptor was made by the attempt, and is nobody else's.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// Binds a socket to a path.
fn bind(path: &CString) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let socket = raw::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    let family = u16::try_from(libc::AF_UNIX).unwrap_or_default().to_ne_bytes();
    let address = [&family[..], path.as_bytes_with_nul()].concat();
    // SAFETY: the address has the length given and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_bind, socket.as_raw_fd(), address.as_ptr(), address.len()) })
        .map(drop)
}

/// Makes a file without a name in a directory, and gives it one.
fn tmpfile(directory: &CString, name: &CString) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let file = raw::open(directory, libc::O_WRONLY | libc::O_TMPFILE)?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| libc::EINVAL)?;
    let at = libc::AT_FDCWD;
    // SAFETY: both names end with a NUL and live through the call.
    check(unsafe {
        libc::syscall(libc::SYS_linkat, at, path.as_ptr(), at, name.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    })
    .map(drop)
}
