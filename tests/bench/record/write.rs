//! What writing a log costs beyond its hashes: the log's own writer against SHA-256 of the same messages.
//!
//! As in a run, one thread makes lines of events and another one chains and writes them. The events are a few thousand
//! that come again and again, so that they are in the processor's cache as those are that were just decoded.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sandbox::event::Event;
use sandbox::record::{LineBatch, LineWriter, LogWriter, RunEnd};
use sha2::{Digest, Sha256};

use super::clock::{Cost, costs, keep_pace};
use super::events::{AGENT, BATCH, RUN, events, start};

/// Batches of events that come again and again.
const BATCHES: u64 = 16;

/// Batches that wait for the thread that writes, as in a run.
const QUEUE: usize = 16;

/// How often the log is made durable, as in a run.
const SYNC: Duration = Duration::from_millis(100);

/// Costs of the same number of events, by round.
#[derive(Default)]
pub struct Costs {
    /// SHA-256 of the messages that lines hash, one after the other and nothing else.
    pub floor: Vec<Cost>,
    /// Making lines of events and nothing else.
    pub lines: Vec<Cost>,
    /// Chaining lines that are made, to /dev/null.
    pub chain: Vec<Cost>,
    /// The writer, to /dev/null.
    pub null: Vec<Cost>,
    /// The writer, to a file.
    pub file: Vec<Cost>,
    /// The writer, to a file that is made durable when it is written.
    pub kept: Vec<Cost>,
    /// The writer, to a file that is made durable every 100 ms, and when it is written.
    pub durable: Vec<Cost>,
    /// The writer at [`PACE`], to a file.
    pub paced: Vec<Cost>,
    /// The writer at [`PACE`], to a file that is made durable every 100 ms, and when it is written.
    pub paced_durable: Vec<Cost>,
}

/// Events a second of a log that the disk can follow.
pub const PACE: u32 = 200_000;

/// When a log is made durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Never,
    AtTheEnd,
    Meanwhile,
}

/// Writes a log of `count` events to `path`.
pub fn write_log(path: &Path, count: u64) {
    let mut log = writer(path);
    for from in (1..count - 1).step_by(BATCH as usize) {
        log.append(&lines(&events(from, BATCH.min(count - 1 - from)))).expect("write to the log");
    }
    log.seal(&RunEnd { exit_code: Some(0), reason: "exit".into(), ..RunEnd::default() }, None)
        .expect("the seal");
}

/// Measures all variants in turn with about `count` events each, in so many rounds.
pub fn measure(directory: &Path, count: u64, rounds: usize) -> Costs {
    let batches: Vec<_> = (0..BATCHES).map(|number| events(1 + number * BATCH, BATCH)).collect();
    let messages = messages(directory, &batches.concat());
    let times = (count / (BATCH * BATCHES)).max(1);
    let path = directory.join("written");
    let mut all = Costs::default();
    // The first round warms up.
    for round in 0..=rounds {
        let floor = costs(|| {
            for message in (0..times).flat_map(|_| &messages) {
                std::hint::black_box(Sha256::digest(message));
            }
        });
        let made = costs(|| make(&batches, times));
        let chain = costs(|| chain(&batches, times));
        let null = costs(|| write(Path::new("/dev/null"), &batches, times, Sync::Never, None));
        let to_file = |(sync, pace)| {
            let cost = costs(|| write(&path, &batches, times, sync, pace));
            fs::remove_file(&path).expect("remove the log");
            cost
        };
        let [file, kept, durable, paced, paced_durable] = [
            (Sync::Never, None),
            (Sync::AtTheEnd, None),
            (Sync::Meanwhile, None),
            (Sync::Never, Some(PACE)),
            (Sync::Meanwhile, Some(PACE)),
        ]
        .map(to_file);
        if round > 0 {
            all.floor.push(floor);
            all.lines.push(made);
            all.chain.push(chain);
            all.null.push(null);
            all.file.push(file);
            all.kept.push(kept);
            all.durable.push(durable);
            all.paced.push(paced);
            all.paced_durable.push(paced_durable);
        }
    }
    all
}

/// Makes lines of the events of `batches`, so many times over.
fn make(batches: &[Vec<Event>], times: u64) {
    let (mut lines, mut batch) = (LineWriter::new(RUN, AGENT), LineBatch::default());
    for events in (0..times).flat_map(|_| batches) {
        batch.clear();
        events.iter().for_each(|event| lines.add(event, &mut batch));
        std::hint::black_box(&batch);
    }
}

/// Chains the lines of `batches`, so many times over, and writes them to /dev/null.
fn chain(batches: &[Vec<Event>], times: u64) {
    let batches: Vec<_> = batches.iter().map(|events| lines(events)).collect();
    let mut log = writer(Path::new("/dev/null"));
    for batch in (0..times).flat_map(|_| &batches) {
        log.append(batch).expect("write to the log");
    }
}

/// Writes a log of the events of `batches`, so many times over, at most `pace` events a second.
fn write(path: &Path, batches: &[Vec<Event>], times: u64, sync: Sync, pace: Option<u32>) {
    let mut log = writer(path);
    let over = AtomicBool::new(false);
    let (queue, requests) = sync_channel::<LineBatch>(QUEUE);
    let (give, spent) = channel::<LineBatch>();
    thread::scope(|scope| {
        let syncer = (sync == Sync::Meanwhile).then(|| {
            let over = &over;
            scope.spawn(move || {
                let file = File::open(path).expect("the log to sync");
                while !over.load(Ordering::Acquire) {
                    thread::park_timeout(SYNC);
                    file.sync_data().expect("fdatasync");
                }
            })
        });
        let writing = scope.spawn(move || {
            for mut batch in requests {
                log.append(&batch).expect("write to the log");
                batch.clear();
                let _ = give.send(batch);
            }
        });
        let mut lines = LineWriter::new(RUN, AGENT);
        let start = Instant::now();
        for (number, events) in (0..).zip((0..times).flat_map(|_| batches)) {
            keep_pace(start, pace, number * BATCH);
            let mut batch = spent.try_recv().unwrap_or_default();
            events.iter().for_each(|event| lines.add(event, &mut batch));
            queue.send(batch).expect("the thread that writes");
        }
        drop(queue);
        writing.join().expect("the thread that writes");
        over.store(true, Ordering::Release);
        if let Some(syncer) = syncer {
            syncer.thread().unpark();
        }
    });
    if sync == Sync::AtTheEnd {
        File::open(path).and_then(|file| file.sync_data()).expect("fdatasync");
    }
}

/// A log that has its first line.
fn writer(path: &Path) -> LogWriter<File> {
    let file = File::create(path).expect("a file for the log");
    let mut log = LogWriter::new(file, RUN, AGENT);
    log.append(&lines(&[start()])).expect("write to the log");
    log
}

fn lines(events: &[Event]) -> LineBatch {
    let (mut writer, mut batch) = (LineWriter::new(RUN, AGENT), LineBatch::default());
    events.iter().for_each(|event| writer.add(event, &mut batch));
    batch
}

/// What the lines of these events hash: themselves without `hash_self`.
fn messages(directory: &Path, made: &[Event]) -> Vec<Vec<u8>> {
    let path = directory.join("messages");
    writer(&path).append(&lines(made)).expect("write to the log");
    let text = fs::read(&path).expect("the log");
    let without_itself = |line: &[u8]| {
        const MEMBER: &[u8] = b", \"hash_self\": \"";
        let at = line.windows(MEMBER.len()).position(|window| window == MEMBER).expect("a hash");
        [&line[..at], &line[at + MEMBER.len() + 65..]].concat()
    };
    text.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()).map(without_itself).collect()
}
