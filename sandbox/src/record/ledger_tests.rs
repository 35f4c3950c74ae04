//! The ledger's file: order among many, tears, keys, and runs that are bound to it.

use super::*;
use crate::record::keys;
use crate::record::made_up;
use crate::record::store::{RunDir, RunName, StoreDir};
use crate::record::{Attestation, KeyReach, RecordSettings, Recorder, RunEnd};

fn store(home: &Path) -> StoreDir {
    StoreDir::open(&made_up::place(home)).unwrap()
}

fn begin(run: &str) -> Entry {
    Entry::Begin { run_id: run.to_owned(), first: Hash::of(&[run.as_bytes()]) }
}

#[test]
fn those_who_add_at_the_same_time_stand_in_one_order() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = LedgerFile::open(&store).unwrap();
            scope.spawn(move || {
                for number in 0..20 {
                    ledger.lock().unwrap().append(&begin(&format!("{thread}-{number}"))).unwrap();
                }
            });
        }
    });
    let ledger = LedgerFile::open(&store).unwrap().read().unwrap();
    assert_eq!((ledger.fault, ledger.entries, ledger.runs.len()), (None, 80, 80));
}

#[test]
fn a_torn_line_is_cut_off_and_told() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    ledger.lock().unwrap().append(&begin("a")).unwrap();
    let path = store.path().join(ledger::FILE);
    let whole = std::fs::read(&path).unwrap();
    for torn in [&b"{"[..], &whole[..whole.len() - 1], &whole[..40]] {
        std::fs::write(&path, [&whole[..], torn].concat()).unwrap();
        drop(ledger.lock().unwrap());
        let read = ledger.read().unwrap();
        assert_eq!((read.fault, read.torn, read.entries), (None, false, 2));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("{} bytes of a line", torn.len())), "{text}");
        std::fs::write(&path, &whole).unwrap();
    }
}

/// Makes a key as `sandbox key` does.
fn introduce(ledger: &LedgerFile, store: &StoreDir) -> SigningKey {
    let mut locked = ledger.lock_for_key().unwrap();
    let before = keys::signer_for(store, locked.in_force()).unwrap();
    let key = keys::make(store).unwrap();
    locked.introduce(key.clone(), before.as_ref()).unwrap();
    keys::put_in_place(store).unwrap();
    key
}

#[test]
fn in_a_store_with_a_key_a_cut_is_signed() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    let key = introduce(&ledger, &store);
    let path = store.path().join(ledger::FILE);
    let tear = || {
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"entry\": \"beg"].concat()).unwrap();
    };
    let judged = || ledger::read(File::open(&path).unwrap(), &[key.public()]).unwrap();

    tear();
    ledger.lock().unwrap().append(&begin("a")).unwrap();
    assert_eq!((judged().fault, judged().torn, judged().entries), (None, false, 3));

    // A key that is made under the lock signs it too, whatever became of the one before.
    tear();
    let mut locked = ledger.lock_for_key().unwrap();
    let next = keys::make(&store).unwrap();
    locked.introduce(next, Some(&key)).unwrap();
    locked.repair().unwrap();
    locked.repair().unwrap();
    drop(locked);
    assert_eq!((judged().fault, judged().torn, judged().entries), (None, false, 5));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\"entry\": \"repair\"").count(), 2, "{text}");
    assert_eq!(text.matches("\"signature\": ").count(), 5, "{text}");
}

#[test]
fn a_changed_last_line_takes_nothing_more() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    ledger.lock().unwrap().append(&begin("a")).unwrap();
    let path = store.path().join(ledger::FILE);
    let edited = std::fs::read_to_string(&path).unwrap().replace("\"a\"", "\"b\"");
    for text in [edited.as_str(), "{}\n", "\n"] {
        std::fs::write(&path, text).unwrap();
        let error = ledger.lock().unwrap_err();
        assert!(matches!(error, LedgerError::Broken { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_run_is_bound_to_the_ledger_and_signed() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    assert!(keys::signer(&store).unwrap().is_none());
    let key = introduce(&LedgerFile::open(&store).unwrap(), &store);
    assert_eq!(keys::signer(&store).unwrap().unwrap().id(), key.id());
    assert_eq!(keys::known(store.path()), [key.public()]);
    for number in 0..2 {
        let name = RunName::new(1_763_688_205_000_000_007 + number * 1_000_000_000, b"test");
        let dir = RunDir::create_in(&store, &name).unwrap();
        let path = dir.path().to_owned();
        let attestation = Attestation {
            ledger: Some(LedgerFile::open(&store).unwrap()),
            reach: KeyReach::Kept,
            ..Attestation::default()
        };
        let settings = RecordSettings::default();
        let mut recorder =
            Recorder::begin(dir, "agent", &made_up::run_start(), settings, attestation).unwrap();
        let sealed = recorder.seal(&RunEnd::default()).unwrap();
        recorder.enter_end(&sealed).unwrap();
        recorder.finish_index().unwrap();

        let log = File::open(path.join("events.jsonl")).unwrap();
        let verifier = audit_verify::verify::Verifier::default().demand_keys(vec![key.public()]);
        let report = verifier.run(log).unwrap();
        assert_eq!(report.verdict.code(), 0, "{report:?}");
        let ledger = LedgerFile::open(&store).unwrap().read().unwrap();
        let entry = &ledger.runs[number as usize];
        let genesis = report.genesis.unwrap();
        assert_eq!((entry.ledger_prev, entry.first), (genesis.ledger_prev.unwrap(), genesis.first));
        assert_eq!(entry.outcome.as_ref().unwrap().head.to_string(), sealed.head);
    }
    let read = ledger::read(File::open(store.path().join(ledger::FILE)).unwrap(), &[key.public()]);
    assert_eq!(read.unwrap().fault, None);
}

#[test]
fn a_key_that_others_may_read_signs_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    introduce(&LedgerFile::open(&store).unwrap(), &store);
    let path = store.path().join(keys::DIRECTORY).join(keys::SECRET);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(matches!(keys::signer(&store), Err(KeysError::Open { .. })));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, "rubbish").unwrap();
    assert!(matches!(keys::signer(&store), Err(KeysError::Content { .. })));
}

#[test]
fn who_may_only_read_holds_up_nobody() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    let reader = File::open(store.path().join("ledger.jsonl")).unwrap();
    rustix::fs::flock(&reader, FlockOperation::LockExclusive).unwrap();
    ledger.lock().unwrap().append(&begin("a")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let lock = store.path().join(LOCK).metadata().unwrap();
    assert_eq!(lock.permissions().mode() & 0o777, 0o600);
    assert_eq!(ledger.read().unwrap().runs.len(), 1);
}

#[test]
fn a_key_signs_until_the_next_is_made() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    let first = introduce(&ledger, &store);
    let secret = store.path().join(keys::DIRECTORY).join(keys::SECRET);
    let old = std::fs::read(&secret).unwrap();
    // A run begins with the first key, and the second is made before it ends.
    let dir = RunDir::create_in(&store, &RunName::new(1_763_688_205_000_000_007, b"test")).unwrap();
    let log = dir.path().join("events.jsonl");
    let attestation =
        Attestation { ledger: Some(LedgerFile::open(&store).unwrap()), ..Attestation::default() };
    let settings = RecordSettings::default();
    let mut recorder = Recorder::begin(dir, "agent", &made_up::run_start(), settings, attestation).unwrap();
    let second = introduce(&ledger, &store);
    let sealed = recorder.seal(&RunEnd::default()).unwrap();
    recorder.enter_end(&sealed).unwrap();
    recorder.finish_index().unwrap();
    let judged =
        ledger::read(File::open(store.path().join(ledger::FILE)).unwrap(), &[first.public()]).unwrap();
    assert_eq!((judged.fault, judged.in_force), (None, Some(second.id())));
    assert_eq!(judged.runs[0].key, Some(first.id()));
    let verifier = audit_verify::verify::Verifier::default().demand_keys(vec![first.public()]);
    assert_eq!(verifier.run(File::open(log).unwrap()).unwrap().verdict.code(), 0);

    // The replaced one back in its place signs nothing more, and no key does either.
    std::fs::write(&secret, old).unwrap();
    let refused = ledger.lock().unwrap_err();
    assert!(matches!(refused, LedgerError::Key(KeysError::NotInForce { .. })), "{refused}");
    std::fs::remove_dir_all(store.path().join(keys::DIRECTORY)).unwrap();
    let refused = ledger.lock().unwrap_err();
    assert!(matches!(refused, LedgerError::Key(KeysError::Lost(_))), "{refused}");
    assert_eq!(ledger.read().unwrap().entries, 4);
}

#[test]
fn a_crash_between_ledger_and_key_loses_neither() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    let first = introduce(&ledger, &store);
    // Made, and never entered.
    keys::make(&store).unwrap();
    assert_eq!(ledger.lock().unwrap().signer().unwrap().id(), first.id());
    // Entered, and not put in its place.
    let mut locked = ledger.lock_for_key().unwrap();
    let second = keys::make(&store).unwrap();
    locked.introduce(second.clone(), Some(&first)).unwrap();
    drop(locked);
    assert_eq!(keys::signer(&store).unwrap().unwrap().id(), first.id());
    ledger.lock().unwrap().append(&begin("a")).unwrap();
    assert_eq!(keys::signer(&store).unwrap().unwrap().id(), second.id());
    assert_eq!(ledger.read().unwrap().fault, None);
}

#[test]
fn a_ledger_that_was_replaced_takes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let ledger = LedgerFile::open(&store).unwrap();
    ledger.lock().unwrap().append(&begin("a")).unwrap();
    let path = store.path().join(ledger::FILE);
    let text = std::fs::read(&path).unwrap();
    std::fs::rename(&path, store.path().join("away")).unwrap();
    assert!(matches!(ledger.lock().unwrap_err(), LedgerError::Replaced(_)));
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(ledger.lock().unwrap_err(), LedgerError::Replaced(_)));
    std::fs::rename(store.path().join("away"), &path).unwrap();
    drop(ledger.lock().unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), text);
}
