use std::io::Write as _;

use policy::{Policy, Variables};
use proptest::prelude::*;
use proptest::sample::select;
use sandbox_ebpf::abi::policy::{access, net_access, proto};

use super::court::{Court, Outcome};
use super::*;
use crate::event::decode::{Decoded, Facts};
use crate::event::judge::{Judge, Judging};
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::log_of;

fn parse(text: &str) -> Policy {
    Policy::parse("p.yaml", text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}"))
}

const POLICY: &str = r#"
version: 1
name: p
files:
  default: deny
  rules:
    - { name: open, allow: [all], path: ["/a/**", "/b"] }
    - { name: keys, deny: [read], path: ["/a/k/**"], because: keys stay }
    - { name: still, deny: [create, delete], path: ["/a/s/**"] }
    - { name: soon, deny: [write, attributes], path: ["/a/t"], mode: audit }
exec:
  default: allow
  rules:
    - { name: tools, deny: [run], path: ["/a/tool", "/a/text"] }
network:
  default: deny
  rules:
    - { name: local, allow: [connect, send, bind, listen], to: ["127.0.0.0/8:80", "[::1]:53/udp"] }
"#;

const PATHS: [&str; 9] = ["/a", "/a/k", "/a/k/x", "/a/s/x", "/a/t", "/a/tool", "/a/text", "/b", "pipe:[4]"];

/// What the judge of a run makes of an event, and what its record and this policy make of it: action and rule.
fn compared(policy: &Policy, decoded: Decoded) -> (String, String) {
    let mut judged = decoded.clone();
    Judge::new(Some(&policy.clone().into()), 1, Judging::Observed, ProcId { pid: 1, start_ns: 1 })
        .judge(&mut judged);
    let rule = match judged.event.get(Key::PolicyRule) {
        Some(Value::Bytes(rule)) => String::from_utf8_lossy(rule).into_owned(),
        _ => "-".to_owned(),
    };
    let live = format!("{} {rule}", judged.event.action.name());

    let line = log_of("r", "a", [&decoded.event]);
    let record = Record::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
    let who = Lineage::default().actor(&record);
    let replayed = match attempt::read(&record, |_| false) {
        Reading::Asked(asked) => {
            let mut court = Court::new(policy);
            let judged = court.judge(&asked, &who).expect("something is asked");
            let action = match judged.ruling.outcome {
                Outcome::Allowed => "ALLOWED",
                Outcome::OnTrial | Outcome::Blocked => "WOULD_BLOCK",
            };
            let rule = judged.ruling.rule.as_ref().map_or("-", |rule| rule.as_str());
            format!("{action} {rule}")
        }
        Reading::Nothing | Reading::Unknown => "OBSERVED -".to_owned(),
    };
    (live, replayed)
}

/// An event as the decoder of this kind of call makes it.
fn event(kind: usize, path: &str, other: &str, flag: bool, ret: i64) -> Decoded {
    use EventType::*;
    let bytes = |text: &str| Value::Bytes(text.into());
    let list = |words: &[&str]| Value::List(words.iter().map(|word| word.as_bytes().to_vec()).collect());
    let facts = Facts { detached: !path.starts_with('/'), ..Facts::default() };
    let asks = |access| Facts { access, ..facts };
    let call = |name: &str| (Key::Syscall, bytes(name));
    let at = (Key::Path, bytes(path));
    let to = (Key::Path2, bytes(other));
    let exchange = u64::from(libc::RENAME_EXCHANGE);
    let (event_type, details, facts) = match kind {
        0 if flag => (FileOpen, vec![at, (Key::Access, list(&["read"]))], asks(access::READ)),
        0 => {
            let words = (Key::Access, list(&["read", "write", "create"]));
            (FileCreate, vec![at, words], asks(access::READ | access::WRITE | access::CREATE))
        }
        1 if flag => (FileDelete, vec![at], Facts { detached: false, ..asks(access::DELETE) }),
        1 => (DirDelete, vec![at], Facts { detached: false, ..asks(access::DELETE) }),
        2 if flag => {
            let both = access::DELETE | access::CREATE;
            let facts = Facts { access2: both, gained: None, detached: false, ..asks(both) };
            (FileRename, vec![at, to, (Key::Flags, Value::Uint(exchange))], facts)
        }
        2 => {
            let facts =
                Facts { access2: access::CREATE, gained: None, detached: false, ..asks(access::DELETE) };
            (FileRename, vec![at, to], facts)
        }
        3 => (
            FileLink,
            vec![at, to],
            Facts { access2: access::CREATE, gained: None, detached: false, ..asks(0) },
        ),
        4 if flag => (FileSymlink, vec![at, to], Facts { detached: false, ..asks(access::CREATE) }),
        4 => (DirCreate, vec![at], Facts { detached: false, ..asks(access::CREATE) }),
        5 if flag => (FileTruncate, vec![at, call("ftruncate")], asks(access::WRITE)),
        5 => (FileMode, vec![at, call("fchmod")], asks(access::ATTRIBUTES)),
        6 => {
            let script = flag && path != other;
            let argv = (Key::Argv, list(&["sh", other][..1 + usize::from(flag)]));
            let details = vec![(Key::Path, bytes(other)), (Key::Exe, bytes(path)), argv];
            (Exec, details, Facts { script, detached: false, ..asks(access::RUN) })
        }
        7 => (FileOpen, vec![at], asks(0)),
        _ => {
            let ip = if flag { "127.0.0.1" } else { "::1" };
            let port = if path.len().is_multiple_of(2) { 80 } else { 53 };
            let (word, number) = if flag { ("tcp", proto::TCP) } else { ("udp", proto::UDP) };
            let end = ip.parse().ok().map(|ip| (ip, port));
            let (event_type, bit, keys) = match other.len() % 4 {
                0 => (NetConnect, net_access::CONNECT, [Key::DstIp, Key::DstPort]),
                1 => (NetSend, net_access::SEND, [Key::DstIp, Key::DstPort]),
                2 => (NetBind, net_access::BIND, [Key::SrcIp, Key::SrcPort]),
                _ => (NetListen, net_access::LISTEN, [Key::SrcIp, Key::SrcPort]),
            };
            let family = (Key::Family, bytes(if flag { "inet" } else { "inet6" }));
            let port = (keys[1], Value::Int(port.into()));
            let details = vec![family, (keys[0], bytes(ip)), port, (Key::Proto, bytes(word))];
            (event_type, details, Facts { net_access: bit, proto: number, end, ..Facts::default() })
        }
    };
    let details = details.into_iter().chain([(Key::Ret, Value::Int(ret))]).collect();
    let process = ProcId { pid: 1, start_ns: 1 };
    let action = Action::Observed;
    Decoded { event: Event { event_type, action, wall_ns: 0, mono_ns: 0, kseq: 1, process, details }, facts }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The record holds all that the judge of a run went by.
    #[test]
    fn a_replay_says_what_the_judge_of_a_run_says(
        kind in 0usize..9,
        path in select(&PATHS[..]),
        other in select(&PATHS[..8]),
        flag in any::<bool>(),
        failed in proptest::bool::weighted(0.1),
        audit in any::<bool>(),
    ) {
        let mode = if audit { "mode: audit\nfiles:" } else { "files:" };
        let policy = parse(&POLICY.replacen("files:", mode, 1));
        // ENOENT shows no hook.
        let ret = if failed { -2 } else { 0 };
        prop_assume!(!(failed && kind == 8));
        let decoded = event(kind, path, other, flag, ret);
        let (live, replayed) = compared(&policy, decoded.clone());
        // What the language itself allows has no rule, and is no question here.
        let own = live == "ALLOWED -" && replayed == "OBSERVED -";
        prop_assert!(own || live == replayed, "{live} but {replayed}: {decoded:?}");
    }
}

/// A run's directory with these lines, chained as the product writes them.
fn run(lines: &[Event]) -> (tempfile::TempDir, Found) {
    let place = tempfile::tempdir().unwrap();
    let start = line(EventType::RunStart, 1, &[(Key::Nonce, "0")], 0);
    let text = log_of("20260101-000000-x", "x", std::iter::once(&start).chain(lines));
    File::create(place.path().join(LOG)).unwrap().write_all(&text).unwrap();
    let found = Found { id: "20260101-000000-x".to_owned(), path: place.path().to_owned() };
    (place, found)
}

fn line(event_type: EventType, pid: u32, details: &[(Key, &str)], ret: i64) -> Event {
    let details = details.iter().map(|(key, value)| match *key {
        Key::Access => (*key, Value::List(vec![value.as_bytes().to_vec()])),
        Key::ChildPid | Key::Lost | Key::DstPort | Key::SrcPort => {
            (*key, Value::Uint(value.parse().unwrap()))
        }
        key => (key, Value::Bytes(value.as_bytes().to_vec())),
    });
    let details = details.chain([(Key::Ret, Value::Int(ret))]).collect();
    let process = ProcId { pid, start_ns: 1 };
    Event { event_type, action: Action::Observed, wall_ns: 0, mono_ns: 0, kseq: 1, process, details }
}

fn fork(pid: u32, child: u32) -> Event {
    let (number, name) = (child.to_string(), format!("{child}-1"));
    line(EventType::Fork, pid, &[(Key::ChildPid, &number), (Key::ChildProcId, &name)], 0)
}

fn exec(pid: u32, exe: &str) -> Event {
    line(EventType::Exec, pid, &[(Key::Path, exe), (Key::Exe, exe)], 0)
}

fn open(pid: u32, path: &str) -> Event {
    line(EventType::FileOpen, pid, &[(Key::Path, path), (Key::Access, "read")], 3)
}

/// The outcome of each attempt in the run.
fn outcomes(policy: &Policy, lines: &[Event]) -> (Vec<Outcome>, Read) {
    let (_place, found) = run(lines);
    let (mut court, mut all) = (Court::new(policy), Vec::new());
    let read = read(&found, |attempt| {
        all.extend(court.judge(attempt.asked, attempt.who).map(|judged| judged.ruling.outcome));
    });
    (all, read.unwrap())
}

#[test]
fn conditions_follow_forks_and_execs() {
    use Outcome::{Allowed, Blocked};
    let policy = parse(
        "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
         - { name: by, allow: [read], path: [\"/by\"], by: [\"/bin/node\"] }\n    \
         - { name: under, allow: [read], path: [\"/under\"], under: [\"/bin/npm\"] }\n",
    );
    let lines = [
        exec(1, "/bin/npm"),
        open(1, "/by"),
        open(1, "/under"),
        fork(1, 2),
        exec(2, "/bin/sh"),
        fork(2, 3),
        exec(3, "/bin/node"),
        open(3, "/by"),
        open(3, "/under"),
        // Another process with the same name, of which nothing is known.
        open(9, "/under"),
        // What a process was before counts for `under`.
        exec(1, "/bin/true"),
        open(1, "/under"),
        open(2, "/under"),
        open(2, "/by"),
    ];
    let (found, read) = outcomes(&policy, &lines);
    let execs = [Allowed; 4];
    let opens = [Blocked, Allowed, Allowed, Allowed, Blocked, Allowed, Allowed, Blocked];
    assert_eq!(found.iter().filter(|outcome| **outcome == Allowed).count(), 5 + execs.len());
    let only_opens: Vec<Outcome> = found
        .iter()
        .zip([1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0])
        .filter(|(_, is_exec)| *is_exec == 0)
        .map(|(outcome, _)| *outcome)
        .collect();
    assert_eq!(only_opens, opens);
    assert!(read.notes.iter().any(|note| note.contains("1 processes began unrecorded")), "{:?}", read.notes);
}

#[test]
fn what_a_record_lacks_is_said() {
    let policy = parse("version: 1\nname: p\nfiles: { default: allow }\n");
    let mut gone = line(EventType::FileDelete, 1, &[(Key::Path, "/w/link/x")], 0);
    gone.details.push((Key::PathUnresolved, Value::Flag(true)));
    let lines = [exec(1, "/bin/sh"), line(EventType::Gap, 1, &[(Key::Lost, "7")], 0), open(1, "/x"), gone];
    let (found, read) = outcomes(&policy, &lines);
    assert_eq!((found.len(), read.attempts, read.events), (3, 3, 3));
    let told = read.notes.join("\n");
    for says in ["the record is incomplete", "7 events were lost", "1 attempts may have led elsewhere"] {
        assert!(told.contains(says), "{says} in {told}");
    }
}

#[test]
fn calls_that_failed_behind_the_hook_count_and_others_do_not() {
    let policy = parse(POLICY);
    let connect = |ret| {
        let end =
            [(Key::Family, "inet"), (Key::DstIp, "10.0.0.1"), (Key::DstPort, "80"), (Key::Proto, "tcp")];
        line(EventType::NetConnect, 1, &end, ret)
    };
    let errno = |errno: i32| -i64::from(errno);
    let unix = |ret| {
        let end = [(Key::Family, "unix"), (Key::Path, "/run/nscd/socket"), (Key::Proto, "stream")];
        line(EventType::NetConnect, 1, &end, ret)
    };
    let netlink = |proto| line(EventType::NetSend, 1, &[(Key::Family, "netlink"), (Key::Proto, proto)], 20);
    let question = [
        (Key::Family, "inet"),
        (Key::DstIp, "10.0.0.53"),
        (Key::DstPort, "53"),
        (Key::Proto, "udp"),
        (Key::Layer, "cgroup-net"),
        (Key::Reason, "a question for a name, which the runner answers"),
    ];
    for (event, counts) in [
        (unix(0), true),
        (unix(errno(libc::EAGAIN)), true),
        (unix(errno(libc::ENOENT)), false),
        (unix(errno(libc::ECONNREFUSED)), false),
        (netlink("kobject_uevent"), true),
        (netlink("route"), false),
        (line(EventType::NetConnect, 1, &question, 0), false),
        (connect(errno(libc::ECONNREFUSED)), true),
        (connect(errno(libc::EINPROGRESS)), true),
        (connect(errno(libc::EBADF)), false),
        (line(EventType::DirDelete, 1, &[(Key::Path, "/x")], errno(libc::ENOTEMPTY)), true),
        (line(EventType::FileDelete, 1, &[(Key::Path, "/x")], errno(libc::ENOENT)), false),
        (line(EventType::FileDelete, 1, &[(Key::Path, "/x")], errno(libc::EACCES)), false),
        (
            line(EventType::FileOpen, 1, &[(Key::Path, "/x"), (Key::Access, "read")], errno(libc::EACCES)),
            false,
        ),
    ] {
        let (found, _) = outcomes(&policy, std::slice::from_ref(&event));
        assert_eq!(found, if counts { vec![Outcome::Blocked] } else { vec![] }, "{event:?}");
    }
}

#[test]
fn a_directory_moves_only_where_the_hooks_would_let_it() {
    use Outcome::{Allowed, Blocked};
    let policy = parse(
        "version: 1\nname: p\nfiles: { default: allow }\nexec:\n  default: deny\n  rules:\n    \
         - { name: built, allow: [run], path: [\"/w/target/*/**\", \"/w/stage-*/*/**\"] }\n",
    );
    let rename =
        |old: &str, new: &str| line(EventType::FileRename, 1, &[(Key::Path, old), (Key::Path2, new)], 0);
    let make = |path: &str| line(EventType::DirCreate, 1, &[(Key::Path, path)], 0);
    let lines = [
        // Nothing says that it is a directory.
        rename("/w/file", "/w/target"),
        make("/w/work"),
        rename("/w/work", "/w/other"),
        // It is one by its other name too.
        rename("/w/other", "/w/target"),
        open(1, "/w/full/of/files"),
        rename("/w/full/of", "/w/target"),
        make("/w/stage-7"),
        rename("/w/stage-7", "/w/target"),
    ];
    let (found, _) = outcomes(&policy, &lines);
    assert_eq!(found, [Allowed, Allowed, Allowed, Blocked, Allowed, Blocked, Allowed, Allowed]);
}

#[test]
fn a_suggestion_holds_for_everyone_in_its_group() {
    let text = "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
         - { name: node, allow: [read], path: [\"/x\"], by: [\"/bin/node\"] }\n";
    let write = line(EventType::FileOpen, 2, &[(Key::Path, "/x"), (Key::Access, "write")], 3);
    let lines = [exec(1, "/bin/sh"), fork(1, 2), exec(2, "/bin/node"), write, open(1, "/x")];
    let (_place, found) = run(&lines);
    let policy = parse(text);
    let (mut court, mut groups) = (Court::new(&policy), groups::Groups::default());
    let read = read(&found, |attempt| {
        let judged = court.judge(attempt.asked, attempt.who).expect("something is asked");
        if judged.ruling.outcome != Outcome::Allowed {
            groups.add(&judged, attempt.who, attempt.count);
        }
    });
    read.unwrap();
    let groups = groups.finish(&policy, &Variables::new(), 10).shown;
    assert_eq!((groups.len(), groups[0].count), (1, 2));
    let suggested = groups[0].suggestion.as_ref().unwrap().edits[0].line.clone();
    assert_eq!(suggested, "- { name: read-x, allow: [read, write], path: [\"/x\"] }");
    let (outcomes, _) = outcomes(&parse(&format!("{text}    {suggested}\n")), &lines);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Allowed), "{outcomes:?}");
}

#[test]
fn what_is_no_data_is_an_act_of_the_kernels_section() {
    let closed = parse("version: 1\nname: p\n");
    let opened = parse("version: 1\nname: p\nkernel: { allow: [raw-devices, sysctl-write] }\n");
    let write =
        line(EventType::FileOpen, 1, &[(Key::Path, "/proc/sys/vm/swappiness"), (Key::Access, "write")], 3);
    for (event, closes) in
        [(open(1, "/dev/sda"), true), (write, true), (open(1, "/proc/sys/vm/swappiness"), false)]
    {
        let outcome = |policy| outcomes(policy, std::slice::from_ref(&event)).0[0];
        assert_eq!(outcome(&closed) == Outcome::Blocked, closes, "{event:?}");
        assert_eq!(outcome(&opened), Outcome::Allowed);
    }
}

#[test]
fn what_the_kernels_section_closed_is_put_to_it_again() {
    let closed = parse("version: 1\nname: p\n");
    let opened = parse("version: 1\nname: p\nkernel: { allow: [raw-devices] }\n");
    let rule = [(Key::Layer, "lsm"), (Key::PolicyRule, "q/kernel.default")];
    let eperm = -i64::from(libc::EPERM);
    let open = |path, more: &[(Key, &str)]| {
        let details = [&[(Key::Path, path)], &rule[..], more].concat();
        line(EventType::FileOpen, 1, &details, eperm)
    };
    // By an unusual name; and a descriptor that was passed in, of which no accesses are told.
    for event in [open("/srv/disk", &[(Key::Access, "read")]), open("/srv/disk", &[]), open("/dev/sda", &[])]
    {
        let (found, read) = outcomes(&closed, std::slice::from_ref(&event));
        assert_eq!((found, read.attempts), (vec![Outcome::Blocked], 1), "{event:?}");
        assert_eq!(outcomes(&opened, std::slice::from_ref(&event)).0, [Outcome::Allowed], "{event:?}");
    }
    let setting = open("/proc/sys/vm/swappiness", &[]);
    assert_eq!(outcomes(&opened, std::slice::from_ref(&setting)).0, [Outcome::Blocked]);
}

#[test]
fn a_denial_by_another_name_is_put_to_the_policy_at_that_name() {
    let policy = parse(
        "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
         - { name: keys, deny: [read], path: [\"/keys/**\"] }\n",
    );
    let open = |target| {
        let details = [
            (Key::Path, "/srv/x"),
            (Key::Target, target),
            (Key::Access, "read"),
            (Key::Layer, "lsm"),
            (Key::Reason, "another name of the file is denied"),
        ];
        line(EventType::FileOpen, 1, &details, -i64::from(libc::EACCES))
    };
    assert_eq!(outcomes(&policy, &[open("/keys/a")]).0, [Outcome::Blocked]);
    assert_eq!(outcomes(&policy, &[open("/elsewhere")]).0, [Outcome::Allowed]);
}

#[test]
fn own_listeners_are_known_by_their_ports() {
    let policy = parse(
        "version: 1\nname: p\nnetwork:\n  default: deny\n  rules:\n    \
         - { name: own, allow: [connect, bind, listen], to: [\"own:1024-65535\"] }\n",
    );
    let end = |event_type, ip, port, keys: [Key; 2]| {
        line(event_type, 1, &[(Key::Family, "inet"), (keys[0], ip), (keys[1], port), (Key::Proto, "tcp")], 0)
    };
    let (own, other) = ([Key::SrcIp, Key::SrcPort], [Key::DstIp, Key::DstPort]);
    let lines = [
        end(EventType::NetConnect, "127.0.0.1", "8000", other),
        end(EventType::NetBind, "0.0.0.0", "8000", own),
        end(EventType::NetConnect, "127.0.0.1", "8000", other),
        end(EventType::NetConnect, "127.0.0.1", "5432", other),
        end(EventType::NetConnect, "10.0.0.1", "8000", other),
    ];
    use Outcome::{Allowed, Blocked};
    assert_eq!(outcomes(&policy, &lines).0, [Blocked, Allowed, Allowed, Blocked, Blocked]);
}

/// Somebody else's server is not the run's own for being at the same port, nor because the run tried to listen there.
#[test]
fn what_listens_elsewhere_is_not_the_runs_own() {
    fn end(event_type: EventType, ip: &str, keys: [Key; 2], ret: i64) -> Event {
        line(
            event_type,
            1,
            &[(Key::Family, "inet"), (keys[0], ip), (keys[1], "8000"), (Key::Proto, "tcp")],
            ret,
        )
    }
    let (own, other) = ([Key::SrcIp, Key::SrcPort], [Key::DstIp, Key::DstPort]);
    let reached = |listens: &str, ret: i64, to: &str| {
        let (_place, found) = run(&[
            end(EventType::NetBind, listens, own, ret),
            end(EventType::NetListen, listens, own, ret),
            end(EventType::NetConnect, to, other, 0),
        ]);
        let mut last = None;
        read(&found, |attempt| {
            if let [Asked::End(Access::Connect, End::Address { owner, .. }, _)] = attempt.asked {
                last = Some(*owner);
            }
        })
        .unwrap();
        last == Some(Owner::Run)
    };
    for (listens, to) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")] {
        assert!(reached(listens, 0, to), "{listens} {to}");
        assert!(!reached(listens, -98, to), "{listens} {to}: EADDRINUSE");
    }
    assert!(!reached("127.0.0.2", 0, "127.0.0.1"));
    assert!(!reached("127.0.0.1", 0, "127.0.0.3"));
}

/// Names are told after who asked for them may have ended.
#[test]
fn what_is_told_late_is_still_told_of_who_did_it() {
    let exe = "/usr/bin/getent";
    let answer = [(Key::DstIp, "10.0.0.1"), (Key::Host, "pypi.org")];
    let events = [
        fork(1, 2),
        exec(2, exe),
        line(EventType::Exit, 2, &[], 0),
        line(EventType::DnsAnswer, 2, &answer, 0),
    ];
    let (_place, found) = run(&events);
    let mut who = Vec::new();
    let told = read(&found, |attempt| who.push(attempt.who.exe().to_vec())).unwrap();
    assert_eq!(who.last().map(Vec::as_slice), Some(exe.as_bytes()));
    assert!(!told.notes.iter().any(|note| note.contains("began unrecorded")), "{:?}", told.notes);
}
