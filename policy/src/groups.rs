//! Named lists of paths or targets: those of a policy, and those that ship.
//!
//! `@name` stands for the entries of the group, wherever a pattern or a target can stand.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{Entry, Kind, Node};
use crate::error::{Errors, Place, Problem, Report};
use crate::parse::Placed;

/// The groups that ship, as YAML.
const SHIPPED: &str = include_str!("groups.yaml");
/// Those of [`shipped`] that are of hosts.
const HOSTS: [&str; 6] = ["npm", "pypi", "crates", "github", "debian", "model-apis"];
/// Those of [`shipped`] that are of paths.
const PATHS: [&str; 5] = ["libraries", "toolchains", "credentials", "persistence", "git-code"];
/// Most groups inside groups.
const MAX_DEPTH: usize = 16;
/// Most entries that one reference may stand for.
const MAX_ENTRIES: usize = 4096;

/// The version of the groups that ship; it rises when what they mean changes.
pub const VERSION: u32 = 3;

/// Why a reference to a group gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupFault {
    /// No group of that name.
    #[error("is not a group{}", .nearest.map(|name| format!("; did you mean `@{name}`?")).unwrap_or_else(|| "; define it in `groups`".to_owned()))]
    Unknown {
        /// A shipped group of a similar name.
        nearest: Option<&'static str>,
    },
    /// A group of hosts where patterns are meant.
    #[error("is a group of hosts; here stand paths")]
    Hosts,
    /// Contains itself.
    #[error("contains itself")]
    Cycle,
    /// Stands for too much.
    #[error("stands for more than {MAX_ENTRIES} entries")]
    TooLarge,
    /// A group of paths where targets are meant.
    #[error("is a group of paths; here stand targets")]
    Paths,
}

/// Where a group of hosts is documented.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// What those who run the hosts document, as URLs.
    pub documents: Vec<String>,
    /// The day on which the group was last looked through, `2026-11-26`.
    pub checked: String,
}

/// The groups that ship, by name, as the language writes them: patterns or targets.
pub fn shipped() -> BTreeMap<String, Vec<String>> {
    part("groups").into_iter().map(|entry| (entry.key, texts(entry.value))).collect()
}

/// Where those of [`shipped`] that are of hosts are documented, by name.
pub fn sources() -> BTreeMap<String, Sources> {
    let sources = |node: Node| {
        let mut sources = Sources::default();
        for entry in entries(node) {
            match entry.key.as_str() {
                "documents" => sources.documents = texts(entry.value),
                "checked" => sources.checked = text(entry.value).unwrap_or_default(),
                _ => {}
            }
        }
        sources
    };
    part("sources").into_iter().map(|entry| (entry.key, sources(entry.value))).collect()
}

/// What stands under a key of the shipped file.
fn part(key: &str) -> Vec<Entry> {
    let all = crate::document::read(SHIPPED).map(entries).unwrap_or_default();
    all.into_iter().find(|entry| entry.key == key).map(|entry| entries(entry.value)).unwrap_or_default()
}

fn entries(node: Node) -> Vec<Entry> {
    match node.kind {
        Kind::Mapping(entries) => entries,
        _ => Vec::new(),
    }
}

fn texts(node: Node) -> Vec<String> {
    match node.kind {
        Kind::Sequence(items) => items.into_iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

fn text(node: Node) -> Option<String> {
    match node.kind {
        Kind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The groups that a policy's file defines, by name, as they are written. Whether the rest of it is right is not
/// looked at.
///
/// # Errors
///
/// The file is not YAML.
pub fn of_file(source_name: &str, bytes: &[u8]) -> Result<BTreeMap<String, Vec<String>>, Errors> {
    let text = crate::document::decode(bytes).map_err(|error| Errors::new(source_name, "", vec![error]))?;
    let document = crate::document::read(text).map_err(|errors| Errors::new(source_name, text, errors))?;
    let groups = crate::parse::policy(&document, &mut Report::default()).groups.into_iter();
    let texts = |entries: Vec<Placed<String>>| entries.into_iter().map(|entry| entry.value).collect();
    Ok(groups.map(|(name, entries)| (name.value, texts(entries))).collect())
}

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Paths,
    Targets,
}

/// A group as written: its name, and its entries.
pub(crate) type RawGroup = (Placed<String>, Vec<Placed<String>>);

/// The groups that a policy can name.
pub(crate) struct Groups {
    own: BTreeMap<String, (Place, Vec<Placed<String>>)>,
    shipped: BTreeMap<String, Vec<String>>,
    used: BTreeSet<String>,
}

impl Groups {
    pub fn new(raw: Vec<RawGroup>, report: &mut Report) -> Self {
        let shipped = shipped();
        let mut own = BTreeMap::new();
        for (name, entries) in raw {
            if shipped.contains_key(&name.value) {
                report.error(name.place, Problem::ShippedGroup { name: name.value });
                continue;
            }
            own.insert(name.value, (name.place, entries));
        }
        Self { own, shipped, used: BTreeSet::new() }
    }

    /// The entries of a list, with groups replaced by theirs.
    pub fn expand(&mut self, texts: &[Placed<String>], of: Of, report: &mut Report) -> Vec<Placed<String>> {
        let mut out = Vec::new();
        for text in texts {
            match text.value.strip_prefix('@') {
                None => out.push(text.clone()),
                Some(name) => {
                    let from = out.len();
                    if let Err(fault) = self.add(name, text.place, of, from, &mut Vec::new(), &mut out) {
                        out.truncate(from);
                        report.error(text.place, Problem::Group { name: text.value.clone(), fault });
                    }
                }
            }
        }
        out
    }

    fn add(
        &mut self,
        name: &str,
        place: Place,
        of: Of,
        from: usize,
        path: &mut Vec<String>,
        out: &mut Vec<Placed<String>>,
    ) -> Result<(), GroupFault> {
        if path.iter().any(|outer| outer == name) || path.len() >= MAX_DEPTH {
            return Err(GroupFault::Cycle);
        }
        let entries = match (self.own.get(name), self.shipped.get(name)) {
            (Some((_, entries)), _) => entries.clone(),
            (None, Some(_)) if of == Of::Targets && PATHS.contains(&name) => return Err(GroupFault::Paths),
            (None, Some(_)) if of == Of::Paths && HOSTS.contains(&name) => return Err(GroupFault::Hosts),
            (None, Some(texts)) => texts.iter().map(|text| Placed { value: text.clone(), place }).collect(),
            (None, None) => {
                let nearest = crate::nearest::nearest(name, HOSTS.into_iter().chain(PATHS));
                return Err(GroupFault::Unknown { nearest });
            }
        };
        self.used.insert(name.to_owned());
        path.push(name.to_owned());
        for entry in entries {
            match entry.value.strip_prefix('@') {
                Some(inner) => self.add(inner, entry.place, of, from, path, out)?,
                None => out.push(entry),
            }
            if out.len() - from > MAX_ENTRIES {
                return Err(GroupFault::TooLarge);
            }
        }
        path.pop();
        Ok(())
    }

    /// Says which groups nothing names.
    pub fn note_unused(&self, report: &mut Report) {
        for (name, (place, _)) in self.own.iter().filter(|(name, _)| !self.used.contains(*name)) {
            report.warn(*place, format!("group `{name}` is named by no rule"));
        }
    }
}
