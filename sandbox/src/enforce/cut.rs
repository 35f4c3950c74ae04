//! Ends connections of a run whose packets are not sent any more: TCP would go on trying for a quarter of an hour, and
//! the program with it.
//!
//! The kernel holds what must not leave; this only tells the program. It does so in a thread of its own: the run decides
//! how many descriptors are to be looked at, and what closing a copy of one waits for (SO_LINGER, a file system in user
//! space), and the record must not wait with it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use nix::sys::socket::{Shutdown, shutdown};

use crate::kernel::bpf::pidfd_open;

/// A TCP connection, by its ends: the own port and the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The run's end.
    pub own_port: u16,
    /// The other end.
    pub remote: SocketAddr,
}

/// Most connections that wait for their end.
const WAITING: usize = 64;

/// Who may have a connection.
type Holders = Box<dyn FnOnce() -> Vec<u32> + Send>;

/// Ends connections, one after the other.
#[derive(Debug, Default)]
pub struct Cutter(Option<SyncSender<Request>>);

struct Request {
    connection: Connection,
    holders: Holders,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Cutter {
    /// Ends the connection soon, where one of the processes has it that `holders` finds. While too many wait already, it
    /// is left to its program's patience.
    pub fn end(&mut self, connection: Connection, holders: impl FnOnce() -> Vec<u32> + Send + 'static) {
        if self.0.is_none() {
            let (send, requests) = mpsc::sync_channel::<Request>(WAITING);
            let work = move || {
                for Request { connection, holders } in requests {
                    end(connection, holders());
                }
            };
            // Without a thread nobody is told; what must not leave does not leave.
            self.0 = thread::Builder::new().name("cut".to_owned()).spawn(work).ok().map(|_| send);
        }
        if let Some(send) = &self.0 {
            let _ = send.try_send(Request { connection, holders: Box::new(holders) });
        }
    }
}

/// Ends the connection where one of these processes has it; gives whether one did.
fn end(connection: Connection, processes: impl IntoIterator<Item = u32>) -> bool {
    processes.into_iter().any(|pid| end_in(connection, pid).unwrap_or(false))
}

fn end_in(connection: Connection, pid: u32) -> io::Result<bool> {
    let mut inodes = Vec::new();
    for table in ["tcp", "tcp6"] {
        // A kernel without IPv6 has no such table.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        inodes.extend(
            text.lines()
                .skip(1)
                .filter_map(row)
                .filter_map(|(found, inode)| (found == connection).then_some(format!("socket:[{inode}]"))),
        );
    }
    if inodes.is_empty() {
        return Ok(false);
    }
    let process = pidfd_open(pid)?;
    let mut ended = false;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if !inodes.iter().any(|inode| target.as_os_str() == inode.as_str()) {
            continue;
        }
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let socket = taken(&process, number)?;
        // It may have been closed, and the number used again, since it was looked at.
        if is_to(&socket, connection) {
            abort(&socket);
            ended = true;
        }
    }
    Ok(ended)
}

/// Ends a connection with a reset, and what was not sent is forgotten (connect(2), AF_UNSPEC): after a mere shutdown the
/// kernel goes on sending it.
fn abort(socket: &OwnedFd) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let dissolve = || {
        // SAFETY: the address is live for the call, and its size is passed with it.
        unsafe {
            libc::connect(
                socket.as_raw_fd(),
                &raw const nowhere,
                size_of::<libc::sockaddr>() as libc::socklen_t,
            )
        }
    };
    if dissolve() != 0 {
        // Some kernels refuse as long as a thread waits for the connection (EBUSY): it is woken.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        let _ = dissolve();
    }
}

/// A copy of a descriptor of another process (pidfd_getfd(2), Linux 5.6).
fn taken(process: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), number, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether a socket has these ends.
fn is_to(socket: &OwnedFd, connection: Connection) -> bool {
    use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
    let address = |found: SockaddrStorage| -> Option<SocketAddr> {
        let v4 = found.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        v4.or_else(|| found.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip().to_canonical(), v6.port()))))
    };
    let own = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(address);
    let remote = getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(address);
    own.map(|own| own.port()) == Some(connection.own_port) && remote == Some(connection.remote)
}

/// The ends and the inode number in a line of /proc/net/tcp or tcp6 (proc_pid_net(5)).
fn row(line: &str) -> Option<(Connection, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_, own_port) = fields.next()?.split_once(':')?;
    let (remote, port) = fields.next()?.split_once(':')?;
    let inode = fields.nth(6)?.parse().ok()?;
    let number = |text: &str| u16::from_str_radix(text, 16).ok();
    let remote = SocketAddr::new(ip(remote)?.to_canonical(), number(port)?);
    Some((Connection { own_port: number(own_port)?, remote }, inode))
}

/// An address there: words of 32 bits as the machine has them.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * at)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn lines_of_the_kernels_tables_are_read() {
        let line = "   0: 0100007F:1F90 0771CBCB:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1";
        let (found, inode) = row(line).unwrap();
        assert_eq!((found.own_port, inode), (8080, 4242));
        assert_eq!(found.remote, "203.203.113.7:443".parse().unwrap());
        assert_eq!(ip("0000000000000000FFFF00000100007F").unwrap().to_canonical(), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_connection() {
        let mut cutter = Cutter::default();
        let (go, wait) = mpsc::channel::<()>();
        let nowhere = Connection { own_port: 1, remote: "192.0.2.1:1".parse().unwrap() };
        cutter.end(nowhere, move || {
            let _ = wait.recv();
            Vec::new()
        });
        for _ in 0..2 * WAITING {
            cutter.end(nowhere, Vec::new);
        }
        drop(go);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own_port = stream.local_addr().unwrap().port();
        let connection = Connection { own_port, remote: listener.local_addr().unwrap() };
        stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let ended = (0..200).any(|_| {
            cutter.end(connection, || vec![std::process::id()]);
            stream.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
        });
        assert!(ended);
    }

    #[test]
    fn a_connection_ends_for_both_sides() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let own_port = stream.local_addr().unwrap().port();
        let connection = Connection { own_port, remote: listener.local_addr().unwrap() };
        assert!(!end(Connection { own_port: own_port ^ 1, ..connection }, [std::process::id()]));
        assert!(end(connection, [std::process::id()]));
        for end in [&mut stream, &mut other] {
            assert_eq!(end.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
