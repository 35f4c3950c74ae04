//! Policies of other tools to ours, and ours to theirs.
//!
//! Nothing becomes wider in silence: what a target language has no word for is left out of what allows and kept,
//! stricter, in what denies. Where neither is possible or would leave nothing of use, and wherever something is left
//! out, a [`Remark`] says so.

mod gateway;
mod kubearmor;
mod to_kubearmor;

use std::fmt;

use crate::document::{self, Entry, Kind, Node};
use crate::error::{Errors, Place};
use crate::pattern::escape;
use crate::print::quoted;

pub use to_kubearmor::to_kubearmor;

/// What a conversion gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The result.
    pub text: String,
    /// What is not as it was.
    pub remarks: Vec<Remark>,
}

/// Something that is not in the result as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The line in the file, where there is one.
    pub line: Option<u32>,
    /// What that does to the result.
    pub effect: Effect,
    /// What it is, and why.
    pub text: String,
}

/// What became of something that is not in the result as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing of what the rules say is lost: a label, a severity, what is worth knowing.
    Note,
    /// Something of a rule is left out, and the result allows neither more nor less for it.
    Aside,
    /// The result allows less than the source.
    Stricter,
    /// The result allows what the source denies.
    Wider,
}

impl Effect {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Aside => "left aside",
            Self::Stricter => "stricter",
            Self::Wider => "WIDER",
        }
    }

    /// True where something of the source is not in the result, or not as it was.
    pub fn is_loss(self) -> bool {
        self != Self::Note
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.effect.name(), self.text)
    }
}

/// A language that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `kind: KubeArmorPolicy`, `security.kubearmor.com/v1`.
    KubeArmor,
    /// Rules of a gateway: `action: ALLOW | HUMAN_APPROVAL | BLOCK`.
    Gateway,
}

/// A file that is not of the language that it was taken for.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It is not YAML, or YAML that is not read here.
    #[error(transparent)]
    Document(#[from] Errors),
    /// It has not the form.
    #[error("{file}:{}:{}: {what}", .place.line, .place.column)]
    Form {
        /// The file.
        file: String,
        /// Where.
        place: Place,
        /// What is wrong, and what should stand there.
        what: String,
    },
}

/// What a file seems to be; `None` for a policy of ours, and for what is no YAML.
pub fn recognise(bytes: &[u8]) -> Option<Source> {
    let document = document::read(document::decode(bytes).ok()?).ok()?;
    let Kind::Mapping(entries) = &document.kind else { return None };
    let has = |key: &str| entries.iter().any(|entry| entry.key == key);
    if has("kind") && has("spec") {
        return Some(Source::KubeArmor);
    }
    let ours = ["files", "exec", "network", "extends", "kernel"];
    let foreign = has("policies") || (has("rules") && !ours.iter().any(|key| has(key)));
    foreign.then_some(Source::Gateway)
}

/// Reads a file of another tool. The text that comes out is a policy of ours.
///
/// # Errors
///
/// The file is not of that language.
pub fn from(source: Source, file: &str, bytes: &[u8]) -> Result<Converted, ConvertError> {
    let text = document::decode(bytes).map_err(|error| Errors::new(file, "", vec![error]))?;
    let document = document::read(text).map_err(|errors| Errors::new(file, text, errors))?;
    let mut reading = Reading { file, draft: Draft::default(), remarks: Vec::new() };
    match source {
        Source::KubeArmor => kubearmor::read(&document, &mut reading)?,
        Source::Gateway => gateway::read(&document, &mut reading)?,
    }
    let Reading { draft, mut remarks, .. } = reading;
    remarks.sort();
    remarks.dedup();
    Ok(Converted { text: draft.text(), remarks })
}

/// What is being read, and what came of it so far.
struct Reading<'a> {
    file: &'a str,
    draft: Draft,
    remarks: Vec<Remark>,
}

impl Reading<'_> {
    fn remark(&mut self, place: Place, effect: Effect, text: impl Into<String>) {
        self.remarks.push(Remark { line: Some(place.line), effect, text: text.into() });
    }

    fn form<T>(&self, place: Place, what: impl Into<String>) -> Result<T, ConvertError> {
        Err(ConvertError::Form { file: self.file.to_owned(), place, what: what.into() })
    }

    fn entries<'n>(&self, node: &'n Node, what: &str) -> Result<&'n [Entry], ConvertError> {
        match &node.kind {
            Kind::Mapping(entries) => Ok(entries),
            _ => self.form(node.place, format!("{what} must be a mapping of `key: value`")),
        }
    }

    fn items<'n>(&self, node: &'n Node, what: &str) -> Result<&'n [Node], ConvertError> {
        match &node.kind {
            Kind::Sequence(items) => Ok(items),
            _ => self.form(node.place, format!("{what} must be a list")),
        }
    }

    fn text<'n>(&self, node: &'n Node, what: &str) -> Result<&'n str, ConvertError> {
        match &node.kind {
            Kind::Scalar { text, .. } if !node.is_null() => Ok(text),
            _ => self.form(node.place, format!("{what} must be text")),
        }
    }

    fn flag(&self, node: &Node, what: &str) -> Result<Flag, ConvertError> {
        match self.text(node, what)? {
            "true" => Ok(Flag::Set),
            "false" => Ok(Flag::Unset),
            _ => self.form(node.place, format!("{what} must be `true` or `false`")),
        }
    }
}

/// A flag of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flag {
    Set,
    #[default]
    Unset,
}

impl Flag {
    fn is_set(self) -> bool {
        self == Self::Set
    }
}

fn get<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Entry> {
    entries.iter().find(|entry| entry.key == key)
}

/// A policy of ours in the making.
#[derive(Default)]
struct Draft {
    name: String,
    description: Option<String>,
    sections: [SectionDraft; 3],
    denied_calls: Vec<String>,
}

#[derive(Default)]
struct SectionDraft {
    /// Whether what no rule matches is denied; `None` leaves the section out.
    default: Option<&'static str>,
    rules: Vec<RuleDraft>,
}

/// A rule in the making.
struct RuleDraft {
    effect: &'static str,
    accesses: &'static str,
    /// `path` or `to`.
    key: &'static str,
    objects: Vec<String>,
    by: Vec<String>,
    trial: bool,
    timeout: Option<String>,
    because: Option<String>,
    name: String,
}

const SECTIONS: [&str; 3] = ["files", "exec", "network"];
const FILES: usize = 0;
const EXEC: usize = 1;
const NETWORK: usize = 2;

impl Draft {
    fn text(&self) -> String {
        let mut out = format!("version: 1\nname: {}\n", quoted(&self.name));
        if let Some(description) = &self.description {
            out += &format!("description: {}\n", quoted(description));
        }
        let mut taken = std::collections::BTreeSet::new();
        for (kind, section) in SECTIONS.iter().zip(&self.sections) {
            let Some(default) = section.default else { continue };
            out += &format!("{kind}:\n  default: {default}\n");
            if !section.rules.is_empty() {
                out += "  rules:\n";
            }
            for rule in &section.rules {
                let mut name = rule.name.clone();
                let mut count = 1;
                while !taken.insert(name.clone()) {
                    count += 1;
                    name = format!("{}-{count}", rule.name);
                }
                out += &rule.text(&name);
            }
        }
        if !self.denied_calls.is_empty() {
            out += &format!("syscalls: {{ deny: [{}] }}\n", self.denied_calls.join(", "));
        }
        out
    }
}

impl RuleDraft {
    fn text(&self, name: &str) -> String {
        let list = |texts: &[String]| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        let mut out = format!("    - name: {}\n      {}: [{}]\n", quoted(name), self.effect, self.accesses);
        out += &format!("      {}: [{}]\n", self.key, list(&self.objects));
        if !self.by.is_empty() {
            out += &format!("      by: [{}]\n", list(&self.by));
        }
        if let Some(timeout) = &self.timeout {
            out += &format!("      timeout: {timeout}\n");
        }
        if self.trial {
            out += "      mode: audit\n";
        }
        if let Some(because) = &self.because {
            out += &format!("      because: {}\n", quoted(because));
        }
        out
    }
}

/// A word as a name: what a name cannot have becomes `-`.
fn name_of(text: &str, instead: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(100).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    if name.is_empty() { instead.to_owned() } else { name }
}

/// A name for a rule that has none: what it does and the words of what it is about.
fn name_about(effect: &str, object: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let words = object.split(|c: char| !fits(c)).map(|word| word.trim_matches(['.', '_']));
    let mut name = effect.to_owned();
    for word in words.filter(|word| !word.is_empty()) {
        name.push('-');
        name.push_str(word);
    }
    if name == effect {
        name.push_str("-all");
    }
    // What is about such long things differs at the end at best; they are numbered.
    name.truncate(100);
    name
}

/// A literal path as a pattern; `None` where it is not absolute.
fn literal(path: &str) -> Option<String> {
    path.starts_with('/').then(|| escape(path.as_bytes()))
}
