//! The smallest automaton with the same verdicts.
//!
//! Partition refinement: states begin in one block per verdict; a state whose targets moved to another block
//! is looked at again, and a block whose states differ is split, the largest part keeping its number.
//! That looks at each state O(log n) times.

use std::collections::HashMap;

use super::subset::Dfa;

/// A minimal automaton. State 0 is dead.
#[derive(Debug)]
pub(super) struct Automaton {
    pub classes: [u8; 256],
    pub start: u32,
    /// What each state says, as the number of a block.
    pub verdicts: Vec<u32>,
    class_count: usize,
    other: Vec<u32>,
    edges: Vec<Vec<(u8, u32)>>,
}

/// Merges states that nothing tells apart.
pub(super) fn minimise(dfa: &Dfa) -> Automaton {
    let blocks = Partition::new(dfa).refine(dfa);
    // Blocks in the order in which they are reached: dead first, then from the start on.
    let mut number = vec![u32::MAX; blocks.iter().max().map_or(0, |max| *max as usize + 1)];
    let mut order: Vec<u32> = Vec::new();
    let mut visit = |state: u32, order: &mut Vec<u32>| {
        let block = &mut number[blocks[state as usize] as usize];
        if *block == u32::MAX {
            *block = u32::try_from(order.len()).unwrap_or(u32::MAX);
            order.push(state);
        }
        *block
    };
    visit(0, &mut order);
    let start = visit(dfa.start, &mut order);
    let (mut other, mut edges) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(state) = order.get(at).copied() {
        let target = visit(dfa.other[state as usize], &mut order);
        let listed = dfa.edges[state as usize].iter().map(|(class, to)| (*class, visit(*to, &mut order)));
        let listed: Vec<(u8, u32)> = listed.collect();
        edges.push(listed.into_iter().filter(|(_, to)| *to != target).collect::<Vec<_>>());
        other.push(target);
        at += 1;
    }
    let verdicts = order.iter().map(|state| dfa.verdicts[*state as usize]).collect();
    let mut automaton =
        Automaton { classes: dfa.classes, start, verdicts, class_count: dfa.class_count, other, edges };
    automaton.merge_classes();
    automaton
}

impl Automaton {
    /// Gives classes that no state tells apart one number.
    fn merge_classes(&mut self) {
        // A column as the states whose target differs from their usual one.
        let mut columns: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.class_count];
        for (state, edges) in self.edges.iter().enumerate() {
            let state = u32::try_from(state).unwrap_or(u32::MAX);
            edges.iter().for_each(|(class, to)| columns[usize::from(*class)].push((state, *to)));
        }
        let mut numbers: HashMap<&[(u32, u32)], u8> = HashMap::new();
        let mut renumbered = Vec::with_capacity(columns.len());
        for column in &columns {
            let next = u8::try_from(numbers.len()).unwrap_or(u8::MAX);
            renumbered.push(*numbers.entry(column.as_slice()).or_insert(next));
        }
        self.class_count = numbers.len();
        self.classes = self.classes.map(|class| renumbered[usize::from(class)]);
        for edges in &mut self.edges {
            edges.iter_mut().for_each(|(class, _)| *class = renumbered[usize::from(*class)]);
            edges.sort_unstable();
            edges.dedup();
        }
    }

    /// How many classes of bytes there are.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// Where a class of bytes leads from a state.
    pub fn step(&self, state: u32, class: u8) -> u32 {
        let edges = &self.edges[state as usize];
        let edge = edges.binary_search_by_key(&class, |(class, _)| *class);
        edge.map_or(self.other[state as usize], |at| edges[at].1)
    }

    /// How many states there are, the dead one included.
    pub fn states(&self) -> usize {
        self.verdicts.len()
    }

    /// How many cells it needs at least.
    pub fn cells(&self) -> usize {
        2 * self.states() + self.edges.iter().map(Vec::len).sum::<usize>()
    }

    /// Where a state leads: by the classes that are listed, ascending, and by all others.
    pub fn targets(&self, state: u32) -> (&[(u8, u32)], u32) {
        (&self.edges[state as usize], self.other[state as usize])
    }
}

/// States in blocks: each block a range of `states`, those to be looked at again in front.
struct Partition {
    states: Vec<u32>,
    /// Where each state is in `states`.
    place: Vec<u32>,
    block: Vec<u32>,
    ranges: Vec<Range>,
    /// Blocks with something to look at.
    open: Vec<u32>,
    /// States that lead to a state: `from[first[s]..first[s + 1]]`.
    first: Vec<u32>,
    from: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Range {
    start: u32,
    /// End of the states to be looked at.
    middle: u32,
    end: u32,
}

impl Partition {
    fn new(dfa: &Dfa) -> Self {
        let count = dfa.other.len();
        let mut states: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        let key = |state: &u32| dfa.verdicts[*state as usize];
        states.sort_by_key(key);
        let mut partition = Self {
            place: vec![0; count],
            block: vec![0; count],
            ranges: Vec::new(),
            open: Vec::new(),
            first: vec![0; count + 1],
            from: Vec::new(),
            states,
        };
        let mut start = 0;
        while start < count {
            let first = key(&partition.states[start]);
            let end =
                start + partition.states[start..].iter().take_while(|state| key(state) == first).count();
            let id = partition.ranges.len();
            let [start_at, end_at] = [start, end].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            partition.ranges.push(Range { start: start_at, middle: end_at, end: end_at });
            partition.open.push(u32::try_from(id).unwrap_or(u32::MAX));
            for at in start..end {
                partition.settle(at, id);
            }
            start = end;
        }
        partition.sources(dfa);
        partition
    }

    /// Notes that the state at `at` is there, in block `id`.
    fn settle(&mut self, at: usize, id: usize) {
        let state = self.states[at] as usize;
        self.place[state] = u32::try_from(at).unwrap_or(u32::MAX);
        self.block[state] = u32::try_from(id).unwrap_or(u32::MAX);
    }

    fn sources(&mut self, dfa: &Dfa) {
        let targets = |state: usize| {
            std::iter::once(dfa.other[state]).chain(dfa.edges[state].iter().map(|(_, to)| *to))
        };
        for state in 0..dfa.other.len() {
            targets(state).for_each(|to| self.first[to as usize + 1] += 1);
        }
        for at in 1..self.first.len() {
            self.first[at] += self.first[at - 1];
        }
        let mut next = self.first.clone();
        self.from = vec![0; self.first.last().map_or(0, |n| *n as usize)];
        for state in 0..dfa.other.len() {
            for to in targets(state) {
                self.from[next[to as usize] as usize] = u32::try_from(state).unwrap_or(u32::MAX);
                next[to as usize] += 1;
            }
        }
    }

    /// The block of every state.
    fn refine(mut self, dfa: &Dfa) -> Vec<u32> {
        while let Some(block) = self.open.pop() {
            self.split(block as usize, dfa);
        }
        self.block
    }

    /// Where a state leads, in blocks.
    fn signature(&self, dfa: &Dfa, state: u32) -> Vec<u32> {
        let other = self.block[dfa.other[state as usize] as usize];
        let mut signature = vec![other];
        for (class, to) in &dfa.edges[state as usize] {
            let block = self.block[*to as usize];
            if block != other {
                signature.extend([u32::from(*class), block]);
            }
        }
        signature
    }

    fn split(&mut self, id: usize, dfa: &Dfa) {
        let Range { start, middle, end } = self.ranges[id];
        self.ranges[id].middle = start;
        if end - start <= 1 {
            return;
        }
        let mut parts: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        // The states that did not change are alike: part 0, of which only one is asked.
        if middle < end {
            parts.insert(self.signature(dfa, self.states[middle as usize]), 0);
        }
        members.push(Vec::new());
        for at in start..middle {
            let state = self.states[at as usize];
            let next = members.len();
            let part = *parts.entry(self.signature(dfa, state)).or_insert(next);
            if part == next {
                members.push(Vec::new());
            }
            members[part].push(state);
        }
        // Part 0 last, so that its unchanged states stay where they are.
        let kept = members.swap_remove(0);
        let unchanged = (end - middle) as usize;
        let mut sizes: Vec<usize> = members.iter().map(Vec::len).collect();
        let mut order: Vec<Vec<u32>> = members;
        sizes.push(kept.len() + unchanged);
        order.push(kept);
        let largest = sizes.iter().enumerate().max_by_key(|(_, size)| **size).map_or(0, |(i, _)| i);
        let mut at = start;
        let mut moved = Vec::new();
        for (part, (list, size)) in order.iter().zip(&sizes).enumerate().filter(|(_, (_, size))| **size > 0) {
            let part_end = at + u32::try_from(*size).unwrap_or(u32::MAX);
            for (offset, state) in list.iter().enumerate() {
                self.states[at as usize + offset] = *state;
            }
            let range = Range { start: at, middle: at, end: part_end };
            let target = if part == largest { id } else { self.ranges.len() };
            if part == largest {
                self.ranges[id] = range;
            } else {
                self.ranges.push(range);
                moved.push(target);
            }
            // What keeps its number and its place need not be touched.
            let touched = if part == largest { at as usize + list.len() } else { part_end as usize };
            for place in at as usize..touched {
                self.settle(place, target);
            }
            at = part_end;
        }
        for block in moved {
            let Range { start, end, .. } = self.ranges[block];
            let states: Vec<u32> = self.states[start as usize..end as usize].to_vec();
            for state in states {
                for at in self.first[state as usize]..self.first[state as usize + 1] {
                    self.reopen(self.from[at as usize]);
                }
            }
        }
    }

    /// Puts a state among those to be looked at again.
    fn reopen(&mut self, state: u32) {
        let id = self.block[state as usize] as usize;
        let Range { start, middle, .. } = self.ranges[id];
        let at = self.place[state as usize];
        if at < middle {
            return;
        }
        if middle == start {
            self.open.push(u32::try_from(id).unwrap_or(u32::MAX));
        }
        let swapped = self.states[middle as usize];
        self.states[middle as usize] = state;
        self.states[at as usize] = swapped;
        self.place[state as usize] = middle;
        self.place[swapped as usize] = at;
        self.ranges[id].middle += 1;
    }
}
