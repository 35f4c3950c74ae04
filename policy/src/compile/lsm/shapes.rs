//! Which patterns share an automaton: those of one shape, in groups by what they mean.
//!
//! Rules with the same effect, accesses, conditions and `except` form a group: it matters only whether *some* of
//! their paths match. One automaton for everything multiplies: below each directory that an anchored rule names, it
//! must know all that floating rules look for. So anchored patterns are kept apart from the others, and these from each
//! other where they would multiply: a verdict costs as much as there are automata. Within a shape, literal text decides
//! where the automaton is, and what is added to it adds to its size. A group's exceptions stand in each automaton that
//! has paths of the group.

use std::collections::BTreeMap;

use super::block::{Meaning, Said};
use crate::pattern::{Element, Pattern};

/// How a glob's place is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// Component by component from the root; `**` at its end only.
    Anchored,
    /// In any directory (`**/x`); no further `**` but at its end.
    Floating,
    /// `**` in the middle, or in any directory but certain ones.
    General,
}

/// A glob, and the rule that it is from.
pub(super) type Glob<'a> = (&'a [Element], u32);

/// Globs with one meaning.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    pub meaning: Meaning,
    pub globs: Vec<Glob<'a>>,
    /// Where the group does not match after all.
    pub except: Vec<Glob<'a>>,
}

/// What rules have in common to form a group.
type Key<'a> = (Meaning, Vec<&'a str>);

/// Groups as they are collected.
#[derive(Default)]
pub(super) struct Groups<'a>(BTreeMap<Key<'a>, Group<'a>>);

impl<'a> Groups<'a> {
    /// Adds what one rule says.
    pub fn add(
        &mut self,
        meaning: Meaning,
        objects: impl IntoIterator<Item = &'a Pattern>,
        except: impl IntoIterator<Item = &'a Pattern>,
        rule: u32,
    ) {
        fn globs<'a>(
            patterns: impl IntoIterator<Item = &'a Pattern>,
            rule: u32,
        ) -> impl Iterator<Item = Glob<'a>> {
            let globs = patterns.into_iter().flat_map(|pattern| pattern.globs());
            globs.map(move |glob| (glob.as_slice(), rule))
        }
        let except: Vec<&'a Pattern> = except.into_iter().collect();
        let mut texts: Vec<&str> = except.iter().map(|pattern| pattern.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        let group = self.0.entry((meaning, texts)).or_insert_with(|| Group {
            meaning,
            globs: Vec::new(),
            except: globs(except, rule).collect(),
        });
        group.globs.extend(globs(objects, rule));
    }

    /// Leaves what adds nothing to what holds everywhere.
    fn without_covered(&mut self) {
        let everywhere = |group: &Group<'a>| {
            let everything = |glob: &Glob<'_>| *glob.0 == [Element::Byte(b'/'), Element::Any];
            group.globs.iter().find(|glob| group.except.is_empty() && everything(glob)).copied()
        };
        let groups = self.0.values().filter(|group| everywhere(group).is_some());
        let said: Said = groups.map(|group| group.meaning).collect();
        self.0.retain(|_, group| match everywhere(group) {
            Some(glob) => {
                group.globs = vec![glob];
                true
            }
            None => !said.covers(&group.meaning),
        });
    }

    /// The groups, list by list, each for an automaton; shapes that no glob has are left out.
    pub fn by_shape(mut self) -> Vec<List<'a>> {
        self.without_covered();
        let mut shapes: BTreeMap<Shape, Vec<Group<'a>>> = BTreeMap::new();
        for group in self.0.into_values() {
            let mut parts: BTreeMap<Shape, Vec<Glob<'a>>> = BTreeMap::new();
            // A place of an exception, times all that is looked for everywhere.
            let mixed = group.except.iter().any(|glob| shape(glob.0) != Shape::Floating);
            for glob in &group.globs {
                let shape = match shape(glob.0) {
                    Shape::Floating if mixed => Shape::General,
                    shape => shape,
                };
                parts.entry(shape).or_default().push(*glob);
            }
            for (shape, globs) in parts {
                shapes.entry(shape).or_default().push(Group { globs, ..group.clone() });
            }
        }
        let anchored = shapes.remove(&Shape::Anchored).map(List::of);
        let anywhere = match (shapes.remove(&Shape::Floating), shapes.remove(&Shape::General)) {
            (Some(floating), Some(general)) => Some(List {
                groups: [floating.clone(), general.clone()].concat(),
                apart: Some([floating, general]),
            }),
            (floating, general) => floating.or(general).map(List::of),
        };
        anchored.into_iter().chain(anywhere).collect()
    }
}

/// Groups that an automaton is made of.
#[derive(Clone, Debug)]
pub(super) struct List<'a> {
    pub groups: Vec<Group<'a>>,
    /// The same as two lists, by shape, where they are of two.
    apart: Option<[Vec<Group<'a>>; 2]>,
}

impl<'a> List<'a> {
    /// Groups of any shape.
    pub fn of(groups: Vec<Group<'a>>) -> Self {
        List { groups, apart: None }
    }

    /// Two lists instead, where that may make smaller automata: shapes apart, then wildcards apart from text, then
    /// what matches whatever follows apart from the rest, then halves. `None` for a single glob.
    pub fn split(&self) -> Option<[List<'a>; 2]> {
        self.apart.clone().or_else(|| split(&self.groups)).map(|halves| halves.map(List::of))
    }
}

fn shape(glob: &[Element]) -> Shape {
    let (body, _) = tail(glob);
    let crossing = |elements: &[Element]| elements.iter().any(|e| matches!(e, Element::Deep | Element::Any));
    match body {
        [Element::Byte(b'/'), Element::Deep, rest @ ..] if !crossing(rest) => Shape::Floating,
        body if crossing(body) => Shape::General,
        _ => Shape::Anchored,
    }
}

/// The glob without a `**` at its end, and whether there is one.
fn tail(glob: &[Element]) -> (&[Element], bool) {
    match glob {
        [body @ .., Element::Below | Element::Any] => (body, true),
        body => (body, false),
    }
}

/// Whether text alone decides where the glob matches, up to its end.
fn is_literal(glob: &[Element]) -> bool {
    let (body, _) = tail(glob);
    let body = match body {
        [Element::Byte(b'/'), Element::Deep, rest @ ..] => rest,
        body => body,
    };
    body.iter().all(|element| matches!(element, Element::Byte(_)))
}

fn split<'a>(groups: &[Group<'a>]) -> Option<[Vec<Group<'a>>; 2]> {
    let by = |first: &dyn Fn(&Glob<'a>) -> bool| {
        let side = |wanted: bool| -> Vec<Group<'a>> {
            let of_group = groups.iter().map(|group| {
                let globs = group.globs.iter().filter(|glob| first(glob) == wanted).copied().collect();
                Group { globs, ..group.clone() }
            });
            of_group.filter(|group| !group.globs.is_empty()).collect()
        };
        let sides = [side(true), side(false)];
        sides.iter().all(|side| !side.is_empty()).then_some(sides)
    };
    by(&|glob| is_literal(glob.0)).or_else(|| by(&|glob| tail(glob.0).1)).or_else(|| halves(groups))
}

fn halves<'a>(groups: &[Group<'a>]) -> Option<[Vec<Group<'a>>; 2]> {
    if let [group] = groups {
        if group.globs.len() < 2 {
            return None;
        }
        let (first, second) = group.globs.split_at(group.globs.len() / 2);
        return Some([first, second].map(|globs| vec![Group { globs: globs.to_vec(), ..group.clone() }]));
    }
    let all: usize = groups.iter().map(|group| group.globs.len()).sum();
    let mut before = 0;
    let middle = groups.iter().take_while(|group| {
        before += group.globs.len();
        before <= all / 2
    });
    let middle = middle.count().clamp(1, groups.len().checked_sub(1)?.max(1));
    let (first, second) = groups.split_at(middle);
    (!second.is_empty()).then(|| [first.to_vec(), second.to_vec()])
}
