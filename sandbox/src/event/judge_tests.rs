use std::net::IpAddr;

use policy::{Policy, Variables};
use sandbox_ebpf::abi::policy::{kernel, net_access, proto};

use super::*;

/// A run's first process, which none of these events is about.
const FIRST: ProcId = ProcId { pid: 1, start_ns: 1 };
use crate::event::ProcId;

const POLICY: &str = r#"
version: 1
name: p
files:
  default: deny
  rules:
    - { name: home, allow: [all], path: ["/home/**"] }
    - { name: keys, deny: [read], path: ["/home/.ssh/**"], because: keys stay here }
    - { name: frozen, deny: [delete, create], path: ["/home/frozen/**"] }
exec:
  default: allow
  rules:
    - { name: no-tunnels, deny: [run], path: ["**/socat", "**/tunnel.sh"] }
network:
  default: deny
  rules:
    - { name: local, allow: [connect, listen], to: ["127.0.0.0/8"] }
"#;

fn judge(judging: Judging) -> Judge {
    Judge::new(Some(&Policies::from(parse(POLICY))), 1, judging, FIRST)
}

fn parse(text: &str) -> Policy {
    Policy::parse("p.yaml", text, &Variables::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn event(event_type: EventType, ret: Option<i64>, details: &[(Key, &str)], facts: Facts) -> Decoded {
    let details = details.iter().map(|(key, value)| (*key, Value::Bytes((*value).into())));
    let details = details.chain(ret.map(|ret| (Key::Ret, Value::Int(ret)))).collect();
    let process = ProcId { pid: 1, start_ns: 1 };
    let action = match facts.judgement {
        Judgement::None => Action::Observed,
        Judgement::Allowed => Action::Allowed,
        Judgement::Blocked => Action::Blocked,
        Judgement::WouldBlock => Action::WouldBlock,
    };
    let event = Event { event_type, action, wall_ns: 0, mono_ns: 0, kseq: 1, process, details };
    Decoded { event, facts }
}

fn asks(access: u16) -> Facts {
    Facts { access, ..Facts::default() }
}

/// Action, rule, layer, reason of what a judge made of an event.
fn outcome(judge: &mut Judge, mut decoded: Decoded) -> String {
    judge.judge(&mut decoded);
    let show = |key| bytes(&decoded.event, key).map_or("-".into(), |bytes| String::from_utf8_lossy(bytes));
    let [rule, layer, reason] = [Key::PolicyRule, Key::Layer, Key::Reason].map(show);
    format!("{} {rule} {layer} {reason}", decoded.event.action.name())
}

fn open(path: &str, ret: i64, facts: Facts) -> Decoded {
    event(EventType::FileOpen, Some(ret), &[(Key::Path, path)], facts)
}

#[test]
fn observed_attempts_are_judged_when_they_went_through() {
    let mut judge = judge(Judging::Observed);
    let mut see = |path, ret, access| outcome(&mut judge, open(path, ret, asks(access)));
    assert_eq!(see("/home/a", 3, access::READ), "ALLOWED p/home trace -");
    assert_eq!(see("/home/.ssh/id", 3, access::READ), "WOULD_BLOCK p/keys trace -");
    assert_eq!(see("/home/.ssh/id", 3, access::WRITE), "ALLOWED p/home trace -", "another access");
    assert_eq!(see("/home/.ssh/id", 3, access::READ | access::WRITE), "WOULD_BLOCK p/keys trace -");
    assert_eq!(see("/etc/passwd", 3, access::READ), "WOULD_BLOCK p/files.default trace -");
    assert_eq!(see("/home/.ssh/id", -2, access::READ), "OBSERVED - - -", "it failed anyway");
    assert_eq!(see("/home/.ssh/id", 3, 0), "OBSERVED - - -", "O_PATH asks for nothing");
}

#[test]
fn what_layers_refuse_that_say_nothing_is_blocked_where_a_policy_denies_it() {
    for judging in [Judging::Fenced, Judging::FencedWhole] {
        let mut judge = judge(judging).observed_by("notify");
        let mut see = |path, ret, access| outcome(&mut judge, open(path, ret, asks(access)));
        assert_eq!(see("/home/.ssh/id", -13, access::READ), "BLOCKED p/keys landlock -");
        assert_eq!(see("/home/.ssh/id", -30, access::READ), "BLOCKED p/keys mountns -");
        assert_eq!(see("/home/a", -13, access::READ), "OBSERVED - - -", "plain permissions");
        assert_eq!(see("/home/.ssh/id", -2, access::READ), "OBSERVED - - -", "it is not there");
        assert_eq!(see("/home/.ssh/id", 3, access::READ), "WOULD_BLOCK p/keys notify -", "it went past them");
        let mut unseen = |path| {
            let facts = Facts { unseen: true, ..asks(access::READ) };
            outcome(&mut judge, event(EventType::FileOpen, None, &[(Key::Path, path)], facts))
        };
        let denied = match judging {
            // All of it is held, so it failed.
            Judging::FencedWhole => "BLOCKED p/keys notify -",
            _ => "WOULD_BLOCK p/keys notify -",
        };
        assert_eq!(unseen("/home/.ssh/id"), denied);
        assert_eq!(unseen("/home/a"), "ALLOWED p/home notify -");
    }
}

#[test]
fn the_rules_own_words_come_with_it() {
    let mut decoded = open("/home/.ssh/id", 3, asks(access::READ));
    judge(Judging::Observed).judge(&mut decoded);
    assert_eq!(bytes(&decoded.event, Key::Because), Some(&b"keys stay here"[..]));
}

#[test]
fn both_ends_of_a_rename_count() {
    let mut judge = judge(Judging::Observed);
    let mut see = |from, to| {
        let facts = Facts { access2: access::CREATE, ..asks(access::DELETE) };
        let paths = [(Key::Path, from), (Key::Path2, to)];
        outcome(&mut judge, event(EventType::FileRename, Some(0), &paths, facts))
    };
    assert_eq!(see("/home/a", "/home/b"), "ALLOWED p/home trace -");
    assert_eq!(see("/home/frozen/a", "/home/b"), "WOULD_BLOCK p/frozen trace -");
    assert_eq!(see("/home/a", "/home/frozen/b"), "WOULD_BLOCK p/frozen trace -");
    assert_eq!(see("/etc/a", "/home/frozen/b"), "WOULD_BLOCK p/frozen trace -", "a rule before a default");
    assert_eq!(see("/etc/a", "/home/b"), "WOULD_BLOCK p/files.default trace -");
    let above = "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    \
        - { name: home, allow: [all], path: [\"/home/**\"] }\n    \
        - { name: z, deny: [create], path: [\"/home/z/**\"] }\n    \
        - { name: a, deny: [delete], path: [\"/home/a/**\"] }\n";
    let mut above = Judge::new(Some(&Policies::from(parse(above))), 1, Judging::Enforced, FIRST);
    let mut see = |from, to| {
        let judgement = Judgement::Blocked;
        let facts = Facts { access2: access::CREATE, judgement, ..asks(access::DELETE) };
        let paths = [(Key::Path, from), (Key::Path2, to)];
        outcome(&mut above, event(EventType::FileRename, Some(-13), &paths, facts))
    };
    assert_eq!(see("/home/a/x", "/home/z/x"), "BLOCKED p/a - -", "of rules the first by name");
    assert_eq!(see("/home/b", "/home/z/x"), "BLOCKED p/z - -");
    assert_eq!(see("/etc/x", "/home/z/x"), "BLOCKED p/z - -", "whatever it is called");
}

#[test]
fn execs_are_judged_at_what_runs_and_at_the_script() {
    let mut judge = judge(Judging::Observed);
    let mut see = |path, exe, script| {
        let facts = Facts { script, ..asks(access::RUN) };
        outcome(&mut judge, event(EventType::Exec, Some(0), &[(Key::Path, path), (Key::Exe, exe)], facts))
    };
    assert_eq!(see("/bin/sh", "/usr/bin/dash", false), "ALLOWED p/exec.default trace -");
    assert_eq!(see("/x/link", "/usr/bin/socat", false), "WOULD_BLOCK p/no-tunnels trace -");
    assert_eq!(see("/x/socat", "/usr/bin/true", false), "ALLOWED p/exec.default trace -", "a link");
    assert_eq!(see("/x/tunnel.sh", "/usr/bin/dash", true), "WOULD_BLOCK p/no-tunnels trace -");
}

#[test]
fn addresses_and_families() {
    let mut judge = judge(Judging::Observed);
    let mut see = |ret, bits, end: Option<&str>, family| {
        let end = end.map(|ip| (ip.parse::<IpAddr>().unwrap(), 80));
        let facts = Facts { net_access: bits, end, proto: proto::TCP, ..Facts::default() };
        outcome(&mut judge, event(EventType::NetConnect, Some(ret), &[(Key::Family, family)], facts))
    };
    let connect = net_access::CONNECT;
    assert_eq!(see(0, connect, Some("127.0.0.1"), "inet"), "ALLOWED p/local trace -");
    assert_eq!(see(-115, connect, Some("9.9.9.9"), "inet"), "WOULD_BLOCK p/network.default trace -");
    assert_eq!(see(-111, connect, Some("9.9.9.9"), "inet"), "OBSERVED - - -");
    assert_eq!(see(0, net_access::BIND, Some("127.0.0.1"), "inet"), "WOULD_BLOCK p/network.default trace -");
    assert_eq!(see(0, connect, None, "vsock"), "WOULD_BLOCK p/network.default trace -");
    assert_eq!(see(0, connect, None, "unix"), "OBSERVED - - -", "a socket without a name");
    assert_eq!(see(0, connect, None, "unspec"), "ALLOWED - trace -");
    assert_eq!(see(0, connect, None, "inet"), "OBSERVED - - -");
}

#[test]
fn in_a_network_namespace_loopback_is_the_runs_and_nothing_else_is_reached() {
    let apart =
        Apart { relay: "127.0.0.1:8118".parse().unwrap(), resolvers: vec!["10.0.0.53".parse().unwrap()] };
    let text = "version: 1\nname: p\nnetwork:\n  default: deny\n  rules:\n    \
        - { name: own, allow: [connect], to: [\"own:80\"] }\n    \
        - { name: far, allow: [connect], to: [\"192.0.2.1\"] }\n";
    let judge = Judge::new(Some(&Policies::from(parse(text))), 1, Judging::Observed, FIRST);
    let mut judge = judge.with_namespace(Some(apart));
    let mut see = |ret, ip: &str, port, bits| {
        let end = Some((ip.parse::<IpAddr>().unwrap(), port));
        let facts = Facts { net_access: bits, end, proto: proto::TCP, ..Facts::default() };
        outcome(&mut judge, event(EventType::NetConnect, Some(ret), &[(Key::Family, "inet")], facts))
    };
    let (connect, unreachable) = (net_access::CONNECT, -i64::from(libc::ENETUNREACH));
    assert_eq!(see(0, "127.0.0.1", 8118, connect), format!("ALLOWED - trace {}", network::RELAYED));
    assert_eq!(see(0, "::ffff:10.0.0.53", 53, connect), format!("ALLOWED - trace {QUESTION}"));
    assert_eq!(see(0, "::1", 80, connect), "ALLOWED p/own trace -");
    assert_eq!(see(0, "127.0.0.1", 81, connect), "WOULD_BLOCK p/network.default trace -");
    assert_eq!(see(unreachable, "9.9.9.9", 80, connect), "BLOCKED p/network.default netns -");
    assert_eq!(see(unreachable, "9.9.9.9", 80, net_access::SEND), "BLOCKED p/network.default netns -");
    let only = format!("OBSERVED - netns {}", network::ONLY_RELAYED);
    assert_eq!(see(unreachable, "192.0.2.1", 80, connect), only);
    assert_eq!(see(-111, "9.9.9.9", 80, connect), "OBSERVED - - -");
}

#[test]
fn of_calls_whose_result_nobody_sees_only_those_are_blocked_that_a_layer_refuses() {
    let apart =
        Apart { relay: "127.0.0.1:8118".parse().unwrap(), resolvers: vec!["10.0.0.53".parse().unwrap()] };
    let text = "version: 1\nname: p\nnetwork: { default: deny }\n";
    let new = |apart: Option<Apart>| {
        let judge = Judge::new(Some(&Policies::from(parse(text))), 1, Judging::FencedWhole, FIRST);
        judge.observed_by("notify").with_namespace(apart)
    };
    let see = |judge: &mut Judge, kind, ip: Option<&str>, bits| {
        let end = ip.map(|ip| (ip.parse::<IpAddr>().unwrap(), 80));
        let unix = if ip.is_none() { Some(crate::event::decode::Unix::Path) } else { None };
        let facts =
            Facts { net_access: bits, end, unix, proto: proto::TCP, unseen: true, ..Facts::default() };
        outcome(judge, event(kind, None, &[(Key::Family, "inet"), (Key::Path, "/run/x")], facts))
    };
    let (blocked, would) = ("BLOCKED p/network.default notify -", "WOULD_BLOCK p/network.default notify -");
    let (connect, send) = (net_access::CONNECT, net_access::SEND);
    let mut inside = new(Some(apart));
    // No way leads there.
    for ip in ["9.9.9.9", "2001:db8::1", "::ffff:9.9.9.9"] {
        assert_eq!(see(&mut inside, EventType::NetConnect, Some(ip), connect), blocked, "{ip}");
        assert_eq!(see(&mut inside, EventType::NetSend, Some(ip), send), blocked, "{ip}");
    }
    // Inside of the namespace, where anything may listen.
    for ip in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "10.0.0.53", "::ffff:10.0.0.53"] {
        assert_eq!(see(&mut inside, EventType::NetConnect, Some(ip), connect), would, "{ip}");
    }
    assert_eq!(see(&mut inside, EventType::NetBind, Some("9.9.9.9"), net_access::BIND), would);
    assert_eq!(see(&mut inside, EventType::NetListen, Some("127.0.0.1"), net_access::LISTEN), would);
    for (kind, bits) in [(EventType::NetConnect, connect), (EventType::NetBind, net_access::BIND)] {
        assert_eq!(see(&mut inside, kind, None, bits), would, "an end of a pair");
    }
    // Where there is no namespace nobody refuses it.
    assert_eq!(see(&mut new(None), EventType::NetConnect, Some("9.9.9.9"), connect), would);
    // A result that is seen: no layer makes a call of the network fail so there.
    let facts = Facts {
        net_access: net_access::BIND,
        end: Some(("127.0.0.1".parse().unwrap(), 80)),
        ..Facts::default()
    };
    let seen = event(EventType::NetBind, Some(-i64::from(libc::EACCES)), &[(Key::Family, "inet")], facts);
    assert_eq!(outcome(&mut inside, seen), "OBSERVED - - -");
}

#[test]
fn what_cannot_be_judged_by_its_path() {
    let mut judge = judge(Judging::Observed);
    let pipe = Facts { detached: true, ..asks(access::READ) };
    assert_eq!(outcome(&mut judge, open("pipe:[3]", 3, pipe)), "ALLOWED - trace -");
    let mut cut = open("a/b", 3, asks(access::READ));
    cut.event.set(Key::PathTruncated, Value::Flag(true));
    assert_eq!(outcome(&mut judge, cut), "WOULD_BLOCK - trace the path is too long to be judged");
    let nameless = event(EventType::FileOpen, Some(3), &[], asks(access::READ));
    assert_eq!(outcome(&mut judge, nameless), "OBSERVED - - -");
}

#[test]
fn a_name_that_may_have_led_elsewhere_is_not_said_to_be_allowed() {
    let mut judge = judge(Judging::Observed);
    let delete = |path: &str| {
        let mut event = event(EventType::FileDelete, Some(0), &[(Key::Path, path)], asks(access::READ));
        event.event.set(Key::PathUnresolved, Value::Flag(true));
        event
    };
    assert_eq!(outcome(&mut judge, delete("/home/x")), format!("OBSERVED - - {UNRESOLVED}"));
    assert_eq!(outcome(&mut judge, delete("/home/.ssh/id")), "WOULD_BLOCK p/keys trace -");
}

fn by_hook(judgement: Judgement, cause: Cause, path: &str) -> Decoded {
    let facts = Facts { judgement, cause, ..asks(access::READ) };
    event(EventType::FileOpen, Some(-13), &[(Key::Path, path), (Key::Layer, "lsm")], facts)
}

#[test]
fn verdicts_of_the_kernel_get_their_rule_and_stay() {
    for judging in [Judging::Enforced, Judging::Audited] {
        let mut judge = judge(judging);
        let mut see = |judgement, cause, path| outcome(&mut judge, by_hook(judgement, cause, path));
        assert_eq!(see(Judgement::Blocked, Cause::Policy, "/home/.ssh/id"), "BLOCKED p/keys lsm -");
        assert_eq!(see(Judgement::WouldBlock, Cause::Policy, "/etc/x"), "WOULD_BLOCK p/files.default lsm -");
        assert_eq!(see(Judgement::Allowed, Cause::Policy, "/home/x"), "ALLOWED p/home lsm -");
        assert_eq!(see(Judgement::Blocked, Cause::Policy, "/home/x"), "BLOCKED - lsm unattributed");
        assert_eq!(see(Judgement::Allowed, Cause::Policy, "/etc/x"), "ALLOWED - lsm unattributed");
        assert_eq!(see(Judgement::Blocked, Cause::NoScratch, "/home/.ssh/id"), "BLOCKED - lsm -");
    }
}

#[test]
fn an_exec_that_a_hook_judged_is_named_by_what_it_judged() {
    let mut judge = judge(Judging::Audited);
    let facts = Facts { judgement: Judgement::WouldBlock, ..asks(access::RUN) };
    let details = [(Key::Path, "/x/link"), (Key::Target, "/usr/bin/socat"), (Key::Exe, "/usr/bin/socat")];
    assert_eq!(
        outcome(&mut judge, event(EventType::Exec, Some(0), &details, facts)),
        "WOULD_BLOCK p/no-tunnels - -"
    );
    // Alone; `exe` is who tried.
    let details = [(Key::Path, "/usr/bin/socat"), (Key::Exe, "/bin/sh")];
    assert_eq!(
        outcome(&mut judge, event(EventType::Exec, None, &details, facts)),
        "WOULD_BLOCK p/no-tunnels - -"
    );
}

#[test]
fn a_new_name_that_opens_what_was_closed_is_denied_by_the_rule_that_closes() {
    let names = |old, new| [(Key::Path, old), (Key::Path2, new)];
    let link = |old, new, gained| {
        let facts = Facts { access2: access::CREATE, gained, ..Facts::default() };
        event(EventType::FileLink, Some(0), &names(old, new), facts)
    };
    let observed = |old, new| outcome(&mut judge(Judging::Observed), link(old, new, None));
    assert_eq!(observed("/home/.ssh/id", "/home/copy"), "WOULD_BLOCK p/keys trace -");
    assert_eq!(observed("/home/.ssh/id", "/home/.ssh/copy"), "ALLOWED p/home trace -");
    assert_eq!(observed("/home/plain", "/home/.ssh/id"), "ALLOWED p/home trace -");
    // The kernel said which accesses.
    let mut held = link("/home/.ssh/id", "/home/copy", Some(access::READ));
    held.facts.judgement = Judgement::Blocked;
    assert_eq!(outcome(&mut judge(Judging::Enforced), held), "OBSERVED p/keys - -");
}

#[test]
fn contents_matter_to_executions_only() {
    let digest = "ab".repeat(32);
    let policy = Policies::from(parse(&format!(
        "version: 1\nname: p\nfiles: {{ default: allow }}\nexec:\n  default: allow\n  rules:\n    \
         - {{ name: contents, deny: [run], sha256: [{digest}] }}\n    \
         - {{ name: tools, deny: [run], path: [\"/tools/**\"] }}\n"
    )));
    let mut enforced = Judge::new(Some(&policy), 1, Judging::Enforced, FIRST);
    let names = [(Key::Path, "/tools/x"), (Key::Path2, "/home/x")];
    let judgement = Judgement::Blocked;
    let gained = Some(access::RUN);
    let moves = Facts { access2: access::CREATE, gained, judgement, ..asks(access::DELETE) };
    let renamed = event(EventType::FileRename, Some(-13), &names, moves);
    assert_eq!(outcome(&mut enforced, renamed), "BLOCKED p/tools - -");
    let load = |path, access, judgement| {
        event(EventType::FileLoad, None, &[(Key::Path, path)], Facts { judgement, ..asks(access) })
    };
    let loaded = load("/tools/x", access::RUN, Judgement::Blocked);
    assert_eq!(outcome(&mut enforced, loaded), "BLOCKED p/tools - -");
    let mut observed = Judge::new(Some(&policy), 1, Judging::Observed, FIRST);
    let linked = Facts { access2: access::CREATE, gained: None, ..Facts::default() };
    let linked = event(EventType::FileLink, Some(0), &names, linked);
    assert_eq!(outcome(&mut observed, linked), "WOULD_BLOCK p/tools trace -");
    let unread = event(EventType::Exec, Some(0), &[(Key::Exe, "/home/x")], asks(access::RUN));
    assert_eq!(outcome(&mut observed, unread), "WOULD_BLOCK p/contents trace -", "it could be that file");
}

#[test]
fn what_a_hook_holds_is_its_own() {
    // A type of event that no hook judges.
    let bind =
        || event(EventType::NetAccept, Some(0), &[(Key::Path, "/home/frozen/x")], asks(access::DELETE));
    let open = || open("/home/.ssh/id", 3, asks(access::READ));
    assert_eq!(outcome(&mut judge(Judging::Audited), open()), "OBSERVED - - -");
    assert_eq!(outcome(&mut judge(Judging::Audited), bind()), "WOULD_BLOCK p/frozen trace -");
    assert_eq!(outcome(&mut judge(Judging::Enforced), open()), "OBSERVED - - -");
    assert_eq!(outcome(&mut judge(Judging::Enforced), bind()), "OBSERVED - - -");
    assert_eq!(outcome(&mut Judge::new(None, 1, Judging::Observed, FIRST), open()), "OBSERVED - - -");
}

#[test]
fn memory_is_bounded() {
    let mut judge = judge(Judging::Observed);
    for number in 0..law::REMEMBERED + 10 {
        outcome(&mut judge, open(&format!("/home/{number}"), 3, asks(access::READ)));
    }
    assert_eq!(judge.laws[0].remembered.count, 10);
}

#[test]
fn what_is_on_trial_and_what_asks_are_told() {
    let text = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
        - { name: trial, deny: [read], path: [\"/t\"], mode: audit, because: soon }\n    \
        - { name: asks, ask: [read], path: [\"/q\"] }\n    \
        - { name: bound, deny: [read], path: [\"/b\"], by: [\"**/curl\"] }\n";
    let policy = Policies::from(parse(text));
    let judged = |judgement| Facts { judgement, ..asks(access::READ) };
    let mut enforced = Judge::new(Some(&policy), 1, Judging::Enforced, FIRST);
    let mut see = |path, ret, judgement| outcome(&mut enforced, open(path, ret, judged(judgement)));
    assert_eq!(see("/t", 3, Judgement::Allowed), "WOULD_BLOCK p/trial - -");
    assert_eq!(see("/q", -13, Judgement::Blocked), "BLOCKED p/asks - -");
    assert_eq!(see("/b", 3, Judgement::Allowed), "ALLOWED - - unattributed", "nobody knows who acts");
    let mut observed = Judge::new(Some(&policy), 1, Judging::Observed, FIRST);
    assert_eq!(outcome(&mut observed, open("/t", 3, asks(access::READ))), "WOULD_BLOCK p/trial trace -");
}

#[test]
fn of_several_policies_the_one_that_denies_is_named() {
    let policy = |name: &str, rules: &str| {
        parse(&format!("version: 1\nname: {name}\nfiles:\n  default: allow\n  rules:\n    {rules}\n"))
    };
    let a = policy("a", r#"- { name: z, deny: [read], path: ["/x", "/both"], because: of a }"#);
    let b = policy("b", r#"- { name: v, deny: [read], path: ["/y", "/both"], because: of b }"#);
    let c = policy("c", r#"- { name: w, deny: [read], path: ["/x", "/z"], because: of c }"#);
    let all = Policies::from(b).and(c.on_trial()).and(a);
    let mut enforced = Judge::new(Some(&all), 1, Judging::Enforced, FIRST);
    let mut see = |path, judgement, ret| {
        let facts = Facts { judgement, ..asks(access::READ) };
        let mut decoded = open(path, ret, facts);
        enforced.judge(&mut decoded);
        let because =
            bytes(&decoded.event, Key::Because).map_or("-", |text| std::str::from_utf8(text).unwrap());
        format!("{} {because}", outcome(&mut enforced, open(path, ret, facts)))
    };
    assert_eq!(see("/x", Judgement::Blocked, -13), "BLOCKED a/z - - of a");
    assert_eq!(see("/y", Judgement::Blocked, -13), "BLOCKED b/v - - of b");
    assert_eq!(see("/both", Judgement::Blocked, -13), "BLOCKED a/z - - of a");
    assert_eq!(see("/z", Judgement::Allowed, 3), "WOULD_BLOCK c/w - - of c");
    assert_eq!(see("/free", Judgement::Allowed, 3), "ALLOWED a/files.default - - -");
}

#[test]
fn of_several_policies_the_one_that_closes_is_named() {
    let policy = |name: &str, allowed: &str| {
        parse(&format!("version: 1\nname: {name}\nkernel: {{ allow: [{allowed}] }}\n"))
    };
    let all = Policies::from(policy("a", "mount, ptrace-any")).and(policy("b", "bpf, ptrace-own"));
    let mut judge = Judge::new(Some(&all), 1, Judging::Enforced, FIRST);
    let mut see = |act| {
        let facts = Facts { judgement: Judgement::Blocked, kernel: act, ..Facts::default() };
        outcome(&mut judge, event(EventType::ProcMount, Some(-1), &[], facts))
    };
    assert_eq!(see(kernel::MOUNT), "BLOCKED b/kernel.default - -");
    assert_eq!(see(kernel::BPF), "BLOCKED a/kernel.default - -");
    assert_eq!(see(kernel::USERNS), "BLOCKED a/kernel.default - -");
    assert_eq!(see(kernel::PTRACE_ANY), "BLOCKED b/kernel.default - -");
    assert_eq!(see(kernel::PTRACE_OWN), "BLOCKED - - unattributed", "both open it");
}

#[test]
fn records_are_told_by_the_policies_that_judged_them() {
    let text = |name: &str, who: &str| {
        format!(
            "version: 1\nname: {name}\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: r, deny: [read], path: [/x]{who} }}\n"
        )
    };
    let (open_, closed, bound) = (
        "version: 1\nname: open\nfiles: { default: allow }\n",
        text("closed", ""),
        text("bound", ", by: [/usr/bin/meant]"),
    );
    let all = |text: &str| Policies::from(parse(text));
    let mut judge = Judge::new(Some(&all(open_)), 1, Judging::Enforced, FIRST);
    let by = |policy, judgement| Facts { policy, judgement, cause: Cause::Policy, ..asks(access::READ) };
    let ran = [(Key::Path, "/usr/bin/other"), (Key::Exe, "/usr/bin/other")];
    judge.judge(&mut event(EventType::Exec, Some(0), &ran, Facts::default()));
    judge.adopt(&all(&closed), 2, 1_000, Marks::default());
    let see =
        |judge: &mut Judge, policy, ret, judgement| outcome(judge, open("/x", ret, by(policy, judgement)));
    assert_eq!(see(&mut judge, 1, 3, Judgement::Allowed), "ALLOWED open/files.default - -");
    assert_eq!(see(&mut judge, 2, -13, Judgement::Blocked), "BLOCKED closed/r - -");
    assert_eq!(see(&mut judge, 1, 3, Judgement::Allowed), "ALLOWED open/files.default - -");
    // The kernel does not know what the process executed before this policy asked, and denies.
    judge.adopt(&all(&bound), 3, 2_000, Marks::default());
    assert_eq!(see(&mut judge, 3, -13, Judgement::Blocked), "BLOCKED bound/r - -");
    assert_eq!(see(&mut judge, 3, 3, Judgement::Allowed), "ALLOWED bound/files.default - -");
    // One that did not come, and one that is not known, decide nothing.
    judge.abandon(3);
    assert_eq!(see(&mut judge, 3, -13, Judgement::Blocked), "BLOCKED - - unattributed");
    assert_eq!(see(&mut judge, 2, -13, Judgement::Blocked), "BLOCKED closed/r - -");
}

#[test]
fn what_was_observed_is_judged_by_the_policies_of_its_time() {
    let all = |text: &str| Policies::from(parse(text));
    let closed = "version: 1\nname: closed\nfiles: { default: deny }\n";
    let mut judge = Judge::new(
        Some(&all("version: 1\nname: open\nfiles: { default: allow }\n")),
        1,
        Judging::Observed,
        FIRST,
    );
    judge.adopt(&all(closed), 2, 1_000, Marks::default());
    let mut at = |mono_ns| {
        let mut decoded = open("/x", 3, asks(access::READ));
        decoded.event.mono_ns = mono_ns;
        outcome(&mut judge, decoded)
    };
    assert_eq!(at(999), "ALLOWED open/files.default trace -");
    assert_eq!(at(1_000), "WOULD_BLOCK closed/files.default trace -");
    assert_eq!(at(999), "ALLOWED open/files.default trace -");
}
