//! Reads the resolvers from `/etc/resolv.conf` as glibc does (resolv.conf(5), resolv/res_init.c).
//!
//! Options, search lists and whatever else stands there are the client's business, and are not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Most resolvers that are asked: MAXNS of resolv.h.
const MAX_NAMESERVERS: usize = 3;
/// Where resolvers are asked.
const PORT: u16 = 53;

/// A resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    /// Its address.
    pub address: IpAddr,
    /// What stands behind the `%` of an IPv6 address: an interface's name or number.
    pub scope: Option<String>,
}

impl Nameserver {
    /// Where it is asked. `index` tells an interface's number by its name; without one, the scope is 0, as in glibc.
    pub fn socket_address(&self, index: impl FnOnce(&str) -> Option<u32>) -> SocketAddr {
        match self.address {
            IpAddr::V4(_) => SocketAddr::new(self.address, PORT),
            IpAddr::V6(address) => {
                let scope =
                    self.scope.as_deref().and_then(|scope| scope.parse().ok().or_else(|| index(scope)));
                SocketAddrV6::new(address, PORT, 0, scope.unwrap_or(0)).into()
            }
        }
    }
}

/// The first three resolvers in their order; 127.0.0.1 where there is none. Bad lines count as if they were not there.
pub fn nameservers(bytes: &[u8]) -> Vec<Nameserver> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let mut found: Vec<_> = lines.filter_map(nameserver).take(MAX_NAMESERVERS).collect();
    if found.is_empty() {
        found.push(Nameserver { address: Ipv4Addr::LOCALHOST.into(), scope: None });
    }
    found
}

/// A line is `nameserver`, blanks, and an address, which ends at a blank.
fn nameserver(line: &[u8]) -> Option<Nameserver> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let rest = line.strip_prefix(b"nameserver")?;
    rest.first().filter(|byte| blank(byte))?;
    let value = rest.split(blank).find(|part| !part.is_empty())?;
    let value = std::str::from_utf8(value).ok()?;
    if let Some(address) = aton(value) {
        return Some(Nameserver { address: address.into(), scope: None });
    }
    let (address, scope) = match value.split_once('%') {
        Some((address, scope)) => (address, Some(scope.to_owned())),
        None => (value, None),
    };
    Some(Nameserver { address: address.parse::<Ipv6Addr>().ok()?.into(), scope })
}

/// inet_aton(3): one to four numbers, decimal, octal (`0…`) or hexadecimal (`0x…`), the last of which fills what the
/// others leave.
fn aton(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, firsts) = numbers.split_last().filter(|(_, firsts)| firsts.len() < 4)?;
    let mut address = *last;
    if u64::from(*last) >> (32 - 8 * firsts.len()) != 0 {
        return None;
    }
    for (index, first) in firsts.iter().enumerate() {
        address |= u32::from(u8::try_from(*first).ok()?) << (24 - 8 * index);
    }
    Some(address.into())
}

fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<String> {
        let text = |server: Nameserver| match server.scope {
            Some(scope) => format!("{}%{scope}", server.address),
            None => server.address.to_string(),
        };
        nameservers(file.as_bytes()).into_iter().map(text).collect()
    }

    #[test]
    fn in_order_and_at_most_three() {
        let file = "# generated\nsearch a.example\nnameserver 192.0.2.1\nnameserver\tfe80::1%eth0\noptions edns0\n\
                    nameserver   2001:db8::1 # trailing\nnameserver 192.0.2.4\n";
        assert_eq!(texts(file), ["192.0.2.1", "fe80::1%eth0", "2001:db8::1"]);
    }

    #[test]
    fn none_is_this_machine() {
        assert_eq!(texts(""), ["127.0.0.1"]);
        assert_eq!(texts("nameserver\n; nameserver 1.1.1.1\n"), ["127.0.0.1"]);
    }

    #[test]
    fn bad_lines_are_left_out() {
        for line in [
            " nameserver 192.0.2.1",
            "#nameserver 192.0.2.1",
            "nameserver192.0.2.1",
            "nameservers 192.0.2.1",
            "NAMESERVER 192.0.2.1",
            "nameserver 192.0.2.256",
            "nameserver 192.0.2.1.1",
            "nameserver 192.0.2.1#53",
            "nameserver 192.0.2.",
            "nameserver 192.0.2.1\r",
            "nameserver +1",
            "nameserver 0x",
            "nameserver dns.example",
            "nameserver [2001:db8::1]",
            "nameserver 2001:db8::1::",
            "nameserver \u{e9}",
        ] {
            assert_eq!(texts(&format!("{line}\nnameserver 198.51.100.9")), ["198.51.100.9"], "{line}");
        }
        assert_eq!(nameservers(b"nameserver \xff\nnameserver 198.51.100.9").len(), 1);
    }

    #[test]
    fn short_forms_of_ipv4() {
        for (text, address) in [
            ("127.1", "127.0.0.1"),
            ("192.168.257", "192.168.1.1"),
            ("3221225985", "192.0.2.1"),
            ("0xc0.0.02.1", "192.0.2.1"),
            ("0", "0.0.0.0"),
        ] {
            assert_eq!(texts(&format!("nameserver {text}")), [address], "{text}");
        }
        for text in ["256.1", "1.16777216", "4294967296", "1.2.65536", "08.1"] {
            assert_eq!(aton(text), None, "{text}");
        }
    }

    #[test]
    fn scopes() {
        let server = |text: &str| nameservers(format!("nameserver {text}").as_bytes()).remove(0);
        let index = |name: &str| (name == "eth0").then_some(7);
        assert_eq!(server("fe80::1%eth0").socket_address(index).to_string(), "[fe80::1%7]:53");
        assert_eq!(server("fe80::1%3").socket_address(index).to_string(), "[fe80::1%3]:53");
        assert_eq!(server("fe80::1%eth9").socket_address(index).to_string(), "[fe80::1]:53");
        assert_eq!(server("192.0.2.1").socket_address(index).to_string(), "192.0.2.1:53");
    }
}
