//! What resolvers answer, as it comes to the sockets of a run that is only watched: so that addresses have names in its
//! record. Datagrams only; what comes over a connection is not read here.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_RB_NO_WAKEUP, bpf_sock},
    helpers::{
        bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output,
        generated::{bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_load_bytes},
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use sandbox_ebpf::abi::{
    config::Mode,
    event::{ANSWER_MAX, HEADER_SIZE, Header, Kind, flag},
    resolver::PORT,
};

use super::PASS;
use crate::{
    emit::{counter, masked, next_kseq},
    hooks::net::{AF_INET, AF_INET6},
    maps::{ANSWER_SCRATCH, EVENTS, RUN_CONFIG, SOCKETS, Socket},
};

const IPPROTO_UDP: u8 = 17;
const IPV6_HEADER: u32 = 40;
const UDP_HEADER: u32 = 8;
/// Bytes of a sockaddr_in6, and of a sockaddr_in without its padding.
pub const ADDRESS: usize = 28;

/// A packet comes to a socket of the group.
#[cgroup_skb]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    let Some(datagram) = Datagram::of(&ctx) else { return PASS };
    let Some(slot) = slot(&ctx) else { return PASS };
    let watched = RUN_CONFIG.get(slot).is_some_and(|config| {
        // SAFETY: the field lies in a map value.
        let mode = unsafe { core::ptr::read_volatile(&raw const config.mode) };
        mode == Mode::Observe as u32 || mode == Mode::Audit as u32
    });
    if watched {
        record(&ctx, slot, &datagram);
    }
    PASS
}

/// Where things stand in a datagram from a resolver's port.
struct Datagram {
    family: u16,
    /// Where its UDP header begins, counted from the network's.
    udp: u32,
    /// The port that it goes to.
    port: u16,
    length: u32,
}

impl Datagram {
    #[inline(always)]
    fn of(ctx: &SkBuffContext) -> Option<Datagram> {
        let mut first = [0u8; 10];
        load(ctx, 0, &mut first)?;
        let (family, protocol, udp) = match first[0] >> 4 {
            4 => (AF_INET, first[9], (first[0] & 15) as u32 * 4),
            // Behind other headers there is no answer of a resolver's.
            6 => (AF_INET6, first[6], IPV6_HEADER),
            _ => return None,
        };
        if protocol != IPPROTO_UDP {
            return None;
        }
        let mut ports = [0u8; 4];
        load(ctx, udp, &mut ports)?;
        if u16::from_be_bytes([ports[0], ports[1]]) != PORT {
            return None;
        }
        // SAFETY: the context is valid.
        let length = unsafe { (*ctx.skb.skb).len };
        if length <= udp + UDP_HEADER {
            return None;
        }
        let port = u16::from_be_bytes([ports[2], ports[3]]);
        Some(Datagram { family, udp, port, length: length - udp - UDP_HEADER })
    }
}

#[inline(always)]
fn load<const N: usize>(ctx: &SkBuffContext, offset: u32, to: &mut [u8; N]) -> Option<()> {
    // SAFETY: the helper writes N bytes, or fails.
    let read = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, to.as_mut_ptr().cast(), N as u32) };
    if read == 0 { Some(()) } else { None }
}

/// The run whose socket it comes to.
#[inline(always)]
pub fn slot(ctx: &SkBuffContext) -> Option<u32> {
    // SAFETY: the context is valid, and what it leads to is looked at by helpers only, after a check for null.
    unsafe {
        let sock: *mut bpf_sock = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sock.is_null() {
            return None;
        }
        let sock = bpf_sk_fullsock(sock);
        if sock.is_null() {
            return None;
        }
        let mark =
            bpf_sk_storage_get(SOCKETS.as_ptr(), sock.cast(), core::ptr::null_mut(), 0).cast::<Socket>();
        if mark.is_null() || (*mark).slot == 0 { None } else { Some((*mark).slot - 1) }
    }
}

#[inline(always)]
fn record(ctx: &SkBuffContext, slot: u32, datagram: &Datagram) {
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    // SAFETY: packets come with bottom halves switched off: nobody else works on this CPU's entry meanwhile.
    let Some(scratch) = ANSWER_SCRATCH.get_ptr_mut(cpu).map(|entry| unsafe { &mut *entry }) else { return };
    scratch.header = Header::EMPTY;
    let header = &mut scratch.header;
    header.kseq = next_kseq(slot);
    header.kind = Kind::Answer as u8;
    header.slot = slot;
    // SAFETY: the helper takes no argument.
    header.mono_ns = unsafe { bpf_ktime_get_ns() };
    header.args[0] = datagram.port as u64;
    header.args[1] = datagram.length as u64;
    let length = if datagram.length > ANSWER_MAX as u32 {
        header.flags |= flag::TRUNCATED;
        ANSWER_MAX as u32
    } else {
        datagram.length
    };
    header.parts[0] = ADDRESS as u16;
    header.parts[1] = length as u16;
    scratch.data = [0; ADDRESS];
    [scratch.data[0], scratch.data[1]] = datagram.family.to_ne_bytes();
    [scratch.data[2], scratch.data[3]] = PORT.to_be_bytes();
    // SAFETY: the buffer has room for either address, and the answer behind it for so many bytes.
    let read = unsafe {
        let (from, to, size) = if datagram.family == AF_INET { (12, 4, 4) } else { (8, 8, 16) };
        let address = scratch.data.as_mut_ptr().add(to);
        bpf_skb_load_bytes(ctx.skb.skb.cast(), from, address.cast(), size)
            | bpf_skb_load_bytes(
                ctx.skb.skb.cast(),
                datagram.udp + UDP_HEADER,
                scratch.answer.as_mut_ptr().cast(),
                bounded(length),
            )
    };
    let size = HEADER_SIZE + ADDRESS + masked::<{ 2 * ANSWER_MAX as u32 - 1 }>(length as usize);
    let ring = &raw const EVENTS as *mut c_void;
    // SAFETY: the scratch holds so many bytes.
    let sent = read == 0
        && unsafe {
            bpf_ringbuf_output(ring, (&raw mut *scratch).cast(), size as u64, BPF_RB_NO_WAKEUP as u64) == 0
        };
    if !sent {
        counter!(slot, lost);
    }
}

/// A length from 1 on, as the verifier sees it.
#[inline(always)]
fn bounded(length: u32) -> u32 {
    masked::<{ ANSWER_MAX as u32 - 1 }>(length as usize - 1) as u32 + 1
}
