//! What is there when a run starts: `existing` in a rule stands for what its patterns match then, and for nothing that
//! is made later.
//!
//! A layer that has no hooks can grant places, and lay something over places, but knows no patterns. What a pattern
//! matches at the start is a list of places, and those it can hold; every layer then says the same. A directory that a
//! rule denies counts with all below it; one that a rule allows by its own name is that directory alone.
//!
//! Until they are looked up the patterns are objects of the rule like others, so that examples and `eval` judge as if
//! everything was there. This module reads no file system: [`Tree`] does.

use crate::model::{Decision, Policy, Rule, RuleName, Section};
use crate::pattern::{Element, Pattern, enter, step};

/// Directories that are looked into at most, for all rules of a policy.
pub const MOST_DIRECTORIES: usize = 500_000;
/// Places that one rule may stand for.
pub const MOST_PLACES: usize = 1000;

/// What a directory has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// A directory itself, no link to one.
    pub is_directory: bool,
}

/// The file system, as it is when a run starts.
pub trait Tree {
    /// Whether something is at `path`, and if, whether that is a directory itself.
    ///
    /// # Errors
    /// Why that cannot be told.
    fn look(&self, path: &[u8]) -> Result<Option<bool>, String>;

    /// What is in a directory, in any order; nothing where there is none.
    ///
    /// # Errors
    /// Why that cannot be told, although the run may see it.
    fn list(&self, directory: &[u8]) -> Result<Vec<Entry>, String>;
}

/// Why a rule's places are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExistingFault {
    /// Too many for one rule.
    #[error(
        "rule `{rule}`: more than {MOST_PLACES} places match its `existing` now; write fewer and wider patterns, as a \
         directory with `/**`"
    )]
    TooMany {
        /// The rule.
        rule: RuleName,
    },
    /// Too much to look through.
    #[error(
        "rule `{rule}`: more than {MOST_DIRECTORIES} directories would have to be looked into for its `existing`; name \
         the directories more exactly"
    )]
    TooLarge {
        /// The rule.
        rule: RuleName,
    },
    /// A place could not be looked at.
    #[error("rule `{rule}`: what its `existing` stands for cannot be looked up: {reason}")]
    Unknown {
        /// The rule.
        rule: RuleName,
        /// Why.
        reason: String,
    },
}

impl Policy {
    /// Whether some rule stands for what is there when a run starts.
    pub fn has_existing(&self) -> bool {
        let has = |section: &Section<Pattern>| section.rules.iter().any(|rule| !rule.existing.is_empty());
        has(&self.files) || has(&self.exec)
    }

    /// The policy with the places that its rules' `existing` match in `tree`, before links are followed.
    ///
    /// # Errors
    /// They cannot be told, or are too many.
    pub fn with_existing(mut self, tree: &dyn Tree) -> Result<Self, ExistingFault> {
        let mut left = MOST_DIRECTORIES;
        for section in [&mut self.files, &mut self.exec] {
            for rule in section.rules.iter_mut().filter(|rule| !rule.existing.is_empty()) {
                look_up(rule, tree, &mut left)?;
            }
        }
        Ok(self)
    }

    /// A place that a rule here denies something at, and that the rule of the same name in `earlier` says nothing of:
    /// `earlier` is the same policy, looked up before. What is gone since then is nothing to deny any more.
    pub fn appeared_since(&self, earlier: &Policy) -> Option<(&RuleName, String)> {
        let sections = [(&self.files, &earlier.files), (&self.exec, &earlier.exec)];
        sections.into_iter().find_map(|(now, before)| {
            let denying = now.rules.iter().filter(|rule| rule.effect != Decision::Allow);
            denying.into_iter().find_map(|rule| {
                let known = before.rules.iter().find(|known| known.name == rule.name);
                let is_new = |object: &&Pattern| known.is_none_or(|known| !known.objects.contains(object));
                rule.objects.iter().find(is_new).map(|object| (&rule.name, object.text().to_owned()))
            })
        })
    }
}

/// True for a pattern that begins nowhere in particular: all of the file system would be looked through for it.
pub(crate) fn looks_everywhere(pattern: &Pattern) -> bool {
    pattern.globs().iter().any(|glob| {
        let inner = &glob[..glob.len().saturating_sub(1)];
        beginning(glob) <= 1 && inner.iter().any(|element| matches!(element, Element::Any | Element::Deep))
    })
}

/// The length of a glob's beginning that is a directory to look in, with the slash behind it; all of a glob that is
/// literal but for what is below.
fn beginning(glob: &[Element]) -> usize {
    let literal = glob.iter().take_while(|element| element.byte().is_some()).count();
    match &glob[literal..] {
        [] | [Element::Below] => literal,
        _ => {
            glob[..literal].iter().rposition(|element| *element == Element::Byte(b'/')).map_or(0, |at| at + 1)
        }
    }
}

/// Replaces the `existing` of a rule by the places that they match.
fn look_up(rule: &mut Rule<Pattern>, tree: &dyn Tree, left: &mut usize) -> Result<(), ExistingFault> {
    let mut search = Search {
        tree,
        rule: &rule.name,
        except: &rule.except,
        denies: rule.effect != Decision::Allow,
        left,
        found: Vec::new(),
    };
    // Globs that begin in one directory are looked for together.
    let globs: Vec<&[Element]> = rule.existing.iter().flat_map(Pattern::globs).map(Vec::as_slice).collect();
    let mut begun: Vec<(Vec<u8>, Vec<Way<'_>>)> = Vec::new();
    for glob in globs {
        let at = beginning(glob);
        let path: Vec<u8> = glob[..at].iter().filter_map(Element::byte).collect();
        if matches!(&glob[at..], [] | [Element::Below]) {
            search.point(path, at < glob.len())?;
            continue;
        }
        let mut marks = vec![false; glob.len() + 1];
        enter(glob, at, &mut marks);
        let way = Way { glob, marks };
        match begun.iter_mut().find(|(begin, _)| *begin == path) {
            Some((_, ways)) => ways.push(way),
            None => begun.push((path, vec![way])),
        }
    }
    for (directory, ways) in &begun {
        search.walk(directory, ways)?;
    }
    let mut found = search.found;
    found.sort();
    found.dedup();
    let single = found.iter().all(|place| !place.below);
    rule.objects.truncate(rule.objects.len() - rule.existing.len());
    // Of single places those that are left out were not taken up.
    if rule.objects.is_empty() && single {
        rule.except.clear();
    }
    rule.objects.extend(found.iter().map(Place::pattern));
    rule.existing.clear();
    Ok(())
}

/// A place that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: Vec<u8>,
    below: bool,
}

impl Place {
    fn pattern(&self) -> Pattern {
        if self.below {
            return Pattern::beneath(&self.path);
        }
        Pattern::exactly(&self.path)
    }
}

/// A glob, and how far it has been followed.
#[derive(Clone)]
struct Way<'g> {
    glob: &'g [Element],
    marks: Vec<bool>,
}

impl Way<'_> {
    fn after(&self, bytes: &[u8]) -> Self {
        let marks = bytes.iter().fold(self.marks.clone(), |marks, byte| {
            let mut next = vec![false; marks.len()];
            step(self.glob, &marks, *byte, &mut next);
            next
        });
        Self { glob: self.glob, marks }
    }

    fn is_open(&self) -> bool {
        self.marks.contains(&true)
    }

    fn is_matched(&self) -> bool {
        self.marks[self.glob.len()]
    }

    /// Whether everything below matches, too.
    fn is_whole(&self) -> bool {
        let last = self.glob.len() - 1;
        matches!(self.glob[last], Element::Any | Element::Below) && self.marks[last] && self.is_matched()
    }
}

struct Search<'s> {
    tree: &'s dyn Tree,
    rule: &'s RuleName,
    except: &'s [Pattern],
    denies: bool,
    left: &'s mut usize,
    found: Vec<Place>,
}

impl Search<'_> {
    /// A place that is named in full.
    fn point(&mut self, path: Vec<u8>, below: bool) -> Result<(), ExistingFault> {
        let found = self.tree.look(&path).map_err(|reason| self.unknown(reason))?;
        match found {
            Some(is_directory) => self.take(path, is_directory, below),
            None => Ok(()),
        }
    }

    fn take(&mut self, path: Vec<u8>, is_directory: bool, below: bool) -> Result<(), ExistingFault> {
        let below = is_directory && (below || self.denies);
        if !below && self.except.iter().any(|except| except.matches(&path)) {
            return Ok(());
        }
        if self.found.len() == MOST_PLACES {
            return Err(ExistingFault::TooMany { rule: self.rule.clone() });
        }
        self.found.push(Place { path, below });
        Ok(())
    }

    fn walk(&mut self, directory: &[u8], ways: &[Way<'_>]) -> Result<(), ExistingFault> {
        // Directories in directories are kept here, not on the stack: a path may have 2,000 names.
        let mut open = vec![(directory.to_vec(), ways.to_vec())];
        while let Some((directory, ways)) = open.pop() {
            *self.left = self
                .left
                .checked_sub(1)
                .ok_or_else(|| ExistingFault::TooLarge { rule: self.rule.clone() })?;
            for entry in self.tree.list(&directory).map_err(|reason| self.unknown(reason))? {
                let ways: Vec<Way<'_>> =
                    ways.iter().map(|way| way.after(&entry.name)).filter(Way::is_open).collect();
                let mut path = [directory.as_slice(), &entry.name].concat();
                let whole = ways.iter().any(Way::is_whole);
                if whole || ways.iter().any(Way::is_matched) {
                    self.take(path.clone(), entry.is_directory, whole)?;
                    if entry.is_directory && (whole || self.denies) {
                        continue;
                    }
                }
                path.push(b'/');
                let ways: Vec<Way<'_>> =
                    ways.iter().map(|way| way.after(b"/")).filter(Way::is_open).collect();
                if entry.is_directory && !ways.is_empty() {
                    open.push((path, ways));
                }
            }
        }
        Ok(())
    }

    fn unknown(&self, reason: String) -> ExistingFault {
        ExistingFault::Unknown { rule: self.rule.clone(), reason }
    }
}
