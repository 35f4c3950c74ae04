//! OTLP, against the rules of its JSON encoding (opentelemetry-proto 1.5, `docs/specification.md`, "JSON Protobuf
//! Encoding", and `logs.proto`, `common.proto`, `resource.proto`): names are those of the messages in lowerCamelCase,
//! none other; 64-bit integers are decimal strings; enums are numbers.

use serde_json::{Map, Value};

use crate::logs;
use crate::scene::{documents, lines};

/// An object with these fields and no others, each at most once because it is JSON that was read.
fn message<'v>(value: &'v Value, fields: &[&str]) -> &'v Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("no message: {value}"));
    assert!(object.keys().all(|key| fields.contains(&key.as_str())), "{:?}", object.keys());
    object
}

fn list<'v>(message: &'v Map<String, Value>, field: &str) -> &'v [Value] {
    message[field].as_array().unwrap()
}

fn check_any_value(value: &Value) {
    let object = message(value, &["stringValue", "intValue", "boolValue", "arrayValue"]);
    assert_eq!(object.len(), 1, "one of them: {value}");
    let (kind, value) = object.iter().next().unwrap();
    match kind.as_str() {
        "stringValue" => assert!(value.is_string()),
        "boolValue" => assert!(value.is_boolean()),
        "intValue" => drop(value.as_str().expect("64 bits are a string").parse::<i64>().unwrap()),
        _ => list(message(value, &["values"]), "values").iter().for_each(check_any_value),
    }
}

fn check_attributes(attributes: &[Value]) {
    let mut names = std::collections::BTreeSet::new();
    for attribute in attributes {
        let attribute = message(attribute, &["key", "value"]);
        let name = attribute["key"].as_str().unwrap();
        assert!(!name.is_empty() && names.insert(name), "{name} stands twice");
        check_any_value(&attribute["value"]);
    }
}

/// All records of an export, each message checked on the way.
fn records(messages: &[Value]) -> Vec<&Value> {
    let mut records = Vec::new();
    for data in messages {
        for resource_logs in list(message(data, &["resourceLogs"]), "resourceLogs") {
            let resource_logs = message(resource_logs, &["resource", "scopeLogs"]);
            let resource = message(&resource_logs["resource"], &["attributes"]);
            check_attributes(list(resource, "attributes"));
            for scope_logs in list(resource_logs, "scopeLogs") {
                let scope_logs = message(scope_logs, &["scope", "logRecords"]);
                message(&scope_logs["scope"], &["name", "version"]);
                records.extend(list(scope_logs, "logRecords"));
            }
        }
    }
    for record in &records {
        let fields = ["timeUnixNano", "observedTimeUnixNano", "severityNumber", "severityText", "eventName"];
        let record = message(record, &[&fields[..], &["body", "attributes"]].concat());
        for time in ["timeUnixNano", "observedTimeUnixNano"] {
            record[time].as_str().unwrap().parse::<u64>().unwrap();
        }
        assert!((1..=24).contains(&record["severityNumber"].as_u64().unwrap()));
        check_any_value(&record["body"]);
        check_attributes(list(record, "attributes"));
    }
    records
}

#[test]
fn every_message_is_one_of_the_protocol_and_nothing_is_lost() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        check(&log);
    }
}

/// Every message is one, and every value of each line is found in its record.
pub fn check(log: &[u8]) {
    let messages = documents(log, "otlp-json");
    let records = records(&messages);
    assert_eq!(records.len(), logs::lines(log).len());
    for (record, line) in records.iter().zip(logs::lines(log)) {
        super::ocsf::expect_all(record, line);
    }
}

#[test]
fn an_event_is_traced_back_to_the_chain() {
    let log = logs::every_type();
    let messages = documents(&log, "otlp-json");
    for (record, line) in records(&messages).iter().zip(logs::lines(&log)) {
        let line: Value = serde_json::from_slice(line).unwrap();
        let attribute = |name: &str| {
            let mut attributes = record["attributes"].as_array().unwrap().iter();
            let found = attributes.find(|attribute| attribute["key"] == name);
            found.unwrap_or_else(|| panic!("no {name}"))["value"].clone()
        };
        assert_eq!(attribute("sandbox.hash_self")["stringValue"], line["hash_self"]);
        assert_eq!(attribute("sandbox.run_id")["stringValue"], line["run_id"]);
        assert_eq!(attribute("sandbox.seq")["intValue"], line["seq"].to_string());
        assert_eq!(record["timeUnixNano"], "1795000000123456789");
        let name = line["event_type"].as_str().unwrap();
        assert_eq!(record["eventName"], format!("sandbox.{name}"));
    }
}

#[test]
fn a_line_has_a_bounded_number_of_records() {
    let small = |_| logs::small();
    let messages = documents(&logs::sealed((0..1000).map(small)), "otlp-json");
    let counts: Vec<usize> =
        messages.iter().map(|message| records(std::slice::from_ref(message)).len()).collect();
    assert_eq!(counts, [512, 1002 - 512]);
    // Ten thousand arguments in each of eight events do not make one line.
    let many: Vec<_> = (0..8).map(|_| logs::long_exec()).collect();
    let longest = lines(&logs::sealed(many), "otlp-json").iter().map(String::len).max().unwrap();
    assert!(longest < 3 << 20, "{longest}");
}
