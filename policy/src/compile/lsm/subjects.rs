//! To which sets an executable belongs: one automaton, each set a group of its own.

use super::block::{Block, Blocks, Condition, Meaning};
use super::minimise::{Automaton, minimise};
use super::nfa::Nfa;
use super::sets::Used;
use super::shapes::Groups;
use super::subset::{Budget, determinise};
use super::{Names, paths};
use crate::compile::CompileError;

/// The automaton of the sets; its blocks are read by [`mask`].
pub(super) fn compile(
    sets: &Used<'_>,
    blocks: &mut Blocks,
    names: &Names,
) -> Result<Automaton, CompileError> {
    let mut groups = Groups::default();
    for (number, patterns, rule) in sets.iter() {
        let condition = Condition { by: number + 1, ..Condition::NONE };
        groups.add(Meaning { condition, allow: 1, deny: 0 }, patterns, &[], rule);
    }
    let groups: Vec<_> = groups.by_shape().into_iter().flat_map(|list| list.groups).collect();
    let nfa = Nfa::new(&groups);
    let dfa = determinise(&nfa, Budget::MOST, blocks);
    dfa.map(|dfa| minimise(&dfa)).map_err(|overflow| paths::too_large(overflow, names))
}

/// The sets that a block of the automaton names.
pub(super) fn mask(block: &Block) -> u64 {
    block.entries.iter().fold(0, |mask, entry| mask | 1 << (entry.by - 1))
}
