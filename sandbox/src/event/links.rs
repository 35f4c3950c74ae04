//! Where names lead over symbolic links, as it was when the call was made.
//!
//! A model of what stands at names, fed with what the run did, in its order: so it knows a link that is gone, or leads
//! elsewhere, by the time its record is handled. What it does not know is asked for, see [`Seen`]; whoever answers must say so
//! where what is there now need not be what was there then. Looks at nothing itself; [`super::resolve`] does.
//!
//! Memory is bounded ([`BYTES_MAX`]). What is forgotten is looked for again, and told as not known where that is too late.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::decode::{Last, Way};
use crate::observe::look::Seen;

/// Links that are followed at most, as by the kernel (MAXSYMLINKS).
const LINKS: usize = 40;
/// Bytes that are remembered at most, names, targets and what each takes beside them.
const BYTES_MAX: usize = 16 << 20;
/// What one name takes beside its bytes.
const OVERHEAD: usize = 64;
/// Names below a directory that move with it at most; more are forgotten, so that moving it to and fro costs little.
const MOVED_MAX: usize = 256;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The path; where it is not known, the name as it was.
    pub path: Vec<u8>,
    /// Whether that is known.
    pub sure: bool,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A symbolic link, with what it says.
    Link(Vec<u8>),
    /// No symbolic link. None is on the way to it either.
    Plain,
}

/// What is known of names. They are absolute, without `.` and `..`, and no link is on the way to them.
#[derive(Debug, Default)]
pub struct Links {
    names: BTreeMap<Vec<u8>, What>,
    bytes: usize,
}

impl Links {
    /// Where `path` leads that a call took in this `way`; `passed` says that it may have succeeded. `look` is asked about
    /// names that are not known.
    pub fn lead(&mut self, path: &[u8], way: Way, passed: bool, look: &mut dyn FnMut(&[u8]) -> Seen) -> Led {
        let unknown = || Led { path: path.to_vec(), sure: false };
        let (known, rest) = path.split_at(way.known.min(path.len()));
        let mut at = known.to_vec();
        let mut rest: VecDeque<Vec<u8>> = components(rest).collect();
        let mut links = LINKS;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                at.truncate(parent(&at).len());
                continue;
            }
            at.push(b'/');
            at.extend_from_slice(&name);
            if rest.is_empty() && way.last == Last::Itself {
                break;
            }
            let target = match self.names.get(&at) {
                Some(What::Plain) => continue,
                Some(What::Link(target)) => target.clone(),
                None => match look(&at) {
                    Seen::Link(target) => {
                        self.insert(at.clone(), What::Link(target.clone()));
                        target
                    }
                    Seen::Directory => {
                        self.insert(at.clone(), What::Plain);
                        continue;
                    }
                    Seen::Other if rest.is_empty() => {
                        self.insert(at.clone(), What::Plain);
                        continue;
                    }
                    // Nothing came of the call: what is not there now was not there then, or does not matter.
                    Seen::Other | Seen::Absent if !passed => continue,
                    _ => return unknown(),
                },
            };
            if rest.is_empty() && way.last == Last::Untold {
                // The link, or what it leads to.
                return Led { path: at, sure: false };
            }
            let Some(left) = links.checked_sub(1) else {
                return Led { path: path.to_vec(), sure: !passed };
            };
            links = left;
            at.truncate(if target.starts_with(b"/") { 0 } else { parent(&at).len() });
            for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(name);
            }
        }
        if at.is_empty() {
            at.push(b'/');
        }
        Led { path: at, sure: true }
    }

    /// Whether it is known that `path`, taken in this `way`, leads to itself: mostly so, and at little cost.
    pub fn is_free(&self, path: &[u8], way: Way) -> bool {
        let above = parent(path);
        way.last == Last::Itself && (way.known >= above.len() || self.names.get(above) == Some(&What::Plain))
    }

    /// Whether no link is known to be on the way to what has this path.
    pub fn knows_way(&self, path: &[u8]) -> bool {
        self.names.get(parent(path)) == Some(&What::Plain)
    }

    /// The kernel said that this is a path: every directory on it is one.
    pub fn passed(&mut self, path: &[u8]) {
        self.directory(parent(path));
    }

    /// The kernel said that this is the path of a directory.
    pub fn directory(&mut self, path: &[u8]) {
        if !path.starts_with(b"/") || self.names.get(path) == Some(&What::Plain) {
            return;
        }
        let ends = (1..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        for end in ends {
            if self.names.get(&path[..end]) != Some(&What::Plain) {
                self.insert(path[..end].to_vec(), What::Plain);
            }
        }
    }

    /// Something that is no link was made.
    pub fn made(&mut self, path: &[u8]) {
        self.put(path, What::Plain);
    }

    /// A link was made.
    pub fn linked(&mut self, path: &[u8], target: &[u8]) {
        self.put(path, What::Link(target.to_vec()));
    }

    /// What stands at `from` has another name, `to`, which it gave to nothing before.
    pub fn named(&mut self, from: &[u8], to: &[u8]) {
        match self.names.get(from).cloned() {
            Some(what) => self.put(to, what),
            None => self.forget(to),
        }
    }

    /// What stands at a name, and below it, is not known any more.
    pub fn forget(&mut self, path: &[u8]) {
        self.take(path);
    }

    /// What stood at `from` stands at `to`.
    pub fn moved(&mut self, from: &[u8], to: &[u8]) {
        if from == to {
            return;
        }
        let moved = self.take(from);
        self.take(to);
        self.give(to, moved);
    }

    /// What stood at either name stands at the other.
    pub fn exchanged(&mut self, one: &[u8], other: &[u8]) {
        if one == other {
            return;
        }
        let [first, second] = [one, other].map(|path| self.take(path));
        self.give(other, first);
        self.give(one, second);
    }

    /// Nothing is known any more: something happened that was not seen.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes a name and those below it; gives what stood there, by what comes behind the name.
    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, What)> {
        let mut taken = Vec::new();
        let mut gone = self.below(path);
        let keep = gone.len() <= MOVED_MAX;
        gone.push(path.to_vec());
        for name in gone {
            let Some(what) = self.names.remove(&name) else { continue };
            self.bytes -= size(&name, &what);
            if keep || name == path {
                taken.push((name[path.len()..].to_vec(), what));
            }
        }
        taken
    }

    fn give(&mut self, path: &[u8], taken: Vec<(Vec<u8>, What)>) {
        for (tail, what) in taken {
            self.insert([path, &tail].concat(), what);
        }
    }

    /// Something stands at a name: what was known to lie below does so no more.
    fn put(&mut self, path: &[u8], what: What) {
        if !self.below(path).is_empty() {
            self.take(path);
        }
        self.insert(path.to_vec(), what);
    }

    /// The names below a name.
    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut behind = self.names.range::<[u8], _>((Bound::Excluded(path), Bound::Unbounded));
        // Mostly nothing begins alike.
        if behind.next().is_none_or(|(name, _)| !name.starts_with(path)) {
            return Vec::new();
        }
        let below = [path, b"/"].concat();
        let names = self.names.range::<[u8], _>((Bound::Excluded(&below[..]), Bound::Unbounded));
        names.map(|(name, _)| name).take_while(|name| name.starts_with(&below)).cloned().collect()
    }

    fn insert(&mut self, path: Vec<u8>, what: What) {
        let (bare, new) = (size(&path, &What::Plain), size(&path, &what));
        self.bytes += new;
        if let Some(before) = self.names.insert(path, what) {
            self.bytes -= bare + before.target().len();
        }
        if self.bytes > BYTES_MAX {
            self.shrink();
        }
    }

    /// Forgets what is no link, and if that is too little everything.
    fn shrink(&mut self) {
        self.names.retain(|_, what| *what != What::Plain);
        self.bytes = self.names.iter().map(|(name, what)| size(name, what)).sum();
        if self.bytes > BYTES_MAX / 2 {
            self.clear();
        }
    }
}

impl What {
    fn target(&self) -> &[u8] {
        match self {
            What::Link(target) => target,
            What::Plain => &[],
        }
    }
}

fn size(path: &[u8], what: &What) -> usize {
    OVERHEAD + path.len() + what.target().len()
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let names = path.split(|byte| *byte == b'/');
    names.filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

/// The directory of a path; nothing for the root, and what lies in it.
fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}
