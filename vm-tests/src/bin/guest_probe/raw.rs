//! System calls, each with the errno the kernel gave. No retries, no second path.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An error number, above zero.
pub type Errno = i32;

/// What the last failed call left in errno.
fn errno() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Turns a system call's return value into a result.
pub fn check(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned < 0 { Err(errno()) } else { Ok(returned) }
}

fn own(returned: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(check(returned)?).map_err(|_| libc::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// openat(2) from the current directory.
pub fn open(path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: path ends with a NUL and lives through the call.
    own(unsafe {
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600)
    })
}

/// mmap(2) of a file's first byte as code; it is unmapped again.
pub fn map_code(file: &OwnedFd) -> Result<(), Errno> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let map = libc::MAP_PRIVATE;
    // SAFETY: the kernel chooses the address, so that nothing is replaced.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 1, protection, map, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: mapped above, and nobody looks at it.
    unsafe { libc::munmap(mapped, 1) };
    Ok(())
}

/// link(2) from the current directory.
pub fn link(old: &CStr, new: &CStr) -> Result<(), Errno> {
    let at = libc::AT_FDCWD;
    // SAFETY: both end with a NUL and live through the call.
    check(unsafe { libc::syscall(libc::SYS_linkat, at, old.as_ptr(), at, new.as_ptr(), 0) }).map(drop)
}

/// rename(2) from the current directory.
pub fn rename(old: &CStr, new: &CStr) -> Result<(), Errno> {
    let at = libc::AT_FDCWD;
    // SAFETY: both end with a NUL and live through the call.
    check(unsafe { libc::syscall(libc::SYS_renameat2, at, old.as_ptr(), at, new.as_ptr(), 0) }).map(drop)
}

/// openat2(2) from the current directory.
pub fn openat2(path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // struct open_how: flags, mode, resolve.
    let how = [u64::from((flags | libc::O_CLOEXEC).cast_unsigned()), 0, 0];
    // SAFETY: path ends with a NUL, how has the size given; both live through the call.
    own(unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), how.as_ptr(), size_of_val(&how))
    })
}

/// execve(2) with these arguments and no environment; returns only when it fails.
pub fn execve(path: &CStr, arguments: &[&CStr]) -> Errno {
    let mut argv: Vec<*const libc::c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    argv.push(std::ptr::null());
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: all strings end with a NUL, both lists with a null pointer, and all live through the call.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    errno()
}

/// socket(2).
pub fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    own(unsafe { libc::syscall(libc::SYS_socket, domain, kind | libc::SOCK_CLOEXEC, protocol) })
}

/// connect(2).
pub fn connect(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    // SAFETY: the address has the length given and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_connect, socket.as_raw_fd(), address.as_ptr(), address.len()) })
        .map(drop)
}

/// sendto(2) of one byte.
pub fn sendto(socket: &OwnedFd, flags: i32, address: &[u8]) -> Result<(), Errno> {
    let data = [b'x'];
    // SAFETY: data and address have the lengths given and live through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_sendto,
            socket.as_raw_fd(),
            data.as_ptr(),
            data.len(),
            flags,
            address.as_ptr(),
            address.len(),
        )
    })
    .map(drop)
}

/// sendmsg(2) of one byte.
pub fn sendmsg(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let data = [b'x'];
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: msghdr is plain data, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = address.as_ptr().cast_mut().cast();
    message.msg_namelen = u32::try_from(address.len()).map_err(|_| libc::EINVAL)?;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: the message points at memory that lives through the call; sendmsg only reads it.
    check(unsafe { libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const message, 0) }).map(drop)
}

/// Only x86-64 lets 64-bit code make 32-bit calls.
#[cfg(not(target_arch = "x86_64"))]
pub fn compat_open(_: &CStr, _: i32) -> Result<OwnedFd, Errno> {
    Err(libc::ENOSYS)
}

/// open(2) of the 32-bit table, by `int 0x80` from 64-bit code.
#[cfg(target_arch = "x86_64")]
pub fn compat_open(path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    const OPEN: i64 = 5;
    let bytes = path.to_bytes_with_nul();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // Such a call takes addresses of 32 bits.
    let mapping = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: the kernel chooses the address; the mapping is the caller's alone.
    let low = unsafe { libc::mmap(std::ptr::null_mut(), bytes.len(), protection, mapping, -1, 0) };
    if low == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: the mapping has at least as many bytes, and cannot overlap the path.
    unsafe { low.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    let mut returned = OPEN;
    // SAFETY: the call reads a string that ends with a NUL; rbx, which the compiler keeps for itself, is put
    // back; the kernel may clear r8 to r11.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {path}",
            "int 0x80",
            "xchg rbx, {path}",
            path = inout(reg) low => _,
            inlateout("rax") returned,
            in("rcx") i64::from(flags | libc::O_CLOEXEC),
            in("rdx") 0i64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    // SAFETY: mapped above with this size, and not used again.
    unsafe { libc::munmap(low, bytes.len()) };
    // A 32-bit value: its upper half is not told.
    let returned = returned as i32;
    if returned < 0 {
        return Err(-returned);
    }
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(returned) })
}
