//! Questions to made-up runs, against the same conditions put to each line.

use std::time::Duration;

use proptest::prelude::*;

use super::filter::{ExeFilter, Needle, Outcome, Prefix, TypeFilter};
use super::*;
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use audit_verify::index::lists::BLOCK_ROWS;

use crate::record::index::{Standing, look, reindex};
use crate::record::made_up::begin;
use crate::record::{Durability, OnLogError, RecordSettings, Recorder, RunEnd, runner_event};

const PATHS: [&[u8]; 10] = [
    b"/",
    b"/etc",
    b"/etc/passwd",
    b"/etcetera",
    b"/etc/\xff\xfe",
    b"/nul\0/x",
    "/etc/é/\u{7f}".as_bytes(),
    b"/\xff/below",
    b"relative",
    b"",
];
const ENDS: [&[u8]; 6] =
    [b"10.0.0.1", b"::ffff:10.0.0.2", b"2001:db8::1", b"192.168.7.7", b"not an address", b"\xff"];
const NAMES: [&[u8]; 5] = [b"example.org", b"www.Example.org.", b"org", b"other.test", b"\xff"];
const RULES: [&[u8]; 4] = [b"p/no-keys", b"p/no-net", b"no-keys", b"q/no/slash"];

prop_compose! {
    fn event()(
        kind in proptest::sample::select(EventType::ALL.to_vec()),
        action in proptest::sample::select(vec![Action::Observed, Action::Allowed, Action::Blocked, Action::WouldBlock]),
        pid in 0u32..4,
        wall_ns in -3i64..60,
        path in proptest::option::of(proptest::sample::select(PATHS.to_vec())),
        path2 in proptest::option::of(proptest::sample::select(PATHS.to_vec())),
        exe in proptest::option::of(proptest::sample::select(PATHS.to_vec())),
        end in proptest::option::of(proptest::sample::select(ENDS.to_vec())),
        names in proptest::array::uniform2(proptest::option::of(proptest::sample::select(NAMES.to_vec()))),
        port in proptest::option::of(proptest::sample::select(vec![53u64, 443, u64::MAX])),
        rule in proptest::option::of(proptest::sample::select(RULES.to_vec())),
        ret in proptest::option::of(proptest::sample::select(vec![0i64, 3, -2, -13, -115, i64::MIN])),
    ) -> Event {
        let mut event = runner_event(kind, ProcId { pid, start_ns: 1 });
        event.action = action;
        event.wall_ns = wall_ns * 1_000_000_000;
        let texts = [
            (Key::Path, path), (Key::Path2, path2), (Key::Exe, exe), (Key::DstIp, end),
            (Key::Host, names[0]), (Key::Sni, names[1]), (Key::PolicyRule, rule),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                event.set(key, Value::Bytes(text.to_vec()));
            }
        }
        if let Some(port) = port {
            event.set(Key::DstPort, Value::Uint(port));
        }
        if let Some(ret) = ret {
            event.set(Key::Ret, Value::Int(ret));
        }
        event
    }
}

/// A list that is empty half of the time.
fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![Just(Vec::new()), proptest::collection::vec(proptest::sample::select(of), 1..3)]
}

prop_compose! {
    fn filter()(
        types in some(["file", "net", "proc", "dns", "exec", "file_open"].map(|word| TypeFilter::parse(word).unwrap()).to_vec()),
        actions in some(vec!["OBSERVED", "BLOCKED", "WOULD_BLOCK"]),
        rules in some(["no-keys", "p/no-net", "no/slash", "other"].map(String::from).to_vec()),
        paths in some(["/", "/etc", "/etc/passwd", "/nul"].map(|path| Prefix::new(Path::new(path))).to_vec()),
        contains in some([&b"etc"[..], b"\xff", b"\"pid\": 3"].map(|text| Needle::new(text).unwrap()).to_vec()),
        destinations in some(["10.0.0.0/30", "::/0", "192.168.7.7:443", "example.org", "*.example.org:53", ":443"].map(|word| word.parse().unwrap()).to_vec()),
        pids in some(vec![0i64, 3, 9]),
        exes in some(vec![ExeFilter::Name(b"passwd".to_vec()), ExeFilter::Prefix(Prefix::new(Path::new("/etc")))]),
        since in proptest::option::of(0i64..60),
        until in proptest::option::of(0i64..60),
        failed in proptest::bool::weighted(0.2),
    ) -> Filter {
        Filter {
            types, actions, rules, paths, contains, destinations, pids, exes,
            since: since.map(|second| second * 1_000_000_000),
            until: until.map(|second| second * 1_000_000_000),
            outcome: if failed { Outcome::Failed } else { Outcome::Any },
        }
    }
}

fn settings() -> RecordSettings {
    RecordSettings {
        durability: Durability::None,
        on_log_error: OnLogError::Stop,
        ..RecordSettings::default()
    }
}

fn found(recorder: &Recorder) -> Found {
    Found { id: recorder.dir().id().to_owned(), path: recorder.dir().path().to_owned() }
}

/// A finished run of these events.
fn run(home: &Path, events: Vec<Event>) -> Found {
    let mut recorder = begin(home, settings());
    recorder.append(&events).unwrap();
    recorder.seal(&RunEnd::default()).unwrap();
    let run = found(&recorder);
    recorder.finish_index().unwrap();
    run
}

/// The lines that match, one by one.
fn expected(run: &Found, filter: &Filter) -> Vec<String> {
    let log = std::fs::read(run.path.join(LOG)).unwrap();
    let lines = log.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let matching = lines.filter(|text| {
        let line = Line { offset: 0, text };
        filter.matches(&line, &Row::of(&line).unwrap())
    });
    matching.map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
}

fn ask(run: &Found, filter: &Filter, form: Form, limit: Option<usize>) -> (Vec<String>, Answered) {
    let mut out = Vec::new();
    let when = |at: Option<i64>| at.map(When::At);
    let asked =
        Asked { filter: filter.clone(), since: when(filter.since), until: when(filter.until), form, limit };
    let told = answer(run, &asked, &mut out).unwrap();
    (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), told)
}

fn check(run: &Found, filter: &Filter) {
    let expected = expected(run, filter);
    let (lines, told) = ask(run, filter, Form::Json, None);
    assert_eq!(lines, expected, "{filter:?}");
    assert!(!told.more && told.matched == expected.len() as u64);
    let (count, _) = ask(run, filter, Form::Count, None);
    assert_eq!(count, [expected.len().to_string()], "{filter:?}");
    let (first, told) = ask(run, filter, Form::Json, Some(2));
    assert_eq!(first, expected[..expected.len().min(2)], "{filter:?}");
    assert_eq!(told.more, expected.len() > 2);
    let (text, _) = ask(run, filter, Form::Text(Some(80)), None);
    assert_eq!(text.len(), if expected.is_empty() { 0 } else { expected.len() + 1 }, "{text:?}");
    assert!(text.iter().all(|line| line.chars().count() <= 80 && !line.contains(char::is_control)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The index, an index whose blocks are made when it is asked, and the log alone give the same.
    #[test]
    fn the_index_answers_what_the_log_says(
        events in proptest::collection::vec(event(), 1..150),
        filters in proptest::collection::vec(filter(), 12),
    ) {
        let home = tempfile::tempdir().unwrap();
        let run = run(home.path(), events);
        for filter in &filters {
            check(&run, filter);
        }
        rusqlite::Connection::open(run.path.join(FILE)).unwrap().execute_batch("DELETE FROM block").unwrap();
        prop_assert!(matches!(look(&run.path), Standing::Ready(index) if index.blocks.is_empty()));
        for filter in &filters {
            check(&run, filter);
        }
    }
}

/// Blocks that begin and end anywhere in a run: whole ones, the last one, and rows that are in none.
#[test]
fn more_than_a_block_is_answered_as_the_log_says() {
    let home = tempfile::tempdir().unwrap();
    let count = BLOCK_ROWS as u64 + 3000;
    let mut events = some_events(count);
    for (at, event) in events.iter_mut().enumerate() {
        // The clock is set back once, in the middle of the first block.
        let second = if at < 30_000 { at as i64 + 1000 } else { at as i64 - 29_000 };
        event.wall_ns = second * 1_000_000_000;
        if at % 7 == 0 {
            event.set(Key::Ret, Value::Int(if at % 2 == 0 { -2 } else { -115 }));
        }
        if at % 900 == 0 {
            event.action = Action::Blocked;
            event.set(Key::DstIp, Value::Bytes(format!("10.0.{}.1", at % 11).into_bytes()));
            event.set(Key::DstPort, Value::Uint(443));
        }
    }
    let run = run(home.path(), events);
    let between = |since: i64, until: i64| Filter {
        since: Some(since * 1_000_000_000),
        until: Some(until * 1_000_000_000),
        ..Filter::default()
    };
    let failed = Filter { outcome: Outcome::Failed, ..Filter::default() };
    let filters = [
        between(1500, 1600),
        between(36_500, 37_000),
        between(-10, 1001),
        Filter { paths: below_tmp().paths, ..between(20_000, 20_100) },
        Filter { paths: vec![Prefix::new(Path::new("/tmp/4"))], ..failed.clone() },
        Filter { actions: vec!["BLOCKED"], ..Filter::default() },
        Filter { destinations: vec!["10.0.0.0/22:443".parse().unwrap()], ..Filter::default() },
        Filter { pids: vec![8], ..Filter::default() },
        failed,
    ];
    let ask_all = || {
        filters.each_ref().map(|filter| [Form::Json, Form::Count].map(|form| ask(&run, filter, form, None).0))
    };
    let answers = filters.each_ref().map(|filter| {
        let lines = expected(&run, filter);
        let count = vec![lines.len().to_string()];
        [lines, count]
    });
    assert!(answers[..7].iter().all(|[lines, _]| !lines.is_empty()));
    assert!(ask_all() == answers, "whole");
    let bare = rusqlite::Connection::open(run.path.join(FILE)).unwrap();
    for fewer in ["DELETE FROM block WHERE first > 1", "DELETE FROM block"] {
        bare.execute_batch(fewer).unwrap();
        assert!(ask_all() == answers, "{fewer}");
    }
}

fn some_events(count: u64) -> Vec<Event> {
    let event = |at: u64| {
        let mut event = runner_event(EventType::FileOpen, ProcId { pid: 7, start_ns: 1 });
        event.set(Key::Path, Value::Bytes(format!("/tmp/{}", at % 10).into_bytes()));
        event
    };
    (0..count).map(event).collect()
}

fn below_tmp() -> Filter {
    Filter { paths: vec![Prefix::new(Path::new("/tmp"))], ..Filter::default() }
}

#[test]
fn an_index_that_cannot_be_asked_is_made_again_and_said_so() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), some_events(50));
    let index = run.path.join(FILE);
    let change = |sql: &str| rusqlite::Connection::open(&index).unwrap().execute_batch(sql).unwrap();
    type Spoil<'a> = (&'a dyn Fn(), &'a str);
    let spoils: [Spoil<'_>; 9] = [
        (&|| std::fs::remove_file(&index).unwrap(), "there is no index: it was made again, 52 rows"),
        (&|| std::fs::write(&index, "not SQLite at all").unwrap(), "the index cannot be asked ("),
        (&|| std::fs::write(&index, "").unwrap(), "the index cannot be asked ("),
        (
            &|| change("DELETE FROM event WHERE seq = 9; DELETE FROM block"),
            "it has 51 rows, and the last is of line 52",
        ),
        (
            &|| change("DELETE FROM event WHERE seq > 40; DELETE FROM block"),
            "the index ends at line 40, before the log does: it was",
        ),
        (&|| change("DELETE FROM event WHERE seq > 40"), "its blocks are not those of its rows"),
        (&|| change("UPDATE block SET rows = 0"), "its blocks are not those of its rows"),
        (&|| change("UPDATE event SET offset = 1 << 40 WHERE seq = 52"), "lines that are not in the log"),
        (&|| change("DROP VIEW events; CREATE VIEW events AS SELECT 1"), "`events` is not what an index"),
    ];
    for (spoil, note) in spoils {
        spoil();
        let (lines, told) = ask(&run, &below_tmp(), Form::Json, None);
        assert_eq!(lines.len(), 50, "{note}");
        assert!(told.notes.len() == 1 && told.notes[0].contains(note), "{note}: {:?}", told.notes);
        assert_eq!(ask(&run, &below_tmp(), Form::Json, None).1.notes, [""; 0], "{note}");
    }
}

#[test]
fn where_the_index_cannot_be_made_the_log_is_read() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), some_events(50));
    // What keeps also root from putting a file in place.
    std::fs::remove_file(run.path.join(FILE)).unwrap();
    std::fs::create_dir_all(run.path.join(FILE).join("in the way")).unwrap();
    let (lines, told) = ask(&run, &below_tmp(), Form::Json, None);
    assert_eq!(lines.len(), 50);
    let note = &told.notes[0];
    assert!(note.contains("cannot be made again here") && note.contains("the log is read instead"), "{note}");
}

#[test]
fn a_row_that_leads_elsewhere_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), some_events(50));
    let good = std::fs::read(run.path.join(FILE)).unwrap();
    for (change, why) in [
        ("UPDATE event SET offset = offset + 1 WHERE seq = 9", "no line of the log stands at its place"),
        ("UPDATE event SET length = length - 1 WHERE seq = 9", "no line of the log stands at its place"),
        ("UPDATE event SET length = -1 WHERE seq = 9", "no line of the log stands at its place"),
        (
            "UPDATE event SET offset = (SELECT offset FROM event WHERE seq = 10), \
             length = (SELECT length FROM event WHERE seq = 10) WHERE seq = 9",
            "another line of the log stands at its place",
        ),
        (
            "UPDATE strings SET value = '/tmp/forged' WHERE value = 'run_start'; UPDATE block SET path = type",
            "its line is not one that was asked for",
        ),
        ("DELETE FROM event WHERE seq = 9", "it has no row for seq 9"),
        ("UPDATE block SET path = x'ff'", "a list of a block is damaged"),
    ] {
        std::fs::write(run.path.join(FILE), &good).unwrap();
        rusqlite::Connection::open(run.path.join(FILE)).unwrap().execute_batch(change).unwrap();
        let asked = Asked { filter: below_tmp(), since: None, until: None, form: Form::Json, limit: None };
        let error = answer(&run, &asked, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("sandbox reindex"), "{error}");
    }
}

#[test]
fn a_run_that_goes_on_is_answered_to_its_last_line() {
    let home = tempfile::tempdir().unwrap();
    let mut recorder = begin(home.path(), settings());
    let run = found(&recorder);
    // Whoever holds the write lock of the index keeps it behind.
    let started = std::time::Instant::now();
    let holder = rusqlite::Connection::open(run.path.join(FILE)).unwrap();
    holder.busy_timeout(Duration::from_secs(60)).unwrap();
    while holder.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)).unwrap() < 1 {
        assert!(started.elapsed() < Duration::from_secs(60), "the first line is indexed");
        std::thread::sleep(Duration::from_millis(5));
    }
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    recorder.append(&some_events(5000)).unwrap();
    assert_eq!(recorder.flush().unwrap(), 5001, "the log does not wait for its index");
    let (lines, told) = ask(&run, &below_tmp(), Form::Json, None);
    assert_eq!(lines.len(), 5000);
    assert_eq!(
        told.notes,
        ["the run goes on, and its index is 5000 events behind: those were read in the log"]
    );
    assert_eq!(ask(&run, &below_tmp(), Form::Count, None).0, ["5000"]);
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    recorder.seal(&RunEnd::default()).unwrap();
    assert_eq!(recorder.finish_index().unwrap(), 5002);
    assert_eq!(
        ask(&run, &below_tmp(), Form::Count, None),
        (vec!["5000".into()], Answered { matched: 5000, ..Answered::default() })
    );
}

#[test]
fn a_torn_line_is_left_out_and_said_so() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), some_events(50));
    let log = std::fs::read(run.path.join(LOG)).unwrap();
    std::fs::write(run.path.join(LOG), &log[..log.len() - 5]).unwrap();
    reindex(&run.path).unwrap();
    let (lines, told) = ask(&run, &Filter::default(), Form::Json, None);
    assert_eq!(lines.len(), 51);
    assert!(told.notes.iter().any(|note| note.contains("torn")), "{:?}", told.notes);
}

#[test]
fn moments_are_counted_from_the_run() {
    let home = tempfile::tempdir().unwrap();
    let mut events = some_events(10);
    for (at, event) in events.iter_mut().enumerate() {
        event.wall_ns = 1_763_688_205_000_000_007 + at as i64 * 60_000_000_000;
    }
    let run = run(home.path(), events);
    let count = |since: &str, until: &str| {
        let moment = |word: &str| (!word.is_empty()).then(|| word.parse().unwrap());
        let asked = Asked {
            filter: below_tmp(),
            since: moment(since),
            until: moment(until),
            form: Form::Count,
            limit: None,
        };
        let mut out = Vec::new();
        answer(&run, &asked, &mut out).unwrap();
        String::from_utf8(out).unwrap().trim().parse::<u64>().unwrap()
    };
    assert_eq!(count("+0s", ""), 10);
    assert_eq!(count("+1m", ""), 9);
    assert_eq!(count("+1m", "+2m"), 2);
    assert_eq!(count("", "2025-11-21T01:23:25Z"), 0);
    assert_eq!(count("", "2025-11-21T01:24:26Z"), 2);
    // The seal is written when the test runs, long after.
    assert_eq!(count("1m", ""), 0);
}

#[test]
fn dots_in_a_path_are_taken_away_by_name() {
    for (asked, path) in [
        ("/a/b/../w", "/a/w"),
        ("/a/./w/", "/a/w"),
        ("/../..//etc", "/etc"),
        ("/a/..", ""),
        ("/", ""),
        ("/a/...", "/a/..."),
    ] {
        assert_eq!(Prefix::new(Path::new(asked)).path(), path.as_bytes(), "{asked}");
    }
}
