//! From a plan to the kernel: one module per layer that enforces.

pub mod capabilities;
pub mod cut;
pub mod group;
pub mod landlock;
pub mod lsm;
pub mod mountns;
pub mod namespaces;
pub mod places;
pub mod relay;
pub mod seccomp;
pub mod streams;
pub mod tmp;
mod wire;
