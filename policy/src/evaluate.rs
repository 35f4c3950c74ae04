//! What a policy says about one attempt, rule by rule: the oracle that compiled plans are compared with,
//! and the source of the rule's name in records.
//!
//! Deny beats allow; where no rule matches, the section's default holds; a section that the file leaves out
//! allows everything. Of several accesses tried at once all must be allowed.
//!
//! Reads no file system: paths are resolved, absolute and without a slash at their end. What does not begin
//! with a slash (a pipe, a socket, a path outside the mount namespace) matches no pattern.

use std::net::IpAddr;

use crate::address::{self, Protocol, Target};
use crate::model::{Access, AccessSet, Decision, Policy, Rule, RuleName, Section, SectionKind};
use crate::pattern::Pattern;

/// What the policy says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Allowed or denied.
    pub decision: Decision,
    /// The first rule by name among those that decide; a section's default where no rule does.
    pub rule: &'a RuleName,
    /// The rule's own explanation.
    pub because: Option<&'a str>,
}

/// Judges file accesses at `path`. Accesses of other sections in the set are not judged; where none is left
/// (an open with O_PATH, for example) nothing is denied.
pub fn file<'a>(policy: &'a Policy, accesses: AccessSet, path: &[u8]) -> Verdict<'a> {
    let accesses = accesses.intersection(SectionKind::Files.accesses());
    judge(&policy.files, accesses, |pattern: &Pattern, _| pattern.matches(path))
}

/// Judges the execution of `path`.
pub fn exec<'a>(policy: &'a Policy, path: &[u8]) -> Verdict<'a> {
    judge(&policy.exec, Access::Run.into(), |pattern: &Pattern, _| pattern.matches(path))
}

/// Judges network accesses to an address. IPv4-mapped addresses are IPv4; for connecting and sending the
/// unspecified address is this machine's loopback.
pub fn network<'a>(
    policy: &'a Policy,
    accesses: AccessSet,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Verdict<'a> {
    let accesses = accesses.intersection(SectionKind::Network.accesses());
    judge(&policy.network, accesses, |target: &Target, access| {
        let address = match access {
            Access::Connect | Access::Send => address::reached(address),
            _ => address::unmapped(address),
        };
        target.matches(address, port, protocol)
    })
}

/// Each access by itself, then all together.
fn judge<O>(section: &Section<O>, accesses: AccessSet, matches: impl Fn(&O, Access) -> bool) -> Verdict<'_> {
    let mut denying = None;
    let mut allowing = None;
    let mut by_default = false;
    for access in accesses.iter() {
        let hits = section.rules.iter().filter(|rule| {
            rule.accesses.contains(access)
                && rule.objects.iter().any(|object| matches(object, access))
                && !rule.except.iter().any(|object| matches(object, access))
        });
        let (mut deny, mut allow) = (None, None);
        for rule in hits {
            match rule.effect {
                Decision::Deny => deny = deny.or(Some(rule)),
                Decision::Allow => allow = allow.or(Some(rule)),
            }
            if deny.is_some() {
                break;
            }
        }
        denying = first(denying, deny);
        allowing = first(allowing, allow);
        by_default |= deny.is_none() && allow.is_none() && section.default == Decision::Deny;
    }
    match (denying, by_default, allowing) {
        (Some(rule), ..) => Verdict { decision: Decision::Deny, rule: &rule.name, because: rule.because() },
        (None, true, _) => Verdict { decision: Decision::Deny, rule: &section.default_name, because: None },
        (None, false, Some(rule)) => {
            Verdict { decision: Decision::Allow, rule: &rule.name, because: rule.because() }
        }
        (None, false, None) => {
            Verdict { decision: Decision::Allow, rule: &section.default_name, because: None }
        }
    }
}

/// The first by name.
fn first<'a, O>(a: Option<&'a Rule<O>>, b: Option<&'a Rule<O>>) -> Option<&'a Rule<O>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.name < a.name { b } else { a }),
        (a, b) => a.or(b),
    }
}
