//! The hooks on names: making, removing, renaming and linking them, and what is done to a file by its name.
//!
//! A new name for an object must not open what its old name closes: whatever is denied at the one must be denied
//! at the other. For a directory the same holds for everything below it.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{
    config::Mode,
    event::{Cause, Kind},
    policy::{access, lasting},
};

use super::{
    EACCES, Matter, Subject, Tell, Workplace,
    calls::write_of_creation,
    conclude, links,
    names::{self, Which, outcome},
    unix,
};
use crate::{
    emit::{counter, next_kseq},
    maps::{HookScratch, get, put},
    offsets::{self, field, value},
    verdict,
};

const S_IFMT: u16 = 0o170_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFSOCK: u32 = 0o140_000;
/// renameat2(2).
const RENAME_EXCHANGE: u32 = 2;

/// path_unlink(dir, dentry)
#[lsm(hook = "path_unlink")]
pub fn path_unlink(ctx: LsmContext) -> i32 {
    match subject(ctx.arg(2)) {
        Ok(subject) => one(&subject, entry_in(ctx.arg(0), ctx.arg(1)), removal(Kind::Unlink)),
        Err(answer) => answer,
    }
}

/// path_rmdir(dir, dentry)
#[lsm(hook = "path_rmdir")]
pub fn path_rmdir(ctx: LsmContext) -> i32 {
    match subject(ctx.arg(2)) {
        Ok(subject) => one(&subject, entry_in(ctx.arg(0), ctx.arg(1)), removal(Kind::Rmdir)),
        Err(answer) => answer,
    }
}

/// path_mkdir(dir, dentry, mode)
#[lsm(hook = "path_mkdir")]
pub fn path_mkdir(ctx: LsmContext) -> i32 {
    let matter = Matter { calls: [Kind::Mkdir; 3], access: access::CREATE, ..TOLD };
    match subject(ctx.arg(3)) {
        Ok(subject) => one(&subject, entry_in(ctx.arg(0), ctx.arg(1)), (Kind::Mkdir, matter)),
        Err(answer) => answer,
    }
}

/// path_mknod(dir, dentry, mode, dev): also an open that makes a file, and the bind of a socket to a path. For these
/// file_open, or the record of the bind, tells of what is allowed. An open for writing is judged as that here too,
/// since file_open comes when the file is made; where nothing is blocked, file_open is soon enough.
#[lsm(hook = "path_mknod")]
pub fn path_mknod(ctx: LsmContext) -> i32 {
    let calls = [Kind::Mknod, Kind::Open, Kind::Bind];
    match subject(ctx.arg(4)) {
        Ok(subject) => {
            let enforced = subject.mode == Mode::Enforce as u32;
            let access = access::CREATE | if enforced { write_of_creation() } else { 0 };
            let matter = Matter { calls, access, tell: Tell::Named, ..TOLD };
            let entry = entry_in(ctx.arg(0), ctx.arg(1));
            let answer = one(&subject, entry, (Kind::Mknod, matter));
            let mode: u32 = ctx.arg(2);
            if answer != 0 || mode & S_IFMT as u32 != S_IFSOCK {
                return answer;
            }
            unix::bind_path(&subject, entry)
        }
        Err(answer) => answer,
    }
}

/// path_symlink(dir, dentry, text)
#[lsm(hook = "path_symlink")]
pub fn path_symlink(ctx: LsmContext) -> i32 {
    let matter = Matter { calls: [Kind::Symlink; 3], access: access::CREATE, ..TOLD };
    match subject(ctx.arg(3)) {
        Ok(subject) => one(&subject, entry_in(ctx.arg(0), ctx.arg(1)), (Kind::Symlink, matter)),
        Err(answer) => answer,
    }
}

/// path_truncate(path): truncate(2), and where there is no file_truncate (before 6.2) ftruncate(2) and O_TRUNC.
/// An open with O_TRUNC was judged by file_open.
#[lsm(hook = "path_truncate")]
pub fn path_truncate(ctx: LsmContext) -> i32 {
    let matter = Matter {
        calls: [Kind::Truncate, Kind::Open, Kind::Open],
        access: access::WRITE,
        tell: Tell::Named,
        ..TOLD
    };
    match subject(ctx.arg(1)) {
        Ok(subject) => one(&subject, entry_of(ctx.arg(0)), (Kind::Truncate, matter)),
        Err(answer) => answer,
    }
}

/// file_truncate(file)
#[lsm(hook = "file_truncate")]
pub fn file_truncate(ctx: LsmContext) -> i32 {
    let matter = Matter {
        calls: [Kind::Truncate, Kind::Open, Kind::Open],
        access: access::WRITE,
        tell: Tell::Named,
        ..TOLD
    };
    let file: *const u8 = ctx.arg(0);
    match subject(ctx.arg(1)) {
        Ok(subject) => one(
            &subject,
            entry_at(file as u64 + value(&offsets::FILE_F_PATH) as u64),
            (Kind::Truncate, matter),
        ),
        Err(answer) => answer,
    }
}

/// path_chmod(path, mode)
#[lsm(hook = "path_chmod")]
pub fn path_chmod(ctx: LsmContext) -> i32 {
    let matter = Matter { calls: [Kind::Chmod; 3], access: access::ATTRIBUTES, ..TOLD };
    match subject(ctx.arg(2)) {
        Ok(subject) => one(&subject, entry_of(ctx.arg(0)), (Kind::Chmod, matter)),
        Err(answer) => answer,
    }
}

/// path_chown(path, uid, gid)
#[lsm(hook = "path_chown")]
pub fn path_chown(ctx: LsmContext) -> i32 {
    let matter = Matter { calls: [Kind::Chown; 3], access: access::ATTRIBUTES, ..TOLD };
    match subject(ctx.arg(3)) {
        Ok(subject) => one(&subject, entry_of(ctx.arg(0)), (Kind::Chown, matter)),
        Err(answer) => answer,
    }
}

/// path_link(old_dentry, new_dir, new_dentry): both lie on the mount of the new directory, or the call has failed
/// already.
#[lsm(hook = "path_link")]
pub fn path_link(ctx: LsmContext) -> i32 {
    let old: *const u8 = ctx.arg(0);
    let new = entry_in(ctx.arg(1), ctx.arg(2));
    let calls = [Kind::Link; 3];
    match subject(ctx.arg(3)) {
        Ok(subject) => {
            let old = Entry { mnt: new.mnt, dentry: old as u64 };
            two(&subject, [old, new], Kind::Link, 0, Matter { calls, ..TOLD })
        }
        Err(answer) => answer,
    }
}

/// path_rename(old_dir, old_dentry, new_dir, new_dentry, flags)
#[lsm(hook = "path_rename")]
pub fn path_rename(ctx: LsmContext) -> i32 {
    let old = entry_in(ctx.arg(0), ctx.arg(1));
    let new = entry_in(ctx.arg(2), ctx.arg(3));
    let flags: u32 = ctx.arg(4);
    let exchange = (flags / RENAME_EXCHANGE & 1) as u64;
    match subject(ctx.arg(5)) {
        Ok(subject) => two(
            &subject,
            [old, new],
            Kind::Rename,
            exchange,
            Matter { calls: [Kind::Rename; 3], entered: true, ..TOLD },
        ),
        Err(answer) => answer,
    }
}

/// Most calls: their record is told even when they are allowed, since the caller's names may lead elsewhere.
pub(super) const TOLD: Matter = Matter {
    check: Kind::PathCheck,
    calls: [Kind::Unknown; 3],
    access: 0,
    tell: Tell::Always,
    entered: false,
};

#[inline(always)]
fn removal(kind: Kind) -> (Kind, Matter) {
    (kind, Matter { calls: [Kind::Unlink, Kind::Rmdir, Kind::Rmdir], access: access::DELETE, ..TOLD })
}

/// The task's run, if there is a policy to judge by; else what the hook answers.
#[inline(always)]
pub(super) fn subject(previous: i32) -> Result<Subject, i32> {
    let subject = Subject::of_hook(previous, EACCES)?;
    if subject.judged() { Ok(subject) } else { Err(0) }
}

/// A name as the kernel has it.
#[derive(Clone, Copy)]
pub struct Entry {
    pub mnt: u64,
    pub dentry: u64,
}

/// A name in a directory (a `struct path`).
#[inline(always)]
fn entry_in(directory: *const u8, dentry: *const u8) -> Entry {
    Entry { mnt: field(directory as u64, &offsets::PATH_MNT), dentry: dentry as u64 }
}

/// The name that a `struct path` is.
#[inline(always)]
fn entry_of(path: *const u8) -> Entry {
    entry_at(path as u64)
}

#[inline(always)]
pub(super) fn entry_at(path: u64) -> Entry {
    Entry { mnt: field(path, &offsets::PATH_MNT), dentry: field(path, &offsets::PATH_DENTRY) }
}

/// Judges an access at one name, and records it.
#[inline(always)]
pub(super) fn one(subject: &Subject, entry: Entry, (kind, matter): (Kind, Matter)) -> i32 {
    let Some(place) = Workplace::enter() else { return unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    names::look_up(subject, scratch, Which::First, entry.mnt, entry.dentry);
    let name = &scratch.finding.names[0];
    let (outcome, length, denied) = (get(&name.outcome), get(&name.length), get(&name.denied));
    put(&mut scratch.finding.length, length);
    if outcome == outcome::OWN {
        place.leave();
        return 0;
    }
    if outcome == outcome::AT {
        put(&mut scratch.finding.cause, Cause::Policy as u64);
        put(&mut scratch.finding.denied, denied & matter.access as u64);
        links::judge(subject.slot, scratch, field(entry.dentry, &offsets::DENTRY_INODE), matter.access);
    } else {
        put(&mut scratch.finding.linked, 0);
        put(&mut scratch.finding.cause, outcome - outcome::UNKNOWN);
        put(&mut scratch.finding.denied, 1);
    }
    let result = conclude(
        subject,
        scratch,
        matter,
        |header, finding| {
            header.args[0] = kind as u64;
            header.args[3] = get(&finding.linked);
            header.parts[0] = finding.length as u16;
        },
        EACCES,
    );
    place.leave();
    result
}

/// Judges a call that gives an object another name, and records it. `exchange` is 1 where another object gets the
/// old one.
#[inline(always)]
fn two(subject: &Subject, [old, new]: [Entry; 2], kind: Kind, exchange: u64, matter: Matter) -> i32 {
    let Some(place) = Workplace::enter() else { return unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    names::look_up(subject, scratch, Which::First, old.mnt, old.dentry);
    names::look_up(subject, scratch, Which::Second, new.mnt, new.dentry);
    let replaced = exists(new.dentry);
    let remove = if matches!(kind, Kind::Link) { 0 } else { access::DELETE as u64 };
    put(&mut scratch.finding.wanted[0], remove + exchange * access::CREATE as u64);
    put(&mut scratch.finding.wanted[1], access::CREATE as u64 | (exchange | replaced) * remove);
    let [a, b] = [get(&scratch.finding.names[0].denied), get(&scratch.finding.names[1].denied)];
    let wanted = get(&scratch.finding.wanted[0]) & a | get(&scratch.finding.wanted[1]) & b;
    put(&mut scratch.finding.denied, wanted);
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    let judged_by = get(&scratch.finding.policy);
    // A name stays: what it opens is asked of what holds when nothing is open for a moment only.
    let lasting = lasting(subject.slot);
    let whole = [Which::First, Which::Second].map(|which| denied_for_good(lasting, scratch, which));
    let [a, b] = [0, 1].map(|name| get(&scratch.finding.names[name].denied));
    let gained = (a & !b | exchange * (b & !a)) & access::OBJECT as u64;
    put(&mut scratch.finding.gained, gained);
    put(&mut scratch.finding.denied, wanted | gained);
    if !(whole[0] & whole[1]) {
        put(&mut scratch.finding.cause, Cause::Tables as u64);
        put(&mut scratch.finding.denied, 1);
    }
    let tree = is_directory(old.dentry) | exchange & is_directory(new.dentry);
    if !matches!(kind, Kind::Link) && tree != 0 && scratch.denied() == 0 {
        below(subject, lasting, scratch, exchange);
    }
    let sockets = [is_socket(old.dentry), exchange & is_socket(new.dentry)];
    if !matches!(kind, Kind::Link) && sockets[0] | sockets[1] != 0 && scratch.denied() == 0 {
        let opened = sockets[0] & verdict::unix_opens(lasting, scratch, Which::First, Which::Second)
            | sockets[1] & verdict::unix_opens(lasting, scratch, Which::Second, Which::First);
        put(&mut scratch.finding.gained, gained);
        put(&mut scratch.finding.denied, opened);
        if opened != 0 {
            put(&mut scratch.finding.cause, Cause::Below as u64);
        }
    }
    for name in [0, 1] {
        let outcome = get(&scratch.finding.names[name].outcome);
        if outcome != outcome::AT {
            // An object that no directory has gets no name here.
            let unreachable = outcome::UNKNOWN + Cause::Unreachable as u64;
            let cause = if outcome == outcome::OWN { unreachable } else { outcome };
            put(&mut scratch.finding.cause, cause - outcome::UNKNOWN);
            put(&mut scratch.finding.denied, 1);
        }
    }
    if wanted != 0 || scratch.denied() == 0 {
        put(&mut scratch.finding.policy, judged_by);
    }
    names::join(scratch);
    let result = conclude(
        subject,
        scratch,
        matter,
        |header, finding| {
            header.access = get(&finding.wanted[0]) as u16;
            header.args[0] = kind as u64;
            header.args[1] = get(&finding.wanted[1]);
            header.args[2] = get(&finding.gained);
            header.args[3] = exchange * RENAME_EXCHANGE as u64;
            header.parts[0] = get(&finding.names[0].length) as u16;
            header.parts[1] = get(&finding.names[1].length) as u16;
        },
        EACCES,
    );
    place.leave();
    result
}

/// Puts what is denied at a name that was looked up, by the policy at `slot`, in the place of what was found before; false
/// where the tables are not whole. A name that has no path is denied whatever stands there.
#[inline(always)]
fn denied_for_good(slot: u32, scratch: &mut HookScratch, which: Which) -> bool {
    let length = get(&scratch.finding.names[which as usize].length);
    let whole = verdict::judge_known(slot, scratch, which as u32, length);
    let denied = get(&scratch.walk.denied);
    put(&mut scratch.finding.names[which as usize].denied, denied);
    whole
}

/// Whether a directory may move: everything that is denied below it by the policy at `slot` must be denied below its new
/// name.
#[inline(always)]
fn below(subject: &Subject, slot: u32, scratch: &mut HookScratch, exchange: u64) {
    let lengths = [names::slash(scratch, Which::First), names::slash(scratch, Which::Second)];
    if verdict::opens(subject, slot, scratch, lengths, exchange) != 0 {
        put(&mut scratch.finding.cause, Cause::Below as u64);
        put(&mut scratch.finding.denied, 1);
    }
}

/// 1 when a name has an object.
#[inline(always)]
fn exists(dentry: u64) -> u64 {
    (field::<u64>(dentry, &offsets::DENTRY_INODE) != 0) as u64
}

#[inline(always)]
fn is_directory(dentry: u64) -> u64 {
    let inode: u64 = field(dentry, &offsets::DENTRY_INODE);
    (field::<u16>(inode, &offsets::INODE_MODE) & S_IFMT == S_IFDIR) as u64
}

/// Whether it is a unix socket, whose name is what rules on reaching it see.
#[inline(always)]
fn is_socket(dentry: u64) -> u64 {
    let inode: u64 = field(dentry, &offsets::DENTRY_INODE);
    (field::<u16>(inode, &offsets::INODE_MODE) & S_IFMT == S_IFSOCK as u16) as u64
}

/// There is no memory to judge in: an enforced run is denied, and the attempt counts as lost.
#[inline(always)]
pub(super) fn unjudged(subject: &Subject) -> i32 {
    next_kseq(subject.slot);
    counter!(subject.slot, lost);
    if subject.mode == Mode::Enforce as u32 { EACCES } else { 0 }
}
