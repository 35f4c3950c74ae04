//! Every map, and what lives in it.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array as BtfArray, ArrayOfMaps, SkStorage},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid, bpf_ktime_get_ns,
        generated::bpf_get_current_comm,
    },
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, RingBuf},
};
use sandbox_ebpf::{
    abi::{
        config::{MAX_SLOTS, RunConfig, RunCounters},
        event::{ANSWER_MAX, DATA_MAX, Header, PATH_MAX},
        policy::{
            AddressKey, AddressNode, CELLS_PER_PAGE, DigestKey, HostKey, HostLeases, Link, LinkKey,
            MAX_DIGESTS, MAX_HOSTS, MAX_LINKS, MAX_PARTS, MAX_PREFIXES, Sets,
        },
        resolver::{MAX_RESOLVERS, ResolverKey, Stub, StubKey},
        syscall::{CALLS, SyscallSpec},
    },
    hello::Hello,
};

use crate::offsets::{self, field};

/// A followed task, by the address of its `task_struct`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Task {
    /// Slot of its run.
    pub slot: u32,
    /// Index of the observed system call that it is in, plus one; 0 is none.
    pub call: u32,
    /// Sequence number of the record that the call's result belongs to; 0 is none yet.
    pub kseq: u64,
    /// Judgement that a hook made in this call.
    pub judgement: u8,
    /// 1 when a record with `kseq` is in the ring already.
    pub sent: u8,
    /// Record flags that a hook adds to the call's result.
    pub notes: u16,
    pub _pad: [u8; 4],
    /// On a process's first thread: 1 once the end of the process was recorded.
    pub ended: u64,
}

impl Task {
    /// A task that has done nothing yet.
    #[inline(always)]
    pub fn new(slot: u32) -> Task {
        Task { slot, call: 0, kseq: 0, judgement: 0, sent: 0, notes: 0, _pad: [0; 4], ended: 0 }
    }
}

/// Membership of a run, in task storage.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Member {
    pub slot: u32,
    pub _pad: u32,
    /// What conditions on the process can know of the task.
    pub sets: Sets,
}

/// What a hook works in: the record it may write, and the paths it judges.
#[repr(C)]
pub struct HookScratch {
    pub header: Header,
    /// The first path; behind [`PATH_MAX`] it is where a path is put together, from its end.
    pub path: [u8; 2 * PATH_MAX + 256],
    /// The second path, and room to look one byte beyond it.
    pub second: [u8; PATH_MAX + 64],
    pub climb: Climb,
    pub places: Places,
    pub finding: Finding,
    pub walk: Walk,
    /// SHA-256 of what is executed, where `walk.hashed` says so, and room for longer ones.
    pub digest: [u8; 32],
    pub digest_slack: [u8; 32],
}

/// A look at a policy's tables, under way: see `verdict`.
#[repr(C)]
pub struct Walk {
    /// Bytes of the path, and how many of them were taken.
    pub length: u64,
    pub position: u64,
    pub state: u64,
    /// 1 when the tables are not whole.
    pub failed: u64,
    /// What the rules of the policy that is being asked said so far.
    pub allow: u64,
    pub deny: u64,
    /// What all policies deny, and what their rules do.
    pub denied: u64,
    pub by_rule: u64,
    /// The number of a block's first entry.
    pub entries: u64,
    /// What is known of the acting process: see `Sets`.
    pub sure_own: u64,
    pub may_own: u64,
    pub sure_line: u64,
    pub may_line: u64,
    /// 1 when `digest` holds, and `verdict::NAMED` when a rule names it; and the sets that the object belongs to.
    pub hashed: u64,
    pub object: u64,
    /// The comparison of two directories.
    pub lengths: [u64; 2],
    pub exchange: u64,
    pub marks: u64,
    pub first_state: u64,
    pub first_marks: u64,
    /// The search for a port.
    pub low: u64,
    pub high: u64,
    pub wanted: u64,
    pub block: u64,
    /// What rules on the network said so far, policy by policy, and whose turn it is.
    pub net_allow: [u64; MAX_PARTS],
    pub net_deny: [u64; MAX_PARTS],
    pub part: u64,
    /// Which sources count (`verdict::source`), and 1 while the sets that an end belongs to are collected.
    pub sources: u64,
    pub marking: u64,
    /// At which turn it began.
    pub first: u64,
    /// The moment of the look, CLOCK_BOOTTIME.
    pub now: u64,
    /// The ports that hold for a name that was looked up: an `AddressNode`'s cell.
    pub told: u64,
}

/// What a hook has found so far. It lives here and not in registers, and is read anew where it is used: the
/// verifier would follow each value that it knows through all that comes after.
#[repr(C)]
pub struct Finding {
    /// 1 when the policy denies.
    pub denied: u64,
    /// A `Cause`.
    pub cause: u64,
    /// A `Judgement`, made of both and the run's mode.
    pub judgement: u64,
    /// Bytes behind the header that belong to the record.
    pub length: u64,
    /// The two names.
    pub names: [Found; 2],
    /// The accesses judged at each.
    pub wanted: [u64; 2],
    /// What an object would gain by its second name.
    pub gained: u64,
    /// 1 when the call's result follows this record.
    pub paired: u64,
    /// 1 when this record follows one of the names, and 1 when this one is in the ring.
    pub joins: u64,
    pub sent: u64,
    /// The kernel's object, where it is judged by its address.
    pub object: u64,
    /// Which mark denies the object by another of its names, plus one; 0 for none.
    pub linked: u64,
    /// 1 for an object that no directory has.
    pub own: u64,
    /// The policy that was asked.
    pub policy: u64,
    /// Port, protocol and address to be looked up.
    pub port: u64,
    pub proto: u64,
    pub address: [u8; 16],
    /// `flag` bits that go into the record.
    pub notes: u64,
}

/// What was found out about a name.
#[repr(C)]
pub struct Found {
    /// One of `hooks::names::outcome`.
    pub outcome: u64,
    /// Bytes of its path.
    pub length: u64,
    /// The accesses denied there.
    pub denied: u64,
}

macro_rules! cells {
    ($($name:ident: $($path:tt).+;)*) => {
        /// Reading and writing of what was found, so that the compiler keeps none of it in registers.
        impl HookScratch {
            $(
                #[inline(always)]
                pub fn $name(&self) -> u64 {
                    get(&self.$($path).+)
                }
            )*
        }
    };
}
cells! {
    denied: finding.denied;
    cause: finding.cause;
    judgement: finding.judgement;
    length: finding.length;
    paired: finding.paired;
    policy: finding.policy;
    port: finding.port;
    proto: finding.proto;
    climb_end: climb.end;
}

/// The value of a cell of the scratch, as it is now.
#[inline(always)]
pub fn get(cell: &u64) -> u64 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(cell) }
}

/// Puts a value into a cell of the scratch, now.
#[inline(always)]
pub fn put(cell: &mut u64, value: u64) {
    // SAFETY: a reference is valid to write.
    unsafe { core::ptr::write_volatile(cell, value) }
}

/// A walk from a name up to the root, under way: see `hooks::names`.
#[repr(C)]
pub struct Climb {
    pub dentry: u64,
    pub mount: u64,
    /// Where the path begins, counted from [`PATH_MAX`].
    pub position: u64,
    /// How it ended: one of `hooks::names::end`.
    pub end: u64,
}

/// Most mounts that show one entry and are looked at.
pub const PLACES: usize = 8;

/// A search for the mounts that show an entry, under way: see `hooks::places`.
#[repr(C)]
pub struct Places {
    pub dentry: u64,
    /// The namespace whose mounts count.
    pub namespace: u64,
    /// The next mount in the superblock's list, and what ends the list.
    pub next: u64,
    pub last: u64,
    /// How it ended: one of `hooks::places::end`.
    pub end: u64,
    /// The root of the mount that is looked at, and how far up towards it the look has come.
    pub root: u64,
    pub above: u64,
    /// 1 when the root was reached.
    pub reached: u64,
    /// The accesses that it is about.
    pub wanted: u64,
    /// The mounts found, of which those below `count` are still to be looked up.
    pub count: u64,
    pub mounts: [u64; PLACES],
}

/// A hook's scratch for when the task's own cannot be had.
#[repr(C)]
pub struct PooledScratch {
    /// 1 while somebody works in it.
    pub taken: u64,
    pub scratch: HookScratch,
}

/// Entries of [`SCRATCH_POOL`].
pub const POOL: u32 = 64;

/// Slack behind the observer's data: a part is written in one piece of bounded size from any offset.
pub const TRACE_SLACK: usize = 16 * 1024 + 512;

/// What the observer works in, one per CPU.
#[repr(C)]
pub struct TraceScratch {
    pub header: Header,
    pub data: [u8; DATA_MAX + TRACE_SLACK],
    /// Where the next part begins.
    pub cursor: u64,
    pub walk: Ascent,
    pub arguments: Arguments,
}

/// A walk from a dentry to the root, under way.
#[repr(C)]
pub struct Ascent {
    /// Where its part began.
    pub begin: u64,
    pub dentry: u64,
    pub mount: u64,
    /// Record flags that it adds.
    pub flags: u64,
}

/// The reading of an argument vector, under way.
#[repr(C)]
pub struct Arguments {
    /// Where its part began.
    pub begin: u64,
    /// The vector, in the caller's memory.
    pub array: u64,
    pub pointer_size: u64,
    /// 0 once the end was seen.
    pub truncated: u64,
}

/// A socket that a task of a run made, in socket storage. What a listener accepts has a copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    /// Slot of the run, plus one; 0 is none.
    pub slot: u32,
    /// 1 where it belongs to the run's control group, so that the group's programs see what it does.
    pub grouped: u32,
    /// 1 where `sets` are known.
    pub known: u64,
    /// What conditions could know of the task that connected or sent last.
    pub sets: Sets,
}

/// Where a resolver's answer is put together, one per CPU.
#[repr(C)]
pub struct AnswerScratch {
    pub header: Header,
    /// The address that it came from.
    pub data: [u8; 28],
    /// What it says.
    pub answer: [u8; 2 * ANSWER_MAX],
}

/// A connection whose end will be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connection {
    pub slot: u32,
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub start_ns: u64,
    pub ppid: u32,
    pub _pad: u32,
    pub comm: [u8; 16],
}

/// Most open connections of all runs together.
const MAX_CONNECTIONS: u32 = 65_536;

/// A map kept with the socket; declared as [`TaskStorage`] is.
#[repr(C)]
pub struct SocketStorage<T> {
    r#type: *const [i32; 24],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    /// BPF_F_NO_PREALLOC, BPF_F_CLONE: what is accepted belongs to whom the listener belongs.
    map_flags: *const [i32; 0x201],
}

// SAFETY: the struct only describes a map to the loader; it is never read or written at run time.
unsafe impl<T> Sync for SocketStorage<T> {}

impl<T> SocketStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        SocketStorage { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    pub fn as_ptr(&self) -> *mut core::ffi::c_void {
        &raw const *self as *mut _
    }
}

/// A map kept with the task: a BTF map declares itself by its field types, and aya-ebpf has none for this.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; 29],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 1],
}

// SAFETY: the struct only describes a map to the loader; it is never read or written at run time.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        TaskStorage { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    pub fn as_ptr(&self) -> *mut core::ffi::c_void {
        &raw const *self as *mut _
    }
}

impl Connection {
    /// One that the current task makes.
    #[inline(always)]
    pub fn of_current(slot: u32) -> Connection {
        // SAFETY: the helper takes no argument.
        let task = unsafe { bpf_get_current_task() };
        let ids = bpf_get_current_pid_tgid();
        let leader: u64 = field(task, &offsets::TASK_GROUP_LEADER);
        let parent: u64 = field(task, &offsets::TASK_REAL_PARENT);
        let mut connection = Connection {
            slot,
            pid: (ids >> 32) as u32,
            tid: ids as u32,
            uid: bpf_get_current_uid_gid() as u32,
            start_ns: field(leader, &offsets::TASK_START_BOOTTIME),
            ppid: field(parent, &offsets::TASK_TGID),
            _pad: 0,
            comm: [0; 16],
        };
        // SAFETY: the helper writes as many bytes as there are.
        unsafe { bpf_get_current_comm((&raw mut connection.comm).cast(), 16) };
        connection
    }

    /// Puts down in a record who made the connection, and when the record is.
    #[inline(always)]
    pub fn fill(&self, header: &mut Header) {
        *header = Header::EMPTY;
        header.slot = self.slot;
        header.pid = self.pid;
        header.tid = self.tid;
        header.uid = self.uid;
        header.ppid = self.ppid;
        header.start_ns = self.start_ns;
        header.comm = self.comm;
        // SAFETY: the helper takes no argument.
        header.mono_ns = unsafe { bpf_ktime_get_ns() };
    }
}

/// How far the reading of a socket's names has come.
pub mod phase {
    /// The socket is not to be read.
    pub const NONE: u64 = 0;
    /// It is to be read from its SYN on. Whoever lets a socket connect sets this, with [`super::Reading::begin`].
    pub const CONNECTING: u64 = 1;
    /// Its SYN was sent.
    pub const READING: u64 = 2;
    /// There is nothing more to read, and nothing was refused.
    pub const PASSED: u64 = 3;
    /// Nothing is sent any more.
    pub const REFUSED: u64 = 4;
}

/// Where a reading's connection goes, as it was asked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Goal {
    /// IPv4 as IPv4-mapped.
    pub address: [u8; 16],
    pub port: u16,
    pub family: u16,
    /// The socket's own port; known when it sends.
    pub own_port: u16,
    pub _pad: u16,
}

/// A TCP socket that names are read of, in socket storage: see `net::inspect`. TCP sends with the socket locked, so that
/// one packet at a time is looked at.
#[repr(C)]
pub struct Reading {
    /// One of [`phase`].
    pub phase: u64,
    /// 1 where the connection is open because of a name, so that it must go there.
    pub law: u64,
    /// Decisions of `hello` that were judged.
    pub judged: u32,
    /// Why the machine was not shown all: one of `abi::event::refusal`, 0 where it was.
    pub refusal: u32,
    /// Sequence numbers of the SYN, and of the next byte to be read.
    pub start: u32,
    pub next: u32,
    /// Of the packet that is looked at: where the next byte lies, and where it ends.
    pub position: u64,
    pub end: u64,
    pub who: Connection,
    pub goal: Goal,
    /// What conditions could know of the task that connected.
    pub sets: Sets,
    pub hello: Hello,
}

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);
#[map]
pub static RUN_CONFIG: Array<RunConfig> = Array::with_max_entries(MAX_SLOTS, 0);
#[map]
pub static RUN_COUNTERS: Array<RunCounters> = Array::with_max_entries(MAX_SLOTS, 0);
#[map]
pub static TASKS: HashMap<u64, Task> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);
#[map]
pub static SYSCALLS: Array<SyscallSpec> = Array::with_max_entries(CALLS, 0);
/// Entries: the machine's CPUs, set by the loader.
#[map]
pub static TRACE_SCRATCH: Array<TraceScratch> = Array::with_max_entries(1, 0);
/// Entries: the machine's CPUs, set by the loader.
#[map]
pub static ANSWER_SCRATCH: Array<AnswerScratch> = Array::with_max_entries(1, 0);
#[map]
pub static SCRATCH_POOL: Array<PooledScratch> = Array::with_max_entries(POOL, 0);
#[map]
pub static ADDRESSES: LpmTrie<AddressKey, AddressNode> =
    LpmTrie::with_max_entries(MAX_PREFIXES as u32, BPF_F_NO_PREALLOC);
#[map]
pub static LINKS: HashMap<LinkKey, Link> = HashMap::with_max_entries(MAX_LINKS, BPF_F_NO_PREALLOC);
#[map]
pub static DIGESTS: HashMap<DigestKey, u32> =
    HashMap::with_max_entries(MAX_DIGESTS as u32, BPF_F_NO_PREALLOC);

#[map]
pub static HOSTS: HashMap<HostKey, HostLeases> =
    HashMap::with_max_entries(MAX_HOSTS as u32, BPF_F_NO_PREALLOC);
#[map]
pub static RESOLVERS: HashMap<ResolverKey, Stub> = HashMap::with_max_entries(MAX_RESOLVERS, 0);
#[map]
pub static STUBS: HashMap<StubKey, [u8; 16]> = HashMap::with_max_entries(2 * MAX_RESOLVERS, 0);
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(MAX_CONNECTIONS, BPF_F_NO_PREALLOC);

/// `BPF_F_INNER_MAP`: the maps inside differ in how many pages they have.
const INNER_MAP: usize = 1 << 12;

/// The policy of each slot, and behind these what of each lasts: an array of pages each.
#[btf_map]
pub static POLICIES: ArrayOfMaps<BtfArray<[u64; CELLS_PER_PAGE], 1, INNER_MAP>, { 2 * MAX_SLOTS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
pub static MEMBERS: TaskStorage<Member> = TaskStorage::new();
#[btf_map]
pub static SOCKETS: SocketStorage<Socket> = SocketStorage::new();
#[btf_map]
pub static SCRATCH: TaskStorage<HookScratch> = TaskStorage::new();
#[btf_map]
pub static READINGS: SkStorage<Reading> = SkStorage::new();
