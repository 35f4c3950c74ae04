//! Which processes of the run go on: those whose fork was recorded, or another act, and whose end was not.
//!
//! A control group does not know them all: it may not be there, and root can leave it.

use std::collections::HashSet;

use super::{EventType, ProcId, decode::Decoded};

/// Processes that are remembered at most. Only where exits are lost is it ever more than there are; then the
/// answer is about those that came first.
const REMEMBERED: usize = 262_144;

/// The processes that have not ended, as far as the events tell.
#[derive(Debug, Default)]
pub struct Living {
    processes: HashSet<ProcId>,
}

impl Living {
    /// Learns from an event; they must come in the order in which the decoder gave them.
    pub fn learn(&mut self, Decoded { event, facts }: &Decoded) {
        if event.event_type == EventType::Exit {
            self.processes.remove(&event.process);
        } else if self.processes.len() < REMEMBERED {
            self.processes.extend(facts.child);
        }
    }

    /// Those processes; some may be gone, where their exits were lost.
    pub fn processes(&self) -> impl Iterator<Item = ProcId> {
        self.processes.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Event, decode::Facts};

    fn decoded(event_type: EventType, process: ProcId, child: Option<ProcId>) -> Decoded {
        let event = Event {
            event_type,
            action: Action::Observed,
            wall_ns: 0,
            mono_ns: 0,
            kseq: 1,
            process,
            details: Vec::new(),
        };
        Decoded { event, facts: Facts { child, ..Facts::default() } }
    }

    #[test]
    fn a_process_lives_from_its_fork_to_its_exit() {
        let [first, second, again] = [(5, 1), (6, 2), (6, 3)].map(|(pid, start_ns)| ProcId { pid, start_ns });
        let mut living = Living::default();
        living.learn(&decoded(EventType::Fork, first, Some(second)));
        assert_eq!(living.processes().collect::<Vec<_>>(), [second]);
        living.learn(&decoded(EventType::Exit, again, None));
        assert_eq!(living.processes().count(), 1, "another process with its pid");
        living.learn(&decoded(EventType::Exit, second, None));
        assert_eq!(living.processes().count(), 0);
    }
}
