//! Sockets: what the run's tasks make, where they speak to, and where they listen.
//!
//! What of an address only the programs of the run's control group can tell, whether a listener of the run is there, is
//! left to them where the socket belongs to the group; where it does not, it counts as not so.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel, bpf_sk_storage_get},
    macros::lsm,
    programs::LsmContext,
};
use sandbox_ebpf::abi::{
    config::Mode,
    event::{Cause, Kind, flag},
    policy::{net_access, proto},
    resolver::{self, ResolverKey},
};

use super::{CREATE, EPERM, Matter, Subject, Tell, Workplace, conclude, entry, found, unix};
use crate::{
    emit::{counter, next_kseq},
    maps::{HookScratch, RESOLVERS, SOCKETS, Socket, get, put},
    offsets::{self, field, value},
    trace::net::describe_socket,
    verdict::{self, Answer, source},
};

pub const AF_UNSPEC: u16 = 0;
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;
const NETLINK_ROUTE: u16 = 0;
pub const SOCK_STREAM: u16 = 1;
pub const SOCK_DGRAM: u16 = 2;
const SOCK_SEQPACKET: u16 = 5;
/// The bits of a socket's type that are one (SOCK_TYPE_MASK).
const TYPE_MASK: u32 = 0xf;
pub const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_UDPLITE: u16 = 136;
const IPPROTO_MPTCP: u16 = 262;
/// sendmsg(2) flag: connect and send in one.
pub const MSG_FASTOPEN: u32 = 0x2000_0000;
/// Bytes of the longest address that is judged: sockaddr_in6.
const ADDRESS: usize = 28;
/// Fixed bytes that IPv4-mapped addresses begin with.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
/// Beside the access, where it is packed into one number: the group's programs see the socket too.
const GROUPED: u32 = 1 << 8;

/// socket_create(family, type, protocol, kern)
#[lsm(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(4), EPERM) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let (family, kind, protocol, kernel): (u32, u32, u32, u32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    let kind = kind & TYPE_MASK;
    if kernel != 0 || !subject.judged() || is_usual(family as u16, kind as u16, protocol as u16) {
        return 0;
    }
    let Some(place) = Workplace::enter() else { return unjudged(&subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    put(&mut scratch.finding.length, 0);
    let answer = by_default(subject.slot, scratch, net_access::CONNECT);
    found(scratch, answer);
    let matter = Matter {
        check: Kind::SocketCheck,
        calls: [Kind::Unknown; 3],
        access: net_access::CONNECT as u16,
        tell: Tell::Always,
        entered: false,
    };
    let result = conclude(
        &subject,
        scratch,
        matter,
        |header, _| {
            header.args[1] = family as u64;
            header.args[2] = kind as u64;
            header.args[3] = protocol as u64;
        },
        EPERM,
    );
    place.leave();
    result
}

/// Whether what such a socket does is judged when it does it: addresses and unix sockets; and asking the kernel for
/// addresses and routes is part of name resolution.
#[inline(always)]
fn is_usual(family: u16, kind: u16, protocol: u16) -> bool {
    match family {
        AF_UNIX => true,
        AF_INET | AF_INET6 => kind == SOCK_STREAM || kind == SOCK_DGRAM || kind == SOCK_SEQPACKET,
        AF_NETLINK => protocol == NETLINK_ROUTE,
        _ => false,
    }
}

/// socket_post_create(sock, family, type, protocol, kern): it is the run's from now on.
#[lsm(hook = "socket_post_create")]
pub fn socket_post_create(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(5), EPERM) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let kernel: u32 = ctx.arg(4);
    if kernel != 0 {
        return 0;
    }
    // What cannot be marked counts as somebody else's.
    if let Some(socket) = mark_of(ctx.arg(0), CREATE) {
        socket.slot = subject.slot + 1;
    }
    0
}

/// What is kept with a socket (a `struct socket` that is a hook's argument).
#[inline(always)]
fn mark_of(socket: *const u8, flags: u64) -> Option<&'static mut Socket> {
    // SAFETY: the verifier knows what the argument points to, and checks the access.
    let sock =
        unsafe { socket.add(value(&offsets::SOCKET_SK)).cast::<*mut core::ffi::c_void>().read_volatile() };
    if sock.is_null() {
        return None;
    }
    // SAFETY: the map is socket storage of `Socket`; no initial value is given.
    let mark = unsafe { bpf_sk_storage_get(SOCKETS.as_ptr(), sock, core::ptr::null_mut(), flags) };
    // SAFETY: socket storage returned a value of this type.
    unsafe { mark.cast::<Socket>().as_mut() }
}

/// [`GROUPED`] where the programs of the run's control group see what the socket does; they are told who acts.
#[inline(always)]
fn grouped(subject: &Subject, socket: *const u8) -> u32 {
    match mark_of(socket, 0) {
        Some(mark) if mark.slot == subject.slot + 1 && mark.grouped != 0 => {
            mark.sets = subject.sets();
            mark.known = 1;
            GROUPED
        }
        _ => 0,
    }
}

/// socket_connect(sock, address, addrlen): the address is the kernel's copy.
#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(3), EPERM) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let socket: *const u8 = ctx.arg(0);
    let address: *const u8 = ctx.arg(1);
    let length: i32 = ctx.arg(2);
    let access = net_access::CONNECT as u32 | grouped(&subject, socket);
    judge(&subject, socket as u64, address as u64, length as u32, access)
}

/// socket_sendmsg(sock, msg, size): a message without a name goes where the connection goes.
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(3), EPERM) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let socket: *const u8 = ctx.arg(0);
    let message: *const u8 = ctx.arg(1);
    let name: u64 = field(message as u64, &offsets::MSG_NAME);
    if name == 0 {
        return 0;
    }
    let length: u32 = field(message as u64, &offsets::MSG_NAMELEN);
    let flags: u32 = field(message as u64, &offsets::MSG_FLAGS);
    let access = if flags & MSG_FASTOPEN != 0 { net_access::CONNECT } else { net_access::SEND };
    judge(&subject, socket as u64, name, length, access as u32 | grouped(&subject, socket))
}

/// socket_bind(sock, address, addrlen). A unix socket's path is judged when its name is made.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(3), EPERM) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let socket: *const u8 = ctx.arg(0);
    let address: *const u8 = ctx.arg(1);
    let length: i32 = ctx.arg(2);
    let sock: u64 = field(socket as u64, &offsets::SOCKET_SK);
    if field::<u16>(sock, &offsets::SOCK_FAMILY) == AF_UNIX {
        return unix::bind(&subject, sock, address as u64, length as u32);
    }
    judge(&subject, socket as u64, address as u64, length as u32, net_access::BIND as u32)
}

/// socket_listen(sock, backlog)
#[lsm(hook = "socket_listen")]
pub fn socket_listen(ctx: LsmContext) -> i32 {
    match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => listens(&subject, ctx.arg(0), Tell::Usual),
        Err(answer) => answer,
    }
}

/// socket_accept(sock, newsock): a listener may have been made elsewhere, or under another policy.
#[lsm(hook = "socket_accept")]
pub fn socket_accept(ctx: LsmContext) -> i32 {
    match Subject::of_hook(ctx.arg(2), EPERM) {
        Ok(subject) => listens(&subject, ctx.arg(0), Tell::Denials),
        Err(answer) => answer,
    }
}

/// Judges listening at a socket's own end.
#[inline(always)]
fn listens(subject: &Subject, socket: *const u8, tell: Tell) -> i32 {
    if !subject.judged() {
        return 0;
    }
    let sock: u64 = field(socket as u64, &offsets::SOCKET_SK);
    let family: u16 = field(sock, &offsets::SOCK_FAMILY);
    if family == AF_UNIX {
        return unix::listen(subject, sock, tell);
    }
    let Some(place) = Workplace::enter() else { return unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    let port = field::<u16>(sock, &offsets::SOCK_NUM).to_be();
    put_end(scratch, sock, (family, port), (&offsets::SOCK_RCV_SADDR, &offsets::SOCK_RCV_SADDR6));
    answer(subject, scratch, socket as u64, ADDRESS as u32, net_access::LISTEN as u32);
    let calls = [Kind::Listen; 3];
    let matter =
        Matter { check: Kind::ListenCheck, calls, access: net_access::LISTEN as u16, tell, entered: false };
    record(subject, &place, socket as u64, matter)
}

/// There is no room to tell of it in: the attempt has its number, and counts as lost.
#[inline(always)]
pub fn unjudged(subject: &Subject) -> i32 {
    next_kseq(subject.slot);
    counter!(subject.slot, lost);
    if subject.mode == Mode::Enforce as u32 { EPERM } else { 0 }
}

/// Judges an access to an address, and records it. `access` may have [`GROUPED`] beside it.
#[inline(always)]
fn judge(subject: &Subject, socket: u64, address: u64, length: u32, access: u32) -> i32 {
    if !subject.judged() {
        return 0;
    }
    let Some(place) = Workplace::enter() else { return unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    let told = if length as usize > ADDRESS { ADDRESS } else { length as usize };
    put(&mut scratch.finding.length, told as u64);
    // Always as much as is judged: what lies behind a shorter address is not looked at.
    // SAFETY: ADDRESS bytes are read into more than that; the helper checks the source.
    let read = unsafe {
        bpf_probe_read_kernel(scratch.path.as_mut_ptr().cast(), ADDRESS as u32, address as *const _)
    };
    if read != 0 {
        put(&mut scratch.finding.notes, 0);
        found(scratch, Answer::denied(Cause::Unreadable));
    } else {
        answer(subject, scratch, socket, length, access);
    }
    record(subject, &place, socket, matter(access as u8, Tell::Usual))
}

/// What an access to an address is told as.
#[inline(always)]
pub fn matter(access: u8, tell: Tell) -> Matter {
    let (check, calls) = match access {
        net_access::CONNECT => (Kind::ConnectCheck, [Kind::Connect, Kind::Send, Kind::Send]),
        net_access::BIND => (Kind::BindCheck, [Kind::Bind; 3]),
        _ => (Kind::SendCheck, [Kind::Send; 3]),
    };
    Matter { check, calls, access: access as u16, tell, entered: false }
}

/// Concludes what was found of an address, and leaves the place.
#[inline(always)]
fn record(subject: &Subject, place: &Workplace, socket: u64, matter: Matter) -> i32 {
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    let result = conclude(
        subject,
        scratch,
        matter,
        |header, finding| {
            describe_socket(header, socket);
            header.flags = get(&finding.notes) as u16;
            header.parts[0] = get(&finding.length) as u16;
        },
        EPERM,
    );
    if get(&scratch.finding.notes) != 0
        && let Some(task) = entry()
    {
        task.notes = get(&scratch.finding.notes) as u16;
    }
    place.leave();
    result
}

/// Judges a socket that was made elsewhere as if it connected now to where it is connected, and records a denial.
#[inline(always)]
pub fn judge_received(subject: &Subject, socket: u64, access: u8) -> i32 {
    let sock: u64 = field(socket, &offsets::SOCKET_SK);
    let family: u16 = field(sock, &offsets::SOCK_FAMILY);
    let port: u16 = field(sock, &offsets::SOCK_DPORT);
    if family == AF_UNIX {
        return unix::received(subject, sock, access);
    }
    if port == 0 || (family != AF_INET && family != AF_INET6) {
        return 0;
    }
    let Some(place) = Workplace::enter() else { return unjudged(subject) };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    put_end(scratch, sock, (family, port), (&offsets::SOCK_DADDR, &offsets::SOCK_DADDR6));
    answer(subject, scratch, socket, ADDRESS as u32, access as u32);
    let matter = Matter {
        check: Kind::ConnectCheck,
        calls: [Kind::Unknown; 3],
        access: access as u16,
        tell: Tell::Denials,
        entered: false,
    };
    record(subject, &place, socket, matter)
}

/// Puts one of a socket's ends into the scratch as a socket address; the port is big-endian.
#[inline(always)]
fn put_end(
    scratch: &mut HookScratch,
    sock: u64,
    (family, port): (u16, u16),
    (v4, v6): (&'static u64, &'static u64),
) {
    put(&mut scratch.finding.length, ADDRESS as u64);
    let [family_low, family_high] = family.to_ne_bytes();
    let [port_low, port_high] = port.to_ne_bytes();
    scratch.path[0] = family_low;
    scratch.path[1] = family_high;
    scratch.path[2] = port_low;
    scratch.path[3] = port_high;
    // sockaddr_in has the address at 4, sockaddr_in6 at 8. SAFETY: the buffer has room; the helper checks the source.
    unsafe {
        bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().add(4).cast(),
            4,
            (sock + value(v4) as u64) as *const _,
        );
        if family == AF_INET6 {
            bpf_probe_read_kernel(
                scratch.path.as_mut_ptr().add(8).cast(),
                16,
                (sock + value(v6) as u64) as *const _,
            );
        }
    }
}

/// What the policy says about the socket address in the scratch.
#[inline(always)]
fn answer(subject: &Subject, scratch: &mut HookScratch, socket: u64, length: u32, access: u32) {
    subject.know(&mut scratch.walk);
    put(&mut scratch.finding.object, socket);
    // SAFETY: the scratch is a map value.
    unsafe { answer_address(scratch, subject.slot, length, access) };
}

/// [`answer`] for the socket at `finding.object`; always 0.
///
/// # Safety
/// `scratch` is null or a hook's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn answer_address(scratch: *mut HookScratch, slot: u32, length: u32, access: u32) -> u64 {
    // SAFETY: the caller's promise.
    if let Some(scratch) = unsafe { scratch.as_mut() } {
        put(&mut scratch.finding.denied, 0);
        put(&mut scratch.finding.cause, Cause::Policy as u64);
        put(&mut scratch.finding.notes, 0);
        judge_told(scratch, slot, length, access);
    }
    0
}

#[inline(always)]
fn judge_told(scratch: &mut HookScratch, slot: u32, length: u32, access: u32) {
    let socket = get(&scratch.finding.object);
    let sock: u64 = field(socket, &offsets::SOCKET_SK);
    let own_family: u16 = field(sock, &offsets::SOCK_FAMILY);
    let protocol: u16 = field(sock, &offsets::SOCK_PROTOCOL);
    let kind: u16 = field(socket, &offsets::SOCKET_TYPE);
    let grouped = access & GROUPED;
    let access = access as u8;
    let reaches = access & (net_access::CONNECT | net_access::SEND) != 0;
    let address = &scratch.path;
    let mut family = u16::from_ne_bytes([address[0], address[1]]);
    if length < 2 {
        // The kernel refuses it.
        return;
    }
    if family == AF_UNSPEC {
        let udp = protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
        if access == net_access::CONNECT || own_family != AF_INET && (udp || access != net_access::SEND) {
            // connect: the connection is dissolved. IPv6: it goes where the connection goes, or is refused.
            return;
        }
        // UDP over IPv4 takes it for an IPv4 address, and so does bind. Protocols without ports (L2TP, raw sockets) take
        // it for one of the socket's family.
        family = if own_family == AF_INET { AF_INET } else { AF_INET6 };
    }
    let port = u16::from_be_bytes([address[2], address[3]]);
    put(&mut scratch.finding.port, port as u64);
    put(&mut scratch.finding.proto, proto(kind, protocol) as u64);
    if family == AF_INET && length >= 8 {
        let v4 = [scratch.path[4], scratch.path[5], scratch.path[6], scratch.path[7]];
        mapped(&mut scratch.finding.address, v4);
    } else if family == AF_INET6 && length >= 24 {
        let mut index = 0;
        while index < 16 {
            scratch.finding.address[index] = scratch.path[8 + index];
            index += 1;
        }
    } else if family == AF_INET || family == AF_INET6 {
        // Too short for its family: the kernel refuses it.
        return;
    } else {
        let answer = other(slot, scratch, family, protocol, access);
        return found(scratch, answer);
    }
    if !reaches {
        // A port of the kernel's choice is judged when somebody listens there.
        if access != net_access::BIND || port != 0 {
            let answer = own_end(slot, scratch, access);
            found(scratch, answer);
        }
        return;
    }
    loopback(&mut scratch.finding.address);
    let exact = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
    let seen = grouped != 0 && exact && (kind == SOCK_STREAM || kind == SOCK_DGRAM);
    reach(slot, scratch, access, seen);
}

/// What the policy says about reaching the address in the scratch. `seen`: the programs of the control group judge it
/// once more.
#[inline(always)]
fn reach(slot: u32, scratch: &mut HookScratch, access: u8, seen: bool) {
    let Some((_, header)) = verdict::policy(slot) else {
        return found(scratch, Answer::denied(Cause::Tables));
    };
    // SAFETY: the header lies in a map value.
    let (names, own) = unsafe { ((*header).names, (*header).own.count) };
    // A name says nothing of where a socket leads that the runner's answers do not bind.
    let sources = if seen { source::NAMES } else { 0 };
    if own != 0 && seen {
        let answer = verdict::address(slot, scratch, access, sources | source::OWN);
        if !answer.denied {
            // It is so if a listener of the run is there, which they know.
            return found(scratch, answer);
        }
    }
    let answer = verdict::address(slot, scratch, access, sources);
    found(scratch, answer);
    if answer.denied && seen && names != 0 && asks(slot, scratch, access) {
        put(&mut scratch.finding.notes, flag::RESOLVER as u64);
        found(scratch, Answer::ALLOWED);
    }
}

/// What the policy says about the run's own socket at the address in the scratch. Where names of hosts are held, nobody of
/// the run takes questions for names, which may be the runner's, or answers it.
#[inline(always)]
pub fn own_end(slot: u32, scratch: &mut HookScratch, access: u8) -> Answer {
    let answer = verdict::address(slot, scratch, access, source::OWN);
    let Some((_, header)) = verdict::policy(slot) else { return Answer::denied(Cause::Tables) };
    // SAFETY: the header lies in a map value.
    let names = unsafe { (*header).names };
    let answers = access == net_access::BIND && get(&scratch.finding.port) == resolver::PORT as u64;
    if !answer.denied && answers && names != 0 { Answer::denied(Cause::Resolver) } else { answer }
}

/// Whether the end in the scratch is a resolver that the runner stands in for, and no rule keeps the run from it.
#[inline(always)]
pub fn asks(slot: u32, scratch: &HookScratch, access: u8) -> bool {
    let address = scratch.finding.address;
    get(&scratch.finding.port) == resolver::PORT as u64
        && get(&scratch.walk.by_rule) & access as u64 == 0
        && get(&scratch.walk.failed) == 0
        && RESOLVERS.get_ptr(ResolverKey { slot, address }).is_some()
}

/// An IPv4 address as IPv4-mapped.
#[inline(always)]
pub fn mapped(target: &mut [u8; 16], v4: [u8; 4]) {
    let mut index = 0;
    while index < 12 {
        target[index] = MAPPED[index];
        index += 1;
    }
    [target[12], target[13], target[14], target[15]] = v4;
}

/// `::` is `::1`, and `::ffff:0.0.0.0` is `::ffff:127.0.0.1`.
#[inline(always)]
pub fn loopback(target: &mut [u8; 16]) {
    let low = u64::from_be_bytes([
        target[8], target[9], target[10], target[11], target[12], target[13], target[14], target[15],
    ]);
    let high = u64::from_be_bytes([
        target[0], target[1], target[2], target[3], target[4], target[5], target[6], target[7],
    ]);
    if high != 0 {
        return;
    }
    if low == 0 {
        target[15] = 1;
    } else if low == 0xffff_0000_0000 {
        target[12] = 127;
        target[15] = 1;
    }
}

/// Families that no rule names follow the default; unix sockets have hooks of their own.
#[inline(always)]
fn other(slot: u32, scratch: &mut HookScratch, family: u16, protocol: u16, access: u8) -> Answer {
    if family == AF_UNIX || (family == AF_NETLINK && protocol == NETLINK_ROUTE) {
        return Answer::ALLOWED;
    }
    by_default(slot, scratch, access)
}

/// What holds where no rule can name the end.
#[inline(always)]
fn by_default(slot: u32, scratch: &mut HookScratch, access: u8) -> Answer {
    let Some((_, header)) = verdict::policy(slot) else { return Answer::denied(Cause::Tables) };
    // SAFETY: the header lies in a map value.
    let (id, default) = unsafe { ((*header).id, (*header).net_default_deny) };
    put(&mut scratch.finding.policy, id as u64);
    Answer { denied: default as u8 & access != 0, cause: Cause::Family }
}

/// The protocol as rules tell it. What a raw socket's protocol carries is none of these.
#[inline(always)]
pub fn proto(kind: u16, protocol: u16) -> u8 {
    if kind != SOCK_STREAM && kind != SOCK_DGRAM {
        return proto::OTHER;
    }
    match protocol {
        IPPROTO_TCP | IPPROTO_MPTCP => proto::TCP,
        IPPROTO_UDP | IPPROTO_UDPLITE => proto::UDP,
        _ => proto::OTHER,
    }
}
