//! What makes an answer hold for good: a policy's text in which what was asked about is allowed, and nothing else.
//!
//! A rule of the file itself that asks or denies gets an exception, one that is inherited and asks an `amend`; what the
//! rule says of other accesses to the same object is said again by a rule of its own, so that they stay closed. Where the
//! default denies, a rule allows. The text that comes of it is read and judged before it is given out: what was asked
//! about must be allowed, and every other access to the object as it was.
//!
//! A base's rule that denies is not loosened here: its author gave it the last word, and to take that away is a decision
//! of its own. As with [`crate::asking`], rules on contents stay what they are.

use std::collections::BTreeSet;

use crate::access::{Access, AccessSet, SectionKind};
use crate::address::Target;
use crate::asking::certain;
use crate::edit::{EditError, add_exception, add_rule, free_name, last, taken_names};
use crate::ends::{End, Owner};
use crate::evaluate::{Act, judge};
use crate::model::{Decision, Policy, Rule, RuleName, Section};
use crate::print::{self, Written};
use crate::subject::Subject;
use crate::suggest::{NoSuggestion, Site, Suggestion, narrowest};
use crate::variables::Variables;

/// Why it cannot be allowed for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlwaysError {
    /// The text is no policy, before or with what was added.
    #[error("{0}")]
    NoPolicy(String),
    /// Nothing can name it.
    #[error("{0}")]
    Nameless(#[from] NoSuggestion),
    /// The text has no place for it.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A policy that the file extends has the last word.
    #[error("`{rule}` of a policy that it extends denies it, which only a hand loosens: {line}")]
    Inherited {
        /// The rule.
        rule: RuleName,
        /// The line that would.
        line: String,
    },
    /// It would still be closed.
    #[error("`{rule}` would still have the last word")]
    Closed {
        /// By this rule or default.
        rule: RuleName,
    },
    /// The text would change more than what was asked about.
    #[error("it would change `{access}` there as well")]
    Wider {
        /// An access that nobody asked about.
        access: Access,
    },
}

/// The policy's text with `acts` of `subject` allowed in it. `read` makes a policy of a text that lies in its place;
/// paths are written with `variables`. Equal to `text` where it allows them already.
///
/// # Errors
/// Why not.
pub fn allow(
    text: &str,
    read: &dyn Fn(&str) -> Result<Policy, String>,
    subject: &Subject<'_>,
    acts: &[Act<'_>],
    variables: &Variables,
) -> Result<String, AlwaysError> {
    let policy = |text: &str| read(text).map(|policy| certain(&policy)).map_err(AlwaysError::NoPolicy);
    let before = policy(text)?;
    let mut made = text.to_owned();
    for act in acts {
        let now = policy(&made)?;
        if judge(&now, subject, act).decision != Decision::Allow {
            made = with(&made, &now, &narrowest(&now, subject, act, variables)?, act)?;
        }
    }
    let after = policy(&made)?;
    for act in acts {
        let verdict = judge(&after, subject, act);
        if verdict.decision != Decision::Allow {
            return Err(AlwaysError::Closed { rule: verdict.rule.clone() });
        }
    }
    match wider(&before, &after, subject, acts) {
        Some(access) => Err(AlwaysError::Wider { access }),
        None => Ok(made),
    }
}

/// The text with a suggestion's lines, and with what keeps other accesses as they were.
fn with(text: &str, policy: &Policy, suggestion: &Suggestion, act: &Act<'_>) -> Result<String, AlwaysError> {
    let mut made = text.to_owned();
    let mut taken = taken_names(policy);
    // The names of the lines themselves are taken, too, and they differ from those that are there.
    taken.extend(suggestion.edits.iter().filter_map(|edit| line_name(&edit.line)));
    for edit in &suggestion.edits {
        let (Site::Rules(section) | Site::Rule { section, .. }) = &edit.site else { continue };
        if let Some(rule) = &edit.from
            && !is_own(policy, rule)
            && effect(policy, *section, rule) == Some(Decision::Deny)
        {
            return Err(AlwaysError::Inherited { rule: rule.clone(), line: edit.line.clone() });
        }
        made = match &edit.site {
            Site::Rule { rule, .. } => add_exception(&made, *section, rule, &suggestion.objects)?,
            _ => add_rule(&made, *section, &edit.line)?,
        };
        let rest = edit.from.as_ref().and_then(|rule| match section {
            SectionKind::Files => rest(&policy.files, rule, act, &suggestion.objects, &mut taken),
            SectionKind::Exec => rest(&policy.exec, rule, act, &suggestion.objects, &mut taken),
            SectionKind::Network => rest(&policy.network, rule, act, &suggestion.objects, &mut taken),
        });
        if let Some(rest) = rest {
            made = add_rule(&made, *section, &rest)?;
        }
    }
    Ok(made)
}

/// What a rule said of other accesses to the objects, as an item of a list.
fn rest<O: Written + PartialEq + Clone>(
    section: &Section<O>,
    name: &RuleName,
    act: &Act<'_>,
    objects: &[String],
    taken: &mut BTreeSet<String>,
) -> Option<String> {
    let rule = section.rules.iter().find(|rule| rule.name == *name)?;
    let (kind, tried) = tried(act);
    let mut accesses = rule.accesses.without(tried);
    let is_host = |text: &String| Target::parse(text).is_ok_and(|target| target.is_host());
    if kind == SectionKind::Network && objects.iter().any(is_host) {
        // A name is of what is reached, and an exception by it says nothing of what is bound.
        accesses = accesses.intersection([Access::Connect, Access::Send].into_iter().collect());
    }
    if accesses.is_empty() {
        return None;
    }
    let short_name = free_name(&format!("{}-rest", last(&rule.short_name)), taken);
    let (gone, existing, except) = (Vec::new(), Vec::new(), Vec::new());
    let rule = Rule { short_name, accesses, objects: gone, existing, except, ..rule.clone() };
    let mut printed = String::new();
    print::rule(&mut printed, &rule);
    // As an item that is not indented, and with the objects as the other lines have them.
    let mut lines: Vec<String> =
        printed.lines().map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned()).collect();
    let objects: Vec<String> = objects.iter().map(|object| print::quoted(object)).collect();
    lines.insert(lines.len().min(2), format!("  {}: [{}]", O::KEY, objects.join(", ")));
    // Lines behind the first are indented by two already.
    Some(lines.join("\n") + "\n")
}

fn tried(act: &Act<'_>) -> (SectionKind, AccessSet) {
    match *act {
        Act::File { accesses, .. } => (SectionKind::Files, accesses),
        Act::Exec { .. } => (SectionKind::Exec, Access::Run.into()),
        Act::Network { accesses, .. } => (SectionKind::Network, accesses),
    }
}

/// The first access that nobody asked about, and that is decided otherwise now.
fn wider(before: &Policy, after: &Policy, subject: &Subject<'_>, acts: &[Act<'_>]) -> Option<Access> {
    for act in acts {
        let (kind, _) = tried(act);
        // One object may be asked about by several acts.
        let asked = acts.iter().filter(|other| same_object(other, act)).map(|other| tried(other).1);
        let asked = asked.fold(AccessSet::EMPTY, AccessSet::union);
        for access in kind.accesses().without(asked).iter() {
            let alone = match *act {
                Act::File { path, .. } => Act::File { accesses: access.into(), path },
                Act::Network { end, .. } => Act::Network { accesses: access.into(), end: owned(end, access) },
                Act::Exec { .. } => continue,
            };
            let differs = |subject: &Subject<'_>| {
                judge(before, subject, &alone).decision != judge(after, subject, &alone).decision
            };
            if differs(subject) || differs(&Subject::UNKNOWN) {
                return Some(access);
            }
        }
    }
    None
}

/// What is bound is the run's own, and has no name.
fn owned(end: End<'_>, access: Access) -> End<'_> {
    match end {
        End::Address { address, port, protocol, .. } if matches!(access, Access::Bind | Access::Listen) => {
            End::Address { address, port, protocol, names: &[], owner: Owner::Run }
        }
        end => end,
    }
}

fn same_object(one: &Act<'_>, other: &Act<'_>) -> bool {
    match (one, other) {
        (Act::File { path: one, .. }, Act::File { path: other, .. })
        | (Act::Exec { path: one, .. }, Act::Exec { path: other, .. }) => one == other,
        (Act::Network { end: one, .. }, Act::Network { end: other, .. }) => match (one, other) {
            (
                End::Address { address: a, port: p, protocol: t, .. },
                End::Address { address: b, port: q, protocol: u, .. },
            ) => (a, p, t) == (b, q, u),
            (End::Path(one), End::Path(other)) | (End::Abstract(one), End::Abstract(other)) => one == other,
            _ => false,
        },
        _ => false,
    }
}

fn is_own(policy: &Policy, rule: &RuleName) -> bool {
    rule.as_str().strip_prefix(policy.name()).is_some_and(|rest| rest.starts_with('/'))
}

fn effect(policy: &Policy, section: SectionKind, name: &RuleName) -> Option<Decision> {
    fn of<O>(section: &Section<O>, name: &RuleName) -> Option<Decision> {
        section.rules.iter().find(|rule| rule.name == *name).map(|rule| rule.effect)
    }
    match section {
        SectionKind::Files => of(&policy.files, name),
        SectionKind::Exec => of(&policy.exec, name),
        SectionKind::Network => of(&policy.network, name),
    }
}

/// The name in a suggested line that is a rule.
fn line_name(line: &str) -> Option<String> {
    let name = line.strip_prefix("- { name: ")?.split(',').next()?;
    Some(name.to_owned())
}
