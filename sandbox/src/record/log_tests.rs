//! The log's writer against a sink that fails in every way a disk can.

use std::io;

use audit_verify::canonical::Record;

use super::*;

/// Takes what a script says: `Ok(n)` at most n bytes, `Err(errno)`; everything when the script is over.
#[derive(Debug, Default)]
struct Scripted {
    taken: Vec<u8>,
    script: std::collections::VecDeque<Result<usize, i32>>,
}

impl Sink for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = match self.script.pop_front() {
            None => bytes.len(),
            Some(Ok(most)) => bytes.len().min(most),
            Some(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
        };
        self.taken.extend_from_slice(&bytes[..length]);
        Ok(length)
    }
}

fn writer(script: &[Result<usize, i32>]) -> LogWriter<Scripted> {
    let sink = Scripted { taken: Vec::new(), script: script.iter().copied().collect() };
    LogWriter::new(sink, "20260101-000000-test", "test")
}

fn event(action: Action) -> Event {
    let mut event = runner_event(EventType::FileOpen, ProcId { pid: 7, start_ns: 9 });
    event.action = action;
    event.set(Key::Path, Value::Bytes(b"/etc/\xff".to_vec()));
    event
}

/// The lines of some events.
fn lines(events: &[Event]) -> LineBatch {
    let mut batch = LineBatch::default();
    let mut writer = LineWriter::new("20260101-000000-test", "test");
    events.iter().for_each(|event| writer.add(event, &mut batch));
    batch
}

fn batch(count: usize) -> LineBatch {
    lines(&vec![event(Action::Observed); count])
}

/// The whole lines of a log, each proven canonical and linked to the one before it.
fn chained(log: &[u8]) -> Vec<Record<'_>> {
    let mut prev = "0".repeat(64);
    let mut records = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
        let record = Record::parse(line).unwrap();
        assert_eq!(record.text("hash_prev"), Some(&*prev));
        assert_eq!(record.uint("seq"), Some(records.len() as u64 + 1));
        prev = record.text("hash_self").unwrap().to_owned();
        records.push(record);
    }
    records
}

#[test]
fn the_seal_counts_what_stands_in_the_log() {
    let mut log = writer(&[]);
    log.append(&batch(3)).unwrap();
    let mut folded = event(Action::Blocked);
    folded.set(Key::Count, Value::Uint(10));
    let mut gap = runner_event(EventType::Gap, ProcId::default());
    gap.set(Key::Lost, Value::Uint(4));
    log.append(&lines(&[folded, event(Action::Blocked), event(Action::WouldBlock), gap])).unwrap();
    let end = RunEnd {
        exit_code: Some(3),
        reason: "exit".into(),
        left_running: 2,
        duration_ns: 5,
        process: ProcId { pid: 7, start_ns: 9 },
        signal: None,
    };
    let sealed = log.seal(&end, None).unwrap();
    assert_eq!(sealed.counts, Counts { events: 8, folded: 9, lost: 4, blocked: 11, would_block: 1 });

    let records = chained(&log.sink.taken);
    let seal = records.last().unwrap();
    assert_eq!(seal.text("event_type"), Some("run_end"));
    assert_eq!(seal.text("head"), records[6].text("hash_self"));
    assert_eq!(seal.text("hash_self"), Some(&*sealed.head));
    for (key, value) in
        [("events", 8), ("folded", 9), ("lost", 4), ("blocked", 11), ("exit_code", 3), ("left_running", 2)]
    {
        assert_eq!(seal.uint(key), Some(value), "{key}");
    }
    assert_eq!(seal.get("signal"), None);
    let mut tree = Tree::default();
    records[..7].iter().for_each(|record| tree.push(&record.text("hash_self").unwrap().parse().unwrap()));
    assert_eq!(
        seal.text("merkle_root"),
        Some(tree.root().as_str()),
        "the root over all lines before the seal"
    );
}

/// At whatever byte writing stops, and whichever error stops it, the bytes in the sink are the beginning of
/// one chain, and the rest follows when writing is possible again, with a gap for what came meanwhile.
#[test]
fn a_failure_at_every_byte_leaves_one_chain() {
    let whole = {
        let mut log = writer(&[]);
        log.append(&batch(2)).unwrap();
        log.sink.taken.len()
    };
    for errno in [libc::ENOSPC, libc::EIO] {
        for stop in 1..whole {
            let mut log = writer(&[Ok(stop), Err(errno), Err(errno)]);
            let error = log.append(&batch(2)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno));
            assert_eq!(log.sink.taken.len(), stop);
            let stored = chained(&log.sink.taken).len() as u64;
            assert_eq!(log.written_seq(), stored, "an event counts as written when its line is whole");

            assert!(log.append(&batch(5)).is_err());
            assert!(!log.is_whole());
            assert_eq!(log.counts().lost, 5);

            log.append(&batch(1)).unwrap();
            assert!(log.is_whole());
            let records = chained(&log.sink.taken);
            let types: Vec<_> = records.iter().map(|record| record.text("event_type").unwrap()).collect();
            assert_eq!(types, ["file_open", "file_open", "gap", "file_open"]);
            assert_eq!(records[2].uint("lost"), Some(5));
            assert_eq!(log.written_seq(), 4);
        }
    }
}

#[test]
fn what_could_not_be_written_is_never_sealed() {
    let mut log = writer(&[Ok(10), Err(libc::ENOSPC), Err(libc::ENOSPC)]);
    log.append(&batch(1)).unwrap_err();
    let error = log.seal(&RunEnd::default(), None).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(log.sink.taken.len(), 10);

    log.seal(&RunEnd::default(), None).unwrap();
    assert_eq!(chained(&log.sink.taken).last().unwrap().text("event_type"), Some("run_end"));
}

#[test]
fn a_batch_that_fails_half_way_counts_the_rest() {
    // Each event is larger than what is formatted before a write, so that the first write is of one event.
    let mut log = writer(&[Err(libc::ENOSPC)]);
    let mut large = event(Action::Observed);
    large.set(Key::Argv, Value::Bytes(vec![b'x'; WRITE_SIZE]));
    log.append(&lines(&[large.clone(), large.clone(), large])).unwrap_err();
    log.append(&batch(0)).unwrap();
    let records = chained(&log.sink.taken);
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].uint("lost"), Some(2));
    assert_eq!(records[1].text("reason"), Some("log: no space left"));
}

#[test]
fn interruptions_are_tried_again_and_nothing_taken_is_an_error() {
    let mut log = writer(&[Err(libc::EINTR), Ok(1), Err(libc::EINTR)]);
    log.append(&batch(1)).unwrap();
    assert_eq!(chained(&log.sink.taken).len(), 1);

    let mut log = writer(&[Ok(0)]);
    let error = log.append(&batch(1)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn an_event_that_fits_no_line_becomes_a_gap() {
    let mut log = writer(&[]);
    let mut twice = event(Action::Observed);
    twice.details.push((Key::Path, Value::Bytes(b"/other".to_vec())));
    let mut long = event(Action::Observed);
    long.set(Key::Argv, Value::Bytes(vec![b'x'; audit_verify::canonical::LINE_MAX]));
    log.append(&lines(&[twice, long, event(Action::Observed)])).unwrap();
    let records = chained(&log.sink.taken);
    let types: Vec<_> = records.iter().map(|record| record.text("event_type").unwrap()).collect();
    assert_eq!(types, ["gap", "gap", "file_open"]);
    assert_eq!(log.counts().lost, 2);
    assert!(records[0].text("reason").unwrap().starts_with("file_open: key `path`"));
}

#[test]
fn a_gap_that_is_dropped_takes_its_number_along() {
    let mut log = writer(&[Err(libc::EIO), Err(libc::EIO)]);
    log.append(&batch(1)).unwrap_err();
    let mut gap = runner_event(EventType::Gap, ProcId::default());
    gap.set(Key::Lost, Value::Uint(100));
    let mut folded = event(Action::Observed);
    folded.set(Key::Count, Value::Uint(20));
    log.append(&lines(&[gap, folded])).unwrap_err();
    log.append(&batch(0)).unwrap();
    assert_eq!(chained(&log.sink.taken)[1].uint("lost"), Some(120));
}
