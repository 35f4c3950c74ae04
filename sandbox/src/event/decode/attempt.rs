//! One record as one event: what each kind's parts and numbers mean.

mod judged;
mod network;
mod unseen;

use std::io::Write;

use sandbox_ebpf::abi::{
    event::{Cause, Header, Judgement, Kind, flag},
    policy::{access, net_access},
};

use super::{Decoded, Facts, path};
use crate::{
    event::{Action, Event, EventType, Key, ProcId, Value},
    kernel::syscalls,
    observe::{RawEvent, told},
};
use unseen::succeeded;
pub use unseen::{FAILED, MISSED, UNKNOWN};

/// `FMODE_CREATED`, `include/linux/fs.h`.
const FMODE_CREATED: u64 = 0x10_0000;
/// The kernel's own errnos of interrupted calls (`include/linux/errno.h`): the caller sees EINTR, or the call
/// is made again.
const ERESTART: [i64; 4] = [-512, -513, -514, -516];
/// Most details that an event has; more are no fault.
const DETAILS: usize = 20;

/// Whether a kind is a hook's.
pub fn is_check(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::OpenCheck
            | Kind::ExecCheck
            | Kind::LoadCheck
            | Kind::ReceiveCheck
            | Kind::ConnectCheck
            | Kind::SendCheck
            | Kind::PathCheck
            | Kind::KernelCheck
            | Kind::UnixCheck
            | Kind::SocketCheck
            | Kind::BindCheck
            | Kind::ListenCheck
            | Kind::Hello
    )
}

/// The kind that an `Entry` record announces: one whose paths may be taken on entry.
pub fn announced(header: &Header) -> Option<Kind> {
    let kind = Kind::from_raw(u8::try_from(header.args[1]).ok()?);
    let known = !is_check(kind) && !matches!(kind, Kind::Unknown | Kind::Entry);
    known.then_some(kind)
}

/// Who acts.
pub fn process(header: &Header) -> ProcId {
    ProcId { pid: header.pid, start_ns: header.start_ns }
}

/// An event in the making.
pub struct Builder {
    event: Event,
    facts: Facts,
}

impl Builder {
    /// With what every record tells.
    pub fn new(header: &Header, event_type: EventType, wall_offset_ns: i64) -> Self {
        let event = Event {
            event_type,
            action: Action::Observed,
            wall_ns: (header.mono_ns as i64).wrapping_add(wall_offset_ns),
            mono_ns: header.mono_ns,
            kseq: header.kseq,
            process: process(header),
            details: Vec::with_capacity(DETAILS),
        };
        let mut builder = Builder { event, facts: Facts::default() };
        builder.put(Key::Ppid, Value::Int(header.ppid.into()));
        builder.put(Key::Uid, Value::Int(header.uid.into()));
        let comm = header.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        builder.bytes(Key::Comm, comm);
        builder
    }

    /// Adds a detail that is not there yet.
    pub fn put(&mut self, key: Key, value: Value) {
        self.event.details.push((key, value));
    }

    fn bytes(&mut self, key: Key, bytes: &[u8]) {
        self.put(key, Value::Bytes(bytes.to_vec()));
    }

    fn some(&mut self, key: Key, path: Option<Vec<u8>>) {
        if let Some(path) = path {
            self.put(key, Value::Bytes(path));
        }
    }

    fn number(&mut self, key: Key, number: u64) {
        self.put(key, Value::Uint(number));
    }

    fn judge(&mut self, header: &Header) {
        self.facts.judgement = Judgement::from_raw(header.judgement);
        self.facts.cause = Cause::from_raw(header.cause);
        if self.facts.cause == Cause::Link {
            self.facts.mark = (header.args[3] as usize).saturating_sub(1);
        }
        self.facts.policy = header.policy;
        self.event.action = match self.facts.judgement {
            Judgement::None => return,
            Judgement::Allowed => Action::Allowed,
            Judgement::Blocked => Action::Blocked,
            Judgement::WouldBlock => Action::WouldBlock,
        };
        let group = header.flags & flag::GROUP != 0;
        self.bytes(Key::Layer, if group { b"cgroup-net" } else { b"lsm" });
        if let Some(reason) = reason(self.facts.cause) {
            self.event.set(Key::Reason, Value::Bytes(reason.into()));
        }
    }

    /// The event.
    pub fn done(self) -> Decoded {
        Decoded { event: self.event, facts: self.facts }
    }
}

/// Why a hook denied, where the policy had no say.
pub fn reason(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Policy => None,
        Cause::PathTooLong => Some("the path is too long to be judged"),
        Cause::Unreadable => Some("the kernel could not give the path or address"),
        Cause::Unreachable => Some("the path does not lead to the root"),
        Cause::NoScratch => Some("no memory to judge in"),
        Cause::Family => Some("no rule can name this address family"),
        Cause::Tables => Some("the policy's tables are not whole"),
        Cause::Ended => Some("the run has been ended"),
        Cause::Contents => Some("what the file holds could not be read"),
        Cause::Hello => Some("the connection names its server in no way that everybody reads alike"),
        Cause::Resolver => Some("where names of hosts are held, a run answers no questions for names itself"),
        Cause::Control => Some("a run does not change its own policy"),
        Cause::Below => {
            Some("it, or something below it, is denied where it is, and would not be where it goes")
        }
        Cause::Nameless => Some("no rule can name code that lies in no directory"),
        Cause::Link => Some("another name of the file is denied"),
        Cause::Places => Some("the object is shown in more places than can be looked at"),
    }
}

/// One record that stands for itself. Its kind was checked.
pub fn decode(raw: &RawEvent, wall_offset_ns: i64) -> Decoded {
    let header = &raw.header;
    let entry = Kind::from_raw(header.kind) == Kind::Entry;
    let kind = if entry { announced(header).unwrap_or(Kind::Unknown) } else { Kind::from_raw(header.kind) };
    let mut builder = Builder::new(header, event_type(header, kind), wall_offset_ns);
    let record = Record { header, parts: &raw.parts, target: raw.target.as_deref(), kind, entry };
    record.object(&mut builder);
    builder.judge(header);
    if header.flags & flag::TRUNCATED != 0 {
        builder.put(Key::PathTruncated, Value::Flag(true));
    }
    match syscalls::name(header.arch, header.syscall) {
        // A record without a call of its own has number 0, which is never an observed one.
        None if header.syscall == 0 => {}
        None => builder.number(Key::Syscall, header.syscall.into()),
        Some(name) => builder.bytes(Key::Syscall, name.as_bytes()),
    }
    record.unseen(&mut builder);
    if let Some(exe) = &raw.executable
        && builder.event.get(Key::Exe).is_none()
        // Who executed something is not any more what it was.
        && !(kind == Kind::Exec && succeeded(header))
    {
        builder.bytes(Key::Exe, exe);
    }
    if let Some(ret) = record.ret(builder.facts.judgement) {
        builder.put(Key::Ret, Value::Int(ret));
    }
    if header.ino != 0 && kind != Kind::Exec && builder.event.get(Key::Family).is_none() {
        builder.number(Key::Ino, header.ino);
        builder.number(Key::Dev, device(header.dev));
    }
    builder.done()
}

/// The kernel's dev_t as stat(2) shows it (`new_encode_dev`).
fn device(dev: u32) -> u64 {
    let (major, minor) = (dev >> 20, dev & 0xf_ffff);
    u64::from((minor & 0xff) | (major << 8)) | u64::from(minor & !0xff) << 12
}

fn event_type(header: &Header, kind: Kind) -> EventType {
    match kind {
        Kind::Fork => EventType::Fork,
        Kind::Exec | Kind::ExecCheck => EventType::Exec,
        Kind::Exit => EventType::Exit,
        Kind::Open if made(header) => EventType::FileCreate,
        Kind::Open | Kind::OpenCheck => EventType::FileOpen,
        Kind::Unlink if header.args[0] & libc::AT_REMOVEDIR as u64 != 0 => EventType::DirDelete,
        Kind::Unlink => EventType::FileDelete,
        Kind::Rename => EventType::FileRename,
        Kind::Link => EventType::FileLink,
        Kind::Symlink => EventType::FileSymlink,
        Kind::Mkdir => EventType::DirCreate,
        Kind::Rmdir => EventType::DirDelete,
        Kind::Mknod => EventType::FileCreate,
        Kind::Truncate => EventType::FileTruncate,
        Kind::Chmod => EventType::FileMode,
        Kind::Chown => EventType::FileOwner,
        Kind::Utimes => EventType::FileTimes,
        Kind::Xattr => EventType::FileXattr,
        Kind::Flags => EventType::FileFlags,
        Kind::Connect | Kind::ConnectCheck => EventType::NetConnect,
        Kind::Send if connects(header) => EventType::NetConnect,
        Kind::Send | Kind::SendCheck => EventType::NetSend,
        Kind::Bind | Kind::BindCheck => EventType::NetBind,
        Kind::Listen | Kind::ListenCheck => EventType::NetListen,
        Kind::UnixCheck => network::checked_socket(header),
        Kind::SocketCheck => EventType::NetSocket,
        Kind::Close => EventType::NetClose,
        Kind::Answer => EventType::DnsAnswer,
        Kind::Hello => EventType::NetName,
        Kind::Accept => EventType::NetAccept,
        Kind::IoUring => EventType::ProcIoUring,
        Kind::PathCheck => judged::checked_call(header),
        Kind::LoadCheck => EventType::FileLoad,
        Kind::ReceiveCheck => EventType::FileReceive,
        Kind::KernelCheck => judged::kernel_act(header),
        Kind::Unknown | Kind::Entry | Kind::Compat => EventType::ProcCompat,
    }
}

/// Whether a sending is a connect too, a TCP fast open: it needs what a connect needs.
fn connects(header: &Header) -> bool {
    header.access & u16::from(net_access::CONNECT) != 0
}

/// Whether an open made a file.
fn made(header: &Header) -> bool {
    let temporary = libc::O_TMPFILE as u64;
    succeeded(header) && (header.args[2] & FMODE_CREATED != 0 || header.args[0] & temporary == temporary)
}

/// Puts a hook's verdict on the event of the call's result: what the hook judged is what the event names.
pub fn add_verdict(decoded: &mut Decoded, verdict: Decoded) {
    let exec = decoded.event.event_type == EventType::Exec;
    decoded.event.action = verdict.event.action;
    for (key, value) in verdict.event.details {
        match key {
            // An exec's path is the name as it was called, a hook judges what that led to.
            Key::Path if exec => decoded.event.set(Key::Target, value),
            Key::Path | Key::Path2 | Key::DstIp | Key::DstPort | Key::Family | Key::Layer | Key::Reason => {
                decoded.event.set(key, value);
            }
            Key::PathTruncated => decoded.event.set(key, value),
            _ => {}
        }
    }
    decoded.facts = Facts { script: decoded.facts.script, ..verdict.facts };
}

/// A record and what its parts mean.
pub(super) struct Record<'a> {
    pub(super) header: &'a Header,
    pub(super) parts: &'a [Vec<u8>; 4],
    /// Where the name of an execution led.
    target: Option<&'a [u8]>,
    pub(super) kind: Kind,
    /// Taken on entry: there is no result.
    entry: bool,
}

impl Record<'_> {
    pub(super) fn has(&self, bits: u16) -> bool {
        self.header.flags & bits != 0
    }

    /// The result as the caller saw it, where the record tells of one.
    fn ret(&self, judgement: Judgement) -> Option<i64> {
        let denied = |errno: i32| (judgement == Judgement::Blocked).then_some(-i64::from(errno));
        match self.kind {
            _ if self.entry || self.has(told::NO_RESULT) => None,
            Kind::Fork | Kind::Exit => None,
            Kind::OpenCheck | Kind::ExecCheck | Kind::LoadCheck | Kind::ReceiveCheck | Kind::PathCheck => {
                denied(libc::EACCES)
            }
            Kind::ConnectCheck
            | Kind::SendCheck
            | Kind::KernelCheck
            | Kind::UnixCheck
            | Kind::SocketCheck
            | Kind::BindCheck
            | Kind::ListenCheck => denied(libc::EPERM),
            Kind::Close | Kind::Answer | Kind::Hello => None,
            _ if ERESTART.contains(&self.header.ret) => Some(-i64::from(libc::EINTR)),
            _ => Some(self.header.ret),
        }
    }

    fn object(&self, to: &mut Builder) {
        let args = &self.header.args;
        match self.kind {
            Kind::Fork => self.fork(to),
            Kind::Exit => self.exit(to),
            Kind::Exec => self.exec(to),
            Kind::Open => self.open(to),
            Kind::OpenCheck | Kind::ExecCheck | Kind::LoadCheck | Kind::ReceiveCheck => self.checked_path(to),
            Kind::PathCheck => self.checked_names(to),
            Kind::KernelCheck => self.kernel(to),
            Kind::Connect | Kind::Send | Kind::Bind | Kind::Listen | Kind::Accept => self.network(to),
            Kind::ConnectCheck | Kind::SendCheck | Kind::BindCheck | Kind::ListenCheck => self.network(to),
            Kind::UnixCheck => self.unix(to),
            Kind::SocketCheck => self.socket(to),
            Kind::Close => self.close(to),
            Kind::Hello => self.hello(to),
            Kind::IoUring | Kind::Unknown | Kind::Entry | Kind::Answer => {}
            Kind::Compat => to.bytes(Key::Target, socket_call(args[0]).as_bytes()),
            _ => self.path_call(to),
        }
    }

    fn fork(&self, to: &mut Builder) {
        let child = ProcId { pid: self.header.args[0] as u32, start_ns: self.header.args[1] };
        to.put(Key::ChildPid, Value::Int(child.pid.into()));
        to.put(Key::ChildProcId, text(format_args!("{child}")));
        to.facts.child = Some(child);
    }

    fn exit(&self, to: &mut Builder) {
        // The status of wait(2): a signal in the low seven bits, else the code above them.
        let status = self.header.args[0];
        match status & 0x7f {
            0 => to.put(Key::ExitCode, Value::Int((status >> 8 & 0xff) as i64)),
            signal => to.put(Key::Signal, Value::Int(signal as i64)),
        }
    }

    fn exec(&self, to: &mut Builder) {
        let [_, name, executable, arguments] = self.parts;
        let argv = split_arguments(arguments);
        let mut path = self.name(0);
        if succeeded(self.header) {
            let exe = (!executable.is_empty()).then(|| path::of_object(executable));
            // The kernel puts the interpreter, perhaps one argument, and the script's name before the others.
            let script = argv.iter().skip(1).take(2).any(|argument| argument == name);
            to.facts.script = script;
            to.facts.detached = self.runs_detached();
            // execveat(2) on a descriptor has no name of its own; the kernel makes one up.
            if name.starts_with(b"/dev/fd/") && !script && exe.is_some() {
                path.clone_from(&exe);
            }
            to.some(Key::Exe, exe);
            to.number(Key::ExeIno, self.header.ino);
            to.number(Key::ExeDev, device(self.header.dev));
        }
        if succeeded(self.header) || syscalls::name(self.header.arch, self.header.syscall) == Some("execve") {
            to.some(Key::Cwd, self.directory(0).map(path::of_object));
        }
        let target = self.target.filter(|target| path.as_deref() != Some(*target));
        to.some(Key::Target, target.map(<[u8]>::to_vec));
        to.some(Key::Path, path);
        to.put(Key::Argv, Value::List(argv));
        if self.has(flag::ARGV_TRUNCATED) {
            to.put(Key::ArgvTruncated, Value::Flag(true));
        }
        to.facts.access = access::RUN;
    }

    /// Whether an exec's executable, not its working directory, stands in no directory: a memfd.
    fn runs_detached(&self) -> bool {
        let single = |part: &[u8]| part.strip_suffix(&[0]).is_some_and(|name| !name.contains(&0));
        self.kind == Kind::Exec && self.has(flag::DETACHED) && single(&self.parts[2])
    }

    fn open(&self, to: &mut Builder) {
        let [flags, mode, ..] = self.header.args;
        if succeeded(self.header) {
            to.facts.detached = self.has(flag::DETACHED);
            to.some(Key::Path, self.opened());
        } else if self.has(told::NO_RESULT) && self.has(flag::DETACHED) {
            to.facts.detached = true;
            to.some(Key::Path, self.name(0));
        } else if !self.has(flag::FOLLOWS_CHECK | flag::BY_DESCRIPTOR) {
            to.some(Key::Path, self.name(0));
        }
        // open(2) takes an int.
        let flags = flags & 0xffff_ffff;
        to.number(Key::Flags, flags);
        let mut asked = open_access(flags as i32);
        if made(self.header) {
            to.number(Key::FileMode, mode & 0o7777);
            asked |= access::CREATE;
        } else if self.has(told::NO_RESULT) && self.makes() {
            asked |= access::CREATE;
        }
        self.access_words(asked, to);
        to.facts.access = asked;
    }

    /// The file behind the new descriptor.
    fn opened(&self) -> Option<Vec<u8>> {
        let part = &self.parts[0];
        if self.has(flag::DETACHED) {
            return path::of_detached(part, self.header.args[3], self.header.ino);
        }
        // A descriptor that another thread closed at once leads nowhere.
        (!self.has(flag::NO_BASE | flag::UNREADABLE)).then(|| path::of_object(part))
    }

    fn access_words(&self, bits: u16, to: &mut Builder) {
        let words = [(access::READ, "read"), (access::WRITE, "write"), (access::CREATE, "create")];
        let words: Vec<_> = words
            .iter()
            .filter(|(bit, _)| bits & bit != 0)
            .map(|(_, word)| word.as_bytes().to_vec())
            .collect();
        if !words.is_empty() {
            to.put(Key::Access, Value::List(words));
        }
    }

    /// A call that names one path or two.
    fn path_call(&self, to: &mut Builder) {
        let names = !self.has(flag::FOLLOWS_CHECK);
        if names {
            to.facts.detached = self.has(flag::BY_DESCRIPTOR) && self.has(flag::DETACHED);
            to.some(Key::Path, self.name(0));
            self.second_name(to);
            to.facts.ways = [self.way(0), self.way(2)];
        }
        self.numbers(to);
        (to.facts.access, to.facts.access2) = match self.kind {
            Kind::Unlink | Kind::Rmdir => (access::DELETE, 0),
            Kind::Rename if self.header.args[0] & u64::from(libc::RENAME_EXCHANGE) != 0 => {
                (access::DELETE | access::CREATE, access::DELETE | access::CREATE)
            }
            Kind::Rename => (access::DELETE, access::CREATE),
            // What the object gains by its new name is judged too: see `Facts::gained`.
            Kind::Link => (0, access::CREATE),
            Kind::Symlink | Kind::Mkdir | Kind::Mknod => (access::CREATE, 0),
            Kind::Truncate => (access::WRITE, 0),
            Kind::Chmod | Kind::Chown | Kind::Utimes | Kind::Xattr | Kind::Flags => (access::ATTRIBUTES, 0),
            _ => (0, 0),
        };
        if matches!(self.kind, Kind::Rename | Kind::Link) {
            to.facts.gained = None;
        }
    }

    fn second_name(&self, to: &mut Builder) {
        let text = || {
            let text = &self.parts[3];
            (!text.is_empty() || !self.has(flag::UNREADABLE)).then(|| text.clone())
        };
        match self.kind {
            Kind::Rename | Kind::Link => to.some(Key::Path2, self.name(2)),
            Kind::Symlink => to.some(Key::Path2, text()),
            Kind::Xattr => to.some(Key::Target, text()),
            _ => {}
        }
    }

    /// The plain arguments of a call on a path.
    fn numbers(&self, to: &mut Builder) {
        let [first, second, ..] = self.header.args;
        match self.kind {
            Kind::Unlink | Kind::Rename | Kind::Link if first & 0xffff_ffff != 0 => {
                to.number(Key::Flags, first & 0xffff_ffff);
            }
            Kind::Chmod | Kind::Mkdir | Kind::Mknod => to.number(Key::FileMode, first & 0xffff),
            Kind::Chown => {
                for (key, id) in [(Key::Owner, first), (Key::GroupId, second)] {
                    if let Some(id) = self.new_id(id) {
                        to.number(key, id);
                    }
                }
            }
            _ => {}
        }
    }

    /// An id that chown(2) sets; -1 leaves the old one. The first 32-bit calls have ids of 16 bits.
    fn new_id(&self, id: u64) -> Option<u64> {
        let short = self.header.arch == sandbox_ebpf::abi::event::arch::COMPAT
            && matches!(
                syscalls::name(self.header.arch, self.header.syscall),
                Some("chown" | "lchown" | "fchown")
            );
        let all = if short { 0xffff } else { 0xffff_ffff };
        Some(id & all).filter(|id| *id != all)
    }

    /// The absolute path of the first name (`part` 0) or the second (`part` 2), as far as it can be told.
    fn name(&self, part: usize) -> Option<Vec<u8>> {
        let base = self.directory(part);
        if part == 0 && self.has(flag::BY_DESCRIPTOR) {
            return match base {
                None if self.has(flag::DETACHED) => {
                    path::of_detached(&self.parts[0], self.header.args[3], self.header.ino)
                }
                base => base.map(path::of_object),
            };
        }
        let name = &self.parts[part + 1];
        if name.is_empty() && self.has(flag::UNREADABLE) {
            return None;
        }
        Some(path::join(base, name))
    }

    /// The directory that a name starts from, if it is one with a path.
    pub(super) fn directory(&self, part: usize) -> Option<&[u8]> {
        let base = &self.parts[part];
        let detached = self.has(flag::DETACHED) && !self.runs_detached();
        let nowhere = detached || (base.is_empty() && self.has(flag::NO_BASE));
        (!nowhere).then_some(base)
    }
}

/// What the access mode of open(2) asks for.
fn open_access(flags: i32) -> u16 {
    if flags & libc::O_PATH != 0 {
        return 0;
    }
    let mode = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => access::READ,
        libc::O_WRONLY => access::WRITE,
        // 3 asks for both too, and gives a descriptor that can do neither.
        _ => access::READ | access::WRITE,
    };
    if flags & libc::O_TRUNC != 0 { mode | access::WRITE } else { mode }
}

/// Arguments that each end with NUL; the last may be cut short.
fn split_arguments(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = match bytes {
        [] => return Vec::new(),
        [rest @ .., 0] => rest,
        bytes => bytes,
    };
    bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// The calls of socketcall(2), `include/uapi/linux/net.h`.
fn socket_call(number: u64) -> &'static str {
    const NAMES: [&str; 21] = [
        "socketcall",
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    usize::try_from(number).ok().and_then(|number| NAMES.get(number)).unwrap_or(&NAMES[0])
}

fn text(arguments: std::fmt::Arguments<'_>) -> Value {
    let mut bytes = Vec::with_capacity(40);
    // Writing to memory does not fail.
    let _ = bytes.write_fmt(arguments);
    Value::Bytes(bytes)
}
