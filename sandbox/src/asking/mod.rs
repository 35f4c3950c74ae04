//! Questions: a call that a rule asks about waits until somebody answers (docs/asking.md).
//!
//! ```text
//! task of the run ──call──▶ filter ──listener──▶ supervisor (thread of the collector) ── asks about nothing ──▶ goes on
//!        ▲                                          │ a rule asks: the call waits
//!        │                                          ├──▶ record (`ask`), `sandbox asks`, --ask-cmd
//!        │                  the kernel's tables ◀───┤ allowed: opened first (`answer` in the record, then the tables)
//!        └───────────────── goes on ◀───────────────┘ denied, or nobody answered: nothing is opened
//! ```
//!
//! **Nothing here lets a call happen.** Every call goes on, and the hook judges the object that the kernel then finds: while
//! nothing was opened, what asks is denied there as it always is. What was read of the call's memory is only what the
//! question is about, so changing it meanwhile gains nothing. A supervisor that dies takes its listener with it: calls
//! that wait fail, and the run is ended as whenever the collector dies.
//!
//! Only calls of sections in which something asks are handed over; a run in which nothing asks has no such filter.
//! Without hooks nobody is asked: what asks is denied.

mod about;
mod acted;
pub mod always;
mod begin;
mod calls;
mod command;
mod desk;
pub mod filter;
mod supervisor;
mod told;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy::asking::{Askable, Inquiry};
use policy::{Policies, SectionKind};
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::launch::identity::Target;
use crate::launch::program::Program;

pub use about::{About, PolicyFile};
pub use acted::Acted;
pub use begin::{Begun, begin};
pub use command::Command;
pub use desk::{Desk, Message};
pub use supervisor::{Asking, Start};

/// What of a run is asked about, and whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether what is denied is asked about (`--ask`), beside what rules ask.
    pub denials: bool,
    /// The program that is asked (`--ask-cmd`).
    pub command: Option<OsString>,
}

impl Settings {
    /// With a program of the user's, found as the user's own programs are.
    ///
    /// # Errors
    /// There is no such program.
    pub fn new(denials: bool, command: Option<&Path>, target: &Target) -> Result<Settings, Refusal> {
        let found = |name: &Path| -> Result<OsString, Refusal> {
            let refused = |why: String| Refusal::cannot_start(format!("--ask-cmd {}: {why}", name.display()));
            let program = Program::find(&[name.as_os_str().to_owned()], target.environment())
                .map_err(|error| refused(error.to_string()))?;
            let path = program.candidates().first().ok_or_else(|| refused("no such program".to_owned()))?;
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            // The file itself is kept from the command, and not a link to it.
            Ok(std::fs::canonicalize(path).map_err(|error| refused(error.to_string()))?.into_os_string())
        };
        Ok(Settings { denials, command: command.map(found).transpose()? })
    }

    /// What may be asked about.
    pub fn askable(&self) -> Askable {
        match self.denials {
            true => Askable::Denials { but: crate::launch::guard::NAME.to_owned() },
            false => Askable::Rules,
        }
    }

    /// The sections of which calls are to wait.
    pub fn sections(&self, policies: &Policies) -> Sections {
        let inquiry = Inquiry::new(policies, self.askable());
        Sections {
            files: inquiry.concerns(SectionKind::Files),
            exec: inquiry.concerns(SectionKind::Exec),
            network: inquiry.concerns(SectionKind::Network),
        }
    }
}

/// Sections of policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sections {
    /// `files`.
    pub files: bool,
    /// `exec`.
    pub exec: bool,
    /// `network`.
    pub network: bool,
}

impl Sections {
    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self == Sections::default()
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The call that asked may pass, and no other.
    Once,
    /// So may whatever asks the same for the rest of the run.
    Run,
    /// The same, and whoever answers writes it into the policy's file, which then has this SHA-256.
    Always {
        /// Of the file's next text.
        sha256: [u8; 32],
    },
    /// It may not, nor may those that wait behind it.
    Deny,
}

/// A question that is open, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Its number in the run.
    pub number: u64,
    /// The rules that ask.
    pub rules: Vec<String>,
    /// The first explanation that one of them gives.
    pub because: Option<String>,
    /// Who asks: process id.
    pub pid: u32,
    /// And executable.
    pub program: String,
    /// What is asked for, as in `read /etc/hosts`.
    pub act: String,
    /// Calls that wait, the one that asks included.
    pub waiting: u64,
    /// Seconds that are left.
    pub seconds_left: u64,
}

/// What of policies asks although nobody will be asked, for the user: where `able` says which sections can ask.
pub fn asked_by_nobody(policies: &Policies, able: Sections) -> Vec<String> {
    let mut unable = Vec::new();
    for (kind, can) in [
        (SectionKind::Files, able.files),
        (SectionKind::Exec, able.exec),
        (SectionKind::Network, able.network),
    ] {
        if !can {
            unable.push(kind);
        }
    }
    let rules = policies.iter().flat_map(|policy| policy::asking::asking_rules(policy, &unable));
    let mut lines: Vec<String> = rules.map(|rule| format!("rule `{rule}` asks")).collect();
    if !able.is_empty() {
        lines.extend(policies.iter().flat_map(policy::asking::never_asked));
    }
    lines.sort();
    lines.dedup();
    lines.into_iter().map(|line| format!("{line}: asked by nobody: denied")).collect()
}

#[cfg(test)]
mod tests;
