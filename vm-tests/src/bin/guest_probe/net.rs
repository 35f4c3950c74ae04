//! Attempts on the network. Each ends as soon as the kernel has said yes or no.

use crate::raw::{self, Errno};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One attempt on `address`; `None` when there is no such step.
pub fn attempt(word: &str, address: SocketAddr) -> Option<Result<(), Errno>> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let bytes = encode(address);
    Some(match word {
        "connect-tcp" => connect(family, libc::SOCK_STREAM, 0, &bytes),
        "connect-mptcp" => connect(family, libc::SOCK_STREAM, libc::IPPROTO_MPTCP, &bytes),
        "connect-udp" => connect(family, libc::SOCK_DGRAM, 0, &bytes),
        "connect-udplite" => connect(family, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, &bytes),
        // Data and address in one call: no connect(2) is made.
        "fastopen" => raw::socket(family, libc::SOCK_STREAM, 0)
            .and_then(|socket| raw::sendto(&socket, libc::MSG_FASTOPEN, &bytes)),
        "udp" => raw::socket(family, libc::SOCK_DGRAM, 0).and_then(|socket| raw::sendto(&socket, 0, &bytes)),
        "udp-msg" => {
            raw::socket(family, libc::SOCK_DGRAM, 0).and_then(|socket| raw::sendmsg(&socket, &bytes))
        }
        // The kernel takes AF_UNSPEC for AF_INET here.
        "udp-unspec" => {
            let mut bytes = bytes;
            bytes[..2].copy_from_slice(&(libc::AF_UNSPEC as u16).to_ne_bytes());
            raw::socket(family, libc::SOCK_DGRAM, 0).and_then(|socket| raw::sendto(&socket, 0, &bytes))
        }
        // A v6 socket takes a v4 address.
        "bind-tcp" => raw::socket(family, libc::SOCK_STREAM, 0).and_then(|socket| bind(&socket, &bytes)),
        "bind-udp" => raw::socket(family, libc::SOCK_DGRAM, 0).and_then(|socket| bind(&socket, &bytes)),
        // 3,000 bytes out, and all that comes back.
        "talk" => talk(address),
        "listen" => serve(family, libc::SOCK_STREAM, &bytes).map(drop),
        // The same, and it goes on listening: as long as this process lives.
        "serve" => serve(family, libc::SOCK_STREAM, &bytes).map(std::mem::forget),
        "serve-udp" => raw::socket(family, libc::SOCK_DGRAM, 0)
            .and_then(|socket| bind(&socket, &bytes).map(|()| std::mem::forget(socket))),
        // A listener of before, closed by now.
        "own-gone" => serve(family, libc::SOCK_STREAM, &bytes)
            .map(drop)
            .and_then(|()| connect(family, libc::SOCK_STREAM, 0, &bytes)),
        "udp6-v4" => raw::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)
            .and_then(|socket| raw::sendto(&socket, 0, &bytes)),
        _ => return None,
    })
}

fn talk(address: SocketAddr) -> Result<(), Errno> {
    use std::io::{Read, Write};
    let run = || -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(&[b'x'; 3_000])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    };
    run().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

/// One attempt that names no address; `None` when there is no such step.
pub fn other(word: &str, object: &str) -> Option<Result<(), Errno>> {
    let (kind, name) = (libc::SOCK_STREAM, local(object));
    Some(match word {
        // FAMILY,TYPE,PROTOCOL as numbers.
        "socket" => {
            let mut numbers = object.split(',').map(|number| number.parse::<i32>().ok());
            let [family, kind, protocol] = [numbers.next()??, numbers.next()??, numbers.next()??];
            raw::socket(family, kind, protocol).map(drop)
        }
        "unix-stream" => connect(libc::AF_UNIX, kind, 0, &name),
        "unix-seqpacket" => connect(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, &name),
        "unix-connect-datagram" => connect(libc::AF_UNIX, libc::SOCK_DGRAM, 0, &name),
        "unix-datagram" => {
            raw::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).and_then(|socket| raw::sendto(&socket, 0, &name))
        }
        // DIRECTORY,NAME: from there, by its own name.
        "unix-relative" => {
            let (directory, name) = object.split_once(',')?;
            std::env::set_current_dir(directory).ok()?;
            let result = connect(libc::AF_UNIX, kind, 0, &local(name));
            std::env::set_current_dir("/").ok()?;
            result
        }
        "unix-bind" => raw::socket(libc::AF_UNIX, kind, 0).and_then(|socket| bind(&socket, &name)),
        "unix-serve" => serve(libc::AF_UNIX, kind, &name).map(std::mem::forget),
        // A pair that nobody else has.
        "unix-pair" => pair(),
        _ => return None,
    })
}

/// A sockaddr_un; a leading `@` makes the name abstract.
fn local(name: &str) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    match name.strip_prefix('@') {
        Some(name) => {
            bytes.push(0);
            bytes.extend(name.bytes());
        }
        None => {
            bytes.extend(name.bytes());
            bytes.push(0);
        }
    }
    bytes
}

fn bind(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let one: libc::c_int = 1;
    // SAFETY: the option has the size given and lives through the call.
    raw::check(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_REUSEADDR,
            &raw const one,
            size_of_val(&one),
        )
    })?;
    // SAFETY: the address has the length given and lives through the call.
    raw::check(unsafe { libc::syscall(libc::SYS_bind, socket.as_raw_fd(), address.as_ptr(), address.len()) })
        .map(drop)
}

fn serve(family: i32, kind: i32, address: &[u8]) -> Result<OwnedFd, Errno> {
    let socket = raw::socket(family, kind, 0)?;
    bind(&socket, address)?;
    // SAFETY: no pointers.
    raw::check(unsafe { libc::syscall(libc::SYS_listen, socket.as_raw_fd(), 8) })?;
    Ok(socket)
}

/// socketpair(2) of a kind that leads nowhere else, and a byte over it.
fn pair() -> Result<(), Errno> {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written.
    raw::check(unsafe {
        libc::syscall(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr())
    })?;
    // SAFETY: just made, and nobody else's.
    let [one, _other] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let data = [b'x'];
    // SAFETY: the data have the length given and live through the call.
    raw::check(unsafe { libc::syscall(libc::SYS_write, one.as_raw_fd(), data.as_ptr(), data.len()) })
        .map(drop)
}

fn connect(family: i32, kind: i32, protocol: i32, address: &[u8]) -> Result<(), Errno> {
    let socket = raw::socket(family, kind, protocol)?;
    raw::connect(&socket, address)
}

/// The bytes of a sockaddr_in or sockaddr_in6.
pub fn encode(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(address) => {
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(address.port().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(address.port().to_be_bytes());
            bytes.extend(address.flowinfo().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_ne_bytes());
        }
    }
    bytes
}
