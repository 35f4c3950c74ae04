//! No edit of a real log passes: every byte in many ways, every line removed, moved or doubled, every cut.
//!
//! The judge reads a log line by line and knows nothing of a line but what it made of those before it. So the lines
//! before a change are judged once, and each changed log from the changed line on: [`Verifier::after`].

use std::thread;

use audit_verify::Hash;
use audit_verify::canonical::{Record, Value};
use audit_verify::chain::ChainWriter;
use audit_verify::merkle::Tree;
use audit_verify::verify::{Chain, Report, Verdict, Verifier};
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::Scene;

/// Events that the recorded command makes at least.
const LINES: usize = 300;

/// Records a command; returns its log.
fn recorded() -> Vec<u8> {
    let scene = Scene::new();
    scene.record(["sh", "-c", "for i in $(seq 10); do cat /etc/hostname; done"]).expect(0);
    std::fs::read(scene.run().join("events.jsonl")).expect("the log")
}

/// Its lines, each with its newline.
fn lines(log: &[u8]) -> Vec<&[u8]> {
    log.split_inclusive(|byte| *byte == b'\n').collect()
}

fn judge(verifier: Verifier, log: &[u8]) -> Report {
    verifier.run(log).expect("memory can be read")
}

/// Other values for the byte at `place`: a bit flipped, another one from place to place, the case of a letter, and what
/// an editor would put there. Every other value of every byte of a short log is tried in `audit-verify` itself.
fn others(place: usize, byte: u8) -> impl Iterator<Item = u8> {
    let flipped = byte ^ 1 << (place % 8);
    [flipped, byte ^ 0x20, b'\n', b' ', byte.wrapping_add(1)].into_iter().filter(move |other| *other != byte)
}

/// Judges every change of a byte in line `at`; returns how many there were.
fn change_every_byte(before: &Verifier, line: &[u8], behind: &[u8]) -> usize {
    let mut changes = 0;
    let mut changed = [line, behind].concat();
    for place in 0..line.len() {
        for other in others(place, line[place]) {
            changed[place] = other;
            let report = judge(before.clone(), &changed);
            assert_eq!(
                report.verdict.code(),
                1,
                "byte {place} is 0x{other:02x} in {}",
                changed[..line.len()].escape_ascii()
            );
            changes += 1;
        }
        changed[place] = line[place];
    }
    changes
}

#[test]
fn no_edit_of_a_real_log_passes() {
    if !met("edits of a real log", &[Need::Trace]) {
        return;
    }
    let log = recorded();
    let lines = lines(&log);
    assert!(lines.len() >= LINES, "{} events", lines.len());
    let whole = judge(Verifier::default(), &log);
    assert_eq!(whole.verdict.code(), 0, "{whole:?}");

    // What is known before each line.
    let mut before = vec![Verifier::default()];
    for line in &lines {
        let next = before.last().expect("the first").clone().after(line);
        before.push(next);
    }
    let parts = thread::available_parallelism().map_or(1, usize::from);
    let changes: usize = thread::scope(|scope| {
        let (lines, before, log) = (&lines, &before, &log);
        let part = |part| {
            let mut changes = 0;
            for at in (part..lines.len()).step_by(parts) {
                let offset: usize = lines[..=at].iter().map(|line| line.len()).sum();
                // A change shows in its own line, or in the one that it was merged with: two more lines are enough,
                // and without the seal a change that did not show would be 2, not 1.
                let behind: usize = lines[at + 1..].iter().take(2).map(|line| line.len()).sum();
                changes += change_every_byte(&before[at], lines[at], &log[offset..offset + behind]);
            }
            changes
        };
        let threads: Vec<_> = (0..parts).map(|number| scope.spawn(move || part(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no change passes")).sum()
    });
    assert!(changes > log.len() * 4, "{changes} changes of {} bytes", log.len());

    for at in 0..lines.len() {
        let verdict = |rest: &[&[u8]]| judge(before[at].clone(), &rest.concat()).verdict.code();
        assert_ne!(verdict(&lines[at + 1..]), 0, "line {} removed", at + 1);
        assert_ne!(verdict(&[&[lines[at]], &lines[at..]].concat()), 0, "line {} doubled", at + 1);
        if let [one, two, rest @ ..] = &lines[at..] {
            assert_ne!(verdict(&[&[*two, *one], rest].concat()), 0, "line {} moved", at + 1);
        }
        for end in 0..lines[at].len() {
            let cut = judge(before[at].clone(), &lines[at][..end]);
            assert_eq!(cut.verdict.code(), 2, "line {} cut at byte {end}: {cut:?}", at + 1);
        }
    }
}

/// A line written anew, with another exit code where it has one.
fn rewritten(chain: &mut ChainWriter, tree: &Tree, line: &[u8]) -> Vec<u8> {
    let record = Record::parse(line.strip_suffix(b"\n").expect("a whole line")).expect("a canonical line");
    let head = chain.position().head;
    let anew = chain.append(|event| {
        for (key, value) in record.fields() {
            match (*key, value) {
                ("hash_prev" | "hash_self" | "seq", _) => {}
                ("head", _) => _ = event.put("head", head.as_str()),
                ("merkle_root", _) => _ = event.put("merkle_root", tree.root().as_str()),
                ("path", Value::Bytes(path)) if path.ends_with(b"hostname") => {
                    _ = event.put("path", "/etc/motd")
                }
                (key, value) => _ = event.put(key, value),
            }
        }
    });
    anew.expect("a line").to_vec()
}

/// What a file alone cannot show, a head that was kept elsewhere does.
#[test]
fn a_rewrite_and_a_cut_show_by_the_head() {
    if !met("a rewritten log", &[Need::Trace]) {
        return;
    }
    let log = recorded();
    let lines = lines(&log);
    let Verdict::Intact { head, .. } = judge(Verifier::default(), &log).verdict else {
        panic!("the log as it was recorded is intact");
    };
    let mut chain = ChainWriter::default();
    let mut tree = Tree::default();
    let mut anew = Vec::new();
    for line in &lines {
        anew.extend_from_slice(&rewritten(&mut chain, &tree, line));
        tree.push(&chain.position().head);
    }
    assert_ne!(anew, log);
    assert_eq!(judge(Verifier::default(), &anew).verdict.code(), 0, "by itself it is as good as any other");
    let expecting = |head: Hash| Verifier::default().expect_head(Some(head));
    let found = judge(expecting(head), &anew);
    assert_eq!((found.verdict.code(), &found.chain), (1, &Chain::Holds), "{found:?}");
    assert_eq!(judge(expecting(chain.position().head), &anew).verdict.code(), 0);

    let mut end = 0;
    for line in &lines[..lines.len() - 1] {
        end += line.len();
        assert_eq!(judge(Verifier::default(), &log[..end]).verdict.code(), 2, "cut at {end}");
        assert_eq!(judge(expecting(head), &log[..end]).verdict.code(), 1, "cut at {end}");
    }
    assert_eq!(judge(expecting(head), &log).verdict.code(), 0);
}
