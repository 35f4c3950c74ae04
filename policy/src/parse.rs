//! The document to what it says, key by key: which keys there are, and of what kind their values.
//!
//! Meanings (variables, patterns, targets, names used twice) are [`crate::validate`]'s. What is wrong is
//! reported and left out, so that one reading finds every error.

pub(crate) mod example;
pub(crate) mod rule;
pub(crate) mod settings;

pub(crate) use example::file as examples;

use crate::access::SectionKind;
use crate::document::{Entry, Kind, Node, surprise};
use crate::error::{Place, Problem, Report};
use crate::groups::RawGroup;
use crate::model::{Decision, Mode};
use crate::nearest::nearest;
use crate::settings::Settings;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub value: T,
    pub place: Place,
}

/// A policy as written.
#[derive(Debug, Default)]
pub(crate) struct RawPolicy {
    pub place: Place,
    pub name: Option<Placed<String>>,
    pub description: Option<String>,
    pub mode: Mode,
    pub extends: Vec<Placed<String>>,
    pub vars: Vec<(Placed<String>, Placed<String>)>,
    pub groups: Vec<RawGroup>,
    pub sections: Vec<RawSection>,
    pub settings: Settings,
    pub examples: Vec<RawExample>,
}

/// A section as written.
#[derive(Debug)]
pub(crate) struct RawSection {
    pub kind: SectionKind,
    pub place: Place,
    pub default: Option<Decision>,
    /// True without a `default`, which may be inherited.
    pub lacks_default: bool,
    pub rules: Vec<RawRule>,
    pub amends: Vec<RawAmend>,
}

impl RawSection {
    /// A section that the file leaves out.
    pub fn empty(kind: SectionKind) -> Self {
        let (rules, amends) = (Vec::new(), Vec::new());
        Self { kind, place: Place::default(), default: None, lacks_default: false, rules, amends }
    }
}

/// A rule as written.
#[derive(Debug, Default)]
pub(crate) struct RawRule {
    pub place: Place,
    pub name: Option<Placed<String>>,
    pub effect: Option<(Decision, Vec<Placed<String>>)>,
    pub objects: Option<Vec<Placed<String>>>,
    pub existing: Option<Vec<Placed<String>>>,
    pub except: Vec<Placed<String>>,
    pub sha256: Option<Vec<Placed<String>>>,
    pub by: Option<Vec<Placed<String>>>,
    pub unless_by: Option<Vec<Placed<String>>>,
    pub under: Option<Vec<Placed<String>>>,
    pub mode: Mode,
    pub timeout: Option<Placed<String>>,
    pub because: Option<String>,
}

/// An `amend` as written.
#[derive(Debug)]
pub(crate) struct RawAmend {
    pub rule: Placed<String>,
    pub except: Vec<Placed<String>>,
    pub disable: bool,
}

/// An example as written.
#[derive(Debug)]
pub(crate) struct RawExample {
    pub place: Place,
    /// The key (`open`, `connect`, …) and its value.
    pub object: (&'static str, Placed<String>),
    pub access: Option<Vec<Placed<String>>>,
    pub sha256: Option<Placed<String>>,
    pub host: Option<Placed<String>>,
    pub by: Option<Placed<String>>,
    pub under: Option<Vec<Placed<String>>>,
    pub verdict: Decision,
    pub rule: Option<Placed<String>>,
}

/// Keys of one kind of mapping: what is read, and what the language has but this version does not.
pub(crate) struct Keys {
    context: &'static str,
    pub read: &'static [&'static str],
    later: &'static [&'static str],
}

pub(crate) const POLICY: Keys = Keys {
    context: "a policy",
    read: &[
        "version",
        "name",
        "description",
        "mode",
        "extends",
        "vars",
        "groups",
        "files",
        "exec",
        "network",
        "kernel",
        "syscalls",
        "landlock",
        "tmp",
        "limits",
        "env",
        "observe",
        "examples",
    ],
    later: &["labels", "flow"],
};
pub(crate) const SECTION: Keys = Keys { context: "a section", read: &["default", "rules"], later: &["mode"] };
/// Reads the whole document.
pub(crate) fn policy(document: &Node, report: &mut Report) -> RawPolicy {
    let mut raw = RawPolicy { place: Place { line: 1, column: 1, width: 1 }, ..RawPolicy::default() };
    let Some(entries) = mapping(document, "a policy", report) else { return raw };
    let mut version = None;
    for entry in known(entries, &POLICY, report) {
        match entry.key.as_str() {
            "version" => version = Some(&entry.value),
            "name" => raw.name = text(&entry.value, "`name`", report),
            "description" => raw.description = text(&entry.value, "`description`", report).map(|t| t.value),
            "mode" => raw.mode = mode(&entry.value, "`mode` of the policy", report),
            "extends" => {
                let wanted = "a list of policies, as in `extends: [base@1]`";
                raw.extends = texts(&entry.value, "`extends`", wanted, report).unwrap_or_default();
            }
            "vars" => raw.vars = vars(&entry.value, report),
            "groups" => raw.groups = groups(&entry.value, report),
            "files" => raw.sections.extend(section(SectionKind::Files, entry, report)),
            "exec" => raw.sections.extend(section(SectionKind::Exec, entry, report)),
            "network" => raw.sections.extend(section(SectionKind::Network, entry, report)),
            key if settings::READ.contains(&key) => settings::setting(&mut raw.settings, entry, report),
            "examples" => raw.examples = example::examples(&entry.value, report),
            _ => {}
        }
    }
    match version.map(|node| (&node.kind, node.place)) {
        None if has(entries, &["version"]) => {}
        None => missing(report, raw.place, "the policy", "version", "begin with `version: 1`"),
        Some((Kind::Scalar { text, plain: true }, _)) if text == "1" => {}
        Some((Kind::Scalar { text, plain }, place)) => {
            let found = if *plain { text.clone() } else { format!("\"{text}\"") };
            report.error(place, Problem::Version { found });
        }
        Some((_, place)) => report.error(place, Problem::Version { found: "…".to_owned() }),
    }
    if !has(entries, &["name"]) {
        missing(report, raw.place, "the policy", "name", "records name rules by it, as in `name: my-agent`");
    }
    raw
}

/// The entries whose keys are read; the others are reported.
fn known<'a>(entries: &'a [Entry], keys: &Keys, report: &mut Report) -> Vec<&'a Entry> {
    let mut kept = Vec::new();
    for entry in entries {
        let key = entry.key.as_str();
        if report.is_full() {
            break;
        }
        if keys.read.contains(&key) {
            kept.push(entry);
        } else if keys.later.contains(&key) {
            report.error(entry.place, Problem::NotYet { word: entry.key.clone() });
        } else {
            let candidates = keys.read.iter().chain(keys.later).copied();
            let nearest = match nearest(key, candidates) {
                Some(one) => vec![one],
                None => keys.read.to_vec(),
            };
            let problem = Problem::UnknownKey { key: entry.key.clone(), context: keys.context, nearest };
            report.error(entry.place, problem);
        }
    }
    kept
}

/// True when one of the keys is there, be it misspelt: that is an error already.
fn has(entries: &[Entry], keys: &[&'static str]) -> bool {
    let meant = |key: &str| keys.contains(&key) || nearest(key, keys.iter().copied()).is_some();
    entries.iter().any(|entry| meant(&entry.key))
}

fn missing(report: &mut Report, place: Place, context: &str, key: &'static str, instead: &'static str) {
    report.error(place, Problem::Missing { context: context.to_owned(), key, instead });
}

fn wrong_kind(report: &mut Report, node: &Node, what: &str, wanted: &'static str) {
    let problem = if node.is_null() {
        Problem::NoValue { what: what.to_owned() }
    } else {
        Problem::WrongKind { what: what.to_owned(), wanted, found: node.kind_name() }
    };
    report.error(node.place, problem);
}

fn mapping<'a>(node: &'a Node, what: &str, report: &mut Report) -> Option<&'a [Entry]> {
    match &node.kind {
        Kind::Mapping(entries) => Some(entries),
        _ => {
            wrong_kind(report, node, what, "a mapping of `key: value`");
            None
        }
    }
}

fn sequence<'a>(node: &'a Node, what: &str, wanted: &'static str, report: &mut Report) -> Option<&'a [Node]> {
    match &node.kind {
        Kind::Sequence(items) => Some(items),
        _ => {
            wrong_kind(report, node, what, wanted);
            None
        }
    }
}

/// Text, and nothing that YAML may take for something else.
fn text(node: &Node, what: &str, report: &mut Report) -> Option<Placed<String>> {
    match &node.kind {
        Kind::Scalar { text, plain } => match surprise(text).filter(|_| *plain) {
            Some("null") => report.error(node.place, Problem::NoValue { what: what.to_owned() }),
            Some(kind) => {
                let problem = Problem::NotText { what: what.to_owned(), kind, text: text.clone() };
                report.error(node.place, problem);
            }
            None => return Some(Placed { value: text.clone(), place: node.place }),
        },
        _ => wrong_kind(report, node, what, "text"),
    }
    None
}

/// A number with a unit. A number alone is taken for text too, since what it lacks is no quotes.
fn quantity(node: &Node, what: &str, report: &mut Report) -> Option<Placed<String>> {
    match &node.kind {
        Kind::Scalar { text, plain: true }
            if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some(Placed { value: text.clone(), place: node.place })
        }
        _ => text(node, what, report),
    }
}

/// A list of texts; `None` where it is no list.
fn texts(node: &Node, what: &str, wanted: &'static str, report: &mut Report) -> Option<Vec<Placed<String>>> {
    let items = sequence(node, what, wanted, report)?;
    let item = format!("an entry of {what}");
    Some(items.iter().filter_map(|node| text(node, &item, report)).collect())
}

/// A list that is not empty.
fn some(
    value: &Node,
    what: &str,
    wanted: &'static str,
    instead: &'static str,
    report: &mut Report,
) -> Option<Vec<Placed<String>>> {
    if matches!(&value.kind, Kind::Sequence(items) if items.is_empty()) {
        report.error(value.place, Problem::EmptyList { what: what.to_owned(), instead });
    }
    texts(value, what, wanted, report)
}

/// One of a few words.
fn choice<T: Copy>(
    node: &Node,
    what: &'static str,
    (words, wanted): (&[(&str, T)], &'static str),
    report: &mut Report,
) -> Option<T> {
    let Kind::Scalar { text, .. } = &node.kind else {
        wrong_kind(report, node, what, wanted);
        return None;
    };
    if node.is_null() {
        report.error(node.place, Problem::NoValue { what: what.to_owned() });
        return None;
    }
    let found = words.iter().find(|(word, _)| word == text);
    if found.is_none() {
        let problem = Problem::BadWord { found: text.clone(), what, wanted: wanted.to_owned() };
        report.error(node.place, problem);
    }
    found.map(|(_, value)| *value)
}

/// `enforce` or `audit`.
fn mode(node: &Node, what: &'static str, report: &mut Report) -> Mode {
    let words = [Mode::Enforce, Mode::Audit].map(|mode| (mode.name(), mode));
    choice(node, what, (&words, "`enforce` or `audit`"), report).unwrap_or_default()
}

fn vars(node: &Node, report: &mut Report) -> Vec<(Placed<String>, Placed<String>)> {
    let entries = mapping(node, "`vars`", report).unwrap_or_default();
    let read = entries.iter().map(|entry| {
        let name = Placed { value: entry.key.clone(), place: entry.place };
        // A broken value keeps its name known, so that its uses are not errors too.
        let what = format!("variable `{}`", entry.key);
        let unread = Placed { value: String::new(), place: entry.value.place };
        (name, text(&entry.value, &what, report).unwrap_or(unread))
    });
    read.collect()
}

fn groups(node: &Node, report: &mut Report) -> Vec<RawGroup> {
    let entries = mapping(node, "`groups`", report).unwrap_or_default();
    let read = entries.iter().map(|entry| {
        let name = Placed { value: entry.key.clone(), place: entry.place };
        let what = format!("group `{}`", entry.key);
        let wanted = "a list of paths or targets";
        if matches!(&entry.value.kind, Kind::Sequence(items) if items.is_empty()) {
            let instead = "name at least one path or target";
            report.error(entry.value.place, Problem::EmptyList { what: what.clone(), instead });
        }
        (name, texts(&entry.value, &what, wanted, report).unwrap_or_default())
    });
    read.collect()
}

fn section(kind: SectionKind, entry: &Entry, report: &mut Report) -> Option<RawSection> {
    let entries = mapping(&entry.value, &format!("`{}`", kind.name()), report)?;
    let lacks_default = !has(entries, &["default"]);
    let mut section = RawSection { place: entry.place, lacks_default, ..RawSection::empty(kind) };
    for entry in known(entries, &SECTION, report) {
        match entry.key.as_str() {
            "default" => {
                let words = [Decision::Allow, Decision::Deny].map(|word| (word.name(), word));
                section.default = choice(&entry.value, "default", (&words, "`allow` or `deny`"), report);
            }
            _ => {
                let what = format!("`rules` of `{}`", kind.name());
                let rules =
                    sequence(&entry.value, &what, "a list of rules, each beginning with `- name:`", report);
                for node in rules.unwrap_or_default() {
                    match rule::amend(kind, node, report) {
                        Some(amend) => section.amends.extend(amend),
                        None => section.rules.extend(rule::rule(kind, node, report)),
                    }
                }
            }
        }
    }
    Some(section)
}
