//! A JSON document that is put together field by field.

use serde_json::{Map, Value};

use audit_verify::canonical::{Member, Raw};

use super::entry::{ESCAPED, Entry, as_list, as_text};

/// An object of JSON.
#[derive(Debug, Default)]
pub struct Document(Map<String, Value>);

impl Document {
    /// Puts a value at a path of keys with dots between them, and makes the objects on the way. A value that stands
    /// there already is replaced.
    pub fn put(&mut self, path: &str, value: impl Into<Value>) {
        let mut object = &mut self.0;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_none() {
                object.insert(key.to_owned(), value.into());
                return;
            }
            let next = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(next) = next else { return };
            object = next;
        }
    }

    /// [`Document::put`] where there is a value.
    pub fn put_some(&mut self, path: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }

    /// Puts a text of the event there, if it has it.
    pub fn put_text(&mut self, path: &str, entry: &Entry<'_>, key: &str) {
        self.put_some(path, entry.text(key).map(|text| text.shown().to_owned()));
    }

    /// Whether it has this key.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether nothing stands in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends it as one line.
    pub fn write_line(self, out: &mut Vec<u8>) {
        write(&Value::Object(self.0), out);
        out.push(b'\n');
    }
}

impl From<Document> for Value {
    fn from(document: Document) -> Value {
        Value::Object(document.0)
    }
}

/// Appends a value as JSON.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    // Writing to memory does not fail, nor has a Value anything that JSON has not.
    let _ = serde_json::to_writer(out, value);
}

/// What has found no place, below the log's own names; with `escaped`, which says which texts are escapes.
pub fn rest(entry: &Entry<'_>) -> Document {
    let rest = entry.rest_beside_escaped().map(|member| (member.key.to_owned(), value(member)));
    let mut rest = Document(rest.collect());
    let escaped = entry.escaped();
    if !escaped.is_empty() {
        rest.0.insert(ESCAPED.to_owned(), escaped.into());
    }
    rest
}

/// A member of a line as a value. An integer above `i64::MAX` is a string of its digits: what reads these documents
/// has signed integers.
pub fn value(member: &Member<'_>) -> Value {
    match &member.raw {
        Raw::Flag(flag) => Value::Bool(*flag),
        Raw::Integer(digits) => {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            digits.parse::<i64>().map_or_else(|_| Value::from(digits), Value::from)
        }
        raw => match (as_text(raw), as_list(raw)) {
            (Some(text), _) => text.shown().into(),
            (None, Some(list)) => list.shown().collect::<Vec<_>>().into(),
            (None, None) => Value::Null,
        },
    }
}
