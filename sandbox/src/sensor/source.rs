//! Where the records of a run come from: the ring buffer of the kernel's programs, or the queue of a supervisor.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::mpsc::Sender,
};

use aya::maps::{MapData, RingBuf};
use sandbox_ebpf::abi::config::RunCounters;

use super::SLOT;
use crate::{
    inside::notify::Waiting,
    kernel::object::{Object, ObjectError},
    observe::{Malformed, RawEvent, notify::Supervisor},
};

/// A source of records.
pub(super) enum Source {
    /// Programs in the kernel.
    Programs {
        /// They, and their maps.
        object: Box<Object>,
        /// What they write to.
        ring: RingBuf<MapData>,
    },
    /// Calls that wait for a supervisor; it is there as soon as the run's first process has sent its listener.
    Calls(Option<Supervisor>),
}

impl Source {
    /// The programs, where there are some.
    pub(super) fn object(&self) -> Option<&Object> {
        match self {
            Source::Programs { object, .. } => Some(object),
            Source::Calls(_) => None,
        }
    }

    /// The programs, for what only they can do.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn programs(&self) -> Result<&Object, ObjectError> {
        self.object().ok_or_else(|| ObjectError::Call {
            what: "use the programs of this run",
            source: io::Error::other("it is observed without any"),
        })
    }

    /// The supervisor, where there is one.
    pub(super) fn supervisor(&self) -> Option<&Supervisor> {
        match self {
            Source::Calls(supervisor) => supervisor.as_ref(),
            Source::Programs { .. } => None,
        }
    }

    /// Begins to serve a listener.
    pub(super) fn supervise(
        &mut self,
        listener: OwnedFd,
        questions: Option<Sender<Waiting>>,
    ) -> io::Result<()> {
        match self {
            Source::Calls(supervisor) => {
                *supervisor = Some(Supervisor::start(listener, questions)?);
                Ok(())
            }
            Source::Programs { .. } => Err(io::Error::other("this run is observed by programs")),
        }
    }

    /// A descriptor that becomes readable when records wait.
    pub(super) fn ready(&self) -> io::Result<OwnedFd> {
        match self {
            Source::Programs { ring, .. } => ring.as_fd().try_clone_to_owned(),
            Source::Calls(Some(supervisor)) => supervisor.ready(),
            Source::Calls(None) => Err(io::Error::other("the command was never armed")),
        }
    }

    /// Hands the next records to `take`, at most `limit` of them; returns how many there were.
    pub(super) fn drain(&mut self, limit: usize, mut take: impl FnMut(Result<RawEvent, Malformed>)) -> usize {
        match self {
            Source::Programs { ring, .. } => {
                let mut count = 0;
                while count < limit
                    && let Some(record) = ring.next()
                {
                    take(RawEvent::parse(&record));
                    count += 1;
                }
                count
            }
            Source::Calls(Some(supervisor)) => supervisor.drain(limit, |record| take(Ok(record))),
            Source::Calls(None) => 0,
        }
    }

    /// The run's counters.
    pub(super) fn counters(&self) -> Result<RunCounters, ObjectError> {
        match self {
            Source::Programs { object, .. } => object.counters(SLOT),
            Source::Calls(Some(supervisor)) => Ok(supervisor.counters()),
            Source::Calls(None) => Ok(RunCounters::default()),
        }
    }

    /// Why records are lost.
    pub(super) fn loss(&self) -> &'static str {
        match self {
            Source::Programs { .. } => "the ring buffer was full",
            Source::Calls(_) => "calls went on without being looked at while the collector was stopped",
        }
    }
}
