//! Network rules as a prefix trie: at each prefix, what all the prefixes around it say as well.
//!
//! Policies that hold together share one trie: the blocks of its port ranges close each policy by its default.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv6Addr;

use sandbox_ebpf::abi::policy::{AddressKey, Entry as Cell, MAX_ENTRIES, MAX_PORTS_PER_PREFIX, PortRange};

use super::block::{Block, Blocks, Meaning, Said};
use super::layout::Front;
use super::{AddressEntry, Names};
use crate::address::{Prefix, Protocol, Target};
use crate::compile::CompileError;

/// Most prefixes of a plan.
pub const MAX_PREFIXES: usize = 1 << 16;
/// Most port ranges of a plan.
pub const MAX_PORTS: usize = 1 << 18;

/// `::ffff:0:0/96`, in which IPv4 lies.
const MAPPED: (u32, u128) = (96, 0xffff_0000_0000);

/// A prefix as the trie stores it: length, then bits.
type Key = (u32, u128);

/// What one rule says about addresses.
pub(super) struct Rule<'a> {
    /// Its policy, among those that hold together.
    pub part: usize,
    pub name: u32,
    pub meaning: Meaning,
    pub objects: &'a [Target],
    pub except: &'a [Target],
}

/// A target of a rule at one prefix.
#[derive(Clone, Copy)]
struct Entry<'a> {
    rule: usize,
    target: &'a Target,
    except: bool,
    v4: bool,
}

/// The trie, before its port ranges have their cells.
pub(super) struct Trie {
    /// Ascending by prefix length, then address; with the index of the ranges.
    prefixes: Vec<(Key, usize)>,
    ranges: Vec<Vec<Ports>>,
}

/// A port range: protocol, first and last port, and the number of a block.
type Ports = (u8, u16, u16, u32);

/// Makes the trie. `defaults` are the accesses that each policy denies where no rule of its own allows them.
pub(super) fn compile(
    rules: &[Rule<'_>],
    defaults: &[u16],
    blocks: &mut Blocks,
    names: &Names,
) -> Result<Trie, CompileError> {
    let mut by_prefix: BTreeMap<Key, Vec<Entry<'_>>> = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let targets = rule.objects.iter().map(|t| (t, false)).chain(rule.except.iter().map(|t| (t, true)));
        for (target, except) in targets {
            for prefix in &target.prefixes {
                let (key, v4) = key(*prefix);
                by_prefix.entry(key).or_default().push(Entry { rule: index, target, except, v4 });
            }
        }
    }
    // A short IPv6 prefix lies around the mapped addresses too, and must not speak for IPv4.
    let around = |(length, bits): &Key| *length < 96 && mask(MAPPED.1, *length) == *bits;
    if by_prefix.keys().any(around) {
        by_prefix.entry(MAPPED).or_default();
    }
    if by_prefix.len() > MAX_PREFIXES {
        let weights = by_prefix.values().flatten().map(|entry| (rules[entry.rule].name, 1));
        let rules = names.heaviest(weights);
        return Err(CompileError::AddressesTooMany { what: "prefixes", limit: MAX_PREFIXES, rules });
    }
    let trie = Trie { prefixes: Vec::new(), ranges: Vec::new() };
    let mut builder = Builder { rules, defaults, blocks, names, trie, seen: HashMap::new(), ports: 0 };
    let lengths: BTreeSet<u32> = by_prefix.keys().map(|(length, _)| *length).collect();
    for (length, bits) in by_prefix.keys() {
        let mapped = *length >= 96 && mask(*bits, 96) == MAPPED.1;
        let outer = lengths.iter().filter(|outer| *outer <= length);
        let entries: Vec<Entry<'_>> = outer
            .filter_map(|outer| by_prefix.get(&(*outer, mask(*bits, *outer))))
            .flatten()
            .filter(|entry| entry.v4 == mapped)
            .copied()
            .collect();
        builder.add((*length, *bits), &entries)?;
    }
    Ok(builder.trie)
}

impl Trie {
    /// Puts the port ranges, and the blocks that they name, among the cells.
    pub fn place(self, id: u32, front: &mut Front<'_>) -> Vec<AddressEntry> {
        let nodes: Vec<_> = self
            .ranges
            .iter()
            .map(|ranges| {
                let range = |&(proto, low, high, block): &Ports| PortRange {
                    low,
                    high,
                    proto,
                    block: front.block(block),
                };
                let ranges: Vec<PortRange> = ranges.iter().map(range).collect();
                front.ranges(&ranges)
            })
            .collect();
        let entry = |((length, bits), ranges): (Key, usize)| AddressEntry {
            prefix_len: 32 + length,
            key: AddressKey { policy_be: id.to_be(), address: bits.to_be_bytes() },
            node: nodes[ranges],
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

struct Builder<'a, 'b> {
    rules: &'b [Rule<'a>],
    defaults: &'b [u16],
    blocks: &'b mut Blocks,
    names: &'b Names,
    trie: Trie,
    /// Lists of ranges that are there already.
    seen: HashMap<Vec<Ports>, usize>,
    ports: usize,
}

impl Builder<'_, '_> {
    fn add(&mut self, (length, bits): Key, entries: &[Entry<'_>]) -> Result<(), CompileError> {
        let prefix = || format!("{}/{length}", Ipv6Addr::from_bits(bits));
        let rules = self.rules;
        let names = self.names;
        let named = || names.heaviest(entries.iter().map(|entry| (rules[entry.rule].name, 1)));
        let Some(ranges) = self.ranges(entries) else {
            return Err(CompileError::ConditionsTooMany {
                place: prefix(),
                limit: MAX_ENTRIES,
                rules: named(),
            });
        };
        if ranges.len() > MAX_PORTS_PER_PREFIX {
            return Err(CompileError::PortsTooMany {
                prefix: prefix(),
                limit: MAX_PORTS_PER_PREFIX,
                rules: named(),
            });
        }
        let at = match self.seen.get(&ranges) {
            Some(at) => *at,
            None => {
                self.ports += ranges.len();
                if self.ports > MAX_PORTS {
                    let rules = named();
                    return Err(CompileError::AddressesTooMany {
                        what: "port ranges",
                        limit: MAX_PORTS,
                        rules,
                    });
                }
                self.trie.ranges.push(ranges.clone());
                self.seen.insert(ranges, self.trie.ranges.len() - 1);
                self.trie.ranges.len() - 1
            }
        };
        self.trie.prefixes.push(((length, bits), at));
        Ok(())
    }

    /// What the entries say, as disjoint ranges ascending by protocol and port; `None` where a block is too long.
    fn ranges(&mut self, entries: &[Entry<'_>]) -> Option<Vec<Ports>> {
        let mut protocols = Protocol::ALL;
        protocols.sort_by_key(|protocol| protocol.abi());
        let mut out: Vec<Ports> = Vec::new();
        for protocol in protocols {
            let here = entries.iter().filter(|entry| entry.target.protocol.is_none_or(|p| p == protocol));
            let here: Vec<(usize, bool, u16, u16)> = here
                .map(|entry| {
                    let (low, high) = entry.target.ports.unwrap_or((0, u16::MAX));
                    (entry.rule, entry.except, low, high)
                })
                .collect();
            for (low, high, block) in self.sweep(&here)? {
                let joined = out.last_mut().filter(|last| {
                    (last.0, last.3) == (protocol.abi(), block) && last.2.checked_add(1) == Some(low)
                });
                match joined {
                    Some(last) => last.2 = high,
                    None => out.push((protocol.abi(), low, high, block)),
                }
            }
        }
        Some(out)
    }

    /// Goes over the ports once, counting which rules hold and which are excepted.
    fn sweep(&mut self, entries: &[(usize, bool, u16, u16)]) -> Option<Vec<(u16, u16, u32)>> {
        let mut changes: BTreeMap<u32, Vec<(usize, bool, i32)>> = BTreeMap::new();
        for &(rule, except, low, high) in entries {
            changes.entry(low.into()).or_default().push((rule, except, 1));
            changes.entry(u32::from(high) + 1).or_default().push((rule, except, -1));
        }
        // How often each rule and each exception holds just now.
        let mut active: BTreeMap<usize, [i32; 2]> = BTreeMap::new();
        let bounds: Vec<u32> = changes.keys().copied().collect();
        let mut out = Vec::new();
        for (at, low) in bounds.iter().enumerate() {
            for &(rule, except, by) in &changes[low] {
                let counts = active.entry(rule).or_default();
                counts[usize::from(except)] += by;
                if *counts == [0, 0] {
                    active.remove(&rule);
                }
            }
            let Some(high) = bounds.get(at + 1) else { break };
            let holding = active.iter().filter(|(_, counts)| counts[0] > 0 && counts[1] == 0);
            let holding: Vec<usize> = holding.map(|(rule, _)| *rule).collect();
            if let (Ok(low), Ok(high), false) =
                (u16::try_from(*low), u16::try_from(high - 1), holding.is_empty())
            {
                out.push((low, high, self.block(&holding)?));
            }
        }
        Some(out)
    }

    /// What some rules say together, policy by policy.
    fn block(&mut self, rules: &[usize]) -> Option<u32> {
        let mut block = Block::default();
        for (part, default) in self.defaults.iter().enumerate() {
            let here = rules.iter().map(|rule| &self.rules[*rule]).filter(|rule| rule.part == part);
            let Block { allow, deny, entries } = here.map(|rule| rule.meaning).collect::<Said>().block();
            if part == 0 {
                (block.allow, block.deny) = (allow, deny);
            } else if allow | deny != 0 {
                block.entries.push(Cell { allow, deny, ..Cell::default() });
            }
            block.entries.extend(entries);
            block.entries.push(Cell { deny: *default, by: Cell::END, ..Cell::default() });
        }
        (block.entries.len() <= MAX_ENTRIES).then(|| self.blocks.number(block))
    }
}
