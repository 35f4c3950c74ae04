//! Hard links: where to look for files that a rule denies and that may have another name, and what is denied of one.
//!
//! A rule is about a name; a second name of the same file could lead past it. What is made during a run is judged when
//! it is made; what was there before must be looked for. Here is where to look, as far as patterns tell; looking is the
//! runner's. Only rules are meant: what merely no rule allows may have other names.

use std::collections::BTreeSet;

use crate::access::{Access, AccessSet};
use crate::compile::lsm::expressible;
use crate::evaluate;
use crate::model::{Decision, Mode, Policy, Rule, RuleName, Section};
use crate::pattern::{Element, Pattern};

/// Where files lie that a rule denies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The directory, or the file itself where the pattern has no wildcard.
    pub path: Vec<u8>,
    /// How many levels below it; `None` for all of them. 0 is the path itself.
    pub depth: Option<usize>,
}

/// What there is to look at, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Each once, ascending.
    pub places: BTreeSet<Place>,
    /// Patterns that could match anywhere, with their rules.
    pub everywhere: BTreeSet<(RuleName, String)>,
}

/// The files with several names that were found and marked, by number: the names of each that are denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<Vec<Vec<u8>>>);

impl Marks {
    /// How many there are: the number of the next one.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds a denied name of the file with this number, at most the next one. A name is there once.
    pub fn add(&mut self, number: usize, name: &[u8]) {
        if number == self.0.len() {
            self.0.push(Vec::new());
        }
        if let Some(names) = self.0.get_mut(number)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_vec());
        }
    }

    /// The denied names of a file.
    pub fn names(&self, number: usize) -> &[Vec<u8>] {
        self.0.get(number).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A policy, asked about files with several names.
#[derive(Clone, Debug)]
pub struct Links {
    /// Without what the kernel's tables cannot express.
    policy: Policy,
}

impl Links {
    /// Those that this policy is about.
    pub fn new(policy: &Policy) -> Self {
        Self { policy: expressible(policy).0 }
    }

    /// Where to look for the files that the policy's rules deny.
    pub fn search(&self) -> Search {
        let policy = &self.policy;
        let mut search = Search::default();
        for (rule, pattern) in denying(policy, &policy.files).chain(denying(policy, &policy.exec)) {
            for glob in pattern.globs() {
                match place(glob) {
                    Some(place) => _ = search.places.insert(place),
                    None => _ = search.everywhere.insert((rule.name.clone(), pattern.text().to_owned())),
                }
            }
        }
        search
    }

    /// The accesses that some rule denies to a path: no default does.
    pub fn denied(&self, path: &[u8]) -> AccessSet {
        let policy = &self.policy;
        let by_rule = |access: &Access| {
            let (verdict, default) = match access {
                Access::Run => (evaluate::exec(policy, path), policy.exec.default_name()),
                access => (evaluate::file(policy, (*access).into(), path), policy.files.default_name()),
            };
            verdict.decision != Decision::Allow && verdict.rule != default
        };
        Access::OBJECT.into_iter().filter(by_rule).collect()
    }
}

/// The rules that deny something of an object, with each of their patterns.
fn denying<'a>(
    policy: &Policy,
    section: &'a Section<Pattern>,
) -> impl Iterator<Item = (&'a Rule<Pattern>, &'a Pattern)> {
    let enforced = policy.mode == Mode::Enforce;
    let denies = move |rule: &&Rule<Pattern>| {
        enforced
            && rule.mode == Mode::Enforce
            && rule.effect != Decision::Allow
            && rule.accesses.overlaps(AccessSet::OBJECT)
    };
    section.rules.iter().filter(denies).flat_map(|rule| rule.objects.iter().map(move |object| (rule, object)))
}

/// Where a glob's matches lie; `None` for one that may match anywhere.
fn place(glob: &[Element]) -> Option<Place> {
    let literal: Vec<u8> = glob
        .iter()
        .map_while(|element| match element {
            Element::Byte(byte) => Some(*byte),
            _ => None,
        })
        .collect();
    let rest = &glob[literal.len()..];
    let deep = rest.iter().any(|element| matches!(element, Element::Any | Element::Deep | Element::Below));
    let path = match rest.first() {
        // The last name is whole: it is the file, or the directory that everything is below.
        None | Some(Element::Below) => literal,
        Some(_) => {
            let slash = literal.iter().rposition(|byte| *byte == b'/')?;
            literal[..slash.max(1)].to_vec()
        }
    };
    let levels = rest.iter().filter(|element| matches!(element, Element::Byte(b'/'))).count() + 1;
    let depth = match rest {
        [] => Some(0),
        _ if deep => None,
        _ => Some(levels),
    };
    (path != b"/" || depth.is_some()).then_some(Place { path, depth })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variables;

    const POLICY: &str = r#"
version: 1
name: p
files:
  default: deny
  rules:
    - { name: all, allow: [all], path: ["/**"] }
    - name: keys
      deny: [read]
      path: ["/etc/shadow", "/home/me/.ssh/**", "/etc/ssh/*key*", "/srv/*/private/*.pem", "/opt/{a,b}/x", "**/.env"]
      except: ["/home/me/.ssh/config"]
    - { name: names, deny: [create, delete], path: ["/boot/**"] }
    - { name: trial, deny: [read], path: ["/mnt/**"], mode: audit }
exec:
  default: allow
  rules:
    - { name: tools, deny: [run], path: ["/usr/bin/wget", "/**"] }
"#;

    fn policy() -> Policy {
        Policy::parse("p.yaml", POLICY, &Variables::new()).unwrap()
    }

    #[test]
    fn places_are_the_literal_beginnings() {
        let search = Links::new(&policy()).search();
        let found: Vec<(String, Option<usize>)> = search
            .places
            .iter()
            .map(|place| (String::from_utf8_lossy(&place.path).into_owned(), place.depth))
            .collect();
        let expected = [
            ("/etc/shadow", Some(0)),
            ("/etc/ssh", Some(1)),
            ("/home/me/.ssh", None),
            ("/opt/a/x", Some(0)),
            ("/opt/b/x", Some(0)),
            ("/srv", Some(3)),
            ("/usr/bin/wget", Some(0)),
        ];
        assert_eq!(found, expected.map(|(path, depth)| (path.to_owned(), depth)));
        let everywhere: Vec<String> =
            search.everywhere.iter().map(|(rule, pattern)| format!("{rule} {pattern}")).collect();
        assert_eq!(everywhere, ["p/keys **/.env", "p/tools /**"]);
    }

    #[test]
    fn only_rules_deny() {
        let links = Links::new(&policy());
        let denied = |path: &str| links.denied(path.as_bytes()).to_string();
        assert_eq!(denied("/etc/shadow"), "read, run");
        assert_eq!(denied("/home/me/.ssh/config"), "run");
        assert_eq!(denied("/mnt/x"), "run");
    }
}
