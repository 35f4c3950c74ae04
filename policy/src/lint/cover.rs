//! Whether there is a path that some patterns match and others do not: all globs walked at once, set of places
//! by set of places, over classes of bytes. The search ends where it has spent its steps; then nothing is certain.

use std::collections::HashSet;

use crate::pattern::{ByteSet, Element, Pattern};

use super::extent::Extent;

/// Steps of all searches of a policy together, and of one.
const ALL_STEPS: usize = 20_000_000;
const ONE_SEARCH: usize = 500_000;

/// The searches of one policy.
pub(super) struct Search {
    left: usize,
}

impl Search {
    pub fn new() -> Self {
        Self { left: ALL_STEPS }
    }

    /// Takes steps for work done elsewhere; false when there are none left.
    pub fn spend(&mut self, steps: usize) -> bool {
        self.left = self.left.saturating_sub(steps);
        self.left > 0
    }

    /// Whether there may be a path of `inner` that also `with` matches, where it is given, and none of `outers`.
    /// False only where there is certainly none.
    pub fn may_have(
        &mut self,
        inner: Extent<'_, Pattern>,
        with: Option<&[Pattern]>,
        outers: &[Extent<'_, Pattern>],
    ) -> bool {
        let near = |patterns: &[Pattern]| {
            inner.objects.iter().any(|own| patterns.iter().any(|other| could_meet(own, other)))
        };
        if with.is_some_and(|with| !near(with)) {
            return false;
        }
        if self.left == 0 {
            return true;
        }
        let mut walk = Walk::default();
        walk.add(inner.objects);
        walk.add(inner.except);
        walk.add(with.unwrap_or_default());
        for outer in outers {
            walk.add(outer.objects);
            walk.add(outer.except);
        }
        walk.search(with.is_some(), &mut self.left)
    }
}

/// False where a glance at the literal beginnings and ends shows that no path is matched by both.
pub(super) fn could_meet(one: &Pattern, other: &Pattern) -> bool {
    one.globs().iter().any(|one| other.globs().iter().any(|other| globs_could_meet(one, other)))
}

fn globs_could_meet(one: &[Element], other: &[Element]) -> bool {
    let agree = |pair: (Option<&Element>, Option<&Element>)| match pair {
        (Some(Element::Byte(a)), Some(Element::Byte(b))) => Some(a == b),
        // One is over, the other wants more.
        (None, Some(Element::Byte(_))) | (Some(Element::Byte(_)), None) => Some(false),
        _ => None,
    };
    let longest = one.len().max(other.len());
    let front = (0..longest).map(|at| agree((one.get(at), other.get(at))));
    if front.take_while(Option::is_some).any(|same| same == Some(false)) {
        return false;
    }
    let back = (1..=longest).map(|at| {
        let from_end = |glob: &'_ [Element]| glob.len().checked_sub(at).map(|at| glob[at]);
        let (one, other) = (from_end(one), from_end(other));
        agree((one.as_ref(), other.as_ref()))
    });
    !back.take_while(Option::is_some).any(|same| same == Some(false))
}

/// What lists 0 to 2 are; behind them lie objects and exceptions of each outer rule in turn.
const OBJECTS: usize = 0;
const EXCEPT: usize = 1;
const WITH: usize = 2;
const OUTERS: usize = 3;

/// A place in a glob.
#[derive(Clone, Copy)]
struct Spot {
    list: usize,
    /// What comes next; `None` at the end, where the glob matches.
    element: Option<Element>,
    /// True where nothing comes behind `element`.
    last: bool,
}

/// All globs side by side.
#[derive(Default)]
struct Walk {
    spots: Vec<Spot>,
    starts: Vec<u32>,
    lists: usize,
}

/// What a set of places says about a list.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// Something may still match.
    alive: bool,
    /// It matches here.
    matches: bool,
    /// It matches here and whatever follows.
    sunk: bool,
}

impl Walk {
    fn add(&mut self, patterns: &[Pattern]) {
        for glob in patterns.iter().flat_map(Pattern::globs) {
            self.starts.push(small(self.spots.len()));
            let spots = glob.iter().enumerate().map(|(at, element)| Spot {
                list: self.lists,
                element: Some(*element),
                last: at + 1 == glob.len(),
            });
            self.spots.extend(spots);
            self.spots.push(Spot { list: self.lists, element: None, last: true });
        }
        self.lists += 1;
    }

    /// The place that stands for "whatever follows" in a list.
    fn sink(&self, list: usize) -> u32 {
        small(self.spots.len() + list)
    }

    /// Adds a place and those that are reached from it without a byte.
    fn enter(&self, mut at: u32, into: &mut Vec<u32>) {
        while let Some(spot) = self.spots.get(at as usize) {
            if matches!(spot.element, Some(Element::Any)) && spot.last {
                into.push(self.sink(spot.list));
                return;
            }
            into.push(at);
            match spot.element {
                Some(Element::Star | Element::Any | Element::Deep | Element::Below) => at += 1,
                _ => return,
            }
        }
    }

    fn step(&self, set: &[u32], byte: u8) -> Vec<u32> {
        let mut next = Vec::new();
        for &at in set {
            let Some(spot) = self.spots.get(at as usize) else {
                next.push(at);
                continue;
            };
            match spot.element {
                Some(Element::Byte(wanted)) if wanted == byte => self.enter(at + 1, &mut next),
                Some(Element::Set(wanted)) if wanted.contains(byte) => self.enter(at + 1, &mut next),
                Some(Element::Star) if byte != b'/' => self.enter(at, &mut next),
                Some(Element::Any) => self.enter(at, &mut next),
                Some(Element::Deep) => {
                    next.push(at);
                    if byte == b'/' {
                        self.enter(at + 1, &mut next);
                    }
                }
                Some(Element::Below) if byte == b'/' => next.push(self.sink(spot.list)),
                _ => {}
            }
        }
        self.tidy(next)
    }

    /// Sorted, each place once, and nothing beside a sink.
    fn tidy(&self, mut set: Vec<u32>) -> Vec<u32> {
        set.sort_unstable();
        set.dedup();
        let sunk: Vec<u32> = set.iter().copied().filter(|at| *at as usize >= self.spots.len()).collect();
        if !sunk.is_empty() {
            set.retain(|at| match self.spots.get(*at as usize) {
                Some(spot) => !sunk.contains(&self.sink(spot.list)),
                None => true,
            });
        }
        set
    }

    fn standings(&self, set: &[u32]) -> Vec<Standing> {
        let mut all = vec![Standing::default(); self.lists];
        for &at in set {
            match self.spots.get(at as usize) {
                None => {
                    all[at as usize - self.spots.len()] = Standing { alive: true, matches: true, sunk: true }
                }
                Some(spot) => {
                    let standing = &mut all[spot.list];
                    standing.alive = true;
                    standing.matches |= spot.element.is_none();
                }
            }
        }
        all
    }

    /// One byte for each class that the globs tell apart; no path has a NUL.
    fn bytes(&self) -> Vec<u8> {
        let mut single = ByteSet::default();
        single.insert(b'/');
        let mut sets: HashSet<ByteSet> = HashSet::new();
        for spot in &self.spots {
            match spot.element {
                Some(Element::Byte(byte)) => single.insert(byte),
                Some(Element::Set(set)) => _ = sets.insert(set),
                _ => {}
            }
        }
        let mut seen: HashSet<Vec<bool>> = HashSet::new();
        let class = |byte: u8| sets.iter().map(|set| set.contains(byte)).collect::<Vec<bool>>();
        (1..=u8::MAX).filter(|byte| single.contains(*byte) || seen.insert(class(*byte))).collect()
    }

    /// True where such a path is found, or the steps are spent.
    fn search(&self, with: bool, left: &mut usize) -> bool {
        let budget = ONE_SEARCH.min(*left);
        let mut spent = 0;
        let found = self.search_within(with, budget, &mut spent);
        *left = left.saturating_sub(spent);
        found
    }

    fn search_within(&self, with: bool, budget: usize, spent: &mut usize) -> bool {
        let bytes = self.bytes();
        let mut start = Vec::new();
        self.starts.iter().for_each(|at| self.enter(*at, &mut start));
        let start = self.tidy(start);
        let mut seen: HashSet<Vec<u32>> = HashSet::from([start.clone()]);
        let mut open = vec![start];
        while let Some(set) = open.pop() {
            for &byte in &bytes {
                *spent += set.len() + 1;
                if *spent > budget {
                    return true;
                }
                let next = self.step(&set, byte);
                if seen.contains(&next) {
                    continue;
                }
                let all = self.standings(&next);
                let mut outers = all[OUTERS..].chunks_exact(2);
                let hopeless = !all[OBJECTS].alive
                    || all[EXCEPT].sunk
                    || (with && !all[WITH].alive)
                    || outers.clone().any(|outer| outer[0].sunk && !outer[1].alive);
                if hopeless {
                    continue;
                }
                let inside = all[OBJECTS].matches && !all[EXCEPT].matches && (!with || all[WITH].matches);
                if inside && !outers.any(|outer| outer[0].matches && !outer[1].matches) {
                    return true;
                }
                seen.insert(next.clone());
                open.push(next);
            }
        }
        false
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
