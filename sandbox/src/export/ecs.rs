//! Documents of the Elastic Common Schema, one JSON object a line.
//!
//! Source: the Elastic Common Schema, version 8.17 (<https://www.elastic.co/guide/en/ecs/8.17/>). Keys of the log that
//! ECS has no field for stand below `sandbox`, under their own names.

use super::document::{Document, rest};
use super::entry::Entry;
use super::told::{self, MODE_MAX, Outcome};
use super::{Form, Run, Sink};

/// The version of the schema.
pub const VERSION: &str = "8.17.0";

/// Writes the documents.
#[derive(Debug, Default)]
pub struct Ecs {
    run: Run,
    line: Vec<u8>,
}

impl Form for Ecs {
    fn event(&mut self, entry: &Entry<'_>, out: &mut Sink) -> std::io::Result<()> {
        self.run.learn(entry);
        self.line.clear();
        document(entry, &self.run).write_line(&mut self.line);
        out.write_all(&self.line)
    }
}

/// `event.category` and `event.type` of an event type.
pub fn category(event_type: &str) -> (&'static str, &'static [&'static str]) {
    match event_type {
        "run_start" | "fork" | "exec" => ("process", &["start"]),
        "run_end" | "exit" => ("process", &["end"]),
        "policy_apply" => ("configuration", &["change"]),
        "detection" => ("intrusion_detection", &["info"]),
        "ask" | "answer" => ("process", &["info"]),
        "file_open" | "file_load" | "file_receive" => ("file", &["access"]),
        "file_create" | "file_link" | "file_symlink" | "dir_create" => ("file", &["creation"]),
        "file_delete" | "dir_delete" => ("file", &["deletion"]),
        "file_rename" | "file_truncate" | "file_mode" | "file_owner" | "file_times" | "file_xattr"
        | "file_flags" | "file_change" => ("file", &["change"]),
        "file_hash" => ("file", &["info"]),
        "net_connect" | "net_accept" => ("network", &["connection", "start"]),
        "net_send" | "net_bind" | "net_listen" | "net_socket" => ("network", &["info"]),
        "net_close" => ("network", &["connection", "end"]),
        "net_name" | "dns_answer" => ("network", &["protocol", "info"]),
        "proc_ptrace" => ("process", &["access"]),
        "proc_mount" | "proc_chroot" | "proc_userns" | "proc_bpf" | "proc_signal" => ("process", &["change"]),
        "proc_io_uring" | "proc_compat" | "gap" | "checkpoint" => ("process", &["info"]),
        other if other.starts_with("file_") || other.starts_with("dir_") => ("file", &["info"]),
        other if other.starts_with("net_") || other.starts_with("dns_") => ("network", &["info"]),
        _ => ("process", &["info"]),
    }
}

fn document(entry: &Entry<'_>, run: &Run) -> Document {
    let mut document = Document::default();
    document.put("ecs.version", VERSION);
    document.put_text("@timestamp", entry, "timestamp");
    document.put("message", told::summary(entry));
    event(&mut document, entry);
    host(&mut document, entry, run);
    process(&mut document, entry);
    match category(entry.event_type()).0 {
        "file" => file(&mut document, entry),
        "network" => network(&mut document, entry),
        _ => {}
    }
    rule(&mut document, entry);
    let rest = rest(entry);
    if !rest.is_empty() {
        document.put("sandbox", rest);
    }
    document
}

fn event(to: &mut Document, entry: &Entry<'_>) {
    let denied = matches!(entry.action(), "BLOCKED" | "WOULD_BLOCK");
    let (category, types) = category(entry.event_type());
    let mut types = types.to_vec();
    // ECS has the two for connections alone.
    match entry.action() {
        "BLOCKED" if category == "network" => types.push("denied"),
        "ALLOWED" if category == "network" => types.push("allowed"),
        _ => {}
    }
    let outcome = match Outcome::of(entry) {
        Outcome::Success => Some("success"),
        Outcome::Failure => Some("failure"),
        Outcome::Unknown => None,
    };
    to.put("event.kind", if denied { "alert" } else { "event" });
    to.put("event.category", vec![category]);
    to.put("event.type", types);
    to.put("event.module", "sandbox");
    to.put("event.dataset", "sandbox.events");
    to.put_some("event.outcome", outcome);
    to.put_some("error.code", told::errno(entry));
    // The run and the number in it are one name for the event, for those who load a run twice.
    if let (Some(run_id), Some(seq)) = (entry.peek_text("run_id"), entry.peek_int("seq")) {
        to.put("event.id", format!("{}/{seq}", run_id.shown()));
    }
    to.put_text("event.action", entry, "event_type");
    to.put_some("event.sequence", entry.int("seq"));
    to.put_text("event.hash", entry, "hash_self");
    to.put_text("event.reason", entry, "reason");
    to.put_some("event.duration", entry.int("duration_ns"));
}

fn host(to: &mut Document, entry: &Entry<'_>, run: &Run) {
    to.put("host.os.type", "linux");
    to.put("agent.type", "sandbox");
    for (path, key, known) in [
        ("host.hostname", "hostname", &run.hostname),
        ("host.id", "machine_id", &run.machine_id),
        ("host.os.kernel", "kernel", &run.kernel),
        ("agent.version", "version", &run.version),
    ] {
        // What a line says for itself comes last.
        to.put_some(path, known.clone());
        to.put_text(path, entry, key);
    }
    to.put_text("host.boot.id", entry, "boot_id");
    to.put_text("user.name", entry, "user");
    to.put_some("user.id", entry.digits("uid"));
}

fn process(to: &mut Document, entry: &Entry<'_>) {
    if entry.event_type() == "fork" {
        // ECS tells of the process that began; who began it is its parent.
        to.put_some("process.pid", entry.int("child_pid"));
        to.put_text("process.entity_id", entry, "child_proc_id");
        actor(to, "process.parent", entry);
        return;
    }
    actor(to, "process", entry);
    to.put_some("process.parent.pid", entry.int("ppid"));
    to.put_text("process.working_directory", entry, "cwd");
    to.put_some("process.exit_code", entry.int("exit_code"));
    to.put_text("process.hash.sha256", entry, "exe_sha256");
    let key = if entry.event_type() == "run_start" { "command" } else { "argv" };
    if let Some(words) = entry.list(key) {
        to.put("process.command_line", told::command_line(words.shown()));
        let words: Vec<&str> = words.shown().collect();
        to.put("process.args_count", words.len());
        to.put("process.args", words);
    }
}

/// Who acts.
fn actor(to: &mut Document, at: &str, entry: &Entry<'_>) {
    to.put_some(&format!("{at}.pid"), entry.int("pid"));
    to.put_text(&format!("{at}.entity_id"), entry, "proc_id");
    to.put_text(&format!("{at}.executable"), entry, "exe");
    to.put_text(&format!("{at}.name"), entry, "comm");
}

fn file(to: &mut Document, entry: &Entry<'_>) {
    if let Some(path) = entry.text("path") {
        to.put("file.name", told::base_name(path.shown()));
        to.put("file.path", path.shown());
    }
    let kind = match entry.event_type() {
        "dir_create" | "dir_delete" => Some("dir"),
        "file_symlink" => Some("symlink"),
        _ => None,
    };
    to.put_some("file.type", kind);
    if kind == Some("symlink") {
        to.put_text("file.target_path", entry, "path2");
    }
    to.put_some("file.inode", entry.digits("ino"));
    to.put_some("file.mode", entry.int_in("file_mode", 0..=MODE_MAX).map(|mode| format!("{mode:04o}")));
    to.put_some("file.uid", entry.digits("owner"));
    to.put_some("file.gid", entry.digits("group_id"));
}

fn network(to: &mut Document, entry: &Entry<'_>) {
    // Who connected is the source.
    let (own, other) = match entry.event_type() {
        "net_accept" | "net_bind" | "net_listen" => ("destination", "source"),
        _ => ("source", "destination"),
    };
    let direction = match entry.event_type() {
        "net_accept" => Some("ingress"),
        "net_connect" | "net_send" | "net_name" | "dns_answer" => Some("egress"),
        _ => None,
    };
    to.put_some("network.direction", direction);
    to.put_some("network.type", told::ip_version(entry));
    match entry.peek_text("proto").as_ref().map(|proto| proto.shown()) {
        Some("tls" | "http") => {
            to.put("network.transport", "tcp");
            to.put_text("network.protocol", entry, "proto");
        }
        Some(_) => to.put_text("network.transport", entry, "proto"),
        None => {}
    }
    if entry.event_type() == "dns_answer" {
        to.put("network.protocol", "dns");
    }
    end(to, own, entry, ["src_ip", "src_port", "bytes_out"]);
    end(to, other, entry, ["dst_ip", "dst_port", "bytes_in"]);
    match entry.event_type() {
        "dns_answer" => dns(to, entry),
        _ => to.put_text(&format!("{other}.domain"), entry, "host"),
    }
    match entry.peek_text("proto").as_ref().map(|proto| proto.shown()) {
        Some("http") => to.put_text("url.domain", entry, "sni"),
        _ => to.put_text("tls.client.server_name", entry, "sni"),
    }
}

/// One end, with the bytes that it sent.
fn end(to: &mut Document, at: &str, entry: &Entry<'_>, [ip, port, bytes]: [&str; 3]) {
    if let Some(address) = entry.text(ip) {
        to.put(&format!("{at}.address"), address.shown());
        // Elasticsearch refuses a document whose address is none.
        to.put_some(&format!("{at}.ip"), told::address(address.shown()).map(|_| address.shown()));
    }
    to.put_some(&format!("{at}.port"), entry.int_in(port, 0..=65535));
    to.put_some(&format!("{at}.bytes"), entry.int_in(bytes, 0..=i64::MAX));
}

fn dns(to: &mut Document, entry: &Entry<'_>) {
    to.put("dns.type", "answer");
    to.put_text("dns.question.name", entry, "host");
    to.put_text("dns.question.type", entry, "question");
    to.put_text("dns.response_code", entry, "rcode");
    let Some(answers) = entry.list("answers") else { return };
    // A time to live without an answer has no place in ECS.
    let ttl = answers.shown().next().and_then(|_| entry.int("ttl"));
    let mut resolved = Vec::new();
    let mut documents = Vec::new();
    for data in answers.shown() {
        let mut answer = Document::default();
        answer.put("data", data);
        answer.put_some("ttl", ttl);
        documents.push(serde_json::Value::from(answer));
        resolved.extend(told::address(data).map(|_| data));
    }
    to.put("dns.answers", documents);
    to.put("dns.resolved_ip", resolved);
}

fn rule(to: &mut Document, entry: &Entry<'_>) {
    if let Some(rule) = entry.text("policy_rule") {
        to.put_some("rule.ruleset", rule.shown().split_once('/').map(|(policy, _)| policy));
        to.put("rule.name", rule.shown());
    }
    to.put_text("rule.description", entry, "because");
}
