//! Which addresses no answer may open: those by which a name's owner would lead the run to this machine or its
//! link instead of to himself ("DNS rebinding").
//!
//! Private networks (10/8, fc00::/7, …) are not among them: names of a company's own network lead there. This
//! machine's own addresses are the caller's to tell.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 0.0.0.0/8, ::, which the kernel takes for this machine.
    Unspecified,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// Where a cloud tells its machines who they are, and their keys, outside the link-local addresses.
    Metadata,
    /// An address of this machine.
    Own,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Loopback => "loopback",
            Reason::Unspecified => "unspecified",
            Reason::LinkLocal => "link-local",
            Reason::Multicast => "multicast",
            Reason::Broadcast => "broadcast",
            Reason::Metadata => "a cloud's metadata service",
            Reason::Own => "this machine's own",
        })
    }
}

/// Why the address is refused, if it is; `own` knows this machine's addresses.
pub(crate) fn refused(address: IpAddr, own: &dyn Fn(IpAddr) -> bool) -> Option<Reason> {
    let address = address.to_canonical();
    let special = match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => refused_v6(address),
    };
    special.or_else(|| own(address).then_some(Reason::Own)).or_else(|| match address {
        IpAddr::V6(address) => refused(IpAddr::V4(embedded(address)?), own),
        IpAddr::V4(_) => None,
    })
}

fn refused_v4(address: Ipv4Addr) -> Option<Reason> {
    match address.octets() {
        [127, ..] => Some(Reason::Loopback),
        [0, ..] => Some(Reason::Unspecified),
        [169, 254, ..] => Some(Reason::LinkLocal),
        [224..=239, ..] => Some(Reason::Multicast),
        [255, 255, 255, 255] => Some(Reason::Broadcast),
        // Alibaba; Azure, Oracle's old one.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Some(Reason::Metadata),
        _ => None,
    }
}

fn refused_v6(address: Ipv6Addr) -> Option<Reason> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Reason::Loopback),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Reason::Unspecified),
        [0xfe80..=0xfebf, ..] => Some(Reason::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Reason::Multicast),
        // Amazon, Google, Oracle.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => Some(Reason::Metadata),
        _ => None,
    }
}

/// The IPv4 address that a translator or a tunnel would make of it: NAT64's well-known prefix (RFC 6052, 2.1) and
/// IPv4-compatible addresses (RFC 4291, 2.5.5.1).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_and_not() {
        let own = |address: IpAddr| ["192.0.2.7", "2001:db8::7"].iter().any(|own| address == at(own));
        let cases = [
            ("127.0.0.1", Some(Reason::Loopback)),
            ("127.255.0.3", Some(Reason::Loopback)),
            ("::1", Some(Reason::Loopback)),
            ("::ffff:127.0.0.1", Some(Reason::Loopback)),
            ("64:ff9b::127.0.0.1", Some(Reason::Loopback)),
            ("::127.0.0.1", Some(Reason::Loopback)),
            ("0.0.0.0", Some(Reason::Unspecified)),
            ("0.1.2.3", Some(Reason::Unspecified)),
            ("::", Some(Reason::Unspecified)),
            ("::ffff:0.0.0.0", Some(Reason::Unspecified)),
            ("169.254.169.254", Some(Reason::LinkLocal)),
            ("::ffff:169.254.169.254", Some(Reason::LinkLocal)),
            ("64:ff9b::a9fe:a9fe", Some(Reason::LinkLocal)),
            ("fe80::1", Some(Reason::LinkLocal)),
            ("febf::1", Some(Reason::LinkLocal)),
            ("224.0.0.251", Some(Reason::Multicast)),
            ("239.1.1.1", Some(Reason::Multicast)),
            ("ff02::fb", Some(Reason::Multicast)),
            ("255.255.255.255", Some(Reason::Broadcast)),
            ("100.100.100.200", Some(Reason::Metadata)),
            ("168.63.129.16", Some(Reason::Metadata)),
            ("64:ff9b::168.63.129.16", Some(Reason::Metadata)),
            ("fd00:ec2::254", Some(Reason::Metadata)),
            ("fd20:ce::254", Some(Reason::Metadata)),
            ("fd00:c1::a9fe:a9fe", Some(Reason::Metadata)),
            ("fd00:ec2::255", None),
            ("100.100.100.201", None),
            ("192.0.2.7", Some(Reason::Own)),
            ("::ffff:192.0.2.7", Some(Reason::Own)),
            ("64:ff9b::192.0.2.7", Some(Reason::Own)),
            ("2001:db8::7", Some(Reason::Own)),
            ("192.0.2.8", None),
            ("10.0.0.1", None),
            ("1.0.0.0", None),
            ("fec0::1", None),
            ("fd00::1", None),
            ("2001:db8::8", None),
            ("64:ff9b::192.0.2.8", None),
            ("::ffff:192.0.2.8", None),
        ];
        for (address, reason) in cases {
            assert_eq!(refused(at(address), &own), reason, "{address}");
        }
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
