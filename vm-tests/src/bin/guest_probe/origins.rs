//! Files by other ways than a name: descriptors from before or from elsewhere, handles, deleted names, code that no
//! directory has, programs that would gain privileges.

use crate::attributes::memfd;
use crate::places;
use crate::raw::{self, Errno, check};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The attempt behind a word; `None` when there is no such step.
pub fn attempt(word: &str, path: &CStr) -> Option<Result<(), Errno>> {
    Some(match word {
        "inherited" => read_byte(path.to_str().ok()?.parse().ok()?),
        "receive" => connect(path).and_then(|socket| receive(&socket).map(drop)),
        "pass" => raw::open(path, libc::O_RDONLY).and_then(|file| pass(&file)),
        "pass-own" => pass_own(),
        "handle" => by_handle(path),
        "reopen-deleted" => reopen_deleted(path),
        "overwrite" => raw::open(path, libc::O_WRONLY | libc::O_TRUNC).map(drop),
        "deep" => deep(path),
        "run-memfd" => copy_of(path).and_then(|file| execute(&file, &[c"memfd", c"exit=0"])),
        // The step, done by a copy of this program that is no file.
        "as-memfd" => copy_of(c"/proc/self/exe").and_then(|file| execute(&file, &[c"memfd", path])),
        "load-memfd" => copy_of(path).and_then(|file| raw::map_code(&file)),
        "reopen-memfd" => memfd().and_then(|file| reopen(&file, libc::O_RDWR)),
        "run-deleted" => run_deleted(path),
        "gain" => gain(path),
        "am-root" => am_root(),
        _ => return None,
    })
}

fn error() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn read_byte(fd: i32) -> Result<(), Errno> {
    let mut byte = 0u8;
    // SAFETY: the byte lives through the call.
    check(unsafe { libc::syscall(libc::SYS_read, fd, &raw mut byte, 1) }).map(drop)
}

/// Connects to a path socket.
fn connect(path: &CStr) -> Result<OwnedFd, Errno> {
    let socket = raw::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    let family = u16::try_from(libc::AF_UNIX).unwrap_or_default().to_ne_bytes();
    let address = [&family[..], path.to_bytes_with_nul()].concat();
    raw::connect(&socket, &address)?;
    Ok(socket)
}

/// Takes one descriptor from a socket. The kernel leaves one out that it does not hand over, and gives no reason:
/// then it is ENOMSG.
fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: msghdr is plain data, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points at memory that lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
    })?;
    // SAFETY: the kernel has filled in the message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: it is null, or leads into `control`.
    if header.is_null() || unsafe { (*header).cmsg_type } != libc::SCM_RIGHTS {
        return Err(libc::ENOMSG);
    }
    // SAFETY: such a message holds at least one descriptor, made for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned()) })
}

/// Sends a descriptor over a socket.
fn send(socket: &OwnedFd, file: &OwnedFd) -> Result<(), Errno> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: msghdr is plain data, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: a computation.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
    // SAFETY: `control` has room for the header and one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(file.as_raw_fd());
    }
    // SAFETY: the message points at memory that lives through the call.
    check(unsafe { libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const message, 0) }).map(drop)
}

/// Passes a descriptor to oneself.
fn pass(file: &OwnedFd) -> Result<(), Errno> {
    let mut pair = [0; 2];
    // SAFETY: two descriptors are written.
    check(unsafe {
        libc::syscall(
            libc::SYS_socketpair,
            libc::AF_UNIX,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
            pair.as_mut_ptr(),
        )
    })?;
    // SAFETY: the kernel has just made these for the caller alone.
    let [one, other] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    send(&one, file)?;
    receive(&other).map(drop)
}

/// What no directory has: a pipe, a memfd, a socket.
fn pass_own() -> Result<(), Errno> {
    let (pipe, _other) = io::pipe().map_err(|_| error())?;
    pass(&pipe.into())?;
    pass(&memfd()?)?;
    pass(&raw::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?)?;
    pass(&raw::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?)
}

/// open_by_handle_at(2).
fn by_handle(path: &CStr) -> Result<(), Errno> {
    // struct file_handle: size, type, bytes.
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount = 0;
    let at = libc::AT_FDCWD;
    // SAFETY: the handle has the room that it says, and all lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, at, path.as_ptr(), handle.as_mut_ptr(), &raw mut mount, 0)
    })?;
    let root = raw::open(c"/tmp", libc::O_RDONLY | libc::O_DIRECTORY)?;
    // SAFETY: as above.
    let opened = check(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.as_raw_fd(),
            handle.as_mut_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    })?;
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    drop(unsafe { OwnedFd::from_raw_fd(i32::try_from(opened).map_err(|_| libc::EOVERFLOW)?) });
    Ok(())
}

/// Opens what a descriptor leads to once more.
fn reopen(file: &OwnedFd, flags: i32) -> Result<(), Errno> {
    let link = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| libc::EINVAL)?;
    raw::open(&link, flags).map(drop)
}

fn unlink(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path ends with a NUL and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) }).map(drop)
}

/// Takes hold of a file, removes its name, and opens it.
fn reopen_deleted(path: &CStr) -> Result<(), Errno> {
    let handle = raw::open(path, libc::O_PATH)?;
    unlink(path)?;
    reopen(&handle, libc::O_RDONLY)
}

/// Makes directories inside each other until their path is longer than PATH_MAX, and lists the last.
fn deep(path: &CStr) -> Result<(), Errno> {
    let name = CString::new("d".repeat(250)).map_err(|_| libc::EINVAL)?;
    let mut directory = raw::open(path, libc::O_PATH)?;
    for _ in 0..18 {
        let (at, name) = (directory.as_raw_fd(), name.as_ptr());
        // SAFETY: the name ends with a NUL and lives through the call.
        match check(unsafe { libc::syscall(libc::SYS_mkdirat, at, name, 0o755) }) {
            Ok(_) | Err(libc::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        // SAFETY: as above.
        let opened =
            check(unsafe { libc::syscall(libc::SYS_openat, at, name, libc::O_PATH | libc::O_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for the caller alone.
        directory = unsafe { OwnedFd::from_raw_fd(i32::try_from(opened).map_err(|_| libc::EOVERFLOW)?) };
    }
    reopen(&directory, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// The content of a file in a memfd.
fn copy_of(path: &CStr) -> Result<OwnedFd, Errno> {
    let content = std::fs::read(path.to_str().map_err(|_| libc::EINVAL)?).map_err(|_| error())?;
    let mut file = std::fs::File::from(memfd()?);
    io::Write::write_all(&mut file, &content).map_err(|_| error())?;
    Ok(file.into())
}

/// execveat(2) of a descriptor in a child; the result is the call's.
fn execute(file: &OwnedFd, arguments: &[&CStr]) -> Result<(), Errno> {
    let (mut reader, mut writer) = io::pipe().map_err(|_| error())?;
    let child = places::fork()?;
    if child == 0 {
        let mut argv: Vec<*const libc::c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        argv.push(std::ptr::null());
        let environment: [*const libc::c_char; 1] = [std::ptr::null()];
        // SAFETY: all strings end with a NUL, both lists with a null pointer, and all live through the call.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                file.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        let _ = io::Write::write_all(&mut writer, &error().to_ne_bytes());
        std::process::exit(0);
    }
    drop(writer);
    let mut answer = Vec::new();
    let read = io::Read::read_to_end(&mut reader, &mut answer);
    places::wait(child);
    read.map_err(|_| error())?;
    answer.try_into().map_or(Ok(()), |bytes| Err(Errno::from_ne_bytes(bytes)))
}

/// Executes a file whose name is gone.
fn run_deleted(path: &CStr) -> Result<(), Errno> {
    let file = raw::open(path, libc::O_PATH)?;
    unlink(path)?;
    execute(&file, &[c"deleted", c"exit=0"])
}

/// Executes a set-uid copy of this program; EPERM where it did not gain anything.
fn gain(path: &CStr) -> Result<(), Errno> {
    let child = places::fork()?;
    if child == 0 {
        raw::execve(path, &[path, c"am-root"]);
        std::process::exit(127);
    }
    match places::exit_code(child) {
        Some(0) => Ok(()),
        Some(1) => Err(libc::EPERM),
        _ => Err(libc::EIO),
    }
}

/// For [`gain`]: ends at once, by exit code.
fn am_root() -> ! {
    // SAFETY: no pointers.
    let root = unsafe { libc::geteuid() } == 0;
    std::process::exit(i32::from(!root))
}
