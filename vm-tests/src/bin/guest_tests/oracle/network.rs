//! Addresses and unix sockets to talk to, and somebody who listens on them.

use super::attempts::{ADDRESSES, Attempt, Call, PORTS, SOCKETS, ending};
use anyhow::{Context, Result, ensure};
use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;

/// Has somebody at each unix socket, for as long as the boot lasts, who takes whatever comes: a queue holds ten datagrams.
fn serve_sockets() -> Result<()> {
    for socket in SOCKETS {
        let [stream, datagram] =
            ["unix-stream", "unix-datagram"].map(|word| format!("{socket}{}", ending(word)));
        let listener = UnixListener::bind_addr(&local(&stream)?).context(stream)?;
        let receiver = UnixDatagram::bind_addr(&local(&datagram)?).context(datagram)?;
        std::thread::spawn(move || while listener.accept().is_ok() {});
        std::thread::spawn(move || while receiver.recv(&mut [0; 64]).is_ok() {});
    }
    Ok(())
}

/// The address of a socket as the probe calls it.
fn local(name: &str) -> Result<SocketAddr> {
    if let Some(name) = name.strip_prefix('@') {
        return Ok(SocketAddr::from_abstract_name(name)?);
    }
    std::fs::create_dir_all(Path::new(name).parent().context("no directory")?)?;
    Ok(SocketAddr::from_pathname(name)?)
}

/// Connections that wait at one listener: more than one run makes.
const BACKLOG: libc::c_int = 4096;

/// A listener on every port, for both families.
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Gives `lo` the addresses that it lacks, and listens.
    pub fn start() -> Result<Listeners> {
        let mut alias = 0;
        for text in ADDRESSES {
            let address: IpAddr = text.parse()?;
            let added = match address.to_canonical() {
                local if local.is_loopback() || local.is_unspecified() => continue,
                IpAddr::V4(v4) => {
                    alias += 1;
                    add_v4(alias, v4.octets())
                }
                IpAddr::V6(v6) => add_v6(v6),
            };
            match added {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                    return Err(error).with_context(|| format!("cannot give lo the address {text}"));
                }
                _ => {}
            }
        }
        serve_sockets()?;
        let listen = |port: u16| -> Result<TcpListener> {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .with_context(|| format!("cannot listen on port {port}"))?;
            listener.set_nonblocking(true)?;
            // SAFETY: the descriptor is open; no pointers. A second listen(2) only sets the backlog.
            let longer = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
            ensure!(longer == 0, "cannot listen longer on port {port}");
            Ok(listener)
        };
        Ok(Listeners(PORTS.into_iter().map(listen).collect::<Result<_>>()?))
    }

    /// Fails unless exactly the connections of these attempts came since the last call. Loopback delivers before
    /// connect(2) returns.
    pub fn expect<'a>(&self, made: impl IntoIterator<Item = &'a Attempt>) -> Result<()> {
        let mut wanted = vec![0; PORTS.len()];
        for attempt in made {
            if let Call::Network("connect-tcp" | "connect-mptcp" | "fastopen", _, port) = attempt.call
                && let Some(at) = PORTS.iter().position(|known| *known == port)
            {
                wanted[at] += 1;
            }
        }
        let found: Vec<usize> = self.0.iter().map(drain).collect::<Result<_>>()?;
        ensure!(found == wanted, "at the ports {PORTS:?} arrived {found:?} connections, not {wanted:?}");
        Ok(())
    }
}

fn drain(listener: &TcpListener) -> Result<usize> {
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error).context("cannot take a connection"),
        }
    }
}

fn socket(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// One address more, as netdevice(7) has it: the address of `lo:N`.
fn add_v4(number: usize, octets: [u8; 4]) -> io::Result<()> {
    let socket = socket(libc::AF_INET)?;
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(format!("lo:{number}").bytes()) {
        *to = from as libc::c_char;
    }
    // A sockaddr_in: family, port, address.
    let address = [octets[0], octets[1], octets[2], octets[3], 0, 0, 0, 0, 0, 0, 0, 0];
    let mut socket_address = libc::sockaddr { sa_family: libc::AF_INET as u16, sa_data: [0; 14] };
    for (to, from) in socket_address.sa_data[2..].iter_mut().zip(address) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_addr = socket_address;
    // SAFETY: SIOCSIFADDR reads one ifreq, which lives through the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One address more, as ipv6(7) has it.
fn add_v6(address: Ipv6Addr) -> io::Result<()> {
    /// `struct in6_ifreq` (linux/ipv6.h).
    #[repr(C)]
    struct Request {
        address: [u8; 16],
        prefix_length: u32,
        interface: libc::c_int,
    }
    let name = CString::new("lo")?;
    // SAFETY: the name ends with a NUL and lives through the call.
    let interface = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
    let request = Request { address: address.octets(), prefix_length: 128, interface };
    let socket = socket(libc::AF_INET6)?;
    // SAFETY: SIOCSIFADDR of an IPv6 socket reads one in6_ifreq, which lives through the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
