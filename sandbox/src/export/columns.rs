//! The columns of the tables that are written, CSV and Parquet.
//!
//! They are fixed, so that tables of several runs fit each other. A key that has no column, or has a value of another
//! kind than its column, stands in the last one, `more`.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer that fits `i64`.
    Integer,
    /// An integer of 64 bits that is not negative.
    Unsigned,
    /// True or false.
    Flag,
    /// A point in time, as `timestamp` of the log has it.
    Time,
    /// Text.
    Text,
    /// A list of texts.
    List,
}

/// A column of the same name as its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The key in the log.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
}

const fn column(key: &'static str, kind: Kind) -> Column {
    Column { key, kind }
}

/// The column with the keys whose text stands as the log's own escapes.
pub use super::entry::ESCAPED;

/// The column with everything else, as one object of JSON in the log's own bytes.
pub const MORE: &str = "more";

/// The columns, in their order; [`ESCAPED`] and [`MORE`] follow.
pub const COLUMNS: &[Column] = {
    use Kind::{Flag, Integer, List, Text, Time, Unsigned};
    &[
        column("seq", Unsigned),
        column("timestamp", Time),
        column("run_id", Text),
        column("agent_id", Text),
        column("event_type", Text),
        column("action", Text),
        column("pid", Integer),
        column("proc_id", Text),
        column("ppid", Integer),
        column("uid", Integer),
        column("exe", Text),
        column("comm", Text),
        column("ret", Integer),
        column("path", Text),
        column("path2", Text),
        column("target", Text),
        column("access", List),
        column("argv", List),
        column("cwd", Text),
        column("family", Text),
        column("proto", Text),
        column("dst_ip", Text),
        column("dst_port", Integer),
        column("src_ip", Text),
        column("src_port", Integer),
        column("host", Text),
        column("sni", Text),
        column("bytes_out", Unsigned),
        column("bytes_in", Unsigned),
        column("question", Text),
        column("rcode", Text),
        column("answers", List),
        column("ttl", Integer),
        column("own", Flag),
        column("ech", Flag),
        column("policy_rule", Text),
        column("because", Text),
        column("layer", Text),
        column("reason", Text),
        column("syscall", Text),
        column("flags", Unsigned),
        column("ino", Unsigned),
        column("dev", Unsigned),
        column("file_mode", Unsigned),
        column("owner", Integer),
        column("group_id", Integer),
        column("exe_ino", Unsigned),
        column("exe_dev", Unsigned),
        column("exe_sha256", Text),
        column("child_pid", Integer),
        column("child_proc_id", Text),
        column("target_pid", Integer),
        column("exit_code", Integer),
        column("signal", Integer),
        column("argv_truncated", Flag),
        column("argv_redacted", Flag),
        column("path_truncated", Flag),
        column("count", Unsigned),
        column("last_mono_ns", Unsigned),
        column("lost", Unsigned),
        column("command", List),
        column("user", Text),
        column("hostname", Text),
        column("machine_id", Text),
        column("boot_id", Text),
        column("kernel", Text),
        column("version", Text),
        column("mode", Text),
        column("layers", List),
        column("credentials", List),
        column("unheld", List),
        column("variables", List),
        column("tmp_private", List),
        column("tmp_kept", List),
        column("store", Text),
        column("run_dir", Text),
        column("policy_name", Text),
        column("policy_sha256", Text),
        column("nonce", Text),
        column("ledger_prev", Text),
        column("events", Unsigned),
        column("folded", Unsigned),
        column("blocked", Unsigned),
        column("left_running", Unsigned),
        column("duration_ns", Unsigned),
        column("head", Text),
        column("merkle_root", Text),
        column("signature", Text),
        column("key_id", Text),
        column("mono_ns", Unsigned),
        column("kseq", Unsigned),
        column("v", Integer),
        column("hash_prev", Text),
        column("hash_self", Text),
    ]
};
