//! The examples of a policy, put to the oracle.

use crate::digest::Digest;
use crate::ends::End;
use crate::error::{Error, Errors, Problem};
use crate::evaluate::{self, Act, Verdict};
use crate::model::{Attempt, Example, Policy};
use crate::subject::Subject;

/// The digest of a file that no rule names; nobody knows a file that has it.
const UNNAMED: Digest = Digest([0; 32]);

impl Policy {
    /// Checks every example.
    ///
    /// # Errors
    ///
    /// Those of which the policy says something else, with their places.
    pub fn check_examples(&self) -> Result<(), Errors> {
        let failures: Vec<Error> = self.examples.iter().filter_map(|example| self.failure(example)).collect();
        if failures.is_empty() { Ok(()) } else { Err(Errors::new(&self.source_name, &self.source, failures)) }
    }

    /// How many examples there are.
    pub fn example_count(&self) -> usize {
        self.examples.len()
    }

    fn failure(&self, example: &Example) -> Option<Error> {
        let names: Vec<&str> = match &example.attempt {
            Attempt::Network { host, .. } => host.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let act = match &example.attempt {
            Attempt::Open { path, accesses } => Act::File { accesses: *accesses, path },
            Attempt::Run { path, sha256 } => {
                Act::Exec { path, sha256: Some(sha256.as_ref().unwrap_or(&UNNAMED)) }
            }
            Attempt::Network { access, address, port, protocol, owner, .. } => {
                let end = End::Address {
                    address: *address,
                    port: *port,
                    protocol: *protocol,
                    names: &names,
                    owner: *owner,
                };
                Act::Network { accesses: (*access).into(), end }
            }
            Attempt::Unix { access, socket } => {
                let end = socket.strip_prefix(b"@").map_or(End::Path(socket), End::Abstract);
                Act::Network { accesses: (*access).into(), end }
            }
        };
        let unknown = Subject::UNKNOWN;
        let ancestors: Option<Vec<&[u8]>> =
            example.under.as_ref().map(|under| under.iter().map(Vec::as_slice).collect());
        // Who says by whom, and not under whom, means a process that the run started itself.
        let known: &[&[u8]] = if example.by.is_some() { &[] } else { unknown.ancestors };
        let subject = Subject {
            exe: example.by.as_deref().unwrap_or(unknown.exe),
            ancestors: ancestors.as_deref().unwrap_or(known),
        };
        let Verdict { decision, rule, audited, .. } = evaluate::judge(self, &subject, &act);
        // An example says what the rule means, be it on trial.
        let (decision, rule) = audited.map_or((decision, rule), |audited| (audited.decision, audited.rule));
        let own = rule.as_str().strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/'));
        let named = example.rule.as_deref().is_none_or(|name| name == rule.as_str() || Some(name) == own);
        if decision == example.verdict && named {
            return None;
        }
        let by = example.rule.as_ref().map(|name| format!(" by `{name}`")).unwrap_or_default();
        let problem = Problem::ExampleFails {
            decision: decision.name(),
            rule: rule.to_string(),
            wanted: format!("{}{by}", example.verdict),
        };
        Some(Error { place: example.place, problem })
    }
}
