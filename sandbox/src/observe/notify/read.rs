//! A call that waits, as a record: the same bytes as the kernel's programs would write, but for the result.

use std::mem::offset_of;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use sandbox_ebpf::abi::{
    event::{ADDRESS_MAX, ARGV_MAX, Header, Kind, PATH_MAX, arch, flag},
    policy::net_access,
    syscall::{SyscallSpec, behaviour},
};

use super::super::{RawEvent, told};
use super::UNSURE;
use super::listener::Call;
use super::lookup::{How, Led, View};
use super::memory::{Ended, Fault, Memory};
use super::place::{Found, Last, Object, join};
use super::socket;
use super::task::Who;
use crate::{kernel::syscalls, record::time};

/// "Start from the working directory."
const AT_FDCWD: i32 = -100;
/// Most messages of one sendmmsg(2) (UIO_MAXIOV).
const MESSAGES: u64 = 1024;
/// Most of them that are told; behind these the last one says that there are more.
const TOLD: u64 = 64;

/// One observed call, and who makes it.
pub struct Reader<'a> {
    /// The call.
    pub call: Call,
    /// How to read it.
    pub spec: SyscallSpec,
    /// Its table, one of [`arch`], and its number there.
    pub arch: u8,
    /// As said.
    pub number: u32,
    /// Who waits.
    pub who: &'a Who,
    /// Its memory.
    pub memory: Memory,
}

/// openat2(2): the directory that it starts from is the root of the name (`include/uapi/linux/openat2.h`).
const RESOLVE_IN_ROOT: u64 = 0x10;

/// A record in the making.
struct Draft {
    header: Header,
    parts: [Vec<u8>; 4],
    /// How openat2(2) is to resolve the name.
    resolve: u64,
    /// Where the name of an execution leads.
    target: Option<Vec<u8>>,
}

impl Reader<'_> {
    /// The argument that a specification names (index plus one); 0 where it names none.
    fn argument(&self, number: u8) -> u64 {
        let value = match usize::from(number).checked_sub(1) {
            Some(index) => self.call.arguments.get(index).copied().unwrap_or(0),
            None => 0,
        };
        if self.arch == arch::COMPAT { value & 0xffff_ffff } else { value }
    }

    fn pointer_size(&self) -> usize {
        if self.arch == arch::NATIVE { 8 } else { 4 }
    }

    /// What the call is about: one record, but several for several messages, and none for a sending over a connection.
    pub fn records(&self) -> Vec<RawEvent> {
        let kind = Kind::from_raw(self.spec.kind);
        match kind {
            Kind::Connect | Kind::Send | Kind::Bind | Kind::Listen => self.network(kind),
            _ => {
                let mut draft = self.begin();
                match kind {
                    Kind::Exec => self.exec(&mut draft),
                    Kind::IoUring | Kind::Compat => {}
                    Kind::Open => self.open(&mut draft),
                    _ => self.names(&mut draft),
                }
                vec![self.done(draft)]
            }
        }
    }

    /// With what every record tells.
    fn begin(&self) -> Draft {
        let mut header = Header {
            kind: self.spec.kind,
            arch: self.arch,
            syscall: self.number,
            mono_ns: time::mono_now_ns(),
            flags: told::NO_RESULT,
            ..identity(self.who, self.call.tid)
        };
        let mut resolve = 0;
        if self.spec.behaviour & behaviour::INDIRECT != 0 {
            if let Ok([flags, mode, how]) = self.memory.words::<3>(self.argument(self.spec.value), 8) {
                (header.args[0], header.args[1], resolve) = (flags, mode, how);
            }
        } else {
            header.args[0] = match self.spec.value {
                0 => u64::from(self.spec.constant),
                value => self.argument(value),
            };
            header.args[1] = self.argument(self.spec.value2);
        }
        Draft { header, parts: Default::default(), resolve, target: None }
    }

    fn done(&self, draft: Draft) -> RawEvent {
        let Draft { mut header, parts, target, .. } = draft;
        header.parts = parts.each_ref().map(|part| u16::try_from(part.len()).unwrap_or(u16::MAX));
        RawEvent { header, parts, executable: self.who.exe.clone(), target }
    }

    /// A string of the caller's.
    fn string(&self, address: u64, draft: &mut Draft) -> Vec<u8> {
        let (text, ended) = self.memory.string(address, PATH_MAX - 1);
        match ended {
            Ended::Whole => {}
            Ended::Cut => draft.header.flags |= flag::TRUNCATED,
            Ended::Fault(fault) => {
                self.fault(fault, draft);
                return Vec::new();
            }
        }
        text
    }

    fn fault(&self, fault: Fault, draft: &mut Draft) {
        draft.header.flags |= flag::UNREADABLE;
        if fault == Fault::Closed {
            draft.header.flags |= told::CLOSED;
        }
    }

    /// The directory that a relative name starts from.
    fn base(&self, dir: u8) -> Object {
        let descriptor = self.argument(dir);
        if dir == 0 || descriptor as i32 == AT_FDCWD {
            Object::working_directory(self.call.tid)
        } else {
            Object::descriptor(self.call.tid, descriptor)
        }
    }

    /// A name and where it starts from, as it was called, as parts `part` and the next; gives it from `/` on, where that is
    /// known.
    fn called(
        &self,
        part: usize,
        dir: u8,
        name: Vec<u8>,
        in_root: bool,
        draft: &mut Draft,
    ) -> Option<Vec<u8>> {
        let absolute = name.starts_with(b"/");
        let base = if absolute && !in_root { Object::root(self.call.tid) } else { self.base(dir) };
        draft.header.flags |= base.flags;
        let name = if in_root { below_root(&name).to_vec() } else { name };
        let joined =
            base.path.as_ref().map(|base| join(base, if absolute { below_root(&name) } else { &name }));
        draft.parts[part] = base.part;
        // A root of its own goes before the name: seen from here it does not start from `/`.
        let own_root = absolute && !draft.parts[part].is_empty();
        draft.parts[part + 1] = if own_root { below_root(&name).to_vec() } else { name };
        joined.filter(|_| draft.header.flags & (flag::UNREADABLE | flag::TRUNCATED) == 0)
    }

    /// The directory that a relative name starts from, or what a call with an empty name is about.
    fn start(&self, view: &View, dir: u8) -> Result<OwnedFd, Errno> {
        let descriptor = self.argument(dir) as i32;
        if dir == 0 || descriptor == AT_FDCWD {
            view.working_directory()
        } else {
            view.descriptor(descriptor)
        }
    }

    /// A name and where it leads, as parts `part` and the next: links followed, in the mounts of the caller. Gives an
    /// object without a place, or that nothing is there.
    fn name(&self, part: usize, dir: u8, address: u64, how: How, draft: &mut Draft) -> Found {
        let name = self.string(address, draft);
        let whole = draft.header.flags & (flag::UNREADABLE | flag::TRUNCATED) == 0;
        if !whole || name.is_empty() {
            // Nothing comes of it.
            self.called(part, dir, name, how.in_root, draft);
            return Found::Unknown(None);
        }
        let Led { found, sure } = self.led(dir, &name, how);
        if !sure {
            draft.header.flags |= UNSURE;
        }
        match &found {
            Found::There(path) | Found::Absent(path) | Found::Unknown(Some(path)) => {
                draft.parts[part + 1].clone_from(path);
            }
            Found::Nameless(_) | Found::Unknown(None) => {
                self.called(part, dir, name, how.in_root, draft);
            }
        }
        found
    }

    /// Where a name leads.
    fn led(&self, dir: u8, name: &[u8], how: How) -> Led {
        let led = View::of(self.who.pid, self.call.tid).and_then(|view| {
            let relative = how.in_root || !name.starts_with(b"/");
            let from = if relative { Some(self.start(&view, dir)?) } else { None };
            Ok(view.find(from, name, how))
        });
        led.unwrap_or(Led { found: Found::Unknown(None), sure: false })
    }

    /// How the call takes its names.
    fn how(&self, second: bool) -> How {
        let kind = Kind::from_raw(self.spec.kind);
        let flagged = |argument: u8, bit: i32| self.argument(argument) & bit as u64 != 0;
        let followed = match kind {
            Kind::Unlink | Kind::Rename | Kind::Mkdir | Kind::Rmdir | Kind::Symlink | Kind::Mknod => {
                return How { entry: true, ..How::plain(Last::Itself) };
            }
            Kind::Link if second => return How { entry: true, ..How::plain(Last::Itself) },
            Kind::Link => self.spec.value != 0 && flagged(self.spec.value, libc::AT_SYMLINK_FOLLOW),
            _ => match syscalls::name(self.arch, self.number).unwrap_or_default() {
                "lchown" | "lchown32" | "lsetxattr" | "lremovexattr" => false,
                "fchownat" => !flagged(5, libc::AT_SYMLINK_NOFOLLOW),
                "fchmodat2" | "utimensat" | "utimensat_time64" => !flagged(4, libc::AT_SYMLINK_NOFOLLOW),
                "setxattrat" | "removexattrat" => !flagged(3, libc::AT_SYMLINK_NOFOLLOW),
                _ => true,
            },
        };
        How::plain(if followed { Last::Followed } else { Last::Itself })
    }

    /// The object of a call that is about what stands behind a descriptor, as part 0.
    fn descriptor(&self, argument: u8, draft: &mut Draft) {
        let descriptor = self.argument(argument);
        let object = Object::descriptor(self.call.tid, descriptor);
        self.met(object, |view| view.descriptor(descriptor as i32), draft);
    }

    /// An object without a name, as part 0: what it is, and whether its path says how it is met.
    fn met(&self, object: Object, open: impl FnOnce(&View) -> Result<OwnedFd, Errno>, draft: &mut Draft) {
        if object.path.is_some() && !self.is_shown(open) {
            draft.header.flags |= UNSURE;
        }
        self.object(object, draft);
    }

    /// Whether an object lies in a mount that its caller sees, so that its path says how it is met.
    fn is_shown(&self, open: impl FnOnce(&View) -> Result<OwnedFd, Errno>) -> bool {
        let view = View::of(self.who.pid, self.call.tid);
        view.and_then(|view| open(&view).map(|file| view.has_mount_of(&file))) == Ok(true)
    }

    /// The object behind a descriptor, as part 0.
    fn object(&self, object: Object, draft: &mut Draft) {
        draft.header.flags |= object.flags | flag::BY_DESCRIPTOR;
        draft.header.ino = object.ino;
        draft.header.args[3] = object.magic;
        draft.parts[0] = object.part;
    }

    /// The names that a call gives, each with the directory it starts from.
    fn names(&self, draft: &mut Draft) {
        let spec = &self.spec;
        if spec.fd != 0 {
            self.descriptor(spec.fd, draft);
            if spec.path2 != 0 {
                draft.parts[3] = self.string(self.argument(spec.path2), draft);
            }
            return;
        }
        let address = self.argument(spec.path);
        let empty = spec.behaviour & behaviour::EMPTY_PATH != 0 && {
            let mut first = [0];
            address == 0 || (self.memory.exact(address, &mut first).is_ok() && first == [0])
        };
        if empty {
            self.met(self.base(spec.dir), |view| self.start(view, spec.dir), draft);
        } else if let Found::Nameless(object) = self.name(0, spec.dir, address, self.how(false), draft) {
            draft.parts = Default::default();
            self.object(object, draft);
        }
        if spec.path2 == 0 {
            return;
        }
        let address = self.argument(spec.path2);
        if spec.behaviour & behaviour::TEXT != 0 {
            draft.parts[3] = self.string(address, draft);
        } else {
            self.name(2, spec.dir2, address, self.how(true), draft);
        }
    }

    /// An open: where its name leads, as far as the kernel has that at hand.
    fn open(&self, draft: &mut Draft) {
        if self.spec.fd != 0 {
            // By handle: which file that is the kernel alone knows.
            draft.header.flags |= flag::BY_DESCRIPTOR | flag::NO_BASE;
            return;
        }
        let flags = draft.header.args[0] as i32;
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let itself = flags & libc::O_NOFOLLOW != 0 || flags & exclusive == exclusive;
        let last = match (itself, flags & libc::O_CREAT != 0) {
            (true, _) => Last::Itself,
            (false, true) => Last::Made,
            (false, false) => Last::Followed,
        };
        let how = How { in_root: draft.resolve & RESOLVE_IN_ROOT != 0, ..How::plain(last) };
        match self.name(0, self.spec.dir, self.argument(self.spec.path), how, draft) {
            Found::Absent(_) => draft.header.flags |= told::ABSENT,
            Found::Nameless(object) => {
                draft.parts = Default::default();
                self.object(object, draft);
            }
            Found::There(_) | Found::Unknown(_) => {}
        }
    }

    /// An execution: the name as it was called, and the arguments.
    fn exec(&self, draft: &mut Draft) {
        let spec = &self.spec;
        let address = self.argument(spec.path);
        let at_empty = spec.dir != 0
            && self.argument(5) as i32 & libc::AT_EMPTY_PATH != 0
            && self.memory.string(address, 1) == (Vec::new(), Ended::Whole);
        let mut called = None;
        if at_empty {
            // As the kernel names it.
            let object = Object::descriptor(self.call.tid, self.argument(spec.dir));
            draft.header.flags |= object.flags & !flag::DETACHED;
            draft.parts[1] = match object.path {
                Some(path) => {
                    match self.is_shown(|view| self.start(view, spec.dir)) {
                        true => draft.target = Some(path.clone()),
                        false => draft.header.flags |= UNSURE,
                    }
                    path
                }
                None => {
                    draft.header.flags |= UNSURE;
                    format!("/dev/fd/{}", self.argument(spec.dir) as i32).into_bytes()
                }
            };
        } else {
            let name = self.string(address, draft);
            self.executed(&name, draft);
            called = self.called(0, spec.dir, name, false, draft);
        }
        // Part 0 is the working directory: a name that starts from elsewhere is told whole.
        let directory = Object::working_directory(self.call.tid);
        draft.header.flags |= directory.flags & !flag::NO_BASE;
        if !draft.parts[1].starts_with(b"/") && draft.parts[0] != directory.part {
            draft.parts[1] = called.unwrap_or_default();
        }
        draft.parts[0] = directory.part;
        let (arguments, whole) =
            self.memory.strings(self.argument(spec.value), self.pointer_size(), ARGV_MAX);
        draft.parts[3] = arguments;
        if !whole {
            draft.header.flags |= flag::ARGV_TRUNCATED;
        }
        draft.header.args = [0; 4];
    }

    /// Where the name of an execution leads.
    fn executed(&self, name: &[u8], draft: &mut Draft) {
        if name.is_empty() || draft.header.flags & (flag::UNREADABLE | flag::TRUNCATED) != 0 {
            return;
        }
        let spec = &self.spec;
        let itself = spec.dir != 0 && self.argument(5) as i32 & libc::AT_SYMLINK_NOFOLLOW != 0;
        let how = How::plain(if itself { Last::Itself } else { Last::Followed });
        match self.led(spec.dir, name, how) {
            Led { found: Found::There(path) | Found::Unknown(Some(path)), sure: true } => {
                draft.target = Some(path);
            }
            Led { found: Found::Absent(path), sure: true } => {
                draft.header.flags |= told::ABSENT;
                draft.target = Some(path);
            }
            _ => draft.header.flags |= UNSURE,
        }
    }

    fn network(&self, kind: Kind) -> Vec<RawEvent> {
        let spec = &self.spec;
        let array = self.argument(spec.path);
        if spec.behaviour & behaviour::MESSAGES == 0 {
            let (mut address, mut length) = (array, self.argument(spec.value));
            if spec.behaviour & behaviour::MESSAGE != 0 {
                (address, length) = match self.message_name(array) {
                    Ok(name) => name,
                    Err(fault) => return self.closed(fault),
                };
            }
            if kind == Kind::Send && address == 0 {
                return Vec::new();
            }
            return vec![self.end(kind, address, length, 0)];
        }
        // How many are sent only the result tells: all of them may be.
        let count = u64::from(self.argument(3) as u32).min(MESSAGES);
        let stride = if self.arch == arch::NATIVE { 64 } else { 32 };
        let mut records = Vec::new();
        for number in 0..count {
            match self.message_name(array.wrapping_add(number * stride)) {
                Ok((0, _)) => {}
                Ok(_) if records.len() as u64 == TOLD => {
                    if let Some(RawEvent { header, .. }) = records.last_mut() {
                        header.flags |= flag::MORE;
                    }
                    break;
                }
                Ok((address, length)) => records.push(self.end(kind, address, length, 0)),
                Err(fault) => {
                    records.extend(self.closed(fault));
                    break;
                }
            }
        }
        records
    }

    /// Of messages in memory that cannot be looked at it is not known whether they have addresses: that is told. Where
    /// there is no memory the call fails.
    fn closed(&self, fault: Fault) -> Vec<RawEvent> {
        match fault {
            Fault::Address => Vec::new(),
            Fault::Closed => vec![self.end(Kind::Send, 0, 0, told::CLOSED | flag::UNREADABLE)],
        }
    }

    /// A network call with one address.
    fn end(&self, kind: Kind, address: u64, length: u64, flags: u16) -> RawEvent {
        let mut draft = self.begin();
        draft.header.flags |= flags;
        let descriptor = self.argument(self.spec.fd);
        // A sending that connects (TCP fast open) is told as that.
        let connects = self.argument(self.spec.value2) & libc::MSG_FASTOPEN as u64 != 0;
        draft.header.access = u16::from(net_access::CONNECT) * u16::from(kind == Kind::Send && connects);
        if kind != Kind::Listen && flags == 0 {
            // An int: the kernel does not look at the rest of the register.
            let length = (length as u32 as usize).min(ADDRESS_MAX);
            let mut bytes = vec![0; length];
            match self.memory.exact(address, &mut bytes) {
                Ok(()) => draft.parts[0] = bytes,
                Err(fault) => self.fault(fault, &mut draft),
            }
        }
        let socket = socket::of(self.who.pid, self.call.tid, descriptor as i32);
        let family = draft.parts[0].first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
        draft.header.args = [descriptor, u64::from(family.unwrap_or(0)), 0, 0];
        match socket {
            Some(socket) => {
                draft.header.args = [descriptor, socket.family, socket.kind, socket.protocol];
                draft.header.ino = socket.port;
                if kind == Kind::Listen {
                    draft.parts[0] = listening(socket.own);
                }
            }
            None => draft.header.flags |= flag::NO_BASE,
        }
        let relative = family == Some(libc::AF_UNIX as u16)
            && draft.parts[0].get(2).is_some_and(|first| *first != 0 && *first != b'/');
        if relative {
            let base = Object::working_directory(self.call.tid);
            draft.header.flags |= base.flags;
            draft.parts[1] = base.part;
        }
        self.done(draft)
    }

    /// The name in a msghdr of the caller's memory: address and length, zero where it has none.
    fn message_name(&self, message: u64) -> Result<(u64, u64), Fault> {
        match self.pointer_size() {
            8 => self.memory.words::<2>(message, 8).map(|[address, length]| (address, length & 0xffff_ffff)),
            _ => self.memory.words::<2>(message, 4).map(|[address, length]| (address, length)),
        }
    }
}

/// An absolute name from the root on: no `..` leads out of that.
fn below_root(name: &[u8]) -> &[u8] {
    let mut rest = name;
    loop {
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        match &rest[..end] {
            b"" | b"." | b".." if end < rest.len() => rest = &rest[end + 1..],
            b"" | b"." | b".." => return &rest[rest.len()..],
            _ => return rest,
        }
    }
}

/// The address that a socket listens at. A relative name of a unix socket started from where the process was when it was
/// bound, which is not known any more: only the family is told.
fn listening(mut own: Vec<u8>) -> Vec<u8> {
    let unix =
        own.first_chunk::<2>().is_some_and(|family| u16::from_ne_bytes(*family) == libc::AF_UNIX as u16);
    if unix && own.get(2).is_some_and(|first| *first != 0 && *first != b'/') {
        own.truncate(2);
    }
    own
}

/// Who acts, as a header has it; everything else is zero.
pub fn identity(who: &Who, tid: u32) -> Header {
    Header {
        pid: who.pid,
        tid,
        ppid: who.ppid,
        uid: who.uid,
        start_ns: who.start_ns,
        comm: who.comm,
        ..Header::EMPTY
    }
}

/// A process was made, as far as that is seen: when the new one makes its first call.
pub fn fork(parent: &Who, child: &Who) -> RawEvent {
    let header = Header {
        kind: Kind::Fork as u8,
        mono_ns: time::mono_now_ns(),
        args: [u64::from(child.pid), child.start_ns, 0, 0],
        ..identity(parent, parent.pid)
    };
    RawEvent { header, parts: Default::default(), executable: parent.exe.clone(), target: None }
}

// The words of a msghdr that are read: the name's address, then its length.
const _: () = assert!(offset_of!(libc::msghdr, msg_name) == 0 && offset_of!(libc::msghdr, msg_namelen) == 8);
