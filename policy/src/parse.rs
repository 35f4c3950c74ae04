//! The document to what it says, key by key: which keys there are, and of what kind their values.
//!
//! Meanings (variables, patterns, targets, names used twice) are [`crate::validate`]'s. What is wrong is
//! reported and left out, so that one reading finds every error.

use crate::document::{Entry, Kind, Node, surprise};
use crate::error::{Place, Problem, Report};
use crate::model::{Decision, SectionKind};

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
    pub vars: Vec<(Placed<String>, Placed<String>)>,
    pub sections: Vec<RawSection>,
    pub examples: Vec<RawExample>,
}

/// A section as written.
#[derive(Debug)]
pub(crate) struct RawSection {
    pub kind: SectionKind,
    pub default: Option<Decision>,
    pub rules: Vec<RawRule>,
}

/// A rule as written.
#[derive(Debug, Default)]
pub(crate) struct RawRule {
    pub place: Place,
    pub name: Option<Placed<String>>,
    pub effect: Option<(Decision, Vec<Placed<String>>)>,
    pub objects: Option<Vec<Placed<String>>>,
    pub except: Vec<Placed<String>>,
    pub because: Option<String>,
}

/// An example as written.
#[derive(Debug)]
pub(crate) struct RawExample {
    pub place: Place,
    /// The key (`open`, `connect`, …) and its value.
    pub object: (&'static str, Placed<String>),
    pub access: Option<Vec<Placed<String>>>,
    pub verdict: Decision,
    pub rule: Option<Placed<String>>,
}

/// Keys of one kind of mapping: what is read, and what the language has but this version does not.
struct Keys {
    context: &'static str,
    read: &'static [&'static str],
    later: &'static [&'static str],
}

const POLICY: Keys = Keys {
    context: "a policy",
    read: &["version", "name", "description", "vars", "files", "exec", "network", "examples"],
    later: &[
        "extends", "groups", "labels", "flow", "kernel", "syscalls", "landlock", "limits", "env", "observe",
        "mode",
    ],
};
const SECTION: Keys = Keys { context: "a section", read: &["default", "rules"], later: &["mode"] };
const RULE: Keys = Keys {
    context: "a rule",
    read: &["name", "allow", "deny", "path", "to", "except", "because"],
    later: &["ask", "by", "under", "unless_by", "sha256", "amend", "disable", "timeout", "mode", "when"],
};
const OBJECTS: [&str; 6] = ["open", "run", "connect", "send", "bind", "listen"];
const EXAMPLE: Keys = Keys {
    context: "an example",
    read: &["open", "run", "connect", "send", "bind", "listen", "access", "verdict", "rule"],
    later: &["by", "under", "layers"],
};

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
            "vars" => raw.vars = vars(&entry.value, report),
            "files" => raw.sections.extend(section(SectionKind::Files, entry, report)),
            "exec" => raw.sections.extend(section(SectionKind::Exec, entry, report)),
            "network" => raw.sections.extend(section(SectionKind::Network, entry, report)),
            "examples" => raw.examples = examples(&entry.value, report),
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

/// A list of texts; `None` where it is no list.
fn texts(node: &Node, what: &str, wanted: &'static str, report: &mut Report) -> Option<Vec<Placed<String>>> {
    let items = sequence(node, what, wanted, report)?;
    let item = format!("an entry of {what}");
    Some(items.iter().filter_map(|node| text(node, &item, report)).collect())
}

/// `allow` or `deny`.
fn decision(node: &Node, what: &'static str, report: &mut Report) -> Option<Decision> {
    let Kind::Scalar { text, .. } = &node.kind else {
        wrong_kind(report, node, &format!("a {what}"), "`allow` or `deny`");
        return None;
    };
    if node.is_null() {
        report.error(node.place, Problem::NoValue { what: format!("a {what}") });
        return None;
    }
    let word = Placed { value: text.clone(), place: node.place };
    match word.value.as_str() {
        "allow" => Some(Decision::Allow),
        "deny" => Some(Decision::Deny),
        "ask" => {
            report.error(word.place, Problem::NotYet { word: word.value });
            None
        }
        _ => {
            let wanted = "`allow` or `deny`".to_owned();
            report.error(word.place, Problem::BadWord { found: word.value, what, wanted });
            None
        }
    }
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

fn section(kind: SectionKind, entry: &Entry, report: &mut Report) -> Option<RawSection> {
    let entries = mapping(&entry.value, &format!("`{}`", kind.name()), report)?;
    let mut section = RawSection { kind, default: None, rules: Vec::new() };
    for entry in known(entries, &SECTION, report) {
        match entry.key.as_str() {
            "default" => {
                section.default = decision(&entry.value, "default", report);
            }
            _ => {
                let what = format!("`rules` of `{}`", kind.name());
                let rules =
                    sequence(&entry.value, &what, "a list of rules, each beginning with `- name:`", report);
                section.rules =
                    rules.unwrap_or_default().iter().filter_map(|node| rule(kind, node, report)).collect();
            }
        }
    }
    if !has(entries, &["default"]) {
        let context = format!("`{}`", kind.name());
        let instead = "say `default: allow` or `default: deny` for what no rule matches";
        missing(report, entry.place, &context, "default", instead);
    }
    Some(section)
}

fn rule(kind: SectionKind, node: &Node, report: &mut Report) -> Option<RawRule> {
    let entries = mapping(node, "a rule", report)?;
    let mut rule = RawRule { place: node.place, ..RawRule::default() };
    let wanted = match kind {
        SectionKind::Network => "to",
        SectionKind::Files | SectionKind::Exec => "path",
    };
    let objects = match kind {
        SectionKind::Network => "a list of targets, as in `to: [\"192.0.2.0/24:443\"]`",
        SectionKind::Files | SectionKind::Exec => "a list of patterns, as in `path: [\"/etc/**\"]`",
    };
    let mut effects = Vec::new();
    for entry in known(entries, &RULE, report) {
        let value = &entry.value;
        match entry.key.as_str() {
            "name" => rule.name = text(value, "a rule's `name`", report),
            "because" => rule.because = text(value, "`because`", report).map(|text| text.value),
            "allow" => effects.push((Decision::Allow, entry)),
            "deny" => effects.push((Decision::Deny, entry)),
            "except" => rule.except = texts(value, "`except`", objects, report).unwrap_or_default(),
            key if key == wanted => {
                let what = format!("`{key}`");
                rule.objects = texts(value, &what, objects, report);
                if let Kind::Sequence(items) = &value.kind
                    && items.is_empty()
                {
                    let instead = "a rule without an object would match nothing";
                    report.error(value.place, Problem::EmptyList { what, instead });
                }
            }
            key => {
                let key = if key == "to" { "to" } else { "path" };
                let problem = Problem::WrongSection { key, section: kind.name(), instead: wanted };
                report.error(entry.place, problem);
            }
        }
    }
    if let [_, (_, second), ..] = effects.as_slice() {
        report.error(second.place, Problem::TwoEffects);
    }
    if let Some((effect, entry)) = effects.first() {
        let what = format!("`{}`", effect.name());
        let accesses = texts(&entry.value, &what, "a list of accesses, as in `[read]`", report);
        if accesses.as_ref().is_some_and(|list| list.is_empty())
            && matches!(&entry.value.kind, Kind::Sequence(items) if items.is_empty())
        {
            let instead = "name at least one access";
            report.error(entry.value.place, Problem::EmptyList { what, instead });
        }
        rule.effect = accesses.map(|accesses| (*effect, accesses));
    }
    rule_needs(entries, node, wanted, report);
    Some(rule)
}

/// What a rule cannot do without. A rule of a kind that is not supported yet needs other things.
fn rule_needs(entries: &[Entry], node: &Node, wanted: &'static str, report: &mut Report) {
    let has = |keys: &[&'static str]| has(entries, keys);
    if has(&["amend"]) {
        return;
    }
    let name = entries.iter().find(|entry| entry.key == "name").map(|entry| &entry.value.kind);
    let context = match name {
        Some(Kind::Scalar { text, .. }) => format!("rule `{text}`"),
        _ => "a rule".to_owned(),
    };
    let mut need = |key, instead| missing(report, node.place, &context, key, instead);
    if !has(&["name"]) {
        need("name", "records name it, as in `name: no-keys`");
    }
    if !has(&["allow", "deny", "ask"]) {
        need("allow", "say `allow: [...]` or `deny: [...]`");
    }
    if !has(&["path", "to", "sha256", "when"]) {
        match wanted {
            "to" => need("to", "say to what, as in `to: [\"192.0.2.0/24:443\"]`"),
            _ => need("path", "say on what, as in `path: [\"/etc/**\"]`"),
        }
    }
}

fn examples(node: &Node, report: &mut Report) -> Vec<RawExample> {
    let wanted = "a list, each entry as `{ open: PATH, access: read, verdict: deny }`";
    let items = sequence(node, "`examples`", wanted, report).unwrap_or_default();
    items.iter().filter_map(|node| example(node, report)).collect()
}

fn example(node: &Node, report: &mut Report) -> Option<RawExample> {
    let entries = mapping(node, "an example", report)?;
    let mut objects = Vec::new();
    let (mut access, mut verdict, mut rule) = (None, None, None);
    for entry in known(entries, &EXAMPLE, report) {
        match entry.key.as_str() {
            "access" => {
                access = match &entry.value.kind {
                    Kind::Scalar { .. } => text(&entry.value, "`access`", report).map(|one| vec![one]),
                    _ => texts(&entry.value, "`access`", "an access, or a list of them", report),
                }
            }
            "verdict" => verdict = decision(&entry.value, "verdict", report),
            "rule" => rule = text(&entry.value, "`rule`", report),
            key => {
                if let Some(object) = OBJECTS.into_iter().find(|object| *object == key) {
                    objects.push((object, text(&entry.value, &format!("`{key}`"), report)));
                }
            }
        }
    }
    if !has(entries, &["verdict"]) {
        missing(report, node.place, "an example", "verdict", "say `verdict: allow` or `verdict: deny`");
    }
    if objects.len() != 1 {
        report.error(node.place, Problem::ExampleObject);
        return None;
    }
    let (key, value) = objects.pop()?;
    Some(RawExample { place: node.place, object: (key, value?), access, verdict: verdict?, rule })
}

/// The candidate that `word` was most likely meant to be, if any is close.
pub(crate) fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let scored = candidates.map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate));
    let (best, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    let bound = (candidate.len().max(word.len()) / 3).clamp(1, 3);
    (best <= bound).then_some(candidate)
}

/// Damerau-Levenshtein distance (adjacent letters swapped count once).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
