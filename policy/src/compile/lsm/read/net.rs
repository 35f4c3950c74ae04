//! The network's tables: what all sources that know of an end say, policy by policy.

use std::net::IpAddr;

use sandbox_ebpf::abi::policy::{
    AddressNode, Automaton, Entry, MAX_PARTS, MAX_SETS, PortRange, Sets, net_access,
};

use super::{Asked, Broken, Tables, allow, deny};
use crate::access::AccessSet;
use crate::address::{self, Protocol};
use crate::compile::lsm::tables::AddressEntry;
use crate::ends::ABSTRACT;

/// Steps of the search among port ranges.
const SEARCH_STEPS: u32 = 13;

/// The other end of a network access, as the kernel side knows it; for bind and listen, the socket's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetEnd<'a> {
    /// An address.
    Address {
        /// The address; IPv4-mapped is IPv4.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// What [`Tables::host_node`] says of its live names.
        nodes: &'a [u32],
        /// Whether one of the run's listeners answers there.
        own: bool,
    },
    /// A socket with a path, resolved and absolute.
    Path(&'a [u8]),
    /// An abstract socket, without its leading NUL.
    Abstract(&'a [u8]),
    /// A family that no rule names.
    Other,
}

impl NetEnd<'_> {
    /// An address that has no known name, and where nothing of the run listens.
    pub fn address(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        NetEnd::Address { address, port, protocol, nodes: &[], own: false }
    }
}

impl Tables {
    /// The network accesses among `accesses` that are denied to a process of which `sets` is known.
    ///
    /// # Errors
    ///
    /// The tables are not whole.
    pub fn denied_to(&self, sets: &Sets, accesses: AccessSet, end: &NetEnd<'_>) -> Result<AccessSet, Broken> {
        let denied = match *end {
            NetEnd::Address { address, port, protocol, nodes, own } => {
                let reaching = net_access::CONNECT | net_access::SEND;
                let at = (protocol.abi(), port);
                let ports = |node| self.block_at(node, at);
                let listed = self.block_at(self.header.own, at)?;
                let mut blocks = vec![ports(self.node_of(address::reached(address)))?];
                blocks.extend(own.then_some(listed));
                for node in nodes.iter().filter(|node| **node != 0) {
                    blocks.push(ports(AddressNode::from_cell(self.cell(*node)?))?);
                }
                let reached = self.hear(sets, &blocks)?;
                // What is bound is the run's, and has no names; the kernel chooses a port for 0.
                let held = [ports(self.node_of(address::unmapped(address)))?, listed];
                let held = self.hear(sets, &held)?;
                let unjudged = if port == 0 { net_access::BIND } else { 0 };
                (reached & reaching) | (held & !reaching & !unjudged)
            }
            NetEnd::Path(path) => self.hear(sets, &[self.socket(&self.header.unix_path, path)?])?,
            NetEnd::Abstract(name) => {
                let name = [ABSTRACT.as_bytes(), name].concat();
                self.hear(sets, &[self.socket(&self.header.unix_abstract, &name)?])?
            }
            NetEnd::Other => self.hear(sets, &[])?,
        };
        Ok(AccessSet::from_net_bits(accesses.net_bits() & denied))
    }

    /// The number of the cell that says which ports rules are about by this name; 0 where no rule is. Case and a dot
    /// at its end have no meaning.
    ///
    /// # Errors
    ///
    /// The tables are not whole.
    pub fn host_node(&self, name: &str) -> Result<u32, Broken> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let reversed: Vec<u8> = name.bytes().rev().map(|byte| byte.to_ascii_lowercase()).collect();
        let host = &self.header.host;
        self.block_of(host, self.walk(host, &reversed)?)
    }

    /// The block of a socket's name; 0 where it says nothing.
    fn socket(&self, automaton: &Automaton, name: &[u8]) -> Result<u32, Broken> {
        self.block_of(automaton, self.walk(automaton, name)?)
    }

    /// Which ports rules are about at an address, which is normalised already.
    fn node_of(&self, address: IpAddr) -> AddressNode {
        let key = address_bytes(address);
        let around = self.addresses.iter().filter(|entry| prefix_holds(entry, self.header.id, key));
        around.max_by_key(|entry| entry.prefix_len).map_or(AddressNode::default(), |entry| entry.node)
    }

    /// The block at a protocol and port; 0 where no range has it.
    fn block_at(&self, node: AddressNode, wanted: (u8, u16)) -> Result<u32, Broken> {
        let AddressNode { first, count } = node;
        let (mut first, mut end) = (u64::from(first), u64::from(first) + u64::from(count));
        for _ in 0..SEARCH_STEPS {
            if first >= end {
                break;
            }
            let middle = first + (end - first) / 2;
            let range = PortRange::from_cell(self.cell(u32::try_from(middle).map_err(|_| Broken)?)?);
            if (range.proto, range.high) < wanted {
                first = middle + 1;
            } else if (range.proto, range.low) > wanted {
                end = middle;
            } else {
                return Ok(range.block);
            }
        }
        Ok(0)
    }

    /// The network accesses that are denied where these blocks speak, [`net_access`] bits.
    fn hear(&self, sets: &Sets, blocks: &[u32]) -> Result<u8, Broken> {
        let blocks = || blocks.iter().filter(|block| **block != 0);
        let mut object = 0;
        if self.header.net_marks != 0 {
            for block in blocks() {
                for entry in self.block(*block)?.1 {
                    let entry = entry?;
                    if entry.by == Entry::MARK {
                        object |= mark(entry)?;
                    }
                }
            }
        }
        let asked = Asked { sets, object };
        // What is allowed and denied, policy by policy.
        let mut said = [(0, 0); MAX_PARTS];
        for block in blocks() {
            let (head, entries) = self.block(*block)?;
            let mut add = |part: usize, (more_allow, more_deny): (u16, u16)| -> Result<(), Broken> {
                let (allow, deny) = said.get_mut(part).ok_or(Broken)?;
                (*allow, *deny) = (*allow | more_allow, *deny | more_deny);
                Ok(())
            };
            let mut part = 0;
            add(part, (allow(head), deny(head)))?;
            for entry in entries {
                let entry = entry?;
                match entry.by {
                    Entry::END => part += 1,
                    Entry::MARK => {}
                    _ => {
                        let (surely, perhaps) = asked.holds(&entry);
                        let allow = if surely { entry.allow } else { 0 };
                        add(part, (allow, if perhaps { entry.deny } else { 0 }))?;
                    }
                }
            }
        }
        let defaults = self.header.net_defaults.get(..self.header.parts as usize).ok_or(Broken)?;
        let denied = said.iter().zip(defaults).map(|((allow, deny), default)| deny | (default & !allow));
        Ok(denied.fold(0, |all, denied| all | denied).to_le_bytes()[0])
    }
}

/// The set that a mark names.
fn mark(entry: Entry) -> Result<u64, Broken> {
    match usize::from(entry.allow) {
        set if set < MAX_SETS => Ok(1 << set),
        _ => Err(Broken),
    }
}

/// The address as the kernel side stores it: IPv4 as IPv4-mapped.
fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn prefix_holds(entry: &AddressEntry, policy: u32, address: [u8; 16]) -> bool {
    let different = u128::from_be_bytes(entry.key.address) ^ u128::from_be_bytes(address);
    entry.key.policy_be == policy.to_be() && different.leading_zeros() + 32 >= entry.prefix_len
}
