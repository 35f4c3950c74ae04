//! What the relay tells the record: each connection that it was asked for, each server that one named, and its end.

use std::net::{IpAddr, SocketAddr};

use super::judge::Ruling;
use super::reader::Named;
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::time;
use crate::settings::Layer;

/// One event of the relay's; who asked for it is found by the port.
#[derive(Clone, Debug)]
pub struct Told {
    /// The port of the client's socket, inside the namespace.
    pub client_port: u16,
    /// The event, with nobody's process.
    pub event: Event,
}

/// The other end of a connection, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// The name that was asked for, or one of the address.
    pub host: Option<String>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Tells of one client's connection.
#[derive(Clone, Debug)]
pub struct Teller {
    client: SocketAddr,
    /// Where it leads.
    pub end: Ended,
}

fn text(text: impl ToString) -> Value {
    Value::Bytes(text.to_string().into_bytes())
}

impl Teller {
    /// For a client that has not said yet where it wants to go.
    pub fn new(client: SocketAddr) -> Self {
        Self { client, end: Ended::default() }
    }

    /// An attempt to connect, and what came of it: `ret` as connect(2) has it, where it came so far.
    pub fn connect(&self, ruling: Option<&Ruling>, ret: Option<i64>, reason: Option<String>) -> Told {
        let mut event = self.event(EventType::NetConnect, ruling);
        event.details.push((Key::Proto, text("tcp")));
        event.details.extend(ret.map(|ret| (Key::Ret, Value::Int(ret))));
        event.details.extend(reason.map(|reason| (Key::Reason, text(reason))));
        self.told(event)
    }

    /// A server that was named, or what names none.
    pub fn named(&self, named: &Named, ruling: Option<&Ruling>) -> Told {
        let mut event = self.event(EventType::NetName, ruling);
        event.details.push((Key::Proto, text(named.protocol)));
        event.details.extend(named.name.as_ref().map(|name| (Key::Sni, text(name))));
        if named.ech {
            event.details.push((Key::Ech, Value::Flag(true)));
        }
        event.details.extend(named.reason.map(|reason| (Key::Reason, text(reason))));
        self.told(event)
    }

    /// The end of a connection that was made, with the bytes that went out and came in.
    pub fn close(&self, bytes_out: u64, bytes_in: u64) -> Told {
        let mut event = self.event(EventType::NetClose, None);
        event.action = Action::Observed;
        event.details.push((Key::Proto, text("tcp")));
        event.details.push((Key::BytesOut, Value::Uint(bytes_out)));
        event.details.push((Key::BytesIn, Value::Uint(bytes_in)));
        self.told(event)
    }

    fn told(&self, event: Event) -> Told {
        Told { client_port: self.client.port(), event }
    }

    fn event(&self, event_type: EventType, ruling: Option<&Ruling>) -> Event {
        let mut details = vec![(Key::Layer, text(Layer::Netns.name()))];
        details.extend(self.end.host.as_ref().map(|host| (Key::Host, text(host))));
        if let Some(address) = self.end.address {
            let family = if address.is_ipv4() { "inet" } else { "inet6" };
            details.push((Key::Family, text(family)));
            details.push((Key::DstIp, text(address)));
        }
        if self.end.port != 0 {
            details.push((Key::DstPort, Value::Int(self.end.port.into())));
        }
        details.push((Key::SrcPort, Value::Int(self.client.port().into())));
        let action = match ruling {
            Some(ruling) if !ruling.allowed => Action::Blocked,
            Some(ruling) if ruling.on_trial => Action::WouldBlock,
            Some(_) => Action::Allowed,
            // What is no attempt that a policy could judge, and is refused.
            None => Action::Blocked,
        };
        if let Some(ruling) = ruling {
            details.push((Key::PolicyRule, text(&ruling.rule)));
            details.extend(ruling.because.as_ref().map(|because| (Key::Because, text(because))));
        }
        let (wall_ns, mono_ns) = (time::wall_now_ns(), time::mono_now_ns());
        let process = ProcId::default();
        Event { event_type, action, wall_ns, mono_ns, kseq: 0, process, details }
    }
}
