//! Which layers this machine has, and the proof that each does what it says.

pub mod probe;
pub mod selftest;
