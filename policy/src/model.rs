//! A policy as it is meant: sections and rules, variables replaced, everything checked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::{Protocol, Target};
use crate::digest::Digest;
use crate::ends::Owner;
use crate::error::{Errors, Note, Place};
use crate::extend::NoFiles;
use crate::lint::Origin;
use crate::pattern::Pattern;
use crate::settings::Settings;
use crate::subject::Who;
use crate::variables::Variables;

/// What becomes of an access; the later ones beat the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// It goes ahead.
    Allow,
    /// A person is asked; without an answer it fails.
    Ask,
    /// It fails.
    Deny,
}

impl Decision {
    /// The word of the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a rule, or a policy, is law or on trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Its verdicts hold.
    #[default]
    Enforce,
    /// Its verdicts are recorded as what would be blocked, and nothing is.
    Audit,
}

impl Mode {
    /// The word of the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// The name of a rule as records show it: `policy/rule`, or `policy/files.default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName(Arc<str>);

impl RuleName {
    /// A name that has a slash is one already: an inherited rule keeps its own.
    pub(crate) fn new(policy: &str, rule: &str) -> Self {
        if rule.contains('/') {
            return Self(rule.into());
        }
        Self(format!("{policy}/{rule}").into())
    }

    /// The name, `policy/rule`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a section's default, whose name no rule may have.
    pub fn is_default(&self) -> bool {
        let short = self.0.rsplit('/').next().unwrap_or_default();
        short.strip_suffix(".default").is_some_and(|section| {
            section == "kernel" || SectionKind::ALL.iter().any(|kind| kind.name() == section)
        })
    }

    /// Whether a verdict tells this one where both decide: rules before defaults, and the first by name.
    pub fn precedes(&self, other: &RuleName) -> bool {
        (self.is_default(), self) < (other.is_default(), other)
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rule about objects of type `O` ([`Pattern`] or [`Target`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<O> {
    pub(crate) short_name: String,
    pub(crate) name: RuleName,
    pub(crate) effect: Decision,
    pub(crate) accesses: AccessSet,
    pub(crate) objects: Vec<O>,
    /// Those of the objects that stand for what is there when a run starts, until they are looked up.
    pub(crate) existing: Vec<O>,
    pub(crate) except: Vec<O>,
    pub(crate) sha256: Vec<Digest>,
    pub(crate) who: Who,
    pub(crate) mode: Mode,
    pub(crate) timeout: Option<Duration>,
    pub(crate) because: Option<String>,
}

impl<O> Rule<O> {
    /// `policy/rule`.
    pub fn name(&self) -> &RuleName {
        &self.name
    }

    /// Whether it allows, asks or denies.
    pub fn effect(&self) -> Decision {
        self.effect
    }

    /// Which accesses it is about.
    pub fn accesses(&self) -> AccessSet {
        self.accesses
    }

    /// What it is about.
    pub fn objects(&self) -> &[O] {
        &self.objects
    }

    /// Those of its objects that stand for whatever they match, at any time.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = &O>
    where
        O: PartialEq,
    {
        self.objects.iter().filter(|object| !self.existing.contains(object))
    }

    /// Those of its objects that stand for what is there when a run starts, and were not looked up yet.
    pub fn existing(&self) -> &[O] {
        &self.existing
    }

    /// What it leaves out.
    pub fn except(&self) -> &[O] {
        &self.except
    }

    /// The contents that it is about, in rules of `exec`; such a rule has no other objects.
    pub fn sha256(&self) -> &[Digest] {
        &self.sha256
    }

    /// Whom it is about.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Whether it is law or on trial.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How long an `ask` waits for an answer; `None` where the rule does not say.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// True for a rule that never matches, because every variable that it needs has no value.
    pub(crate) fn is_void(&self) -> bool {
        (self.objects.is_empty() && self.sha256.is_empty()) || self.who.is_nobody()
    }

    /// The reason that its author gives.
    pub fn because(&self) -> Option<&str> {
        self.because.as_deref()
    }
}

/// A section: its default, and its rules by name.
#[derive(Clone, Debug)]
pub struct Section<O> {
    pub(crate) default: Decision,
    pub(crate) default_name: RuleName,
    pub(crate) rules: Vec<Rule<O>>,
}

impl<O> Section<O> {
    /// A section that the file leaves out: it judges nothing, so everything is allowed.
    pub(crate) fn absent(policy: &str, kind: SectionKind) -> Self {
        Self { default: Decision::Allow, default_name: default_name(policy, kind), rules: Vec::new() }
    }

    /// What holds where no rule matches.
    pub fn default(&self) -> Decision {
        self.default
    }

    /// `policy/files.default`.
    pub fn default_name(&self) -> &RuleName {
        &self.default_name
    }

    /// The rules, ascending by name.
    pub fn rules(&self) -> &[Rule<O>] {
        &self.rules
    }

    /// The accesses of some allow rule.
    pub(crate) fn allowed(&self) -> AccessSet {
        let allowing = self.rules.iter().filter(|rule| rule.effect == Decision::Allow);
        allowing.fold(AccessSet::EMPTY, |set, rule| set.union(rule.accesses))
    }
}

/// `policy/files.default`.
pub(crate) fn default_name(policy: &str, kind: SectionKind) -> RuleName {
    RuleName::new(policy, &format!("{}.default", kind.name()))
}

/// What an example tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// `open`, with its accesses.
    Open {
        /// The path.
        path: Vec<u8>,
        /// The file accesses.
        accesses: AccessSet,
    },
    /// `run`.
    Run {
        /// The executable.
        path: Vec<u8>,
        /// What it holds; none that a rule names where the example does not say.
        sha256: Option<Digest>,
    },
    /// `connect`, `send`, `bind` or `listen`.
    Network {
        /// Which of them.
        access: Access,
        /// The address.
        address: std::net::IpAddr,
        /// The port.
        port: u16,
        /// The protocol; TCP where the example says none.
        protocol: Protocol,
        /// The name by which the process knows it.
        host: Option<String>,
        /// Whose socket it is.
        owner: Owner,
    },
    /// The same, to a unix socket.
    Unix {
        /// Which access.
        access: Access,
        /// Its path; after a `@`, its abstract name.
        socket: Vec<u8>,
    },
}

/// An example of the policy: what it should say about one attempt.
#[derive(Clone, Debug)]
pub struct Example {
    pub(crate) place: Place,
    pub(crate) attempt: Attempt,
    pub(crate) by: Option<Vec<u8>>,
    pub(crate) under: Option<Vec<Vec<u8>>>,
    pub(crate) verdict: Decision,
    pub(crate) rule: Option<String>,
}

/// A policy, ready to be evaluated and compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) source_name: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) mode: Mode,
    /// The sections that the file has; the others judge nothing.
    pub(crate) present: Vec<SectionKind>,
    pub(crate) files: Section<Pattern>,
    pub(crate) exec: Section<Pattern>,
    pub(crate) network: Section<Target>,
    pub(crate) settings: Settings,
    pub(crate) examples: Vec<Example>,
    pub(crate) notes: Vec<Note>,
    /// Where the rules that the file itself writes or amends stand.
    pub(crate) origins: BTreeMap<RuleName, Origin>,
}

impl Policy {
    /// Reads a policy that extends shipped policies at most. `source_name` is what errors call the file.
    ///
    /// # Errors
    ///
    /// All errors of the text at once; where it is not YAML, the first.
    pub fn parse(source_name: &str, text: &str, variables: &Variables) -> Result<Self, Errors> {
        Self::parse_with(source_name, text.as_bytes(), variables, &NoFiles)
    }

    /// The same from a file's bytes, which need not be UTF-8 (and are refused then).
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn parse_bytes(source_name: &str, bytes: &[u8], variables: &Variables) -> Result<Self, Errors> {
        Self::parse_with(source_name, bytes, variables, &NoFiles)
    }

    /// The section `syscalls`, as what is held names it.
    pub fn syscalls_section(&self) -> RuleName {
        RuleName::new(&self.name, "syscalls")
    }

    /// The section `tmp`, as what is held names it.
    pub fn tmp_section(&self) -> RuleName {
        RuleName::new(&self.name, "tmp")
    }

    /// `policy/kernel.default`: what denies that which the section `kernel` does not allow.
    pub fn kernel_default(&self) -> RuleName {
        RuleName::new(&self.name, "kernel.default")
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its author says it is for.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Whether it is law or on trial.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The policy on trial: nothing of it is law, and verdicts say what would be denied.
    #[must_use]
    pub fn on_trial(mut self) -> Self {
        self.mode = Mode::Audit;
        self
    }

    /// The rules about files. A section that the file leaves out allows everything.
    pub fn files(&self) -> &Section<Pattern> {
        &self.files
    }

    /// The rules about executables.
    pub fn exec(&self) -> &Section<Pattern> {
        &self.exec
    }

    /// The rules about addresses.
    pub fn network(&self) -> &Section<Target> {
        &self.network
    }

    /// Whether some rule is about a host name, or makes an exception of one.
    pub fn names_hosts(&self) -> bool {
        let targets = |rule: &Rule<Target>| rule.objects.iter().chain(&rule.except).any(Target::is_host);
        self.network.rules.iter().any(targets)
    }

    /// What the sections say that are no rules.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is valid, but may not be what was meant; each fits on a line.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}
