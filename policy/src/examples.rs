//! The examples of a policy, put to the oracle.

use crate::error::{Error, Errors, Problem};
use crate::evaluate::{self, Verdict};
use crate::model::{Attempt, Example, Policy};

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
        let Verdict { decision, rule, .. } = match &example.attempt {
            Attempt::Open { path, accesses } => evaluate::file(self, *accesses, path),
            Attempt::Run { path } => evaluate::exec(self, path),
            Attempt::Network { access, address, port, protocol } => {
                evaluate::network(self, (*access).into(), *address, *port, *protocol)
            }
        };
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
