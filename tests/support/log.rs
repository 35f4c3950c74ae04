//! Reading a log back: its lines as records, and its events as attempts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use audit_verify::canonical::Record;

use crate::attempt::{Attempt, Kind, Made};

/// A log in memory.
#[derive(Debug)]
pub struct Log {
    bytes: Vec<u8>,
}

/// An attempt as a log tells it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The attempt.
    pub attempt: Attempt,
    /// Whether it made the file.
    pub made: Made,
    /// The program that an exec started.
    pub exe: Option<Vec<u8>>,
    /// The log says that argv is longer than what stands in it.
    pub argv_truncated: bool,
    /// How many attempts the line stands for.
    pub count: u64,
    /// Line in the log, from 1.
    pub line: usize,
}

impl Log {
    /// Reads `events.jsonl` of a run.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    #[track_caller]
    pub fn of_run(run: &Path) -> Self {
        let path = run.join("events.jsonl");
        let bytes = std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        Log { bytes }
    }

    /// Each line with its number, from 1.
    ///
    /// # Panics
    ///
    /// At a line that is not canonical.
    pub fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        let lines = self.bytes.split_inclusive(|&b| b == b'\n').enumerate();
        lines.map(|(index, line)| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let record = Record::parse(line);
            (index + 1, record.unwrap_or_else(|why| panic!("line {} of the log: {why:?}", index + 1)))
        })
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.records().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The last line, which must be the seal.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn seal(&self) -> Record<'_> {
        let (_, last) = self.records().last().expect("a log with lines");
        assert_eq!(last.text("event_type"), Some("run_end"), "the last line is the seal");
        last
    }

    /// The attempts of these processes that are of a compared kind.
    pub fn attempts(&self, pids: &BTreeSet<u32>) -> Vec<Logged> {
        self.records().filter_map(|(line, record)| attempt(line, &record, pids, None)).collect()
    }

    /// As [`Log::attempts`], from a log that need not know what came of them; where it does not, `ret` is 0.
    pub fn attempts_without_results(&self, pids: &BTreeSet<u32>) -> Vec<Logged> {
        self.records().filter_map(|(line, record)| attempt(line, &record, pids, Some(0))).collect()
    }
}

fn attempt(line: usize, record: &Record<'_>, pids: &BTreeSet<u32>, unknown: Option<i64>) -> Option<Logged> {
    let kind = match record.text("event_type")? {
        "exec" => Kind::Exec,
        "file_open" | "file_create" => Kind::Open,
        "file_delete" => Kind::Unlink,
        "file_rename" => Kind::Rename,
        "net_connect" => Kind::Connect,
        "dir_create" => Kind::Mkdir,
        "dir_delete" => Kind::Rmdir,
        "file_link" => Kind::Link,
        "file_symlink" => Kind::Symlink,
        _ => return None,
    };
    let pid = u32::try_from(record.uint("pid")?).ok().filter(|pid| pids.contains(pid))?;
    let bytes = |key: &str| record.bytes(key).map(<[u8]>::to_vec);
    let ip = record.text("dst_ip").map(|ip| {
        ip.parse::<IpAddr>().unwrap_or_else(|why| panic!("line {line} of the log: dst_ip {ip}: {why}"))
    });
    let port = record.uint("dst_port").and_then(|port| u16::try_from(port).ok());
    let ret = record.int("ret").or(unknown).unwrap_or_else(|| panic!("line {line} of the log: no ret"));
    let mut attempt = Attempt {
        pid,
        kind,
        path: bytes("path"),
        path2: bytes("path2"),
        argv: if kind == Kind::Exec { record.list("argv").map(<[Vec<u8>]>::to_vec) } else { None },
        address: ip.map(|ip| (ip.to_canonical(), port.unwrap_or(0))),
        family: if kind == Kind::Connect { family(record) } else { None },
        ret,
    };
    attempt.settle();
    let made = if record.text("event_type") == Some("file_create") { Made::Yes } else { Made::No };
    Some(Logged {
        attempt,
        made,
        exe: bytes("exe"),
        argv_truncated: record.flag("argv_truncated") == Some(true),
        count: record.uint("count").unwrap_or(1),
        line,
    })
}

fn family(record: &Record<'_>) -> Option<i64> {
    record.int("family").or_else(|| match record.text("family")? {
        "unspec" => Some(0),
        "unix" => Some(1),
        "inet" => Some(2),
        "inet6" => Some(10),
        "netlink" => Some(16),
        _ => None,
    })
}
