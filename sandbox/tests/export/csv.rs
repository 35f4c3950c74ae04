//! CSV, by a strict reader of RFC 4180.

use std::collections::BTreeMap;

use audit_verify::canonical::{Raw, Record, scan};
use sandbox::export::columns::{COLUMNS, Kind};

use crate::logs;
use crate::rebuild::{Cell, line};
use crate::scene::Scene;

/// A field, and whether it stood in quotes.
type Field = (String, bool);

/// Reads a whole file of RFC 4180: every record ends with CR LF, quotes stand around a whole field, and what is not in
/// quotes has neither quotes, commas nor ends of lines.
fn read(text: &str) -> Vec<Vec<Field>> {
    let mut records = Vec::new();
    let mut fields = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted),
            None => {
                let end = rest.find([',', '\r', '\n', '"']).expect("a record ends");
                ((rest[..end].to_owned(), false), &rest[end..])
            }
        };
        fields.push(field);
        rest = if let Some(next) = behind.strip_prefix("\r\n") {
            records.push(std::mem::take(&mut fields));
            next
        } else {
            behind.strip_prefix(',').unwrap_or_else(|| panic!("behind a field: {behind:.40}"))
        };
    }
    assert_eq!(fields, [], "the last record ends as well");
    records
}

fn quoted_field(text: &str) -> (Field, &str) {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"').expect("a quote that closes");
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return ((field, true), behind),
        }
    }
}

/// The cells of a row that are not empty.
fn cells(header: &[String], row: Vec<Field>) -> BTreeMap<String, Cell> {
    assert_eq!(header.len(), row.len());
    let present = header.iter().zip(row).filter(|(_, (text, quoted))| *quoted || !text.is_empty());
    let cell = |(name, (text, _)): (&String, Field)| {
        let kind = COLUMNS.iter().find(|column| column.key == name).map_or(Kind::Text, |column| column.kind);
        let cell = match kind {
            Kind::Integer => Cell::Int(text.parse().unwrap()),
            Kind::Unsigned => {
                let number: u64 = text.parse().unwrap();
                i64::try_from(number).map_or(Cell::Uint(number), Cell::Int)
            }
            Kind::Flag => Cell::Flag(text.parse().unwrap()),
            Kind::Time | Kind::Text => Cell::Text(text),
            Kind::List => Cell::List(list(&text)),
        };
        (name.clone(), cell)
    };
    present.map(cell).collect()
}

/// A list is JSON, in the log's own escapes.
fn list(text: &str) -> Vec<Vec<u8>> {
    let line = format!("{{\"k\": {text}}}");
    let record = Record::parse(line.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why}"));
    record.list("k").unwrap().to_vec()
}

fn export(log: &[u8], args: &[&str]) -> (Vec<String>, Vec<Vec<Field>>) {
    let out = Scene::new(log).exported(&[&["--format", "csv"], args].concat());
    let mut records = read(&String::from_utf8(out).unwrap());
    let header = records.remove(0).into_iter().map(|(name, _)| name).collect();
    (header, records)
}

#[test]
fn the_log_comes_back_from_the_table() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        check(&log);
    }
}

/// Every line comes back from its row.
pub fn check(log: &[u8]) {
    let (header, records) = export(log, &[]);
    let lines = logs::lines(log);
    assert_eq!(records.len(), lines.len());
    for (record, expected) in records.into_iter().zip(lines) {
        let made = line(cells(&header, record));
        assert_eq!(String::from_utf8_lossy(&made), String::from_utf8_lossy(expected));
    }
}

#[test]
fn lists_are_json_as_in_the_log() {
    let log = logs::hostile();
    let (header, records) = export(&log, &[]);
    let argv = header.iter().position(|name| name == "argv").unwrap();
    for (record, line) in records.iter().zip(logs::lines(&log)) {
        let mut found = String::new();
        scan(line, |member| {
            if let ("argv", Raw::List(items)) = (member.key, member.raw) {
                found = format!("[{}]", std::str::from_utf8(items).unwrap());
            }
        })
        .unwrap();
        assert_eq!(record[argv].0, found);
    }
}

#[test]
fn the_columns_are_those_of_the_documentation() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/export.md")).unwrap();
    let (header, _) = export(&logs::sealed([]), &[]);
    let names: Vec<&str> = page
        .split_once("<!-- columns -->")
        .and_then(|(_, behind)| behind.split_once("<!-- end of columns -->"))
        .unwrap()
        .0
        .split('`')
        .skip(1)
        .step_by(2)
        .collect();
    assert_eq!(names, header);
}

#[test]
fn formulas_are_disarmed_where_that_is_asked_for_and_come_back() {
    let log = logs::hostile();
    let (header, plain) = export(&log, &[]);
    let (_, safe) = export(&log, &["--csv-safe"]);
    let mut disarmed = 0;
    for (plain, safe) in plain.iter().zip(&safe) {
        for (name, (plain, safe)) in header.iter().zip(plain.iter().zip(safe)) {
            let kind = COLUMNS.iter().find(|column| column.key == name).map(|column| column.kind);
            if matches!(kind, Some(Kind::Integer | Kind::Unsigned)) {
                assert_eq!(plain, safe, "a number is no formula");
                continue;
            }
            let harmless = |text: &str| !text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
            assert!(harmless(&safe.0), "{safe:?}");
            assert_eq!(safe.0.strip_prefix('\'').unwrap_or(&safe.0), plain.0);
            disarmed += usize::from(plain.0 != safe.0);
            assert_eq!(plain.0 == safe.0, harmless(&plain.0) && !plain.0.starts_with('\''));
        }
    }
    assert!(disarmed > 100, "{disarmed}");
}
