//! The plan of the system call filter: which calls and sockets an enforced run cannot make, and why.
//!
//! It closes the ways round that other layers cannot see into, what the section `kernel` does not open, and what the
//! section `syscalls` says. Calls are named as the manual pages do; how they are refused is the business of whoever
//! installs the filter. A filter judges no paths and no addresses: it sees pointers, and what they point to can change
//! after it has looked.

mod data;

use std::collections::BTreeSet;

pub use data::{
    Allowed, Answer, ClosedArgument, ClosedSocket, Data, Entry, Group, OpenedBy, Test, What, Where, data,
};

use crate::settings::Syscalls;
use crate::syscalls::{self, Architecture};

/// What enforced policies ask of the filter, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The words of `kernel` that all of them allow.
    pub allowed: Vec<&'static str>,
    /// The strictest of their levels.
    pub level: Level,
    /// The calls that any of them denies, ascending.
    pub denied: Vec<&'static str>,
}

/// How much of the system calls there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `off`: also the surface that no agent's command needs.
    Off,
    /// `default`: all but that.
    Default,
    /// `strict`: a list.
    Strict,
}

impl Filter {
    /// That of policies that allow these words and say nothing of system calls.
    pub fn new(allowed: Vec<&'static str>) -> Self {
        Self { allowed, level: Level::Default, denied: Vec::new() }
    }

    /// With what one more policy says of system calls, which can only take away; `None` where it says nothing.
    #[must_use]
    pub fn and(mut self, said: Option<&Syscalls>) -> Self {
        let level = match said {
            Some(Syscalls::Off) => Level::Off,
            Some(Syscalls::Strict) => Level::Strict,
            Some(Syscalls::Default | Syscalls::Deny(_)) | None => Level::Default,
        };
        self.level = self.level.max(level);
        if let Some(Syscalls::Deny(names)) = said {
            // Names were looked up when the policy was read.
            self.denied.extend(names.iter().filter_map(|name| syscalls::find(name)).map(|call| call.name));
            self.denied.sort_unstable();
            self.denied.dedup();
        }
        self
    }

    /// Whether it closes all that `other` closes by its level and its list; words of `kernel` are not compared.
    pub fn is_as_strict_as(&self, other: &Filter) -> bool {
        self.level >= other.level && other.denied.iter().all(|name| self.denied.contains(name))
    }
}

/// Whether the hooks of the `lsm` layer judge the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// They do: what they judge is left to them, since they know more of it and record it.
    Judge,
    /// They do not: the filter closes what it can of theirs.
    Missing,
}

/// The filter of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompPlan {
    /// What is closed.
    pub closed: Vec<Closed>,
    /// `strict`: all else but these fails with EPERM; what is newer than all known calls with ENOSYS, so that
    /// libraries go on with an older one. Ascending by name.
    pub only: Option<Vec<&'static str>>,
}

/// One thing that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What.
    pub what: What,
    /// How it is refused.
    pub answer: Answer,
    /// The group that it belongs to: of the list that ships, or [`DENIED`].
    pub group: &'static str,
}

/// The group of what a policy denies by name.
pub const DENIED: &str = "deny";

/// The group of what `strict` does not leave.
pub const STRICT: &str = "strict";

/// The filter of an enforced run.
pub fn compile(filter: &Filter, hooks: Hooks) -> SeccompPlan {
    let opened = |group: &Group| match &group.opened_by {
        OpenedBy::Nothing => false,
        OpenedBy::Words(words) => words.iter().any(|word| filter.allowed.contains(word)),
        OpenedBy::Off => filter.level == Level::Off,
    };
    let applies = |group: &&Group| match group.closed {
        Where::Always => true,
        Where::WithoutHooks => hooks == Hooks::Missing,
    };
    let groups = data().closed.iter().filter(applies).filter(|group| !opened(group));
    let mut closed: Vec<Closed> = groups
        .flat_map(|group| {
            let name = group.name.as_str();
            group.entries.iter().map(move |entry| Closed {
                what: entry.what,
                answer: entry.answer,
                group: name,
            })
        })
        .collect();
    closed.extend(filter.denied.iter().map(|name| Closed {
        what: What::Call(name),
        answer: Answer::NotPermitted,
        group: DENIED,
    }));
    let only = (filter.level == Level::Strict).then(|| {
        let listed = data().strict.iter().flat_map(|group| group.calls.iter().copied());
        // What `kernel` allows is meant to be used.
        let words = data()
            .closed
            .iter()
            .filter(|group| matches!(&group.opened_by, OpenedBy::Words(_)) && opened(group));
        let allowed = words.flat_map(|group| group.entries.iter().map(|entry| entry.what.call()));
        listed.chain(allowed).collect::<BTreeSet<_>>().into_iter().collect()
    });
    SeccompPlan { closed, only }
}

/// The words of `kernel` of which the filter closes something.
pub fn words(hooks: Hooks) -> impl Iterator<Item = &'static str> {
    let applies = move |group: &&Group| group.closed == Where::Always || hooks == Hooks::Missing;
    let groups = data().closed.iter().filter(applies);
    let words: BTreeSet<&'static str> = groups
        .filter_map(|group| match &group.opened_by {
            OpenedBy::Words(words) => Some(words.iter().copied()),
            OpenedBy::Nothing | OpenedBy::Off => None,
        })
        .flatten()
        .collect();
    words.into_iter()
}

/// How much of a closed word of `kernel` the filter holds by itself, where no hooks judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// All of it.
    Whole,
    /// A part; what remains open.
    Partly(&'static str),
    /// Nothing; what is open.
    Nothing(&'static str),
}

/// How much of a closed word of `kernel` the filter holds on this architecture without the hooks of the `lsm` layer
/// ([`Hooks::Missing`]). A word that is not known is not held.
pub fn alone(word: &str, architecture: Architecture) -> Alone {
    let exists = |entry: &Entry| {
        syscalls::find(entry.what.call()).is_some_and(|call| call.number(architecture).is_some())
    };
    let closes = data().closed.iter().any(|group| {
        matches!(&group.opened_by, OpenedBy::Words(words) if words.contains(&word))
            && group.entries.iter().any(exists)
    });
    let remains = data().remains.iter().find(|(known, _)| *known == word).map(|(_, what)| what.as_str());
    match (closes, remains) {
        (true, None) => Alone::Whole,
        (true, Some(what)) => Alone::Partly(what),
        (false, what) => Alone::Nothing(what.unwrap_or("all of it")),
    }
}

#[cfg(test)]
mod tests;
