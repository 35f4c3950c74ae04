//! The objects that OCSF's classes are made of.

use super::super::Run;
use super::super::document::Document;
use super::super::entry::Entry;
use super::super::told;

/// What stands where the schema wants a name and the event has none.
const UNKNOWN: &str = "unknown";

/// The machine.
pub fn device(entry: &Entry<'_>, run: &Run) -> Document {
    let mut device = Document::default();
    device.put("type_id", 0);
    device.put("type", "Unknown");
    device.put_some("hostname", run.hostname.clone());
    device.put_some("uid", run.machine_id.clone());
    if run.hostname.is_none() && run.machine_id.is_none() {
        device.put("name", UNKNOWN);
    }
    device.put("os.name", "Linux");
    device.put("os.type", "Linux");
    device.put("os.type_id", 200);
    device.put_some("os.kernel_release", run.kernel.clone());
    // The first line says these for itself as well.
    device.put_text("hostname", entry, "hostname");
    device.put_text("uid", entry, "machine_id");
    device.put_text("os.kernel_release", entry, "kernel");
    device
}

/// The process that acts. Of an exec it is the one before, of which the event tells no program.
pub fn actor_process(entry: &Entry<'_>) -> Document {
    let mut process = identity(entry);
    if entry.event_type() != "exec" {
        program(&mut process, entry);
    }
    process
}

/// The process that an event of Process Activity is about.
pub fn subject(entry: &Entry<'_>) -> Document {
    match entry.event_type() {
        "fork" => {
            let mut child = Document::default();
            child.put_some("pid", entry.int("child_pid"));
            child.put_text("uid", entry, "child_proc_id");
            child.put("parent_process", identity(entry));
            named(child)
        }
        "exec" => {
            let mut process = identity(entry);
            program(&mut process, entry);
            process.put_text("working_directory", entry, "cwd");
            // OCSF has no list of arguments: they stay in `unmapped`, and this is for reading.
            let words = entry.peek_list("argv");
            process.put_some("cmd_line", words.map(|words| told::command_line(words.shown())));
            if let Some(hash) = entry.peek_text("exe_sha256").filter(|_| entry.peek_text("exe").is_some())
                && hash.raw().bytes().all(|digit| digit.is_ascii_hexdigit())
                && !hash.raw().is_empty()
            {
                let mut fingerprint = Document::default();
                fingerprint.put("algorithm_id", 3);
                fingerprint.put("algorithm", "SHA-256");
                fingerprint.put_text("value", entry, "exe_sha256");
                process.put("file.hashes", vec![serde_json::Value::from(fingerprint)]);
            }
            process
        }
        "exit" => {
            let mut process = identity(entry);
            program(&mut process, entry);
            process
        }
        _ => {
            let mut process = Document::default();
            process.put_some("pid", entry.int("target_pid"));
            named(process)
        }
    }
}

/// OCSF wants one of `pid` and `uid`.
fn named(mut process: Document) -> Document {
    if !process.has("pid") && !process.has("uid") {
        process.put("uid", UNKNOWN);
    }
    process
}

fn identity(entry: &Entry<'_>) -> Document {
    let mut process = Document::default();
    process.put_some("pid", entry.int("pid"));
    process.put_text("uid", entry, "proc_id");
    process.put_some("parent_process.pid", entry.int("ppid"));
    process.put_some("user.uid", entry.digits("uid"));
    process.put_text("user.name", entry, "user");
    named(process)
}

fn program(process: &mut Document, entry: &Entry<'_>) {
    process.put_text("name", entry, "comm");
    if let Some(exe) = entry.text("exe") {
        process.put("path", exe.shown());
        process.put("file", file_at(exe.shown(), 1));
    }
}

/// The file that an event of File System Activity is about.
pub fn file(entry: &Entry<'_>) -> Document {
    let type_id = match entry.event_type() {
        "dir_create" | "dir_delete" | "proc_mount" => 2,
        "file_symlink" => 7,
        _ => 0,
    };
    let mut file = match entry.text("path") {
        Some(path) => file_at(path.shown(), type_id),
        None => unnamed(type_id),
    };
    file.put_some("uid", entry.digits("ino"));
    file
}

/// The file that an event left: the new name of a rename, the link.
pub fn file_result(entry: &Entry<'_>) -> Option<Document> {
    Some(file_at(entry.text("path2")?.shown(), 0))
}

fn unnamed(type_id: u32) -> Document {
    let mut file = Document::default();
    file.put("name", UNKNOWN);
    file.put("type_id", type_id);
    file
}

fn file_at(path: &str, type_id: u32) -> Document {
    let mut file = unnamed(type_id);
    file.put("name", told::base_name(path));
    file.put("path", path);
    file
}

/// One end of a connection; `host` is the key with its name. `None` where the event says nothing about it.
pub fn endpoint(entry: &Entry<'_>, [ip, port]: [&str; 2], host: Option<&str>) -> Option<Document> {
    let mut endpoint = Document::default();
    if entry.peek_text(ip).is_some_and(|text| told::address(text.shown()).is_some()) {
        endpoint.put_text("ip", entry, ip);
    }
    if let Some(host) = host {
        endpoint.put_text("hostname", entry, host);
        // The path of a unix socket.
        endpoint.put_text("name", entry, "path");
    }
    // A port alone is no endpoint: OCSF wants a name or an address with it.
    if endpoint.is_empty() {
        return None;
    }
    endpoint.put_some("port", entry.int_in(port, 0..=65535));
    Some(endpoint)
}

/// The own end: the machine, its address and port where they are known.
pub fn own_endpoint(entry: &Entry<'_>, run: &Run) -> Document {
    let mut endpoint = endpoint(entry, ["src_ip", "src_port"], None).unwrap_or_default();
    endpoint.put_some("hostname", run.hostname.clone());
    endpoint.put_some("uid", run.machine_id.clone());
    if endpoint.is_empty() {
        endpoint.put("name", UNKNOWN);
    }
    endpoint.put_some("port", entry.int_in("src_port", 0..=65535));
    endpoint
}

/// How the two ends speak.
pub fn connection(entry: &Entry<'_>) -> Document {
    let mut connection = Document::default();
    let (id, direction) = match entry.event_type() {
        "net_accept" => (1, "Inbound"),
        "net_connect" | "net_send" | "net_name" | "dns_answer" => (2, "Outbound"),
        _ => (0, "Unknown"),
    };
    connection.put("direction_id", id);
    connection.put("direction", direction);
    // The numbers of IANA. What is spoken over TCP is TCP here.
    let number = match entry.peek_text("proto").as_ref().map(|proto| proto.shown()) {
        Some("tcp" | "mptcp" | "tls" | "http") => Some(6),
        Some("udp") => Some(17),
        Some("udplite") => Some(136),
        Some("sctp") => Some(132),
        Some("dccp") => Some(33),
        _ => None,
    };
    connection.put_some("protocol_num", number);
    connection.put_text("protocol_name", entry, "proto");
    let version = match told::ip_version(entry) {
        Some("ipv4") => Some(4),
        Some(_) => Some(6),
        None => None,
    };
    connection.put_some("protocol_ver_id", version);
    connection
}
