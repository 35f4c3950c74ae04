//! Rules bound to processes and contents, rules that ask, rules on trial: what they mean, what of them is not
//! in the tables, and that the tables agree with the oracle on the rest.

use policy::compile::{Unsupported, lsm};
use policy::{
    Access, AccessSet, Act, Decision, Digest, Mode, Policy, SectionKind, Subject, Variables, evaluate,
};
use proptest::prelude::*;
use proptest::sample::select;

use Decision::{Allow, Ask, Deny};

fn parse(text: &str) -> Policy {
    Policy::parse("test.yaml", &format!("version: 1\nname: p\n{text}"), &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}\n\n{text}"))
}

fn files(rules: &str) -> Policy {
    parse(&format!("files:\n  default: allow\n  rules: [{rules}]\n"))
}

fn subject<'a>(exe: &'a str, ancestors: &'a [&'a [u8]]) -> Subject<'a> {
    Subject { exe: exe.as_bytes(), ancestors }
}

fn read(policy: &Policy, subject: Subject<'_>) -> Decision {
    let act = Act::File { accesses: Access::Read.into(), path: b"/x" };
    evaluate::judge(policy, &subject, &act).decision
}

#[test]
fn conditions_are_about_the_process_and_its_ancestors() {
    let npm: [&[u8]; 2] = [b"/bin/sh", b"/usr/bin/npm"];
    let by = files(r#"{ name: r, deny: [read], path: ["/x"], by: ["**/curl", "/opt/**"] }"#);
    assert_eq!(read(&by, subject("/usr/bin/curl", &[])), Deny);
    assert_eq!(read(&by, subject("/usr/bin/cat", &[b"/usr/bin/curl"])), Allow);
    let unless = files(r#"{ name: r, deny: [read], path: ["/x"], unless_by: ["/usr/bin/ssh"] }"#);
    assert_eq!(read(&unless, subject("/usr/bin/ssh", &[])), Allow);
    assert_eq!(read(&unless, subject("/usr/bin/cat", &[b"/usr/bin/ssh"])), Deny);
    let under = files(r#"{ name: r, deny: [read], path: ["/x"], under: ["**/npm"] }"#);
    assert_eq!(read(&under, subject("/usr/bin/node", &npm)), Deny);
    assert_eq!(read(&under, subject("/usr/bin/npm", &[])), Deny);
    assert_eq!(read(&under, subject("/usr/bin/node", &[b"/bin/sh"])), Allow);
    let both = files(r#"{ name: r, deny: [read], path: ["/x"], by: ["**/node"], under: ["**/npm"] }"#);
    assert_eq!(read(&both, subject("/usr/bin/node", &npm)), Deny);
    assert_eq!(read(&both, subject("/usr/bin/python", &npm)), Allow);
    for policy in [&by, &unless, &under, &both] {
        assert_eq!(read(policy, Subject::UNKNOWN), Deny, "what is not known is taken to be what is denied");
    }
    let allow = parse(
        "files: { default: deny, rules: [{ name: r, allow: [read], path: [\"/x\"], by: [\"**/ssh\"] }] }\n",
    );
    assert_eq!(read(&allow, subject("/usr/bin/ssh", &[])), Allow);
    assert_eq!(read(&allow, Subject::UNKNOWN), Deny);
}

#[test]
fn a_condition_that_is_left_out_means_nobody() {
    let text = "files:\n  default: deny\n  rules:\n    \
        - { name: r, allow: [read], path: [\"/x\"], by: [\"${env.NONE:-none}\"] }\n";
    let policy = parse(text);
    assert_eq!(read(&policy, subject("/usr/bin/ssh", &[])), Deny);
    assert!(!policy.effective_yaml().contains("allow"), "such a rule cannot be written down");
    let plan = lsm::compile(&policy, 0).unwrap();
    assert!(plan.denied_at(Access::Read.into(), b"/x").contains(Access::Read), "nor is it for everyone");
}

#[test]
fn contents_are_named_by_their_digest() {
    let bad = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let policy = parse(&format!(
        "exec:\n  default: allow\n  rules:\n    - {{ name: bad, deny: [run], sha256: [{}], except: [\"/ok/**\"] }}\n",
        bad.to_uppercase()
    ));
    let run = |path: &[u8], sha256: Option<&Digest>| {
        evaluate::judge(&policy, &Subject::UNKNOWN, &Act::Exec { path, sha256 }).decision
    };
    let [digest] = policy.exec().rules()[0].sha256() else { panic!("one digest") };
    assert_eq!(digest.to_string(), bad);
    assert_eq!(run(b"/usr/bin/x", Some(digest)), Deny);
    assert_eq!(run(b"/ok/x", Some(digest)), Allow);
    assert_eq!(run(b"/usr/bin/x", Some(&Digest([7; 32]))), Allow);
    assert_eq!(run(b"/usr/bin/x", None), Deny, "unknown contents may be these");
    assert!(policy.effective_yaml().contains(bad));
}

#[test]
fn deny_beats_ask_beats_allow() {
    let policy = files(
        r#"{ name: a, allow: [all], path: ["/**"] }, { name: b, ask: [read, write], path: ["/x"], timeout: 90s, because: you decide },
           { name: c, deny: [write], path: ["/x"] }"#,
    );
    let says = |accesses: AccessSet| {
        let verdict = evaluate::file(&policy, accesses, b"/x");
        (verdict.decision, verdict.rule.to_string(), verdict.because)
    };
    assert_eq!(says(Access::Read.into()), (Ask, "p/b".into(), Some("you decide")));
    assert_eq!(says(Access::Write.into()), (Deny, "p/c".into(), None));
    assert_eq!(says([Access::Read, Access::Write].into_iter().collect()), (Deny, "p/c".into(), None));
    assert_eq!(says(Access::Delete.into()), (Allow, "p/a".into(), None));
    let rule = &policy.files().rules()[1];
    assert_eq!(rule.timeout().map(|timeout| timeout.as_secs()), Some(90));
    assert!(policy.effective_yaml().contains("timeout: \"90s\""));
    // Where nobody can be asked, the tables deny.
    let plan = lsm::compile(&policy, 0).unwrap();
    assert!(plan.denied_at(Access::Read.into(), b"/x").contains(Access::Read));
    let unheld = plan.unheld(Access::ALL.into_iter().collect());
    assert_eq!(unheld.len(), 1);
    assert_eq!(unheld[0].to_string(), "rule `p/b` asks, which no layer of this run holds");
}

#[test]
fn what_is_on_trial_is_told_apart_and_blocks_nothing() {
    let policy = files(
        r#"{ name: law, deny: [write], path: ["/x"] }, { name: a-trial, deny: [read, write], path: ["/x"], mode: audit, because: soon }"#,
    );
    let verdict = evaluate::file(&policy, Access::Read.into(), b"/x");
    assert_eq!((verdict.decision, verdict.rule.as_str()), (Allow, "p/files.default"));
    let audited = verdict.audited.expect("it would be denied");
    assert_eq!((audited.decision, audited.rule.as_str(), audited.because), (Deny, "p/a-trial", Some("soon")));
    let verdict = evaluate::file(&policy, Access::Write.into(), b"/x");
    assert_eq!((verdict.decision, verdict.rule.as_str(), verdict.audited), (Deny, "p/law", None));
    let plan = lsm::compile(&policy, 0).unwrap();
    assert!(plan.denied_at(Access::Read.into(), b"/x").is_empty());
    assert_eq!(plan.unheld(Access::ALL.into_iter().collect()), []);

    let policy = parse(
        "mode: audit\nfiles: { default: deny, rules: [{ name: a, allow: [read], path: [\"/x\"] }] }\nnetwork: { default: deny }\n",
    );
    assert_eq!(policy.mode(), Mode::Audit);
    let verdict = evaluate::file(&policy, Access::Write.into(), b"/x");
    assert_eq!((verdict.decision, verdict.rule.as_str()), (Allow, "p/files.default"));
    assert_eq!(verdict.audited.map(|audited| audited.decision), Some(Deny));
    let verdict = evaluate::file(&policy, Access::Read.into(), b"/x");
    assert_eq!((verdict.rule.as_str(), verdict.audited), ("p/a", None));
    let plan = lsm::compile(&policy, 0).unwrap();
    assert_eq!((plan.default_deny, plan.net_default_deny), (0, 0));
    assert_eq!(plan.unheld(AccessSet::EMPTY), [], "nothing is promised");
}

#[test]
fn rules_without_a_place_in_the_tables_are_left_out_and_named() {
    let text = "files:\n  default: deny\n  rules:\n    \
        - { name: a, allow: [load], path: [\"/**\"], under: [\"**/npm\"] }\n    \
        - { name: b, deny: [read], path: [\"/b\"], by: [\"**/curl\"], unless_by: [\"/usr/**\"] }\n    \
        - { name: c, allow: [read, write, create, delete, attributes], path: [\"/**\"] }\n\
        exec: { default: allow, rules: [{ name: d, deny: [run], sha256: [\"00000000000000000000000000000000000000000000000000000000000000aa\"] }] }\n";
    let plan = lsm::compile(&parse(text), 0).unwrap();
    // The allow rule opens nothing, so that the default still denies; the deny rules deny nobody else.
    assert!(plan.denied_at(Access::Load.into(), b"/usr/lib/x.so").contains(Access::Load));
    assert!(plan.denied_at(Access::Read.into(), b"/b").is_empty());
    let unheld: Vec<String> = plan
        .unheld(Access::Read.into())
        .iter()
        .map(|unheld| format!("{} {:?}", unheld.rule, unheld.what))
        .collect();
    assert_eq!(
        unheld,
        [
            "p/files.default Access(Load)",
            "p/a Condition(\"under\")",
            "p/b Condition(\"by\")",
            "p/b Condition(\"unless_by\")",
            "p/d Sha256"
        ]
    );
    let text = plan.unheld(AccessSet::EMPTY).last().map(ToString::to_string);
    assert_eq!(
        text.as_deref(),
        Some("rule `p/d` names contents by `sha256`, which no layer of this run holds")
    );
}

#[test]
fn examples_say_who_acts() {
    let text = "files:\n  default: deny\n  rules:\n    \
        - { name: token, allow: [read], path: [\"/t\"], under: [\"**/npm\"] }\n    \
        - { name: ask, ask: [write], path: [\"/t\"] }\n\
        exec: { default: allow, rules: [{ name: d, deny: [run], sha256: [\"00000000000000000000000000000000000000000000000000000000000000aa\"] }] }\n\
        examples:\n  \
        - { open: /t, access: read, by: /usr/bin/node, under: [/bin/sh, /usr/bin/npm], verdict: allow, rule: token }\n  \
        - { open: /t, access: read, by: /usr/bin/npm, verdict: allow }\n  \
        - { open: /t, access: read, by: /usr/bin/node, verdict: deny }\n  \
        - { open: /t, access: read, under: /usr/bin/npm, verdict: allow }\n  \
        - { open: /t, access: read, verdict: deny }\n  \
        - { open: /t, access: write, verdict: ask }\n  \
        - { run: /t, verdict: allow }\n  \
        - { run: /t, sha256: \"00000000000000000000000000000000000000000000000000000000000000aa\", verdict: deny }\n";
    let policy = parse(text);
    policy.check_examples().unwrap();
    let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
    again.check_examples().unwrap();
    assert_eq!((again.example_count(), again.effective_yaml()), (8, policy.effective_yaml()));
}

const EXES: [&str; 4] = ["/bin/a", "/bin/b", "/opt/a", "/opt/c"];

/// A rule from few words, so that rules meet.
fn rule() -> impl Strategy<Value = String> {
    let paths = select(vec!["\"/a\"", "\"/a/**\"", "\"/**\"", "\"**/b\"", "\"/a\", \"/c/*\""]);
    let who = select(vec![
        "",
        "",
        "",
        ", by: [\"/bin/*\"]",
        ", by: [\"**/a\"], under: [\"/opt/**\"]",
        ", unless_by: [\"/bin/a\", \"**/c\"]",
        ", under: [\"**/b\"]",
    ]);
    let except = select(vec!["", "", ", except: [\"/a/b\"]"]);
    let accesses = select(vec!["read", "write", "all", "read, write"]);
    let effect = select(vec!["allow", "allow", "deny", "ask", "deny, audit", "ask, audit"]);
    (effect, accesses, paths, who, except).prop_map(|(effect, accesses, paths, who, except)| {
        let mode = if effect.ends_with("audit") { ", mode: audit" } else { "" };
        let effect = effect.trim_end_matches(", audit");
        format!("{effect}: [{accesses}], path: [{paths}]{who}{except}{mode}")
    })
}

fn text(mode: &str, default: &str, rules: &[String]) -> String {
    let rules: Vec<String> =
        rules.iter().enumerate().map(|(i, rule)| format!("    - {{ name: r{i}, {rule} }}\n")).collect();
    let rules = if rules.is_empty() { String::new() } else { format!("  rules:\n{}", rules.concat()) };
    format!("mode: {mode}\nfiles:\n  default: {default}\n{rules}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rules_of_every_kind_keep_their_promises(
        mode in select(vec!["enforce", "enforce", "audit"]),
        default in select(vec!["allow", "deny"]),
        rules in prop::collection::vec(rule(), 0..6),
        exe in select(EXES.to_vec()),
        ancestors in prop::collection::vec(select(EXES.to_vec()), 0..3),
    ) {
        let policy = parse(&text(mode, default, &rules));
        let untried: Vec<String> = rules.iter().filter(|rule| !rule.contains("audit")).cloned().collect();
        let without_trials = parse(&text("enforce", default, &untried));
        let all_law: Vec<String> = rules.iter().map(|rule| rule.replace(", mode: audit", "")).collect();
        let all_law = parse(&text("enforce", default, &all_law));
        let plan = lsm::compile(&policy, 0).unwrap();
        let (kept, left_out) = lsm::expressible(&policy);
        let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
        prop_assert_eq!(again.effective_yaml(), policy.effective_yaml());
        let ancestors: Vec<&[u8]> = ancestors.iter().map(|exe| exe.as_bytes()).collect();
        let known = subject(exe, &ancestors);
        for path in ["/", "/a", "/a/b", "/c/d", "/c/d/b"] {
            for access in SectionKind::Files.accesses().iter() {
                let act = Act::File { accesses: access.into(), path: path.as_bytes() };
                let says = |policy| evaluate::judge(policy, &known, &act);
                let verdict = says(&policy);
                prop_assert_eq!(says(&again), verdict.clone());
                // The tables are the oracle's opinion of what they express, and ask as denial.
                let tables = plan.denied_at(access.into(), path.as_bytes()).contains(access);
                prop_assert_eq!(tables, says(&kept).decision != Allow, "{} {}", access, path);
                // Whatever passes and should not is named.
                let named = left_out.iter().any(|unheld| matches!(unheld.what, Unsupported::Condition(_)));
                prop_assert!(tables || verdict.decision == Allow || named);
                // Trials never change what happens, and always say what would.
                if mode == "audit" {
                    prop_assert_eq!(verdict.decision, Allow);
                } else {
                    prop_assert_eq!(verdict.decision, says(&without_trials).decision);
                }
                let would = verdict.audited.as_ref().map_or(verdict.decision, |audited| audited.decision);
                prop_assert_eq!(would, says(&all_law).decision.max(verdict.decision));
                // Less knowledge is never more permission.
                let unknown = evaluate::judge(&all_law, &Subject::UNKNOWN, &act).decision;
                prop_assert!(unknown >= says(&all_law).decision);
            }
        }
    }
}
