//! From a plan to the kernel: one module per layer that enforces.

pub mod cut;
pub mod group;
pub mod lsm;
pub mod namespaces;
pub mod relay;
pub mod seccomp;
