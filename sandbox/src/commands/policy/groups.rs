//! `sandbox policy groups`: the groups that ship, those of a policy, and what they stand for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use policy::groups::{VERSION, of_file, shipped, sources};
use serde::Serialize;

use super::{Place, print, print_json};
use crate::cli::{PlaceArgs, PolicyGroupsArgs};
use crate::exit::Exit;
use crate::launch::policy::read;
use crate::review::text::safe;

/// One group, for programs.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    /// Of those that ship.
    version: Option<u32>,
    entries: &'a [String],
    /// Of shipped groups of hosts: where they are documented.
    documents: &'a [String],
    /// And when they were last looked through.
    checked: Option<&'a str>,
}

pub fn execute(args: &PolicyGroupsArgs) -> anyhow::Result<Exit> {
    let (shipped, sources) = (shipped(), sources());
    let own = args.policy.as_deref().map(of_policy).transpose()?.unwrap_or_default();
    let all = shipped.iter().map(|group| (Some(VERSION), group)).chain(own.iter().map(|group| (None, group)));
    let wanted = args.name.as_deref().map(|name| name.strip_prefix('@').unwrap_or(name));
    let shown: Vec<_> =
        all.filter(|(_, (name, _))| wanted.is_none_or(|wanted| wanted == name.as_str())).collect();
    if let (Some(wanted), true) = (wanted, shown.is_empty()) {
        let known: Vec<String> = shipped.keys().chain(own.keys()).map(|name| format!("@{name}")).collect();
        bail!("no group @{wanted}; there are {}", known.join(", "));
    }
    let mut text = String::new();
    for (version, (name, entries)) in shown {
        let source = version.and_then(|_| sources.get(name));
        if args.json {
            let documents = source.map(|source| source.documents.as_slice()).unwrap_or_default();
            let checked = source.map(|source| source.checked.as_str());
            print_json(&Listed { name, version, entries, documents, checked })?;
            continue;
        }
        match version {
            Some(version) => _ = writeln!(text, "@{name} (version {version})"),
            None => _ = writeln!(text, "@{name} (of this policy)"),
        }
        entries.iter().for_each(|entry| _ = writeln!(text, "  {}", safe(entry.as_bytes())));
        if let Some(source) = source {
            _ = writeln!(text, "  checked {}, documented at:", source.checked);
            source.documents.iter().for_each(|document| _ = writeln!(text, "    {document}"));
        }
    }
    print(&text)?;
    Ok(Exit::SUCCESS)
}

/// The groups of a policy, which must be right as a whole.
fn of_policy(file: &Path) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    Place::here(&PlaceArgs::default())?.read(file)?;
    let bytes = read(file).with_context(|| format!("cannot read the policy {}", file.display()))?;
    Ok(of_file(&file.display().to_string(), &bytes)?)
}
