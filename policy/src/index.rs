//! The rules of a section about paths, by the directories in which their patterns begin: of hundreds of rules only those
//! are compared with a path that could mean it.
//!
//! It finds what [`Pattern::matches`] would find rule by rule, and judges nothing: that is [`crate::evaluate`]'s.

use foldhash::HashMap;

use crate::access::AccessSet;
use crate::model::{Rule, Section};
use crate::pattern::{Pattern, Start};

/// Rules, to be found by a path.
#[derive(Debug)]
pub(crate) struct Index<'p> {
    rules: Vec<&'p Rule<Pattern>>,
    /// The root, and the directories below it in which some pattern begins.
    directories: Vec<Directory<'p>>,
    /// Rules that name no path: what a file holds decides.
    by_contents: Vec<usize>,
}

/// A directory.
#[derive(Debug, Default)]
struct Directory<'p> {
    below: HashMap<&'p [u8], usize>,
    /// By the place of the rule, the globs that begin here.
    globs: Vec<(usize, Start<'p>)>,
}

impl<'p> Index<'p> {
    /// Of a section's rules.
    pub fn of(section: &'p Section<Pattern>) -> Self {
        Self::of_rules(section.rules.iter().collect())
    }

    /// Of some rules, in their order.
    pub fn of_rules(rules: Vec<&'p Rule<Pattern>>) -> Self {
        let mut index = Self { rules, directories: vec![Directory::default()], by_contents: Vec::new() };
        for number in 0..index.rules.len() {
            let rule = index.rules[number];
            if !rule.sha256.is_empty() {
                index.by_contents.push(number);
                continue;
            }
            for start in rule.objects.iter().flat_map(Pattern::starts) {
                let at = start.directory().fold(0, |at, name| index.below(at, name));
                index.directories[at].globs.push((number, start));
            }
        }
        index
    }

    fn below(&mut self, at: usize, name: &'p [u8]) -> usize {
        let new = self.directories.len();
        let below = *self.directories[at].below.entry(name).or_insert(new);
        if below == new {
            self.directories.push(Directory::default());
        }
        below
    }

    /// The rules about any of these accesses that mean a path, and those that may: what it holds decides. In their order.
    pub fn at(&self, accesses: AccessSet, path: &[u8]) -> Vec<&'p Rule<Pattern>> {
        let mut found: Vec<usize> = Vec::new();
        let mut here = Some(&self.directories[0]);
        let mut names = path.strip_prefix(b"/").into_iter().flat_map(|path| path.split(|byte| *byte == b'/'));
        while let Some(directory) = here {
            for (number, start) in &directory.globs {
                if self.rules[*number].accesses.overlaps(accesses)
                    && !found.contains(number)
                    && start.matches(path)
                {
                    found.push(*number);
                }
            }
            let next = if directory.below.is_empty() { None } else { names.next() };
            here = next.and_then(|name| directory.below.get(name)).map(|next| &self.directories[*next]);
        }
        found.extend(
            self.by_contents.iter().filter(|number| self.rules[**number].accesses.overlaps(accesses)),
        );
        found.retain(|number| !self.rules[*number].except.iter().any(|pattern| pattern.matches(path)));
        found.sort_unstable();
        found.into_iter().map(|number| self.rules[number]).collect()
    }
}
