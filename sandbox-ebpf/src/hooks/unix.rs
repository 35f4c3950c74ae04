//! Unix sockets: judged by the socket at the other end, by whatever name the caller found it.
//!
//! The kernel's socket knows the name that it was bound to: the entry of a directory, or an abstract name. That name is
//! judged, not the caller's words: relative names, symbolic links and other mounts lead to the same one.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{
    CONTROL_NAME,
    event::{Cause, Kind},
    policy::net_access,
};

use super::{
    EPERM, Matter, Subject, Tell, Workplace, conclude, found,
    names::{self, Which, outcome},
    net,
    path::Entry,
};
use crate::{
    emit::masked,
    maps::{HookScratch, get, put},
    offsets::{self, field, value},
    verdict::{self, Answer},
};

/// Bytes of a socket address before the name: the family.
const FAMILY: u32 = 2;
/// Most bytes of an abstract name that are read; the kernel has 107.
const NAME: u32 = 127;

/// unix_stream_connect(sock, other, newsk): stream and seqpacket.
#[lsm(hook = "unix_stream_connect")]
pub fn unix_stream_connect(ctx: LsmContext) -> i32 {
    let (socket, other): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    match Subject::of_hook(ctx.arg(3), EPERM) {
        Ok(subject) => {
            let matter =
                Matter { calls: [Kind::Connect, Kind::Send, Kind::Send], tell: Tell::Named, ..MATTER };
            peer(&subject, socket as u64, other as u64, matter)
        }
        Err(answer) => answer,
    }
}

/// unix_may_send(sock, other): datagrams, by their name or over a connection, and the connecting itself.
#[lsm(hook = "unix_may_send")]
pub fn unix_may_send(ctx: LsmContext) -> i32 {
    let (socket, other): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => {
            let matter = Matter {
                calls: [Kind::Send, Kind::Connect, Kind::Connect],
                access: net_access::SEND as u16,
                tell: Tell::Denials,
                ..MATTER
            };
            let sock = |socket: *const u8| field(socket as u64, &offsets::SOCKET_SK);
            peer(&subject, sock(socket), sock(other), matter)
        }
        Err(answer) => answer,
    }
}

const MATTER: Matter = Matter {
    check: Kind::UnixCheck,
    calls: [Kind::Unknown; 3],
    access: net_access::CONNECT as u16,
    tell: Tell::Denials,
    entered: false,
};

/// Judges listening at a socket (a `struct sock`).
#[inline(always)]
pub fn listen(subject: &Subject, sock: u64, tell: Tell) -> i32 {
    let access = net_access::LISTEN as u16;
    peer(subject, sock, sock, Matter { calls: [Kind::Listen; 3], access, tell, ..MATTER })
}

/// Judges a socket that was made elsewhere as if it connected now to where it is connected.
#[inline(always)]
pub fn received(subject: &Subject, sock: u64, access: u8) -> i32 {
    let other: u64 = field(sock, &offsets::UNIX_PEER);
    if other == 0 { 0 } else { peer(subject, sock, other, Matter { access: access as u16, ..MATTER }) }
}

/// Judges binding to an abstract name; a path is judged when the name is made.
#[inline(always)]
pub fn bind(subject: &Subject, sock: u64, address: u64, length: u32) -> i32 {
    if !subject.judged() || length <= FAMILY {
        // The kernel chooses a name that nobody has.
        return 0;
    }
    let Some(place) = Workplace::enter() else { return net::unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    if !put_abstract(scratch, address, length) {
        place.leave();
        return 0;
    }
    subject.know(&mut scratch.walk);
    let answer = at_name(subject.slot, scratch, net_access::BIND, true);
    found(scratch, answer);
    let matter =
        Matter { calls: [Kind::Bind; 3], access: net_access::BIND as u16, tell: Tell::Usual, ..MATTER };
    record(subject, &place, sock, true, matter)
}

/// Judges binding to the path of a name that is being made.
#[inline(always)]
pub fn bind_path(subject: &Subject, entry: Entry) -> i32 {
    let Some(place) = Workplace::enter() else { return net::unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    subject.know(&mut scratch.walk);
    at_entry(subject.slot, scratch, entry, net_access::BIND);
    let matter =
        Matter { calls: [Kind::Bind; 3], access: net_access::BIND as u16, tell: Tell::Denials, ..MATTER };
    record(subject, &place, 0, false, matter)
}

/// Judges an access to the socket `other`, a `struct sock`; what has no name belongs to those who hold it.
#[inline(always)]
fn peer(subject: &Subject, sock: u64, other: u64, matter: Matter) -> i32 {
    if !subject.judged() {
        return 0;
    }
    let Some(place) = Workplace::enter() else { return net::unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    subject.know(&mut scratch.walk);
    let path = other + value(&offsets::UNIX_PATH) as u64;
    let entry = Entry { mnt: field(path, &offsets::PATH_MNT), dentry: field(path, &offsets::PATH_DENTRY) };
    let name: u64 = field(other, &offsets::UNIX_ADDRESS);
    let is_abstract = entry.dentry == 0;
    if !is_abstract {
        at_entry(subject.slot, scratch, entry, matter.access as u8);
    } else if name == 0 {
        place.leave();
        return 0;
    } else {
        let length: u32 = field(name, &offsets::UNIX_NAME_LENGTH);
        let answer = if put_abstract(scratch, name + value(&offsets::UNIX_NAME) as u64, length) {
            at_name(subject.slot, scratch, matter.access as u8, true)
        } else {
            Answer::denied(Cause::Unreadable)
        };
        found(scratch, answer);
    }
    record(subject, &place, sock, is_abstract, matter)
}

/// What the policy says about the path of a name.
#[inline(always)]
fn at_entry(slot: u32, scratch: &mut HookScratch, entry: Entry, access: u8) {
    names::find(scratch, Which::First, entry.mnt, entry.dentry);
    let name = &scratch.finding.names[0];
    let (outcome, length) = (get(&name.outcome), get(&name.length));
    put(&mut scratch.finding.length, length);
    let answer = if outcome == outcome::AT {
        at_name(slot, scratch, access, false)
    } else {
        Answer { denied: true, cause: Cause::Unreachable }
    };
    found(scratch, answer);
    if outcome > outcome::UNKNOWN {
        put(&mut scratch.finding.cause, outcome - outcome::UNKNOWN);
    }
}

/// What the policy says about the name in the scratch.
#[inline(always)]
fn at_name(slot: u32, scratch: &mut HookScratch, access: u8, is_abstract: bool) -> Answer {
    if is_abstract && is_control(scratch) {
        return Answer::denied(Cause::Control);
    }
    verdict::unix(slot, scratch, access, is_abstract)
}

/// Puts the abstract name of a socket address into the scratch, behind `/@`; false where it has none.
#[inline(always)]
fn put_abstract(scratch: &mut HookScratch, address: u64, length: u32) -> bool {
    let mut first = 1u8;
    // SAFETY: the helper checks the address, and writes one byte.
    unsafe { bpf_probe_read_kernel((&raw mut first).cast(), 1, (address + FAMILY as u64) as *const _) };
    if first != 0 || length <= FAMILY {
        return false;
    }
    // Behind the family and the NUL.
    let size = masked::<NAME>(length as usize - FAMILY as usize - 1);
    [scratch.path[0], scratch.path[1]] = *b"/@";
    // SAFETY: the buffer has room for so much; the helper checks the source.
    let read = unsafe {
        bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().add(2).cast(),
            size as u32,
            (address + FAMILY as u64 + 1) as *const _,
        )
    };
    put(&mut scratch.finding.length, size as u64 + 2);
    read == 0
}

/// Whether the abstract name in the scratch is that of a runner's control socket, of this run or another.
#[inline(always)]
fn is_control(scratch: &HookScratch) -> bool {
    let mut differs = 0;
    let mut index = 1;
    while index < CONTROL_NAME.len() {
        differs |= scratch.path[1 + index] ^ CONTROL_NAME[index];
        index += 1;
    }
    differs == 0 && scratch.length() >= 1 + CONTROL_NAME.len() as u64
}

/// Concludes what was found, and leaves the place.
#[inline(always)]
fn record(subject: &Subject, place: &Workplace, sock: u64, is_abstract: bool, matter: Matter) -> i32 {
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    let result = conclude(
        subject,
        scratch,
        matter,
        |header, finding| {
            header.args[0] = is_abstract as u64;
            header.args[1] = net::AF_UNIX as u64;
            header.args[2] = field::<u16>(sock, &offsets::SOCK_TYPE) as u64;
            header.parts[0] = get(&finding.length) as u16;
        },
        EPERM,
    );
    place.leave();
    result
}
