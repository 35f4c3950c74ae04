//! file_open and mmap_file: reading, writing and loading of files.

use aya_ebpf::{
    helpers::{bpf_get_current_task, generated::bpf_d_path},
    macros::lsm,
    programs::LsmContext,
};
use sandbox_ebpf::abi::{
    config::Mode,
    event::{Cause, Kind, PATH_MAX, flag},
    policy::access,
};

use super::{
    EACCES, Matter, Subject, Tell, Workplace, conclude, device, entry, found, kernel, links, names,
    result_follows,
};
use crate::{
    emit::{counter, masked, next_kseq},
    maps::{HookScratch, get, put},
    offsets::{self, field, value},
    verdict::{self, Answer, Which},
};

/// f_mode bits.
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
/// f_flags bits.
const O_TRUNC: u32 = 0o1000;
/// "Opened by execve": bprm_check_security judges it.
const FMODE_EXEC: u32 = 0x20;
/// mmap(2).
const PROT_EXEC: u64 = 4;
/// What d_path adds to an object without a name.
const DELETED: [u8; 10] = *b" (deleted)";

/// file_open(file): after O_CREAT has made the file, before O_TRUNC has cut it.
#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(1), EACCES) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let file: *const u8 = ctx.arg(0);
    let flags: u32 = field(file as u64, &offsets::FILE_F_FLAGS);
    if flags & FMODE_EXEC != 0 {
        return 0;
    }
    let mode: u32 = field(file as u64, &offsets::FILE_F_MODE);
    let mut wanted = 0;
    if mode & FMODE_WRITE != 0 || flags & O_TRUNC != 0 {
        wanted |= access::WRITE;
    }
    if mode & FMODE_READ != 0 || wanted == 0 {
        wanted |= access::READ;
    }
    let act = device::act(file as u64, wanted);
    if act != 0 && subject.judged() && kernel::closes(&subject, act) {
        return kernel::judge_open(&subject, act, file as u64, flags);
    }
    let matter = Matter {
        check: Kind::OpenCheck,
        calls: [Kind::Open; 3],
        access: wanted,
        tell: Tell::Usual,
        entered: false,
    };
    judge(&subject, file, matter)
}

/// mmap_file(file, reqprot, prot, flags): mapping a file executable. A program's own mapping by execve was judged
/// as that; what it maps of other files is loaded.
#[lsm(hook = "mmap_file")]
pub fn mmap_file(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(4), EACCES) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let file: *const u8 = ctx.arg(0);
    let protection: u64 = ctx.arg(2);
    if file.is_null() || protection & PROT_EXEC == 0 || !subject.judged() || file as u64 == executable() {
        return 0;
    }
    let matter = Matter {
        check: Kind::LoadCheck,
        calls: [Kind::Unknown; 3],
        access: access::LOAD,
        tell: Tell::Denials,
        entered: false,
    };
    judge(&subject, file, matter)
}

/// The `struct file` that the current process was executed from.
#[inline(always)]
fn executable() -> u64 {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let memory: u64 = field(task, &offsets::TASK_MM);
    field(memory, &offsets::MM_EXE_FILE)
}

/// Judges an access to an opened file, and records it. `file` comes straight from the hook's arguments, or
/// from a member of one: the verifier knows its type.
#[inline(always)]
pub fn judge(subject: &Subject, file: *const u8, matter: Matter) -> i32 {
    judge_contents(subject, file, matter, None)
}

/// Reads the SHA-256 of a file into the scratch; false when it cannot be had.
pub type Hash = fn(*const u8, &mut HookScratch) -> bool;

/// The same, where what the file holds may matter too: `hash` reads it.
#[inline(always)]
pub fn judge_contents(subject: &Subject, file: *const u8, matter: Matter, hash: Option<Hash>) -> i32 {
    let Some(place) = Workplace::enter() else {
        return unjudged(subject);
    };
    let scratch = place.scratch;
    // SAFETY: a file's f_path stands at its offset; the buffer holds PATH_MAX bytes.
    let written = unsafe {
        bpf_d_path(
            file.add(value(&offsets::FILE_F_PATH)) as *mut _,
            (&raw mut (*scratch).path).cast(),
            PATH_MAX as u32,
        )
    };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *scratch };
    put(&mut scratch.finding.length, name_length(written) as u64);
    put(&mut scratch.finding.wanted[0], matter.access as u64);
    put(&mut scratch.finding.denied, 0);
    put(&mut scratch.finding.own, 0);
    put(&mut scratch.finding.linked, 0);
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    put(&mut scratch.walk.hashed, 0);
    if subject.judged() {
        let named = is_named(file, scratch);
        if let Some(hash) = hash {
            contents(subject, file, scratch, named, hash);
        }
        subject.know(&mut scratch.walk);
        let loads = matter.access == access::LOAD;
        // SAFETY: the scratch is a map value.
        unsafe { answer(scratch, subject.slot, written, named as u32, loads as u32) };
    } else if entry().is_some_and(|task| result_follows(task, matter.calls.map(|kind| kind as u8))) {
        place.leave();
        return 0;
    }
    put(&mut scratch.finding.names[0].length, get(&scratch.finding.length));
    if hash.is_some() && get(&scratch.walk.hashed) != 0 {
        tell_digest(scratch);
    }
    // No result tells what the file holds, which may be why it is allowed.
    let counts = hash.is_some() && get(&scratch.walk.hashed) & verdict::NAMED != 0;
    let matter = Matter { tell: if counts { Tell::Always } else { matter.tell }, ..matter };
    let result = conclude(
        subject,
        scratch,
        matter,
        |header, finding| {
            let inode = field::<u64>(file as u64, &offsets::FILE_F_INODE);
            let superblock = field::<u64>(inode, &offsets::INODE_SB);
            header.ino = field(inode, &offsets::INODE_INO);
            header.dev = field(superblock, &offsets::SB_DEV);
            header.args[0] = field::<u32>(file as u64, &offsets::FILE_F_FLAGS) as u64;
            let path = get(&finding.names[0].length);
            header.parts[0] = path as u16;
            header.parts[1] = (get(&finding.length) - path) as u16;
            header.access = get(&finding.wanted[0]) as u16;
            header.args[3] = get(&finding.linked);
            header.flags = get(&finding.own) as u16 * flag::DETACHED;
        },
        EACCES,
    );
    place.leave();
    result
}

/// Bytes of a path that d_path wrote, without its NUL; 0 when it failed.
#[inline(always)]
pub fn name_length(written: i64) -> usize {
    if written < 1 || written > PATH_MAX as i64 { 0 } else { written as usize - 1 }
}

/// Reads what the file holds, and finds the sets that its path belongs to. What cannot be read is denied.
#[inline(always)]
fn contents(subject: &Subject, file: *const u8, scratch: &mut HookScratch, named: bool, hash: Hash) {
    if hash(file, scratch) {
        put(&mut scratch.walk.hashed, 1);
        if named {
            verdict::sets(subject, scratch);
        }
    } else {
        found(scratch, Answer::denied(Cause::Contents));
    }
}

/// Puts the digest behind the path, where the record carries it.
#[inline(always)]
fn tell_digest(scratch: &mut HookScratch) {
    let length = masked::<{ PATH_MAX as u32 - 1 }>(get(&scratch.finding.length) as usize);
    let mut index = 0;
    while index < scratch.digest.len() {
        // SAFETY: behind PATH_MAX bytes there is room for as many more.
        unsafe { *scratch.path.as_mut_ptr().add(length + index) = scratch.digest[index] };
        index += 1;
    }
    put(&mut scratch.finding.length, (length + scratch.digest.len()) as u64);
}

/// Whether no directory has the file: a memfd and its like, under a name that its maker chose.
#[inline(always)]
pub fn is_nameless(file: u64) -> bool {
    names::is_internal(field(file + value(&offsets::FILE_F_PATH) as u64, &offsets::PATH_MNT))
}

/// Whether the scratch holds an absolute path of the file, the mark of a deleted one cut off.
#[inline(always)]
pub fn is_named(file: *const u8, scratch: &mut HookScratch) -> bool {
    put(&mut scratch.finding.object, file as u64);
    // SAFETY: the scratch is a map value.
    unsafe { name_file(scratch) != 0 }
}

/// [`is_named`], of the file at `finding.object`.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn name_file(scratch: *mut HookScratch) -> u64 {
    // SAFETY: the caller's promise.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let file = get(&scratch.finding.object);
    if scratch.length() == 0 || scratch.path[0] != b'/' {
        return 0;
    }
    if is_gone(file) && ends_deleted(scratch) {
        let length = scratch.length() - DELETED.len() as u64;
        put(&mut scratch.finding.length, length);
    }
    1
}

/// What the policy says about the path in the scratch, which is that of the file at `finding.object`; always 0.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn answer(
    scratch: *mut HookScratch,
    slot: u32,
    written: i64,
    named: u32,
    loads: u32,
) -> u64 {
    // SAFETY: the caller's promise.
    if let Some(scratch) = unsafe { scratch.as_mut() } {
        answer_file(scratch, slot, written, named != 0, loads != 0);
    }
    0
}

#[inline(always)]
fn answer_file(scratch: &mut HookScratch, slot: u32, written: i64, named: bool, loads: bool) {
    const ENAMETOOLONG: i64 = -36;
    let file = get(&scratch.finding.object);
    if scratch.cause() != Cause::Policy as u64 {
        return;
    }
    if written == ENAMETOOLONG {
        return found(scratch, Answer::denied(Cause::PathTooLong));
    }
    if scratch.length() == 0 {
        return found(scratch, Answer::denied(Cause::Unreadable));
    }
    if !named {
        // Pipes, sockets and other objects without a name belong to the run; a file that no root leads to
        // could have any.
        if scratch.path[0] == b'(' {
            found(scratch, Answer::denied(Cause::Unreachable));
        }
        return;
    }
    if is_nameless(file) {
        // It belongs to the run. As code it is what no rule can name.
        let hit = get(&scratch.finding.wanted[0]) & verdict::nameless(slot, scratch);
        put(&mut scratch.finding.own, 1);
        if hit != 0 {
            found(scratch, Answer::denied(Cause::Nameless));
        }
        return;
    }
    let length = scratch.length();
    if !verdict::judge_known(slot, scratch, Which::First as u32, length) {
        return found(scratch, Answer::denied(Cause::Tables));
    }
    let mut hit = get(&scratch.finding.wanted[0]) & get(&scratch.walk.denied);
    if loads {
        // What a rule keeps from being executed is not to be loaded by another program (`ld.so FILE`) either. A
        // default says nothing of the kind: it is about programs, not about libraries.
        hit |= access::RUN as u64 & get(&scratch.walk.by_rule);
        put(&mut scratch.finding.wanted[0], hit);
    }
    put(&mut scratch.finding.denied, hit);
    let inode = field::<u64>(file, &offsets::FILE_F_INODE);
    if loads {
        links::judge(slot, scratch, inode, access::LOAD | access::RUN);
        let hit = scratch.denied();
        put(&mut scratch.finding.wanted[0], hit);
    } else {
        let wanted = get(&scratch.finding.wanted[0]) as u16;
        links::judge(slot, scratch, inode, wanted);
    }
}

/// Whether the name that a file was opened by is gone: d_path says so at the name's end then. Other names may be left.
#[inline(always)]
fn is_gone(file: u64) -> bool {
    let inode = field::<u64>(file, &offsets::FILE_F_INODE);
    let path = file + value(&offsets::FILE_F_PATH) as u64;
    let dentry = field::<u64>(path, &offsets::PATH_DENTRY);
    // An entry that no lookup finds any more is in no hash list.
    let found = field::<u64>(dentry, &offsets::DENTRY_HASH);
    field::<u32>(inode, &offsets::INODE_NLINK) == 0 || found == 0
}

/// Whether the path in the scratch ends with what d_path adds.
#[inline(always)]
fn ends_deleted(scratch: &HookScratch) -> bool {
    let length = scratch.length();
    if length <= DELETED.len() as u64 {
        return false;
    }
    let begin = masked::<{ PATH_MAX as u32 - 1 }>((length - DELETED.len() as u64) as usize);
    let mut different = 0;
    let mut index = 0;
    while index < DELETED.len() {
        // No branch for each byte. SAFETY: so many bytes follow any masked beginning.
        different |= unsafe { *scratch.path.as_ptr().add(begin + index) } ^ DELETED[index];
        index += 1;
    }
    different == 0
}

/// There is no memory to judge in: an enforced run is denied, and the attempt counts as lost.
#[inline(always)]
fn unjudged(subject: &Subject) -> i32 {
    if !subject.judged() {
        return 0;
    }
    next_kseq(subject.slot);
    counter!(subject.slot, lost);
    if subject.mode == Mode::Enforce as u32 { EACCES } else { 0 }
}
