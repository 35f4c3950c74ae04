//! The compiled policy as the kernel reads it: one automaton for paths, one prefix trie for addresses.
//!
//! # Paths
//!
//! A deterministic automaton over the bytes of an absolute path. `classes[byte]` gives a byte's class;
//! `row` is a state's index already multiplied by the row width, so that one step is
//! `row = transitions[row + class]`. Row widths are powers of two, so a row never crosses a page of
//! [`TRANSITIONS_PER_PAGE`]. Row 0 is dead: nothing can match any more. After the last byte the state's
//! [`StateVerdict`] (index `row >> row_shift`) says which accesses some rule denies, and which some rule
//! allows: *deny beats allow, and what neither names falls to the section's default*.
//!
//! # Addresses
//!
//! Addresses are sixteen bytes; IPv4 is stored IPv4-mapped (`::ffff:a.b.c.d`). A trie node already contains
//! what the shorter prefixes around it say, so one longest-prefix lookup answers. It names a range of
//! [`PortRange`]s, disjoint and ascending by (protocol, first port), which carry the same allow and deny
//! masks.

/// Transitions in one page, the value of the transitions array map (16 KiB).
pub const TRANSITIONS_PER_PAGE: usize = 4096;
/// State verdicts in one page, the value of the verdicts array map (4 KiB).
pub const VERDICTS_PER_PAGE: usize = 1024;
/// Port ranges in one page, the value of the port ranges array map (3 KiB).
pub const PORTS_PER_PAGE: usize = 256;
/// Most transitions that a plan may have: 64 MiB of table.
pub const MAX_TRANSITIONS: usize = 16 << 20;
/// Most port ranges that one prefix may have (a binary search of at most 12 steps).
pub const MAX_PORTS_PER_PREFIX: usize = 4096;

/// File and exec accesses, as bits of [`StateVerdict`].
pub mod access {
    /// Open for reading, list a directory.
    pub const READ: u16 = 1 << 0;
    /// Open for writing, truncate.
    pub const WRITE: u16 = 1 << 1;
    /// Make a new name.
    pub const CREATE: u16 = 1 << 2;
    /// Remove a name.
    pub const DELETE: u16 = 1 << 3;
    /// Change mode, owner, times, extended attributes.
    pub const ATTRIBUTES: u16 = 1 << 4;
    /// Execute.
    pub const RUN: u16 = 1 << 5;
    /// Map executable.
    pub const LOAD: u16 = 1 << 6;
    /// Accesses to an object itself: what a new name for it must not open.
    pub const OBJECT: u16 = READ | WRITE | ATTRIBUTES | RUN | LOAD;
}

/// What a state behind a `/` says about everything below it, as bits of [`StateVerdict::allow`]: how a directory
/// may move without taking something out of a rule's reach.
///
/// Both compare with the directories that only floating patterns know. A directory may move when the states
/// behind its old and its new name are the same, or the old one is `ORDINARY` and the new one `STRICT`.
pub mod below {
    /// Nothing below is denied that would not be denied below such a directory.
    pub const ORDINARY: u16 = 1 << 15;
    /// Everything that is denied below such a directory is denied below this one.
    pub const STRICT: u16 = 1 << 14;
}

/// Network accesses, as bits of [`PortRange`].
pub mod net_access {
    /// connect(2).
    pub const CONNECT: u8 = 1 << 0;
    /// Send with an address: sendto(2), sendmsg(2).
    pub const SEND: u8 = 1 << 1;
    /// bind(2).
    pub const BIND: u8 = 1 << 2;
    /// listen(2).
    pub const LISTEN: u8 = 1 << 3;
}

/// What reaches past files and addresses, as bits of [`super::config::RunConfig::kernel_allow`].
pub mod kernel {
    /// mount(2), move_mount(2), umount(2).
    pub const MOUNT: u32 = 1 << 0;
    /// A user namespace.
    pub const USERNS: u32 = 1 << 1;
    /// chroot(2), pivot_root(2).
    pub const CHROOT: u32 = 1 << 2;
    /// Attaching to a process of the run.
    pub const PTRACE_OWN: u32 = 1 << 3;
    /// Looking into a process outside the run, or attaching to it.
    pub const PTRACE_ANY: u32 = 1 << 4;
    /// bpf(2).
    pub const BPF: u32 = 1 << 5;
    /// A signal to a process outside the run.
    pub const SIGNAL_OUTSIDE: u32 = 1 << 6;
    /// Opening a block device, or one that leads to the machine's memory or hardware.
    pub const RAW_DEVICES: u32 = 1 << 7;
    /// Opening a setting of the kernel's for writing: below /proc/sys, in sysfs and its like.
    pub const SYSCTL_WRITE: u32 = 1 << 8;
}

/// Most files with other names that all runs together mark.
pub const MAX_LINKS: u32 = 65_536;

/// A file, as the kernel knows it: key of the table of marked files.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkKey {
    /// Inode number.
    pub ino: u64,
    /// Device of its file system (kernel's dev_t).
    pub dev: u32,
    /// Slot of the run.
    pub slot: u32,
}

/// What is denied of a file by the names that it had when the run began.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// [`access`] bits.
    pub denied: u32,
    /// Which of the runner's marks it is.
    pub number: u32,
}

/// Protocols as [`PortRange::proto`] names them.
pub mod proto {
    /// Every protocol that is neither TCP nor UDP.
    pub const OTHER: u8 = 0;
    /// TCP, and MPTCP.
    pub const TCP: u8 = 1;
    /// UDP, and UDP-Lite.
    pub const UDP: u8 = 2;
}

/// What the rules that match at one state of the automaton say, as masks of [`access`] bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateVerdict {
    /// Accesses that some matching rule allows, and [`below`] bits.
    pub allow: u16,
    /// Accesses that some matching rule denies.
    pub deny: u16,
}

/// Key data of the address trie: the run's slot (big-endian, so that it is a prefix), then the address.
/// The prefix length counts from the slot's first bit: 32 + the address's prefix length.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey {
    /// Slot of the run, big-endian.
    pub slot_be: u32,
    /// The address, IPv4 as IPv4-mapped.
    pub address: [u8; 16],
}

/// Value of the address trie: which port ranges hold for the prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressNode {
    /// Index of the first port range.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// What the rules say about some ports of one protocol at one prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    /// First port, host byte order.
    pub low: u16,
    /// Last port, inclusive.
    pub high: u16,
    /// One of [`proto`].
    pub proto: u8,
    /// [`net_access`] bits that some rule allows.
    pub allow: u8,
    /// [`net_access`] bits that some rule denies.
    pub deny: u8,
    /// Zero.
    pub _pad: u8,
}

const _: () = assert!(size_of::<LinkKey>() == 16);
const _: () = assert!(size_of::<Link>() == 8);
const _: () = assert!(size_of::<StateVerdict>() == 4);
const _: () = assert!(size_of::<AddressKey>() == 20);
const _: () = assert!(size_of::<AddressNode>() == 8);
const _: () = assert!(size_of::<PortRange>() == 8);
