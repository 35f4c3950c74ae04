//! One example as written.

use super::{Keys, Placed, RawExample, choice, has, known, mapping, missing, sequence, text, texts};
use crate::document::{Kind, Node};
use crate::error::{Problem, Report};
use crate::model::Decision;

pub(crate) const OBJECTS: [&str; 6] = ["open", "run", "connect", "send", "bind", "listen"];
pub(crate) const EXAMPLE: Keys = Keys {
    context: "an example",
    read: &[
        "open", "run", "connect", "send", "bind", "listen", "access", "sha256", "host", "by", "under",
        "verdict", "rule",
    ],
    later: &["layers"],
};

const FILE: Keys = Keys { context: "a file of examples", read: &["version", "examples"], later: &[] };

/// A file that has examples and nothing else.
pub(crate) fn file(node: &Node, report: &mut Report) -> Vec<RawExample> {
    let Some(entries) = mapping(node, "a file of examples", report) else { return Vec::new() };
    if !has(entries, &["examples"]) {
        missing(report, node.place, "the file", "examples", "write `examples:` and a list below it");
    }
    let known = known(entries, &FILE, report);
    known.iter().filter(|e| e.key == "examples").flat_map(|e| examples(&e.value, report)).collect()
}

/// The list of examples.
pub(super) fn examples(node: &Node, report: &mut Report) -> Vec<RawExample> {
    let wanted = "a list, each entry as `{ open: PATH, access: read, verdict: deny }`";
    let items = sequence(node, "`examples`", wanted, report).unwrap_or_default();
    items.iter().filter_map(|node| example(node, report)).collect()
}

fn example(node: &Node, report: &mut Report) -> Option<RawExample> {
    let entries = mapping(node, "an example", report)?;
    let mut objects = Vec::new();
    let (mut access, mut verdict, mut rule) = (None, None, None);
    let (mut sha256, mut host, mut by, mut under) = (None, None, None, None);
    for entry in known(entries, &EXAMPLE, report) {
        match entry.key.as_str() {
            "access" => {
                let wanted = "an access, or a list of them";
                access = one_or_more(&entry.value, "`access`", wanted, report);
            }
            "sha256" => sha256 = text(&entry.value, "`sha256`", report),
            "host" => host = text(&entry.value, "`host`", report),
            "by" => by = text(&entry.value, "`by` of an example", report),
            "under" => {
                let wanted = "an executable, or a list of them";
                under = one_or_more(&entry.value, "`under` of an example", wanted, report);
            }
            "verdict" => {
                let words = [Decision::Allow, Decision::Ask, Decision::Deny].map(|word| (word.name(), word));
                verdict = choice(&entry.value, "verdict", (&words, "`allow`, `ask` or `deny`"), report);
            }
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
    let object = (key, value?);
    Some(RawExample { place: node.place, object, access, sha256, host, by, under, verdict: verdict?, rule })
}

/// One text, or a list of them.
fn one_or_more(
    node: &Node,
    what: &str,
    wanted: &'static str,
    report: &mut Report,
) -> Option<Vec<Placed<String>>> {
    match &node.kind {
        Kind::Scalar { .. } => text(node, what, report).map(|one| vec![one]),
        _ => texts(node, what, wanted, report),
    }
}
