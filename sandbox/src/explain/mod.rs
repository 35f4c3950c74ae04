//! Why attempts were denied: which object, which rule, its reason, and the narrowest line that would allow it.
//!
//! ```text
//! events of a live run ──┐                  ┌──▶ summary   at the end of `sandbox run`
//!                        ├──▶ Denials ──────┼──▶ page      `sandbox why`
//! lines of a log ────────┘    (groups)      └──▶ lines     `sandbox why --json`, and inside a run
//! ```
//!
//! Attempts that are alike (same rule, kind, accesses and object) are one [`Group`]; how many groups are told
//! apart is bounded, the others are counted. What decided is the judge's; nothing here judges anew, but to find
//! out what of an attempt a line must allow.

mod by_rule;
pub mod group;
pub mod lines;
pub mod live;
pub mod page;
pub mod remedy;
pub mod summary;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

use audit_verify::canonical::Record;

use crate::event::{Action, Event, Key};
use crate::record::time;
use crate::review::text;
pub use group::{Details, Effect, Group, Matter};
pub use remedy::Remedies;

/// Groups that a live run tells apart. With both paths of the longest this is some 16 MiB.
pub const LIVE: usize = 1000;

/// Groups that are told apart when a log is read.
pub const READ: usize = 100_000;

/// Groups among them that are the latest, however many came before.
const LATEST: usize = 64;

/// Programs that one group names.
const PROGRAMS: usize = 8;

/// Denied attempts, in groups.
#[derive(Debug)]
pub struct Denials {
    /// Places in `groups`; the last of them, from `fixed` on, are given anew when all are taken.
    limit: usize,
    fixed: usize,
    next: usize,
    groups: Vec<Group>,
    at: HashMap<Matter, usize>,
    more: u64,
}

impl Denials {
    /// None yet. At most `limit` groups are told apart: the first ones, and the latest.
    pub fn new(limit: usize) -> Self {
        let fixed = limit - LATEST.min(limit / 2);
        Self { limit, fixed, next: fixed, groups: Vec::new(), at: HashMap::new(), more: 0 }
    }

    /// Takes a judged event of a live run; one that no policy denied is nothing to it.
    pub fn add(&mut self, event: &Event) {
        let effect = match event.action {
            Action::Blocked => Effect::Blocked,
            Action::WouldBlock => Effect::WouldBlock,
            Action::Observed | Action::Allowed => return,
        };
        let attempts = Details::uint(event, Key::Count).unwrap_or(1);
        self.put(Matter::new(effect, event.event_type.name(), event), event, attempts, event.wall_ns);
    }

    /// Takes an event of a log.
    pub fn read(&mut self, record: &Record<'_>) {
        let Some(effect) = record.text("action").and_then(Effect::of_action) else { return };
        let Some(kind) = record.text("event_type") else { return };
        let attempts = record.uint("count").unwrap_or(1);
        let wall_ns = record.bytes("timestamp").and_then(time::parse).unwrap_or(0);
        self.put(Matter::new(effect, kind, record), record, attempts, wall_ns);
    }

    fn put(&mut self, matter: Matter, details: &dyn Details, attempts: u64, wall_ns: i64) {
        let attempts = attempts.max(1);
        let at = match self.at.get(&matter) {
            Some(at) => *at,
            None => {
                let Some(at) = self.place() else {
                    self.more = self.more.saturating_add(attempts);
                    return;
                };
                self.at.insert(matter.clone(), at);
                let group = Group::new(matter, wall_ns);
                match self.groups.get_mut(at) {
                    Some(place) => *place = group,
                    None => self.groups.push(group),
                }
                at
            }
        };
        self.groups[at].count(details, attempts, wall_ns);
    }

    /// A place for a group: a new one, else that of the oldest among the latest, which is counted from now on.
    fn place(&mut self) -> Option<usize> {
        if self.groups.len() < self.limit {
            return Some(self.groups.len());
        }
        let at = self.next;
        let old = self.groups.get(at)?;
        self.more = self.more.saturating_add(old.count);
        self.at.remove(&old.matter);
        self.next = if at + 1 == self.limit { self.fixed } else { at + 1 };
        Some(at)
    }

    /// The groups, in the order of their first attempts up to the limit.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Notes the remedy of the group about `matter`, which was at this place in [`Denials::groups`] and may be gone.
    pub fn note_remedy(&mut self, at: usize, matter: &Matter, remedy: Vec<String>) {
        if let Some(group) = self.groups.get_mut(at).filter(|group| group.matter == *matter) {
            group.remedy = Some(remedy);
        }
    }

    /// Denied attempts that no group stands for.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// The groups and the number of attempts that none stands for.
    pub fn into_parts(self) -> (Vec<Group>, u64) {
        (self.groups, self.more)
    }
}

/// A line of a policy as it is, so that it can be pasted; escaped only where a terminal would act on it.
fn printable(line: &str) -> Cow<'_, str> {
    if text::is_plain(line) { line.into() } else { text::safe(line.as_bytes()).into() }
}
