//! What the runner would keep from the command of a run that starts now, beside what its policy says: the record and the
//! policy's files.
//!
//! Looks, and makes nothing: what a run would make first is taken for made.

use std::path::{Path, PathBuf};

use anyhow::Context;
use policy::compile::landlock::Command;
use policy::compile::layers::{Kept, Layer};
use policy::pattern::Pattern;
use policy::{Access, Policy};

use super::super::run::{own, place};
use crate::launch::guard::Own;
use crate::launch::identity::Target;
use crate::launch::permissions;

/// The runner's own policy beside another, and what keeps its places whatever layers there are.
#[derive(Debug)]
pub struct Guarded {
    /// As whom the command runs.
    pub command: Command,
    /// The runner's own policy.
    pub policy: Policy,
    /// What owners and modes keep.
    pub kept: Vec<Kept>,
    /// What covers would keep of directories that a run makes before it lays them.
    pub made: Vec<Kept>,
}

impl Guarded {
    /// For a run under `policy`, which was read from `files`, of a command of `target`.
    ///
    /// # Errors
    /// The mounts cannot be read, or a path is longer than the language takes.
    pub fn of(policy: &Policy, files: &[PathBuf], target: &Target) -> anyhow::Result<Guarded> {
        let store = place(target).store();
        Self::with(&own(files, &place(target), &store)?, policy.names_hosts(), target)
    }

    fn with(own: &Own, names: bool, target: &Target) -> anyhow::Result<Guarded> {
        let policy = own.policy(names).context("the runner's own policy")?;
        let there = own.records().map(|record| above(record).unwrap_or(record));
        let kept = permissions::kept(target, there, &own.secrets(), own.policies());
        let absent = own.records().filter(|record| above(record) != Some(record));
        let places = absent.map(|record| Pattern::beneath(record.as_os_str().as_encoded_bytes()));
        let accesses = [Access::Read, Access::Write, Access::Create, Access::Delete, Access::Attributes];
        let made = Kept {
            layer: Layer::Mountns,
            accesses: accesses.into_iter().collect(),
            places: places.collect(),
        };
        let command = if target.uid == 0 { Command::Root } else { Command::User };
        Ok(Guarded { command, policy, kept, made: vec![made] })
    }

    /// That of a command whose record is nowhere near.
    #[cfg(test)]
    pub fn elsewhere(command: Command) -> Guarded {
        let own = Own { records: vec!["/no/such/store".into()], ..Own::default() };
        let policy = own.policy(false).unwrap_or_else(|errors| panic!("{errors}"));
        let kept = Kept {
            layer: Layer::Permissions,
            accesses: Access::ALL.into_iter().collect(),
            places: vec![Pattern::beneath(b"/no/such/store")],
        };
        Guarded { command, policy, kept: vec![kept], made: Vec::new() }
    }
}

/// What is there of a path: itself, or the nearest directory above.
fn above(path: &Path) -> Option<&Path> {
    path.ancestors().find(|above| above.symlink_metadata().is_ok())
}
