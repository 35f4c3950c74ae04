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

/// Processes whose memory is held at most, to tell what came of their executions. Of more it is not told.
const HELD: usize = 512;

/// What a process began to execute and nobody has seen the end of.
#[derive(Debug)]
struct Pending {
    before: Before,
    /// A record for each thread that began something, in this order.
    records: Vec<RawEvent>,
}

/// The executions of a run whose end was not seen yet.
#[derive(Debug)]
pub struct Executing {
    /// By process: of its threads only one gets through.
    begun: HashMap<u32, Pending>,
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

    /// A process begins one; what it began before it executed its last program is over.
    pub fn begin(&mut self, record: RawEvent) {
        let pid = record.header.pid;
        let memory = Memory { tid: pid, way: self.way };
        let held = self.begun.len() < HELD;
        let new = || Pending { before: Before::of(pid, memory, held), records: Vec::new() };
        self.begun.entry(pid).or_insert_with(new).records.push(record);
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
        records.extend(self.begun.drain().flat_map(|(_, pending)| pending.records).map(unknown));
        records
    }

    fn look_at(&mut self, pid: u32, caller: Option<u32>, tasks: &mut Tasks) -> Vec<RawEvent> {
        let Some(pending) = self.begun.get_mut(&pid) else { return Vec::new() };
        if !tasks.lives(pid) {
            return self.drop_all(pid).map(unknown).collect();
        }
        let over = pending.before.is_over(Memory { tid: pid, way: self.way });
        if over == Some(true) {
            tasks.executed(pid);
            return over_at_once(self.drop_all(pid).collect());
        }
        // The same thread goes on, as what it was where that can be told.
        let mut own = Vec::new();
        if let Some(tid) = caller {
            own.extend(pending.records.extract_if(.., |record| record.header.tid == tid));
            if pending.records.is_empty() {
                self.begun.remove(&pid);
            }
        }
        if over.is_none() && !own.is_empty() {
            tasks.look_again(pid);
        }
        own.into_iter().map(if over.is_none() { unknown } else { failed }).collect()
    }

    fn drop_all(&mut self, pid: u32) -> impl Iterator<Item = RawEvent> + use<> {
        self.begun.remove(&pid).into_iter().flat_map(|pending| pending.records)
    }
}

/// Of what a process that is another program now had begun: one thread got through, and the others ended with it. Which one
/// that was shows where one name alone led to the program.
fn over_at_once(mut records: Vec<RawEvent>) -> Vec<RawEvent> {
    if let [only] = records.as_mut_slice() {
        happened(only);
        return records;
    }
    let program = match records.first().map(|record| task::link(&format!("/proc/{}/exe", record.header.pid)))
    {
        Some(Target::Path(path)) => Some(path),
        _ => None,
    };
    let led = |record: &RawEvent| program.is_some() && record.target == program;
    let known = records.iter().all(|record| record.target.is_some());
    let one = known && records.iter().filter(|record| led(record)).count() == 1;
    let told = records.into_iter().map(|mut record| match one && led(&record) {
        true => {
            happened(&mut record);
            record
        }
        false => unknown(record),
    });
    told.collect()
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
    let mut first = arguments.split(|byte| *byte == 0).skip(1).take(2);
    // By a descriptor (execveat(2)) the kernel calls the text after that.
    let interpreted =
        first.any(|argument| (argument == name && !name.is_empty()) || argument.starts_with(b"/dev/fd/"));
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
