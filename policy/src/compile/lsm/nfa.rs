//! All globs of a policy as one non-deterministic automaton, grouped by what they mean.
//!
//! Rules with the same effect, accesses and `except` form a group: it matters only whether *some* of their
//! paths match. Each group has a trie of its paths and one of its exceptions, so that common beginnings share
//! nodes. A node at which a group matches whatever follows is the group's *sink*.

use std::collections::BTreeMap;

use sandbox_ebpf::abi::policy::access;

use crate::model::{Decision, Policy, RuleName, Section};
use crate::pattern::{ByteSet, Element, Pattern};

/// Which bytes keep a node alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    None,
    /// Every byte but a slash.
    Component,
    All,
}

/// Whether a node belongs to a group's paths or to its exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Match,
    Except,
}

/// Why one node follows another without a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Star,
    Any,
    DeepLoop,
    DeepAfter,
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub bytes: Vec<(u8, u32)>,
    pub sets: Vec<(ByteSet, u32)>,
    pub looping: Loop,
    pub accept: bool,
    pub sink: bool,
    pub group: u32,
    pub side: Side,
    /// The rule that made the node, as an index into [`Nfa::rules`].
    owner: u32,
    free: Vec<(Way, u32)>,
}

/// What a group's match means.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub allow: u16,
    pub deny: u16,
    /// The one node that stands for every sink of a side.
    pub sinks: [u32; 2],
    roots: [u32; 2],
}

/// The automaton. Nodes of one group lie together.
#[derive(Debug, Default)]
pub(super) struct Nfa {
    pub nodes: Vec<Node>,
    pub groups: Vec<Group>,
    pub default_deny: u16,
    rules: Vec<RuleName>,
}

/// What rules have in common to form a group: the masks, and the exceptions' texts.
type GroupKey = (u16, u16, Vec<String>);
/// Rules of one group, by their index in [`Nfa::rules`].
type GroupRules<'a> = Vec<(u32, &'a crate::model::Rule<Pattern>)>;

/// Builds the automaton of the files and exec sections.
pub(super) fn build(policy: &Policy, default_deny: u16) -> Nfa {
    let mut nfa = Nfa { default_deny, ..Nfa::default() };
    let mut groups: BTreeMap<GroupKey, GroupRules<'_>> = BTreeMap::new();
    for section in [&policy.files, &policy.exec] {
        nfa.collect(section, &mut groups);
    }
    for ((allow, deny, _), rules) in groups {
        nfa.group(allow, deny, &rules);
    }
    nfa
}

impl Nfa {
    /// Sorts a section's rules into groups. Bits without effect are left out.
    fn collect<'a>(
        &mut self,
        section: &'a Section<Pattern>,
        groups: &mut BTreeMap<GroupKey, GroupRules<'a>>,
    ) {
        let allowed = section.allowed().path_bits();
        for rule in &section.rules {
            let bits = rule.accesses.path_bits();
            let (allow, deny) = match rule.effect {
                Decision::Allow => (bits & self.default_deny, 0),
                // What a rule keeps from being executed may not be loaded either, whatever the default is.
                Decision::Ask | Decision::Deny => (0, bits & !(self.default_deny & !allowed & !access::RUN)),
            };
            if allow | deny == 0 || rule.objects.is_empty() {
                continue;
            }
            let mut except: Vec<String> = rule.except.iter().map(|p| p.text().to_owned()).collect();
            except.sort();
            except.dedup();
            let index = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
            self.rules.push(rule.name.clone());
            groups.entry((allow, deny, except)).or_default().push((index, rule));
        }
    }

    fn group(&mut self, allow: u16, deny: u16, rules: &GroupRules<'_>) {
        let group = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let mut sides = [(0, 0); 2];
        for (side, ends) in [Side::Match, Side::Except].into_iter().zip(&mut sides) {
            let owner = rules.first().map_or(0, |(owner, _)| *owner);
            let mut node = |sink| {
                self.add(Node {
                    bytes: Vec::new(),
                    sets: Vec::new(),
                    looping: if sink { Loop::All } else { Loop::None },
                    accept: sink,
                    sink,
                    group,
                    side,
                    owner,
                    free: Vec::new(),
                })
            };
            *ends = (node(false), node(true));
            for (owner, rule) in rules {
                let patterns = if side == Side::Match { &rule.objects } else { &rule.except };
                for glob in patterns.iter().flat_map(|pattern| pattern.globs()) {
                    self.insert(ends.0, glob, *owner);
                }
                // The group has one list of exceptions.
                if side == Side::Except {
                    break;
                }
            }
        }
        let [(root, sink), (except_root, except_sink)] = sides;
        self.groups.push(Group { allow, deny, roots: [root, except_root], sinks: [sink, except_sink] });
    }

    fn add(&mut self, node: Node) -> u32 {
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(node);
        id
    }

    /// A new node that follows `from`.
    fn follow(&mut self, from: u32, looping: Loop, owner: u32) -> u32 {
        let Node { group, side, .. } = self.nodes[from as usize];
        let (bytes, sets, free) = (Vec::new(), Vec::new(), Vec::new());
        self.add(Node { bytes, sets, looping, accept: false, sink: false, group, side, owner, free })
    }

    fn by_byte(&mut self, from: u32, byte: u8, owner: u32) -> u32 {
        match self.nodes[from as usize].bytes.binary_search_by_key(&byte, |(b, _)| *b) {
            Ok(at) => self.nodes[from as usize].bytes[at].1,
            Err(at) => {
                let id = self.follow(from, Loop::None, owner);
                self.nodes[from as usize].bytes.insert(at, (byte, id));
                id
            }
        }
    }

    fn by_set(&mut self, from: u32, set: ByteSet, owner: u32) -> u32 {
        if let Some((_, id)) = self.nodes[from as usize].sets.iter().find(|(s, _)| *s == set) {
            return *id;
        }
        let id = self.follow(from, Loop::None, owner);
        self.nodes[from as usize].sets.push((set, id));
        id
    }

    fn freely(&mut self, from: u32, way: Way, looping: Loop, owner: u32) -> u32 {
        if let Some((_, id)) = self.nodes[from as usize].free.iter().find(|(w, _)| *w == way) {
            return *id;
        }
        let id = self.follow(from, looping, owner);
        self.nodes[from as usize].free.push((way, id));
        id
    }

    fn insert(&mut self, root: u32, glob: &[Element], owner: u32) {
        let mut at = root;
        for (i, element) in glob.iter().enumerate() {
            let last = i + 1 == glob.len();
            at = match element {
                Element::Byte(byte) => self.by_byte(at, *byte, owner),
                Element::Set(set) => self.by_set(at, *set, owner),
                Element::Star => self.freely(at, Way::Star, Loop::Component, owner),
                Element::Any if last => {
                    self.nodes[at as usize].sink = true;
                    at
                }
                Element::Any => self.freely(at, Way::Any, Loop::All, owner),
                Element::Deep => {
                    let after = self.freely(at, Way::DeepAfter, Loop::None, owner);
                    let looping = self.freely(at, Way::DeepLoop, Loop::All, owner);
                    if self.nodes[looping as usize].bytes.is_empty() {
                        self.nodes[looping as usize].bytes.push((b'/', after));
                    }
                    after
                }
                Element::Below => {
                    let below = self.by_byte(at, b'/', owner);
                    self.nodes[below as usize].sink = true;
                    at
                }
            };
        }
        self.nodes[at as usize].accept = true;
    }

    /// For each node, the nodes that being there means: itself, what follows freely, or its sink.
    pub fn closures(&self) -> Vec<Vec<u32>> {
        let mut all = Vec::with_capacity(self.nodes.len());
        for start in 0..self.nodes.len() {
            let mut reached = Vec::new();
            let mut open = vec![u32::try_from(start).unwrap_or(u32::MAX)];
            while let Some(id) = open.pop() {
                let node = &self.nodes[id as usize];
                if node.sink {
                    reached = vec![self.groups[node.group as usize].sinks[node.side as usize]];
                    break;
                }
                reached.push(id);
                open.extend(node.free.iter().map(|(_, next)| *next));
            }
            all.push(reached);
        }
        all
    }

    /// The nodes to begin with.
    pub fn roots(&self) -> impl Iterator<Item = u32> {
        self.groups.iter().flat_map(|group| group.roots)
    }

    /// The rules that own most of the nodes given.
    pub fn heaviest(&self, nodes: impl Iterator<Item = u32>) -> Vec<RuleName> {
        let mut weights = vec![0_usize; self.rules.len()];
        for id in nodes {
            if let Some(weight) = weights.get_mut(self.nodes[id as usize].owner as usize) {
                *weight += 1;
            }
        }
        crate::compile::heaviest(self.rules.iter().cloned().zip(weights))
    }
}
