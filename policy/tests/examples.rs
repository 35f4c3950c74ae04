//! Examples, one by one: those of the policy, and those of a file of their own.

use policy::examples::Examples;
use policy::{Policy, Variables};

const POLICY: &str = r#"
version: 1
name: p
files:
  default: allow
  rules:
    - { name: keys, deny: [read], path: ["${HOME}/k"], because: keys stay }
    - { name: trial, deny: [write], path: ["/t"], mode: audit }
examples:
  - { open: "${HOME}/k", access: read, verdict: deny, rule: keys }
  - { open: "/t", access: write, verdict: deny }
  - { open: "${HOME}/k", access: read, verdict: allow }
  - { open: "/x", access: read, verdict: allow, rule: keys }
"#;

fn variables() -> Variables {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/u").expect("HOME is given");
    variables
}

#[test]
fn each_example_is_told_with_what_was_found() {
    let policy = Policy::parse("p.yaml", POLICY, &variables()).expect("a policy");
    let outcomes: Vec<_> = policy.try_examples().collect();
    let passed: Vec<bool> = outcomes.iter().map(|outcome| outcome.passed).collect();
    assert_eq!(passed, [true, true, false, false]);
    let third = &outcomes[2];
    assert_eq!(third.text, r#"{ open: "/home/u/k", access: [read], verdict: allow }"#);
    assert_eq!((third.line, third.found.name(), third.rule.as_str()), (12, "deny", "p/keys"));
    assert_eq!(third.because.as_deref(), Some("keys stay"));
    assert_eq!(
        (outcomes[3].wanted_rule.as_deref(), outcomes[3].rule.as_str()),
        (Some("keys"), "p/files.default")
    );
    let errors = policy.check_examples().expect_err("two are wrong").to_string();
    assert!(errors.contains("p.yaml:12:") && errors.contains("p.yaml:13:"), "{errors}");
}

#[test]
fn others_are_read_by_the_same_rules() {
    let policy = Policy::parse("p.yaml", POLICY, &variables()).expect("a policy");
    let text = "examples:\n  - { open: \"${HOME}/k\", access: [read, write], verdict: deny }\n";
    let examples = Examples::parse("e.yaml", text.as_bytes(), &variables()).expect("examples");
    let outcomes: Vec<_> = policy.try_others(&examples).collect();
    assert!(outcomes.len() == 1 && outcomes[0].passed, "{outcomes:?}");
    for (text, says) in [
        ("examples:\n  - { open: \"${NO}/k\", access: read, verdict: deny }\n", "e.yaml:2:"),
        ("examples:\n  - { open: \"/k\", acces: read, verdict: deny }\n", "acces"),
        ("files: {}\n", "files"),
        ("version: 1\n", "examples"),
        ("- a\n", "e.yaml:1:1"),
        ("", "e.yaml:1:1"),
    ] {
        let errors = Examples::parse("e.yaml", text.as_bytes(), &variables()).expect_err(text).to_string();
        assert!(errors.contains(says), "{says} in {errors}");
    }
}
