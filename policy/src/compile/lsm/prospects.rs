//! What can still come of a node: the groups of whose globs and exceptions it is a beginning.

use std::collections::HashMap;
use std::rc::Rc;

use super::nfa::{Nfa, Side};

/// Groups as bits: those whose globs are meant, then those whose exceptions are.
pub(super) type Bits = Rc<[u64]>;

/// What can still come of each node.
pub(super) struct Prospects {
    /// Words for the groups of one side.
    pub words: usize,
    /// By node, an index into `sets`.
    of_node: Vec<u32>,
    sets: Vec<Bits>,
}

impl Prospects {
    pub fn new(nfa: &Nfa) -> Self {
        let words = nfa.meanings.len().div_ceil(64);
        let mut all = Interner { sets: Vec::new(), numbers: HashMap::new(), unions: HashMap::new() };
        let none = all.number(vec![0; 2 * words]);
        let mut of_node = vec![none; nfa.nodes.len()];
        // What follows a node has a higher number, or is followed by nothing.
        let own = |node: usize, all: &mut Interner| {
            let labels = &nfa.nodes[node].labels;
            if labels.is_empty() {
                return none;
            }
            let mut bits = vec![0; 2 * words];
            for label in labels {
                let first = if label.side == Side::Match { 0 } else { words };
                bits[first + label.group as usize / 64] |= 1 << (label.group % 64);
            }
            all.number(bits)
        };
        for node in (0..nfa.nodes.len()).rev() {
            let mut set = own(node, &mut all);
            for next in nfa.following(node) {
                let next = next as usize;
                let of_next = if next > node { of_node[next] } else { own(next, &mut all) };
                set = all.union(set, of_next);
            }
            of_node[node] = set;
        }
        Self { words, of_node, sets: all.sets }
    }

    /// What can still come of a node.
    pub fn of(&self, node: u32) -> &[u64] {
        &self.sets[self.of_node[node as usize] as usize]
    }
}

/// Sets of groups, each once.
struct Interner {
    sets: Vec<Bits>,
    numbers: HashMap<Bits, u32>,
    unions: HashMap<(u32, u32), u32>,
}

impl Interner {
    fn number(&mut self, bits: Vec<u64>) -> u32 {
        let bits: Bits = bits.into();
        if let Some(number) = self.numbers.get(&bits) {
            return *number;
        }
        let number = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.sets.push(Rc::clone(&bits));
        self.numbers.insert(bits, number);
        number
    }

    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b || b == 0 {
            return a;
        }
        if a == 0 {
            return b;
        }
        let pair = (a.min(b), a.max(b));
        if let Some(number) = self.unions.get(&pair) {
            return *number;
        }
        let (of_a, of_b) = (&self.sets[a as usize], &self.sets[b as usize]);
        let bits = of_a.iter().zip(of_b.iter()).map(|(a, b)| a | b).collect();
        let number = self.number(bits);
        self.unions.insert(pair, number);
        number
    }
}
