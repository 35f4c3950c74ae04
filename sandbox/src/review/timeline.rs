//! The story of a run: what each process did, in the order in which it began, told in few lines.
//!
//! What matters by itself (programs, changes, connections, refusals) has a line of its own; what comes in
//! hundreds (opens for reading, look-ups that found nothing) is counted for each process between one exec and the
//! next. Denials are kept apart, because they are what people look for first.

use std::collections::HashMap;

use audit_verify::canonical::Record;

use super::text;

/// A line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it began: nanoseconds of CLOCK_MONOTONIC.
    pub mono_ns: u64,
    /// Whose: process id.
    pub pid: u64,
    /// One word.
    pub what: &'static str,
    /// The rest, safe to print.
    pub text: String,
}

/// Whether a denial took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The attempt failed.
    Blocked,
    /// It would have failed, had the policy been enforced.
    WouldBlock,
}

/// Attempts that a rule denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// When the first one was: nanoseconds of CLOCK_MONOTONIC.
    pub mono_ns: u64,
    /// How many attempts.
    pub count: u64,
    /// Whether it took effect.
    pub effect: Effect,
    /// What was attempted, on what, by what program: safe to print.
    pub text: String,
    /// The rule: safe to print.
    pub rule: String,
}

/// What [`Timeline::finish`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// In the order in which things began.
    pub entries: Vec<Entry>,
    /// In the order of their first attempts.
    pub denials: Vec<Denial>,
    /// Denied attempts beyond what [`Story::denials`] tells apart.
    pub more_denials: u64,
}

/// How much is told of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What comes in hundreds is counted.
    #[default]
    Counted,
    /// Every attempt has a line of its own.
    EveryFile,
}

/// How many distinct denials are told apart.
const DENIALS_MAX: usize = 1000;

/// How many lines one kind of change may take in one stretch of one process.
const CHANGES_MAX: usize = 6;

/// How many directories are named where files are counted.
const DIRECTORIES_NAMED: usize = 3;

/// How many directories of one stretch are counted apart.
const DIRECTORIES_KEPT: usize = 1000;

/// Reads events in order and tells their story.
#[derive(Debug, Default)]
pub struct Timeline {
    detail: Detail,
    story: Story,
    denial_at: HashMap<(Effect, String, String), usize>,
    stretches: HashMap<Vec<u8>, Stretch>,
}

/// What one process did since its last exec.
#[derive(Debug, Default)]
struct Stretch {
    pid: u64,
    read: Counted,
    missing: Counted,
    /// A program that was looked for and not found yet.
    sought: Option<Sought>,
    changes: Vec<Change>,
}

/// Executions of one name that found nothing: what is tried for each directory of PATH.
#[derive(Debug)]
struct Sought {
    /// The last component of what was tried.
    name: Vec<u8>,
    counted: Counted,
    /// The first of them.
    first: Entry,
}

impl Sought {
    /// As one that was found nowhere.
    fn told(self) -> Entry {
        match self.counted.count {
            1 => self.first,
            count => {
                let text =
                    format!("{} (ENOENT, tried {} times)", text::safe(&self.name), text::grouped(count));
                Entry { text, ..self.first }
            }
        }
    }
}

/// One kind of change in a stretch.
#[derive(Debug)]
struct Change {
    what: &'static str,
    counted: Counted,
    entries: Vec<Entry>,
}

/// Attempts on files, counted.
#[derive(Debug, Default)]
struct Counted {
    since: u64,
    count: u64,
    directories: HashMap<String, u64>,
}

impl Counted {
    fn add(&mut self, mono_ns: u64, path: &[u8], attempts: u64) {
        if self.count == 0 {
            self.since = mono_ns;
        }
        self.count += attempts;
        let directory = directory(path);
        if self.directories.len() < DIRECTORIES_KEPT || self.directories.contains_key(&directory) {
            *self.directories.entry(directory).or_default() += attempts;
        }
    }

    /// Takes over what another one counted.
    fn join(&mut self, other: Counted) {
        self.since = if self.count == 0 { other.since } else { self.since.min(other.since) };
        self.count += other.count;
        for (directory, count) in other.directories {
            if self.directories.len() < DIRECTORIES_KEPT || self.directories.contains_key(&directory) {
                *self.directories.entry(directory).or_default() += count;
            }
        }
    }

    /// `41 opens: /usr/lib 23, /etc 4, …`
    fn describe(&self, one: &str, many: &str) -> String {
        let mut directories: Vec<_> = self.directories.iter().collect();
        directories.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
        let named = directories.iter().take(DIRECTORIES_NAMED);
        let mut named: Vec<_> =
            named.map(|(directory, count)| format!("{directory} {}", text::grouped(**count))).collect();
        if directories.len() > DIRECTORIES_NAMED {
            named.push("…".to_owned());
        }
        let noun = if self.count == 1 { one } else { many };
        format!("{} {noun}: {}", text::grouped(self.count), named.join(", "))
    }
}

/// The parts of an event that every kind needs.
struct Seen<'e> {
    event: &'e Record<'e>,
    kind: &'e str,
    mono_ns: u64,
    pid: u64,
    ret: i64,
    attempts: u64,
}

impl Seen<'_> {
    fn entry(&self, what: &'static str, text: String) -> Entry {
        Entry { mono_ns: self.mono_ns, pid: self.pid, what, text }
    }
}

impl Timeline {
    /// One that has told nothing yet.
    pub fn new(detail: Detail) -> Self {
        Timeline { detail, ..Timeline::default() }
    }

    /// Takes the next event.
    pub fn add(&mut self, event: &Record<'_>) {
        let Some(kind) = event.text("event_type") else { return };
        let seen = Seen {
            event,
            kind,
            mono_ns: event.uint("mono_ns").unwrap_or(0),
            pid: event.uint("pid").unwrap_or(0),
            ret: event.int("ret").unwrap_or(0),
            attempts: event.uint("count").unwrap_or(1).max(1),
        };
        match event.text("action") {
            // Nothing came of it: the denial is all there is to say.
            Some("BLOCKED") => return self.deny(&seen, Effect::Blocked),
            Some("WOULD_BLOCK") => self.deny(&seen, Effect::WouldBlock),
            _ => {}
        }
        match kind {
            // The hash of a program is for programs: what was executed is told where it was.
            "run_start" | "run_end" | "fork" | "file_hash" => {}
            "file_change" => {
                if !is_unchanged(event) || self.detail == Detail::EveryFile {
                    self.change(&seen, "contents", contents(event));
                }
            }
            "gap" => {
                let reason = event.bytes("reason").map(text::safe).unwrap_or_default();
                let lost = text::grouped(event.uint("lost").unwrap_or(0));
                self.story.entries.push(seen.entry("LOST", format!("{lost} events ({reason})")));
            }
            "policy_apply" | "detection" | "ask" | "answer" => {
                let (what, text) = what_and_text(event);
                self.story.entries.push(seen.entry(what, text));
            }
            "exec" => self.exec(&seen),
            "exit" => self.exit(&seen),
            "file_open" => self.open(&seen),
            _ => {
                let text = format!("{}{}", object(event), result(seen.ret));
                self.change(&seen, verb(kind), text);
            }
        }
    }

    /// The story.
    pub fn finish(mut self) -> Story {
        for (_, stretch) in std::mem::take(&mut self.stretches) {
            self.tell(stretch);
        }
        // By pid too, so that the order does not depend on how processes were kept.
        self.story.entries.sort_by_key(|entry| (entry.mono_ns, entry.pid));
        self.story
    }

    /// One that found nothing waits for what comes of it: mostly the next directory of PATH has the program.
    fn exec(&mut self, seen: &Seen<'_>) {
        let entry = seen.entry("exec", exec_text(seen.event));
        if seen.ret == -i64::from(libc::ENOENT) && self.detail == Detail::Counted {
            return self.seek(seen, entry);
        }
        if seen.ret >= 0 {
            let stretch = self.stretch(seen);
            // What is found may be the target of a link; its first word is what was asked for.
            let argv = seen.event.list("argv").unwrap_or_default();
            let names = [seen.event.bytes("path"), argv.first().map(AsRef::as_ref)];
            if let Some(sought) = stretch
                .sought
                .take_if(|sought| names.into_iter().flatten().any(|name| last(name) == sought.name))
            {
                stretch.missing.join(sought.counted);
            }
            self.flush(seen.event);
        }
        self.story.entries.push(entry);
    }

    fn seek(&mut self, seen: &Seen<'_>, first: Entry) {
        let path = seen.event.bytes("path").unwrap_or_default();
        let stretch = self.stretch(seen);
        let before = stretch.sought.take_if(|sought| sought.name != last(path));
        let sought = stretch.sought.get_or_insert_with(|| Sought {
            name: last(path).to_vec(),
            counted: Counted::default(),
            first,
        });
        sought.counted.add(seen.mono_ns, path, seen.attempts);
        self.story.entries.extend(before.map(Sought::told));
    }

    fn exit(&mut self, seen: &Seen<'_>) {
        self.flush(seen.event);
        if let Some(how) = exit_text(seen.event) {
            self.story.entries.push(seen.entry("exit", how));
        }
    }

    fn open(&mut self, seen: &Seen<'_>) {
        let path = seen.event.bytes("path").unwrap_or_default();
        let writes = is_for_writing(seen.event);
        let counted = self.detail == Detail::Counted;
        if counted && seen.ret >= 0 && !writes {
            self.stretch(seen).read.add(seen.mono_ns, path, seen.attempts);
        } else if counted && seen.ret == -i64::from(libc::ENOENT) {
            self.stretch(seen).missing.add(seen.mono_ns, path, seen.attempts);
        } else {
            let what = if writes { "write" } else { "read" };
            self.change(seen, what, format!("{}{}", text::safe(path), result(seen.ret)));
        }
    }

    /// A change has a line of its own, until one stretch has too many of the same kind.
    fn change(&mut self, seen: &Seen<'_>, what: &'static str, mut text: String) {
        if self.detail == Detail::EveryFile {
            if seen.attempts > 1 {
                text = format!("{text} ×{}", text::grouped(seen.attempts));
            }
            return self.story.entries.push(seen.entry(what, text));
        }
        let path = seen.event.bytes("path").unwrap_or_default();
        let entry = seen.entry(what, text);
        let changes = &mut self.stretch(seen).changes;
        let at = changes.iter().position(|change| change.what == what).unwrap_or_else(|| {
            changes.push(Change { what, counted: Counted::default(), entries: Vec::new() });
            changes.len() - 1
        });
        let change = &mut changes[at];
        change.counted.add(seen.mono_ns, path, seen.attempts);
        let repeats = change.entries.last().is_some_and(|last| last.text == entry.text);
        if change.entries.len() <= CHANGES_MAX && !repeats {
            change.entries.push(entry);
        }
    }

    fn deny(&mut self, seen: &Seen<'_>, effect: Effect) {
        let event = seen.event;
        let rule = event.bytes("policy_rule").map_or_else(|| "?".to_owned(), text::safe);
        // An execution that succeeded is told by the new program, which did not ask for itself.
        let actor = event.bytes("exe").filter(|exe| seen.kind != "exec" || event.bytes("path") != Some(exe));
        let by = actor.map(|exe| format!(" by {}", text::safe(exe))).unwrap_or_default();
        let what = match seen.kind {
            "exec" => "exec",
            "file_open" if is_for_writing(event) => "write",
            "file_open" => "read",
            other => verb(other),
        };
        let text = format!("{what} {}{by}", object(event));
        let key = (effect, rule, text);
        if let Some(at) = self.denial_at.get(&key) {
            self.story.denials[*at].count += seen.attempts;
        } else if self.story.denials.len() < DENIALS_MAX {
            self.denial_at.insert(key.clone(), self.story.denials.len());
            let (effect, rule, text) = key;
            let denial = Denial { mono_ns: seen.mono_ns, count: seen.attempts, effect, text, rule };
            self.story.denials.push(denial);
        } else {
            self.story.more_denials += seen.attempts;
        }
    }

    fn stretch(&mut self, seen: &Seen<'_>) -> &mut Stretch {
        let process = seen.event.bytes("proc_id").unwrap_or_default().to_vec();
        let stretch = self.stretches.entry(process).or_default();
        stretch.pid = seen.pid;
        stretch
    }

    fn flush(&mut self, event: &Record<'_>) {
        if let Some(stretch) = self.stretches.remove(event.bytes("proc_id").unwrap_or_default()) {
            self.tell(stretch);
        }
    }

    fn tell(&mut self, stretch: Stretch) {
        let Stretch { pid, read, missing, sought, changes } = stretch;
        let entries = &mut self.story.entries;
        let mut push = |what, counted: &Counted, text| {
            entries.push(Entry { mono_ns: counted.since, pid, what, text });
        };
        if read.count > 0 {
            push("read", &read, read.describe("open", "opens"));
        }
        if missing.count > 0 {
            push("missing", &missing, missing.describe("look-up", "look-ups"));
        }
        self.story.entries.extend(sought.map(Sought::told));
        for change in changes {
            if change.entries.len() <= CHANGES_MAX {
                self.story.entries.extend(change.entries);
            } else {
                let text = change.counted.describe("time", "times");
                let Change { what, counted, .. } = change;
                self.story.entries.push(Entry { mono_ns: counted.since, pid, what, text });
            }
        }
    }
}

/// One event by itself: a word, and what it was about, safe to print.
pub(super) fn what_and_text(event: &Record<'_>) -> (&'static str, String) {
    let kind = event.text("event_type").unwrap_or_default();
    let safe = |key| event.bytes(key).map(text::safe).unwrap_or_default();
    let number = |key| event.uint(key).unwrap_or(0);
    match kind {
        "run_start" => ("start", text::command(event.list("command").unwrap_or_default())),
        "run_end" => ("end", format!("{} events, {} lost", number("events"), number("lost"))),
        "fork" => ("fork", format!("pid {}", number("child_pid"))),
        "gap" => ("LOST", format!("{} events ({})", text::grouped(number("lost")), safe("reason"))),
        "policy_apply" => ("policy", format!("{} ({})", safe("policy_name"), safe("reason"))),
        "detection" => ("NEW", safe("reason")),
        "ask" | "answer" => super::asking::what_and_text(event),
        "exec" => ("exec", exec_text(event)),
        "exit" => ("exit", exit_text(event).unwrap_or_else(|| "code 0".to_owned())),
        "file_change" => ("contents", contents(event)),
        "file_hash" => {
            ("hash", format!("{}: {}", safe("path"), side(event, "size", "sha256", "sha256_missing")))
        }
        _ => {
            let what = match kind {
                "file_open" if is_for_writing(event) => "write",
                "file_open" => "read",
                other => verb(other),
            };
            (what, format!("{}{}", object(event), result(event.int("ret").unwrap_or(0))))
        }
    }
}

/// How a process ended; nothing where it did well.
fn exit_text(event: &Record<'_>) -> Option<String> {
    let signal = event.int("signal").filter(|signal| *signal != 0).map(text::signal);
    let code = event.int("exit_code").filter(|code| *code != 0).map(|code| format!("code {code}"));
    signal.or(code)
}

fn exec_text(event: &Record<'_>) -> String {
    let ret = event.int("ret").unwrap_or(0);
    let mut text = match event.list("argv") {
        // A program that could not be executed is known by its path; its first word may be anything.
        Some(argv) if !argv.is_empty() && ret >= 0 => text::command(argv),
        _ => event.bytes("path").or(event.bytes("exe")).map(text::safe).unwrap_or_default(),
    };
    if event.flag("argv_truncated") == Some(true) {
        text.push_str(" …");
    }
    text + &result(ret)
}

/// Whether a file held the same before the run and after it.
fn is_unchanged(event: &Record<'_>) -> bool {
    event.text("sha256_before").is_some_and(|hash| event.text("sha256_after") == Some(hash))
}

/// What a file held before the run and after it.
fn contents(event: &Record<'_>) -> String {
    let path = event.bytes("path").map(text::safe).unwrap_or_default();
    let before = side(event, "size_before", "sha256_before", "before_missing");
    let after = side(event, "size_after", "sha256_after", "after_missing");
    if is_unchanged(event) {
        return format!("{path}: as before, {after}");
    }
    match (event.text("before_missing"), event.text("after_missing")) {
        (Some("did not exist"), Some("gone")) => format!("{path}: new, and gone"),
        (Some("did not exist"), _) => format!("{path}: new, {after}"),
        (_, Some("gone")) => format!("{path}: gone, was {before}"),
        _ => format!("{path}: {before} → {after}"),
    }
}

/// Size and the beginning of the hash, as far as they are known, or why they are not.
fn side(event: &Record<'_>, size: &str, sha256: &str, missing: &str) -> String {
    /// Digits that tell files apart for a reader; the log has them all.
    const DIGITS: usize = 12;
    let size = event.uint(size).map(|size| format!("{} bytes", text::grouped(size)));
    let hash = event.bytes(sha256).map(|hash| text::safe(&hash[..hash.len().min(DIGITS)]));
    let missing = event.bytes(missing).map(|why| format!("({})", text::safe(why)));
    [size, hash, missing].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What an event was about: path or paths, or an address.
fn object(event: &Record<'_>) -> String {
    let path = event.bytes("path").map(text::safe);
    let path2 = event.bytes("path2").map(text::safe);
    if let (Some(from), Some(to)) = (&path, &path2) {
        return format!("{from} → {to}");
    }
    let host = event.bytes("host").map(text::safe);
    if let (Some("dns_answer"), Some(host)) = (event.text("event_type"), &host) {
        return answered(event, host);
    }
    let own = matches!(event.text("event_type"), Some("net_bind" | "net_listen"));
    let (address, port) = if own { ("src_ip", "src_port") } else { ("dst_ip", "dst_port") };
    if let Some(ip) = event.bytes(address).map(text::safe) {
        let port = event.uint(port).map(|port| format!(":{port}")).unwrap_or_default();
        // TCP, and what is spoken over it, goes without saying.
        let protocol = event.text("proto").filter(|proto| matches!(*proto, "udp" | "udplite"));
        let protocol = protocol.map(|proto| format!("/{proto}")).unwrap_or_default();
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
        let end = format!("{ip}{port}{protocol}");
        let told = event.bytes("sni").map(text::safe);
        // A connection that tells the name by which its end is known is not told of twice.
        let host = host.filter(|host| told.as_ref() != Some(host));
        let named = host.map(|host| format!("{host} ({end})")).unwrap_or(end);
        let moved = event.uint("bytes_out").zip(event.uint("bytes_in"));
        return match (told, moved) {
            (Some(name), _) => format!("{name} at {named}"),
            // A narrow terminal cuts the end of the line.
            (None, Some((sent, received))) => {
                format!("{} bytes out, {} in: {named}", text::grouped(sent), text::grouped(received))
            }
            (None, None) => named,
        };
    }
    let other = event.bytes("family").or(event.bytes("syscall")).map(text::safe);
    path.or(path2).or(other).unwrap_or_default()
}

/// A question, and what came of it.
fn answered(event: &Record<'_>, host: &str) -> String {
    let question = event.bytes("question").map(text::safe).unwrap_or_default();
    let answers: Vec<String> =
        event.list("answers").unwrap_or_default().iter().map(|answer| text::safe(answer)).collect();
    let answer = match (answers.is_empty(), event.bytes("rcode").map(text::safe)) {
        (false, _) => answers.join(", "),
        (true, Some(code)) if code != "NOERROR" => code,
        (true, _) => "nothing".to_owned(),
    };
    format!("{host} {question} → {answer}")
}

fn result(ret: i64) -> String {
    match ret {
        0.. => String::new(),
        // A connection that is under way is no failure.
        ret if ret == -i64::from(libc::EINPROGRESS) => String::new(),
        ret => format!(" ({})", text::errno(ret.saturating_neg())),
    }
}

fn verb(kind: &str) -> &'static str {
    match kind {
        "file_create" => "create",
        "file_delete" => "delete",
        "file_rename" => "rename",
        "file_link" => "link",
        "file_symlink" => "symlink",
        "file_truncate" => "truncate",
        "file_receive" => "receive",
        "file_mode" => "chmod",
        "file_owner" => "chown",
        "file_times" => "utimes",
        "file_xattr" => "xattr",
        "file_flags" => "chattr",
        "dir_create" => "mkdir",
        "dir_delete" => "rmdir",
        "net_connect" => "connect",
        "net_send" => "send",
        "net_accept" => "accept",
        "net_bind" => "bind",
        "net_listen" => "listen",
        "net_close" => "close",
        "net_name" => "name",
        "net_socket" => "socket",
        "dns_answer" => "ask",
        "proc_io_uring" => "io_uring",
        "proc_compat" => "32-bit",
        _ => "other",
    }
}

/// Whether an open asked for more than reading.
fn is_for_writing(event: &Record<'_>) -> bool {
    let writes = |word: &[u8]| matches!(word, b"write" | b"create" | b"append" | b"truncate");
    if let Some(access) = event.list("access") {
        return access.iter().any(|access| writes(access));
    }
    if let Some(access) = event.bytes("access") {
        return access.split(|byte| !byte.is_ascii_alphabetic()).any(writes);
    }
    // O_WRONLY and O_RDWR, on every architecture.
    event.uint("flags").is_some_and(|flags| flags & 0o3 != 0)
}

/// The last component of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The first two components of a file's directory: enough to say where files came from.
fn directory(path: &[u8]) -> String {
    let parent = match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => &path[..1],
        Some(at) => &path[..at],
        None => b".",
    };
    let slashes = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let end = slashes.map(|(at, _)| at).nth(2).unwrap_or(parent.len());
    text::safe(&parent[..end])
}
