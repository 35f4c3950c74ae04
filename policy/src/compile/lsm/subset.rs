//! The non-deterministic automaton to a deterministic one, states found as they are reached.
//!
//! What is decided is dropped at once: a group that surely matches drops its other nodes, and every group
//! whose accesses it settles; a group that surely is excepted goes altogether. So floating rules with the
//! same meaning (`**/a/**`, `**/b/**`) do not multiply.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use sandbox_ebpf::abi::policy::{StateVerdict, access};

use super::nfa::{Loop, Nfa, Side};
use crate::compile::CompileError;

/// Most states before minimisation.
const MAX_STATES: usize = 1 << 19;
/// Most nodes in all states together (64 MiB).
const MAX_NODES: usize = 16 << 20;
/// Most edges that differ from their state's usual one (128 MiB).
const MAX_EDGES: usize = 16 << 20;

/// A deterministic automaton, each state an *other* target and the classes that differ from it.
#[derive(Debug)]
pub(super) struct Dfa {
    pub classes: [u8; 256],
    pub class_count: usize,
    /// Target for the class of the byte 0, and for every class that is not listed.
    pub other: Vec<u32>,
    /// Ascending by class; targets differ from `other`.
    pub edges: Vec<Vec<(u8, u32)>>,
    pub verdicts: Vec<StateVerdict>,
    pub start: u32,
}

/// Makes the automaton deterministic. State 0 is dead.
pub(super) fn determinise(nfa: &Nfa) -> Result<Dfa, CompileError> {
    let (classes, class_count) = byte_classes(nfa);
    let mut builder = Builder::new(nfa, classes, class_count);
    let mut begin: Vec<u32> = Vec::new();
    for root in nfa.roots() {
        begin.extend(&builder.closures[root as usize]);
    }
    builder.state(Vec::new())?;
    let start = builder.state(begin)?;
    let mut at = 0;
    while at < builder.sets.len() {
        builder.expand(at)?;
        at += 1;
    }
    let Builder { other, edges, verdicts, .. } = builder;
    Ok(Dfa { classes, class_count, other, edges, verdicts, start })
}

/// Bytes that no pattern tells apart share a class. The byte 0, which no path has, is in class 0.
fn byte_classes(nfa: &Nfa) -> ([u8; 256], usize) {
    let mut classes = [0_u8; 256];
    let mut count = 1_usize;
    let mut split = |contains: &dyn Fn(u8) -> bool| {
        let mut inside: HashMap<u8, u8> = HashMap::new();
        let mut outside = [false; 256];
        for byte in 0..=255_u8 {
            if !contains(byte) {
                outside[usize::from(classes[usize::from(byte)])] = true;
            }
        }
        for byte in 0..=255_u8 {
            let old = classes[usize::from(byte)];
            if !contains(byte) || !outside[usize::from(old)] {
                continue;
            }
            let new = *inside.entry(old).or_insert_with(|| {
                count += 1;
                u8::try_from(count - 1).unwrap_or(u8::MAX)
            });
            classes[usize::from(byte)] = new;
        }
    };
    let mut literal = [false; 256];
    literal[usize::from(b'/')] = true;
    let mut sets = std::collections::BTreeSet::new();
    for node in &nfa.nodes {
        node.bytes.iter().for_each(|(byte, _)| literal[usize::from(*byte)] = true);
        sets.extend(node.sets.iter().map(|(set, _)| *set));
    }
    for byte in (0..=255_u8).filter(|byte| literal[usize::from(*byte)]) {
        split(&|b| b == byte);
    }
    for set in sets {
        // Of a set and its complement, split off the one without the byte 0.
        let zero = set.contains(0);
        split(&|b| set.contains(b) != zero);
    }
    (classes, count)
}

struct Builder<'a> {
    nfa: &'a Nfa,
    closures: Vec<Vec<u32>>,
    classes: [u8; 256],
    /// One byte of each class.
    examples: Vec<u8>,
    ids: HashMap<Rc<[u32]>, u32>,
    sets: Vec<Rc<[u32]>>,
    other: Vec<u32>,
    edges: Vec<Vec<(u8, u32)>>,
    verdicts: Vec<StateVerdict>,
    nodes: usize,
    edge_count: usize,
}

impl<'a> Builder<'a> {
    fn new(nfa: &'a Nfa, classes: [u8; 256], class_count: usize) -> Self {
        let mut examples = vec![0; class_count];
        for byte in (0..=255_u8).rev() {
            examples[usize::from(classes[usize::from(byte)])] = byte;
        }
        Self {
            nfa,
            closures: nfa.closures(),
            classes,
            examples,
            ids: HashMap::new(),
            sets: Vec::new(),
            other: Vec::new(),
            edges: Vec::new(),
            verdicts: Vec::new(),
            nodes: 0,
            edge_count: 0,
        }
    }

    /// The state of a set of nodes.
    fn state(&mut self, mut set: Vec<u32>) -> Result<u32, CompileError> {
        set.sort_unstable();
        set.dedup();
        self.settle(&mut set);
        if let Some(id) = self.ids.get(set.as_slice()) {
            return Ok(*id);
        }
        self.nodes += set.len();
        self.within(self.sets.len(), MAX_STATES, "states")?;
        self.within(self.nodes, MAX_NODES, "partial matches")?;
        let id = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let set: Rc<[u32]> = set.into();
        self.verdicts.push(self.verdict(&set));
        self.ids.insert(Rc::clone(&set), id);
        self.sets.push(set);
        Ok(id)
    }

    fn within(&self, count: usize, limit: usize, what: &'static str) -> Result<(), CompileError> {
        if count < limit {
            return Ok(());
        }
        let rules = self.nfa.heaviest(self.sets.iter().flat_map(|set| set.iter().copied()));
        Err(CompileError::PathsTooLarge { what, limit, rules })
    }

    /// Drops the nodes that can no longer change what the state leads to.
    fn settle(&self, set: &mut Vec<u32>) {
        let (mut allow, mut deny) = (0, 0);
        let mut keep = vec![true; set.len()];
        let mut from = 0;
        while from < set.len() {
            let (group_id, to) = self.segment(set, from);
            let group = &self.nfa.groups[group_id as usize];
            let side = |at: usize| self.nfa.nodes[set[at] as usize].side;
            let sunk = |side: Side| set[from..to].contains(&group.sinks[side as usize]);
            let excepting = (from..to).any(|at| side(at) == Side::Except);
            let matching = (from..to).any(|at| side(at) == Side::Match);
            if sunk(Side::Except) || !matching {
                keep[from..to].fill(false);
            } else if sunk(Side::Match) {
                for at in from..to {
                    keep[at] = side(at) == Side::Except || set[at] == group.sinks[Side::Match as usize];
                }
                if !excepting {
                    allow |= group.allow;
                    deny |= group.deny;
                }
            }
            from = to;
        }
        let mut from = 0;
        while from < set.len() {
            let (group_id, to) = self.segment(set, from);
            let group = &self.nfa.groups[group_id as usize];
            let settled = group.deny & !deny == 0 && group.allow & !(allow | deny) == 0;
            // A group that settled this itself is one node, its sink.
            let own =
                (from..to).filter(|at| keep[*at]).all(|at| set[at] == group.sinks[Side::Match as usize]);
            if settled && !own {
                keep[from..to].fill(false);
            }
            from = to;
        }
        let mut at = 0;
        set.retain(|_| {
            at += 1;
            keep[at - 1]
        });
    }

    /// The group at `from`, and where its nodes end.
    fn segment(&self, set: &[u32], from: usize) -> (u32, usize) {
        let group = self.nfa.nodes[set[from] as usize].group;
        let same = set[from..].iter().take_while(|id| self.nfa.nodes[**id as usize].group == group).count();
        (group, from + same)
    }

    /// What the state says, without bits that the defaults say too; a rule against executing stays, as it keeps the
    /// file from being loaded as well.
    fn verdict(&self, set: &[u32]) -> StateVerdict {
        let (mut allow, mut deny) = (0, 0);
        let mut from = 0;
        while from < set.len() {
            let (group_id, to) = self.segment(set, from);
            let group = &self.nfa.groups[group_id as usize];
            let accepted = |side| {
                set[from..to]
                    .iter()
                    .map(|id| &self.nfa.nodes[*id as usize])
                    .any(|n| n.side == side && n.accept)
            };
            if accepted(Side::Match) && !accepted(Side::Except) {
                allow |= group.allow;
                deny |= group.deny;
            }
            from = to;
        }
        let default = self.nfa.default_deny;
        let denied = deny | (default & !allow);
        StateVerdict { allow: default & !denied, deny: denied & !default | deny & access::RUN }
    }

    /// Finds the targets of the state `at`.
    fn expand(&mut self, at: usize) -> Result<(), CompileError> {
        let set = Rc::clone(&self.sets[at]);
        let slash = self.classes[usize::from(b'/')];
        let mut always = Vec::new();
        let mut inside = Vec::new();
        let mut named: BTreeMap<u8, Vec<u32>> = BTreeMap::from([(slash, Vec::new())]);
        for id in set.iter() {
            let node = &self.nfa.nodes[*id as usize];
            match node.looping {
                Loop::None => {}
                Loop::Component => inside.extend(&self.closures[*id as usize]),
                Loop::All => always.extend(&self.closures[*id as usize]),
            }
            for (byte, next) in &node.bytes {
                let class = self.classes[usize::from(*byte)];
                named.entry(class).or_default().extend(&self.closures[*next as usize]);
            }
            for (bytes, next) in &node.sets {
                for (class, _) in self.examples.iter().enumerate().filter(|(_, byte)| bytes.contains(**byte))
                {
                    let class = u8::try_from(class).unwrap_or(u8::MAX);
                    named.entry(class).or_default().extend(&self.closures[*next as usize]);
                }
            }
        }
        let unnamed = self.state([always.as_slice(), inside.as_slice()].concat())?;
        let mut targets: Vec<(u8, u32)> = Vec::with_capacity(named.len());
        for (class, mut nodes) in named {
            nodes.extend(&always);
            if class != slash {
                nodes.extend(&inside);
            }
            targets.push((class, self.state(nodes)?));
        }
        targets.sort_unstable();
        // The class of the byte 0 is the one that all others are told apart from.
        let other = match targets.first() {
            Some((0, target)) => *target,
            _ => unnamed,
        };
        if other != unnamed {
            let listed = std::mem::take(&mut targets);
            let mut listed = listed.into_iter().peekable();
            for class in 0..self.examples.len() {
                let class = u8::try_from(class).unwrap_or(u8::MAX);
                let target = listed.next_if(|(c, _)| *c == class).map_or(unnamed, |(_, target)| target);
                targets.push((class, target));
            }
        }
        targets.retain(|(_, target)| *target != other);
        self.edge_count += targets.len();
        self.within(self.edge_count, MAX_EDGES, "edges")?;
        self.other.push(other);
        self.edges.push(targets);
        Ok(())
    }
}
