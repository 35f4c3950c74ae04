//! Verdicts: what a run's policy says about a path, an executable, an address.
//!
//! The tables are described in [`sandbox_ebpf::abi::policy`]. A look at them begins with [`Tables::of`], which holds on
//! to one policy as a whole: another one may be put in its place at any time. What a look finds stands in the
//! scratch ([`crate::maps::Walk`]), and is read from there where it is used; loops are callbacks, which the verifier
//! looks at once. What hooks ask is a function that it looks at by itself (an exported one with numbers and the scratch
//! as arguments), whatever the hook was about before.

mod network;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_map_lookup_elem};
use sandbox_ebpf::abi::{
    event::{Cause, PATH_MAX},
    policy::{
        Automaton, CELLS_PER_PAGE, DigestKey, Entry, HostLeases, MAX_AUTOMATA, MAX_ENTRIES, PolicyHeader,
        Sets, below, owner, value,
    },
};

pub use network::{address, source, told, unix, unix_opens};

use crate::{
    hooks::Subject,
    maps::{DIGESTS, HookScratch, POLICIES, Walk, get, put},
};

/// Most bytes that one callback of the walk takes.
const CHUNK: u64 = 16;

/// In `walk.hashed`: a rule names the digest.
pub const NAMED: u64 = 2;

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
    /// By which names the address that is asked about is known; null where by none.
    leases: *const HostLeases,
}

impl Tables {
    /// The policy of a run; `None` when there is none, which is a fault of the runner's.
    #[inline(always)]
    fn of(slot: u32, scratch: &mut HookScratch) -> Option<Tables> {
        let (policy, header) = policy(slot)?;
        // SAFETY: the header lies in a map value.
        put(&mut scratch.finding.policy, unsafe { (*header).id } as u64);
        let scratch: *mut HookScratch = scratch;
        // SAFETY: both are parts of map values.
        let (automaton, path) =
            unsafe { (&raw const (*header).subject, (&raw const (*scratch).path).cast()) };
        Some(Tables { policy, header, automaton, path, scratch, leases: core::ptr::null() })
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
pub fn nameless(slot: u32, scratch: &mut HookScratch) -> u64 {
    let Some((_, header)) = policy(slot) else { return u64::MAX };
    // SAFETY: the header lies in a map value.
    let (id, denied) = unsafe { ((*header).id, (*header).nameless_deny) };
    put(&mut scratch.finding.policy, id as u64);
    denied as u64
}

/// The map and the header of the policy at a slot: the one that is in force there, or [`lasting`] of it.
///
/// [`lasting`]: sandbox_ebpf::abi::policy::lasting
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

/// The page of a cell; null behind the last one.
#[inline(always)]
fn page_of(policy: *mut c_void, number: u32) -> *const [u64; CELLS_PER_PAGE] {
    // SAFETY: the map is an array of pages of this type.
    unsafe { bpf_map_lookup_elem(policy, (&raw const number).cast()) }.cast()
}

/// A chunk of the path: up to [`CHUNK`] bytes, as long as the state stays in the page that it begins in. Returns 1
/// to stop; else at least one byte was taken.
///
/// Where the walk is stands in the scratch after each byte, so that the ways out of the loop have nothing to do; and each
/// byte is one way through it, whatever its cells hold. What the next byte needs is not read back: that would take as
/// long as the step.
#[inline(never)]
unsafe extern "C" fn step(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `run` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    let (policy, automaton, path) = (tables.policy, tables.automaton, tables.path);
    let walk = &mut tables.scratch().walk;
    let number = (get(&walk.state) as u32) / CELLS_PER_PAGE as u32;
    let page = page_of(policy, number);
    if page.is_null() {
        put(&mut walk.failed, 1);
        return 1;
    }
    let length = get(&walk.length);
    let (mut state, mut at) = (get(&walk.state) as u32, get(&walk.position));
    let mut taken = 0;
    loop {
        if taken == CHUNK {
            return 0;
        }
        taken += 1;
        // SAFETY: both lead into map values.
        let wanted = state.wrapping_add(unsafe { class(automaton, path, at) } as u32);
        if wanted / CELLS_PER_PAGE as u32 != number {
            break;
        }
        // SAFETY: the masks keep the indexes inside the page.
        let (found, usual) = unsafe {
            ((*page)[wanted as usize & (CELLS_PER_PAGE - 1)], (*page)[state as usize & (CELLS_PER_PAGE - 1)])
        };
        state = chosen(state, found, usual);
        at += 1;
        put(&mut walk.state, state as u64);
        put(&mut walk.position, at);
        if state == 0 || at >= length {
            return 1;
        }
        if state / CELLS_PER_PAGE as u32 != number {
            return 0;
        }
    }
    // A byte whose cell lies in another page than its state's own.
    let (state, at) = (get(&walk.state) as u32, get(&walk.position));
    // SAFETY: both lead into map values.
    let wanted = state.wrapping_add(unsafe { class(automaton, path, at) } as u32);
    // SAFETY: the mask keeps the index inside the page.
    let usual = unsafe { (*page)[state as usize & (CELLS_PER_PAGE - 1)] };
    let Some(found) = cell(policy, wanted) else {
        put(&mut walk.failed, 1);
        return 1;
    };
    put(&mut walk.state, chosen(state, found, usual) as u64);
    put(&mut walk.position, at + 1);
    (get(&walk.state) as u32 == 0 || get(&walk.position) >= get(&walk.length)) as i64
}

/// The class of the byte of a path at this place.
///
/// # Safety
/// Both lead into map values, and behind `path` there are PATH_MAX bytes.
#[inline(always)]
unsafe fn class(automaton: *const Automaton, path: *const u8, at: u64) -> u16 {
    // SAFETY: the mask keeps the index below PATH_MAX, and a byte indexes an array of 256.
    unsafe { (*automaton).classes[*path.add(at as usize & (PATH_MAX - 1)) as usize] }
}

/// The state that a cell leads to: `found` where the state owns it, else `usual`. No branch: the verifier would follow
/// both ways of each byte.
#[inline(always)]
fn chosen(state: u32, found: u64, usual: u64) -> u32 {
    let mut mask = (owner(found) ^ state) as u64;
    // All ones where they differ; the compiler would make a branch of it. SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{mask} = -{mask}", "{mask} s>>= 63", mask = inout(reg) mask) };
    value(found ^ (found ^ usual) & mask)
}

/// Walks `tables.automaton` over the first `walk.length` bytes of `tables.path`; where it ends stands in
/// `walk.state`.
#[inline(always)]
fn run(tables: &mut Tables) {
    // SAFETY: the automaton lies in the header.
    let start = unsafe { (*tables.automaton).start };
    put(&mut tables.scratch().walk.state, start as u64);
    put(&mut tables.scratch().walk.position, 0);
    if start != 0 {
        // Each chunk takes a byte, if it does not end the walk; an empty path has none.
        let most = get(&tables.scratch().walk.length) as u32;
        // SAFETY: `step` has the signature that bpf_loop calls, and the tables outlive the call.
        unsafe { bpf_loop(most, step as *mut c_void, (&raw mut *tables).cast(), 0) };
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
    if count != 0 {
        each_entry(tables, block, count, entry);
    }
}

/// Has the entries of a block looked at by `look`, with their numbers and the tables.
#[inline(always)]
fn each_entry(
    tables: &mut Tables,
    block: u32,
    count: u32,
    look: unsafe extern "C" fn(u64, *mut c_void) -> i64,
) {
    let walk = &mut tables.scratch().walk;
    if count > MAX_ENTRIES as u32 {
        put(&mut walk.failed, 1);
        return;
    }
    put(&mut walk.entries, block as u64 + 1);
    // SAFETY: `look` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(count, look as *mut c_void, (&raw mut *tables).cast(), 0) };
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
    let (surely, perhaps) = holds(walk, entry);
    let (allow, deny) = (get(&walk.allow), get(&walk.deny));
    put(&mut walk.allow, allow | entry.allow as u64 & surely.wrapping_neg());
    put(&mut walk.deny, deny | entry.deny as u64 & perhaps.wrapping_neg());
    0
}

/// Whether an entry's conditions surely hold, and whether they may: 1 for yes. No branches.
#[inline(always)]
fn holds(walk: &Walk, entry: Entry) -> (u64, u64) {
    let has = |mask: u64, set: u8| mask >> ((set.wrapping_sub(1)) & 63) & 1;
    let none = |set: u8| zero(set as u64);
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
    (by.0 & unless.0 & under.0 & except, by.1 & unless.1 & under.1 & except)
}

/// 1 for 0, 0 for anything else below 2^63. The compiler would make a branch of it.
#[inline(always)]
fn zero(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{value} += -1", "{value} >>= 63", value = inout(reg) value) };
    value
}

/// Makes the verdict of one policy, of what its rules said so far and what its defaults deny.
#[inline(always)]
fn end_part(walk: &mut Walk, default: u64) {
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
    if !choose(tables, index) {
        return 1;
    }
    run(tables);
    let found = block(tables);
    hear(tables, found);
    // SAFETY: the automaton lies in the header.
    let (last, default) = unsafe { ((*tables.automaton).last, (*tables.automaton).default_deny) };
    if last != 0 {
        if get(&tables.scratch().walk.hashed) != 0 {
            let found = contents(tables, index);
            let walk = &mut tables.scratch().walk;
            let hashed = get(&walk.hashed);
            put(&mut walk.hashed, hashed | (found != 0) as u64 * NAMED);
            hear(tables, found);
        }
        end_part(&mut tables.scratch().walk, default as u64);
    }
    0
}

/// Makes an automaton for paths the one to be run; false where the header has no room for so many.
#[inline(always)]
fn choose(tables: &mut Tables, index: u64) -> bool {
    if index >= MAX_AUTOMATA as u64 {
        put(&mut tables.scratch().walk.failed, 1);
        return false;
    }
    let index = index as usize & (MAX_AUTOMATA - 1);
    // SAFETY: the mask keeps the index among the header's automata.
    tables.automaton = unsafe { (&raw const (*tables.header).paths).cast::<Automaton>().add(index) };
    true
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
    subject.know(&mut scratch.walk);
    judge_known(subject.slot, scratch, which as u32, length)
}

/// The same, where what is known of the process stands in the scratch already.
#[inline(always)]
pub fn judge_known(slot: u32, scratch: &mut HookScratch, which: u32, length: u64) -> bool {
    // SAFETY: the scratch is a map value.
    unsafe { judge_path(scratch, slot, which, length) == 0 }
}

/// [`judge_known`]; 0 when the tables are whole.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn judge_path(scratch: *mut HookScratch, slot: u32, which: u32, length: u64) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let Some(mut tables) = Tables::of(slot, scratch) else { return 1 };
    let scratch = tables.scratch();
    tables.path = of(scratch, which);
    begin(&mut tables, length);
    let count = tables.header().automata;
    // SAFETY: `ask` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(count, ask as *mut c_void, (&raw mut tables).cast(), 0) };
    get(&tables.scratch().walk.failed)
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
fn of(scratch: &mut HookScratch, which: u32) -> *const u8 {
    if which == Which::First as u32 { scratch.path.as_ptr() } else { scratch.second.as_ptr() }
}

/// Finds the sets that the scratch's first path, as long as `finding.length` says, belongs to: they then stand in
/// `walk.object`. Returns those that the policy knows; none when the tables are not whole.
#[inline(always)]
pub fn sets(subject: &Subject, scratch: &mut HookScratch) -> u64 {
    // SAFETY: the scratch is a map value.
    unsafe { sets_of_path(scratch, subject.slot) }
}

/// [`sets`], by the run's slot.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn sets_of_path(scratch: *mut HookScratch, slot: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    put(&mut scratch.walk.object, 0);
    let length = scratch.length();
    let Some(mut tables) = Tables::of(slot, scratch) else { return 0 };
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
/// cannot be told, by the policy at `slot`. With `exchange` the other way round too. Both paths end in a slash.
#[inline(always)]
pub fn opens(
    subject: &Subject,
    slot: u32,
    scratch: &mut HookScratch,
    lengths: [u64; 2],
    exchange: u64,
) -> u64 {
    subject.know(&mut scratch.walk);
    put(&mut scratch.walk.lengths[0], lengths[0]);
    put(&mut scratch.walk.lengths[1], lengths[1]);
    put(&mut scratch.walk.exchange, exchange);
    // SAFETY: the scratch is a map value.
    unsafe { opens_path(scratch, slot) }
}

/// [`opens`], of what stands in the scratch.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn opens_path(scratch: *mut HookScratch, slot: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let Some(mut tables) = Tables::of(slot, scratch) else { return 1 };
    begin(&mut tables, 0);
    let count = tables.header().automata;
    // SAFETY: `compare` has the signature that bpf_loop calls, and the tables outlive the call.
    unsafe { bpf_loop(count.wrapping_add(1), compare as *mut c_void, (&raw mut tables).cast(), 0) };
    get(&tables.scratch().walk.failed)
}

/// Compares where one automaton is behind the two paths; the last one is that of unix sockets, which has no marks. Returns
/// 1 to stop.
#[inline(never)]
unsafe extern "C" fn compare(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `opens` gave it.
    let tables = unsafe { &mut *context.cast::<Tables>() };
    let sockets = index >= tables.header().automata as u64;
    if sockets {
        // SAFETY: it is part of the header, which lies in a map value.
        tables.automaton = unsafe { &raw const (*tables.header).unix_path };
    } else if !choose(tables, index) {
        return 1;
    }
    behind(tables, Which::First);
    let walk = &mut tables.scratch().walk;
    let (state, marks) = (get(&walk.state), get(&walk.marks));
    put(&mut walk.first_state, state);
    put(&mut walk.first_marks, marks);
    behind(tables, Which::Second);
    let walk = &mut tables.scratch().walk;
    let (old, new) = (get(&walk.first_marks), get(&walk.marks));
    let may = |from: u64, to: u64| (from & below::ORDINARY as u64 != 0) & (to & below::STRICT as u64 != 0);
    let there = !sockets & may(old, new) & (may(new, old) | (get(&walk.exchange) == 0));
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
    tables.path = of(scratch, which as u32);
    run(tables);
    let found = block(tables);
    let marks = if found == 0 { Some(0) } else { tables.cell(found) };
    let walk = &mut tables.scratch().walk;
    match marks {
        Some(first) => put(&mut walk.marks, value(first) as u64),
        None => put(&mut walk.failed, 1),
    }
}

const _: () = assert!(MAX_AUTOMATA.is_power_of_two());
const _: () = assert!(size_of::<Sets>() == 32);
