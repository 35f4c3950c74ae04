//! Verdicts: what a run's policy says about a path, an executable, an address.
//!
//! The tables are described in [`sandbox_ebpf::abi::policy`]. A look at them begins with [`Tables::of`], which holds on
//! to one policy as a whole: another one may be put in its place at any time. What a look finds stands in the
//! scratch ([`crate::maps::Walk`]), and is read from there where it is used; loops are callbacks, which the verifier
//! looks at once.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_loop, bpf_map_lookup_elem},
    maps::lpm_trie::Key,
};
use sandbox_ebpf::abi::{
    event::{Cause, PATH_MAX},
    policy::{
        AddressKey, Automaton, CELLS_PER_PAGE, DigestKey, Entry, MAX_AUTOMATA, MAX_ENTRIES, PolicyHeader,
        PortRange, Sets, below, owner, value,
    },
};

use crate::{
    hooks::Subject,
    maps::{ADDRESSES, DIGESTS, HookScratch, POLICIES, get, put},
};

/// Bytes that one callback of the walk takes.
const CHUNK: u64 = 16;
/// The bits of an address key: policy and address.
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

/// Which of the scratch's two paths.
#[derive(Clone, Copy)]
pub enum Which {
    First = 0,
    Second = 1,
}

/// A policy that is being looked at; lives on the stack of the program that judges, as a map's own pointer can live
/// nowhere else.
pub struct Tables {
    /// The policy's map.
    policy: *mut c_void,
    header: *const PolicyHeader,
    automaton: *const Automaton,
    path: *const u8,
    scratch: *mut HookScratch,
}

impl Tables {
    /// The policy of a run; `None` when there is none, which is a fault of the runner's.
    #[inline(always)]
    pub fn of(subject: &Subject, scratch: &mut HookScratch) -> Option<Tables> {
        let (policy, header) = policy(subject.slot)?;
        subject.know(&mut scratch.walk);
        // SAFETY: the header lies in a map value.
        put(&mut scratch.finding.policy, unsafe { (*header).id } as u64);
        let scratch: *mut HookScratch = scratch;
        // SAFETY: both are parts of map values.
        let (automaton, path) =
            unsafe { (&raw const (*header).subject, (&raw const (*scratch).path).cast()) };
        Some(Tables { policy, header, automaton, path, scratch })
    }

    #[inline(always)]
    fn header(&self) -> &PolicyHeader {
        // SAFETY: the header was looked up, and lies in a map value.
        unsafe { &*self.header }
    }

    #[inline(always)]
    fn scratch(&mut self) -> &mut HookScratch {
        // SAFETY: the scratch is a map value that this program works in alone.
        unsafe { &mut *self.scratch }
    }

    /// The cell of this number; `None` behind the last page.
    #[inline(always)]
    fn cell(&self, number: u32) -> Option<u64> {
        cell(self.policy, number)
    }
}

/// The accesses that are denied to what no rule can name.
#[inline(always)]
pub fn nameless(subject: &Subject, scratch: &mut HookScratch) -> u64 {
    let Some((_, header)) = policy(subject.slot) else { return u64::MAX };
    // SAFETY: the header lies in a map value.
    let (id, denied) = unsafe { ((*header).id, (*header).nameless_deny) };
    put(&mut scratch.finding.policy, id as u64);
    denied as u64
}

/// The map and the header of the policy in force for a slot.
#[inline(always)]
pub fn policy(slot: u32) -> Option<(*mut c_void, *const PolicyHeader)> {
    let policy: *mut c_void = (&raw const *POLICIES.get(slot)?).cast_mut().cast();
    let first = 0u32;
    // SAFETY: the inner map is an array of pages.
    let page = unsafe { bpf_map_lookup_elem(policy, (&raw const first).cast()) };
    if page.is_null() { None } else { Some((policy, page.cast())) }
}

#[inline(always)]
fn cell(policy: *mut c_void, number: u32) -> Option<u64> {
    let page = number / CELLS_PER_PAGE as u32;
    // SAFETY: the map is an array of pages of this type.
    let page =
        unsafe { bpf_map_lookup_elem(policy, (&raw const page).cast()) } as *const [u64; CELLS_PER_PAGE];
    if page.is_null() {
        return None;
    }
    // SAFETY: the mask keeps the index inside the page.
    Some(unsafe { (*page)[number as usize & (CELLS_PER_PAGE - 1)] })
}

/// The page that was looked at last: most steps stay in it, and looking one up costs more than the step.
#[derive(Clone, Copy)]
struct Page {
    number: u32,
    cells: *const [u64; CELLS_PER_PAGE],
}

impl Page {
    /// The page of a cell.
    #[inline(always)]
    fn of(policy: *mut c_void, cell: u32) -> Option<Page> {
        let number = cell / CELLS_PER_PAGE as u32;
        // SAFETY: the map is an array of pages of this type.
        let cells = unsafe { bpf_map_lookup_elem(policy, (&raw const number).cast()) };
        if cells.is_null() { None } else { Some(Page { number, cells: cells.cast() }) }
    }

    /// A cell, of this page or of the one that it becomes.
    #[inline(always)]
    fn cell(&mut self, policy: *mut c_void, cell: u32) -> Option<u64> {
        if cell / CELLS_PER_PAGE as u32 != self.number {
            *self = Page::of(policy, cell)?;
        }
        // SAFETY: the mask keeps the index inside the page.
        Some(unsafe { (*self.cells)[cell as usize & (CELLS_PER_PAGE - 1)] })
    }
}

/// A chunk of the path. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn step(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `run` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    let (policy, automaton, path) = (tables.policy, tables.automaton, tables.path);
    let walk = &mut tables.scratch().walk;
    let begin = index * CHUNK;
    let length = get(&walk.length);
    let mut state = get(&walk.state) as u32;
    let Some(mut page) = Page::of(policy, state) else {
        put(&mut walk.failed, 1);
        return 1;
    };
    let mut offset = 0;
    while offset < CHUNK {
        let at = begin + offset;
        if at >= length {
            break;
        }
        // SAFETY: the mask keeps the index below PATH_MAX, and so many bytes are there.
        let byte = unsafe { *path.add(at as usize & (PATH_MAX - 1)) };
        // SAFETY: a byte indexes an array of 256.
        let class = unsafe { (*automaton).classes[byte as usize] };
        let Some(mut found) = page.cell(policy, state.wrapping_add(class as u32)) else {
            put(&mut walk.failed, 1);
            return 1;
        };
        if owner(found) != state {
            match page.cell(policy, state) {
                Some(usual) => found = usual,
                None => {
                    put(&mut walk.failed, 1);
                    return 1;
                }
            }
        }
        state = value(found);
        if state == 0 {
            break;
        }
        offset += 1;
    }
    put(&mut walk.state, state as u64);
    (offset < CHUNK) as i64
}

/// Walks `tables.automaton` over the first `walk.length` bytes of `tables.path`; where it ends stands in
/// `walk.state`.
#[inline(always)]
fn run(tables: &mut Tables) {
    // SAFETY: the automaton lies in the header.
    let start = unsafe { (*tables.automaton).start };
    put(&mut tables.scratch().walk.state, start as u64);
    if start != 0 {
        let chunks = get(&tables.scratch().walk.length).div_ceil(CHUNK) as u32;
        // SAFETY: `step` has the signature that bpf_loop calls, and the tables outlive the call.
        unsafe { bpf_loop(chunks, step as *mut c_void, (&raw mut *tables).cast(), 0) };
    }
}

/// The number of the verdict block of the state that [`run`] ended in; 0 says nothing.
#[inline(always)]
fn block(tables: &mut Tables) -> u32 {
    let state = get(&tables.scratch().walk.state) as u32;
    if state == 0 {
        // SAFETY: the automaton lies in the header.
        return unsafe { (*tables.automaton).dead };
    }
    match tables.cell(state.wrapping_add(1)) {
        Some(cell) if owner(cell) == state => value(cell),
        _ => {
            put(&mut tables.scratch().walk.failed, 1);
            0
        }
    }
}

/// Adds what a verdict block says.
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
    let (allow, deny) = (get(&walk.allow), get(&walk.deny));
    put(&mut walk.allow, allow | (value(first) & 0xffff) as u64);
    put(&mut walk.deny, deny | (value(first) >> 16) as u64);
    let count = owner(first);
    if count == 0 {
        return;
    }
    if count > MAX_ENTRIES as u32 {
        put(&mut walk.failed, 1);
        return;
    }
    put(&mut walk.entries, block as u64 + 1);
    // SAFETY: `entry` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(count, entry as *mut c_void, (&raw mut *tables).cast(), 0) };
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
    if entry.by == Entry::END {
        end_part(walk, entry.deny as u64);
        return 0;
    }
    // No branches: conditions as bits, 1 where they hold.
    let has = |mask: u64, set: u8| mask >> ((set.wrapping_sub(1)) & 63) & 1;
    let none = |set: u8| (set == 0) as u64;
    let by = (none(entry.by) | has(walk.sure_own, entry.by), none(entry.by) | has(walk.may_own, entry.by));
    let unless = (
        none(entry.unless_by) | (has(walk.may_own, entry.unless_by) ^ 1),
        none(entry.unless_by) | (has(walk.sure_own, entry.unless_by) ^ 1),
    );
    let under = (
        none(entry.under) | has(walk.sure_line, entry.under),
        none(entry.under) | has(walk.may_line, entry.under),
    );
    // What the object is, is always known.
    let except = none(entry.except) | (has(walk.object, entry.except) ^ 1);
    let surely = by.0 & unless.0 & under.0 & except;
    let perhaps = by.1 & unless.1 & under.1 & except;
    let (allow, deny) = (get(&walk.allow), get(&walk.deny));
    put(&mut walk.allow, allow | entry.allow as u64 & surely.wrapping_neg());
    put(&mut walk.deny, deny | entry.deny as u64 & perhaps.wrapping_neg());
    0
}

/// Makes the verdict of one policy, of what its rules said so far and what its defaults deny.
#[inline(always)]
fn end_part(walk: &mut crate::maps::Walk, default: u64) {
    let (allow, deny) = (get(&walk.allow), get(&walk.deny));
    let (denied, by_rule) = (get(&walk.denied), get(&walk.by_rule));
    put(&mut walk.denied, denied | deny | (default & !allow));
    put(&mut walk.by_rule, by_rule | deny);
    put(&mut walk.allow, 0);
    put(&mut walk.deny, 0);
}

/// Asks one automaton. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn ask(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `judge` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    choose(tables, index);
    run(tables);
    let found = block(tables);
    hear(tables, found);
    // SAFETY: the automaton lies in the header.
    let (last, default) = unsafe { ((*tables.automaton).last, (*tables.automaton).default_deny) };
    if last != 0 {
        if get(&tables.scratch().walk.hashed) != 0 {
            let found = contents(tables, index);
            hear(tables, found);
        }
        end_part(&mut tables.scratch().walk, default as u64);
    }
    0
}

/// Makes an automaton for paths the one to be run.
#[inline(always)]
fn choose(tables: &mut Tables, index: u64) {
    let index = index as usize & (MAX_AUTOMATA - 1);
    // SAFETY: the mask keeps the index among the header's automata.
    tables.automaton = unsafe { (&raw const (*tables.header).paths).cast::<Automaton>().add(index) };
}

/// The verdict block of the digest in the scratch, in the part that ends with this automaton; 0 where there is none.
#[inline(always)]
fn contents(tables: &mut Tables, index: u64) -> u32 {
    let policy = tables.header().id;
    let key = DigestKey { policy, part: index as u32, digest: tables.scratch().digest };
    DIGESTS.get_ptr(key).map_or(0, |block| {
        // SAFETY: the pointer leads into a map value.
        unsafe { *block }
    })
}

/// Judges one of the scratch's paths: which accesses are denied there then stands in `walk.denied`, those that a rule
/// denies in `walk.by_rule`. False when the tables are not whole.
#[inline(always)]
pub fn judge(subject: &Subject, scratch: &mut HookScratch, which: Which, length: u64) -> bool {
    let Some(mut tables) = Tables::of(subject, scratch) else { return false };
    let scratch = tables.scratch();
    tables.path = of(scratch, which);
    begin(&mut tables, length);
    let count = tables.header().automata;
    // SAFETY: `ask` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(count, ask as *mut c_void, (&raw mut tables).cast(), 0) };
    get(&tables.scratch().walk.failed) == 0
}

#[inline(always)]
fn begin(tables: &mut Tables, length: u64) {
    let walk = &mut tables.scratch().walk;
    for cell in [&mut walk.failed, &mut walk.allow, &mut walk.deny, &mut walk.denied, &mut walk.by_rule] {
        put(cell, 0);
    }
    put(&mut walk.length, length);
}

#[inline(always)]
fn of(scratch: &mut HookScratch, which: Which) -> *const u8 {
    match which {
        Which::First => scratch.path.as_ptr(),
        Which::Second => scratch.second.as_ptr(),
    }
}

/// Finds the sets that the scratch's first path, as long as `finding.length` says, belongs to: they then stand in
/// `walk.object`. Returns those that the policy knows; none when the tables are not whole.
#[inline(always)]
pub fn sets(subject: &Subject, scratch: &mut HookScratch) -> u64 {
    put(&mut scratch.walk.object, 0);
    let length = scratch.length();
    let Some(mut tables) = Tables::of(subject, scratch) else { return 0 };
    begin(&mut tables, length);
    run(&mut tables);
    let found = block(&mut tables);
    let known = tables.header().sets;
    if found != 0 {
        match tables.cell(found) {
            Some(mask) => put(&mut tables.scratch().walk.object, mask),
            None => put(&mut tables.scratch().walk.failed, 1),
        }
    }
    if get(&tables.scratch().walk.failed) == 0 { known } else { 0 }
}

/// Whether everything that is denied below the scratch's first path is denied below the second: 1 where it is not, or
/// cannot be told. With `exchange` the other way round too. Both paths end in a slash.
#[inline(always)]
pub fn opens(subject: &Subject, scratch: &mut HookScratch, lengths: [u64; 2], exchange: u64) -> u64 {
    let Some(mut tables) = Tables::of(subject, scratch) else { return 1 };
    begin(&mut tables, 0);
    let walk = &mut tables.scratch().walk;
    put(&mut walk.lengths[0], lengths[0]);
    put(&mut walk.lengths[1], lengths[1]);
    put(&mut walk.exchange, exchange);
    let count = tables.header().automata;
    // SAFETY: `compare` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(count, compare as *mut c_void, (&raw mut tables).cast(), 0) };
    get(&tables.scratch().walk.failed)
}

/// Compares where one automaton is behind the two paths. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn compare(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `opens` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    choose(tables, index);
    behind(tables, Which::First);
    let walk = &mut tables.scratch().walk;
    let (state, marks) = (get(&walk.state), get(&walk.marks));
    put(&mut walk.first_state, state);
    put(&mut walk.first_marks, marks);
    behind(tables, Which::Second);
    let walk = &mut tables.scratch().walk;
    let (old, new) = (get(&walk.first_marks), get(&walk.marks));
    let may = |from: u64, to: u64| (from & below::ORDINARY as u64 != 0) & (to & below::STRICT as u64 != 0);
    let there = may(old, new) & (may(new, old) | (get(&walk.exchange) == 0));
    if !(there | (get(&walk.first_state) == get(&walk.state))) {
        put(&mut walk.failed, 1);
    }
    (get(&walk.failed) != 0) as i64
}

/// Leaves the state behind a path in `walk.state`, and its marks in `walk.marks`.
#[inline(always)]
fn behind(tables: &mut Tables, which: Which) {
    let scratch = tables.scratch();
    let length = get(&scratch.walk.lengths[which as usize]);
    put(&mut scratch.walk.length, length);
    tables.path = of(scratch, which);
    run(tables);
    let found = block(tables);
    let marks = if found == 0 { Some(0) } else { tables.cell(found) };
    let walk = &mut tables.scratch().walk;
    match marks {
        Some(first) => put(&mut walk.marks, value(first) as u64),
        None => put(&mut walk.failed, 1),
    }
}

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

/// Judges `access` to a port of an address (IPv4 as IPv4-mapped).
#[inline(always)]
pub fn address(
    subject: &Subject,
    scratch: &mut HookScratch,
    address: [u8; 16],
    port: u16,
    proto: u8,
    access: u8,
) -> Answer {
    let Some(mut tables) = Tables::of(subject, scratch) else { return Answer::denied(Cause::Tables) };
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
    let walk = &tables.scratch().walk;
    if get(&walk.failed) != 0 {
        return Answer::denied(Cause::Tables);
    }
    Answer { denied: get(&walk.denied) & access as u64 != 0, cause: Cause::Policy }
}

/// The order of port ranges: by protocol, then by port.
#[inline(always)]
fn range_key(proto: u8, port: u16) -> u64 {
    (proto as u64) << 16 | port as u64
}

const _: () = assert!(MAX_AUTOMATA.is_power_of_two());
const _: () = assert!(size_of::<Sets>() == 32);
