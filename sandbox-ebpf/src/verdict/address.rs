//! What a policy says about a port of an address.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_loop, maps::lpm_trie::Key};
use sandbox_ebpf::abi::{
    event::Cause,
    policy::{AddressKey, PortRange},
};

use super::{Answer, Tables, begin, cell, hear};
use crate::maps::{ADDRESSES, HookScratch, get, put};

/// The bits of an address key: policy and address.
const ADDRESS_BITS: u32 = 32 + 128;
/// Steps of the search among a prefix's port ranges: 2^12 of them at most.
const SEARCH_STEPS: u32 = 13;

/// One halving of the search for a port. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn halve(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `address` gave it.
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

/// Judges an access to the port, protocol and address in the scratch (IPv4 as IPv4-mapped), of a process that is
/// described there.
#[inline(always)]
pub fn address(slot: u32, scratch: &mut HookScratch, access: u8) -> Answer {
    // SAFETY: the scratch is a map value.
    let failed = unsafe { judge_address(scratch, slot) };
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
unsafe extern "C" fn judge_address(scratch: *mut HookScratch, slot: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let (proto, port) = (scratch.proto() as u8, scratch.port() as u16);
    let address = scratch.finding.address;
    let Some(mut tables) = Tables::of(slot, scratch) else { return 1 };
    begin(&mut tables, 0);
    let default = tables.header().net_default_deny as u64;
    let policy_be = tables.header().id.to_be();
    let walk = &mut tables.scratch().walk;
    put(&mut walk.block, 0);
    put(&mut walk.object, 0);
    put(&mut walk.wanted, range_key(proto, port));
    let key = Key::new(ADDRESS_BITS, AddressKey { policy_be, address });
    if let Some(node) = ADDRESSES.get(&key) {
        put(&mut walk.low, node.first as u64);
        put(&mut walk.high, node.first as u64 + node.count as u64);
        // SAFETY: `halve` has the signature that bpf_loop calls, and the tables outlive the call.
        unsafe { bpf_loop(SEARCH_STEPS, halve as *mut c_void, (&raw mut tables).cast(), 0) };
    }
    let found = get(&tables.scratch().walk.block) as u32;
    if found == 0 {
        put(&mut tables.scratch().walk.denied, default);
    } else {
        hear(&mut tables, found);
    }
    get(&tables.scratch().walk.failed)
}

/// The order of port ranges: by protocol, then by port.
#[inline(always)]
fn range_key(proto: u8, port: u16) -> u64 {
    (proto as u64) << 16 | port as u64
}
