//! Network rules on addresses as a prefix trie: at each prefix, what all the prefixes around it say as well.
//!
//! Policies that hold together share one trie.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use sandbox_ebpf::abi::policy::{AddressKey, AddressNode};

use super::network::Rule;
use super::ports::{Entry, Lists};
use super::{AddressEntry, Names};
use crate::address::Prefix;
use crate::compile::CompileError;
use crate::ends::Source;

/// Most prefixes of a plan.
pub const MAX_PREFIXES: usize = 1 << 16;

/// `::ffff:0:0/96`, in which IPv4 lies.
const MAPPED: (u32, u128) = (96, 0xffff_0000_0000);

/// A prefix as the trie stores it: length, then bits.
type Key = (u32, u128);

/// The trie, before its port ranges have their cells.
pub(super) struct Trie {
    /// Ascending by prefix length, then address; with the number of the list of ranges.
    prefixes: Vec<(Key, u32)>,
}

/// Makes the trie.
pub(super) fn compile(
    rules: &[Rule<'_>],
    lists: &mut Lists<'_, '_>,
    names: &Names,
) -> Result<Trie, CompileError> {
    // With each entry, whether it is one of IPv4.
    let mut by_prefix: BTreeMap<Key, Vec<(Entry<'_>, bool)>> = BTreeMap::new();
    for entry in Entry::all(rules, Source::Address) {
        for prefix in &entry.target.prefixes {
            let (key, v4) = key(*prefix);
            by_prefix.entry(key).or_default().push((entry, v4));
        }
    }
    // A short IPv6 prefix lies around the mapped addresses too, and must not speak for IPv4.
    let around = |(length, bits): &Key| *length < 96 && mask(MAPPED.1, *length) == *bits;
    if by_prefix.keys().any(around) {
        by_prefix.entry(MAPPED).or_default();
    }
    if by_prefix.len() > MAX_PREFIXES {
        let weights = by_prefix.values().flatten().map(|(entry, _)| (rules[entry.rule].name, 1));
        let rules = names.heaviest(weights);
        return Err(CompileError::AddressesTooMany { what: "prefixes", limit: MAX_PREFIXES, rules });
    }
    let mut prefixes = Vec::new();
    let lengths: BTreeSet<u32> = by_prefix.keys().map(|(length, _)| *length).collect();
    for (length, bits) in by_prefix.keys() {
        let mapped = *length >= 96 && mask(*bits, 96) == MAPPED.1;
        let outer = lengths.iter().filter(|outer| *outer <= length);
        let entries: Vec<Entry<'_>> = outer
            .filter_map(|outer| by_prefix.get(&(*outer, mask(*bits, *outer))))
            .flatten()
            .filter(|(_, v4)| *v4 == mapped)
            .map(|(entry, _)| *entry)
            .collect();
        let place = || format!("{}/{length}", Ipv6Addr::from_bits(*bits));
        prefixes.push(((*length, *bits), lists.add(Source::Address, &entries, place)?));
    }
    Ok(Trie { prefixes })
}

impl Trie {
    /// The trie with the cells of its port ranges, by the number of their list.
    pub fn place(self, id: u32, nodes: &[AddressNode]) -> Vec<AddressEntry> {
        let entry = |((length, bits), list): (Key, u32)| AddressEntry {
            prefix_len: 32 + length,
            key: AddressKey { policy_be: id.to_be(), address: bits.to_be_bytes() },
            node: nodes[list as usize],
        };
        self.prefixes.into_iter().map(entry).collect()
    }
}

/// The key of a prefix, and whether it is one of IPv4.
fn key(prefix: Prefix) -> (Key, bool) {
    match prefix {
        Prefix::V4 { bits, length } => ((96 + u32::from(length), MAPPED.1 | u128::from(bits)), true),
        Prefix::V6 { bits, length } => ((u32::from(length), bits), false),
    }
}

fn mask(bits: u128, length: u32) -> u128 {
    bits & u128::MAX.checked_shl(128 - length).unwrap_or(0)
}
