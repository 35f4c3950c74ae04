//! The plan of Landlock against the oracle: what it grants and the policy denies is listed, and so is what it
//! denies and the policy allows.

use std::collections::BTreeSet;

use policy::compile::landlock::{self, Command, Place};
use policy::compile::layers::{Layer, Layers, UnixSockets, Words};
use policy::compile::{Unsupported, lsm};
use policy::{Access, AccessSet, Decision, Policy, SectionKind, Variables, evaluate};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn parse(text: &str) -> Policy {
    Policy::parse("p.yaml", &format!("version: 1\nname: p\n{text}"), &Variables::new())
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

const RULES: &str = "files:
  default: deny
  rules:
    - { name: all, allow: [attributes, load], path: [\"/**\"] }
    - { name: work, allow: [read, write, create, delete], path: [\"/work/**\", \"/etc/hosts\"] }
    - { name: logs, allow: [read], path: [\"/var/log/*.log\"] }
    - { name: keys, deny: [read], path: [\"**/*.pem\"] }
    - { name: other, deny: [read], path: [\"/srv/**\"] }
    - { name: mine, allow: [read], path: [\"/opt/**\"], by: [\"/usr/bin/x\"] }
exec:
  default: deny
  rules:
    - { name: tools, allow: [run], path: [\"/usr/**\"] }
network:
  default: deny
  rules:
    - { name: web, allow: [connect], to: [\"any:443/tcp\", \"any:8000-8001\"] }
    - { name: one, allow: [connect], to: [\"10.0.0.1:80\"] }
    - { name: servers, allow: [bind, listen], to: [any] }
";

#[test]
fn directories_files_and_ports_are_granted_and_the_rest_is_told() {
    let policy = parse(RULES);
    let plan = landlock::compile(&policy, 4);
    let paths: Vec<(String, Place)> = plan
        .paths
        .iter()
        .map(|rule| (String::from_utf8_lossy(&rule.path).into_owned(), rule.place))
        .collect();
    let expected = [("/etc/hosts", Place::File), ("/usr", Place::Beneath), ("/work", Place::Beneath)];
    assert_eq!(paths, expected.map(|(path, place)| (path.to_owned(), place)));
    // By port, whatever the address is: another layer holds addresses.
    assert_eq!(plan.ports.iter().map(|rule| rule.port).collect::<Vec<_>>(), [80, 443, 8000, 8001]);
    assert_eq!(plan.handled_ports, landlock::right::CONNECT_TCP, "binding is open everywhere");
    let told: Vec<String> =
        plan.unheld(&policy).iter().map(|one| format!("{} {:?}", one.rule, one.what)).collect();
    let told: Vec<&str> =
        told.iter().map(String::as_str).filter(|line| !line.contains("network.default")).collect();
    assert_eq!(
        told,
        [
            // What may be read below /work and not be run is run by the dynamic loader.
            "p/exec.default Access(Run)",
            "p/keys Access(Read)",
            "p/logs Shape",
            "p/mine Condition(\"by\")",
            // Names beside a single file are its directory's.
            "p/work Shape",
        ]
    );
    // Before ABI 3 truncation goes past it, before ABI 4 there are no ports.
    let old = landlock::compile(&policy, 1);
    let write = Unsupported::Access(Access::Write);
    assert!(
        old.unheld(&policy).iter().any(|one| one.rule.as_str() == "p/files.default" && one.what == write)
    );
    assert_eq!((old.handled_ports, old.ports.len()), (0, 0));
    assert_eq!(old.handled_files & (landlock::right::REFER | landlock::right::TRUNCATE), 0);
}

#[test]
fn what_allows_by_default_it_cannot_hold() {
    let policy = parse("files: { default: allow, rules: [{ name: keys, deny: [read], path: [\"/x\"] }] }\n");
    let plan = landlock::compile(&policy, 5);
    assert_eq!((plan.handled_files, plan.paths.len()), (0, 0));
    assert_eq!(plan.unheld(&policy).len(), 1);
    let trial = parse(&format!("mode: audit\n{RULES}"));
    let on_trial = landlock::compile(&trial, 7);
    assert!(on_trial.is_empty() && on_trial.unheld(&trial).is_empty());
}

#[test]
fn programs_are_held_where_what_is_read_may_be_run() {
    let text = RULES.replace(
        "path: [\"/usr/**\"]",
        "path: [\"/usr/**\", \"/work/**\", \"/etc/hosts\", \"/memfd:*\", \"/memfd:*/**\"]",
    );
    let policy = parse(&text);
    let plan = landlock::compile(&policy, 7);
    let unheld = plan.unheld(&policy);
    assert!(!unheld.iter().any(|one| one.rule.as_str() == "p/exec.default"), "{unheld:?}");
}

#[test]
fn scopes_and_words_follow_the_policy() {
    let plan = |abi, text: &str| landlock::compile(&parse(text), abi);
    let all = landlock::right::SCOPE_SIGNAL | landlock::right::SCOPE_ABSTRACT;
    assert_eq!(plan(6, RULES).scopes, all);
    assert_eq!(plan(5, RULES).scopes, 0);
    let open = RULES.replace("\"10.0.0.1:80\"", "\"unix:@x\"") + "kernel: { allow: [signal-outside] }\n";
    assert_eq!(plan(6, &open).scopes, 0);
    let words = |text: &str| plan(7, text).words(Command::Root, &[]);
    let usual = ["mount", "ptrace-any", "signal-outside", "raw-devices", "sysctl-write"];
    assert_eq!(words(RULES), usual);
    let of = |path: &str, accesses: &str| {
        words(&RULES.replace(
            "allow: [read, write, create, delete], path: [\"/work/**\", \"/etc/hosts\"]",
            &format!("allow: [{accesses}], path: [\"{path}\"]"),
        ))
    };
    assert_eq!(of("/dev/null", "read, write"), usual);
    assert_eq!(of("/dev/sda", "read"), ["mount", "ptrace-any", "signal-outside", "sysctl-write"]);
    assert_eq!(of("/proc/**", "read"), usual, "/proc/kcore needs a capability that root gives up");
    // With these root sees what other processes have in memory; others have no capability by it.
    let measuring = format!("{RULES}kernel: {{ allow: [perf] }}\n");
    assert_eq!(words(&measuring), ["mount", "signal-outside", "raw-devices", "sysctl-write"]);
    assert_eq!(plan(7, &measuring).words(Command::User, &[]), usual);
    assert_eq!(of("/sys/fs/**", "read, write"), ["mount", "ptrace-any", "signal-outside", "raw-devices"]);
    assert_eq!(of("/**", "read, write"), ["mount", "ptrace-any", "signal-outside"]);
    // A device can be made where anything can, where the policy says so.
    let devices = format!("{RULES}kernel: {{ allow: [raw-devices] }}\n");
    assert_eq!(words(&devices), ["mount", "ptrace-any", "signal-outside", "sysctl-write"]);
    assert_eq!(
        plan(7, "files: { default: allow }\n").words(Command::Root, &[]),
        ["ptrace-any", "signal-outside"]
    );
}

#[test]
fn each_rule_has_the_layers_that_hold_it() {
    let policy = parse(RULES);
    let plan = lsm::compile(&[&policy], 0, &mut lsm::SetTable::new()).unwrap();
    let accesses = SectionKind::Files.accesses().union(SectionKind::Exec.accesses());
    let judged = lsm::Held::of(accesses.union(SectionKind::Network.accesses()));
    let plans = [landlock::compile(&policy, 7)];
    let nothing = Words::new();
    let held =
        plans[0].words(Command::User, &[]).into_iter().map(|word| (word, BTreeSet::from([Layer::Landlock])));
    let all: Words = held.collect();
    let with = |programs: bool, landlock: bool, unix: UnixSockets| Layers {
        programs: if programs { judged } else { lsm::Held::NOTHING },
        judges: if programs { (Some(Layer::Lsm), Some(Layer::Lsm)) } else { (None, None) },
        landlock: if landlock { &plans } else { &[] },
        kept: &[],
        unix,
        words: if landlock { &all } else { &nothing },
    };
    let of = |layers: &Layers<'_>, name: &str| {
        let held = layers.holding(&plan, &policy);
        held.iter().find(|(rule, _)| rule.as_str() == name).unwrap().1.iter().copied().collect::<Vec<_>>()
    };
    assert_eq!(of(&with(true, false, UnixSockets::Open), "p/keys"), [Layer::Lsm]);
    assert_eq!(of(&with(false, true, UnixSockets::Closed), "p/other"), [Layer::Landlock]);
    assert_eq!(of(&with(false, true, UnixSockets::Open), "p/other"), [], "a socket there is connected to");
    assert_eq!(of(&with(false, true, UnixSockets::Closed), "p/keys"), []);
    assert_eq!(of(&with(false, true, UnixSockets::Closed), "p/kernel.default"), [], "chroot is open");
    assert_eq!(of(&with(false, false, UnixSockets::Closed), "p/other"), []);
}

const PATTERNS: &[&str] = &[
    "/**", "/a/**", "/a", "/a/b", "/a/b/**", "/b/**", "**/s", "/a/*", "/[ab]/**", "/b/s", "/ab/**", "/a/*/**",
];

fn policy() -> impl Strategy<Value = String> {
    let paths = || proptest::collection::vec(select(PATTERNS), 1..3);
    let accesses = subsequence(vec!["read", "write", "create", "delete"], 1..=4);
    let except = proptest::collection::vec(select(PATTERNS), 0..2).prop_map(|list| list.into_iter().take(1));
    let rule =
        (select(vec!["allow", "allow", "deny", "ask"]), accesses, paths(), proptest::option::of(except));
    let rules = proptest::collection::vec(rule, 0..6);
    (select(vec!["allow", "deny", "deny"]), rules).prop_map(|(default, rules)| {
        let mut text = format!("files:\n  default: {default}\n  rules:\n    []\n");
        if !rules.is_empty() {
            text = text.replace("    []\n", "");
        }
        for (at, (effect, accesses, paths, except)) in rules.into_iter().enumerate() {
            let except: Vec<&str> = except.into_iter().flatten().collect();
            let except = if except.is_empty() { String::new() } else { format!(", except: {except:?}") };
            let accesses = accesses.join(", ");
            text.push_str(&format!(
                "    - {{ name: r{at}, {effect}: [{accesses}], path: {paths:?}{except} }}\n"
            ));
        }
        text
    })
}

fn all_paths() -> Vec<String> {
    let names = ["a", "b", "s", "ab"];
    let mut all = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..3 {
        last = last.iter().flat_map(|path| names.iter().map(move |name| format!("{path}/{name}"))).collect();
        all.extend(last.iter().cloned());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..Default::default() })]

    #[test]
    fn it_never_differs_from_the_policy_without_saying_so(text in policy(), abi in 1_u32..6) {
        let policy = parse(&text);
        let plan = landlock::compile(&policy, abi);
        let unheld = plan.unheld(&policy);
        for path in all_paths() {
            for access in [Access::Read, Access::Write, Access::Create, Access::Delete] {
                let verdict = evaluate::file(&policy, access.into(), path.as_bytes());
                let denied = !plan.denied_at(AccessSet::from(access), path.as_bytes()).is_empty();
                let told = unheld.iter().any(|one| one.rule == *verdict.rule);
                if verdict.decision == Decision::Allow {
                    // The name of a granted directory itself belongs to the one above it.
                    let itself = matches!(access, Access::Create | Access::Delete)
                        && plan.paths.iter().any(|rule| rule.path == path.as_bytes());
                    prop_assert!(!denied || told || itself, "{access} {path} is allowed by {}", verdict.rule);
                } else {
                    prop_assert!(denied || told, "{access} {path} is denied by {}", verdict.rule);
                }
            }
        }
    }
}

#[test]
fn what_a_directory_of_the_same_rule_has_needs_no_grant_of_its_own() {
    let shapes = |paths: &str| {
        let rule = format!("{{ name: work, allow: [read, create], path: [{paths}] }}");
        let policy = parse(&format!("files: {{ default: deny, rules: [{rule}] }}\n"));
        let plan = landlock::compile(&policy, 7);
        let told: Vec<String> = plan.narrower().iter().map(|one| format!("{:?}", one.what)).collect();
        (told, plan.paths.iter().filter(|rule| rule.place == Place::Beneath).count())
    };
    assert_eq!(shapes("\"/work/**\", \"/work/*.log\", \"/work/one\", \"/work/part*/**\""), (vec![], 1));
    let shape = vec!["Shape".to_owned()];
    assert_eq!(shapes("\"/work/**\", \"/other/*.log\""), (shape.clone(), 1));
    assert_eq!(shapes("\"/work/**\", \"/other/one\""), (shape.clone(), 1));
    // Another's grant is no help: it may be of other accesses.
    assert_eq!(shapes("\"/work/*.log\", \"/work/part*/**\""), (shape, 0));
}
