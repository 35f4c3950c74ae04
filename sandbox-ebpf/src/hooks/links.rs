//! Files that had a second name when the run began, one that a rule denies: what is denied there is denied of the
//! file, whatever the name. The runner looks for them and marks them.

use core::ffi::c_void;

use aya_ebpf::programs::RawTracePointContext;
use sandbox_ebpf::abi::{
    config::MAX_SLOTS,
    event::Cause,
    policy::{Link, LinkKey},
};

use crate::{
    maps::{HookScratch, LINKS, get, put},
    offsets::{self, field},
    path,
};

/// Marks the file behind a descriptor of the caller's: arguments are the run's slot, the descriptor, the accesses that
/// are denied and the mark's number. Returns 1 when it is marked. Run by BPF_PROG_TEST_RUN, never attached; declared by
/// hand, because aya's macro drops what the program returns.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sandbox_mark")]
pub fn mark(ctx: *mut c_void) -> u32 {
    let ctx = RawTracePointContext::new(ctx);
    let (slot, descriptor): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let (denied, number): (u64, u64) = (ctx.arg(2), ctx.arg(3));
    let file = path::file_of(descriptor);
    if file == 0 || slot >= MAX_SLOTS as u64 {
        return 0;
    }
    let inode: u64 = field(file, &offsets::FILE_F_INODE);
    let link = Link { denied: denied as u32, number: number as u32 };
    LINKS.insert(key(slot as u32, inode), link, 0).is_ok() as u32
}

#[inline(always)]
fn key(slot: u32, inode: u64) -> LinkKey {
    let superblock: u64 = field(inode, &offsets::INODE_SB);
    LinkKey { ino: field(inode, &offsets::INODE_INO), dev: field(superblock, &offsets::SB_DEV), slot }
}

/// Adds what is denied of an object by its other names to what was found of `wanted` accesses. Where nothing else
/// denies, `finding.linked` is the mark's number plus one.
#[inline(always)]
pub fn judge(slot: u32, scratch: &mut HookScratch, inode: u64, wanted: u16) {
    put(&mut scratch.finding.linked, 0);
    // Not only where there are several names now: the denied one may have been removed.
    if get(&scratch.finding.denied) != 0 {
        return;
    }
    let key = key(slot, inode);
    // SAFETY: nothing is removed while a run uses its slot.
    let Some(link) = (unsafe { LINKS.get(&key) }) else { return };
    let hit = wanted as u64 & link.denied as u64;
    put(&mut scratch.finding.denied, hit);
    if get(&scratch.finding.denied) != 0 {
        put(&mut scratch.finding.linked, link.number as u64 + 1);
        put(&mut scratch.finding.cause, Cause::Link as u64);
    }
}
