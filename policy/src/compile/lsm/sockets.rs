//! Unix sockets as automata over their names: one for paths, one for abstract names, all policies together in each.

use std::collections::HashMap;

use sandbox_ebpf::abi::policy::MAX_ENTRIES;

use super::block::{Block, Blocks, Condition, Meaning, Said};
use super::minimise::{Automaton, minimise};
use super::network::Rule;
use super::nfa::Nfa;
use super::shapes::Groups;
use super::subset::{Budget, determinise};
use super::{Names, paths};
use crate::address::Target;
use crate::compile::CompileError;
use crate::ends;
use crate::pattern::Pattern;

/// The kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Path,
    Abstract,
}

impl Kind {
    /// The pattern of a target of this kind.
    fn pattern(self, target: &Target) -> Option<&Pattern> {
        match (self, &target.meaning) {
            (Self::Path, ends::Meaning::Path(pattern)) => Some(pattern),
            (Self::Abstract, ends::Meaning::Abstract(pattern)) => Some(pattern),
            _ => None,
        }
    }
}

/// The automaton of one kind; `None` where no rule is about such sockets.
pub(super) fn compile(
    kind: Kind,
    rules: &[Rule<'_>],
    parts: usize,
    blocks: &mut Blocks,
    names: &Names,
) -> Result<Option<Automaton>, CompileError> {
    let mut groups = Groups::default();
    let mut used = Vec::new();
    for rule in rules {
        let objects = rule.objects.iter().filter_map(|target| kind.pattern(target));
        if objects.clone().next().is_none() {
            continue;
        }
        used.push(rule.name);
        // While the automaton is made, the place of the object's set says whose policy a rule is of: a socket's
        // exceptions are the automaton's own matter.
        let except = u8::try_from(rule.part + 1).unwrap_or(u8::MAX);
        let condition = Condition { except, ..rule.meaning.condition };
        let except = rule.except.iter().filter_map(|target| kind.pattern(target));
        groups.add(Meaning { condition, ..rule.meaning }, objects, except, rule.name);
    }
    if used.is_empty() {
        return Ok(None);
    }
    let groups: Vec<_> = groups.by_shape().into_iter().flat_map(|list| list.groups).collect();
    let nfa = Nfa::new(&groups);
    let mut dfa = determinise(&nfa, Budget::MOST, blocks).map_err(|o| paths::too_large(o, names))?;
    let mut spoken: HashMap<u32, u32> = HashMap::from([(0, 0)]);
    for verdict in &mut dfa.verdicts {
        let number = match spoken.get(verdict) {
            Some(number) => *number,
            None => {
                let block = by_part(blocks.get(*verdict), parts);
                if block.entries.len() > MAX_ENTRIES {
                    return Err(CompileError::ConditionsTooMany {
                        place: "a unix socket".to_owned(),
                        limit: MAX_ENTRIES,
                        rules: names.heaviest(used.iter().map(|rule| (*rule, 1))),
                    });
                }
                blocks.number(block)
            }
        };
        spoken.insert(*verdict, number);
        *verdict = number;
    }
    let mut automaton = minimise(&dfa);
    let nothing = blocks.number(by_part(&Block::default(), parts));
    automaton.verdicts.iter_mut().skip(1).filter(|block| **block == 0).for_each(|block| *block = nothing);
    Ok(Some(automaton))
}

/// A block whose entries say by `except` of which policy they are, as one that goes through the policies.
fn by_part(block: &Block, parts: usize) -> Block {
    let mut said = vec![Said::default(); parts];
    for entry in &block.entries {
        let condition = Condition { except: 0, ..Condition::of(entry) };
        if let Some(said) = said.get_mut(usize::from(entry.except).wrapping_sub(1)) {
            said.add(Meaning { condition, allow: entry.allow, deny: entry.deny });
        }
    }
    Block::of_parts(said, [])
}
