//! How well a policy fits runs that it was not learned from.
//!
//! Each run is put to what the others teach (leave one out): how many of them would have been blocked is what a next
//! honest run has to expect. Beside it stands how many things only one run did, which Good and Turing take for the
//! chance of another new one (Good 1953; for runs as samples Chao 1987).

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::lessons::{Draft, Drafted, Lessons};
use super::needs::Detail;
use super::{Base, Run, Strictness, Tally, anyone, base, base_of, question};
use crate::compile::lsm::{SetTable, compile};
use crate::digest::Digest;
use crate::evaluate::{Act, Indexed};
use crate::learn::Reach;
use crate::model::{Decision, Policy};

/// Fewest runs of which anything can be said.
const RUNS: usize = 3;
/// Runs of a hundred that may be expected to be blocked before it is too many.
const TOO_MANY: usize = 20;

/// What is known of the fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confidence {
    /// How many runs were learned from.
    pub runs: usize,
    /// How many of them what the others teach would have blocked, in their order.
    pub blocked: Vec<usize>,
    /// Lines of the policy's patterns that the last run alone added.
    pub last_added: usize,
    /// Patterns and targets in all.
    pub grants: usize,
    /// Those that only one run asked for.
    pub once: usize,
    /// Runs that did something that a rule of the base denies, and so does what is learned.
    pub denied: usize,
}

impl Confidence {
    pub(super) fn of<E>(lessons: &Lessons<'_, E>, draft_of_all: &Draft) -> Result<Self, E> {
        let runs = lessons.runs;
        let tallies = draft_of_all.tallies();
        let once = tallies.iter().filter(|tally| tally.runs.len() == 1).count();
        let last = runs.len().wrapping_sub(1);
        let last_added = tallies.iter().filter(|tally| tally.runs.iter().eq([&last])).count();
        let mut blocked = Vec::new();
        if runs.len() > 1 {
            // Where no trees are made every name counts.
            let detail = match lessons.options.strictness {
                Strictness::Exact => Detail::Whole,
                Strictness::Balanced | Strictness::Loose => Detail::Bounds,
            };
            let all: Vec<usize> = (0..runs.len()).collect();
            // As many at once as can be made at once: each may be large.
            for left_out in all.chunks(rayon::current_num_threads()) {
                let others = |left: &usize| all.iter().copied().filter(|index| index != left).collect();
                let choices: Vec<Vec<usize>> = left_out.iter().map(others).collect();
                for (left, Drafted { text, .. }) in left_out.iter().zip(lessons.drafts(&choices, detail)?) {
                    if lessons.blocks(*left, &text, |policy| blocks(policy, &runs[*left]))? {
                        blocked.push(*left);
                    }
                }
            }
        }
        let by_rule = draft_of_all.left_out.iter().filter(|left| left.rule.is_some());
        let denied: BTreeSet<usize> = by_rule.flat_map(|left| left.tally.runs.iter().copied()).collect();
        let (runs, grants, denied) = (runs.len(), tallies.len(), denied.len());
        Ok(Self { runs, blocked, last_added, grants, once, denied })
    }

    /// How many of a hundred honest runs may be expected to be blocked; `None` where nothing can be said. One more
    /// blocked run than was seen, of one more run, so that it is never nothing.
    pub fn expected(&self) -> Option<usize> {
        (self.runs >= 2).then(|| ((2 * self.blocked.len() + 1) * 100).div_ceil(2 * (self.runs + 1)))
    }

    /// Whether it is too early to enforce what was learned.
    pub fn is_enough(&self) -> bool {
        self.runs >= RUNS && self.expected().is_some_and(|expected| expected <= TOO_MANY)
    }

    /// The same in words.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(expected) = self.expected() {
            lines.push(format!(
                "Of these {} runs {} would have been blocked by what the others teach: expect about {expected} of 100.",
                self.runs,
                self.blocked.len(),
            ));
            lines.push(format!(
                "The last run added {} of {} patterns and targets; {} were asked for by one run only.",
                self.last_added, self.grants, self.once
            ));
        }
        if self.denied > 0 {
            lines.push(format!(
                "{} of {} did what the base denies by a rule: it is left out, and denied to the next run that does it.",
                self.denied, self.runs
            ));
        }
        if !self.is_enough() {
            lines.push(format!(
                "NOT ENOUGH YET: record more runs before this is enforced (at least {RUNS}, until few are blocked)."
            ));
        }
        lines
    }
}

impl Draft {
    fn tallies(&self) -> Vec<&Tally> {
        let grants = self.files.iter().chain(&self.programs).map(|grant| &grant.tally);
        grants.chain(self.targets.iter().map(|target| &target.tally)).collect()
    }
}

/// Whether a policy blocks something of a run that its base does not deny by a rule; of new names it is not asked.
pub(super) fn blocks(policy: &Policy, run: &Run<'_>) -> bool {
    let policy = &Indexed::new(policy);
    let closed = |act: &Act<'_>| {
        anyone(policy, act).decision != Decision::Allow && !matches!(base(run.base, act), Base::Denies(..))
    };
    let seen = run.seen;
    let files = seen
        .files
        .par_iter()
        .any(|(path, count)| path.starts_with(b"/") && closed(&Act::File { accesses: count.accesses, path }));
    let executed = || {
        let mut paths = seen.executed.keys();
        paths
            .any(|path| path.starts_with(b"/") && closed(&Act::Exec { path, sha256: Some(&Digest::UNNAMED) }))
    };
    let ends = || {
        seen.ends.iter().any(|(end, count)| match end {
            Reach::Question(name) => matches!(question(policy.policy(), name), Some(Base::Silent)),
            Reach::Other => false,
            _ => end.with(|end| {
                let act = Act::Network { accesses: count.accesses, end };
                let programs = seen.tally(count, 0).programs;
                !matches!(base_of(policy, &act, &programs), Base::Allows)
                    && !matches!(base_of(run.base, &act, &programs), Base::Denies(..))
            }),
        })
    };
    files || executed() || ends() || keeps_a_directory(policy.policy(), run)
}

/// Whether the hooks would let a directory not move that the base alone lets move.
fn keeps_a_directory(policy: &Policy, run: &Run<'_>) -> bool {
    let mut moved: Vec<_> = run.seen.moved.iter().collect();
    // The base is asked of what is left: mostly nothing is.
    for (policy, lets) in [(policy, false), (run.base.policy(), true)] {
        if moved.is_empty() {
            return false;
        }
        let Ok(plan) = compile(&[policy], 0, &mut SetTable::default()) else { return false };
        moved.retain(|(old, new, swap)| plan.lets_move(old, new, *swap) == lets);
    }
    !moved.is_empty()
}
