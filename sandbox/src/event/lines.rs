//! Who acts, as conditions on the process see it: the executable, and those that it and its ancestors inside the run
//! executed before.
//!
//! It mirrors what the kernel side keeps with each task, so that the rule behind a verdict can be found. Nothing is
//! read from `/proc`; what was lost is not known, and is treated as in the kernel: it denies and does not allow.
//!
//! [`super::judge`] feeds it with the events of a run that goes on, [`crate::review::replay`] with those of a record.

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

    /// The executable; empty where it is not known.
    pub fn exe(&self) -> &[u8] {
        &self.exe
    }

    /// The executables before, ascending; an empty one is not known.
    pub fn before(&self) -> impl Iterator<Item = &[u8]> {
        self.before.iter().map(AsRef::as_ref)
    }

    /// Asks `judge` about this process.
    pub fn with<T>(&self, judge: impl FnOnce(&Subject<'_>) -> T) -> T {
        let ancestors: Vec<&[u8]> = self.before().collect();
        judge(&Subject { exe: &self.exe, ancestors: &ancestors })
    }
}

/// The lines of a run's processes.
#[derive(Debug)]
pub struct Lines {
    processes: HashMap<ProcId, Arc<Line>>,
    shared: HashSet<Arc<Line>>,
    /// The run's first process, as long as it has executed nothing. Its start may not be known when the run begins.
    first: Option<ProcId>,
    beginning: Arc<Line>,
    unknown: Arc<Line>,
}

impl Default for Lines {
    /// Those of processes of which nothing is known, not even which is the first.
    fn default() -> Self {
        Self {
            processes: HashMap::new(),
            shared: HashSet::new(),
            first: None,
            beginning: Arc::new(Line::first()),
            unknown: Arc::new(Line::unknown()),
        }
    }
}

impl Lines {
    /// Those of a run whose first process is `first`.
    pub fn new(first: ProcId) -> Self {
        Self { first: Some(first), ..Self::default() }
    }

    /// The line of a process.
    pub fn of(&self, process: ProcId) -> &Arc<Line> {
        match self.processes.get(&process) {
            Some(line) => line,
            None if self.is_first(process) => &self.beginning,
            None => &self.unknown,
        }
    }

    /// The line of a process of which nothing is known.
    pub fn unknown(&self) -> &Arc<Line> {
        &self.unknown
    }

    /// Learns from an event, after it was judged. Events must come in the order in which the decoder gave them.
    pub fn learn(&mut self, Decoded { event, facts }: &Decoded) {
        let process = event.process;
        match event.event_type {
            EventType::Exit => self.ended(process),
            EventType::Exec if matches!(event.get(Key::Ret), Some(Value::Int(0))) => {
                let exe = match event.get(Key::Exe) {
                    Some(Value::Bytes(exe)) => exe.as_slice(),
                    _ => &[],
                };
                self.executed(process, exe);
            }
            _ => {
                if let Some(child) = facts.child {
                    self.forked(process, child);
                }
            }
        }
    }

    /// A process made another: what it is and was, the child is and was.
    pub fn forked(&mut self, parent: ProcId, child: ProcId) {
        let line = Arc::clone(self.of(parent));
        self.remember(child, line);
    }

    /// A process executed `exe`, which is empty where it is not known.
    pub fn executed(&mut self, process: ProcId, exe: &[u8]) {
        let line = self.share(self.of(process).executes(exe.into()));
        self.remember(process, line);
        self.first = self.first.filter(|_| !self.is_first(process));
    }

    /// A process ended.
    pub fn ended(&mut self, process: ProcId) {
        self.processes.remove(&process);
        self.first = self.first.filter(|_| !self.is_first(process));
    }

    fn is_first(&self, process: ProcId) -> bool {
        self.first.is_some_and(|first| {
            first.pid == process.pid && (first.start_ns == 0 || first.start_ns == process.start_ns)
        })
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
    fn the_first_process_is_known_by_its_pid_until_it_executes_or_ends() {
        let beginning = (String::new(), vec![]);
        let unknown = (String::new(), vec![String::new()]);
        let begin = || Lines::new(ProcId { pid: 1, start_ns: 0 });
        let mut lines = begin();
        assert_eq!(who(&lines, 1), beginning);
        lines.learn(&fork(1, 2));
        assert_eq!(who(&lines, 2), beginning, "its child is what it is");
        lines.learn(&exec(1, "/bin/sh"));
        lines.learn(&exec(1, "/bin/true"));
        assert_eq!(who(&lines, 1), ("/bin/true".into(), vec!["/bin/sh".into()]));
        lines.learn(&event(EventType::Exit, 1, Vec::new()));
        assert_eq!(who(&lines, 1), unknown, "another process with its pid");
        let mut lines = begin();
        lines.learn(&event(EventType::Exit, 1, Vec::new()));
        assert_eq!(who(&lines, 1), unknown);
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
