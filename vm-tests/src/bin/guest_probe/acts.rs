//! Acts that reach past files and addresses.

use crate::places;
use crate::raw::{Errno, check};
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd};

/// The attempt behind a word; `None` when there is no such step.
pub fn attempt(word: &str, path: &CStr) -> Option<Result<(), Errno>> {
    let name = path.as_ptr() as libc::c_long;
    Some(match word {
        // Onto itself, so that nothing changes.
        "mount" => call(libc::SYS_mount, [name, name, 0, libc::MS_BIND as libc::c_long]),
        "open-tree" => {
            let (here, clone) = (libc::AT_FDCWD.into(), libc::OPEN_TREE_CLONE as libc::c_long);
            own(call_number(libc::SYS_open_tree, [here, name, clone, 0])).map(drop)
        }
        "chroot" => call(libc::SYS_chroot, [name, 0, 0, 0]),
        "userns" => apart(|| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])),
        "many" => many(path.to_str().ok()?.parse().ok()?),
        "memory" => memory(path.to_str().ok()?.parse().ok()?),
        "traceme" => apart(|| call(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0, 0])),
        // A descriptor of the parent: of a process outside the run.
        "attach-parent" => attach(parent()),
        "attach" => attach(path.to_str().ok()?.parse().ok()?),
        "signal-parent" => call(libc::SYS_kill, [parent().into(), 0, 0, 0]),
        "signal" => call(libc::SYS_kill, [path.to_str().ok()?.parse().ok()?, 0, 0, 0]),
        "own-parent" => own_parent(path.to_str().ok()?)?,
        "bpf" => map(),
        // Calls that come to nothing: an errno of their own, or EPERM from the filter.
        "userfaultfd" => call(libc::SYS_userfaultfd, [-1; 4]),
        "kcmp" => call(libc::SYS_kcmp, [-1; 4]),
        "io-cancel" => call(libc::SYS_io_cancel, [-1; 4]),
        "getpid" => call(libc::SYS_getpid, [0; 4]),
        "setns" => call(libc::SYS_setns, [-1; 4]),
        "perf" => check(perf()).map(drop),
        "keyctl" => call(libc::SYS_keyctl, [-1; 4]),
        "finit-module" => call(libc::SYS_finit_module, [-1, 0, 0, 0]),
        "io-uring" => call(libc::SYS_io_uring_setup, [0; 4]),
        "set-clock" => call(libc::SYS_clock_settime, [0; 4]),
        _ => return None,
    })
}

/// A system call of four arguments and a fifth that is 0.
fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> Result<(), Errno> {
    check(call_number(number, arguments)).map(drop)
}

/// The same; what it returned.
fn call_number(number: libc::c_long, [a, b, c, d]: [libc::c_long; 4]) -> libc::c_long {
    // SAFETY: what the callers pass as a pointer is a string that ends with a NUL and outlives the call.
    unsafe { libc::syscall(number, a, b, c, d, 0) }
}

fn parent() -> libc::pid_t {
    // SAFETY: no pointers.
    unsafe { libc::getppid() }
}

/// So many children that live at the same time; the first failure.
fn many(count: u32) -> Result<(), Errno> {
    let (alive, hold) = std::io::pipe().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    let mut children = Vec::new();
    let mut result = Ok(());
    for _ in 0..count {
        match places::fork() {
            Ok(0) => {
                drop(hold);
                // Ends when the parent lets go of the other end.
                let _ = std::io::Read::read(&mut &alive, &mut [0]);
                std::process::exit(0);
            }
            Ok(child) => children.push(child),
            Err(errno) => {
                result = Err(errno);
                break;
            }
        }
    }
    drop(hold);
    children.into_iter().for_each(places::wait);
    result
}

/// So many MiB that are written to, in a child; EIO where that is killed.
fn memory(mib: usize) -> Result<(), Errno> {
    let child = places::fork()?;
    if child == 0 {
        let mut pages = vec![0u8; mib << 20];
        pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::process::exit(i32::from(std::hint::black_box(&pages).is_empty()));
    }
    places::exit_code(child).filter(|code| *code == 0).map(drop).ok_or(libc::EIO)
}

/// Makes the attempt in a child; the result comes by its exit status.
fn apart(attempt: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    let child = places::fork()?;
    if child == 0 {
        std::process::exit(attempt().err().unwrap_or(0));
    }
    let mut status = 0;
    // SAFETY: status lives through the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        0 => Err(libc::EIO),
        errno => Err(errno),
    }
}

fn own(returned: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(check(returned)?).map_err(|_| libc::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor of a process.
fn attach(pid: libc::pid_t) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: no pointers.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: no pointers.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), 1, 0) }).map(drop)
}

/// perf_event_open(2) with flags that there are not: looked at before anything else.
fn perf() -> libc::c_long {
    // SAFETY: the kernel looks at the flags first, and at no pointer then.
    unsafe { libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, -1) }
}

/// A map of bpf(2): BPF_MAP_CREATE of an array of one word.
fn map() -> Result<(), Errno> {
    let attributes: [u32; 16] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the attributes have the size given and live through the call.
    own(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) }).map(drop)
}

/// Makes the parent the one whom a socket's readiness is signalled to; `None` when there is no such way.
fn own_parent(way: &str) -> Option<Result<(), Errno>> {
    use std::os::fd::AsRawFd;
    #[repr(C)]
    struct Owner {
        kind: libc::c_int,
        pid: libc::pid_t,
    }
    const F_SETOWN_EX: libc::c_int = 15;
    const F_OWNER_PID: libc::c_int = 1;
    const FIOSETOWN: libc::Ioctl = 0x8901;
    let (socket, _other) = std::os::unix::net::UnixDatagram::pair().ok()?;
    let (fd, pid) = (socket.as_raw_fd(), parent());
    let owner = Owner { kind: F_OWNER_PID, pid };
    // SAFETY: the descriptor is open; what is passed as a pointer lives through the call.
    let result = unsafe {
        match way {
            "fcntl" => libc::fcntl(fd, libc::F_SETOWN, pid),
            "fcntl-ex" => libc::fcntl(fd, F_SETOWN_EX, &raw const owner),
            "ioctl" => libc::ioctl(fd, FIOSETOWN, &raw const pid),
            _ => return None,
        }
    };
    Some(check(result.into()).map(drop))
}
