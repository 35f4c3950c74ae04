use audit_verify::canonical::Record;
use policy::{Policies, Policy, Variables};

use super::*;
use crate::event::{EventType, ProcId, Value};
use crate::review::text::{self, wrap};

const POLICY: &str = r#"
version: 1
name: agent
extends: [base@1]
files:
  default: allow
  rules:
    - { name: no-keys, deny: [read], path: ["/home/a/keys/**"], because: keys stay out of an agent's reach }
    - { name: frozen, deny: [create, delete], path: ["/frozen/**"] }
exec:
  default: allow
  rules:
    - { name: no-wget, deny: [run], path: ["**/wget"] }
network:
  default: deny
  rules:
    - { name: local, allow: [all], to: [localhost] }
"#;

impl Denials {
    fn find_remedies(&mut self, policies: &Policies) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        assert_eq!(Remedies::new(policies).fill(&mut self.groups, deadline), 0);
    }
}

fn policies() -> Policies {
    let mut variables = Variables::new();
    for (name, value) in [("HOME", "/home/a"), ("USER", "a"), ("UID", "1"), ("TMP", "/tmp")] {
        variables.set(name, value).unwrap();
    }
    Policy::parse("p.yaml", POLICY, &variables).unwrap_or_else(|errors| panic!("{errors}")).into()
}

/// An event that a policy denied, at this many seconds.
fn denied(action: Action, kind: EventType, second: i64, details: &[(Key, Value)]) -> Event {
    Event {
        event_type: kind,
        action,
        wall_ns: 1_763_688_205_000_000_000 + second * 1_000_000_000,
        mono_ns: 0,
        kseq: 1,
        process: ProcId { pid: 7, start_ns: 1 },
        details: details.to_vec(),
    }
}

fn bytes(text: &str) -> Value {
    Value::Bytes(text.into())
}

fn words(words: &[&str]) -> Value {
    Value::List(words.iter().map(|word| word.as_bytes().to_vec()).collect())
}

fn read(path: &str, rule: &str, exe: &str) -> Vec<(Key, Value)> {
    vec![
        (Key::Path, bytes(path)),
        (Key::Access, words(&["read"])),
        (Key::PolicyRule, bytes(rule)),
        (Key::Layer, bytes("lsm")),
        (Key::Exe, bytes(exe)),
    ]
}

/// A run in which several things were denied, and some allowed.
fn busy() -> Denials {
    let mut denials = Denials::new(LIVE);
    busy_events().iter().for_each(|event| denials.add(event));
    denials
}

fn busy_events() -> Vec<Event> {
    let mut events = Vec::new();
    let because = (Key::Because, bytes("keys stay out of an agent's reach"));
    for second in 0..12 {
        let mut details = read("/home/a/keys/one", "agent/no-keys", "/usr/bin/cat");
        details.push(because.clone());
        events.push(denied(Action::Blocked, EventType::FileOpen, second, &details));
    }
    let mut details = read("/home/a/keys/\u{1b}[2J", "agent/no-keys", "/usr/bin/less");
    details.push(because);
    events.push(denied(Action::Blocked, EventType::FileOpen, 20, &details));
    let details = [
        (Key::DstIp, bytes("2001:db8::1")),
        (Key::DstPort, Value::Int(443)),
        (Key::Proto, bytes("tcp")),
        (Key::Family, bytes("inet6")),
        (Key::PolicyRule, bytes("agent/network.default")),
        (Key::Layer, bytes("lsm")),
        (Key::Exe, bytes("/usr/bin/curl")),
        (Key::Count, Value::Uint(1_000)),
    ];
    events.push(denied(Action::Blocked, EventType::NetConnect, 30, &details));
    let trial = read("/home/a/.ssh/id_rsa", "base/credentials", "/usr/bin/ssh");
    events.push(denied(Action::WouldBlock, EventType::FileOpen, 40, &trial));
    let cut = [(Key::Reason, bytes("the path is too long to be judged")), (Key::Layer, bytes("lsm"))];
    events.push(denied(Action::Blocked, EventType::FileOpen, 50, &cut));
    events.push(denied(Action::Allowed, EventType::FileOpen, 60, &read("/x", "agent/files.default", "/x")));
    events
}

/// The lines of a policy that would allow one event.
#[track_caller]
fn remedy(kind: EventType, details: &[(Key, Value)]) -> Vec<String> {
    let mut denials = Denials::new(1);
    denials.add(&denied(Action::Blocked, kind, 0, details));
    denials.find_remedies(&policies());
    denials.groups()[0].remedy.clone().unwrap()
}

#[test]
fn the_summary_is_short_and_says_what_to_do() {
    let mut denials = busy();
    let policies = policies();
    let mut remedies = Remedies::new(&policies);
    let lines = summary::lines(&mut denials, |group| remedies.of(group));
    let expected = r#"
 1,000  agent/network.default
        connect [2001:db8::1]:443/tcp, by /usr/bin/curl
        - { name: connect-2001-db8-1-443, allow: [connect], to:
          ["[2001:db8::1]:443/tcp"] } # in network
    13  agent/no-keys: keys stay out of an agent's reach
        read /home/a/keys/one, by /usr/bin/cat (+1 more)
        except: ["/home/a/keys/one"] # in rule no-keys
     1  no rule: the path is too long to be judged
        file_open
     1  base/credentials (would be)
        read /home/a/.ssh/id_rsa, by /usr/bin/ssh
        - { amend: base/credentials, except: ["/home/a/.ssh/id_rsa"] }
          # in files; opens write, create, delete too"#;
    assert_eq!(format!("\n{}", lines.join("\n")), expected);
}

#[test]
fn the_summary_fits_whatever_was_denied() {
    let mut denials = Denials::new(50);
    for number in 0..100 {
        let path = format!("/{}/\u{202e}{}", "é".repeat(300), number);
        let mut details = read(&path, &format!("agent/rule-{:02}-{}", number % 60, "r".repeat(90)), &path);
        details.push((Key::Because, bytes(&"because\n".repeat(40))));
        denials.add(&denied(Action::Blocked, EventType::FileOpen, number, &details));
    }
    let long = format!("except: [\"{}\"]", "x".repeat(300));
    for remedy in [vec![long], vec!["- { a: b }".to_owned(); 30], Vec::new()] {
        let mut denials = copy_of(&denials);
        let lines = summary::lines(&mut denials, |_| remedy.clone());
        assert!(lines.len() <= summary::LINES && lines.len() > 10, "{} lines", lines.len());
        for line in &lines {
            assert!(line.chars().count() <= summary::WIDTH, "{line}");
            assert!(text::is_plain(line), "{line:?}");
        }
        assert!(lines.last().unwrap().contains("more"), "{lines:?}");
    }
    assert!(summary::lines(&mut Denials::new(1), |_| Vec::new()).is_empty());
}

fn copy_of(denials: &Denials) -> Denials {
    let mut copy = Denials::new(50);
    copy.groups = denials.groups.clone();
    copy.more = denials.more;
    copy
}

#[test]
fn the_page_has_everything() {
    let mut denials = busy();
    denials.find_remedies(&policies());
    let (groups, more) = denials.into_parts();
    let expected = r#"run x: 1,014 blocked, 1 would be blocked

agent/network.default (blocked 1,000, layer lsm)
  1,000x connect [2001:db8::1]:443/tcp
         by /usr/bin/curl, 2025-11-21 01:23:55 UTC
         - { name: connect-2001-db8-1-443, allow: [connect], to:
           ["[2001:db8::1]:443/tcp"] } # in network

agent/no-keys (blocked 13, layer lsm)
  because keys stay out of an agent's reach
     12x read /home/a/keys/one
         by /usr/bin/cat, 2025-11-21 01:23:25 to 01:23:36 UTC
         except: ["/home/a/keys/one"] # in rule no-keys
      1x read /home/a/keys/\x1b[2J
         by /usr/bin/less, 2025-11-21 01:23:45 UTC
         except: ["/home/a/keys/\\x1b\\[2J"] # in rule no-keys

no rule: the path is too long to be judged (blocked 1, layer lsm)
      1x file_open
         2025-11-21 01:24:15 UTC

base/credentials (would be blocked 1, layer lsm)
      1x read /home/a/.ssh/id_rsa
         by /usr/bin/ssh, 2025-11-21 01:24:05 UTC
         - { amend: base/credentials, except: ["/home/a/.ssh/id_rsa"] }
           # in files; opens write, create, delete too
"#;
    assert_eq!(page::page("run x", &groups, more), expected);
    assert_eq!(page::page("run x", &[], 0), "run x: nothing was blocked\n");
}

#[test]
fn what_only_sorts_addresses_comes_last_and_a_line_once() {
    let end = |second: i64, address: &str, port: i64, protocol: &str| {
        let details = [
            (Key::DstIp, bytes(address)),
            (Key::DstPort, Value::Int(port)),
            (Key::Proto, bytes(protocol)),
            (Key::Host, bytes("a.example")),
            (Key::PolicyRule, bytes("agent/network.default")),
            (Key::Layer, bytes("cgroup-net")),
        ];
        denied(Action::Blocked, EventType::NetConnect, second, &details)
    };
    let mut denials = Denials::new(LIVE);
    for event in [
        end(0, "192.0.2.1", 0, "udp"),
        end(0, "192.0.2.1", 0, "udp"),
        end(0, "192.0.2.1", 443, "tcp"),
        end(0, "2001:db8::1", 443, "tcp"),
    ] {
        denials.add(&event);
    }
    denials.find_remedies(&policies());
    let (groups, more) = denials.into_parts();
    let expected = r#"run x: 4 blocked

agent/network.default (blocked 4, layer cgroup-net)
      1x connect a.example (192.0.2.1):443/tcp
         2025-11-21 01:23:25 UTC
         - { name: connect-a.example-2, allow: [connect], to:
           ["a.example:443/tcp"] } # in network
      1x connect a.example ([2001:db8::1]):443/tcp
         2025-11-21 01:23:25 UTC
         (a line above allows it too)
      2x connect a.example (192.0.2.1):0/udp
         2025-11-21 01:23:25 UTC
         - { name: connect-a.example, allow: [connect], to: ["a.example:0/udp"]
           } # in network; needless where getaddrinfo only sorts addresses by it
"#;
    assert_eq!(page::page("run x", &groups, more), expected);
}

#[test]
fn lines_come_back_as_they_were() {
    let mut denials = busy();
    let raw = [(Key::Path, Value::Bytes(b"/\xff\n\"".to_vec())), (Key::Path2, bytes("/b"))];
    denials.add(&denied(Action::Blocked, EventType::FileRename, 3, &raw));
    denials.find_remedies(&policies());
    let (groups, _) = denials.into_parts();
    let mut written = Vec::new();
    groups.iter().for_each(|group| lines::write(group, &mut written));
    lines::write_more(7, &mut written);
    assert!(written.is_ascii());
    let mut read: Vec<_> = written.split(|byte| *byte == b'\n').filter_map(lines::read).collect();
    assert_eq!(read.pop(), Some(lines::Line::More(7)));
    let read: Vec<Group> = read
        .into_iter()
        .map(|line| match line {
            lines::Line::Group(group) => *group,
            more => panic!("{more:?}"),
        })
        .collect();
    assert_eq!(read, groups);
    // Any reader of JSON has the same.
    for line in written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let parsed = serde_json::from_slice::<serde_json::Value>(line);
        assert!(parsed.is_ok() || line.windows(6).any(|bytes| bytes == b"\\udcff"), "{parsed:?}");
    }
    assert_eq!(lines::read(b"{}"), None);
    assert_eq!(lines::read(b"x"), None);
}

#[test]
fn a_log_gives_the_same_groups_as_the_run() {
    let live = busy();
    let mut from_log = Denials::new(LIVE);
    let log = crate::record::log_of("20260101-000000-x", "agent", &busy_events());
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        from_log.read(&Record::parse(line).unwrap());
    }
    assert_eq!(from_log.groups(), live.groups());
}

#[test]
fn groups_are_bounded_and_the_rest_is_counted() {
    let mut denials = Denials::new(3);
    for round in 0..2 {
        for number in 0..5 {
            let details = read(&format!("/{number}"), "p/r", &format!("/bin/{round}"));
            denials.add(&denied(Action::Blocked, EventType::FileOpen, round, &details));
        }
    }
    // The first two, and the latest.
    let of = |at: usize| (denials.groups()[at].matter.object(), denials.groups()[at].count);
    assert_eq!([of(0), of(1), of(2)], [("/0".into(), 2), ("/1".into(), 2), ("/4".into(), 1)]);
    assert_eq!((denials.groups().len(), denials.more()), (3, 5));
    assert_eq!(denials.groups()[0].by(), "/bin/0, /bin/1");
    for number in 0..20 {
        let details = read("/0", "p/r", &format!("/bin/{number}"));
        denials.add(&denied(Action::Blocked, EventType::FileOpen, 5, &details));
    }
    assert_eq!((denials.groups()[0].programs.len(), denials.groups()[0].more_programs), (8, true));
    assert_eq!(denials.groups()[0].count, 22);
}

#[test]
fn the_part_that_was_denied_is_the_part_that_is_allowed() {
    let two = |from: &str, to: &str, rule: &str| {
        vec![(Key::Path, bytes(from)), (Key::Path2, bytes(to)), (Key::PolicyRule, bytes(rule))]
    };
    let frozen = |path: &str| vec![format!("except: [\"{path}\"]  # in rule frozen; opens ")];
    let starts = |found: Vec<String>, expected: Vec<String>| {
        assert!(found.len() == 1 && found[0].starts_with(&expected[0]), "{found:?}, not {expected:?}");
    };
    starts(remedy(EventType::FileRename, &two("/a", "/frozen/b", "agent/frozen")), frozen("/frozen/b"));
    starts(remedy(EventType::FileRename, &two("/frozen/a", "/b", "agent/frozen")), frozen("/frozen/a"));
    starts(remedy(EventType::FileLink, &two("/a", "/frozen/b", "agent/frozen")), frozen("/frozen/b"));
    assert_eq!(
        remedy(EventType::FileLink, &two("/home/a/keys/x", "/b", "agent/no-keys")),
        ["except: [\"/home/a/keys/x\"]  # in rule no-keys"],
        "what the new name would open"
    );
    let one = |path: &str, rule: &str| vec![(Key::Path, bytes(path)), (Key::PolicyRule, bytes(rule))];
    assert_eq!(
        remedy(EventType::FileLoad, &one("/opt/wget", "agent/no-wget")),
        ["except: [\"/opt/wget\"]  # in rule no-wget"],
        "what may not be executed is not loaded"
    );
    let mut exec = one("/x/link", "agent/no-wget");
    exec.push((Key::Target, bytes("/usr/bin/wget")));
    assert_eq!(remedy(EventType::Exec, &exec), ["except: [\"/usr/bin/wget\"]  # in rule no-wget"]);
    let mut unix = one("/run/x.sock", "agent/network.default");
    unix.push((Key::Family, bytes("unix")));
    let found = remedy(EventType::NetConnect, &unix);
    assert!(found[0].contains("to: [\"unix:/run/x.sock\"]"), "{found:?}");
    let kernel = |kind| remedy(kind, &one("/mnt", "agent/kernel.default"));
    assert_eq!(kernel(EventType::ProcMount), ["kernel: { allow: [mount] }  # at the top"]);
    assert_eq!(
        kernel(EventType::ProcPtrace),
        ["kernel: { allow: [ptrace-own] }  # at the top; ptrace-any for a process outside the run"]
    );
    let netlink = [(Key::Family, bytes("netlink")), (Key::PolicyRule, bytes("agent/network.default"))];
    assert!(remedy(EventType::NetConnect, &netlink).is_empty(), "no target names it");
    assert!(remedy(EventType::FileOpen, &one("/free", "agent/no-keys")).is_empty(), "nothing denies it");
}

#[test]
fn of_several_policies_each_that_denies_has_its_line() {
    let policy = |name: &str| {
        let text = format!("version: 1\nname: {name}\nfiles:\n  default: deny\n");
        Policy::parse("p.yaml", &text, &Variables::new()).unwrap()
    };
    let all = Policies::from(policy("a")).and(policy("b")).and(policy("c").on_trial());
    let of = |action| {
        let mut denials = Denials::new(1);
        denials.add(&denied(action, EventType::FileOpen, 0, &read("/x/y", "a/files.default", "/bin/cat")));
        denials.find_remedies(&all);
        denials.groups()[0].remedy.clone().unwrap()
    };
    assert_eq!(
        of(Action::Blocked),
        ["a", "b"].map(|name| {
            format!("- {{ name: read-y, allow: [read], path: [\"/x/y\"] }}  # in files of {name}")
        })
    );
    assert_eq!(of(Action::WouldBlock).len(), 3);
}

#[test]
fn lines_of_yaml_are_broken_where_yaml_allows_it() {
    let line = "- { name: a, allow: [read, write], path: [\"/with a blank/\\\" and quote\"] }  # in files of a policy";
    let policy = |lines: &[String]| {
        let rules: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let text = format!("version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n{rules}");
        Policy::parse("p.yaml", &text, &Variables::new())
            .unwrap_or_else(|errors| panic!("{errors}"))
            .effective_yaml()
    };
    for width in [10, 20, 40, 60, 100] {
        assert_eq!(policy(&wrap(line, width)), policy(&[line.to_owned()]), "{width}");
    }
}
