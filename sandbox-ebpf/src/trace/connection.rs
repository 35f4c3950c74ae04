//! Connections of TCP: how much went over each, told when it ends.
//!
//! A connection ends long after the call that made it, and often in nobody's name: who made it is kept beside it.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_ringbuf_output,
        generated::{bpf_for_each_map_elem, bpf_probe_read_kernel},
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use sandbox_ebpf::abi::event::{Header, Kind};

use super::current;
use crate::{
    emit::{counter, next_kseq},
    hooks::net::{AF_INET, AF_INET6},
    maps::{CONNECTIONS, Connection, EVENTS},
    offsets::{self, field, value},
};

const TCP_SYN_SENT: i32 = 2;
const TCP_CLOSE: i32 = 7;
const IPPROTO_TCP: u16 = 6;
/// Bit of `sock::sk_flags`: the other side's end has come, which counts as a byte (SOCK_DONE).
const SOCK_DONE: u64 = 1 << 1;
/// Bytes of a sockaddr_in6, the longer of the two.
const ADDRESS: usize = 28;

/// A record of a connection's end.
#[repr(C)]
struct Record {
    header: Header,
    address: [u8; ADDRESS],
    _pad: [u8; 4],
}

/// inet_sock_set_state(sk, oldstate, newstate)
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let state: i32 = ctx.arg(2);
    if state == TCP_SYN_SENT {
        begin(sock);
    } else if state == TCP_CLOSE
        && let Some(connection) = CONNECTIONS.get_ptr(sock)
    {
        // SAFETY: the pointer leads into a map value.
        let connection = unsafe { *connection };
        let before: i32 = ctx.arg(1);
        // What was never made has no end.
        if CONNECTIONS.remove(sock).is_ok() && before != TCP_SYN_SENT {
            tell(sock, &connection);
        }
    }
    0
}

/// A connection that the current task has accepted.
#[inline(always)]
pub fn accepted(sock: u64) {
    if field::<u16>(sock, &offsets::SOCK_PROTOCOL) != IPPROTO_TCP {
        return;
    }
    begin(sock);
    // It may have ended before it was known.
    if field::<u8>(sock, &offsets::SOCK_STATE) as i32 == TCP_CLOSE {
        let _ = CONNECTIONS.remove(sock);
    }
}

/// Keeps who makes a connection, if it is one of the run's tasks.
#[inline(always)]
fn begin(sock: u64) {
    let Some(task) = current() else { return };
    let slot = task.slot;
    let connection = Connection::of_current(slot);
    // Where there is no room for more, the connection was told when it was made, and its end is not.
    let _ = CONNECTIONS.insert(sock, connection, 0);
}

/// Records the end of a connection, with what went over it so far.
#[inline(always)]
fn tell(sock: u64, connection: &Connection) {
    let mut record = Record { header: Header::EMPTY, address: [0; ADDRESS], _pad: [0; 4] };
    let header = &mut record.header;
    connection.fill(header);
    header.kseq = next_kseq(connection.slot);
    header.kind = Kind::Close as u8;
    let family: u16 = field(sock, &offsets::SOCK_FAMILY);
    let ended = field::<u64>(sock, &offsets::SOCK_FLAGS) & SOCK_DONE != 0;
    let sent: u64 = field(sock, &offsets::TCP_BYTES_SENT);
    let again: u64 = field(sock, &offsets::TCP_BYTES_RETRANS);
    let received: u64 = field(sock, &offsets::TCP_BYTES_RECEIVED);
    header.args[0] = sent.wrapping_sub(again);
    header.args[1] = received.saturating_sub(ended as u64);
    // The number in host byte order is gone by then.
    header.args[2] = u16::from_be(field::<u16>(sock, &offsets::INET_SPORT)) as u64;
    header.args[3] = family as u64;
    let port = field::<u16>(sock, &offsets::SOCK_DPORT).to_ne_bytes();
    [record.address[0], record.address[1]] = family.to_ne_bytes();
    [record.address[2], record.address[3]] = port;
    if family == AF_INET {
        let v4: [u8; 4] = field(sock, &offsets::SOCK_DADDR);
        [record.address[4], record.address[5], record.address[6], record.address[7]] = v4;
    } else if family == AF_INET6 {
        // SAFETY: sixteen bytes lie behind the flow label; the helper checks the source.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut record.address).cast::<u8>().add(8).cast(),
                16,
                (sock + value(&offsets::SOCK_DADDR6) as u64) as *const c_void,
            )
        };
    }
    record.header.parts[0] = ADDRESS as u16;
    let ring = &raw const EVENTS as *mut c_void;
    // SAFETY: the record lies on the stack, and the map is this object's ring buffer.
    let sent = unsafe {
        bpf_ringbuf_output(
            ring,
            (&raw mut record).cast(),
            size_of::<Record>() as u64,
            BPF_RB_NO_WAKEUP as u64,
        )
    };
    if sent != 0 {
        counter!(connection.slot, lost);
    }
}

/// Tells of all connections of the run in slot `arg 0` that have not ended; as `arm`, run by BPF_PROG_TEST_RUN.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sandbox_connections")]
pub fn connections(ctx: *mut c_void) -> u32 {
    let ctx = RawTracePointContext::new(ctx);
    let mut slot: u64 = ctx.arg(0);
    let map = &raw const CONNECTIONS as *mut c_void;
    // SAFETY: `each` has the signature that the helper calls, and the slot outlives the call.
    unsafe { bpf_for_each_map_elem(map, each as *mut c_void, (&raw mut slot).cast(), 0) };
    0
}

/// One connection. Returns 0 to go on.
#[inline(never)]
unsafe extern "C" fn each(
    _: *mut c_void,
    key: *const u64,
    entry: *const Connection,
    slot: *const u64,
) -> i64 {
    // SAFETY: the helper passes a key and a value of the map, and the context of `connections`.
    let (sock, connection, slot) = unsafe { (*key, *entry, *slot) };
    if connection.slot as u64 == slot && CONNECTIONS.remove(sock).is_ok() {
        tell(sock, &connection);
    }
    0
}
