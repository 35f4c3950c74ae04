//! Names as the calls gave them become paths without symbolic links on their way, before anybody judges or records them.
//!
//! Tracepoints tell what a caller said. [`super::links`] keeps what the run made of links; here is the order of things: an
//! event is resolved by what went before it, and then adds to that. What the model does not know is looked at on the machine,
//! later than the call was made. A look counts only if nothing that the run did in between can have changed the answer: what
//! has come since, in the ring or begun and not over, is searched for the names on the way.
//!
//! Where that leaves a doubt the event keeps the name as it was called, with `path_unresolved`; but where the call found
//! nothing, which led nowhere.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    Event, EventType, Key, ProcId, Value,
    decode::{Decoded, Facts, Last, Way, leaf},
    links::Links,
};
use crate::observe::look::Seen;

/// Processes with another root that are remembered at most; beyond it those that ended are looked for no more.
const AWAY_MAX: usize = 65_536;
/// Processes with the run's root that are remembered at most; beyond it they are looked at again.
const HOME_MAX: usize = 4096;

/// The machine, and what the run did that is not handled yet.
pub trait World {
    /// What stands at a name, for a call that was over at `wall_ns`. It must not wait, and open nothing but the name.
    fn look(&mut self, path: &[u8], wall_ns: i64) -> Seen;

    /// Whether a process has the run's root and mounts; `None` where it has gone.
    fn at_home(&mut self, process: ProcId) -> Option<bool>;

    /// CLOCK_MONOTONIC, nanoseconds.
    fn now_ns(&self) -> u64;

    /// Appends the events that have come since; whether those are all.
    fn more(&mut self, to: &mut VecDeque<Decoded>) -> bool;

    /// Whether a call is going on that may give or take away a name with a last component for which `is` holds.
    fn in_flight(&self, is: &dyn Fn(&[u8]) -> bool) -> bool;
}

/// Resolves the names of one run's events.
#[derive(Debug, Default)]
pub struct Resolver {
    links: Links,
    /// Processes whose root or mounts are others than the run's.
    away: HashSet<ProcId>,
    /// Processes that were seen to have the run's, and when.
    home: HashMap<ProcId, u64>,
}

impl Resolver {
    /// Resolves the names in `events`, which must be in the order in which the decoder gave them; what came meanwhile
    /// stands behind them.
    pub fn resolve(&mut self, events: &mut Vec<Decoded>, world: &mut impl World) {
        let mut waiting = VecDeque::from(std::mem::take(events));
        events.reserve(waiting.len());
        while let Some(mut decoded) = waiting.pop_front() {
            self.one(&mut decoded, &mut waiting, world);
            events.push(decoded);
        }
    }

    /// Events were lost: what they changed is not known.
    pub fn lost(&mut self) {
        self.links.clear();
    }

    fn one(&mut self, decoded: &mut Decoded, waiting: &mut VecDeque<Decoded>, world: &mut impl World) {
        let Decoded { event, facts } = decoded;
        if let Some(child) = facts.child
            && self.away.contains(&event.process)
            && self.away.len() < AWAY_MAX
        {
            self.away.insert(child);
        }
        if event.event_type == EventType::Exit {
            self.away.remove(&event.process);
            self.home.remove(&event.process);
        }
        let changes = changes(event.event_type);
        let told = facts.ways != [None; 2];
        if !changes && !told && !self.tells(event) {
            return;
        }
        if !self.at_home(event, world) {
            return self.elsewhere(event, facts);
        }
        let mut sure = true;
        for (key, way) in [Key::Path, Key::Path2].into_iter().zip(facts.ways) {
            let (Some(way), Some(Value::Bytes(path))) = (way, event.get(key)) else { continue };
            let passed = outcome(event) != Some(false);
            self.links.directory(&path[..way.known]);
            if self.links.is_free(path, way) {
                continue;
            }
            let mut look = |name: &[u8]| {
                let seen = world.look(name, event.wall_ns);
                if world.more(waiting) { since(name, seen, waiting, world) } else { Seen::Unknown }
            };
            let led = self.links.lead(path, way, passed, &mut look);
            sure &= led.sure;
            if led.path != *path {
                event.set(key, Value::Bytes(led.path));
            }
        }
        if !sure && !found_nothing(event) {
            event.set(Key::PathUnresolved, Value::Flag(true));
        }
        match outcome(event) {
            Some(false) => {}
            _ if !sure && (changes || event.event_type == EventType::FileCreate) => self.links.clear(),
            Some(true) => self.learn(event),
            None if changes => {
                for path in [Key::Path, Key::Path2].into_iter().filter_map(|key| bytes(event, key)) {
                    self.links.forget(path);
                }
            }
            None => {}
        }
    }

    /// Whether the event tells a path of the kernel's that something new can be learned from.
    fn tells(&self, event: &Event) -> bool {
        let directory = flags(event) & libc::O_DIRECTORY as u64 != 0;
        match event.event_type {
            EventType::FileCreate => true,
            EventType::FileOpen if outcome(event) == Some(true) => {
                bytes(event, Key::Path).is_some_and(|path| directory || !self.links.knows_way(path))
            }
            _ => false,
        }
    }

    /// Whether the process sees what the run sees. Who is seen to do so did when the event was made, whenever that was before;
    /// of one that has gone the last answer counts.
    fn at_home(&mut self, event: &Event, world: &mut impl World) -> bool {
        let process = event.process;
        if self.home.get(&process).is_some_and(|seen_ns| event.mono_ns <= *seen_ns) {
            return true;
        }
        let now_ns = world.now_ns();
        match world.at_home(process) {
            Some(true) => {
                self.away.remove(&process);
                if self.home.len() >= HOME_MAX {
                    self.home.clear();
                }
                self.home.insert(process, now_ns);
            }
            Some(false) => {
                self.home.remove(&process);
                if self.away.len() >= AWAY_MAX {
                    return false;
                }
                self.away.insert(process);
            }
            None => {}
        }
        !self.away.contains(&process)
    }

    /// The names of a process with another root or other mounts: they stay as they were called.
    fn elsewhere(&mut self, event: &mut Event, facts: &Facts) {
        let open = [Key::Path, Key::Path2].into_iter().zip(facts.ways).any(|(key, way)| {
            let path = bytes(event, key).unwrap_or_default();
            way.is_some_and(|way| !stands_in(path, way))
        });
        if open {
            event.set(Key::PathUnresolved, Value::Flag(true));
        }
        if changes(event.event_type) && outcome(event) != Some(false) {
            self.links.clear();
        }
    }

    /// Learns from what succeeded.
    fn learn(&mut self, event: &Event) {
        let links = &mut self.links;
        let [path, path2] = [Key::Path, Key::Path2].map(|key| bytes(event, key));
        let Some(path) = path.filter(|path| path.starts_with(b"/")) else { return };
        let flags = flags(event);
        match (event.event_type, path2) {
            (EventType::FileSymlink, Some(text)) => links.linked(path, text),
            (EventType::FileSymlink | EventType::FileDelete | EventType::DirDelete, _) => links.forget(path),
            (EventType::FileRename, Some(to)) if flags & u64::from(libc::RENAME_EXCHANGE) != 0 => {
                links.exchanged(path, to);
            }
            (EventType::FileRename, Some(to)) => links.moved(path, to),
            (EventType::FileRename, None) => links.clear(),
            (EventType::FileLink, Some(to)) => links.named(path, to),
            (EventType::DirCreate | EventType::FileCreate, _) => {
                links.passed(path);
                links.made(path);
            }
            (EventType::FileOpen, _) if flags & libc::O_DIRECTORY as u64 != 0 => links.directory(path),
            (EventType::FileOpen, _) => links.passed(path),
            _ => {}
        }
    }
}

/// What was seen at a name, in the light of what the run did since, before or after the look.
fn since(name: &[u8], seen: Seen, waiting: &VecDeque<Decoded>, world: &impl World) -> Seen {
    let on_way = |leaf: &[u8]| name.split(|byte| *byte == b'/').any(|part| part == leaf);
    let mut later = waiting.iter().map(|later| &later.event).filter(|event| outcome(event) != Some(false));
    match seen {
        // What is there though something was taken away was there before, unless something was given its name.
        Seen::Link(_) | Seen::Directory | Seen::Other => {
            let given = later.any(|event| given(event).iter().any(|key| has(event, *key, on_way)));
            if given || world.in_flight(&on_way) { Seen::Unknown } else { seen }
        }
        Seen::Absent => match later.find(|event| touches(event, on_way)) {
            // What rmdir(2) removed was a directory.
            Some(event) if removed(event, name) => Seen::Directory,
            Some(_) => Seen::Unknown,
            None => seen,
        },
        Seen::Unknown => seen,
    }
}

/// Whether the directory of this name was removed.
fn removed(event: &Event, name: &[u8]) -> bool {
    event.event_type == EventType::DirDelete
        && outcome(event) == Some(true)
        && bytes(event, Key::Path) == Some(name)
}

/// Which names an event gives to something.
fn given(event: &Event) -> &'static [Key] {
    match event.event_type {
        EventType::FileRename if flags(event) & u64::from(libc::RENAME_EXCHANGE) != 0 => {
            &[Key::Path, Key::Path2]
        }
        EventType::FileRename | EventType::FileLink => &[Key::Path2],
        EventType::FileSymlink | EventType::DirCreate | EventType::FileCreate => &[Key::Path],
        _ => &[],
    }
}

/// Whether an event gives or takes away a name whose last component is meant by `is`.
fn touches(event: &Event, is: impl Fn(&[u8]) -> bool) -> bool {
    let taken: &[Key] = match event.event_type {
        EventType::FileRename | EventType::FileDelete | EventType::DirDelete => &[Key::Path],
        _ => &[],
    };
    taken.iter().chain(given(event)).any(|key| has(event, *key, &is))
}

/// Whether the last component of a name of the event's is meant by `is`.
fn has(event: &Event, key: Key, is: impl Fn(&[u8]) -> bool) -> bool {
    bytes(event, key).and_then(leaf).is_some_and(is)
}

/// Whether an event is of a call that gives or takes away names. Opens that make a file are others: they tell the path.
fn changes(event_type: EventType) -> bool {
    matches!(
        event_type,
        EventType::FileDelete
            | EventType::FileRename
            | EventType::FileLink
            | EventType::FileSymlink
            | EventType::DirCreate
            | EventType::DirDelete
    )
}

/// Whether the call succeeded, where that is known.
fn outcome(event: &Event) -> Option<bool> {
    match event.get(Key::Ret) {
        Some(Value::Int(ret)) => Some(*ret >= 0),
        _ => None,
    }
}

/// Whether the call led nowhere, as most calls do that look whether something is there, or make directories from the last to
/// the first.
fn found_nothing(event: &Event) -> bool {
    let nowhere = [libc::ENOENT, libc::ENOTDIR].map(|errno| Value::Int(-i64::from(errno)));
    event.get(Key::Ret).is_some_and(|ret| nowhere.contains(ret))
}

/// Whether a name stands in the directory that its call started from, and is meant itself.
fn stands_in(path: &[u8], way: Way) -> bool {
    let above = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    way.known > 0 && way.known >= above && way.last == Last::Itself
}

fn flags(event: &Event) -> u64 {
    match event.get(Key::Flags) {
        Some(Value::Uint(flags)) => *flags,
        _ => 0,
    }
}

fn bytes(event: &Event, key: Key) -> Option<&[u8]> {
    match event.get(key) {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}
