//! The record's format: how a line is written, how lines are chained, and the proof that nobody edited them.
//!
//! The crate has no privileges and no part in recording. `sandbox` writes its log with [`chain`] and reads it
//! back with [`canonical`]; [`verify`] and the binary `audit-verify` judge a log. Both are small enough to be read in one
//! sitting, and the format is plain enough that ten lines of Python judge the chain as well.

#![forbid(unsafe_code)]

pub mod canonical;
pub mod chain;
mod hash;
#[cfg(feature = "index")]
pub mod index;
mod lanes;
pub mod ledger;
pub mod lines;
pub mod merkle;
pub mod output;
pub mod progress;
pub mod proof;
pub mod python;
pub mod sign;
pub mod text;
pub mod verify;

pub use hash::{Hash, NotAHash};
