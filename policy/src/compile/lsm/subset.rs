//! The non-deterministic automaton to a deterministic one, states found as they are reached.
//!
//! What is decided is dropped at once: of groups that surely match, whatever follows, only what they say together
//! is kept, and every node goes that can add nothing to it. So floating rules with the same meaning (`**/a/**`,
//! `**/b/**`) do not multiply.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use sandbox_ebpf::abi::policy::MAX_ENTRIES;

use super::block::Blocks;
use super::nfa::{Loop, Nfa, Reach, Side};
use super::prospects::{Bits, Prospects};

/// How large an automaton may become before it is minimised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    states: usize,
    /// Nodes in all states together, four bytes each.
    nodes: usize,
    /// Edges that differ from their state's usual one, eight bytes each.
    edges: usize,
}

impl Budget {
    /// As much as there can be.
    pub const MOST: Self = Self { states: 1 << 19, nodes: 16 << 20, edges: 16 << 20 };

    /// As much as patterns make that do not multiply.
    pub fn usual(nfa: &Nfa) -> Self {
        let nodes = nfa.nodes.len();
        Self {
            states: (4 * nodes + (8 << 10)).min(Self::MOST.states),
            nodes: (64 * nodes + (128 << 10)).min(Self::MOST.nodes),
            edges: (32 * nodes + (128 << 10)).min(Self::MOST.edges),
        }
    }
}

/// An automaton does not fit its budget.
#[derive(Clone, Debug)]
pub(super) struct Overflow {
    /// What there is too much of.
    pub what: &'static str,
    /// How much there may be.
    pub limit: usize,
    /// How many nodes of how many states are of each rule.
    pub weights: Vec<(u32, usize)>,
}

/// A deterministic automaton, each state an *other* target and the classes that differ from it.
#[derive(Debug)]
pub(super) struct Dfa {
    pub classes: [u8; 256],
    pub class_count: usize,
    /// Target for the class of the byte 0, and for every class that is not listed.
    pub other: Vec<u32>,
    /// Ascending by class; targets differ from `other`.
    pub edges: Vec<Vec<(u8, u32)>>,
    /// What each state says, as the number of a block.
    pub verdicts: Vec<u32>,
    pub start: u32,
}

/// Makes the automaton deterministic. State 0 is dead.
pub(super) fn determinise(nfa: &Nfa, budget: Budget, blocks: &mut Blocks) -> Result<Dfa, Overflow> {
    let (classes, class_count) = byte_classes(nfa);
    let mut builder = Builder::new(nfa, budget, blocks, classes, class_count);
    let begin = builder.closures[0].clone();
    builder.state(Known::default())?;
    let start = builder.state(Known::default().at(begin))?;
    let mut at = 0;
    while at < builder.states.len() {
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

/// What is known where a path has led.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What holds whatever follows, as the number of a block.
    sunk: u32,
    /// Groups that match whatever follows, and may still be excepted.
    matched: Vec<u32>,
    /// Groups that are excepted whatever follows, and may still match.
    excepted: Vec<u32>,
    nodes: Vec<u32>,
}

impl Known {
    /// As one list, and where its nodes begin.
    fn key(&self) -> (Vec<u32>, usize) {
        let count = |list: &[u32]| u32::try_from(list.len()).unwrap_or(u32::MAX);
        let mut key = vec![self.sunk, count(&self.matched), count(&self.excepted)];
        key.extend(self.matched.iter().chain(&self.excepted));
        let first = key.len();
        key.extend(&self.nodes);
        (key, first)
    }

    /// The same at other nodes.
    fn at(&self, nodes: Vec<u32>) -> Self {
        Self { sunk: self.sunk, matched: self.matched.clone(), excepted: self.excepted.clone(), nodes }
    }

    fn from_key(key: &[u32]) -> Self {
        let (lists, rest) = (&key[1..3], &key[3..]);
        let (matched, rest) = rest.split_at(lists[0] as usize);
        let (excepted, nodes) = rest.split_at(lists[1] as usize);
        let [matched, excepted, nodes] = [matched, excepted, nodes].map(<[u32]>::to_vec);
        Self { sunk: key[0], matched, excepted, nodes }
    }
}

struct Builder<'a> {
    nfa: &'a Nfa,
    budget: Budget,
    blocks: &'a mut Blocks,
    prospects: Prospects,
    /// By block: the groups that add nothing to it.
    covered: HashMap<u32, Bits>,
    closures: Vec<Vec<u32>>,
    classes: [u8; 256],
    /// One byte of each class.
    examples: Vec<u8>,
    ids: HashMap<Rc<[u32]>, u32>,
    /// What is known in each state.
    states: Vec<Rc<[u32]>>,
    other: Vec<u32>,
    edges: Vec<Vec<(u8, u32)>>,
    verdicts: Vec<u32>,
    nodes: usize,
    edge_count: usize,
}

impl<'a> Builder<'a> {
    fn new(
        nfa: &'a Nfa,
        budget: Budget,
        blocks: &'a mut Blocks,
        classes: [u8; 256],
        class_count: usize,
    ) -> Self {
        let mut examples = vec![0; class_count];
        for byte in (0..=255_u8).rev() {
            examples[usize::from(classes[usize::from(byte)])] = byte;
        }
        Self {
            nfa,
            budget,
            blocks,
            prospects: Prospects::new(nfa),
            covered: HashMap::new(),
            closures: nfa.closures(),
            classes,
            examples,
            ids: HashMap::new(),
            states: Vec::new(),
            other: Vec::new(),
            edges: Vec::new(),
            verdicts: Vec::new(),
            nodes: 0,
            edge_count: 0,
        }
    }

    /// The state in which `known` is known.
    fn state(&mut self, mut known: Known) -> Result<u32, Overflow> {
        known.nodes.sort_unstable();
        known.nodes.dedup();
        self.settle(&mut known);
        let (key, first) = known.key();
        if let Some(id) = self.ids.get(key.as_slice()) {
            return Ok(*id);
        }
        self.nodes += key.len() - first + 1;
        self.within(self.states.len(), self.budget.states, "states")?;
        self.within(self.nodes, self.budget.nodes, "partial matches")?;
        let id = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        let verdict = self.verdict(&known)?;
        let key: Rc<[u32]> = key.into();
        self.verdicts.push(verdict);
        self.ids.insert(Rc::clone(&key), id);
        self.states.push(key);
        Ok(id)
    }

    fn within(&self, count: usize, limit: usize, what: &'static str) -> Result<(), Overflow> {
        if count < limit {
            return Ok(());
        }
        let nodes = self.states.iter().flat_map(|key| Known::from_key(key).nodes);
        Err(self.overflow(what, limit, nodes))
    }

    fn overflow(&self, what: &'static str, limit: usize, nodes: impl Iterator<Item = u32>) -> Overflow {
        let mut weights: HashMap<u32, usize> = HashMap::new();
        nodes.for_each(|id| *weights.entry(self.nfa.nodes[id as usize].owner).or_default() += 1);
        Overflow { what, limit, weights: weights.into_iter().collect() }
    }

    /// Drops what can no longer change anything.
    fn settle(&mut self, known: &mut Known) {
        let Known { sunk, matched, excepted, nodes } = known;
        for node in &*nodes {
            for label in self.nfa.nodes[*node as usize].labels.iter().filter(|l| l.reach == Reach::Below) {
                match label.side {
                    Side::Match => matched.push(label.group),
                    Side::Except => excepted.push(label.group),
                }
            }
        }
        for list in [&mut *matched, &mut *excepted] {
            list.sort_unstable();
            list.dedup();
        }
        matched.retain(|group| excepted.binary_search(group).is_err());
        let words = self.prospects.words;
        loop {
            let mut live = vec![0; 2 * words];
            for node in &*nodes {
                live.iter_mut().zip(self.prospects.of(*node)).for_each(|(all, more)| *all |= more);
            }
            let (may_match, may_except) = live.split_at(words);
            let covered = self.covered(*sunk);
            matched.retain(|group| !has(&covered, *group));
            let before = matched.len();
            let mut surely = Vec::new();
            matched.retain(|group| {
                let still = has(may_except, *group);
                if !still {
                    surely.push(self.nfa.meanings[*group as usize]);
                }
                still
            });
            if matched.len() != before {
                let mut said = self.blocks.get(*sunk).said();
                surely.into_iter().for_each(|meaning| said.add(meaning));
                *sunk = self.blocks.number(said.block());
                continue;
            }
            excepted.retain(|group| has(may_match, *group) && !has(&covered, *group));
            // Groups that a match, or an exception, can still change.
            let mut open: Vec<u64> = covered.iter().map(|word| !word).collect();
            excepted.iter().for_each(|group| open[*group as usize / 64] &= !(1 << (group % 64)));
            let mut matching = open.clone();
            matched.iter().for_each(|group| matching[*group as usize / 64] &= !(1 << (group % 64)));
            let mut excepting: Vec<u64> = open.iter().zip(may_match).map(|(a, b)| a & b).collect();
            for group in matched.iter().filter(|group| has(&open, **group)) {
                excepting[*group as usize / 64] |= 1 << (group % 64);
            }
            let before = nodes.len();
            nodes.retain(|node| {
                let (matches, excepts) = self.prospects.of(*node).split_at(words);
                meet(matches, &matching) || meet(excepts, &excepting)
            });
            if nodes.len() == before {
                return;
            }
        }
    }

    /// The groups that add nothing to a block.
    fn covered(&mut self, block: u32) -> Bits {
        if let Some(covered) = self.covered.get(&block) {
            return Rc::clone(covered);
        }
        let said = self.blocks.get(block).said();
        let mut covered = vec![0; self.prospects.words];
        for (group, meaning) in self.nfa.meanings.iter().enumerate() {
            covered[group / 64] |= u64::from(said.covers(meaning)) << (group % 64);
        }
        let covered: Bits = covered.into();
        self.covered.insert(block, Rc::clone(&covered));
        covered
    }

    /// What the state says.
    fn verdict(&mut self, known: &Known) -> Result<u32, Overflow> {
        let (mut matched, mut excepted) = (known.matched.clone(), known.excepted.clone());
        for label in known.nodes.iter().flat_map(|node| &self.nfa.nodes[*node as usize].labels) {
            match label.side {
                Side::Match => matched.push(label.group),
                Side::Except => excepted.push(label.group),
            }
        }
        matched.retain(|group| !excepted.contains(group));
        if matched.is_empty() {
            return Ok(known.sunk);
        }
        let mut said = self.blocks.get(known.sunk).said();
        matched.iter().for_each(|group| said.add(self.nfa.meanings[*group as usize]));
        let block = said.block();
        if block.entries.len() > MAX_ENTRIES {
            return Err(self.overflow("conditions at one place", MAX_ENTRIES, known.nodes.iter().copied()));
        }
        Ok(self.blocks.number(block))
    }

    /// Finds the targets of the state `at`.
    fn expand(&mut self, at: usize) -> Result<(), Overflow> {
        let known = Known::from_key(&self.states[at]);
        let slash = self.classes[usize::from(b'/')];
        let mut always = Vec::new();
        let mut inside = Vec::new();
        let mut named: BTreeMap<u8, Vec<u32>> = BTreeMap::from([(slash, Vec::new())]);
        for id in &known.nodes {
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
        let unnamed = self.state(known.at([always.as_slice(), inside.as_slice()].concat()))?;
        let mut targets: Vec<(u8, u32)> = Vec::with_capacity(named.len());
        for (class, mut nodes) in named {
            nodes.extend(&always);
            if class != slash {
                nodes.extend(&inside);
            }
            targets.push((class, self.state(known.at(nodes))?));
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
        self.within(self.edge_count, self.budget.edges, "edges")?;
        self.other.push(other);
        self.edges.push(targets);
        Ok(())
    }
}

fn has(bits: &[u64], group: u32) -> bool {
    bits[group as usize / 64] >> (group % 64) & 1 != 0
}

fn meet(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).any(|(a, b)| a & b != 0)
}
