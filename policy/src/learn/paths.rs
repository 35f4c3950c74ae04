//! Paths as a tree of their components, with what was asked for at each; names that differ from run to run are put
//! together in it, directory by directory.
//!
//! A path's components are borrowed from whoever has them. What becomes of the paths is [`super::tree`]'s.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::names::{alike, shape};
use super::place::{Part, Place, Root};
use super::tree::Use;
use super::{Strictness, Tally};

/// The runs that something was seen in, as far as it matters for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Whose {
    #[default]
    Nobody,
    /// One run, by its place among all.
    Run(usize),
    Several,
}

impl Whose {
    /// Of these runs.
    pub fn of(runs: &BTreeSet<usize>) -> Self {
        runs.iter().fold(Self::Nobody, |whose, run| whose.and(Self::Run(*run)))
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, whose) | (whose, Self::Nobody) => whose,
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }
}

/// A component.
#[derive(Debug)]
struct Node<'p> {
    name: &'p str,
    /// What the name became.
    glob: Option<Part>,
    /// Whose this and what is below it is.
    whose: Whose,
    /// What was asked for here.
    here: Option<Tally>,
    below: Vec<usize>,
}

impl Node<'_> {
    fn name(&self) -> &str {
        self.glob.as_deref().unwrap_or(self.name)
    }
}

/// Paths below roots.
#[derive(Debug, Default)]
pub(super) struct Paths<'p> {
    nodes: Vec<Node<'p>>,
    roots: BTreeMap<Root, usize>,
    /// By the node above and the name.
    known: HashMap<(usize, &'p str), usize>,
    /// The nodes of the last path, from its root on: the next one mostly lies beside it.
    last: Vec<usize>,
}

/// A path in the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'t> {
    pub root: Root,
    pub parts: &'t [&'t str],
    /// The numbers of the root, and of each component behind it.
    pub nodes: &'t [usize],
}

impl Spot<'_> {
    /// Its first components.
    pub fn above(&self, depth: usize) -> Place {
        let parts = self.parts.iter().take(depth).map(|part| (*part).to_owned()).collect();
        Place { root: self.root, parts }
    }

    /// All of it.
    pub fn place(&self) -> Place {
        self.above(self.parts.len())
    }
}

/// What names in a directory are.
#[derive(Clone, Copy, Debug)]
struct Names {
    /// Processes, and what each has by number: threads, descriptors.
    pids: bool,
    /// A machine's owner gave them, and no run.
    fixed: bool,
}

impl Names {
    /// In a root, or below its directory `first`.
    fn below(root: Root, first: Option<&str>, usage: Use) -> Self {
        let on_machine = root == Root::Machine;
        let fixed = first.is_none_or(|first| {
            matches!(first, "etc" | "bin" | "sbin" | "dev") || usage == Use::Run && first == "usr"
        });
        Self { pids: on_machine && first == Some("proc"), fixed: on_machine && fixed }
    }

    /// What stands for a name by itself.
    fn shape(self, name: &str) -> Option<Part> {
        let number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self { pids: true, .. } if number => Some("[0-9]*".to_owned()),
            Self { fixed: true, .. } => None,
            _ => shape(name),
        }
    }
}

impl<'p> Paths<'p> {
    /// The tally of a path, which is new where it is not known.
    pub fn at(&mut self, root: Root, parts: impl Iterator<Item = &'p str>, whose: Whose) -> &mut Tally {
        let mut at = match self.roots.get(&root) {
            Some(at) => *at,
            None => {
                let new = self.add("");
                self.roots.insert(root, new);
                new
            }
        };
        let mut depth = 0;
        for part in parts {
            self.nodes[at].whose = self.nodes[at].whose.and(whose);
            if self.last.get(depth) != Some(&at) {
                self.last.truncate(depth);
                self.last.push(at);
            }
            depth += 1;
            at = match self.last.get(depth) {
                Some(same) if self.nodes[*same].name == part => *same,
                _ => self.below(at, part),
            };
        }
        let node = &mut self.nodes[at];
        node.whose = node.whose.and(whose);
        node.here.get_or_insert_default()
    }

    /// What has this name in a directory.
    fn below(&mut self, at: usize, part: &'p str) -> usize {
        if let Some(known) = self.known.get(&(at, part)) {
            return *known;
        }
        let new = self.add(part);
        self.known.insert((at, part), new);
        self.nodes[at].below.push(new);
        new
    }

    fn add(&mut self, name: &'p str) -> usize {
        let node = Node { name, glob: None, whose: Whose::Nobody, here: None, below: Vec::new() };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Puts stars where names differ from run to run: process ids, numbers and hashes, and what runs make up. From the
    /// first component on: what is below names that are alike is put together as well.
    pub fn rename(&mut self, usage: Use, strictness: Strictness) {
        for (root, at) in self.roots.clone() {
            self.rename_below(at, Names::below(root, None, usage), strictness, |first| {
                Names::below(root, Some(first), usage)
            });
        }
    }

    /// `of` says what names below each of the directory's own are.
    fn rename_below(&mut self, at: usize, names: Names, strictness: Strictness, of: impl Fn(&str) -> Names) {
        let mut below = std::mem::take(&mut self.nodes[at].below);
        below.sort_unstable_by_key(|child| self.nodes[*child].name);
        let mut globs = self.globs(&below, names, strictness);
        if !globs.is_empty() {
            let mut firsts: HashMap<Part, usize> = HashMap::default();
            below.retain(|child| {
                let Some(glob) = globs.remove(self.nodes[*child].name) else { return true };
                if let Some(first) = firsts.get(&glob) {
                    self.merge(*first, *child);
                    return false;
                }
                firsts.insert(glob.clone(), *child);
                self.nodes[*child].glob = Some(glob);
                true
            });
            below.sort_unstable_by(|one, other| self.nodes[*one].name().cmp(self.nodes[*other].name()));
        }
        for child in &below {
            let names = of(self.nodes[*child].name());
            // Further down nothing changes any more.
            self.rename_below_first(*child, names, strictness);
        }
        self.nodes[at].below = below;
    }

    fn rename_below_first(&mut self, at: usize, names: Names, strictness: Strictness) {
        if !self.nodes[at].below.is_empty() {
            let all: &dyn Fn(&str) -> Names = &|_| names;
            self.rename_below(at, names, strictness, all);
        }
    }

    /// What stands for names of a directory, where something does.
    fn globs(&self, below: &[usize], names: Names, strictness: Strictness) -> HashMap<&'p str, Part> {
        let children = || below.iter().map(|child| &self.nodes[*child]);
        let mut globs: HashMap<&'p str, Part> =
            children().filter_map(|child| Some((child.name, names.shape(child.name)?))).collect();
        if !names.fixed && strictness != Strictness::Exact {
            for (name, glob) in alike(children().map(|child| (child.name, child.whose))) {
                globs.entry(name).or_insert(glob);
            }
        }
        globs
    }

    /// Puts a directory, which nothing was renamed in yet, to another one.
    fn merge(&mut self, into: usize, from: usize) {
        let Node { whose, here, below, .. } = &mut self.nodes[from];
        let (whose, here, below) = (*whose, here.take(), std::mem::take(below));
        let node = &mut self.nodes[into];
        node.whose = node.whose.and(whose);
        if let Some(tally) = here {
            node.here.get_or_insert_default().add(&tally);
        }
        for child in below {
            let name = self.nodes[child].name;
            match self.known.get(&(into, name)) {
                Some(same) => self.merge(*same, child),
                None => {
                    self.known.insert((into, name), child);
                    self.nodes[into].below.push(child);
                }
            }
        }
    }

    /// Hands over all paths, once names are put together, in the order of their components.
    pub fn each(&self, mut each: impl FnMut(Spot<'_>, &Tally)) {
        for (root, at) in &self.roots {
            self.each_below(*root, *at, &mut Vec::new(), &mut Vec::new(), &mut each);
        }
    }

    fn each_below<'t>(
        &'t self,
        root: Root,
        at: usize,
        parts: &mut Vec<&'t str>,
        nodes: &mut Vec<usize>,
        each: &mut impl FnMut(Spot<'_>, &Tally),
    ) {
        nodes.push(at);
        if let Some(tally) = &self.nodes[at].here {
            each(Spot { root, parts, nodes }, tally);
        }
        for child in &self.nodes[at].below {
            parts.push(self.nodes[*child].name());
            self.each_below(root, *child, parts, nodes, each);
            parts.pop();
        }
        nodes.pop();
    }
}
