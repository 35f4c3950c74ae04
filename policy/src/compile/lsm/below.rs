//! What each state behind a `/` says about everything below it: see [`sandbox_ebpf::abi::policy::below`].
//!
//! Each is compared with the one behind a directory that only floating patterns know, by looking for a path on which
//! they differ. That follows pairs of states, so it is bounded; where the bound is reached a state is not marked, and
//! its directory moves only between places that nothing tells apart.

use std::collections::{BTreeSet, HashMap};

use sandbox_ebpf::abi::policy::below::{ORDINARY, STRICT};

use super::block::Blocks;
use super::minimise::Automaton;

/// Most steps from pairs to pairs that are looked at.
const MOST: usize = 2 << 20;

/// Marks the states of an automaton.
pub(super) fn mark(automaton: &mut Automaton, blocks: &mut Blocks) {
    let slash = automaton.classes[usize::from(b'/')];
    // The byte 0 stands in no path, and so in no pattern.
    let plain = automaton.classes[0];
    let usual =
        [slash, plain, slash].into_iter().fold(automaton.start, |at, class| automaton.step(at, class));
    let states = 0..u32::try_from(automaton.states()).unwrap_or(u32::MAX);
    let directories: BTreeSet<u32> = states.map(|state| automaton.step(state, slash)).collect();
    let (loses, gains) = Pairs::from(automaton, &directories, usual).differ(automaton, blocks);
    for (at, state) in directories.into_iter().enumerate() {
        let mut block = blocks.get(automaton.verdicts[state as usize]).clone();
        block.allow |= if loses[at] { 0 } else { ORDINARY };
        block.allow |= if gains[at] { 0 } else { STRICT };
        automaton.verdicts[state as usize] = blocks.number(block);
    }
}

/// Pairs of a state and one below the usual directory that the same path leads to.
struct Pairs {
    pairs: Vec<(u32, u32)>,
    /// Those that were followed come first.
    followed: usize,
    /// From one pair to another, by index.
    steps: Vec<(u32, u32)>,
}

impl Pairs {
    /// All that the directories lead to; each directory's own pair comes first.
    fn from(automaton: &Automaton, directories: &BTreeSet<u32>, usual: u32) -> Self {
        let mut pairs: Vec<(u32, u32)> = directories.iter().map(|state| (*state, usual)).collect();
        let index = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let mut known: HashMap<(u32, u32), u32> =
            pairs.iter().enumerate().map(|(at, pair)| (*pair, index(at))).collect();
        let mut steps = Vec::new();
        let mut at = 0;
        let mut looked = 0;
        while at < pairs.len() && looked < MOST {
            let (state, usual) = pairs[at];
            // What leads to one state is alike from there on.
            if state != usual {
                let targets = common(automaton, state, usual);
                looked += targets.len();
                for pair in targets {
                    let next = *known.entry(pair).or_insert_with(|| {
                        pairs.push(pair);
                        index(pairs.len() - 1)
                    });
                    steps.push((next, index(at)));
                }
            }
            at += 1;
        }
        Self { pairs, followed: at, steps }
    }

    /// For each pair: whether some path leads to where its state denies what the usual one does not, and the other
    /// way round.
    fn differ(mut self, automaton: &Automaton, blocks: &Blocks) -> (Vec<bool>, Vec<bool>) {
        self.steps.sort_unstable();
        let block = |state: u32| blocks.get(automaton.verdicts[state as usize]);
        let lost = |(state, usual)| !block(state).denies_within(block(usual));
        let gained = |(state, usual)| !block(usual).denies_within(block(state));
        (self.spread(lost), self.spread(gained))
    }

    fn spread(&self, bad: impl Fn((u32, u32)) -> bool) -> Vec<bool> {
        let unknown = |at: usize| at >= self.followed && self.pairs[at].0 != self.pairs[at].1;
        let mut differ: Vec<bool> =
            self.pairs.iter().enumerate().map(|(at, pair)| unknown(at) || bad(*pair)).collect();
        let mut open: Vec<usize> = (0..differ.len()).filter(|pair| differ[*pair]).collect();
        while let Some(pair) = open.pop() {
            let first = self.steps.partition_point(|(to, _)| (*to as usize) < pair);
            for (_, from) in self.steps[first..].iter().take_while(|(to, _)| *to as usize == pair) {
                if !std::mem::replace(&mut differ[*from as usize], true) {
                    open.push(*from as usize);
                }
            }
        }
        differ
    }
}

/// The pairs that one byte leads to from a pair.
fn common(automaton: &Automaton, a: u32, b: u32) -> Vec<(u32, u32)> {
    let ((a_edges, a_other), (b_edges, b_other)) = (automaton.targets(a), automaton.targets(b));
    let mut classes: Vec<u8> = a_edges.iter().chain(b_edges).map(|(class, _)| *class).collect();
    classes.sort_unstable();
    classes.dedup();
    let listed = classes.iter().map(|class| (automaton.step(a, *class), automaton.step(b, *class)));
    let mut pairs: Vec<(u32, u32)> = listed.collect();
    if classes.len() < automaton.class_count() {
        pairs.push((a_other, b_other));
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}
