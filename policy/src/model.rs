//! A policy as it is meant: sections, rules and accesses, variables replaced, everything checked.

use std::fmt;
use std::sync::Arc;

use sandbox_ebpf::abi::policy::{access, net_access};

use crate::address::{Protocol, Target};
use crate::error::{Error, Errors, Note, Place};
use crate::pattern::Pattern;
use crate::variables::Variables;

/// The part of a policy that a rule or an access belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionKind {
    /// `files`.
    Files,
    /// `exec`.
    Exec,
    /// `network`.
    Network,
}

impl SectionKind {
    /// Every one, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Files, Self::Exec, Self::Network];

    /// The key of the section.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Exec => "exec",
            Self::Network => "network",
        }
    }

    /// Every access of the section.
    pub fn accesses(self) -> AccessSet {
        Access::ALL.into_iter().filter(|access| access.section() == self).collect()
    }
}

/// What a process may want to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Open for reading, list a directory.
    Read,
    /// Open for writing, truncate.
    Write,
    /// Make a new name.
    Create,
    /// Remove a name.
    Delete,
    /// Change mode, owner, times, extended attributes.
    Attributes,
    /// Map executable.
    Load,
    /// Execute.
    Run,
    /// connect(2).
    Connect,
    /// Send with an address.
    Send,
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
}

impl Access {
    /// Every one, in the order in which they are written.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Attributes,
        Self::Load,
        Self::Run,
        Self::Connect,
        Self::Send,
        Self::Bind,
        Self::Listen,
    ];

    /// The word of the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Attributes => "attributes",
            Self::Load => "load",
            Self::Run => "run",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Bind => "bind",
            Self::Listen => "listen",
        }
    }

    /// The section whose rules judge it.
    pub fn section(self) -> SectionKind {
        match self {
            Self::Read | Self::Write | Self::Create | Self::Delete | Self::Attributes | Self::Load => {
                SectionKind::Files
            }
            Self::Run => SectionKind::Exec,
            Self::Connect | Self::Send | Self::Bind | Self::Listen => SectionKind::Network,
        }
    }

    /// The bit of the set: those of the kernel side, the network's shifted behind them.
    fn bit(self) -> u16 {
        match self {
            Self::Read => access::READ,
            Self::Write => access::WRITE,
            Self::Create => access::CREATE,
            Self::Delete => access::DELETE,
            Self::Attributes => access::ATTRIBUTES,
            Self::Load => access::LOAD,
            Self::Run => access::RUN,
            Self::Connect => u16::from(net_access::CONNECT) << NET_SHIFT,
            Self::Send => u16::from(net_access::SEND) << NET_SHIFT,
            Self::Bind => u16::from(net_access::BIND) << NET_SHIFT,
            Self::Listen => u16::from(net_access::LISTEN) << NET_SHIFT,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const NET_SHIFT: u32 = 8;

/// Some accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessSet(u16);

impl AccessSet {
    /// None at all.
    pub const EMPTY: Self = Self(0);

    /// Those whose bits ([`sandbox_ebpf::abi::policy::access`]) are set; unknown bits are left out.
    pub fn from_path_bits(bits: u16) -> Self {
        let known = SectionKind::Files.accesses().0 | SectionKind::Exec.accesses().0;
        Self(bits & known)
    }

    /// Those whose bits ([`sandbox_ebpf::abi::policy::net_access`]) are set; unknown bits are left out.
    pub fn from_net_bits(bits: u8) -> Self {
        Self((u16::from(bits) << NET_SHIFT) & SectionKind::Network.accesses().0)
    }

    /// The file and exec accesses as bits of [`sandbox_ebpf::abi::policy::access`].
    pub fn path_bits(self) -> u16 {
        self.0 & ((1 << NET_SHIFT) - 1)
    }

    /// The network accesses as bits of [`sandbox_ebpf::abi::policy::net_access`].
    pub fn net_bits(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// True when `access` is among them.
    pub fn contains(self, access: Access) -> bool {
        self.0 & access.bit() != 0
    }

    /// Adds one.
    pub fn insert(&mut self, access: Access) {
        self.0 |= access.bit();
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True when there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of [`Access::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Access> {
        Access::ALL.into_iter().filter(move |access| self.contains(*access))
    }
}

impl FromIterator<Access> for AccessSet {
    fn from_iter<I: IntoIterator<Item = Access>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        iter.into_iter().for_each(|access| set.insert(access));
        set
    }
}

impl From<Access> for AccessSet {
    fn from(access: Access) -> Self {
        Self(access.bit())
    }
}

impl fmt::Display for AccessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, access) in self.iter().enumerate() {
            write!(f, "{}{access}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What becomes of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// It goes ahead.
    Allow,
    /// It fails.
    Deny,
}

impl Decision {
    /// The word of the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a rule as records show it: `policy/rule`, or `policy/files.default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName(Arc<str>);

impl RuleName {
    pub(crate) fn new(policy: &str, rule: &str) -> Self {
        Self(format!("{policy}/{rule}").into())
    }

    /// The name, `policy/rule`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rule about objects of type `O` ([`Pattern`] or [`Target`]).
#[derive(Clone, Debug)]
pub struct Rule<O> {
    pub(crate) short_name: String,
    pub(crate) name: RuleName,
    pub(crate) effect: Decision,
    pub(crate) accesses: AccessSet,
    pub(crate) objects: Vec<O>,
    pub(crate) except: Vec<O>,
    pub(crate) because: Option<String>,
}

impl<O> Rule<O> {
    /// `policy/rule`.
    pub fn name(&self) -> &RuleName {
        &self.name
    }

    /// Whether it allows or denies.
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

    /// What it leaves out.
    pub fn except(&self) -> &[O] {
        &self.except
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
    },
}

/// An example of the policy: what it should say about one attempt.
#[derive(Clone, Debug)]
pub struct Example {
    pub(crate) place: Place,
    pub(crate) attempt: Attempt,
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
    /// The sections that the file has; the others judge nothing.
    pub(crate) present: Vec<SectionKind>,
    pub(crate) files: Section<Pattern>,
    pub(crate) exec: Section<Pattern>,
    pub(crate) network: Section<Target>,
    pub(crate) examples: Vec<Example>,
    pub(crate) notes: Vec<Note>,
}

impl Policy {
    /// Reads a policy. `source_name` is what errors call the file.
    ///
    /// # Errors
    ///
    /// All errors of the text at once; where it is not YAML, the first.
    pub fn parse(source_name: &str, text: &str, variables: &Variables) -> Result<Self, Errors> {
        let fail = |errors: Vec<Error>| Errors::new(source_name, text, errors);
        let document = crate::document::read(text).map_err(fail)?;
        let mut report = crate::error::Report::default();
        let raw = crate::parse::policy(&document, &mut report);
        let policy = crate::validate::policy(raw, variables, source_name, text, &mut report);
        match policy {
            Some(mut policy) if report.errors.is_empty() => {
                policy.notes = report.notes;
                Ok(policy)
            }
            _ => Err(fail(report.errors)),
        }
    }

    /// The same from a file's bytes, which need not be UTF-8 (and are refused then).
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn parse_bytes(source_name: &str, bytes: &[u8], variables: &Variables) -> Result<Self, Errors> {
        match crate::document::decode(bytes) {
            Ok(text) => Self::parse(source_name, text, variables),
            Err(error) => {
                // What is too long may be no text at all.
                let shown = if bytes.len() > crate::document::MAX_BYTES { &[] } else { bytes };
                Err(Errors::new(source_name, &String::from_utf8_lossy(shown), vec![error]))
            }
        }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its author says it is for.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
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

    /// What is valid, but may not be what was meant; each fits on a line.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}
