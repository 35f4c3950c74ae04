//! Rules of an agent's gateway to a policy of ours.
//!
//! Read is a list `rules` (or `policies`), each with `action: ALLOW | HUMAN_APPROVAL | BLOCK` and what it is about,
//! `path_prefix` or `destination_domain` (with `destination_port`), in the rule or in its `match` or `conditions`;
//! and `default_action`, which is BLOCK where the file does not say. There the first rule that matches decides;
//! here a denial does, which is never wider, and [`order`] says where it is stricter.

mod order;

use super::{ConvertError, EXEC, Effect, FILES, Flag, NETWORK, Reading, RuleDraft, get, name_about, name_of};
use crate::address::Target;
use crate::document::{Entry, Node};
use crate::error::Place;
use crate::pattern::escape;
use order::{Seen, Turn};

/// What a rule does, the strictest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Allow,
    Ask,
    Block,
}

impl Action {
    fn effect(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Block => "deny",
        }
    }
}

/// Keys that only describe a rule.
const DESCRIPTIONS: [&str; 4] = ["id", "description", "severity", "tags"];

pub(super) fn read(document: &Node, to: &mut Reading<'_>) -> Result<(), ConvertError> {
    let top = to.entries(document, "the file")?;
    let rules = match (get(top, "rules"), get(top, "policies")) {
        (Some(rules), None) | (None, Some(rules)) => rules,
        (Some(_), Some(policies)) => {
            return to
                .form(policies.place, "`rules` or `policies`, not both: which of them holds is not known");
        }
        (None, None) => {
            return to.form(document.place, "`rules` is missing: a list of entries with `action`");
        }
    };
    let default = match get(top, "default_action") {
        Some(entry) => action(&entry.value, to)?,
        None => {
            to.remark(document.place, Effect::Note, "there is no `default_action`: it is taken to be BLOCK");
            Action::Block
        }
    };
    if default == Action::Ask {
        let text = "a default cannot ask: what no rule matches is denied";
        to.remark(document.place, Effect::Stricter, text);
    }
    let default = if default == Action::Allow { "allow" } else { "deny" };
    to.draft.name = "gateway".to_owned();
    for entry in top {
        match entry.key.as_str() {
            "rules" | "policies" | "default_action" => {}
            "name" => to.draft.name = name_of(to.text(&entry.value, "`name`")?, "gateway"),
            "description" => to.draft.description = Some(to.text(&entry.value, "`description`")?.to_owned()),
            "version" => {}
            key => {
                to.remark(entry.place, Effect::Wider, format!("`{key}` is not known here: it is left out"))
            }
        }
    }
    for section in [FILES, NETWORK] {
        to.draft.sections[section].default = Some(default);
    }
    let mut seen = Vec::new();
    for item in to.items(&rules.value, "`rules`")? {
        seen.extend(rule(item, default, to)?);
    }
    order::compare(&seen, document.place, to);
    let text =
        "a gateway says nothing about programs: only those below what is blocked or asked about are judged";
    to.remark(document.place, Effect::Note, text);
    Ok(())
}

fn action(node: &Node, to: &Reading<'_>) -> Result<Action, ConvertError> {
    match to.text(node, "an action")?.to_ascii_uppercase().as_str() {
        "ALLOW" => Ok(Action::Allow),
        "HUMAN_APPROVAL" => Ok(Action::Ask),
        "BLOCK" => Ok(Action::Block),
        _ => to.form(node.place, "an action is ALLOW, HUMAN_APPROVAL or BLOCK"),
    }
}

/// What a rule says.
#[derive(Default)]
struct Parts<'n> {
    prefixes: Vec<(&'n str, Place)>,
    domains: Vec<(&'n str, Place)>,
    port: Option<&'n str>,
    timeout: Option<String>,
    because: Option<String>,
    name: Option<String>,
    enabled: Flag,
    turn: Turn,
    /// Conditions without a word here.
    unknown: Vec<(String, Place)>,
}

/// Puts a rule into the draft; what there is of it.
fn rule(item: &Node, default: &str, to: &mut Reading<'_>) -> Result<Option<Seen>, ConvertError> {
    let entries = to.entries(item, "a rule")?;
    let Some(verdict) = get(entries, "action") else { return to.form(item.place, "`action` is missing") };
    let action = action(&verdict.value, to)?;
    let mut parts = Parts { enabled: Flag::Set, ..Parts::default() };
    collect(entries, &mut parts, to)?;
    if !parts.enabled.is_set() {
        to.remark(item.place, Effect::Aside, "the rule is not enabled: it is left out");
        return Ok(None);
    }
    if action != Action::Ask && parts.timeout.take().is_some() {
        to.remark(item.place, Effect::Aside, "only what asks waits: `timeout_seconds` is left out");
    }
    if !parts.unknown.is_empty() {
        // Without its condition a rule is about more.
        let keys: Vec<String> = parts.unknown.iter().map(|(key, _)| format!("`{key}`")).collect();
        let keys = keys.join(", ");
        let place = parts.unknown[0].1;
        let closes = action == Action::Block || (action == Action::Ask && default == "allow");
        if !closes {
            to.remark(place, Effect::Stricter, format!("{keys} cannot be told here: the rule is left out"));
            return Ok(None);
        }
        to.remark(place, Effect::Stricter, format!("{keys} cannot be told here: the rule holds without it"));
    }
    let opens = action == Action::Allow || (action == Action::Ask && default == "deny");
    if opens && !parts.prefixes.is_empty() && !parts.domains.is_empty() {
        // Two rules would open each by itself.
        let text = "a path together with a host cannot be told here: the rule is left out";
        to.remark(item.place, Effect::Stricter, text);
        return Ok(None);
    }
    if parts.prefixes.is_empty() && parts.domains.is_empty() {
        let effect = match (action, default) {
            (Action::Allow, "deny") => Effect::Stricter,
            (Action::Ask, "deny") => Effect::Stricter,
            (Action::Allow, _) => Effect::Aside,
            _ => Effect::Wider,
        };
        to.remark(item.place, effect, "the rule names no path and no host: it is left out");
        return Ok(None);
    }
    let lost = if action == Action::Block || default == "allow" { Effect::Wider } else { Effect::Stricter };
    let turn = parts.turn;
    let mut seen = Seen { action, place: item.place, turn, prefixes: Vec::new(), targets: Vec::new() };
    let mut paths = Vec::new();
    for (prefix, place) in &parts.prefixes {
        match pattern(prefix) {
            Some(pattern) => {
                if action != Action::Block && !prefix.ends_with('/') {
                    let text = format!(
                        "`{prefix}` is all that begins so, also `{prefix}-other`: `{prefix}/` would be what lies below it"
                    );
                    to.remark(*place, Effect::Note, text);
                }
                paths.push(pattern);
                seen.prefixes.push((*prefix).to_owned());
            }
            None => to.remark(*place, lost, format!("`{prefix}` is no absolute path: it is left out")),
        }
    }
    let mut targets = Vec::new();
    for (domain, place) in &parts.domains {
        let target = target(domain, parts.port);
        // Words of ours that are no names of hosts.
        let host = domain.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let word = ["any", "own"].contains(&host.as_str());
        match Target::parse(&target) {
            Ok(read) if !word => {
                targets.push(target);
                seen.targets.push(read);
            }
            Ok(_) => to.remark(*place, lost, format!("`{domain}` is no host: it is left out")),
            Err(why) => to.remark(*place, lost, format!("`{domain}` {why}: it is left out")),
        }
    }
    let object = seen.prefixes.first().or(targets.first()).map(String::as_str).unwrap_or_default();
    let name = match &parts.name {
        Some(name) => name_of(name, action.effect()),
        None => name_about(action.effect(), &object.replacen("~/", "home/", 1)),
    };
    // Of a rule that becomes several each has a name that says which it is.
    let of_programs = format!("{name}-run");
    let of_hosts = if paths.is_empty() { name.clone() } else { format!("{name}-network") };
    push(FILES, action, &paths, name, &parts, to);
    if action != Action::Allow && !paths.is_empty() {
        to.draft.sections[EXEC].default = Some("allow");
        push(EXEC, action, &paths, of_programs, &parts, to);
    }
    push(NETWORK, action, &targets, of_hosts, &parts, to);
    Ok(Some(seen))
}

fn collect<'n>(
    entries: &'n [Entry],
    parts: &mut Parts<'n>,
    to: &mut Reading<'_>,
) -> Result<(), ConvertError> {
    for entry in entries {
        let value = &entry.value;
        let what = format!("`{}`", entry.key);
        match entry.key.as_str() {
            "action" => {}
            "match" | "conditions" => collect(to.entries(value, &what)?, parts, to)?,
            "path_prefix" => parts.prefixes.extend(texts(value, &what, to)?),
            "destination_domain" => parts.domains.extend(texts(value, &what, to)?),
            "destination_port" if parts.port.is_some() => {
                return to.form(value.place, "one `destination_port` for a rule");
            }
            "destination_port" => parts.port = Some(to.text(value, &what)?),
            "timeout_seconds" => {
                let seconds: Option<u32> = to.text(value, &what)?.parse().ok().filter(|seconds| *seconds > 0);
                let Some(seconds) = seconds else {
                    return to.form(value.place, "a number of seconds, from 1");
                };
                parts.timeout = Some(format!("{seconds}s"));
            }
            "reason" | "message" => parts.because = Some(to.text(value, &what)?.to_owned()),
            "name" => parts.name = Some(to.text(value, &what)?.to_owned()),
            "priority" => parts.turn = Turn::Chosen,
            "enabled" => parts.enabled = to.flag(value, &what)?,
            key if DESCRIPTIONS.contains(&key) => {}
            key => parts.unknown.push((key.to_owned(), entry.place)),
        }
    }
    Ok(())
}

/// One text, or a list of them.
fn texts<'n>(node: &'n Node, what: &str, to: &Reading<'_>) -> Result<Vec<(&'n str, Place)>, ConvertError> {
    match &node.kind {
        crate::document::Kind::Sequence(items) => {
            items.iter().map(|item| Ok((to.text(item, what)?, item.place))).collect()
        }
        _ => Ok(vec![(to.text(node, what)?, node.place)]),
    }
}

/// What begins with the text: `/a` is `/a`, `/ab` and all below them, `/a/` what lies below `/a`.
fn pattern(prefix: &str) -> Option<String> {
    match prefix.strip_prefix("~/") {
        Some(rest) => Some(format!("${{HOME}}/{}*/**", escape(rest.as_bytes()))),
        None if prefix == "/" => Some("/**".to_owned()),
        None => prefix.starts_with('/').then(|| format!("{}*/**", escape(prefix.as_bytes()))),
    }
}

fn target(domain: &str, port: Option<&str>) -> String {
    let host = if domain == "*" { "any" } else { domain };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn push(
    section: usize,
    action: Action,
    objects: &[String],
    name: String,
    parts: &Parts<'_>,
    to: &mut Reading<'_>,
) {
    if objects.is_empty() {
        return;
    }
    let (accesses, key) = match section {
        FILES => ("all", "path"),
        EXEC => ("run", "path"),
        _ => ("connect, send", "to"),
    };
    to.draft.sections[section].rules.push(RuleDraft {
        effect: action.effect(),
        accesses,
        key,
        objects: objects.to_vec(),
        by: Vec::new(),
        trial: false,
        timeout: parts.timeout.clone(),
        because: parts.because.clone(),
        name,
    });
}
