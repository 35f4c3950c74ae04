//! What changes from one policy to another: rules, defaults and settings, as they hold after `extends`, groups and
//! variables. What that means for attempts is the evaluator's.

use std::collections::BTreeMap;

use crate::access::SectionKind;
use crate::address::Target;
use crate::model::{Mode, Policy, Rule, Section};
use crate::pattern::Pattern;
use crate::print;
use crate::settings::Settings;
use crate::units::write_duration;

/// Something that both policies have, or one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `files`, `exec`, `network`; `policy` for what is no rule.
    pub section: &'static str,
    /// The rule as the file names it, an inherited one as `policy/rule`; `default`, `mode`, `kernel`, ….
    pub name: String,
    /// Whether it came, went or changed.
    pub change: Change,
    /// Its keys: of one that came or went all, else those that differ.
    pub keys: Vec<KeyChange>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, and they differ.
    Changed,
}

impl Change {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One key of an item: entries that went, and entries that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key, as in `path`.
    pub key: &'static str,
    /// What the first has and the second has not.
    pub removed: Vec<String>,
    /// What the second has and the first has not.
    pub added: Vec<String>,
}

/// Keys and their entries, in the order in which they are shown.
type Facts = Vec<(&'static str, Vec<String>)>;
/// Items by their place, section and name.
type Items = BTreeMap<(usize, &'static str, String), Facts>;

/// What changes from `before` to `after`, in the order of sections and names. Names of policies, descriptions and
/// examples are no part of it.
pub fn difference(before: &Policy, after: &Policy) -> Vec<Item> {
    let (mut old, mut new) = (items(before), items(after));
    // A rule of the one may be inherited by the other: then it is the same rule, under its full name.
    as_inherited(&mut old, before.name(), &new);
    as_inherited(&mut new, after.name(), &old);
    let (before, after) = (old, new);
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let items = names.into_iter().filter_map(|key| {
        let (_, section, name) = key;
        let (change, keys) = match (before.get(key), after.get(key)) {
            (Some(before), Some(after)) => (Change::Changed, changes(before, after)),
            (Some(before), None) => (Change::Removed, changes(before, &Facts::new())),
            (None, Some(after)) => (Change::Added, changes(&Facts::new(), after)),
            (None, None) => return None,
        };
        let item = Item { section, name: name.clone(), change, keys };
        (change != Change::Changed || !item.keys.is_empty()).then_some(item)
    });
    items.collect()
}

/// Names own rules of the policy `name` as `others` name them that inherit them.
fn as_inherited(items: &mut Items, name: &str, others: &Items) {
    let full = |key: &(usize, &'static str, String)| (key.0, key.1, format!("{name}/{}", key.2));
    let inherited: Vec<_> = items
        .keys()
        .filter(|key| others.contains_key(&full(key)) && !others.contains_key(*key))
        .cloned()
        .collect();
    for key in inherited {
        if let Some(facts) = items.remove(&key) {
            items.insert(full(&key), facts);
        }
    }
}

fn changes(before: &Facts, after: &Facts) -> Vec<KeyChange> {
    let of = |facts: &Facts, key: &str| {
        facts.iter().find(|(found, _)| *found == key).map(|(_, entries)| entries.clone()).unwrap_or_default()
    };
    let mut keys: Vec<&'static str> = before.iter().map(|(key, _)| *key).collect();
    let new = after.iter().map(|(key, _)| *key).filter(|key| !before.iter().any(|(known, _)| known == key));
    keys.extend(new);
    let change = |key| {
        let (old, new): (Vec<String>, Vec<String>) = (of(before, key), of(after, key));
        let without = |entries: &[String], others: &[String]| -> Vec<String> {
            entries.iter().filter(|entry| !others.contains(entry)).cloned().collect()
        };
        let (removed, added) = (without(&old, &new), without(&new, &old));
        (!removed.is_empty() || !added.is_empty()).then_some(KeyChange { key, removed, added })
    };
    keys.into_iter().filter_map(change).collect()
}

fn items(policy: &Policy) -> Items {
    let mut items = Items::new();
    items.insert((0, "policy", "mode".to_owned()), vec![("mode", vec![policy.mode.name().to_owned()])]);
    section(&mut items, policy, SectionKind::Files, &policy.files, Pattern::text);
    section(&mut items, policy, SectionKind::Exec, &policy.exec, Pattern::text);
    section(&mut items, policy, SectionKind::Network, &policy.network, Target::text);
    // What is closed without the section is closed with an empty one.
    let kernel: Vec<String> =
        policy.settings.kernel_allowed().iter().map(|word| (*word).to_owned()).collect();
    items.insert((SETTINGS, "policy", "kernel".to_owned()), vec![("allow", kernel)]);
    let mut lines = String::new();
    print::settings(&mut lines, &Settings { kernel: None, ..policy.settings.clone() });
    for (key, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
        items.insert((SETTINGS, "policy", key.to_owned()), vec![("is", vec![value.to_owned()])]);
    }
    items
}

/// Where settings stand among the items: behind the sections.
const SETTINGS: usize = 1 + SectionKind::ALL.len();

fn section<O: PartialEq>(
    items: &mut Items,
    policy: &Policy,
    kind: SectionKind,
    section: &Section<O>,
    text: fn(&O) -> &str,
) {
    let place = 1 + kind as usize;
    // One that is left out allows everything.
    let default = vec![("default", vec![section.default.name().to_owned()])];
    items.insert((place, kind.name(), "default".to_owned()), default);
    for rule in section.rules.iter().filter(|rule| !rule.is_void()) {
        let own = rule.name.as_str().strip_prefix(policy.name()).and_then(|rest| rest.strip_prefix('/'));
        let name = own.unwrap_or(rule.name.as_str()).to_owned();
        items.insert((place, kind.name(), name), facts(rule, kind, text));
    }
}

fn facts<O: PartialEq>(rule: &Rule<O>, kind: SectionKind, text: fn(&O) -> &str) -> Facts {
    let texts = |objects: &[O]| objects.iter().map(|object| text(object).to_owned()).collect::<Vec<_>>();
    let paths = |paths: &[Pattern]| paths.iter().map(|path| path.text().to_owned()).collect::<Vec<_>>();
    let one = |text: Option<String>| text.into_iter().collect::<Vec<_>>();
    let object = if kind == SectionKind::Network { "to" } else { "path" };
    let all = [
        (rule.effect.name(), rule.accesses.iter().map(|access| access.name().to_owned()).collect()),
        (object, rule.lasting().map(|object| text(object).to_owned()).collect()),
        ("existing", texts(&rule.existing)),
        ("sha256", rule.sha256.iter().map(ToString::to_string).collect()),
        ("except", texts(&rule.except)),
        ("by", paths(rule.who.by().unwrap_or_default())),
        ("unless_by", paths(rule.who.unless_by())),
        ("under", paths(rule.who.under().unwrap_or_default())),
        ("timeout", one(rule.timeout.map(write_duration))),
        ("mode", one((rule.mode == Mode::Audit).then(|| rule.mode.name().to_owned()))),
        ("because", one(rule.because.clone())),
    ];
    all.into_iter().filter(|(_, entries)| !entries.is_empty()).collect()
}
