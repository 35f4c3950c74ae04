//! The plan of the `lsm` layer: the tables that [`sandbox_ebpf::abi::policy`] describes.
//!
//! One automaton judges files and executables together, since the access bits tell them apart; one prefix
//! trie judges addresses. Bits that cannot change a decision (an allow under a default that allows, a deny
//! that a default implies everywhere) are left out, so that states merge. What the tables have no words for
//! ([`expressible`]) is left out too, and reported.
//!
//! [`LsmPlan::walk`] and [`LsmPlan::lookup`] read the tables exactly as the kernel side does.

mod addresses;
mod below;
mod express;
mod held;
mod minimise;
mod nfa;
mod subset;

use std::net::IpAddr;

use sandbox_ebpf::abi::policy::{self as abi, AddressKey, AddressNode, PortRange, StateVerdict};

use super::{CompileError, Unheld, Unsupported};
use crate::access::{AccessSet, SectionKind};
use crate::address::{self, Protocol};
use crate::model::{Decision, Mode, Policy};

pub use express::expressible;

/// One entry of the address trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// Length of the prefix in bits, the 32 of the slot included.
    pub prefix_len: u32,
    /// Slot and address.
    pub key: AddressKey,
    /// Which port ranges hold there.
    pub node: AddressNode,
}

/// The tables of one policy.
#[derive(Clone, Debug)]
pub struct LsmPlan {
    /// The class of each byte.
    pub classes: [u8; 256],
    /// log2 of the row width.
    pub row_shift: u32,
    /// The row to start in, multiplied already.
    pub start_row: u32,
    /// Rows of the automaton, targets multiplied already.
    pub transitions: Vec<u32>,
    /// What each state says.
    pub verdicts: Vec<StateVerdict>,
    /// Path accesses that the defaults deny.
    pub default_deny: u16,
    /// Network accesses that the default denies.
    pub net_default_deny: u8,
    /// [`abi::kernel`] bits that the policy allows.
    pub kernel_allow: u32,
    /// `abi::access` bits denied to what no directory has: code under a name that its maker chose.
    pub nameless_deny: u8,
    /// The address trie, ascending by prefix length, then address.
    pub addresses: Vec<AddressEntry>,
    /// Port ranges that its nodes name.
    pub ports: Vec<PortRange>,
    slot: u32,
    inexpressible: Vec<Unheld>,
    denials: Vec<Unheld>,
}

/// Compiles `policy` for the run in `slot`.
///
/// # Errors
///
/// The policy does not fit the tables' limits; the error names the rules that make it large.
pub fn compile(policy: &Policy, slot: u32) -> Result<LsmPlan, CompileError> {
    let denied = |kind: SectionKind, default| match default {
        Decision::Allow => AccessSet::EMPTY,
        // Where nobody can be asked, nothing is allowed.
        Decision::Ask | Decision::Deny => kind.accesses(),
    };
    let (kept, inexpressible) = expressible(policy);
    let policy = &express::law(kept);
    let files = denied(SectionKind::Files, policy.files.default);
    let exec = denied(SectionKind::Exec, policy.exec.default);
    let network = denied(SectionKind::Network, policy.network.default);
    let default_deny = files.union(exec).path_bits();
    let nfa = nfa::build(policy, default_deny);
    let automaton = minimise::minimise(&subset::determinise(&nfa)?);
    let mut automaton = automaton.check_size(&nfa)?;
    below::mark(&mut automaton, default_deny);
    let (addresses, ports) = addresses::compile(policy, slot)?;
    Ok(LsmPlan {
        classes: automaton.classes,
        row_shift: automaton.row_shift,
        start_row: automaton.start << automaton.row_shift,
        transitions: automaton.transitions(),
        verdicts: automaton.verdicts,
        default_deny,
        net_default_deny: network.net_bits(),
        nameless_deny: nameless_deny(policy, default_deny),
        kernel_allow: kernel_allow(policy),
        addresses,
        ports,
        slot,
        inexpressible,
        denials: held::denials(policy),
    })
}

/// What is denied of objects that no rule can name. A policy that keeps anything from being executed keeps these from
/// it, since they could be a copy of it that lies nowhere; loaded they are unless the default denies loading.
fn nameless_deny(policy: &Policy, default_deny: u16) -> u8 {
    let denies = policy.exec.rules.iter().any(|rule| rule.effect != Decision::Allow && !rule.is_void());
    let by_rule = if denies { abi::access::RUN } else { 0 };
    // Both bits lie in the lower byte.
    ((default_deny & (abi::access::RUN | abi::access::LOAD)) | by_rule) as u8
}

/// What the hooks let pass beyond files and addresses; everything where the policy is on trial.
fn kernel_allow(policy: &Policy) -> u32 {
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
    /// How many states the automaton has, the dead one included.
    pub fn states(&self) -> usize {
        self.verdicts.len()
    }

    /// Walks the automaton over a path.
    pub fn walk(&self, path: &[u8]) -> StateVerdict {
        self.verdicts[(self.row(path) >> self.row_shift) as usize]
    }

    fn row(&self, path: &[u8]) -> u32 {
        let mut row = self.start_row;
        for byte in path {
            let class = u32::from(self.classes[usize::from(*byte)]);
            row = self.transitions[(row + class) as usize];
        }
        row
    }

    /// Whether everything that is denied below the directory `old` is denied below `new` too, as the kernel side
    /// finds out: it may say no where the answer is yes, never the other way round.
    pub fn keeps_below(&self, old: &[u8], new: &[u8]) -> bool {
        let [old, new] = [old, new].map(|path| self.row([path, b"/"].concat().as_slice()));
        let marks = |row: u32| self.verdicts[(row >> self.row_shift) as usize].allow;
        old == new || (marks(old) & abi::below::ORDINARY != 0 && marks(new) & abi::below::STRICT != 0)
    }

    /// The file and exec accesses among `accesses` that are denied at `path`.
    pub fn denied_at(&self, accesses: AccessSet, path: &[u8]) -> AccessSet {
        let StateVerdict { allow, deny } = self.walk(path);
        AccessSet::from_path_bits(accesses.path_bits() & (deny | (self.default_deny & !allow)))
    }

    /// Looks an address up: which accesses some rule allows, and which some rule denies. Normalises nothing:
    /// the caller has made the unspecified address loopback where it connects or sends.
    pub fn lookup(&self, address: IpAddr, port: u16, protocol: Protocol) -> PortRange {
        let key = address_bytes(address);
        let longest = self.addresses.iter().rev().find(|entry| prefix_holds(entry, self.slot, key));
        let Some(AddressNode { first, count }) = longest.map(|entry| entry.node) else {
            return PortRange::default();
        };
        let ranges = &self.ports[first as usize..(first + count) as usize];
        let wanted = (protocol.abi(), port);
        // The last range that does not begin behind the port.
        let at = ranges.partition_point(|range| (range.proto, range.low) <= wanted);
        match at.checked_sub(1).map(|at| ranges[at]) {
            Some(range) if range.proto == wanted.0 && range.high >= port => range,
            _ => PortRange::default(),
        }
    }

    /// The network accesses among `accesses` that are denied, as the kernel side judges them.
    pub fn denied_to(
        &self,
        accesses: AccessSet,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
    ) -> AccessSet {
        let judge = |address, mask: u8| {
            let PortRange { allow, deny, .. } = self.lookup(address, port, protocol);
            mask & (deny | (self.net_default_deny & !allow))
        };
        let reaching = AccessSet::from_iter([crate::Access::Connect, crate::Access::Send]).net_bits();
        let wanted = accesses.net_bits();
        let bits = judge(address::reached(address), wanted & reaching)
            | judge(address::unmapped(address), wanted & !reaching);
        AccessSet::from_net_bits(bits)
    }

    /// What the policy says and a layer that judges only the accesses `held` does not hold: accesses that a
    /// rule denies and nothing judges, and rules that the tables cannot express. With any of them, enforcing
    /// the policy would be a promise that nothing keeps.
    ///
    /// A default is left out for accesses that some rule allows everywhere without exception.
    pub fn unheld(&self, held: AccessSet) -> Vec<Unheld> {
        let is_held =
            |unheld: &&Unheld| matches!(unheld.what, Unsupported::Access(access) if held.contains(access));
        let denials = self.denials.iter().filter(|unheld| !is_held(unheld));
        denials.chain(&self.inexpressible).cloned().collect()
    }
}

/// The address as the kernel side stores it: IPv4 as IPv4-mapped.
fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn prefix_holds(entry: &AddressEntry, slot: u32, address: [u8; 16]) -> bool {
    let bits = |key: [u8; 16]| u128::from_be_bytes(key);
    let different = bits(entry.key.address) ^ bits(address);
    entry.key.slot_be == slot.to_be() && different.leading_zeros() + 32 >= entry.prefix_len
}
