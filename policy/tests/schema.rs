//! The JSON Schema: it takes every policy that the language takes, and refuses what it can see is wrong.

use std::path::Path;

use policy::schema;
use regex_automata::dfa::regex::Regex;
use serde_yaml::{Mapping, Value};

/// Why a value is not what the schema says; a keyword that is not known here is a failure of the test.
fn check(schema: &Value, value: &Value) -> Result<(), String> {
    let keywords = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => return Err("nothing may stand here".to_owned()),
        Value::Mapping(keywords) => keywords,
        other => panic!("no schema: {other:?}"),
    };
    let empty = Mapping::new();
    let object = value.as_mapping();
    for (keyword, wanted) in keywords {
        let holds = match keyword.as_str().expect("a keyword") {
            "$schema" | "title" | "description" => true,
            "type" => match wanted.as_str().expect("a type") {
                "object" => value.is_mapping(),
                "array" => value.is_sequence(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                "boolean" => value.is_bool(),
                other => panic!("type {other}"),
            },
            "const" => value == wanted,
            "enum" => wanted.as_sequence().expect("a list").contains(value),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().expect("it works")),
            "minItems" => {
                value.as_sequence().is_none_or(|list| list.len() as u64 >= wanted.as_u64().expect("it works"))
            }
            "minimum" => value.as_u64().is_none_or(|number| number >= wanted.as_u64().expect("it works")),
            "pattern" => {
                let pattern = Regex::new(wanted.as_str().expect("it works")).expect("it works");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "items" => {
                value.as_sequence().into_iter().flatten().try_for_each(|item| check(wanted, item))?;
                true
            }
            "properties" => {
                for (key, schema) in wanted.as_mapping().expect("properties") {
                    if let Some(value) = object.and_then(|object| object.get(key)) {
                        check(schema, value)
                            .map_err(|why| format!("{}: {why}", key.as_str().expect("it works")))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_mapping).unwrap_or(&empty);
                let others = object.into_iter().flatten().filter(|(key, _)| !known.contains_key(*key));
                for (key, value) in others {
                    check(wanted, value).map_err(|why| format!("{key:?}: {why}"))?;
                }
                true
            }
            "propertyNames" => {
                object.into_iter().flatten().try_for_each(|(key, _)| check(wanted, key))?;
                true
            }
            "required" => {
                let keys = wanted.as_sequence().expect("keys");
                object.is_none_or(|object| keys.iter().all(|key| object.contains_key(key)))
            }
            "dependentRequired" => wanted.as_mapping().expect("keys").iter().all(|(key, others)| {
                let others = others.as_sequence().expect("keys");
                object.is_none_or(|object| {
                    !object.contains_key(key) || others.iter().all(|other| object.contains_key(other))
                })
            }),
            "anyOf" => {
                wanted.as_sequence().expect("schemas").iter().any(|schema| check(schema, value).is_ok())
            }
            "oneOf" => {
                let schemas = wanted.as_sequence().expect("schemas");
                schemas.iter().filter(|schema| check(schema, value).is_ok()).count() == 1
            }
            "allOf" => {
                wanted.as_sequence().expect("schemas").iter().try_for_each(|schema| check(schema, value))?;
                true
            }
            other => panic!("keyword {other}"),
        };
        if !holds {
            return Err(format!("{} does not hold", keyword.as_str().expect("it works")));
        }
    }
    Ok(())
}

fn loaded() -> Value {
    serde_yaml::from_str(&schema::json()).expect("the schema is JSON, which is YAML")
}

fn verdict(text: &str) -> Result<(), String> {
    check(&loaded(), &serde_yaml::from_str(text).map_err(|why| why.to_string())?)
}

#[test]
fn every_shipped_policy_fits() {
    for (name, text) in policy::extend::SHIPPED {
        assert_eq!(verdict(text), Ok(()), "{name}");
    }
}

#[test]
fn every_key_of_the_language_has_a_schema_of_its_own() {
    fn everything(schema: &Value, at: &str) {
        let Value::Mapping(keywords) = schema else { return };
        for (key, inner) in keywords {
            let key = key.as_str().unwrap_or_default();
            if key == "properties" {
                for (name, schema) in inner.as_mapping().expect("properties") {
                    let at = format!("{at}.{}", name.as_str().unwrap());
                    assert_ne!(*schema, Value::Bool(true), "{at} says nothing");
                    everything(schema, &at);
                }
            }
            match inner {
                Value::Mapping(_) => everything(inner, at),
                Value::Sequence(items) => items.iter().for_each(|item| everything(item, at)),
                _ => {}
            }
        }
    }
    everything(&loaded(), "");
}

const WHOLE: &str = r#"
version: 1
name: whole
description: All of it
mode: audit
extends: [no-credentials@1, ./team.yaml]
vars: { CACHE: "${HOME}/.cache" }
groups: { mine: ["/a/**", "@libraries"] }
files:
  default: deny
  rules:
    - { name: a, allow: [all], path: ["@mine"], except: ["/a/b"], by: ["/bin/sh"], under: ["**/npm"] }
    - { name: b, ask: [read, write], path: ["/b"], timeout: 5m, because: you decide }
    - { name: base/c, deny: [load], path: ["/c"], mode: audit, unless_by: ["**/x"] }
    - { amend: no-credentials/tokens, except: ["/t"] }
    - { amend: no-credentials/keyrings, disable: true, because: none here }
exec:
  default: allow
  rules:
    - { name: d, deny: [run], sha256: ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] }
network:
  default: deny
  rules: [{ name: e, allow: [connect, send, bind, listen], to: [any, "own:80", "unix:/run/x"] }]
kernel: { allow: [ptrace-own, mount] }
syscalls: { deny: [bpf] }
landlock: auto
tmp: private
limits: { memory: 4GiB, processes: 512, cpu: 200%, time: 2h }
env: { drop: ["*_TOKEN"], keep: [HOME], set: { CI: "1" } }
observe: { fold: true }
examples:
  - { open: "/a", access: read, verdict: allow, rule: a, by: "/bin/sh", under: "/usr/bin/npm" }
  - { open: "/a", access: [read, write], verdict: deny, under: ["/x", "/y"] }
  - { run: "/x", verdict: deny }
  - { connect: "10.0.0.1:80", host: api.example, verdict: allow }
"#;

#[test]
fn every_word_of_the_language_fits() {
    assert_eq!(verdict(WHOLE), Ok(()));
    assert_eq!(verdict("version: 1\nname: p\nsyscalls: strict\nfiles: { default: allow }\n"), Ok(()));
    assert_eq!(verdict("version: 1\nname: p\nextends: [./a.yaml]\nfiles: { rules: [] }\n"), Ok(()));
}

#[test]
fn what_is_wrong_in_one_place_does_not_fit() {
    let wrongs = [
        ("version: 1", "version: 2"),
        ("version: 1", "version: \"1\""),
        ("name: whole\n", ""),
        ("name: whole", "name: \"-x\""),
        ("mode: audit\nextends", "mode: trial\nextends"),
        ("CACHE:", "1CACHE:"),
        ("default: deny\n  rules:\n    - { name: a", "default: denied\n  rules:\n    - { name: a"),
        ("allow: [all]", "allow: [run]"),
        ("allow: [all]", "allow: []"),
        ("allow: [all]", "alow: [all]"),
        ("allow: [all],", ""),
        ("allow: [all]", "allow: [all], deny: [read]"),
        ("path: [\"@mine\"]", "to: [\"@mine\"]"),
        ("path: [\"@mine\"],", ""),
        ("name: b, ask:", "name: b, deny:"),
        ("timeout: 5m", "timeout: 5 minutes"),
        ("disable: true", "disable: false"),
        ("except: [\"/t\"]", "because: x"),
        ("sha256: [\"9f", "sha256: [\"xx"),
        ("deny: [run], sha256", "deny: [run], path: [\"/x\"], sha256"),
        ("ptrace-own", "ptrace"),
        ("deny: [bpf]", "deny: [BPF]"),
        ("landlock: auto", "landlock: always"),
        ("tmp: private", "tmp: own"),
        ("memory: 4GiB", "memory: 4GB"),
        ("processes: 512", "processes: 0"),
        ("cpu: 200%", "cpu: 2"),
        ("fold: true", "fold: maybe"),
        ("observe:", "observes:"),
        ("open: \"/a\", access: read,", "open: \"/a\","),
        ("run: \"/x\", verdict: deny", "run: \"/x\", open: \"/y\", access: read, verdict: deny"),
        ("run: \"/x\", verdict: deny", "run: \"/x\""),
        ("run: \"/x\", verdict: deny", "run: \"/x\", verdict: no"),
    ];
    for (right, wrong) in wrongs {
        assert!(WHOLE.contains(right), "{right}");
        let text = WHOLE.replacen(right, wrong, 1);
        assert!(verdict(&text).is_err(), "{wrong:?} fits");
    }
    assert!(verdict("version: 1\nname: p\nfiles: { rules: [] }\n").is_err(), "a section without its default");
}

/// Of the fixtures of wrong policies those whose fault is one of shape.
#[test]
fn fixtures_of_wrong_shape_do_not_fit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    for name in [
        "accesses",
        "default-word",
        "list-for-section",
        "no-default",
        "no-version",
        "not-a-mapping",
        "rule-lacks",
        "settings",
        "unknown-key",
        "unknown-section",
        "version-2",
        "version-text",
        "wrong-object",
    ] {
        let text = std::fs::read_to_string(folder.join(name).with_extension("yaml")).expect("a fixture");
        assert!(verdict(&text).is_err(), "{name} fits");
    }
}
