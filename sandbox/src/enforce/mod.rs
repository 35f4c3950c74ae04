//! From a plan to the kernel: one module per layer that enforces.

pub mod lsm;
pub mod seccomp;
