//! Examples: what is tried, by whom.

use super::Reading;
use crate::access::{Access, SectionKind};
use crate::address::Target;
use crate::error::Problem;
use crate::model::{Attempt, Example};
use crate::parse::{Placed, RawExample};
use crate::pattern::{Parsed, Pattern};

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
            key => self.example_address(key, &object)?,
        };
        if let (Some(first), true) = (raw.access.iter().flatten().next(), key != "open") {
            let problem = Problem::WrongKind {
                what: format!("a `{key}` example"),
                wanted: "one without `access`",
                found: "one with it",
            };
            self.report.error(first.place, problem);
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
            Ok(Parsed::Pattern(pattern)) => pattern,
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

    /// `192.0.2.1:443`, `[::1]:80/udp`.
    fn example_address(&mut self, key: &str, text: &Placed<String>) -> Option<Attempt> {
        let literal = self.literal(text)??;
        let access = Access::ALL.into_iter().find(|access| access.name() == key)?;
        let target = match Target::parse(&String::from_utf8_lossy(&literal)) {
            Ok(target) => target,
            Err(fault) => {
                self.report.error(text.place, Problem::Target { target: text.value.clone(), fault });
                return None;
            }
        };
        let attempt = target.one().map(|(address, port, protocol)| Attempt::Network {
            access,
            address,
            port,
            protocol,
        });
        if attempt.is_none() {
            let problem = Problem::WrongKind {
                what: format!("`{key}` of an example"),
                wanted: "one address and port, as in `192.0.2.1:443`",
                found: "more than one, or without a port",
            };
            self.report.error(text.place, problem);
        }
        attempt
    }
}
