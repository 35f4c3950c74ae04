//! What crosses the border between the kernel and the runner.

pub mod config;
pub mod event;
pub mod offsets;
pub mod policy;
pub mod syscall;

/// Raised whenever a struct or the meaning of a field here changes. The object carries it as the global
/// `ABI_VERSION`; the loader refuses an object whose number differs.
pub const ABI_VERSION: u32 = 2;
