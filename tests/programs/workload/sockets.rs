//! Connections: unix sockets by every kind of name, addresses of both families, accepted and refused.

use std::ffi::{CStr, CString};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use libc::{
    AF_INET, AF_INET6, AF_UNIX, EACCES, EBADF, ECONNREFUSED, ENOENT, ENOTSOCK, SOCK_DGRAM, SOCK_STREAM,
};
use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr};

use crate::sys::{become_nobody, bytes_of, call, fails, in_child, works};

/// Everything, below `dir`, which must be empty.
pub fn run(dir: &Path) {
    let c_dir = CString::new(dir.as_os_str().as_bytes()).expect("no NUL in a path");
    works(call!(chdir, &*c_dir));
    unix_sockets(dir);
    internet();
    let file = std::fs::File::create("file").expect("create");
    let address = SockaddrIn::new(127, 0, 0, 1, 9);
    fails(call!(connect, file.as_raw_fd(), bytes_of(address.as_ref()), 16), ENOTSOCK);
    fails(call!(connect, 999, bytes_of(address.as_ref()), 16), EBADF);
}

fn socket(family: i32, kind: i32) -> i32 {
    works(call!(socket, family, kind | libc::SOCK_CLOEXEC, 0))
}

/// Connects a new socket of this kind, closes it, and returns what connect returned.
fn dial(family: i32, kind: i32, address: &[u8], length: u32) -> Result<i32, i32> {
    let fd = socket(family, kind);
    let result = call!(connect, fd, address, i64::from(length));
    nix::unistd::close(fd).expect("close");
    result
}

fn dial_unix(kind: i32, name: &CStr) -> Result<i32, i32> {
    let address = UnixAddr::new(name.to_bytes()).expect("a short name");
    let mut raw = [0u8; 110];
    raw[..2].copy_from_slice(&(AF_UNIX as u16).to_ne_bytes());
    raw[2..2 + name.to_bytes().len()].copy_from_slice(name.to_bytes());
    dial(AF_UNIX, kind, &raw, address.len())
}

fn unix_sockets(dir: &Path) {
    std::fs::create_dir("s").expect("mkdir");
    std::os::unix::fs::symlink("s/listens", "link").expect("symlink");
    let _listener = UnixListener::bind("s/listens").expect("bind");
    let _datagrams = UnixDatagram::bind("s/datagrams").expect("bind");
    drop(UnixListener::bind("s/gone").expect("bind"));
    let absolute = CString::new(dir.join("s/listens").as_os_str().as_bytes()).expect("no NUL");
    for name in [c"s/listens", c"./s//listens", c"link", c"s/../s/listens", &*absolute] {
        works(dial_unix(SOCK_STREAM, name));
    }
    works(dial_unix(SOCK_DGRAM, c"s/datagrams"));
    fails(dial_unix(SOCK_STREAM, c"s/missing"), ENOENT);
    fails(dial_unix(SOCK_STREAM, c"../missing"), ENOENT);
    fails(dial_unix(SOCK_STREAM, c"/no/such/socket"), ENOENT);
    fails(dial_unix(SOCK_STREAM, c"s/gone"), ECONNREFUSED);
    let name = format!("sandbox-tests-{}", std::process::id());
    let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&abstract_name).expect("bind");
    works(dial_abstract(name.as_bytes()));
    fails(dial_abstract(b"sandbox-tests-nobody"), ECONNREFUSED);
    fails(dial_abstract(b"odd \x01\xff name"), ECONNREFUSED);
    std::fs::set_permissions("s", std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
    in_child(|| {
        if become_nobody() {
            fails(dial_unix(SOCK_STREAM, c"s/listens"), EACCES);
        }
    });
}

fn dial_abstract(name: &[u8]) -> Result<i32, i32> {
    let mut raw = [0u8; 110];
    raw[..2].copy_from_slice(&(AF_UNIX as u16).to_ne_bytes());
    raw[3..3 + name.len()].copy_from_slice(name);
    dial(AF_UNIX, SOCK_STREAM, &raw, 3 + name.len() as u32)
}

fn internet() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("a local address").port();
    let closed = closed_port();
    let v4 = |port| SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let dial4 = |kind, port| dial(AF_INET, kind, bytes_of(v4(port).as_ref()), 16);
    works(dial4(SOCK_STREAM, port));
    fails(dial4(SOCK_STREAM, closed), ECONNREFUSED);
    works(dial4(SOCK_DGRAM, closed));
    // Does not wait: refused at once or in progress, as the kernel will.
    let _ = dial4(SOCK_STREAM | libc::SOCK_NONBLOCK, port);
    let _ = dial4(SOCK_STREAM | libc::SOCK_NONBLOCK, closed);
    let v6 = |ip: Ipv6Addr, port| SockaddrIn6::from(std::net::SocketAddrV6::new(ip, port, 0, 0));
    let dial6 = |kind, ip, port| dial(AF_INET6, kind, bytes_of(v6(ip, port).as_ref()), 28);
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        let port = listener.local_addr().expect("a local address").port();
        works(dial6(SOCK_STREAM, Ipv6Addr::LOCALHOST, port));
    }
    // Without IPv6 these fail in another way; what counts is that both witnesses tell it alike.
    let _ = dial6(SOCK_STREAM, Ipv6Addr::LOCALHOST, closed);
    let _ = dial6(SOCK_STREAM, Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port);
    let _ = dial6(SOCK_DGRAM, Ipv6Addr::LOCALHOST, closed);
    // A datagram socket lets go of its other end.
    let fd = socket(AF_INET, SOCK_DGRAM);
    works(call!(connect, fd, bytes_of(v4(closed).as_ref()), 16));
    let none = [0u8; 16];
    works(call!(connect, fd, &none[..], 16));
    nix::unistd::close(fd).expect("close");
    let accepted: Vec<SocketAddr> =
        std::iter::from_fn(|| listener.set_nonblocking(true).and_then(|()| listener.accept()).ok())
            .map(|(_, a)| a)
            .collect();
    assert!(!accepted.is_empty(), "somebody connected");
}

/// A port of 127.0.0.1 that nobody listens on.
fn closed_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    listener.local_addr().expect("a local address").port()
}
