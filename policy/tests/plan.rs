//! The compiled plan against the oracle, and the oracle's matcher against regular expressions, on random
//! policies and on paths that nearly match.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::compile::lsm::{self, SetTable, Sets};
use policy::{Access, AccessSet, Decision, Policy, Protocol, SectionKind, Variables, evaluate};
use proptest::prelude::*;
use proptest::sample::select;
use sandbox_ebpf::abi::policy::PortRange;

/// A component of a pattern, from few letters, so that patterns overlap.
fn component() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => select(vec!["a", "b", "ab", "c", "x.y", ".e"]).prop_map(str::to_owned),
        2 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => select(vec!["[ab]", "[!a]", "[a-c]", "[+-9]", "[!\\x01-\\x7f]"]).prop_map(str::to_owned),
        1 => select(vec!["{a,b}", "{a,bc,}", "{x,{a,b}c}", "\\x0a", "\\xff", "\\*", "é"]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 1..3)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("stars", |text| !text.contains("**") && !text.starts_with("{a,bc,}") && text != ".")
}

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => component(), 2 => Just("**".to_owned()), 1 => component().prop_map(|c| format!("c**{c}"))
        .prop_filter("stars", |text| !text.contains("***"))];
    (any::<bool>(), prop::collection::vec(part, 1..4), any::<bool>()).prop_map(|(floating, parts, below)| {
        let start = if floating { "**/" } else { "/" };
        let end = if below { "/**" } else { "" };
        format!("{start}{}{end}", parts.join("/"))
    })
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(vec!["a", "b", "c", "ab", "bc", "x.y", ".e", "ac", "bb", "x"]).prop_map(|s| s.as_bytes().to_vec()),
        1 => select(vec![&b"\n"[..], b"\xff", b"*", "é".as_bytes(), b"5", b"+"]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>().prop_filter("a name", |b| *b != 0 && *b != b'/'), 1..4),
    ];
    let component = prop::collection::vec(piece, 1..3).prop_map(|pieces| pieces.concat());
    let absolute = prop::collection::vec(component, 0..6).prop_map(|parts| {
        let mut path: Vec<u8> = parts.iter().flat_map(|part| [b"/", part.as_slice()].concat()).collect();
        if path.is_empty() {
            path.push(b'/');
        }
        path
    });
    prop_oneof![20 => absolute, 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

#[derive(Clone, Debug)]
struct PathRule {
    deny: bool,
    accesses: Vec<&'static str>,
    paths: Vec<String>,
    except: Vec<String>,
}

fn path_rule(accesses: &'static [&'static str]) -> impl Strategy<Value = PathRule> {
    let accesses = prop::sample::subsequence(accesses.to_vec(), 1..=accesses.len());
    let except = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(pattern(), 1..3)];
    (any::<bool>(), accesses, prop::collection::vec(pattern(), 1..4), except)
        .prop_map(|(deny, accesses, paths, except)| PathRule { deny, accesses, paths, except })
}

fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|t| format!("\"{}\"", t.replace('\\', "\\\\"))).collect();
    texts.join(", ")
}

fn section(name: &str, deny: bool, rules: &[PathRule]) -> String {
    let word = |deny| if deny { "deny" } else { "allow" };
    let mut text = format!("{name}:\n  default: {}\n  rules:\n", word(deny));
    for (i, rule) in rules.iter().enumerate() {
        let _ = writeln!(
            text,
            "    - {{ name: {name}-{i}, {}: [{}], path: [{}], except: [{}] }}",
            word(rule.deny),
            rule.accesses.join(", "),
            quoted(&rule.paths),
            quoted(&rule.except),
        );
    }
    if rules.is_empty() { text.replace("  rules:\n", "") } else { text }
}

fn parse(text: &str) -> Policy {
    Policy::parse("generated.yaml", text, &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}\n\n{text}"))
}

const FILES: &[&str] = &["read", "write", "create", "delete", "attributes", "load"];

/// A target, from few addresses, so that prefixes lie in each other.
fn target() -> impl Strategy<Value = String> {
    let v4 = select(vec![
        "any",
        "localhost",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
        "0.0.0.0/0",
        "0.0.0.0",
        "127.0.0.1",
        "::ffff:10.1.2.0/120",
        "128.0.0.0/1",
        "169.254.169.254",
        "255.255.255.255",
    ]);
    let v6 = select(vec![
        "::/0",
        "::1",
        "::",
        "2001:db8::/32",
        "2001:db8::1",
        "::fffe:0:0/95",
        "::/64",
        "8000::/1",
    ]);
    let port = prop_oneof![3 => Just(String::new()), 1 => select(vec!["80", "0", "65535"]).prop_map(str::to_owned),
        2 => (0..8_u16, 0..8_u16).prop_map(|(low, more)| format!("{}-{}", 78 + low, 78 + low + more))];
    let proto = select(vec!["", "", "/tcp", "/udp"]);
    (prop_oneof![v4, v6], port, proto).prop_map(|(host, port, proto)| {
        let host = match (host.contains(':'), host.split_once('/')) {
            (true, Some((address, length))) if !port.is_empty() => format!("[{address}]/{length}"),
            (true, None) if !port.is_empty() => format!("[{host}]"),
            _ => host.to_owned(),
        };
        let colon = if port.is_empty() { "" } else { ":" };
        format!("{host}{colon}{port}{proto}")
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    let near = select(vec![
        "10.1.2.3",
        "10.1.2.4",
        "10.2.0.0",
        "11.0.0.0",
        "0.0.0.0",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "::1",
        "::",
        "::2",
        "2001:db8::1",
        "2001:db9::",
        "::ffff:10.1.2.3",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::fffe:0:0",
        "::10.1.2.3",
        "255.255.255.255",
        "200.0.0.1",
        "fe80::1",
    ]);
    prop_oneof![
        8 => near.prop_map(|text| text.parse::<IpAddr>().expect("an address")),
        1 => any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
    ]
}

const NETWORK: &[&str] = &["connect", "send", "bind", "listen"];

fn network_rule() -> impl Strategy<Value = PathRule> {
    let accesses = prop::sample::subsequence(NETWORK.to_vec(), 1..=NETWORK.len());
    let except = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(target(), 1..3)];
    (any::<bool>(), accesses, prop::collection::vec(target(), 1..4), except)
        .prop_map(|(deny, accesses, paths, except)| PathRule { deny, accesses, paths, except })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_trie_says_what_the_oracle_says(
        deny in any::<bool>(),
        rules in prop::collection::vec(network_rule(), 0..6),
        tries in prop::collection::vec((address(), prop_oneof![77..93_u16, any::<u16>()], 0..3_usize), 1..40),
    ) {
        let text = format!("version: 1\nname: p\n{}", section("network", deny, &rules).replace("path:", "to:"));
        let policy = parse(&text);
        let plan = lsm::compile(&[&policy], 7, &mut SetTable::new()).unwrap();
        for (address, port, protocol) in tries {
            let protocol = Protocol::ALL[protocol];
            for access in SectionKind::Network.accesses().iter() {
                let oracle = evaluate::network(&policy, access.into(), address, port, protocol);
                let denied = plan.denied_to(&Sets::UNKNOWN, access.into(), address, port, protocol).unwrap().contains(access);
                prop_assert_eq!(denied, oracle.decision == Decision::Deny, "{} to {} {} {:?}\n{}", access, address,
                    port, protocol, text);
            }
            let all: AccessSet = SectionKind::Network.accesses();
            let again = parse(&policy.effective_yaml());
            let verdict = evaluate::network(&policy, all, address, port, protocol);
            prop_assert_eq!(verdict, evaluate::network(&again, all, address, port, protocol));
        }
        for entry in &plan.addresses {
            let ranges = &plan.cells[entry.node.first as usize..][..entry.node.count as usize];
            let ranges: Vec<PortRange> = ranges.iter().map(|cell| PortRange::from_cell(*cell)).collect();
            prop_assert!(ranges.windows(2).all(|r| (r[0].proto, r[0].high) < (r[1].proto, r[1].low)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_automaton_says_what_the_oracle_says(
        files_deny in any::<bool>(),
        exec_deny in any::<bool>(),
        files in prop::collection::vec(path_rule(FILES), 0..6),
        exec in prop::collection::vec(path_rule(&["run"]), 0..3),
        paths in prop::collection::vec(path(), 1..40),
    ) {
        let text = format!(
            "version: 1\nname: p\n{}{}",
            section("files", files_deny, &files),
            section("exec", exec_deny, &exec),
        );
        let policy = parse(&text);
        let plan = lsm::compile(&[&policy], 3, &mut SetTable::new()).unwrap();
        for path in &paths {
            for access in Access::ALL.into_iter().filter(|a| a.section() != SectionKind::Network) {
                let oracle = match access {
                    Access::Run => evaluate::exec(&policy, path),
                    access => evaluate::file(&policy, access.into(), path),
                };
                let denied = plan.denied_at(&Sets::UNKNOWN, access.into(), path).unwrap().accesses.contains(access);
                prop_assert_eq!(denied, oracle.decision == Decision::Deny, "{} at {:?}\n{}", access,
                    path.escape_ascii().to_string(), text);
            }
        }
        // What is stored beside the record is the same policy.
        let again = parse(&policy.effective_yaml());
        prop_assert_eq!(again.effective_yaml(), policy.effective_yaml());
        for path in &paths {
            let all = SectionKind::Files.accesses();
            prop_assert_eq!(evaluate::file(&policy, all, path), evaluate::file(&again, all, path));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Where the plan lets a directory move, nothing below it becomes less denied.
    #[test]
    fn a_directory_that_may_move_takes_nothing_out_of_reach(
        deny in any::<bool>(),
        rules in prop::collection::vec(path_rule(FILES), 0..5),
        directories in prop::collection::vec(path(), 2..12),
        below in prop::collection::vec(path(), 1..12),
    ) {
        let text = format!("version: 1\nname: p\n{}", section("files", deny, &rules));
        let policy = parse(&text);
        let plan = lsm::compile(&[&policy], 0, &mut SetTable::new()).unwrap();
        let all = SectionKind::Files.accesses();
        for pair in directories.windows(2).filter(|pair| plan.keeps_below(&pair[0], &pair[1]).unwrap()) {
            for path in &below {
                let [old, new] = [&pair[0], &pair[1]].map(|directory| {
                    plan.denied_at(&Sets::UNKNOWN, all, &[directory.as_slice(), b"/", path].concat()).unwrap().accesses
                });
                prop_assert!(old.without(new).is_empty(), "{:?} at {:?} below {:?}\n{}", old.without(new),
                    path.escape_ascii().to_string(), pair, text);
            }
        }
    }
}

#[test]
fn directories_move_where_no_rule_minds() {
    let policy = parse(
        "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    - { name: a, deny: [read], path: \
         ['/w/.git/hooks/**', '**/.env'] }\n    - { name: b, deny: [write], path: ['/closed/**'] }\n",
    );
    let plan = lsm::compile(&[&policy], 0, &mut SetTable::new()).unwrap();
    let may = |old: &str, new: &str| plan.keeps_below(old.as_bytes(), new.as_bytes()).unwrap();
    assert!(may("/w/a", "/w/b") && may("/tmp/x", "/w/src/x") && may("/w/.git/objects", "/tmp/o"));
    assert!(may("/tmp/x", "/closed/x"), "to where more is denied");
    assert!(!may("/closed/x", "/tmp/x"), "from where more is denied");
    assert!(!may("/w/.git", "/w/other") && !may("/w", "/v"), "a rule's place moves away");
    assert!(!may("/w/.git/hooks", "/tmp/hooks"));
    let closed = parse(
        "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    - { name: a, allow: [all], path: \
         ['/w/**', '/tmp/**'] }\n    - { name: b, deny: [all], path: ['**/.env'] }\n",
    );
    let plan = lsm::compile(&[&closed], 0, &mut SetTable::new()).unwrap();
    let may = |old: &str, new: &str| plan.keeps_below(old.as_bytes(), new.as_bytes()).unwrap();
    assert!(may("/w/a", "/tmp/a") && may("/w/a", "/w/deep/er"));
    assert!(!may("/etc/a", "/w/a"));
}
