//! Calls on a file's attributes, beside mode and owner: times, extended attributes, ACLs, flags.

use crate::raw::{self, Errno, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Root may set it on any file system that has extended attributes.
const NAME: &CStr = c"trusted.probe";
const ACL: &CStr = c"system.posix_acl_access";
/// Version 2; owner read and write, user 1 read, group and others nothing, mask read.
const LIST: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0xff, 0xff, 0xff,
    0xff, 16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
];
/// FS_NODUMP_FL (include/uapi/linux/fs.h).
static NO_DUMP: libc::c_int = 0x40;

/// The attempt behind a word; `None` when there is no such step.
pub fn attempt(word: &str, path: &CStr) -> Option<Result<(), Errno>> {
    Some(match word {
        "utimes" => times(libc::AT_FDCWD, path.as_ptr()),
        "futimes" => {
            raw::open(path, libc::O_RDONLY).and_then(|file| times(file.as_raw_fd(), std::ptr::null()))
        }
        "setxattr" => set(path, NAME, b"value"),
        "fsetxattr" => raw::open(path, libc::O_RDONLY).and_then(|file| set_open(&file)),
        "removexattr" => remove(path, NAME),
        "set-acl" => set(path, ACL, &LIST),
        "remove-acl" => remove(path, ACL),
        "chattr" => raw::open(path, libc::O_RDONLY).and_then(|file| flags(&file)),
        "memfd-attributes" => memfd().and_then(|file| {
            times(file.as_raw_fd(), std::ptr::null())?;
            set_open(&file)
        }),
        _ => return None,
    })
}

/// utimensat(2) to now; no name means the descriptor itself.
fn times(directory: i32, name: *const libc::c_char) -> Result<(), Errno> {
    let now = std::ptr::null::<libc::timespec>();
    // SAFETY: the name is null, or ends with a NUL and lives through the call; null times mean now.
    check(unsafe { libc::syscall(libc::SYS_utimensat, directory, name, now, 0) }).map(drop)
}

fn set(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the names end with a NUL, the value has the length given; all live through the call.
    check(unsafe {
        libc::syscall(libc::SYS_setxattr, path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), 0)
    })
    .map(drop)
}

fn set_open(file: &OwnedFd) -> Result<(), Errno> {
    let value = b"value";
    // SAFETY: as above.
    check(unsafe {
        libc::syscall(libc::SYS_fsetxattr, file.as_raw_fd(), NAME.as_ptr(), value.as_ptr(), value.len(), 0)
    })
    .map(drop)
}

fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: the names end with a NUL and live through the call.
    check(unsafe { libc::syscall(libc::SYS_removexattr, path.as_ptr(), name.as_ptr()) }).map(drop)
}

fn flags(file: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the request reads one int, which lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const NO_DUMP)
    })
    .map(drop)
}

/// memfd_create(2).
pub fn memfd() -> Result<OwnedFd, Errno> {
    // SAFETY: the name ends with a NUL and lives through the call.
    let made = check(unsafe { libc::syscall(libc::SYS_memfd_create, c"own".as_ptr(), 0) })?;
    let fd = i32::try_from(made).map_err(|_| libc::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
