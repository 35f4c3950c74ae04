//! Proof that a layer works on this machine now: attempts made by a child of the runner's, in a slot of their
//! own, with the control beside each.
//!
//! A hook that loads and attaches may still enforce nothing; only a denial that was seen is believed.

mod filter;
pub mod landlock;
pub mod mountns;
mod net;
pub mod notify;
mod place;
pub mod tmp;

use std::{
    ffi::{CStr, CString},
    fs::{self, Permissions},
    io::{self, Read, Write},
    net::UdpSocket,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::{self, fs::PermissionsExt},
    },
    path::Path,
    sync::OnceLock,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::MsFlags,
    sched::{CloneFlags, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, SFlag},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};
use policy::{
    Policy, Variables,
    compile::lsm::{LsmPlan, SetTable, compile},
};
use sandbox_ebpf::abi::{
    config::{MAX_SLOTS, Mode as RunMode, RunConfig},
    event::Kind,
};

use crate::{
    enforce::{group::Purpose, lsm},
    kernel::{
        bpf,
        object::{Object, ObjectError},
    },
    record::SelfTest,
};

pub use filter::filter;

/// The slot that self-tests run in; runs use the others.
pub const SLOT: u32 = MAX_SLOTS - 1;

/// What a check found when it held.
pub const HELD: &str = "held";

/// What can keep a self-test from running at all.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The system refused something that the test needs.
    #[error("cannot run the self-test")]
    System(#[from] io::Error),
    /// The kernel refused a map operation.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// An attempt: 0, or the errno that it failed with.
type Attempt = fn() -> i32;

/// A hook, the attempt that shows it, and the errno that a denial has.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    attempt: Attempt,
    denied: Errno,
    /// The errno with which a machine refuses it to everybody; then there is nothing to hold.
    closed: Option<Errno>,
}

/// Things of the kernel's own that nobody can make, move or remove: there an attempt that passes the hooks
/// fails with EPERM, or changes nothing. The offsets are read from the same file.
const FILE: &str = "/sys/kernel/btf/vmlinux";
const DIRECTORY: &str = "/sys/kernel/btf";
const NO_NAME: &str = "/sys/kernel/btf/no-such-name";

const CHECKS: &[Check] = &[
    on_files("file_open", open_root),
    // A read-only /proc/sys says so before any hook is asked.
    on_acts("sysctl-write", open_setting, Some(Errno::EROFS)),
    on_files("bprm_check_security", execute_nothing),
    on_acts("socket_connect", connect, None),
    on_acts("socket_sendmsg", send, None),
    on_acts("socket_create", make_packet_socket, Some(Errno::EAFNOSUPPORT)),
    on_acts("socket_bind", net::bind_name, None),
    on_acts("socket_listen", net::listen, None),
    on_acts("socket_accept", net::accept, None),
    on_acts("unix_stream_connect", net::connect_name, None),
    on_acts("unix_may_send", net::send_to_name, None),
    on_files("task_alloc", open_root_in_child),
    on_files("mmap_file", load_itself),
    on_files("path_mknod", make_node),
    on_files("path_mkdir", || errno(fs::create_dir(NO_NAME))),
    on_files("path_symlink", || errno(unix::fs::symlink("nowhere", NO_NAME))),
    on_files("path_link", || errno(fs::hard_link(FILE, NO_NAME))),
    on_files("path_rename", || errno(fs::rename(FILE, NO_NAME))),
    on_files("path_unlink", || errno(fs::remove_file(FILE))),
    on_files("path_rmdir", || errno(fs::remove_dir(DIRECTORY))),
    on_files("path_truncate", || code(nix::unistd::truncate(FILE, 0))),
    on_files("path_chmod", || errno(fs::set_permissions(FILE, Permissions::from_mode(0o444)))),
    on_files("path_chown", || errno(unix::fs::chown(FILE, None, None))),
    on_files("inode_setattr", keep_times),
    on_files("inode_setxattr", || code(set_attribute(c"user.no-such-name", &[]))),
    on_files("inode_removexattr", || code(remove_attribute(c"user.no-such-name"))),
    // Before 6.2 these are the two above.
    on_files("inode_set_acl", || code(set_attribute(ACL, &OWNER_ONLY))),
    on_files("inode_remove_acl", || code(remove_attribute(ACL))),
    on_files("file_ioctl", set_flags),
    on_files("file_receive", receive_own),
    on_acts("sb_mount", mount_nothing, None),
    on_acts("move_mount", move_nothing, None),
    on_acts("sb_pivotroot", || code(nix::unistd::pivot_root(DIRECTORY, DIRECTORY)), None),
    on_acts("path_chroot", || code(nix::unistd::chroot("/")), None),
    // The machine's limit on user namespaces may be none.
    on_acts("userns_create", || apart(|| code(unshare(CloneFlags::CLONE_NEWUSER))), Some(Errno::ENOSPC)),
    // Yama may have switched attaching off.
    on_acts("ptrace_access_check", reach_out, Some(Errno::EPERM)),
    on_acts("ptrace_traceme", || apart(|| code(nix::sys::ptrace::traceme())), Some(Errno::EPERM)),
    on_acts("task_kill", || code(nix::sys::signal::kill(nix::unistd::getppid(), None)), None),
    on_acts("bpf", no_command, None),
];

const fn on_files(name: &'static str, attempt: Attempt) -> Check {
    Check { name, attempt, denied: Errno::EACCES, closed: None }
}

const fn on_acts(name: &'static str, attempt: Attempt, closed: Option<Errno>) -> Check {
    Check { name, attempt, denied: Errno::EPERM, closed }
}

/// Proves each hook of the `lsm` layer: every attempt passes before the child is a member of a run that denies
/// everything, and fails after.
///
/// # Errors
/// The test could not be run; that is no proof.
pub fn lsm(object: &Object) -> Result<Vec<SelfTest>, SelfTestError> {
    under_denial(object, CHECKS, || attempts(CHECKS, |child| lsm::admit(object, SLOT, child), || true))
}

/// What the control group's programs are proven by. A machine may have no IPv6.
const GROUP_CHECKS: &[Check] = &[
    on_acts("connect4", connect, None),
    on_acts("sendmsg4", send, None),
    on_acts("bind4", net::bind_v4, None),
    on_acts("connect6", net::connect_v6, Some(NO_V6)),
    on_acts("sendmsg6", net::send_v6, Some(NO_V6)),
    on_acts("bind6", net::bind_v6, Some(NO_V6)),
];

/// What a machine without IPv6 answers, made one of several by the attempts.
const NO_V6: Errno = Errno::EAFNOSUPPORT;

/// Proves the programs of the `cgroup-net` layer, as [`lsm()`] does: here the child becomes a member of the control group,
/// too, before it makes a socket.
///
/// # Errors
/// The test could not be run; that is no proof.
pub fn group(object: &Object, directory: &Path, purpose: Purpose) -> Result<Vec<SelfTest>, SelfTestError> {
    // Those that judge; others change nothing that could be seen.
    let checks: Vec<Check> = GROUP_CHECKS
        .iter()
        .filter(|check| match check.name {
            "connect4" | "connect6" => true,
            "bind4" | "bind6" => purpose == Purpose::Judge,
            _ => purpose != Purpose::Read,
        })
        .copied()
        .collect();
    let arm = object.arm_program()?;
    under_denial(object, &checks, || {
        attempts(
            &checks,
            |child| fs::write(directory.join("cgroup.procs"), child.to_string()),
            || bpf::run_program(arm, &[u64::from(SLOT)]).is_ok(),
        )
    })
}

/// What attempts came to, as errnos: outside of a run, and in one.
type Codes = (Vec<i32>, Vec<i32>);

/// What each check found, where `attempt` makes the attempts while the slot holds a policy that allows nothing. Hooks
/// judge those that they admitted, and nobody else.
fn under_denial(
    object: &Object,
    checks: &[Check],
    attempt: impl FnOnce() -> Result<Codes, SelfTestError>,
) -> Result<Vec<SelfTest>, SelfTestError> {
    let plan = deny_all()?;
    let mut installed = lsm::install(object, SLOT, &plan, lsm::Force::Whole)?;
    object.configure(SLOT, RunConfig { mode: RunMode::Enforce as u32, ..RunConfig::default() })?;
    let codes = attempt();
    object.configure(SLOT, RunConfig::default())?;
    lsm::remove(object, &mut installed)?;
    Ok(judged(checks, codes?))
}

/// What each check found.
fn judged(checks: &[Check], (before, after): Codes) -> Vec<SelfTest> {
    let found = checks.iter().zip(before.into_iter().zip(after)).map(|(check, (before, after))| SelfTest {
        check: check.name.to_owned(),
        result: judge(before, after, check),
    });
    found.collect()
}

/// A policy that allows nothing.
fn deny_all_policy() -> Result<Policy, SelfTestError> {
    const TEXT: &str = "version: 1\nname: selftest\nfiles: { default: deny }\nexec: { default: deny }\n\
                        network: { default: deny }\n";
    let policy = Policy::parse("selftest", TEXT, &Variables::new());
    Ok(policy.map_err(|errors| io::Error::other(errors.to_string()))?)
}

/// Its tables.
fn deny_all() -> Result<LsmPlan, SelfTestError> {
    let plan = compile(&[&deny_all_policy()?], 0, &mut SetTable::new());
    Ok(plan.map_err(io::Error::other)?)
}

fn judge(before: i32, after: i32, check: &Check) -> String {
    let denied = check.denied;
    let denied_code = denied as i32;
    let closed = check.closed.map(|errno| errno as i32);
    match (before, after) {
        (before, after) if before == after && Some(before) == closed => HELD.to_owned(),
        (before, after) if after == denied_code && before != denied_code => HELD.to_owned(),
        (before, _) if before == denied_code => {
            format!("inconclusive: the attempt fails with {denied} anyhow")
        }
        (_, 0) => "the attempt was not denied".to_owned(),
        (_, after) => format!("the attempt failed with {} instead of {denied}", Errno::from_raw(after)),
    }
}

/// Makes every attempt in a child, before and after `admit` (here) and `join` (there) made it a member.
fn attempts<E>(
    checks: &[Check],
    admit: impl FnOnce(u32) -> Result<(), E>,
    join: impl FnOnce() -> bool,
) -> Result<Codes, SelfTestError>
where
    SelfTestError: From<E>,
{
    let (mut results, mut answer) = io::pipe()?;
    let (mut wait, mut go) = io::pipe()?;
    // SAFETY: this process has one thread; the child makes its attempts and leaves by _exit.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Child => {
            drop((results, go));
            let mut round = || {
                let codes: Vec<u8> =
                    checks.iter().flat_map(|check| (check.attempt)().to_ne_bytes()).collect();
                answer.write_all(&codes).is_ok()
            };
            if round() && wait.read_exact(&mut [0]).is_ok() && join() {
                round();
            }
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((answer, wait));
            let mut round = || -> io::Result<Vec<i32>> {
                let mut codes = vec![0; checks.len()];
                for code in &mut codes {
                    let mut bytes = [0; 4];
                    results.read_exact(&mut bytes)?;
                    *code = i32::from_ne_bytes(bytes);
                }
                Ok(codes)
            };
            let before = round();
            let admitted = admit(child.as_raw() as u32);
            let after = match &admitted {
                Ok(()) => go.write_all(&[1]).and_then(|()| round()),
                Err(_) => Ok(vec![0; checks.len()]),
            };
            drop(go);
            waitpid(child, None).map_err(io::Error::from)?;
            admitted?;
            Ok((before?, after?))
        }
    }
}

/// A file's access control list, and one that says what mode 0 does: version 2, then owner, group, others.
const ACL: &CStr = c"system.posix_acl_access";
const OWNER_ONLY: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 32, 0, 0, 0, 0xff,
    0xff, 0xff, 0xff,
];

/// Sets an extended attribute of [`FILE`], which keeps none.
fn set_attribute(name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let file = CString::new(FILE).unwrap_or_default();
    // SAFETY: both names end with a NUL, the value has the length given, and all live through the call.
    let set = unsafe { libc::setxattr(file.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(set).map(drop)
}

fn remove_attribute(name: &CStr) -> Result<(), Errno> {
    let file = CString::new(FILE).unwrap_or_default();
    // SAFETY: both names end with a NUL and live through the call.
    Errno::result(unsafe { libc::removexattr(file.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Sets the time of [`FILE`] to what it is.
fn keep_times() -> i32 {
    use nix::sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    };
    let Ok(found) = nix::sys::stat::stat(FILE) else { return libc::EIO };
    let modified = TimeSpec::new(found.st_mtime, found.st_mtime_nsec);
    code(utimensat(
        nix::fcntl::AT_FDCWD,
        FILE,
        &TimeSpec::UTIME_OMIT,
        &modified,
        UtimensatFlags::FollowSymlink,
    ))
}

/// Asks for no flags of [`FILE`], which has none, by a descriptor from before: later it may not be opened.
fn set_flags() -> i32 {
    static OPENED: OnceLock<Option<fs::File>> = OnceLock::new();
    let Some(file) = OPENED.get_or_init(|| fs::File::open(FILE).ok()) else { return libc::EIO };
    let flags: libc::c_int = 0;
    // SAFETY: the request reads one int, which lives through the call.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) })
        .err()
        .map_or(0, |errno| errno as i32)
}

fn code(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, |errno| errno as i32)
}

fn errno(result: io::Result<()>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO))
}

/// Maps this program executable, from a file that is opened once: later it may not be.
fn load_itself() -> i32 {
    static FILE: OnceLock<Option<fs::File>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| fs::File::open("/proc/self/exe").ok()) else {
        return libc::EIO;
    };
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: the kernel chooses the address, so that nothing is replaced.
    let mapped =
        unsafe { libc::mmap(std::ptr::null_mut(), 1, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        return Errno::last_raw();
    }
    // SAFETY: mapped above, and nobody looks at it.
    unsafe { libc::munmap(mapped, 1) };
    0
}

fn raw(returned: libc::c_long) -> i32 {
    if returned < 0 { Errno::last_raw() } else { 0 }
}

/// mount(2) of a file system that no kernel has; where there is no /sys (a chroot), at the root.
fn mount_nothing() -> i32 {
    let at = if Path::new(DIRECTORY).is_dir() { DIRECTORY } else { "/" };
    code(nix::mount::mount(None::<&str>, at, Some("no-such-type"), MsFlags::empty(), None::<&str>))
}

/// move_mount(2) of a directory that is no mount.
fn move_nothing() -> i32 {
    let directory = CString::new(DIRECTORY).unwrap_or_default();
    let (at, path) = (libc::AT_FDCWD, directory.as_ptr());
    // SAFETY: the path ends with a NUL and lives through the call.
    raw(unsafe { libc::syscall(libc::SYS_move_mount, at, path, at, path, 0) })
}

/// An unknown command of bpf(2).
fn no_command() -> i32 {
    let attributes = [0u64; 16];
    // SAFETY: the attributes have the size given and live through the call.
    raw(unsafe { libc::syscall(libc::SYS_bpf, 9999, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// Takes a descriptor out of the process that tests.
fn reach_out() -> i32 {
    // SAFETY: no pointers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getppid(), 0) };
    if process < 0 {
        return Errno::last_raw();
    }
    // SAFETY: no pointers.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, 1, 0) };
    let result = raw(taken);
    for fd in [taken, process].into_iter().filter(|fd| *fd >= 0) {
        // SAFETY: made above, and nobody else's.
        unsafe { libc::close(fd as i32) };
    }
    result
}

/// Takes a descriptor of this process's own, as if it came from another: one from before, later it may not be opened.
fn receive_own() -> i32 {
    static OPENED: OnceLock<Option<fs::File>> = OnceLock::new();
    let Some(file) = OPENED.get_or_init(|| fs::File::open(FILE).ok()) else { return libc::EIO };
    // SAFETY: no pointers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    if process < 0 {
        return Errno::last_raw();
    }
    // SAFETY: no pointers.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, file.as_raw_fd(), 0) };
    let result = raw(taken);
    for fd in [taken, process].into_iter().filter(|fd| *fd >= 0) {
        // SAFETY: made above, and nobody else's.
        unsafe { libc::close(fd as i32) };
    }
    result
}

/// Makes the attempt in a child of its own, which it may change.
fn apart(attempt: fn() -> i32) -> i32 {
    // SAFETY: the child makes its attempt and leaves by _exit.
    match unsafe { fork() } {
        // SAFETY: ends the child at once.
        Ok(ForkResult::Child) => unsafe { libc::_exit(attempt()) },
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => status,
            _ => Errno::EIO as i32,
        },
        Err(errno) => errno as i32,
    }
}

fn make_node() -> i32 {
    code(nix::sys::stat::mknod(NO_NAME, SFlag::S_IFIFO, Mode::empty(), 0))
}

fn open_root() -> i32 {
    code(open("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map(drop))
}

/// Opens a setting of the kernel's, and changes nothing.
fn open_setting() -> i32 {
    code(open("/proc/sys/kernel/hostname", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map(drop))
}

/// Executes a file that is no program: ENOEXEC, unless it is denied before.
fn execute_nothing() -> i32 {
    let Ok(file) = memfd_create(c"selftest", MFdFlags::MFD_CLOEXEC) else { return Errno::EIO as i32 };
    if nix::unistd::write(&file, b"?").is_err() {
        return Errno::EIO as i32;
    }
    let nothing: [&CStr; 0] = [];
    // The descriptor is close-on-exec; for a file that is no script that does not matter.
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    match nix::unistd::execveat(&file, c"", &nothing, &nothing, flags) {
        Ok(never) => match never {},
        Err(errno) => errno as i32,
    }
}

fn make_packet_socket() -> i32 {
    net::make(libc::AF_PACKET, libc::SOCK_RAW)
}

fn connect() -> i32 {
    errno(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.connect("127.0.0.1:9")))
}

fn send() -> i32 {
    let sent = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"?", "127.0.0.1:9"));
    errno(sent.map(drop))
}

fn open_root_in_child() -> i32 {
    apart(open_root)
}

/// What the observer's self-test must see, by tracepoint.
const SEEN: [(&str, Kind); 5] = [
    ("sys_exit", Kind::Open),
    ("sys_enter", Kind::Entry),
    ("task_newtask", Kind::Fork),
    ("sched_process_exec", Kind::Exec),
    ("sched_process_exit", Kind::Exit),
];

/// Proves each tracepoint of the `trace` layer: a child does one thing of each kind; `drain` then gives the
/// kinds of the records with this slot that came.
///
/// # Errors
/// The test could not be run; that is no proof.
pub fn trace(object: &Object, drain: impl FnOnce() -> Vec<Kind>) -> Result<Vec<SelfTest>, SelfTestError> {
    object.configure(SLOT, RunConfig { mode: RunMode::Observe as u32, ..RunConfig::default() })?;
    let observed = act(object.arm_program()?);
    object.configure(SLOT, RunConfig::default())?;
    observed?;
    let kinds = drain();
    let found = SEEN.map(|(name, kind)| SelfTest {
        check: name.to_owned(),
        result: if kinds.contains(&kind) { HELD.to_owned() } else { "its record did not come".to_owned() },
    });
    Ok(found.into())
}

/// A child opens, renames, forks, and executes this program's `--version`.
fn act(arm: BorrowedFd<'_>) -> io::Result<()> {
    let program = CString::new("/proc/self/exe").unwrap_or_default();
    // On the heap, and so in memory that is present: a literal may not have been paged in yet.
    let missing = CString::new("/proc/self/no-such-name").unwrap_or_default();
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    // SAFETY: this process has one thread; the child calls only what needs no lock, and execs or _exits.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let _ = bpf::run_program(arm, &[u64::from(SLOT)]);
            open_root();
            // SAFETY: the name is NUL-ended; it does not exist, so nothing changes.
            unsafe { libc::rename(missing.as_ptr(), missing.as_ptr()) };
            open_root_in_child();
            let _ = nix::unistd::dup2_stdin(&null);
            let _ = nix::unistd::dup2_stdout(&null);
            let _ = nix::unistd::dup2_stderr(&null);
            let _ = nix::unistd::execve(&program, &[c"sandbox", c"--version"], &[] as &[&CStr]);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(1) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None)?;
            Ok(())
        }
    }
}
