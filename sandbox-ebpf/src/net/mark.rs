//! sock_create: sockets of the control group are known by a mark, and so is what their listeners accept.

use aya_ebpf::{helpers::generated::bpf_sk_storage_get, macros::cgroup_sock, programs::SockContext};
use sandbox_ebpf::abi::config::Mode;

use super::{DENY, PASS};
use crate::{
    hooks::{CREATE, Subject, entry},
    maps::{SOCKETS, Socket},
};

/// An IPv4 or IPv6 socket was made.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    // Whoever was put into the group from outside is no member of the run: nothing is known of what it may.
    let Some(subject) = entry().and_then(|task| Subject::of_entry(task)) else { return PASS };
    if subject.mode == Mode::Ended as u32 {
        return DENY;
    }
    // SAFETY: the context is the socket; the map is socket storage of `Socket`, and no initial value is given.
    let mark =
        unsafe { bpf_sk_storage_get(SOCKETS.as_ptr(), ctx.sock.cast(), core::ptr::null_mut(), CREATE) };
    // SAFETY: socket storage returned a value of this type. What cannot be marked counts as somebody else's.
    if let Some(socket) = unsafe { mark.cast::<Socket>().as_mut() } {
        socket.slot = subject.slot + 1;
        socket.grouped = 1;
    }
    PASS
}
