//! What is made of runs, or of some of them: the draft of a policy, and what a policy would make of each.
//!
//! Each run is put to its base once. Policies of most of the runs mostly say the same; what one text makes of a run is
//! asked once, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use rayon::prelude::*;

use super::hosts;
use super::needs::{Detail, Gained, Needs, Purpose, Written, renamed};
use super::network;
use super::paths::Paths;
use super::place::Roots;
use super::tree::{self, Grant};
use super::{
    Base, LearnedRule, LeftOut, Options, Reach, Reader, Run, Strictness, Tally, Target, at, each_at, write,
};
use crate::access::{Access, AccessSet};
use crate::evaluate::Indexed;
use crate::index::Index;
use crate::model::{Policy, Rule, RuleName};
use crate::pattern::Pattern;

/// Most rounds in which new names ask for more at the old ones.
const ROUNDS: usize = 4;

/// What is allowed, before it is text.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub files: Vec<Grant>,
    /// May be mapped as code, beside programs.
    pub code: Vec<Grant>,
    pub programs: Vec<Grant>,
    pub targets: Vec<Target>,
    pub words: BTreeSet<&'static str>,
    pub left_out: Vec<LeftOut>,
}

/// A draft, and what is written of it.
pub(super) struct Drafted {
    pub draft: Draft,
    pub rules: Vec<LearnedRule>,
    /// The policy without comments.
    pub text: String,
}

/// A new name of something, and what may come of it.
struct NewName<'a> {
    old: &'a [u8],
    new: &'a [u8],
    /// What the base leaves to its defaults at the old name, and does not deny at the new one.
    accesses: AccessSet,
    /// Those of them that the base allows at the new one.
    open: AccessSet,
}

/// An access that a new name opens, and the old name.
type Opened<'a> = (Access, &'a [u8]);

/// What the policies of one text make of each run, as far as it was asked.
#[derive(Default)]
struct Answers<'a> {
    gained: HashMap<usize, Rc<[Opened<'a>]>>,
    blocked: HashMap<usize, bool>,
}

/// Runs that are learned from.
pub(super) struct Lessons<'a, E> {
    pub runs: &'a [Run<'a>],
    pub options: &'a Options<'a>,
    read: Reader<'a, E>,
    needs: Vec<Needs<'a>>,
    /// Of each run what its new names may open, as far as the base does not say.
    names: Vec<Vec<NewName<'a>>>,
    answers: RefCell<HashMap<String, Answers<'a>>>,
}

impl<'a, E> Lessons<'a, E> {
    pub fn new(runs: &'a [Run<'a>], options: &'a Options<'a>, read: Reader<'a, E>) -> Self {
        let (needs, names) =
            runs.par_iter().enumerate().map(|(index, run)| (Needs::of(index, run), new_names(run))).unzip();
        Self { runs, options, read, needs, names, answers: RefCell::default() }
    }

    /// The draft of these runs.
    pub fn draft(&self, which: &[usize], detail: Detail) -> Result<Drafted, E> {
        let first = put_together(&self.needs, which, &[], self.options.strictness, detail);
        self.finish(first, which, detail)
    }

    /// The drafts of several choices of runs.
    pub fn drafts(&self, choices: &[Vec<usize>], detail: Detail) -> Result<Vec<Drafted>, E> {
        // Only what threads may share.
        let (needs, strictness) = (&self.needs, self.options.strictness);
        let first = |which: &Vec<usize>| put_together(needs, which, &[], strictness, detail);
        let firsts: Vec<Draft> = choices.par_iter().map(first).collect();
        firsts.into_iter().zip(choices).map(|(first, which)| self.finish(first, which, detail)).collect()
    }

    /// Adds to a draft what new names open in it, until there is nothing more of it: what a policy opens at a new name
    /// is needed at the old one too.
    fn finish(&self, mut draft: Draft, which: &[usize], detail: Detail) -> Result<Drafted, E> {
        let mut gained: Vec<Gained> = Vec::new();
        let mut round = 0;
        loop {
            let rules = write::rules(&draft, which.len(), detail);
            let text = write::policy(&rules, &draft.words, self.options, LearnedRule::bare);
            round += 1;
            let before = gained.len();
            if round < ROUNDS {
                for index in which.iter().filter(|index| !self.names[**index].is_empty()) {
                    let roots = Roots::of(self.runs[*index].variables);
                    for (access, old) in self.gained(*index, &text)?.iter() {
                        let path = Written::of(&roots, old);
                        gained.extend(path.map(|path| Gained { run: *index, access: *access, path }));
                    }
                }
            }
            if gained.len() == before {
                return Ok(Drafted { draft, rules, text });
            }
            draft = put_together(&self.needs, which, &gained, self.options.strictness, detail);
        }
    }

    /// What a policy of this text closes by default at an old name of the run and opens at the new one.
    pub fn gained(&self, index: usize, text: &str) -> Result<Rc<[Opened<'a>]>, E> {
        if let Some(known) = self.answer(text, |answers| answers.gained.get(&index).cloned()) {
            return Ok(known);
        }
        let policy = (self.read)(index, text)?;
        let added = Added::of(&policy, self.runs[index].base.policy());
        let policy = Indexed::new(&policy);
        let opens = |access: Access, path: &[u8]| matches!(at(&policy, access, path), Base::Allows);
        let silent = |access: Access, path: &[u8]| matches!(at(&policy, access, path), Base::Silent);
        let of_name = |name: &NewName<'a>, among: AccessSet| -> Vec<Opened<'a>> {
            let NewName { old, new, .. } = *name;
            let found = among.iter().filter(|access| opens(*access, new) && silent(*access, old));
            found.map(|access| (access, old)).collect()
        };
        let names = &self.names[index];
        let found = names.par_iter().flat_map_iter(|name| {
            // Mostly what was added says nothing of either name, or the same of both.
            let maybe = added.may_allow(name.new).union(name.open).intersection(name.accesses);
            let left = if maybe.is_empty() { maybe } else { maybe.without(added.names(name.old)) };
            of_name(name, left)
        });
        let found: Vec<Opened<'a>> = found.collect();
        debug_assert_eq!(
            found,
            names.iter().flat_map(|name| of_name(name, name.accesses)).collect::<Vec<_>>(),
            "what the policy adds says no less than the policy"
        );
        let found: Rc<[Opened<'a>]> = found.into();
        self.answered(text, |answers| _ = answers.gained.insert(index, Rc::clone(&found)));
        Ok(found)
    }

    /// Whether a policy of this text blocks something of the run that its base does not deny by a rule.
    pub fn blocks(&self, index: usize, text: &str, asked: impl FnOnce(&Policy) -> bool) -> Result<bool, E> {
        if let Some(known) = self.answer(text, |answers| answers.blocked.get(&index).copied()) {
            return Ok(known);
        }
        // A name that opens what was closed is blocked as well.
        let blocked = !self.gained(index, text)?.is_empty() || asked(&(self.read)(index, text)?);
        self.answered(text, |answers| _ = answers.blocked.insert(index, blocked));
        Ok(blocked)
    }

    fn answer<T>(&self, text: &str, known: impl FnOnce(&Answers<'a>) -> Option<T>) -> Option<T> {
        self.answers.borrow().get(text).and_then(known)
    }

    fn answered(&self, text: &str, learn: impl FnOnce(&mut Answers<'a>)) {
        learn(self.answers.borrow_mut().entry(text.to_owned()).or_default());
    }
}

/// The rules about files and programs that a policy has and its base has not.
struct Added<'p>(Index<'p>);

impl<'p> Added<'p> {
    fn of(policy: &'p Policy, base: &Policy) -> Self {
        let of_base = base.files.rules.iter().chain(&base.exec.rules);
        let of_base: HashMap<&RuleName, &Rule<Pattern>> = of_base.map(|rule| (rule.name(), rule)).collect();
        let rules = policy.files.rules.iter().chain(&policy.exec.rules);
        Self(Index::of_rules(rules.filter(|rule| of_base.get(rule.name()) != Some(rule)).collect()))
    }

    /// The accesses that rules name at a path, whoever asks and whatever the file holds.
    fn may_allow(&self, path: &[u8]) -> AccessSet {
        self.at(path, |_| true)
    }

    /// The accesses that rules without conditions name at a path: it is not left to the defaults there.
    fn names(&self, path: &[u8]) -> AccessSet {
        self.at(path, |rule| rule.who.is_anyone() && rule.sha256.is_empty())
    }

    fn at(&self, path: &[u8], is_meant: impl Fn(&Rule<Pattern>) -> bool) -> AccessSet {
        let rules = self.0.at(AccessSet::ALL, path);
        let meant = rules.into_iter().filter(|rule| is_meant(rule));
        meant.fold(AccessSet::EMPTY, |named, rule| named.union(rule.accesses))
    }
}

/// What these runs need, as rules. What is needed for one purpose and for another is put together side by side.
fn put_together(
    all: &[Needs<'_>],
    which: &[usize],
    gained: &[Gained],
    strictness: Strictness,
    detail: Detail,
) -> Draft {
    let needs: Vec<&Needs<'_>> = which.iter().map(|index| &all[*index]).collect();
    let grants = |purpose: Purpose| {
        let mut paths = Paths::default();
        needs.iter().for_each(|needs| needs.add_to(&mut paths, purpose, detail));
        gained.iter().for_each(|gained| gained.add_to(&mut paths, purpose, detail));
        tree::put_together(paths, purpose.usage(), strictness)
    };
    let ((read, change), (code, programs)) = rayon::join(
        || rayon::join(|| grants(Purpose::Read), || grants(Purpose::Change)),
        || (grants(Purpose::Code), grants(Purpose::Run)),
    );
    let mut ends: BTreeMap<Reach, Tally> = BTreeMap::new();
    for (end, tally) in needs.iter().flat_map(|needs| &needs.ends) {
        ends.entry((*end).clone()).or_default().add(tally);
    }
    let (targets, unnamed) = network::generalise(ends.clone(), strictness);
    let left_out = match detail {
        Detail::Whole => left_out(&needs, unnamed, &ends),
        Detail::Bounds => Vec::new(),
    };
    Draft {
        files: together(read, change, strictness),
        code,
        programs,
        targets: hosts::grouped(targets, strictness),
        words: needs.iter().flat_map(|needs| needs.words.iter().copied()).collect(),
        left_out,
    }
}

/// What new names of a run may open that a policy closes at the old ones, as far as the base leaves that open: what its
/// rules say holds in each policy that extends it and only allows more.
fn new_names<'a>(run: &Run<'a>) -> Vec<NewName<'a>> {
    let name = |(old, new): (&'a [u8], &'a [u8])| {
        let mut silent = AccessSet::EMPTY;
        for (access, said) in each_at(run.base, AccessSet::OBJECT, old) {
            match said {
                // What may not be read or written is not opened in any other way either.
                Base::Denies(..) if matches!(access, Access::Read | Access::Write) => return None,
                Base::Allows | Base::Denies(..) => {}
                Base::Silent => silent.insert(access),
            }
        }
        if silent.is_empty() {
            return None;
        }
        let (mut accesses, mut open) = (AccessSet::EMPTY, AccessSet::EMPTY);
        for (access, said) in each_at(run.base, silent, new) {
            match said {
                Base::Denies(..) => continue,
                Base::Allows => open.insert(access),
                Base::Silent => {}
            }
            accesses.insert(access);
        }
        (!accesses.is_empty()).then_some(NewName { old, new, accesses, open })
    };
    renamed(run.seen).filter_map(name).collect()
}

/// What runs asked for and does not become a rule.
fn left_out(needs: &[&Needs<'_>], unnamed: Vec<Reach>, ends: &BTreeMap<Reach, Tally>) -> Vec<LeftOut> {
    let mut denied: BTreeMap<&(String, Option<String>), LeftOut> = BTreeMap::new();
    for (key, left) in needs.iter().flat_map(|needs| &needs.left_out) {
        let new = || LeftOut { tally: Tally::default(), ..left.clone() };
        denied.entry(key).or_insert_with(new).tally.add(&left.tally);
    }
    let unnamed = unnamed.into_iter().map(|end| LeftOut {
        object: end.to_string(),
        rule: None,
        because: Some("no rule can name it".to_owned()),
        tally: ends.get(&end).cloned().unwrap_or_default(),
    });
    let mut all: Vec<LeftOut> = denied.into_values().chain(unnamed).collect();
    // What a rule denies first, and rule by rule.
    all.sort_by(|one, other| {
        let [one, other] = [one, other].map(|left| (left.rule.is_none(), &left.rule, &left.object));
        one.cmp(&other)
    });
    all
}

/// What is read and what is changed, in one list: a tree that is changed is mostly read as well.
fn together(read: Vec<Grant>, change: Vec<Grant>, strictness: Strictness) -> Vec<Grant> {
    let mut all: BTreeMap<(super::Place, bool), Grant> = BTreeMap::new();
    for mut grant in change {
        let made = grant.tally.accesses.contains(Access::Create);
        if grant.below && made && strictness != Strictness::Exact {
            // Whoever makes files somewhere also replaces and removes its own.
            let own = [Access::Write, Access::Create, Access::Delete].into_iter().collect();
            grant.tally.accesses = grant.tally.accesses.union(own);
        }
        all.insert((grant.place.clone(), grant.below), grant);
    }
    for grant in read {
        let key = (grant.place.clone(), grant.below);
        match all.get_mut(&key) {
            Some(same) => same.tally.add(&grant.tally),
            None => _ = all.insert(key, grant),
        }
    }
    all.into_values().collect()
}
