//! The hooks on what reaches past files and addresses: mounts, namespaces of users, roots, other processes, bpf.
//!
//! None of it is open in a judged run unless the policy's `kernel` section allows it. What crosses the run's edge
//! is recorded in a run without a policy too.

use aya_ebpf::{helpers::generated::bpf_task_storage_get, macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{
    config::Mode,
    event::{Cause, Kind},
    policy::kernel,
};

use super::{
    EPERM, Matter, Subject, Tell, Workplace, conclude,
    names::{self, Which},
};
use crate::{
    emit::{counter, next_kseq},
    maps::{MEMBERS, Member, get, put},
    offsets::{self, field, value},
    verdict,
};

/// `include/linux/ptrace.h`.
const PTRACE_MODE_ATTACH: u32 = 2;
const PTRACE_MODE_NOAUDIT: u32 = 4;

/// sb_mount(dev_name, path, type, flags, data)
#[lsm(hook = "sb_mount")]
pub fn sb_mount(ctx: LsmContext) -> i32 {
    let path: *const u8 = ctx.arg(1);
    let flags: u64 = ctx.arg(3);
    match Subject::of_hook(ctx.arg(5), EPERM) {
        Ok(subject) => judge(&subject, kernel::MOUNT, Some(place(path as u64)), [0, flags]),
        Err(answer) => answer,
    }
}

/// move_mount(from_path, to_path)
#[lsm(hook = "move_mount")]
pub fn move_mount(ctx: LsmContext) -> i32 {
    let to: *const u8 = ctx.arg(1);
    match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => judge(&subject, kernel::MOUNT, Some(place(to as u64)), [0; 2]),
        Err(answer) => answer,
    }
}

/// sb_umount(mnt, flags): what a mount covered comes to light.
#[lsm(hook = "sb_umount")]
pub fn sb_umount(ctx: LsmContext) -> i32 {
    let mnt: *const u8 = ctx.arg(0);
    let root = field(mnt as u64, &offsets::VFSMOUNT_ROOT);
    match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => judge(&subject, kernel::MOUNT, Some((mnt as u64, root)), [0; 2]),
        Err(answer) => answer,
    }
}

/// sb_pivotroot(old_path, new_path)
#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(ctx: LsmContext) -> i32 {
    let new: *const u8 = ctx.arg(1);
    match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => judge(&subject, kernel::CHROOT, Some(place(new as u64)), [0; 2]),
        Err(answer) => answer,
    }
}

/// path_chroot(path)
#[lsm(hook = "path_chroot")]
pub fn path_chroot(ctx: LsmContext) -> i32 {
    let path: *const u8 = ctx.arg(0);
    match Subject::of_hook(ctx.arg(1), EPERM) {
        Ok(subject) => judge(&subject, kernel::CHROOT, Some(place(path as u64)), [0; 2]),
        Err(answer) => answer,
    }
}

/// userns_create(cred)
#[lsm(hook = "userns_create")]
pub fn userns_create(ctx: LsmContext) -> i32 {
    match Subject::of_hook(ctx.arg(1), EPERM) {
        Ok(subject) => judge(&subject, kernel::USERNS, None, [0; 2]),
        Err(answer) => answer,
    }
}

/// ptrace_access_check(child, mode): also /proc/PID/mem and environ, process_vm_readv(2), pidfd_getfd(2). Looking
/// at the run's own processes is free; attaching to them is not.
#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    let child: *mut u8 = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    let subject = match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let own = is_member(&subject, child);
    if own && mode & PTRACE_MODE_ATTACH == 0 {
        return 0;
    }
    let asked = if own { kernel::PTRACE_OWN } else { kernel::PTRACE_ANY };
    if mode & PTRACE_MODE_NOAUDIT != 0 {
        // A look that expects to be refused, as ps(1) has it: no attempt.
        let open = subject.mode != Mode::Enforce as u32 || allowed(&subject).1 & asked != 0;
        return if open { 0 } else { refusal() };
    }
    judge(&subject, asked, None, [pid(child), mode as u64])
}

/// ptrace_traceme(parent): the parent becomes the tracer.
#[lsm(hook = "ptrace_traceme")]
pub fn ptrace_traceme(ctx: LsmContext) -> i32 {
    let parent: *mut u8 = ctx.arg(0);
    match Subject::of_hook(ctx.arg(1), EPERM) {
        Ok(subject) => judge(&subject, kernel::PTRACE_OWN, None, [pid(parent), 0]),
        Err(answer) => answer,
    }
}

/// task_kill(p, info, sig, cred): signals to processes outside the run.
#[lsm(hook = "task_kill")]
pub fn task_kill(ctx: LsmContext) -> i32 {
    let target: *mut u8 = ctx.arg(0);
    let signal: u32 = ctx.arg(2);
    match Subject::of_hook(ctx.arg(4), EPERM) {
        Ok(subject) if !is_member(&subject, target) => {
            judge(&subject, kernel::SIGNAL_OUTSIDE, None, [pid(target), signal as u64])
        }
        Ok(_) => 0,
        Err(answer) => answer,
    }
}

/// bpf(cmd, attr, size): the answer of a program before this one is not looked at, as newer kernels have another
/// argument in its place; where there is one that denies, this one is not asked.
#[lsm(hook = "bpf")]
pub fn bpf(ctx: LsmContext) -> i32 {
    let command: u32 = ctx.arg(0);
    match Subject::of_hook(0, EPERM) {
        Ok(subject) => judge(&subject, kernel::BPF, None, [0, command as u64]),
        Err(answer) => answer,
    }
}

/// Whether a task belongs to the run. One whose storage cannot be looked at does not.
#[inline(always)]
fn is_member(subject: &Subject, task: *mut u8) -> bool {
    // SAFETY: the task is the hook's argument, and the map is task storage of `Member`.
    let member = unsafe { bpf_task_storage_get(MEMBERS.as_ptr(), task.cast(), core::ptr::null_mut(), 0) }
        as *const Member;
    // SAFETY: task storage returned a value of this type.
    !member.is_null() && unsafe { (*member).slot } == subject.slot
}

/// The number of the policy in force, and the acts that it allows; none where there is no policy.
#[inline(always)]
fn allowed(subject: &Subject) -> (u32, u32) {
    // SAFETY: the header lies in a map value.
    verdict::policy(subject.slot)
        .map_or((0, 0), |(_, header)| unsafe { ((*header).id, (*header).kernel_allow) })
}

/// Whether the policy in force closes one of these acts.
#[inline(always)]
pub fn closes(subject: &Subject, act: u32) -> bool {
    act & !allowed(subject).1 != 0
}

/// EPERM, such that the compiler makes a branch of it: as it is -1, it would be computed from the condition, and
/// the verifier would not see which values an answer can have.
#[inline(always)]
fn refusal() -> i32 {
    let mut answer: u64;
    // SAFETY: a constant in a register.
    unsafe { core::arch::asm!("{answer} = {eperm}", answer = out(reg) answer, eperm = const EPERM) };
    answer as i32
}

/// A task's process id.
#[inline(always)]
fn pid(task: *mut u8) -> u64 {
    field::<u32>(task as u64, &offsets::TASK_TGID) as u64
}

/// The mount and the entry of a `struct path`.
#[inline(always)]
fn place(path: u64) -> (u64, u64) {
    (field(path, &offsets::PATH_MNT), field(path, &offsets::PATH_DENTRY))
}

/// Judges one of [`kernel`]'s acts, and records it: at a path, or with a process id and a number.
#[inline(always)]
fn judge(subject: &Subject, act: u32, at: Option<(u64, u64)>, numbers: [u64; 2]) -> i32 {
    judge_in(subject, act, at, numbers, [Kind::Unknown; 3])
}

/// Judges the opening of a file that is an act of this section. Where it is allowed, files are judged as ever.
#[inline(always)]
pub fn judge_open(subject: &Subject, act: u32, file: u64, flags: u32) -> i32 {
    let path = file + value(&offsets::FILE_F_PATH) as u64;
    judge_in(subject, act, Some(place(path)), [0, flags as u64], [Kind::Open; 3])
}

/// The same, of a call of these kinds.
#[inline(always)]
fn judge_in(subject: &Subject, act: u32, at: Option<(u64, u64)>, numbers: [u64; 2], calls: [Kind; 3]) -> i32 {
    let (policy, allow) = allowed(subject);
    let denied = subject.judged() && allow & act == 0;
    let Some(place) = Workplace::enter() else {
        next_kseq(subject.slot);
        counter!(subject.slot, lost);
        return if denied && subject.mode == Mode::Enforce as u32 { refusal() } else { 0 };
    };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    put(&mut scratch.finding.length, 0);
    put(&mut scratch.finding.policy, policy as u64);
    if let Some((mnt, dentry)) = at {
        names::find(scratch, Which::First, mnt, dentry);
        let length = get(&scratch.finding.names[0].length);
        put(&mut scratch.finding.length, length);
    }
    put(&mut scratch.finding.denied, denied as u64);
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    let matter = Matter { check: Kind::KernelCheck, calls, access: 0, tell: Tell::Usual, entered: false };
    let result = conclude(
        subject,
        scratch,
        matter,
        |header, finding| {
            header.args[0] = act as u64;
            header.args[1] = numbers[0];
            header.args[2] = numbers[1];
            header.parts[0] = get(&finding.length) as u16;
        },
        refusal(),
    );
    place.leave();
    result
}
