//! file_open: reading and writing of files.

use aya_ebpf::{helpers::generated::bpf_d_path, macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{
    event::{Cause, Judgement, Kind, PATH_MAX},
    policy::access,
};

use super::{EACCES, Subject, Workplace, report};
use crate::{
    maps::HookScratch,
    offsets::{self, field, value},
    verdict::{self, Answer},
};

/// f_mode bits.
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
/// f_flags bits.
const O_TRUNC: u32 = 0o1000;
/// "Opened by execve": bprm_check_security judges it.
const FMODE_EXEC: u32 = 0x20;
/// What d_path adds to an object without a name.
const DELETED: [u8; 10] = *b" (deleted)";

/// file_open(file): after O_CREAT has made the file, before O_TRUNC has cut it.
#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    let previous: i32 = ctx.arg(1);
    if previous != 0 {
        return previous;
    }
    let Some(subject) = Subject::current() else { return 0 };
    if subject.ended() {
        return EACCES;
    }
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
    judge(&subject, file, wanted, [Kind::OpenCheck, Kind::Open, Kind::Open])
}

/// Judges an access to an opened file, and records it. `file` comes straight from the hook's arguments, or
/// from a member of one: the verifier knows its type.
#[inline(always)]
pub fn judge(subject: &Subject, file: *const u8, wanted: u16, kinds: [Kind; 3]) -> i32 {
    let Some(place) = Workplace::enter() else {
        return unjudged(subject, kinds, wanted);
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
    let (length, answer) = if !subject.judged() {
        (name_length(written), Answer::ALLOWED)
    } else {
        answer(subject, file, scratch, written, wanted)
    };
    let judgement = if subject.judged() { answer.judgement(subject.config.mode) } else { Judgement::None };
    let inode = field::<u64>(file as u64, &offsets::FILE_F_INODE);
    if judgement != Judgement::None || !super::result_follows(&super::entry(), [kinds[1], kinds[2]]) {
        report::<{ PATH_MAX as u32 - 1 }>(
            subject,
            judgement,
            answer,
            kinds,
            wanted,
            |header| {
                let superblock = field::<u64>(inode, &offsets::INODE_SB);
                header.ino = field(inode, &offsets::INODE_INO);
                header.dev = field(superblock, &offsets::SB_DEV);
                header.args[0] = field::<u32>(file as u64, &offsets::FILE_F_FLAGS) as u64;
                header.parts[0] = length as u16;
                length
            },
            // SAFETY: the scratch is a map value.
            unsafe { &raw mut (*scratch).header },
        );
    }
    place.leave();
    if judgement == Judgement::Blocked { EACCES } else { 0 }
}

/// Bytes of a path that d_path wrote, without its NUL; 0 when it failed.
#[inline(always)]
fn name_length(written: i64) -> usize {
    if written < 1 || written > PATH_MAX as i64 { 0 } else { written as usize - 1 }
}

/// What the policy says about the path in the scratch.
#[inline(always)]
fn answer(
    subject: &Subject,
    file: *const u8,
    scratch: *mut HookScratch,
    written: i64,
    wanted: u16,
) -> (usize, Answer) {
    const ENAMETOOLONG: i64 = -36;
    if written == ENAMETOOLONG {
        return (0, Answer::denied(Cause::PathTooLong));
    }
    let mut length = name_length(written);
    if length == 0 {
        return (0, Answer::denied(Cause::Unreadable));
    }
    // SAFETY: the scratch is a map value.
    let path = unsafe { &(*scratch).path };
    if path[0] != b'/' {
        // Pipes, sockets and other objects without a name belong to the run; a file that no root leads to
        // could have any.
        let unreachable = path[0] == b'(';
        return (length, if unreachable { Answer::denied(Cause::Unreachable) } else { Answer::ALLOWED });
    }
    if length > DELETED.len() && ends_deleted(path, length) && links(file) == 0 {
        length -= DELETED.len();
    }
    (length, verdict::path(subject.config, subject.slot, path.as_ptr(), length, wanted))
}

/// Names that lead to a file.
#[inline(always)]
fn links(file: *const u8) -> u32 {
    let inode = field::<u64>(file as u64, &offsets::FILE_F_INODE);
    field(inode, &offsets::INODE_NLINK)
}

#[inline(always)]
fn ends_deleted(path: &[u8; PATH_MAX + 64], length: usize) -> bool {
    let begin = length.wrapping_sub(DELETED.len());
    let mut index = 0;
    while index < DELETED.len() {
        if path[(begin + index) & (PATH_MAX - 1)] != DELETED[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// There is no memory to judge in: an enforced run is denied, and both kinds are told.
#[inline(always)]
fn unjudged(subject: &Subject, kinds: [Kind; 3], wanted: u16) -> i32 {
    if !subject.judged() {
        return 0;
    }
    let answer = Answer::denied(Cause::NoScratch);
    let judgement = answer.judgement(subject.config.mode);
    let mut header = sandbox_ebpf::abi::event::Header::default();
    report::<0>(subject, judgement, answer, kinds, wanted, |_| 0, &raw mut header);
    if judgement == Judgement::Blocked { EACCES } else { 0 }
}
