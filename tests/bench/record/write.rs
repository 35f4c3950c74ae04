//! What writing a log costs beyond its hashes: the log's own writer against SHA-256 of the same messages.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sandbox::event::Event;
use sandbox::record::{LogWriter, RunEnd};
use sha2::{Digest, Sha256};

use super::clock::{Cost, costs};
use super::events::{AGENT, RUN, events, start};

/// Events that the writer gets at once, as the collector hands them over. They are made just before, outside of what is
/// measured, so that they are in the processor's cache as they are in a run.
const BATCH: u64 = 256;

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
    for from in (1..count - 1).step_by(BATCH as usize) {
        append(&mut log, &mut events(from, BATCH.min(count - 1 - from)));
    }
    log.seal(&RunEnd { exit_code: Some(0), reason: "exit".into(), ..RunEnd::default() }, None)
        .expect("the seal");
}

/// Measures all variants batch by batch in turn, so that a machine which slows down slows them all.
pub fn measure(directory: &Path, count: u64) -> Costs {
    let paths = ["file", "durable"].map(|name| directory.join(name));
    let mut null = writer(Path::new("/dev/null"));
    let [mut file, mut durable] = paths.each_ref().map(|path| writer(path));
    let synced = File::open(&paths[1]).expect("the log to sync");
    let over = AtomicBool::new(false);
    let mut all = Costs::default();
    thread::scope(|scope| {
        let syncer = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                thread::park_timeout(SYNC);
                synced.sync_data().expect("fdatasync");
            }
        });
        for from in (1..=count).step_by(BATCH as usize) {
            let batch = || events(from, BATCH.min(count + 1 - from));
            let messages = messages(directory, &mut batch());
            all.floor += costs(|| {
                for message in &messages {
                    std::hint::black_box(Sha256::digest(message));
                }
            });
            for (log, cost) in
                [(&mut null, &mut all.null), (&mut file, &mut all.file), (&mut durable, &mut all.durable)]
            {
                let mut made = batch();
                *cost += costs(|| append(log, &mut made));
            }
        }
        over.store(true, Ordering::Release);
        syncer.thread().unpark();
    });
    all
}

/// A log that has its first line.
fn writer(path: &Path) -> LogWriter<File> {
    let file = File::create(path).expect("a file for the log");
    let mut log = LogWriter::new(file, RUN, AGENT);
    log.append(&mut vec![start()]).expect("write to the log");
    log
}

fn append(log: &mut LogWriter<File>, made: &mut Vec<Event>) {
    log.append(made).expect("write to the log");
}

/// What the lines of these events hash: themselves without `hash_self`.
fn messages(directory: &Path, made: &mut Vec<Event>) -> Vec<Vec<u8>> {
    let path = directory.join("messages");
    append(&mut writer(&path), made);
    let text = fs::read(&path).expect("the log");
    let without_itself = |line: &[u8]| {
        const MEMBER: &[u8] = b", \"hash_self\": \"";
        let at = line.windows(MEMBER.len()).position(|window| window == MEMBER).expect("a hash");
        [&line[..at], &line[at + MEMBER.len() + 65..]].concat()
    };
    text.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()).map(without_itself).collect()
}
