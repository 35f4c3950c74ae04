//! Lines of the log made again from what was exported: whatever comes back byte for byte was not lost.

use std::collections::BTreeMap;

use audit_verify::canonical::{Member, ObjectWriter, Record, Value, scan};
use sandbox::export::columns::{COLUMNS, ESCAPED, MORE};

/// The value of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// An integer of any of the two signs.
    Int(i64),
    /// An integer that may be above `i64::MAX`.
    Uint(u64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Vec<u8>>),
}

/// The line of a row; `cells` has the columns that are not empty, by name.
pub fn line(mut cells: BTreeMap<String, Cell>) -> Vec<u8> {
    let escaped: Vec<String> = match cells.remove(ESCAPED) {
        None => Vec::new(),
        Some(Cell::List(keys)) => keys.into_iter().map(|key| String::from_utf8(key).unwrap()).collect(),
        Some(Cell::Text(keys)) => keys.split(' ').map(str::to_owned).collect(),
        other => panic!("{other:?}"),
    };
    let more = cells.remove(MORE);
    let bytes = |key: &str, text: Vec<u8>| match std::str::from_utf8(&text) {
        Ok(text) if escaped.iter().any(|name| name == key) => unescaped(text),
        _ => text,
    };
    let mut values: BTreeMap<String, Value<'static>> = BTreeMap::new();
    for (key, cell) in cells {
        assert!(COLUMNS.iter().any(|column| column.key == key), "{key} is no column");
        let value = match cell {
            Cell::Int(number) => Value::Int(number),
            Cell::Uint(number) => Value::Uint(number),
            Cell::Flag(flag) => Value::Flag(flag),
            Cell::Text(text) => Value::Bytes(bytes(&key, text.into_bytes()).into()),
            Cell::List(items) => Value::List(items.into_iter().map(|item| bytes(&key, item)).collect()),
        };
        values.insert(key, value);
    }
    if let Some(more) = more {
        let Cell::Text(more) = more else { panic!("{more:?}") };
        let add = |member: Member<'_>| {
            let value = match member.raw.decode() {
                Value::Bytes(bytes) => Value::Bytes(bytes.into_owned().into()),
                Value::List(items) => Value::List(items),
                Value::Int(number) => Value::Int(number),
                Value::Uint(number) => Value::Uint(number),
                Value::Flag(flag) => Value::Flag(flag),
            };
            assert!(values.insert(member.key.to_owned(), value).is_none(), "{} stands twice", member.key);
        };
        scan(more.as_bytes(), add).unwrap();
    }
    let mut line = Vec::new();
    let mut object = ObjectWriter::new(&mut line);
    for (key, value) in &values {
        object.put(key, value);
    }
    object.finish().unwrap();
    line
}

/// The bytes of the log's own escapes.
pub fn unescaped(text: &str) -> Vec<u8> {
    let line = format!("{{\"k\": \"{text}\"}}");
    let record = Record::parse(line.as_bytes()).unwrap_or_else(|why| panic!("{text:?}: {why}"));
    record.bytes("k").unwrap().to_vec()
}
