//! Network rules of all kinds that meet everywhere: every exception of every kind, at ends that several rules know by
//! different things, is what the oracle says it is, for each policy of several.

mod generate;

use generate::{Tried, executed, parse, sets, subject};
use policy::compile::lsm::{self, SetTable};
use policy::{Act, Decision, Owner, Policy, Protocol, SectionKind, evaluate};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const TARGETS: [&str; 10] = [
    "any",
    "10.0.0.0/8",
    "localhost",
    "*.example.com",
    "example.com",
    "a.example.com",
    "own",
    "unix:/a/**",
    "unix:/a/b",
    "unix:@a*",
];

/// Targets, some of them at one port or with one protocol only.
fn targets(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let end = select(vec!["", "", "", ":80", ":1-100/tcp", "/udp"]);
    prop::collection::vec((select(TARGETS.to_vec()), end), count).prop_map(|targets| {
        let written = targets.iter().map(|(target, end)| match target.starts_with("unix:") {
            true => format!("\"{target}\""),
            false => format!("\"{target}{end}\""),
        });
        written.collect::<Vec<_>>().join(", ")
    })
}

fn rule() -> impl Strategy<Value = String> {
    let effect = select(vec!["allow", "allow", "deny", "ask"]);
    let accesses = subsequence(vec!["connect", "send", "bind", "listen"], 1..=4);
    let who =
        select(vec!["", "", "", ", by: [\"/bin/*\"]", ", unless_by: [\"/bin/a\"], under: [\"/opt/**\"]"]);
    (effect, accesses, targets(1..3), targets(0..3), who).prop_map(|(effect, accesses, to, except, who)| {
        format!("{effect}: [{}], to: [{to}], except: [{except}]{who}", accesses.join(", "))
    })
}

fn policy() -> impl Strategy<Value = String> {
    (select(vec!["allow", "deny"]), prop::collection::vec(rule(), 0..4)).prop_map(|(default, rules)| {
        let rules = rules.iter().enumerate().map(|(i, rule)| format!("    - {{ name: r{i}, {rule} }}\n"));
        let rules =
            if rules.len() == 0 { String::new() } else { format!("  rules:\n{}", rules.collect::<String>()) };
        format!("version: 1\nname: p\nnetwork:\n  default: {default}\n{rules}")
    })
}

/// Every end that the targets tell apart.
fn ends() -> Vec<Tried> {
    let mut all = vec![Tried::Other];
    all.extend(["/a", "/a/b", "/a/b/c", "/b"].map(|path| Tried::Path(path.into())));
    all.extend(["a", "ab", "b"].map(|name| Tried::Abstract(name.into())));
    let known: [&[&str]; 6] = [
        &[],
        &["example.com"],
        &["A.example.com."],
        &["example.com", "a.example.com"],
        &["b.example.com", "a.example.com", "x.org"],
        &["x.org"],
    ];
    for address in ["10.1.1.1", "127.0.0.1", "0.0.0.0", "192.0.2.1"] {
        for (port, protocol) in
            [(0, Protocol::Tcp), (80, Protocol::Tcp), (80, Protocol::Udp), (443, Protocol::Other)]
        {
            for names in known {
                for owner in [Owner::Run, Owner::Elsewhere] {
                    let (address, names) = (address.parse().expect("an address"), names.to_vec());
                    all.push(Tried::Address { address, port, protocol, names, owner });
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_source_is_heard(texts in prop::collection::vec(policy(), 1..4), executed in executed()) {
        let policies: Vec<Policy> = texts.iter().map(|text| parse(text)).collect();
        let all: Vec<&Policy> = policies.iter().collect();
        let plan = lsm::compile(&all, 4, &mut SetTable::new()).expect("it works");
        let known = sets(&plan, &executed);
        for tried in ends() {
            let denied = tried.denied(&plan, &known, SectionKind::Network.accesses());
            for access in SectionKind::Network.accesses().iter() {
                let act = Act::Network { accesses: access.into(), end: tried.end() };
                let decision = |policy| evaluate::judge(policy, &subject(&executed), &act).decision;
                let closed = policies.iter().any(|policy| decision(policy) != Decision::Allow);
                prop_assert_eq!(denied.contains(access), closed, "{} to {:?}\n{}", access, tried, texts.join("\n"));
            }
        }
    }
}
