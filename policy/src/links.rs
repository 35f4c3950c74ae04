//! Symbolic links: a rule whose path leads through one when the run starts is about the target too.
//!
//! The kernel judges the path that a name leads to, so a rule on `/var/run/x` alone would match nothing where
//! `/var/run` is a link. What is added is resolved once, before the command starts; links that it makes later
//! change no rule. Nothing is taken away.
//!
//! What makes a policy looser (paths of a rule that allows, exceptions of one that denies) follows only links that
//! the command cannot have made in an earlier run. Which those are is the caller's to say; this module reads no
//! file system.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Target;
use crate::ends::Meaning;
use crate::error::{Note, Report, Severity};
use crate::lint;
use crate::model::{Decision, Policy, Rule, RuleName, Section};
use crate::pattern::{Element, Pattern};

/// Where an existing path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without symbolic links, absolute.
    pub path: Vec<u8>,
    /// Who could have made the links on the way.
    pub links: Links,
}

/// Who could have made symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Links {
    /// The system only, or there are none.
    Trusted,
    /// The run's user too, and so an earlier run.
    Untrusted,
}

/// Whether following a link makes a policy looser.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Tighter,
    Looser,
}

/// What happened in one rule: from where to where, and whether the rule follows.
type Ways = BTreeSet<(Vec<u8>, Vec<u8>, bool)>;

impl Policy {
    /// The policy with what its paths lead to. `resolve` gives the way of an existing path, `None` for one that is
    /// not there. Each rule that follows a link has a note, and each that would have and may not a warning.
    #[must_use]
    pub fn follow_links(mut self, resolve: &dyn Fn(&[u8]) -> Option<Resolved>) -> Self {
        let mut found: BTreeMap<RuleName, Ways> = BTreeMap::new();
        paths(&mut self.files, resolve, &mut found);
        paths(&mut self.exec, resolve, &mut found);
        targets(&mut self.network, resolve, &mut found);
        let notes = self.notes_on_links(found);
        self.notes.extend(notes);
        self
    }

    fn notes_on_links(&self, found: BTreeMap<RuleName, Ways>) -> Vec<Note> {
        let mut report = Report::default();
        let mut inherited = Vec::new();
        for (name, ways) in found {
            let place = self.origins.get(&name).and_then(|origin| origin.name);
            for (from, to, followed) in ways {
                let (from, to) = (crate::pattern::escape(&from), crate::pattern::escape(&to));
                let (severity, text) = if followed {
                    let text = format!("rule `{name}`: `{from}` leads to `{to}`, which it is about too");
                    (Severity::Remark, text)
                } else {
                    let text = format!(
                        "rule `{name}`: `{from}` leads to `{to}` by a symbolic link that an earlier run could have made, \
                         so the rule is not about that; write `{to}` where it is meant"
                    );
                    (Severity::Warning, text)
                };
                match place {
                    Some(place) if severity == Severity::Warning => report.warn(place, text),
                    Some(place) => report.remark(place, text),
                    None => inherited.push(Note::elsewhere(&self.source_name, severity, text)),
                }
            }
        }
        let mut notes = report.notes(&self.source_name, &self.source);
        notes.extend(inherited);
        notes
    }
}

/// One list of a rule, and where links of its paths lead.
struct Follower<'a> {
    resolve: &'a dyn Fn(&[u8]) -> Option<Resolved>,
    ways: Ways,
}

fn paths(
    section: &mut Section<Pattern>,
    resolve: &dyn Fn(&[u8]) -> Option<Resolved>,
    found: &mut BTreeMap<RuleName, Ways>,
) {
    for rule in &mut section.rules {
        let mut follower = Follower { resolve, ways: Ways::new() };
        let [objects, except] = directions(rule.effect);
        follower.list(&mut rule.objects, objects);
        follower.list(&mut rule.except, except);
        follower.who(rule);
        follower.tell(&rule.name, found);
    }
}

fn targets(
    section: &mut Section<Target>,
    resolve: &dyn Fn(&[u8]) -> Option<Resolved>,
    found: &mut BTreeMap<RuleName, Ways>,
) {
    for rule in &mut section.rules {
        let mut follower = Follower { resolve, ways: Ways::new() };
        let [objects, except] = directions(rule.effect);
        for (list, direction) in [(&mut rule.objects, objects), (&mut rule.except, except)] {
            let sockets = list.iter().filter_map(|target| match &target.meaning {
                Meaning::Path(pattern) => Some(pattern.clone()),
                _ => None,
            });
            let mut sockets: Vec<Pattern> = sockets.collect();
            let known = sockets.len();
            follower.list(&mut sockets, direction);
            list.extend(sockets.drain(known..).map(Target::of_socket));
        }
        follower.who(rule);
        follower.tell(&rule.name, found);
    }
}

/// Of a rule's objects, and of its exceptions.
fn directions(effect: Decision) -> [Direction; 2] {
    match effect {
        Decision::Allow => [Direction::Looser, Direction::Tighter],
        Decision::Ask | Decision::Deny => [Direction::Tighter, Direction::Looser],
    }
}

impl Follower<'_> {
    fn who<O>(&mut self, rule: &mut Rule<O>) {
        // More processes that a rule is bound to: as more objects. More that are excepted: as more exceptions.
        let [bound, excepted] = directions(rule.effect);
        for list in [&mut rule.who.by, &mut rule.who.under].into_iter().flatten() {
            self.list(list, bound);
        }
        self.list(&mut rule.who.unless_by, excepted);
    }

    fn tell(self, rule: &RuleName, found: &mut BTreeMap<RuleName, Ways>) {
        if !self.ways.is_empty() {
            found.entry(rule.clone()).or_default().extend(self.ways);
        }
    }

    /// Adds what the patterns of a list lead to, where the list is not about it already.
    fn list(&mut self, list: &mut Vec<Pattern>, direction: Direction) {
        for at in 0..list.len() {
            for glob in list[at].globs().to_vec() {
                let Some((from, resolved, target)) = self.target(&glob) else { continue };
                let pattern = Pattern::of_glob(target);
                if lint::surely_covered(&pattern, list) {
                    continue;
                }
                let follows = direction == Direction::Tighter || resolved.links == Links::Trusted;
                self.ways.insert((from, resolved.path, follows));
                if follows {
                    list.push(pattern);
                }
            }
        }
    }

    /// The literal beginning of a glob that exists, where it leads, and the glob from there; `None` where no link
    /// is on the way.
    fn target(&self, glob: &[Element]) -> Option<(Vec<u8>, Resolved, Vec<Element>)> {
        for end in ends_of_components(glob).into_iter().rev() {
            let from: Vec<u8> = glob[..end].iter().filter_map(Element::byte).collect();
            let Some(resolved) = (self.resolve)(&from) else { continue };
            if resolved.path == from || !resolved.path.starts_with(b"/") {
                return None;
            }
            let begin: &[u8] = if resolved.path == b"/" { b"" } else { &resolved.path };
            let mut target: Vec<Element> = begin.iter().copied().map(Element::Byte).collect();
            match &glob[end..] {
                [] if target.is_empty() => target.push(Element::Byte(b'/')),
                [Element::Below] if target.is_empty() => {
                    target.extend([Element::Byte(b'/'), Element::Any]);
                }
                rest => target.extend_from_slice(rest),
            }
            return Some((from, resolved, target));
        }
        None
    }
}

/// Where the components of a glob's literal beginning end.
fn ends_of_components(glob: &[Element]) -> Vec<usize> {
    let literal = glob.iter().take_while(|element| element.byte().is_some()).count();
    let is_end = |at: usize| match glob.get(at) {
        None => true,
        Some(next) => matches!(next, Element::Byte(b'/') | Element::Below),
    };
    (2..=literal).filter(|at| is_end(*at)).collect()
}
