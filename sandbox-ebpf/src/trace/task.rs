//! Tasks: who belongs to the run, who was made, what was executed, who ended.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_task, generated::bpf_probe_read_user},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use sandbox_ebpf::abi::{
    config::MAX_SLOTS,
    event::{ARGV_MAX, Kind, flag},
    syscall::CALLS_PER_ARCH,
};

use super::{current, scratch, send};
use crate::{
    emit::{self, counter, next_kseq},
    maps::{TASKS, Task, TraceScratch},
    offsets::{self, field},
    path,
};

/// `clone_flags` bit of a new thread.
const CLONE_THREAD: u64 = 0x0001_0000;
/// `signal_struct::flags` bit: `group_exit_code` holds.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Makes the calling task a member of the run in slot `arg 0`, and returns the object's ABI version; 0 when it
/// cannot. A slot that there is not only asks for the version. Run by BPF_PROG_TEST_RUN, never attached;
/// declared by hand, because aya's macro drops what the program returns.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sandbox_arm")]
pub fn arm(ctx: *mut c_void) -> u32 {
    let ctx = RawTracePointContext::new(ctx);
    let slot: u64 = ctx.arg(0);
    // SAFETY: a reference is valid to read; volatile keeps the global in the object.
    let version = unsafe { core::ptr::read_volatile(&offsets::ABI_VERSION) };
    if slot >= MAX_SLOTS as u64 {
        return version;
    }
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let entry = Task::new(slot as u32);
    if TASKS.insert(task, entry, 0).is_ok() { version } else { 0 }
}

/// task_newtask(task, clone_flags), in the parent. Fires for io_uring's workers too.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_newtask(ctx: RawTracePointContext) -> i32 {
    let child: u64 = ctx.arg(0);
    let Some(parent) = current() else {
        // A task of somebody else, at the address of one of ours that is gone. Of each thousand that end by the
        // thousand, Linux 6.18 frees one or two without sched_process_free.
        if TASKS.get_ptr(child).is_some() {
            let _ = TASKS.remove(child);
        }
        return 0;
    };
    let slot = parent.slot;
    let clone_flags: u64 = ctx.arg(1);
    let entry = Task::new(slot);
    if TASKS.insert(child, entry, 0).is_err() {
        counter!(slot, untracked);
    }
    if clone_flags & CLONE_THREAD != 0 {
        return 0;
    }
    let Some(scratch) = scratch(Kind::Fork, slot, next_kseq(slot)) else { return 0 };
    scratch.header.args[0] = field::<u32>(child, &offsets::TASK_TGID) as u64;
    scratch.header.args[1] = field(child, &offsets::TASK_START_BOOTTIME);
    send(scratch);
    0
}

/// sched_process_free(task): its address may be used again. See [`task_newtask`] for those that it misses.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub fn sched_process_free(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    // An entry that is not there is no fault: most tasks of the machine have none.
    let _ = TASKS.remove(task);
    0
}

/// sched_process_exit(task): recorded when the last thread of the process goes.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(_: RawTracePointContext) -> i32 {
    let Some(entry) = current() else { return 0 };
    let slot = entry.slot;
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let signal = field::<u64>(task, &offsets::TASK_SIGNAL);
    if field::<u32>(signal, &offsets::SIGNAL_LIVE) != 0 {
        return 0;
    }
    let leader = field::<u64>(task, &offsets::TASK_GROUP_LEADER);
    // Two threads that go at once may both see the last one gone.
    if let Some(first) = TASKS.get_ptr_mut(leader) {
        // SAFETY: the pointer leads into a map value.
        if unsafe { emit::swap(&raw mut (*first).ended, 1) } != 0 {
            return 0;
        }
    }
    let status = if field::<u32>(signal, &offsets::SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0 {
        field::<u32>(signal, &offsets::SIGNAL_GROUP_EXIT_CODE)
    } else {
        field::<u32>(leader, &offsets::TASK_EXIT_CODE)
    };
    let Some(scratch) = scratch(Kind::Exit, slot, next_kseq(slot)) else { return 0 };
    scratch.header.args[0] = status as u64;
    send(scratch);
    0
}

/// sched_process_exec(task, old_pid, bprm): an exec that succeeded.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let Some(entry) = current() else { return 0 };
    let bprm: u64 = ctx.arg(2);
    let kseq = if entry.kseq != 0 { entry.kseq } else { next_kseq(entry.slot) };
    let Some(scratch) = scratch(Kind::Exec, entry.slot, kseq) else { return 0 };
    scratch.header.judgement = entry.judgement;
    if entry.call != 0 {
        scratch.header.syscall = (entry.call - 1) % CALLS_PER_ARCH;
        scratch.header.arch = ((entry.call - 1) / CALLS_PER_ARCH) as u8;
    }
    if entry.sent != 0 {
        scratch.header.flags |= flag::FOLLOWS_CHECK;
    }
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let mm = field::<u64>(task, &offsets::TASK_MM);
    let exe = field::<u64>(mm, &offsets::MM_EXE_FILE);
    identify(scratch, exe);
    path::walk(scratch, 0, path::working_directory());
    path::kernel_string(scratch, 1, field(bprm, &offsets::BPRM_FILENAME));
    path::walk(scratch, 2, path::path_of(exe));
    arguments(scratch, mm);
    send(scratch);
    0
}

/// Inode, device and mode of a file go into the header.
#[inline(always)]
pub fn identify(scratch: &mut TraceScratch, file: u64) {
    let inode = field::<u64>(file, &offsets::FILE_F_INODE);
    let superblock = field::<u64>(inode, &offsets::INODE_SB);
    scratch.header.ino = field(inode, &offsets::INODE_INO);
    scratch.header.dev = field(superblock, &offsets::SB_DEV);
}

/// Appends argv as part 3: it stands on the new stack, NUL-separated.
#[inline(always)]
fn arguments(scratch: &mut TraceScratch, mm: u64) {
    let begin = path::cursor(scratch);
    let start = field::<u64>(mm, &offsets::MM_ARG_START);
    let end = field::<u64>(mm, &offsets::MM_ARG_END);
    let mut length = end.wrapping_sub(start);
    if length > ARGV_MAX as u64 {
        length = ARGV_MAX as u64;
        scratch.header.flags |= flag::ARGV_TRUNCATED;
    }
    // SAFETY: at least ARGV_MAX bytes follow any masked cursor.
    let read = unsafe {
        bpf_probe_read_user(scratch.data.as_mut_ptr().add(begin).cast(), length as u32, start as *const _)
    };
    if read != 0 {
        scratch.header.flags |= flag::ARGV_TRUNCATED;
        length = 0;
    }
    path::close(scratch, 3, begin, length as usize);
}
