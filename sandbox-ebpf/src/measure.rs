//! The walk alone, to be timed where no hook can be attached. Never attached itself.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user},
    programs::RawTracePointContext,
};
use sandbox_ebpf::abi::{
    config::{MAX_SLOTS, RunConfig},
    event::PATH_MAX,
};

use crate::{
    emit::masked,
    hooks::Subject,
    maps::{HookScratch, RUN_CONFIG, SCRATCH_POOL, get, put},
    verdict::{self, Which},
};

/// Entry of the pool that is worked in.
const PLACE: u32 = 0;

/// What is measured, on the stack of the program.
struct Task {
    slot: u32,
    config: &'static RunConfig,
    scratch: *mut HookScratch,
    length: u64,
    failed: u64,
}

/// Judges, by the policy in slot `arg 0`, the path of `arg 2` bytes at `arg 1` in the caller's memory, `arg 3` times.
/// Returns how many nanoseconds that took; 0 when it did not work. Run by BPF_PROG_TEST_RUN; declared by hand, because
/// aya's macro drops what the program returns.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sandbox_measure")]
pub fn measure(ctx: *mut c_void) -> u32 {
    let ctx = RawTracePointContext::new(ctx);
    let slot: u64 = ctx.arg(0);
    let path: u64 = ctx.arg(1);
    let length: u64 = ctx.arg(2);
    let rounds: u64 = ctx.arg(3);
    if slot >= MAX_SLOTS as u64 || length >= PATH_MAX as u64 {
        return 0;
    }
    let Some(config) = RUN_CONFIG.get(slot as u32) else { return 0 };
    let Some(place) = SCRATCH_POOL.get_ptr_mut(PLACE) else { return 0 };
    // SAFETY: the pointer leads into a map value; whoever measures uses no hook meanwhile.
    let scratch = unsafe { &mut (*place).scratch };
    put(&mut scratch.walk.hashed, 0);
    let size = masked::<{ PATH_MAX as u32 - 1 }>(length as usize);
    // SAFETY: the buffer is larger; the helper checks the source.
    if unsafe { bpf_probe_read_user(scratch.path.as_mut_ptr().cast(), size as u32, path as *const _) } != 0 {
        return 0;
    }
    let mut task = Task { slot: slot as u32, config, scratch, length, failed: 0 };
    // SAFETY: the helper takes no argument.
    let begin = unsafe { bpf_ktime_get_ns() };
    // SAFETY: `again` has the signature that bpf_loop calls, and the task outlives the call.
    unsafe { bpf_loop(rounds as u32, again as *mut c_void, (&raw mut task).cast(), 0) };
    // SAFETY: the helper takes no argument.
    let end = unsafe { bpf_ktime_get_ns() };
    if task.failed != 0 { 0 } else { (end - begin) as u32 }
}

/// One more time. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn again(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `measure` gave it.
    let task = unsafe { &mut *context.cast::<Task>() };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *task.scratch };
    let subject = Subject::nobody(task.slot, task.config);
    if !verdict::judge(&subject, scratch, Which::First, task.length) {
        task.failed = 1;
    }
    (get(&scratch.walk.failed) != 0) as i64
}
