//! The other ends of the network, put together: names before addresses, prefixes for neighbours, no port where it is
//! another one each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::{Reach, Strictness, Tally};
use crate::access::{Access, AccessSet};
use crate::address::Protocol;
use crate::ends::{Meaning, named};
use crate::pattern::escape;

/// Fewest addresses of one /24 that stand for all of it.
const NEIGHBOURS: usize = 3;
/// Where the kernel takes ports from that nobody asked for (ip_local_port_range).
const EPHEMERAL: u16 = 32_768;

/// Where the system's programs are.
const SYSTEM: [&str; 4] = ["/usr/", "/bin/", "/sbin/", "/opt/"];

/// A target as rules write it, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As a rule writes it.
    pub text: String,
    /// What was asked of it.
    pub accesses: AccessSet,
    /// What was put together in it.
    pub tally: Tally,
    /// Why it is as wide as it is, where it is wider than what was seen.
    pub wide: Option<&'static str>,
    /// The program that alone reaches it.
    pub by: Option<String>,
}

/// What is reached, without the port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Host(String),
    Own,
    /// Where the run listens.
    Local(IpAddr),
    Address(IpAddr),
}

impl Whom {
    /// Own listeners are that, whatever name their address has.
    fn of(address: IpAddr, host: Option<&str>, own: bool, listens: bool) -> Self {
        match host {
            _ if listens => Self::Local(address),
            _ if own => Self::Own,
            Some("localhost") if address.is_loopback() => Self::Host("localhost".to_owned()),
            Some(host) if is_host(host) => Self::Host(host.to_ascii_lowercase()),
            _ => Self::Address(address),
        }
    }

    /// Whether the kernel may have chosen the port.
    fn may_change(&self, port: u16) -> bool {
        port >= EPHEMERAL && matches!(self, Self::Own | Self::Local(_))
    }

    fn with_port(&self, port: u16, suffix: &str) -> String {
        match self {
            Self::Host(host) => format!("{host}:{port}{suffix}"),
            Self::Own => format!("own:{port}{suffix}"),
            Self::Local(address) | Self::Address(address) => {
                format!("{}:{port}{suffix}", bracketed(*address))
            }
        }
    }

    fn without_port(&self) -> String {
        match self {
            Self::Own => "own".to_owned(),
            Self::Local(address) if address.is_loopback() => "localhost".to_owned(),
            Self::Local(address) | Self::Address(address) => bracketed(*address),
            Self::Host(host) => host.clone(),
        }
    }
}

/// Whether a target names this host by its name. A server may call itself what targets have a word for (`any`, `own`): its
/// address is named then.
fn is_host(name: &str) -> bool {
    let host = name.to_ascii_lowercase();
    !host.contains('*') && matches!(named(&host), Some(Ok(Meaning::Host { .. })))
}

/// As [`generalise`] may have put an end, the narrowest first; the port is open only where the kernel chose it.
pub fn targets_of(end: &Reach) -> Vec<String> {
    match end {
        Reach::Socket(path) => vec![format!("unix:{}", socket(path))],
        Reach::Question(host) if is_host(host) => vec![format!("{host}:443/tcp")],
        Reach::Address { address, port, protocol, host, own, listens } => {
            let whom = Whom::of(*address, host.as_deref(), *own, *listens);
            let suffix = protocol.suffix();
            let mut targets = vec![whom.with_port(*port, suffix)];
            if whom.may_change(*port) {
                targets.push(format!("{}{suffix}", whom.without_port()));
            }
            if let Whom::Address(IpAddr::V4(address)) = whom {
                let [a, b, c, _] = address.octets();
                targets.push(neighbourhood([a, b, c], *port, suffix));
            }
            targets
        }
        Reach::Question(_) | Reach::Other => vec![end.to_string()],
    }
}

fn neighbourhood([a, b, c]: [u8; 3], port: u16, suffix: &str) -> String {
    format!("{}/24:{port}{suffix}", Ipv4Addr::new(a, b, c, 0))
}

fn socket(path: &[u8]) -> String {
    match path.strip_prefix(b"@") {
        Some(name) => format!("@{}", escape(name)),
        None => escape(path),
    }
}

/// What neighbours have in common: the first bytes of their addresses, and what is asked of them.
type Near = ([u8; 3], u16, Protocol, AccessSet);

/// Puts them together; what no target can say comes back as it was.
pub fn generalise(ends: BTreeMap<Reach, Tally>, strictness: Strictness) -> (Vec<Target>, Vec<Reach>) {
    let mut ports: BTreeMap<(Whom, Protocol, AccessSet), BTreeMap<u16, Tally>> = BTreeMap::new();
    let mut targets: BTreeMap<(String, AccessSet), (Tally, Option<&'static str>)> = BTreeMap::new();
    let mut left = Vec::new();
    let mut add = |text: String, accesses: AccessSet, tally: &Tally, wide: Option<&'static str>| {
        let entry = targets.entry((text, accesses)).or_insert_with(|| (Tally::default(), wide));
        entry.0.add(tally);
    };
    for (end, tally) in ends {
        let accesses = tally.accesses;
        match &end {
            Reach::Socket(path) if path.starts_with(b"/") || path.starts_with(b"@") => {
                add(format!("unix:{}", socket(path)), accesses, &tally, None);
            }
            Reach::Socket(_) => left.push(end),
            Reach::Question(host) if is_host(host) => {
                // A name that nobody connected to: where programs that ask for one usually go.
                add(format!("{host}:443/tcp"), Access::Connect.into(), &tally, Some("asked for only"));
            }
            Reach::Address { address, port, protocol, host, own, listens } => {
                let whom = Whom::of(*address, host.as_deref(), *own, *listens);
                let seen = ports.entry((whom, *protocol, accesses)).or_default();
                seen.entry(*port).or_default().add(&tally);
            }
            Reach::Question(_) | Reach::Other => left.push(end),
        }
    }
    let mut near: BTreeMap<Near, Vec<(IpAddr, Tally)>> = BTreeMap::new();
    for ((whom, protocol, accesses), ports) in ports {
        let suffix = protocol.suffix();
        let mut changing = Tally::default();
        for (port, tally) in ports {
            // One that the kernel chose, or would have to be the same each time.
            let chosen = whom.may_change(port) && tally.runs.len() < 2;
            if chosen && strictness != Strictness::Exact {
                changing.add(&tally);
                continue;
            }
            match &whom {
                Whom::Address(IpAddr::V4(address)) if strictness != Strictness::Exact => {
                    let [a, b, c, _] = address.octets();
                    let neighbours = near.entry(([a, b, c], port, protocol, accesses)).or_default();
                    neighbours.push((IpAddr::V4(*address), tally));
                }
                _ => add(whom.with_port(port, suffix), accesses, &tally, None),
            }
        }
        if changing.count > 0 {
            let text = whom.without_port();
            add(format!("{text}{suffix}"), accesses, &changing, Some("another port in each run"));
        }
    }
    for (([a, b, c], port, protocol, accesses), members) in near {
        let suffix = protocol.suffix();
        let addresses: BTreeSet<&IpAddr> = members.iter().map(|(address, _)| address).collect();
        let several = addresses.len() >= NEIGHBOURS;
        for (address, tally) in &members {
            let (text, wide) = match several {
                true => (neighbourhood([a, b, c], port, suffix), Some("several neighbours")),
                false => (Whom::Address(*address).with_port(port, suffix), None),
            };
            add(text, accesses, tally, wide);
        }
    }
    let targets = targets.into_iter();
    let targets = targets.map(|((text, accesses), (tally, wide))| {
        let by = alone(&text, &tally, strictness);
        Target { text, accesses, tally, wide, by }
    });
    (targets.collect(), left)
}

/// The program that alone reaches something elsewhere, in every run that does: a tool with a service of its own. Where
/// programs are not the system's, the next run may have it elsewhere.
pub(super) fn alone(target: &str, tally: &Tally, strictness: Strictness) -> Option<String> {
    let runs = match strictness {
        Strictness::Exact => 1,
        Strictness::Balanced => 2,
        Strictness::Loose => return None,
    };
    let elsewhere = !target.starts_with("own") && !target.starts_with("unix:");
    let reaches = reaches_out(tally.accesses);
    let [program] = tally.programs.iter().collect::<Vec<_>>()[..] else { return None };
    let of_the_system = SYSTEM.iter().any(|place| program.starts_with(place.as_bytes()));
    (elsewhere && reaches && of_the_system && tally.runs.len() >= runs).then(|| escape(program))
}

/// Whether nothing was asked that listeners ask.
pub(super) fn reaches_out(accesses: AccessSet) -> bool {
    accesses.intersection([Access::Bind, Access::Listen].into_iter().collect()).is_empty()
}

/// As a target begins with it.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
