//! Calls that were seen before they ran: what is not known of them.

use sandbox_ebpf::abi::event::{Header, Kind};

use super::{Builder, Record};
use crate::{
    event::{Key, Value},
    observe::{notify::UNSURE, told},
};

/// Why nothing came of a call whose result is not known, as the log has it: it did not happen.
pub const FAILED: &str = "it failed; why is not known";
/// As above: an open found nothing.
pub const MISSED: &str = "nothing had this name";
/// Why nothing is said of what came of a call: the object is not known, or was reached around what is held at its path.
pub const UNKNOWN: &str =
    "which object this is, or by which mount it is reached, is not known, nor what came of it";

/// Whether the call is known to have succeeded.
pub(super) fn succeeded(header: &Header) -> bool {
    header.ret >= 0 && header.flags & told::NO_RESULT == 0
}

impl Record<'_> {
    /// What an observer outside the kernel does not know, or knows otherwise.
    pub(super) fn unseen(&self, to: &mut Builder) {
        let (failed, closed, unsure) = (self.has(told::FAILED), self.has(told::CLOSED), self.unsure());
        let makes = self.header.args[0] & libc::O_CREAT as u64 != 0;
        let misses =
            matches!(self.kind, Kind::Open | Kind::Exec) && self.has(told::ABSENT) && !unsure && !makes;
        to.facts.failed = failed && !unsure;
        to.facts.unseen = self.has(told::NO_RESULT) && !failed && !misses;
        if closed {
            to.event.set(Key::Reason, Value::Bytes(b"the memory of the process cannot be read".to_vec()));
        } else if unsure {
            to.event.set(Key::Reason, Value::Bytes(UNKNOWN.into()));
        } else if failed {
            to.event.set(Key::Reason, Value::Bytes(FAILED.into()));
        } else if misses {
            to.event.set(Key::Reason, Value::Bytes(MISSED.into()));
        }
    }

    /// Whether the object of the call is not known.
    fn unsure(&self) -> bool {
        self.header.flags & (UNSURE | told::NO_RESULT) == UNSURE | told::NO_RESULT
    }

    /// Whether an open whose result is not known makes a file, if it succeeds.
    pub(super) fn makes(&self) -> bool {
        let (flags, temporary) = (self.header.args[0], libc::O_TMPFILE as u64);
        flags & temporary == temporary
            || (flags & libc::O_CREAT as u64 != 0 && self.has(told::ABSENT) && !self.unsure())
    }
}
