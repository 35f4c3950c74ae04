//! A policy of ours to KubeArmorPolicies, one document for each action.
//!
//! KubeArmor has no exceptions, no asking, no accesses but reading and everything, and knows networks by protocol
//! only. What denies becomes stricter where it must; what allows is left out. Only what allows to read and to write is
//! said with all that goes with it there, and told: a temporary directory that cannot be written is none.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::{Converted, Effect, Remark};
use crate::access::{Access, AccessSet, SectionKind};
use crate::model::{Decision, Mode, Policy, Rule, Section};
use crate::pattern::{Element, Pattern, escape};
use crate::print::quoted;

/// The documents, by action.
#[derive(Default)]
struct Document {
    process: [Vec<String>; 3],
    file: [Vec<String>; 3],
    network: Vec<String>,
}

/// The lists of a document, in the order of its arrays.
const LISTS: [&str; 3] = ["matchPaths", "matchDirectories", "matchPatterns"];
const ACTIONS: [&str; 3] = ["Allow", "Audit", "Block"];

/// A KubeArmorPolicy of the policy, stricter or equal but for what its remarks call wider; `labels` are those of the containers that it is about.
pub fn to_kubearmor(policy: &Policy, labels: &[(String, String)]) -> Converted {
    let mut to = Writing { documents: Default::default(), remarks: Vec::new() };
    to.paths(policy, SectionKind::Files, &policy.files);
    to.paths(policy, SectionKind::Exec, &policy.exec);
    to.network(policy);
    to.remark(Effect::Wider, "what the section `kernel` closes in an enforced run has no word there");
    for key in policy.settings.keys() {
        to.remark(Effect::Wider, format!("the section `{key}` has no word there: it is left out"));
    }
    if labels.is_empty() {
        to.remark(Effect::Note, "no labels are given: the selector is empty, and must be filled in");
    }
    let mut text = String::new();
    for (document, action) in to.documents.iter().zip(ACTIONS) {
        document.write(&mut text, policy, action, labels);
    }
    if text.is_empty() {
        text.push_str("# Nothing of the policy can be said in a KubeArmorPolicy.\n");
    }
    to.remarks.sort();
    to.remarks.dedup();
    Converted { text, remarks: to.remarks }
}

struct Writing {
    /// As [`ACTIONS`].
    documents: [Document; 3],
    remarks: Vec<Remark>,
}

impl Writing {
    fn remark(&mut self, effect: Effect, text: impl Into<String>) {
        self.remarks.push(Remark { line: None, effect, text: text.into() });
    }

    fn paths(&mut self, policy: &Policy, kind: SectionKind, section: &Section<Pattern>) {
        let granted = Granted::in_section(section);
        let mut allows = false;
        for rule in section.rules.iter().filter(|rule| !rule.is_void()) {
            if rule.effect == Decision::Allow {
                // Where everything is allowed, what allows says nothing.
                if section.default == Decision::Deny {
                    allows |= self.allow(kind, rule, &granted);
                }
            } else {
                let trial = rule.mode == Mode::Audit || policy.mode == Mode::Audit;
                self.deny(kind, rule, if trial { 1 } else { 2 });
            }
        }
        if section.default == Decision::Deny && !allows {
            let (name, text) = (kind.name(), "denies by default, and nothing allowed could be carried over");
            self.remark(Effect::Wider, format!("section `{name}` {text}: a KubeArmorPolicy needs one Allow"));
        }
    }

    /// Whether the rule could be said at all.
    fn allow(&mut self, kind: SectionKind, rule: &Rule<Pattern>, granted: &Granted<'_>) -> bool {
        let name = &rule.name;
        let left_out = |why: &str| format!("rule `{name}` {why}: it is left out");
        if !rule.except.is_empty() {
            self.remark(Effect::Stricter, left_out("has exceptions"));
            return false;
        }
        let Some(sources) = self.sources(rule) else {
            self.remark(Effect::Stricter, left_out("is bound to processes that are no plain paths"));
            return false;
        };
        let mut any = false;
        for pattern in &rule.objects {
            let read_only = match kind {
                SectionKind::Exec => "",
                _ => match self.form(rule, granted.of(rule, pattern)) {
                    Some(read_only) => read_only,
                    None => continue,
                },
            };
            any |= self.put(kind, (rule, pattern), 0, read_only, &sources, Effect::Stricter);
        }
        any
    }

    /// How accesses that are allowed are said; `None` where they cannot be, and are left out.
    fn form(&mut self, rule: &Rule<Pattern>, granted: AccessSet) -> Option<&'static str> {
        let name = &rule.name;
        if granted.contains(Access::Read) && !granted.contains(Access::Load) {
            self.remark(Effect::Wider, "what may be read may be loaded as code there, which is `load` here");
        }
        match (granted.contains(Access::Read), granted.contains(Access::Write)) {
            (true, true) => {
                let besides = SectionKind::Files.accesses().without(granted.union(Access::Load.into()));
                if !besides.is_empty() {
                    let words: Vec<String> = besides.iter().map(|access| format!("`{access}`")).collect();
                    let what = "reading and writing have one word there, which also allows";
                    self.remark(Effect::Wider, format!("rule `{name}`: {what} {}", words.join(", ")));
                }
                Some("")
            }
            (true, false) => {
                let read = AccessSet::from(Access::Read).union(Access::Load.into());
                if !granted.without(read).is_empty() {
                    let what = "allows changes, but not to write: it allows reading only";
                    self.remark(Effect::Stricter, format!("rule `{name}` {what}"));
                }
                Some("readOnly: true")
            }
            (false, _) => {
                let why = match granted.without(Access::Load.into()).is_empty() {
                    true => "allows to load code, which has no word there",
                    false => "allows changes without reading",
                };
                self.remark(Effect::Stricter, format!("rule `{name}` {why}: it is left out"));
                None
            }
        }
    }

    fn deny(&mut self, kind: SectionKind, rule: &Rule<Pattern>, action: usize) {
        let name = &rule.name;
        if !rule.sha256.is_empty() {
            self.remark(Effect::Wider, format!("rule `{name}` is about contents: it is left out"));
            return;
        }
        if rule.effect == Decision::Ask {
            self.remark(Effect::Stricter, format!("rule `{name}` asks: it denies"));
        }
        if !rule.except.is_empty() {
            self.remark(Effect::Stricter, format!("rule `{name}` has exceptions: it holds for them too"));
        }
        let sources = self.sources(rule).unwrap_or_else(|| {
            self.remark(
                Effect::Stricter,
                format!("rule `{name}` is bound to processes: it holds for everyone"),
            );
            Vec::new()
        });
        let changes: AccessSet =
            [Access::Write, Access::Create, Access::Delete, Access::Attributes].into_iter().collect();
        let wanted = rule.accesses.without(Access::Load.into());
        let reads = wanted.contains(Access::Read) || wanted.is_empty();
        let read_only = if kind == SectionKind::Exec || reads { "" } else { "readOnly: true" };
        if kind == SectionKind::Files {
            let blocked = if reads { changes.union(Access::Read.into()) } else { changes };
            if !blocked.without(rule.accesses).is_empty() {
                let what = if reads { "every access" } else { "every change" };
                self.remark(
                    Effect::Stricter,
                    format!("rule `{name}` denies some accesses: it denies {what}"),
                );
            }
        }
        for pattern in &rule.objects {
            self.put(kind, (rule, pattern), action, read_only, &sources, Effect::Wider);
        }
    }

    /// The executables as `fromSource`; `None` where the rule's conditions are more than that.
    fn sources(&self, rule: &Rule<Pattern>) -> Option<Vec<String>> {
        if !rule.who.unless_by().is_empty() || rule.who.under().is_some() {
            return None;
        }
        let by = rule.who.by().unwrap_or_default();
        by.iter().map(|pattern| String::from_utf8(pattern.literal()?).ok()).collect()
    }

    /// Puts a rule's pattern into a document; whether any of it could be said.
    fn put(
        &mut self,
        kind: SectionKind,
        (rule, pattern): (&Rule<Pattern>, &Pattern),
        action: usize,
        read_only: &str,
        sources: &[String],
        lost: Effect,
    ) -> bool {
        let mut any = false;
        for glob in pattern.globs() {
            let Some((list, text)) = entry(glob) else {
                let what = "has no form there: it is left out";
                self.remark(lost, format!("rule `{}`: `{}` {what}", rule.name, pattern.text()));
                continue;
            };
            // Patterns know no sources there.
            if list == 2 && !sources.is_empty() {
                let what = "a pattern cannot be bound to a process there: it is left out";
                self.remark(lost, format!("rule `{}`: {what}", rule.name));
                continue;
            }
            any = true;
            let mut lines = vec![text];
            lines.extend((!read_only.is_empty()).then(|| read_only.to_owned()));
            if !sources.is_empty() {
                lines.push("fromSource:".to_owned());
                lines.extend(sources.iter().map(|source| format!("- path: {}", quoted(source))));
            }
            let document = &mut self.documents[action];
            let section = if kind == SectionKind::Exec { &mut document.process } else { &mut document.file };
            section[list].push(lines.join("\n      "));
        }
        any
    }

    fn network(&mut self, policy: &Policy) {
        let section = &policy.network;
        let tcp = "protocol: TCP".to_owned();
        let udp = "protocol: UDP".to_owned();
        for rule in &section.rules {
            let name = &rule.name;
            let reaches = rule.accesses.contains(Access::Connect) || rule.accesses.contains(Access::Send);
            match rule.effect {
                Decision::Allow if section.default == Decision::Deny => {
                    self.remark(Effect::Stricter, format!("rule `{name}` allows some ends: it is left out"));
                }
                Decision::Allow => {}
                _ if reaches && rule.objects.iter().any(|to| to.is_everything()) => {
                    if !rule.except.is_empty() || !rule.who.is_anyone() || rule.effect == Decision::Ask {
                        self.remark(
                            Effect::Stricter,
                            format!("rule `{name}` has conditions: it holds for all"),
                        );
                    }
                    let trial = rule.mode == Mode::Audit || policy.mode == Mode::Audit;
                    self.documents[if trial { 1 } else { 2 }].network.extend([tcp.clone(), udp.clone()]);
                }
                _ => self.remark(Effect::Wider, format!("rule `{name}` denies some ends: it is left out")),
            }
        }
        if section.default == Decision::Deny {
            let action = if policy.mode == Mode::Audit { 1 } else { 2 };
            self.documents[action].network.extend([tcp, udp, "protocol: ICMP".to_owned()]);
            self.remark(
                Effect::Stricter,
                "section `network` denies by default: all of TCP, UDP and ICMP is blocked",
            );
            self.remark(
                Effect::Wider,
                "section `network` denies by default: unix and raw sockets and other families stay open",
            );
        }
    }
}

/// The rules of a section that allow without exceptions, by the texts of their patterns: several may speak of one.
struct Granted<'a>(HashMap<&'a str, Vec<&'a Rule<Pattern>>>);

impl<'a> Granted<'a> {
    fn in_section(section: &'a Section<Pattern>) -> Self {
        let mut by_text: HashMap<&str, Vec<&Rule<Pattern>>> = HashMap::new();
        let plain = |rule: &&Rule<Pattern>| {
            rule.effect == Decision::Allow && rule.except.is_empty() && !rule.is_void()
        };
        for rule in section.rules.iter().filter(plain) {
            rule.objects.iter().for_each(|object| by_text.entry(object.text()).or_default().push(rule));
        }
        Self(by_text)
    }

    /// What is allowed of the pattern to those whom the rule is about.
    fn of(&self, rule: &Rule<Pattern>, pattern: &Pattern) -> AccessSet {
        let rules = self.0.get(pattern.text()).into_iter().flatten();
        let same = rules.filter(|other| other.who == rule.who);
        same.fold(rule.accesses, |all, other| all.union(other.accesses))
    }
}

/// The list and the entry that mean one alternative of a pattern.
fn entry(glob: &[Element]) -> Option<(usize, String)> {
    let literal = |elements: &[Element]| -> Option<String> {
        let bytes: Option<Vec<u8>> = elements
            .iter()
            .map(|element| match element {
                Element::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect();
        String::from_utf8(bytes?).ok().filter(|text| !text.chars().any(char::is_control))
    };
    if let Some(path) = literal(glob) {
        return Some((0, format!("path: {}", quoted(&path))));
    }
    if let [before @ .., Element::Below] = glob
        && let Some(dir) = literal(before)
    {
        return Some((1, format!("dir: {}\n      recursive: true", quoted(&format!("{dir}/")))));
    }
    // AppArmor's globs: `*` in a component, `**` across.
    let mut text = String::new();
    for element in glob {
        match element {
            Element::Byte(byte) if byte.is_ascii_graphic() || *byte == b' ' => {
                let c = char::from(*byte);
                if escape(&[*byte]).starts_with('\\') {
                    return None;
                }
                text.push(c);
            }
            Element::Star => text.push('*'),
            Element::Any => text.push_str("**"),
            Element::Below => text.push_str("{,/**}"),
            Element::Deep => text.push_str("{,**/}"),
            _ => return None,
        }
    }
    Some((2, format!("pattern: {}", quoted(&text))))
}

impl Document {
    fn write(&self, out: &mut String, policy: &Policy, action: &str, labels: &[(String, String)]) {
        let used =
            self.process.iter().chain(&self.file).any(|list| !list.is_empty()) || !self.network.is_empty();
        if !used {
            return;
        }
        if !out.is_empty() {
            out.push_str("---\n");
        }
        let name = format!("{}-{}", policy.name(), action).to_ascii_lowercase().replace(['_', '.'], "-");
        let _ = writeln!(
            out,
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}"
        );
        let _ = writeln!(
            out,
            "spec:\n  selector:\n    matchLabels:{}",
            if labels.is_empty() { " {}" } else { "" }
        );
        for (key, value) in labels {
            let _ = writeln!(out, "      {}: {}", quoted(key), quoted(value));
        }
        for (section, lists) in [("process", &self.process), ("file", &self.file)] {
            if lists.iter().any(|list| !list.is_empty()) {
                let _ = writeln!(out, "  {section}:");
            }
            for (list, key) in lists.iter().zip(LISTS).filter(|(list, _)| !list.is_empty()) {
                let _ = writeln!(out, "    {key}:");
                // Several rules may have said the same.
                let mut said = BTreeSet::new();
                let entries = list.iter().filter(|entry| said.insert(entry.as_str()));
                entries.for_each(|entry| _ = writeln!(out, "    - {entry}"));
            }
        }
        if !self.network.is_empty() {
            out.push_str("  network:\n    matchProtocols:\n");
            let mut protocols = self.network.clone();
            protocols.sort();
            protocols.dedup();
            protocols.iter().for_each(|entry| _ = writeln!(out, "    - {entry}"));
        }
        let _ = writeln!(out, "  action: {action}");
    }
}
