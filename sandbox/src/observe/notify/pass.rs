//! Standing in for a supervisor that stopped or died: calls go on, and nobody records them.
//!
//! Without it every observed call of an audit-only run would fail (ENOSYS) once its listener is gone, or wait for ever
//! while the collector is stopped. It is the guardian's; what goes by here is counted, and the record tells of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::PollTimeout;

use super::filter;
use super::flight::Flight;
use super::listener::{Listener, Ready};
use crate::launch::process::Process;

/// How many numbers behind the last one that was taken are tried: a call that died between taking and writing has the
/// next one, or one behind it where calls were interrupted meanwhile.
const BEHIND: u64 = 1024;

/// How long a wait is at most while the collector may come back.
const MOMENT: u16 = 100;

/// Who lets calls go on.
#[derive(Debug)]
pub struct StandIn {
    listener: Listener,
    flight: Flight,
}

impl StandIn {
    /// Out of the descriptors of a listener and of a flight, in this order; `None` where they are not those.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Option<StandIn> {
        let mut fds = fds.into_iter();
        let (listener, flight) = (fds.next()?, fds.next()?);
        Some(StandIn { listener: Listener::new(listener), flight: Flight::of(flight).ok()? })
    }

    /// Answers the call that the supervisor took and does not answer any more.
    pub fn release(&self) {
        let last = self.flight.last();
        for id in (0..=BEHIND).map(|behind| last.wrapping_add(behind)) {
            // Those that nobody waits for, and those that nobody took, are refused by the kernel.
            if self.listener.go_on(id).is_ok() {
                self.flight.passed();
            }
        }
    }

    /// Lets go on what waits, for a moment or until `other` can be read; false when no task of the run is left.
    pub fn serve(&self, other: BorrowedFd<'_>) -> bool {
        match self.listener.wait(&[other], PollTimeout::from(MOMENT)) {
            Ok(Ready::Call) => self.pass_one(),
            Ok(Ready::Nothing) => {}
            Ok(Ready::Over) => return false,
            // Descriptors and memory come back.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(u64::from(MOMENT))),
        }
        true
    }

    fn pass_one(&self) {
        // An end is no event.
        if let Ok(call) = self.listener.receive()
            && self.listener.go_on(call.id).is_ok()
            && !filter::ends(&call)
        {
            self.flight.passed();
        }
    }

    /// Lets everything go on until no task of the run is left: the collector will do so no longer, or has ended.
    ///
    /// # Errors
    /// poll(2) fails.
    pub fn stay(&self, collector: &Process) -> io::Result<()> {
        let mut released = false;
        loop {
            if !released && collector.has_ended() {
                // From here on nobody else takes calls, so what it took last is stuck.
                self.release();
                released = true;
            }
            let others: &[BorrowedFd<'_>] = if released { &[] } else { &[collector.as_fd()] };
            match self.listener.wait(others, PollTimeout::NONE)? {
                Ready::Call => self.pass_one(),
                Ready::Nothing => {}
                Ready::Over => return Ok(()),
            }
        }
    }
}
