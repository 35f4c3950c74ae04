//! Whose questions they are: the stub knows the port that a question came from, the record who had it.

use std::collections::HashMap;

use sandbox_ebpf::abi::resolver::PORT;

use super::told::{Answer, event};
use crate::event::{
    Key, ProcId, Value,
    decode::{Decoded, Facts},
};

/// Most ports that are remembered.
const PORTS: usize = 4096;

/// Who asks, by protocol and port, and answers that wait to be told.
#[derive(Debug, Default)]
pub struct Askers {
    by_port: HashMap<(&'static str, u16), ProcId>,
    waiting: Vec<Answer>,
    /// How many of them have waited once.
    waited: usize,
}

impl Askers {
    /// Learns from what was recorded of sockets that ask.
    pub fn learn(&mut self, decoded: &[Decoded]) {
        let asks = |facts: &Facts| facts.resolver || facts.end.is_some_and(|(_, port)| port == PORT);
        for Decoded { event, facts } in decoded.iter().filter(|decoded| asks(&decoded.facts)) {
            let Some(Value::Int(port)) = event.get(Key::SrcPort) else { continue };
            let protocol = if facts.proto == sandbox_ebpf::abi::policy::proto::TCP { "tcp" } else { "udp" };
            if self.by_port.len() >= PORTS {
                self.by_port.clear();
            }
            self.by_port.insert((protocol, u16::try_from(*port).unwrap_or(0)), event.process);
        }
    }

    /// Answers to be told.
    pub fn wait(&mut self, answers: Vec<Answer>) {
        self.waiting.extend(answers);
    }

    /// Makes events of those whose asker is known, and of those that have waited for it once; `first` stands for
    /// askers that stay unknown. `all`: everything that was recorded by now is known.
    pub fn tell(&mut self, all: bool, first: ProcId, to: &mut Vec<Decoded>) {
        let waited = std::mem::take(&mut self.waited);
        for (number, answer) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let asker = self.by_port.get(&answer.asker()).copied();
            if asker.is_none() && !(all && number < waited) {
                self.waiting.push(answer);
                continue;
            }
            let event = event(answer, asker.unwrap_or(first));
            to.push(Decoded { event, facts: Facts::default() });
        }
        if all {
            self.waited = self.waiting.len();
        }
    }
}
