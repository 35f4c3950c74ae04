//! Files that are no data: raw devices, which lead past every path, and the kernel's settings. Opening them is an act
//! of the policy's section `kernel`.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sandbox_ebpf::abi::policy::{access, kernel};

use crate::offsets::{self, field, value};

const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFCHR: u16 = 0o020_000;

/// Character devices by number (major << 20 | minor; Documentation/admin-guide/devices.txt): the machine's memory
/// and ports, its non-volatile memory, made-up input, images of the whole memory, and what makes block devices or
/// passes hardware on.
const DEVICES: [u32; 11] = [
    device(1, 1),    // mem
    device(1, 2),    // kmem
    device(1, 4),    // port
    device(10, 144), // nvram
    device(10, 196), // vfio
    device(10, 223), // uinput
    device(10, 231), // snapshot
    device(10, 234), // btrfs-control
    device(10, 235), // autofs
    device(10, 236), // mapper/control
    device(10, 237), // loop-control
];
/// Whole majors: sg, mtd, raw, cpu/*/msr.
const MAJORS: [u32; 4] = [21, 90, 162, 202];

/// Superblocks (include/uapi/linux/magic.h) on which every file is a setting of the kernel's: sysfs, securityfs,
/// debugfs, tracefs, configfs, efivarfs, binfmt_misc; and control groups, in both versions: who may write there ends and
/// freezes whatever runs in a group, be it root's (`cgroup.kill` asks no hook).
const SETTINGS: [u64; 9] = [
    0x6265_6572,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0x6265_6570,
    0xde5e_81e4,
    0x4249_4e4d,
    0x27_e0eb,
    0x6367_7270,
];
const PROC: u64 = 0x9fa0;

const fn device(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// The act that opening a file for `wanted` is, one of [`kernel`]; 0 for none.
#[inline(always)]
pub fn act(file: u64, wanted: u16) -> u32 {
    let inode: u64 = field(file, &offsets::FILE_F_INODE);
    let kind = field::<u16>(inode, &offsets::INODE_MODE) & S_IFMT;
    let superblock: u64 = field(inode, &offsets::INODE_SB);
    let magic: u64 = field(superblock, &offsets::SB_MAGIC);
    let within_proc = equal(magic, PROC);
    let regular = equal(kind as u64, S_IFREG as u64);
    let core = regular & within_proc & named(file, u64::from_le_bytes(*b"kcore\0\0\0"), 5);
    let raw = equal(kind as u64, S_IFBLK as u64) | equal(kind as u64, S_IFCHR as u64) & is_raw(inode) | core;
    let write = (wanted / access::WRITE & 1) as u64;
    let mut setting = within_proc & is_global(inode);
    let mut index = 0;
    while index < SETTINGS.len() {
        setting |= equal(magic, SETTINGS[index]);
        index += 1;
    }
    raw as u32 * kernel::RAW_DEVICES | (write & regular & setting & (raw ^ 1)) as u32 * kernel::SYSCTL_WRITE
}

/// 1 when both are the same. No branch: the verifier would follow both ways of each.
#[inline(always)]
fn equal(a: u64, b: u64) -> u64 {
    ((a ^ b) & (u64::MAX >> 1)).wrapping_sub(1) >> 63
}

#[inline(always)]
fn is_raw(inode: u64) -> u64 {
    let number: u32 = field(inode, &offsets::INODE_RDEV);
    let mut known = 0;
    let mut index = 0;
    while index < DEVICES.len() {
        known |= equal(number as u64, DEVICES[index] as u64);
        index += 1;
    }
    index = 0;
    while index < MAJORS.len() {
        known |= equal((number >> 20) as u64, MAJORS[index] as u64);
        index += 1;
    }
    known
}

/// 1 for a file of /proc that belongs to no process: below /proc/sys, or registered by a driver.
#[inline(always)]
fn is_global(inode: u64) -> u64 {
    let proc = inode.wrapping_sub(value(&offsets::PROC_INODE_VFS) as u64);
    let setting: u64 = field(proc, &offsets::PROC_INODE_SYSCTL);
    let entry: u64 = field(proc, &offsets::PROC_INODE_ENTRY);
    equal(setting | entry, 0) ^ 1
}

/// 1 when a file's name has this length and begins with these bytes (as many as it has, and eight at most).
#[inline(always)]
fn named(file: u64, begin: u64, length: u32) -> u64 {
    let dentry: u64 = field(file + value(&offsets::FILE_F_PATH) as u64, &offsets::PATH_DENTRY);
    let found: u32 = field(dentry, &offsets::DENTRY_NAME_LENGTH);
    let name: u64 = field(dentry, &offsets::DENTRY_NAME);
    let mut bytes = 0u64;
    // SAFETY: the helper checks the source and writes eight bytes, zeros on a fault.
    unsafe { bpf_probe_read_kernel((&raw mut bytes).cast(), 8, name as *const _) };
    let mask = if length < 8 { (1u64 << (8 * length)) - 1 } else { u64::MAX };
    equal(found as u64, length as u64) & equal(bytes & mask, begin & mask)
}
