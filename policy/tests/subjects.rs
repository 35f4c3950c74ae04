//! Rules bound to processes and contents, rules that ask, rules on trial: what they mean, and that the tables agree
//! with the oracle.

use policy::compile::{
    CompileError,
    lsm::{self, Held, LsmPlan, NetEnd, SetTable, Sets},
};
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

fn compile(policy: &Policy) -> LsmPlan {
    lsm::compile(&[policy], 0, &mut SetTable::new()).expect("it works")
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

/// Whoever has executed nothing yet may be any executable, for each kind of condition.
#[test]
fn before_the_first_exec_anyone_may_act() {
    for condition in ["by", "under"] {
        let rule = format!("{{ name: r, deny: [read], path: [\"/x\"], {condition}: [\"**/npm\"] }}");
        let policy = files(&rule);
        let plan = compile(&policy);
        let denied = |sets| !plan.denied_at(sets, Access::Read.into(), b"/x").unwrap().accesses.is_empty();
        assert_eq!(read(&policy, subject("", &[])), Deny, "{condition}");
        assert!(denied(&Sets::FIRST), "{condition}");
        let cat = plan.sets_of(Some(b"/usr/bin/cat"), &Sets::FIRST).unwrap();
        assert_eq!(read(&policy, subject("/usr/bin/cat", &[])), Allow, "{condition}");
        assert!(!denied(&cat), "{condition}: it is not remembered as an ancestor");
    }
}

#[test]
fn a_condition_that_is_left_out_means_nobody() {
    let text = "files:\n  default: deny\n  rules:\n    \
        - { name: r, allow: [read], path: [\"/x\"], by: [\"${env.NONE:-none}\"] }\n";
    let policy = parse(text);
    assert_eq!(read(&policy, subject("/usr/bin/ssh", &[])), Deny);
    assert!(!policy.effective_yaml().contains("allow"), "such a rule cannot be written down");
    let plan = compile(&policy);
    assert!(
        plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), b"/x").unwrap().accesses.contains(Access::Read),
        "nor is it for everyone"
    );
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
    let plan = compile(&policy);
    assert!(
        plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), b"/x").unwrap().accesses.contains(Access::Read)
    );
    let unheld = plan.unheld(&Held::of(AccessSet::ALL));
    assert!(unheld.is_empty(), "a denial is held: {unheld:?}");
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
    let plan = compile(&policy);
    assert!(plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), b"/x").unwrap().accesses.is_empty());
    assert_eq!(plan.unheld(&Held::of(AccessSet::ALL)), []);

    let policy = parse(
        "mode: audit\nfiles: { default: deny, rules: [{ name: a, allow: [read], path: [\"/x\"] }] }\nnetwork: { default: deny }\n",
    );
    assert_eq!(policy.mode(), Mode::Audit);
    let verdict = evaluate::file(&policy, Access::Write.into(), b"/x");
    assert_eq!((verdict.decision, verdict.rule.as_str()), (Allow, "p/files.default"));
    assert_eq!(verdict.audited.map(|audited| audited.decision), Some(Deny));
    let verdict = evaluate::file(&policy, Access::Read.into(), b"/x");
    assert_eq!((verdict.rule.as_str(), verdict.audited), ("p/a", None));
    let plan = compile(&policy);
    assert_eq!((plan.header.automata, plan.header.net_default_deny), (0, 0));
    assert_eq!(plan.unheld(&Held::NOTHING), [], "nothing is promised");
}

const BAD: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// What is known of a process that has executed these, one after the other.
fn sets(plan: &LsmPlan, executed: &[&str]) -> Sets {
    executed.iter().fold(Sets::FIRST, |known, exe| {
        let exe = (!exe.is_empty()).then_some(exe.as_bytes());
        plan.sets_of(exe, &known).expect("it works")
    })
}

#[test]
fn conditions_and_contents_are_in_the_tables() {
    let text = format!(
        "files:\n  default: deny\n  rules:\n    \
        - {{ name: a, allow: [load], path: [\"/**\"], under: [\"**/npm\"] }}\n    \
        - {{ name: b, deny: [read], path: [\"/b\"], by: [\"**/curl\"], unless_by: [\"/usr/**\"] }}\n    \
        - {{ name: c, allow: [read, write, create, delete, attributes], path: [\"/**\"] }}\n\
        exec: {{ default: allow, rules: [{{ name: d, deny: [run], sha256: [{BAD}], except: [\"/ok/*\"] }}] }}\n\
        network: {{ default: allow, rules: [{{ name: e, deny: [connect], to: [any], unless_by: [\"**/curl\"] }}] }}\n"
    );
    let plan = compile(&parse(&text));
    assert_eq!(plan.unheld(&Held::of(AccessSet::ALL)), []);
    let held = SectionKind::Files.accesses().without(Access::Load.into());
    let unheld: Vec<String> =
        plan.unheld(&Held::of(held)).iter().map(|unheld| unheld.rule.to_string()).collect();
    assert_eq!(unheld, ["p/files.default", "p/d", "p/e"], "an allow under a condition opens no default");
    assert_eq!((plan.header.sets, plan.header.hashes), (0b1111, 1));
    let denied = |executed: &[&str], access: Access, path: &[u8]| {
        plan.denied_at(&sets(&plan, executed), access.into(), path).unwrap().accesses.contains(access)
    };
    assert!(
        !denied(&["/bin/npm", "/bin/sh"], Access::Load, b"/x") && denied(&["/bin/sh"], Access::Load, b"/x")
    );
    assert!(denied(&["/opt/curl"], Access::Read, b"/b") && !denied(&["/usr/bin/curl"], Access::Read, b"/b"));
    assert!(!denied(&["/opt/curl", "/bin/cat"], Access::Read, b"/b") && denied(&[""], Access::Read, b"/b"));
    let connects = |executed: &[&str]| {
        let sets = sets(&plan, executed);
        let address = "192.0.2.1".parse().unwrap();
        plan.denied_to(&sets, Access::Connect.into(), &NetEnd::address(address, 1, policy::Protocol::Tcp))
            .unwrap()
            .is_empty()
    };
    assert!(connects(&["/opt/curl"]) && !connects(&["/bin/sh"]) && !connects(&[""]));
    let mut bad = Digest([0; 32]);
    bad.0[31] = 0xaa;
    let runs = |path: &[u8], digest: Option<&Digest>| {
        plan.denied_exec(&Sets::UNKNOWN, path, digest).unwrap().accesses.is_empty()
    };
    assert!(!runs(b"/x", Some(&bad)) && runs(b"/ok/x", Some(&bad)) && runs(b"/x", Some(&Digest([1; 32]))));
    assert!(!runs(b"/x", None), "contents that nobody knows may be these");
}

#[test]
fn what_a_rule_denies_is_told_from_what_a_default_denies() {
    let plan = compile(&parse(
        "exec: { default: deny, rules: [{ name: a, deny: [run], path: [\"/a\"] }, { name: b, allow: [run], path: [\"/b\"] }] }\n",
    ));
    let run = |path: &[u8]| {
        let denied = plan.denied_at(&Sets::UNKNOWN, Access::Run.into(), path).unwrap();
        (denied.accesses.contains(Access::Run), denied.by_rule.contains(Access::Run))
    };
    assert_eq!([run(b"/a"), run(b"/b"), run(b"/c")], [(true, true), (false, false), (true, false)]);
}

#[test]
fn sets_keep_their_numbers_over_policies_and_new_ones_are_unknown() {
    let mut table = SetTable::new();
    let rule =
        |key: &str, exe: &str| files(&format!("{{ name: r, deny: [read], path: [\"/x\"], {key}: [{exe}] }}"));
    let first = lsm::compile(&[&rule("by", "\"**/a\", \"/b\"")], 1, &mut table).unwrap();
    assert_eq!((first.header.sets, table.len()), (1, 1));
    let known = sets(&first, &["/bin/a"]);
    let again = lsm::compile(&[&rule("unless_by", "\"/b\", \"**/a\", \"**/a\"")], 2, &mut table).unwrap();
    assert_eq!((again.header.sets, table.len()), (1, 1), "the same list, in another order");
    let second = lsm::compile(&[&rule("by", "\"**/c\"")], 3, &mut table).unwrap();
    assert_eq!((second.header.sets, table.len()), (2, 2));
    let reads = |plan: &LsmPlan, sets: &Sets| {
        plan.denied_at(sets, Access::Read.into(), b"/x").unwrap().accesses.is_empty()
    };
    assert!(!reads(&first, &known) && reads(&again, &known));
    assert!(!reads(&second, &known), "it executed /bin/a before anybody asked for **/c");
    assert!(reads(&second, &second.sets_of(Some(b"/bin/a"), &known).unwrap()));
    for i in 2..64 {
        lsm::compile(&[&rule("under", &format!("\"/{i}\""))], 4, &mut table).unwrap();
    }
    let (error, before) =
        (lsm::compile(&[&rule("by", "\"/more\"")], 5, &mut table).unwrap_err(), table.clone());
    assert!(
        matches!(&error, CompileError::SetsTooMany { limit: 64, rules } if rules[0].as_str() == "p/r"),
        "{error}"
    );
    assert_eq!(table, before);
    lsm::compile(&[&rule("by", "\"/b\", \"**/a\"")], 6, &mut table).unwrap();
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
        executed in prop::collection::vec(select([EXES.to_vec(), vec![""]].concat()), 1..4),
    ) {
        let policy = parse(&text(mode, default, &rules));
        let untried: Vec<String> = rules.iter().filter(|rule| !rule.contains("audit")).cloned().collect();
        let without_trials = parse(&text("enforce", default, &untried));
        let all_law: Vec<String> = rules.iter().map(|rule| rule.replace(", mode: audit", "")).collect();
        let all_law = parse(&text("enforce", default, &all_law));
        let plan = compile(&policy);
        let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
        prop_assert_eq!(again.effective_yaml(), policy.effective_yaml());
        let line: Vec<&[u8]> = executed.iter().map(|exe| exe.as_bytes()).collect();
        let (exe, ancestors) = line.split_last().unwrap();
        let known = Subject { exe, ancestors };
        let sets = sets(&plan, &executed);
        for path in ["/", "/a", "/a/b", "/c/d", "/c/d/b"] {
            for access in SectionKind::Files.accesses().iter() {
                let act = Act::File { accesses: access.into(), path: path.as_bytes() };
                let says = |policy| evaluate::judge(policy, &known, &act);
                let verdict = says(&policy);
                prop_assert_eq!(says(&again), verdict.clone());
                // The tables are the oracle's opinion, with asking as denial.
                let tables = plan.denied_at(&sets, access.into(), path.as_bytes()).unwrap().accesses.contains(access);
                prop_assert_eq!(tables, verdict.decision != Allow, "{} {}", access, path);
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

/// A rule of `exec` on paths or contents.
fn exec_rule() -> impl Strategy<Value = String> {
    let what = select(vec![
        "path: [\"/bin/*\"]".to_owned(),
        "path: [\"**/a\"]".to_owned(),
        format!("sha256: [{BAD}]"),
        format!("sha256: [{BAD}, {}]", BAD.replace("aa", "bb")),
        format!("sha256: [{}], except: [\"/opt/**\"]", BAD.replace("aa", "bb")),
    ]);
    let who = select(vec!["", "", ", by: [\"/bin/*\"]", ", under: [\"**/b\"]", ", unless_by: [\"/opt/**\"]"]);
    (select(vec!["allow", "deny", "ask"]), what, who)
        .prop_map(|(effect, what, who)| format!("{effect}: [run], {what}{who}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn executions_are_judged_by_path_and_contents(
        policies in prop::collection::vec((select(vec!["allow", "deny"]), prop::collection::vec(exec_rule(), 0..5)), 1..4),
        executed in prop::collection::vec(select([EXES.to_vec(), vec![""]].concat()), 1..4),
        path in select(EXES.to_vec()),
        contents in select(vec![0xaa_u8, 0xbb, 0xcc]),
    ) {
        let text = |(number, (default, rules)): (usize, &(&str, Vec<String>))| {
            text("enforce", default, rules).replace("files:", "exec:").replace("name: r", &format!("name: p{number}-r"))
        };
        let policies: Vec<Policy> = policies.iter().enumerate().map(text).map(|text| parse(&text)).collect();
        let plan = lsm::compile(&policies.iter().collect::<Vec<_>>(), 5, &mut SetTable::new()).unwrap();
        let line: Vec<&[u8]> = executed.iter().map(|exe| exe.as_bytes()).collect();
        let (exe, ancestors) = line.split_last().unwrap();
        let mut digest = Digest([0; 32]);
        digest.0[31] = contents;
        let decides = |sha256| {
            let act = Act::Exec { path: path.as_bytes(), sha256 };
            policies.iter().map(|policy| evaluate::judge(policy, &Subject { exe, ancestors }, &act).decision).max()
        };
        let sets = sets(&plan, &executed);
        let denied = |digest| !plan.denied_exec(&sets, path.as_bytes(), digest).unwrap().accesses.is_empty();
        prop_assert_eq!(denied(Some(&digest)), decides(Some(&digest)) != Some(Allow));
        // What is not known is never taken for more than it may be.
        prop_assert!(denied(None) || decides(None) == Some(Allow));
    }
}
