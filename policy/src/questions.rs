//! Whether a name may be asked of a resolver.
//!
//! A question carries text to whoever runs the name's zone, so what nobody may connect to is not asked either. A rule
//! that allows a host implies leave to ask its name; so does leave to reach the resolver itself, and a network that is
//! open.
//!
//! Who asks is not known here. A rule that allows some programs a name lets its name be asked, and one that denies it to
//! some does not keep others from it: what they do with the answer is judged when they do it.

use std::net::IpAddr;

use crate::access::{Access, AccessSet};
use crate::address::{Protocol, Target};
use crate::ends::{End, Owner, Source};
use crate::evaluate::{Act, judge};
use crate::model::{Decision, Mode, Policy, Rule, RuleName};
use crate::subject::Subject;

/// Longest name, without a dot at its end (RFC 1035, 3.1).
const MAX_NAME: usize = 253;

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// It is asked.
    Allowed {
        /// The rule of the first policy that gives leave; `None` where its default does, or nothing is law.
        rule: Option<&'a RuleName>,
    },
    /// It is not.
    Refused {
        /// The rule, or the default of a network that gives no leave.
        rule: &'a RuleName,
        /// The rule's own explanation.
        because: Option<&'a str>,
    },
    /// It is not, whatever policies say: the name is too long, or has bytes that no host's name has.
    Malformed,
}

/// Whether `name` may be asked of the resolver at `resolver`, where each of `policies` must give leave. Case and a dot
/// at the name's end have no meaning. What is on trial neither refuses nor gives leave.
pub fn ask<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    name: &str,
    resolver: (IpAddr, u16),
    protocol: Protocol,
) -> Asked<'a> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if !is_name(name) {
        return Asked::Malformed;
    }
    let law: Vec<&'a Policy> = policies.filter(|policy| policy.mode == Mode::Enforce).collect();
    let denying = law.iter().flat_map(|policy| rules(policy)).filter(|rule| denies(rule, name));
    if let Some(rule) = denying.min_by_key(|rule| &rule.name) {
        return Asked::Refused { rule: &rule.name, because: rule.because() };
    }
    let mut first = None;
    for policy in law {
        match leave(policy, name, resolver, protocol) {
            Some(rule) => _ = first.get_or_insert(rule),
            None => return Asked::Refused { rule: policy.network.default_name(), because: None },
        }
    }
    Asked::Allowed { rule: first.flatten() }
}

/// Whether hosts may be named so.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= MAX_NAME && name.bytes().all(fits)
}

/// The rules that are law.
fn rules(policy: &Policy) -> impl Iterator<Item = &Rule<Target>> {
    policy.network.rules.iter().filter(|rule| rule.mode == Mode::Enforce && !rule.is_void())
}

/// Whether nobody may connect to the host, at no port. Where an exception may hold for some address of it, somebody may.
fn denies(rule: &Rule<Target>, name: &str) -> bool {
    let whole = |target: &Target| target.names(name) && target.is_every_port();
    let spares = |except: &Target| match except.meaning.source() {
        Source::Name => except.names(name),
        Source::Address | Source::Own => true,
        Source::Socket => false,
    };
    // Where nobody can be asked, a rule that asks denies.
    rule.effect != Decision::Allow
        && rule.accesses.contains(Access::Connect)
        && rule.who.is_anyone()
        && rule.objects.iter().any(whole)
        && !rule.except.iter().any(spares)
}

/// Whether the rule allows to reach the host at some port.
fn allows(rule: &Rule<Target>, name: &str) -> bool {
    let reaching = rule.accesses.contains(Access::Connect) || rule.accesses.contains(Access::Send);
    let excepted =
        |target: &Target| rule.except.iter().any(|except| except.names(name) && except.is_wherever(target));
    rule.effect == Decision::Allow
        && reaching
        && rule.objects.iter().any(|target| target.names(name) && !excepted(target))
}

/// What of a policy gives leave to ask: a rule, or its default (`None` inside). `None` where nothing does.
fn leave<'a>(
    policy: &'a Policy,
    name: &str,
    (address, port): (IpAddr, u16),
    protocol: Protocol,
) -> Option<Option<&'a RuleName>> {
    let by_name = rules(policy).filter(|rule| allows(rule, name)).min_by_key(|rule| &rule.name);
    if let Some(rule) = by_name {
        return Some(Some(&rule.name));
    }
    if policy.network.default == Decision::Allow {
        return Some(None);
    }
    // Resolvers are connected to as well as sent to, also by UDP.
    let end = End::Address { address, port, protocol, names: &[], owner: Owner::Elsewhere };
    let verdicts = [Access::Send, Access::Connect].map(|access| {
        let accesses = AccessSet::from(access);
        judge(policy, &Subject::UNKNOWN, &Act::Network { accesses, end })
    });
    let allowed = verdicts.into_iter().find(|verdict| verdict.decision == Decision::Allow)?;
    Some(Some(allowed.rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variables;

    fn policy(name: &str, network: &str) -> Policy {
        let text = format!("version: 1\nname: {name}\nnetwork:\n{network}");
        Policy::parse("p.yaml", &text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    fn closed(rules: &str) -> Policy {
        policy("p", &format!("  default: deny\n  rules: [{rules}]\n"))
    }

    fn open(rules: &str) -> Policy {
        policy("p", &format!("  default: allow\n  rules: [{rules}]\n"))
    }

    /// What is said of a question to 127.0.0.53 by UDP, as one word.
    fn said(policies: &[&Policy], name: &str) -> String {
        match ask(policies.iter().copied(), name, ([127, 0, 0, 53].into(), 53), Protocol::Udp) {
            Asked::Allowed { rule: Some(rule) } => format!("yes: {rule}"),
            Asked::Allowed { rule: None } => "yes".to_owned(),
            Asked::Refused { rule, because: Some(because) } => format!("no: {rule} because {because}"),
            Asked::Refused { rule, because: None } => format!("no: {rule}"),
            Asked::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn names_of_hosts_only() {
        let open = open("");
        let label = "a".repeat(63);
        let long = [label.as_str(); 4].join(".");
        for name in [
            "example.com",
            "_dmarc.x-1.org.",
            "",
            ".",
            "localhost",
            &long[..253],
            &format!("{}.", &long[..253]),
        ] {
            assert_eq!(said(&[&open], name), "yes", "{name}");
        }
        for name in ["a\0.example.com", "a b", "é.com", "a/b", "a:1", "*.x", &long[..254]] {
            assert_eq!(said(&[&open], name), "malformed", "{name}");
            assert_eq!(said(&[], name), "malformed", "{name}");
        }
        assert_eq!(said(&[], "example.com"), "yes");
    }

    #[test]
    fn a_rule_that_allows_a_host_lets_its_name_be_asked() {
        let policy = closed(
            r#"{ name: b, allow: [connect], to: ["*.example.com:443/tcp", "x.org"], except: ["evil.example.com", "web.example.com:80"] },
               { name: a, allow: [send], to: ["x.org:53"], by: ["/bin/dig"] },
               { name: c, allow: [bind], to: ["y.org"] },
               { name: d, allow: [connect], to: ["z.org"], except: ["10.0.0.0/8"] }"#,
        );
        assert_eq!(said(&[&policy], "A.Example.com."), "yes: p/b");
        assert_eq!(said(&[&policy], "web.example.com"), "yes: p/b", "at other ports");
        assert_eq!(said(&[&policy], "x.org"), "yes: p/a", "the first by name, to whomever");
        assert_eq!(said(&[&policy], "z.org"), "yes: p/d");
        for name in ["example.com", "evil.example.com", "EVIL.example.com.", "y.org", "xx.org", ""] {
            assert_eq!(said(&[&policy], name), "no: p/network.default", "{name}");
        }
    }

    #[test]
    fn leave_to_reach_the_resolver_is_leave_to_ask_it() {
        let reached = closed(r#"{ name: dns, allow: [connect, send], to: ["127.0.0.53:53"] }"#);
        assert_eq!(said(&[&reached], "example.com"), "yes: p/dns");
        let connected = closed(r#"{ name: dns, allow: [connect], to: ["localhost:53/udp"] }"#);
        assert_eq!(said(&[&connected], "example.com"), "yes: p/dns");
        for rule in [
            r#"{ name: dns, allow: [send], to: ["127.0.0.53:54"] }"#,
            r#"{ name: dns, allow: [send], to: ["127.0.0.53:53/tcp"] }"#,
            r#"{ name: dns, allow: [send], to: ["127.0.0.53:53"], by: ["/bin/dig"] }"#,
            r#"{ name: dns, allow: [send], to: [any], except: ["localhost"] }"#,
        ] {
            assert_eq!(said(&[&closed(rule)], "example.com"), "no: p/network.default", "{rule}");
        }
    }

    #[test]
    fn what_nobody_may_connect_to_is_not_asked() {
        let rules = r#"{ name: b, deny: [connect], to: ["*.evil.example"], because: known bad },
                       { name: a, deny: [connect], to: ["x.evil.example"] },
                       { name: c, deny: [connect], to: ["plain.example:80", "tls.example/tcp"] },
                       { name: d, deny: [connect], to: ["inside.example"], except: ["10.0.0.0/8"] },
                       { name: e, deny: [connect], to: ["some.example"], unless_by: ["/bin/curl"] },
                       { name: f, deny: [send], to: ["sent.example"] },
                       { name: g, deny: [connect], to: ["*.zone.example"], except: ["good.zone.example", "unix:/x"] },
                       { name: h, ask: [connect], to: ["asked.example:0-65535"] }"#;
        for policy in
            [open(rules), closed(&format!("{rules}, {{ name: all, allow: [connect, send], to: [any] }}"))]
        {
            assert_eq!(said(&[&policy], "Y.evil.example."), "no: p/b because known bad");
            assert_eq!(said(&[&policy], "x.evil.example"), "no: p/a", "the first by name");
            assert_eq!(said(&[&policy], "bad.zone.example"), "no: p/g");
            assert_eq!(said(&[&policy], "asked.example"), "no: p/h");
            let spared = [
                "plain.example",
                "tls.example",
                "inside.example",
                "some.example",
                "sent.example",
                "good.zone.example",
            ];
            for name in spared.into_iter().chain(["evil.example"]) {
                assert!(said(&[&policy], name).starts_with("yes"), "{name}");
            }
        }
    }

    #[test]
    fn each_policy_gives_leave_and_any_may_refuse() {
        let one = policy(
            "one",
            "  default: deny\n  rules: [{ name: a, allow: [connect], to: [\"*.example.com\"] }]\n",
        );
        let two = policy(
            "two",
            "  default: deny\n  rules: [{ name: b, allow: [connect], to: [\"a.example.com\"] }]\n",
        );
        let bad = policy(
            "bad",
            "  default: allow\n  rules: [{ name: z, deny: [connect], to: [\"*.example.com\"] }]\n",
        );
        assert_eq!(said(&[&one, &two], "a.example.com"), "yes: one/a");
        assert_eq!(said(&[&open(""), &two], "a.example.com"), "yes", "the first policy's");
        assert_eq!(said(&[&one, &two], "b.example.com"), "no: two/network.default");
        assert_eq!(said(&[&one, &two, &bad], "a.example.com"), "no: bad/z");
        assert_eq!(said(&[&one, &two, &bad.clone().on_trial()], "a.example.com"), "yes: one/a");
        assert_eq!(said(&[&two.on_trial(), &one], "b.example.com"), "yes: one/a");
        let trial = open(r#"{ name: t, deny: [connect], to: ["a.example.com"], mode: audit }"#);
        assert_eq!(said(&[&trial], "a.example.com"), "yes");
        let files =
            Policy::parse("p.yaml", "version: 1\nname: p\nfiles: { default: deny }\n", &Variables::new());
        assert_eq!(said(&[&files.expect("a policy")], "a.example.com"), "yes", "it has no such section");
    }
}
