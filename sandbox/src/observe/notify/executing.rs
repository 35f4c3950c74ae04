//! Executions that were begun: whether they happened shows in what the process is afterwards.
//!
//! The call itself tells nothing, so its record waits until the process makes another call, or is seen to have become
//! another program. An execution that failed is told as that; why it failed is not known.

use std::collections::HashMap;

use sandbox_ebpf::abi::event::{ARGV_MAX, flag};

use super::super::{RawEvent, told};
use super::memory::{Memory, Way};
use super::place::walk;
use super::task::{self, Image, Target, Tasks};

/// One that was begun.
#[derive(Debug)]
struct Begun {
    record: RawEvent,
    before: Image,
}

/// The executions of a run whose end was not seen yet.
#[derive(Debug)]
pub struct Executing {
    /// By process: of its threads only one gets through.
    begun: HashMap<u32, Vec<Begun>>,
    way: Way,
}

impl Executing {
    /// None so far.
    pub fn new(way: Way) -> Executing {
        Executing { begun: HashMap::new(), way }
    }

    /// Whether any is waited for.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// A process begins one.
    pub fn begin(&mut self, record: RawEvent) {
        let pid = record.header.pid;
        let before = Image::of(pid, Memory { tid: record.header.tid, way: self.way });
        self.begun.entry(pid).or_default().push(Begun { record, before });
    }

    /// A process makes another call, by this thread: what it began is over, but for what other threads began. Gives the
    /// records that are complete.
    pub fn next_call(&mut self, pid: u32, tid: u32, tasks: &mut Tasks) -> Vec<RawEvent> {
        if self.begun.is_empty() {
            return Vec::new();
        }
        self.look_at(pid, Some(tid), tasks)
    }

    /// Looks at everything that was begun. Gives the records that are complete.
    pub fn look(&mut self, tasks: &mut Tasks) -> Vec<RawEvent> {
        let pids: Vec<u32> = self.begun.keys().copied().collect();
        pids.into_iter().flat_map(|pid| self.look_at(pid, None, tasks)).collect()
    }

    /// Nobody will look any more: what is not known stays unknown.
    pub fn give_up(&mut self, tasks: &mut Tasks) -> Vec<RawEvent> {
        let mut records = self.look(tasks);
        records.extend(self.begun.drain().flat_map(|(_, begun)| begun).map(|begun| begun.record));
        records
    }

    fn look_at(&mut self, pid: u32, caller: Option<u32>, tasks: &mut Tasks) -> Vec<RawEvent> {
        let Some(begun) = self.begun.get_mut(&pid) else { return Vec::new() };
        if !tasks.lives(pid) {
            let begun = self.begun.remove(&pid).unwrap_or_default();
            return begun.into_iter().map(|begun| begun.record).collect();
        }
        let now = Image::of(pid, Memory { tid: pid, way: self.way });
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for Begun { mut record, before } in begun.drain(..) {
            let own = caller == Some(record.header.tid);
            match before.became(&now) {
                Some(true) => {
                    let exe = tasks.look_again(pid);
                    happened(&mut record, &now, exe.is_some());
                    records.push(record);
                }
                // The same thread goes on as what it was.
                Some(false) if own => {
                    record.header.flags |= told::FAILED;
                    records.push(record);
                }
                None if own => {
                    tasks.look_again(pid);
                    records.push(record);
                }
                _ => waiting.push(Begun { record, before }),
            }
        }
        match waiting.is_empty() {
            true => drop(self.begun.remove(&pid)),
            false => *begun = waiting,
        }
        records
    }
}

/// Completes the record of an execution that was seen to have happened.
fn happened(record: &mut RawEvent, now: &Image, known: bool) {
    let header = &mut record.header;
    header.ret = 0;
    header.flags &= !told::NO_RESULT;
    if !known {
        header.flags |= told::CLOSED;
    }
    if let Some((dev, ino)) = now.file {
        (header.dev, header.ino) = (dev, ino);
    }
    match task::link(&format!("/proc/{}/exe", header.pid)) {
        Target::Path(path) => record.parts[2] = walk(&path),
        Target::Nameless(name) => {
            header.flags |= flag::DETACHED;
            record.parts[2] = walk(&name);
        }
        _ => {}
    }
    // A text is executed by an interpreter, whose arguments the kernel makes: those are told. Of anything else the
    // caller's, which the new program cannot have changed.
    let Ok(arguments) = task::arguments(header.pid) else { return };
    let name = record.parts[1].as_slice();
    let interpreted = arguments
        .split(|byte| *byte == 0)
        .skip(1)
        .take(2)
        .any(|argument| argument == name && !name.is_empty());
    if interpreted && record.parts[2] != walk(name) {
        header.flags &= !flag::ARGV_TRUNCATED;
        record.parts[3] = arguments;
        if record.parts[3].len() > ARGV_MAX {
            header.flags |= flag::ARGV_TRUNCATED;
            record.parts[3].truncate(ARGV_MAX);
        }
    }
}
