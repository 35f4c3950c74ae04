//! Adds a rule to a policy's text, and leaves every other byte of it as it was.
//!
//! It goes by the places of the nodes, so that comments and the order of things stay a person's. What it cannot place
//! without writing other lines anew is an error; what it made is read again and compared, so that nothing else changed.

use crate::access::SectionKind;
use crate::document::{Entry, Kind, Node, read};
use crate::error::Error;

/// Why a rule was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text, or the rule, is no YAML that a policy may be.
    #[error("the text cannot be read: {}", .0.first().map(|error| error.problem.to_string()).unwrap_or_default())]
    Unreadable(Vec<Error>),
    /// The section, or its list of rules, is written within braces or brackets, or in another way that has no place for a
    /// line.
    #[error(
        "the section `{0}` is not written with one line for each key and rule, so that the rule must be added by hand"
    )]
    Form(&'static str),
}

/// The text with a rule at the end of the section's list. `rule` is an item of a block list, not indented: lines of
/// comments, then `- …`; lines that follow are indented by two.
///
/// # Errors
/// The text cannot be read, or has no place for it.
pub fn add_rule(text: &str, section: SectionKind, rule: &str) -> Result<String, EditError> {
    let name = section.name();
    let before = read(text).map_err(EditError::Unreadable)?;
    let Kind::Mapping(root) = &before.kind else { return Err(EditError::Form(name)) };
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let last = lines.pop_if(|line| !line.ends_with('\n')).map(|line| format!("{line}\n"));
    lines.extend(last.as_deref());
    let (at, added) = match root.iter().find(|entry| entry.key == name) {
        None => (lines.len(), format!("\n{name}:\n  rules:\n{}", indented(rule, 4))),
        Some(entry) => within(&lines, root, entry, rule).ok_or(EditError::Form(name))?,
    };
    let mut made = lines[..at].concat();
    made.push_str(&added);
    lines[at..].iter().for_each(|line| made.push_str(line));
    let after = read(&made).map_err(EditError::Unreadable)?;
    match is_added(&before, &after, name) {
        true => Ok(made),
        false => Err(EditError::Form(name)),
    }
}

/// Before which line what is added to a section that is there.
fn within(lines: &[&str], root: &[Entry], section: &Entry, rule: &str) -> Option<(usize, String)> {
    let Kind::Mapping(entries) = &section.value.kind else { return None };
    let line_of = |place: crate::error::Place| usize::try_from(place.line).ok()?.checked_sub(1);
    let indent = |line: usize| lines.get(line).map(|line| line.len() - line.trim_start_matches(' ').len());
    let starts_with =
        |line: usize, what: &str| lines.get(line).is_some_and(|l| l.trim_start().starts_with(what));
    let Some(rules) = entries.iter().find(|entry| entry.key == "rules") else {
        let first = line_of(entries.first()?.place)?;
        let key = line_of(section.place)?;
        // On lines of its own, below its key.
        let width = indent(first)
            .filter(|_| first > key && starts_with(first, entries.first().map_or("", |e| &e.key)))?;
        let list = format!("{:width$}rules:\n{}", "", indented(rule, width + 2));
        return Some((end(lines, root, &[], key, width)?, list));
    };
    let Kind::Sequence(items) = &rules.value.kind else { return None };
    let first = line_of(items.first()?.place)?;
    let width = indent(first).filter(|_| starts_with(first, "- "))?;
    let key = line_of(rules.place)?;
    (first > key).then_some(())?;
    Some((end(lines, root, entries, key, width)?, indented(rule, width)))
}

/// The line behind the last one of a key of a section: where the next key begins, without what is said above that.
fn end(lines: &[&str], root: &[Entry], section: &[Entry], key: usize, width: usize) -> Option<usize> {
    let keys =
        root.iter().chain(section).filter_map(|entry| usize::try_from(entry.place.line).ok()?.checked_sub(1));
    let mut at = keys.filter(|line| *line > key).min().unwrap_or(lines.len());
    let is_said_above = |text: &str| {
        let bare = text.trim_start_matches(' ');
        bare.trim().is_empty() || (bare.starts_with('#') && text.len() - bare.len() < width)
    };
    while at > key + 1 && is_said_above(lines.get(at - 1)?) {
        at -= 1;
    }
    Some(at)
}

fn indented(text: &str, width: usize) -> String {
    text.lines().map(|line| format!("{:width$}{line}\n", "")).collect()
}

/// Whether the only difference is one more rule at the end of the section.
fn is_added(before: &Node, after: &Node, section: &str) -> bool {
    let (Kind::Mapping(old), Kind::Mapping(new)) = (&before.kind, &after.kind) else { return false };
    let ((others, known), (found, rules)) = (apart(old, section), apart(new, section));
    let Some((one, rules)) = rules.split_last() else { return false };
    let same_rules = known.len() == rules.len() && known.iter().zip(rules).all(|(a, b)| same(a, b));
    let same_others = others.len() == found.len()
        && others.iter().zip(&found).all(|((key, value), (name, found))| key == name && same(value, found));
    matches!(one.kind, Kind::Mapping(_)) && same_rules && same_others
}

/// All keys but the rules of a section, and those rules.
fn apart<'n>(root: &'n [Entry], section: &str) -> (Vec<(String, &'n Node)>, &'n [Node]) {
    let mut others = Vec::new();
    let mut rules: &[Node] = &[];
    for entry in root {
        match &entry.value.kind {
            Kind::Mapping(entries) if entry.key == section => {
                for entry in entries {
                    match &entry.value.kind {
                        Kind::Sequence(items) if entry.key == "rules" => rules = items,
                        _ => others.push((format!("{section}.{}", entry.key), &entry.value)),
                    }
                }
            }
            _ => others.push((entry.key.clone(), &entry.value)),
        }
    }
    (others, rules)
}

fn same(one: &Node, other: &Node) -> bool {
    match (&one.kind, &other.kind) {
        (Kind::Scalar { text, plain }, Kind::Scalar { text: other, plain: as_plain }) => {
            text == other && plain == as_plain
        }
        (Kind::Sequence(one), Kind::Sequence(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
        }
        (Kind::Mapping(one), Kind::Mapping(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(a, b)| a.key == b.key && same(&a.value, &b.value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "# seen\n- name: new\n  allow: [read]\n  path: [\"/x\"]\n";

    fn added(text: &str) -> Result<String, EditError> {
        add_rule(text, SectionKind::Files, RULE)
    }

    #[test]
    fn a_rule_comes_last_and_nothing_else_changes() {
        let head = "# mine\nversion: 1\nfiles:\n  default: deny   # closed\n  rules:\n    # one\n    - { name: a, allow: [read], path: [\"/a\"] }\n    # kept\n";
        let new = "    # seen\n    - name: new\n      allow: [read]\n      path: [\"/x\"]\n";
        for tail in ["", "\n# of programs\nexec: { default: deny }\n", "\n\nnetwork:\n  default: deny\n"] {
            assert_eq!(added(&format!("{head}{tail}")).unwrap(), format!("{head}{new}{tail}"));
        }
        // Without a newline at its end, and with a key behind the list.
        let behind = "files:\n  rules:\n  - { name: a, allow: [read], path: [\"/a\"] }\n  default: deny";
        let expected = "files:\n  rules:\n  - { name: a, allow: [read], path: [\"/a\"] }\n  # seen\n  - name: new\n    \
                        allow: [read]\n    path: [\"/x\"]\n  default: deny\n";
        assert_eq!(added(behind).unwrap(), expected);
    }

    #[test]
    fn a_section_without_rules_gets_some_and_a_policy_without_the_section_too() {
        let made = added("version: 1\nfiles:\n  default: deny\n\n# more\nexec:\n  default: deny\n").unwrap();
        assert!(made.contains("  default: deny\n  rules:\n    # seen\n    - name: new\n"), "{made}");
        assert!(made.ends_with("\n\n# more\nexec:\n  default: deny\n"), "{made}");
        let made = added("version: 1\n").unwrap();
        assert!(made.starts_with("version: 1\n\nfiles:\n  rules:\n    # seen\n    - name: new\n"), "{made}");
    }

    #[test]
    fn what_has_no_line_for_it_is_an_error() {
        for text in [
            "files: { default: deny }\n",
            "files:\n  rules: [{ name: a, allow: [read], path: [\"/a\"] }]\n",
            "files: 3\n",
            "- 1\n",
        ] {
            assert_eq!(added(text), Err(EditError::Form("files")), "{text}");
        }
        assert!(matches!(added("a: [\n"), Err(EditError::Unreadable(_))));
        let wrong = add_rule("version: 1\n", SectionKind::Files, "no item");
        assert!(wrong.is_err());
    }
}
