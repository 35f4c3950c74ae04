//! Ends of network accesses as the command line names them: what a rule's target can be, with one port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use policy::questions::{Asked, ask};
use policy::{Access, End, Owner, Policy, Protocol};

use super::eval::resolved;
use crate::review::text::safe;

/// Where a host is that is only named: an address of documentation (RFC 5737), which no host has.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// An end.
#[derive(Debug)]
pub enum Socket {
    Address(SocketAddr, Protocol),
    /// A host by its name, wherever it is.
    Host(String, u16, Protocol),
    /// A listener of the run.
    Own(u16, Protocol),
    /// A unix socket with a path: resolved, absolute.
    Path(PathBuf),
    Abstract(String),
}

impl Socket {
    /// `ADDRESS:PORT`, `HOST:PORT` and `own:PORT`, then `/tcp` or `/udp`, `usual` where neither is given; `unix:/PATH`,
    /// `unix:@NAME`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str, access: Access, usual: Protocol) -> anyhow::Result<Self> {
        match text.strip_prefix("unix:") {
            Some(name) if name.starts_with('@') => return Ok(Self::Abstract(name[1..].to_owned())),
            Some(path) if path.starts_with('/') => return Ok(Self::Path(resolved(Path::new(path))?)),
            Some(_) => bail!("{text:?}: write unix:/PATH or unix:@NAME"),
            None => {}
        }
        if let Some(instead) = policy::address::without_scheme(text) {
            bail!("{text:?} is a URL; write only its host and port: {instead}");
        }
        let (end, protocol) = match text.split_once('/') {
            None => (text, usual),
            Some((end, "tcp")) => (end, Protocol::Tcp),
            Some((end, "udp")) => (end, Protocol::Udp),
            Some((_, other)) => {
                bail!("{text:?} names no protocol that rules know: {other:?}; write /tcp or /udp")
            }
        };
        if let Ok(address) = end.parse() {
            return Ok(Self::Address(address, protocol));
        }
        let Some((host, Ok(port))) = end.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()))
        else {
            bail!(
                "{text:?} has no port: write 10.2.3.4:443, [2001:db8::1]:443, registry.example:443, own:8080 or \
                 10.2.3.4:53/udp"
            );
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        match host.as_str() {
            "own" => return Ok(Self::Own(port, protocol)),
            "localhost" => return Ok(Self::Address((Ipv4Addr::LOCALHOST, port).into(), protocol)),
            _ => {}
        }
        if host.contains(':') {
            bail!("{text:?}: with a port an IPv6 address is written [{host}]:{port}");
        }
        if !host.is_ascii() {
            bail!("{text:?}: a host name is written in ASCII; write its xn--… form");
        }
        let nobody = std::iter::empty::<&Policy>();
        if host.is_empty() || matches!(ask(nobody, &host, (SOMEWHERE, port), protocol), Asked::Malformed) {
            bail!("{text:?}: {:?} is neither an address nor the name of a host", safe(host.as_bytes()));
        }
        if !matches!(access, Access::Connect | Access::Send) {
            bail!("{text:?}: a socket is bound to an address, not to the name of a host");
        }
        Ok(Self::Host(host, port, protocol))
    }

    /// The names by which it is known.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Host(name, ..) => vec![name],
            _ => Vec::new(),
        }
    }

    /// As policies judge it, with its own names.
    pub fn end<'a>(&'a self, names: &'a [&'a str]) -> End<'a> {
        let address = |address, port, protocol, owner| End::Address { address, port, protocol, names, owner };
        match self {
            Self::Address(at, protocol) => address(at.ip(), at.port(), *protocol, Owner::Elsewhere),
            Self::Host(_, port, protocol) => address(SOMEWHERE, *port, *protocol, Owner::Elsewhere),
            Self::Own(port, protocol) => address(Ipv4Addr::LOCALHOST.into(), *port, *protocol, Owner::Run),
            Self::Path(path) => End::Path(path.as_os_str().as_bytes()),
            Self::Abstract(name) => End::Abstract(name.as_bytes()),
        }
    }

    /// The layers that hold a rule about it; `bound` is a rule about some programs only.
    pub fn layers(&self, access: Access, bound: bool) -> Vec<&'static str> {
        match self {
            Self::Host(..) | Self::Own(..) => vec!["cgroup-net"],
            Self::Address(_, Protocol::Tcp | Protocol::Udp) if access != Access::Listen && !bound => {
                vec!["lsm", "cgroup-net"]
            }
            _ => vec!["lsm"],
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        match self {
            Self::Address(at, protocol) => format!("{} port {} {}", at.ip(), at.port(), name(*protocol)),
            Self::Host(host, port, protocol) => format!("{host} port {port} {}", name(*protocol)),
            Self::Own(port, protocol) => format!("the run's own port {port} {}", name(*protocol)),
            Self::Path(path) => format!("unix:{}", safe(path.as_os_str().as_bytes())),
            Self::Abstract(name) => format!("unix:@{}", safe(name.as_bytes())),
        }
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        _ => "other",
    }
}
