//! Policies that extend others, and several policies that hold at once.

use std::collections::BTreeMap;

use policy::extend::{Resolver, SHIPPED, Source};
use policy::settings::Tmp;
use policy::{Access, Act, Decision, Errors, Policies, Policy, SectionKind, Subject, Variables, evaluate};
use proptest::prelude::*;
use proptest::sample::select;

/// Files by their names.
struct Files(BTreeMap<&'static str, &'static str>);

impl Resolver for Files {
    fn resolve(&self, path: &str, _from: &str) -> Result<Source, String> {
        let text = self.0.get(path).ok_or("does not exist")?;
        Ok(Source { name: path.to_owned(), bytes: text.as_bytes().to_vec() })
    }
}

fn read(text: &str, files: &[(&'static str, &'static str)]) -> Result<Policy, Errors> {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/me").expect("a given variable");
    let text = format!("version: 1\nname: own\n{text}");
    Policy::parse_with("own.yaml", text.as_bytes(), &variables, &Files(files.iter().copied().collect()))
}

const BASE: &str = "version: 1
name: base
files:
  default: deny
  rules:
    - { name: all, allow: [all], path: [\"/**\"] }
    - { name: keys, deny: [read], path: [\"${HOME}/.ssh/**\"] }
    - { name: tmp, deny: [write], path: [\"/tmp/**\"] }
";
const OPEN: &str = "version: 1
name: open
files: { default: allow }
network: { default: allow, rules: [{ name: meta, deny: [connect], to: [\"169.254.169.254\"] }] }
";

fn says(policy: &Policy, access: Access, path: &str) -> (Decision, String) {
    let verdict = evaluate::file(policy, access.into(), path.as_bytes());
    (verdict.decision, verdict.rule.to_string())
}

#[test]
fn rules_are_inherited_with_their_names_and_amended_in_sight() {
    let text = "extends: [./base.yaml]
files:
  rules:
    - { name: keys, deny: [write], path: [\"/etc/**\"] }
    - { amend: base/keys, except: [\"${HOME}/.ssh/known_hosts\"] }
    - { amend: base/tmp, disable: true, because: builds write there }
";
    let policy = read(text, &[("./base.yaml", BASE)]).unwrap_or_else(|errors| panic!("{errors}"));
    use Decision::{Allow, Deny};
    assert_eq!(says(&policy, Access::Read, "/home/me/.ssh/id"), (Deny, "base/keys".into()));
    assert_eq!(says(&policy, Access::Read, "/home/me/.ssh/known_hosts"), (Allow, "base/all".into()));
    assert_eq!(says(&policy, Access::Write, "/tmp/x"), (Allow, "base/all".into()));
    assert_eq!(says(&policy, Access::Write, "/etc/x"), (Deny, "own/keys".into()));
    assert_eq!(policy.files().default(), Deny, "the default is inherited too");
    assert_eq!(policy.files().default_name().as_str(), "own/files.default");
    // What is stored beside the record needs no other file, and names the same rules.
    let again = Policy::parse("stored", &policy.effective_yaml(), &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.effective_yaml(), policy.effective_yaml());
    assert_eq!(says(&again, Access::Read, "/home/me/.ssh/id"), (Deny, "base/keys".into()));
}

#[test]
fn shipped_policies_are_found_by_name_and_version() {
    for (name, _) in SHIPPED {
        let mut variables = Variables::new();
        variables.set("HOME", "/home/me").unwrap();
        variables.set("TMP", "/tmp").unwrap();
        variables.set_workspace("/home/me/work").unwrap();
        let text = format!("version: 1\nname: own\nextends: [{name}]\n");
        let policy = Policy::parse("own.yaml", &text, &variables).unwrap_or_else(|errors| panic!("{errors}"));
        let short = name.strip_suffix("@1").unwrap();
        let names = policy.files().rules().iter().map(|rule| rule.name().to_string());
        let targets = policy.network().rules().iter().map(|rule| rule.name().to_string());
        let names: Vec<String> = names.chain(targets).collect();
        assert!(names.iter().any(|rule| rule.starts_with(&format!("{short}/"))), "{names:?}");
        // Each of them extends base, whose rules are there under their own names.
        assert!(names.iter().any(|rule| rule == "base/credentials"), "{names:?}");
    }
}

#[test]
fn a_policy_reached_by_two_ways_is_there_once() {
    let a = "version: 1\nname: a\nextends: [./base.yaml]\n";
    let b = "version: 1\nname: b\nextends: [./base.yaml]\nfiles: { rules: [{ amend: base/tmp, disable: true }] }\n";
    let c = "version: 1\nname: c\nextends: [./base.yaml]\nfiles: { rules: [{ amend: base/tmp, except: [\"/tmp/c\"] }] }\n";
    let files = [("./base.yaml", BASE), ("./a.yaml", a), ("./b.yaml", b), ("./c.yaml", c)];
    let policy = read("extends: [./a.yaml, ./base.yaml, ./b.yaml]\n", &files).unwrap();
    // One of them still has the rule: what is inherited is all of it.
    assert_eq!(policy.files().rules().len(), 3);
    let errors = read("extends: [./a.yaml, ./c.yaml]\n", &files).unwrap_err().to_string();
    assert!(errors.contains("two different rules named `base/tmp` are inherited"), "{errors}");
}

#[test]
fn what_could_not_be_read_is_not_missed() {
    const BROKEN: &str = "version: 1\nname: base\nfiles: { default: allow, rules: [{ name: tmp, deny: [write], path: [\"${NOBODY}\"] }] }\n";
    let text = "extends: [./base.yaml]\nfiles: { rules: [{ amend: base/tmp, disable: true }] }\n";
    let errors = read(text, &[("./base.yaml", BROKEN)]).unwrap_err().to_string();
    assert!(errors.contains("${NOBODY}"), "{errors}");
    assert!(!errors.contains("needs `default`") && !errors.contains("amend"), "{errors}");
    let errors = read(text, &[("./base.yaml", OPEN)]).unwrap_err().to_string();
    assert!(errors.contains("base/tmp"), "{errors}");
}

#[test]
fn what_differs_must_be_said() {
    let files = [("./base.yaml", BASE), ("./open.yaml", OPEN)];
    let errors = read("extends: [./base.yaml, ./open.yaml]\n", &files).unwrap_err().to_string();
    assert_eq!(
        errors.lines().next(),
        Some(
            "own.yaml:3:24: `./open.yaml` and `./base.yaml` differ in their `default` of `files`; say your own"
        )
    );
    let policy = read("extends: [./base.yaml, ./open.yaml]\nfiles: { default: allow }\n", &files).unwrap();
    assert_eq!(policy.files().default(), Decision::Allow);
    assert_eq!(policy.network().rules().len(), 1);
}

#[test]
fn of_directories_for_temporary_files_the_narrowest_is_inherited() {
    let files = [
        ("./own.yaml", "version: 1\nname: own-tmp\ntmp: private\n"),
        ("./machine.yaml", "version: 1\nname: machine\ntmp: shared\n"),
        ("./silent.yaml", "version: 1\nname: silent\n"),
    ];
    for (text, tmp) in [
        ("extends: [./silent.yaml]\n", None),
        ("extends: [./machine.yaml, ./silent.yaml]\n", Some(Tmp::Shared)),
        ("extends: [./machine.yaml, ./own.yaml]\n", Some(Tmp::Private)),
        ("extends: [./own.yaml, ./machine.yaml]\n", Some(Tmp::Private)),
        ("extends: [./own.yaml]\ntmp: shared\n", Some(Tmp::Shared)),
        ("extends: [./machine.yaml]\ntmp: private\n", Some(Tmp::Private)),
    ] {
        let policy = read(text, &files).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(policy.settings().tmp, tmp, "{text}");
        // Of policies that hold together one is enough; one on trial asks for nothing.
        let shared = Policy::parse("q", "version: 1\nname: q\ntmp: shared\n", &Variables::new()).unwrap();
        let private = tmp == Some(Tmp::Private);
        assert_eq!(Policies::from(shared.clone()).and(policy.clone()).private_tmp(), private, "{text}");
        assert!(!Policies::from(shared).and(policy.on_trial()).private_tmp());
    }
}

#[test]
fn what_cannot_be_extended_is_told_with_its_place() {
    let files = [
        ("./loop.yaml", "version: 1\nname: l\nextends: [./pool.yaml]\n"),
        ("./pool.yaml", "version: 1\nname: p\nextends: [./loop.yaml]\n"),
        ("./self.yaml", "version: 1\nname: s\nextends: [own.yaml]\n"),
        ("./bad.yaml", "version: 1\nname: b\nfiles: { default: maybe, rulez: [] }\n"),
        ("own.yaml", ""),
    ];
    let told = |text: &str| -> Vec<String> {
        let errors = read(text, &files).unwrap_err().to_string();
        errors.lines().filter(|line| line.contains(".yaml:")).map(str::to_owned).collect()
    };
    assert_eq!(
        told("extends: [./loop.yaml]\n"),
        ["./pool.yaml:3:11: `./loop.yaml` extends itself, directly or through others"]
    );
    assert_eq!(told("extends: [./self.yaml]\n").len(), 1);
    assert_eq!(
        told("extends: [./bad.yaml, ./none.yaml]\nexce: 1\n"),
        [
            "own.yaml:3:23: `./none.yaml` does not exist",
            "own.yaml:4:1: unknown key `exce` in a policy; did you mean `exec`?",
            "./bad.yaml:3:19: `maybe` is no default; write `allow` or `deny`",
            "./bad.yaml:3:26: unknown key `rulez` in a section; did you mean `rules`?"
        ]
    );
    // A chain of any length ends.
    struct Chain;
    impl Resolver for Chain {
        fn resolve(&self, path: &str, from: &str) -> Result<Source, String> {
            let text = format!("version: 1\nname: c\nextends: [\"{path}x\"]\n");
            assert!(from.len() < 100);
            Ok(Source { name: path.to_owned(), bytes: text.into_bytes() })
        }
    }
    let errors =
        Policy::parse_with("c.yaml", b"version: 1\nname: c\nextends: [./c]\n", &Variables::new(), &Chain);
    assert!(errors.unwrap_err().to_string().contains("more than 8 policies"));
}

fn parse(name: &str, default: &str, rules: &[String]) -> Policy {
    let rules: Vec<String> =
        rules.iter().enumerate().map(|(i, rule)| format!("{{ name: r{i}, {rule} }}")).collect();
    let text =
        format!("version: 1\nname: {name}\nfiles: {{ default: {default}, rules: [{}] }}\n", rules.join(", "));
    Policy::parse("generated", &text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rule = (
        select(vec!["allow", "deny", "ask"]),
        select(vec!["read", "write", "all"]),
        select(vec!["/a", "/a/**", "/**", "**/b"]),
        select(vec!["", "", ", by: [\"/bin/a\"]"]),
        any::<bool>(),
    );
    let rule = rule.prop_map(|(effect, access, path, by, trial)| {
        let mode = if trial && effect != "allow" { ", mode: audit" } else { "" };
        format!("{effect}: [{access}], path: [\"{path}\"]{by}{mode}")
    });
    (select(vec!["p", "q", "r"]), select(vec!["allow", "deny"]), prop::collection::vec(rule, 0..4))
        .prop_map(|(name, default, rules)| parse(name, default, &rules))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn policies_together_only_take_away_and_have_no_order(
        a in any_policy(), b in any_policy(), c in any_policy(),
    ) {
        let one = Policies::from(a.clone());
        let twice = one.clone().and(a.clone());
        let ab = one.clone().and(b.clone());
        let all = ab.clone().and(c.clone());
        let other = Policies::from(c.clone()).and(b.clone()).and(a.clone()).and(c.clone());
        prop_assert_eq!(all.iter().count(), other.iter().count());
        for exe in ["/bin/a", "/bin/b"] {
            let subject = Subject { exe: exe.as_bytes(), ancestors: &[] };
            for path in ["/", "/a", "/a/b", "/c"] {
                for access in SectionKind::Files.accesses().iter() {
                    let act = Act::File { accesses: access.into(), path: path.as_bytes() };
                    let single = |policy| evaluate::judge(policy, &subject, &act);
                    prop_assert_eq!(one.judge(&subject, &act), single(&a));
                    prop_assert_eq!(twice.judge(&subject, &act), single(&a));
                    let verdict = all.judge(&subject, &act);
                    prop_assert_eq!(&verdict, &other.judge(&subject, &act));
                    let each = [&a, &b, &c].map(single);
                    let strictest = each.iter().map(|verdict| verdict.decision).max();
                    prop_assert_eq!(Some(verdict.decision), strictest);
                    prop_assert!(verdict.decision >= ab.judge(&subject, &act).decision);
                    // Rules before defaults, and of those the first by name.
                    let deciding = each.iter().filter(|one| one.decision == verdict.decision).map(|one| one.rule);
                    let first = deciding.reduce(|a, b| if b.precedes(a) { b } else { a });
                    prop_assert_eq!(Some(verdict.rule), first);
                    let would = each.iter().filter_map(|one| one.audited.as_ref().map(|audited| audited.decision)).max();
                    prop_assert_eq!(verdict.audited.map(|audited| audited.decision), would.filter(|w| *w > verdict.decision));
                }
            }
        }
    }
}

#[test]
fn several_policies_are_written_down_and_read_back() {
    let text = |name: &str, kernel: &str| {
        format!(
            "version: 1\nname: {name}\nextends: [base@1]\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: r, deny: [read], path: [\"/a\\\\x0a---\\\\x0ab\", \"${{HOME}}/x\"], because: \"a\\n---\\nb\" }}\n\
             kernel: {{ allow: [{kernel}] }}\n"
        )
    };
    let mut variables = Variables::new();
    for (name, value) in [("HOME", "/home/a"), ("USER", "a"), ("UID", "1"), ("TMP", "/tmp")] {
        variables.set(name, value).unwrap();
    }
    let policy = |name: &str, kernel: &str| {
        Policy::parse(name, &text(name, kernel), &variables).unwrap_or_else(|errors| panic!("{errors}"))
    };
    let (a, b) = (policy("a", "mount, bpf"), policy("b", "bpf, clock"));
    let all = Policies::from(b.clone()).and(a.clone()).and(policy("c", "").on_trial());
    assert_eq!(all.names(), "a, b, c");
    assert_eq!(all.kernel_allowed(), ["bpf"]);
    assert_eq!(all.kernel_closing(&["mount"]).unwrap().as_str(), "b/kernel.default");
    assert_eq!(all.kernel_closing(&["mount", "clock"]), None);

    let written = all.effective_yaml();
    assert!(!written.contains("${"), "{written}");
    let again = Policies::parse_effective("effective", &written).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.effective_yaml(), written);
    let act = Act::File { accesses: Access::Read.into(), path: b"/a\n---\nb" };
    let verdict = again.judge(&Subject::UNKNOWN, &act);
    assert_eq!((verdict.rule.as_str(), verdict.because), ("a/r", Some("a\n---\nb")));
    let act = Act::File { accesses: Access::Read.into(), path: b"/home/a/.ssh/id_rsa" };
    assert_eq!(
        again.judge(&Subject::UNKNOWN, &act),
        all.judge(&Subject::UNKNOWN, &act),
        "inherited names stay"
    );
    assert!(Policies::parse_effective("effective", &written.replace("allow: [bpf", "alow: [bpf")).is_err());
    assert_eq!(Policies::from(a.clone()).effective_yaml(), a.effective_yaml(), "one is written as ever");
}
