//! The other ends of the network, put together: names before addresses, prefixes for neighbours, no port where it is
//! another one each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::{Reach, Strictness, Tally};
use crate::access::{Access, AccessSet};
use crate::address::Protocol;
use crate::pattern::escape;

/// Fewest addresses of one /24 that stand for all of it.
const NEIGHBOURS: usize = 3;
/// Where the kernel takes ports from that nobody asked for (ip_local_port_range).
const EPHEMERAL: u16 = 32_768;

/// A target as rules write it, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub text: String,
    pub accesses: AccessSet,
    pub tally: Tally,
    /// Why it is as wide as it is, where it is wider than what was seen.
    pub wide: Option<&'static str>,
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

/// What neighbours have in common: the first bytes of their addresses, and what is asked of them.
type Near = ([u8; 3], u16, Protocol, AccessSet);

/// Puts them together; what no target can say comes back as it was.
pub(super) fn generalise(ends: BTreeMap<Reach, Tally>, strictness: Strictness) -> (Vec<Target>, Vec<Reach>) {
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
            Reach::Socket(path) => match path.strip_prefix(b"@") {
                Some(name) => add(format!("unix:@{}", escape(name)), accesses, &tally, None),
                None if path.starts_with(b"/") => {
                    add(format!("unix:{}", escape(path)), accesses, &tally, None)
                }
                None => left.push(end),
            },
            Reach::Question(host) => {
                // A name that nobody connected to: where programs that ask for one usually go.
                add(format!("{host}:443/tcp"), Access::Connect.into(), &tally, Some("asked for only"));
            }
            Reach::Address { address, port, protocol, host, own, listens } => {
                let whom = match host {
                    _ if *listens => Whom::Local(*address),
                    // Whatever name leads there: `localhost` would be everybody's servers.
                    _ if *own => Whom::Own,
                    Some(host) => Whom::Host(host.to_ascii_lowercase()),
                    None => Whom::Address(*address),
                };
                let seen = ports.entry((whom, *protocol, accesses)).or_default();
                seen.entry(*port).or_default().add(&tally);
            }
            Reach::Other => left.push(end),
        }
    }
    let mut near: BTreeMap<Near, Vec<(IpAddr, Tally)>> = BTreeMap::new();
    for ((whom, protocol, accesses), ports) in ports {
        let suffix = protocol.suffix();
        let mut changing = Tally::default();
        for (port, tally) in ports {
            // One that the kernel chose, or would have to be the same each time.
            let chosen =
                port >= EPHEMERAL && matches!(whom, Whom::Own | Whom::Local(_)) && tally.runs.len() < 2;
            if chosen && strictness != Strictness::Exact {
                changing.add(&tally);
                continue;
            }
            match &whom {
                Whom::Host(host) => add(format!("{host}:{port}{suffix}"), accesses, &tally, None),
                Whom::Own => add(format!("own:{port}{suffix}"), accesses, &tally, None),
                Whom::Local(address) => {
                    add(format!("{}:{port}{suffix}", bracketed(*address)), accesses, &tally, None)
                }
                Whom::Address(IpAddr::V4(address)) if strictness != Strictness::Exact => {
                    let [a, b, c, _] = address.octets();
                    let neighbours = near.entry(([a, b, c], port, protocol, accesses)).or_default();
                    neighbours.push((IpAddr::V4(*address), tally));
                }
                Whom::Address(address) => {
                    add(format!("{}:{port}{suffix}", bracketed(*address)), accesses, &tally, None);
                }
            }
        }
        if changing.count > 0 {
            let text = match whom {
                Whom::Own => "own".to_owned(),
                Whom::Local(address) if address.is_loopback() => "localhost".to_owned(),
                Whom::Local(address) => bracketed(address),
                Whom::Host(host) => host,
                Whom::Address(address) => bracketed(address),
            };
            add(format!("{text}{suffix}"), accesses, &changing, Some("another port in each run"));
        }
    }
    for (([a, b, c], port, protocol, accesses), members) in near {
        let suffix = protocol.suffix();
        let addresses: BTreeSet<&IpAddr> = members.iter().map(|(address, _)| address).collect();
        let several = addresses.len() >= NEIGHBOURS;
        for (address, tally) in &members {
            let (text, wide) = match several {
                true => (format!("{}/24", Ipv4Addr::new(a, b, c, 0)), Some("several neighbours")),
                false => (bracketed(*address), None),
            };
            add(format!("{text}:{port}{suffix}"), accesses, tally, wide);
        }
    }
    let targets = targets.into_iter();
    let targets = targets.map(|((text, accesses), (tally, wide))| Target { text, accesses, tally, wide });
    (targets.collect(), left)
}

/// As a target begins with it.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
