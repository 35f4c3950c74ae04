//! Where steps are taken: other threads and processes, in the ways that membership could be lost.

use crate::raw::{self, Errno};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

/// Has the terminal on stdin give single keys.
pub fn take_keys() -> Result<(), Errno> {
    set_terminal(|settings| settings.local_flags.remove(LocalFlags::ICANON))
}

/// Has it give lines again.
pub fn take_lines() -> Result<(), Errno> {
    set_terminal(|settings| settings.local_flags.insert(LocalFlags::ICANON))
}

fn set_terminal(set: impl FnOnce(&mut Termios)) -> Result<(), Errno> {
    let failed = |error: nix::errno::Errno| error as Errno;
    let mut settings = tcgetattr(std::io::stdin()).map_err(failed)?;
    set(&mut settings);
    tcsetattr(std::io::stdin(), SetArg::TCSANOW, &settings).map_err(failed)
}

/// Takes the steps in a thread whose group leader has exited.
pub fn dead_leader(steps: &[String]) -> i32 {
    let steps = steps.to_vec();
    std::thread::spawn(move || {
        // The leader stays a zombie until the whole group is gone.
        while !leader_is_dead() {
            std::thread::yield_now();
        }
        std::process::exit(crate::take(&steps));
    });
    // SAFETY: ends this thread only; nothing on its stack is used by the other one.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    1
}

fn leader_is_dead() -> bool {
    let path = format!("/proc/{}/stat", std::process::id());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Executes this program again, from a thread that is not the leader, for the steps.
pub fn exec_in_thread(steps: &[String]) -> i32 {
    let Some(program) = own_path() else { return 1 };
    let arguments: Vec<CString> = steps.iter().filter_map(|step| CString::new(step.as_str()).ok()).collect();
    let failed = std::thread::spawn(move || {
        let argv: Vec<&CStr> = std::iter::once(&program).chain(&arguments).map(CString::as_c_str).collect();
        raw::execve(&program, &argv)
    });
    eprintln!("guest-probe: cannot execute itself: errno {:?}", failed.join().ok());
    1
}

fn own_path() -> Option<CString> {
    use std::os::unix::ffi::OsStringExt;
    // Not /proc/self: a leader that has exited has no executable any more.
    let path = std::fs::read_link("/proc/thread-self/exe").ok()?;
    CString::new(path.into_os_string().into_vec()).ok()
}

/// Takes the steps in a process of its own session whose parent has exited; waits until it is done.
pub fn daemon(steps: &[String]) -> i32 {
    let Ok((mut done, alive)) = std::io::pipe() else { return 1 };
    // The steps may execute another program; it is to hold the pipe as well.
    // SAFETY: the descriptor is open; F_SETFD takes no pointer.
    unsafe { libc::fcntl(alive.as_raw_fd(), libc::F_SETFD, 0) };
    match fork() {
        Ok(0) => {
            drop(done);
            // SAFETY: takes no pointers.
            unsafe { libc::setsid() };
            match fork() {
                Ok(0) => std::process::exit(crate::take(steps)),
                _ => std::process::exit(0),
            }
        }
        Ok(child) => {
            drop(alive);
            wait(child);
            // Nobody writes: it ends when the last process that holds the other end does.
            let _ = done.read_to_end(&mut Vec::new());
            0
        }
        Err(_) => 1,
    }
}

/// Executes a program with its arguments, all in one text; comes back only when it cannot.
pub fn become_program(line: &str) -> i32 {
    let words: Vec<CString> = line.split(',').filter_map(|word| CString::new(word).ok()).collect();
    let argv: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    // SAFETY: no pointers; nothing of this program is used any more but the standard streams.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let errno = raw::execve(argv[0], &argv);
    eprintln!("guest-probe: cannot become {line}: errno {errno}");
    1
}

/// Forks and executes `path` for `exit=0`; the result is that of execve(2).
pub fn run(path: &CStr) -> Result<(), Errno> {
    let (mut reader, mut writer) =
        std::io::pipe().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    let child = fork()?;
    if child == 0 {
        // The pipe closes on a successful exec.
        let errno = raw::execve(path, &[path, c"exit=0"]);
        let _ = writer.write_all(&errno.to_ne_bytes());
        std::process::exit(0);
    }
    drop(writer);
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    wait(child);
    read.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    match answer.try_into() {
        Ok(bytes) => Err(Errno::from_ne_bytes(bytes)),
        Err(_) => Ok(()),
    }
}

/// Executes another copy of this program as a child, for the steps; its exit code.
pub fn within(program: &str, steps: &[String]) -> i32 {
    let Ok(program) = CString::new(program) else { return 1 };
    let arguments: Vec<CString> = steps.iter().filter_map(|step| CString::new(step.as_str()).ok()).collect();
    match fork() {
        Ok(0) => {
            let argv: Vec<&CStr> =
                std::iter::once(&program).chain(&arguments).map(CString::as_c_str).collect();
            let errno = raw::execve(&program, &argv);
            eprintln!("guest-probe: cannot execute {program:?}: errno {errno}");
            std::process::exit(1)
        }
        Ok(child) => exit_code(child).unwrap_or_else(|| {
            eprintln!("guest-probe: a signal ended {program:?}");
            1
        }),
        Err(errno) => {
            eprintln!("guest-probe: cannot fork: errno {errno}");
            1
        }
    }
}

/// fork(2); this program forks only while it has one thread.
pub fn fork() -> Result<libc::pid_t, Errno> {
    // SAFETY: one thread, so that the child may go on with everything.
    let pid = unsafe { libc::fork() };
    raw::check(libc::c_long::from(pid)).map(|_| pid)
}

/// Waits for one child.
pub fn wait(child: libc::pid_t) {
    exit_code(child);
}

/// Waits for one child; its exit code, `None` if a signal ended it.
pub fn exit_code(child: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: status lives through the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    (waited == child && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
}
