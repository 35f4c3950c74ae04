//! Before the first call: proof that calls come, and that what they are about can be read.

use std::io;
use std::os::fd::OwnedFd;

use nix::poll::PollTimeout;

use super::filter;
use crate::observe::notify::listener::{Listener, Ready};
use crate::observe::notify::memory::{Memory, Way};
use crate::observe::notify::task;

/// How long the first call may take to come, in milliseconds.
const PATIENCE: u16 = 10_000;

/// A filter that works, and nobody who serves it yet.
#[derive(Debug)]
pub struct Begun {
    pub(super) listener: Listener,
    pub(super) way: Way,
}

/// Takes the listener of the run's first process. Its first call must be [`filter::probe`]: by it is proven that calls
/// come, and that their memory can be read here.
///
/// # Errors
/// Nobody called, or its memory cannot be read.
pub fn begin(listener: OwnedFd) -> io::Result<Begun> {
    let listener = Listener::new(listener);
    match listener.wait(&[], PollTimeout::from(PATIENCE))? {
        Ready::Call => {}
        _ => return Err(io::Error::other("no call came through the filter")),
    }
    let call = listener.receive()?;
    let read = |way: &Way| {
        let memory = Memory { tid: call.tid, way: *way };
        memory.string(call.arguments[1], 2 * filter::PROBED.len()).0 == filter::PROBED
    };
    let way = [Way::Call, Way::File].into_iter().find(read);
    let _ = listener.go_on(call.id);
    let denied =
        || io::Error::new(io::ErrorKind::PermissionDenied, "the memory of the command cannot be read");
    let way = way.filter(|_| filter::is_probe(call.number, &call.arguments)).ok_or_else(denied)?;
    task::begins_with(call.tid);
    Ok(Begun { listener, way })
}
