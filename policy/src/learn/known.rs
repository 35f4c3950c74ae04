//! Finding a path again among patterns that paths were put together to: a tree of components, so that it costs the path's
//! length and not the number of patterns.
//!
//! It knows the patterns that [`super::grants`] makes and no others: a root, components with at most stars in them, and
//! `/**`. Texts may be anybody's; what is none of these is a fault.

use std::collections::HashMap;

use super::place::{Part, Place, Root};

/// Longest pattern, in bytes: a path of 4096 of which each is an escape.
const LONGEST: usize = 4 * 4096 + 64;

/// Why a text is none of the patterns that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KnownFault {
    /// It does not begin with `/` or a place.
    #[error("begins neither with `/` nor with a place such as ${{HOME}}")]
    Root,
    /// Something between two slashes is no name with at most stars in it.
    #[error("has a component that is no name with at most stars in it")]
    Component,
    /// Longer than any path.
    #[error("is longer than a path can be")]
    TooLong,
    /// The same is there already.
    #[error("stands there twice")]
    Twice,
}

/// Patterns, each with what it stands for.
#[derive(Clone, Debug)]
pub struct Known<T> {
    roots: HashMap<Root, usize>,
    nodes: Vec<Node<T>>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    fixed: HashMap<Part, usize>,
    globs: Vec<(Glob, usize)>,
    here: Option<T>,
    below: Option<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { fixed: HashMap::new(), globs: Vec::new(), here: None, below: None }
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { roots: HashMap::new(), nodes: Vec::new() }
    }
}

impl<T> Known<T> {
    /// Adds a pattern.
    ///
    /// # Errors
    /// The text is no such pattern, or is there already.
    pub fn insert(&mut self, pattern: &str, value: T) -> Result<(), KnownFault> {
        let (root, parts, below) = read(pattern)?;
        let mut at = match self.roots.get(&root) {
            Some(at) => *at,
            None => {
                let at = self.add();
                self.roots.insert(root, at);
                at
            }
        };
        for part in parts {
            at = self.child(at, part);
        }
        let node = &mut self.nodes[at];
        let place = if below { &mut node.below } else { &mut node.here };
        match place {
            Some(_) => Err(KnownFault::Twice),
            None => {
                *place = Some(value);
                Ok(())
            }
        }
    }

    /// What the place is among: itself before names with stars, and these before trees, of which the deepest.
    pub fn find(&self, place: &Place) -> Option<&T> {
        let mut front = vec![*self.roots.get(&place.root)?];
        let mut tree = self.nodes[front[0]].below.as_ref();
        for part in &place.parts {
            let mut next = Vec::new();
            for node in front.iter().map(|at| &self.nodes[*at]) {
                next.extend(node.fixed.get(part));
                next.extend(node.globs.iter().filter(|(glob, _)| glob.matches(part)).map(|(_, at)| at));
            }
            front = next;
            if front.is_empty() {
                return tree;
            }
            tree = front.iter().find_map(|at| self.nodes[*at].below.as_ref()).or(tree);
        }
        front.iter().find_map(|at| self.nodes[*at].here.as_ref()).or(tree)
    }

    fn add(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    fn child(&mut self, at: usize, part: &str) -> usize {
        let node = &self.nodes[at];
        let glob = Glob::read(part);
        let known = match &glob {
            None => node.fixed.get(part).copied(),
            Some(glob) => node.globs.iter().find(|(other, _)| other == glob).map(|(_, at)| *at),
        };
        if let Some(known) = known {
            return known;
        }
        let new = self.add();
        match glob {
            None => _ = self.nodes[at].fixed.insert(part.to_owned(), new),
            Some(glob) => self.nodes[at].globs.push((glob, new)),
        }
        new
    }
}

/// A component with stars, or a number of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Glob {
    /// `[0-9]*`, as directories in /proc are put together.
    Number,
    /// What stands between the stars, at least two parts.
    Stars(Vec<String>),
}

const NUMBER: &str = "[0-9]*";

impl Glob {
    /// `None` for a name without stars.
    fn read(part: &str) -> Option<Glob> {
        if part == NUMBER {
            return Some(Self::Number);
        }
        // No name that has a star put into it has a backslash.
        let stars = part.contains('*') && !part.contains('\\');
        stars.then(|| Self::Stars(part.split('*').map(str::to_owned).collect()))
    }

    fn matches(&self, name: &str) -> bool {
        let pieces = match self {
            Self::Number => return name.starts_with(|c: char| c.is_ascii_digit()),
            Self::Stars(pieces) => pieces,
        };
        let Some((first, rest)) = pieces.split_first() else { return false };
        let Some((last, middle)) = rest.split_last() else { return false };
        let Some(mut name) =
            name.strip_prefix(first.as_str()).and_then(|name| name.strip_suffix(last.as_str()))
        else {
            return false;
        };
        for piece in middle {
            match name.find(piece.as_str()) {
                Some(at) => name = &name[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

/// The root, the components, and whether all below is meant.
fn read(pattern: &str) -> Result<(Root, Vec<&str>, bool), KnownFault> {
    if pattern.len() > LONGEST {
        return Err(KnownFault::TooLong);
    }
    let begins = |root: &Root| {
        let rest = pattern.strip_prefix(root.text())?;
        (rest.starts_with('/') || rest.is_empty() && *root != Root::Machine).then_some((*root, rest))
    };
    let (root, rest) = Root::ALL.iter().find_map(begins).ok_or(KnownFault::Root)?;
    let (rest, below) = match rest.strip_suffix("/**") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let parts: Vec<&str> = match rest {
        "" | "/" => Vec::new(),
        rest => rest.split('/').skip(1).collect(),
    };
    match parts.iter().all(|part| is_component(part)) {
        true => Ok((root, parts, below)),
        false => Err(KnownFault::Component),
    }
}

/// Whether a text is what [`crate::pattern::escape`] makes of a name, with stars in it at most.
fn is_component(part: &str) -> bool {
    if part == NUMBER {
        return true;
    }
    if part.is_empty() || part.chars().all(|c| c == '*') {
        return false;
    }
    if part.contains('*') && !part.contains('\\') {
        return part.split('*').all(|piece| crate::pattern::escape(piece.as_bytes()) == piece);
    }
    unescape(part).is_some_and(|bytes| crate::pattern::escape(&bytes) == part)
}

/// The bytes of an escaped name.
fn unescape(part: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = part.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next()? {
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).ok().filter(|byte| *byte != 0)?);
                    continue;
                }
                c => c,
            },
            c => c,
        };
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::{Roots, Strictness, Tally, Use, grants};
    use super::*;
    use crate::variables::Variables;

    fn roots() -> Roots {
        let mut variables = Variables::new();
        for (name, value) in [("HOME", "/home/u"), ("TMP", "/tmp"), ("WORKSPACE", "/srv/w")] {
            assert_eq!(variables.set(name, value), Ok(()));
        }
        Roots::of(&variables)
    }

    fn find(patterns: &[&str], path: &str) -> Option<String> {
        let mut known = Known::default();
        for pattern in patterns {
            assert_eq!(known.insert(pattern, (*pattern).to_owned()), Ok(()), "{pattern}");
        }
        known.find(&roots().place(path.as_bytes())?).cloned()
    }

    #[test]
    fn the_narrowest_is_found() {
        let patterns = [
            "${HOME}/.cache/tool/**",
            "${HOME}/.cache/tool/index",
            "${HOME}/.cache/tool/app-*.o",
            "/proc/[0-9]*/maps",
        ];
        for (path, found) in [
            ("/home/u/.cache/tool/index", Some("${HOME}/.cache/tool/index")),
            ("/home/u/.cache/tool/app-77.o", Some("${HOME}/.cache/tool/app-*.o")),
            ("/home/u/.cache/tool/app-77.o/x", Some("${HOME}/.cache/tool/**")),
            ("/home/u/.cache/tool", Some("${HOME}/.cache/tool/**")),
            ("/home/u/.cache/tools", None),
            ("/home/u/.cache", None),
            ("/proc/12/maps", Some("/proc/[0-9]*/maps")),
            ("/proc/self/maps", None),
            ("/srv/w/x", None),
        ] {
            assert_eq!(find(&patterns, path).as_deref(), found, "{path}");
        }
        assert_eq!(find(&["/**"], "/srv/w"), None, "another root");
        assert_eq!(find(&["/"], "/").as_deref(), Some("/"));
        assert_eq!(find(&["${WORKSPACE}"], "/srv/w").as_deref(), Some("${WORKSPACE}"));
        assert_eq!(
            find(&["{/tmp,/var/tmp,${TMP}}/**"], "/var/tmp/a").as_deref(),
            Some("{/tmp,/var/tmp,${TMP}}/**")
        );
        assert_eq!(find(&["/etc/a\\*b"], "/etc/a*b").as_deref(), Some("/etc/a\\*b"));
        assert_eq!(find(&["/etc/a\\*b"], "/etc/axb"), None);
    }

    #[test]
    fn what_is_no_such_pattern_is_refused() {
        let mut known = Known::default();
        for (pattern, fault) in [
            ("", KnownFault::Root),
            ("etc", KnownFault::Root),
            ("${OTHER}/x", KnownFault::Root),
            ("${HOME}x", KnownFault::Root),
            ("/etc//x", KnownFault::Component),
            ("/etc/", KnownFault::Component),
            ("/etc/**/x", KnownFault::Component),
            ("/etc/{a,b}", KnownFault::Component),
            ("/etc/*", KnownFault::Component),
            ("/etc/a?", KnownFault::Component),
            ("/etc/\\", KnownFault::Component),
            ("/etc/\\x1", KnownFault::Component),
            ("/etc/\\x00", KnownFault::Component),
            ("/etc/\\a", KnownFault::Component),
            ("/etc/a\u{1b}", KnownFault::Component),
        ] {
            assert_eq!(known.insert(pattern, ()), Err(fault), "{pattern:?}");
        }
        assert_eq!(known.insert(&format!("/{}", "a".repeat(LONGEST)), ()), Err(KnownFault::TooLong));
        assert_eq!(known.insert("/etc/x", ()), Ok(()));
        assert_eq!(known.insert("/etc/x", ()), Err(KnownFault::Twice));
        assert_eq!(known.insert("/etc/x/**", ()), Ok(()));
    }

    proptest! {
        /// Whatever paths are put together are found again, by the patterns as they are written.
        #[test]
        fn what_was_put_together_is_found(
            paths in prop::collection::btree_map("(/(home/u|tmp|srv/w|proc|usr/lib|etc|[a-c]))(/[a-c0-9*\\\\{\u{1b}é.-]{1,9}){0,4}", 0usize..4, 0..24),
            usage in 0usize..3,
            strictness in 0usize..3,
        ) {
            let usage = [Use::Read, Use::Change, Use::Run][usage];
            let strictness = [Strictness::Exact, Strictness::Balanced, Strictness::Loose][strictness];
            let roots = roots();
            let tally = |run: usize| Tally { runs: BTreeSet::from([run]), count: 1, ..Tally::default() };
            let places: BTreeMap<Place, Tally> = paths
                .iter()
                .filter_map(|(path, run)| Some((roots.place(path.as_bytes())?, tally(*run))))
                .collect();
            let mut known = Known::default();
            for grant in grants(places.clone(), usage, strictness) {
                prop_assert_eq!(known.insert(&grant.pattern(), ()), Ok(()), "{}", grant.pattern());
            }
            for place in places.keys() {
                prop_assert!(known.find(place).is_some(), "{}", place.pattern());
            }
        }

        /// No text makes it panic.
        #[test]
        fn any_text_is_a_pattern_or_a_fault(text in "[${}HOMEWRKSPAC/\\\\x0-9*\\[\\],a\u{7f}é-]{0,40}", path in "/[a-z*/]{0,20}") {
            let mut known = Known::default();
            let _ = known.insert(&text, ());
            let _ = roots().place(path.as_bytes()).map(|place| known.find(&place).is_some());
        }
    }
}
