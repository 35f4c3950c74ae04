//! The policy language: YAML to model to plans, and the oracle.
//!
//! [`Policy::parse`] reads a file and reports all its errors; [`evaluate`] says what the policy decides about
//! one attempt, and [`questions`] whether a name may be asked; [`compile`] makes what a layer enforces of it. Everything here is pure: no file, no
//! environment, no privilege.
//!
//! The language is larger than what a kernel holds today. What the tables of a layer cannot express is left out
//! of its plan and reported as [`compile::Unheld`], so that a run never holds less than it says; words whose
//! meaning is not implemented at all are errors.
#![forbid(unsafe_code)]

mod access;
pub mod address;
pub mod always;
pub mod asking;
pub mod compile;
pub mod convert;
pub mod difference;
mod digest;
pub mod document;
pub mod edit;
pub mod ends;
pub mod error;
pub mod evaluate;
pub mod examples;
pub mod existing;
pub mod extend;
pub mod groups;
mod index;
mod intersect;
pub mod learn;
pub mod links;
mod lint;
mod model;
mod nearest;
pub mod other_names;
mod parse;
pub mod pattern;
mod print;
pub mod questions;
pub mod schema;
pub mod settings;
pub mod spellings;
mod subject;
pub mod suggest;
pub mod syscalls;
mod units;
mod validate;
pub mod variables;

pub use access::{Access, AccessSet, SectionKind};
pub use address::Protocol;
pub use digest::Digest;
pub use ends::{End, Owner};
pub use error::{Error, Errors, Note, Place, Problem, Severity};
pub use evaluate::{Act, Audited, Verdict};
pub use intersect::Policies;
pub use model::{Attempt, Decision, Mode, Policy, Rule, RuleName, Section};
pub use settings::Settings;
pub use subject::{Subject, Who};
pub use variables::Variables;
