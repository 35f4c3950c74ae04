//! What the policies say about an end of a network access: an address and port, or a unix socket.
//!
//! Several sources know something of an address: the trie, the names by which it is known, and whether a listener of the
//! run is there. What they say is collected policy by policy, and only then are verdicts made.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns, helpers::generated::bpf_loop, maps::lpm_trie::Key,
};
use sandbox_ebpf::abi::{
    event::Cause,
    policy::{
        AddressKey, AddressNode, Entry, HostKey, HostLeases, MAX_LEASES, MAX_PARTS, MAX_SETS, PortRange,
        access, net_access, owner, value,
    },
};

use super::{Answer, Tables, Which, begin, block, cell, each_entry, holds, run};
use crate::maps::{ADDRESSES, HOSTS, HookScratch, Walk, get, put};

/// The bits of an address key: policy and address.
const ADDRESS_BITS: u32 = 32 + 128;
/// Steps of the search among a prefix's port ranges: 2^12 of them at most.
const SEARCH_STEPS: u32 = 13;
/// The trie, the run's own listeners, and names.
const SOURCES: u32 = 2 + MAX_LEASES as u32;

/// Which sources count, besides the trie.
pub mod source {
    /// Names by which the address is known.
    pub const NAMES: u32 = 1;
    /// The run's own listeners, and what it binds.
    pub const OWN: u32 = 2;
    /// The name that [`super::told`] has looked up, and no other.
    pub const TOLD: u32 = 4;
}

/// One halving of the search for a port. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn halve(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `ports` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    let policy = tables.policy;
    let walk = &mut tables.scratch().walk;
    let (low, high) = (get(&walk.low), get(&walk.high));
    if low >= high {
        return 1;
    }
    let middle = low + (high - low) / 2;
    let Some(cell) = cell(policy, middle as u32) else {
        put(&mut walk.failed, 1);
        return 1;
    };
    let range = PortRange::from_cell(cell);
    let wanted = get(&walk.wanted);
    if range_key(range.proto, range.high) < wanted {
        put(&mut walk.low, middle + 1);
        return 0;
    }
    if range_key(range.proto, range.low) > wanted {
        put(&mut walk.high, middle);
        return 0;
    }
    put(&mut walk.block, range.block as u64);
    1
}

/// The order of port ranges: by protocol, then by port.
#[inline(always)]
fn range_key(proto: u8, port: u16) -> u64 {
    (proto as u64) << 16 | port as u64
}

/// One source: what it says of the port. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn hear_source(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `judge_address` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    let walk = &mut tables.scratch().walk;
    let sources = get(&walk.sources) as u32;
    // One loop for both rounds: the verifier looks at it once.
    let turn = get(&walk.first) + index;
    let marking = turn < SOURCES as u64;
    put(&mut walk.marking, marking as u64);
    let index = if marking { turn } else { turn - SOURCES as u64 };
    let node = match index {
        0 => {
            let address = tables.scratch().finding.address;
            let key = Key::new(ADDRESS_BITS, AddressKey { policy_be: tables.header().id.to_be(), address });
            ADDRESSES.get(&key).copied()
        }
        1 if sources & source::OWN != 0 => Some(tables.header().own),
        1 => None,
        2 if sources & source::TOLD != 0 => Some(AddressNode::from_cell(get(&tables.scratch().walk.told))),
        _ => named(tables, index - 2),
    };
    let Some(node) = node else { return 0 };
    let walk = &mut tables.scratch().walk;
    put(&mut walk.block, 0);
    put(&mut walk.low, node.first as u64);
    put(&mut walk.high, node.first as u64 + node.count as u64);
    // SAFETY: `halve` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(SEARCH_STEPS, halve as *mut c_void, (&raw mut *tables).cast(), 0) };
    let found = get(&tables.scratch().walk.block) as u32;
    hear(tables, found);
    0
}

/// The ports of the lease of this number, if it still lives.
#[inline(always)]
fn named(tables: &mut Tables, number: u64) -> Option<AddressNode> {
    let leases = tables.leases;
    if leases.is_null() {
        return None;
    }
    // SAFETY: the leases lie in a map value; the mask keeps the index among them.
    let lease = unsafe { (*leases).leases[number as usize & (MAX_LEASES - 1)] };
    if lease.until_ns <= get(&tables.scratch().walk.now) {
        return None;
    }
    let found = tables.cell(lease.node as u32);
    if found.is_none() {
        put(&mut tables.scratch().walk.failed, 1);
    }
    found.map(AddressNode::from_cell)
}

/// Adds what a block says, policy by policy.
#[inline(always)]
fn hear(tables: &mut Tables, block: u32) {
    if block == 0 {
        return;
    }
    let Some(first) = tables.cell(block) else {
        put(&mut tables.scratch().walk.failed, 1);
        return;
    };
    let walk = &mut tables.scratch().walk;
    if get(&walk.marking) == 0 {
        say(walk, 0, value(first) as u64 & 0xffff, (value(first) >> 16) as u64);
    }
    put(&mut walk.part, 0);
    each_entry(tables, block, owner(first), entry);
}

/// Adds to what is said of one policy.
#[inline(always)]
fn say(walk: &mut Walk, part: u64, allow: u64, deny: u64) {
    let part = part as usize & (MAX_PARTS - 1);
    let (before_allow, before_deny) = (get(&walk.net_allow[part]), get(&walk.net_deny[part]));
    put(&mut walk.net_allow[part], before_allow | allow);
    put(&mut walk.net_deny[part], before_deny | deny);
}

/// An entry of the block at `walk.entries`. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn entry(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `hear` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    let policy = tables.policy;
    let walk = &mut tables.scratch().walk;
    let Some(cell) = cell(policy, (get(&walk.entries) + index) as u32) else {
        put(&mut walk.failed, 1);
        return 1;
    };
    let entry = Entry::from_cell(cell);
    let part = get(&walk.part);
    if entry.by == Entry::END {
        put(&mut walk.part, part + 1);
        return 0;
    }
    let marking = get(&walk.marking);
    if entry.by == Entry::MARK {
        let object = get(&walk.object);
        put(&mut walk.object, object | marking << (entry.allow as u64 & (MAX_SETS as u64 - 1)));
        return 0;
    }
    if marking != 0 {
        return 0;
    }
    let (surely, perhaps) = holds(walk, entry);
    let (allow, deny) = (entry.allow as u64, entry.deny as u64);
    say(walk, part, allow & surely.wrapping_neg(), deny & perhaps.wrapping_neg());
    0
}

/// Nothing was said so far.
#[inline(always)]
fn forget(walk: &mut Walk) {
    let mut part = 0;
    while part < MAX_PARTS {
        put(&mut walk.net_allow[part], 0);
        put(&mut walk.net_deny[part], 0);
        part += 1;
    }
    put(&mut walk.object, 0);
    put(&mut walk.marking, 0);
}

/// Makes the verdicts of all policies: what they deny, and what their rules do, then stands in the scratch.
#[inline(always)]
fn conclude(tables: &mut Tables) {
    let header = tables.header;
    let walk = &mut tables.scratch().walk;
    let (mut denied, mut by_rule) = (0, 0);
    let mut part = 0;
    while part < MAX_PARTS {
        // SAFETY: the header lies in a map value.
        let default = unsafe { (*header).net_defaults[part] } as u64;
        let (allow, deny) = (get(&walk.net_allow[part]), get(&walk.net_deny[part]));
        denied |= deny | (default & !allow);
        by_rule |= deny;
        part += 1;
    }
    put(&mut walk.denied, denied);
    put(&mut walk.by_rule, by_rule);
}

/// Judges an access to the port, protocol and address in the scratch (IPv4 as IPv4-mapped), of a process that is
/// described there. `sources` are bits of [`source`].
#[inline(always)]
pub fn address(slot: u32, scratch: &mut HookScratch, access: u8, sources: u32) -> Answer {
    // SAFETY: the scratch is a map value.
    let failed = unsafe { judge_address(scratch, slot, sources) };
    if failed != 0 {
        return Answer::denied(Cause::Tables);
    }
    Answer { denied: get(&scratch.walk.denied) & access as u64 != 0, cause: Cause::Policy }
}

/// Leaves what is denied at the address in the scratch in `walk.denied`; 0 when the tables are whole.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn judge_address(scratch: *mut HookScratch, slot: u32, sources: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let (proto, port) = (scratch.proto() as u8, scratch.port() as u16);
    let Some(mut tables) = Tables::of(slot, scratch) else { return 1 };
    begin(&mut tables, 0);
    let policy = tables.header().id;
    if sources & source::NAMES != 0 {
        let address = tables.scratch().finding.address;
        if let Some(leases) = HOSTS.get_ptr(HostKey { policy, address }) {
            tables.leases = leases.cast::<HostLeases>();
        }
    }
    let walk = &mut tables.scratch().walk;
    forget(walk);
    put(&mut walk.wanted, range_key(proto, port));
    put(&mut walk.sources, sources as u64);
    // SAFETY: the helper takes no argument.
    put(&mut walk.now, unsafe { bpf_ktime_get_boot_ns() });
    // First what only marks, where there is such.
    let first = if tables.header().net_marks != 0 { 0 } else { SOURCES };
    put(&mut tables.scratch().walk.first, first as u64);
    // SAFETY: `hear_source` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(2 * SOURCES - first, hear_source as *mut c_void, (&raw mut tables).cast(), 0) };
    put(&mut tables.scratch().walk.marking, 0);
    conclude(&mut tables);
    get(&tables.scratch().walk.failed)
}

/// Looks up a name, for [`source::TOLD`]: the first `length` bytes of the scratch's first path, the name's last byte
/// first. False when the tables are not whole.
#[inline(always)]
pub fn told(slot: u32, scratch: &mut HookScratch, length: u64) -> bool {
    put(&mut scratch.finding.length, length);
    // SAFETY: the scratch is a map value.
    unsafe { find_host(scratch, slot) == 0 }
}

/// [`told`], as long as `finding.length` says; 0 when the tables are whole.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn find_host(scratch: *mut HookScratch, slot: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let length = scratch.length();
    put(&mut scratch.walk.told, 0);
    let Some(mut tables) = Tables::of(slot, scratch) else { return 1 };
    begin(&mut tables, length);
    let header = tables.header;
    // SAFETY: it is a part of the header, which lies in a map value.
    tables.automaton = unsafe { &raw const (*header).host };
    run(&mut tables);
    let found = block(&mut tables);
    if found != 0 {
        match tables.cell(found) {
            Some(node) => put(&mut tables.scratch().walk.told, node),
            None => put(&mut tables.scratch().walk.failed, 1),
        }
    }
    get(&tables.scratch().walk.failed)
}

/// Judges an access to a unix socket, of a process that is described in the scratch: its path, or behind `/@` its
/// abstract name, is the first of the scratch's paths, as long as `finding.length` says. What is connected or sent to
/// may not be what a rule on files keeps from being read, either.
#[inline(always)]
pub fn unix(slot: u32, scratch: &mut HookScratch, access: u8, is_abstract: bool) -> Answer {
    // SAFETY: the scratch is a map value.
    let failed =
        unsafe { judge_unix(scratch, slot, if is_abstract { ABSTRACT } else { Which::First as u32 }) };
    if failed != 0 {
        return Answer::denied(Cause::Tables);
    }
    let reaches = access & (net_access::CONNECT | net_access::SEND) != 0;
    let file = get(&scratch.finding.gained) & (access::READ * reaches as u16) as u64;
    let denied = get(&scratch.walk.denied) & access as u64;
    Answer { denied: denied | file != 0, cause: Cause::Policy }
}

/// Whether a unix socket that is closed at the scratch's path `old` is open at its path `new`, or that cannot be told: 1
/// then. Both are in `finding.names`.
#[inline(always)]
pub fn unix_opens(slot: u32, scratch: &mut HookScratch, old: Which, new: Which) -> u64 {
    let reached = (net_access::CONNECT | net_access::SEND | net_access::LISTEN) as u64;
    // SAFETY: the scratch is a map value.
    let failed = unsafe { judge_unix(scratch, slot, old as u32) };
    let closed = get(&scratch.walk.denied) & reached;
    // SAFETY: as above.
    let failed = failed | unsafe { judge_unix(scratch, slot, new as u32) };
    let open = closed & !get(&scratch.walk.denied);
    (failed | open != 0) as u64
}

/// Instead of one of the scratch's paths: its abstract name.
const ABSTRACT: u32 = 2;

/// Leaves what is denied at the unix socket in the scratch in `walk.denied`, and in `finding.gained` which accesses to
/// its file some rule denies; 0 when the tables are whole.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn judge_unix(scratch: *mut HookScratch, slot: u32, name: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let is_abstract = name == ABSTRACT;
    // SAFETY: the mask keeps the index below two.
    let of_path = unsafe { get(&(*scratch.finding.names.as_ptr().add(name as usize & 1)).length) };
    let length = if is_abstract { scratch.length() } else { of_path };
    put(&mut scratch.finding.gained, 0);
    if !is_abstract {
        put(&mut scratch.walk.hashed, 0);
        if !super::judge_known(slot, scratch, name, length) {
            return 1;
        }
        let by_rule = get(&scratch.walk.by_rule);
        put(&mut scratch.finding.gained, by_rule);
    }
    let Some(mut tables) = Tables::of(slot, scratch) else { return 1 };
    begin(&mut tables, length);
    forget(&mut tables.scratch().walk);
    if !is_abstract {
        tables.path = super::of(tables.scratch(), name);
    }
    let header = tables.header;
    // SAFETY: both are parts of the header, which lies in a map value.
    tables.automaton = unsafe {
        if is_abstract { &raw const (*header).unix_abstract } else { &raw const (*header).unix_path }
    };
    run(&mut tables);
    let found = block(&mut tables);
    hear(&mut tables, found);
    conclude(&mut tables);
    get(&tables.scratch().walk.failed)
}

const _: () = assert!(MAX_LEASES.is_power_of_two());
const _: () = assert!(MAX_PARTS.is_power_of_two());
