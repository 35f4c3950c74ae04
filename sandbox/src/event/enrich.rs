//! Who acted: the executable of the process behind each event.
//!
//! The kernel's records name a process by pid and start; its executable follows from the execs and forks that
//! went before. Nothing is read from `/proc`, which would tell of a later moment. Where a fork or exec was
//! lost the executable is not known, and the event has no `exe`.

use std::{collections::HashMap, mem, sync::Arc};

use super::{EventType, Key, ProcId, Value, decode::Decoded};

/// Processes that are remembered at least; twice as many at most. Only where exits are lost is it ever more
/// than there are.
const REMEMBERED: usize = 65_536;

/// Adds `exe` to events.
#[derive(Debug, Default)]
pub struct Enricher {
    processes: Processes,
    first: Option<(u32, Arc<[u8]>)>,
}

impl Enricher {
    /// One that knows no process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the executable of the run's first process, as it is before its first exec.
    pub fn begin_with(&mut self, pid: u32, exe: &[u8]) {
        self.first = Some((pid, exe.into()));
    }

    /// Adds the acting process's executable, and learns from the event.
    ///
    /// Events must come in the order in which the decoder gave them.
    pub fn enrich(&mut self, decoded: &mut Decoded) {
        let Decoded { event, facts } = decoded;
        let process = event.process;
        let executed =
            event.event_type == EventType::Exec && matches!(event.get(Key::Ret), Some(Value::Int(0)));
        if executed {
            match event.get(Key::Exe) {
                Some(Value::Bytes(exe)) => self.processes.insert(process, exe.as_slice().into()),
                _ => self.processes.remove(process),
            }
            return;
        }
        if let Some(Value::Bytes(exe)) = event.get(Key::Exe) {
            // The observer knew.
            let exe: Arc<[u8]> = exe.as_slice().into();
            if let Some(child) = facts.child {
                self.processes.insert(child, exe.clone());
            }
            return self.processes.insert(process, exe);
        }
        // Also behind its end: what others tell of a process may come later.
        let exe = self.processes.get(process);
        let Some(exe) = exe.or_else(|| self.first(process)) else { return };
        if let Some(child) = facts.child {
            self.processes.insert(child, exe.clone());
        }
        event.details.push((Key::Exe, Value::Bytes(exe.to_vec())));
    }

    /// The first process's executable, once: after that the table knows it.
    fn first(&mut self, process: ProcId) -> Option<Arc<[u8]>> {
        let (_, exe) = self.first.take_if(|(pid, _)| *pid == process.pid)?;
        self.processes.insert(process, exe.clone());
        Some(exe)
    }
}

/// Executables by process, in two generations, so that what is not used is forgotten.
#[derive(Debug, Default)]
struct Processes {
    young: HashMap<ProcId, Arc<[u8]>>,
    old: HashMap<ProcId, Arc<[u8]>>,
}

impl Processes {
    fn insert(&mut self, process: ProcId, exe: Arc<[u8]>) {
        if self.young.len() >= REMEMBERED {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(process, exe);
    }

    fn remove(&mut self, process: ProcId) {
        self.old.remove(&process);
        self.young.remove(&process);
    }

    fn get(&mut self, process: ProcId) -> Option<Arc<[u8]>> {
        if let Some(exe) = self.young.get(&process) {
            return Some(exe.clone());
        }
        let exe = self.old.remove(&process)?;
        self.insert(process, exe.clone());
        Some(exe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Event, decode::Facts};

    fn event(event_type: EventType, pid: u32, details: Vec<(Key, Value)>) -> Decoded {
        let process = ProcId { pid, start_ns: u64::from(pid) * 10 };
        let event =
            Event { event_type, action: Action::Observed, wall_ns: 0, mono_ns: 0, kseq: 1, process, details };
        Decoded { event, facts: Facts::default() }
    }

    fn exec(pid: u32, exe: &str, ret: i64) -> Decoded {
        let mut details = vec![(Key::Ret, Value::Int(ret))];
        if ret == 0 {
            details.push((Key::Exe, Value::Bytes(exe.into())));
        }
        event(EventType::Exec, pid, details)
    }

    fn fork(pid: u32, child: u32) -> Decoded {
        let mut fork = event(EventType::Fork, pid, Vec::new());
        fork.facts.child = Some(ProcId { pid: child, start_ns: u64::from(child) * 10 });
        fork
    }

    fn exe(enricher: &mut Enricher, mut decoded: Decoded) -> Option<String> {
        enricher.enrich(&mut decoded);
        let keys = decoded.event.details.iter().filter(|(key, _)| *key == Key::Exe).count();
        assert!(keys <= 1);
        match decoded.event.get(Key::Exe) {
            Some(Value::Bytes(exe)) => Some(String::from_utf8(exe.clone()).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn executables_follow_execs_and_forks() {
        let mut enricher = Enricher::new();
        enricher.begin_with(5, b"/bin/sandbox");
        let open = |pid| event(EventType::FileOpen, pid, Vec::new());
        assert_eq!(exe(&mut enricher, open(5)).as_deref(), Some("/bin/sandbox"));
        assert_eq!(exe(&mut enricher, exec(5, "/bin/no", -2)).as_deref(), Some("/bin/sandbox"));
        assert_eq!(exe(&mut enricher, exec(5, "/bin/sh", 0)).as_deref(), Some("/bin/sh"));
        assert_eq!(exe(&mut enricher, fork(5, 6)).as_deref(), Some("/bin/sh"));
        assert_eq!(exe(&mut enricher, exec(5, "/bin/cat", 0)).as_deref(), Some("/bin/cat"));
        assert_eq!(exe(&mut enricher, open(6)).as_deref(), Some("/bin/sh"));
        assert_eq!(exe(&mut enricher, event(EventType::Exit, 6, Vec::new())).as_deref(), Some("/bin/sh"));
        assert_eq!(exe(&mut enricher, open(6)).as_deref(), Some("/bin/sh"), "told behind its end");
        assert_eq!(exe(&mut enricher, open(7)), None, "never seen");
    }

    #[test]
    fn a_pid_used_again_is_another_process() {
        let mut enricher = Enricher::new();
        exe(&mut enricher, exec(5, "/bin/sh", 0));
        let mut other = event(EventType::FileOpen, 5, Vec::new());
        other.event.process.start_ns += 1;
        assert_eq!(exe(&mut enricher, other), None);
    }

    #[test]
    fn an_exec_whose_executable_is_not_known_forgets_the_old_one() {
        let mut enricher = Enricher::new();
        exe(&mut enricher, exec(5, "/bin/sh", 0));
        exe(&mut enricher, event(EventType::Exec, 5, vec![(Key::Ret, Value::Int(0))]));
        assert_eq!(exe(&mut enricher, event(EventType::FileOpen, 5, Vec::new())), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut enricher = Enricher::new();
        exe(&mut enricher, exec(1, "/bin/init", 0));
        for pid in 2..4 * REMEMBERED as u32 {
            exe(&mut enricher, fork(1, pid));
        }
        let processes = &enricher.processes;
        assert!(processes.young.len() + processes.old.len() <= 2 * REMEMBERED + 1);
        assert_eq!(exe(&mut enricher, event(EventType::Exit, 1, Vec::new())).as_deref(), Some("/bin/init"));
    }
}
