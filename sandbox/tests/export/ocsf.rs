//! OCSF, against `data/ocsf-1.5.0.json`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sandbox::event::EventType;
use sandbox::export::ocsf::class::Class;
use serde_json::Value;

use crate::logs;
use crate::scene::documents;

fn schema() -> Value {
    serde_json::from_str(include_str!("data/ocsf-1.5.0.json")).unwrap()
}

/// Checks an object against its entry in the schema; `at` is where it stands.
fn conform(schema: &Value, rules: &Value, value: &Value, at: &str) {
    let object = value.as_object().unwrap_or_else(|| panic!("{at} is no object: {value}"));
    for required in rules["required"].as_array().unwrap() {
        assert!(object.contains_key(required.as_str().unwrap()), "{at} has no {required}: {value}");
    }
    if let Some(names) = rules["at_least_one"].as_array() {
        let one = names.iter().any(|name| object.contains_key(name.as_str().unwrap()));
        assert!(one, "{at} has none of {names:?}: {value}");
    }
    for (name, value) in object {
        let at = format!("{at}.{name}");
        let kind = rules["attributes"][name].as_str().unwrap_or_else(|| panic!("{at} is no attribute"));
        match kind.strip_suffix("[]") {
            Some(kind) => {
                for item in value.as_array().unwrap_or_else(|| panic!("{at} is no array")) {
                    check_value(schema, kind, item, &at);
                }
            }
            None => check_value(schema, kind, value, &at),
        }
        if let Some(values) = rules["enums"][name].as_array() {
            assert!(values.contains(value), "{at} may not be {value}");
        }
    }
}

fn check_value(schema: &Value, kind: &str, value: &Value, at: &str) {
    let fits = match kind {
        "integer" => value.is_i64(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "port" => value.as_u64().is_some_and(|port| port <= 65535),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "object" => value.is_object(),
        other => return conform(schema, &schema["objects"][other], value, at),
    };
    assert!(fits, "{at} is no {kind}: {value}");
}

#[test]
fn every_event_is_one_of_its_class() {
    let schema = schema();
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        for event in documents(&log, "ocsf") {
            let class = event["class_uid"].to_string();
            let rules = schema["classes"].get(&class).unwrap_or_else(|| panic!("no class {class}"));
            conform(&schema, rules, &event, &class);
            let number = |name: &str| event[name].as_u64().unwrap();
            assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
            // Where the schema has no number, the name has to say what it is.
            assert!(number("activity_id") != 99 || event["activity_name"].is_string());
            assert_eq!(event["metadata"]["version"], schema["version"]);
        }
    }
}

#[test]
fn every_type_of_event_has_an_activity() {
    for event_type in EventType::ALL {
        let class = Class::of(event_type.name(), "");
        assert_ne!((class.activity, class.activity_name), (99, "Other"), "{event_type:?}");
    }
    for (event_type, syscall, activity) in [("proc_mount", "umount2", 13), ("proc_mount", "mount", 12)] {
        assert_eq!(Class::of(event_type, syscall).activity, activity);
    }
    assert_eq!(Class::of("net_of_tomorrow", "").activity_name, "Other");
}

#[test]
fn every_value_of_the_log_is_found_again() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        check(&log);
    }
}

/// Every value of each line is found in its event.
pub fn check(log: &[u8]) {
    let events = documents(log, "ocsf");
    assert_eq!(events.len(), logs::lines(log).len());
    for (event, line) in events.iter().zip(logs::lines(log)) {
        expect_all(event, line);
    }
}

/// Every value of the line stands somewhere in the document.
pub fn expect_all(document: &Value, line: &[u8]) {
    let mut leaves = BTreeSet::new();
    collect(document, &mut leaves);
    for (key, values) in logs::shown_values(line) {
        for value in values {
            let octal = value.parse::<u64>().map(|mode| format!("{mode:04o}")).unwrap_or_default();
            let found = leaves.contains(&value) || (key == "file_mode" && leaves.contains(&octal));
            assert!(found || key == "escaped", "{key} is lost, {value:?}: {document}");
        }
    }
}

fn collect(value: &Value, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.values().for_each(|value| collect(value, leaves)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, leaves)),
        Value::String(text) => drop(leaves.insert(text.clone())),
        other => drop(leaves.insert(other.to_string())),
    }
}

#[test]
fn texts_that_are_none_are_named() {
    let log = logs::hostile();
    let mut seen = 0;
    for (event, line) in documents(&log, "ocsf").iter().zip(logs::lines(&log)) {
        let record = audit_verify::canonical::Record::parse(line).unwrap();
        let named: Vec<&str> = event["unmapped"]["escaped"]
            .as_array()
            .map_or(Vec::new(), |keys| keys.iter().map(|key| key.as_str().unwrap()).collect());
        if let Some(path) = record.bytes("path") {
            let is_text = std::str::from_utf8(path).is_ok() && !path.contains(&0);
            assert_eq!(named.contains(&"path"), !is_text);
            seen += usize::from(!is_text);
        }
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn an_event_is_traced_back_to_the_chain() {
    let log = logs::every_type();
    for (event, line) in documents(&log, "ocsf").iter().zip(logs::lines(&log)) {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(event["metadata"]["uid"], line["hash_self"]);
        assert_eq!(event["metadata"]["sequence"], line["seq"]);
        assert_eq!(event["metadata"]["correlation_uid"], line["run_id"]);
        assert_eq!(event["metadata"]["original_time"], line["timestamp"]);
        assert_eq!(event["time"], 1_795_000_000_123u64);
        let disposition = match line["action"].as_str().unwrap() {
            "OBSERVED" => (3, 17),
            "ALLOWED" => (1, 1),
            "BLOCKED" => (2, 2),
            _ => (3, 15),
        };
        assert_eq!(
            (&event["action_id"], &event["disposition_id"]),
            (&disposition.0.into(), &disposition.1.into())
        );
    }
}
