//! Sequence numbers, the header's common part, and the way into the ring buffer.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid, bpf_ktime_get_ns,
        bpf_ringbuf_output, bpf_ringbuf_query, generated::bpf_get_current_comm,
    },
};
use sandbox_ebpf::abi::{
    config::RunCounters,
    event::{HEADER_SIZE, Header},
};

use crate::{
    maps::{EVENTS, RUN_COUNTERS},
    offsets::{self, field},
};

/// Bytes waiting in the ring above which the collector is woken at once; below it looks by itself.
const WAKE_AT: u64 = 1 << 20;

/// Adds one to a counter of a run and returns the new value.
#[inline(always)]
pub fn increment(slot: u32, counter: impl FnOnce(*mut RunCounters) -> *mut u64) -> u64 {
    let Some(counters) = RUN_COUNTERS.get_ptr_mut(slot) else { return 0 };
    let counter = counter(counters);
    let mut value = 1u64;
    // SAFETY: the pointer leads into a map value. Core has no fetch_add for this target, the machine has.
    unsafe {
        core::arch::asm!("{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            counter = in(reg) counter, value = inout(reg) value);
    }
    value + 1
}

macro_rules! counter {
    ($slot:expr, $field:ident) => {
        // SAFETY: only the field's address is taken.
        $crate::emit::increment($slot, |counters| unsafe { &raw mut (*counters).$field })
    };
}
pub(crate) use counter;

/// Puts a value into a word of a map and returns what was there, in one step.
///
/// # Safety
/// `word` must lead into a map value.
#[inline(always)]
pub unsafe fn swap(word: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: the caller's promise. Core has no atomic swap for this target, the machine has.
    unsafe {
        core::arch::asm!("{value} = xchg_64({word} + 0, {value})", word = in(reg) word, value = inout(reg) value);
    }
    value
}

/// The next sequence number of a run.
#[inline(always)]
pub fn next_kseq(slot: u32) -> u64 {
    counter!(slot, kseq)
}

/// Fills in who acts, and when. The rest of the header becomes zero.
#[inline(always)]
pub fn fill(header: &mut Header, kind: u8, slot: u32, kseq: u64) {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    clear(header);
    header.kseq = kseq;
    header.slot = slot;
    header.kind = kind;
    // SAFETY: as above.
    header.mono_ns = unsafe { bpf_ktime_get_ns() };
    let ids = bpf_get_current_pid_tgid();
    header.pid = (ids >> 32) as u32;
    header.tid = ids as u32;
    header.uid = bpf_get_current_uid_gid() as u32;
    let leader: u64 = field(task, &offsets::TASK_GROUP_LEADER);
    header.start_ns = field(leader, &offsets::TASK_START_BOOTTIME);
    let parent: u64 = field(task, &offsets::TASK_REAL_PARENT);
    header.ppid = field(parent, &offsets::TASK_TGID);
    // SAFETY: the helper writes as many bytes as there are, zeros on a fault.
    unsafe { bpf_get_current_comm((&raw mut header.comm).cast(), size_of_val(&header.comm) as u32) };
}

/// Zeros in words: the compiler's own way is a loop over the bytes.
#[inline(always)]
fn clear(header: &mut Header) {
    let words: *mut u64 = (&raw mut *header).cast();
    let mut index = 0;
    while index < HEADER_SIZE / 8 {
        // SAFETY: a header is that many aligned words, and zeros are one. Volatile: else it is that loop again.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}

const _: () = assert!(HEADER_SIZE == size_of::<Header>() && HEADER_SIZE.is_multiple_of(8));

/// How soon the collector should look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// When it next looks, or when the ring fills.
    Usual,
    /// Now.
    Now,
}

/// Puts a header and the `length` bytes behind it into the ring; false when there is no room. `length` is at
/// most `MASK`, one less than a power of two.
///
/// `record` points to memory that holds the header and at least `MASK` bytes behind it.
#[inline(always)]
pub fn send<const MASK: u32>(record: *const Header, length: usize, urgency: Urgency) -> bool {
    let length = masked::<MASK>(length);
    let ring = &raw const EVENTS as *mut core::ffi::c_void;
    // SAFETY: the map is this object's ring buffer.
    let waiting = unsafe { bpf_ringbuf_query(ring, 0) };
    let flags =
        if urgency == Urgency::Now || waiting > WAKE_AT { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // SAFETY: `record` is valid for the header and `length` bytes; the verifier proves it.
    unsafe { bpf_ringbuf_output(ring, record as *mut _, (HEADER_SIZE + length) as u64, flags as u64) == 0 }
}

/// `value & MASK`, such that the verifier sees the bound on the very register that is used: a comparison, or
/// an `&` that the compiler thinks it can leave out, may end up on a copy.
#[inline(always)]
pub fn masked<const MASK: u32>(value: usize) -> usize {
    let mut value = value;
    // SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK) };
    value
}
