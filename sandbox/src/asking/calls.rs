//! What a call that waits asks of the policies: its accesses and objects, as the hooks will see them.
//!
//! It reads as the `notify` layer does. What cannot be found out (a file system that a process serves, a root of its own)
//! gives nothing that could be asked about; the hook judges the call all the same.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use policy::{Access, AccessSet, Act, End, Owner, Protocol};
use sandbox_ebpf::abi::event::arch;
use sandbox_ebpf::abi::policy::access;
use sandbox_ebpf::abi::syscall::{CALLS_PER_ARCH, SyscallSpec};

use crate::event::decode::{Decoded, Decoder, Unix};
use crate::event::judge::Names;
use crate::event::{EventType, Key, Value};
use crate::observe::notify::listener::Call;
use crate::observe::notify::memory::{Memory, Way};
use crate::observe::notify::place::{Found, Last, find};
use crate::observe::notify::read::Reader;
use crate::observe::notify::task::{Who, shares_root};
use crate::record::time;

/// The port of resolvers.
const DNS: u16 = 53;

/// One act of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    File { accesses: AccessSet, path: Vec<u8> },
    Exec { path: Vec<u8> },
    Address { accesses: AccessSet, address: IpAddr, port: u16, protocol: Protocol, names: Vec<String> },
    Socket { accesses: AccessSet, path: Vec<u8>, unix: Unix },
}

/// Asks `judge` about acts; of an end whose owner is not known it is asked as anybody's and as the run's.
pub(super) fn with_acts<T>(tried: &[Tried], owner: Owner, judge: impl FnOnce(&[Act<'_>]) -> T) -> T {
    let names: Vec<Vec<&str>> = tried
        .iter()
        .map(|tried| match tried {
            Tried::Address { names, .. } => names.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        })
        .collect();
    let acts: Vec<Act<'_>> = tried
        .iter()
        .zip(&names)
        .map(|(tried, names)| match tried {
            Tried::File { accesses, path } => Act::File { accesses: *accesses, path },
            Tried::Exec { path } => Act::Exec { path, sha256: None },
            Tried::Address { accesses, address, port, protocol, .. } => {
                let end = End::Address { address: *address, port: *port, protocol: *protocol, names, owner };
                Act::Network { accesses: *accesses, end }
            }
            Tried::Socket { accesses, path, unix: Unix::Path } => {
                Act::Network { accesses: *accesses, end: End::Path(path) }
            }
            Tried::Socket { accesses, path, unix: Unix::Abstract } => {
                let name = path.strip_prefix(b"@").unwrap_or(path);
                Act::Network { accesses: *accesses, end: End::Abstract(name) }
            }
        })
        .collect();
    judge(&acts)
}

/// Whether some end may be the run's own.
pub(super) fn may_be_own(tried: &[Tried]) -> bool {
    tried.iter().any(|tried| matches!(tried, Tried::Address { .. }))
}

/// What is at the paths that are asked about: device and inode, where there is something.
pub(super) fn found(tried: &[Tried]) -> Vec<Option<(u64, u64)>> {
    let paths = tried.iter().filter_map(|tried| match tried {
        Tried::File { path, .. } | Tried::Exec { path } | Tried::Socket { path, unix: Unix::Path, .. } => {
            Some(path)
        }
        Tried::Socket { .. } | Tried::Address { .. } => None,
    });
    let at = |path: &Vec<u8>| {
        let about = std::fs::symlink_metadata(OsStr::from_bytes(path)).ok()?;
        Some((about.dev(), about.ino()))
    };
    paths.map(at).collect()
}

/// Reads calls.
pub(super) struct Calls {
    table: Vec<SyscallSpec>,
    way: Way,
    names: Option<Box<dyn Names>>,
}

impl Calls {
    pub(super) fn new(way: Way, names: Option<Box<dyn Names>>) -> Calls {
        Calls { table: crate::kernel::syscalls::table(), way, names }
    }

    /// What a call asks for; empty where nothing can be asked about it.
    pub(super) fn read(&self, call: &Call, who: &Who) -> Vec<Tried> {
        let number = call.number;
        let index = u32::from(arch::NATIVE) * CALLS_PER_ARCH + number;
        let spec = match self.table.get(index as usize) {
            Some(spec) if number < CALLS_PER_ARCH && spec.kind != 0 => *spec,
            _ => return Vec::new(),
        };
        let memory = Memory { tid: call.tid, way: self.way };
        let records = Reader { call: *call, spec, arch: arch::NATIVE, number, who, memory }.records();
        let (mut decoder, mut decoded) = (Decoder::new(), Vec::new());
        for record in records {
            if decoder.decode(record, 0, &mut decoded).is_err() {
                return Vec::new();
            }
        }
        let mut tried = Vec::new();
        for decoded in &decoded {
            match self.acts(decoded, call, who) {
                Some(acts) => tried.extend(acts),
                // Of several messages one that is not understood is judged with the others, by the hooks.
                None => return Vec::new(),
            }
        }
        tried.truncate(MOST);
        tried
    }

    /// The acts of an event; `None` where it does not name its object.
    fn acts(&self, Decoded { event, facts }: &Decoded, call: &Call, who: &Who) -> Option<Vec<Tried>> {
        let bytes = |key| match event.get(key) {
            Some(Value::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        if event.get(Key::PathTruncated).is_some() {
            return None;
        }
        if facts.net_access != 0 {
            return self.ends(facts, bytes(Key::Path));
        }
        let mut tried = Vec::new();
        if facts.access != 0 {
            let path = bytes(Key::Path)?;
            let path = match event.event_type {
                // Where it leads was looked up already.
                EventType::FileOpen | EventType::FileCreate if is_open(call) => path,
                _ => leads(&path, last(event.event_type), who.pid, call.tid)?,
            };
            if !path.starts_with(b"/") {
                // Pipes and the like belong to the run.
                return Some(Vec::new());
            }
            if facts.access & access::RUN != 0 {
                tried.push(Tried::Exec { path });
            } else {
                let accesses = AccessSet::from_path_bits(facts.access);
                if accesses.contains(Access::Create) && !is_new(&path) && is_open(call) {
                    // O_CREAT of what is there makes nothing.
                    tried.push(Tried::File { accesses: accesses.without(Access::Create.into()), path });
                } else {
                    tried.push(Tried::File { accesses, path });
                }
            }
        }
        if facts.access2 != 0 {
            let path = leads(&bytes(Key::Path2)?, Last::Itself, who.pid, call.tid)?;
            tried.push(Tried::File { accesses: AccessSet::from_path_bits(facts.access2), path });
        }
        shares_root(call.tid).then_some(tried)
    }

    fn ends(&self, facts: &crate::event::decode::Facts, path: Option<Vec<u8>>) -> Option<Vec<Tried>> {
        let accesses = AccessSet::from_net_bits(facts.net_access);
        if let Some((address, port)) = facts.end {
            let names = self.names.as_deref();
            if port == DNS && names.is_some_and(|names| names.is_resolver(address)) {
                // The runner answers questions for names, and judges them.
                return Some(Vec::new());
            }
            let protocol = Protocol::from_abi(facts.proto);
            let names = names.map(|names| names.at(address, time::mono_now_ns())).unwrap_or_default();
            return Some(vec![Tried::Address { accesses, address, port, protocol, names }]);
        }
        let unix = facts.unix?;
        Some(vec![Tried::Socket { accesses, path: path?, unix }])
    }
}

/// Acts of one call that are asked about at most: a call with more is judged without being asked about the rest, and so
/// denied.
const MOST: usize = 64;

/// Whether the call opens, and so tells where its name leads.
fn is_open(call: &Call) -> bool {
    let number = libc::c_long::from(call.number);
    let opens = [libc::SYS_openat, libc::SYS_openat2];
    #[cfg(target_arch = "x86_64")]
    let opens = [&opens[..], &[libc::SYS_open, libc::SYS_creat]].concat();
    opens.contains(&number)
}

fn is_new(path: &[u8]) -> bool {
    std::fs::symlink_metadata(OsStr::from_bytes(path)).is_err()
}

/// Whether a link in the last place of a call's name is followed.
fn last(event_type: EventType) -> Last {
    match event_type {
        EventType::FileDelete
        | EventType::FileCreate
        | EventType::FileRename
        | EventType::FileLink
        | EventType::FileSymlink
        | EventType::DirCreate
        | EventType::DirDelete => Last::Itself,
        _ => Last::Followed,
    }
}

/// Where a name leads; `None` where that is not at hand.
fn leads(path: &[u8], last: Last, pid: u32, tid: u32) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") {
        return Some(path.to_owned());
    }
    match find(path, last, pid, tid) {
        Found::There(path) | Found::Absent(path) | Found::Unknown(Some(path)) => Some(path),
        Found::Nameless(_) => Some(Vec::new()),
        Found::Unknown(None) => None,
    }
}
