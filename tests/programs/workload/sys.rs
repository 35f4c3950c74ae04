//! System calls by their number, so that a workload makes exactly the call that it means.

use std::ffi::CStr;

/// An argument of a call.
#[derive(Clone, Copy)]
pub enum Arg<'a> {
    /// A number, a descriptor, flags.
    Int(i64),
    /// A string.
    Text(&'a CStr),
    /// Bytes for the kernel to read.
    Bytes(&'a [u8]),
    /// A list of strings, ended by a null pointer.
    List(&'a [*const libc::c_char]),
}

impl From<i32> for Arg<'_> {
    fn from(number: i32) -> Self {
        Arg::Int(i64::from(number))
    }
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Arg::Int(number)
    }
}

impl<'a> From<&'a CStr> for Arg<'a> {
    fn from(text: &'a CStr) -> Self {
        Arg::Text(text)
    }
}

impl<'a> From<&'a [*const libc::c_char]> for Arg<'a> {
    fn from(list: &'a [*const libc::c_char]) -> Self {
        assert!(list.last().is_some_and(|last| last.is_null()), "a list must end in a null pointer");
        Arg::List(list)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Arg::Bytes(bytes)
    }
}

/// Makes a call; the error is a positive errno.
pub fn invoke(number: i64, args: &[Arg<'_>]) -> Result<i32, i32> {
    let mut raw = [0i64; 6];
    for (slot, arg) in raw.iter_mut().zip(args) {
        *slot = match arg {
            Arg::Int(number) => *number,
            Arg::Text(text) => text.as_ptr() as i64,
            Arg::Bytes(bytes) => bytes.as_ptr() as i64,
            Arg::List(list) => list.as_ptr() as i64,
        };
    }
    // SAFETY: every pointer comes from a live reference in `args`; strings and lists are terminated. The
    // calls made here only read their arguments, or are given null where they would write.
    let result = unsafe { libc::syscall(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().expect("an errno"));
    }
    Ok(i32::try_from(result).expect("a small result"))
}

/// `call!(openat, AT_FDCWD, c"name", flags)`: a call with its result, `Err` holding a positive errno.
macro_rules! call {
    ($name:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::invoke($crate::sys::number::$name, &[$($crate::sys::Arg::from($arg)),*])
    };
}
pub(crate) use call;

/// Numbers of the calls, by their plain names.
#[expect(non_upper_case_globals, reason = "they are the names of system calls")]
pub mod number {
    pub const chroot: i64 = libc::SYS_chroot;
    pub const memfd_create: i64 = libc::SYS_memfd_create;
    pub const chdir: i64 = libc::SYS_chdir;
    pub const connect: i64 = libc::SYS_connect;
    pub const execve: i64 = libc::SYS_execve;
    pub const execveat: i64 = libc::SYS_execveat;
    pub const exit: i64 = libc::SYS_exit;
    pub const fchdir: i64 = libc::SYS_fchdir;
    pub const linkat: i64 = libc::SYS_linkat;
    pub const mkdirat: i64 = libc::SYS_mkdirat;
    pub const mount: i64 = libc::SYS_mount;
    pub const openat: i64 = libc::SYS_openat;
    pub const openat2: i64 = libc::SYS_openat2;
    pub const renameat: i64 = libc::SYS_renameat;
    pub const renameat2: i64 = libc::SYS_renameat2;
    pub const setgroups: i64 = libc::SYS_setgroups;
    pub const setresgid: i64 = libc::SYS_setresgid;
    pub const setresuid: i64 = libc::SYS_setresuid;
    pub const socket: i64 = libc::SYS_socket;
    pub const symlinkat: i64 = libc::SYS_symlinkat;
    pub const unlinkat: i64 = libc::SYS_unlinkat;
    pub const unshare: i64 = libc::SYS_unshare;
    pub use super::old::*;
}

/// Calls that newer machines are without.
#[cfg(target_arch = "x86_64")]
#[expect(non_upper_case_globals, reason = "they are the names of system calls")]
mod old {
    pub const creat: i64 = libc::SYS_creat;
    pub const link: i64 = libc::SYS_link;
    pub const mkdir: i64 = libc::SYS_mkdir;
    pub const open: i64 = libc::SYS_open;
    pub const rename: i64 = libc::SYS_rename;
    pub const rmdir: i64 = libc::SYS_rmdir;
    pub const symlink: i64 = libc::SYS_symlink;
    pub const unlink: i64 = libc::SYS_unlink;
}

/// There the workload fails with ENOSYS, as the call itself would.
#[cfg(not(target_arch = "x86_64"))]
#[expect(non_upper_case_globals, reason = "they are the names of system calls")]
mod old {
    pub const creat: i64 = -1;
    pub const link: i64 = -1;
    pub const mkdir: i64 = -1;
    pub const open: i64 = -1;
    pub const rename: i64 = -1;
    pub const rmdir: i64 = -1;
    pub const symlink: i64 = -1;
    pub const unlink: i64 = -1;
}

/// Checks that a call failed with this errno.
#[track_caller]
pub fn fails(result: Result<i32, i32>, errno: i32) {
    assert_eq!(result, Err(errno), "a call of the workload ended otherwise than it must");
}

/// Takes the result of a call that does not come back: an exec, an exit.
#[track_caller]
pub fn never(result: Result<i32, i32>) -> ! {
    panic!("a call of the workload came back: {result:?}");
}

/// Checks that a call succeeded, and returns what it returned.
#[track_caller]
pub fn works(result: Result<i32, i32>) -> i32 {
    result.expect("a call of the workload must succeed")
}

/// The bytes of a kernel structure.
pub fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: a live value of a plain C structure, read as bytes for as long as it is borrowed.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Runs `act` in a child made by fork, waits for it, and checks that it ended with status 0.
#[track_caller]
pub fn in_child(act: impl FnOnce()) {
    assert_eq!(status_of_child(act), 0, "a child of the workload failed");
}

/// Runs `act` in a child made by fork, waits for it, and returns its exit status.
pub fn status_of_child(act: impl FnOnce()) -> i32 {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    // SAFETY: this process has one thread here, so that the child may do all that this one may.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            std::process::exit(if done.is_ok() { 0 } else { 99 });
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("waitpid") {
            WaitStatus::Exited(_, status) => status,
            other => panic!("a child of the workload ended as {other:?}"),
        },
    }
}

/// Becomes uid and gid 65534, without groups. False where this is an ordinary user already: then it owns what was made.
pub fn become_nobody() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    works(call!(setgroups, 0, 0));
    works(call!(setresgid, 65534, 65534, 65534));
    works(call!(setresuid, 65534, 65534, 65534));
    true
}
