//! Network rules as a prefix trie: at each prefix, what all the prefixes around it say as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv6Addr;

use sandbox_ebpf::abi::policy::{AddressKey, AddressNode, MAX_PORTS_PER_PREFIX, PortRange};

use super::AddressEntry;
use crate::address::{Prefix, Protocol, Target};
use crate::compile::{CompileError, heaviest};
use crate::model::{Decision, Policy, Rule};

/// Most prefixes of a plan.
pub const MAX_PREFIXES: usize = 1 << 16;
/// Most port ranges of a plan.
pub const MAX_PORTS: usize = 1 << 18;

/// `::ffff:0:0/96`, in which IPv4 lies.
const MAPPED: (u32, u128) = (96, 0xffff_0000_0000);

/// A port range: protocol, first and last port, what is allowed and what denied.
type Ports = (u8, u16, u16, u8, u8);
/// A prefix as the trie stores it: length, then bits.
type Key = (u32, u128);

/// A target of a rule at one prefix.
#[derive(Clone, Copy)]
struct Entry<'a> {
    rule: usize,
    target: &'a Target,
    except: bool,
    v4: bool,
}

/// The trie and its port ranges.
pub(super) fn compile(
    policy: &Policy,
    slot: u32,
) -> Result<(Vec<AddressEntry>, Vec<PortRange>), CompileError> {
    let rules = &policy.network.rules;
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
        let weights = by_prefix.values().flatten().map(|entry| (rules[entry.rule].name.clone(), 1));
        let rules = heaviest(weights);
        return Err(CompileError::AddressesTooMany { what: "prefixes", limit: MAX_PREFIXES, rules });
    }
    let mut plan = Plan { slot, rules, entries: Vec::new(), ports: Vec::new(), seen: HashMap::new() };
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
        plan.add((*length, *bits), &entries)?;
    }
    Ok((plan.entries, plan.ports))
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

struct Plan<'a> {
    slot: u32,
    rules: &'a [Rule<Target>],
    entries: Vec<AddressEntry>,
    ports: Vec<PortRange>,
    /// Lists of ranges that stand in `ports` already.
    seen: HashMap<Vec<Ports>, AddressNode>,
}

impl Plan<'_> {
    fn add(&mut self, (length, bits): Key, entries: &[Entry<'_>]) -> Result<(), CompileError> {
        let ranges = self.ranges(entries);
        let named = || heaviest(entries.iter().map(|entry| (self.rules[entry.rule].name.clone(), 1)));
        if ranges.len() > MAX_PORTS_PER_PREFIX {
            let prefix = format!("{}/{length}", Ipv6Addr::from_bits(bits));
            return Err(CompileError::PortsTooMany { prefix, limit: MAX_PORTS_PER_PREFIX, rules: named() });
        }
        let node = match self.seen.get(&ranges) {
            Some(node) => *node,
            None => {
                if self.ports.len() + ranges.len() > MAX_PORTS {
                    let rules = named();
                    return Err(CompileError::AddressesTooMany {
                        what: "port ranges",
                        limit: MAX_PORTS,
                        rules,
                    });
                }
                let [first, count] =
                    [self.ports.len(), ranges.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
                self.ports.extend(ranges.iter().map(|&(proto, low, high, allow, deny)| PortRange {
                    low,
                    high,
                    proto,
                    allow,
                    deny,
                    _pad: 0,
                }));
                let node = AddressNode { first, count };
                self.seen.insert(ranges, node);
                node
            }
        };
        let key = AddressKey { slot_be: self.slot.to_be(), address: bits.to_be_bytes() };
        self.entries.push(AddressEntry { prefix_len: 32 + length, key, node });
        Ok(())
    }

    /// What the entries say, as disjoint ranges ascending by protocol and port.
    fn ranges(&self, entries: &[Entry<'_>]) -> Vec<Ports> {
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
            for (low, high, allow, deny) in self.sweep(&here) {
                let joined = out.last_mut().filter(|last| {
                    (last.0, last.3, last.4) == (protocol.abi(), allow, deny)
                        && last.2.checked_add(1) == Some(low)
                });
                match joined {
                    Some(last) => last.2 = high,
                    None => out.push((protocol.abi(), low, high, allow, deny)),
                }
            }
        }
        out
    }

    /// Goes over the ports once, counting which rules hold and which are excepted.
    fn sweep(&self, entries: &[(usize, bool, u16, u16)]) -> Vec<(u16, u16, u8, u8)> {
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
            let (mut allow, mut deny) = (0, 0);
            for (rule, _) in active.iter().filter(|(_, counts)| counts[0] > 0 && counts[1] == 0) {
                let rule = &self.rules[*rule];
                match rule.effect {
                    Decision::Allow => allow |= rule.accesses.net_bits(),
                    Decision::Ask | Decision::Deny => deny |= rule.accesses.net_bits(),
                }
            }
            allow &= !deny;
            if let (Ok(low), Ok(high), true) =
                (u16::try_from(*low), u16::try_from(high - 1), allow | deny != 0)
            {
                out.push((low, high, allow, deny));
            }
        }
        out
    }
}
