//! An event: what one line of the log says, before it is chained.
//!
//! The writer adds what belongs to the chain (`seq`, `hash_prev`, `hash_self`), to the run (`run_id`,
//! `agent_id`, `v`) and nothing else. Values are bytes, because Linux paths are.

pub mod decode;
pub mod enrich;
pub mod judge;
pub mod key;
pub mod lines;
pub mod links;
pub mod living;
pub mod redact;
pub mod resolve;

pub use key::Key;

/// The type of an event, `event_type` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The first event of a log.
    RunStart,
    /// The last event of a finished log: the seal.
    RunEnd,
    /// Events were lost.
    Gap,
    /// The log up to here, signed.
    Checkpoint,
    /// Other policies hold from now on.
    PolicyApply,
    /// The run did something that no run of a baseline did.
    Detection,
    /// A call waits, and somebody is asked about it.
    Ask,
    /// How a question ended.
    Answer,
    /// A process was made.
    Fork,
    /// execve(2), execveat(2).
    Exec,
    /// A process ended.
    Exit,
    /// An open of something that existed, or that failed.
    FileOpen,
    /// An open that made the file, or mknod(2), symlink(2).
    FileCreate,
    /// unlink(2).
    FileDelete,
    /// rename(2).
    FileRename,
    /// link(2).
    FileLink,
    /// symlink(2).
    FileSymlink,
    /// truncate(2), ftruncate(2).
    FileTruncate,
    /// A file mapped executable, where a policy denies it.
    FileLoad,
    /// A descriptor that came from another process, where a policy denies the file.
    FileReceive,
    /// chmod(2) and its kin.
    FileMode,
    /// chown(2) and its kin.
    FileOwner,
    /// utimes(2) and its kin.
    FileTimes,
    /// setxattr(2), removexattr(2) and their kin.
    FileXattr,
    /// A change of a file's flags (chattr), as a hook judged it.
    FileFlags,
    /// What an executable held, where it was known only after the exec.
    FileHash,
    /// What a file held before the run and after it.
    FileChange,
    /// mkdir(2).
    DirCreate,
    /// rmdir(2).
    DirDelete,
    /// connect(2).
    NetConnect,
    /// A send with an address.
    NetSend,
    /// accept(2).
    NetAccept,
    /// bind(2).
    NetBind,
    /// listen(2).
    NetListen,
    /// A TCP connection ended.
    NetClose,
    /// A socket of a family that no rule names was asked for.
    NetSocket,
    /// The server that a connection named: in a TLS hello, or in an HTTP request.
    NetName,
    /// A question for a name, and the answer.
    DnsAnswer,
    /// bpf(2).
    ProcBpf,
    /// chroot(2), pivot_root(2).
    ProcChroot,
    /// mount(2), move_mount(2), umount(2).
    ProcMount,
    /// Attaching to a process, or looking into one outside the run.
    ProcPtrace,
    /// A signal to a process outside the run.
    ProcSignal,
    /// A user namespace was asked for.
    ProcUserns,
    /// An io_uring was set up: what it does is not seen by the `trace` layer.
    ProcIoUring,
    /// A process made 32-bit system calls.
    ProcCompat,
}

impl EventType {
    /// Every type, for tables and tests.
    pub const ALL: &'static [EventType] = &[
        EventType::RunStart,
        EventType::RunEnd,
        EventType::Gap,
        EventType::Checkpoint,
        EventType::PolicyApply,
        EventType::Detection,
        EventType::Ask,
        EventType::Answer,
        EventType::Fork,
        EventType::Exec,
        EventType::Exit,
        EventType::FileOpen,
        EventType::FileCreate,
        EventType::FileDelete,
        EventType::FileRename,
        EventType::FileLink,
        EventType::FileSymlink,
        EventType::FileTruncate,
        EventType::FileLoad,
        EventType::FileReceive,
        EventType::FileMode,
        EventType::FileOwner,
        EventType::FileTimes,
        EventType::FileXattr,
        EventType::FileFlags,
        EventType::FileHash,
        EventType::FileChange,
        EventType::DirCreate,
        EventType::DirDelete,
        EventType::NetConnect,
        EventType::NetSend,
        EventType::NetAccept,
        EventType::NetBind,
        EventType::NetListen,
        EventType::NetClose,
        EventType::NetSocket,
        EventType::NetName,
        EventType::DnsAnswer,
        EventType::ProcBpf,
        EventType::ProcChroot,
        EventType::ProcMount,
        EventType::ProcPtrace,
        EventType::ProcSignal,
        EventType::ProcUserns,
        EventType::ProcIoUring,
        EventType::ProcCompat,
    ];

    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            EventType::RunStart => "run_start",
            EventType::RunEnd => "run_end",
            EventType::Gap => "gap",
            EventType::Checkpoint => "checkpoint",
            EventType::PolicyApply => "policy_apply",
            EventType::Detection => "detection",
            EventType::Ask => "ask",
            EventType::Answer => "answer",
            EventType::Fork => "fork",
            EventType::Exec => "exec",
            EventType::Exit => "exit",
            EventType::FileOpen => "file_open",
            EventType::FileCreate => "file_create",
            EventType::FileDelete => "file_delete",
            EventType::FileRename => "file_rename",
            EventType::FileLink => "file_link",
            EventType::FileSymlink => "file_symlink",
            EventType::FileTruncate => "file_truncate",
            EventType::FileLoad => "file_load",
            EventType::FileReceive => "file_receive",
            EventType::FileMode => "file_mode",
            EventType::FileOwner => "file_owner",
            EventType::FileTimes => "file_times",
            EventType::FileXattr => "file_xattr",
            EventType::FileFlags => "file_flags",
            EventType::FileHash => "file_hash",
            EventType::FileChange => "file_change",
            EventType::DirCreate => "dir_create",
            EventType::DirDelete => "dir_delete",
            EventType::NetConnect => "net_connect",
            EventType::NetSend => "net_send",
            EventType::NetAccept => "net_accept",
            EventType::NetBind => "net_bind",
            EventType::NetListen => "net_listen",
            EventType::NetClose => "net_close",
            EventType::NetSocket => "net_socket",
            EventType::NetName => "net_name",
            EventType::DnsAnswer => "dns_answer",
            EventType::ProcBpf => "proc_bpf",
            EventType::ProcChroot => "proc_chroot",
            EventType::ProcMount => "proc_mount",
            EventType::ProcPtrace => "proc_ptrace",
            EventType::ProcSignal => "proc_signal",
            EventType::ProcUserns => "proc_userns",
            EventType::ProcIoUring => "proc_io_uring",
            EventType::ProcCompat => "proc_compat",
        }
    }
}

/// What became of an attempt, `action` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// No policy judged it.
    Observed,
    /// A policy judged it and let it pass.
    Allowed,
    /// A policy denied it.
    Blocked,
    /// A policy would have denied it, had it been enforced.
    WouldBlock,
}

impl Action {
    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Action::Observed => "OBSERVED",
            Action::Allowed => "ALLOWED",
            Action::Blocked => "BLOCKED",
            Action::WouldBlock => "WOULD_BLOCK",
        }
    }
}

/// One process, even where its pid is used again: pid and start time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcId {
    /// Process id (thread group id).
    pub pid: u32,
    /// When its first thread started, nanoseconds since boot (CLOCK_BOOTTIME); 0 when unknown.
    pub start_ns: u64,
}

impl std::fmt::Display for ProcId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.pid, self.start_ns)
    }
}

impl ProcId {
    /// Reads what a log has as `proc_id`; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let (pid, start_ns) = text.split_once('-')?;
        Some(Self { pid: pid.parse().ok()?, start_ns: start_ns.parse().ok()? })
    }
}

/// A value of a detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// An integer that may not fit `i64` (inode numbers, nanoseconds).
    Uint(u64),
    /// Text or a path: bytes, UTF-8 or not.
    Bytes(Vec<u8>),
    /// A list of byte strings (argv, layers).
    List(Vec<Vec<u8>>),
    /// True or false.
    Flag(bool),
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub event_type: EventType,
    /// What became of it.
    pub action: Action,
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    pub wall_ns: i64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// The kernel's sequence number in this run; 0 for the runner's own events.
    pub kseq: u64,
    /// Who did it.
    pub process: ProcId,
    /// The rest, in any order, each key at most once.
    pub details: Vec<(Key, Value)>,
}

impl Event {
    /// The value of a detail, if the event has it.
    pub fn get(&self, key: Key) -> Option<&Value> {
        self.details.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Cuts secrets out of the arguments, and says so beside them.
    pub fn redact(&mut self) {
        let arguments = self.details.iter_mut().find(|(key, _)| *key == Key::Argv);
        if let Some((_, Value::List(argv))) = arguments
            && redact::arguments(argv)
        {
            self.set(Key::ArgvRedacted, Value::Flag(true));
        }
    }

    /// Adds a detail, or replaces the one that is there.
    pub fn set(&mut self, key: Key, value: Value) {
        match self.details.iter_mut().find(|(k, _)| *k == key) {
            Some((_, slot)) => *slot = value,
            None => self.details.push((key, value)),
        }
    }
}
