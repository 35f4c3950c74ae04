//! Many tasks at once in one hook: a hook that one of them is in must still judge the others, and must not
//! keep them from making tasks.

use crate::places;
use crate::raw::{self, Errno};
use std::ffi::CStr;

/// Processes that race; more than the guest has processors.
const PROCESSES: usize = 6;
/// Tasks that each of them makes, one after the other; a task's first open is the one that needs memory.
const TASKS: usize = 200;
/// Opens that each of them makes beside every task.
const OPENS: usize = 10;

/// Exit code of a process in which an open succeeded.
const OPENED: i32 = 3;
/// Exit code of one that could not make a task.
const REFUSED: i32 = 4;

/// Opens `path` for reading from many new tasks at once. One open that succeeds is enough for success, one
/// task that could not be made for EAGAIN; else it fails with EACCES.
pub fn read(path: &CStr) -> Result<(), Errno> {
    let mut children = Vec::new();
    for _ in 0..PROCESSES {
        match places::fork()? {
            0 => std::process::exit(race(path)),
            child => children.push(child),
        }
    }
    let codes: Vec<_> = children.into_iter().map(places::exit_code).collect();
    if codes.contains(&Some(OPENED)) {
        Ok(())
    } else if codes.iter().all(|code| *code == Some(0)) {
        Err(libc::EACCES)
    } else {
        Err(libc::EAGAIN)
    }
}

/// One process; its exit code.
fn race(path: &CStr) -> i32 {
    let mut code = 0;
    for _ in 0..TASKS {
        let other = path.to_owned();
        let thread = std::thread::Builder::new().spawn(move || raw::open(&other, libc::O_RDONLY).is_ok());
        let opened = (0..OPENS).any(|_| raw::open(path, libc::O_RDONLY).is_ok());
        let refused = thread.is_err();
        if opened || thread.is_ok_and(|thread| thread.join().unwrap_or(true)) {
            return OPENED;
        }
        if refused {
            code = REFUSED;
        }
    }
    code
}
