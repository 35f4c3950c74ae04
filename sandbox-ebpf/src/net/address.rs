//! Where the sockets of the control group go, and what they are bound to.

use core::ptr::null_mut;

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_sk_storage_get},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use sandbox_ebpf::abi::{
    config::Mode,
    event::{Cause, flag},
    policy::{Sets, net_access, proto},
    resolver::{self, ResolverKey, StubKey},
};

use super::{DENY, PASS};
use crate::{
    hooks::{
        CREATE, EPERM, Subject, Tell, Workplace, conclude, entry, found,
        net::{
            AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, asks, loopback, matter, own_end, proto, unjudged,
        },
    },
    maps::{
        Connection, Goal, HookScratch, READINGS, RESOLVERS, RUN_CONFIG, Reading, SOCKETS, STUBS, Socket, get,
        phase, put,
    },
    verdict::{self, Answer, source},
};

/// Bytes of the socket addresses that records carry: sockaddr_in without its padding, sockaddr_in6.
const SOCKADDR_IN: usize = 8;
const SOCKADDR_IN6: usize = 28;
/// bpf_sk_lookup_tcp: the network namespace of the socket.
const CURRENT_NAMESPACE: u64 = -1i64 as u64;
/// The loopback of IPv4 as IPv4-mapped, and that of IPv6: 32-bit words as memory has them.
const LOOPBACK_V4: [u32; 4] = [0, 0, 0xffff_0000, 0x0100_007f];
const LOOPBACK_V6: [u32; 4] = [0, 0, 0, 0x0100_0000];
const UNSPECIFIED: [u32; 4] = [0; 4];

/// connect(2) over IPv4, and what connects without it.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, net_access::CONNECT, AF_INET)
}

/// connect(2) over IPv6.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, net_access::CONNECT, AF_INET6)
}

/// A datagram with an address, over IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, net_access::SEND, AF_INET)
}

/// A datagram with an address, over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, net_access::SEND, AF_INET6)
}

/// bind(2) over IPv4.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, net_access::BIND, AF_INET)
}

/// bind(2) over IPv6.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, net_access::BIND, AF_INET6)
}

/// Where a datagram came from, over IPv4.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    restore(&ctx, AF_INET)
}

/// Where a datagram came from, over IPv6.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    restore(&ctx, AF_INET6)
}

/// getpeername(2) over IPv4.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    restore(&ctx, AF_INET)
}

/// getpeername(2) over IPv6.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    restore(&ctx, AF_INET6)
}

/// The address in the context, as 32-bit words as memory has them; IPv4 as IPv4-mapped.
#[inline(always)]
fn words(ctx: &SockAddrContext, family: u16) -> [u32; 4] {
    // SAFETY: the context is valid. Volatile: the kernel allows accesses to single words only.
    unsafe {
        let at = ctx.sock_addr;
        if family == AF_INET {
            let v4 = (&raw const (*at).user_ip4).read_volatile();
            return [0, 0, 0xffff_0000, v4];
        }
        let v6 = (&raw const (*at).user_ip6).cast::<u32>();
        [v6.read_volatile(), v6.add(1).read_volatile(), v6.add(2).read_volatile(), v6.add(3).read_volatile()]
    }
}

/// Puts another address and port into the context; the port is big-endian.
#[inline(always)]
fn replace(ctx: &SockAddrContext, family: u16, words: [u32; 4], port: u16) {
    // SAFETY: as in `words`.
    unsafe {
        let at = ctx.sock_addr;
        if family == AF_INET {
            (&raw mut (*at).user_ip4).write_volatile(words[3]);
        } else {
            let v6 = (&raw mut (*at).user_ip6).cast::<u32>();
            v6.write_volatile(words[0]);
            v6.add(1).write_volatile(words[1]);
            v6.add(2).write_volatile(words[2]);
            v6.add(3).write_volatile(words[3]);
        }
        (&raw mut (*at).user_port).write_volatile(port as u32);
    }
}

#[inline(always)]
fn bytes(words: [u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut index = 0;
    while index < 4 {
        let [a, b, c, d] = words[index].to_ne_bytes();
        bytes[4 * index] = a;
        bytes[4 * index + 1] = b;
        bytes[4 * index + 2] = c;
        bytes[4 * index + 3] = d;
        index += 1;
    }
    bytes
}

#[inline(always)]
fn from_bytes(bytes: [u8; 16]) -> [u32; 4] {
    let word = |index: usize| {
        u32::from_ne_bytes([bytes[index], bytes[index + 1], bytes[index + 2], bytes[index + 3]])
    };
    [word(0), word(4), word(8), word(12)]
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the context is valid.
    u16::from_be(unsafe { (&raw const (*ctx.sock_addr).user_port).read_volatile() } as u16)
}

/// The socket's type and protocol.
#[inline(always)]
fn kind(ctx: &SockAddrContext) -> (u16, u16) {
    // SAFETY: the context is valid.
    unsafe {
        let at = ctx.sock_addr;
        ((&raw const (*at).type_).read_volatile() as u16, (&raw const (*at).protocol).read_volatile() as u16)
    }
}

/// Judges an access of a socket of the group.
#[inline(always)]
fn judge(ctx: &SockAddrContext, access: u8, family: u16) -> i32 {
    // Whoever is no member of the run is judged by nobody, as with the hooks.
    let Some(task) = entry() else { return PASS };
    let Some(subject) = Subject::of_entry(task) else { return DENY };
    if subject.mode == Mode::Ended as u32 {
        return DENY;
    }
    if subject.mode == Mode::Observe as u32 {
        let (kind, protocol) = kind(ctx);
        if access == net_access::CONNECT && kind == SOCK_STREAM && protocol == IPPROTO_TCP {
            read(ctx, &subject, family, 0);
        }
        return PASS;
    }
    if subject.mode != Mode::Enforce as u32 && subject.mode != Mode::Audit as u32 {
        return PASS;
    }
    let Some((_, header)) = verdict::policy(subject.slot) else { return DENY };
    // SAFETY: the header lies in a map value.
    let (names, own) = unsafe { ((*header).names, (*header).own.count) };
    let (kind, protocol) = kind(ctx);
    let connects = access == net_access::CONNECT && kind == SOCK_STREAM && protocol == IPPROTO_TCP;
    let hooks = RUN_CONFIG.get(subject.slot).map_or(0, |config| config.hooks);
    let reaches = access != net_access::BIND;
    if subject.mode == Mode::Audit as u32 {
        // Nothing is changed for a run that is only watched.
        if own != 0 && reaches {
            tell_own(ctx, &subject, family);
        }
        if connects {
            read(ctx, &subject, family, 0);
        }
        return PASS;
    }
    let asks_name = names != 0 && reaches && port(ctx) == resolver::PORT;
    if hooks != 0 && !asks_name && !connects && (own == 0 || !reaches) {
        return PASS;
    }
    // A hook has judged what this program adds nothing to: a socket that the kernel made, as the flows of MPTCP are.
    if hooks != 0 && !is_left(ctx, subject.slot) {
        return PASS;
    }
    let Some(place) = Workplace::of_pool() else {
        return if unjudged(&subject) == 0 { PASS } else { DENY };
    };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    describe(ctx, scratch, family);
    know(ctx, &subject, scratch);
    let mut by_name = 0;
    if reaches {
        loopback(&mut scratch.finding.address);
        by_name = reach(ctx, &subject, scratch, access, names);
    } else if port(ctx) != 0 {
        let answer = own_end(subject.slot, scratch, access);
        found(scratch, answer);
    }
    let resolver = get(&scratch.finding.notes) & flag::RESOLVER as u64 != 0;
    let result = record(&subject, &place, access, (kind, protocol, family));
    if resolver && result == 0 {
        return lead(ctx, subject.slot, family, proto(kind, protocol));
    }
    if result == 0 && connects && !read(ctx, &subject, family, by_name) {
        return if by_name != 0 { DENY } else { PASS };
    }
    if result == 0 { PASS } else { DENY }
}

/// Puts down what is known of the task: by a hook, which sees more.
#[inline(always)]
fn know(ctx: &SockAddrContext, subject: &Subject, scratch: &mut HookScratch) {
    subject.know(&mut scratch.walk);
    if let Some(mark) = mark(ctx)
        && mark.known != 0
    {
        let Sets { sure_own, may_own, sure_line, may_line } = mark.sets;
        put(&mut scratch.walk.sure_own, sure_own);
        put(&mut scratch.walk.may_own, may_own);
        put(&mut scratch.walk.sure_line, sure_line);
        put(&mut scratch.walk.may_line, may_line | may_own);
    }
}

/// Whether a hook leaves names and own listeners of this socket's to the programs of the group (`hooks::net::grouped`).
#[inline(always)]
fn is_left(ctx: &SockAddrContext, slot: u32) -> bool {
    match mark(ctx) {
        Some(mark) => mark.slot == slot + 1 && mark.grouped != 0,
        None => false,
    }
}

/// What is kept with the socket.
#[inline(always)]
fn mark(ctx: &SockAddrContext) -> Option<&'static mut Socket> {
    // SAFETY: the socket is the context's; the map is socket storage of `Socket`.
    unsafe {
        let sock = (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile();
        if sock.is_null() {
            return None;
        }
        bpf_sk_storage_get(SOCKETS.as_ptr(), sock.cast(), null_mut(), 0).cast::<Socket>().as_mut()
    }
}

/// Has the names read that the connection to be made tells; with `law` they must be ones that open the address. False
/// where it cannot be.
#[inline(always)]
fn read(ctx: &SockAddrContext, subject: &Subject, family: u16, law: u32) -> bool {
    // One for each family: the compiler would choose between the context's fields by their offset, which the verifier
    // does not allow.
    let begun = if family == AF_INET {
        begin::<AF_INET>(ctx.sock_addr, subject.slot, law)
    } else {
        begin::<AF_INET6>(ctx.sock_addr, subject.slot, law)
    };
    begun != 0
}

/// [`read`], with a stack of its own.
#[inline(never)]
fn begin<const FAMILY: u16>(sock_addr: *mut bpf_sock_addr, slot: u32, law: u32) -> u64 {
    let ctx = &SockAddrContext::new(sock_addr);
    let readings = (&raw const READINGS).cast_mut();
    // SAFETY: the socket is the context's; the map is socket storage of `Reading`.
    let reading = unsafe {
        let sock = (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile();
        if sock.is_null() {
            return 0;
        }
        bpf_sk_storage_get(readings.cast(), sock.cast(), null_mut(), CREATE).cast::<Reading>().as_mut()
    };
    let Some(reading) = reading else { return 0 };
    let sets = match mark(ctx) {
        Some(mark) if mark.known != 0 => mark.sets,
        _ => Sets::UNKNOWN,
    };
    reading.law = law as u64;
    reading.judged = 0;
    reading.refusal = 0;
    reading.who = Connection::of_current(slot);
    reading.goal =
        Goal { address: bytes(words(ctx, FAMILY)), port: port(ctx), family: FAMILY, own_port: 0, _pad: 0 };
    reading.sets = sets;
    reading.hello.restart();
    put(&mut reading.phase, phase::CONNECTING);
    1
}

/// Leaves with the call whether a listener of the run is at the other end.
#[inline(always)]
fn tell_own(ctx: &SockAddrContext, subject: &Subject, family: u16) {
    let Some(place) = Workplace::of_pool() else { return };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    describe(ctx, scratch, family);
    loopback(&mut scratch.finding.address);
    if is_own(ctx, scratch, subject.slot)
        && let Some(task) = entry()
    {
        task.notes = flag::OWN;
    }
    place.leave();
}

/// What the policy says about reaching the address in the scratch, now that it can be seen who listens there. Gives 1
/// where it is open because of a name.
#[inline(always)]
fn reach(ctx: &SockAddrContext, subject: &Subject, scratch: &mut HookScratch, access: u8, names: u32) -> u32 {
    let slot = subject.slot;
    let own = is_own(ctx, scratch, slot) as u32;
    put(&mut scratch.finding.notes, (own as u16 * flag::OWN) as u64);
    let plain = verdict::address(slot, scratch, access, own * source::OWN);
    found(scratch, plain);
    if names == 0 {
        return 0;
    }
    if asks(slot, scratch, access) {
        put(&mut scratch.finding.notes, flag::RESOLVER as u64);
        found(scratch, Answer::ALLOWED);
        return 0;
    }
    let answer = verdict::address(slot, scratch, access, source::NAMES | own * source::OWN);
    found(scratch, answer);
    // Rules that deny names count too, whatever opens the address.
    (plain.denied & !answer.denied) as u32
}

/// Puts the end into the scratch: to be judged, and as a socket address for the record.
#[inline(always)]
fn describe(ctx: &SockAddrContext, scratch: &mut HookScratch, family: u16) {
    let address = bytes(words(ctx, family));
    let (kind, protocol) = kind(ctx);
    scratch.finding.address = address;
    put(&mut scratch.finding.port, port(ctx) as u64);
    put(&mut scratch.finding.proto, proto(kind, protocol) as u64);
    put(&mut scratch.finding.denied, 0);
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    put(&mut scratch.finding.notes, 0);
    let [family_low, family_high] = family.to_ne_bytes();
    let [port_high, port_low] = port(ctx).to_be_bytes();
    [scratch.path[0], scratch.path[1], scratch.path[2], scratch.path[3]] =
        [family_low, family_high, port_high, port_low];
    let (from, length) = if family == AF_INET { (12, SOCKADDR_IN) } else { (0, SOCKADDR_IN6) };
    let mut index = 0;
    while index < 16 {
        let to = if family == AF_INET { 4 } else { 8 };
        if index + from < 16 {
            scratch.path[to + index] = address[index + from];
        }
        index += 1;
    }
    put(&mut scratch.finding.length, length as u64);
}

/// Whether a listener of the run is at the end in the scratch, or the other end of its datagrams.
///
/// Only on loopback: what is looked up is a socket that would take what came here, and one that is bound to every
/// address, or to one that the machine does not have (IP_FREEBIND), would take it for any.
#[inline(always)]
fn is_own(ctx: &SockAddrContext, scratch: &HookScratch, slot: u32) -> bool {
    let address = from_bytes(scratch.finding.address);
    let v4 = is_v4(address);
    if !(v4 && address[3] & 0xff == LOOPBACK_V4[3] & 0xff) && address != LOOPBACK_V6 {
        return false;
    }
    let port = (scratch.port() as u16).to_be();
    if scratch.proto() == proto::TCP as u64 {
        return is_own_at(ctx, slot, (address, port), (UNSPECIFIED, 0), true);
    }
    if scratch.proto() != proto::UDP as u64 {
        return false;
    }
    if is_own_at(ctx, slot, (address, port), (UNSPECIFIED, 0), false) {
        return true;
    }
    // A socket that is connected to this one takes nothing from others.
    let (from, own_port) = source_end(ctx, v4);
    own_port != 0 && is_own_at(ctx, slot, (address, port), (from, own_port), false)
}

#[inline(always)]
fn is_v4(address: [u32; 4]) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == LOOPBACK_V4[2]
}

/// Where the socket's datagrams come from; loopback, where it is not bound to an address. The port is big-endian.
#[inline(always)]
fn source_end(ctx: &SockAddrContext, v4: bool) -> ([u32; 4], u16) {
    // SAFETY: the socket is the context's. Volatile: the kernel allows accesses to single words only.
    unsafe {
        let sock = (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile();
        if sock.is_null() {
            return (UNSPECIFIED, 0);
        }
        let port = ((&raw const (*sock).src_port).read_volatile() as u16).to_be();
        if v4 {
            let from = (&raw const (*sock).src_ip4).read_volatile();
            return (if from == 0 { LOOPBACK_V4 } else { [0, 0, LOOPBACK_V4[2], from] }, port);
        }
        let at = (&raw const (*sock).src_ip6).cast::<u32>();
        let from = [
            at.read_volatile(),
            at.add(1).read_volatile(),
            at.add(2).read_volatile(),
            at.add(3).read_volatile(),
        ];
        (if from == UNSPECIFIED { LOOPBACK_V6 } else { from }, port)
    }
}

/// Whether the socket that takes what comes from one end to another is the run's; ports are big-endian.
#[inline(always)]
fn is_own_at(
    ctx: &SockAddrContext,
    slot: u32,
    (to, to_port): ([u32; 4], u16),
    (from, from_port): ([u32; 4], u16),
    tcp: bool,
) -> bool {
    // struct bpf_sock_tuple: source and destination address, source and destination port.
    let mut tuple = [0u32; 9];
    let ports = from_port as u32 | (to_port as u32) << 16;
    let size;
    if is_v4(to) {
        [tuple[0], tuple[1], tuple[2]] = [from[3], to[3], ports];
        size = 12;
    } else {
        [tuple[0], tuple[1], tuple[2], tuple[3]] = from;
        [tuple[4], tuple[5], tuple[6], tuple[7]] = to;
        tuple[8] = ports;
        size = 36;
    }
    let tuple = (&raw mut tuple).cast();
    let context = ctx.sock_addr.cast();
    // SAFETY: the tuple outlives the calls, and its size is that of its family.
    let found = unsafe {
        if tcp {
            bpf_sk_lookup_tcp(context, tuple, size, CURRENT_NAMESPACE, 0)
        } else {
            bpf_sk_lookup_udp(context, tuple, size, CURRENT_NAMESPACE, 0)
        }
    };
    if found.is_null() {
        return false;
    }
    // SAFETY: the look-up returned a socket, which is given back afterwards; the map is socket storage of `Socket`.
    unsafe {
        let mark = bpf_sk_storage_get(SOCKETS.as_ptr(), found.cast(), null_mut(), 0).cast::<Socket>();
        let own = !mark.is_null() && (*mark).slot == slot + 1;
        bpf_sk_release(found.cast());
        own
    }
}

/// Concludes what was found, and leaves the place.
#[inline(always)]
fn record(subject: &Subject, place: &Workplace, access: u8, socket: (u16, u16, u16)) -> i32 {
    let (kind, protocol, family) = socket;
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    let result = conclude(
        subject,
        scratch,
        matter(access, Tell::Denials),
        |header, finding| {
            header.args[1] = family as u64;
            header.args[2] = kind as u64;
            header.args[3] = protocol as u64;
            header.flags = get(&finding.notes) as u16 | flag::GROUP;
            header.parts[0] = get(&finding.length) as u16;
        },
        EPERM,
    );
    if let Some(task) = entry() {
        task.notes = get(&scratch.finding.notes) as u16 | flag::GROUP;
        if result == 0 && task.judgement == 0 {
            task.judgement = get(&scratch.finding.judgement) as u8;
        }
    }
    place.leave();
    result
}

/// Leads a question to the runner.
#[inline(always)]
fn lead(ctx: &SockAddrContext, slot: u32, family: u16, protocol: u8) -> i32 {
    let address = words(ctx, family);
    let Some(stub) = RESOLVERS.get_ptr(ResolverKey { slot, address: bytes(address) }) else { return DENY };
    // SAFETY: the pointer leads into a map value.
    let port = unsafe { if protocol == proto::TCP { (*stub).tcp } else { (*stub).udp } };
    if port == 0 {
        return DENY;
    }
    let v4 = address[0] == 0 && address[1] == 0 && address[2] == 0xffff_0000;
    replace(ctx, family, if v4 { LOOPBACK_V4 } else { LOOPBACK_V6 }, port.to_be());
    PASS
}

/// What comes from the runner in a resolver's stead comes from the resolver, as far as the run can see.
#[inline(always)]
fn restore(ctx: &SockAddrContext, family: u16) -> i32 {
    let Some(task) = entry() else { return PASS };
    let address = words(ctx, family);
    let from = |loopback: [u32; 4]| {
        address[0] == loopback[0]
            && address[1] == loopback[1]
            && address[2] == loopback[2]
            && address[3] == loopback[3]
    };
    if !from(LOOPBACK_V4) && !from(LOOPBACK_V6) {
        return PASS;
    }
    let (kind, protocol) = kind(ctx);
    let key = StubKey { slot: task.slot, port: port(ctx), proto: proto(kind, protocol) as u16 };
    if let Some(resolver) = STUBS.get_ptr(key) {
        // SAFETY: the pointer leads into a map value.
        let resolver = unsafe { *resolver };
        replace(ctx, family, from_bytes(resolver), resolver::PORT.to_be());
    }
    PASS
}
