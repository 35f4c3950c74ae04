//! Paths put together to patterns: trees of directories, names with a part that changes, or the paths themselves.
//!
//! How far a tree may reach depends on where it lies ([`Use`]): a workspace is the run's own, `/usr` is everyone's to
//! read, and of a home directory only what one program keeps there.

use std::collections::BTreeMap;

use super::paths::{Paths, Spot, Whose};
use super::place::{Place, Root};
use super::{Strictness, Tally};

/// What is done with paths, as far as it matters for how wide a pattern may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reading.
    Read,
    /// Writing, making, removing, and changing attributes.
    Change,
    /// Executing.
    Run,
}

/// Programs, by where distributions put them: each is named.
const PROGRAMS: [&[&str]; 7] = [
    &["bin"],
    &["sbin"],
    &["usr", "bin"],
    &["usr", "sbin"],
    &["usr", "games"],
    &["usr", "local", "bin"],
    &["usr", "local", "sbin"],
];

/// Whether what is installed as the system lies there, by the first component.
fn is_system(first: &str) -> bool {
    matches!(first, "usr" | "bin" | "sbin" | "nix") || first.starts_with("lib")
}

impl Use {
    /// How many components of a path a tree above it must keep at least; `None` where there is no tree above it.
    fn depth(self, spot: &Spot<'_>) -> Option<usize> {
        let part = |index: usize| spot.parts.get(index).copied().unwrap_or_default();
        match (spot.root, self) {
            (Root::Workspace | Root::GitDir | Root::GitCommonDir, Self::Run) => Some(1),
            (Root::Workspace | Root::GitDir | Root::GitCommonDir, _) => Some(0),
            // What is executed there is the first thing that somebody else would put there.
            (Root::Temporary, Self::Run) => Some(1),
            (Root::Temporary, _) => Some(0),
            (Root::Home, _) => Some(match (part(0), part(1)) {
                (".cache" | ".config", _) => 2,
                (".local", "share" | "state" | "lib") => 3,
                (".local" | ".cargo" | ".rustup", _) => 2,
                (_, _) if self == Self::Run => 2,
                // What is changed there may be what the program does next time.
                (dotted, _) if dotted.starts_with('.') && self == Self::Read => 1,
                _ => 2,
            }),
            (Root::Machine, usage) => usage.on_machine(part(0), part(1)),
        }
    }

    fn on_machine(self, first: &str, second: &str) -> Option<usize> {
        let system = is_system(first) || first == "opt";
        match (self, first) {
            // A tree of /proc would show every process, what it was told and where its memory lies.
            (_, "proc") => None,
            (Self::Read, "sys" | "opt") => Some(2),
            (Self::Read, _) if system => Some(1),
            (_, _) if system => Some(3),
            (_, "sys") => None,
            (_, "dev") => matches!(second, "pts" | "shm").then_some(2),
            (Self::Read, "etc") => Some(2),
            (_, "etc") => None,
            // Of other homes what lies in them.
            (_, "run" | "var" | "home") => Some(3),
            _ => Some(2),
        }
    }

    /// Whether one path stands for all of a directory: whoever reads something of the system's may read the rest of it.
    fn is_of_the_system(self, spot: &Spot<'_>) -> bool {
        let first = spot.parts.first().copied().unwrap_or_default();
        self == Self::Read && spot.root == Root::Machine && is_system(first)
    }

    /// Whether the places of this root are the run's own, so that one path in it stands for all.
    pub(super) fn is_own(self, root: Root) -> bool {
        self != Self::Run
            && matches!(root, Root::Workspace | Root::GitDir | Root::GitCommonDir | Root::Temporary)
    }
}

/// A pattern, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The directory of a tree, or what the names have in common.
    pub(super) place: Place,
    /// The place and all below it.
    pub(super) below: bool,
    /// What was put together in it.
    pub tally: Tally,
}

impl Grant {
    /// As a policy writes it.
    pub fn pattern(&self) -> String {
        let pattern = self.place.pattern();
        match (self.below, pattern.as_str()) {
            (false, _) => pattern,
            (true, "/") => "/**".to_owned(),
            (true, _) => pattern + "/**",
        }
    }

    /// Whether what this one stands for is among what the other one does.
    pub(super) fn is_within(&self, other: &Grant) -> bool {
        other.below
            && (!self.below || self.place != other.place)
            && self.place.root == other.place.root
            && self.place.parts.starts_with(&other.place.parts)
    }
}

/// Puts paths together.
pub fn generalise(paths: BTreeMap<Place, Tally>, usage: Use, strictness: Strictness) -> Vec<Grant> {
    let mut tree = Paths::default();
    for (place, tally) in &paths {
        let parts = place.parts.iter().map(String::as_str);
        tree.at(place.root, parts, Whose::of(&tally.runs)).add(tally);
    }
    put_together(tree, usage, strictness)
}

/// The same of paths that are a tree already.
pub(super) fn put_together(mut paths: Paths<'_>, usage: Use, strictness: Strictness) -> Vec<Grant> {
    paths.rename(usage, strictness);
    // By the number of the directory.
    let mut trees: BTreeMap<usize, Tree> = BTreeMap::new();
    let mut grants = Vec::new();
    paths.each(|spot, tally| match depth_of_tree(&spot, usage, strictness) {
        Some(depth) => {
            let tree = trees.entry(spot.nodes[depth]).or_insert_with(|| Tree::at(spot.above(depth)));
            tree.add(&spot, tally, usage, strictness);
        }
        None => grants.push(alone((spot.place(), tally.clone()))),
    });
    for tree in trees.into_values() {
        match tree.is_one {
            true => grants.push(Grant { place: tree.place, below: true, tally: tree.tally }),
            false => grants.extend(tree.members.into_iter().map(alone)),
        }
    }
    grants.sort_by(|one, other| (&one.place, one.below).cmp(&(&other.place, other.below)));
    grants
}

fn alone((place, tally): (Place, Tally)) -> Grant {
    Grant { place, below: false, tally }
}

/// A directory of which all may become one pattern.
struct Tree {
    place: Place,
    tally: Tally,
    /// Paths below it.
    below: usize,
    /// Paths below it are so many that all is meant.
    is_one: bool,
    /// As long as it is none.
    members: Vec<(Place, Tally)>,
}

impl Tree {
    fn at(place: Place) -> Self {
        Self { place, tally: Tally::default(), below: 0, is_one: false, members: Vec::new() }
    }

    fn add(&mut self, spot: &Spot<'_>, tally: &Tally, usage: Use, strictness: Strictness) {
        self.tally.add(tally);
        let depth = spot.parts.len() - self.place.parts.len();
        // A name that another run had otherwise stands for several.
        let differs = spot.parts.iter().any(|part| part.contains('*')) && tally.runs.len() > 1;
        if depth > 0 {
            self.below += if differs { 2 } else { 1 };
        }
        self.is_one |= usage.is_own(spot.root)
            || match strictness {
                Strictness::Loose => depth > 0,
                _ => self.below >= 2 || depth > 1 && usage.is_of_the_system(spot),
            };
        match self.is_one {
            true => self.members.clear(),
            false => self.members.push((spot.place(), tally.clone())),
        }
    }
}

/// How many components the directory has whose tree a path may become part of.
fn depth_of_tree(spot: &Spot<'_>, usage: Use, strictness: Strictness) -> Option<usize> {
    if strictness == Strictness::Exact || is_program(spot) && usage == Use::Run {
        return None;
    }
    let depth = usage.depth(spot)?;
    // A path that is a tree's root itself belongs to it; one above has none.
    (spot.parts.len() >= depth.max(1) || usage.is_own(spot.root)).then_some(depth)
}

fn is_program(spot: &Spot<'_>) -> bool {
    let Some((_, directory)) = spot.parts.split_last() else { return false };
    spot.root == Root::Machine && PROGRAMS.contains(&directory)
}
