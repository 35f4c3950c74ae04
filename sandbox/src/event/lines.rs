//! Who acts, as conditions on the process see it: the executable, and those that it and its ancestors inside the run
//! executed before.
//!
//! It mirrors what the kernel side keeps with each task, so that the rule behind a verdict can be found. Nothing is
//! read from `/proc`; what was lost is not known, and is treated as in the kernel: it denies and does not allow.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use policy::Subject;

use super::{EventType, Key, ProcId, Value, decode::Decoded};

/// Processes that are remembered at most; only where exits are lost is it ever more than there are.
const REMEMBERED: usize = 262_144;
/// Executables of one line at most; beyond it there is one that nobody knows.
const LONGEST: usize = 256;
/// Lines that are kept for others to share, at most.
const SHARED: usize = 16_384;

/// A process's executable, and those before it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Empty where it is not known.
    exe: Arc<[u8]>,
    /// Executed before by the process or an ancestor inside the run, each once, ascending; an empty one is not known.
    before: Vec<Arc<[u8]>>,
}

impl Line {
    /// A process of which nothing is known.
    fn unknown() -> Line {
        Line { exe: [].into(), before: vec![[].into()] }
    }

    /// One that has executed nothing yet, and has no ancestor inside the run.
    fn first() -> Line {
        Line { exe: [].into(), before: Vec::new() }
    }

    /// The same process after it has executed `exe`.
    fn executes(&self, exe: Arc<[u8]>) -> Line {
        let mut before = self.before.clone();
        // A run's first process is nobody's ancestor as what it was before its first exec.
        if !(self.exe.is_empty() && self.before.is_empty())
            && let Err(at) = before.binary_search(&self.exe)
        {
            before.insert(at, if before.len() < LONGEST { self.exe.clone() } else { [].into() });
        }
        before.truncate(LONGEST + 1);
        before.sort();
        before.dedup();
        Line { exe, before }
    }

    /// Asks `judge` about this process.
    pub fn with<T>(&self, judge: impl FnOnce(&Subject<'_>) -> T) -> T {
        let ancestors: Vec<&[u8]> = self.before.iter().map(AsRef::as_ref).collect();
        judge(&Subject { exe: &self.exe, ancestors: &ancestors })
    }
}

/// The lines of a run's processes.
#[derive(Debug)]
pub struct Lines {
    processes: HashMap<ProcId, Arc<Line>>,
    shared: HashSet<Arc<Line>>,
    unknown: Arc<Line>,
}

impl Lines {
    /// Those of a run whose first process is `first`.
    pub fn new(first: ProcId) -> Self {
        let processes = HashMap::from([(first, Arc::new(Line::first()))]);
        Self { processes, shared: HashSet::new(), unknown: Arc::new(Line::unknown()) }
    }

    /// The line of a process.
    pub fn of(&self, process: ProcId) -> &Arc<Line> {
        self.processes.get(&process).unwrap_or(&self.unknown)
    }

    /// The line of a process of which nothing is known.
    pub fn unknown(&self) -> &Arc<Line> {
        &self.unknown
    }

    /// Learns from an event, after it was judged. Events must come in the order in which the decoder gave them.
    pub fn learn(&mut self, Decoded { event, facts }: &Decoded) {
        let process = event.process;
        match event.event_type {
            EventType::Exit => {
                self.processes.remove(&process);
            }
            EventType::Exec if matches!(event.get(Key::Ret), Some(Value::Int(0))) => {
                let exe: Arc<[u8]> = match event.get(Key::Exe) {
                    Some(Value::Bytes(exe)) => exe.as_slice().into(),
                    _ => [].into(),
                };
                let line = self.share(self.of(process).executes(exe));
                self.remember(process, line);
            }
            _ => {
                if let Some(child) = facts.child {
                    let line = Arc::clone(self.of(process));
                    self.remember(child, line);
                }
            }
        }
    }

    fn remember(&mut self, process: ProcId, line: Arc<Line>) {
        // What is not remembered is unknown, which denies.
        if self.processes.len() < REMEMBERED || self.processes.contains_key(&process) {
            self.processes.insert(process, line);
        }
    }

    /// One line for all processes that have the same.
    fn share(&mut self, line: Line) -> Arc<Line> {
        if let Some(line) = self.shared.get(&line) {
            return Arc::clone(line);
        }
        if self.shared.len() >= SHARED {
            self.shared.clear();
        }
        let line = Arc::new(line);
        self.shared.insert(Arc::clone(&line));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Event, decode::Facts};

    fn process(pid: u32) -> ProcId {
        ProcId { pid, start_ns: u64::from(pid) * 10 }
    }

    fn event(event_type: EventType, pid: u32, details: Vec<(Key, Value)>) -> Decoded {
        let process = process(pid);
        let event =
            Event { event_type, action: Action::Observed, wall_ns: 0, mono_ns: 0, kseq: 1, process, details };
        Decoded { event, facts: Facts::default() }
    }

    fn exec(pid: u32, exe: &str) -> Decoded {
        event(EventType::Exec, pid, vec![(Key::Ret, Value::Int(0)), (Key::Exe, Value::Bytes(exe.into()))])
    }

    fn fork(pid: u32, child: u32) -> Decoded {
        let mut fork = event(EventType::Fork, pid, Vec::new());
        fork.facts.child = Some(process(child));
        fork
    }

    fn who(lines: &Lines, pid: u32) -> (String, Vec<String>) {
        lines.of(process(pid)).with(|subject| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(subject.exe), subject.ancestors.iter().map(|path| text(path)).collect())
        })
    }

    #[test]
    fn a_line_grows_by_execs_and_is_handed_on() {
        let mut lines = Lines::new(process(1));
        assert_eq!(who(&lines, 1), (String::new(), vec![]));
        lines.learn(&exec(1, "/bin/sh"));
        assert_eq!(who(&lines, 1), ("/bin/sh".into(), vec![]), "the runner's own image is no ancestor");
        lines.learn(&fork(1, 2));
        lines.learn(&exec(2, "/bin/npm"));
        lines.learn(&exec(2, "/bin/node"));
        lines.learn(&fork(2, 3));
        let line = ("/bin/node".to_owned(), vec!["/bin/npm".to_owned(), "/bin/sh".to_owned()]);
        assert_eq!(who(&lines, 3), line);
        assert_eq!(who(&lines, 1), ("/bin/sh".into(), vec![]));
        lines.learn(&event(EventType::Exit, 3, Vec::new()));
        assert_eq!(
            who(&lines, 3),
            (String::new(), vec![String::new()]),
            "an unknown process, unknown ancestors"
        );
    }

    #[test]
    fn equal_lines_are_one_and_long_ones_become_unknown() {
        let mut lines = Lines::new(process(1));
        for child in 2..4 {
            lines.learn(&fork(1, child));
            lines.learn(&exec(child, "/bin/a"));
        }
        assert!(Arc::ptr_eq(lines.of(process(2)), lines.of(process(3))));
        for number in 0..2 * LONGEST {
            lines.learn(&exec(2, &format!("/bin/{number}")));
        }
        let (_, before) = who(&lines, 2);
        assert!(before.len() <= LONGEST + 1);
        assert!(before.contains(&String::new()), "what there was no room for may be anything");
    }
}
