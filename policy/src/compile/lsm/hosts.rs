//! Host names as one automaton over the reversed name: what is below a domain begins alike then.
//!
//! A trie of the names is almost that automaton: where a name leaves it, what holds for everything below the last
//! domain on the way does.

use std::collections::BTreeMap;

use super::Names;
use super::minimise::{Automaton, minimise};
use super::network::Rule;
use super::ports::{Entry, Lists};
use super::subset::Dfa;
use crate::compile::CompileError;
use crate::ends::{Meaning, Source};

/// Most bytes that the names may differ in: states.
const MAX_STATES: usize = 1 << 19;

/// The beginning of some reversed names.
#[derive(Default)]
struct Node<'a> {
    next: BTreeMap<u8, usize>,
    /// Targets that mean this name.
    exact: Vec<Entry<'a>>,
    /// Targets that mean all that goes on from here.
    below: Vec<Entry<'a>>,
}

/// What holds for every name that goes on in some way.
struct Wide<'a> {
    entries: Vec<Entry<'a>>,
    /// The state that is never left.
    state: u32,
    /// Its list.
    list: u32,
}

/// The automaton; what its states say are numbers of lists. `None` where no rule names a host.
pub(super) fn compile(
    rules: &[Rule<'_>],
    lists: &mut Lists<'_, '_>,
    names: &Names,
) -> Result<Option<Automaton>, CompileError> {
    let trie = trie(rules, names)?;
    if trie.len() == 1 {
        return Ok(None);
    }
    let (classes, class_count) = classes(&trie);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let count = trie.len() + 1;
    let mut dfa = Dfa {
        classes,
        class_count,
        other: vec![0; count],
        edges: vec![Vec::new(); count],
        verdicts: vec![0; count],
        start: 1,
    };
    let mut wides = vec![Wide { entries: Vec::new(), state: 0, list: 0 }];
    let mut open: Vec<(usize, usize, String)> = vec![(0, 0, String::new())];
    while let Some((at, wide, name)) = open.pop() {
        let node = &trie[at];
        let place = || name.chars().rev().collect::<String>();
        let state = at + 1;
        dfa.verdicts[state] = match node.exact.as_slice() {
            [] => wides[wide].list,
            exact => {
                let entries = [wides[wide].entries.as_slice(), exact].concat();
                lists.add(Source::Name, &entries, place)?
            }
        };
        let wide = match node.below.as_slice() {
            [] => wide,
            below => {
                let entries = [wides[wide].entries.as_slice(), below].concat();
                let list = lists.add(Source::Name, &entries, || format!("*{}", place()))?;
                let state = number(dfa.other.len());
                dfa.other.push(state);
                dfa.edges.push(Vec::new());
                dfa.verdicts.push(list);
                wides.push(Wide { entries, state, list });
                wides.len() - 1
            }
        };
        dfa.other[state] = wides[wide].state;
        let edge = |(byte, next): (&u8, &usize)| (classes[usize::from(*byte)], number(next + 1));
        dfa.edges[state] = node.next.iter().map(edge).collect();
        dfa.edges[state].sort_unstable();
        let longer = |(byte, next): (&u8, &usize)| (*next, wide, format!("{name}{}", char::from(*byte)));
        open.extend(node.next.iter().map(longer));
    }
    Ok(Some(minimise(&dfa)))
}

fn trie<'a>(rules: &[Rule<'a>], names: &Names) -> Result<Vec<Node<'a>>, CompileError> {
    let mut trie = vec![Node::default()];
    for entry in Entry::all(rules, Source::Name) {
        let Meaning::Host { name, below } = &entry.target.meaning else { continue };
        let mut at = 0;
        for byte in name.bytes().rev().chain(below.then_some(b'.')) {
            let fresh = trie.len();
            let next = *trie[at].next.entry(byte).or_insert(fresh);
            if next == fresh {
                trie.push(Node::default());
            }
            at = next;
        }
        let node = &mut trie[at];
        if *below { &mut node.below } else { &mut node.exact }.push(entry);
        if trie.len() > MAX_STATES {
            let entries = Entry::all(rules, Source::Name);
            let weights = entries.map(|entry| (rules[entry.rule].name, entry.target.text.len()));
            let (what, limit) = ("states for host names", MAX_STATES);
            return Err(CompileError::AddressesTooMany { what, limit, rules: names.heaviest(weights) });
        }
    }
    Ok(trie)
}

/// A class for each byte that some name has; class 0 for all others.
fn classes(trie: &[Node<'_>]) -> ([u8; 256], usize) {
    let mut classes = [0; 256];
    let mut count = 1;
    for byte in trie.iter().flat_map(|node| node.next.keys()) {
        let class = &mut classes[usize::from(*byte)];
        if *class == 0 {
            // Names have letters of one case, digits and three other characters.
            *class = u8::try_from(count).unwrap_or(u8::MAX);
            count += 1;
        }
    }
    (classes, count)
}
