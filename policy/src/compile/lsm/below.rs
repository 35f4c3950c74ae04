//! What each state says about everything below it: see [`sandbox_ebpf::abi::policy::below`].
//!
//! Each state is compared with the one behind a directory that only floating patterns know, by looking for a
//! path on which they differ. That is the product of all states with those that such a directory leads to, so
//! it is done while that is small; for larger automata no state is marked, and a directory moves only between
//! places that nothing tells apart.

use std::collections::HashMap;

use sandbox_ebpf::abi::policy::below::{ORDINARY, STRICT};

use super::minimise::Automaton;

/// Most steps of the product that are looked at.
const MOST: usize = 2 << 20;

/// Marks the states of an automaton whose defaults deny `default_deny`.
pub(super) fn mark(automaton: &mut Automaton, default_deny: u16) {
    let denied: Vec<u16> =
        automaton.verdicts.iter().map(|verdict| verdict.deny | (default_deny & !verdict.allow)).collect();
    let slash = automaton.classes[usize::from(b'/')];
    // The byte 0 stands in no path, and so in no pattern.
    let plain = automaton.classes[0];
    let usual =
        [slash, plain, slash].into_iter().fold(automaton.start, |at, class| automaton.step(at, class));
    let below = reachable(automaton, usual);
    let states = automaton.verdicts.len();
    if states.saturating_mul(below.len()).saturating_mul(automaton.class_count()) > MOST {
        return;
    }
    let loses = differ(automaton, &below, |state, usual| denied[state] & !denied[usual] != 0);
    let gains = differ(automaton, &below, |state, usual| denied[usual] & !denied[state] != 0);
    for (state, verdict) in automaton.verdicts.iter_mut().enumerate() {
        // `usual` is the first that is reachable from itself.
        let pair = state * below.len();
        verdict.allow |= if loses[pair] { 0 } else { ORDINARY };
        verdict.allow |= if gains[pair] { 0 } else { STRICT };
    }
}

/// The states that one leads to, itself first.
fn reachable(automaton: &Automaton, from: u32) -> Vec<u32> {
    let mut seen = HashMap::from([(from, ())]);
    let mut order = vec![from];
    let mut at = 0;
    while let Some(state) = order.get(at).copied() {
        at += 1;
        for class in 0..automaton.class_count() {
            let to = automaton.step(state, u8::try_from(class).unwrap_or(u8::MAX));
            if seen.insert(to, ()).is_none() {
                order.push(to);
            }
        }
    }
    order
}

/// For each pair of a state and one of `below`, by index: whether some path leads them to a pair that `bad`.
fn differ(automaton: &Automaton, below: &[u32], bad: impl Fn(usize, usize) -> bool) -> Vec<bool> {
    let (states, width, classes) = (automaton.verdicts.len(), below.len(), automaton.class_count());
    let place: HashMap<u32, usize> = below.iter().enumerate().map(|(at, state)| (*state, at)).collect();
    let next = |pair: usize, class: usize| {
        let class = u8::try_from(class).unwrap_or(u8::MAX);
        let state = automaton.step(u32::try_from(pair / width).unwrap_or(u32::MAX), class);
        state as usize * width + place[&automaton.step(below[pair % width], class)]
    };
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); states * width];
    for pair in 0..states * width {
        for class in 0..classes {
            before[next(pair, class)].push(u32::try_from(pair).unwrap_or(u32::MAX));
        }
    }
    let mut differ: Vec<bool> =
        (0..states * width).map(|pair| bad(pair / width, below[pair % width] as usize)).collect();
    let mut open: Vec<usize> = (0..differ.len()).filter(|pair| differ[*pair]).collect();
    while let Some(pair) = open.pop() {
        for from in std::mem::take(&mut before[pair]) {
            if !std::mem::replace(&mut differ[from as usize], true) {
                open.push(from as usize);
            }
        }
    }
    differ
}
