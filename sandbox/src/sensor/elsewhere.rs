//! Mounts from before the run that show, at another path, what is granted or covered.
//!
//! Landlock grants files, not paths: what it opens in one directory is open by every mount that shows the same, although no
//! rule allows that path. And a cover lies at one path. So the other places are covered too; what cannot be is said. Only
//! mounts that show the very same directory count, seen now: a file system that is mounted as a whole and in part shows its
//! part twice, two file systems of a kind nothing of each other. What may be done by that other path anyway stays open.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::compile::landlock::{LandlockPlan, PathRule, Place};
use policy::{Access, AccessSet};

use super::other_names::{Look, is_special};
use crate::enforce::mountns::{Cover, Mounts};
use crate::enforce::places::Seen;
use crate::enforce::tmp::PrivateTmp;
use crate::launch::aliases::Table;

/// What Landlock grants.
const GRANTED: [Access; 5] = [Access::Read, Access::Write, Access::Create, Access::Delete, Access::Run];

/// What else is to be covered, and what would be open without.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// Covers, each with where and over what.
    covers: Vec<(PathBuf, Cover, Seen)>,
    /// What is open where these are not laid.
    without: BTreeSet<String>,
    /// What is open all the same.
    open: BTreeSet<String>,
    /// Looks below what is to be read-only: bounded in all of it together.
    look: Look,
}

impl Elsewhere {
    /// Looks for other places of what the plans grant, and of what `covered` lies over; `tmp` hides what is below it.
    pub fn look(plans: &[LandlockPlan], covered: &Mounts, tmp: Option<&PrivateTmp>) -> Elsewhere {
        match Table::read() {
            Ok(table) => Elsewhere::of(&table, plans, covered, tmp),
            Err(error) => Elsewhere::unknown(&error),
        }
    }

    fn unknown(error: &io::Error) -> Elsewhere {
        let why = format!("whether mounts show what is open at other paths cannot be told: {error}");
        Elsewhere { open: BTreeSet::from([why]), ..Elsewhere::default() }
    }

    fn of(table: &Table, plans: &[LandlockPlan], covered: &Mounts, tmp: Option<&PrivateTmp>) -> Elsewhere {
        let mut found = Elsewhere::default();
        let is_there = |path: &Path| !tmp.is_some_and(|tmp| tmp.hides(path));
        for (path, cover) in covered.covering() {
            let shown = table.showing(path).into_iter().filter(|place| seen(place) == Some(cover.seen()));
            for place in shown.chain(table.showing_below(path)).filter(|place| is_there(place)) {
                // Programs may be run by that path, or the same rule says of it that they may not.
                if cover.is_for_data() && plans.iter().all(|plan| is_open(plan, Access::Run, &place)) {
                    continue;
                }
                found.covers.extend(seen(&place).map(|seen| (place, cover, seen)));
            }
        }
        for rule in plans.iter().flat_map(|plan| &plan.paths) {
            let path = Path::new(OsStr::from_bytes(&rule.path));
            let shown = table.showing(path);
            let own = if shown.is_empty() { None } else { seen(path) };
            let Some(own) = own else { continue };
            for place in shown.into_iter().filter(|place| is_there(place) && seen(place) == Some(own)) {
                found.close(plans, rule, (path, place), own);
            }
        }
        found
    }

    /// Closes a place that shows what a rule grants, as far as the policies do.
    fn close(
        &mut self,
        plans: &[LandlockPlan],
        rule: &PathRule,
        (path, place): (&Path, PathBuf),
        seen: Seen,
    ) {
        let within = |path: &Path| match rule.place {
            Place::Beneath => path.join("x"),
            Place::File => path.to_owned(),
        };
        let (by_grant, by_place) = (within(path), within(&place));
        let accesses: AccessSet = GRANTED
            .into_iter()
            .filter(|access| plans.iter().any(|plan| !is_open(plan, *access, &by_place)))
            .filter(|access| {
                plans
                    .iter()
                    .all(|plan| is_open(plan, *access, &by_grant) || is_open(plan, *access, &by_place))
            })
            .collect();
        if accesses.is_empty() {
            return;
        }
        let line = format!(
            "a mount from before this run shows {} at {} too, where no rule allows `{accesses}`, and Landlock does not tell \
             the paths apart; unmount it, or allow the same there",
            path.display(),
            place.display()
        );
        let reads = accesses.contains(Access::Read);
        let allowed_below = plans.iter().flat_map(|plan| &plan.paths).any(|rule| {
            let allowed = Path::new(OsStr::from_bytes(&rule.path));
            allowed.starts_with(&place)
        });
        // Something empty would take away what is allowed by its own path.
        if reads && (allowed_below || place.parent().is_none()) {
            self.open.insert(line);
            return;
        }
        let changes = [Access::Write, Access::Create, Access::Delete];
        let covers = [
            (reads, Cover::HIDDEN),
            (!reads && changes.iter().any(|access| accesses.contains(*access)), Cover::READ_ONLY),
            (!reads && accesses.contains(Access::Run), Cover::NO_EXEC),
        ];
        for (_, cover) in covers.into_iter().filter(|(wanted, _)| *wanted) {
            if cover != Cover::READ_ONLY {
                self.covers.push((place.clone(), cover, seen));
                continue;
            }
            // No mount keeps a FIFO or a device from being written to.
            match special(&mut self.look, &place) {
                Ok(special) => {
                    let hidden =
                        special.iter().filter_map(|at| Some((at.clone(), Cover::HIDDEN, self::seen(at)?)));
                    self.covers.extend(hidden);
                    if !special.contains(&place) {
                        self.covers.push((place.clone(), cover, seen));
                    }
                }
                Err(why) => _ = self.open.insert(why),
            }
        }
        self.without.insert(line);
    }

    /// Adds the covers.
    pub fn add_to(&self, mounts: &mut Mounts) {
        for (place, cover, seen) in &self.covers {
            mounts.add(place.clone(), *cover, *seen);
        }
    }

    /// What is open, where the covers are laid and where they are not.
    pub fn open(self, laid: bool) -> BTreeSet<String> {
        let without = if laid { BTreeSet::new() } else { self.without };
        self.open.into_iter().chain(without).collect()
    }
}

fn is_open(plan: &LandlockPlan, access: Access, path: &Path) -> bool {
    plan.denied_at(access.into(), path.as_os_str().as_bytes()).is_empty()
}

/// What at a place, or below it, is written to through a read-only mount.
fn special(look: &mut Look, place: &Path) -> Result<Vec<PathBuf>, String> {
    let found = std::fs::symlink_metadata(place).map_err(|error| format!("{}: {error}", place.display()))?;
    match found.is_dir() {
        true => look.special(place).map_err(|open| open.to_string()),
        false => Ok(is_special(found.file_type()).then(|| place.to_owned()).into_iter().collect()),
    }
}

/// What is at a place, where something is and may be looked at.
fn seen(path: &Path) -> Option<Seen> {
    Seen::at(path).ok().filter(|seen| matches!(seen, Seen::File(..)))
}
