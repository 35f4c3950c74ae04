//! What writing a log costs beyond its hashes: the log's own writer against SHA-256 of the same messages.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sandbox::record::{LogWriter, RunEnd};
use sha2::{Digest, Sha256};

use super::clock::{Cost, costs};
use super::events::{AGENT, RUN, events, start};

/// Events that are made at once, outside of what is measured.
const CHUNK: u64 = 50_000;

/// Events that the writer gets at once, as the collector hands them over.
const BATCH: usize = 1024;

/// How often the log is made durable, as in a run.
const SYNC: Duration = Duration::from_millis(100);

/// Costs of the same events.
#[derive(Default)]
pub struct Costs {
    /// SHA-256 of the messages that lines hash, one after the other and nothing else.
    pub floor: Cost,
    /// The writer, to /dev/null.
    pub null: Cost,
    /// The writer, to a file.
    pub file: Cost,
    /// The writer, to a file that is made durable every 100 ms.
    pub durable: Cost,
}

/// Writes a log of `count` events to `path`.
pub fn write_log(path: &Path, count: u64) {
    let mut log = writer(path);
    for from in (1..count - 1).step_by(CHUNK as usize) {
        append(&mut log, &mut events(from, CHUNK.min(count - 1 - from)));
    }
    log.seal(&RunEnd { exit_code: Some(0), reason: "exit".into(), ..RunEnd::default() }, None).expect("the seal");
}

/// Measures all variants chunk by chunk in turn, so that a machine which slows down slows them all.
pub fn measure(directory: &Path, count: u64) -> Costs {
    let paths = ["null", "file", "durable"].map(|name| directory.join(name));
    let [mut null, mut file, mut durable] =
        [writer(Path::new("/dev/null")), writer(&paths[1]), writer(&paths[2])];
    let synced = File::open(&paths[2]).expect("the log to sync");
    let all = Costs::default();
    let mut all = all;
    for from in (1..=count).step_by(CHUNK as usize) {
        let chunk = CHUNK.min(count + 1 - from);
        let messages = messages(directory, from, chunk);
        all.floor += costs(|| {
            for message in &messages {
                std::hint::black_box(Sha256::digest(message));
            }
        });
        let mut made = events(from, chunk);
        all.null += costs(|| append(&mut null, &mut made));
        let mut made = events(from, chunk);
        all.file += costs(|| append(&mut file, &mut made));
        let mut made = events(from, chunk);
        let over = AtomicBool::new(false);
        all.durable += costs(|| {
            thread::scope(|scope| {
                let syncer = scope.spawn(|| {
                    while !over.load(Ordering::Acquire) {
                        thread::park_timeout(SYNC);
                        synced.sync_data().expect("fdatasync");
                    }
                });
                append(&mut durable, &mut made);
                over.store(true, Ordering::Release);
                syncer.thread().unpark();
            });
        });
    }
    all
}

/// A log that has its first line.
fn writer(path: &Path) -> LogWriter<File> {
    let file = File::create(path).expect("a file for the log");
    let mut log = LogWriter::new(file, RUN, AGENT);
    log.append(&mut vec![start()]).expect("write to the log");
    log
}

fn append(log: &mut LogWriter<File>, made: &mut Vec<sandbox::event::Event>) {
    let mut rest = made.drain(..);
    loop {
        let mut batch: Vec<_> = rest.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return;
        }
        log.append(&mut batch).expect("write to the log");
    }
}

/// What the lines of these events hash: themselves without `hash_self`.
fn messages(directory: &Path, from: u64, count: u64) -> Vec<Vec<u8>> {
    let path = directory.join("messages");
    let mut log = writer(&path);
    append(&mut log, &mut events(from, count));
    let text = fs::read(&path).expect("the log");
    let without_itself = |line: &[u8]| {
        const MEMBER: &[u8] = b", \"hash_self\": \"";
        let at = line.windows(MEMBER.len()).position(|window| window == MEMBER).expect("a hash");
        [&line[..at], &line[at + MEMBER.len() + 65..]].concat()
    };
    text.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()).map(without_itself).collect()
}
