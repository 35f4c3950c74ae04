//! Logs of OpenTelemetry as JSON: one `resourceLogs` message a line, with some hundred records each.
//!
//! Source: the OpenTelemetry Protocol 1.5 (opentelemetry-proto, `logs.proto`), its JSON encoding (64-bit integers are
//! strings, names in lowerCamelCase, enums are numbers), the form of the file exporter (one message a line), and the
//! semantic conventions 1.30. Attributes that these do not name are `sandbox.` and the key of the log.

use serde_json::{Map, Value, json};

use audit_verify::canonical::{Member, Raw};

use super::document;
use super::entry::{Entry, List, Text, as_list};
use super::told::{self, MODE_MAX};
use super::{Form, Run, Sink};

/// The most records of one line.
const BATCH: usize = 512;

/// The most bytes of one line, about.
const BYTES: usize = 1 << 20;

/// Writes the messages.
#[derive(Debug, Default)]
pub struct Otlp {
    run: Run,
    run_id: String,
    /// The records of the message that is being made, with commas between them.
    records: Vec<u8>,
    count: usize,
}

impl Form for Otlp {
    fn event(&mut self, entry: &Entry<'_>, out: &mut Sink) -> std::io::Result<()> {
        let run_id = entry.peek_text("run_id").map_or(String::new(), |text| text.shown().to_owned());
        let is_start = entry.event_type() == "run_start";
        // A message has one resource.
        if self.count > 0 && (is_start || run_id != self.run_id) {
            self.message(out)?;
        }
        self.run.learn(entry);
        self.run_id = run_id;
        if self.count > 0 {
            self.records.push(b',');
        }
        document::write(&record(entry), &mut self.records);
        self.count += 1;
        if self.count >= BATCH || self.records.len() >= BYTES { self.message(out) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut Sink) -> std::io::Result<()> {
        if self.count > 0 { self.message(out) } else { Ok(()) }
    }
}

impl Otlp {
    fn message(&mut self, out: &mut Sink) -> std::io::Result<()> {
        let mut resource = Attributes::default();
        resource.put("service.name", string("sandbox"));
        resource.put("os.type", string("linux"));
        resource.put("service.instance.id", string(&self.run_id));
        for (name, value) in [
            ("service.version", &self.run.version),
            ("host.name", &self.run.hostname),
            ("host.id", &self.run.machine_id),
            ("os.version", &self.run.kernel),
        ] {
            resource.put_some(name, value.as_deref().map(string));
        }
        let scope = json!({"name": "sandbox", "version": self.run.version()});
        let resource = json!({"attributes": resource.0});
        write!(
            out,
            "{{\"resourceLogs\":[{{\"resource\":{resource},\"scopeLogs\":[{{\"scope\":{scope},\"logRecords\":["
        )?;
        out.write_all(&self.records)?;
        self.records.clear();
        self.count = 0;
        out.write_all(b"]}]}]}\n")
    }
}

fn record(entry: &Entry<'_>) -> Value {
    let mut record = Map::new();
    let nanos = told::wall_ns(entry).and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0).to_string();
    let (number, text) = match (entry.action(), entry.event_type()) {
        ("BLOCKED", _) => (13, "WARN"),
        ("WOULD_BLOCK", _) => (10, "INFO2"),
        (_, "gap") => (17, "ERROR"),
        _ => (9, "INFO"),
    };
    record.insert("timeUnixNano".into(), nanos.as_str().into());
    record.insert("observedTimeUnixNano".into(), nanos.into());
    record.insert("severityNumber".into(), number.into());
    record.insert("severityText".into(), text.into());
    record.insert("eventName".into(), format!("sandbox.{}", entry.event_type()).into());
    record.insert("body".into(), string(&told::summary(entry)));
    record.insert("attributes".into(), attributes(entry).0.into());
    Value::Object(record)
}

fn attributes(entry: &Entry<'_>) -> Attributes {
    let mut to = Attributes::default();
    process(&mut to, entry);
    match entry.event_type() {
        kind if kind.starts_with("file_") || kind.starts_with("dir_") => file(&mut to, entry),
        kind if kind.starts_with("net_") => network(&mut to, entry),
        "dns_answer" => {
            network(&mut to, entry);
            to.text("dns.question.name", entry, "host");
            to.list("dns.answers", entry, "answers");
        }
        _ => {}
    }
    to.put_some("error.type", told::errno(entry).as_deref().map(string));
    let escaped = entry.escaped();
    for member in entry.rest_beside_escaped() {
        to.put(&format!("sandbox.{}", member.key), value(member));
    }
    if !escaped.is_empty() {
        to.put("sandbox.escaped", array(escaped.into_iter()));
    }
    to
}

fn process(to: &mut Attributes, entry: &Entry<'_>) {
    to.int("process.pid", entry.int("pid"));
    to.int("process.parent_pid", entry.int("ppid"));
    to.text("process.executable.path", entry, "exe");
    to.text("process.working_directory", entry, "cwd");
    to.int("process.exit.code", entry.int("exit_code"));
    to.list("process.command_args", entry, "argv");
    to.int("process.user.id", entry.int("uid"));
    to.text("process.user.name", entry, "user");
}

fn file(to: &mut Attributes, entry: &Entry<'_>) {
    if let Some(path) = entry.text("path") {
        to.put("file.name", string(told::base_name(path.shown())));
        to.put("file.path", string(path.shown()));
    }
    if entry.event_type() == "file_symlink" {
        to.text("file.symbolic_link.target_path", entry, "path2");
    }
    to.put_some("file.inode", entry.digits("ino").map(string));
    to.put_some(
        "file.mode",
        entry.int_in("file_mode", 0..=MODE_MAX).map(|mode| string(&format!("{mode:04o}"))),
    );
    to.put_some("file.owner.id", entry.digits("owner").map(string));
    to.put_some("file.group.id", entry.digits("group_id").map(string));
}

fn network(to: &mut Attributes, entry: &Entry<'_>) {
    match entry.peek_text("proto").as_ref().map(Text::shown) {
        Some("tls" | "http") => {
            to.put("network.transport", string("tcp"));
            to.text("network.protocol.name", entry, "proto");
        }
        Some(_) => to.text("network.transport", entry, "proto"),
        None => {}
    }
    to.put_some("network.type", told::ip_version(entry).map(string));
    to.text("network.peer.address", entry, "dst_ip");
    to.int("network.peer.port", entry.int("dst_port"));
    to.text("network.local.address", entry, "src_ip");
    to.int("network.local.port", entry.int("src_port"));
    let is_tls = entry.peek_text("proto").is_some_and(|proto| proto.raw() == "tls");
    if is_tls {
        to.text("tls.client.server_name", entry, "sni");
    }
    if matches!(entry.event_type(), "net_connect" | "net_send" | "net_name") {
        to.text("server.address", entry, "host");
    }
}

/// A list of attributes.
#[derive(Debug, Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn put(&mut self, name: &str, value: Value) {
        self.0.push(json!({"key": name, "value": value}));
    }

    fn put_some(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn int(&mut self, name: &str, number: Option<i64>) {
        self.put_some(name, number.map(integer));
    }

    fn text(&mut self, name: &str, entry: &Entry<'_>, key: &str) {
        self.put_some(name, entry.text(key).map(|text| string(text.shown())));
    }

    fn list(&mut self, name: &str, entry: &Entry<'_>, key: &str) {
        self.put_some(name, entry.list(key).map(|list| items(&list)));
    }
}

fn string(text: &str) -> Value {
    json!({"stringValue": text})
}

fn integer(number: i64) -> Value {
    json!({"intValue": number.to_string()})
}

fn array<'t>(items: impl Iterator<Item = &'t str>) -> Value {
    json!({"arrayValue": {"values": items.map(string).collect::<Vec<_>>()}})
}

fn items(list: &List<'_>) -> Value {
    array(list.shown())
}

/// A member of a line as a value. An integer above `i64::MAX`, which the protocol has not, is a string.
fn value(member: &Member<'_>) -> Value {
    match &member.raw {
        Raw::Flag(flag) => json!({"boolValue": flag}),
        raw => match (as_list(raw), document::value(member)) {
            (Some(list), _) => items(&list),
            (None, Value::Number(number)) => integer(number.as_i64().unwrap_or_default()),
            (None, other) => string(other.as_str().unwrap_or_default()),
        },
    }
}
