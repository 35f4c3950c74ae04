//! The socket behind a descriptor of a task that waits: a second descriptor of it is taken (pidfd_getfd(2)) and asked.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use sandbox_ebpf::abi::event::ADDRESS_MAX;

use crate::launch::process::Process;
use std::os::fd::AsFd;

/// What a socket says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Address family.
    pub family: u64,
    /// Type.
    pub kind: u64,
    /// Protocol.
    pub protocol: u64,
    /// Its own port; 0 where it has none.
    pub port: u64,
    /// Its own address, as the kernel has it.
    pub own: Vec<u8>,
}

/// The socket behind a descriptor of a process; `None` where it is none, or may not be asked.
pub fn of(pid: u32, descriptor: i32) -> Option<Socket> {
    let process = Process::open(pid).ok()?;
    // SAFETY: takes integers and touches no memory.
    let taken =
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), descriptor, 0u32) };
    let taken = i32::try_from(taken).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(taken) };
    let option = |name| {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the value and its length live through the call, which writes no more than that.
        let got = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        (got == 0).then(|| u64::try_from(value).ok()).flatten()
    };
    let family = option(libc::SO_DOMAIN)?;
    let own = own_address(&socket);
    let internet = family == libc::AF_INET as u64 || family == libc::AF_INET6 as u64;
    let port = own.get(2..4).filter(|_| internet).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    Some(Socket {
        family,
        kind: option(libc::SO_TYPE).unwrap_or(0),
        protocol: option(libc::SO_PROTOCOL).unwrap_or(0),
        port: port.into(),
        own,
    })
}

fn own_address(socket: &OwnedFd) -> Vec<u8> {
    let mut address = vec![0u8; ADDRESS_MAX];
    let mut length = ADDRESS_MAX as libc::socklen_t;
    // SAFETY: address and length live through the call, which writes at most as many bytes as there are.
    let got = unsafe { libc::getsockname(socket.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut length) };
    address.truncate(if got == 0 { length as usize } else { 0 });
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_tells_what_it_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = of(std::process::id(), listener.as_raw_fd()).unwrap();
        assert_eq!((found.family, found.kind), (libc::AF_INET as u64, libc::SOCK_STREAM as u64));
        assert_eq!((found.protocol, found.port), (libc::IPPROTO_TCP as u64, port.into()));
        assert!(of(std::process::id(), 0).is_none_or(|socket| socket.port != found.port));
        assert_eq!(of(std::process::id(), 99_999), None);
    }
}
