//! Records as they cross the ring buffer: a fixed header, then up to four variable parts.
//!
//! A part is bytes; what it holds follows from the record's [`Kind`]:
//!
//! | kind | part 0 | part 1 | part 2 | part 3 |
//! |---|---|---|---|---|
//! | path calls | directory the first name starts from ¹ | first name ² | directory of the second ¹ | second name ² |
//! | `Open` that succeeded, calls on a descriptor | the object's own path ¹ | – | – | – |
//! | `Exec` | working directory ¹ | name as called ² | the executable's path ¹ | argv, NUL-separated |
//! | network calls | the socket address as the kernel got it | working directory, for a relative unix name ¹ | – | – |
//! | `OpenCheck`, `LoadCheck`, `ReceiveCheck` | path as d_path gives it | – | – | – |
//! | `ExecCheck` | the same | SHA-256 of what the file holds, if it was asked for | – | – |
//! | `ConnectCheck`, `SendCheck`, `BindCheck`, `ListenCheck`, `Close` | the socket address | – | – | – |
//! | `UnixCheck` | the socket's absolute path; behind `/@` its abstract name | – | – | – |
//! | `Hello` | the socket address that was connected to | the name | – | – |
//! | `SocketCheck` | – | – | – | – |
//! | `Answer` | the socket address that it came from | what it says, cut at [`ANSWER_MAX`] | – | – |
//! | `KernelCheck` | the path that it is about, if any | – | – | – |
//! | `PathCheck` | the first name's absolute path | the second name's; an extended attribute's name | – | – |
//!
//! ¹ component names, leaf first, each ended by NUL; none is `/`. ² without its NUL.

/// Most bytes that the parts of one record have together.
pub const DATA_MAX: usize = 32 * 1024;
/// Most bytes of one path, its NUL included (PATH_MAX).
pub const PATH_MAX: usize = 4096;
/// Most bytes of argv that a record carries.
pub const ARGV_MAX: usize = 16 * 1024;
/// Most bytes of a resolver's datagram that a record carries.
pub const ANSWER_MAX: usize = 4096;
/// Most bytes of a socket address (sockaddr_un with its NUL and padding).
pub const ADDRESS_MAX: usize = 128;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Nothing that this version knows.
    Unknown = 0,
    /// A process was made. `args`: child's pid, child's start time.
    Fork = 1,
    /// An exec, successful (`ret` 0) or failed.
    Exec = 2,
    /// A process ended. `args`: wait(2) status.
    Exit = 3,
    /// open(2) and its kin. `args`: flags, mode, f_mode of the opened file, superblock magic.
    Open = 4,
    /// unlink(2), and unlinkat(2). `args`: flags.
    Unlink = 5,
    /// rename(2) and its kin. `args`: flags.
    Rename = 6,
    /// link(2). `args`: flags.
    Link = 7,
    /// symlink(2): the first name is the new link's, the second its text.
    Symlink = 8,
    /// mkdir(2). `args`: mode.
    Mkdir = 9,
    /// rmdir(2).
    Rmdir = 10,
    /// mknod(2). `args`: mode, device.
    Mknod = 11,
    /// truncate(2), ftruncate(2). `args`: length.
    Truncate = 12,
    /// chmod(2) and its kin. `args`: mode.
    Chmod = 13,
    /// chown(2) and its kin. `args`: user, group.
    Chown = 14,
    /// utimes(2) and its kin.
    Utimes = 15,
    /// setxattr(2), removexattr(2) and their kin; the second name is the attribute's.
    Xattr = 16,
    /// connect(2). `args`: descriptor, socket family, socket type, protocol.
    Connect = 17,
    /// sendto(2), sendmsg(2), sendmmsg(2) with an address. `args` as for `Connect`.
    Send = 18,
    /// bind(2). `args` as for `Connect`.
    Bind = 19,
    /// listen(2). `args` as for `Connect`.
    Listen = 20,
    /// accept(2), with the peer's address. `args` as for `Connect`.
    Accept = 21,
    /// io_uring_setup(2).
    IoUring = 22,
    /// The paths of a call whose base directories may move while it runs, taken on entry. The record with
    /// the result follows from the same task; `args`: the kind to come.
    Entry = 23,
    /// A hook's verdict on an open.
    OpenCheck = 24,
    /// A hook's verdict on one level of an exec.
    ExecCheck = 25,
    /// A hook's verdict on a connect. `args` as for `Connect`.
    ConnectCheck = 26,
    /// A hook's verdict on a send. `args` as for `Connect`.
    SendCheck = 27,
    /// A call of the 32-bit table that multiplexes others (socketcall(2)). `args`: which.
    Compat = 28,
    /// A hook's verdict on a call about one name or two. `args`: the call's kind, the accesses judged at the
    /// second name, those that the object would have gained by its new name, the call's flags.
    PathCheck = 29,
    /// A hook's verdict on mapping a file executable. `args`: flags of the open file.
    LoadCheck = 30,
    /// A hook's verdict on one of [`super::policy::kernel`]'s acts. `args`: which, the process it is about, a
    /// number (mount flags, ptrace mode, signal, bpf command).
    KernelCheck = 31,
    /// A change of a file's flags (chattr), as only a hook sees it.
    Flags = 32,
    /// A hook's verdict on a file that came as a descriptor from another process. `args`: flags of the open file.
    ReceiveCheck = 33,
    /// A hook's verdict on an access to a unix socket; `access` says which. `args`: 1 for an abstract name, family, type.
    UnixCheck = 34,
    /// A hook's verdict on making a socket. `args`: 0, family, type, protocol.
    SocketCheck = 35,
    /// A hook's verdict on a bind. `args` as for `Connect`.
    BindCheck = 36,
    /// A hook's verdict on a listen, or on accepting from a listener. `args` as for `Connect`.
    ListenCheck = 37,
    /// The end of a TCP connection. `args`: bytes sent, bytes received, own port, socket family.
    Close = 38,
    /// A datagram from the port of a resolver. `args`: the port that it came to, bytes of the datagram.
    Answer = 39,
    /// The server that a connection named. `args`: bits of [`crate::hello::flag`], one of [`crate::hello::outcome`], own
    /// port, 1 where it had to be one that opens the address.
    Hello = 40,
}

impl Kind {
    /// The kind behind a raw number; what is not known is `Unknown`.
    pub fn from_raw(raw: u8) -> Kind {
        use Kind::*;
        const KINDS: [Kind; 41] = [
            Unknown,
            Fork,
            Exec,
            Exit,
            Open,
            Unlink,
            Rename,
            Link,
            Symlink,
            Mkdir,
            Rmdir,
            Mknod,
            Truncate,
            Chmod,
            Chown,
            Utimes,
            Xattr,
            Connect,
            Send,
            Bind,
            Listen,
            Accept,
            IoUring,
            Entry,
            OpenCheck,
            ExecCheck,
            ConnectCheck,
            SendCheck,
            Compat,
            PathCheck,
            LoadCheck,
            KernelCheck,
            Flags,
            ReceiveCheck,
            UnixCheck,
            SocketCheck,
            BindCheck,
            ListenCheck,
            Close,
            Answer,
            Hello,
        ];
        KINDS.get(raw as usize).copied().unwrap_or(Unknown)
    }
}

/// A hook's verdict, as it travels with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Judgement {
    /// No policy judged it.
    None = 0,
    /// Judged and let pass.
    Allowed = 1,
    /// Judged and denied.
    Blocked = 2,
    /// Judged while only auditing: it would have been denied.
    WouldBlock = 3,
}

impl Judgement {
    /// The judgement behind a raw number; what is not known is `None`.
    pub fn from_raw(raw: u8) -> Judgement {
        match raw {
            1 => Judgement::Allowed,
            2 => Judgement::Blocked,
            3 => Judgement::WouldBlock,
            _ => Judgement::None,
        }
    }
}

/// Why a hook denied, where it was not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The policy: a rule or a default.
    Policy = 0,
    /// The path is longer than PATH_MAX.
    PathTooLong = 1,
    /// The kernel could not give the path or the address.
    Unreadable = 2,
    /// The path does not lead to the root of the task's file system.
    Unreachable = 3,
    /// No memory to work in.
    NoScratch = 4,
    /// An address family that no rule can name.
    Family = 5,
    /// The policy's tables are not whole.
    Tables = 6,
    /// The run has been ended.
    Ended = 7,
    /// Something below a directory is denied where it is, and would not be where the directory goes.
    Below = 8,
    /// The object is shown in more places than can be looked at.
    Places = 9,
    /// Code that no directory has: no rule can name it.
    Nameless = 10,
    /// Another name that the object had when the run began is denied. `args[3]` is the mark's number plus one.
    Link = 11,
    /// What the file holds could not be read, and the policy knows files by it.
    Contents = 12,
    /// The socket by which policies are applied to runs, see [`super::CONTROL_NAME`].
    Control = 13,
    /// What a connection sends names its server in no way that everybody reads alike.
    Hello = 14,
    /// The port of resolvers, where rules on names of hosts are held.
    Resolver = 15,
}

impl Cause {
    /// The cause behind a raw number; what is not known is `Tables`, a fault of the runner.
    pub fn from_raw(raw: u8) -> Cause {
        match raw {
            0 => Cause::Policy,
            1 => Cause::PathTooLong,
            2 => Cause::Unreadable,
            3 => Cause::Unreachable,
            4 => Cause::NoScratch,
            5 => Cause::Family,
            7 => Cause::Ended,
            8 => Cause::Below,
            9 => Cause::Places,
            10 => Cause::Nameless,
            11 => Cause::Link,
            12 => Cause::Contents,
            13 => Cause::Control,
            14 => Cause::Hello,
            15 => Cause::Resolver,
            _ => Cause::Tables,
        }
    }
}

/// Why what a connection sends could not be read: the result of a [`Kind::Hello`].
pub mod refusal {
    /// Pages that may still change when they were looked at.
    pub const SHARED_PAGES: u32 = 1;
    /// Urgent data, which a server takes out of the stream.
    pub const URGENT: u32 = 2;
    /// A second SYN, or a packet that could not be read.
    pub const PACKET: u32 = 3;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// A path or name is longer than its part.
    pub const TRUNCATED: u16 = 1 << 0;
    /// A name in the caller's memory could not be read.
    pub const UNREADABLE: u16 = 1 << 1;
    /// argv is longer than its part.
    pub const ARGV_TRUNCATED: u16 = 1 << 2;
    /// The object's path does not lead to a root (pipe, socket, memfd).
    pub const DETACHED: u16 = 1 << 3;
    /// A hook's record of the same attempt went before, with the same `kseq`.
    pub const FOLLOWS_CHECK: u16 = 1 << 4;
    /// A record with the call's result will follow, with the same `kseq`.
    pub const RESULT_FOLLOWS: u16 = 1 << 5;
    /// The descriptor that the call started from does not lead to a file.
    pub const NO_BASE: u16 = 1 << 6;
    /// The first name was not used: the call is about the descriptor.
    pub const BY_DESCRIPTOR: u16 = 1 << 7;
    /// More names than a record can tell of (sendmmsg(2)).
    pub const MORE: u16 = 1 << 8;
    /// The other end is a listener of the run.
    pub const OWN: u16 = 1 << 9;
    /// The other end is a resolver of the machine's, for which the runner stands in.
    pub const RESOLVER: u16 = 1 << 10;
    /// Judged by a program of the run's control group.
    pub const GROUP: u16 = 1 << 11;
}

/// System call tables that a record may come from.
pub mod arch {
    /// The machine's own.
    pub const NATIVE: u8 = 0;
    /// The machine's 32-bit one.
    pub const COMPAT: u8 = 1;
    /// x86-64 numbers with the x32 bit.
    pub const X32: u8 = 2;
}

/// The fixed part of a record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The run's sequence number, taken before room in the ring was asked for.
    pub kseq: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// Start of the process's first thread, nanoseconds since boot.
    pub start_ns: u64,
    /// Result of the call: `-errno`, or 0 and above.
    pub ret: i64,
    /// Depends on the kind.
    pub args: [u64; 4],
    /// Inode number of the object, where there is one; of network calls the socket's own port, host byte order.
    pub ino: u64,
    /// Device of the object's file system (kernel's dev_t).
    pub dev: u32,
    /// Process id (thread group).
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The parent's process id.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Slot of the run.
    pub slot: u32,
    /// System call number.
    pub syscall: u32,
    /// [`flag`] bits.
    pub flags: u16,
    /// [`super::policy::access`] or [`super::policy::net_access`] bits that were judged.
    pub access: u16,
    /// A [`Kind`].
    pub kind: u8,
    /// A [`Judgement`].
    pub judgement: u8,
    /// A [`Cause`].
    pub cause: u8,
    /// One of [`arch`].
    pub arch: u8,
    /// Lengths of the parts.
    pub parts: [u16; 4],
    /// [`super::policy::PolicyHeader::id`] of the policy that a judgement rests on.
    pub policy: u32,
    /// The task's name.
    pub comm: [u8; 16],
}

impl Header {
    /// Nothing but zeros.
    pub const EMPTY: Header = Header {
        kseq: 0,
        mono_ns: 0,
        start_ns: 0,
        ret: 0,
        args: [0; 4],
        ino: 0,
        dev: 0,
        pid: 0,
        tid: 0,
        ppid: 0,
        uid: 0,
        slot: 0,
        syscall: 0,
        flags: 0,
        access: 0,
        kind: 0,
        judgement: 0,
        cause: 0,
        arch: 0,
        parts: [0; 4],
        policy: 0,
        comm: [0; 16],
    };
}

/// Size of [`Header`], bytes.
pub const HEADER_SIZE: usize = size_of::<Header>();

const _: () = assert!(HEADER_SIZE == 136);
const _: () = assert!(DATA_MAX <= u16::MAX as usize);
