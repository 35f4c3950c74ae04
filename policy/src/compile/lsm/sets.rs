//! Conditions on the process as numbers of sets of patterns.
//!
//! What is known of a process ([`sandbox_ebpf::abi::policy::Sets`]) outlives the policy under which it was found out.
//! So a set keeps its number for as long as the run lives, whatever policies come and go.

use std::collections::BTreeMap;

use sandbox_ebpf::abi::policy::MAX_SETS;

use super::Names;
use super::block::Condition;
use crate::compile::CompileError;
use crate::model::Rule;
use crate::pattern::Pattern;

/// The sets of a run, by number: lists of patterns, the same list once. Only ever grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetTable {
    /// The patterns' texts, ascending.
    sets: Vec<Vec<String>>,
}

impl SetTable {
    /// No sets.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// True where no condition was ever compiled.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The number of a list of patterns; `None` where there is no room for it.
    fn number(&mut self, patterns: &[Pattern]) -> Option<u8> {
        let mut texts: Vec<String> = patterns.iter().map(|pattern| pattern.text().to_owned()).collect();
        texts.sort();
        texts.dedup();
        let at = self.sets.iter().position(|set| *set == texts).unwrap_or(self.sets.len());
        if at == MAX_SETS {
            return None;
        }
        if at == self.sets.len() {
            self.sets.push(texts);
        }
        u8::try_from(at).ok()
    }
}

/// The sets that one plan uses.
pub(super) struct Used<'a> {
    table: SetTable,
    /// By number: the patterns, and a rule that names them.
    sets: BTreeMap<u8, (&'a [Pattern], u32)>,
    /// How many conditions each rule has.
    weights: Vec<(u32, usize)>,
}

impl<'a> Used<'a> {
    pub fn new(table: SetTable) -> Self {
        Self { table, sets: BTreeMap::new(), weights: Vec::new() }
    }

    /// The conditions of a rule; those on the object are its exceptions, in rules on contents.
    pub fn condition<O>(
        &mut self,
        rule: &'a Rule<O>,
        index: u32,
        except: &'a [Pattern],
        names: &Names,
    ) -> Result<Condition, CompileError> {
        let who = &rule.who;
        let lists = [
            who.by.as_deref().unwrap_or_default(),
            &who.unless_by,
            who.under.as_deref().unwrap_or_default(),
            except,
        ];
        self.weights.push((index, lists.iter().filter(|list| !list.is_empty()).count()));
        let mut numbers = [0; 4];
        for (patterns, number) in lists.into_iter().zip(&mut numbers).filter(|(list, _)| !list.is_empty()) {
            let Some(set) = self.table.number(patterns) else {
                return Err(CompileError::SetsTooMany {
                    limit: MAX_SETS,
                    rules: names.heaviest(self.weights.iter().copied()),
                });
            };
            self.sets.entry(set).or_insert((patterns, index));
            *number = set + 1;
        }
        let [by, unless_by, under, except] = numbers;
        Ok(Condition { by, unless_by, under, except })
    }

    /// Each set: its number, its patterns, and a rule that names it.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [Pattern], u32)> {
        self.sets.iter().map(|(number, (patterns, rule))| (*number, *patterns, *rule))
    }

    /// The sets as a mask.
    pub fn mask(&self) -> u64 {
        self.sets.keys().fold(0, |mask, number| mask | 1 << number)
    }

    /// The table with what was added to it.
    pub fn into_table(self) -> SetTable {
        self.table
    }
}
