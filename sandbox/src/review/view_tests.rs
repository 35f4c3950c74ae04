//! Views of made-up runs.

use super::*;
use crate::event::{Action, Event, EventType, Key, ProcId, Value};
use crate::record::made_up::begin;
use crate::record::{RecordSettings, RunEnd, runner_event};

const ALL: Size = Size { limit: None, width: None };

fn event(event_type: EventType, pid: u32, ms: u64, details: &[(Key, &[u8])]) -> Event {
    let mut event = runner_event(event_type, ProcId { pid, start_ns: 1 });
    event.mono_ns = 1 + ms * 1_000_000;
    event.details = details.iter().map(|(key, value)| (*key, Value::Bytes(value.to_vec()))).collect();
    event
}

fn with(mut event: Event, key: Key, value: Value) -> Event {
    event.set(key, value);
    event
}

fn list(words: &[&[u8]]) -> Value {
    Value::List(words.iter().map(|word| word.to_vec()).collect())
}

fn open(pid: u32, ms: u64, path: &[u8], access: &[u8], ret: i64) -> Event {
    let event = event(EventType::FileOpen, pid, ms, &[(Key::Path, path), (Key::Exe, b"/bin/x")]);
    with(with(event, Key::Ret, Value::Int(ret)), Key::Access, list(&[access]))
}

fn story() -> Vec<Event> {
    let exec = |pid, ms, argv: &[&[u8]]| {
        with(event(EventType::Exec, pid, ms, &[(Key::Exe, b"/bin/x")]), Key::Argv, list(argv))
    };
    let mut events = vec![exec(7, 1, &[b"./evil\x1b[2J", b"a b"])];
    for at in 0..30 {
        events.push(open(7, 2, format!("/usr/lib/x86/lib{at}.so").as_bytes(), b"read", -2));
        events.push(open(7, 2, format!("/usr/share/doc/{at}").as_bytes(), b"read", 3));
    }
    events.push(open(7, 3, b"/etc/shadow", b"read", -13));
    events.push(open(7, 4, b"/tmp/out\x1b]0;pwned\x07\n\xff", b"write", 4));
    let rename = event(EventType::FileRename, 7, 5, &[(Key::Path, b"/tmp/a"), (Key::Path2, b"/tmp/b")]);
    events.push(with(rename, Key::Ret, Value::Int(0)));
    for at in 0..20 {
        let path = format!("/tmp/build/{at}");
        events.push(event(EventType::FileDelete, 7, 6, &[(Key::Path, path.as_bytes())]));
    }
    let connect = |ms, ip: &[u8], ret| {
        let event = event(EventType::NetConnect, 7, ms, &[(Key::DstIp, ip), (Key::Exe, b"/bin/x")]);
        with(with(event, Key::DstPort, Value::Uint(443)), Key::Ret, Value::Int(ret))
    };
    events.push(connect(7, b"::1", -115));
    for _ in 0..3 {
        let mut denied = connect(8, b"127.0.0.2", -1);
        denied.action = Action::Blocked;
        denied.set(Key::PolicyRule, Value::Bytes(b"p/no\x1b[31m".into()));
        events.push(denied);
    }
    let mut would = open(8, 9, b"/etc/passwd", b"read", 3);
    would.action = Action::WouldBlock;
    would.set(Key::PolicyRule, Value::Bytes(b"p/etc".into()));
    events.push(would);
    events.push(with(event(EventType::Gap, 0, 10, &[(Key::Reason, b"ring")]), Key::Lost, Value::Uint(1234)));
    events.push(with(event(EventType::Exit, 7, 11, &[]), Key::ExitCode, Value::Int(1)));
    events
}

fn run(home: &Path, events: Vec<Event>) -> Found {
    let mut recorder = begin(home, RecordSettings::default());
    recorder.append(&events).unwrap();
    let end =
        RunEnd { exit_code: Some(1), reason: "exit".into(), duration_ns: 12_000_000, ..RunEnd::default() };
    recorder.seal(&end).unwrap();
    Found { id: recorder.dir().id().to_owned(), path: recorder.dir().path().to_owned() }
}

fn shown(run: &Found, size: Size) -> String {
    let mut out = Vec::new();
    text(run, size, Detail::Counted, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_story_of_a_run() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), story());
    let page = shown(&run, ALL);
    let head = page.lines().find_map(|line| line.trim().strip_prefix("head ")).unwrap();
    assert_eq!(head, Meta::read(&run.path).unwrap().end.unwrap().head.unwrap());
    let expected = r"run       20251121-012325-test
command   ./a\x1b[2Jb �
in        /tmp/�
started   2025-11-21 01:23:25 UTC, by agent
ended     exit 1 after 12ms
mode      audit-only, STORE store
layers    none
policy    none
events    93, 1,234 lost, 3 blocked, 1 would be blocked
chain     intact and complete, 93 events
          head HEAD

Blocked
    +0.008 connect 127.0.0.2:443 by /bin/x ×3
           rule p/no\x1b[31m

Would be blocked
    +0.009 read /etc/passwd by /bin/x
           rule p/etc

      TIME     PID WHAT
    +0.001       7 exec     ./evil\x1b[2J 'a b'
    +0.002       7 read     30 opens: /usr/share 30
    +0.002       7 missing  30 look-ups: /usr/lib 30
    +0.003       7 read     /etc/shadow (EACCES)
    +0.004       7 write    /tmp/out\x1b]0;pwned\x07\n\xff
    +0.005       7 rename   /tmp/a → /tmp/b
    +0.006       7 delete   20 times: /tmp/build 20
    +0.007       7 connect  [::1]:443
    +0.009       8 read     1 open: /etc 1
    +0.010       0 LOST     1,234 events (ring)
    +0.011       7 exit     code 1
";
    let expected = expected.replace("HEAD", head).replace("STORE", &Meta::read(&run.path).unwrap().store);
    assert_eq!(page, expected);
    assert!(!page.contains(|character: char| character.is_control() && character != '\n'));
}

#[test]
fn what_meta_says_otherwise_than_the_log_is_told() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), Vec::new());
    let page = || {
        let mut out = Vec::new();
        text(&run, ALL, Detail::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(!page().contains("NOTE"), "{}", page());
    let path = run.path.join("meta.json");
    let honest = std::fs::read_to_string(&path).unwrap();
    let (told, other) = match honest.contains("audit-only") {
        true => ("audit-only", "enforce"),
        false => ("enforce", "audit-only"),
    };
    std::fs::write(&path, honest.replace(told, other)).unwrap();
    assert!(page().contains("meta.json has another mode than the log"), "{}", page());
}

#[test]
fn what_changed_files_held_is_told() {
    let home = tempfile::tempdir().unwrap();
    let change = |path: &[u8], details: &[(Key, &[u8])], sizes: &[(Key, u64)]| {
        let mut event = event(EventType::FileChange, 7, 1, details);
        event.set(Key::Path, Value::Bytes(path.into()));
        sizes.iter().for_each(|(key, bytes)| event.set(*key, Value::Uint(*bytes)));
        event
    };
    let before = (Key::Sha256Before, &b"0123456789abcdef"[..]);
    let after = (Key::Sha256After, &b"fedcba9876543210"[..]);
    let new = (Key::BeforeMissing, &b"did not exist"[..]);
    let gone = (Key::AfterMissing, &b"gone"[..]);
    let changes = vec![
        change(b"/w/edited", &[before, after], &[(Key::SizeBefore, 12), (Key::SizeAfter, 4096)]),
        change(b"/w/new", &[new, after], &[(Key::SizeAfter, 5)]),
        change(b"/w/gone", &[before, gone], &[(Key::SizeBefore, 6)]),
        change(b"/w/touched", &[before, (Key::Sha256After, before.1)], &[(Key::SizeAfter, 7)]),
        change(b"/w/\x1bbig", &[new, (Key::AfterMissing, b"too large")], &[(Key::SizeAfter, 8_000_000)]),
    ];
    let run = run(home.path(), changes);
    let told = |detail| {
        let mut out = Vec::new();
        text(&run, ALL, detail, &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        let lines = page.lines().filter_map(|line| line.split_once("contents "));
        lines.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
    };
    let mut expected = vec![
        "/w/edited: 12 bytes 0123456789ab → 4,096 bytes fedcba987654",
        "/w/new: new, 5 bytes fedcba987654",
        "/w/gone: gone, was 6 bytes 0123456789ab",
        r"/w/\x1bbig: new, 8,000,000 bytes (too large)",
    ];
    assert_eq!(told(Detail::Counted), expected);
    expected.insert(3, "/w/touched: as before, 7 bytes 0123456789ab");
    assert_eq!(told(Detail::EveryFile), expected);
}

#[test]
fn what_went_over_the_network_is_told_in_80_columns() {
    let home = tempfile::tempdir().unwrap();
    let host: &[u8] = b"registry.example.com";
    let at = |port: u64, event: Event| with(event, Key::DstPort, Value::Uint(port));
    let six: (Key, &[u8]) = (Key::DstIp, b"2001:db8:113::80");
    let four: (Key, &[u8]) = (Key::DstIp, b"192.0.2.80");
    let tcp: (Key, &[u8]) = (Key::Proto, b"tcp");
    let udp: (Key, &[u8]) = (Key::Proto, b"udp");
    let tls: (Key, &[u8]) = (Key::Proto, b"tls");
    let known = (Key::Host, host);
    let mut blocked = at(443, event(EventType::NetConnect, 7, 5, &[four, udp, known]));
    blocked.action = Action::Blocked;
    blocked.set(Key::PolicyRule, Value::Bytes(b"p/network.default".to_vec()));
    let close = at(443, event(EventType::NetClose, 7, 6, &[six, tcp, known]));
    let close = with(with(close, Key::BytesOut, Value::Uint(720)), Key::BytesIn, Value::Uint(1_499));
    let run = run(
        home.path(),
        vec![
            at(53, event(EventType::NetConnect, 7, 1, &[(Key::DstIp, b"192.0.2.53"), udp])),
            at(443, event(EventType::NetConnect, 7, 2, &[six, tcp, known])),
            at(443, event(EventType::NetName, 7, 3, &[six, tls, known, (Key::Sni, host)])),
            at(443, event(EventType::NetName, 7, 4, &[six, tls, known, (Key::Sni, b"other.example.com")])),
            blocked,
            close,
        ],
    );
    let page = shown(&run, Size { limit: None, width: Some(80) });
    for line in [
        "    +0.001       7 connect  192.0.2.53:53/udp\n",
        "    +0.002       7 connect  registry.example.com ([2001:db8:113::80]:443)\n",
        "    +0.003       7 name     registry.example.com at [2001:db8:113::80]:443\n",
        "    +0.004       7 name     other.example.com at registry.example.com ([2001:db…\n",
        "    +0.005 connect registry.example.com (192.0.2.80:443/udp)\n",
        "    +0.006       7 close    720 bytes out, 1,499 in: registry.example.com ([200…\n",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}

#[test]
fn every_file_is_named_where_that_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), story());
    let mut out = Vec::new();
    text(&run, ALL, Detail::EveryFile, &mut out).unwrap();
    let page = String::from_utf8(out).unwrap();
    for line in [
        "    +0.002       7 read     /usr/share/doc/29\n",
        "    +0.002       7 read     /usr/lib/x86/lib29.so (ENOENT)\n",
        "    +0.006       7 delete   /tmp/build/19\n",
        "    +0.009       8 read     /etc/passwd\n",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    assert!(!page.contains(" opens: ") && !page.contains(" times: "), "{page}");
}

#[test]
fn a_program_did_not_execute_itself() {
    let home = tempfile::tempdir().unwrap();
    let exec = |ret| {
        let mut event =
            event(EventType::Exec, 7, 1, &[(Key::Path, b"/bin/wget"), (Key::PolicyRule, b"p/no")]);
        let exe: &[u8] = if ret == 0 { b"/bin/wget" } else { b"/bin/sh" };
        event.action = if ret == 0 { Action::WouldBlock } else { Action::Blocked };
        event.set(Key::Exe, Value::Bytes(exe.into()));
        with(event, Key::Ret, Value::Int(ret))
    };
    let page = shown(&run(home.path(), vec![exec(0), exec(-13)]), ALL);
    assert!(page.contains("exec /bin/wget\n") && page.contains("exec /bin/wget by /bin/sh\n"), "{page}");
}

#[test]
fn programs_that_are_looked_for_along_path_take_one_line() {
    let home = tempfile::tempdir().unwrap();
    let exec = |pid, ms, path: &str, argv: &[&[u8]], ret| {
        let event = event(EventType::Exec, pid, ms, &[(Key::Path, path.as_bytes()), (Key::Exe, b"/bin/sh")]);
        with(with(event, Key::Argv, list(argv)), Key::Ret, Value::Int(ret))
    };
    let mut events = Vec::new();
    for (ms, directory) in ["/usr/local/bin", "/usr/sbin", "/bin"].iter().enumerate() {
        let ms = ms as u64 + 1;
        events.push(exec(8, ms, &format!("{directory}/nosuch"), &[b"nosuch"], -2));
        let found = if ms == 3 { 0 } else { -2 };
        let path = if ms == 3 { "/usr/bin/python3.11".to_owned() } else { format!("{directory}/python3") };
        events.push(exec(7, ms, &path, &[b"python3", b"-V"], found));
    }
    events.push(exec(8, 4, "/opt/once", &[b"once"], -2));
    events.push(exec(8, 5, "/opt/closed", &[b"closed"], -13));
    events.push(exec(8, 6, "/bin/sh", &[b"handler"], 0));
    let run = run(home.path(), events);
    let page = shown(&run, ALL);
    let story: Vec<&str> = page.lines().skip_while(|line| !line.ends_with(" WHAT")).skip(1).collect();
    let expected = [
        "    +0.001       7 missing  2 look-ups: /usr/local 1, /usr/sbin 1",
        "    +0.001       8 exec     nosuch (ENOENT, tried 3 times)",
        "    +0.003       7 exec     python3 -V",
        "    +0.004       8 exec     /opt/once (ENOENT)",
        "    +0.005       8 exec     /opt/closed (EACCES)",
        "    +0.006       8 exec     handler",
    ];
    assert_eq!(story, expected, "{page}");
    let mut out = Vec::new();
    text(&run, ALL, Detail::EveryFile, &mut out).unwrap();
    let page = String::from_utf8(out).unwrap();
    assert!(page.contains("exec     /usr/sbin/python3 (ENOENT)\n"), "{page}");
}

#[test]
fn it_is_cut_to_the_size_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), story());
    let page = shown(&run, Size { limit: Some(2), width: Some(40) });
    assert!(!page.contains("missing") && page.contains("… 9 lines more"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 40));
}

#[test]
fn the_verdict_of_the_chain_is_told() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), story());
    let path = run.path.join(LOG);
    let log = std::fs::read(&path).unwrap();
    let cut: Vec<u8> = log.split_inclusive(|byte| *byte == b'\n').take(4).flatten().copied().collect();
    std::fs::write(&path, &cut).unwrap();
    assert!(shown(&run, ALL).contains("chain     incomplete, intact for 4 events\n          no seal"));
    std::fs::write(&path, &log[..log.len() - 5]).unwrap();
    assert!(shown(&run, ALL).contains("incomplete, intact for 92 events"));
    let forged = String::from_utf8(log.clone()).unwrap().replacen("/etc/shadow", "/etc/shallow", 1);
    std::fs::write(&path, &forged).unwrap();
    let page = shown(&run, ALL);
    assert!(page.contains("chain     TAMPERED, from line 63 on"), "{page}");
    let garbage = [&log[..], b"\x1b[2Jgarbage\n"].concat();
    std::fs::write(&path, &garbage).unwrap();
    let page = shown(&run, ALL);
    assert!(page.contains("TAMPERED") && page.contains("1 line could not be read."), "{page}");
    assert!(!page.contains('\x1b'));
    std::fs::write(&path, b"").unwrap();
    assert!(shown(&run, ALL).contains("chain     incomplete"));
    std::fs::remove_file(run.path.join(crate::record::meta::FILE)).unwrap();
    assert!(shown(&run, ALL).contains("meta.json is missing"));
}

#[test]
fn json_is_the_log_itself() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), story());
    let log = std::fs::read(run.path.join(LOG)).unwrap();
    let mut out = Vec::new();
    json(&run, ALL, &mut out).unwrap();
    assert_eq!(out, log);
    out.clear();
    json(&run, Size { limit: Some(2), width: None }, &mut out).unwrap();
    assert_eq!(out, log.split_inclusive(|byte| *byte == b'\n').take(2).collect::<Vec<_>>().concat());

    std::fs::write(run.path.join(LOG), b"\x1b[2Jforged\\n\n").unwrap();
    out.clear();
    json(&run, ALL, &mut out).unwrap();
    assert_eq!(out, b"\x1b[2Jforged\\n\n", "a program gets what is there");
    out.clear();
    json(&run, Size { limit: None, width: Some(80) }, &mut out).unwrap();
    assert_eq!(out, b"\\x1b[2Jforged\\\\n\n", "a terminal does not");
}

#[test]
fn a_log_that_cannot_be_read_is_named() {
    let home = tempfile::tempdir().unwrap();
    let run = run(home.path(), Vec::new());
    std::fs::remove_file(run.path.join(LOG)).unwrap();
    let error = text(&run, ALL, Detail::Counted, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("open /") && error.contains("events.jsonl: No such file"), "{error}");
}
