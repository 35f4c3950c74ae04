//! Questions and their answers as events.

use ::names::{Refused, Told, Transport};
use sandbox_ebpf::abi::resolver::PORT;

use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::time;
use crate::settings::Layer;

/// A question with what became of it, and when.
#[derive(Debug)]
pub struct Answer {
    /// What the stub tells.
    pub told: Told,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// Nanoseconds since 1970.
    pub wall_ns: i64,
    /// The layer that answered; none where it was only heard, and blocked by nobody.
    pub layer: Option<Layer>,
}

impl Answer {
    /// One of this moment.
    pub fn now(told: Told, layer: Layer) -> Self {
        Self { told, mono_ns: time::mono_now_ns(), wall_ns: time::wall_now_ns(), layer: Some(layer) }
    }

    /// Protocol and port of the socket that asked.
    pub fn asker(&self) -> (&'static str, u16) {
        let protocol = match self.told.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        (protocol, self.told.client_port)
    }
}

/// The event; `process` asked, where that is known.
pub fn event(answer: Answer, process: ProcId) -> Event {
    let asker = answer.asker();
    let Answer { told, mono_ns, wall_ns, layer } = answer;
    let text = |text: String| Value::Bytes(text.into_bytes());
    let mut details = vec![
        (Key::DstIp, text(told.resolver.to_string())),
        (Key::DstPort, Value::Int(PORT.into())),
        (Key::Proto, text(asker.0.to_owned())),
        (Key::SrcPort, Value::Int(asker.1.into())),
        (Key::Rcode, text(told.rcode.to_string())),
    ];
    if let Some(asked) = told.asked {
        details.push((Key::Host, text(asked.name)));
        details.push((Key::Question, text(asked.kind.to_string())));
    }
    if !told.answers.is_empty() {
        let answers = told.answers.iter().map(|address| address.to_string().into_bytes());
        details.push((Key::Answers, Value::List(answers.collect())));
    }
    if let Some(target) = told.aliases.last() {
        details.push((Key::Target, text(target.clone())));
    }
    if let Some(ttl) = told.ttl {
        details.push((Key::Ttl, Value::Int(ttl.into())));
    }
    let mut reasons: Vec<String> = Vec::new();
    let (action, rule, because) = match told.refused {
        None => (Action::Allowed, told.rule, None),
        Some(Refused::Rule { rule, because }) => (Action::Blocked, Some(rule), because),
        Some(Refused::NotAHostName) => {
            reasons.push("the name has bytes that host names do not have".to_owned());
            (Action::Blocked, None, None)
        }
    };
    let refused = told.refused_addresses.iter();
    reasons.extend(refused.map(|(address, why)| format!("{address} is not opened: {why}")));
    reasons.extend(told.error.map(|error| format!("cannot {error}")));
    let action = match (action, &rule) {
        _ if layer.is_some() => action,
        // Without a policy there is no rule, and nothing refused.
        (Action::Blocked, _) => Action::WouldBlock,
        (_, None) => Action::Observed,
        (_, Some(_)) => action,
    };
    details.extend(layer.map(|layer| (Key::Layer, text(layer.name().to_owned()))));
    details.extend(rule.map(|rule| (Key::PolicyRule, text(rule))));
    details.extend(because.map(|because| (Key::Because, text(because))));
    if !reasons.is_empty() {
        details.push((Key::Reason, text(reasons.join("; "))));
    }
    Event { event_type: EventType::DnsAnswer, action, wall_ns, mono_ns, kseq: 0, process, details }
}
