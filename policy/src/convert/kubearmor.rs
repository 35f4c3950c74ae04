//! KubeArmorPolicy (`security.kubearmor.com/v1`) to a policy of ours.
//!
//! `Allow` makes what no rule matches denied, `Block` denies, `Audit` puts on trial. Paths are literal, directories
//! end in a slash, patterns are AppArmor's globs.

use super::{
    ConvertError, EXEC, Effect, FILES, Flag, NETWORK, Reading, RuleDraft, get, literal, name_about, name_of,
};
use crate::document::{Entry, Node};
use crate::parse::settings::is_deniable;
use crate::pattern::{Parsed, Pattern, escape};
use crate::variables::{Scope, Variables};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Audit,
    Block,
}

impl Action {
    fn effect(self) -> &'static str {
        if self == Self::Allow { "allow" } else { "deny" }
    }
}

/// What a match is about beside its path.
struct Match {
    action: Action,
    read_only: Flag,
    owner_only: Flag,
    recursive: Flag,
    by: Vec<String>,
    because: Option<String>,
}

pub(super) fn read(document: &Node, to: &mut Reading<'_>) -> Result<(), ConvertError> {
    let top = to.entries(document, "the policy")?;
    let kind = get(top, "kind").map(|entry| to.text(&entry.value, "`kind`")).transpose()?;
    if !matches!(kind, Some("KubeArmorPolicy" | "KubeArmorHostPolicy" | "KubeArmorClusterPolicy")) {
        return to.form(document.place, "`kind` must be KubeArmorPolicy");
    }
    to.draft.name = "kubearmor".to_owned();
    if let Some(metadata) = get(top, "metadata") {
        let entries = to.entries(&metadata.value, "`metadata`")?;
        for entry in entries {
            match entry.key.as_str() {
                "name" => to.draft.name = name_of(to.text(&entry.value, "`name`")?, "kubearmor"),
                key => to.remark(entry.place, Effect::Note, format!("`metadata.{key}` has no meaning here")),
            }
        }
    }
    let Some(spec) = get(top, "spec") else { return to.form(document.place, "`spec` is missing") };
    let spec = to.entries(&spec.value, "`spec`")?;
    let because = get(spec, "message").map(|entry| to.text(&entry.value, "`message`")).transpose()?;
    let action = action(spec, to)?.unwrap_or(Action::Block);
    for entry in spec {
        let section = match entry.key.as_str() {
            "action" | "message" => continue,
            "process" => EXEC,
            "file" => FILES,
            "network" => NETWORK,
            "syscalls" => {
                syscalls(entry, action, to)?;
                continue;
            }
            "capabilities" => {
                let effect = if action == Action::Allow { Effect::Stricter } else { Effect::Wider };
                to.remark(entry.place, effect, "`capabilities` have no words here; see the section `kernel`");
                continue;
            }
            "selector" | "severity" | "tags" | "nodeSelector" => {
                let text = format!("`{}` has no meaning here", entry.key);
                to.remark(entry.place, Effect::Note, text);
                continue;
            }
            key => return to.form(entry.place, format!("`{key}` is no part of a KubeArmorPolicy's spec")),
        };
        let matches = to.entries(&entry.value, &format!("`{}`", entry.key))?;
        let action = self::action(matches, to)?.unwrap_or(action);
        for list in matches.iter().filter(|list| list.key != "action") {
            for item in to.items(&list.value, &format!("`{}`", list.key))? {
                one(section, list, item, action, because, to)?;
            }
        }
    }
    Ok(())
}

fn action(entries: &[Entry], to: &Reading<'_>) -> Result<Option<Action>, ConvertError> {
    let Some(entry) = get(entries, "action") else { return Ok(None) };
    match to.text(&entry.value, "`action`")? {
        "Allow" => Ok(Some(Action::Allow)),
        "Audit" => Ok(Some(Action::Audit)),
        "Block" => Ok(Some(Action::Block)),
        _ => to.form(entry.value.place, "`action` must be Allow, Audit or Block"),
    }
}

/// One entry of a `match…` list.
fn one(
    section: usize,
    list: &Entry,
    item: &Node,
    action: Action,
    because: Option<&str>,
    to: &mut Reading<'_>,
) -> Result<(), ConvertError> {
    let entries = to.entries(item, &format!("an entry of `{}`", list.key))?;
    let wanted = match (section, list.key.as_str()) {
        (NETWORK, "matchProtocols") => "protocol",
        (FILES | EXEC, "matchPaths") => "path",
        (FILES | EXEC, "matchDirectories") => "dir",
        (FILES | EXEC, "matchPatterns") => "pattern",
        (_, key) => return to.form(list.place, format!("`{key}` is not known here")),
    };
    let Some(object) = get(entries, wanted) else {
        return to.form(item.place, format!("`{wanted}` is missing"));
    };
    let text = to.text(&object.value, &format!("`{wanted}`"))?;
    let mut about = Match {
        action: self::action(entries, to)?.unwrap_or(action),
        read_only: Flag::Unset,
        owner_only: Flag::Unset,
        recursive: Flag::Unset,
        by: Vec::new(),
        because: because.map(str::to_owned),
    };
    for entry in entries.iter().filter(|entry| entry.key != wanted) {
        let what = format!("`{}`", entry.key);
        match entry.key.as_str() {
            "readOnly" if section == FILES => about.read_only = to.flag(&entry.value, &what)?,
            "ownerOnly" => about.owner_only = to.flag(&entry.value, &what)?,
            "recursive" => about.recursive = to.flag(&entry.value, &what)?,
            "fromSource" => about.by = sources(&entry.value, to)?,
            "message" => about.because = Some(to.text(&entry.value, &what)?.to_owned()),
            "action" => {}
            "severity" | "tags" => {
                to.remark(entry.place, Effect::Note, format!("{what} has no meaning here"))
            }
            key => return to.form(entry.place, format!("`{key}` is not known here")),
        }
    }
    // The posture of the section holds also where the entry cannot be carried over.
    let default = &mut to.draft.sections[section].default;
    match (about.action, *default) {
        (Action::Allow, _) => *default = Some("deny"),
        (_, None) => *default = Some("allow"),
        _ => {}
    }
    let lost = if about.action == Action::Allow { Effect::Stricter } else { Effect::Wider };
    let (key, objects) = if section == NETWORK {
        match text.to_ascii_lowercase().as_str() {
            word @ ("tcp" | "udp") => ("to", vec![format!("any/{word}")]),
            _ => {
                to.remark(object.place, lost, format!("protocol `{text}` has no word here: it is left out"));
                return Ok(());
            }
        }
    } else {
        match path(list.key.as_str(), text, about.recursive) {
            Some(pattern) => ("path", vec![pattern]),
            None => {
                let text = format!("`{text}` cannot be written as a pattern: it is left out");
                to.remark(object.place, lost, text);
                return Ok(());
            }
        }
    };
    if about.owner_only.is_set() {
        if about.action == Action::Allow {
            to.remark(object.place, Effect::Stricter, format!("`{text}` is for owners only: it is left out"));
            return Ok(());
        }
        to.remark(object.place, Effect::Stricter, format!("`{text}` is denied to its owner too"));
    }
    let accesses = match (section, about.read_only.is_set(), about.action) {
        (FILES, true, Action::Allow) => "read, load",
        (FILES, true, _) => "write, create, delete, attributes",
        _ => "all",
    };
    let name = name_about(about.action.effect(), text);
    to.draft.sections[section].rules.push(RuleDraft {
        effect: about.action.effect(),
        accesses,
        key,
        objects,
        by: about.by,
        trial: about.action == Action::Audit,
        timeout: None,
        because: about.because.filter(|_| about.action != Action::Allow),
        name,
    });
    Ok(())
}

/// Executables that an entry is bound to.
fn sources(node: &Node, to: &mut Reading<'_>) -> Result<Vec<String>, ConvertError> {
    let mut by = Vec::new();
    for item in to.items(node, "`fromSource`")? {
        let entries = to.entries(item, "an entry of `fromSource`")?;
        let recursive = match get(entries, "recursive") {
            Some(entry) => to.flag(&entry.value, "`recursive`")?,
            None => Flag::Unset,
        };
        let found = match (get(entries, "path"), get(entries, "dir")) {
            (Some(path), _) => literal(to.text(&path.value, "`path`")?),
            (None, Some(dir)) => path("matchDirectories", to.text(&dir.value, "`dir`")?, recursive),
            (None, None) => None,
        };
        let Some(found) = found else {
            return to.form(item.place, "an entry of `fromSource` needs an absolute `path` or `dir`");
        };
        by.push(found);
    }
    if by.is_empty() {
        return to.form(node.place, "`fromSource` needs an entry");
    }
    Ok(by)
}

/// The pattern of ours; `None` where there is none.
fn path(list: &str, text: &str, recursive: Flag) -> Option<String> {
    let pattern = match list {
        "matchPaths" => literal(text)?,
        "matchDirectories" => {
            let dir = literal(text)?;
            let dir = dir.strip_suffix('/').unwrap_or(&dir);
            if recursive.is_set() { format!("{dir}/**") } else { format!("{dir}/*") }
        }
        _ => text.replace("[^", "[!"),
    };
    let variables = Variables::new();
    // A `${…}` of theirs would be a variable of ours.
    let (scope, _) = Scope::new(&variables, &[]);
    let read = Pattern::parse(&pattern, &scope);
    matches!(read, Ok(Parsed::Read(_))).then_some(pattern)
}

/// `matchSyscalls` of what blocks; all else about system calls has no word here.
fn syscalls(entry: &Entry, action: Action, to: &mut Reading<'_>) -> Result<(), ConvertError> {
    for list in to.entries(&entry.value, "`syscalls`")? {
        let lost = |what: &str| format!("`{}` {what} has no word here: it is left out", list.key);
        for item in to.items(&list.value, &format!("`{}`", list.key))? {
            let entries = to.entries(item, "an entry")?;
            let plain = list.key == "matchSyscalls" && get(entries, "fromSource").is_none();
            match (plain, action, get(entries, "syscall")) {
                (true, Action::Block, Some(calls)) => {
                    for call in to.items(&calls.value, "`syscall`")? {
                        let name = to.text(call, "a system call")?.to_owned();
                        if is_deniable(&name) {
                            to.draft.denied_calls.push(name);
                        } else {
                            let text =
                                format!("system call {} cannot be denied here", escape(name.as_bytes()));
                            to.remark(call.place, Effect::Wider, text);
                        }
                    }
                }
                // Syscall rules of KubeArmor report, and block nothing.
                (_, Action::Audit, _) => to.remark(item.place, Effect::Aside, lost("on trial")),
                _ => to.remark(item.place, Effect::Wider, lost("with a path or source")),
            }
        }
    }
    Ok(())
}
