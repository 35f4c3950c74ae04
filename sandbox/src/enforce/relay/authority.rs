//! Where a client wants to go, as it wrote it: a host and a port.
//!
//! A host means what it means in a policy. An address is one that is written in full; a name has the bytes that hosts
//! have, in whatever case, with or without the dot at its end, and its last part is no number. What some programs also
//! take for an address (`127.1`, `0x7f000001`, `2130706433`) is none here, and is never turned into one: where it is not
//! a name either, it is refused. Names beyond ASCII come as `xn--…`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Longest name, without a dot at its end (RFC 1035, 3.1).
const MAX_NAME: usize = 253;

/// Longest text that can be an authority: a name, its dot, and a port.
const MAX_AUTHORITY: usize = MAX_NAME + 1 + 6;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name: in lower case, without a dot at its end.
    Name(String),
    /// An address, never IPv4-mapped.
    Address(IpAddr),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The host.
    pub host: Host,
    /// The port, not 0.
    pub port: u16,
}

/// Why a text is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is neither a name of hosts nor an address that is written in full.
    #[error("is neither a host name nor an address")]
    Host,
    /// It has no port, or one that is none.
    #[error("has no port from 1 to 65535")]
    Port,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(v4)) => v4.fmt(f),
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Host {
    /// Reads a host; an IPv6 address has no brackets.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &[u8]) -> Result<Host, Unfit> {
        if text.len() > MAX_AUTHORITY {
            return Err(Unfit::Host);
        }
        let text = std::str::from_utf8(text).map_err(|_| Unfit::Host)?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Host::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.len() > MAX_NAME || !name.split('.').all(label) || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Unfit::Host);
        }
        Ok(Host::Name(name.to_ascii_lowercase()))
    }

    /// Whether it is this machine by its name (RFC 6761, 6.3).
    pub fn is_localhost(&self) -> bool {
        matches!(self, Host::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }
}

impl Destination {
    /// Reads `host:port`, with brackets around an IPv6 address. Without a port it is `default`.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &[u8], default: Option<u16>) -> Result<Destination, Unfit> {
        if text.len() > MAX_AUTHORITY {
            return Err(Unfit::Host);
        }
        let (host, port) = match text.strip_prefix(b"[") {
            Some(rest) => {
                let end = rest.iter().position(|byte| *byte == b']').ok_or(Unfit::Host)?;
                let inside = std::str::from_utf8(&rest[..end]).map_err(|_| Unfit::Host)?;
                let address: Ipv6Addr = inside.parse().map_err(|_| Unfit::Host)?;
                let port = match &rest[end + 1..] {
                    [] => None,
                    [b':', port @ ..] => Some(port),
                    _ => return Err(Unfit::Host),
                };
                (Host::Address(IpAddr::V6(address).to_canonical()), port)
            }
            None => {
                let at = text.iter().position(|byte| *byte == b':');
                let host = &text[..at.unwrap_or(text.len())];
                (Host::read(host)?, at.map(|at| &text[at + 1..]))
            }
        };
        let port = match (port, default) {
            (Some(digits), _) => number(digits).ok_or(Unfit::Port)?,
            (None, Some(default)) => default,
            (None, None) => return Err(Unfit::Port),
        };
        Destination::new(host, port)
    }

    /// A destination from its parts.
    ///
    /// # Errors
    /// The port is 0.
    pub fn new(host: Host, port: u16) -> Result<Destination, Unfit> {
        if port == 0 { Err(Unfit::Port) } else { Ok(Destination { host, port }) }
    }
}

/// Digits and nothing else: no sign, no blank.
fn number(digits: &[u8]) -> Option<u16> {
    let fits = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, Unfit> {
        Destination::read(text.as_bytes(), Some(80)).map(|destination| destination.to_string())
    }

    #[test]
    fn hosts_mean_what_they_mean_in_a_policy() {
        for (text, meant) in [
            ("Example.COM:443", "example.com:443"),
            ("example.com.", "example.com:80"),
            ("xn--bcher-kva.example:1", "xn--bcher-kva.example:1"),
            ("192.0.2.1:65535", "192.0.2.1:65535"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("_srv.a-b.example", "_srv.a-b.example:80"),
            // A name, as a policy has it; it is asked as one.
            ("0x7f000001:80", "0x7f000001:80"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(meant), "{text}");
        }
        for text in [
            "",
            ".",
            ":80",
            "a..b",
            "a b",
            "2130706433",
            "127.1",
            "0x7f.1",
            "0177.0.0.1",
            "1.2.3.4.5",
            "a.1",
            "b\u{fc}cher.example",
            "a\0.example",
            "user@example.com",
            "example.com/",
            "*.example.com",
            "[fe80::1%eth0]:80",
            "[::1",
            "[::1]80",
            "[127.0.0.1]:80",
            "::1",
            "[]:80",
            "exa%6dple.com",
        ] {
            assert_eq!(read(text), Err(Unfit::Host), "{text}");
        }
        for text in ["a:", "a:0", "a:65536", "a:+1", "a: 1", "a:0x1", "a:1:2", "a:100000"] {
            assert_eq!(read(text), Err(Unfit::Port), "{text}");
        }
        assert_eq!(Destination::read(b"a", None), Err(Unfit::Port));
        let label = "a".repeat(63);
        let long = [label.as_str(); 4].join(".");
        assert!(read(&long[..253]).is_ok() && read(&format!("{}.:443", &long[..253])).is_ok());
        assert!(read(&long[..254]).is_err() && read(&"a".repeat(64)).is_err());
    }

    #[test]
    fn localhost_is_this_machine() {
        let is = |text: &str| Host::read(text.as_bytes()).unwrap().is_localhost();
        assert!(is("LOCALHOST.") && is("a.localhost"));
        assert!(!is("localhost.example") && !is("notlocalhost") && !is("127.0.0.1"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(destination) = Destination::read(&bytes, Some(80)) {
                // What was read reads as the same.
                let text = destination.to_string();
                prop_assert_eq!(Destination::read(text.as_bytes(), None), Ok(destination));
            }
        }

        #[test]
        fn a_policy_reads_the_same_names(text in "[a-zA-Z0-9._-]{1,20}") {
            if let Ok(Host::Name(name)) = Host::read(text.as_bytes()) {
                let rule = format!("version: 1\nname: p\nnetwork:\n  default: deny\n  rules:\n    - {{ name: a, allow: [connect], to: [\"{name}\"] }}\n");
                let policy = policy::Policy::parse("p", &rule, &policy::Variables::new());
                // Three words of the language are no names of hosts.
                if !["own", "any", "localhost"].contains(&name.as_str()) {
                    prop_assert!(policy.is_ok_and(|policy| policy.names_hosts()), "{}", name);
                }
            }
        }
    }
}
