//! What the stub asks: may a name be asked, and what becomes of the answer.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ::names::{Gate, Leave, Opening, Refused, Told};
use policy::Protocol;
use policy::questions::{Asked, ask};
use sandbox_ebpf::abi::resolver::PORT;
use tokio::sync::mpsc::Sender;

use super::{Answer, Directory};
use crate::settings::Layer;

/// What keeps from being asked what is no name.
const NO_NAME: &str = "runner/names";

/// Decides by the policies in force, opens in the directory, tells the collector.
#[derive(Debug)]
pub struct Doorman {
    directory: Arc<Directory>,
    answers: Sender<Answer>,
    layer: Layer,
}

impl Doorman {
    /// For a run's directory; answers go to `answers`, as those of a layer.
    pub fn new(directory: Arc<Directory>, answers: Sender<Answer>, layer: Layer) -> Self {
        Self { directory, answers, layer }
    }
}

impl Gate for Doorman {
    fn may_ask(&mut self, name: &str, resolver: IpAddr) -> Leave {
        match judged(&self.directory, name, resolver) {
            (rule, None) => Leave::Yes { rule },
            (_, Some(Refused::Rule { rule, because })) => Leave::No { rule, because },
            // The stub asks about names of hosts only; the root has none.
            (_, Some(Refused::NotAHostName)) => Leave::No { rule: NO_NAME.to_owned(), because: None },
        }
    }

    fn open(&mut self, opening: &Opening) -> io::Result<()> {
        self.directory.open(&opening.name, &opening.addresses)
    }

    fn tell(&mut self, told: Told) {
        // The collector tells of what is lost.
        if self.answers.try_send(Answer::now(told, self.layer)).is_err() {
            self.directory.lose();
        }
    }
}

/// What the policies in force say of a question: the rule that allows it, or why it is refused.
pub fn judged(directory: &Directory, name: &str, resolver: IpAddr) -> (Option<String>, Option<Refused>) {
    let asked = directory.ask(|policies| match ask(policies.iter(), name, (resolver, PORT), Protocol::Udp) {
        Asked::Allowed { rule } => (rule.map(ToString::to_string), None),
        Asked::Refused { rule, because } => {
            let (rule, because) = (rule.to_string(), because.map(str::to_owned));
            (None, Some(Refused::Rule { rule, because }))
        }
        Asked::Malformed => (None, Some(Refused::NotAHostName)),
    });
    asked.unwrap_or_default()
}
