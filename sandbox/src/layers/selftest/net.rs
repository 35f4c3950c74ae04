//! Attempts at sockets: what they need is made by the first round, while nothing is denied.

use std::{
    io,
    net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{FromRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    sync::OnceLock,
};

use nix::errno::Errno;

use super::errno;

/// An abstract name that only this process has.
fn name(what: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("sandbox-selftest-{}-{what}", std::process::id()))
}

/// Makes a socket of a family, and closes it.
pub(super) fn make(family: i32, kind: i32) -> i32 {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Errno::last_raw();
    }
    // SAFETY: made above, and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    0
}

pub(super) fn bind_name() -> i32 {
    errno(name("bound").and_then(|name| UnixDatagram::bind_addr(&name)).map(drop))
}

/// Listens on a port of the kernel's choice: binding to it is nobody's business.
pub(super) fn listen() -> i32 {
    errno(TcpListener::bind("127.0.0.1:0").map(drop))
}

/// Accepts from a listener of before, where nobody waits: EAGAIN.
pub(super) fn accept() -> i32 {
    static LISTENER: OnceLock<Option<TcpListener>> = OnceLock::new();
    let made = || {
        let listener = TcpListener::bind("127.0.0.1:0").ok()?;
        listener.set_nonblocking(true).ok()?;
        Some(listener)
    };
    let Some(listener) = LISTENER.get_or_init(made) else { return libc::EIO };
    match errno(listener.accept().map(drop)) {
        libc::EAGAIN => 0,
        other => other,
    }
}

/// Connects to a listener of before.
pub(super) fn connect_tcp() -> i32 {
    static LISTENER: OnceLock<Option<TcpListener>> = OnceLock::new();
    let Some(listener) = LISTENER.get_or_init(|| TcpListener::bind("127.0.0.1:0").ok()) else {
        return libc::EIO;
    };
    errno(listener.local_addr().and_then(TcpStream::connect).map(drop))
}

pub(super) fn connect_name() -> i32 {
    static LISTENER: OnceLock<Option<UnixListener>> = OnceLock::new();
    let Ok(name) = name("stream") else { return libc::EIO };
    if LISTENER.get_or_init(|| UnixListener::bind_addr(&name).ok()).is_none() {
        return libc::EIO;
    }
    errno(UnixStream::connect_addr(&name).map(drop))
}

pub(super) fn send_to_name() -> i32 {
    static RECEIVER: OnceLock<Option<UnixDatagram>> = OnceLock::new();
    let Ok(name) = name("datagram") else { return libc::EIO };
    if RECEIVER.get_or_init(|| UnixDatagram::bind_addr(&name).ok()).is_none() {
        return libc::EIO;
    }
    errno(UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"?", &name)).map(drop))
}

/// A port that nobody has just now.
fn free_port(address: &str) -> io::Result<u16> {
    static PORTS: OnceLock<u16> = OnceLock::new();
    if let Some(port) = PORTS.get() {
        return Ok(*port);
    }
    let port = UdpSocket::bind(address)?.local_addr()?.port();
    Ok(*PORTS.get_or_init(|| port))
}

pub(super) fn bind_v4() -> i32 {
    errno(free_port("127.0.0.1:0").and_then(|port| UdpSocket::bind(("127.0.0.1", port))).map(drop))
}

/// What IPv6 answers; a machine that has none of it always says the same.
fn over_v6(attempt: impl FnOnce() -> io::Result<()>) -> i32 {
    match errno(attempt()) {
        libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::ENETUNREACH | libc::EHOSTUNREACH => {
            libc::EAFNOSUPPORT
        }
        other => other,
    }
}

pub(super) fn connect_v6() -> i32 {
    over_v6(|| UdpSocket::bind("[::]:0")?.connect((Ipv6Addr::LOCALHOST, 9)))
}

pub(super) fn send_v6() -> i32 {
    over_v6(|| UdpSocket::bind("[::]:0")?.send_to(b"?", (Ipv6Addr::LOCALHOST, 9)).map(drop))
}

pub(super) fn bind_v6() -> i32 {
    // The port may be taken meanwhile: then it is not denied either.
    over_v6(|| {
        let port = free_port("[::1]:0")?;
        match UdpSocket::bind((Ipv6Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            bound => bound.map(drop),
        }
    })
}
