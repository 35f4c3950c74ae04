//! socket_connect and socket_sendmsg: where the run's tasks speak to.

use aya_ebpf::{helpers::generated, macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{
    CONTROL_NAME,
    config::Mode,
    event::{Cause, Kind},
    policy::{net_access, proto},
};

use super::{EPERM, Matter, Subject, Tell, Workplace, conclude, found};
use crate::{
    emit::{counter, next_kseq},
    maps::{HookScratch, get, put},
    offsets::{self, field, value},
    trace::net::describe_socket,
    verdict::{self, Answer},
};

const AF_UNSPEC: u16 = 0;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;
const NETLINK_ROUTE: u16 = 0;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_UDPLITE: u16 = 136;
const IPPROTO_MPTCP: u16 = 262;
/// sendmsg(2) flag: connect and send in one.
pub const MSG_FASTOPEN: u32 = 0x2000_0000;
/// Bytes of the longest address that is judged: sockaddr_in6.
const ADDRESS: usize = 28;
/// Fixed bytes that IPv4-mapped addresses begin with.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

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
    judge(&subject, socket as u64, address as u64, length as u32, net_access::CONNECT)
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
    judge(&subject, socket as u64, name, length, access)
}

/// Judges an access to an address, and records it.
#[inline(always)]
fn judge(subject: &Subject, socket: u64, address: u64, length: u32, access: u8) -> i32 {
    if !subject.judged() {
        return 0;
    }
    let Some(place) = Workplace::enter() else {
        // There is no room to tell of it in: the attempt has its number, and counts as lost.
        next_kseq(subject.slot);
        counter!(subject.slot, lost);
        return if subject.mode == Mode::Enforce as u32 { EPERM } else { 0 };
    };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    put(&mut scratch.finding.denied, 0);
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    let told = if length as usize > ADDRESS { ADDRESS } else { length as usize };
    put(&mut scratch.finding.length, told as u64);
    // Always as much as is judged: what lies behind a shorter address is not looked at.
    // SAFETY: ADDRESS bytes are read into more than that; the helper checks the source.
    let read = unsafe {
        generated::bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().cast(),
            ADDRESS as u32,
            address as *const _,
        )
    };
    if read != 0 {
        found(scratch, Answer::denied(Cause::Unreadable));
    } else {
        answer(subject, scratch, socket, length, access);
    }
    let (check, calls) = if access == net_access::CONNECT {
        (Kind::ConnectCheck, [Kind::Connect, Kind::Send, Kind::Send])
    } else {
        (Kind::SendCheck, [Kind::Send; 3])
    };
    let matter = Matter { check, calls, access: access as u16, tell: Tell::Usual, entered: false };
    record(subject, &place, socket, matter)
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
            header.parts[0] = get(&finding.length) as u16;
        },
        EPERM,
    );
    place.leave();
    result
}

/// Judges a socket that was made elsewhere as if it connected now to where it is connected, and records a denial.
#[inline(always)]
pub fn judge_received(subject: &Subject, socket: u64, access: u8) -> i32 {
    let sock: u64 = field(socket, &offsets::SOCKET_SK);
    let family: u16 = field(sock, &offsets::SOCK_FAMILY);
    let port: u16 = field(sock, &offsets::SOCK_DPORT);
    if port == 0 || (family != AF_INET && family != AF_INET6) {
        return 0;
    }
    let Some(place) = Workplace::enter() else {
        next_kseq(subject.slot);
        counter!(subject.slot, lost);
        return if subject.mode == Mode::Enforce as u32 { EPERM } else { 0 };
    };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    put(&mut scratch.finding.denied, 0);
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    put(&mut scratch.finding.length, ADDRESS as u64);
    let [family_low, family_high] = family.to_ne_bytes();
    let [port_low, port_high] = port.to_ne_bytes();
    scratch.path[0] = family_low;
    scratch.path[1] = family_high;
    scratch.path[2] = port_low;
    scratch.path[3] = port_high;
    // sockaddr_in has the address at 4, sockaddr_in6 at 8. SAFETY: the buffer has room; the helper checks the source.
    unsafe {
        generated::bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().add(4).cast(),
            4,
            (sock + value(&offsets::SOCK_DADDR) as u64) as *const _,
        );
        if family == AF_INET6 {
            generated::bpf_probe_read_kernel(
                scratch.path.as_mut_ptr().add(8).cast(),
                16,
                (sock + value(&offsets::SOCK_DADDR6) as u64) as *const _,
            );
        }
    }
    answer(subject, scratch, socket, ADDRESS as u32, access);
    let matter = Matter {
        check: Kind::ConnectCheck,
        calls: [Kind::Unknown; 3],
        access: access as u16,
        tell: Tell::Denials,
        entered: false,
    };
    record(subject, &place, socket, matter)
}

/// What the policy says about the socket address in the scratch.
#[inline(always)]
fn answer(subject: &Subject, scratch: &mut HookScratch, socket: u64, length: u32, access: u8) {
    subject.know(&mut scratch.walk);
    put(&mut scratch.finding.object, socket);
    // SAFETY: the scratch is a map value.
    unsafe { answer_address(scratch, subject.slot, length, access as u32) };
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
        judge_told(scratch, slot, length, access as u8);
    }
    0
}

#[inline(always)]
fn judge_told(scratch: &mut HookScratch, slot: u32, length: u32, access: u8) {
    let sock: u64 = field(get(&scratch.finding.object), &offsets::SOCKET_SK);
    let own_family: u16 = field(sock, &offsets::SOCK_FAMILY);
    let protocol: u16 = field(sock, &offsets::SOCK_PROTOCOL);
    let address = &scratch.path;
    let mut family = u16::from_ne_bytes([address[0], address[1]]);
    if length < 2 {
        // The kernel refuses it.
        return;
    }
    if family == AF_UNSPEC {
        if access == net_access::CONNECT || own_family != AF_INET {
            // connect: the connection is dissolved. IPv6: it goes where the connection goes.
            return;
        }
        // UDP over IPv4 takes it for an IPv4 address.
        family = AF_INET;
    }
    put(&mut scratch.finding.port, u16::from_be_bytes([address[2], address[3]]) as u64);
    put(&mut scratch.finding.proto, proto(protocol) as u64);
    if family == AF_INET && length >= 8 {
        let v4 = [scratch.path[4], scratch.path[5], scratch.path[6], scratch.path[7]];
        mapped(&mut scratch.finding.address, v4);
    } else if family == AF_INET6 && length >= 24 {
        let mut index = 0;
        while index < 16 {
            scratch.finding.address[index] = scratch.path[8 + index];
            index += 1;
        }
        loopback(&mut scratch.finding.address);
    } else if family == AF_INET || family == AF_INET6 {
        // Too short for its family: the kernel refuses it.
        return;
    } else {
        let answer = other(slot, scratch, family, protocol, access);
        return found(scratch, answer);
    }
    let answer = verdict::address(slot, scratch, access);
    found(scratch, answer);
}

/// An IPv4 address as IPv4-mapped; "this host" is loopback.
#[inline(always)]
fn mapped(target: &mut [u8; 16], v4: [u8; 4]) {
    let v4 = if u32::from_ne_bytes(v4) == 0 { [127, 0, 0, 1] } else { v4 };
    let mut index = 0;
    while index < 12 {
        target[index] = MAPPED[index];
        index += 1;
    }
    [target[12], target[13], target[14], target[15]] = v4;
}

/// `::` is `::1`, and `::ffff:0.0.0.0` is `::ffff:127.0.0.1`.
#[inline(always)]
fn loopback(target: &mut [u8; 16]) {
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

/// Whether the address in the scratch is that of a runner's control socket, of this run or another.
#[inline(always)]
fn is_control(scratch: &HookScratch) -> bool {
    let mut differs = 0;
    let mut index = 0;
    while index < CONTROL_NAME.len() {
        differs |= scratch.path[2 + index] ^ CONTROL_NAME[index];
        index += 1;
    }
    differs == 0
}

/// Families that no rule names follow the default; asking the kernel for routes is part of name resolution.
#[inline(always)]
fn other(slot: u32, scratch: &mut HookScratch, family: u16, protocol: u16, access: u8) -> Answer {
    let Some((_, header)) = verdict::policy(slot) else { return Answer::denied(Cause::Tables) };
    // SAFETY: the header lies in a map value.
    let (id, default) = unsafe { ((*header).id, (*header).net_default_deny) };
    put(&mut scratch.finding.policy, id as u64);
    if family == AF_NETLINK && protocol == NETLINK_ROUTE {
        return Answer::ALLOWED;
    }
    if family == AF_UNIX && is_control(scratch) {
        return Answer::denied(Cause::Control);
    }
    let cause = if family == AF_UNIX { Cause::Policy } else { Cause::Family };
    Answer { denied: default as u8 & access != 0, cause }
}

#[inline(always)]
fn proto(protocol: u16) -> u8 {
    match protocol {
        IPPROTO_TCP | IPPROTO_MPTCP => proto::TCP,
        IPPROTO_UDP | IPPROTO_UDPLITE => proto::UDP,
        _ => proto::OTHER,
    }
}
