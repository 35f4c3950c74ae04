//! Verdicts: the path automaton, the address trie, and how a run's mode turns what they say into an answer.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_loop, maps::lpm_trie::Key};
use sandbox_ebpf::abi::{
    config::RunConfig,
    event::{Cause, PATH_MAX},
    policy::{AddressKey, PORTS_PER_PAGE, PortRange, StateVerdict, TRANSITIONS_PER_PAGE, VERDICTS_PER_PAGE},
};

use crate::maps::{ADDRESSES, CLASSES, PORTS, TRANSITIONS, VERDICTS};

/// Bytes that one callback of the walk takes.
const CHUNK: u64 = 16;
/// The bits of an address key: slot and address.
const ADDRESS_BITS: u32 = 32 + 128;
/// Steps of the search among a prefix's port ranges: 2^12 of them at most.
const SEARCH_STEPS: u32 = 13;

/// What a policy says about an attempt.
#[derive(Clone, Copy)]
pub struct Answer {
    pub denied: bool,
    pub cause: Cause,
}

impl Answer {
    pub const ALLOWED: Answer = Answer { denied: false, cause: Cause::Policy };

    #[inline(always)]
    pub fn denied(cause: Cause) -> Answer {
        Answer { denied: true, cause }
    }
}

/// A walk over a path, under way; lives on the stack of the program that judges.
struct Walk {
    classes: *const [u8; 256],
    path: *const u8,
    length: u64,
    row: u64,
    failed: u64,
}

/// A chunk of the path. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn step(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `path` gave it.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    let begin = index * CHUNK;
    let mut offset = 0;
    while offset < CHUNK {
        let at = begin + offset;
        if at >= walk.length {
            return 1;
        }
        // SAFETY: the mask keeps the index below PATH_MAX, and so many bytes are there.
        let byte = unsafe { *walk.path.add(at as usize & (PATH_MAX - 1)) };
        // SAFETY: a byte indexes an array of 256.
        let class = unsafe { (*walk.classes)[byte as usize] } as u64;
        let cell = walk.row + class;
        let Some(page) = TRANSITIONS.get((cell / TRANSITIONS_PER_PAGE as u64) as u32) else {
            walk.failed = 1;
            return 1;
        };
        walk.row = page[cell as usize & (TRANSITIONS_PER_PAGE - 1)] as u64;
        if walk.row == 0 {
            return 1;
        }
        offset += 1;
    }
    0
}

/// Where the automaton is after a path.
#[derive(Clone, Copy)]
pub struct State {
    pub row: u64,
    pub verdict: StateVerdict,
}

impl State {
    /// The accesses that the policy denies there, beside bits that are none.
    #[inline(always)]
    pub fn denied(&self, config: &RunConfig) -> u16 {
        self.verdict.deny | (config.default_deny & !self.verdict.allow)
    }
}

/// The state after the `length` bytes of a path; `None` when the tables are not whole. `path` points to at least
/// PATH_MAX bytes.
#[inline(always)]
pub fn state(config: &RunConfig, slot: u32, path: *const u8, length: usize) -> Option<State> {
    let classes = CLASSES.get_ptr(slot)?;
    let mut walk = Walk { classes, path, length: length as u64, row: config.start_row as u64, failed: 0 };
    // SAFETY: `step` has the signature that bpf_loop calls, and `walk` outlives the call.
    unsafe {
        bpf_loop((length as u64).div_ceil(CHUNK) as u32, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    let state = walk.row >> (config.row_shift & 15);
    let page = VERDICTS.get((state / VERDICTS_PER_PAGE as u64) as u32)?;
    if walk.failed != 0 {
        return None;
    }
    Some(State { row: walk.row, verdict: page[state as usize & (VERDICTS_PER_PAGE - 1)] })
}

/// A search among the port ranges of a prefix, under way; lives on the stack of the program that judges.
struct Search {
    low: u64,
    high: u64,
    wanted: u64,
    allow: u64,
    deny: u64,
    failed: u64,
}

/// One halving. Returns 1 to stop. A callback, not a loop: the verifier looks at it once, where it would follow
/// a loop's branches through every combination.
#[inline(never)]
unsafe extern "C" fn halve(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `address` gave it.
    let search = unsafe { &mut *context.cast::<Search>() };
    if search.low >= search.high {
        return 1;
    }
    let middle = search.low + (search.high - search.low) / 2;
    let Some(range) = port_range(middle as u32) else {
        search.failed = 1;
        return 1;
    };
    if range_key(range.proto, range.high) < search.wanted {
        search.low = middle + 1;
        return 0;
    }
    if range_key(range.proto, range.low) > search.wanted {
        search.high = middle;
        return 0;
    }
    search.allow = range.allow as u64;
    search.deny = range.deny as u64;
    1
}

/// Judges `access` to a port of an address (IPv4 as IPv4-mapped).
#[inline(always)]
pub fn address(config: &RunConfig, slot: u32, address: [u8; 16], port: u16, proto: u8, access: u8) -> Answer {
    let key = Key::new(ADDRESS_BITS, AddressKey { slot_be: slot.to_be(), address });
    let mut search = Search { low: 0, high: 0, wanted: range_key(proto, port), allow: 0, deny: 0, failed: 0 };
    if let Some(node) = ADDRESSES.get(&key) {
        search.low = node.first as u64;
        search.high = node.first as u64 + node.count as u64;
        // SAFETY: `halve` has the signature that bpf_loop calls, and `search` outlives the call.
        unsafe { bpf_loop(SEARCH_STEPS, halve as *mut c_void, (&raw mut search).cast(), 0) };
    }
    if search.failed != 0 {
        return Answer::denied(Cause::Tables);
    }
    let denied = access & (search.deny as u8 | (config.net_default_deny & !(search.allow as u8)));
    Answer { denied: denied != 0, cause: Cause::Policy }
}

/// The order of port ranges: by protocol, then by port.
#[inline(always)]
fn range_key(proto: u8, port: u16) -> u64 {
    (proto as u64) << 16 | port as u64
}

#[inline(always)]
fn port_range(index: u32) -> Option<PortRange> {
    let page = PORTS.get(index / PORTS_PER_PAGE as u32)?;
    Some(page[index as usize & (PORTS_PER_PAGE - 1)])
}
