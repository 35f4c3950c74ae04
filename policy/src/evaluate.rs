//! What a policy says about one attempt, rule by rule: the oracle that compiled plans are compared with,
//! and the source of the rule's name in records.
//!
//! Deny beats ask beats allow; where no rule matches, the section's default holds; a section that the file
//! leaves out allows everything. Of several accesses tried at once all must be allowed. Rules on trial
//! (`mode: audit`) are judged apart: they never change the decision.
//!
//! Reads no file system: paths are resolved, absolute and without a slash at their end. What does not begin
//! with a slash (a pipe, a socket, a path outside the mount namespace) matches no pattern. What is not known
//! of a process or a file makes no rule allow, and every rule deny or ask that it could.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::{Protocol, Target};
use crate::digest::Digest;
use crate::ends::{End, Owner};
use crate::index::Index;
use crate::model::{Decision, Mode, Policy, Rule, RuleName, Section};
use crate::pattern::Pattern;
use crate::subject::Subject;

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<'a> {
    /// Accesses to a file. Those of other sections in the set are not judged; where none is left (an open
    /// with O_PATH, for example) nothing is denied.
    File {
        /// Which.
        accesses: AccessSet,
        /// The file.
        path: &'a [u8],
    },
    /// The execution of a file.
    Exec {
        /// The file.
        path: &'a [u8],
        /// The digest of what it holds, where it is known.
        sha256: Option<&'a Digest>,
    },
    /// Network accesses. Binding to port 0 is not judged: the kernel chooses the port, and listening is judged by it.
    Network {
        /// Which; those of other sections are not judged.
        accesses: AccessSet,
        /// The other end.
        end: End<'a>,
    },
}

/// What the policy says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// What becomes of the attempt.
    pub decision: Decision,
    /// The first rule by name among those that decide; a section's default where no rule does.
    pub rule: &'a RuleName,
    /// The rule's own explanation.
    pub because: Option<&'a str>,
    /// What would become of it if everything on trial were law, where that is stricter.
    pub audited: Option<Audited<'a>>,
}

/// What something on trial (`mode: audit`) would make of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited<'a> {
    /// The decision: deny or ask.
    pub decision: Decision,
    /// The rule or default behind it.
    pub rule: &'a RuleName,
    /// The rule's own explanation.
    pub because: Option<&'a str>,
}

/// Judges an attempt of `subject`.
pub fn judge<'a>(policy: &'a Policy, subject: &Subject<'_>, act: &Act<'_>) -> Verdict<'a> {
    match *act {
        Act::File { accesses, path } => {
            let rules = policy.files.rules.iter().filter(|rule| {
                rule.accesses.overlaps(accesses) && covers(rule, |pattern: &Pattern| pattern.matches(path))
            });
            on_file(policy, rules.collect(), subject, accesses)
        }
        Act::Exec { path, sha256 } => {
            let rules = policy.exec.rules.iter().filter(|rule| executes(rule, path, sha256, true));
            on_program(policy, rules.collect(), subject, sha256)
        }
        Act::Network { accesses, end } => {
            let accesses = accesses.intersection(judged_at(&end));
            let rules = policy.network.rules.iter().collect();
            Court { mode: policy.mode, section: &policy.network, rules, subject }
                .judge(accesses, |rule, access, _| {
                    covers(rule, |target: &Target| target.matches_end(access, &end))
                })
        }
    }
}

/// `rules` mean the file.
fn on_file<'a>(
    policy: &'a Policy,
    rules: Vec<&'a Rule<Pattern>>,
    subject: &Subject<'_>,
    accesses: AccessSet,
) -> Verdict<'a> {
    let accesses = accesses.intersection(SectionKind::Files.accesses());
    Court { mode: policy.mode, section: &policy.files, rules, subject }.judge(accesses, |_, _, _| true)
}

/// `rules` mean the file, if what it holds does not decide.
fn on_program<'a>(
    policy: &'a Policy,
    rules: Vec<&'a Rule<Pattern>>,
    subject: &Subject<'_>,
    sha256: Option<&Digest>,
) -> Verdict<'a> {
    Court { mode: policy.mode, section: &policy.exec, rules, subject }
        .judge(Access::Run.into(), |rule, _, unknown| holds(rule, sha256, unknown))
}

/// A policy that is asked about many paths: it says what [`judge`] says, and finds the rules that mean one faster.
#[derive(Debug)]
pub struct Indexed<'p> {
    policy: &'p Policy,
    files: Index<'p>,
    exec: Index<'p>,
}

impl<'p> Indexed<'p> {
    /// Reads all rules once.
    pub fn new(policy: &'p Policy) -> Self {
        Self { policy, files: Index::of(&policy.files), exec: Index::of(&policy.exec) }
    }

    /// The policy.
    pub fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// As [`judge`].
    pub fn judge(&self, subject: &Subject<'_>, act: &Act<'_>) -> Verdict<'p> {
        match *act {
            Act::File { accesses, path } => {
                on_file(self.policy, self.files.at(accesses, path), subject, accesses)
            }
            Act::Exec { path, sha256 } => {
                on_program(self.policy, self.exec.at(Access::Run.into(), path), subject, sha256)
            }
            Act::Network { .. } => judge(self.policy, subject, act),
        }
    }

    /// Judges each of these accesses to a file by itself. Those of other sections are not judged, nor named.
    pub fn each_access(
        &self,
        subject: &Subject<'_>,
        accesses: AccessSet,
        path: &[u8],
    ) -> impl Iterator<Item = (Access, Verdict<'p>)> {
        let rules = self.files.at(accesses, path);
        let court = Court { mode: self.policy.mode, section: &self.policy.files, rules, subject };
        let accesses = accesses.intersection(SectionKind::Files.accesses());
        accesses.iter().map(move |access| (access, court.judge(access.into(), |_, _, _| true)))
    }
}

/// The network accesses that are judged at an end: for port 0 the kernel chooses another one.
pub(crate) fn judged_at(end: &End<'_>) -> AccessSet {
    let all = SectionKind::Network.accesses();
    match end {
        End::Address { port: 0, .. } => all.without(Access::Bind.into()),
        _ => all,
    }
}

/// Judges file accesses of a process of which nothing is known; as [`Act::File`].
pub fn file<'a>(policy: &'a Policy, accesses: AccessSet, path: &[u8]) -> Verdict<'a> {
    judge(policy, &Subject::UNKNOWN, &Act::File { accesses, path })
}

/// Judges the execution of `path`, of whose contents, as of the process, nothing is known.
pub fn exec<'a>(policy: &'a Policy, path: &[u8]) -> Verdict<'a> {
    judge(policy, &Subject::UNKNOWN, &Act::Exec { path, sha256: None })
}

/// Judges network accesses of a process of which nothing is known, to an address that has no known name and
/// where nothing of the run listens; as [`Act::Network`].
pub fn network<'a>(
    policy: &'a Policy,
    accesses: AccessSet,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Verdict<'a> {
    let end = End::Address { address, port, protocol, names: &[], owner: Owner::Elsewhere };
    judge(policy, &Subject::UNKNOWN, &Act::Network { accesses, end })
}

/// Whether one of the rule's objects is meant, and none of its exceptions.
pub(crate) fn covers<O>(rule: &Rule<O>, matches: impl Fn(&O) -> bool) -> bool {
    rule.objects.iter().any(&matches) && !rule.except.iter().any(&matches)
}

/// The same for a rule about executables; `unknown` stands in where the contents are not known.
pub(crate) fn executes(rule: &Rule<Pattern>, path: &[u8], sha256: Option<&Digest>, unknown: bool) -> bool {
    let matches = |pattern: &Pattern| pattern.matches(path);
    if rule.sha256.is_empty() {
        return covers(rule, matches);
    }
    holds(rule, sha256, unknown) && !rule.except.iter().any(matches)
}

/// Whether a file that the rule means holds what it must.
fn holds(rule: &Rule<Pattern>, sha256: Option<&Digest>, unknown: bool) -> bool {
    rule.sha256.is_empty() || sha256.map_or(unknown, |found| rule.sha256.contains(found))
}

/// One section, and those of its rules that may be about one attempt.
struct Court<'a, 's, O> {
    mode: Mode,
    section: &'a Section<O>,
    rules: Vec<&'a Rule<O>>,
    subject: &'s Subject<'s>,
}

/// A decision and the rule behind it; without one it is the section's default.
type Found<'a, O> = (Decision, Option<&'a Rule<O>>);

impl<'a, O> Court<'a, '_, O> {
    /// `hits` says whether a rule's objects are meant; its last argument stands in for what is not known.
    fn judge(&self, accesses: AccessSet, hits: impl Fn(&Rule<O>, Access, bool) -> bool) -> Verdict<'a> {
        let strict = self.decide(accesses, &hits);
        let trial = self.mode == Mode::Audit || self.rules.iter().any(|rule| rule.mode == Mode::Audit);
        let law = match self.mode {
            _ if !trial => strict,
            Mode::Enforce => self.decide(accesses, &|rule: &Rule<O>, access, unknown| {
                rule.mode == Mode::Enforce && hits(rule, access, unknown)
            }),
            Mode::Audit if strict.0 == Decision::Allow => strict,
            Mode::Audit => (Decision::Allow, None),
        };
        let (decision, rule, because) = self.ruling(law);
        let audited = (strict.0 > decision).then(|| {
            let (decision, rule, because) = self.ruling(strict);
            Audited { decision, rule, because }
        });
        Verdict { decision, rule, because, audited }
    }

    fn ruling(&self, (decision, rule): Found<'a, O>) -> (Decision, &'a RuleName, Option<&'a str>) {
        match rule {
            Some(rule) => (decision, &rule.name, rule.because()),
            None => (decision, &self.section.default_name, None),
        }
    }

    /// Each access by itself, then the strictest of all; of equal ones a rule, the first by name.
    fn decide(&self, accesses: AccessSet, hits: &impl Fn(&Rule<O>, Access, bool) -> bool) -> Found<'a, O> {
        let of_access = |access| {
            let matching = |effect: Decision, unknown: bool| {
                let rules = self.rules.iter().copied().filter(move |rule| {
                    rule.effect == effect
                        && rule.accesses.contains(access)
                        && hits(rule, access, unknown)
                        && rule.who.holds(self.subject, unknown)
                });
                rules.map(|rule| (rule.effect, Some(rule))).min_by(stricter)
            };
            let surely = matching(Decision::Deny, true)
                .or_else(|| matching(Decision::Ask, false))
                .or_else(|| matching(Decision::Allow, false))
                .unwrap_or((self.section.default, None));
            // A rule that may ask never opens what is closed without it.
            let may_ask = matching(Decision::Ask, true).unwrap_or(surely);
            std::cmp::min_by(surely, may_ask, stricter)
        };
        accesses.iter().map(of_access).min_by(stricter).unwrap_or((Decision::Allow, None))
    }
}

/// The stricter comes first; then rules by name, then the default.
fn stricter<O>(a: &Found<'_, O>, b: &Found<'_, O>) -> Ordering {
    let by_name = match (a.1, b.1) {
        (Some(a), Some(b)) => a.name.cmp(&b.name),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    b.0.cmp(&a.0).then(by_name)
}
