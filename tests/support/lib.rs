//! What the integration tests share: the built binaries, stores of their own, readers of the log and of
//! strace's output, and the comparison of the two.

pub mod attempt;
pub mod binaries;
pub mod closed;
pub mod compare;
pub mod log;
pub mod project;
pub mod python;
pub mod requirement;
pub mod scene;
pub mod strace;
pub mod terminal;
pub mod truth;
pub mod watched;
