//! The loopback interface of a network namespace: up, and with addresses beside its own.
//!
//! No program is executed for it; messages are those of rtnetlink(7).

use std::ffi::c_char;
use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Its name.
const NAME: &std::ffi::CStr = c"lo";

/// Brings the interface up, which gives it 127.0.0.1 and ::1.
pub(super) fn up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(NAME.to_bytes()) {
        *place = *byte as c_char;
    }
    // SAFETY: reads the name and writes the flags of a request that is ours (netdevice(7)).
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call before wrote the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16 };
    // SAFETY: reads the request.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the namespace has IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

/// rtnetlink(7), netlink(7), include/uapi/linux/if_addr.h.
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 0x02;
const RT_SCOPE_HOST: u8 = 254;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Gives the interface one more address, and no more than that: not the network around it.
pub(super) fn add(address: IpAddr) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(NAME)?;
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(netlink.as_raw_fd(), &message(address, index), MsgFlags::empty())?;
    acknowledged(&netlink)
}

/// Waits until a listener on such an address can be reached: for IPv6 the kernel makes the route a moment later
/// (addrconf_dad_work), and what is sent until then is answered as unreachable.
pub(super) fn reached(listener: &TcpListener) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const LOOK: Duration = Duration::from_millis(50);
    let (address, deadline) = (listener.local_addr()?, Instant::now() + PATIENCE);
    loop {
        match TcpStream::connect_timeout(&address, LOOK) {
            Ok(_) => return listener.accept().map(drop),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The request for an address.
fn message(address: IpAddr, index: u32) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let bits = (8 * bytes.len()) as u8;
    let mut body = vec![family as u8, bits, IFA_F_NODAD, RT_SCOPE_HOST];
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend((4 + bytes.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(&bytes);
    }
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(RTM_NEWADDR.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    message
}

/// What the kernel says of a request: an error message, with number 0 for success.
fn acknowledged(netlink: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0u8; 512];
    let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let unclear = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none");
    let reply = buffer[..length].get(..HEADER + 4).ok_or_else(unclear)?;
    let (kind, error) = (u16::from_ne_bytes([reply[4], reply[5]]), &reply[HEADER..]);
    if kind != NLMSG_ERROR {
        return Err(unclear());
    }
    match i32::from_ne_bytes([error[0], error[1], error[2], error[3]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
