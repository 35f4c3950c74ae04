//! The plan of the `lsm` layer: the tables that [`sandbox_ebpf::abi::policy`] describes.
//!
//! Several policies hold together: each is a *part* of the plan, with automata of its own for files and executables
//! together, since the access bits tell these apart. A policy's patterns are kept apart by [shape](shapes), so that they
//! do not multiply. One more automaton says to which sets that conditions name an executable belongs. The ends of
//! [network] accesses have tables for all policies together: a prefix trie for addresses, automata for host
//! names and unix sockets, a list of ports for what is the run's own. Bits that cannot change a decision (an allow under
//! a default that allows, a deny that a default implies everywhere) are left out, so that states merge. What the tables
//! have no words for ([`expressible`]) is left out too, and reported.
//!
//! [`Tables`] reads the tables exactly as the kernel side does.

mod addresses;
mod below;
mod block;
mod contents;
mod express;
mod held;
mod hosts;
mod layout;
mod minimise;
mod network;
mod nfa;
mod paths;
mod ports;
mod prospects;
mod read;
mod sets;
mod shapes;
mod sockets;
mod subjects;
mod subset;
mod tables;

use std::ops::Deref;

use sandbox_ebpf::abi::policy::{self as abi, DigestKey, MAX_AUTOMATA, MAX_CELLS, PolicyHeader, access};

use super::{CompileError, Unheld, Unsupported};
use crate::access::{AccessSet, SectionKind};
use crate::model::{Decision, Mode, Policy, Rule, RuleName, Section};
use crate::pattern::Pattern;
use block::{Blocks, Meaning};
use contents::Contents;
use layout::Front;
use minimise::Automaton;
use network::Network;
use sets::Used;
use shapes::Groups;

pub use express::expressible;
pub use held::{Held, beyond};
pub use read::{Broken, Denied, NetEnd};
pub use sandbox_ebpf::abi::policy::Sets;
pub use sets::SetTable;
pub use tables::{AddressEntry, DecodeError, Tables};

/// The tables of one or more policies, and what they do not hold.
#[derive(Clone, Debug)]
pub struct LsmPlan {
    /// The tables.
    pub tables: Tables,
    states: Vec<usize>,
    inexpressible: Vec<Unheld>,
    needs: Vec<(held::Need, Unheld)>,
    denials: Vec<Unheld>,
}

impl Deref for LsmPlan {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

/// Compiles policies that hold together, each of which must allow. Their order has no meaning, and one that is given
/// twice is there once. `id` is the plan's number in the kernel; `sets` are those of the run, to which new ones are
/// added.
///
/// # Errors
///
/// The policies do not fit the tables' limits; the error names the rules that make them large. `sets` is as before.
pub fn compile(policies: &[&Policy], id: u32, sets: &mut SetTable) -> Result<LsmPlan, CompileError> {
    let policies = distinct(policies);
    if policies.len() > MAX_AUTOMATA {
        return Err(CompileError::PoliciesTooMany { found: policies.len(), limit: MAX_AUTOMATA });
    }
    let (mut inexpressible, mut needs, mut denials) = (Vec::new(), Vec::new(), Vec::new());
    let mut laws: Vec<Policy> = Vec::new();
    for policy in policies {
        let (kept, unheld) = expressible(policy);
        needs.extend(held::needs(&kept));
        let law = express::law(kept);
        inexpressible.extend(unheld);
        denials.extend(held::denials(&law));
        laws.push(law);
    }
    let mut work = Work::new(sets.clone());
    let mut parts = Vec::new();
    for law in &laws {
        parts.push(work.part(parts.len(), law)?);
    }
    let nameless = laws.iter().fold(0, |all, law| all | nameless_deny(law));
    let header = PolicyHeader {
        id,
        kernel_allow: kernel_allow(&laws),
        nameless_deny: nameless.into(),
        names: laws.iter().any(Policy::names_hosts).into(),
        ..PolicyHeader::EMPTY
    };
    let (tables, states) = work.plan(header, parts, sets)?;
    Ok(LsmPlan { tables, states, inexpressible, needs, denials })
}

/// The policies, each once, in an order of their own.
fn distinct<'a>(policies: &[&'a Policy]) -> Vec<&'a Policy> {
    if let [policy] = policies {
        return vec![policy];
    }
    let mut by_text: Vec<(&str, String, &Policy)> =
        policies.iter().map(|policy| (policy.name(), policy.effective_yaml(), *policy)).collect();
    by_text.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    by_text.dedup_by(|a, b| (a.0, &a.1) == (b.0, &b.1));
    by_text.into_iter().map(|(_, _, policy)| policy).collect()
}

/// The names of all rules, which are numbers while a plan is made.
#[derive(Default)]
struct Names(Vec<RuleName>);

impl Names {
    fn add(&mut self, name: &RuleName) -> u32 {
        self.0.push(name.clone());
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// The heaviest rules, the heaviest first.
    fn heaviest(&self, weights: impl IntoIterator<Item = (u32, usize)>) -> Vec<RuleName> {
        let named =
            weights.into_iter().filter_map(|(rule, weight)| Some((self.0.get(rule as usize)?, weight)));
        super::heaviest(named.map(|(name, weight)| (name.clone(), weight)))
    }
}

/// One policy: what its rules on paths and on contents say.
struct Part<'a> {
    groups: Groups<'a>,
    contents: Contents,
    default_deny: u16,
    net_default_deny: u16,
}

/// A plan in the making.
struct Work<'a> {
    names: Names,
    sets: Used<'a>,
    blocks: Blocks,
    network: Network<'a>,
}

impl<'a> Work<'a> {
    fn new(sets: SetTable) -> Self {
        Self {
            names: Names::default(),
            sets: Used::new(sets),
            blocks: Blocks::new(),
            network: Network::default(),
        }
    }

    /// Collects what one policy says.
    fn part(&mut self, part: usize, policy: &'a Policy) -> Result<Part<'a>, CompileError> {
        let denied = |kind: SectionKind, default| match default {
            Decision::Allow => AccessSet::EMPTY,
            // Where nobody can be asked, nothing is allowed.
            Decision::Ask | Decision::Deny => kind.accesses(),
        };
        let files = denied(SectionKind::Files, policy.files.default);
        let exec = denied(SectionKind::Exec, policy.exec.default);
        let network = denied(SectionKind::Network, policy.network.default);
        let mut out = Part {
            groups: Groups::default(),
            contents: Contents::default(),
            default_deny: files.union(exec).path_bits(),
            net_default_deny: network.net_bits().into(),
        };
        for section in [&policy.files, &policy.exec] {
            self.paths(section, &mut out)?;
        }
        let allowed: u16 = policy.network.allowed().net_bits().into();
        for rule in &policy.network.rules {
            let default = out.net_default_deny;
            let bits = rule.accesses.net_bits().into();
            if let Some(said) = self.meaning(rule, bits, default & !allowed, default, &[])? {
                self.network.add(part, said, (&rule.objects, &rule.except), &self.names)?;
            }
        }
        Ok(out)
    }

    fn paths(&mut self, section: &'a Section<Pattern>, part: &mut Part<'a>) -> Result<(), CompileError> {
        let default = part.default_deny;
        // What a rule keeps from being executed may not be loaded either, whatever the default is.
        let implied = default & !section.allowed().path_bits() & !access::RUN;
        for rule in &section.rules {
            let bits = rule.accesses.path_bits();
            // An exception of a rule on contents is a condition on the object.
            let except = if rule.sha256.is_empty() { &[] } else { rule.except.as_slice() };
            let Some((name, meaning)) = self.meaning(rule, bits, implied, default, except)? else { continue };
            if rule.sha256.is_empty() {
                part.groups.add(meaning, &rule.objects, &rule.except, name);
            } else {
                part.contents.add(meaning, &rule.sha256, name);
            }
        }
        Ok(())
    }

    /// What a rule says, without bits that have no effect; `None` where nothing is left. `implied` are the accesses
    /// that are denied wherever the rule could deny them.
    fn meaning<O>(
        &mut self,
        rule: &'a Rule<O>,
        bits: u16,
        implied: u16,
        default: u16,
        except: &'a [Pattern],
    ) -> Result<Option<(u32, Meaning)>, CompileError> {
        let (allow, deny) = match rule.effect {
            Decision::Allow => (bits & default, 0),
            Decision::Ask | Decision::Deny => (0, bits & !implied),
        };
        if allow | deny == 0 || (rule.objects.is_empty() && rule.sha256.is_empty()) {
            return Ok(None);
        }
        let name = self.names.add(&rule.name);
        let condition = self.sets.condition(rule, name, except, &self.names)?;
        Ok(Some((name, Meaning { condition, allow, deny })))
    }

    /// Makes the tables with the rest of their header, and adds the sets to those of the run. Also says how many states
    /// each automaton for paths has.
    fn plan(
        mut self,
        mut header: PolicyHeader,
        parts: Vec<Part<'a>>,
        sets: &mut SetTable,
    ) -> Result<(Tables, Vec<usize>), CompileError> {
        let id = header.id;
        let (blocks, names) = (&mut self.blocks, &self.names);
        let defaults = parts.iter().map(|part| part.net_default_deny).collect();
        let network = self.network.compile(defaults, blocks, names)?;
        let (mut groups, mut ends, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            let of_part = part.contents.blocks(blocks, names)?;
            let needed = part.default_deny != 0 || !of_part.is_empty();
            groups.push((part.groups, needed));
            ends.push((part.default_deny, needed));
            contents.push(of_part);
        }
        let subject = subjects::compile(&self.sets, blocks, names)?;
        let paths = paths::compile(groups, blocks, names)?;
        let states = paths.iter().flatten().map(Automaton::states).collect();
        let full = |_| {
            let weights = (0..).zip(&names.0).map(|(rule, _)| (rule, 1));
            CompileError::PathsTooLarge { what: "cells", limit: MAX_CELLS, rules: names.heaviest(weights) }
        };

        let mut front = Front::new(blocks);
        let network = network.place(id, &mut front);
        let contents: Vec<Vec<_>> = contents
            .into_iter()
            .map(|part| part.into_iter().map(|(digest, block)| (digest, front.block(block))).collect())
            .collect();
        let subject_cells = front.masks(&subject, |block| subjects::mask(blocks.get(block)));
        let mut path_cells: Vec<Vec<Vec<u32>>> = Vec::new();
        for part in &paths {
            path_cells.push(part.iter().map(|automaton| front.verdicts(automaton)).collect());
        }
        let mut room = front.states();
        header.sets = self.sets.mask();
        header.subject = room.place(&subject, &subject_cells).map_err(full)?;
        network.finish(&mut room, &mut header).map_err(full)?;
        let mut digests = Vec::new();
        let mut all = Vec::new();
        for (((part, cells), (default_deny, needed)), contents) in
            paths.iter().zip(&path_cells).zip(ends).zip(contents)
        {
            let mut automata = Vec::new();
            for (automaton, cells) in part.iter().zip(cells) {
                automata.push(room.place(automaton, cells).map_err(full)?);
            }
            if automata.is_empty() && needed {
                automata.push(abi::Automaton::NONE);
            }
            let Some(last) = automata.last_mut() else { continue };
            last.last = 1;
            last.default_deny = default_deny.into();
            all.extend(automata);
            let part = u32::try_from(all.len() - 1).unwrap_or(u32::MAX);
            let key = |digest: crate::digest::Digest| DigestKey { policy: id, part, digest: digest.0 };
            digests.extend(contents.into_iter().map(|(digest, block)| (key(digest), block)));
        }
        header.automata = u32::try_from(all.len()).unwrap_or(u32::MAX);
        header.paths.iter_mut().zip(all).for_each(|(place, automaton)| *place = automaton);
        header.hashes = u32::from(!digests.is_empty());
        let tables = Tables::new(header, room.finish().map_err(full)?, network.addresses, digests);
        *sets = self.sets.into_table();
        Ok((tables, states))
    }
}

/// What is denied of objects that no rule can name. A policy that keeps anything from being executed keeps these from
/// it, since they could be a copy of it that lies nowhere; loaded they are unless the default denies loading.
fn nameless_deny(policy: &Policy) -> u16 {
    let denies = policy.exec.rules.iter().any(|rule| rule.effect != Decision::Allow && !rule.is_void());
    let by_rule = if denies { access::RUN } else { 0 };
    let closed = |default| default != Decision::Allow;
    let run = if closed(policy.exec.default) { access::RUN } else { 0 };
    let load = if closed(policy.files.default) { access::LOAD } else { 0 };
    by_rule | run | load
}

/// What the hooks let pass beyond files and addresses, as far as all policies do.
fn kernel_allow(policies: &[Policy]) -> u32 {
    policies.iter().map(kernel_allow_of).reduce(std::ops::BitAnd::bitand).unwrap_or(0)
}

/// The same for one; everything where it is on trial.
fn kernel_allow_of(policy: &Policy) -> u32 {
    if policy.mode == Mode::Audit {
        return u32::MAX;
    }
    let bits = policy.settings.kernel_allowed().iter().map(|act| match *act {
        "mount" => abi::kernel::MOUNT,
        "userns" => abi::kernel::USERNS,
        "chroot" => abi::kernel::CHROOT,
        "ptrace-own" => abi::kernel::PTRACE_OWN,
        "ptrace-any" => abi::kernel::PTRACE_ANY | abi::kernel::PTRACE_OWN,
        "bpf" => abi::kernel::BPF,
        "signal-outside" => abi::kernel::SIGNAL_OUTSIDE,
        "raw-devices" => abi::kernel::RAW_DEVICES,
        "sysctl-write" => abi::kernel::SYSCTL_WRITE,
        _ => 0,
    });
    bits.fold(0, std::ops::BitOr::bitor)
}

impl LsmPlan {
    /// How many states each automaton for paths has, the dead one included.
    pub fn states(&self) -> &[usize] {
        &self.states
    }

    /// What the policy says and layers that hold only `held` do not: accesses that a rule denies and nothing judges,
    /// rules that the tables cannot express, and what of rules needs more to be known. With any of them, enforcing
    /// the policy would be a promise that nothing keeps.
    ///
    /// A default is left out for accesses that some rule allows everywhere without exception.
    pub fn unheld(&self, held: &Held) -> Vec<Unheld> {
        let is_held = |unheld: &&Unheld| matches!(unheld.what, Unsupported::Access(access) if held.accesses.contains(access));
        let denials = self.denials.iter().filter(|unheld| !is_held(unheld));
        denials.chain(&self.inexpressible).chain(held.unmet(&self.needs)).cloned().collect()
    }
}
