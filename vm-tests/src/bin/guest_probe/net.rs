//! Attempts on the network. Each ends as soon as the kernel has said yes or no.

use crate::raw::{self, Errno};
use std::net::SocketAddr;

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
        "udp6-v4" => raw::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)
            .and_then(|socket| raw::sendto(&socket, 0, &bytes)),
        _ => return None,
    })
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
