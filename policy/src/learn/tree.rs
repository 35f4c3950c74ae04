//! Paths put together to patterns: trees of directories, names with a part that changes, or the paths themselves.
//!
//! How far a tree may reach depends on where it lies ([`Use`]): a workspace is the run's own, `/usr` is everyone's to
//! read, and of a home directory only what one program keeps there.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{alike, shape};
use super::place::{Part, Place, Root};
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

impl Use {
    /// How many components of a path a tree above it must keep at least; `None` where there is no tree above it.
    fn depth(self, place: &Place) -> Option<usize> {
        let part = |index: usize| place.parts.get(index).map_or("", String::as_str);
        match (place.root, self) {
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
                (dotted, _) if dotted.starts_with('.') => 1,
                _ => 2,
            }),
            (Root::Machine, usage) => usage.on_machine(part(0), part(1)),
        }
    }

    fn on_machine(self, first: &str, second: &str) -> Option<usize> {
        let system = matches!(first, "usr" | "bin" | "sbin" | "opt" | "nix") || first.starts_with("lib");
        match (self, first) {
            // A tree of /proc would show every process, what it was told and where its memory lies.
            (_, "proc") => None,
            (Self::Read, "sys") => Some(2),
            (Self::Read, _) if system => Some(1),
            (_, _) if system => Some(3),
            (_, "sys") => None,
            (_, "dev") => matches!(second, "pts" | "shm").then_some(2),
            (Self::Read, "etc") => Some(2),
            (_, "etc") => None,
            (_, "run" | "var") => Some(3),
            _ => Some(2),
        }
    }

    /// Whether the places of this root are the run's own, so that one path in it stands for all.
    fn is_own(self, root: Root) -> bool {
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
    let paths = rename(paths, usage, strictness);
    let mut trees: BTreeMap<Place, Vec<(Place, Tally)>> = BTreeMap::new();
    let mut alone: Vec<(Place, Tally)> = Vec::new();
    for (place, tally) in paths {
        match root_of_tree(&place, usage, strictness) {
            Some(root) => trees.entry(root).or_default().push((place, tally)),
            None => alone.push((place, tally)),
        }
    }
    let mut grants = Vec::new();
    for (root, members) in trees {
        if is_tree(&root, &members, usage, strictness) {
            let mut tally = Tally::default();
            members.iter().for_each(|(_, member)| tally.add(member));
            grants.push(Grant { place: root, below: true, tally });
        } else {
            alone.extend(members);
        }
    }
    grants.extend(alone.into_iter().map(|(place, tally)| Grant { place, below: false, tally }));
    grants.sort_by(|one, other| (&one.place, one.below).cmp(&(&other.place, other.below)));
    grants
}

/// The directory whose tree a path may become part of.
fn root_of_tree(place: &Place, usage: Use, strictness: Strictness) -> Option<Place> {
    if strictness == Strictness::Exact || is_program(place) && usage == Use::Run {
        return None;
    }
    let depth = usage.depth(place)?;
    // A path that is a tree's root itself belongs to it; one above has none.
    (place.parts.len() >= depth.max(1) || usage.is_own(place.root)).then(|| place.above(depth))
}

/// Whether paths below a directory are so many, or so deep, that all below it is meant.
fn is_tree(root: &Place, members: &[(Place, Tally)], usage: Use, strictness: Strictness) -> bool {
    if usage.is_own(root.root) {
        return true;
    }
    let below = members.iter().filter(|(place, _)| place.parts.len() > root.parts.len());
    let deepest = below.clone().map(|(place, _)| place.parts.len() - root.parts.len()).max().unwrap_or(0);
    match strictness {
        Strictness::Loose => deepest > 0,
        _ => below.count() >= 2 || deepest > 1,
    }
}

fn is_program(place: &Place) -> bool {
    let Some((_, directory)) = place.parts.split_last() else { return false };
    place.root == Root::Machine && PROGRAMS.iter().any(|program| program.iter().eq(directory.iter()))
}

/// Puts stars where names differ from run to run: process ids, numbers and hashes, and what runs make up.
fn rename(paths: BTreeMap<Place, Tally>, usage: Use, strictness: Strictness) -> BTreeMap<Place, Tally> {
    // From the first component on: what is below names that are alike is put together as well.
    let deepest = paths.keys().map(|place| place.parts.len()).max().unwrap_or(0);
    let mut paths = paths;
    for depth in 0..deepest {
        let mut directories: BTreeMap<Place, BTreeMap<Part, BTreeSet<usize>>> = BTreeMap::new();
        for (place, tally) in &paths {
            if let Some(part) = place.parts.get(depth) {
                let names = directories.entry(place.above(depth)).or_default();
                names.entry(part.clone()).or_default().extend(&tally.runs);
            }
        }
        let mut renamed: BTreeMap<Place, BTreeMap<Part, Part>> = BTreeMap::new();
        for (directory, names) in &directories {
            // Processes, and what each has by number: threads, descriptors.
            let pids =
                directory.root == Root::Machine && directory.parts.first().is_some_and(|part| part == "proc");
            let fixed = is_fixed(directory, usage);
            let shapes = names.keys().filter_map(|name| {
                let number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
                let shape = match (pids, number, fixed) {
                    (true, true, _) => Some("[0-9]*".to_owned()),
                    (_, _, true) => None,
                    _ => shape(name),
                };
                Some((name.clone(), shape?))
            });
            let mut new: BTreeMap<Part, Part> = shapes.collect();
            if !fixed && strictness != Strictness::Exact {
                for (name, glob) in alike(names.iter()) {
                    new.entry(name).or_insert(glob);
                }
            }
            if !new.is_empty() {
                renamed.insert(directory.clone(), new);
            }
        }
        if renamed.is_empty() {
            continue;
        }
        let mut next: BTreeMap<Place, Tally> = BTreeMap::new();
        for (mut place, tally) in paths {
            let directory = place.above(depth);
            if let Some(part) = place.parts.get_mut(depth)
                && let Some(glob) = renamed.get(&directory).and_then(|names| names.get(part))
            {
                part.clone_from(glob);
            }
            next.entry(place).or_default().add(&tally);
        }
        paths = next;
    }
    paths
}

/// Directories whose names a machine's owner gives, and no run.
fn is_fixed(directory: &Place, usage: Use) -> bool {
    let first = directory.parts.first().map_or("", String::as_str);
    directory.root == Root::Machine
        && (directory.parts.is_empty()
            || matches!(first, "etc" | "bin" | "sbin" | "dev")
            || usage == Use::Run && first == "usr")
}
