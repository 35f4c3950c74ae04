//! Reads the names of the servers that a TCP socket speaks to, from what it sends.
//!
//! `egress` sees each packet of the cgroup's sockets before it leaves the machine, as the wire gets it: behind kTLS, and
//! whatever call wrote it. It gives the payload, in the order of its sequence numbers and each byte once, to the machine
//! of [`sandbox_ebpf::hello`], which is kept with the socket. What it has not read yet, nobody gets: a packet that comes
//! too early is dropped, and TCP sends it again. What was read before is sent again by TCP from its own copy.
//!
//! That copy is the kernel's own, but for what was sent without copying (MSG_ZEROCOPY, splice, sendfile, io_uring's
//! zero-copy sends): those pages may change behind the program's back, so such a packet is refused as long as its bytes
//! matter. So is urgent data, which a server takes out of the stream, and what is no plain TCP packet.
//!
//! All that is so where a connection is open because of a name (`Reading::law`). Of others the names are read too, for the
//! record, and nothing is held up.
//!
//! Of every socket of an enforced run, what goes by way of another address than the one that was judged (a source route,
//! a routing header) is not sent: whoever may set it as an ordinary user could lead packets anywhere.
//!
//! A socket without an entry costs one look-up, and so does one whose reading is over.

use core::{ffi::c_void, mem::MaybeUninit, ptr::null_mut};

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_loop, bpf_probe_read_kernel, bpf_sk_storage_get, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use sandbox_ebpf::{
    abi::{
        config::Mode,
        event::{Cause, Judgement, Kind, PATH_MAX, flag, refusal},
        policy::{Sets, net_access, proto},
    },
    hello::{Hello, MAX_NAME, outcome},
};

use super::{
    DENY, PASS,
    answer::{self, ADDRESS},
};
use crate::{
    emit::{self, Urgency, counter, masked, next_kseq},
    hooks::{Workplace, found, net::AF_INET6},
    maps::{HookScratch, READINGS, RUN_CONFIG, Reading, get, phase, put},
    offsets::{self, field},
    verdict::{self, Answer, source},
};

/// A packet that is not sent.
const DROP: i32 = DENY;

const IPPROTO_TCP: u8 = 6;
/// Bytes of an IPv4 header without options, of an IPv6 header, and of a TCP header without options.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const TCP_HEADER: u32 = 20;
/// In an IPv4 header: more fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;
/// The first byte of an IPv4 header without options.
const PLAIN_IPV4: u8 = 0x45;
/// Options of IPv4 (RFC 791, 3.1), and how many bytes of them a header has room for.
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;
const MOST_OPTIONS: u32 = 40;
/// Headers of IPv6 (RFC 8200, 4).
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
/// In a TCP header (RFC 9293, 3.1).
const SYN: u8 = 1 << 1;
const URG: u8 = 1 << 5;

/// In `skb_shared_info::flags`: pages that belong to somebody else as well (SKBFL_SHARED_FRAG).
const SHARED_FRAGMENTS: u8 = 1 << 1;

/// Most bytes that one callback takes: a power of two, and whole words.
const CHUNK: usize = 16;
const WORD: usize = 8;

/// What a TCP packet carries.
#[derive(Clone, Copy)]
struct Segment {
    /// Where the payload lies in the packet, and its length.
    offset: u32,
    length: u32,
    sequence: u32,
    flags: u8,
    /// The port that it comes from.
    port: u16,
}

/// A packet whose payload is being read; on the stack of the program, because the packet may be nowhere else.
struct Feed {
    packet: *mut __sk_buff,
    reading: *mut Reading,
}

/// A packet on its way out, at the start of its IP header.
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let packet = ctx.skb.skb;
    if detours(packet) && answer::slot(&ctx).is_some_and(is_enforced) {
        return DROP;
    }
    // SAFETY: the packet is the program's context.
    let socket = unsafe { (*packet).__bindgen_anon_2.sk };
    if socket.is_null() {
        return PASS;
    }
    let readings = (&raw const READINGS).cast_mut();
    // SAFETY: the map is this object's, and the socket is the packet's.
    let reading = unsafe { bpf_sk_storage_get(readings.cast(), socket.cast(), null_mut(), 0) };
    // SAFETY: the value is one of the map; TCP holds the socket's lock.
    let Some(reading) = (unsafe { reading.cast::<Reading>().as_mut() }) else { return PASS };
    match get(&reading.phase) {
        phase::NONE | phase::PASSED => PASS,
        phase::REFUSED => DROP,
        _ => packet_of(packet, reading),
    }
}

/// Whether the run in the slot is held to its policy.
#[inline(always)]
fn is_enforced(slot: u32) -> bool {
    RUN_CONFIG.get(slot).is_some_and(|config| {
        // SAFETY: the field lies in a map value.
        unsafe { core::ptr::read_volatile(&raw const config.mode) == Mode::Enforce as u32 }
    })
}

/// Whether a packet is sent by way of another address than the one that was judged: a source route of IPv4 (RFC 791,
/// 3.1), or a routing header of IPv6 (RFC 8200, 4.4). Options before that header need CAP_NET_RAW: behind one row of them
/// there must be something else.
#[inline(always)]
fn detours(packet: *mut __sk_buff) -> bool {
    let Some(header) = load::<8>(packet, 0) else { return false };
    if header[0] == PLAIN_IPV4 {
        return false;
    }
    if header[0] >> 4 == 4 {
        // SAFETY: it looks at the packet by a helper only.
        return unsafe { has_route(packet, (header[0] as u32 & 0xf) * 4) != 0 };
    }
    let next = if is_options(header[6]) {
        let Some([next]) = load::<1>(packet, IPV6_HEADER) else { return true };
        next
    } else {
        header[6]
    };
    next == ROUTING || is_options(header[6]) && is_options(next)
}

/// Whether a header of IPv6 has hop-by-hop options or destination options.
#[inline(always)]
fn is_options(header: u8) -> bool {
    header == 0 || header == DESTINATION_OPTIONS
}

/// Whether a byte of the options of an IPv4 header that ends at `end` could begin a source route.
///
/// # Safety
/// `packet` is the program's context.
#[inline(never)]
unsafe fn has_route(packet: *mut __sk_buff, end: u32) -> u64 {
    let mut at = IPV4_HEADER;
    while at < IPV4_HEADER + MOST_OPTIONS {
        if at >= end {
            return 0;
        }
        match load::<1>(packet, at) {
            Some([kind]) if kind != LOOSE_ROUTE && kind != STRICT_ROUTE => {}
            _ => return 1,
        }
        at += 1;
    }
    0
}

/// A packet of a socket that is read.
#[inline(always)]
fn packet_of(packet: *mut __sk_buff, reading: &mut Reading) -> i32 {
    // What cannot be read is not sent: another protocol (the outside of a tunnel), fragments, extension headers.
    let Some(mut segment) = segment(packet) else { return miss(reading) };
    reading.goal.own_port = segment.port;
    if segment.flags & SYN != 0 {
        if get(&reading.phase) == phase::CONNECTING {
            reading.start = segment.sequence;
            reading.next = segment.sequence.wrapping_add(1);
            put(&mut reading.phase, phase::READING);
        } else if segment.sequence != reading.start {
            return refuse(reading, refusal::PACKET);
        }
        // It takes a number; data behind it is TCP Fast Open's (RFC 7413).
        segment.sequence = segment.sequence.wrapping_add(1);
    }
    if segment.length == 0 {
        return PASS;
    }
    if get(&reading.phase) == phase::CONNECTING {
        return miss(reading);
    }
    if segment.flags & URG != 0 {
        return refuse(reading, refusal::URGENT);
    }
    let seen = reading.next.wrapping_sub(segment.sequence);
    if (seen as i32) < 0 {
        // Bytes before it were not read yet.
        return miss(reading);
    }
    if seen >= segment.length {
        return PASS;
    }
    put(&mut reading.position, segment.offset as u64 + seen as u64);
    put(&mut reading.end, segment.offset as u64 + segment.length as u64);
    reading.next = reading.next.wrapping_add(segment.length - seen);
    read(packet, reading)
}

/// Reads the payload from `position` to `end`.
#[inline(always)]
fn read(packet: *mut __sk_buff, reading: &mut Reading) -> i32 {
    let left = skip(reading);
    if left == 0 {
        return PASS;
    }
    if shared(packet) {
        return refuse(reading, refusal::SHARED_PAGES);
    }
    let mut feed = Feed { packet, reading: &raw mut *reading };
    // SAFETY: `piece` has the signature that bpf_loop calls, and the feed outlives the call.
    unsafe { bpf_loop(left as u32, piece as *mut c_void, (&raw mut feed).cast(), 0) };
    match get(&reading.phase) {
        phase::PASSED => PASS,
        phase::READING if get(&reading.position) >= get(&reading.end) => PASS,
        phase::REFUSED => DROP,
        _ => refuse(reading, refusal::PACKET),
    }
}

/// Leaves out what does not matter; returns how many bytes the packet still has.
#[inline(always)]
fn skip(reading: &mut Reading) -> u64 {
    let (position, end) = (get(&reading.position), get(&reading.end));
    let left = end.wrapping_sub(position);
    let skipped = reading.hello.skip(left);
    put(&mut reading.position, position.wrapping_add(skipped));
    left.wrapping_sub(skipped)
}

/// A piece of the payload: what does not matter, and up to [`CHUNK`] bytes behind it. Returns 1 to stop; else at least
/// one byte was taken.
#[inline(never)]
unsafe extern "C" fn piece(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `read` gave it.
    let feed = unsafe { &mut *context.cast::<Feed>() };
    // SAFETY: the reading is a map value.
    let reading = unsafe { &mut *feed.reading };
    let left = skip(reading);
    if left == 0 {
        return 1;
    }
    let spare = if left > CHUNK as u64 { CHUNK - 1 } else { left as usize - 1 };
    let taken = masked::<{ CHUNK as u32 - 1 }>(spare) + 1;
    let position = get(&reading.position);
    let mut words = [0u64; CHUNK / WORD];
    // SAFETY: `taken` is at most the buffer's size; the helper checks the packet's.
    let loaded = unsafe {
        bpf_skb_load_bytes(
            feed.packet.cast_const().cast(),
            position as u32,
            words.as_mut_ptr().cast(),
            taken as u32,
        )
    };
    if loaded != 0 {
        // `read` finds that it is not at the end.
        return 1;
    }
    put(&mut reading.position, position + taken as u64);
    let mut at = 0;
    while at < taken {
        let word = words[at / WORD & (CHUNK / WORD - 1)];
        if at.is_multiple_of(WORD) && taken - at >= WORD && reading.hello.plain(word) {
            at += WORD;
            continue;
        }
        let byte = (word >> (at % WORD * 8)) as u8;
        // SAFETY: the machine lies in a map value.
        if unsafe { hello_step(&raw mut reading.hello, byte as u32) } != 0 && told(reading) {
            return 1;
        }
        at += 1;
    }
    0
}

/// [`Hello::step`], looked at by the verifier once; 1 when there is something to be looked at.
///
/// # Safety
/// `hello` is null, or a machine.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn hello_step(hello: *mut Hello, byte: u32) -> u64 {
    // SAFETY: the caller's promise.
    let Some(hello) = (unsafe { hello.as_mut() }) else { return 1 };
    let before = hello.decisions;
    hello.step(byte as u8);
    (hello.decisions != before) as u64 | hello.over as u64
}

/// Hears what the machine has found; true when the reading ends.
#[inline(always)]
fn told(reading: &mut Reading) -> bool {
    if reading.hello.decisions != reading.judged {
        reading.judged = reading.hello.decisions;
        // SAFETY: the reading is a map value.
        if unsafe { judge(&raw mut *reading) } == 0 {
            put(&mut reading.phase, phase::REFUSED);
            return true;
        }
    }
    if reading.hello.over != 0 {
        put(&mut reading.phase, phase::PASSED);
        return true;
    }
    false
}

/// Judges what was found, and records it: 0 when nothing more may be sent.
///
/// # Safety
/// `reading` is null or a map value.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn judge(reading: *mut Reading) -> u64 {
    // SAFETY: the caller's promise.
    let Some(reading) = (unsafe { reading.as_mut() }) else { return 0 };
    let found = reading.hello.outcome;
    // What is refused in a run that may do what it likes is no more than strange.
    let law = reading.law;
    let Some(place) = Workplace::of_pool() else {
        next_kseq(reading.who.slot);
        counter!(reading.who.slot, lost);
        return (law == 0) as u64;
    };
    // SAFETY: the scratch is a map value.
    let scratch = unsafe { &mut *place.scratch };
    put(&mut scratch.finding.cause, Cause::Policy as u64);
    put(&mut scratch.finding.denied, (found == outcome::REFUSED) as u64);
    put(&mut scratch.finding.policy, 0);
    if law != 0 && found == outcome::REFUSED {
        put(&mut scratch.finding.cause, Cause::Hello as u64);
    }
    if law != 0 && found == outcome::NAME {
        ask(reading, scratch);
    }
    let denied = get(&scratch.finding.denied) & law;
    put(&mut scratch.finding.denied, denied);
    record(reading, scratch, found);
    place.leave();
    (denied == 0) as u64
}

/// What the policy says about going to the address because of the name that was read.
#[inline(always)]
fn ask(reading: &Reading, scratch: &mut HookScratch) {
    let slot = reading.who.slot;
    let length = masked::<255>(reading.hello.length as usize);
    let mut turned =
        Turned { from: &raw const reading.hello.name, to: &raw mut scratch.path, length: length as u64 };
    // SAFETY: `turn` has the signature that bpf_loop calls, and the context outlives the call.
    unsafe { bpf_loop(length as u32, turn as *mut c_void, (&raw mut turned).cast(), 0) };
    scratch.finding.address = reading.goal.address;
    put(&mut scratch.finding.port, reading.goal.port as u64);
    put(&mut scratch.finding.proto, proto::TCP as u64);
    let Sets { sure_own, may_own, sure_line, may_line } = reading.sets;
    put(&mut scratch.walk.sure_own, sure_own);
    put(&mut scratch.walk.may_own, may_own);
    put(&mut scratch.walk.sure_line, sure_line);
    put(&mut scratch.walk.may_line, may_line | may_own);
    let answer = if verdict::told(slot, scratch, length as u64) {
        verdict::address(slot, scratch, net_access::CONNECT, source::TOLD)
    } else {
        Answer::denied(Cause::Tables)
    };
    found(scratch, answer);
}

/// A name on its way into the scratch, its last byte first.
struct Turned {
    from: *const [u8; MAX_NAME + 1],
    to: *mut [u8; 2 * PATH_MAX + 256],
    length: u64,
}

/// One byte of it.
#[inline(never)]
unsafe extern "C" fn turn(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes on the context that `ask` gave it.
    let turned = unsafe { &mut *context.cast::<Turned>() };
    let at = masked::<255>(index as usize);
    let from = masked::<255>((turned.length as usize).wrapping_sub(1).wrapping_sub(at));
    // SAFETY: both are parts of map values, and the masks keep the indexes inside. No check of the compiler's: a panic that
    // cannot happen would not load.
    unsafe { turned.to.cast::<u8>().add(at).write(turned.from.cast::<u8>().add(from).read()) };
    0
}

/// Records what was read.
#[inline(always)]
fn record(reading: &Reading, scratch: &mut HookScratch, found: u8) {
    let slot = reading.who.slot;
    let denied = get(&scratch.finding.denied);
    let header = &mut scratch.header;
    reading.who.fill(header);
    header.kseq = next_kseq(slot);
    header.kind = Kind::Hello as u8;
    header.access = net_access::CONNECT as u16;
    header.flags = flag::GROUP;
    header.ret = reading.refusal as i64;
    header.args[0] = reading.hello.flags as u64;
    header.args[1] = found as u64;
    header.args[2] = reading.goal.own_port as u64;
    header.args[3] = reading.law;
    header.cause = get(&scratch.finding.cause) as u8;
    header.policy = get(&scratch.finding.policy) as u32;
    header.judgement = match (reading.law, denied) {
        (0, _) => Judgement::None as u8,
        (_, 0) => Judgement::Allowed as u8,
        _ => Judgement::Blocked as u8,
    };
    let length = masked::<255>(reading.hello.length as usize);
    header.parts[0] = ADDRESS as u16;
    header.parts[1] = length as u16;
    // Always as a sockaddr_in6.
    [scratch.path[0], scratch.path[1]] = AF_INET6.to_ne_bytes();
    [scratch.path[2], scratch.path[3]] = reading.goal.port.to_be_bytes();
    [scratch.path[4], scratch.path[5], scratch.path[6], scratch.path[7]] = [0; 4];
    let mut index = 0;
    while index < 16 {
        scratch.path[8 + index] = reading.goal.address[index];
        index += 1;
    }
    [scratch.path[24], scratch.path[25], scratch.path[26], scratch.path[27]] = [0; 4];
    // SAFETY: the buffer has room behind the address for the longest name, and the name lies in a map value.
    unsafe {
        bpf_probe_read_kernel(
            scratch.path.as_mut_ptr().add(ADDRESS).cast(),
            length as u32,
            reading.hello.name.as_ptr().cast(),
        )
    };
    let urgency = if denied != 0 { Urgency::Now } else { Urgency::Usual };
    if !emit::send::<511>(&scratch.header, ADDRESS + length, urgency) {
        counter!(slot, lost);
    }
    if denied != 0 {
        counter!(slot, blocked);
    }
}

/// Ends the reading for what the machine was not shown: nothing more is sent of what must name its server.
#[inline(always)]
fn refuse(reading: &mut Reading, why: u32) -> i32 {
    reading.refusal = why;
    reading.hello.outcome = outcome::REFUSED;
    // SAFETY: the reading is a map value.
    let denied = unsafe { judge(&raw mut *reading) } == 0;
    put(&mut reading.phase, if denied { phase::REFUSED } else { phase::PASSED });
    if denied { DROP } else { PASS }
}

/// A packet that cannot be read now. Where it must be, TCP sends it again; where it need not, the reading ends.
#[inline(always)]
fn miss(reading: &mut Reading) -> i32 {
    if reading.law != 0 {
        return DROP;
    }
    put(&mut reading.phase, phase::PASSED);
    PASS
}

/// The TCP segment of a packet; `None` for anything else.
#[inline(always)]
fn segment(packet: *mut __sk_buff) -> Option<Segment> {
    let header: [u8; IPV4_HEADER as usize] = load(packet, 0)?;
    let (protocol, length) = if header[0] >> 4 == 4 {
        if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT != 0 {
            return None;
        }
        (header[9], (header[0] as u32 & 0xf) * 4)
    } else {
        (header[6], IPV6_HEADER)
    };
    if protocol != IPPROTO_TCP || length < IPV4_HEADER {
        return None;
    }
    let header: [u8; TCP_HEADER as usize] = load(packet, length)?;
    let offset = length + (header[12] >> 4) as u32 * 4;
    // SAFETY: the packet is the program's context.
    let whole = unsafe { (*packet).len };
    if offset > whole {
        return None;
    }
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let port = u16::from_be_bytes([header[0], header[1]]);
    Some(Segment { offset, length: whole - offset, sequence, flags: header[13], port })
}

/// Bytes of the packet.
#[inline(always)]
fn load<const LENGTH: usize>(packet: *mut __sk_buff, offset: u32) -> Option<[u8; LENGTH]> {
    let mut bytes = MaybeUninit::<[u8; LENGTH]>::uninit();
    // SAFETY: the helper writes as many bytes as there are, or fails.
    let loaded = unsafe {
        bpf_skb_load_bytes(packet.cast_const().cast(), offset, bytes.as_mut_ptr().cast(), LENGTH as u32)
    };
    // SAFETY: the helper has written all of them.
    (loaded == 0).then(|| unsafe { bytes.assume_init() })
}

/// Whether pages of the packet may be changed by somebody else. The context of this type of program is the kernel's own
/// packet.
#[inline(always)]
fn shared(packet: *mut __sk_buff) -> bool {
    let head: u64 = field(packet as u64, &offsets::SKB_HEAD);
    let end: u32 = field(packet as u64, &offsets::SKB_END);
    let flags: u8 = field(head + end as u64, &offsets::SHARED_INFO_FLAGS);
    flags & SHARED_FRAGMENTS != 0
}

const _: () = assert!(CHUNK.is_power_of_two() && CHUNK.is_multiple_of(WORD));
