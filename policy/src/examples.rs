//! The examples of a policy, put to the oracle: those of the file itself, and those of other files.

use crate::digest::Digest;
use crate::document;
use crate::ends::End;
use crate::error::{Error, Errors, Problem, Report};
use crate::evaluate::{self, Act, Verdict};
use crate::model::{Attempt, Decision, Example, Policy, RuleName};
use crate::subject::Subject;
use crate::variables::Variables;

/// Examples that stand in a file of their own.
#[derive(Clone, Debug)]
pub struct Examples(Vec<Example>);

impl Examples {
    /// Reads a file that has the key `examples` and no other (or `version: 1` beside it). Paths may use the given
    /// variables and `${env.NAME}`; the `vars` of a policy are its own.
    ///
    /// # Errors
    ///
    /// All errors of the text at once; where it is not YAML, the first.
    pub fn parse(source_name: &str, bytes: &[u8], variables: &Variables) -> Result<Self, Errors> {
        let fail = |text: &str, errors| Errors::new(source_name, text, errors);
        let text = document::decode(bytes).map_err(|error| fail("", vec![error]))?;
        let node = document::read(text).map_err(|errors| fail(text, errors))?;
        let mut report = Report::default();
        let raw = crate::parse::examples(&node, &mut report);
        let examples = crate::validate::examples(raw, variables, &mut report);
        if report.is_clean() { Ok(Self(examples)) } else { Err(report.errors(source_name, text)) }
    }
}

/// What became of one example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The example on one line, variables replaced.
    pub text: String,
    /// Its line in its file.
    pub line: u32,
    /// The verdict that it wants.
    pub wanted: Decision,
    /// The rule that it wants, as it names it.
    pub wanted_rule: Option<String>,
    /// What the policy says.
    pub found: Decision,
    /// The rule behind it.
    pub rule: RuleName,
    /// The rule's own explanation.
    pub because: Option<String>,
    /// Whether it is what was wanted.
    pub passed: bool,
}

impl Policy {
    /// Checks every example.
    ///
    /// # Errors
    ///
    /// Those of which the policy says something else, with their places.
    pub fn check_examples(&self) -> Result<(), Errors> {
        let tried = self.examples.iter().map(|example| (example.place, self.outcome(example)));
        let failures: Vec<Error> = tried
            .filter(|(_, outcome)| !outcome.passed)
            .map(|(place, Outcome { found, rule, wanted, wanted_rule, .. })| {
                let by = wanted_rule.map(|name| format!(" by `{name}`")).unwrap_or_default();
                let (decision, rule, wanted) = (found.name(), rule.to_string(), format!("{wanted}{by}"));
                Error { place, problem: Problem::ExampleFails { decision, rule, wanted } }
            })
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(Errors::new(&self.source_name, &self.source, failures)) }
    }

    /// How many examples there are.
    pub fn example_count(&self) -> usize {
        self.examples.len()
    }

    /// Tries every example of the file, in its order.
    pub fn try_examples(&self) -> impl Iterator<Item = Outcome> {
        self.examples.iter().map(|example| self.outcome(example))
    }

    /// Tries examples of another file.
    pub fn try_others(&self, examples: &Examples) -> impl Iterator<Item = Outcome> {
        examples.0.iter().map(|example| self.outcome(example))
    }

    fn outcome(&self, example: &Example) -> Outcome {
        let names: Vec<&str> = match &example.attempt {
            Attempt::Network { host, .. } => host.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let act = match &example.attempt {
            Attempt::Open { path, accesses } => Act::File { accesses: *accesses, path },
            Attempt::Run { path, sha256 } => {
                Act::Exec { path, sha256: Some(sha256.as_ref().unwrap_or(&Digest::UNNAMED)) }
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
        let Verdict { decision, rule, because, audited } = evaluate::judge(self, &subject, &act);
        // An example says what the rule means, be it on trial.
        let (found, rule, because) = match audited {
            Some(audited) => (audited.decision, audited.rule, audited.because),
            None => (decision, rule, because),
        };
        let own = rule.as_str().strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/'));
        let named = example.rule.as_deref().is_none_or(|name| name == rule.as_str() || Some(name) == own);
        Outcome {
            text: crate::print::example_text(example),
            line: example.place.line,
            wanted: example.verdict,
            wanted_rule: example.rule.clone(),
            found,
            rule: rule.clone(),
            because: because.map(str::to_owned),
            passed: found == example.verdict && named,
        }
    }
}
