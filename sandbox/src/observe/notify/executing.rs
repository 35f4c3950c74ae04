//! Executions that were begun: whether they happened shows in what the process is afterwards.
//!
//! The call itself tells nothing, so its record waits until the process makes another call (its end is one), or is seen to
//! have become another program. An execution that failed is told as that; why it failed is not known. Of a process that
//! was killed in between it is mostly not known whether it happened.

use std::collections::HashMap;

use sandbox_ebpf::abi::event::{ARGV_MAX, flag};

use super::super::{RawEvent, told};
use super::UNSURE;
use super::image::{self, Before};
use super::memory::{Memory, Way};
use super::place::walk;
use super::task::{self, Target, Tasks};

/// One that was begun.
#[derive(Debug)]
struct Begun {
    record: RawEvent,
    before: Before,
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
        let before = Before::of(pid, Memory { tid: record.header.tid, way: self.way });
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
        records.extend(self.begun.drain().flat_map(|(_, begun)| begun).map(|begun| unknown(begun.record)));
        records
    }

    fn look_at(&mut self, pid: u32, caller: Option<u32>, tasks: &mut Tasks) -> Vec<RawEvent> {
        let Some(begun) = self.begun.get_mut(&pid) else { return Vec::new() };
        if !tasks.lives(pid) {
            let begun = self.begun.remove(&pid).unwrap_or_default();
            return begun.into_iter().map(|begun| unknown(begun.record)).collect();
        }
        let memory = Memory { tid: pid, way: self.way };
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for Begun { mut record, before } in begun.drain(..) {
            let own = caller == Some(record.header.tid);
            match before.is_over(memory) {
                Some(true) => {
                    tasks.look_again(pid);
                    happened(&mut record);
                    records.push(record);
                }
                // The same thread goes on as what it was.
                Some(false) if own => records.push(failed(record)),
                None if own => {
                    tasks.look_again(pid);
                    records.push(unknown(record));
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

/// Of an execution that did not happen: why it did not is known only where nothing had the name.
fn failed(mut record: RawEvent) -> RawEvent {
    match record.header.flags & UNSURE {
        told::ABSENT => {}
        UNSURE => {
            record.header.flags = record.header.flags & !UNSURE | told::FAILED;
            record.target = None;
        }
        _ => record.header.flags |= told::FAILED,
    }
    record
}

/// Of an execution that nobody saw the end of. What the name led to when it was called is no reason to say that it was
/// denied: between the two it may have changed, and who was killed cannot be asked.
fn unknown(mut record: RawEvent) -> RawEvent {
    record.header.flags |= UNSURE;
    record
}

/// Completes the record of an execution that was seen to have happened.
fn happened(record: &mut RawEvent) {
    let header = &mut record.header;
    header.ret = 0;
    header.flags &= !(told::NO_RESULT | UNSURE);
    if let Some((dev, ino)) = image::executable(header.pid) {
        (header.dev, header.ino) = (dev, ino);
    }
    match task::link(&format!("/proc/{}/exe", header.pid)) {
        Target::Path(path) => record.parts[2] = walk(&path),
        Target::Nameless(name) => {
            header.flags |= flag::DETACHED;
            record.parts[2] = walk(&name);
        }
        // What the name led to is the most that is known.
        Target::Closed => {
            header.flags |= told::CLOSED;
            return;
        }
        // It has ended since.
        Target::Nowhere | Target::TooFar => return,
    }
    // A text is executed by an interpreter, whose arguments the kernel makes: those are told, as the process has them now. Of
    // anything else the caller's, which the new program cannot have changed.
    let called = record.target.take();
    let Some(text) = called.filter(|called| walk(called) != record.parts[2]) else { return };
    let Ok(arguments) = task::arguments(record.header.pid) else { return };
    let name = record.parts[1].as_slice();
    let interpreted = arguments
        .split(|byte| *byte == 0)
        .skip(1)
        .take(2)
        .any(|argument| argument == name && !name.is_empty());
    if interpreted {
        record.target = Some(text);
        record.header.flags &= !flag::ARGV_TRUNCATED;
        record.parts[3] = arguments;
        if record.parts[3].len() > ARGV_MAX {
            record.header.flags |= flag::ARGV_TRUNCATED;
            record.parts[3].truncate(ARGV_MAX);
        }
    }
}
