//! Where several rules of a gateway match, the first decides there, and here the strictest does: which rules that
//! makes stricter. Nothing becomes wider by it.

use super::Action;
use crate::address::Target;
use crate::convert::{Effect, Reading};
use crate::error::Place;
use crate::lint::could_meet;

/// Paths and hosts of all rules together that are compared one by one.
const MANY: usize = 2_000;
/// Lines that a remark names.
const NAMED: usize = 3;

/// A rule as far as it is compared with others.
pub(super) struct Seen {
    pub action: Action,
    pub place: Place,
    pub turn: Turn,
    /// Absolute, or below `~/`.
    pub prefixes: Vec<String>,
    pub targets: Vec<Target>,
}

/// What says when it is a rule's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its place in the file.
    #[default]
    Listed,
    /// A `priority`, which may put it before any other.
    Chosen,
}

/// Says of each rule where it decides here and another one may there.
pub(super) fn compare(rules: &[Seen], top: Place, to: &mut Reading<'_>) {
    if rules.iter().map(|rule| rule.prefixes.len() + rule.targets.len()).sum::<usize>() > MANY {
        let text = "the rules are too many to be compared: where several match, the first decides there, and here the \
                    strictest";
        to.remark(top, Effect::Stricter, text);
        return;
    }
    for (at, rule) in rules.iter().enumerate() {
        let first = |(index, other): &(usize, &Seen)| {
            *index < at || other.turn == Turn::Chosen || rule.turn == Turn::Chosen
        };
        let weaker = rules.iter().enumerate().filter(|(_, other)| other.action < rule.action).filter(first);
        let mut lines: Vec<u32> =
            weaker.filter(|(_, other)| meet(other, rule)).map(|(_, other)| other.place.line).collect();
        lines.sort_unstable();
        lines.dedup();
        if lines.is_empty() {
            continue;
        }
        let verb = if rule.action == Action::Block { "denies" } else { "asks" };
        let text = format!("it {verb} also where {} too: there the first that matches decides", of(&lines));
        to.remark(rule.place, Effect::Stricter, text);
    }
}

/// The rules of these lines, with their verb.
fn of(lines: &[u32]) -> String {
    if let [line] = lines {
        return format!("the rule of line {line} matches");
    }
    let named = lines.iter().take(NAMED).map(u32::to_string).collect::<Vec<_>>().join(", ");
    match lines.len().saturating_sub(NAMED) {
        0 => format!("the rules of lines {named} match"),
        more => format!("the rules of lines {named} and {more} more match"),
    }
}

/// False where nothing is matched by both.
fn meet(one: &Seen, other: &Seen) -> bool {
    let paths = one.prefixes.iter().any(|one| other.prefixes.iter().any(|other| prefixes_meet(one, other)));
    paths || one.targets.iter().any(|one| other.targets.iter().any(|other| targets_meet(one, other)))
}

/// Where `~/` is, is not known here.
fn prefixes_meet(one: &str, other: &str) -> bool {
    let home = |prefix: &str| prefix.starts_with("~/");
    home(one) != home(other) || one.starts_with(other) || other.starts_with(one)
}

/// A name may be at any address, and is another than a name.
fn targets_meet(one: &Target, other: &Target) -> bool {
    could_meet(one, other) && (!(one.is_host() && other.is_host()) || one.shares_a_name(other))
}
