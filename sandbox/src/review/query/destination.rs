//! Other ends of connections, as they are asked for: `ADDR`, `CIDR` or `HOST`, with or without `:PORT`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Another end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Which machines.
    pub place: Place,
    /// Which port; any where none was given.
    pub port: Option<u16>,
}

/// Machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// All.
    Anywhere,
    /// Those whose address has these leading bits.
    Net {
        /// The address; IPv4 as IPv4, also where it was written mapped into IPv6.
        address: IpAddr,
        /// How many bits count.
        bits: u8,
    },
    /// The one of this name, in lower case without a dot at its end.
    Host(String),
    /// Those whose names end so, with a dot before it.
    Below(String),
}

/// A word that is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--dest {word}: {why}; write ADDR, ADDR/BITS, HOST or *.HOST, with :PORT if wanted, an IPv6 address with a port as [ADDR]:PORT"
)]
pub struct DestinationError {
    word: String,
    why: &'static str,
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(word: &str) -> Result<Self, DestinationError> {
        let fault = |why| DestinationError { word: word.to_owned(), why };
        let (place, port) = split_port(word).ok_or_else(|| fault("the port is not a number up to 65535"))?;
        let place = if place.is_empty() && port.is_some() {
            Place::Anywhere
        } else {
            read_place(place).map_err(fault)?
        };
        Ok(Destination { place, port })
    }
}

/// The place and the port; `None` where what stands behind the colon is no port.
fn split_port(word: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = word.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((address, Some(port.parse().ok()?))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    match word.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((_, port)) if port.contains(':') => Some((word, None)),
        Some((place, port)) => Some((place, Some(port.parse().ok()?))),
        None => Some((word, None)),
    }
}

fn read_place(word: &str) -> Result<Place, &'static str> {
    if let Some((address, bits)) = word.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| "what stands before the slash is no address")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = bits.parse().ok().filter(|bits| *bits <= most).ok_or("too many bits")?;
        return Ok(match (address, address.to_canonical()) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if bits >= 96 => {
                Place::Net { address: mapped, bits: bits - 96 }
            }
            (written, _) => Place::Net { address: written, bits },
        });
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Ok(Place::Net { address, bits: if address.is_ipv4() { 32 } else { 128 } });
    }
    let (below, name) = word.strip_prefix("*.").map_or((false, word), |name| (true, name));
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("is neither an address nor a name");
    }
    Ok(if below { Place::Below(name) } else { Place::Host(name) })
}

impl Destination {
    /// Whether an event with this address, these names and this port is meant.
    pub fn matches(&self, address: Option<&[u8]>, names: [Option<&[u8]>; 2], port: Option<i64>) -> bool {
        let place = match self.place {
            Place::Anywhere => true,
            _ => {
                address.is_some_and(|address| self.place.has_address(address))
                    || names.into_iter().flatten().any(|name| self.place.has_name(name))
            }
        };
        place && self.port.is_none_or(|wanted| port == Some(i64::from(wanted)))
    }
}

impl Place {
    /// Whether an address as the log has it is one of them.
    pub fn has_address(&self, text: &[u8]) -> bool {
        let Place::Net { address, bits } = self else { return false };
        let found = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
        match (address, found.map(|found| found.to_canonical())) {
            (IpAddr::V4(net), Some(IpAddr::V4(found))) => {
                same_bits(u128::from(net.to_bits()), u128::from(found.to_bits()), 32 - u32::from(*bits))
            }
            (IpAddr::V6(net), Some(IpAddr::V6(found))) => same_v6(*net, found, *bits),
            // A net of IPv6 that is wide enough holds the mapped ones too.
            (IpAddr::V6(net), Some(IpAddr::V4(found))) => same_v6(*net, found.to_ipv6_mapped(), *bits),
            _ => false,
        }
    }

    /// Whether a name as the log has it is one of them.
    pub fn has_name(&self, name: &[u8]) -> bool {
        let name = name.strip_suffix(b".").unwrap_or(name);
        match self {
            Place::Host(host) => name.eq_ignore_ascii_case(host.as_bytes()),
            Place::Below(host) => name.len().checked_sub(host.len() + 1).is_some_and(|at| {
                at > 0 && name[at] == b'.' && name[at + 1..].eq_ignore_ascii_case(host.as_bytes())
            }),
            _ => false,
        }
    }
}

fn same_v6(net: Ipv6Addr, found: Ipv6Addr, bits: u8) -> bool {
    same_bits(net.to_bits(), found.to_bits(), 128 - u32::from(bits))
}

/// Whether two addresses differ only in their last bits.
fn same_bits(left: u128, right: u128, last: u32) -> bool {
    (left ^ right).checked_shr(last).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(wanted: &str, ip: &str, host: &str, port: i64) -> bool {
        let wanted: Destination = wanted.parse().unwrap();
        let text = |text: &'static str| Some(text.as_bytes()).filter(|text| !text.is_empty());
        let ip = text(Box::leak(ip.to_owned().into_boxed_str()));
        let host = text(Box::leak(host.to_owned().into_boxed_str()));
        wanted.matches(ip, [host, None], Some(port))
    }

    #[test]
    fn addresses_nets_names_and_ports() {
        for (wanted, ip, host, port, expected) in [
            ("10.0.0.1", "10.0.0.1", "", 1, true),
            ("10.0.0.1", "::ffff:10.0.0.1", "", 1, true),
            ("::ffff:10.0.0.1", "10.0.0.1", "", 1, true),
            ("10.0.0.1:443", "10.0.0.1", "", 443, true),
            ("10.0.0.1:443", "10.0.0.1", "", 80, false),
            ("10.0.0.0/8", "10.9.9.9", "", 1, true),
            ("10.0.0.0/8:53", "10.9.9.9", "", 53, true),
            ("10.0.0.0/8", "11.9.9.9", "", 1, false),
            ("0.0.0.0/0", "11.9.9.9", "", 1, true),
            ("0.0.0.0/0", "2001:db8::1", "", 1, false),
            ("::/0", "2001:db8::1", "", 1, true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "", 1, true),
            ("2001:db8::/32", "2001:db8:1::1", "", 1, true),
            ("[2001:db8::1]:443", "2001:db8:0::1", "", 443, true),
            ("2001:db8::1", "2001:db8::2", "", 443, false),
            ("Example.com", "", "example.com.", 443, true),
            ("example.com:443", "1.2.3.4", "example.com", 443, true),
            ("example.com", "", "www.example.com", 443, false),
            ("*.example.com", "", "www.Example.com", 443, true),
            ("*.example.com", "", "example.com", 443, false),
            ("*.example.com", "", "badexample.com", 443, false),
            (":443", "", "", 443, true),
            (":443", "", "", 80, false),
        ] {
            assert_eq!(matches(wanted, ip, host, port), expected, "{wanted} {ip} {host} {port}");
        }
    }

    #[test]
    fn what_is_no_destination_says_what_would_be() {
        for word in
            ["", "a b", "10.0.0.0/33", "::/129", "x/8", "host:99999", "host:", "[::1", "[::1]x", "http://x/"]
        {
            let error = word.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains("write ADDR"), "{error}");
        }
    }
}
