//! Which ports of an end rules are about: lists of port ranges, each with what holds there, as a verdict block.
//!
//! Every source of the network has such lists: at a prefix, for a name, for what is the run's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sandbox_ebpf::abi::policy::{MAX_ENTRIES, MAX_PORTS_PER_PREFIX, PortRange, net_access};

use super::Names;
use super::block::{Block, Blocks, Meaning, Said};
use super::layout::Front;
use super::network::Rule;
use crate::address::{Protocol, Target};
use crate::compile::CompileError;
use crate::ends::Source;

/// Most port ranges of a plan.
const MAX_PORTS: usize = 1 << 18;

/// A target of a rule, or of its exceptions.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub rule: usize,
    pub target: &'a Target,
    except: bool,
}

impl<'a> Entry<'a> {
    /// All targets that one source knows.
    pub fn all(rules: &[Rule<'a>], source: Source) -> impl Iterator<Item = Entry<'a>> {
        let of_rule = |(rule, Rule { objects, except, .. }): (usize, &Rule<'a>)| {
            let (objects, exceptions): (&'a [Target], &'a [Target]) = (objects, except);
            let targets = objects.iter().map(|t| (t, false)).chain(exceptions.iter().map(|t| (t, true)));
            targets.map(move |(target, except)| Entry { rule, target, except })
        };
        let all = rules.iter().enumerate().flat_map(of_rule);
        all.filter(move |entry| entry.target.meaning.source() == source)
    }
}

/// A port range: protocol, first and last port, and the number of a block.
type Ports = (u8, u16, u16, u32);

/// Lists of ranges by number, each once; number 0 is empty.
pub(super) struct Lists<'a, 'b> {
    rules: &'b [Rule<'a>],
    /// How many policies there are.
    parts: usize,
    blocks: &'b mut Blocks,
    names: &'b Names,
    lists: Vec<Vec<Ports>>,
    numbers: HashMap<Vec<Ports>, u32>,
    ports: usize,
}

/// What holds at a port: rules, and sets of exceptions that the end belongs to.
#[derive(Default)]
struct Holding {
    rules: Vec<usize>,
    marks: BTreeSet<u8>,
}

impl<'a, 'b> Lists<'a, 'b> {
    pub fn new(rules: &'b [Rule<'a>], parts: usize, blocks: &'b mut Blocks, names: &'b Names) -> Self {
        let (lists, numbers) = (vec![Vec::new()], HashMap::from([(Vec::new(), 0)]));
        Self { rules, parts, blocks, names, lists, numbers, ports: 0 }
    }

    /// The list of what the entries say, which are all that `source` knows of a place. `place` is its name.
    pub fn add(
        &mut self,
        source: Source,
        entries: &[Entry<'_>],
        place: impl Fn() -> String,
    ) -> Result<u32, CompileError> {
        let (rules, names) = (self.rules, self.names);
        let named = || names.heaviest(entries.iter().map(|entry| (rules[entry.rule].name, 1)));
        let Some(ranges) = self.ranges(source, entries) else {
            return Err(CompileError::ConditionsTooMany {
                place: place(),
                limit: MAX_ENTRIES,
                rules: named(),
            });
        };
        if ranges.len() > MAX_PORTS_PER_PREFIX {
            let limit = MAX_PORTS_PER_PREFIX;
            return Err(CompileError::PortsTooMany { prefix: place(), limit, rules: named() });
        }
        if let Some(number) = self.numbers.get(&ranges) {
            return Ok(*number);
        }
        self.ports += ranges.len();
        if self.ports > MAX_PORTS {
            let (what, limit) = ("port ranges", MAX_PORTS);
            return Err(CompileError::AddressesTooMany { what, limit, rules: named() });
        }
        let number = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        self.lists.push(ranges.clone());
        self.numbers.insert(ranges, number);
        Ok(number)
    }

    /// The lists, by number.
    pub fn finish(self) -> Placing {
        Placing(self.lists)
    }

    /// What the entries say, as disjoint ranges ascending by protocol and port; `None` where a block is too long.
    fn ranges(&mut self, source: Source, entries: &[Entry<'_>]) -> Option<Vec<Ports>> {
        let mut protocols = Protocol::ALL;
        protocols.sort_by_key(|protocol| protocol.abi());
        let mut out: Vec<Ports> = Vec::new();
        for protocol in protocols {
            let here = entries.iter().filter(|entry| entry.target.protocol.is_none_or(|p| p == protocol));
            let here: Vec<Entry<'_>> = here.copied().collect();
            for (low, high, block) in self.sweep(source, &here)? {
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
    fn sweep(&mut self, source: Source, entries: &[Entry<'_>]) -> Option<Vec<(u16, u16, u32)>> {
        let mut changes: BTreeMap<u32, Vec<(usize, bool, i32)>> = BTreeMap::new();
        for Entry { rule, target, except } in entries {
            let (low, high) = target.port_range();
            changes.entry(low.into()).or_default().push((*rule, *except, 1));
            changes.entry(u32::from(high) + 1).or_default().push((*rule, *except, -1));
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
            let mut holding = Holding::default();
            for (rule, [objects, exceptions]) in &active {
                match (*objects > 0, *exceptions > 0) {
                    (true, false) => holding.rules.push(*rule),
                    (_, true) => holding.marks.extend(self.rules[*rule].marks(source)),
                    (false, false) => {}
                }
            }
            let (Ok(low), Ok(high)) = (u16::try_from(*low), u16::try_from(high - 1)) else { continue };
            match self.block(source, holding)? {
                0 => {}
                block => out.push((low, high, block)),
            }
        }
        Some(out)
    }

    /// The block of what holds, policy by policy; 0 where that is nothing.
    fn block(&mut self, source: Source, holding: Holding) -> Option<u32> {
        let Holding { rules, marks } = holding;
        let mut parts = vec![Said::default(); self.parts];
        for rule in rules.iter().map(|rule| &self.rules[*rule]) {
            let Meaning { condition, allow, deny } = rule.meaning;
            let kept = heard(source);
            let meaning = Meaning { condition, allow: allow & kept, deny: deny & kept };
            if meaning.allow | meaning.deny != 0 {
                parts[rule.part].add(meaning);
            }
        }
        if marks.is_empty() && parts.iter().all(Said::is_empty) {
            return Some(0);
        }
        let block = Block::of_parts(parts, marks);
        (block.entries.len() <= MAX_ENTRIES).then(|| self.blocks.number(block))
    }
}

/// The accesses of which the source has a say: an address that is bound has no names.
fn heard(source: Source) -> u16 {
    match source {
        Source::Name => (net_access::CONNECT | net_access::SEND).into(),
        Source::Address | Source::Own | Source::Socket => u16::MAX,
    }
}

/// The lists, before they have their cells.
pub(super) struct Placing(Vec<Vec<Ports>>);

impl Placing {
    /// Puts the ranges, and the blocks that they name, among the cells: the node of each list.
    pub fn place(&self, front: &mut Front<'_>) -> Vec<sandbox_ebpf::abi::policy::AddressNode> {
        let node = |ranges: &Vec<Ports>| {
            let range = |&(proto, low, high, block): &Ports| PortRange {
                low,
                high,
                proto,
                block: front.block(block),
            };
            let ranges: Vec<PortRange> = ranges.iter().map(range).collect();
            front.ranges(&ranges)
        };
        self.0.iter().map(node).collect()
    }
}
