//! Baselines of made-up runs; those of recorded ones are in `tests/baseline.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use policy::learn::Reach;
use policy::{Access, Protocol, Variables};
use proptest::prelude::*;

use super::check::{About, Checked, check};
use super::classes;
use super::deeds::{Deed, Deeds, Gathered};
use super::file::{Baseline, FileError};
use super::make::make;
use super::page;
use super::watch::Watch;
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::review::replay::Read;

fn variables(number: usize) -> Variables {
    let mut variables = Variables::new();
    for (name, value) in [("HOME", "/home/u"), ("TMP", "/tmp"), ("USER", "u"), ("UID", "1000")] {
        assert_eq!(variables.set(name, value), Ok(()));
    }
    assert_eq!(variables.set_workspace(format!("/srv/jobs/{number}")), Ok(()));
    variables
}

fn run(number: usize, agent: &str, deeds: Deeds) -> Gathered {
    Gathered {
        id: format!("run-{number}"),
        agent: agent.to_owned(),
        variables: variables(number),
        counts_bytes: true,
        deeds,
        read: Read::default(),
    }
}

fn host(name: Option<&str>, last: u8) -> Deed {
    Deed::Reach(Reach::Address {
        address: IpAddr::from([203, 0, 113, last]),
        port: 443,
        protocol: Protocol::Tcp,
        host: name.map(str::to_owned),
        own: false,
        listens: false,
    })
}

/// A run of a small job, with names of its own.
fn job(number: usize) -> Deeds {
    let mut deeds = Deeds::default();
    let (make, cc) = (&b"/usr/bin/make"[..], &b"/usr/bin/cc"[..]);
    let path = |text: String| text.into_bytes();
    deeds.did(Deed::Run(make.to_vec()), b"(start)", 1);
    deeds.did(Deed::Run(cc.to_vec()), make, 3);
    deeds.did(Deed::File(Access::Read, path(format!("/srv/jobs/{number}/src/part{number}.c"))), cc, 1);
    deeds.did(Deed::File(Access::Create, path(format!("/tmp/cc{number}aBxYz.s"))), cc, 1);
    deeds.did(Deed::File(Access::Read, path(format!("/home/u/.cache/tool/{number}/entry"))), make, 2);
    deeds.did(Deed::File(Access::Read, b"/home/u/.cache/tool/index".to_vec()), make, 1);
    deeds.did(Deed::File(Access::Read, b"/home/u/.ssh/id_deploy".to_vec()), b"/usr/bin/ssh", 1);
    deeds.did(host(Some("mirror.example"), number as u8), make, 1);
    deeds
}

fn five() -> Baseline {
    let runs: Vec<Gathered> = (0..5).map(|number| run(number, "make", job(number))).collect();
    make(&runs).unwrap_or_else(|error| panic!("{error}"))
}

fn checked(run: &Gathered, baseline: &Baseline) -> Checked {
    let base = classes(&run.variables).unwrap_or_else(|error| panic!("{error}"));
    check(run, base, &Arc::new(baseline.clone())).unwrap_or_else(|error| panic!("{error}"))
}

/// What is new in one more job that does something more.
fn new(more: impl FnOnce(&mut Deeds)) -> Vec<String> {
    let mut deeds = job(77);
    more(&mut deeds);
    let checked = checked(&run(77, "make", deeds), &five());
    checked.findings.iter().map(page::headline).collect()
}

#[test]
fn an_honest_run_brings_nothing_new() {
    assert_eq!(new(|_| {}), [""; 0]);
}

#[test]
fn what_no_run_did_is_told_the_worst_first() {
    let found = new(|deeds| {
        deeds.did(Deed::File(Access::Read, b"/home/u/letters/one".to_vec()), b"/usr/bin/cc", 1);
        deeds.did(host(None, 9), b"/usr/bin/cc", 1);
        deeds.did(Deed::File(Access::Read, b"/home/u/.ssh/id_other".to_vec()), b"/usr/bin/cc", 1);
        deeds.did(Deed::File(Access::Write, b"/home/u/.bashrc".to_vec()), b"/usr/bin/cc", 1);
    });
    let expected = [
        "reads a credential: ${HOME}/.ssh/id_other, by /usr/bin/cc",
        "changes a place whose contents run later: ${HOME}/.bashrc, by /usr/bin/cc",
        "new host: 203.0.113.9:443/tcp, by /usr/bin/cc",
        "new place read: ${HOME}/letters/one, by /usr/bin/cc",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_known_thing_by_another_program_is_new() {
    let found = new(|deeds| {
        deeds.did(Deed::File(Access::Read, b"/home/u/.ssh/id_deploy".to_vec()), b"/usr/bin/cc", 1);
        deeds.did(Deed::Run(b"/usr/bin/cc".to_vec()), b"/usr/bin/cc", 1);
        // Of whom nothing is known.
        deeds.did(Deed::Run(b"/usr/bin/cc".to_vec()), b"(unknown)", 1);
    });
    let expected = [
        "new program for this: reads a credential: ${HOME}/.ssh/id_deploy, by /usr/bin/cc",
        "new parent: /usr/bin/cc starts /usr/bin/cc",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_a_new_program_starts_is_told_by_the_program() {
    let found = new(|deeds| {
        deeds.did(Deed::Run(b"/srv/jobs/77/dropped".to_vec()), b"/usr/bin/make", 1);
        deeds.did(Deed::Run(b"/usr/bin/cc".to_vec()), b"/srv/jobs/77/dropped", 1);
    });
    assert_eq!(found, ["new program: ${WORKSPACE}/dropped, by /usr/bin/make"]);
}

#[test]
fn a_connection_stands_for_the_question_for_its_name() {
    let asked = |name: &str| Deed::Reach(Reach::Question(name.to_owned()));
    let found = new(|deeds| {
        deeds.did(asked("evil.example"), b"/usr/bin/make", 1);
        deeds.did(host(Some("evil.example"), 77), b"/usr/bin/make", 1);
        deeds.did(asked("other.example"), b"/usr/bin/make", 1);
    });
    let expected = [
        "new host: evil.example:443/tcp, by /usr/bin/make",
        "new name asked for: other.example, by /usr/bin/make",
    ];
    assert_eq!(found, expected);
}

#[test]
fn agents_are_held_to_their_own_runs() {
    let runs: Vec<Gathered> = (0..6)
        .map(|number| {
            let mut deeds = job(number);
            if number > 2 {
                deeds.did(Deed::Run(b"/usr/bin/git".to_vec()), b"/usr/bin/make", 1);
            }
            run(number, if number > 2 { "codex" } else { "claude" }, deeds)
        })
        .collect();
    let baseline = make(&runs).unwrap_or_else(|error| panic!("{error}"));
    let mut deeds = job(7);
    deeds.did(Deed::Run(b"/usr/bin/git".to_vec()), b"/usr/bin/make", 1);
    let next = |agent: &str, deeds| checked(&run(7, agent, deeds), &baseline);
    let told = |checked: &Checked| checked.findings.iter().map(page::headline).collect::<Vec<_>>();
    let claude = next("claude", deeds);
    assert_eq!(told(&claude), ["new program: /usr/bin/git, by /usr/bin/make"]);
    assert!(matches!(claude.findings[0].about, About::Behaviour { others: 3, .. }), "{claude:?}");
    assert_eq!((claude.runs, claude.agent.as_deref()), (3, Some("claude")));
    let stranger = next("stranger", job(7));
    assert_eq!(told(&stranger), ["new agent: stranger"]);
    assert_eq!((stranger.runs, stranger.agent), (6, None));
}

#[test]
fn a_page_says_the_same_reason_once_and_fits_the_terminal() {
    let mut deeds = job(8);
    for name in ["/etc/group", "/etc/passwd"] {
        deeds.did(Deed::File(Access::Read, name.into()), b"/usr/bin/id", 2);
    }
    let long = format!("/opt/{}tool", "deep/".repeat(12));
    deeds.did(Deed::Run(long.clone().into_bytes()), b"/usr/bin/make", 1);
    let checked = checked(&run(8, "make", deeds), &five());
    let page = page::checked("r", &checked, usize::MAX, 80);
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines[0], format!("run r against 5 runs of make: {} new", checked.findings.len()));
    assert!(lines[1].starts_with("score  what none of 5 runs of make did"), "{page}");
    // Only what has a name in it may be longer.
    let too_long: Vec<_> =
        lines.iter().filter(|line| line.chars().count() > 80 && !line.contains("/opt/")).collect();
    assert!(too_long.is_empty(), "{too_long:?}");
    assert!(page.contains(&long) && page.contains("         by /usr/bin/make"), "{page}");
    let places = page.matches("new place read").count();
    assert!(places >= 2, "{page}");
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(flat.matches("the baseline has").count(), 2, "once for programs, once for places: {page}");
    assert!(!page.contains("in none of"), "{page}");
    // Where there is no terminal each is a line.
    let whole = page::checked("r", &checked, usize::MAX, usize::MAX);
    assert!(whole.lines().any(|line| line.contains(&long) && line.ends_with("by /usr/bin/make")), "{whole}");
}

#[test]
fn files_that_are_no_baseline_are_refused() {
    let text = five().text().unwrap_or_else(|error| panic!("{error}"));
    let parse = |text: &str| Baseline::parse(text.as_bytes());
    assert_eq!(parse(&text).ok(), Some(five()));
    let change = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        parse(&text.replacen(from, to, 1))
    };
    let version = change("\"sandbox_baseline\": 1", "\"sandbox_baseline\": 2");
    assert!(matches!(version, Err(FileError::Version(2))), "{version:?}");
    for (from, to) in [
        ("\"groups\"", "\"extra\": 1, \"groups\""),
        ("\"times\":", "\"extra\":1,\"times\":"),
        ("\"make\":5", "\"make\":5,\"make\":5"),
        ("\"access\":\"run\"", "\"access\":\"fly\""),
        ("\"runs\": 5", "\"runs\": 5, \"runs\": 5"),
        ("]\n}", "]\n}}"),
    ] {
        let read = change(from, to);
        assert!(matches!(read, Err(FileError::Form(_))), "{from}: {read:?}");
    }
    for (from, to) in [
        ("\"runs\": 5", "\"runs\": 6"),
        ("{\"make\":5}", "{\"make\":6}"),
        ("{\"make\":5}", "{\"other\":5}"),
        ("{\"make\":5}", "{}"),
        ("\"times\":5", "\"times\":0"),
        ("\"least\":0", "\"least\":7"),
    ] {
        let read = change(from, to);
        assert!(matches!(read, Err(FileError::Contradiction(_))), "{from}: {read:?}");
    }
    for what in ["usr/bin/cc", "/usr/bin/c?", "${OTHER}/cc", "/usr/bin/make"] {
        let read = change("\"what\":\"/usr/bin/cc\"", &format!("\"what\":\"{what}\""));
        assert!(matches!(read, Err(FileError::Object { .. })), "{what}: {read:?}");
    }
    assert!(matches!(parse(""), Err(FileError::Form(_))));
    assert!(matches!(parse(&"[".repeat(100_000)), Err(FileError::Form(_))));
}

/// The run's first process reads a file.
fn opened(path: String) -> Event {
    let access = Value::List(vec![b"read".to_vec()]);
    Event {
        event_type: EventType::FileOpen,
        action: Action::Observed,
        wall_ns: 1,
        mono_ns: 1,
        kseq: 1,
        process: ProcId { pid: 7, start_ns: 70 },
        details: vec![
            (Key::Path, Value::Bytes(path.into_bytes())),
            (Key::Access, access),
            (Key::Ret, Value::Int(3)),
        ],
    }
}

fn watch() -> Watch {
    let first = ProcId { pid: 7, start_ns: 0 };
    Watch::new(Arc::new(five()), "make", &variables(8), first, true).unwrap_or_else(|error| panic!("{error}"))
}

fn reasons(events: &[Event]) -> Vec<String> {
    let reason = |event: &Event| match event.get(Key::Reason) {
        Some(Value::Bytes(text)) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    };
    assert!(events.iter().all(|event| event.event_type == EventType::Detection));
    events.iter().map(reason).collect()
}

#[test]
fn what_is_new_is_told_once_when_it_happens() {
    let mut watch = watch();
    let mut look = |path: &str| reasons(&watch.look(&opened(path.to_owned())));
    assert_eq!(look("/srv/jobs/8/src/other.c"), [""; 0], "what the runs did");
    assert_eq!(look("/home/u/.ssh/id_deploy"), [""; 0], "what they did too, by whom is not known here");
    let told = ["reads a credential: ${HOME}/.ssh/id_other, by (start)"];
    assert_eq!(look("/home/u/.ssh/id_other"), told);
    assert_eq!(look("/home/u/.ssh/id_other"), [""; 0], "once");
    assert_eq!(watch.found(), 1);
}

#[test]
fn a_flood_of_what_is_new_is_bounded() {
    let mut watch = watch();
    let told: Vec<Event> =
        (0..3_000).flat_map(|file| watch.look(&opened(format!("/home/u/.ssh/{file}/key")))).collect();
    let told = reasons(&told);
    assert_eq!(told.len(), 101, "{:?}", told.last());
    assert!(told.last().is_some_and(|last| last.contains("does too many different things")), "{told:?}");
    // Nothing is looked at any more, and that was said.
    assert_eq!(watch.look(&opened("/home/u/.aws/credentials".to_owned())), []);
}

/// A name as a hostile run would choose it.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[a-c]{1,2}[0-9]{0,7}(\\.[a-z]{1,2})?".prop_map(String::into_bytes),
        1 => prop::collection::vec(1u8.., 1..6)
            .prop_map(|bytes| bytes.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect()),
    ]
}

fn path(run: usize) -> impl Strategy<Value = Vec<u8>> {
    let roots = [
        "/home/u",
        "/home/u/.ssh",
        "/home/u/.cache/tool",
        "/tmp",
        "/usr/lib",
        "/usr/bin",
        "/proc",
        "/etc",
        "",
    ];
    let roots: Vec<String> =
        roots.map(str::to_owned).into_iter().chain([format!("/srv/jobs/{run}")]).collect();
    (prop::sample::select(roots), prop::collection::vec(name(), 1..4)).prop_map(|(root, names)| {
        names.iter().fold(root.into_bytes(), |path, name| [&path[..], b"/", name].concat())
    })
}

fn deed(run: usize) -> impl Strategy<Value = Deed> {
    let access = prop::sample::select(vec![Access::Read, Access::Write, Access::Create, Access::Delete]);
    let host = prop::option::of("[a-c]{1,3}(\\.[a-c]{1,2}|[\u{1b}/$]){0,1}");
    prop_oneof![
        4 => (access, path(run)).prop_map(|(access, path)| Deed::File(access, path)),
        2 => path(run).prop_map(Deed::Run),
        2 => (any::<[u8; 4]>(), any::<u16>(), host, any::<bool>(), any::<bool>()).prop_map(
            |([_, _, c, d], port, host, own, listens)| Deed::Reach(Reach::Address {
                address: IpAddr::from([203, 0, c % 2, d]),
                port: if c > 128 { 443 } else { port },
                protocol: Protocol::Tcp,
                host,
                own,
                listens,
            })
        ),
        1 => path(run).prop_map(|path| Deed::Reach(Reach::Socket(path))),
        1 => name().prop_map(|name| Deed::Reach(Reach::Socket(name))),
        1 => "[a-c\u{1b}]{1,4}".prop_map(|name| Deed::Reach(Reach::Question(name))),
        1 => Just(Deed::Reach(Reach::Other)),
        1 => Just(Deed::Kernel("mount")),
    ]
}

fn any_run(number: usize) -> impl Strategy<Value = Gathered> {
    let by = prop_oneof![Just(b"(start)".to_vec()), Just(b"(unknown)".to_vec()), path(number)];
    let agent = prop::sample::select(vec!["a", "b", "\u{1b}[2J\u{9b}\u{7f}\u{202e}"]);
    (prop::collection::vec((deed(number), by, 1u64..4), 0..24), agent).prop_map(move |(all, agent)| {
        let mut deeds = Deeds::default();
        all.into_iter().for_each(|(deed, by, times)| deeds.did(deed, &by, times));
        run(number, agent, deeds)
    })
}

fn is_clean(text: &str) -> bool {
    text.lines().all(audit_verify::text::is_plain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No run of a baseline is new to it, the file says the same whatever the order, and it is read back as it was.
    #[test]
    fn a_run_of_the_baseline_is_never_new(runs in (any_run(0), any_run(1), any_run(2), any_run(3))) {
        let mut runs = Vec::from(<[Gathered; 4]>::from(runs));
        let text = make(&runs).and_then(|made| Ok(made.text()?)).unwrap_or_else(|error| panic!("{error}"));
        let baseline = Baseline::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        prop_assert!(is_clean(&text));
        prop_assert!(is_clean(&page::shown_baseline(&baseline, usize::MAX)));
        for run in &runs {
            prop_assert_eq!(checked(run, &baseline).findings, []);
        }
        for turn in 1..4 {
            runs.rotate_left(turn);
            prop_assert_eq!(&make(&runs).and_then(|made| Ok(made.text()?)).unwrap_or_default(), &text);
        }
        runs.swap(0, 2);
        prop_assert_eq!(&make(&runs).and_then(|made| Ok(made.text()?)).unwrap_or_default(), &text);
    }

    /// Whatever a run did, what is said of it does nothing to a terminal.
    #[test]
    fn what_is_said_is_clean(other in any_run(9)) {
        let checked = checked(&other, &five());
        prop_assert!(is_clean(&page::checked("run\x1b", &checked, usize::MAX, 80)));
    }

    /// Files with wrong bytes are refused or read, and what is read can be used.
    #[test]
    fn any_bytes_are_a_baseline_or_an_error(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = five().text().unwrap_or_default().into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(baseline) = Baseline::parse(&bytes) {
            let checked = checked(&run(8, "make", job(8)), &baseline);
            prop_assert!(is_clean(&page::checked("run", &checked, usize::MAX, 80)));
            prop_assert!(is_clean(&page::shown_baseline(&baseline, usize::MAX)));
        }
    }
}
