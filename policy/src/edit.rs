//! Adds a rule to a policy's text, or an exception to one of its rules, and leaves every other byte of it as it was.
//!
//! It goes by the places of the nodes, so that comments and the order of things stay a person's. What it cannot place
//! without writing other lines anew is an error; what it made is read again and compared, so that nothing else changed.

use std::collections::BTreeSet;

use crate::access::SectionKind;
use crate::document::{Entry, Kind, Node, read};
use crate::error::{Error, Place};
use crate::model::{Policy, Section};
pub use crate::print::quoted;

/// Why nothing was added.
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
    /// The text has no such rule in the section, or it is written in a way that has no place for an exception.
    #[error("the rule `{rule}` of `{section}` has no place for an exception, which must be added by hand")]
    Rule {
        /// The section.
        section: &'static str,
        /// The rule, as the file names it.
        rule: String,
    },
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

/// The names of a policy's rules, without the policies that they come from.
pub fn taken_names(policy: &Policy) -> BTreeSet<String> {
    fn of<O>(section: &Section<O>) -> impl Iterator<Item = String> {
        section.rules.iter().map(|rule| last(&rule.short_name).to_owned())
    }
    of(&policy.files).chain(of(&policy.exec)).chain(of(&policy.network)).collect()
}

/// What stands behind the name of the policy that a rule comes from.
pub(crate) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A name like this one that no rule has yet; it is taken then.
pub fn free_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut numbered = (2..).map(|number: u32| format!("{name}-{number}"));
    let mut free = name.to_owned();
    while !taken.insert(free.clone()) {
        free = numbered.next().unwrap_or_else(|| free.clone() + "-");
    }
    free
}

/// The text with `objects` in front of the exceptions of the section's rule `rule`. A rule without any gets the key
/// behind the objects that it is about.
///
/// # Errors
/// The text cannot be read, has no such rule, or no place for it.
pub fn add_exception(
    text: &str,
    section: SectionKind,
    rule: &str,
    objects: &[String],
) -> Result<String, EditError> {
    let none = || EditError::Rule { section: section.name(), rule: rule.to_owned() };
    let before = read(text).map_err(EditError::Unreadable)?;
    let Kind::Mapping(root) = &before.kind else { return Err(none()) };
    let (_, rules) = apart(root, section.name());
    let found = rules.iter().find(|node| is_named(node, rule)).ok_or_else(none)?;
    let (at, added) = exception(text, found, objects).ok_or_else(none)?;
    let (head, tail) = text.split_at_checked(at).ok_or_else(none)?;
    let made = format!("{head}{added}{tail}");
    let after = read(&made).map_err(EditError::Unreadable)?;
    match is_excepted(&before, &after, section.name(), rule, objects) {
        true => Ok(made),
        false => Err(none()),
    }
}

/// Whether a node is the rule of this name.
fn is_named(node: &Node, rule: &str) -> bool {
    let Kind::Mapping(entries) = &node.kind else { return false };
    entries.iter().any(|entry| {
        entry.key == "name" && matches!(&entry.value.kind, Kind::Scalar { text, .. } if text == rule)
    })
}

/// At which byte what is added to a rule.
fn exception(text: &str, rule: &Node, objects: &[String]) -> Option<(usize, String)> {
    let Kind::Mapping(entries) = &rule.kind else { return None };
    let objects: Vec<String> = objects.iter().map(|object| quoted(object)).collect();
    let starts = |place: Place, with: char| Some(text.get(byte_of(text, place)?..)?.starts_with(with));
    // What stands on a line of its own, by the place of what follows its indentation.
    let own_line = |place: Place, content: &str| {
        let at = byte_of(text, place)?;
        let line = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
        let before = text.get(line..at)?;
        (before.trim_start_matches(' ') == content).then(|| (line, before.len() - content.len()))
    };
    if let Some(except) = entries.iter().find(|entry| entry.key == "except") {
        let Kind::Sequence(items) = &except.value.kind else { return None };
        let first = items.first()?.place;
        if starts(except.value.place, '[')? {
            return Some((byte_of(text, first)?, format!("{}, ", objects.join(", "))));
        }
        let (line, width) = own_line(first, "- ")?;
        let lines = objects.iter().map(|object| format!("{:width$}- {object}\n", ""));
        return Some((line, lines.collect()));
    }
    let objects_at =
        entries.iter().position(|entry| ["path", "to", "existing"].contains(&entry.key.as_str()))?;
    let (about, behind) = (entries.get(objects_at), entries.get(objects_at + 1));
    let key = format!("except: [{}]", objects.join(", "));
    if starts(rule.place, '{')? {
        return Some((byte_of(text, behind.or(about)?.place)?, format!("{key}, ")));
    }
    // Not before the key that stands behind the dash.
    let mut places = behind.into_iter().chain(about).chain(entries.get(1)).map(|entry| entry.place);
    let (line, width) = places.find_map(|place| own_line(place, ""))?;
    Some((line, format!("{:width$}{key}\n", "")))
}

/// The byte at a place.
fn byte_of(text: &str, place: Place) -> Option<usize> {
    let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let (at, _) = text.get(start..)?.char_indices().nth(column)?;
    Some(start + at)
}

/// Before which line what is added to a section that is there.
fn within(lines: &[&str], root: &[Entry], section: &Entry, rule: &str) -> Option<(usize, String)> {
    let Kind::Mapping(entries) = &section.value.kind else { return None };
    let line_of = |place: Place| usize::try_from(place.line).ok()?.checked_sub(1);
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
    matches!(one.kind, Kind::Mapping(_)) && same_rules && same_keys(&others, &found)
}

/// Whether the only difference is that the rule has these exceptions in front of those that it had.
fn is_excepted(before: &Node, after: &Node, section: &str, rule: &str, objects: &[String]) -> bool {
    let (Kind::Mapping(old), Kind::Mapping(new)) = (&before.kind, &after.kind) else { return false };
    let ((others, known), (found, rules)) = (apart(old, section), apart(new, section));
    let excepted = |old: &Node, new: &Node| {
        let (Kind::Mapping(old), Kind::Mapping(new)) = (&old.kind, &new.kind) else { return false };
        let texts = |entries: &[Entry]| -> Option<Vec<String>> {
            let Some(except) = entries.iter().find(|entry| entry.key == "except") else {
                return Some(Vec::new());
            };
            let Kind::Sequence(items) = &except.value.kind else { return None };
            let text = |item: &Node| match &item.kind {
                Kind::Scalar { text, .. } => Some(text.clone()),
                _ => None,
            };
            items.iter().map(text).collect()
        };
        let rest = |entries: &'_ [Entry]| -> Vec<(String, Node)> {
            let others = entries.iter().filter(|entry| entry.key != "except");
            others.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
        };
        let (old_rest, new_rest) = (rest(old), rest(new));
        let same_rest = old_rest.len() == new_rest.len()
            && old_rest.iter().zip(&new_rest).all(|((a, x), (b, y))| a == b && same(x, y));
        let expected = texts(old).map(|had| [objects, &had].concat());
        same_rest && expected.is_some() && texts(new) == expected
    };
    let same_rules = known.len() == rules.len()
        && known.iter().zip(rules).all(|(a, b)| if is_named(a, rule) { excepted(a, b) } else { same(a, b) });
    same_rules && same_keys(&others, &found)
}

fn same_keys(ones: &[(String, &Node)], others: &[(String, &Node)]) -> bool {
    ones.len() == others.len()
        && ones.iter().zip(others).all(|((key, value), (name, found))| key == name && same(value, found))
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

    #[test]
    fn an_exception_changes_one_line_at_most() {
        let excepted = |text: &str| add_exception(text, SectionKind::Files, "b", &["/x \"y".to_owned()]);
        let head = "version: 1 # ünï\nfiles:\n  default: allow\n  rules:\n    - { name: a, ask: [read], path: [\"/a\"] }\n";
        for (rule, expected) in [
            (
                "    - { name: b, ask: [read], path: [/b, \"/ü\"], timeout: 5m } # kept\n",
                "    - { name: b, ask: [read], path: [/b, \"/ü\"], except: [\"/x \\\"y\"], timeout: 5m } # kept\n",
            ),
            (
                "    - { because: don't, ask: [read], name: b, path: [/b] }\n",
                "    - { because: don't, ask: [read], name: b, except: [\"/x \\\"y\"], path: [/b] }\n",
            ),
            (
                "    - { name: b, ask: [read], path: [/b], except: [ /c] }\n",
                "    - { name: b, ask: [read], path: [/b], except: [ \"/x \\\"y\", /c] }\n",
            ),
            (
                "    - name: b\n      path: [/b]\n      # of b\n      ask: [read]\n",
                "    - name: b\n      path: [/b]\n      # of b\n      except: [\"/x \\\"y\"]\n      ask: [read]\n",
            ),
            (
                "    - path:\n        - /b\n      ask: [read]\n      name: b\n",
                "    - path:\n        - /b\n      except: [\"/x \\\"y\"]\n      ask: [read]\n      name: b\n",
            ),
            (
                "    - name: b\n      ask: [read]\n      path: [/b]\n",
                "    - name: b\n      ask: [read]\n      except: [\"/x \\\"y\"]\n      path: [/b]\n",
            ),
            (
                "    -\n      name: b\n      ask: [read]\n      path: [/b]\n      except:\n      - /c # c\n",
                "    -\n      name: b\n      ask: [read]\n      path: [/b]\n      except:\n      - \"/x \\\"y\"\n      - /c # c\n",
            ),
        ] {
            for tail in ["", "exec: { default: deny }\n"] {
                assert_eq!(
                    excepted(&format!("{head}{rule}{tail}")).unwrap(),
                    format!("{head}{expected}{tail}"),
                    "{rule}"
                );
            }
        }
        for rule in [
            "    - { name: c, ask: [read], path: [/b] }\n",
            "    - { name: b, ask: [read], path: [/b], except: [] }\n",
            "    - { name: b, ask: [read] }\n",
        ] {
            let error = excepted(&format!("{head}{rule}")).unwrap_err();
            assert!(matches!(error, EditError::Rule { .. }), "{error}");
        }
    }
}
