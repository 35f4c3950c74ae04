//! The policy language: YAML to model to plans, and the oracle.
//!
//! [`Policy::parse`] reads a file and reports all its errors; [`evaluate`] says what the policy decides about
//! one attempt; [`compile`] makes what a layer enforces of it. Everything here is pure: no file, no
//! environment, no privilege.
//!
//! What this version reads: `version`, `name`, `description`, `vars`, `files`, `exec`, `network` and
//! `examples`, with rules of `allow` or `deny`, on `path` or `to`, minus `except`. The rest of the language is
//! recognised and refused, so that a policy never holds less than it says.
#![forbid(unsafe_code)]

pub mod address;
pub mod compile;
pub mod document;
pub mod error;
pub mod evaluate;
mod examples;
mod model;
mod parse;
pub mod pattern;
mod print;
mod validate;
pub mod variables;

pub use address::Protocol;
pub use error::{Error, Errors, Note, Place, Problem};
pub use evaluate::Verdict;
pub use model::{Access, AccessSet, Attempt, Decision, Policy, Rule, RuleName, Section, SectionKind};
pub use variables::Variables;
