//! The patterns of rules as automata: two for each policy, one for what is anchored and one for what may stand
//! anywhere, more where that is too large.

use sandbox_ebpf::abi::policy::{MAX_AUTOMATA, MAX_CELLS};

use super::block::Blocks;
use super::minimise::{Automaton, minimise};
use super::nfa::Nfa;
use super::shapes::{Group, Groups, List};
use super::subset::{Budget, Overflow, determinise};
use super::{Names, below};
use crate::compile::CompileError;

/// The automata of each part, in its order. With the groups stands whether the part needs an automaton even where
/// they are none, for its defaults; that one is not among those returned.
pub(super) fn compile(
    parts: Vec<(Groups<'_>, bool)>,
    blocks: &mut Blocks,
    names: &Names,
) -> Result<Vec<Vec<Automaton>>, CompileError> {
    let count = parts.len();
    let mut spare = 0;
    let mut open: Vec<(usize, List<'_>)> = Vec::new();
    for (part, (groups, needed)) in parts.into_iter().enumerate() {
        let shapes = groups.by_shape();
        spare += usize::from(shapes.is_empty() && needed);
        open.extend(shapes.into_iter().map(|list| (part, list)));
    }
    let most = MAX_AUTOMATA - spare;
    join(&mut open, count, most);
    let mut done: Vec<Vec<Automaton>> = (0..count).map(|_| Vec::new()).collect();
    let (mut made, mut cells) = (0, 0);
    while let Some((part, list)) = open.pop() {
        let nfa = Nfa::new(&list.groups);
        let halves = (made + open.len() + 1 < most).then(|| list.split()).flatten();
        let budget = if halves.is_some() { Budget::usual(&nfa) } else { Budget::MOST };
        match (determinise(&nfa, budget, blocks), halves) {
            (Ok(dfa), _) => {
                drop(nfa);
                let mut automaton = minimise(&dfa);
                below::mark(&mut automaton, blocks);
                cells += automaton.cells();
                done[part].push(automaton);
                made += 1;
                if cells > MAX_CELLS {
                    let weights =
                        list.groups.iter().flat_map(|group| &group.globs).map(|(_, rule)| (*rule, 1));
                    let rules = names.heaviest(weights);
                    return Err(CompileError::PathsTooLarge { what: "cells", limit: MAX_CELLS, rules });
                }
            }
            (Err(_), Some(halves)) => open.extend(halves.map(|half| (part, half))),
            (Err(overflow), None) => return Err(too_large(overflow, names)),
        }
    }
    Ok(done)
}

pub(super) fn too_large(overflow: Overflow, names: &Names) -> CompileError {
    let Overflow { what, limit, weights } = overflow;
    CompileError::PathsTooLarge { what, limit, rules: names.heaviest(weights) }
}

/// Where many policies hold together there are not enough automata to keep all shapes apart: those of the smallest
/// policies are joined first.
fn join(open: &mut Vec<(usize, List<'_>)>, parts: usize, most: usize) {
    let size = |open: &[(usize, List<'_>)], part: usize| -> usize {
        let groups = open.iter().filter(|(of, _)| *of == part).flat_map(|(_, list)| &list.groups);
        groups.map(|group| group.globs.len()).sum()
    };
    let mut by_size: Vec<usize> = (0..parts).collect();
    by_size.sort_by_key(|part| size(open, *part));
    for part in by_size {
        if open.len() <= most {
            return;
        }
        let (own, others): (Vec<_>, Vec<_>) =
            std::mem::take(open).into_iter().partition(|(of, _)| *of == part);
        *open = others;
        let groups: Vec<Group<'_>> = own.into_iter().flat_map(|(_, list)| list.groups).collect();
        if !groups.is_empty() {
            open.push((part, List::of(groups)));
        }
    }
}
