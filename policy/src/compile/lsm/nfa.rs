//! Globs as one non-deterministic automaton: a trie of all globs and exceptions of some groups, so that common
//! beginnings share nodes. What a node means is said by *labels*: whose glob, or whose exception, ends there.

use std::collections::HashMap;

use super::block::Meaning;
use super::shapes::Group;
use crate::pattern::{ByteSet, Element};

/// Which bytes keep a node alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    None,
    /// Every byte but a slash.
    Component,
    All,
}

/// Whether a group matches, or is excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Match,
    Except,
}

/// Whether a label holds for the path that ends at a node, or for whatever follows too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    Here,
    Below,
}

/// Whose glob or exception ends at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label {
    pub group: u32,
    pub side: Side,
    pub reach: Reach,
}

/// Why one node follows another without a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Star,
    /// To the rest of the component, at the end of a glob.
    Rest,
    Any,
    DeepLoop,
    DeepAfter,
}

/// One node. Those that follow it have higher numbers, but for [`Way::Rest`], which nothing follows.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub bytes: Vec<(u8, u32)>,
    pub sets: Vec<(ByteSet, u32)>,
    pub looping: Loop,
    pub labels: Vec<Label>,
    /// The rule that made the node.
    pub owner: u32,
    free: Vec<(Way, u32)>,
}

/// The automaton. Node 0 is the one to begin with.
#[derive(Debug)]
pub(super) struct Nfa {
    pub nodes: Vec<Node>,
    /// What each group means.
    pub meanings: Vec<Meaning>,
    /// The one node that stands for every `*` at the end of a glob, of each label.
    rests: HashMap<(u32, Side), u32>,
}

impl Nfa {
    /// The automaton of some groups.
    pub fn new(groups: &[Group<'_>]) -> Self {
        let mut nfa = Self { nodes: Vec::new(), meanings: Vec::new(), rests: HashMap::new() };
        nfa.add(Loop::None, 0);
        for (number, group) in (0..).zip(groups) {
            nfa.meanings.push(group.meaning);
            group.globs.iter().for_each(|(glob, owner)| nfa.insert(glob, (number, Side::Match), *owner));
            group.except.iter().for_each(|(glob, owner)| nfa.insert(glob, (number, Side::Except), *owner));
        }
        nfa
    }

    fn add(&mut self, looping: Loop, owner: u32) -> u32 {
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let (bytes, sets, labels, free) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.nodes.push(Node { bytes, sets, looping, labels, owner, free });
        id
    }

    fn by_byte(&mut self, from: u32, byte: u8, owner: u32) -> u32 {
        match self.nodes[from as usize].bytes.binary_search_by_key(&byte, |(b, _)| *b) {
            Ok(at) => self.nodes[from as usize].bytes[at].1,
            Err(at) => {
                let id = self.add(Loop::None, owner);
                self.nodes[from as usize].bytes.insert(at, (byte, id));
                id
            }
        }
    }

    fn by_set(&mut self, from: u32, set: ByteSet, owner: u32) -> u32 {
        if let Some((_, id)) = self.nodes[from as usize].sets.iter().find(|(s, _)| *s == set) {
            return *id;
        }
        let id = self.add(Loop::None, owner);
        self.nodes[from as usize].sets.push((set, id));
        id
    }

    fn freely(&mut self, from: u32, way: Way, looping: Loop, owner: u32) -> u32 {
        if let Some((_, id)) = self.nodes[from as usize].free.iter().find(|(w, _)| *w == way) {
            return *id;
        }
        let id = self.add(looping, owner);
        self.nodes[from as usize].free.push((way, id));
        id
    }

    /// The rest of the component, whatever it is.
    fn rest(&mut self, from: u32, label: (u32, Side), owner: u32) -> u32 {
        let rest = match self.rests.get(&label) {
            Some(rest) => *rest,
            None => {
                let rest = self.add(Loop::Component, owner);
                self.rests.insert(label, rest);
                rest
            }
        };
        let free = &mut self.nodes[from as usize].free;
        if !free.contains(&(Way::Rest, rest)) {
            free.push((Way::Rest, rest));
        }
        rest
    }

    fn insert(&mut self, glob: &[Element], label: (u32, Side), owner: u32) {
        let mut at = 0;
        for (i, element) in glob.iter().enumerate() {
            let last = i + 1 == glob.len();
            at = match element {
                Element::Byte(byte) => self.by_byte(at, *byte, owner),
                Element::Set(set) => self.by_set(at, *set, owner),
                Element::Star if last => self.rest(at, label, owner),
                Element::Star => self.freely(at, Way::Star, Loop::Component, owner),
                Element::Any if last => {
                    self.label(at, label, Reach::Below);
                    at
                }
                Element::Any => self.freely(at, Way::Any, Loop::All, owner),
                Element::Deep => {
                    let looping = self.freely(at, Way::DeepLoop, Loop::All, owner);
                    let after = self.freely(at, Way::DeepAfter, Loop::None, owner);
                    if self.nodes[looping as usize].bytes.is_empty() {
                        self.nodes[looping as usize].bytes.push((b'/', after));
                    }
                    after
                }
                Element::Below => {
                    let below = self.by_byte(at, b'/', owner);
                    self.label(below, label, Reach::Below);
                    at
                }
            };
        }
        self.label(at, label, Reach::Here);
    }

    fn label(&mut self, node: u32, (group, side): (u32, Side), reach: Reach) {
        let label = Label { group, side, reach };
        let labels = &mut self.nodes[node as usize].labels;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }

    /// For each node, the nodes that being there means: itself, and what follows freely.
    pub fn closures(&self) -> Vec<Vec<u32>> {
        let closure = |start: usize| {
            let mut reached = Vec::new();
            let mut open = vec![u32::try_from(start).unwrap_or(u32::MAX)];
            while let Some(id) = open.pop() {
                reached.push(id);
                open.extend(self.nodes[id as usize].free.iter().map(|(_, next)| *next));
            }
            reached
        };
        (0..self.nodes.len()).map(closure).collect()
    }

    /// The nodes that follow a node.
    pub fn following(&self, node: usize) -> impl Iterator<Item = u32> {
        let Node { bytes, sets, free, .. } = &self.nodes[node];
        let sets = sets.iter().map(|(_, next)| *next);
        bytes.iter().map(|(_, next)| *next).chain(sets).chain(free.iter().map(|(_, next)| *next))
    }
}
