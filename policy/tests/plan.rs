//! The compiled plan against the oracle, on random policies and processes, and on paths that nearly match.

mod generate;

use std::net::IpAddr;

use generate::{
    FILES, executed, host_name, network_rule, parse, path, path_rule, section, sets, subject, tried,
};
use policy::compile::lsm::{self, LsmPlan, NetEnd, SetTable, Sets};
use policy::evaluate::Indexed;
use policy::{
    Access, AccessSet, Act, Decision, Digest, End, Owner, Policy, Protocol, SectionKind, Subject, evaluate,
};
use proptest::prelude::*;
use sandbox_ebpf::abi::policy::PortRange;

fn compile(policy: &Policy, id: u32) -> LsmPlan {
    lsm::compile(&[policy], id, &mut SetTable::new()).expect("it works")
}

fn end(address: IpAddr, port: u16, protocol: Protocol) -> End<'static> {
    End::Address { address, port, protocol, names: &[], owner: Owner::Elsewhere }
}

/// Whether the policy denies an attempt of a process.
fn decides(policy: &Policy, executed: &[&[u8]], act: &Act<'_>) -> bool {
    evaluate::judge(policy, &subject(executed), act).decision != Decision::Allow
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn the_networks_tables_say_what_the_oracle_says(
        deny in any::<bool>(),
        rules in prop::collection::vec(network_rule(), 0..6),
        executed in executed(),
        tries in prop::collection::vec(tried(), 1..40),
    ) {
        let text = format!("version: 1\nname: p\n{}", section("network", deny, &rules));
        let policy = parse(&text);
        let plan = compile(&policy, 7);
        let sets = sets(&plan, &executed);
        let all: AccessSet = SectionKind::Network.accesses();
        let again = parse(&policy.effective_yaml());
        for tried in tries {
            let end = tried.end();
            for accesses in all.iter().map(AccessSet::from).chain([all]) {
                let act = Act::Network { accesses, end };
                let denied = tried.denied(&plan, &sets, accesses);
                prop_assert_eq!(!denied.is_empty(), decides(&policy, &executed, &act), "{} to {:?}\n{}", accesses,
                    tried, text);
                prop_assert!(denied.without(accesses).is_empty());
            }
            if let End::Path(_) | End::Abstract(_) = end {
                // The kernel looks at no socket's name for an access that no rule on sockets is about.
                let unjudged = all.without(AccessSet::from_net_bits(plan.header.unix.to_le_bytes()[0]));
                let default = AccessSet::from_net_bits(plan.header.net_default_deny.to_le_bytes()[0]);
                prop_assert_eq!(tried.denied(&plan, &sets, unjudged), unjudged.intersection(default));
            }
            let act = Act::Network { accesses: all, end };
            let verdict = evaluate::judge(&policy, &subject(&executed), &act);
            prop_assert_eq!(verdict, evaluate::judge(&again, &subject(&executed), &act));
        }
        for entry in &plan.addresses {
            let ranges = &plan.cells[entry.node.first as usize..][..entry.node.count as usize];
            let ranges: Vec<PortRange> = ranges.iter().map(|cell| PortRange::from_cell(*cell)).collect();
            prop_assert!(ranges.windows(2).all(|r| (r[0].proto, r[0].high) < (r[1].proto, r[1].low)));
        }
    }

    /// What a name leads to does not depend on how it is written, and where no host is named it leads nowhere.
    #[test]
    fn names_lead_to_nodes_however_they_are_written(
        rules in prop::collection::vec(network_rule(), 0..6),
        name in host_name(),
    ) {
        let policy = parse(&format!("version: 1\nname: p\n{}", section("network", true, &rules)));
        let plan = compile(&policy, 7);
        let node = plan.host_node(name).unwrap();
        prop_assert_eq!(node, plan.host_node(&name.to_ascii_uppercase()).unwrap());
        if !name.ends_with('.') {
            prop_assert_eq!(node, plan.host_node(&format!("{name}.")).unwrap());
        }
        prop_assert!(node == 0 || plan.header.names == 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_automata_say_what_the_oracle_says(
        files_deny in any::<bool>(),
        exec_deny in any::<bool>(),
        files in prop::collection::vec(path_rule(FILES), 0..6),
        exec in prop::collection::vec(path_rule(&["run"]), 0..3),
        executed in executed(),
        paths in prop::collection::vec(path(), 1..40),
    ) {
        let text = format!(
            "version: 1\nname: p\n{}{}",
            section("files", files_deny, &files),
            section("exec", exec_deny, &exec),
        );
        let policy = parse(&text);
        let plan = compile(&policy, 3);
        let sets = sets(&plan, &executed);
        let indexed = Indexed::new(&policy);
        for path in &paths {
            let all = SectionKind::Files.accesses();
            let each = all.iter().map(|access| {
                let act = Act::File { accesses: access.into(), path };
                (access, evaluate::judge(&policy, &subject(&executed), &act))
            });
            let subject = subject(&executed);
            let by_index: Vec<_> = indexed.each_access(&subject, all, path).collect();
            prop_assert_eq!(by_index, each.collect::<Vec<_>>());
            for act in [Act::File { accesses: all, path }, Act::Exec { path, sha256: None }] {
                let said = evaluate::judge(&policy, &subject, &act);
                prop_assert_eq!(indexed.judge(&subject, &act), said, "{:?}\n{}", act, text);
            }
            for access in Access::ALL.into_iter().filter(|a| a.section() != SectionKind::Network) {
                let act = match access {
                    Access::Run => Act::Exec { path, sha256: None },
                    access => Act::File { accesses: access.into(), path },
                };
                let denied = plan.denied_at(&sets, access.into(), path).unwrap();
                prop_assert_eq!(denied.accesses.contains(access), decides(&policy, &executed, &act), "{} at {:?}\n{}",
                    access, path.escape_ascii().to_string(), text);
                if access == Access::Run {
                    let rule = evaluate::judge(&policy, &subject, &act).rule.as_str();
                    let by_rule = denied.accesses.contains(access) && !rule.ends_with(".default");
                    prop_assert_eq!(denied.by_rule.contains(access), by_rule);
                }
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

    /// Where the plan lets a directory move, nothing below it becomes less denied, to nobody.
    #[test]
    fn a_directory_that_may_move_takes_nothing_out_of_reach(
        deny in any::<bool>(),
        rules in prop::collection::vec(path_rule(FILES), 0..5),
        executed in executed(),
        directories in prop::collection::vec(path(), 2..12),
        below in prop::collection::vec(path(), 1..12),
    ) {
        let text = format!("version: 1\nname: p\n{}", section("files", deny, &rules));
        let plan = compile(&parse(&text), 0);
        let all = SectionKind::Files.accesses();
        for pair in directories.windows(2).filter(|pair| plan.keeps_below(&pair[0], &pair[1]).unwrap()) {
            for path in &below {
                for sets in [sets(&plan, &executed), Sets::UNKNOWN, Sets::FIRST] {
                    let [old, new] = [&pair[0], &pair[1]].map(|directory| {
                        plan.denied_at(&sets, all, &[directory.as_slice(), b"/", path].concat()).unwrap().accesses
                    });
                    prop_assert!(old.without(new).is_empty(), "{:?} at {:?} below {:?}\n{}", old.without(new),
                        path.escape_ascii().to_string(), pair, text);
                }
            }
        }
    }
}

/// A rule on contents is about every path, so that no directory leads to it.
#[test]
fn an_index_finds_rules_on_contents() {
    let (known, other) = (Digest([0xab; 32]), Digest([0xcd; 32]));
    let policy = parse(&format!(
        "version: 1\nname: p\nexec:\n  default: deny\n  rules:\n    - {{ name: a, allow: [run], sha256: [{known}], \
         except: ['/tmp/**'] }}\n    - {{ name: b, deny: [run], path: ['/opt/**'] }}\n"
    ));
    let indexed = Indexed::new(&policy);
    for path in ["/opt/x", "/tmp/x", "/usr/x", "/"].map(str::as_bytes) {
        for sha256 in [None, Some(&known), Some(&other)] {
            let act = Act::Exec { path, sha256 };
            let said = evaluate::judge(&policy, &Subject::UNKNOWN, &act);
            assert_eq!(
                said.decision == Decision::Allow,
                matches!(path, b"/usr/x" | b"/") && sha256 == Some(&known)
            );
            assert_eq!(indexed.judge(&Subject::UNKNOWN, &act), said);
        }
    }
}

/// Cases that property tests found in the past, and that their seeds no longer make.
#[test]
fn past_failures_stay_away() {
    let policy = parse(
        "version: 1\nname: p\nnetwork: { default: allow, rules: [{ name: a, allow: [listen], to: [any], except: \
         [\"::fffe:0:0/95\"] }] }\n",
    );
    for default in ["allow", "deny"] {
        let policy =
            parse(&policy.effective_yaml().replace("default: allow", &format!("default: {default}")));
        let plan = compile(&policy, 7);
        let address: IpAddr = "10.1.2.3".parse().unwrap();
        for access in SectionKind::Network.accesses().iter() {
            let act = Act::Network { accesses: access.into(), end: end(address, 77, Protocol::Tcp) };
            let end = NetEnd::address(address, 77, Protocol::Tcp);
            let denied = plan.denied_to(&Sets::UNKNOWN, access.into(), &end).unwrap();
            assert_eq!(!denied.is_empty(), decides(&policy, &[b""], &act), "{default} {access}");
        }
    }
    let policy = parse(
        "version: 1\nname: p\nfiles: { default: deny, rules: [{ name: r, ask: [read], path: [\"/a\"], mode: audit }] }\n",
    );
    let plan = compile(&policy, 0);
    let denied = plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), b"/a").unwrap();
    assert!(denied.accesses.contains(Access::Read) && denied.by_rule.is_empty());
}

#[test]
fn directories_move_where_no_rule_minds() {
    let policy = parse(
        "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    - { name: a, deny: [read], path: \
         ['/w/.git/hooks/**', '**/.env'] }\n    - { name: b, deny: [write], path: ['/closed/**'] }\n",
    );
    let plan = compile(&policy, 0);
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
    let plan = compile(&closed, 0);
    let may = |old: &str, new: &str| plan.keeps_below(old.as_bytes(), new.as_bytes()).unwrap();
    assert!(may("/w/a", "/tmp/a") && may("/w/a", "/w/deep/er"));
    assert!(!may("/etc/a", "/w/a"));
}
