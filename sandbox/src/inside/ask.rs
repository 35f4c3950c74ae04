//! The run's side: asks the runner what was denied.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::{PASSWORD, QUESTION, board};
use crate::explain::Group;
use crate::explain::lines::{self, Line};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the runner said.
#[derive(Debug)]
pub struct Answer {
    /// The latest denials first.
    pub groups: Vec<Group>,
    /// Denied attempts that no group stands for.
    pub more: u64,
}

/// Asks the runner of the run that this process is in; `None` where there is none that answers.
///
/// # Errors
/// There is one, and its answer did not come or cannot be read.
pub fn ask() -> io::Result<Option<Answer>> {
    let (send, answer) = channel();
    // The call waits in the kernel for as long as it takes; this thread need not.
    std::thread::Builder::new().name("ask".into()).spawn(move || send.send(call()))?;
    let board = match answer.recv_timeout(PATIENCE) {
        Ok(Ok(board)) => board,
        // No kernel has this call, and no filter in front of one lets an unknown call pass.
        Ok(Err(error)) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            return Ok(None);
        }
        Ok(Err(error)) => return Err(error),
        Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the thread that asks died")),
    };
    let text = board::read(&File::from(board))?;
    let (mut groups, mut more) = (Vec::new(), 0);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match lines::read(line) {
            Some(Line::Group(group)) => groups.push(*group),
            Some(Line::More(count)) => more = count,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer cannot be read")),
        }
    }
    Ok(Some(Answer { groups, more }))
}

fn call() -> io::Result<OwnedFd> {
    // SAFETY: no argument is a pointer.
    let answer = unsafe { libc::syscall(QUESTION, libc::c_ulong::from(PASSWORD), 0, 0, 0, 0, 0) };
    match i32::try_from(answer) {
        // SAFETY: the answer is a descriptor that was just made for this process alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
