//! The compiled policy as the kernel reads it: a *header*, and *cells*, in the pages of one map of a run.
//!
//! The map is an array of pages of [`CELLS_PER_PAGE`] cells. Page 0 is the [`PolicyHeader`]; cells are numbered
//! through all pages, so the first that is none of the header has the number [`FIRST_CELL`]. A run's policy is
//! replaced by putting another map in its place, so that a verdict rests on one policy as a whole.
//!
//! # Automata
//!
//! An automaton over the bytes of an absolute path. A *state* is the number of its first cell, and its cells are
//! scattered among those of other states; each cell ([`pack`]) says whose it is (`owner`) and has a `value`:
//!
//! | cell | value |
//! |---|---|
//! | `state` | where every class leads that is not listed: its *usual* state |
//! | `state + 1` | the number of its verdict block |
//! | `state + class`, where `owner` is `state` | where the class leads |
//!
//! so one step is: `cell = cells[state + classes[byte]]`, and where its owner is another state `cells[state]`.
//! State 0 is dead: nothing can match any more; the automaton says what holds there.
//!
//! A policy may need several automata; what they say is put together. Where an automaton is the `last` of its policy,
//! the verdict of that policy is made: *deny beats allow, and what neither names falls to the section's default*.
//! An access goes ahead when every policy lets it.
//!
//! # Verdict blocks
//!
//! A cell whose `value` is the *unconditional* [`masks`], and whose `owner` counts the entries in the cells behind
//! it. An entry ([`Entry`]) adds masks when its conditions on the process hold.
//!
//! # Subjects
//!
//! Conditions (`by`, `unless_by`, `under`) name *sets* of patterns, by number, [`MAX_SETS`] at most. When a process
//! executes a file, the header's `subject` automaton says to which sets the executable belongs: its verdict block is
//! one cell, the sets as a mask. What is not known (`may` without `sure`) denies and does not allow.
//!
//! # The network
//!
//! What rules say of an end is collected from several *sources*, policy by policy: a verdict block of the network goes
//! through all policies ([`PolicyHeader::parts`]), each closed by an [`Entry::END`]. When all sources were heard, each
//! policy's verdict is made of what they said together and its default ([`PolicyHeader::net_defaults`]); an access goes
//! ahead when every policy lets it. The sources:
//!
//! - *Addresses*: a trie. Addresses are sixteen bytes; IPv4 is stored IPv4-mapped (`::ffff:a.b.c.d`). A trie node
//!   already contains what the shorter prefixes around it say, so one longest-prefix lookup answers. It names *ports*:
//!   cells, each a [`PortRange`], disjoint and ascending by (protocol, first port), each with a verdict block.
//! - *Names*, of connecting and sending: the header's `host` automaton reads a name in lower case, without a dot at its
//!   end, from its last byte to its first; the verdict block of its state is the number of one cell, an [`AddressNode`],
//!   which names ports (0: no rule is about it). The runner writes those of an address's live names into a map
//!   ([`HostKey`], [`HostLeases`]).
//! - *Own*: the header's `own` names the ports that hold for a listener of the run, and for what the run binds.
//! - *Unix sockets* have no other source: `unix_path` reads the socket's path, `unix_abstract` the abstract name behind
//!   `/@`; the verdict block of the state says it.
//!
//! A rule that makes an exception of what another source knows is bound by [`Entry::except`]: the object sets of a
//! network block are those that [`Entry::MARK`]s in the blocks of all sources name, and are collected first, where the
//! header's `net_marks` says that there are any.
//!
//! # Contents
//!
//! A rule on contents is found by (policy, part, SHA-256) in a hash map, whose value is a verdict block. It is looked
//! up with the last automaton of the part, so that it counts before the part's default.

use super::config::MAX_SLOTS;

/// Where among the policies that stands which lasts at a slot. What somebody answers may open an object for the moment of one
/// act; the policy without that is asked whether a name that stays may be made.
pub const fn lasting(slot: u32) -> u32 {
    slot + MAX_SLOTS
}

/// Cells in one page, the value of a policy's map (64 KiB): a walk that goes from page to page looks each up.
pub const CELLS_PER_PAGE: usize = 8192;
/// The number of the first cell behind the header.
pub const FIRST_CELL: u32 = CELLS_PER_PAGE as u32;
/// Most cells that a plan may have, the header's included: 64 MiB.
pub const MAX_CELLS: usize = 8 << 20;
/// Most automata for paths.
pub const MAX_AUTOMATA: usize = 16;
/// The first number of a class of bytes; a state's own two cells come before.
pub const FIRST_CLASS: u16 = 2;
/// Most sets of patterns that conditions may name.
pub const MAX_SETS: usize = 64;
/// Most entries of a verdict block.
pub const MAX_ENTRIES: usize = 1024;
/// Most port ranges that one prefix may have (a binary search of at most 12 steps).
pub const MAX_PORTS_PER_PREFIX: usize = 4096;
/// Most prefixes of all runs together.
pub const MAX_PREFIXES: usize = 1 << 20;
/// Most policies that hold together.
pub const MAX_PARTS: usize = 16;
/// Most live names of one address whose ports differ.
pub const MAX_LEASES: usize = 8;
/// Most named addresses of all runs together.
pub const MAX_HOSTS: usize = 1 << 16;
/// Most digests of all runs together.
pub const MAX_DIGESTS: usize = 1 << 16;

/// File and exec accesses, as bits of [`masks`].
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

/// What a state behind a `/` says about everything below it, as bits of the block's unconditional `allow`: how a
/// directory may move without taking something out of a rule's reach.
///
/// Both compare with the directories that only floating patterns know. A directory may move when for every automaton
/// the states behind its old and its new name are the same, or the old one is `ORDINARY` and the new one `STRICT`.
pub mod below {
    /// Nothing below is denied that would not be denied below such a directory.
    pub const ORDINARY: u16 = 1 << 15;
    /// Everything that is denied below such a directory is denied below this one.
    pub const STRICT: u16 = 1 << 14;
}

/// Network accesses, as bits of [`masks`].
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

/// What reaches past files and addresses, as bits of [`PolicyHeader::kernel_allow`].
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

/// A cell: whose it is, and its value.
pub const fn pack(owner: u32, value: u32) -> u64 {
    (owner as u64) << 32 | value as u64
}

/// Whose a cell is; of a verdict block's first cell, the number of entries.
pub const fn owner(cell: u64) -> u32 {
    (cell >> 32) as u32
}

/// The value of a cell.
pub const fn value(cell: u64) -> u32 {
    cell as u32
}

/// What some rules say, as one value: accesses that are allowed, and those that are denied.
pub const fn masks(allow: u16, deny: u16) -> u32 {
    allow as u32 | (deny as u32) << 16
}

/// An entry of a verdict block, as its cell has it, lowest byte first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Accesses that are allowed.
    pub allow: u16,
    /// Accesses that are denied.
    pub deny: u16,
    /// The set that the executable must belong to, plus one; 0 is none. Or [`Entry::END`], [`Entry::MARK`].
    pub by: u8,
    /// The set that it must not belong to, plus one; 0 is none.
    pub unless_by: u8,
    /// The set that it or one of its ancestors must belong to, plus one; 0 is none.
    pub under: u8,
    /// The set that the object must not belong to, plus one; 0 is none. In rules on contents and on the network only.
    pub except: u8,
}

impl Entry {
    /// As `by`, in a network block: one policy ends here, and the next begins.
    pub const END: u8 = u8::MAX;
    /// As `by`, in a network block: the end belongs to the set of the number in `allow`, below [`MAX_SETS`].
    pub const MARK: u8 = u8::MAX - 1;

    /// The entry as a cell.
    pub const fn cell(self) -> u64 {
        self.allow as u64
            | (self.deny as u64) << 16
            | (self.by as u64) << 32
            | (self.unless_by as u64) << 40
            | (self.under as u64) << 48
            | (self.except as u64) << 56
    }

    /// The entry that a cell has.
    pub const fn from_cell(cell: u64) -> Entry {
        Entry {
            allow: cell as u16,
            deny: (cell >> 16) as u16,
            by: (cell >> 32) as u8,
            unless_by: (cell >> 40) as u8,
            under: (cell >> 48) as u8,
            except: (cell >> 56) as u8,
        }
    }
}

/// Some ports of one protocol at one prefix, as its cell has it, lowest byte first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// First port, host byte order.
    pub low: u16,
    /// Last port, inclusive.
    pub high: u16,
    /// One of [`proto`].
    pub proto: u8,
    /// The verdict block, below 2^24.
    pub block: u32,
}

impl PortRange {
    /// The range as a cell.
    pub const fn cell(self) -> u64 {
        self.low as u64 | (self.high as u64) << 16 | (self.proto as u64) << 32 | (self.block as u64) << 40
    }

    /// The range that a cell has.
    pub const fn from_cell(cell: u64) -> PortRange {
        PortRange {
            low: cell as u16,
            high: (cell >> 16) as u16,
            proto: (cell >> 32) as u8,
            block: (cell >> 40) as u32,
        }
    }
}

/// An automaton, without its cells.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// The class of each byte, [`FIRST_CLASS`] and above.
    pub classes: [u16; 256],
    /// The state to begin with.
    pub start: u32,
    /// The verdict block of state 0; 0 where it says nothing.
    pub dead: u32,
    /// 1 where the automaton is the last of its policy.
    pub last: u32,
    /// Of the last one: accesses that the policy's defaults deny.
    pub default_deny: u32,
}

impl Automaton {
    /// One that matches nothing.
    pub const NONE: Automaton =
        Automaton { classes: [FIRST_CLASS; 256], start: 0, dead: 0, last: 0, default_deny: 0 };
}

/// The first page of a policy's map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyHeader {
    /// The policy's number, which no other policy of the machine has at the same time: the key of its addresses and
    /// digests, and what records name it by.
    pub id: u32,
    /// Automata in `paths`.
    pub automata: u32,
    /// [`kernel`] bits that the policy allows.
    pub kernel_allow: u32,
    /// [`net_access`] bits that the defaults deny where no rule names an address.
    pub net_default_deny: u32,
    /// 1 where some rule is about contents, so that executables are hashed.
    pub hashes: u32,
    /// [`access`] bits that are denied to what no directory has, and no rule can name.
    pub nameless_deny: u32,
    /// Policies that hold together, at most [`MAX_PARTS`].
    pub parts: u32,
    /// 1 where some rule names hosts: the run's questions go to the runner.
    pub names: u32,
    /// 1 where network blocks have [`Entry::MARK`]s.
    pub net_marks: u32,
    /// [`net_access`] bits that some rule on a unix socket is about.
    pub unix: u32,
    /// What each policy denies on the network where no rule of its own allows it: [`net_access`] bits.
    pub net_defaults: [u16; MAX_PARTS],
    /// Ports of the run's own listeners, and of what it binds.
    pub own: AddressNode,
    /// The sets that `subject` knows.
    pub sets: u64,
    /// To which sets an executable belongs.
    pub subject: Automaton,
    /// Which ports hold for a name.
    pub host: Automaton,
    /// Path sockets.
    pub unix_path: Automaton,
    /// Abstract sockets.
    pub unix_abstract: Automaton,
    /// The automata for paths.
    pub paths: [Automaton; MAX_AUTOMATA],
}

impl PolicyHeader {
    /// The header of a policy that has no rules and allows everything but what `kernel` closes.
    pub const EMPTY: PolicyHeader = PolicyHeader {
        id: 0,
        automata: 0,
        kernel_allow: 0,
        net_default_deny: 0,
        hashes: 0,
        nameless_deny: 0,
        parts: 0,
        names: 0,
        net_marks: 0,
        unix: 0,
        net_defaults: [0; MAX_PARTS],
        own: AddressNode { first: 0, count: 0 },
        sets: 0,
        subject: Automaton::NONE,
        host: Automaton::NONE,
        unix_path: Automaton::NONE,
        unix_abstract: Automaton::NONE,
        paths: [Automaton::NONE; MAX_AUTOMATA],
    };
}

/// What is known of a process, as masks of sets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sets {
    /// Sets that its executable surely belongs to.
    pub sure_own: u64,
    /// Sets that it may belong to.
    pub may_own: u64,
    /// Sets that its executable, an earlier one or that of an ancestor surely belongs to.
    pub sure_line: u64,
    /// Sets that one of them may belong to; [`Sets::may_own`] counts besides.
    pub may_line: u64,
}

impl Sets {
    /// A process that has executed nothing yet, and has no ancestor inside the run.
    pub const FIRST: Sets = Sets { sure_own: 0, may_own: u64::MAX, sure_line: 0, may_line: 0 };
    /// One of which nothing is known.
    pub const UNKNOWN: Sets = Sets { sure_own: 0, may_own: u64::MAX, sure_line: 0, may_line: u64::MAX };
}

/// Key data of the address trie: the policy's number (big-endian, so that it is a prefix), then the address.
/// The prefix length counts from the number's first bit: 32 + the address's prefix length.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey {
    /// [`PolicyHeader::id`], big-endian.
    pub policy_be: u32,
    /// The address, IPv4 as IPv4-mapped.
    pub address: [u8; 16],
}

/// Ports: value of the address trie, and as a cell what names lead to, lowest byte first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressNode {
    /// Number of the first port range's cell.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl AddressNode {
    /// The node as a cell.
    pub const fn cell(self) -> u64 {
        pack(self.count, self.first)
    }

    /// The node that a cell has.
    pub const fn from_cell(cell: u64) -> AddressNode {
        AddressNode { first: value(cell), count: owner(cell) }
    }
}

/// Key of the map of named addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    /// [`PolicyHeader::id`].
    pub policy: u32,
    /// The address, IPv4 as IPv4-mapped.
    pub address: [u8; 16],
}

/// By what kind of name an address is known, and how long.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLease {
    /// The end, nanoseconds of CLOCK_BOOTTIME; 0 where there is no lease.
    pub until_ns: u64,
    /// The number of the cell that the `host` automaton leads to.
    pub node: u64,
}

/// Value of the map of named addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLeases {
    /// Each another node; unused ones behind the others.
    pub leases: [HostLease; MAX_LEASES],
}

/// Key of the digests' map; its value is the number of a verdict block.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DigestKey {
    /// [`PolicyHeader::id`].
    pub policy: u32,
    /// Which policy of those that hold together: the index in `paths` of its last automaton.
    pub part: u32,
    /// SHA-256.
    pub digest: [u8; 32],
}

const _: () = assert!(size_of::<LinkKey>() == 16);
const _: () = assert!(size_of::<Link>() == 8);
const _: () = assert!(size_of::<Entry>() == 8);
const _: () = assert!(size_of::<Automaton>() == 528);
const _: () = assert!(size_of::<PolicyHeader>() == 88 + 20 * 528);
const _: () = assert!(size_of::<HostKey>() == 20);
const _: () = assert!(size_of::<HostLeases>() == 128);
const _: () = assert!(size_of::<PolicyHeader>() <= CELLS_PER_PAGE * 8);
const _: () = assert!(size_of::<AddressKey>() == 20);
const _: () = assert!(size_of::<AddressNode>() == 8);
const _: () = assert!(size_of::<DigestKey>() == 40);
const _: () = assert!(MAX_CELLS <= 1 << 24);
