//! Who acted: each process's executable, and those that it and its ancestors executed before, as a log tells them
//! from fork to exec. It is what [`crate::event::lines`] keeps of a run that goes on.

use std::collections::HashMap;
use std::sync::Arc;

use audit_verify::canonical::Record;
use policy::Subject;

/// A subject's number; equal subjects have equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubjectId(u32);

/// An executable and its ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Who {
    /// Empty where it is not known.
    exe: Arc<[u8]>,
    /// Executed before by it or an ancestor inside the run; ascending; an empty one is not known.
    ancestors: Vec<Arc<[u8]>>,
}

/// All subjects that were met.
#[derive(Debug, Default)]
pub struct Subjects {
    all: Vec<Who>,
    numbers: HashMap<Who, SubjectId>,
}

impl Subjects {
    /// Calls `then` with the subject.
    pub fn with<T>(&self, id: SubjectId, then: impl FnOnce(&Subject<'_>) -> T) -> T {
        let Some(who) = self.all.get(id.0 as usize) else { return then(&Subject::UNKNOWN) };
        let ancestors: Vec<&[u8]> = who.ancestors.iter().map(|exe| &exe[..]).collect();
        then(&Subject { exe: &who.exe, ancestors: &ancestors })
    }

    /// Its executable; empty where it is not known.
    pub fn exe(&self, id: SubjectId) -> &[u8] {
        self.all.get(id.0 as usize).map(|who| &who.exe[..]).unwrap_or_default()
    }

    fn number(&mut self, who: Who) -> SubjectId {
        if let Some(id) = self.numbers.get(&who) {
            return *id;
        }
        let id = SubjectId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(who.clone());
        self.numbers.insert(who, id);
        id
    }

    /// The same after it has executed `exe`: what it was counts for `under` as an ancestor does.
    fn executes(&mut self, id: SubjectId, exe: &[u8]) -> SubjectId {
        let Some(mut who) = self.all.get(id.0 as usize).cloned() else { return id };
        // A run's first process is nobody's ancestor as what it was before its first exec.
        let first = who.exe.is_empty() && who.ancestors.is_empty();
        if let (false, Err(at)) = (first, who.ancestors.binary_search(&who.exe)) {
            who.ancestors.insert(at, who.exe.clone());
        }
        who.exe = exe.into();
        self.number(who)
    }

    /// One of which nothing is known.
    fn unknown(&mut self) -> SubjectId {
        self.number(Who { exe: Arc::default(), ancestors: vec![Arc::default()] })
    }
}

/// The processes of one run.
#[derive(Debug, Default)]
pub struct Lineage {
    /// By `proc_id`.
    processes: HashMap<Box<str>, SubjectId>,
    /// How many of them have a pid: more than one for a moment, where a pid is used again.
    pids: HashMap<u64, u32>,
    begun: bool,
    /// Processes whose beginning the log does not have.
    pub strangers: u64,
}

impl Lineage {
    /// Who does what the event tells of, as it was before the event.
    pub fn actor(&mut self, record: &Record<'_>, subjects: &mut Subjects) -> SubjectId {
        let Some(process) = record.text("proc_id") else { return subjects.unknown() };
        let known = self.processes.get(process).copied();
        let id = known.unwrap_or_else(|| {
            // The run's first process was made before the log began, and has no ancestors inside the run.
            let id = if self.begun {
                self.strangers += 1;
                subjects.unknown()
            } else {
                subjects.number(Who { exe: Arc::default(), ancestors: Vec::new() })
            };
            self.begun = true;
            self.add(process, record.uint("pid"), id);
            id
        });
        // On a successful exec `exe` is what comes after it.
        let executed = record.text("event_type") == Some("exec") && record.int("ret") == Some(0);
        match record.bytes("exe").filter(|_| !executed) {
            // An exec that was lost.
            Some(exe) if subjects.exe(id) != exe => {
                let id = subjects.executes(id, exe);
                self.set(process, id);
                id
            }
            _ => id,
        }
    }

    /// Learns what the event changes: a new process, another executable, an end.
    pub fn learn(&mut self, record: &Record<'_>, actor: SubjectId, subjects: &mut Subjects) {
        let Some(process) = record.text("proc_id") else { return };
        match record.text("event_type") {
            Some("fork") => {
                if let Some(child) = record.text("child_proc_id") {
                    self.add(child, record.uint("child_pid"), actor);
                }
            }
            Some("exec") if record.int("ret") == Some(0) => {
                let exe = record.bytes("exe").unwrap_or_default();
                let id = subjects.executes(actor, exe);
                self.set(process, id);
            }
            Some("exit") => {
                self.processes.remove(process);
                if let Some(count) = record.uint("pid").and_then(|pid| self.pids.get_mut(&pid)) {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    /// Whether a process of the run has this pid.
    pub fn has_pid(&self, pid: u64) -> bool {
        self.pids.get(&pid).is_some_and(|count| *count > 0)
    }

    fn add(&mut self, process: &str, pid: Option<u64>, id: SubjectId) {
        let new = self.processes.insert(process.into(), id).is_none();
        if let (true, Some(pid)) = (new, pid) {
            *self.pids.entry(pid).or_default() += 1;
        }
    }

    fn set(&mut self, process: &str, id: SubjectId) {
        if let Some(known) = self.processes.get_mut(process) {
            *known = id;
        }
    }
}
