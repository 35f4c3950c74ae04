//! Several policies in one plan: each must allow.

mod generate;

use generate::{FILES, executed, network_rule, parse, path, path_rule, section, sets, subject, tried};
use policy::compile::{
    CompileError,
    lsm::{self, LsmPlan, SetTable, Sets},
};
use policy::{Access, Act, Decision, Policies, Policy, SectionKind, evaluate};
use proptest::prelude::*;

fn compile(policies: &[&Policy]) -> LsmPlan {
    lsm::compile(policies, 4, &mut SetTable::new()).expect("it works")
}

fn policy() -> impl Strategy<Value = String> {
    (
        any::<[bool; 3]>(),
        prop::collection::vec(path_rule(FILES), 0..3),
        prop::collection::vec(path_rule(&["run"]), 0..2),
        prop::collection::vec(network_rule(), 0..4),
    )
        .prop_map(|([files_deny, exec_deny, network_deny], files, exec, network)| {
            let files = section("files", files_deny, &files);
            let exec = section("exec", exec_deny, &exec);
            format!("version: 1\nname: p\n{files}{exec}{}", section("network", network_deny, &network))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_of_several_policies_is_their_intersection(
        texts in prop::collection::vec(policy(), 1..5),
        executed in executed(),
        paths in prop::collection::vec(path(), 1..10),
        tries in prop::collection::vec(tried(), 1..20),
    ) {
        let policies: Vec<Policy> = texts.iter().map(|text| parse(text)).collect();
        let all: Vec<&Policy> = policies.iter().collect();
        let plan = compile(&all);
        let reversed: Vec<&Policy> = all.iter().rev().copied().collect();
        prop_assert_eq!(&compile(&reversed).tables, &plan.tables, "the order has no meaning");
        let twice: Vec<&Policy> = all.iter().chain(&all).copied().collect();
        prop_assert_eq!(&compile(&twice).tables, &plan.tables, "nor has a policy that is given again");
        let known = sets(&plan, &executed);
        let denies = |act: &Act<'_>| {
            let decision = |policy| evaluate::judge(policy, &subject(&executed), act).decision;
            policies.iter().any(|policy| decision(policy) != Decision::Allow)
        };
        let first = compile(&all[..1]);
        let known_by_first = sets(&first, &executed);
        for path in &paths {
            for access in Access::ALL.into_iter().filter(|a| a.section() != SectionKind::Network) {
                let act = match access {
                    Access::Run => Act::Exec { path, sha256: None },
                    access => Act::File { accesses: access.into(), path },
                };
                let denied = plan.denied_at(&known, access.into(), path).unwrap().accesses;
                prop_assert_eq!(denied.contains(access), denies(&act), "{} at {:?}\n{}", access,
                    path.escape_ascii().to_string(), texts.join("\n"));
                let alone = first.denied_at(&known_by_first, access.into(), path).unwrap().accesses;
                prop_assert!(alone.without(denied).is_empty(), "more policies take away only");
            }
        }
        for tried in tries {
            for access in SectionKind::Network.accesses().iter() {
                let act = Act::Network { accesses: access.into(), end: tried.end() };
                let denied = tried.denied(&plan, &known, access.into());
                prop_assert_eq!(denied.contains(access), denies(&act), "{} to {:?}\n{}", access, tried,
                    texts.join("\n"));
                let alone = tried.denied(&first, &known_by_first, access.into());
                prop_assert!(alone.without(denied).is_empty(), "more policies take away only");
            }
        }
        // Where the plan lets a directory move, nothing below it becomes less denied.
        let files = SectionKind::Files.accesses();
        for pair in paths.windows(2).filter(|pair| plan.keeps_below(&pair[0], &pair[1]).unwrap()) {
            for below in &paths {
                let [old, new] = [&pair[0], &pair[1]].map(|directory| {
                    plan.denied_at(&known, files, &[directory.as_slice(), b"/", below].concat()).unwrap().accesses
                });
                prop_assert!(old.without(new).is_empty());
            }
        }
    }

    /// A process keeps what was found out about it while policies come and go.
    #[test]
    fn a_new_policy_takes_what_it_does_not_know_for_unknown(
        texts in prop::collection::vec(policy(), 2),
        executed in executed(),
        more in executed(),
        paths in prop::collection::vec(path(), 1..10),
    ) {
        let policies: Vec<Policy> = texts.iter().map(|text| parse(text)).collect();
        let mut table = SetTable::new();
        let old = lsm::compile(&[&policies[0]], 1, &mut table).unwrap();
        let new = lsm::compile(&[&policies[1]], 2, &mut table).unwrap();
        let before = sets(&old, &executed);
        let after = more.iter().fold(before, |known, exe| new.sets_of((!exe.is_empty()).then_some(*exe), &known).unwrap());
        let all: Vec<&[u8]> = executed.iter().chain(&more).copied().collect();
        let judge = |path: &[u8], executed: &[&[u8]]| {
            let act = Act::File { accesses: Access::Read.into(), path };
            evaluate::judge(&policies[1], &subject(executed), &act).decision != Decision::Allow
        };
        let reads = |path: &[u8], sets: &Sets| new.denied_at(sets, Access::Read.into(), path).unwrap().accesses.is_empty();
        for path in &paths {
            prop_assert!(!reads(path, &before) || !judge(path, &executed), "what is not known is not allowed");
            prop_assert!(!reads(path, &after) || !judge(path, &all));
        }
    }
}

#[test]
fn a_rule_is_named_before_a_default_whatever_their_names_are() {
    let closed = parse("version: 1\nname: a\nfiles: { default: deny }\n");
    let rules = |name: &str| {
        let rule = format!("{{ name: {name}, deny: [read], path: [\"/x\"] }}");
        parse(&format!("version: 1\nname: b\nfiles: {{ default: allow, rules: [{rule}] }}\n"))
    };
    for name in ["a", "z"] {
        let all = Policies::from(closed.clone()).and(rules(name));
        let named = |path| {
            let act = Act::File { accesses: Access::Read.into(), path };
            all.judge(&subject(&[b"/bin/a"]), &act).rule.to_string()
        };
        assert_eq!(named(b"/x"), format!("b/{name}"));
        assert_eq!(named(b"/y"), "a/files.default");
    }
    let (default, rule) = (closed.files().default_name(), rules("z").files().rules()[0].name().clone());
    assert!(default.is_default() && closed.kernel_default().is_default() && !rule.is_default());
    assert!(rule.precedes(default) && !default.precedes(&rule) && !rule.precedes(&rule));
}

#[test]
fn what_reaches_past_files_and_addresses_is_open_where_all_open_it() {
    let kernel = |allow: &str| {
        parse(&format!("version: 1\nname: p\nkernel: {{ allow: [raw-devices, sysctl-write, {allow}] }}\n"))
    };
    let (a, b) = (kernel("mount, bpf"), kernel("bpf, userns"));
    let trial = parse("version: 1\nname: p\nmode: audit\n");
    use sandbox_ebpf::abi::policy::kernel::{BPF, MOUNT, RAW_DEVICES, SYSCTL_WRITE};
    const BOTH: u32 = RAW_DEVICES | SYSCTL_WRITE;
    assert_eq!(compile(&[&a]).header.kernel_allow, MOUNT | BPF | BOTH);
    assert_eq!(compile(&[&a, &b]).header.kernel_allow, BPF | BOTH);
    assert_eq!(
        compile(&[&a, &trial]).header.kernel_allow,
        MOUNT | BPF | BOTH,
        "what is on trial closes nothing"
    );
    assert_eq!(compile(&[]).header.kernel_allow, 0);
}

#[test]
fn many_policies_share_the_automata_and_too_many_are_refused() {
    let policy = |i: usize| {
        let rules = ["/x/a/**", "**/a", "/x/**/a"].map(|path| path.replace('a', &format!("a{i}")));
        let rule = |(j, path)| format!("{{ name: r{j}, deny: [read], path: [\"{path}\"] }}");
        let rules: Vec<String> = rules.iter().enumerate().map(rule).collect();
        parse(&format!(
            "version: 1\nname: p{i}\nfiles: {{ default: allow, rules: [{}] }}\n",
            rules.join(", ")
        ))
    };
    let policies: Vec<Policy> = (0..17).map(policy).collect();
    let all: Vec<&Policy> = policies.iter().collect();
    for count in [1, 5, 6, 15, 16] {
        let plan = compile(&all[..count]);
        assert!(plan.header.automata <= 16 && plan.states().len() == plan.header.automata as usize);
        assert_eq!(plan.header.paths.iter().filter(|automaton| automaton.last == 1).count(), count);
        let reads = |path: &str| {
            plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), path.as_bytes()).unwrap().accesses.is_empty()
        };
        for i in 0..17 {
            let open = i >= count;
            for path in [format!("/x/a{i}/b"), format!("/z/a{i}"), format!("/x/y/z/a{i}")] {
                assert_eq!(reads(&path), open, "{path} of {count}");
            }
            assert!(reads(&format!("/y/b/a{i}/b")));
        }
    }
    let error = lsm::compile(&all, 0, &mut SetTable::new()).unwrap_err();
    assert_eq!(error, CompileError::PoliciesTooMany { found: 17, limit: 16 });
}
