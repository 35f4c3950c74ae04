//! What a run needs that its base does not give: asked of the base once, whatever is then made of it.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::paths::{Paths, Whose};
use super::place::{Root, Roots};
use super::seen::{Count, Seen};
use super::tree::Use;
use super::{Base, LeftOut, Reach, Run, Tally, base_of, each_at, question};
use crate::access::{Access, AccessSet};
use crate::evaluate::{Act, Indexed};

/// What a path is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Read,
    Change,
    /// Mapped as code.
    Code,
    Run,
}

impl Purpose {
    fn of(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Load => Self::Code,
            Access::Run => Self::Run,
            _ => Self::Change,
        }
    }

    /// How wide a pattern may be that is made for it.
    pub fn usage(self) -> Use {
        match self {
            Self::Read | Self::Code => Use::Read,
            Self::Change => Use::Change,
            Self::Run => Use::Run,
        }
    }
}

/// A path as patterns write it, below a root, with slashes between its components.
#[derive(Clone, Debug)]
pub(super) struct Written {
    root: Root,
    parts: Box<str>,
}

impl Written {
    /// `None` for what is no absolute path.
    pub fn of(roots: &Roots, path: &[u8]) -> Option<Self> {
        let (root, parts) = roots.written(path)?;
        Some(Self { root, parts: parts.into() })
    }

    fn pattern(&self) -> String {
        let root = self.root.text();
        match (&*self.parts, self.root) {
            ("", Root::Machine) => "/".to_owned(),
            ("", _) => root.to_owned(),
            (parts, _) => format!("{root}/{parts}"),
        }
    }

    /// Whether it is named like a library, so that what reads it may also be about to map it.
    fn is_library(&self) -> bool {
        let name = self.parts.rsplit('/').next().unwrap_or_default();
        let versioned = |at: usize| name[at + 4..].starts_with(|c: char| c.is_ascii_digit());
        name.ends_with(".so") || name.ends_with(".node") || name.find(".so.").is_some_and(versioned)
    }

    /// Its tally among others.
    fn within<'t, 'p>(
        &'p self,
        paths: &'t mut Paths<'p>,
        detail: Detail,
        usage: Use,
        run: usize,
    ) -> &'t mut Tally {
        // All that lies in places of the run's own becomes one tree, whatever it is called.
        let parts = match detail {
            Detail::Bounds if usage.is_own(self.root) => "",
            _ => &*self.parts,
        };
        let tally = paths.at(self.root, parts.split('/').filter(|part| !part.is_empty()), Whose::Run(run));
        tally.runs.insert(run);
        tally
    }
}

/// How much is to be known of what is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// All.
    Whole,
    /// What is allowed, and neither how often nor by whom; trees are made.
    Bounds,
}

/// A path that is needed.
#[derive(Clone, Copy, Debug)]
struct Need<'s> {
    /// Which of the run's.
    path: usize,
    accesses: AccessSet,
    /// What was asked for, where that is something else: what is read may be about to be mapped.
    asked: AccessSet,
    count: &'s Count,
}

/// What one run needs.
#[derive(Debug)]
pub(super) struct Needs<'s> {
    run: usize,
    seen: &'s Seen,
    paths: Vec<Written>,
    of: BTreeMap<Purpose, Vec<Need<'s>>>,
    pub ends: BTreeMap<&'s Reach, Tally>,
    pub words: BTreeSet<&'static str>,
    pub left_out: BTreeMap<(String, Option<String>), LeftOut>,
}

impl<'s> Needs<'s> {
    /// Of the run at this place among all.
    pub fn of(index: usize, run: &Run<'s>) -> Self {
        let mut needs = Self {
            run: index,
            seen: run.seen,
            paths: Vec::new(),
            of: BTreeMap::new(),
            ends: BTreeMap::new(),
            words: BTreeSet::new(),
            left_out: BTreeMap::new(),
        };
        let roots = Roots::of(run.variables);
        let sorted = |map: &'s HashMap<Box<[u8]>, Count>| {
            let mut all: Vec<(&'s [u8], &'s Count)> =
                map.iter().map(|(path, count)| (&**path, count)).collect();
            all.sort_unstable_by_key(|(path, _)| *path);
            all
        };
        for (path, count) in sorted(&run.seen.files).into_iter().chain(sorted(&run.seen.executed)) {
            needs.path(run.base, &roots, path, count);
        }
        needs.new_names(run, &roots);
        for (end, count) in &run.seen.ends {
            needs.end(run.base, end, run.seen.tally(count, index));
        }
        for (words, count) in &run.seen.words {
            let allowed = run.base.policy().settings().kernel_allowed();
            if words.iter().any(|word| allowed.contains(word)) {
                continue;
            }
            match words.first() {
                // It reaches nobody but the run's own processes.
                Some(word) if *word == "ptrace-own" => _ = needs.words.insert(word),
                Some(word) => {
                    let because =
                        "this opens more than what was seen; add it by hand if it must be".to_owned();
                    let tally = run.seen.tally(count, index);
                    needs.leave(format!("kernel: {word}"), None, Some(because), &tally);
                }
                None => {}
            }
        }
        needs
    }

    fn path(&mut self, policy: &Indexed<'_>, roots: &Roots, path: &[u8], count: &'s Count) {
        let Some(written) = Written::of(roots, path) else { return };
        let mut silent: BTreeMap<Purpose, (AccessSet, AccessSet)> = BTreeMap::new();
        for (access, said) in each_at(policy, count.accesses, path) {
            match said {
                Base::Allows => {}
                Base::Silent => {
                    for (purpose, needed) in purposes(access, &written) {
                        let (accesses, asked) = silent.entry(purpose).or_default();
                        accesses.insert(needed);
                        asked.insert(access);
                    }
                }
                // Only the other name of a directory that moved has it.
                Base::Denies(..) if count.times == 0 => {}
                Base::Denies(rule, because) => {
                    let tally = self.seen.tally_of(count, access.into(), self.run);
                    self.leave(written.pattern(), Some(rule), because, &tally);
                }
            }
        }
        if silent.is_empty() {
            return;
        }
        let path = self.paths.len();
        self.paths.push(written);
        for (purpose, (accesses, asked)) in silent {
            self.of.entry(purpose).or_default().push(Need { path, accesses, asked, count });
        }
    }

    /// What a new name would have opened that the base denies by a rule at the old one.
    fn new_names(&mut self, run: &Run<'s>, roots: &Roots) {
        let denied = |path| {
            each_at(run.base, AccessSet::OBJECT, path).filter(|(_, said)| matches!(said, Base::Denies(..)))
        };
        for (old, new) in renamed(run.seen) {
            let mut at_old = denied(old).peekable();
            if at_old.peek().is_none() {
                continue;
            }
            let at_new: AccessSet = denied(new).map(|(access, _)| access).collect();
            for (access, said) in at_old.filter(|(access, _)| !at_new.contains(*access)) {
                let (Base::Denies(rule, because), Some(written)) = (said, Written::of(roots, old)) else {
                    continue;
                };
                let because = because.map_or(String::new(), |because| format!("; {because}"));
                let because = format!("it got another name, at which no rule denies it{because}");
                let tally = Tally {
                    accesses: access.into(),
                    runs: BTreeSet::from([self.run]),
                    count: 1,
                    programs: BTreeSet::new(),
                };
                self.leave(written.pattern(), Some(rule), Some(because), &tally);
            }
        }
    }

    fn end(&mut self, policy: &Indexed<'_>, end: &'s Reach, tally: Tally) {
        let said = match end {
            Reach::Question(name) => question(policy.policy(), name),
            _ => Some(end.with(|end| {
                base_of(policy, &Act::Network { accesses: tally.accesses, end }, &tally.programs)
            })),
        };
        let Some(said) = said else {
            let because = "no host has such a name, and none is asked for it when this is enforced";
            return self.leave(end.to_string(), None, Some(because.to_owned()), &tally);
        };
        match said {
            Base::Allows => {}
            Base::Silent => _ = self.ends.insert(end, tally),
            Base::Denies(rule, because) => self.leave(end.to_string(), Some(rule), because, &tally),
        }
    }

    fn leave(&mut self, object: String, rule: Option<String>, because: Option<String>, tally: &Tally) {
        let new = || LeftOut { object: object.clone(), rule: rule.clone(), because, tally: Tally::default() };
        self.left_out.entry((object.clone(), rule.clone())).or_insert_with(new).tally.add(tally);
    }

    /// Adds the paths that are needed for a purpose.
    pub fn add_to<'p>(&'p self, paths: &mut Paths<'p>, purpose: Purpose, detail: Detail) {
        let usage = purpose.usage();
        let mut own: BTreeMap<Root, (&Written, AccessSet)> = BTreeMap::new();
        for need in self.of.get(&purpose).into_iter().flatten() {
            let path = &self.paths[need.path];
            if detail == Detail::Bounds && usage.is_own(path.root) {
                let (_, accesses) = own.entry(path.root).or_insert((path, AccessSet::EMPTY));
                *accesses = accesses.union(need.accesses);
                continue;
            }
            let tally = path.within(paths, detail, usage, self.run);
            tally.accesses = tally.accesses.union(need.accesses);
            if detail == Detail::Whole {
                tally.count = tally.count.saturating_add(need.count.times(need.asked));
                self.seen.tell_programs(need.count, need.asked, tally);
            }
        }
        // These are all one path, so that they need not be put there one by one.
        for (path, accesses) in own.into_values() {
            let tally = path.within(paths, detail, usage, self.run);
            tally.accesses = tally.accesses.union(accesses);
        }
    }
}

/// New names of a run, each behind the old one: what they open may be anything that is about an object
/// ([`Access::OBJECT`]).
pub(super) fn renamed(seen: &Seen) -> impl Iterator<Item = (&[u8], &[u8])> {
    seen.renamed.iter().flat_map(|(old, new, swap)| {
        let turned = swap.then_some((new.as_slice(), old.as_slice()));
        std::iter::once((old.as_slice(), new.as_slice())).chain(turned)
    })
}

/// What an access to a path is needed for.
fn purposes(access: Access, path: &Written) -> impl Iterator<Item = (Purpose, Access)> {
    let library = access == Access::Read && path.is_library();
    let mapped = library.then_some((Purpose::Code, Access::Load));
    std::iter::once((Purpose::of(access), access)).chain(mapped)
}

/// An access that is needed at one name, because it is open at another one that the run gave the same file.
#[derive(Clone, Debug)]
pub(super) struct Gained {
    pub run: usize,
    pub access: Access,
    pub path: Written,
}

impl Gained {
    /// Adds the path, where it is needed for that purpose.
    pub fn add_to<'p>(&'p self, paths: &mut Paths<'p>, purpose: Purpose, detail: Detail) {
        for (_, access) in purposes(self.access, &self.path).filter(|(other, _)| *other == purpose) {
            let tally = self.path.within(paths, detail, purpose.usage(), self.run);
            tally.accesses.insert(access);
            tally.count = tally.count.saturating_add(1);
        }
    }
}
