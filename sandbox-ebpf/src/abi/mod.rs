//! What crosses the border between the kernel and the runner.

pub mod config;
pub mod event;
pub mod offsets;
pub mod policy;
pub mod resolver;
pub mod syscall;

/// Raised whenever a struct or the meaning of a field here changes. The object carries it as the global
/// `ABI_VERSION`; the loader refuses an object whose number differs.
pub const ABI_VERSION: u32 = 3;

/// How the names of runners' control sockets begin, as `sun_path` has them: they are abstract (unix(7)). No member of a
/// run that is judged connects to one.
pub const CONTROL_NAME: [u8; 17] = *b"\0sandbox-control/";
