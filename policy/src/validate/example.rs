//! Examples: what is tried, by whom.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use super::{Object as _, Reading};
use crate::access::{Access, SectionKind};
use crate::address::{Protocol, Target};
use crate::ends::{Meaning, Owner};
use crate::error::{Problem, Report};
use crate::groups::Groups;
use crate::model::{Attempt, Example};
use crate::parse::{Placed, RawExample};
use crate::pattern::{Parsed, Pattern};
use crate::variables::{Scope, Variables};

/// Examples of a file of their own.
pub(crate) fn examples(raw: Vec<RawExample>, variables: &Variables, report: &mut Report) -> Vec<Example> {
    let (scope, _) = Scope::new(variables, &[]);
    let groups = Groups::new(Vec::new(), report);
    let (rule_lines, origins) = (HashMap::new(), BTreeMap::new());
    let mut reading = Reading { policy: "", scope: &scope, groups, whole: true, rule_lines, origins, report };
    raw.into_iter().filter_map(|example| reading.example(example)).collect()
}

impl Reading<'_> {
    pub(super) fn example(&mut self, raw: RawExample) -> Option<Example> {
        let (key, object) = raw.object;
        let attempt = match key {
            "open" => {
                let Some(words) = &raw.access else {
                    let problem = Problem::Missing {
                        context: "an `open` example".to_owned(),
                        key: "access",
                        instead: "say which, as in `access: read`",
                    };
                    self.report.error(raw.place, problem);
                    return None;
                };
                let accesses = self.accesses(words, SectionKind::Files);
                Attempt::Open { path: self.example_path(&object)?, accesses }
            }
            "run" => {
                let sha256 = raw.sha256.as_ref().and_then(|text| self.digest(text));
                Attempt::Run { path: self.example_path(&object)?, sha256 }
            }
            key => self.example_end(key, &object, raw.host.as_ref())?,
        };
        if let (Some(first), true) = (raw.access.iter().flatten().next(), key != "open") {
            let problem = Problem::WrongKind {
                what: format!("a `{key}` example"),
                wanted: "one without `access`",
                found: "one with it",
            };
            self.report.error(first.place, problem);
        }
        if let (Some(host), "open" | "run") = (&raw.host, key) {
            let instead = "only the end of a connection has a name; leave it out";
            self.report.error(host.place, Problem::Misplaced { key: "host", instead });
        }
        if let (Some(digest), true) = (&raw.sha256, key != "run") {
            let instead = "only an example of `run` has contents; leave it out";
            self.report.error(digest.place, Problem::Misplaced { key: "sha256", instead });
        }
        let by = match &raw.by {
            Some(text) => Some(self.example_path(text)?),
            None => None,
        };
        let under = match &raw.under {
            Some(texts) => {
                let paths: Option<Vec<_>> = texts.iter().map(|text| self.example_path(text)).collect();
                Some(paths?)
            }
            None => None,
        };
        Some(Example {
            place: raw.place,
            attempt,
            by,
            under,
            verdict: raw.verdict,
            rule: raw.rule.map(|rule| rule.value),
        })
    }

    /// One path: a pattern in which nothing is a wildcard.
    fn example_path(&mut self, text: &Placed<String>) -> Option<Vec<u8>> {
        let pattern = match Pattern::parse(&text.value, self.scope) {
            Ok(Parsed::Read(pattern)) => pattern,
            Ok(Parsed::Broken) => return None,
            Ok(Parsed::None) => {
                self.left_out(text, "example");
                return None;
            }
            Err(fault) => {
                self.report.error(text.place, Problem::Pattern { pattern: text.value.clone(), fault });
                return None;
            }
        };
        let path = pattern.literal();
        if path.is_none() {
            let problem = Problem::WrongKind {
                what: "the path of an example".to_owned(),
                wanted: "one path",
                found: "a pattern (`\\` takes a character literally)",
            };
            self.report.error(text.place, problem);
        }
        path
    }

    /// `192.0.2.1:443`, `[::1]:80/udp`, `own:8080`, `unix:/run/x`, `unix:@x`.
    fn example_end(
        &mut self,
        key: &str,
        text: &Placed<String>,
        host: Option<&Placed<String>>,
    ) -> Option<Attempt> {
        let access = Access::ALL.into_iter().find(|access| access.name() == key)?;
        let target = Target::read(text, "example", self)?;
        let one = (target.one(), target.ports);
        let host_name = host.map(|host| host.value.clone());
        let attempt = match (&target.meaning, one) {
            (Meaning::Path(pattern), _) => pattern.literal().map(|socket| Attempt::Unix { access, socket }),
            (Meaning::Abstract(pattern), _) => {
                pattern.literal().map(|name| Attempt::Unix { access, socket: name[1..].to_vec() })
            }
            (Meaning::Own, (_, Some((port, high)))) if port == high => Some(Attempt::Network {
                access,
                address: Ipv4Addr::LOCALHOST.into(),
                port,
                protocol: target.protocol.unwrap_or(Protocol::Tcp),
                host: host_name,
                owner: Owner::Run,
            }),
            (_, (Some((address, port, protocol)), _)) => {
                let owner = Owner::Elsewhere;
                Some(Attempt::Network { access, address, port, protocol, host: host_name, owner })
            }
            _ => None,
        };
        if let (Some(Attempt::Unix { .. }), Some(host)) = (&attempt, host) {
            let instead = "a unix socket has no host name; leave it out";
            self.report.error(host.place, Problem::Misplaced { key: "host", instead });
        }
        if attempt.is_none() {
            let problem = Problem::WrongKind {
                what: format!("`{key}` of an example"),
                wanted: "one address and port, as in `192.0.2.1:443` (a name goes to `host`)",
                found: "more than one, or without a port",
            };
            self.report.error(text.place, problem);
        }
        attempt
    }
}
