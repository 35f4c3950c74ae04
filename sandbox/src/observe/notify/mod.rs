//! The `notify` layer: calls that wait until they were looked at (seccomp_unotify(2)). It needs no privilege.
//!
//! ```text
//! task of the run ──call──▶ filter ──listener──▶ supervisor (thread of the collector) ──queue──▶ pipeline
//!        ▲                                          │ reads what the call is about, then
//!        └───────────── goes on ◀───────────────────┘
//! ```
//!
//! The records are those of the tracepoints but for the results: a call is seen before it runs. Whether an execution
//! happened shows afterwards ([`executing`]); that a process was made shows when it makes its first call.
//!
//! It enforces nothing, and cannot: between the look and the call another thread may change what was looked at.

mod executing;
pub mod filter;
mod flight;
mod image;
pub(crate) mod listener;
pub(crate) mod lookup;
pub(crate) mod memory;
mod pass;
pub(crate) mod place;
pub(crate) mod read;
mod socket;
mod supervisor;
pub(crate) mod task;

use std::ffi::CStr;

use super::told;

pub use pass::StandIn;
pub use supervisor::Supervisor;

/// What a record's flags say together of a call whose object is not known, or not by its path: what comes of it is not
/// known either, whatever is held at the path. Neither of the two is said of such a call alone.
pub(crate) const UNSURE: u16 = told::FAILED | told::ABSENT;

/// A name that nobody has, below a directory where nobody can make one.
const PROBE: &CStr = c"/proc/self/sandbox-probe";

/// Makes the first call through a new filter, from the thread that has it: it proves to the supervisor that calls come and
/// can be read. Nothing is opened.
pub fn probe() {
    // On the heap, and so in memory that is present: a literal may not have been paged in yet.
    let name = PROBE.to_owned();
    // SAFETY: the name ends with a NUL and lives through the call.
    let found = unsafe {
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
    };
    if let Ok(fd @ 0..) = i32::try_from(found) {
        // SAFETY: made above, and nobody else's.
        unsafe { libc::close(fd) };
    }
}
