//! A terminal of an enforced command's own: nothing that the kernel does for a terminal or its process groups reaches what is
//! outside, and questions can be put on the user's (`--ask-here`).
//!
//! ```text
//! shell ──▶ holder ──fork──▶ leader ──fork──▶ front-end …          (what follows is a run as any other)
//!           │ the user's        │ of a session on a
//!           │ terminal          │ pseudo terminal
//!           └── what is typed and shown, line by line of wire ──▶ its other end
//! ```
//!
//! The holder passes on what is typed and what is shown, stops where the run stops, and keeps the user's terminal from the
//! run, which has only the pseudo terminal (pty(7)). While a question is put nothing of the run's is shown, and nothing that
//! is typed comes to it. The leader is there for job control: the front-end's process group needs a parent in its session,
//! or nothing could stop it (setpgid(2), orphaned process groups).
//!
//! What a question is and what an answer does is not known here: see [`Put`].

mod editor;
mod holder;
mod leader;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::{SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, fork, getpgrp, tcgetpgrp};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::launch::handshake::{self, Channel};
use crate::launch::process::Process;
use crate::launch::signals::Signals;

pub use holder::{Holder, Typed, forget_typed, readable};

/// What the holder is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ring {
    /// This run was made.
    Run(Here),
    /// Its open questions are others than before.
    Questions,
    /// Its command was stopped.
    Stopped,
    /// It goes on after a stop.
    GoesOn,
}

/// The run on this terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// Its id.
    pub run: String,
    /// Its directory.
    pub directory: PathBuf,
}

/// Puts an open question of a run to whoever is at the terminal, each only once.
/// Gives whether there was one: what the run writes is shown before the next.
pub type Put<'a> = &'a mut dyn FnMut(&Here, &mut dyn Prompt) -> io::Result<bool>;

/// The user's terminal, for whoever puts a question on it.
pub trait Prompt {
    /// Shows all that the run has written so far, and from then on nothing of it: called when it is known that there is a
    /// question, whatever the run wrote before it asked stands before it. Gives whether the question may be put now: not while
    /// the command takes single keys.
    ///
    /// # Errors
    /// The terminal cannot be used.
    fn begin(&mut self) -> io::Result<bool>;

    /// A line that is typed.
    ///
    /// # Errors
    /// The same.
    fn line(&mut self) -> io::Result<Typed>;
}

/// The run's way to the holder.
#[derive(Clone, Debug)]
pub struct Bell {
    to: Arc<Channel<Ring, ()>>,
    /// The user's terminal.
    terminal: PathBuf,
}

impl Bell {
    /// Rings. A holder that has not listened for long still has enough to hear, and one that is gone needs nothing.
    pub fn ring(&self, ring: &Ring) {
        let _ = self.to.send(ring);
    }

    /// Makes the command's terminal its user's, who may open it by its name then.
    ///
    /// # Errors
    /// As fchown(2).
    pub fn give_to(&self, uid: u32) -> io::Result<()> {
        // Where it was begun, one of the standard streams is this terminal.
        match streams().next() {
            Some(stream) => Ok(rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None)?),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The name of the user's terminal.
    pub fn terminal(&self) -> &PathBuf {
        &self.terminal
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }
}

/// Which of the processes this is.
#[derive(Debug)]
pub enum Side {
    /// The one that is to run the command, on the pseudo terminal.
    Run(Bell),
    /// The one that the shell knows.
    Holder(Box<Holder>),
}

/// Makes the pseudo terminal and the processes, where a standard stream is the user's terminal: those that are become the
/// pseudo terminal for the run, others stay what they are. `None` where none is. The caller must have one thread only.
///
/// `asks`: whether questions are to be put there.
///
/// # Errors
/// Questions are to be put, and there is no terminal, or it is another job's; or the system refuses something.
pub fn split(asks: bool) -> Result<Option<Side>, Refusal> {
    let Some(terminal) = streams().next() else {
        return match asks {
            false => Ok(None),
            true => Err(Refusal::cannot_start(
                "--ask-here: none of the standard streams is this session's terminal; leave it out, and answer with \
                 `sandbox asks` in another",
            )),
        };
    };
    if asks && tcgetpgrp(terminal).map_err(refused("look at the terminal"))? != getpgrp() {
        return Err(Refusal::cannot_start(
            "--ask-here: the terminal is another job's; start the run in the foreground, or leave it out",
        ));
    }
    make(terminal).map(Some)
}

/// The standard streams that are the terminal of this session. Its number is 0 where it lies outside of the pid namespace.
fn streams() -> impl Iterator<Item = BorrowedFd<'static>> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    // SAFETY: integers only; no terminal is ENOTTY.
    let of = |stream: &BorrowedFd<'_>| unsafe { libc::tcgetsid(stream.as_raw_fd()) };
    // SAFETY: 0 is the caller.
    let session = unsafe { libc::getsid(0) };
    streams.into_iter().filter(move |stream| session >= 0 && of(stream) == session)
}

fn refused<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Refusal {
    move |error| {
        Refusal::cannot_start(format!("a terminal of the command's own: cannot {what}: {}", error.into()))
    }
}

fn make(terminal: BorrowedFd<'_>) -> Result<Side, Refusal> {
    let pseudo = refused("make a pseudo terminal");
    let path = std::fs::read_link(format!("/proc/self/fd/{}", terminal.as_raw_fd()))
        .map_err(refused("find the terminal's name"))?;
    let settings = tcgetattr(terminal).map_err(refused("look at the terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).map_err(&pseudo)?;
    grantpt(&master).and_then(|()| unlockpt(&master)).map_err(&pseudo)?;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(&pseudo)?;
    tcsetattr(&slave, rustix::termios::OptionalActions::Now, &settings).map_err(&pseudo)?;
    copy_size(terminal, &master);
    // Of its own, so that the shell's are not made to return at once.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |more| rustix::fs::open("/dev/tty", flags | more, Mode::empty());
    let opened = refused("open /dev/tty");
    let (screen, keys) = (open(OFlags::empty()).map_err(&opened)?, open(OFlags::NONBLOCK).map_err(&opened)?);
    let nonblocking =
        |fd: BorrowedFd<'_>| rustix::io::ioctl_fionbio(fd, true).map_err(refused("set up descriptors"));
    nonblocking(master.as_fd())?;
    let (to, rung) = handshake::pair::<Ring, ()>().map_err(refused("make sockets"))?;
    nonblocking(to.as_fd())?;
    let signals = Signals::take().map_err(refused("take the signals of the run"))?;
    // SAFETY: the process has one thread (see `split`), so the copy may do everything that the original may.
    match unsafe { fork() }.map_err(refused("fork the leader of the session"))? {
        ForkResult::Child => {
            drop((master, screen, keys, rung));
            // Streams first: they are compared with the session that is left.
            let on_slave = streams().try_for_each(|stream| onto(&slave, stream));
            match on_slave.and_then(|()| leader::lead(&slave, &signals, &to)) {
                Ok(()) => {
                    // This is the process of the run; what it takes of signals it takes itself.
                    sigprocmask(SigmaskHow::SIG_SETMASK, Some(signals.found_mask()), None)
                        .map_err(refused("put back the signals"))?;
                    Ok(Side::Run(Bell { to: Arc::new(to), terminal: path }))
                }
                Err(error) => Err(refused("begin a session")(error)),
            }
        }
        ForkResult::Parent { child } => {
            drop((slave, to));
            let leader = Process::open(child.as_raw().unsigned_abs())
                .map_err(refused("take hold of a process of the run"))?;
            Ok(Side::Holder(Box::new(Holder::new(holder::Ends {
                screen,
                keys,
                master,
                rung,
                leader,
                signals,
                settings,
            }))))
        }
    }
}

/// Puts the pseudo terminal where a standard stream was.
fn onto(slave: &OwnedFd, stream: BorrowedFd<'_>) -> io::Result<()> {
    match stream.as_raw_fd() {
        0 => rustix::stdio::dup2_stdin(slave)?,
        1 => rustix::stdio::dup2_stdout(slave)?,
        _ => rustix::stdio::dup2_stderr(slave)?,
    }
    Ok(())
}

/// Gives one terminal the size of another. One without a size leaves it as it is.
fn copy_size(from: impl AsFd, to: impl AsFd) {
    if let Ok(size @ Winsize { .. }) = tcgetwinsize(from) {
        let _ = tcsetwinsize(to, size);
    }
}
