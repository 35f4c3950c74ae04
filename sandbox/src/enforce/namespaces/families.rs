//! The filter beside a network namespace: sockets that no namespace holds back cannot be made.
//!
//! Of some families a socket belongs to the machine whatever namespace it was made in (vsock reaches the hypervisor), and
//! no rule of a policy can name them: a closed network closes them. What is open are IPv4, IPv6, unix sockets, and
//! netlink for addresses and routes, as where hooks judge. It adds to the filter of every enforced run.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::enforce::seccomp::guard;

/// Families whose sockets a network namespace holds.
const OPEN: [i32; 3] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The bits of socket(2)'s second argument that are the kind; the others are flags.
const KINDS: u64 = 0xf;

/// Kinds whose pairs stay connected to each other.
const CONNECTED: [i32; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];

/// Whether unix sockets can be made. Those with a path are files, which no namespace holds back: where the policies open
/// none, none is made, but for pairs (socketpair(2)) that lead nowhere: the ends of a pair of streams, or of packets in
/// order, are connected, and can neither be connected elsewhere nor listen, also where one of them is bound to a name. An
/// end of a pair of datagrams (to the kernel SOCK_RAW is that, too) sends and connects to whatever name it is given, so
/// such a pair is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixSockets {
    /// They can.
    Open,
    /// They cannot.
    Closed,
}

#[cfg(target_arch = "x86_64")]
const NATIVE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: TargetArch = TargetArch::aarch64;

/// Installs the filter on the calling thread, for good; it needs no_new_privs.
///
/// # Errors
/// The kernel refuses.
pub fn install(unix: UnixSockets) -> io::Result<()> {
    let program = program(unix).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        other => io::Error::other(other),
    })
}

/// Whether a descriptor is a socket that leads somewhere else than to its other end: one of the machine's network, which no
/// namespace of the run takes it out of (connect(2) leads a connection of TCP elsewhere, too), or a unix socket that is not
/// connected for good.
///
/// # Errors
/// It cannot be told.
pub fn leads_out(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let family = match option(descriptor, libc::SO_DOMAIN) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => return Ok(false),
        family => family?,
    };
    let stays = family == libc::AF_UNIX && CONNECTED.contains(&option(descriptor, libc::SO_TYPE)?);
    // One end may have been closed; what is left is connected all the same, and says so of itself.
    Ok(!(stays && option(descriptor, libc::SO_ACCEPTCONN)? == 0 && is_connected(descriptor)))
}

fn is_connected(descriptor: BorrowedFd<'_>) -> bool {
    nix::sys::socket::getpeername::<nix::sys::socket::UnixAddr>(descriptor.as_raw_fd()).is_ok()
}

fn option(descriptor: BorrowedFd<'_>, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value and its length live through the call, which writes no more than that.
    let got = unsafe {
        let (value, length) = ((&raw mut value).cast(), &raw mut length);
        libc::getsockopt(descriptor.as_raw_fd(), libc::SOL_SOCKET, name, value, length)
    };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn program(unix: UnixSockets) -> Result<BpfProgram, BackendError> {
    let argument = |index, operator, value: i32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
    };
    let other = |unix: UnixSockets| {
        let own = (unix == UnixSockets::Open).then_some(libc::AF_UNIX);
        let open = OPEN.into_iter().chain(own);
        let none_of = open.map(|family| argument(0, SeccompCmpOp::Ne, family));
        SeccompRule::new(none_of.collect::<Result<_, _>>()?)
    };
    let netlink = SeccompRule::new(vec![
        argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?,
        argument(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?,
    ])?;
    let of_kind = |kind| {
        SeccompRule::new(vec![
            argument(0, SeccompCmpOp::Eq, libc::AF_UNIX)?,
            argument(1, SeccompCmpOp::MaskedEq(KINDS), kind)?,
        ])
    };
    let mut pairs = vec![other(UnixSockets::Open)?, netlink.clone()];
    if unix == UnixSockets::Closed {
        // What is no pair of streams or of packets in order: also of kinds that the kernel does not know yet.
        for kind in (0..=KINDS as i32).filter(|kind| !CONNECTED.contains(kind)) {
            pairs.push(of_kind(kind)?);
        }
    }
    let rules: BTreeMap<i64, Vec<SeccompRule>> =
        [(libc::SYS_socket, vec![other(unix)?, netlink]), (libc::SYS_socketpair, pairs)].into();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, NATIVE)?.try_into()?;
    // Calls of other architectures do not exist, as in the filter beside it; seccompiler would kill whoever makes one.
    Ok(guard().into_iter().chain(filter).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use nix::sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen, sendto,
        socket, socketpair,
    };
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Whether sockets of these families and protocols can be made: 0, or the errno.
    fn made(family: i32, kind: i32, protocol: i32) -> i32 {
        // SAFETY: integers only.
        let fd = unsafe { libc::socket(family, kind, protocol) };
        if fd < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
    }

    /// Whether a pair of unix sockets of this kind can be made: 0, or the errno.
    fn pair(kind: i32) -> i32 {
        let mut ends = [-1; 2];
        // SAFETY: two integers are written, for which there is room.
        match unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } {
            0 => 0,
            _ => io::Error::last_os_error().raw_os_error().unwrap_or(-1),
        }
    }

    /// Whether the ends of the pairs that are left can neither be led to somebody who listens nor be found: `listening` has
    /// the names of a listener of each kind.
    fn pairs_lead_nowhere(listening: &[(SockType, UnixAddr)]) -> bool {
        let code = |result: nix::Result<()>| result.err().map_or(0, |errno| errno as i32);
        listening.iter().all(|(kind, listener)| {
            let Ok((one, _other)) = socketpair(AddressFamily::Unix, *kind, None, SockFlag::empty()) else {
                return false;
            };
            let fd = one.as_raw_fd();
            let sent = code(sendto(fd, b"x", listener, MsgFlags::MSG_NOSIGNAL).map(drop));
            // Of packets in order the kernel does not look at the address: the other end has it.
            let stays = if *kind == SockType::Stream { sent == libc::EISCONN } else { sent == 0 };
            let name =
                UnixAddr::new_abstract(format!("sandbox-end-{kind:?}-{}", std::process::id()).as_bytes());
            let Ok(name) = name else { return false };
            stays
                && code(connect(fd, listener)) == libc::EISCONN
                && code(bind(fd, &name)) == 0
                && Backlog::new(1).is_ok_and(|backlog| code(listen(&one, backlog)) == libc::EINVAL)
        })
    }

    /// Somebody who listens, of the kinds whose pairs stay open.
    fn listeners() -> Vec<(OwnedFd, (SockType, UnixAddr))> {
        let kinds = [SockType::Stream, SockType::SeqPacket].into_iter();
        let made = kinds.map(|kind| {
            let listener = socket(AddressFamily::Unix, kind, SockFlag::empty(), None).unwrap();
            let name = format!("sandbox-listener-{kind:?}-{}", std::process::id());
            let name = UnixAddr::new_abstract(name.as_bytes()).unwrap();
            bind(listener.as_raw_fd(), &name).unwrap();
            listen(&listener, Backlog::new(1).unwrap()).unwrap();
            (listener, (kind, name))
        });
        made.collect()
    }

    #[test]
    fn what_leads_out_is_known() {
        let place = tempfile::tempdir().unwrap();
        let leads = |fd: BorrowedFd<'_>| leads_out(fd).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        assert!(!leads(one.as_fd()));
        drop(other);
        assert!(!leads(one.as_fd()), "also alone it is led nowhere else");
        assert!(!leads(io::pipe().unwrap().0.as_fd()) && !leads(std::fs::File::open("/").unwrap().as_fd()));
        let listener = UnixListener::bind(place.path().join("listener")).unwrap();
        let stream = UnixStream::connect(place.path().join("listener")).unwrap();
        assert!(!leads(stream.as_fd()) && leads(listener.as_fd()));
        assert!(leads(UnixDatagram::pair().unwrap().0.as_fd()));
        let unconnected = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        assert!(leads(unconnected.as_fd()));
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        assert!(leads(server.as_fd()) && leads(client.as_fd()));
        assert!(leads(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()));
    }

    #[test]
    fn other_families_are_closed_and_these_are_not() {
        let open = [
            (libc::AF_UNIX, libc::SOCK_STREAM, 0),
            (libc::AF_INET, libc::SOCK_STREAM, 0),
            (libc::AF_INET6, libc::SOCK_DGRAM, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        ];
        let closed = [
            (libc::AF_PACKET, libc::SOCK_RAW, 0),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
            (-1, libc::SOCK_STREAM, 0),
        ];
        let before = open.map(|(family, kind, protocol)| made(family, kind, protocol));
        let (_listeners, named): (Vec<_>, Vec<_>) = listeners().into_iter().unzip();
        // SAFETY: the child makes system calls only, and ends by _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let installed =
                    nix::sys::prctl::set_no_new_privs().is_ok() && install(UnixSockets::Open).is_ok();
                let same = open.map(|(family, kind, protocol)| made(family, kind, protocol)) == before;
                let denied = closed
                    .iter()
                    .all(|(family, kind, protocol)| made(*family, *kind, *protocol) == libc::EPERM);
                let pairs_before = (0..16).map(pair).collect::<Vec<_>>();
                let closed = install(UnixSockets::Closed).is_ok()
                    && made(libc::AF_UNIX, libc::SOCK_STREAM, 0) == libc::EPERM
                    && made(libc::AF_INET, libc::SOCK_STREAM, 0) == before[1]
                    && (0..16).all(|kind| {
                        let expected = match kind {
                            libc::SOCK_STREAM | libc::SOCK_SEQPACKET => 0,
                            _ => libc::EPERM,
                        };
                        pair(kind) == expected
                            && pair(kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) == expected
                    })
                    // Those were what a run without the filter makes.
                    && [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET]
                        .into_iter()
                        .all(|kind| pairs_before[kind as usize] == 0)
                    && pairs_lead_nowhere(&named);
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!(installed && same && denied && closed))) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(before[0], 0);
                assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Exited(_, 0)));
            }
        }
    }
}
