//! Reading names and paths into the observer's scratch, as parts of a record.
//!
//! Paths are walked from the dentry up, across mounts, to the root of the mount namespace. The hooks do not
//! use this: their verdicts rest on `bpf_d_path`.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_task,
    generated::{bpf_loop, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str},
};
use sandbox_ebpf::abi::event::{DATA_MAX, PATH_MAX, flag};

use crate::{
    maps::TraceScratch,
    offsets::{self, field, value},
};

/// Most steps of a walk: a path of PATH_MAX bytes has at most half as many components, and mounts between.
const STEPS: u32 = 2200;
/// Most bytes of one component, NUL included (NAME_MAX + 1).
const NAME: u32 = 256;

/// Where the next part begins. Read anew from memory each time, so that the verifier sees the mask.
#[inline(always)]
pub fn cursor(scratch: &TraceScratch) -> usize {
    // SAFETY: a reference is valid to read.
    (unsafe { core::ptr::read_volatile(&scratch.cursor) }) as usize & (DATA_MAX - 1)
}

/// Closes the part that began at `begin` and is `length` bytes long.
#[inline(always)]
pub fn close(scratch: &mut TraceScratch, part: usize, begin: usize, length: usize) {
    scratch.header.parts[part] = length as u16;
    scratch.cursor = (begin + length) as u64;
}

/// Appends a NUL-ended string of the caller's memory, without its NUL.
#[inline(always)]
pub fn user_string(scratch: &mut TraceScratch, part: usize, address: u64) {
    let begin = cursor(scratch);
    // SAFETY: at least PATH_MAX bytes follow any masked cursor.
    let read = unsafe {
        bpf_probe_read_user_str(scratch.data.as_mut_ptr().add(begin).cast(), PATH_MAX as u32, address as _)
    };
    string_read(scratch, part, begin, read);
}

/// Appends a NUL-ended string of kernel memory, without its NUL.
#[inline(always)]
pub fn kernel_string(scratch: &mut TraceScratch, part: usize, address: u64) {
    let begin = cursor(scratch);
    // SAFETY: at least PATH_MAX bytes follow any masked cursor.
    let read = unsafe {
        bpf_probe_read_kernel_str(scratch.data.as_mut_ptr().add(begin).cast(), PATH_MAX as u32, address as _)
    };
    string_read(scratch, part, begin, read);
}

#[inline(always)]
fn string_read(scratch: &mut TraceScratch, part: usize, begin: usize, read: i64) {
    if read < 1 {
        scratch.header.flags |= flag::UNREADABLE;
        return close(scratch, part, begin, 0);
    }
    if read >= PATH_MAX as i64 {
        scratch.header.flags |= flag::TRUNCATED;
    }
    close(scratch, part, begin, read as usize - 1);
}

/// The first byte of a string in the caller's memory; 0 when it is empty, absent or cannot be read.
#[inline(always)]
pub fn first_byte(address: u64) -> u8 {
    let mut byte = 0u8;
    // SAFETY: the helper checks the address and writes one byte.
    unsafe { bpf_probe_read_user((&raw mut byte).cast(), 1, address as *const c_void) };
    byte
}

/// One step up: a component, or a mount point crossed. Returns 1 to stop.
///
/// The state lives in the scratch, not on the stack: what is read from a map has no history, so the verifier
/// is done after a few rounds.
#[inline(never)]
unsafe extern "C" fn step(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `walk` gave it: a pointer to the scratch, on its stack.
    let scratch = unsafe { &mut **context.cast::<*mut TraceScratch>() };
    let (dentry, mount) = (scratch.walk.dentry, scratch.walk.mount);
    let root = field::<u64>(mount + value(&offsets::MOUNT_MNT) as u64, &offsets::VFSMOUNT_ROOT);
    if root == 0 {
        scratch.walk.flags = (flag::DETACHED | flag::UNREADABLE) as u64;
        return 1;
    }
    if dentry == root {
        let parent = field::<u64>(mount, &offsets::MOUNT_PARENT);
        if parent == mount || parent == 0 {
            return 1;
        }
        scratch.walk.dentry = field::<u64>(mount, &offsets::MOUNT_MOUNTPOINT);
        scratch.walk.mount = parent;
        return 0;
    }
    let name = field::<u64>(dentry, &offsets::DENTRY_NAME);
    let begin = cursor(scratch);
    // SAFETY: at least NAME bytes follow any masked cursor.
    let read = unsafe {
        bpf_probe_read_kernel_str(scratch.data.as_mut_ptr().add(begin).cast(), NAME, name as *const c_void)
    };
    if read < 1 {
        scratch.walk.flags = (flag::DETACHED | flag::UNREADABLE) as u64;
        return 1;
    }
    scratch.cursor = begin as u64 + read as u64;
    if scratch.cursor - scratch.walk.begin > PATH_MAX as u64 {
        scratch.walk.flags = flag::TRUNCATED as u64;
        return 1;
    }
    let parent = field::<u64>(dentry, &offsets::DENTRY_PARENT);
    if parent == dentry || parent == 0 {
        scratch.walk.flags = flag::DETACHED as u64;
        return 1;
    }
    scratch.walk.dentry = parent;
    0
}

/// Appends the path of a `struct path`, as component names, leaf first.
#[inline(always)]
pub fn walk(scratch: &mut TraceScratch, part: usize, path: u64) {
    // SAFETY: the scratch is a map value.
    unsafe { walk_path(scratch, part as u32, path) };
}

/// [`walk`], verified by itself; always 0.
///
/// # Safety
/// `scratch` is null or an observer's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn walk_path(scratch: *mut TraceScratch, part: u32, path: u64) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let begin = cursor(scratch);
    let mnt = field::<u64>(path, &offsets::PATH_MNT);
    scratch.walk.begin = begin as u64;
    scratch.walk.dentry = field::<u64>(path, &offsets::PATH_DENTRY);
    scratch.walk.mount = mnt.wrapping_sub(value(&offsets::MOUNT_MNT) as u64);
    scratch.walk.flags = 0;
    let mut context: *mut TraceScratch = scratch;
    // SAFETY: `step` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut context).cast(), 0) };
    scratch.header.flags |= scratch.walk.flags as u16;
    let length = cursor(scratch).wrapping_sub(begin);
    close(scratch, part as usize & 3, begin, length);
    0
}

/// The `struct path` of the current working directory.
#[inline(always)]
pub fn working_directory() -> u64 {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let fs = field::<u64>(task, &offsets::TASK_FS);
    fs + value(&offsets::FS_PWD) as u64
}

/// The `struct file` behind a descriptor of the current task; 0 when there is none.
#[inline(always)]
pub fn file_of(descriptor: u64) -> u64 {
    let descriptor = descriptor as u32;
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let files = field::<u64>(task, &offsets::TASK_FILES);
    let table = field::<u64>(files, &offsets::FILES_FDT);
    if descriptor >= field::<u32>(table, &offsets::FDT_MAX_FDS) {
        return 0;
    }
    let array = field::<u64>(table, &offsets::FDT_FD);
    // SAFETY: the helper checks the address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel((array + 8 * descriptor as u64) as *const u64) }
        .unwrap_or(0)
}

/// The `struct path` of a file.
#[inline(always)]
pub fn path_of(file: u64) -> u64 {
    file + value(&offsets::FILE_F_PATH) as u64
}
