//! The other end of a network access, and the targets that are no addresses: host names, path sockets,
//! abstract sockets and the run's own listeners.

use std::net::IpAddr;

use crate::access::Access;
use crate::address::{self, Protocol, Target, TargetFault};
use crate::pattern::Pattern;

/// The other end of a network access; for bind and listen, the socket's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// An address. IPv4-mapped is IPv4; for connecting and sending the unspecified address is loopback.
    Address {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The names by which the process knows it, from answers that still live.
        names: &'a [&'a str],
        /// Whose socket answers there; what is bound or listens is always the run's.
        owner: Owner,
    },
    /// A socket with a path, resolved and absolute.
    Path(&'a [u8]),
    /// An abstract socket, without its leading NUL.
    Abstract(&'a [u8]),
    /// A family that no rule names.
    Other,
}

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One of this run's listeners.
    Run,
    /// Anybody else's.
    Elsewhere,
}

/// What a target means, besides ports and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The prefixes of the target.
    Addresses,
    /// A host: its labels in lower case.
    Host { name: String, below: bool },
    /// The run's own listeners.
    Own,
    /// Path sockets.
    Path(Pattern),
    /// Abstract sockets: a glob on `/@` and the name.
    Abstract(Pattern),
}

/// What knows whether an end is meant: each has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// The address itself.
    Address,
    /// The names by which the process knows it.
    Name,
    /// Whose socket it is.
    Own,
    /// The name of a unix socket.
    Socket,
}

impl Source {
    /// What a target of the kind is called, for people; `None` for addresses.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::Address => None,
            Self::Name => Some("a host name"),
            Self::Own => Some("`own`"),
            Self::Socket => Some("`unix:`"),
        }
    }
}

impl Meaning {
    /// What knows whether an end is meant.
    pub fn source(&self) -> Source {
        match self {
            Self::Addresses => Source::Address,
            Self::Host { .. } => Source::Name,
            Self::Own => Source::Own,
            Self::Path(_) | Self::Abstract(_) => Source::Socket,
        }
    }
}

impl Target {
    /// True for a host name, which means what the process knows by it.
    pub fn is_host(&self) -> bool {
        matches!(self.meaning, Meaning::Host { .. })
    }

    /// The top-level domain of which it means every name, where strangers may have names in it.
    pub(crate) fn below_public_domain(&self) -> Option<&str> {
        match &self.meaning {
            Meaning::Host { name, below: true }
                if !name.contains('.') && !PRIVATE.contains(&name.as_str()) =>
            {
                Some(name)
            }
            _ => None,
        }
    }

    /// True for a host name that means `name`, at whatever port.
    pub(crate) fn names(&self, name: &str) -> bool {
        matches!(&self.meaning, Meaning::Host { name: host, below } if is_host(name, host, *below))
    }

    /// True for two host names where some name is meant by both.
    pub(crate) fn shares_a_name(&self, other: &Self) -> bool {
        let (Meaning::Host { name: one, below: some }, Meaning::Host { name: two, below: others }) =
            (&self.meaning, &other.meaning)
        else {
            return false;
        };
        match (some, others) {
            (false, _) => other.names(one),
            (_, false) => self.names(two),
            (true, true) => one == two || is_host(one, two, true) || is_host(two, one, true),
        }
    }

    /// True when the end is meant, for that access.
    pub fn matches_end(&self, access: Access, end: &End<'_>) -> bool {
        match (&self.meaning, end) {
            (Meaning::Path(pattern), End::Path(path)) => pattern.matches(path),
            (Meaning::Abstract(pattern), End::Abstract(name)) => {
                pattern.matches(&[ABSTRACT.as_bytes(), name].concat())
            }
            (meaning, End::Address { address, port, protocol, names, owner }) => {
                let reaches = matches!(access, Access::Connect | Access::Send);
                match meaning {
                    Meaning::Addresses if reaches => {
                        self.matches(address::reached(*address), *port, *protocol)
                    }
                    Meaning::Addresses => self.matches(address::unmapped(*address), *port, *protocol),
                    Meaning::Host { name, below } => {
                        let named = names.iter().any(|found| is_host(found, name, *below));
                        reaches && named && self.is_at(*port, *protocol)
                    }
                    Meaning::Own => (!reaches || *owner == Owner::Run) && self.is_at(*port, *protocol),
                    Meaning::Path(_) | Meaning::Abstract(_) => false,
                }
            }
            _ => false,
        }
    }
}

/// Top-level domains that nobody can register names in (RFC 6761, RFC 6762, ICANN's list of 2024), and what company
/// networks use besides.
const PRIVATE: [&str; 13] = [
    "alt",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "private",
    "test",
];

/// What an abstract name begins with in its glob, so that it looks like a path.
pub(crate) const ABSTRACT: &str = "/@";

/// Whether `found` is the host, or lies below it; `*.x` is not `x`.
fn is_host(found: &str, name: &str, below: bool) -> bool {
    let found = found.strip_suffix('.').unwrap_or(found).to_ascii_lowercase();
    if !below {
        return found == name;
    }
    found.strip_suffix(name).and_then(|rest| rest.strip_suffix('.')).is_some_and(|rest| !rest.is_empty())
}

/// A target that is no address, by what stands before its port: `None` where it must be one.
pub(crate) fn named(host: &str) -> Option<Result<Meaning, TargetFault>> {
    if host == "own" {
        return Some(Ok(Meaning::Own));
    }
    let below = host.strip_prefix("*.");
    let name = below.unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.is_empty()
        || numeric(last)
        || matches!(host, "any" | "localhost")
        || host.contains([':', '/', '['])
    {
        return None;
    }
    if name.contains('*') {
        return Some(Err(TargetFault::HostStar));
    }
    if !name.is_ascii() {
        return Some(Err(TargetFault::HostNotAscii));
    }
    let label = |label: &str| {
        let fits = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        fits && (1..=63).contains(&label.len())
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return None;
    }
    Some(Ok(Meaning::Host { name: name.to_ascii_lowercase(), below: below.is_some() }))
}
