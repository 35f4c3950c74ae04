//! What was done with sockets.

use sandbox_ebpf::{
    abi::{
        event::{Header, Kind, flag, refusal},
        policy::net_access,
    },
    hello,
};

use super::super::{Unix, address, path};
use super::{Builder, Record, connects, is_check, text};
use crate::event::{EventType, Key, Value};

impl Record<'_> {
    pub(super) fn network(&self, to: &mut Builder) {
        let [_, family, kind, protocol] = self.header.args;
        let own_end = matches!(self.kind, Kind::Bind | Kind::Listen | Kind::BindCheck | Kind::ListenCheck);
        // What udp_sendmsg and __inet_bind make of family 0; for connect(2) it means "disconnect".
        let taken = matches!(self.kind, Kind::Send | Kind::SendCheck | Kind::Bind | Kind::BindCheck);
        let inet = family == libc::AF_INET as u64 && taken;
        let address = address::parse(&self.parts[0], if inet { libc::AF_INET as u16 } else { 0 });
        let number = address.as_ref().map_or(family as u16, |address| address.family);
        to.put(Key::Family, address::family(number));
        let word = address::protocol(family, kind, protocol);
        if let Some(word) = word {
            to.bytes(Key::Proto, word.as_bytes());
        }
        if let Some(address) = address {
            self.end(address.end, own_end, to);
        }
        if self.header.ino != 0 && !own_end {
            to.put(Key::SrcPort, Value::Int(self.header.ino as i64));
        }
        if self.has(flag::MORE) {
            to.bytes(Key::Reason, b"more messages than a record tells of");
        }
        if self.has(flag::OWN) {
            to.put(Key::Own, Value::Flag(true));
        }
        to.facts.own = self.has(flag::OWN);
        to.facts.resolver = self.has(flag::RESOLVER);
        to.facts.proto = address::rule_protocol(word);
        to.facts.net_access = match self.kind {
            Kind::ConnectCheck | Kind::SendCheck | Kind::BindCheck | Kind::ListenCheck => {
                self.header.access as u8
            }
            Kind::Connect => net_access::CONNECT,
            Kind::Send if connects(self.header) => net_access::CONNECT,
            Kind::Send => net_access::SEND,
            Kind::Bind => net_access::BIND,
            Kind::Listen => net_access::LISTEN,
            _ => 0,
        };
    }

    fn end(&self, end: address::End<'_>, own: bool, to: &mut Builder) {
        match end {
            address::End::None => {}
            address::End::Internet(ip, port) => {
                let (ip_key, port_key) =
                    if own { (Key::SrcIp, Key::SrcPort) } else { (Key::DstIp, Key::DstPort) };
                to.put(ip_key, text(format_args!("{ip}")));
                to.put(port_key, Value::Int(port.into()));
                to.facts.end = Some((ip, port));
            }
            address::End::Path(name) => {
                // A hook's record has no working directory: its relative names stay as they were given.
                let base = (!is_check(self.kind)).then_some(&self.parts[1][..]);
                to.put(Key::Path, Value::Bytes(path::join(base, name)));
                to.facts.unix = Some(Unix::Path);
            }
            address::End::Abstract(name) => {
                to.bytes(Key::Path, &[b"@", name].concat());
                to.facts.unix = Some(Unix::Abstract);
            }
        }
    }

    /// An access to a unix socket, as a hook judged it.
    pub(super) fn unix(&self, to: &mut Builder) {
        let [is_abstract, family, kind, protocol] = self.header.args;
        to.put(Key::Family, address::family(family as u16));
        if let Some(word) = address::protocol(family, kind, protocol) {
            to.bytes(Key::Proto, word.as_bytes());
        }
        let name = self.parts[0].as_slice();
        if is_abstract != 0 {
            to.bytes(Key::Path, name.strip_prefix(b"/").unwrap_or(name));
            to.facts.unix = Some(Unix::Abstract);
        } else if !name.is_empty() {
            to.bytes(Key::Path, name);
            to.facts.unix = Some(Unix::Path);
        }
        to.facts.net_access = self.header.access as u8;
    }

    /// A socket of a family that no rule names.
    pub(super) fn socket(&self, to: &mut Builder) {
        let [_, family, kind, protocol] = self.header.args;
        to.put(Key::Family, address::family(family as u16));
        match address::protocol(family, kind, protocol) {
            Some(word) => to.bytes(Key::Proto, word.as_bytes()),
            None => to.put(Key::Proto, text(format_args!("{protocol}"))),
        }
        to.facts.net_access = net_access::CONNECT;
    }

    /// The server that a connection named.
    pub(super) fn hello(&self, to: &mut Builder) {
        let [flags, found, port, _] = self.header.args;
        let (flags, found) = (flags as u32, found as u8);
        let proto: &[u8] = match flags {
            flags if flags & hello::flag::TLS != 0 => b"tls",
            flags if flags & hello::flag::HTTP != 0 => b"http",
            _ => b"tcp",
        };
        to.bytes(Key::Proto, proto);
        if let Some(address) = address::parse(&self.parts[0], 0) {
            self.end(address.end, false, to);
        }
        to.put(Key::SrcPort, Value::Int(port as i64));
        if found == hello::outcome::NAME {
            to.bytes(Key::Sni, &self.parts[1]);
        }
        if flags & hello::flag::ECH != 0 {
            to.put(Key::Ech, Value::Flag(true));
        }
        let reason: Option<&[u8]> = match (self.header.ret as u32, found) {
            (refusal::SHARED_PAGES, _) => Some(b"it was sent from memory that may change meanwhile"),
            (refusal::URGENT, _) => Some(b"urgent data"),
            (refusal::PACKET, _) => Some(b"a packet that could not be read"),
            (_, hello::outcome::NO_NAME) => Some(b"it names no server"),
            (_, hello::outcome::NOT_KNOWN) => Some(b"neither TLS nor HTTP/1"),
            (_, hello::outcome::REFUSED) => Some(b"it can be read in more than one way"),
            _ => None,
        };
        if let Some(reason) = reason {
            to.bytes(Key::Reason, reason);
        }
        to.facts.proto = sandbox_ebpf::abi::policy::proto::TCP;
        to.facts.net_access = net_access::CONNECT;
        to.facts.named = found == hello::outcome::NAME;
    }

    /// The end of a TCP connection.
    pub(super) fn close(&self, to: &mut Builder) {
        let [sent, received, port, _] = self.header.args;
        to.bytes(Key::Proto, b"tcp");
        if let Some(address) = address::parse(&self.parts[0], 0) {
            to.put(Key::Family, address::family(address.family));
            self.end(address.end, false, to);
        }
        to.put(Key::SrcPort, Value::Int(port as i64));
        to.number(Key::BytesOut, sent);
        to.number(Key::BytesIn, received);
    }
}

/// The event of an access to a unix socket.
pub(super) fn checked_socket(header: &Header) -> EventType {
    match header.access as u8 {
        net_access::SEND => EventType::NetSend,
        net_access::BIND => EventType::NetBind,
        net_access::LISTEN => EventType::NetListen,
        _ => EventType::NetConnect,
    }
}
