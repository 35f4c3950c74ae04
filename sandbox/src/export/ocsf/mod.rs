//! Events of the Open Cybersecurity Schema Framework, one JSON object a line.
//!
//! Source: OCSF 1.5.0 (<https://schema.ocsf.io/1.5.0/>), with the profiles `host` and `security_control`. A denial is
//! told by `action_id` and `disposition_id` of the activity itself, and not as a finding besides: one event of the log
//! is one event here. Keys of the log that OCSF has no attribute for stand in `unmapped`, under their own names.

pub mod class;
mod object;

use super::document::{Document, rest};
use super::entry::Entry;
use super::told::{self, Outcome};
use super::{Form, Run, Sink};
use class::Class;

/// The version of the schema.
pub const VERSION: &str = "1.5.0";

/// Writes the events.
#[derive(Debug, Default)]
pub struct Ocsf {
    run: Run,
    line: Vec<u8>,
}

impl Form for Ocsf {
    fn event(&mut self, entry: &Entry<'_>, out: &mut Sink) -> std::io::Result<()> {
        self.run.learn(entry);
        self.line.clear();
        document(entry, &self.run).write_line(&mut self.line);
        out.write_all(&self.line)
    }
}

fn document(entry: &Entry<'_>, run: &Run) -> Document {
    let syscall = entry.peek_text("syscall");
    let class = Class::of(entry.event_type(), syscall.as_ref().map_or("", |text| text.shown()));
    let mut document = Document::default();
    classification(&mut document, class);
    document.put("time", told::wall_ns(entry).unwrap_or(0).div_euclid(1_000_000));
    document.put("message", told::summary(entry));
    document.put_some("count", entry.int("count"));
    verdict(&mut document, entry);
    metadata(&mut document, entry, run);
    document.put("actor.process", object::actor_process(entry));
    document.put_text("actor.app_name", entry, "agent_id");
    document.put("device", object::device(entry, run));
    match class.uid {
        class::FILE => {
            document.put("file", object::file(entry));
            document.put_some("file_result", object::file_result(entry));
        }
        class::KERNEL => kernel(&mut document, entry),
        class::PROCESS => {
            document.put("process", object::subject(entry));
            document.put_some("exit_code", entry.int("exit_code"));
        }
        class::LOG => {
            document.put("log_name", crate::record::LOG);
            document.put("log_type", "Application");
            document.put("log_type_id", 2);
        }
        class::APPLICATION => {
            document.put("app.name", "sandbox");
            document.put("app.vendor_name", "sandbox");
            document.put_some("app.version", run.version.clone());
        }
        _ => network(&mut document, entry, run),
    }
    let rest = rest(entry);
    if !rest.is_empty() {
        document.put("unmapped", rest);
    }
    document
}

fn classification(to: &mut Document, class: Class) {
    to.put("class_uid", class.uid);
    to.put("class_name", class.name);
    to.put("category_uid", class.category);
    to.put("category_name", class.category_name);
    to.put("activity_id", class.activity);
    to.put("activity_name", class.activity_name);
    to.put("type_uid", class.uid * 100 + class.activity);
    to.put("type_name", format!("{}: {}", class.name, class.activity_name));
}

fn verdict(to: &mut Document, entry: &Entry<'_>) {
    let (severity_id, severity) = match (entry.action(), entry.event_type()) {
        ("BLOCKED", _) | (_, "gap") => (3, "Medium"),
        ("WOULD_BLOCK", _) => (2, "Low"),
        _ => (1, "Informational"),
    };
    to.put("severity_id", severity_id);
    to.put("severity", severity);
    let (status_id, status) = match Outcome::of(entry) {
        Outcome::Success => (1, "Success"),
        Outcome::Failure => (2, "Failure"),
        Outcome::Unknown => (0, "Unknown"),
    };
    to.put("status_id", status_id);
    to.put("status", status);
    to.put_some("status_code", told::errno(entry));
    to.put_text("status_detail", entry, "reason");
    let (action, disposition) = match entry.action() {
        "OBSERVED" => ((3, "Observed"), (17, "Logged")),
        "ALLOWED" => ((1, "Allowed"), (1, "Allowed")),
        "BLOCKED" => ((2, "Denied"), (2, "Blocked")),
        // It was let pass, and a policy would not have.
        "WOULD_BLOCK" => ((3, "Observed"), (15, "Detected")),
        _ => ((0, "Unknown"), (0, "Unknown")),
    };
    to.put("action_id", action.0);
    to.put("action", action.1);
    to.put("disposition_id", disposition.0);
    to.put("disposition", disposition.1);
    to.put("is_alert", matches!(entry.action(), "BLOCKED" | "WOULD_BLOCK"));
    if let Some(rule) = entry.text("policy_rule") {
        to.put("policy.uid", rule.shown());
        to.put_some("policy.name", rule.shown().split_once('/').map(|(policy, _)| policy));
        to.put_text("policy.desc", entry, "because");
    }
}

fn metadata(to: &mut Document, entry: &Entry<'_>, run: &Run) {
    to.put("metadata.version", VERSION);
    to.put("metadata.profiles", vec!["host", "security_control"]);
    to.put("metadata.product.name", "sandbox");
    to.put("metadata.product.vendor_name", "sandbox");
    to.put_some("metadata.product.version", run.version.clone());
    to.put_text("metadata.product.version", entry, "version");
    to.put("metadata.log_name", crate::record::LOG);
    to.put_text("metadata.event_code", entry, "event_type");
    to.put_text("metadata.uid", entry, "hash_self");
    to.put_some("metadata.sequence", entry.int("seq"));
    to.put_text("metadata.correlation_uid", entry, "run_id");
    // `time` has only milliseconds.
    to.put_text("metadata.original_time", entry, "timestamp");
}

fn kernel(to: &mut Document, entry: &Entry<'_>) {
    let event_type = entry.event_type();
    to.put("kernel.name", event_type.strip_prefix("proc_").unwrap_or(event_type));
    to.put("kernel.type_id", 2);
    to.put("kernel.type", "System Call");
    to.put_text("kernel.system_call", entry, "syscall");
    to.put_text("kernel.path", entry, "path");
}

fn network(to: &mut Document, entry: &Entry<'_>, run: &Run) {
    let is_dns = entry.event_type() == "dns_answer";
    // Who connected is the source.
    let (own, other) = match entry.event_type() {
        "net_accept" | "net_bind" | "net_listen" => ("dst_endpoint", "src_endpoint"),
        _ => ("src_endpoint", "dst_endpoint"),
    };
    to.put(own, object::own_endpoint(entry, run));
    // The name that was asked for is not the resolver's.
    let host = if is_dns { "" } else { "host" };
    to.put_some(other, object::endpoint(entry, ["dst_ip", "dst_port"], Some(host)));
    to.put("connection_info", object::connection(entry));
    let traffic = [("traffic.bytes_out", "bytes_out"), ("traffic.bytes_in", "bytes_in")];
    for (path, key) in traffic {
        to.put_some(path, entry.int_in(key, 0..=i64::MAX));
    }
    if is_dns {
        dns(to, entry);
    } else if entry.peek_text("sni").is_some() && is_tls(entry) {
        to.put_text("tls.sni", entry, "sni");
        to.put("tls.version", "unknown");
    }
}

fn is_tls(entry: &Entry<'_>) -> bool {
    entry.peek_text("proto").is_some_and(|proto| proto.raw() == "tls")
}

fn dns(to: &mut Document, entry: &Entry<'_>) {
    if entry.peek_text("host").is_some() {
        to.put_text("query.hostname", entry, "host");
        to.put_text("query.type", entry, "question");
    }
    if let Some(rcode) = entry.text("rcode") {
        to.put("rcode_id", rcode_id(rcode.shown()));
        to.put("rcode", rcode.shown());
    }
    let Some(answers) = entry.list("answers") else { return };
    let ttl = answers.shown().next().and_then(|_| entry.int("ttl"));
    let answers = answers.shown().map(|data| {
        let mut answer = Document::default();
        answer.put("rdata", data);
        answer.put_some("ttl", ttl);
        serde_json::Value::from(answer)
    });
    to.put("answers", answers.collect::<Vec<_>>());
}

/// The numbers of RFC 6895, which are OCSF's.
fn rcode_id(name: &str) -> u32 {
    match name {
        "NOERROR" => 0,
        "FORMERR" => 1,
        "SERVFAIL" => 2,
        "NXDOMAIN" => 3,
        "NOTIMP" => 4,
        "REFUSED" => 5,
        "YXDOMAIN" => 6,
        "YXRRSET" => 7,
        "NXRRSET" => 8,
        "NOTAUTH" => 9,
        "NOTZONE" => 10,
        _ => 99,
    }
}
