//! Whose questions and connections they are: who answers knows the port that something came from, the record who had it.

use std::collections::HashMap;
use std::net::SocketAddr;

use sandbox_ebpf::abi::resolver::PORT;

use super::told::{Answer, event};
use crate::event::{
    Event, Key, ProcId, Value,
    decode::{Decoded, Facts},
};

/// Most ports that are remembered.
const PORTS: usize = 4096;

/// Protocol and port of a socket.
type Asker = (&'static str, u16);

/// Who asks, by protocol and port, and events that wait to be told.
#[derive(Debug, Default)]
pub struct Askers {
    by_port: HashMap<Asker, ProcId>,
    /// Where the relay is found, if there is one: who connects there asks, too.
    relay: Option<SocketAddr>,
    waiting: Vec<(Asker, Event)>,
    /// How many of them have waited once.
    waited: usize,
}

impl Askers {
    /// Of a run whose relay is found there, if it has one.
    pub fn of(relay: Option<SocketAddr>) -> Self {
        Self { relay, ..Self::default() }
    }

    /// Learns from what was recorded of sockets that ask.
    pub fn learn(&mut self, decoded: &[Decoded]) {
        let relay = self.relay.map(|relay| (relay.ip(), relay.port()));
        let asks = |facts: &Facts| {
            facts.resolver || facts.end.is_some_and(|end| end.1 == PORT || Some(end) == relay)
        };
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
        let waiting = answers.into_iter().map(|answer| (answer.asker(), event(answer, ProcId::default())));
        self.waiting.extend(waiting);
    }

    /// What is to be told of TCP connections that came from these ports.
    pub fn wait_for(&mut self, events: impl IntoIterator<Item = (u16, Event)>) {
        self.waiting.extend(events.into_iter().map(|(port, event)| (("tcp", port), event)));
    }

    /// Gives the events of those whose asker is known, and of those that have waited for it once; `first` stands for
    /// askers that stay unknown. `all`: everything that was recorded by now is known.
    pub fn tell(&mut self, all: bool, first: ProcId, to: &mut Vec<Decoded>) {
        let waited = std::mem::take(&mut self.waited);
        for (number, (asker, mut event)) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let known = self.by_port.get(&asker).copied();
            if known.is_none() && !(all && number < waited) {
                self.waiting.push((asker, event));
                continue;
            }
            event.process = known.unwrap_or(first);
            to.push(Decoded { event, facts: Facts::default() });
        }
        if all {
            self.waited = self.waiting.len();
        }
    }
}
