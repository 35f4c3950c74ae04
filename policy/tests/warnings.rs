//! What is valid and doubtful: each warning word for word (`tests/doubtful/NAME.yaml` and `NAME.txt`), and that a
//! rule which a warning calls useless is.
//!
//! `UPDATE_EXPECTED=1 cargo test -p policy --test warnings` writes the texts anew; read them before committing.

use policy::{Access, Decision, Policy, Severity, Variables, evaluate};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn variables() -> Variables {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/someone").expect("a given variable");
    variables.set("TMP", "/tmp").expect("a given variable");
    variables.set_workspace("/home/someone/work").expect("a given variable");
    variables
}

#[test]
fn each_doubtful_policy_is_answered_as_expected() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doubtful");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    names.sort();
    assert!(names.len() >= 4);
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let policy = Policy::parse_bytes(name, &bytes, &variables()).unwrap_or_else(|e| panic!("{e}"));
        let notes = policy.notes().iter().cloned().chain(policy.warnings());
        let text: Vec<String> = notes.map(|note| format!("{note}\n")).collect();
        let text = text.join("\n");
        let expected = path.with_extension("txt");
        if update {
            std::fs::write(&expected, &text).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "these differ from what is expected:\n\n{}", wrong.join("\n"));
}

#[test]
fn a_policy_of_ten_thousand_rules_is_looked_at_in_bounded_time() {
    let mut text = String::from("version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n");
    for i in 0..5000 {
        text.push_str(&format!("    - {{ name: a{i}, allow: [read], path: [\"/srv/{i}/**\"] }}\n"));
        text.push_str(&format!("    - {{ name: d{i}, deny: [read], path: [\"**/secret{i}\"] }}\n"));
    }
    text.push_str("    - { name: never, allow: [read], path: [\"/x/secret1\"] }\n");
    let policy = Policy::parse("p.yaml", &text, &Variables::new()).unwrap();
    let start = std::time::Instant::now();
    let _ = policy.warnings();
    println!("{:?}", start.elapsed());
    // Far more than it takes, far less than comparing all with all would.
    assert!(start.elapsed() < std::time::Duration::from_secs(60));
}

#[derive(Clone, Debug)]
struct OneRule {
    effect: &'static str,
    accesses: Vec<&'static str>,
    paths: Vec<&'static str>,
    except: Vec<&'static str>,
}

const PATTERNS: &[&str] = &[
    "/**",
    "/a/**",
    "/a",
    "/a/*",
    "/a/b",
    "/a/b/**",
    "/ab",
    "/a*",
    "/{a,b}/**",
    "/b/**",
    "**/s",
    "**/b",
    "/*/s",
    "/a/**/s",
    "/[ab]",
    "/?",
    "/a/?",
    "/**s",
    "/a/{b,s}",
    "/*",
];

fn rule() -> impl Strategy<Value = OneRule> {
    let paths = proptest::collection::vec(select(PATTERNS), 1..3);
    let except = proptest::collection::vec(select(PATTERNS), 0..2);
    let accesses = subsequence(vec!["read", "write"], 1..=2);
    (select(vec!["allow", "deny", "ask"]), accesses, paths, except)
        .prop_map(|(effect, accesses, paths, except)| OneRule { effect, accesses, paths, except })
}

fn written(default: &str, rules: &[(usize, &OneRule)]) -> Policy {
    let mut text = format!("version: 1\nname: p\nfiles:\n  default: {default}\n  rules:\n");
    for (number, OneRule { effect, accesses, paths, except }) in rules {
        let except = if except.is_empty() { String::new() } else { format!(", except: {except:?}") };
        let accesses = accesses.join(", ");
        text.push_str(&format!(
            "    - {{ name: r{number}, {effect}: [{accesses}], path: {paths:?}{except} }}\n"
        ));
    }
    if rules.is_empty() {
        text.push_str("    []\n");
    }
    Policy::parse("p.yaml", &text, &Variables::new()).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Every path of up to three of these names.
fn all_paths() -> Vec<String> {
    let names = ["a", "b", "s", "ab", "as"];
    let mut all = vec!["/".to_owned()];
    let mut last = vec![String::new()];
    for _ in 0..3 {
        last = last.iter().flat_map(|path| names.iter().map(move |name| format!("{path}/{name}"))).collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn decisions(policy: &Policy) -> Vec<Decision> {
    let judge = |path: &String| {
        [Access::Read, Access::Write]
            .map(|access| evaluate::file(policy, access.into(), path.as_bytes()).decision)
    };
    all_paths().iter().flat_map(judge).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..Default::default() })]

    #[test]
    fn a_rule_that_is_called_useless_is(
        default in select(vec!["allow", "deny"]), rules in proptest::collection::vec(rule(), 1..5)
    ) {
        let numbered: Vec<(usize, &OneRule)> = rules.iter().enumerate().collect();
        let policy = written(default, &numbered);
        let before = decisions(&policy);
        for warning in policy.warnings() {
            prop_assert_eq!(warning.severity, Severity::Warning);
            let text = &warning.text;
            let useless = ["changes nothing:", "matches nothing:", "says the same", "never allows:", "never asks:"];
            let number = text.split("rule `p/r").nth(1).and_then(|rest| rest.split('`').next());
            let Some(number) = number.filter(|_| useless.iter().any(|word| text.contains(word))) else { continue };
            let number: usize = number.parse().expect("a number");
            let others: Vec<_> = numbered.iter().copied().filter(|(at, _)| *at != number).collect();
            prop_assert_eq!(&decisions(&written(default, &others)), &before, "{}", text);
        }
    }
}
