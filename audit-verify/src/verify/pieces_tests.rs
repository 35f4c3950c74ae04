//! In pieces and on threads, the answer is that of the judge who reads line by line.

use std::ops::Range;

use proptest::prelude::*;

use super::tests::{judged, log, plain};
use super::*;
use crate::chain::EventWriter;

/// The judge alone, line by line.
fn by_line(verifier: &Verifier, log: &[u8]) -> Report {
    verifier.clone().run_by_line(log).unwrap()
}

/// The same answer in pieces of these lengths, alone and on three threads.
#[track_caller]
fn same_in_pieces(verifier: &Verifier, log: &[u8], lengths: &[usize]) {
    let expected = by_line(verifier, log);
    for length in lengths {
        let alone = verifier.clone().run_in_pieces(log, *length).unwrap();
        assert_eq!(alone, expected, "pieces of {length}: {}", log.escape_ascii());
        let threads = NonZeroUsize::new(3).unwrap();
        let together = verifier.clone().threads(threads).run_in_pieces(log, *length).unwrap();
        assert_eq!(together, expected, "pieces of {length} on threads: {}", log.escape_ascii());
    }
}

/// A log with gaps, of `lines` lines.
fn with_gaps(lines: usize) -> Vec<Vec<u8>> {
    let gap: &dyn Fn(&mut EventWriter<'_>) =
        &|event| _ = event.put("event_type", "gap").put("lost", 4).put("run_id", "20260721-101010-test");
    let open: &dyn Fn(&mut EventWriter<'_>) = &|event| {
        event.put("event_type", "file_open").put("path", "/a\"b").put("run_id", "20260721-101010-test");
    };
    log(&(0..lines - 2).map(|at| if at % 7 == 3 { gap } else { open }).collect::<Vec<_>>())
}

#[test]
fn a_good_log_in_pieces_of_any_length() {
    let log = with_gaps(60).concat();
    let lengths: Vec<usize> = (1..40).chain([300, 1000, 5000, 100_000]).collect();
    same_in_pieces(&Verifier::default(), &log, &lengths);
    assert_eq!(Verifier::default().run(&log[..]).unwrap().verdict.code(), 0);
    same_in_pieces(&Verifier::default().losses(Losses::Incomplete), &log, &lengths);
}

/// Many plain pieces, so that the threads are really used, and what was judged by them tells in the end.
#[test]
fn most_lines_are_judged_as_plain() {
    let lines = plain(400);
    let mut verifier = Verifier::default();
    judged(&mut verifier, &lines[..1]);
    let terms = verifier.terms().unwrap();
    let mut judge = Judge::default();
    let summary = judge.summary(&lines[1..399].concat(), &terms).expect("plain lines");
    assert!(summary.follows(&verifier.state));
    summary.tell(&mut verifier.state);
    let mut alone = Verifier::default();
    judged(&mut alone, &lines[..399]);
    assert_eq!(verifier.state.prev, alone.state.prev);
    assert_eq!(verifier.state.tree.root(), alone.state.tree.root());
    assert_eq!((verifier.state.lines, verifier.state.events), (alone.state.lines, alone.state.events));
    // Neither the first nor the last line is one of them, nor one that is torn or of another run.
    for odd in [&lines[..2], &lines[398..]] {
        assert!(judge.summary(&odd.concat(), &terms).is_none());
    }
    let torn = lines[1..3].concat();
    assert!(judge.summary(&torn[..torn.len() - 1], &terms).is_none());
    assert!(judge.summary(&torn, &Terms { run_id: None, ..terms.clone() }).is_none());
    assert!(judge.summary(b"", &terms).is_none());
}

/// A log without seal whose lines have shapes in turn, some of them twice in a row.
fn of_many_shapes(lines: usize) -> Vec<Vec<u8>> {
    const RUN: &str = "20260721-101010-test";
    let fill = |number: usize| {
        move |event: &mut EventWriter<'_>| match number % 5 {
            0 | 1 | 3 => {
                event.list("access", ["read"]).put("comm", "make").put("event_type", "file_open");
                event
                    .put("ino", 240_000 + number as u64 * 7)
                    .put("path", format!("/a/{}", number * 31).as_str());
                event.put("ret", if number.is_multiple_of(3) { -2 } else { 3 }).put("run_id", RUN);
                event.put("uid", 1000).put("v", 1);
            }
            2 => {
                event.list("argv", ["cc", "\"", &"x".repeat(number % 30)]).put("event_type", "exec");
                event.put("path", "/usr/bin/cc").put("run_id", RUN).put("uid", 1000).put("v", 1);
            }
            _ => _ = event.put("event_type", "exit").put("exit_code", 0).put("run_id", RUN).put("v", 1),
        }
    };
    let fills: Vec<_> = (0..lines - 1).map(fill).collect();
    let mut lines = log(&fills.iter().map(|fill| fill as tests::Fill<'_>).collect::<Vec<_>>());
    lines.pop();
    lines
}

/// Makes the chain hold again from line `from` on, as one would who can write the file; up to a line that has lost what
/// that takes.
fn chain_again(lines: &mut [Vec<u8>], from: usize) {
    /// The 64 bytes behind `key`.
    fn digits(line: &[u8], key: &[u8]) -> Option<Range<usize>> {
        let from = line.windows(key.len()).position(|bytes| bytes == key)? + key.len();
        line.get(from..from + Hash::DIGITS).map(|_| from..from + Hash::DIGITS)
    }
    const ITSELF: &[u8] = b", \"hash_self\": \"";
    for at in from..lines.len() {
        let (before, line) = lines.split_at_mut(at);
        let (before, line) = (&before[at - 1], &mut line[0]);
        let (Some(prev), Some(linked)) = (digits(before, ITSELF), digits(line, b"\"hash_prev\": \"")) else {
            return;
        };
        line[linked].copy_from_slice(&before[prev]);
        let Some(itself) = digits(line, ITSELF).filter(|itself| itself.end + 1 < line.len()) else { return };
        let hash = Hash::of(&[&line[..itself.start - ITSELF.len()], &line[itself.end + 1..line.len() - 1]]);
        line[itself].copy_from_slice(hash.digits());
    }
}

/// Who can write the file can make hashes fit any bytes; only the form of the line tells then.
#[test]
fn an_edited_line_whose_hashes_fit() {
    let lines = of_many_shapes(38);
    same_in_pieces(&Verifier::default(), &lines.concat(), &[1, 500, 3000, PIECE]);
    // The second, and late ones of each kind, whose shapes are known by then.
    for number in [1, 31, 32, 34] {
        for at in 0..lines[number].len() - 1 {
            for byte in *b"\"\\ ,:{}[]019-aetx\0\n\x7f\xff" {
                let mut lines = lines.clone();
                lines[number][at] = byte;
                chain_again(&mut lines, number);
                same_in_pieces(&Verifier::default(), &lines.concat(), &[PIECE]);
            }
        }
    }
}

#[test]
fn where_lines_are_long() {
    let long = vec![b'x'; 3 << 20];
    let fill: &dyn Fn(&mut EventWriter<'_>) = &|event| {
        event.put("event_type", "exec").put("path", &long[..]).put("run_id", "20260721-101010-test");
    };
    let short: &dyn Fn(&mut EventWriter<'_>) =
        &|event| _ = event.put("event_type", "exec").put("run_id", "20260721-101010-test");
    let log = log(&[short, fill, short, fill]).concat();
    same_in_pieces(&Verifier::default(), &log, &[64, PIECE]);
}

/// Fails where its data end.
struct Broken<'d>(&'d [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = buffer.len().min(97);
        match self.0.read(&mut buffer[..step])? {
            0 => Err(io::Error::other("no more")),
            read => Ok(read),
        }
    }
}

proptest! {
    /// Any edits of lines whose hashes fit, in pieces of any length.
    #[test]
    fn edited_lines_whose_hashes_fit(
        edits in proptest::collection::vec((0usize..4, 1usize..60, any::<prop::sample::Index>(), any::<u8>()), 1..3),
        length in 1usize..3000,
    ) {
        let mut lines = of_many_shapes(60);
        for (kind, number, at, byte) in edits {
            let at = at.index(lines[number].len() - 1);
            match kind {
                0 => lines[number][at] = byte,
                1 => lines[number].insert(at, byte),
                2 => _ = lines[number].remove(at),
                _ => { let again = lines[number][at]; lines[number].insert(at, again) }
            }
            chain_again(&mut lines, number);
        }
        same_in_pieces(&Verifier::default(), &lines.concat(), &[length]);
    }

    /// Damage of every kind, with pieces so short that it lies anywhere in one.
    #[test]
    fn a_damaged_log_in_pieces(
        edits in proptest::collection::vec((0usize..9, any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in 1usize..3000,
        expected in 0usize..3,
        question in prop::sample::select(vec![Question::Log, Question::Chain]),
    ) {
        let mut lines = with_gaps(40);
        let head = tests::head(&lines[23]);
        for (kind, at, byte) in edits {
            let line = at.index(lines.len());
            let within = at.index(lines[line].len().max(1)).min(lines[line].len().saturating_sub(1));
            match kind {
                0 => lines[line][within] = byte,
                1 => lines[line].insert(within, byte),
                2 => _ = lines[line].remove(within),
                3 => { let next = (line + 1).min(lines.len() - 1); lines.swap(line, next) }
                4 => lines.truncate(line.max(1)),
                5 => lines[line].truncate(within.max(1)),
                6 => lines[line].push(b'\n'),
                7 => *lines[line].last_mut().unwrap() = b'\r',
                _ => { let again = lines[line].clone(); lines.insert(line, again) }
            }
            lines.iter_mut().filter(|line| line.is_empty()).for_each(|line| line.push(byte));
        }
        let log = lines.concat();
        let head = [None, Some(head), Some(Hash::of(&[b"another"]))][expected];
        let verifier = Verifier::new(question).expect_head(head);
        same_in_pieces(&verifier, &log, &[length]);

        // And where reading fails at the end.
        let expected = verifier.clone().run_by_line(Broken(&log)).map_err(|error| error.to_string());
        for threads in [1, 3] {
            let verifier = verifier.clone().threads(NonZeroUsize::new(threads).unwrap());
            let found = verifier.run_in_pieces(Broken(&log), length).map_err(|error| error.to_string());
            prop_assert_eq!(&found, &expected);
        }
    }
}
