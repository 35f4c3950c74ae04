//! The socket behind a descriptor of a task that waits: a second descriptor of it is taken (pidfd_getfd(2)) and asked.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use sandbox_ebpf::abi::event::ADDRESS_MAX;

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

/// A descriptor of a thread, not of its process (`PIDFD_THREAD`, Linux 6.9).
const PIDFD_THREAD: libc::c_int = libc::O_EXCL;

/// The socket behind a descriptor of the thread `tid` of a process; `None` where it is none, or may not be asked.
pub fn of(pid: u32, tid: u32, descriptor: i32) -> Option<Socket> {
    let task = if tid == pid { pidfd(pid, 0)? } else { thread(pid, tid, descriptor)? };
    // SAFETY: takes integers and touches no memory.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, task.as_raw_fd(), descriptor, 0u32) };
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

/// Who has the descriptors of a thread: itself, or its process where the kernel cannot name threads and both have the
/// same there. A thread may have descriptors of its own (CLONE_FILES).
fn thread(pid: u32, tid: u32, descriptor: i32) -> Option<OwnedFd> {
    if let Some(thread) = pidfd(tid, PIDFD_THREAD) {
        return Some(thread);
    }
    let seen = |task: u32| fs::read_link(format!("/proc/{task}/fd/{descriptor}")).ok();
    if seen(tid)? != seen(pid)? {
        return None;
    }
    pidfd(pid, 0)
}

fn pidfd(task: u32, flags: libc::c_int) -> Option<OwnedFd> {
    // SAFETY: takes integers and touches no memory.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, task, flags) };
    let fd = i32::try_from(opened).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
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
        let found = of(std::process::id(), std::process::id(), listener.as_raw_fd()).unwrap();
        assert_eq!((found.family, found.kind), (libc::AF_INET as u64, libc::SOCK_STREAM as u64));
        assert_eq!((found.protocol, found.port), (libc::IPPROTO_TCP as u64, port.into()));
        assert!(of(std::process::id(), std::process::id(), 0).is_none_or(|socket| socket.port != found.port));
        assert_eq!(of(std::process::id(), std::process::id(), 99_999), None);
    }

    #[test]
    fn a_thread_may_have_descriptors_of_its_own() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (fd, pid) = (listener.as_raw_fd(), std::process::id());
        std::thread::spawn(move || {
            let tid = nix::unistd::gettid().as_raw().unsigned_abs();
            assert_eq!(of(pid, tid, fd), of(pid, pid, fd));
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            // SAFETY: both are descriptors of this thread alone, which has a table of its own.
            assert!(unsafe { libc::dup2(other.as_raw_fd(), fd) } >= 0);
            assert!(of(pid, tid, fd).is_none_or(|found| found.kind == libc::SOCK_DGRAM as u64));
            assert_eq!(of(pid, pid, fd).unwrap().kind, libc::SOCK_STREAM as u64);
        })
        .join()
        .unwrap();
        drop(listener);
    }
}
