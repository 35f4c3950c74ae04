//! Where an entry is found that a hook was given without a mount: at each mount of the task's namespace that shows
//! it. A file may be shown in several places (bind mounts); what is denied at one of them is denied.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_loop};
use sandbox_ebpf::abi::{event::Cause, offsets::ABSENT};

use super::{
    Subject,
    names::{self, Which, outcome},
};
use crate::{
    maps::{HookScratch, PLACES, get, put},
    offsets::{self, field, value},
};

/// Most mounts of one superblock that are looked at, in whatever namespace they are.
const MOUNTS: u32 = 8192;
/// Most steps from an entry up to a mount's root.
const STEPS: u32 = 2200;
/// `SB_KERNMOUNT` (include/linux/fs.h): the kernel's own file systems, of memfds, pipes and sockets.
const KERNEL_MOUNT: u64 = 1 << 22;

/// How a search ended.
pub mod end {
    /// It did not: a list that is too long, or changed under the search.
    pub const NONE: u64 = 0;
    /// All mounts were seen.
    pub const ALL: u64 = 1;
    /// There are more places than [`super::PLACES`].
    pub const TOO_MANY: u64 = 2;
}

/// One mount of the superblock. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn look(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `find` gave it: a pointer to the scratch, on its stack.
    let scratch = unsafe { &mut **context.cast::<*mut HookScratch>() };
    let next = scratch.places.next;
    if next == scratch.places.last {
        scratch.places.end = end::ALL;
        return 1;
    }
    if next == 0 {
        return 1;
    }
    let mount = if is_list() { next.wrapping_sub(value(&offsets::MOUNT_INSTANCE) as u64) } else { next };
    scratch.places.next = if is_list() {
        field(mount, &offsets::MOUNT_INSTANCE)
    } else {
        field(mount, &offsets::MOUNT_NEXT_FOR_SB)
    };
    if field::<u64>(mount, &offsets::MOUNT_NS) != scratch.places.namespace {
        return 0;
    }
    scratch.places.root = field(mount + value(&offsets::MOUNT_MNT) as u64, &offsets::VFSMOUNT_ROOT);
    scratch.places.above = scratch.places.dentry;
    scratch.places.reached = 0;
    let mut inner: *mut HookScratch = scratch;
    // SAFETY: `ascend` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(STEPS, ascend as *mut c_void, (&raw mut inner).cast(), 0) };
    if get(&scratch.places.reached) == 0 {
        return 0;
    }
    let count = get(&scratch.places.count);
    if count >= PLACES as u64 {
        scratch.places.end = end::TOO_MANY;
        return 1;
    }
    // SAFETY: the mask keeps the index below PLACES.
    unsafe { *scratch.places.mounts.as_mut_ptr().add(count as usize & (PLACES - 1)) = mount };
    put(&mut scratch.places.count, count + 1);
    0
}

/// One step up towards a mount's root. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn ascend(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: as in `look`.
    let scratch = unsafe { &mut **context.cast::<*mut HookScratch>() };
    let dentry = scratch.places.above;
    if dentry == scratch.places.root {
        scratch.places.reached = 1;
        return 1;
    }
    let parent: u64 = field(dentry, &offsets::DENTRY_PARENT);
    if parent == dentry || parent == 0 {
        return 1;
    }
    scratch.places.above = parent;
    0
}

/// Whether a superblock's mounts are a list; else a chain.
#[inline(always)]
fn is_list() -> bool {
    value(&offsets::MOUNT_INSTANCE) as u64 != ABSENT
}

/// Finds the places of `dentry` and looks them up until one denies some of `wanted`. `finding.names[0]` and the
/// path in the scratch are those of that place, else of the oldest mount; what is denied stands in `finding.denied`.
/// False where the object is the run's own.
#[inline(always)]
pub fn judge(scratch: &mut HookScratch, dentry: u64, wanted: u16) -> bool {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let namespaces: u64 = field(task, &offsets::TASK_NSPROXY);
    let superblock: u64 = field(dentry, &offsets::DENTRY_SB);
    scratch.places.dentry = dentry;
    scratch.places.namespace = field(namespaces, &offsets::NSPROXY_MNT);
    scratch.places.next = field(superblock, &offsets::SB_MOUNTS);
    scratch.places.last = if is_list() { superblock + value(&offsets::SB_MOUNTS) as u64 } else { 0 };
    scratch.places.end = end::NONE;
    put(&mut scratch.places.count, 0);
    let mut context: *mut HookScratch = scratch;
    // SAFETY: `look` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(MOUNTS, look as *mut c_void, (&raw mut context).cast(), 0) };
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    put(&mut scratch.finding.denied, 0);
    put(&mut scratch.finding.names[0].length, 0);
    let (end, count) = (get(&scratch.places.end), get(&scratch.places.count));
    if end != end::ALL {
        let cause = if end == end::TOO_MANY { Cause::Places } else { Cause::Unreadable };
        put(&mut scratch.finding.cause, cause as u64);
        put(&mut scratch.finding.denied, 1);
        return true;
    }
    if count == 0 {
        put(&mut scratch.finding.cause, Cause::Unreachable as u64);
        put(&mut scratch.finding.denied, 1);
        return field::<u64>(superblock, &offsets::SB_FLAGS) & KERNEL_MOUNT == 0;
    }
    // From the youngest to the oldest: where nothing denies, the last one looked at is the usual one.
    scratch.places.wanted = wanted as u64;
    let mut context: *mut HookScratch = scratch;
    // SAFETY: `judge_place` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(PLACES as u32, judge_place as *mut c_void, (&raw mut context).cast(), 0) };
    true
}

/// One of the places found. Returns 1 to stop. A callback, so that the verifier looks at it once.
#[inline(never)]
unsafe extern "C" fn judge_place(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: as in `look`.
    let scratch = unsafe { &mut **context.cast::<*mut HookScratch>() };
    let left = get(&scratch.places.count);
    if left == 0 {
        return 1;
    }
    put(&mut scratch.places.count, left - 1);
    let Ok(subject) = Subject::of_hook(0, 0) else {
        put(&mut scratch.finding.cause, Cause::Ended as u64);
        put(&mut scratch.finding.denied, 1);
        return 1;
    };
    // SAFETY: the mask keeps the index below PLACES.
    let mount = unsafe { *scratch.places.mounts.as_ptr().add((left - 1) as usize & (PLACES - 1)) };
    let mnt = mount + value(&offsets::MOUNT_MNT) as u64;
    let dentry = scratch.places.dentry;
    names::look_up(&subject, scratch, Which::First, mnt, dentry);
    let found = get(&scratch.finding.names[0].outcome);
    if found != outcome::AT {
        put(&mut scratch.finding.cause, found.wrapping_sub(outcome::UNKNOWN));
        put(&mut scratch.finding.denied, 1);
        return 1;
    }
    let denied = get(&scratch.finding.names[0].denied) & get(&scratch.places.wanted);
    put(&mut scratch.finding.denied, denied);
    (get(&scratch.finding.denied) != 0) as i64
}
