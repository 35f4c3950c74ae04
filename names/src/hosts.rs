//! Reads `/etc/hosts` (hosts(5)): names that have addresses without a question.
//!
//! The administrator wrote it, so its addresses count whatever they are, loopback too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name;

/// The file's addresses, each with its names in lower case, in the file's order. Addresses are never IPv4-mapped, and
/// lose their scope. Lines without an address and a name, and names that are no host names, are left out.
pub fn hosts(bytes: &[u8]) -> Vec<(IpAddr, Vec<String>)> {
    bytes.split(|byte| *byte == b'\n').filter_map(entry).collect()
}

fn entry(line: &[u8]) -> Option<(IpAddr, Vec<String>)> {
    let line = line.split(|byte| *byte == b'#').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let address = address(std::str::from_utf8(words.next()?).ok()?)?;
    let names: Vec<_> =
        words.filter_map(|word| std::str::from_utf8(word).ok()).filter_map(name::from_text).collect();
    (!names.is_empty()).then_some((address, names))
}

fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.into());
    }
    let (address, _scope) = text.split_once('%').unwrap_or((text, ""));
    Some(IpAddr::from(address.parse::<Ipv6Addr>().ok()?).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let file = b"# comment\n127.0.0.1\tlocalhost\r\n\n192.0.2.1 Web.Example. web\t www # not this\n\
                     ::1 ip6-localhost\nfe80::1%lo0 link\n::ffff:192.0.2.2 mapped\n  192.0.2.3  indented\n\
                     192.0.2.4\n192.0.2.5 # none\nnonsense name\n1.2.3 short\n192.0.2.6 bad/name good\n\
                     192.0.2.7 \xff\n\xff name\n192.0.2.8 last";
        let found: Vec<_> = hosts(file)
            .into_iter()
            .map(|(address, names)| format!("{address} {}", names.join(" ")))
            .collect();
        assert_eq!(
            found,
            [
                "127.0.0.1 localhost",
                "192.0.2.1 web.example web www",
                "::1 ip6-localhost",
                "fe80::1 link",
                "192.0.2.2 mapped",
                "192.0.2.3 indented",
                "192.0.2.6 good",
                "192.0.2.8 last",
            ]
        );
    }
}
