//! The hooks on a file's attributes: times, extended attributes, ACLs, flags. Mode and owner are `path`'s, the
//! length is its too.
//!
//! Most of these hooks are given an entry and no mount: see `places`.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel_str},
    macros::lsm,
    programs::LsmContext,
};
use sandbox_ebpf::abi::{event::Kind, offsets::ABSENT, policy::access};

use super::{
    EACCES, Matter, Tell, Workplace, conclude, links, names,
    path::{TOLD, entry_at, one, subject, unjudged},
    places,
};
use crate::{
    emit::masked,
    maps::{get, put},
    offsets::{self, field, value},
};

/// `ia_valid` bits (include/linux/fs.h).
const ATTR_ATIME: u32 = 1 << 4;
const ATTR_MTIME: u32 = 1 << 5;
/// Mode, owner, group, size: calls that other hooks judge, and which change the times beside.
const ATTR_OTHERS: u32 = 0xf;

/// Longest name of an extended attribute, NUL included (XATTR_NAME_MAX + 1).
const XATTR_NAME: u32 = 256;

/// Requests of ioctl(2) that change a file's flags or attributes (include/uapi/linux/fs.h, fscrypt.h, fsverity.h,
/// msdos_fs.h), the 32-bit forms included.
const FLAG_REQUESTS: [u32; 10] = [
    0x4008_6602, // FS_IOC_SETFLAGS
    0x4004_6602, // FS_IOC32_SETFLAGS
    0x401c_5820, // FS_IOC_FSSETXATTR
    0x4008_7602, // FS_IOC_SETVERSION
    0x4004_7602, // FS_IOC32_SETVERSION
    0x4008_6604, // EXT4_IOC_SETVERSION_OLD
    0x800c_6613, // FS_IOC_SET_ENCRYPTION_POLICY
    0x4080_6685, // FS_IOC_ENABLE_VERITY
    0x4004_7211, // FAT_IOCTL_SET_ATTRIBUTES
    0x4100_9432, // FS_IOC_SETFSLABEL
];

/// inode_setattr(dentry, attr); from 6.9 on the mount's map of ids comes first.
#[lsm(hook = "inode_setattr")]
pub fn inode_setattr(ctx: LsmContext) -> i32 {
    let (dentry, attributes, previous) = if value(&offsets::SETATTR_ARGUMENTS) == 3 {
        (argument::<8>(&ctx), argument::<16>(&ctx), argument::<24>(&ctx))
    } else {
        (argument::<0>(&ctx), argument::<8>(&ctx), argument::<16>(&ctx))
    };
    let changes: u32 = field(attributes, &offsets::IATTR_VALID);
    if changes & (ATTR_ATIME | ATTR_MTIME) == 0 || changes & ATTR_OTHERS != 0 {
        return previous as i32;
    }
    judge(dentry, 0, Kind::Utimes, previous as i32)
}

/// inode_setxattr(idmap, dentry, name, value, size, flags); before 6.2 also of ACLs.
#[lsm(hook = "inode_setxattr")]
pub fn inode_setxattr(ctx: LsmContext) -> i32 {
    let (dentry, name): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    judge(dentry as u64, name as u64, Kind::Xattr, ctx.arg(6))
}

/// inode_removexattr(idmap, dentry, name)
#[lsm(hook = "inode_removexattr")]
pub fn inode_removexattr(ctx: LsmContext) -> i32 {
    let (dentry, name): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    judge(dentry as u64, name as u64, Kind::Xattr, ctx.arg(3))
}

/// inode_set_acl(idmap, dentry, acl_name, kacl)
#[lsm(hook = "inode_set_acl")]
pub fn inode_set_acl(ctx: LsmContext) -> i32 {
    let (dentry, name): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    judge(dentry as u64, name as u64, Kind::Xattr, ctx.arg(4))
}

/// inode_remove_acl(idmap, dentry, acl_name)
#[lsm(hook = "inode_remove_acl")]
pub fn inode_remove_acl(ctx: LsmContext) -> i32 {
    let (dentry, name): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    judge(dentry as u64, name as u64, Kind::Xattr, ctx.arg(3))
}

/// file_ioctl(file, cmd, arg)
#[lsm(hook = "file_ioctl")]
pub fn file_ioctl(ctx: LsmContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    request(file as u64, ctx.arg(1), ctx.arg(3))
}

/// file_ioctl_compat(file, cmd, arg): of 32-bit callers.
#[lsm(hook = "file_ioctl_compat")]
pub fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    request(file as u64, ctx.arg(1), ctx.arg(3))
}

/// Judges a request on an open file, if it is one on its flags.
#[inline(always)]
fn request(file: u64, request: u32, previous: i32) -> i32 {
    let mut known = 0;
    let mut index = 0;
    while index < FLAG_REQUESTS.len() {
        // Not `||`: no branch for each.
        known |= (request == FLAG_REQUESTS[index]) as u32;
        index += 1;
    }
    if known == 0 {
        return previous;
    }
    // No record of a result will follow: ioctl(2) is not observed.
    let matter = Matter { access: access::ATTRIBUTES, tell: Tell::Usual, ..TOLD };
    match subject(previous) {
        Ok(subject) => {
            one(&subject, entry_at(file + value(&offsets::FILE_F_PATH) as u64), (Kind::Flags, matter))
        }
        Err(answer) => answer,
    }
}

/// Judges a change of an entry's attributes, and records it; `name` is an extended attribute's, or 0.
#[inline(always)]
fn judge(dentry: u64, name: u64, kind: Kind, previous: i32) -> i32 {
    let subject = match subject(previous) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    if within_another() {
        return 0;
    }
    let matter = Matter { calls: [kind; 3], access: access::ATTRIBUTES, ..TOLD };
    let Some(place) = Workplace::enter() else { return unjudged(&subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    if !places::judge(scratch, dentry, matter.access) {
        place.leave();
        return 0;
    }
    links::judge(subject.slot, scratch, field(dentry, &offsets::DENTRY_INODE), matter.access);
    let read = if name == 0 {
        0
    } else {
        // SAFETY: the buffer has room for the longest name; the helper checks the source.
        unsafe { bpf_probe_read_kernel_str(scratch.second.as_mut_ptr().cast(), XATTR_NAME, name as *const _) }
    };
    let length = if read > 0 { masked::<{ XATTR_NAME - 1 }>(read as usize - 1) } else { 0 };
    put(&mut scratch.finding.names[1].length, length as u64);
    names::join(scratch);
    let result = conclude(
        &subject,
        scratch,
        matter,
        |header, finding| {
            let inode = field::<u64>(dentry, &offsets::DENTRY_INODE);
            let superblock = field::<u64>(dentry, &offsets::DENTRY_SB);
            header.ino = field(inode, &offsets::INODE_INO);
            header.dev = field(superblock, &offsets::SB_DEV);
            header.args[0] = kind as u64;
            header.args[3] = get(&finding.linked);
            header.parts[0] = get(&finding.names[0].length) as u16;
            header.parts[1] = get(&finding.names[1].length) as u16;
        },
        EACCES,
    );
    place.leave();
    result
}

/// Whether a file system works for the task, with credentials of its own, on what lies beneath it (the layers of an
/// overlay): the call itself was judged at the name that it gave. A task with an io_uring can choose such credentials
/// itself.
#[inline(always)]
fn within_another() -> bool {
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() };
    let chosen =
        value(&offsets::TASK_IO_URING) as u64 != ABSENT && field::<u64>(task, &offsets::TASK_IO_URING) != 0;
    !chosen && field::<u64>(task, &offsets::TASK_CRED) != field::<u64>(task, &offsets::TASK_REAL_CRED)
}

/// The argument at this offset of a hook's context: a constant in the instruction, as the verifier wants it also where
/// the offset depends on the kernel.
#[inline(always)]
fn argument<const OFFSET: i16>(ctx: &LsmContext) -> u64 {
    let mut argument: u64;
    // SAFETY: reads the hook's context, which the verifier checks.
    unsafe {
        core::arch::asm!("{argument} = *(u64 *)({context} + {offset})",
            argument = out(reg) argument, context = in(reg) ctx.as_ptr(), offset = const OFFSET);
    }
    argument
}
