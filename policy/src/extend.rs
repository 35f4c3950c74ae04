//! `extends`: where inherited policies come from, and what becomes of their rules.
//!
//! Shipped policies are part of this crate; other files are the caller's to read, by a [`Resolver`]. Inherited
//! rules keep the name of the policy that they come from, and are changed by `amend` only, so that loosening
//! is always visible. Variables, `mode` and examples are not inherited.

use std::collections::BTreeMap;

use crate::access::SectionKind;
use crate::error::{Errors, Place, Problem, Report};
use crate::lint::Origin;
use crate::model::{Decision, Policy, Rule, RuleName, Section};
use crate::parse::Placed;
use crate::settings::Settings;
use crate::variables::Variables;

/// Most policies that extend one another in a row.
const MAX_DEPTH: usize = 8;

/// A file that a policy extends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What errors call it. Two names mean two files: a cycle is noticed by it.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Finds the files that `extends` names by their paths.
pub trait Resolver {
    /// The file at `path`, as the file called `from` names it.
    ///
    /// # Errors
    ///
    /// Why there is none, as a fragment: "does not exist".
    fn resolve(&self, path: &str, from: &str) -> Result<Source, String>;
}

/// Finds no file: only shipped policies can be extended.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Resolver for NoFiles {
    fn resolve(&self, _: &str, _: &str) -> Result<Source, String> {
        Err("files cannot be extended here".to_owned())
    }
}

macro_rules! shipped {
    ($($name:literal),*) => {
        &[$((concat!($name, "@1"), include_str!(concat!("../../policies/", $name, ".yaml")))),*]
    };
}

/// The policies that ship, by name and version, with their text.
pub const SHIPPED: &[(&str, &str)] =
    shipped!["base", "ci-job", "coding-agent", "coding-agent-strict", "offline", "readonly", "strict"];

/// What reading a policy needs besides its text.
pub(crate) struct Loading<'a> {
    pub variables: &'a Variables,
    pub resolver: &'a dyn Resolver,
    /// The files that are being read, the outermost first.
    pub open: Vec<String>,
}

impl Loading<'_> {
    /// Reads what `extends` names; reports what cannot be.
    pub fn inherited(&mut self, extends: &[Placed<String>], report: &mut Report) -> Vec<Parent> {
        let mut parents: Vec<Parent> = Vec::new();
        for reference in extends {
            if parents.iter().any(|parent| parent.reference.value == reference.value) {
                report.error(reference.place, Problem::ExtendedTwice { reference: reference.value.clone() });
                continue;
            }
            let source = match self.source(&reference.value) {
                Ok(source) => source,
                Err(reason) => {
                    let problem = Problem::Extends { reference: reference.value.clone(), reason };
                    report.error(reference.place, problem);
                    continue;
                }
            };
            match Policy::read(&source.name, &source.bytes, self) {
                Ok(policy) => {
                    // Of what ships, the author of this policy can change nothing.
                    if !is_shipped(&reference.value) {
                        report.foreign_notes.extend(policy.notes.iter().cloned());
                    }
                    parents.push(Parent { reference: reference.clone(), policy });
                }
                Err(errors) => report.foreign(errors),
            }
        }
        parents
    }

    fn source(&self, reference: &str) -> Result<Source, String> {
        let from = self.open.last().map(String::as_str).unwrap_or_default();
        let source = if is_shipped(reference) {
            let found = SHIPPED.iter().find(|(name, _)| *name == reference);
            let (name, text) = found.ok_or_else(|| {
                let names: Vec<String> = SHIPPED.iter().map(|(name, _)| format!("`{name}`")).collect();
                format!("does not ship; there are {}", names.join(", "))
            })?;
            Source { name: (*name).to_owned(), bytes: text.as_bytes().to_vec() }
        } else {
            if !reference.contains(['/', '.']) {
                return Err(format!(
                    "is neither a path nor a version; write `{reference}@1` or `./{reference}`"
                ));
            }
            self.resolver.resolve(reference, from)?
        };
        if self.open.contains(&source.name) {
            return Err("extends itself, directly or through others".to_owned());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("is one of more than {MAX_DEPTH} policies that extend one another"));
        }
        Ok(source)
    }
}

/// `name@version`; everything else is a path.
fn is_shipped(reference: &str) -> bool {
    reference.contains('@') && !reference.contains('/')
}

/// A policy that another one extends.
pub(crate) struct Parent {
    pub reference: Placed<String>,
    pub policy: Policy,
}

/// `amend`, read.
pub(crate) struct Amend<O> {
    pub place: Place,
    /// `policy/rule`.
    pub rule: String,
    pub except: Vec<(Place, O)>,
    pub disable: bool,
}

/// What a file itself says about a section.
pub(crate) struct Own<O> {
    pub section: Section<O>,
    pub kind: SectionKind,
    pub default: Option<Decision>,
    pub amends: Vec<Amend<O>>,
}

/// A section with what it inherits.
pub(crate) fn section<O: Clone + PartialEq>(
    own: Own<O>,
    parents: &[Parent],
    of: fn(&Policy) -> &Section<O>,
    origins: &mut BTreeMap<RuleName, Origin>,
    report: &mut Report,
) -> Section<O> {
    let Own { section: mut own, kind, default, amends } = own;
    let mut said: Option<(&Parent, Decision)> = None;
    let mut inherited: Vec<Rule<O>> = Vec::new();
    for parent in parents.iter().filter(|parent| parent.policy.present.contains(&kind)) {
        let section = of(&parent.policy);
        match said {
            Some((first, decision)) if decision != section.default && default.is_none() => {
                let problem = Problem::DefaultsDiffer {
                    section: kind.name(),
                    first: first.reference.value.clone(),
                    second: parent.reference.value.clone(),
                };
                report.error(parent.reference.place, problem);
            }
            Some(_) => {}
            None => said = Some((parent, section.default)),
        }
        for rule in &section.rules {
            let same = own.rules.iter().chain(&inherited).find(|other| other.name == rule.name);
            let mut rule = rule.clone();
            rule.short_name = rule.name.to_string();
            match same {
                // The same rule by two ways.
                Some(other) if *other == rule => {}
                Some(_) => {
                    let problem = Problem::InheritedTwice { name: rule.name.to_string() };
                    report.error(parent.reference.place, problem);
                }
                None => inherited.push(rule),
            }
        }
    }
    amend(&mut inherited, amends, kind, origins, report);
    own.rules.extend(inherited);
    own.rules.sort_by(|a, b| a.name.cmp(&b.name));
    if let (None, Some((_, inherited))) = (default, said) {
        own.default = inherited;
    }
    own
}

/// The settings with those inherited: where the file says nothing, what all that is extended agrees on.
pub(crate) fn settings(mut own: Settings, parents: &[Parent], report: &mut Report) -> Settings {
    inherit(&mut own, "kernel", parents, |all| &mut all.kernel, report);
    inherit(&mut own, "syscalls", parents, |all| &mut all.syscalls, report);
    inherit(&mut own, "landlock", parents, |all| &mut all.landlock, report);
    inherit(&mut own, "limits", parents, |all| &mut all.limits, report);
    inherit(&mut own, "env", parents, |all| &mut all.env, report);
    inherit(&mut own, "observe", parents, |all| &mut all.fold, report);
    own
}

fn inherit<T: PartialEq>(
    own: &mut Settings,
    section: &'static str,
    parents: &[Parent],
    of: fn(&mut Settings) -> &mut Option<T>,
    report: &mut Report,
) {
    let mut found: Option<(&Parent, T)> = None;
    for parent in parents.iter().filter(|_| of(own).is_none()) {
        match (of(&mut parent.policy.settings.clone()).take(), &found) {
            (Some(said), Some((first, other))) if said != *other => {
                let (first, second) = (first.reference.value.clone(), parent.reference.value.clone());
                report.error(parent.reference.place, Problem::SettingsDiffer { section, first, second });
            }
            (Some(said), None) => found = Some((parent, said)),
            _ => {}
        }
    }
    if let Some((_, said)) = found {
        *of(own) = Some(said);
    }
}

fn amend<O>(
    inherited: &mut Vec<Rule<O>>,
    amends: Vec<Amend<O>>,
    kind: SectionKind,
    origins: &mut BTreeMap<RuleName, Origin>,
    report: &mut Report,
) {
    let mut disabled: Vec<String> = Vec::new();
    for amend in amends {
        match inherited.iter_mut().find(|rule| rule.name.as_str() == amend.rule) {
            Some(rule) => {
                let origin = origins.entry(rule.name.clone()).or_default();
                for (place, except) in amend.except {
                    origin.except.push((rule.except.len(), place));
                    rule.except.push(except);
                }
                if amend.disable {
                    disabled.push(amend.rule);
                }
            }
            None => {
                let known = inherited.iter().map(|rule| rule.name.to_string()).collect();
                let problem = Problem::AmendsNothing { name: amend.rule, section: kind.name(), known };
                report.error(amend.place, problem);
            }
        }
    }
    inherited.retain(|rule| !disabled.iter().any(|name| name == rule.name.as_str()));
}

impl Policy {
    /// Reads a policy that may extend files, which `resolver` finds. `source_name` is what errors call it.
    ///
    /// # Errors
    ///
    /// All errors of the text, and of the files that it extends, at once; where a file is not YAML, the first
    /// of it.
    pub fn parse_with(
        source_name: &str,
        bytes: &[u8],
        variables: &Variables,
        resolver: &dyn Resolver,
    ) -> Result<Self, Errors> {
        Self::read(source_name, bytes, &mut Loading { variables, resolver, open: Vec::new() })
    }

    fn read(source_name: &str, bytes: &[u8], loading: &mut Loading<'_>) -> Result<Self, Errors> {
        let text = crate::document::decode(bytes).map_err(|error| {
            // What is too long may be no text at all.
            let shown = if bytes.len() > crate::document::MAX_BYTES { &[] } else { bytes };
            Errors::new(source_name, &String::from_utf8_lossy(shown), vec![error])
        })?;
        let document =
            crate::document::read(text).map_err(|errors| Errors::new(source_name, text, errors))?;
        let mut report = Report::default();
        let raw = crate::parse::policy(&document, &mut report);
        loading.open.push(source_name.to_owned());
        let parents = loading.inherited(&raw.extends, &mut report);
        loading.open.pop();
        let policy =
            crate::validate::policy(raw, &parents, loading.variables, (source_name, text), &mut report);
        match policy {
            Some(mut policy) if report.is_clean() => {
                policy.notes = report.notes(source_name, text);
                Ok(policy)
            }
            _ => Err(report.errors(source_name, text)),
        }
    }
}
