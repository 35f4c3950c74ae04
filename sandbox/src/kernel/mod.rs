//! The eBPF object in userspace: loading it, its maps, the raw calls that aya has no name for.
//!
//! What attaches its programs stands in `observe` (tracepoints) and `enforce` (hooks).

pub mod bpf;
pub mod btf;
pub mod object;
pub mod syscalls;
pub mod turn;
