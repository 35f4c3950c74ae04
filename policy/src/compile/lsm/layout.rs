//! Where everything stands among the cells: see [`sandbox_ebpf::abi::policy`].
//!
//! Verdict blocks, masks and port ranges come first, states behind them: what belongs to a state's classes lies
//! behind it, so that no other kind of cell is ever taken for one. States are put where their cells fall on free ones.

use std::collections::HashMap;

use sandbox_ebpf::abi::policy::{
    self as abi, AddressNode, CELLS_PER_PAGE, FIRST_CELL, FIRST_CLASS, MAX_CELLS, PortRange, pack,
};

use super::block::{Block, Blocks};
use super::minimise::Automaton;

/// Most edges of a state that finds room nearly anywhere.
const NARROW: usize = 12;

/// The plan needs more than [`MAX_CELLS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The cells in front of the states.
pub(super) struct Front<'a> {
    cells: Vec<u64>,
    blocks: &'a Blocks,
    /// Where each block stands, by its number.
    places: HashMap<u32, u32>,
    masks: HashMap<u64, u32>,
}

impl<'a> Front<'a> {
    /// The header's page alone.
    pub fn new(blocks: &'a Blocks) -> Self {
        let cells = vec![0; FIRST_CELL as usize];
        Self { cells, blocks, places: HashMap::new(), masks: HashMap::new() }
    }

    fn push(&mut self, cells: impl IntoIterator<Item = u64>) -> u32 {
        let place = number(self.cells.len());
        self.cells.extend(cells);
        place
    }

    /// The cell of a verdict block, by the block's number.
    pub fn block(&mut self, id: u32) -> u32 {
        if let Some(place) = self.places.get(&id) {
            return *place;
        }
        let Block { allow, deny, entries } = self.blocks.get(id);
        let head = pack(number(entries.len()), abi::masks(*allow, *deny));
        let place = self.push(std::iter::once(head).chain(entries.iter().map(|entry| entry.cell())));
        self.places.insert(id, place);
        place
    }

    /// The cell of each state's block; that of state 0 is 0 where it says nothing.
    pub fn verdicts(&mut self, automaton: &Automaton) -> Vec<u32> {
        let place =
            |(state, block): (usize, &u32)| if state == 0 && *block == 0 { 0 } else { self.block(*block) };
        automaton.verdicts.iter().enumerate().map(place).collect()
    }

    /// The cell of each state's mask of sets; that of state 0 is 0 where it is in none.
    pub fn masks(&mut self, automaton: &Automaton, mask: impl Fn(u32) -> u64) -> Vec<u32> {
        let place = |(state, block): (usize, &u32)| match (state, mask(*block)) {
            (0, 0) => 0,
            (_, mask) => self.mask(mask),
        };
        automaton.verdicts.iter().enumerate().map(place).collect()
    }

    fn mask(&mut self, mask: u64) -> u32 {
        if let Some(place) = self.masks.get(&mask) {
            return *place;
        }
        let place = self.push([mask]);
        self.masks.insert(mask, place);
        place
    }

    /// The cell of each state's node, by the number of its list of port ranges; 0 for list 0, which is empty.
    pub fn nodes(&mut self, automaton: &Automaton, nodes: &[AddressNode]) -> Vec<u32> {
        let mut cells: HashMap<u32, u32> = HashMap::from([(0, 0)]);
        let mut place =
            |list: &u32| *cells.entry(*list).or_insert_with(|| self.push([nodes[*list as usize].cell()]));
        automaton.verdicts.iter().map(&mut place).collect()
    }

    /// The cells of a list of port ranges.
    pub fn ranges(&mut self, ranges: &[PortRange]) -> AddressNode {
        let first = self.push(ranges.iter().map(|range| range.cell()));
        AddressNode { first, count: number(ranges.len()) }
    }

    /// The room behind them.
    pub fn states(self) -> States {
        let floor = self.cells.len();
        States { cells: self.cells, taken: Vec::new(), floor, furthest: floor }
    }
}

/// The cells of states, behind all others.
pub(super) struct States {
    cells: Vec<u64>,
    /// Which cells are taken, a bit for each from `floor` on.
    taken: Vec<u64>,
    floor: usize,
    /// The first cell behind those that some state may look at.
    furthest: usize,
}

impl States {
    /// Puts an automaton in its place. `verdicts` are the cells of what its states say.
    pub fn place(&mut self, automaton: &Automaton, verdicts: &[u32]) -> Result<abi::Automaton, Full> {
        let rows: Vec<Row> = (0..number(automaton.states())).map(|state| row(automaton, state)).collect();
        // The dead state has no cells.
        let mut bases = vec![0; rows.len()];
        let (mut width, mut from) = (usize::MAX, 0);
        for state in order(&rows, automaton.start) {
            let edges = &rows[state].0;
            // What had no room for one state rarely has it for another of its kind.
            if edges.len().max(NARROW) != width {
                (width, from) = (edges.len().max(NARROW), 0);
            }
            let at = self.find(edges, from);
            from = at / 64;
            bases[state] = self.take(at, edges)?;
        }
        for (state, (edges, usual)) in rows.iter().enumerate().skip(1) {
            let base = bases[state];
            let owned = |target: u32| pack(base, bases[target as usize]);
            self.cells[base as usize] = owned(*usual);
            self.cells[base as usize + 1] = pack(base, verdicts[state]);
            for (class, target) in edges {
                self.cells[base as usize + class_offset(*class)] = owned(*target);
            }
        }
        Ok(abi::Automaton {
            classes: automaton.classes.map(|class| FIRST_CLASS + u16::from(class)),
            start: bases[automaton.start as usize],
            dead: verdicts[0],
            last: 0,
            default_deny: 0,
        })
    }

    /// All cells, in whole pages, so many that no state looks behind them.
    pub fn finish(mut self) -> Result<Vec<u64>, Full> {
        let end = self.furthest.max(self.cells.len()).next_multiple_of(CELLS_PER_PAGE);
        if end > MAX_CELLS {
            return Err(Full);
        }
        self.cells.resize(end, 0);
        Ok(self.cells)
    }

    /// The first place, counted from `floor`, in the 64 from `from * 64` on or behind, where a state fits.
    fn find(&self, edges: &[(u8, u32)], from: usize) -> usize {
        let mut word = from;
        loop {
            let mut taken = self.window(word * 64) | self.window(word * 64 + 1);
            for (class, _) in edges {
                if taken == u64::MAX {
                    break;
                }
                taken |= self.window(word * 64 + class_offset(*class));
            }
            if taken != u64::MAX {
                return word * 64 + taken.trailing_ones() as usize;
            }
            word += 1;
        }
    }

    /// The 64 bits from `at` on.
    fn window(&self, at: usize) -> u64 {
        let word = |at: usize| self.taken.get(at).copied().unwrap_or(0);
        match at % 64 {
            0 => word(at / 64),
            shift => word(at / 64) >> shift | word(at / 64 + 1) << (64 - shift),
        }
    }

    /// Takes the cells of a state at `at`; returns the state's number.
    fn take(&mut self, at: usize, edges: &[(u8, u32)]) -> Result<u32, Full> {
        let base = self.floor + at;
        self.furthest = self.furthest.max(base + class_offset(u8::MAX) + 1);
        if self.furthest > MAX_CELLS {
            return Err(Full);
        }
        for offset in [0, 1].into_iter().chain(edges.iter().map(|(class, _)| class_offset(*class))) {
            let bit = at + offset;
            if self.taken.len() <= bit / 64 {
                self.taken.resize(bit / 64 + 1, 0);
            }
            self.taken[bit / 64] |= 1 << (bit % 64);
        }
        if self.cells.len() < self.furthest {
            self.cells.resize(self.furthest, 0);
        }
        Ok(number(base))
    }
}

/// Where a class leads stands so far behind the state.
fn class_offset(class: u8) -> usize {
    usize::from(FIRST_CLASS) + usize::from(class)
}

/// In which order states are put in their places: those with most cells first, since room for them is rare; the others
/// as paths come along them, so that a walk stays on few pages.
fn order(rows: &[Row], start: u32) -> Vec<usize> {
    let mut wide: Vec<usize> = (1..rows.len()).filter(|state| rows[*state].0.len() > NARROW).collect();
    wide.sort_by_key(|state| std::cmp::Reverse(rows[*state].0.len()));
    let mut met = vec![false; rows.len()];
    met[0] = true;
    let (mut narrow, mut open) = (Vec::new(), vec![start as usize]);
    while let Some(state) = open.pop() {
        if std::mem::replace(&mut met[state], true) {
            continue;
        }
        let (edges, usual) = &rows[state];
        if edges.len() <= NARROW {
            narrow.push(state);
        }
        // The last one is the next: text goes on by edges.
        open.push(*usual as usize);
        open.extend(edges.iter().rev().map(|(_, target)| *target as usize));
    }
    // Paths lead to every state of a minimal automaton; one that they did not would have its place all the same.
    narrow.extend((1..rows.len()).filter(|state| !met[*state] && rows[*state].0.len() <= NARROW));
    wide.extend(narrow);
    wide
}

/// The classes that a state lists with where they lead, and its usual target.
type Row = (Vec<(u8, u32)>, u32);

/// The classes that a state lists, and its usual target: the most frequent one.
fn row(automaton: &Automaton, state: u32) -> Row {
    let (edges, other) = automaton.targets(state);
    let unlisted = automaton.class_count() - edges.len();
    let mut targets: Vec<u32> = edges.iter().map(|(_, target)| *target).collect();
    targets.sort_unstable();
    let often = targets.chunk_by(|a, b| a == b).max_by_key(|chunk| chunk.len());
    let Some(often) = often.filter(|often| often.len() > unlisted).map(|often| often[0]) else {
        return (edges.to_vec(), other);
    };
    let classes = (0..automaton.class_count()).map(|class| u8::try_from(class).unwrap_or(u8::MAX));
    let all = classes.map(|class| (class, automaton.step(state, class)));
    (all.filter(|(_, target)| *target != often).collect(), often)
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
