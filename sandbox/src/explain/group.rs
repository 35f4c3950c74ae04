//! Attempts that are alike, and what an event says that makes them so.

use audit_verify::canonical::Record;

use super::PROGRAMS;
use crate::event::{Event, Key, Value};
use crate::review::text;

/// Whether a denial took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The attempt failed.
    Blocked,
    /// It would have failed, had the policy been enforced.
    WouldBlock,
}

impl Effect {
    /// What the log's `action` says, where it is a denial.
    pub fn of_action(action: &str) -> Option<Effect> {
        match action {
            "BLOCKED" => Some(Effect::Blocked),
            "WOULD_BLOCK" => Some(Effect::WouldBlock),
            _ => None,
        }
    }

    /// The log's word.
    pub fn action(self) -> &'static str {
        match self {
            Effect::Blocked => "BLOCKED",
            Effect::WouldBlock => "WOULD_BLOCK",
        }
    }
}

/// Details of an event, live or from a log.
pub trait Details {
    /// Text or other bytes.
    fn bytes(&self, key: Key) -> Option<&[u8]>;
    /// A list.
    fn list(&self, key: Key) -> Option<&[Vec<u8>]>;
    /// A number that is not negative.
    fn uint(&self, key: Key) -> Option<u64>;
    /// A number.
    fn int(&self, key: Key) -> Option<i64>;
    /// Whether it says so.
    fn flag(&self, key: Key) -> bool;
}

impl Details for Event {
    fn flag(&self, key: Key) -> bool {
        matches!(self.get(key), Some(Value::Flag(true)))
    }

    fn bytes(&self, key: Key) -> Option<&[u8]> {
        match self.get(key) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn list(&self, key: Key) -> Option<&[Vec<u8>]> {
        match self.get(key) {
            Some(Value::List(list)) => Some(list),
            _ => None,
        }
    }

    fn uint(&self, key: Key) -> Option<u64> {
        match self.get(key) {
            Some(Value::Uint(number)) => Some(*number),
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    fn int(&self, key: Key) -> Option<i64> {
        match self.get(key) {
            Some(Value::Int(number)) => Some(*number),
            Some(Value::Uint(number)) => i64::try_from(*number).ok(),
            _ => None,
        }
    }
}

impl Details for Record<'_> {
    fn flag(&self, key: Key) -> bool {
        Record::flag(self, key.name()) == Some(true)
    }

    fn bytes(&self, key: Key) -> Option<&[u8]> {
        Record::bytes(self, key.name())
    }

    fn list(&self, key: Key) -> Option<&[Vec<u8>]> {
        Record::list(self, key.name())
    }

    fn uint(&self, key: Key) -> Option<u64> {
        Record::uint(self, key.name())
    }

    fn int(&self, key: Key) -> Option<i64> {
        Record::int(self, key.name())
    }
}

/// What a denial is about; attempts with the same matter are one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matter {
    /// Whether it took effect.
    pub effect: Effect,
    /// The log's `event_type`.
    pub kind: String,
    /// `policy/rule`, where a rule or a default decided.
    pub rule: Option<String>,
    /// The rule's own explanation.
    pub because: Option<String>,
    /// Why it was denied where no rule decided.
    pub reason: Option<String>,
    /// The layer that held the verdict.
    pub layer: String,
    /// What was asked for, in the policy's words; for a rename those at both ends.
    pub accesses: Vec<String>,
    /// The object: a path, or a unix socket (an abstract one with `@` before its name).
    pub path: Option<Vec<u8>>,
    /// The other path of a rename or link.
    pub path2: Option<Vec<u8>>,
    /// The other end of a connection; the own end of a bind or listen.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The name by which it is known, or that was asked for.
    pub host: Option<String>,
    /// A listener of the run is there.
    pub own: bool,
    /// `tcp`, `udp` or another protocol.
    pub protocol: Option<String>,
    /// The address family, where there is neither path nor address.
    pub family: Option<String>,
}

impl Matter {
    /// What an event of this type was about.
    pub fn new(effect: Effect, kind: &str, details: &dyn Details) -> Matter {
        let text = |key| details.bytes(key).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let rule = text(Key::PolicyRule);
        let path = match kind {
            "exec" => executed(details),
            _ => details.bytes(Key::Path),
        };
        // What a symbolic link says is no object.
        let path2 = if kind == "file_symlink" { None } else { details.bytes(Key::Path2) };
        // What a connection named is what it was denied for.
        let host = text(Key::Sni).filter(|_| kind == "net_name").or_else(|| text(Key::Host));
        // Whom a question was for is no matter.
        let ends = kind != "dns_answer";
        // What is bound or listens has its own end, everything else another's.
        let own = matches!(kind, "net_bind" | "net_listen");
        let (address, port) = if own { (Key::SrcIp, Key::SrcPort) } else { (Key::DstIp, Key::DstPort) };
        let address = text(address).filter(|_| ends);
        let port = details.uint(port);
        let names_family = path.is_none() && address.is_none() && host.is_none();
        Matter {
            effect,
            kind: kind.to_owned(),
            reason: if rule.is_none() { text(Key::Reason) } else { None },
            rule,
            because: text(Key::Because),
            layer: text(Key::Layer).unwrap_or_default(),
            accesses: accesses(kind, details),
            path: path.map(<[u8]>::to_vec),
            path2: path2.map(<[u8]>::to_vec),
            // A name that nobody asked for has none, and is for a port all the same.
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|_| address.is_some() || kind == "net_connect" && host.is_some()),
            address,
            protocol: text(Key::Proto).filter(|_| ends),
            host,
            own: details.flag(Key::Own),
            family: text(Key::Family).filter(|_| names_family),
        }
    }

    /// The object, safe to print.
    pub fn object(&self) -> String {
        let shown = |path: &Option<Vec<u8>>| path.as_deref().map(text::safe);
        if let (Some(from), Some(to)) = (shown(&self.path), shown(&self.path2)) {
            return format!("{from} → {to}");
        }
        if let Some(address) = &self.address {
            let address = text::safe(address.as_bytes());
            let host = if address.contains(':') { format!("[{address}]") } else { address };
            let host = match &self.host {
                Some(name) => format!("{} ({host})", text::safe(name.as_bytes())),
                None => host,
            };
            let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
            let protocol = self.protocol.as_ref().map(|p| format!("/{}", text::safe(p.as_bytes())));
            return format!("{host}{port}{}", protocol.unwrap_or_default());
        }
        if let Some(host) = &self.host {
            let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
            return format!("{}{port}", text::safe(host.as_bytes()));
        }
        let family = || self.family.as_ref().map(|family| text::safe(family.as_bytes()));
        shown(&self.path).or_else(|| shown(&self.path2)).or_else(family).unwrap_or_default()
    }

    /// Whether it may be no attempt to reach anything: the C library connects a UDP socket to each address of a name,
    /// sends nothing, and takes from the answer in which order the addresses come (RFC 6724).
    pub fn may_only_sort(&self) -> bool {
        self.kind == "net_connect" && self.host.is_some() && self.protocol.as_deref() == Some("udp")
    }

    /// What was attempted, in the policy's words, safe to print.
    pub fn act(&self) -> String {
        match self.accesses.as_slice() {
            [] => text::safe(self.kind.as_bytes()),
            words => text::safe(words.join(", ").as_bytes()),
        }
    }

    /// What was attempted on what, safe to print.
    pub fn attempt(&self) -> String {
        format!("{} {}", self.act(), self.object()).trim_end().to_owned()
    }

    /// Who or what denied it, safe to print.
    pub fn decided(&self) -> String {
        match (&self.rule, &self.reason) {
            (Some(rule), _) => text::safe(rule.as_bytes()),
            (None, Some(reason)) => format!("no rule: {}", text::safe(reason.as_bytes())),
            (None, None) => "no rule".to_owned(),
        }
    }
}

/// What a hook judged of an exec: what the name led to, where it is known.
fn executed(details: &dyn Details) -> Option<&[u8]> {
    let ran = || details.bytes(Key::Exe).filter(|_| details.int(Key::Ret) == Some(0));
    details.bytes(Key::Target).or_else(ran).or_else(|| details.bytes(Key::Path))
}

fn accesses(kind: &str, details: &dyn Details) -> Vec<String> {
    if let Some(words) = details.list(Key::Access) {
        return words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    }
    let words: &[&str] = match kind {
        "file_create" | "file_link" | "file_symlink" | "dir_create" => &["create"],
        "file_delete" | "dir_delete" => &["delete"],
        "file_rename" => &["delete", "create"],
        "file_truncate" => &["write"],
        "file_load" => &["load"],
        "file_mode" | "file_owner" | "file_times" | "file_xattr" => &["attributes"],
        "exec" => &["run"],
        "net_connect" => &["connect"],
        "net_send" => &["send"],
        "net_bind" => &["bind"],
        "net_listen" => &["listen"],
        "net_name" => &["connect"],
        "net_socket" => &["socket"],
        "dns_answer" => &["ask for"],
        "proc_bpf" => &["bpf"],
        "proc_chroot" => &["chroot"],
        "proc_mount" => &["mount"],
        "proc_ptrace" => &["ptrace"],
        "proc_signal" => &["signal-outside"],
        "proc_userns" => &["userns"],
        _ => &[],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Denied attempts with the same matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are about.
    pub matter: Matter,
    /// How many.
    pub count: u64,
    /// When the first was, nanoseconds since 1970.
    pub first_ns: i64,
    /// When the last was.
    pub last_ns: i64,
    /// The programs that tried, in the order in which they first did.
    pub programs: Vec<Vec<u8>>,
    /// Whether there were more programs than `programs` names.
    pub more_programs: bool,
    /// The narrowest lines that would allow it, all of them together; empty where there are none, `None` where
    /// nobody has looked for them.
    pub remedy: Option<Vec<String>>,
}

impl Group {
    /// Without an attempt yet.
    pub(super) fn new(matter: Matter, wall_ns: i64) -> Group {
        Group {
            matter,
            count: 0,
            first_ns: wall_ns,
            last_ns: wall_ns,
            programs: Vec::new(),
            more_programs: false,
            remedy: None,
        }
    }

    pub(super) fn count(&mut self, details: &dyn Details, attempts: u64, wall_ns: i64) {
        self.count = self.count.saturating_add(attempts);
        self.first_ns = self.first_ns.min(wall_ns);
        self.last_ns = self.last_ns.max(wall_ns);
        // An execution that went through is told by the new program, which did not ask for itself.
        let program = details.bytes(Key::Exe).filter(|exe| Some(*exe) != self.matter.path.as_deref());
        if let Some(program) = program.filter(|program| !self.programs.iter().any(|known| known == program)) {
            if self.programs.len() < PROGRAMS {
                self.programs.push(program.to_vec());
            } else {
                self.more_programs = true;
            }
        }
    }

    /// The programs in one line, safe to print; nothing where none is known.
    pub fn by(&self) -> String {
        let names: Vec<String> = self.programs.iter().map(|program| text::safe(program)).collect();
        let more = if self.more_programs { ", …" } else { "" };
        if names.is_empty() { String::new() } else { format!("{}{more}", names.join(", ")) }
    }
}
