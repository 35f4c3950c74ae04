//! Socket addresses as the kernel got them, and the words for families and protocols.
//!
//! Reads what it is given and nothing else; a short or strange address gives less, never an error: the kernel
//! refused it, and that is in the result.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sandbox_ebpf::abi::policy::proto;

use crate::event::Value;

const AF_UNSPEC: u16 = libc::AF_UNSPEC as u16;
const AF_UNIX: u16 = libc::AF_UNIX as u16;
const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// A socket address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Its own family, which may differ from the socket's.
    pub family: u16,
    /// What is behind the family.
    pub end: End<'a>,
}

/// An end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// None, or of a family that is not read here.
    None,
    /// Address and port; IPv4-mapped addresses are IPv4.
    Internet(IpAddr, u16),
    /// A path, absolute or relative to the working directory.
    Path(&'a [u8]),
    /// A name of the abstract space, without the NUL before it.
    Abstract(&'a [u8]),
}

/// Reads a socket address; `None` where there is not even a family.
///
/// A send or bind on an IPv4 socket takes the family 0 for IPv4 (`udp_sendmsg`, `__inet_bind`), so
/// `unspecified_is` says which family that stands for; 0 where it really means "none".
pub fn parse(bytes: &[u8], unspecified_is: u16) -> Option<Address<'_>> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let family = u16::from_ne_bytes(*family);
    let end = match if family == AF_UNSPEC { unspecified_is } else { family } {
        AF_INET => internet(rest, v4),
        AF_INET6 => internet(rest, v6),
        AF_UNIX => local(rest),
        _ => End::None,
    };
    Some(Address { family, end })
}

fn internet(rest: &[u8], address: impl Fn(&[u8]) -> Option<IpAddr>) -> End<'static> {
    match rest.split_first_chunk::<2>() {
        Some((port, rest)) => {
            address(rest).map_or(End::None, |address| End::Internet(address, u16::from_be_bytes(*port)))
        }
        None => End::None,
    }
}

fn v4(rest: &[u8]) -> Option<IpAddr> {
    rest.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into())
}

fn v6(rest: &[u8]) -> Option<IpAddr> {
    // Behind the flow label.
    let address = rest.get(4..)?.first_chunk::<16>()?;
    Some(IpAddr::from(Ipv6Addr::from(*address)).to_canonical())
}

fn local(rest: &[u8]) -> End<'_> {
    match rest {
        [] => End::None,
        [0, name @ ..] => End::Abstract(name),
        path => End::Path(path.split(|byte| *byte == 0).next().unwrap_or(path)),
    }
}

/// The family's word, or its number.
pub fn family(number: u16) -> Value {
    let word = match i32::from(number) {
        libc::AF_UNSPEC => "unspec",
        libc::AF_UNIX => "unix",
        libc::AF_INET => "inet",
        libc::AF_INET6 => "inet6",
        libc::AF_NETLINK => "netlink",
        libc::AF_PACKET => "packet",
        libc::AF_ALG => "alg",
        libc::AF_VSOCK => "vsock",
        libc::AF_BLUETOOTH => "bluetooth",
        libc::AF_CAN => "can",
        libc::AF_XDP => "xdp",
        _ => return Value::Int(number.into()),
    };
    Value::Bytes(word.into())
}

/// What a socket speaks, by its family, type and protocol; `None` where there is no word for it.
pub fn protocol(family: u64, kind: u64, protocol: u64) -> Option<&'static str> {
    match i32::try_from(family).ok()? {
        libc::AF_INET | libc::AF_INET6 => match (i32::try_from(kind).ok()?, i32::try_from(protocol).ok()?) {
            (libc::SOCK_RAW, _) => Some("raw"),
            (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Some("tcp"),
            (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Some("udp"),
            (libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => Some("icmp"),
            (_, libc::IPPROTO_MPTCP) => Some("mptcp"),
            (_, libc::IPPROTO_SCTP) => Some("sctp"),
            (_, libc::IPPROTO_UDPLITE) => Some("udplite"),
            (_, libc::IPPROTO_DCCP) => Some("dccp"),
            _ => None,
        },
        libc::AF_UNIX => match i32::try_from(kind).ok()? {
            libc::SOCK_STREAM => Some("stream"),
            libc::SOCK_DGRAM => Some("dgram"),
            libc::SOCK_SEQPACKET => Some("seqpacket"),
            _ => None,
        },
        libc::AF_NETLINK => (protocol == libc::NETLINK_ROUTE as u64).then_some(ROUTE),
        _ => None,
    }
}

/// Netlink about addresses and routes, which is part of name resolution.
pub const ROUTE: &str = "route";

/// The protocol as rules tell it, one of [`proto`].
pub fn rule_protocol(word: Option<&str>) -> u8 {
    match word {
        // The last two are spoken over it.
        Some("tcp" | "mptcp" | "tls" | "http") => proto::TCP,
        Some("udp" | "udplite") => proto::UDP,
        _ => proto::OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(family: i32, rest: &[u8]) -> Vec<u8> {
        [&(family as u16).to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn internet_addresses() {
        let v4 = address(libc::AF_INET, &[0, 80, 127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        let loopback = IpAddr::from([127, 0, 0, 2]);
        assert_eq!(parse(&v4, 0).unwrap().end, End::Internet(loopback, 80));
        assert_eq!(parse(&v4[..7], 0).unwrap(), Address { family: AF_INET, end: End::None });

        let mut bytes = vec![0x1f, 0x90, 0, 0, 0, 0];
        bytes.extend(Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped().octets());
        let mapped = address(libc::AF_INET6, &bytes);
        assert_eq!(
            parse(&mapped, 0).unwrap(),
            Address { family: AF_INET6, end: End::Internet(loopback, 8080) }
        );
        assert_eq!(parse(&mapped[..23], 0).unwrap().end, End::None);
    }

    #[test]
    fn family_zero_means_what_the_call_takes_it_for() {
        let bytes = address(libc::AF_UNSPEC, &[0, 53, 9, 9, 9, 9]);
        assert_eq!(parse(&bytes, 0).unwrap(), Address { family: 0, end: End::None });
        let end = End::Internet([9, 9, 9, 9].into(), 53);
        assert_eq!(parse(&bytes, AF_INET).unwrap(), Address { family: 0, end });
    }

    #[test]
    fn local_addresses() {
        assert_eq!(
            parse(&address(libc::AF_UNIX, b"/run/x.sock\0\0\0"), 0).unwrap().end,
            End::Path(b"/run/x.sock")
        );
        assert_eq!(parse(&address(libc::AF_UNIX, b"x.sock"), 0).unwrap().end, End::Path(b"x.sock"));
        assert_eq!(parse(&address(libc::AF_UNIX, b"\0a\0b"), 0).unwrap().end, End::Abstract(b"a\0b"));
        assert_eq!(parse(&address(libc::AF_UNIX, b""), 0).unwrap().end, End::None);
        assert_eq!(parse(b"\x01", 0), None);
    }

    #[test]
    fn protocols_have_the_words_of_rules() {
        let inet = libc::AF_INET as u64;
        for (kind, number, word, rule) in [
            (libc::SOCK_STREAM, libc::IPPROTO_TCP, Some("tcp"), proto::TCP),
            (libc::SOCK_STREAM, libc::IPPROTO_MPTCP, Some("mptcp"), proto::TCP),
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP, Some("udp"), proto::UDP),
            (libc::SOCK_DGRAM, libc::IPPROTO_ICMP, Some("icmp"), proto::OTHER),
            (libc::SOCK_RAW, libc::IPPROTO_TCP, Some("raw"), proto::OTHER),
            (libc::SOCK_SEQPACKET, 77, None, proto::OTHER),
        ] {
            assert_eq!(protocol(inet, kind as u64, number as u64), word);
            assert_eq!(rule_protocol(word), rule);
        }
        assert_eq!(protocol(u64::MAX, u64::MAX, u64::MAX), None);
        assert_eq!(protocol(libc::AF_UNIX as u64, libc::SOCK_DGRAM as u64, 0), Some("dgram"));
    }
}
