//! What a network rule is about: addresses, prefixes, ports and protocols.
//!
//! What else a target can be is [`crate::ends`]'s.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sandbox_ebpf::abi::policy::proto;

use crate::ends::{ABSTRACT, Meaning};
use crate::pattern::{Parsed, Pattern};
use crate::variables::Scope;

/// A protocol as rules tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, and MPTCP.
    Tcp,
    /// UDP, and UDP-Lite.
    Udp,
    /// Every other one.
    Other,
}

impl Protocol {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Other];

    /// The number that the kernel side uses.
    pub fn abi(self) -> u8 {
        match self {
            Self::Tcp => proto::TCP,
            Self::Udp => proto::UDP,
            Self::Other => proto::OTHER,
        }
    }

    /// As a target ends with it.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Tcp => "/tcp",
            Self::Udp => "/udp",
            Self::Other => "",
        }
    }

    /// The protocol of a number of the kernel side; what it does not know is [`Protocol::Other`].
    pub fn from_abi(number: u8) -> Self {
        match number {
            proto::TCP => Self::Tcp,
            proto::UDP => Self::Udp,
            _ => Self::Other,
        }
    }
}

/// Why a target cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetFault {
    /// `a.*.b`.
    #[error("`*` stands for whole labels at the beginning of a host name only, as in `*.example.com`")]
    HostStar,
    /// Letters that DNS does not have.
    #[error("a host name is written in ASCII; write its `xn--…` form")]
    HostNotAscii,
    /// `unix:x`.
    #[error("a unix socket is `unix:` and an absolute path, or `unix:@` and an abstract name")]
    Unix,
    /// A path of a unix socket that cannot be.
    #[error("{0}")]
    UnixPath(crate::pattern::PatternFault),
    /// Nothing that could be a target.
    #[error(
        "is not a target; write an address, a CIDR, a host name, `localhost`, `own` or `any`, then `:port` and `/tcp` or `/udp`"
    )]
    Unknown,
    /// `http://…`.
    #[error("is a URL; write only its host, as in `{instead}`")]
    Url {
        /// Host and port.
        instead: String,
    },
    /// `/run/x.sock`.
    #[error("is a path; a unix socket is written `unix:{found}`")]
    Path {
        /// What stands there.
        found: String,
    },
    /// `/tpc`.
    #[error("`{found}` is no protocol; write `/tcp`, `/udp`, or nothing for both")]
    Protocol {
        /// What stands there.
        found: String,
    },
    /// `example.com/24`.
    #[error("`{found}` is a prefix length, which only an address has")]
    HostPrefix {
        /// What stands there.
        found: String,
    },
    /// `192.168.1.*`.
    #[error("`*` is for host names; write `{instead}`")]
    StarInAddress {
        /// As a prefix.
        instead: String,
    },
    /// `:80,443`.
    #[error("has several ports; write an entry for each, or a range as in `80-90`")]
    SeveralPorts,
    /// `:*`.
    #[error("leave `:{found}` out for every port")]
    EveryPort {
        /// What stands there.
        found: String,
    },
    /// `*`.
    #[error("write `any` for every address")]
    Star,
    /// Digits and dots that are not an address.
    #[error("is not an IPv4 address; write four numbers from 0 to 255")]
    NotV4,
    /// Colons that are not an address.
    #[error("is not an IPv6 address; with a port it is written `[::1]:80`")]
    NotV6,
    /// `/33`.
    #[error("the prefix length `{found}` is not a number from 0 to {limit}")]
    PrefixLength {
        /// What stands there.
        found: String,
        /// The most.
        limit: u8,
    },
    /// `10.1.2.3/8`.
    #[error("has bits set behind its prefix; write `{instead}`")]
    HostBits {
        /// The prefix alone.
        instead: String,
    },
    /// Not a port.
    #[error("the port `{found}` is not a number from 0 to 65535, nor a range of two")]
    Port {
        /// What stands there.
        found: String,
    },
    /// `:90-80`.
    #[error("the port range `{found}` runs backwards")]
    BackwardPorts {
        /// What stands there.
        found: String,
    },
}

/// A prefix of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Prefix {
    V4 { bits: u32, length: u8 },
    V6 { bits: u128, length: u8 },
}

impl Prefix {
    /// True when the address, no longer IPv4-mapped, lies inside.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4 { bits, length }, IpAddr::V4(v4)) => {
                let shift = 32 - u32::from(length);
                (u64::from(bits) >> shift) == (u64::from(v4.to_bits()) >> shift)
            }
            (Self::V6 { bits, length }, IpAddr::V6(v6)) => {
                length == 0 || (bits ^ v6.to_bits()) >> (128 - u32::from(length)) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4 { bits, length: 32 } => write!(f, "{}", Ipv4Addr::from_bits(bits)),
            Self::V4 { bits, length } => write!(f, "{}/{length}", Ipv4Addr::from_bits(bits)),
            Self::V6 { bits, length: 128 } => write!(f, "{}", Ipv6Addr::from_bits(bits)),
            Self::V6 { bits, length } => write!(f, "{}/{length}", Ipv6Addr::from_bits(bits)),
        }
    }
}

/// One entry of `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) text: String,
    pub(crate) meaning: Meaning,
    /// Of a target that is an address.
    pub(crate) prefixes: Vec<Prefix>,
    /// First and last port, or every one.
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) protocol: Option<Protocol>,
}

impl Target {
    /// Reads a target, variables replaced already.
    pub(crate) fn parse(text: &str) -> Result<Self, TargetFault> {
        let mut rest = text;
        let mut protocol = None;
        for (suffix, which) in [("/tcp", Protocol::Tcp), ("/udp", Protocol::Udp)] {
            if let Some(before) = rest.strip_suffix(suffix) {
                (rest, protocol) = (before, Some(which));
                break;
            }
        }
        if let Some(fault) = mistake(rest).or_else(|| star_in_address(text)) {
            return Err(fault);
        }
        let (host, ports) = split_port(rest)?;
        let ports = ports.map(read_ports).transpose()?;
        if let Some(meaning) = crate::ends::named(host) {
            return Ok(Self {
                text: text.to_owned(),
                meaning: meaning?,
                prefixes: Vec::new(),
                ports,
                protocol,
            });
        }
        let prefixes = match host {
            "any" => vec![Prefix::V4 { bits: 0, length: 0 }, Prefix::V6 { bits: 0, length: 0 }],
            "localhost" => vec![
                Prefix::V4 { bits: Ipv4Addr::LOCALHOST.to_bits() & 0xff00_0000, length: 8 },
                Prefix::V6 { bits: Ipv6Addr::LOCALHOST.to_bits(), length: 128 },
            ],
            host => vec![read_prefix(host)?],
        };
        Ok(Self { text: text.to_owned(), meaning: Meaning::Addresses, prefixes, ports, protocol })
    }

    /// A path socket or an abstract one, from what follows `unix:`. `None`: a variable in it has no value, or is
    /// wrong and reported.
    pub(crate) fn parse_unix(rest: &str, scope: &Scope<'_>) -> Result<Parsed<Self>, TargetFault> {
        let abstract_name = rest.strip_prefix('@');
        let text = match abstract_name {
            Some("") => return Err(TargetFault::Unix),
            Some(name) => format!("{ABSTRACT}{name}"),
            None => rest.to_owned(),
        };
        let pattern = match Pattern::parse(&text, scope).map_err(TargetFault::UnixPath)? {
            Parsed::Read(pattern) => pattern,
            Parsed::None => return Ok(Parsed::None),
            Parsed::Broken => return Ok(Parsed::Broken),
        };
        let written = pattern.text();
        let (text, meaning) = match abstract_name {
            Some(_) => (format!("unix:{}", &written[1..]), Meaning::Abstract(pattern)),
            None => (format!("unix:{written}"), Meaning::Path(pattern)),
        };
        Ok(Parsed::Read(Self { text, meaning, prefixes: Vec::new(), ports: None, protocol: None }))
    }

    /// Path sockets.
    pub(crate) fn of_socket(pattern: Pattern) -> Self {
        let text = format!("unix:{}", pattern.text());
        Self { text, meaning: Meaning::Path(pattern), prefixes: Vec::new(), ports: None, protocol: None }
    }

    /// The target as the language writes it, variables replaced.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when the address (no longer IPv4-mapped), port and protocol are meant.
    pub fn matches(&self, address: IpAddr, port: u16, protocol: Protocol) -> bool {
        self.is_at(port, protocol) && self.prefixes.iter().any(|prefix| prefix.contains(address))
    }

    /// First and last port.
    pub(crate) fn port_range(&self) -> (u16, u16) {
        self.ports.unwrap_or((0, u16::MAX))
    }

    /// True when port and protocol are meant.
    pub(crate) fn is_at(&self, port: u16, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.ports.is_none_or(|(low, high)| (low..=high).contains(&port))
    }

    /// True where every port and protocol is meant that `other` means.
    pub(crate) fn is_wherever(&self, other: &Self) -> bool {
        let ((low, high), (other_low, other_high)) = (self.port_range(), other.port_range());
        let protocols = self.protocol.is_none() || self.protocol == other.protocol;
        protocols && low <= other_low && other_high <= high
    }

    /// True for a target that means port 0 alone.
    pub(crate) fn is_port_zero(&self) -> bool {
        self.ports == Some((0, 0))
    }

    /// True for a target that means every port and protocol.
    pub(crate) fn is_every_port(&self) -> bool {
        self.protocol.is_none() && self.port_range() == (0, u16::MAX)
    }

    /// True for a target that means every address, port and protocol.
    pub fn is_everything(&self) -> bool {
        self.is_every_port() && self.is_every_address()
    }

    /// True for a target that means every address, at its ports and with its protocol.
    pub(crate) fn is_every_address(&self) -> bool {
        let all =
            |prefix: &Prefix| matches!(prefix, Prefix::V4 { length: 0, .. } | Prefix::V6 { length: 0, .. });
        self.prefixes.len() == 2 && self.prefixes.iter().all(all)
    }

    /// The one address and port that it means; TCP where it names no protocol.
    pub(crate) fn one(&self) -> Option<(IpAddr, u16, Protocol)> {
        let address: IpAddr = match self.prefixes.as_slice() {
            [Prefix::V4 { bits, length: 32 }] => Ipv4Addr::from_bits(*bits).into(),
            [Prefix::V6 { bits, length: 128 }] => Ipv6Addr::from_bits(*bits).into(),
            _ => return None,
        };
        let (low, high) = self.ports?;
        (low == high).then_some((address, low, self.protocol.unwrap_or(Protocol::Tcp)))
    }

    /// `::1:80` is an address; its writer may have meant a port.
    pub(crate) fn port_in_address(&self) -> Option<String> {
        let [Prefix::V6 { length: 128, .. }] = self.prefixes.as_slice() else { return None };
        let protocol = self.text.find('/').map_or("", |at| &self.text[at..]);
        let (before, last) = self.text.strip_suffix(protocol)?.rsplit_once(':')?;
        let address: Ipv6Addr = before.parse().ok()?;
        last.parse::<u16>().ok()?;
        Some(format!("[{address}]:{last}{protocol}"))
    }
}

/// A usual mistake.
fn mistake(text: &str) -> Option<TargetFault> {
    if text.contains("://") {
        return Some(TargetFault::Url {
            instead: without_scheme(text).unwrap_or_else(|| "example.com:443".to_owned()),
        });
    }
    if text.starts_with('/') {
        return Some(TargetFault::Path { found: text.to_owned() });
    }
    if let Some(fault) = tail(text) {
        return Some(fault);
    }
    (text.split(':').next() == Some("*")).then_some(TargetFault::Star)
}

/// What stands behind a `/` that is neither a protocol nor a prefix length of an address.
fn tail(text: &str) -> Option<TargetFault> {
    let (before, after) = text.rsplit_once('/')?;
    let found = format!("/{after}");
    let digits = !after.is_empty() && after.bytes().all(|b| b.is_ascii_digit());
    let host = split_port(before).map_or("", |(host, _)| host);
    let word = after.len() > 2 && after.bytes().all(|b| b.is_ascii_alphabetic());
    match matches!(host, "any" | "localhost") || matches!(crate::ends::named(host), Some(Ok(_))) {
        true if digits => Some(TargetFault::HostPrefix { found }),
        true => Some(TargetFault::Protocol { found }),
        // What stands in brackets or is no word is looked at with the address.
        false => word.then_some(TargetFault::Protocol { found }),
    }
}

/// `192.168.*` and the like: whole numbers, and stars behind them.
fn star_in_address(text: &str) -> Option<TargetFault> {
    let (address, rest) = text.find([':', '/']).map_or((text, ""), |at| text.split_at(at));
    let parts: Vec<&str> = address.split('.').collect();
    let known: Vec<u8> = parts.iter().map_while(|part| part.parse().ok()).collect();
    let stars = parts.len() - known.len();
    if known.is_empty()
        || parts.len() > 4
        || stars == 0
        || parts[known.len()..].iter().any(|part| *part != "*")
    {
        return None;
    }
    let bytes: [u8; 4] = std::array::from_fn(|at| known.get(at).copied().unwrap_or(0));
    let instead = format!("{}/{}{rest}", Ipv4Addr::from(bytes), known.len() * 8);
    Some(TargetFault::StarInAddress { instead })
}

/// Host and port of a URL; `None` for what is none.
pub fn without_scheme(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    let has_port = place.rsplit(']').next().is_some_and(|after| after.contains(':'));
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ssh" | "git+ssh" | "sftp" => Some(22),
        "git" => Some(9418),
        "postgres" | "postgresql" => Some(5432),
        _ => None,
    };
    let readable = !place.is_empty() && place.bytes().all(|b| b.is_ascii_graphic() && b != b'`');
    readable.then(|| match port.filter(|_| !has_port) {
        Some(port) => format!("{place}:{port}"),
        None => place.to_owned(),
    })
}

/// The host, and what follows its `:`.
fn split_port(text: &str) -> Result<(&str, Option<&str>), TargetFault> {
    if let Some(inside) = text.strip_prefix('[') {
        // `[2001:db8::]/32:80` and `[2001:db8::/32]:80` are both written.
        let (address, after) = inside.split_once(']').ok_or(TargetFault::NotV6)?;
        if !address.contains(':') {
            return Err(TargetFault::NotV6);
        }
        let (length, ports) = match after.split_once(':') {
            Some((length, ports)) => (length, Some(ports)),
            None => (after, None),
        };
        return match length {
            "" => Ok((address, ports)),
            // The brackets lie inside: the caller takes them off.
            _ if length.starts_with('/') => Ok((&text[..address.len() + 2 + length.len()], ports)),
            _ => Err(TargetFault::NotV6),
        };
    }
    match text.matches(':').count() {
        0 => Ok((text, None)),
        1 => Ok(text.split_once(':').map_or((text, None), |(host, ports)| (host, Some(ports)))),
        _ => Ok((text, None)),
    }
}

fn read_ports(text: &str) -> Result<(u16, u16), TargetFault> {
    let fault = || match text {
        "*" | "any" | "all" => TargetFault::EveryPort { found: text.to_owned() },
        _ if text.contains(',') => TargetFault::SeveralPorts,
        _ => TargetFault::Port { found: text.to_owned() },
    };
    let number = |digits: &str| -> Result<u16, TargetFault> {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fault());
        }
        digits.parse().map_err(|_| fault())
    };
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(text)?, number(text)?),
    };
    if low > high { Err(TargetFault::BackwardPorts { found: text.to_owned() }) } else { Ok((low, high)) }
}

fn read_prefix(text: &str) -> Result<Prefix, TargetFault> {
    let plain: String = text.chars().filter(|c| !matches!(c, '[' | ']')).collect();
    let (address, length) = match plain.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (plain.as_str(), None),
    };
    let length = |limit: u8| -> Result<u8, TargetFault> {
        let Some(found) = length else { return Ok(limit) };
        let digits = !found.is_empty() && found.bytes().all(|b| b.is_ascii_digit());
        let number = found.parse().ok().filter(|n| digits && *n <= limit);
        number.ok_or_else(|| TargetFault::PrefixLength { found: found.to_owned(), limit })
    };
    if let Ok(v4) = address.parse::<Ipv4Addr>() {
        return v4_prefix(v4.to_bits(), length(32)?);
    }
    if address.contains(':') {
        let v6: Ipv6Addr = address.parse().map_err(|_| TargetFault::NotV6)?;
        let (bits, length) = (v6.to_bits(), length(128)?);
        if let (Some(v4), 96..) = (v6.to_ipv4_mapped(), length) {
            return v4_prefix(v4.to_bits(), length - 96);
        }
        let kept = if length == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(length))) };
        let prefix = Prefix::V6 { bits: kept, length };
        return if kept == bits {
            Ok(prefix)
        } else {
            Err(TargetFault::HostBits { instead: prefix.to_string() })
        };
    }
    let numeric = !address.is_empty() && address.chars().all(|c| c.is_ascii_digit() || c == '.');
    Err(if numeric { TargetFault::NotV4 } else { TargetFault::Unknown })
}

fn v4_prefix(bits: u32, length: u8) -> Result<Prefix, TargetFault> {
    let kept = if length == 0 { 0 } else { bits & (u32::MAX << (32 - u32::from(length))) };
    let prefix = Prefix::V4 { bits: kept, length };
    if kept == bits { Ok(prefix) } else { Err(TargetFault::HostBits { instead: prefix.to_string() }) }
}

/// The address that a rule is judged by: IPv4-mapped is IPv4.
pub(crate) fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The same for connecting and sending, where the unspecified address is this machine.
pub(crate) fn reached(address: IpAddr) -> IpAddr {
    match unmapped(address) {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}
