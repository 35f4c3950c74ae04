//! What the policies say of a connection that the relay is asked for: of the name, then of every address that it has.
//!
//! A name opens an address where a rule on it does, and a rule that denies the address is stronger than any name: what a
//! name leads to is judged again. What acts is not known to the relay, so a rule that is bound to programs opens
//! nothing here, and closes what it can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::{Access, Act, Decision, End, Owner, Policies, Protocol, Subject};

/// What a verdict is, by the policies in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it goes ahead.
    pub allowed: bool,
    /// Something on trial would deny it: that is what rule and reason are about.
    pub on_trial: bool,
    /// The rule, or the default.
    pub rule: String,
    /// The rule's own explanation.
    pub because: Option<String>,
}

/// An address that may be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What is dialled.
    pub address: IpAddr,
    /// By which rule.
    pub ruling: Ruling,
    /// Whether it would be open without a name.
    pub by_address: bool,
}

/// Judges a connection to an address that is known by `names`.
pub fn rule(policies: &Policies, address: IpAddr, port: u16, names: &[&str]) -> Ruling {
    let end = End::Address { address, port, protocol: Protocol::Tcp, names, owner: Owner::Elsewhere };
    let verdict = policies.judge(&Subject::UNKNOWN, &Act::Network { accesses: Access::Connect.into(), end });
    let allowed = verdict.decision == Decision::Allow;
    let (rule, because, on_trial) = match &verdict.audited {
        Some(audited) if allowed => (audited.rule, audited.because, true),
        _ => (verdict.rule, verdict.because, false),
    };
    Ruling { allowed, on_trial, rule: rule.to_string(), because: because.map(str::to_owned) }
}

/// Sorts addresses into those that may be dialled, in their order, and the ruling on the first one that may not.
pub fn ways(
    policies: &Policies,
    addresses: &[IpAddr],
    port: u16,
    names: &[&str],
) -> (Vec<Way>, Option<(IpAddr, Ruling)>) {
    let (mut ways, mut denied) = (Vec::new(), None);
    for address in addresses {
        let address = reached(*address);
        let ruling = rule(policies, address, port, names);
        if ruling.allowed {
            let by_address = names.is_empty() || rule(policies, address, port, &[]).allowed;
            ways.push(Way { address, ruling, by_address });
        } else if denied.is_none() {
            denied = Some((address, ruling));
        }
    }
    (ways, denied)
}

/// What connecting to an address reaches: the unspecified one is loopback.
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use policy::{Policy, Variables};

    use super::*;

    fn policies(rules: &str) -> Policies {
        let text = format!("version: 1\nname: p\nnetwork:\n  default: deny\n  rules: [{rules}]\n");
        Policy::parse("p.yaml", &text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}")).into()
    }

    fn dialled(policies: &Policies, addresses: &[&str], port: u16, names: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let (ways, denied) = ways(policies, &addresses, port, names);
        let ways = ways.iter().map(|way| format!("{} {}", way.address, way.by_address));
        ways.chain(denied.map(|(address, ruling)| format!("not {address}: {}", ruling.rule))).collect()
    }

    const RULES: &str = r#"{ name: web, allow: [connect], to: ["*.example.com:443"] },
        { name: net, allow: [connect], to: ["198.51.100.0/24:80"] },
        { name: inner, deny: [connect], to: ["169.254.0.0/16", "10.0.0.0/8"] },
        { name: local, allow: [connect], to: ["localhost:5432"] },
        { name: some, allow: [connect], to: ["by.test:443"], by: ["/usr/bin/curl"] }"#;

    #[test]
    fn an_address_is_judged_whatever_its_name() {
        let policies = policies(RULES);
        let name = ["a.example.com"].as_slice();
        assert_eq!(dialled(&policies, &["192.0.2.1"], 443, name), ["192.0.2.1 false"]);
        assert_eq!(dialled(&policies, &["192.0.2.1"], 80, name), ["not 192.0.2.1: p/network.default"]);
        assert_eq!(
            dialled(&policies, &["169.254.169.254", "192.0.2.1", "::ffff:10.1.1.1"], 443, name),
            ["192.0.2.1 false", "not 169.254.169.254: p/inner"]
        );
        assert_eq!(dialled(&policies, &["::ffff:10.1.1.1"], 443, name), ["not 10.1.1.1: p/inner"]);
        assert_eq!(dialled(&policies, &["198.51.100.7"], 80, &[]), ["198.51.100.7 true"]);
        assert_eq!(dialled(&policies, &["198.51.100.7"], 80, name), ["198.51.100.7 true"]);
        assert_eq!(dialled(&policies, &["0.0.0.0", "::1"], 5432, &[]), ["127.0.0.1 true", "::1 true"]);
        assert_eq!(dialled(&policies, &["127.0.0.1"], 5433, &[]), ["not 127.0.0.1: p/network.default"]);
        assert_eq!(
            dialled(&policies, &["192.0.2.1"], 443, &["by.test"]),
            ["not 192.0.2.1: p/network.default"]
        );
    }

    #[test]
    fn every_policy_must_allow_and_trials_only_tell() {
        let one = policies(r#"{ name: a, allow: [connect], to: ["*.example.com:443"] }"#);
        let other = r#"{ name: b, allow: [connect], to: ["b.example.com:443"] }"#;
        let text = format!("version: 1\nname: q\nnetwork:\n  default: deny\n  rules: [{other}]\n");
        let two = Policy::parse("q", &text, &Variables::new()).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let both = one.clone().and(two.clone());
        assert!(rule(&both, address, 443, &["b.example.com"]).allowed);
        let denied = rule(&both, address, 443, &["a.example.com"]);
        assert_eq!((denied.allowed, denied.rule.as_str()), (false, "q/network.default"));
        let trial = rule(&one.and(two.on_trial()), address, 443, &["a.example.com"]);
        assert_eq!((trial.allowed, trial.on_trial, trial.rule.as_str()), (true, true, "q/network.default"));
    }
}
