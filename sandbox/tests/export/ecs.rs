//! ECS, against `data/ecs-8.17.json`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sandbox::event::EventType;
use serde_json::Value;

use crate::logs;
use crate::scene::documents;

fn schema() -> Value {
    serde_json::from_str(include_str!("data/ecs-8.17.json")).unwrap()
}

/// The words of a list of the schema.
fn words(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// The fields of a document outside `sandbox`, with dots between their names, and their values.
fn flat(value: &Value, at: &str, found: &mut Vec<(String, Value, bool)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if !(at.is_empty() && key == "sandbox") {
                    let name = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    flat(value, &name, found);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = Vec::new();
                flat(item, at, &mut inner);
                found.extend(inner.into_iter().map(|(name, value, _)| (name, value, true)));
            }
        }
        value => found.push((at.to_owned(), value.clone(), false)),
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    match kind {
        "keyword" | "wildcard" | "match_only_text" => value.is_string(),
        "long" => value.is_i64(),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "date" => value.as_str().is_some_and(|text| sandbox::record::time::parse(text.as_bytes()).is_some()),
        other => panic!("{other}"),
    }
}

#[test]
fn every_document_is_one_of_the_schema() {
    let schema = schema();
    let arrays = words(&schema["arrays"]);
    for (log, is_forged) in [(logs::every_type(), false), (logs::hostile(), false), (logs::forged(), true)] {
        for document in documents(&log, "ecs") {
            let mut fields = Vec::new();
            flat(&document, "", &mut fields);
            for (name, value, in_array) in fields {
                let kind =
                    schema["fields"][&name].as_str().unwrap_or_else(|| panic!("{name} is no field of ECS"));
                // A log that nobody has recorded may have any text for a time.
                assert!(fits(kind, &value) || (is_forged && kind == "date"), "{name} is no {kind}: {value}");
                let is_array =
                    arrays.iter().any(|array| name == *array || name.starts_with(&format!("{array}.")));
                assert_eq!(is_array, in_array, "{name}");
            }
            let event = &document["event"];
            assert_eq!(document["ecs"]["version"], schema["version"]);
            assert!(words(&schema["kind"]).contains(event["kind"].as_str().unwrap()));
            assert_ne!(event["kind"], "signal", "which is for Elastic itself");
            if let Some(outcome) = event["outcome"].as_str() {
                assert!(words(&schema["outcome"]).contains(outcome));
            }
            for category in event["category"].as_array().unwrap() {
                let types = words(&schema["types_of_category"][category.as_str().unwrap()]);
                for kind in event["type"].as_array().unwrap() {
                    assert!(types.contains(kind.as_str().unwrap()), "{category} has no {kind}");
                }
            }
        }
    }
}

#[test]
fn every_type_of_event_has_a_category_of_its_own() {
    for event_type in EventType::ALL {
        let (category, types) = sandbox::export::ecs::category(event_type.name());
        assert!(!category.is_empty() && !types.is_empty());
    }
    let (category, types) = sandbox::export::ecs::category("file_of_tomorrow");
    assert_eq!((category, types), ("file", &["info"][..]));
}

#[test]
fn every_value_of_the_log_is_found_again() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        check(&log);
    }
}

/// Every value of each line is found in its document.
pub fn check(log: &[u8]) {
    let documents = documents(log, "ecs");
    assert_eq!(documents.len(), logs::lines(log).len());
    for (document, line) in documents.iter().zip(logs::lines(log)) {
        super::ocsf::expect_all(document, line);
    }
}

#[test]
fn an_event_is_traced_back_to_the_chain() {
    let log = logs::every_type();
    for (document, line) in documents(&log, "ecs").iter().zip(logs::lines(&log)) {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(document["event"]["hash"], line["hash_self"]);
        assert_eq!(document["event"]["sequence"], line["seq"]);
        assert_eq!(document["sandbox"]["run_id"], line["run_id"]);
        assert_eq!(document["event"]["action"], line["event_type"]);
        assert_eq!(document["@timestamp"], line["timestamp"]);
        let denied = ["BLOCKED", "WOULD_BLOCK"].contains(&line["action"].as_str().unwrap());
        assert_eq!(document["event"]["kind"] == "alert", denied);
    }
}
