//! One rule as written: its keys, and what it cannot do without.

use super::{Keys, RawAmend, RawRule, has, known, mapping, missing, mode, quantity, some, text, texts};
use crate::access::SectionKind;
use crate::document::{Entry, Kind, Node};
use crate::error::{Problem, Report};
use crate::model::{Decision, Mode};

pub(crate) const RULE: Keys = Keys {
    context: "a rule",
    read: &[
        "name",
        "allow",
        "ask",
        "deny",
        "path",
        "existing",
        "to",
        "sha256",
        "except",
        "by",
        "unless_by",
        "under",
        "mode",
        "timeout",
        "because",
    ],
    later: &["when"],
};
pub(crate) const AMEND: Keys =
    Keys { context: "an `amend`", read: &["amend", "except", "disable", "because"], later: &[] };

/// What a list of executables looks like.
const EXECUTABLES: &str = "a list of patterns of executables, as in `by: [\"/usr/bin/ssh\"]`";

/// An `amend`; `None` for what is a rule.
pub(super) fn amend(kind: SectionKind, node: &Node, report: &mut Report) -> Option<Option<RawAmend>> {
    let Kind::Mapping(entries) = &node.kind else { return None };
    let target = entries.iter().find(|entry| entry.key == "amend")?;
    let rule = text(&target.value, "`amend`", report);
    let (mut except, mut disable) = (Vec::new(), false);
    for entry in known(entries, &AMEND, report) {
        let value = &entry.value;
        match entry.key.as_str() {
            "except" => {
                let instead = "say what the rule shall leave out";
                except = some(value, "`except`", objects_of(kind), instead, report).unwrap_or_default();
            }
            "because" => _ = text(value, "`because`", report),
            "disable" => match &value.kind {
                Kind::Scalar { text, plain: true } if text == "true" => disable = true,
                _ => {
                    let (found, what) = (value.kind_name().to_owned(), "value of `disable`");
                    let problem =
                        Problem::BadWord { found, what, wanted: "`true`, or leave it out".to_owned() };
                    report.error(value.place, problem);
                }
            },
            _ => {}
        }
    }
    if !has(entries, &["except", "disable"]) {
        let instead = "say what it leaves out, or `disable: true`";
        missing(report, node.place, "an `amend`", "except", instead);
    }
    Some(rule.map(|rule| RawAmend { rule, except, disable }))
}

/// One rule.
pub(super) fn rule(kind: SectionKind, node: &Node, report: &mut Report) -> Option<RawRule> {
    let entries = mapping(node, "a rule", report)?;
    let mut rule = RawRule { place: node.place, ..RawRule::default() };
    let wanted = match kind {
        SectionKind::Network => "to",
        SectionKind::Files | SectionKind::Exec => "path",
    };
    let objects = objects_of(kind);
    let mut effects: Vec<(Decision, &Entry)> = Vec::new();
    for entry in known(entries, &RULE, report) {
        let value = &entry.value;
        match entry.key.as_str() {
            "name" => rule.name = text(value, "a rule's `name`", report),
            "because" => rule.because = text(value, "`because`", report).map(|text| text.value),
            "allow" => effects.push((Decision::Allow, entry)),
            "ask" => effects.push((Decision::Ask, entry)),
            "deny" => effects.push((Decision::Deny, entry)),
            "except" => rule.except = texts(value, "`except`", objects, report).unwrap_or_default(),
            "by" => rule.by = some(value, "`by`", EXECUTABLES, NOBODY, report),
            "unless_by" => rule.unless_by = some(value, "`unless_by`", EXECUTABLES, NOBODY, report),
            "under" => rule.under = some(value, "`under`", EXECUTABLES, NOBODY, report),
            "mode" => rule.mode = mode(value, "`mode` of a rule", report),
            "timeout" => rule.timeout = quantity(value, "`timeout`", report),
            "sha256" if kind == SectionKind::Exec => {
                let wanted = "a list of digests of 64 hexadecimal digits";
                rule.sha256 = some(value, "`sha256`", wanted, NOTHING, report);
            }
            "existing" if kind != SectionKind::Network => {
                rule.existing = some(value, "`existing`", EXISTING, NOTHING, report);
            }
            key if key == wanted => {
                rule.objects = some(value, &format!("`{key}`"), objects, NOTHING, report);
            }
            key => {
                let key =
                    ["to", "sha256", "existing"].into_iter().find(|known| *known == key).unwrap_or("path");
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
    let effect = effects.first().map(|(effect, _)| *effect);
    misplaced(entries, &rule, effect, report);
    rule_needs(entries, node, wanted, report);
    Some(rule)
}

/// What the objects of a section look like.
fn objects_of(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Network => "a list of targets, as in `to: [\"192.0.2.0/24:443\"]`",
        SectionKind::Files | SectionKind::Exec => "a list of patterns, as in `path: [\"/etc/**\"]`",
    }
}

/// What stands in `existing`.
const EXISTING: &str = "a list of patterns, as in `existing: [\"${WORKSPACE}/**/.env\"]`";

const NOBODY: &str = "leave it out where the rule is about everyone";
const NOTHING: &str = "a rule without an object would match nothing";

/// Keys that mean nothing beside the others.
fn misplaced(entries: &[Entry], rule: &RawRule, effect: Option<Decision>, report: &mut Report) {
    let mut refuse = |key, instead| {
        if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
            report.error(entry.place, Problem::Misplaced { key, instead });
        }
    };
    if effect.is_some_and(|effect| effect != Decision::Ask) {
        refuse("timeout", "only `ask` waits for an answer; leave it out");
    }
    if rule.mode == Mode::Audit && effect == Some(Decision::Allow) {
        refuse("mode", "a rule that allows blocks nothing that could be tried out; leave it out");
    }
    if entries.iter().any(|entry| ["path", "existing"].contains(&entry.key.as_str())) {
        refuse("sha256", "a rule is about paths or about contents; make two rules of it");
    }
}

/// What a rule cannot do without. A rule of a kind that is not supported yet needs other things.
fn rule_needs(entries: &[Entry], node: &Node, wanted: &'static str, report: &mut Report) {
    let has = |keys: &[&'static str]| has(entries, keys);
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
        need("allow", "say `allow: [...]`, `deny: [...]` or `ask: [...]`");
    }
    if !has(&["path", "existing", "to", "sha256", "when"]) {
        match wanted {
            "to" => need("to", "say to what, as in `to: [\"192.0.2.0/24:443\"]`"),
            _ => need("path", "say on what, as in `path: [\"/etc/**\"]`"),
        }
    }
}
