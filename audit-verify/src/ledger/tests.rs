//! Ledgers that hold, and every way in which one does not.

use super::*;

const NOW: &str = "2026-11-26T14:00:00.000000000Z";

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32])
}

fn hash(text: &str) -> Hash {
    Hash::of(&[text.as_bytes()])
}

fn begin(run: &str) -> Entry {
    Entry::Begin { run_id: run.to_owned(), first: hash(run) }
}

fn end(run: &str) -> Entry {
    Entry::End { run_id: run.to_owned(), events: 7, head: hash("head") }
}

/// A line of each kind; unsigned up to the first key, signed behind it, by the second key behind the second.
fn sample() -> Vec<Vec<u8>> {
    let (one, two) = (key(1), key(2));
    let named = |key: &SigningKey| Entry::Key { key: Box::new(key.public()) };
    let incomplete = |run: &str| Entry::Incomplete {
        run_id: run.to_owned(),
        events: 3,
        head: hash("three"),
        reason: "no seal".to_owned(),
    };
    let removed = Entry::Removed {
        run_id: "a".to_owned(),
        events: 7,
        head: hash("head"),
        reason: "gc --keep 1".to_owned(),
    };
    let entries: [(Entry, Option<&SigningKey>); 10] = [
        (begin("a"), None),
        (end("a"), None),
        (named(&one), Some(&one)),
        (begin("b"), Some(&one)),
        (begin("c"), Some(&one)),
        (named(&two), Some(&one)),
        (incomplete("b"), Some(&two)),
        (removed, Some(&two)),
        (Entry::Repair { reason: "12 bytes".to_owned() }, Some(&two)),
        (end("c"), Some(&two)),
    ];
    let mut chain = ChainWriter::default();
    entries.iter().map(|(entry, signer)| line(&mut chain, entry, NOW, *signer).unwrap()).collect()
}

fn judge(lines: &[Vec<u8>], keys: &[PublicKey]) -> Ledger {
    read(&lines.concat()[..], keys).unwrap()
}

#[test]
fn a_ledger_says_what_was_entered() {
    let lines = sample();
    for keys in [&[][..], &[key(1).public()]] {
        let ledger = judge(&lines, keys);
        assert_eq!(ledger.fault, None);
        assert_eq!((ledger.entries, ledger.signed_from, ledger.torn), (10, Some(3), false));
        assert!(ledger.knows(key(1).id()) && ledger.knows(key(2).id()));
        let [a, b, c] = &ledger.runs[..] else { panic!("{:?}", ledger.runs) };
        assert_eq!(a.outcome, Some(Outcome { sealed: true, events: 7, head: hash("head") }));
        assert_eq!(a.removed.as_deref(), Some("gc --keep 1"));
        assert_eq!((a.ledger_prev, a.first), (Hash::ZERO, hash("a")));
        assert_eq!(b.outcome, Some(Outcome { sealed: false, events: 3, head: hash("three") }));
        assert_eq!(c.removed, None);
        assert_eq!(ledger.run("c").map(|run| run.line), Some(5));
        assert_eq!([a, b, c].map(|run| run.key), [None, Some(key(1).id()), Some(key(1).id())]);
        assert_eq!(ledger.in_force, Some(key(2).id()));
    }
}

#[test]
fn the_second_key_alone_does_not_vouch_for_what_the_first_signed() {
    let given = [key(2).public()];
    let ledger = judge(&sample(), &given);
    let fault = ledger.fault.clone().unwrap();
    let (first, given_id) = (key(1).id().to_string(), key(2).id().to_string());
    assert_eq!((fault.line, &fault.why), (3, &WhyNot::OlderKey { first: first.clone(), given: given_id }));
    assert!(fault.why.is_unchecked() && ledger.knows(key(1).id()));
    assert_eq!((ledger.entries, ledger.runs.len()), (10, 3));
    assert_eq!(judge(&sample(), &[key(1).public(), key(2).public()]).fault, None);

    // Before the second is introduced, or where what follows does not hold, the first is a stranger's.
    let mut edited = sample();
    edited[8] = String::from_utf8(edited[8].clone()).unwrap().replace("12 bytes", "13 bytes").into_bytes();
    for lines in [&sample()[..5], &edited] {
        let ledger = judge(lines, &given);
        assert_eq!(
            ledger.fault.clone().unwrap(),
            LedgerFault { line: 3, why: WhyNot::Signature(first.clone()) }
        );
        assert_eq!((ledger.entries, ledger.runs.len(), ledger.knows(key(1).id())), (2, 1, false));
    }
    // One that nobody introduced stays a stranger's, with either key.
    let mut forged = sample();
    let at = crate::chain::Position { seq: 10, head: judge(&forged, &[]).head };
    forged.push(line(&mut ChainWriter::at(at), &begin("forged"), NOW, Some(&key(9))).unwrap());
    for given in [key(1), key(2)] {
        let fault = judge(&forged, &[given.public()]).fault.unwrap();
        assert!(!fault.why.is_unchecked(), "{fault}");
    }
    let mut chain = ChainWriter::default();
    let named = Entry::Key { key: Box::new(key(9).public()) };
    let foreign = [line(&mut chain, &named, NOW, Some(&key(9))).unwrap()];
    assert_eq!(judge(&foreign, &given).fault.unwrap().why, WhyNot::Signature(key(9).id().to_string()));
    assert_eq!(judge(&sample()[..2], &[key(1).public()]).fault.unwrap().why, WhyNot::NeverSigned);
}

#[test]
fn every_change_shows() {
    let lines = sample();
    let text = lines.concat();
    // Each line in front of the changed one costs checks of signatures, so not every byte of the long ones.
    let first_three = lines[..3].concat().len();
    for at in (0..first_three).chain((first_three..text.len()).step_by(17)) {
        let mut other = text.clone();
        other[at] ^= [1, 2, 0x20, 0x80][at % 4];
        let ledger = read(&other[..], &[]).unwrap();
        assert!(ledger.fault.is_some() || ledger.torn, "byte {at}");
    }
    for at in 0..lines.len() - 1 {
        let mut fewer = lines.clone();
        fewer.remove(at);
        assert!(judge(&fewer, &[]).fault.is_some(), "line {at} removed");
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        assert!(judge(&swapped, &[]).fault.is_some(), "line {at} swapped");
    }
}

/// Behind its successor a key signs nothing, and does not come back.
#[test]
fn a_replaced_key_is_out_of_force() {
    let (one, two, three) = (key(1), key(2), key(3));
    let named = |key: &SigningKey| Entry::Key { key: Box::new(key.public()) };
    let repair = Entry::Repair { reason: "x".to_owned() };
    for keys in [&[][..], &[one.public()], &[one.public(), two.public()]] {
        let ledger = judge(&sample(), keys);
        let at = crate::chain::Position { seq: ledger.entries, head: ledger.head };
        let with = |entry: &Entry, signer: &SigningKey| {
            let line = line(&mut ChainWriter::at(at), entry, NOW, Some(signer)).unwrap();
            judge(&[sample(), vec![line]].concat(), keys).fault.map(|fault| (fault.line, fault.why))
        };
        for entry in [begin("d"), end("b"), repair.clone(), named(&three)] {
            let (key, in_force) = (one.id().to_string(), two.id().to_string());
            assert_eq!(with(&entry, &one), Some((11, WhyNot::NotInForce { key, in_force })), "{entry:?}");
        }
        for (entry, signer) in [(begin("d"), &two), (repair.clone(), &two), (named(&three), &two)] {
            assert_eq!(with(&entry, signer), None, "{entry:?}");
        }
        for (back, signer) in [(&one, &one), (&one, &two), (&two, &two)] {
            let (_, why) = with(&named(back), signer).unwrap();
            assert!(matches!(why, WhyNot::Order(_)), "{why:?}");
        }
        // Where the one in force is lost, its successor speaks for itself, and is believed by who was handed it.
        let by_itself = with(&named(&three), &three).map(|(_, why)| why);
        let unknown = WhyNot::Signature(three.id().to_string());
        assert_eq!(by_itself, (!keys.is_empty()).then_some(unknown));
        let line = line(&mut ChainWriter::at(at), &named(&three), NOW, Some(&three)).unwrap();
        let handed = [keys, &[three.public()]].concat();
        let believed = judge(&[sample(), vec![line]].concat(), &handed).fault;
        assert_eq!(believed.is_none(), !keys.is_empty(), "{believed:?}");
    }
    // Written anew with the first one alone, and judged by who has the second too.
    let absent = judge(&sample()[..5], &[one.public(), two.public()]).fault.unwrap().why;
    assert_eq!(absent, WhyNot::Absent { key: two.id().to_string() });
    assert!(absent.is_unchecked());
}

/// Written anew from some line on with hashes that fit, by somebody without the key.
#[test]
fn what_is_written_anew_is_not_signed() {
    let lines = sample();
    for from in 2..lines.len() {
        let mut forged = lines[..from].to_vec();
        let at = crate::chain::Position { seq: from as u64, head: judge(&forged, &[]).head };
        let mut chain = ChainWriter::at(at);
        forged.push(line(&mut chain, &begin("forged"), NOW, None).unwrap());
        let fault = judge(&forged, &[key(1).public()]).fault.unwrap();
        let expected = if from == 2 { WhyNot::NeverSigned } else { WhyNot::Unsigned };
        assert_eq!((fault.line, fault.why), (from as u64 + 1, expected));
        forged.pop();
        let mut chain = ChainWriter::at(at);
        forged.push(line(&mut chain, &begin("forged"), NOW, Some(&key(9))).unwrap());
        let fault = judge(&forged, &[key(1).public()]).fault.unwrap();
        let (key, in_force) = (key(9).id().to_string(), judge(&lines[..from], &[]).in_force);
        assert_eq!(
            fault.why,
            match in_force {
                None => WhyNot::Signature(key),
                Some(in_force) => WhyNot::NotInForce { key, in_force: in_force.to_string() },
            }
        );
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let judged = |entries: &[Entry]| {
        let mut chain = ChainWriter::default();
        let lines: Vec<_> = entries.iter().map(|entry| line(&mut chain, entry, NOW, None).unwrap()).collect();
        judge(&lines, &[]).fault.map(|fault| fault.line)
    };
    assert_eq!(judged(&[begin("a"), end("a")]), None);
    assert_eq!(judged(&[end("a")]), Some(1));
    assert_eq!(judged(&[begin("a"), begin("a")]), Some(2));
    assert_eq!(judged(&[begin("a"), end("a"), end("a")]), Some(3));
    let removed = Entry::Removed { run_id: "a".into(), events: 0, head: Hash::ZERO, reason: String::new() };
    assert_eq!(judged(&[begin("a"), removed.clone(), end("a")]), Some(3));
    assert_eq!(judged(&[begin("a"), removed]), None);
}

#[test]
fn a_torn_last_line_is_told_apart() {
    let mut text = sample().concat();
    text.truncate(text.len() - 5);
    let ledger = read(&text[..], &[]).unwrap();
    assert!(ledger.torn && ledger.fault.is_none());
    assert_eq!(ledger.entries, 9);
}

#[test]
fn with_a_key_an_empty_ledger_is_not_the_one_that_it_signed() {
    let ledger = read(&b""[..], &[key(1).public()]).unwrap();
    assert_eq!(ledger.fault, Some(LedgerFault { line: 1, why: WhyNot::NeverSigned }));
    assert_eq!(read(&b""[..], &[]).unwrap().fault, None);
}

#[test]
fn a_line_that_is_too_long_is_none() {
    let entry = |len: usize| Entry::Repair { reason: "x".repeat(len) };
    let long = |len| line(&mut ChainWriter::default(), &entry(len), NOW, None).unwrap();
    let frame = long(0).len() - 1;
    assert_eq!(judge(&[long(LINE_MAX - frame)], &[]).fault, None);
    let fault = judge(&[long(LINE_MAX - frame + 1)], &[]).fault.unwrap();
    assert_eq!(fault, LedgerFault { line: 1, why: WhyNot::Form("it is longer than 65536 bytes".to_owned()) });
}

#[test]
fn an_id_that_leads_elsewhere_is_none() {
    for id in ["../x", "a/b", "/x", ".", "..", ".hidden", ""] {
        let mut chain = ChainWriter::default();
        let lines = [line(&mut chain, &begin(id), NOW, None).unwrap()];
        let fault = judge(&lines, &[]).fault;
        assert_eq!(fault, Some(LedgerFault { line: 1, why: WhyNot::Key("run_id") }), "{id:?}");
    }
}
