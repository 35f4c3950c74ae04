//! The absolute path of a name that a hook was given as a directory entry: walked from the entry up, across
//! mounts, to the root of the mount namespace, and judged there.
//!
//! The hooks on names have no `struct file`, and `bpf_d_path` may not be called in all of them. While one runs
//! the kernel holds the directory of the name, so the last component cannot change; those above it can, as they
//! can after any look at a path.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use sandbox_ebpf::abi::event::{Cause, PATH_MAX};

use super::Subject;
use crate::{
    emit::masked,
    maps::{Found, HookScratch, get, put},
    offsets::{self, field, value},
    verdict,
};

pub use verdict::Which;

/// Most steps up: a path of PATH_MAX bytes has at most half as many components, and mounts between.
const STEPS: u32 = 2200;
/// Where a path that is put together ends.
const END: usize = PATH_MAX - 1;
/// `MNT_NS_INTERNAL` (fs/mount.h): a mount of the kernel's own, for pipes, sockets and memfds.
const INTERNAL: u64 = -22i64 as u64;

/// Whether a mount (a `struct vfsmount`) is the kernel's own.
#[inline(always)]
pub fn is_internal(mnt: u64) -> bool {
    field::<u64>(mnt.wrapping_sub(value(&offsets::MOUNT_MNT) as u64), &offsets::MOUNT_NS) == INTERNAL
}

/// How a walk ended.
pub mod end {
    /// It did not.
    pub const NONE: u64 = 0;
    /// At the root.
    pub const ROOT: u64 = 1;
    /// At an object that no directory has: it belongs to the run.
    pub const OWN: u64 = 2;
    /// At a mount that no tree has, or an entry without a parent.
    pub const UNREACHABLE: u64 = 3;
    /// Above PATH_MAX bytes.
    pub const TOO_LONG: u64 = 4;
    /// At memory that could not be read.
    pub const UNREADABLE: u64 = 5;
}

/// What a look-up leaves in `Found::outcome`.
pub mod outcome {
    /// The name has a path, and a state.
    pub const AT: u64 = 0;
    /// It is the run's own.
    pub const OWN: u64 = 1;
    /// It cannot be judged; the cause is added.
    pub const UNKNOWN: u64 = 2;
}

/// One step up: a component, or a mount point crossed. Returns 1 to stop. Its state lives in the scratch: what is
/// read from a map has no history, so the verifier is done after a few rounds.
#[inline(never)]
unsafe extern "C" fn step(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `climb` gave it: a pointer to the scratch, on its stack.
    let scratch = unsafe { &mut **context.cast::<*mut HookScratch>() };
    let (dentry, mount) = (scratch.climb.dentry, scratch.climb.mount);
    let root: u64 = field(mount + value(&offsets::MOUNT_MNT) as u64, &offsets::VFSMOUNT_ROOT);
    let above: u64 = field(mount, &offsets::MOUNT_PARENT);
    let parent: u64 = field(dentry, &offsets::DENTRY_PARENT);
    if root == 0 || above == 0 || parent == 0 {
        scratch.climb.end = end::UNREADABLE;
        return 1;
    }
    if dentry == root && above != mount {
        scratch.climb.dentry = field(mount, &offsets::MOUNT_MOUNTPOINT);
        scratch.climb.mount = above;
        return 0;
    }
    if dentry == root || parent == dentry {
        let namespace: u64 = field(mount, &offsets::MOUNT_NS);
        scratch.climb.end = if namespace == INTERNAL {
            end::OWN
        } else if namespace == 0 || dentry != root {
            end::UNREACHABLE
        } else {
            end::ROOT
        };
        return 1;
    }
    let size = masked::<255>(field::<u32>(dentry, &offsets::DENTRY_NAME_LENGTH) as usize);
    let position = scratch.climb.position;
    if size == 0 || position < size as u64 + 1 {
        scratch.climb.end = if size == 0 { end::UNREADABLE } else { end::TOO_LONG };
        return 1;
    }
    let begin = masked::<{ PATH_MAX as u32 - 1 }>(position as usize - size);
    let name: u64 = field(dentry, &offsets::DENTRY_NAME);
    // SAFETY: behind the middle of the buffer there is room for PATH_MAX and one more name; the helper checks
    // the source.
    let read = unsafe {
        bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().add(PATH_MAX + begin).cast(),
            // Once more: newer verifiers forget the bound over the comparisons above.
            masked::<255>(size) as u32,
            name as *const c_void,
        )
    };
    let slash = masked::<{ PATH_MAX as u32 - 1 }>(position as usize - size - 1);
    // SAFETY: as above. No bounds check of the compiler's: a panic that cannot happen would not load.
    unsafe { scratch.path.as_mut_ptr().add(PATH_MAX + slash).write(b'/') };
    if read != 0 {
        scratch.climb.end = end::UNREADABLE;
        return 1;
    }
    scratch.climb.position = slash as u64;
    scratch.climb.dentry = parent;
    0
}

/// Puts the path of `dentry`, as it is seen on the mount `mnt` (a `struct vfsmount`), into the scratch and looks
/// it up; what comes of it stands in `finding.names`.
#[inline(always)]
pub fn look_up(subject: &Subject, scratch: &mut HookScratch, which: Which, mnt: u64, dentry: u64) {
    subject.know(&mut scratch.walk);
    start(scratch, mnt, dentry);
    // SAFETY: the scratch is a map value.
    unsafe { look_up_name(scratch, subject.slot, which as u32) };
}

/// Puts that path into the scratch, and judges nothing.
#[inline(always)]
pub fn find(scratch: &mut HookScratch, which: Which, mnt: u64, dentry: u64) {
    start(scratch, mnt, dentry);
    // SAFETY: the scratch is a map value.
    unsafe { find_name(scratch, which as u32) };
}

/// Puts down where the walk begins.
#[inline(always)]
fn start(scratch: &mut HookScratch, mnt: u64, dentry: u64) {
    put(&mut scratch.climb.dentry, dentry);
    put(&mut scratch.climb.mount, mnt.wrapping_sub(value(&offsets::MOUNT_MNT) as u64));
}

/// What was found out about one of the two names.
#[inline(always)]
fn found(scratch: &mut HookScratch, which: u32) -> &mut Found {
    // SAFETY: the mask keeps the index below two.
    unsafe { &mut *scratch.finding.names.as_mut_ptr().add(which as usize & 1) }
}

/// [`look_up`], from where the walk begins; always 0.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn look_up_name(scratch: *mut HookScratch, slot: u32, which: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    // SAFETY: as above.
    unsafe { find_name(scratch, which) };
    if get(&found(scratch, which).outcome) != outcome::AT {
        return 0;
    }
    put(&mut scratch.walk.hashed, 0);
    let length = get(&found(scratch, which).length);
    if verdict::judge_known(slot, scratch, which, length) {
        let denied = get(&scratch.walk.denied);
        put(&mut found(scratch, which).denied, denied);
    } else {
        put(&mut found(scratch, which).outcome, outcome::UNKNOWN + Cause::Tables as u64);
    }
    0
}

/// [`find`], from where the walk begins; always 0.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn find_name(scratch: *mut HookScratch, which: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    put(&mut scratch.climb.position, END as u64);
    put(&mut scratch.climb.end, end::NONE);
    put(&mut found(scratch, which).length, 0);
    let mut context: *mut HookScratch = scratch;
    // SAFETY: `step` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut context).cast(), 0) };
    let unknown = match scratch.climb_end() {
        end::ROOT => outcome::AT,
        end::OWN => outcome::OWN,
        end::UNREACHABLE => outcome::UNKNOWN + Cause::Unreachable as u64,
        end::TOO_LONG => outcome::UNKNOWN + Cause::PathTooLong as u64,
        _ => outcome::UNKNOWN + Cause::Unreadable as u64,
    };
    put(&mut found(scratch, which).outcome, unknown);
    if get(&found(scratch, which).outcome) != outcome::AT {
        return 0;
    }
    let begin = get(&scratch.climb.position);
    if begin == END as u64 {
        // The root itself.
        put(&mut scratch.climb.position, END as u64 - 1);
        scratch.path[PATH_MAX + END - 1] = b'/';
    }
    let begin = masked::<{ PATH_MAX as u32 - 1 }>(get(&scratch.climb.position) as usize);
    let length = masked::<{ PATH_MAX as u32 - 1 }>(END - begin);
    put(&mut found(scratch, which).length, length as u64);
    let to = path(scratch, which);
    // SAFETY: both hold PATH_MAX bytes, and so much lies behind the beginning.
    unsafe {
        bpf_probe_read_kernel(to.cast(), length as u32, scratch.path.as_ptr().add(PATH_MAX + begin).cast())
    };
    0
}

/// Puts one more `/` behind a path that was looked up, and returns its length then.
#[inline(always)]
pub fn slash(scratch: &mut HookScratch, which: Which) -> u64 {
    let length =
        masked::<{ PATH_MAX as u32 - 1 }>(get(&scratch.finding.names[which as usize].length) as usize);
    let path = path(scratch, which as u32);
    // SAFETY: both have room behind PATH_MAX bytes.
    unsafe { path.add(length).write(b'/') };
    length as u64 + 1
}

#[inline(always)]
fn path(scratch: &mut HookScratch, which: u32) -> *mut u8 {
    if which == Which::First as u32 { scratch.path.as_mut_ptr() } else { scratch.second.as_mut_ptr() }
}

/// Puts the second path behind the first, where a record carries it.
#[inline(always)]
pub fn join(scratch: &mut HookScratch) {
    let first = masked::<{ PATH_MAX as u32 - 1 }>(get(&scratch.finding.names[0].length) as usize);
    let second = masked::<{ PATH_MAX as u32 - 1 }>(get(&scratch.finding.names[1].length) as usize);
    // SAFETY: the buffer has room for two paths.
    unsafe {
        bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().add(first).cast(),
            second as u32,
            scratch.second.as_ptr().cast(),
        )
    };
    put(&mut scratch.finding.length, (first + second) as u64);
}
