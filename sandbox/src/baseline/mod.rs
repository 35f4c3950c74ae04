//! What runs usually do, and what of another run is new.
//!
//! [`deeds`] takes what one run did out of its record, each thing once; [`fact`] says what a deed is a case of: the part of
//! a policy that it would belong to, or the rule of `base` that speaks of it. [`make`] puts the facts of runs together to a
//! [`file::Baseline`], by the means by which a policy is learned, so that what differs from run to run by nature is not
//! new; [`check`] holds one run against it, [`rank`] says how unusual what is new is, and [`page`] says it to people.
//!
//! [`watch`] does the same while a run goes on.
//!
//! Nothing here blocks anything, and nothing says that what is known is harmless: it was done before.

pub mod check;
pub mod deeds;
mod fact;
pub mod file;
mod index;
pub mod make;
pub mod page;
pub mod rank;
#[cfg(test)]
mod tests;
pub mod watch;

use crate::launch::policy::{PolicyError, read_text};
use policy::{Policy, Variables};

/// The policy whose rules say what is a credential, a place that runs later, and so on.
pub const BASE: &str = "base@1";

/// That policy as a run with these variables has it.
///
/// # Errors
/// The variables, which may be anybody's, make a pattern of it wrong.
pub fn classes(variables: &Variables) -> Result<Policy, PolicyError> {
    let frame = format!("version: 1\nname: classes\nextends: [{BASE}]\n");
    read_text(std::path::Path::new("classes.yaml"), &frame, variables)
}
