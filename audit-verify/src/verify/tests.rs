use super::*;
use crate::canonical::scan;
use crate::chain::{ChainWriter, EventWriter, Position};
use crate::lines::LineEnd;
use crate::merkle::Tree;

const RUN: &str = "20260721-101010-test";

pub(super) type Fill<'f> = &'f dyn Fn(&mut EventWriter<'_>);

fn common(event: &mut EventWriter<'_>, kind: &str) {
    event.put("event_type", kind).put("run_id", RUN);
}

/// Start, `between`, and a seal; each line with its newline.
pub(super) fn log(between: &[Fill<'_>]) -> Vec<Vec<u8>> {
    let mut chain = ChainWriter::default();
    let mut lines = vec![chain.append(|event| common(event, "run_start")).unwrap().to_vec()];
    lines.extend(between.iter().map(|fill| chain.append(|event| fill(event)).unwrap().to_vec()));
    let Position { seq, head } = chain.position();
    let root = root(&lines);
    let seal = chain.append(|event| {
        event
            .put("event_type", "run_end")
            .put("events", seq + 1)
            .put("head", head.as_str())
            .put("merkle_root", root.as_str())
            .put("run_id", RUN);
    });
    lines.push(seal.unwrap().to_vec());
    lines
}

/// The root of the tree over all of `lines`.
fn root(lines: &[Vec<u8>]) -> Hash {
    let mut tree = Tree::default();
    lines.iter().for_each(|line| tree.push(&head(line)));
    tree.root()
}

pub(super) fn plain(lines: usize) -> Vec<Vec<u8>> {
    let fill: Fill<'_> = &|event| {
        event
            .put("event_type", "exec")
            .put("path", &b"/\xff\xc3\xa9\n\x7f"[..])
            .put("run_id", RUN)
            .put("uid", 7);
    };
    log(&vec![fill; lines - 2])
}

fn judge(log: &[u8]) -> Report {
    Verifier::default().run(log).unwrap()
}

pub(super) fn head(line: &[u8]) -> Hash {
    let mut hash = None;
    scan(line.strip_suffix(b"\n").unwrap(), |member| {
        if member.key == "hash_self" {
            hash = Hash::from_digits(member.raw.as_text().unwrap());
        }
    })
    .unwrap();
    hash.unwrap()
}

/// Lets `verifier` judge whole lines.
pub(super) fn judged(verifier: &mut Verifier, lines: &[Vec<u8>]) {
    for line in lines {
        let bytes = line.strip_suffix(b"\n").unwrap();
        verifier.line(&Line { bytes, len: bytes.len() as u64, end: LineEnd::Newline });
    }
}

#[track_caller]
fn fault(log: &[u8]) -> (u64, &'static str, Chain) {
    let report = judge(log);
    match report.verdict {
        Verdict::Tampered(fault) => (fault.line, fault.why.name(), report.chain),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_finished_log_is_intact() {
    let lines = plain(5);
    let report = judge(&lines.concat());
    assert_eq!(report.verdict, Verdict::Intact { events: 5, lost: 0, head: head(&lines[4]) });
    assert_eq!((report.chain, report.lines), (Chain::Holds, 5));
}

#[test]
fn losses_are_counted() {
    let gap: Fill<'_> = &|event| _ = event.put("event_type", "gap").put("lost", 4).put("run_id", RUN);
    let log = log(&[gap, gap]).concat();
    assert!(matches!(judge(&log).verdict, Verdict::Intact { lost: 8, .. }));
    let strict = Verifier::default().losses(Losses::Incomplete).run(&log[..]).unwrap();
    assert!(matches!(strict.verdict, Verdict::Incomplete { lost: 8, why: Missing::Events, .. }));
}

#[test]
fn a_cut_is_incomplete_and_counts_what_holds() {
    let lines = plain(4);
    let empty = Verdict::Incomplete { events: 0, lost: 0, head: Hash::ZERO, why: Missing::All };
    assert_eq!(judge(b"").verdict, empty);
    let two = lines[..2].concat();
    let head = head(&lines[1]);
    assert_eq!(judge(&two).verdict, Verdict::Incomplete { events: 2, lost: 0, head, why: Missing::Seal });
    let torn = [&two[..], &lines[2][..40]].concat();
    let why = Missing::LineRest { line: 3 };
    assert_eq!(judge(&torn).verdict, Verdict::Incomplete { events: 2, lost: 0, head, why });
    assert_eq!(Verifier::new(Question::Chain).run(&torn[..]).unwrap().verdict.code(), 1);

    // Every cut, of which only the one at the very end is none.
    let log = lines.concat();
    for end in 0..log.len() {
        assert_eq!(judge(&log[..end]).verdict.code(), 2, "cut at {end}");
    }
}

#[test]
fn the_first_bad_line_is_named() {
    let lines = plain(6);
    let log = lines.concat();
    let text = String::from_utf8(log.clone()).unwrap();
    let without = |index: usize| [&lines[..index], &lines[index + 1..]].concat().concat();
    let (holds, _) = (Chain::Holds, ());

    let (line, why, chain) = fault(&without(2));
    assert_eq!((line, why), (3, "hash-prev"));
    assert!(
        matches!(chain, Chain::Broken(Fault { line: 3, why: Why::Link, ref found, .. }) if found.ends_with("(seq 4 where 3 is due)"))
    );

    let edited = text.replacen("\"uid\": 7", "\"uid\": 8", 1);
    assert_eq!((fault(edited.as_bytes()).0, fault(edited.as_bytes()).1), (2, "hash-self"));

    for (edited, line, why) in [
        (text.replacen(": ", ":", 1), 1, "not-canonical"),
        (text.replacen("\\u00e9", "\\u00E9", 1), 2, "not-canonical"),
        (text.replacen("\"uid\"", " \"uid\"", 1), 2, "not-canonical"),
        (text.replacen("\"uid\": 7", "\"uid\": 8, \"uid\": 7", 1), 2, "not-canonical"),
        (text.replacen('\n', "\r\n", 1), 1, "line-end"),
        (text.replacen('\n', "\r", 1), 1, "line-end"),
    ] {
        assert_eq!(fault(edited.as_bytes()), (line, why, holds.clone()), "{edited}");
    }
    for (more, why) in [("\n", "behind-seal"), ("x", "behind-seal"), ("{", "behind-seal")] {
        let (line, found, chain) = fault((text.clone() + more).as_bytes());
        assert_eq!((line, found), (7, why));
        assert!(matches!(chain, Chain::Broken(Fault { line: 7, why: Why::Json(_), .. })));
    }
    assert_eq!(fault(&[&log[..], &log[..]].concat()).1, "behind-seal");
}

/// What only a writer of whole chains can get wrong.
#[test]
fn a_chain_that_holds_is_not_yet_a_log_of_ours() {
    fn chained(fills: &[Fill<'_>]) -> Vec<u8> {
        let mut chain = ChainWriter::default();
        fills.iter().flat_map(|fill| chain.append(|event| fill(event)).unwrap().to_vec()).collect()
    }
    let start: Fill<'_> = &|event| common(event, "run_start");
    let other: Fill<'_> = &|event| common(event, "exec");
    let stranger: Fill<'_> = &|event| _ = event.put("event_type", "exec").put("run_id", "another");
    let untyped: Fill<'_> = &|event| _ = event.put("run_id", RUN);
    let seal = |events: u64, head: Hash, root: Option<Hash>| {
        move |event: &mut EventWriter<'_>| {
            event.put("event_type", "run_end").put("events", events).put("head", head.as_str());
            if let Some(root) = &root {
                event.put("merkle_root", root.as_str());
            }
            event.put("run_id", RUN);
        }
    };
    let first = head(&chained(&[start]));
    let rightly = root(&[chained(&[start])]);
    assert_eq!(judge(&chained(&[start, &seal(2, first, Some(rightly))])).verdict.code(), 0);
    let (no_seal, miscounted) = (seal(1, Hash::ZERO, Some(rightly)), seal(3, first, Some(rightly)));
    let (misnamed, misrooted) = (seal(2, Hash::ZERO, Some(rightly)), seal(2, first, Some(first)));
    let unrooted = seal(2, first, None);
    for (fills, line, why) in [
        (&[other][..], 1, "genesis"),
        (&[start, start], 2, "genesis"),
        (&[start, stranger], 2, "run-id"),
        (&[start, untyped], 2, "key"),
        (&[&no_seal], 1, "genesis"),
        (&[start, &miscounted], 2, "seal-events"),
        (&[start, &misnamed], 2, "seal-head"),
        (&[start, &misrooted], 2, "seal-root"),
        (&[start, &unrooted], 2, "key"),
        (&[start, &|event| common(event, "run_end")], 2, "key"),
    ] {
        let log = chained(fills);
        assert_eq!(fault(&log), (line, why, Chain::Holds), "{}", log.escape_ascii());
    }

    // A chain that goes on where another left off: right hashes, wrong count.
    let mut chain = ChainWriter::at(Position { seq: 4, head: Hash::ZERO });
    let log = chain.append(|event| common(event, "run_start")).unwrap().to_vec();
    assert_eq!(fault(&log), (1, "seq", Chain::Holds));
    let mut sealed = plain(3).concat();
    let position = Position { seq: 3, head: head(plain(3).last().unwrap()) };
    sealed.extend_from_slice(ChainWriter::at(position).append(|event| common(event, "exec")).unwrap());
    assert_eq!(fault(&sealed), (4, "behind-seal", Chain::Holds));
}

#[test]
fn not_a_log_or_tampered() {
    let not_a_log = Verdict::Unchecked(Unchecked::NotALog);
    for garbage in ["garbage", "\n", "{}", "[1]\n{\"a\": 1}\n", "\u{feff}\n", "\0\0\0", "\u{ff}\n\n"] {
        assert_eq!(judge(garbage.as_bytes()).verdict, not_a_log, "{garbage:?}");
        assert_eq!(Verifier::new(Question::Chain).run(garbage.as_bytes()).unwrap().verdict, not_a_log);
        let anchored =
            Verifier::default().expect_head(Some(Hash::of(&[b"x"]))).run(garbage.as_bytes()).unwrap();
        assert_eq!(anchored.verdict.code(), 1);
    }
    // One line that is left of a log tells.
    let lines = plain(4);
    for question in [Question::Log, Question::Chain] {
        for damaged in
            [&b"garbage\n"[..], b"\xff\n", b"\n", b"[]\n", &vec![b'x'; crate::canonical::LINE_MAX + 1]]
        {
            let log = [damaged, b"\nmore\n", &lines[2], b"x"].concat();
            let verdict = Verifier::new(question).run(&log[..]).unwrap().verdict;
            match (question, damaged.len() > 100, verdict) {
                (Question::Chain, true, Verdict::Unchecked(Unchecked::TooLong { line: 1 })) => {}
                (Question::Log, true, Verdict::Tampered(Fault { line: 1, why: Why::TooLong, .. })) => {}
                (_, false, Verdict::Tampered(Fault { line: 1, .. })) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_expected_head_is_that_of_the_last_line() {
    let lines = plain(4);
    let heads: Vec<Hash> = lines.iter().map(|line| head(line)).collect();
    let expecting = |log: &[u8], head| Verifier::default().expect_head(Some(head)).run(log).unwrap().verdict;
    let anchor = |verdict| match verdict {
        Verdict::Tampered(Fault { why: Why::Anchor { anchored }, .. }) => anchored,
        other => panic!("{other:?}"),
    };
    let log = lines.concat();
    assert_eq!(expecting(&log, heads[3]).code(), 0);
    assert_eq!(anchor(expecting(&log, heads[2])), Some(3));
    assert_eq!(anchor(expecting(&log, Hash::of(&[b"x"]))), None);
    // The tail cut off at a line's end: only the anchor tells.
    let cut = lines[..3].concat();
    assert_eq!(judge(&cut).verdict.code(), 2);
    assert_eq!(anchor(expecting(&cut, heads[3])), None);
    assert_eq!(expecting(&cut, heads[2]).code(), 2);
    assert_eq!(anchor(expecting(b"", heads[2])), None);
    let chain = Verifier::new(Question::Chain).expect_head(Some(heads[3]));
    assert_eq!(chain.clone().run(&log[..]).unwrap().verdict.code(), 0);
    assert_eq!(chain.run(&cut[..]).unwrap().verdict.code(), 1);
}

/// Fails when it is read beyond its data.
struct Broken<'d>(&'d [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("no more")),
            read => Ok(read),
        }
    }
}

#[test]
fn a_read_that_fails_hides_no_tampering() {
    let lines = plain(4);
    assert!(Verifier::default().run(Broken(&lines[..3].concat())).is_err());
    let edited = String::from_utf8(lines.concat()).unwrap().replacen(": ", ":", 1);
    let report = Verifier::default().run(Broken(edited.as_bytes())).unwrap();
    assert_eq!((report.verdict.code(), report.chain), (1, Chain::Unknown));
}

/// Every other value of every byte. Only the lines from the changed one on are judged anew.
#[test]
fn every_change_of_a_byte_shows() {
    let lines = plain(3);
    let mut before = Verifier::default();
    let mut changes = 0;
    for index in 0..lines.len() {
        let mut tail = lines[index..].concat();
        for at in 0..lines[index].len() {
            let was = tail[at];
            for byte in (0..=255).filter(|byte| *byte != was) {
                tail[at] = byte;
                let verdict = before.clone().run(&tail[..]).unwrap().verdict;
                assert_eq!(verdict.code(), 1, "line {index} byte {at} 0x{byte:02x}: {verdict:?}");
                changes += 1;
            }
            tail[at] = was;
        }
        judged(&mut before, &lines[index..=index]);
    }
    assert_eq!(changes, lines.concat().len() * 255);
}
