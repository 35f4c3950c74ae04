//! The control socket of a run: other policies for a run that goes on, and answers to what it asks.
//!
//! ```text
//! sandbox policy apply ──text of the policies──▶ thread of the collector ──Change──▶ the collector's loop
//!          ▲                                       reads, compiles, marks              puts it in force,
//!          └───────────── what came of it ◀─────────────────┘                          records it
//! ```
//!
//! - Policies are narrowed by holding others beside those that hold: each must allow. Only root may put others in
//!   their place (`--widen`).
//! - Whoever applies one is root or the user whose command it is, and no process of the run: where hooks hold, none can
//!   connect, and elsewhere the runner looks who asks.
//! - The policy is read where it is applied, with the variables of the run ([`Surroundings`]); the runner opens no file
//!   for anybody. Its text comes in memory that nobody can change any more.
//! - Policies that do not fit, or say something that this run cannot hold from now on, change nothing.
//! - The name of the socket is made of the run directory's identity: who can look at the directory finds it.
//!
//! What a process holds open already stays open: a policy judges attempts.

pub mod ask;
mod change;
mod memory;
pub mod office;
pub mod serve;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::socket::UnixAddr;
use policy::Variables;
use sandbox_ebpf::abi::CONTROL_NAME;
use serde::{Deserialize, Serialize};

pub use change::{Change, Peer};

use crate::asking::{Answer, Open};

/// What the runner says. Descriptors of memory travel with [`FromRunner::Ready`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRunner {
    /// It listens; [`Surroundings`] lie in the memory that travels along.
    Ready,
    /// Nothing was changed.
    Refused {
        /// What, why, what to do.
        message: String,
    },
    /// The policies hold.
    Applied(Applied),
    /// The questions that are open.
    Questions(Vec<Open>),
    /// What is to be known for an answer that holds for good: [`crate::asking::About`] lies in the memory that travels along.
    About,
    /// A question is answered: what the answer settles, for people.
    Answered(String),
}

/// What the user's side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromUser {
    /// Apply the policies whose text, as [`policy::Policies::effective_yaml`] writes it, travels along.
    Apply {
        /// Whether they take the place of those that hold.
        widen: bool,
    },
    /// Tell which questions are open.
    Questions,
    /// Tell what is to be known for an answer that holds for good.
    About {
        /// The question's number.
        number: u64,
    },
    /// Answer a question.
    Answer {
        /// Its number in the run.
        number: u64,
        /// The answer.
        answer: Answer,
    },
}

/// What was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Names of the policies that hold now.
    pub names: String,
    /// SHA-256 of all of them as they hold.
    pub sha256: String,
    /// The file in the run's directory that has their text.
    pub file: String,
    /// False where they held already.
    pub changed: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What the variables of a policy mean in a run, for another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    given: Vec<(String, Vec<u8>)>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
}

impl From<&Variables> for Surroundings {
    fn from(variables: &Variables) -> Self {
        Surroundings {
            given: variables.given().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            env: variables.env().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }
}

impl Surroundings {
    /// The variables.
    pub fn variables(self) -> Variables {
        let mut variables = Variables::new();
        for (name, value) in self.given {
            // What another version of this program gives, and this one does not know, no policy of this one names.
            let _ = variables.set(&name, value);
        }
        for (name, value) in self.env {
            variables.set_env(name, value);
        }
        variables
    }
}

/// Where the runner of a run listens.
fn address(run_dir: &Path) -> io::Result<UnixAddr> {
    let found = std::fs::metadata(run_dir)?;
    // Hooks know the names by their beginning; the NUL in front is what makes them abstract.
    let mut name = CONTROL_NAME[1..].to_vec();
    name.extend_from_slice(format!("{:x}-{:x}", found.dev(), found.ino()).as_bytes());
    Ok(UnixAddr::new_abstract(&name)?)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
