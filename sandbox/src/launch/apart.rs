//! The first process of a run on its way into namespaces, and what the command finds there.
//!
//! What namespaces are is [`crate::enforce::namespaces`]; this is when they are entered: before the process is a member
//! of the run, so that what listens for the runner is nobody's act, and before it takes the ids of the command's user.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::ender;
use super::handshake::{Armed, Channel, Join, Received, ToChild};
use super::inherited;
use super::program::Program;
use crate::enforce::mountns::Mounts;
use crate::enforce::namespaces::families::{self, UnixSockets};
use crate::enforce::namespaces::{Namespaces, enter};
use crate::enforce::relay::variables;

/// Whether the process is in namespaces of its own.
#[derive(Debug, Default)]
pub struct Apart {
    /// Where the relay is found, in a network namespace.
    relay: Option<SocketAddr>,
    /// Whether it has a /tmp of its own.
    tmp: bool,
    /// Whether there is an ender, which the kernel may count as one of its user's processes.
    guarded: bool,
}

/// Waits for the word to become a member, and does what comes before it; gives that word and its descriptors. `None`
/// where the run does not start. `cwd` is where the process is to be behind its covers.
pub fn enter_until_joined(
    collector: &Channel<Armed, ToChild>,
    cwd: &Path,
) -> Option<(Apart, Join, Vec<OwnedFd>)> {
    let mut apart = Apart::default();
    loop {
        match collector.receive() {
            Ok(Received::Message(ToChild::Enter(namespaces), _)) => apart = go_in(&namespaces, collector)?,
            Ok(Received::Message(ToChild::Cover(mounts), _)) => {
                cover(&mounts, cwd, collector)?;
                apart.tmp = mounts.tmp().is_some();
            }
            Ok(Received::Message(ToChild::Guard { outside }, _)) => {
                be_guarded(outside, collector)?;
                apart.guarded = true;
            }
            Ok(Received::Message(ToChild::Join(join), descriptors)) => {
                return Some((apart, join, descriptors));
            }
            Ok(Received::Closed) | Err(_) => return None,
        }
    }
}

/// Lays the covers.
fn cover(mounts: &Mounts, cwd: &Path, collector: &Channel<Armed, ToChild>) -> Option<()> {
    let laid = mounts.enter(cwd);
    let told = match &laid {
        Ok(()) => collector.send(&Armed::Covered),
        Err(error) => collector.send(&Armed::NotCovered { why: error.to_string() }),
    };
    told.ok().and(laid.ok())
}

/// Makes the ender, in the namespaces of the run and behind its covers: who is in its domain mounts nothing any more.
fn be_guarded(outside: u32, collector: &Channel<Armed, ToChild>) -> Option<()> {
    let told = match ender::start(outside) {
        Ok(link) => collector.send_with(&Armed::Guarded, &[link.as_fd()]),
        Err(why) => collector.send(&Armed::NotGuarded { why }),
    };
    told.ok()
}

fn go_in(namespaces: &Namespaces, collector: &Channel<Armed, ToChild>) -> Option<Apart> {
    let entered = enter(namespaces).map_err(|error| format!("{:#}", anyhow::Error::new(error)));
    let relay = match &entered {
        Ok(Some(inside)) => inside.relay_address().map(Some).map_err(|error| error.to_string()),
        Ok(None) => Ok(None),
        Err(why) => Err(why.clone()),
    };
    let told = match (&entered, &relay) {
        (Ok(inside), Ok(_)) => {
            let descriptors = inside.iter().flat_map(|inside| inside.descriptors()).collect::<Vec<_>>();
            let description = inside.as_ref().map(|inside| inside.description());
            collector.send_with(&Armed::Entered(description), &descriptors)
        }
        (Err(why), _) | (_, Err(why)) => collector.send(&Armed::NotEntered { why: why.clone() }),
    };
    told.ok()?;
    relay.ok().map(|relay| Apart { relay, ..Apart::default() })
}

impl Apart {
    /// Closes the families of sockets that a network namespace does not hold. It needs no_new_privs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn close_other_families(&self, unix: UnixSockets) -> io::Result<()> {
        match self.relay {
            Some(_) => families::install(unix),
            None => Ok(()),
        }
    }

    /// Whether it has a /tmp of its own.
    pub fn has_tmp(&self) -> bool {
        self.tmp
    }

    /// Whether there is an ender.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Fails where a standard descriptor leads out of the network namespace.
    ///
    /// # Errors
    /// EPERM: one does; it cannot be told.
    pub fn check_standard_descriptors(&self) -> io::Result<()> {
        for fd in (0..3).filter(|fd| self.relay.is_some() && inherited::was_open(*fd)) {
            // SAFETY: it was open when the program was started, and nothing closes it before the command is executed.
            let descriptor = unsafe { BorrowedFd::borrow_raw(fd) };
            if families::leads_out(descriptor)? {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        }
        Ok(())
    }

    /// The program with variables that lead it to the relay, those of `allowed`; `None` where there is none.
    pub fn lead(&self, program: &Program, allowed: &[&str]) -> Option<Program> {
        let values = variables::values(allowed, self.relay?);
        let environment = program.environment().with(values);
        Some(program.clone().with_environment(environment))
    }
}
