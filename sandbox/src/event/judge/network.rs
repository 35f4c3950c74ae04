//! Verdicts on the ends of network accesses.

use std::net::{IpAddr, SocketAddr};

use policy::{Access, AccessSet, Act, Decision, End, Mode, Owner, Policies, Policy, Protocol};
use sandbox_ebpf::abi::{policy::net_access, resolver::PORT};

use super::{Court, Event, EventType, Judge, Key, Value, bytes, law::Said, name};
use crate::event::{
    Action,
    decode::{Facts, Unix, address::ROUTE},
};

/// Why a question for a name goes through that no rule on addresses allows: the record's words.
pub const QUESTION: &str = "a question for a name, which the runner answers";

/// Who knows names of addresses.
pub trait Names: std::fmt::Debug + Send {
    /// The names by which the run knew the address at that time (CLOCK_MONOTONIC, nanoseconds), the latest first.
    fn at(&self, address: IpAddr, mono_ns: u64) -> Vec<String>;

    /// Whether it is a resolver of the machine's.
    fn is_resolver(&self, address: IpAddr) -> bool;
}

/// Why connecting to the relay goes through that no rule on addresses allows: the record's words.
pub const RELAYED: &str = "to the runner's relay, which judges where it leads";

/// Why nothing leads to what a policy allows: the record's words.
pub const ONLY_RELAYED: &str = "in the run's network namespace only the relay leads there";

/// What a run's network namespace is made of.
#[derive(Clone, Debug)]
pub struct Apart {
    /// Where the relay is found.
    pub relay: SocketAddr,
    /// The resolvers for whom the runner answers inside.
    pub resolvers: Vec<IpAddr>,
}

impl Apart {
    /// What else an end is there: all of loopback is the run's own, but for the runner's listeners.
    pub(super) fn note(&self, event: &mut Event, facts: &mut Facts) {
        let outgoing = facts.net_access & (net_access::CONNECT | net_access::SEND) != 0;
        let (true, Some((address, port))) = (outgoing, facts.end) else { return };
        let address = address.to_canonical();
        if (address, port) == (self.relay.ip(), self.relay.port()) {
            facts.relay = true;
        } else if port == PORT && self.resolvers.iter().any(|resolver| resolver.to_canonical() == address) {
            facts.resolver = true;
        } else if address.is_loopback() || address.is_unspecified() {
            facts.own = true;
            event.set(Key::Own, Value::Flag(true));
        }
    }

    /// Whether an attempt, however it ended, came to nothing because no way leads out of the namespace: what is sent or
    /// connected to an address that is not inside. Of a resolver's address the loopback interface inside has a copy, where
    /// anything of the run may listen.
    pub(super) fn leads_nowhere(&self, facts: &Facts) -> bool {
        let outgoing = facts.net_access & (net_access::CONNECT | net_access::SEND) != 0
            && facts.net_access & (net_access::BIND | net_access::LISTEN) == 0;
        let inside = |address: IpAddr| {
            let address = address.to_canonical();
            self.resolvers.iter().any(|resolver| resolver.to_canonical() == address)
        };
        outgoing && !facts.own && !facts.relay && facts.end.is_some_and(|(address, _)| !inside(address))
    }

    /// Whether an attempt came to nothing because no way leads out of the namespace.
    pub(super) fn kept(event: &Event, facts: &Facts) -> bool {
        let outgoing = facts.net_access & (net_access::CONNECT | net_access::SEND) != 0;
        let unreachable = -i64::from(libc::ENETUNREACH);
        outgoing
            && matches!(event.get(Key::Ret), Some(Value::Int(ret)) if *ret == unreachable)
            && facts.end.is_some()
    }
}

impl Judge {
    /// By which names the other end is known; an event tells the latest.
    pub(super) fn names_of(&self, event: &mut Event, facts: &Facts) -> Vec<String> {
        let outgoing = matches!(
            event.event_type,
            EventType::NetConnect | EventType::NetSend | EventType::NetClose | EventType::NetName
        );
        // The relay tells by which name something was asked for.
        let told = event.get(Key::Host).is_some();
        let (true, false, Some(names)) = (outgoing, told, &self.names) else { return Vec::new() };
        let Some(address) = address_of(event, facts) else { return Vec::new() };
        let names = names.at(address, event.mono_ns);
        if let Some(latest) = names.first() {
            event.set(Key::Host, Value::Bytes(latest.as_bytes().to_vec()));
        }
        names
    }
}

/// Whether something goes to a resolver of the machine's, for which the runner would stand in where these policies are
/// enforced.
pub(super) fn asks(names: Option<&dyn Names>, policies: &Policies, facts: &Facts) -> bool {
    let resolver = |(address, port): (IpAddr, u16)| {
        port == PORT && names.is_some_and(|names| names.is_resolver(address))
    };
    let outgoing = facts.net_access & (net_access::CONNECT | net_access::SEND) != 0;
    outgoing && facts.end.is_some_and(resolver) && policies.iter().any(Policy::names_hosts)
}

/// The address of the other end.
fn address_of(event: &Event, facts: &Facts) -> Option<IpAddr> {
    let of_event = || std::str::from_utf8(bytes(event, Key::DstIp)?).ok()?.parse().ok();
    facts.end.map(|(address, _)| address).or_else(of_event)
}

impl Court<'_> {
    /// Accesses to an end. Families that no rule can name follow the section's default, as in the hooks.
    pub(super) fn network(&self, event: &mut Event, facts: &Facts) -> Option<Said> {
        let accesses = AccessSet::from_net_bits(facts.net_access);
        if facts.resolver && event.action != Action::Blocked {
            event.set(Key::Reason, Value::Bytes(QUESTION.into()));
            return Some(Said::OWN);
        }
        if facts.relay {
            event.set(Key::Reason, Value::Bytes(RELAYED.into()));
            return Some(Said::OWN);
        }
        if event.event_type == EventType::NetSocket {
            return self.policies.iter().map(unnamed_family).reduce(Said::and);
        }
        if event.event_type == EventType::NetName && !facts.named {
            // What names nobody is open as the address is.
            return Some(Said::OWN);
        }
        if let Some((address, port)) = facts.end {
            let protocol = Protocol::from_abi(facts.proto);
            let owner = if facts.own { Owner::Run } else { Owner::Elsewhere };
            let named = bytes(event, Key::Sni).filter(|_| facts.named);
            let named = named.and_then(|name| std::str::from_utf8(name).ok());
            let names = named.as_ref().map_or(self.names, std::slice::from_ref);
            let end = End::Address { address, port, protocol, names, owner };
            return Some(self.ask(&Act::Network { accesses, end }));
        }
        if let Some(unix) = facts.unix {
            return self.unix(bytes(event, Key::Path)?, unix, accesses);
        }
        match bytes(event, Key::Family) {
            // Dissolving a connection.
            Some(b"unspec") => Some(Said::OWN),
            Some(b"netlink") if bytes(event, Key::Proto) == Some(ROUTE.as_bytes()) => Some(Said::OWN),
            // Too short to be an address, or none that the record has; and sockets without a name.
            Some(b"inet" | b"inet6" | b"unix") => None,
            _ => self.policies.iter().map(unnamed_family).reduce(Said::and),
        }
    }

    /// Accesses to a unix socket. What is connected or sent to may not be what a rule on files keeps from being read.
    fn unix(&self, path: &[u8], unix: Unix, accesses: AccessSet) -> Option<Said> {
        let end = match unix {
            Unix::Path => End::Path(path),
            Unix::Abstract => End::Abstract(path.strip_prefix(b"@").unwrap_or(path)),
        };
        let said = self.ask(&Act::Network { accesses, end });
        let reaches = accesses.contains(Access::Connect) || accesses.contains(Access::Send);
        if unix == Unix::Abstract || !reaches {
            return Some(said);
        }
        let file = self.ask(&Act::File { accesses: Access::Read.into(), path });
        let by_rule = file.decision != Decision::Allow || file.on_trial;
        let by_rule = by_rule && file.rule.as_ref().is_some_and(|rule| !rule.is_default());
        Some(if by_rule { said.and(file) } else { said })
    }

    /// Tells of what a network namespace kept in: by which rule, or that it was allowed and only the relay leads there.
    pub(super) fn judge_kept(&mut self, event: &mut Event, facts: &Facts) {
        let Some(said) = self.network(event, facts) else { return };
        event.set(Key::Layer, Value::Bytes(b"netns".to_vec()));
        if said.decision == Decision::Allow {
            // No policy denies it.
            return event.set(Key::Reason, Value::Bytes(ONLY_RELAYED.into()));
        }
        event.action = Action::Blocked;
        name(event, &said);
    }

    /// Judges what a hook let pass that knew neither names nor listeners of the run.
    pub(super) fn judge_again(&mut self, event: &mut Event, facts: &Facts) {
        let Some(said) = self.network(event, facts) else { return };
        event.action = match said.decision {
            Decision::Allow if !said.on_trial => Action::Allowed,
            _ => Action::WouldBlock,
        };
        name(event, &said);
    }
}

/// What a policy says about a family that no rule can name.
fn unnamed_family(policy: &Policy) -> Said {
    let section = policy.network();
    let rule = Some(section.default_name().clone());
    let decision = match policy.mode() {
        Mode::Enforce => section.default(),
        Mode::Audit => Decision::Allow,
    };
    let on_trial = decision != section.default();
    Said { decision, rule, because: None, on_trial }
}
