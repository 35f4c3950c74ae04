//! One line of a log for those who write it in another form: its values, and which of them have found a place.
//!
//! A form asks for the values that it knows a field for, and at the end for the rest, which it keeps under the log's
//! own names. So nothing is lost, whatever keys a line has. `peek_*` looks at a value without giving it a place: for
//! fields that say less than the value does.
//!
//! # Text
//!
//! A path of Linux is bytes, and most forms have only Unicode. Text that is no UTF-8 (or has a NUL) is written as it
//! stands between the quotes in the log, `\udcXX` for a byte `XX` ([`audit_verify::canonical`]), and its key is named
//! in a list `escaped`. That is lossless: put quotes around it, and it is a string of JSON.

use std::borrow::Cow;
use std::cell::Cell;

use audit_verify::canonical::{Deviation, Member, Raw, Value, scan};

/// What the list of keys whose text is escaped is called. No key of the log has this name.
pub const ESCAPED: &str = "escaped";

/// One line.
#[derive(Debug)]
pub struct Entry<'l> {
    line: &'l [u8],
    fields: Vec<Field<'l>>,
}

#[derive(Debug)]
struct Field<'l> {
    member: Member<'l>,
    placed: Cell<bool>,
}

/// A value that is text.
#[derive(Clone, Debug)]
pub struct Text<'l> {
    /// As it stands between the quotes in the log.
    raw: &'l str,
    /// What that means, where it is text: UTF-8 without a NUL.
    plain: Option<Cow<'l, str>>,
}

/// A value that is a list of texts.
#[derive(Clone, Debug)]
pub struct List<'l> {
    items: Vec<Text<'l>>,
}

impl<'l> Text<'l> {
    fn of(raw: &'l [u8]) -> Text<'l> {
        // A proven line is ASCII.
        let raw = std::str::from_utf8(raw).unwrap_or_default();
        let plain = if raw.contains('\\') {
            match Raw::Text(raw.as_bytes()).decode() {
                Value::Bytes(bytes) => String::from_utf8(bytes.into_owned()).ok().map(Cow::Owned),
                _ => None,
            }
        } else {
            Some(Cow::Borrowed(raw))
        };
        Text { raw, plain: plain.filter(|plain| !plain.contains('\0')) }
    }

    /// The text; `None` where it is not one.
    pub fn plain(&self) -> Option<&str> {
        self.plain.as_deref()
    }

    /// The text, or where it is not one the log's own escapes for it.
    pub fn shown(&self) -> &str {
        self.plain().unwrap_or(self.raw)
    }

    /// As it stands between the quotes in the log.
    pub fn raw(&self) -> &'l str {
        self.raw
    }
}

impl<'l> List<'l> {
    fn of(mut raw: &'l [u8]) -> List<'l> {
        let mut items = Vec::new();
        while let [b'"', rest @ ..] = raw {
            let mut end = 0;
            while let Some(byte) = rest.get(end).filter(|byte| **byte != b'"') {
                end += if *byte == b'\\' { 2 } else { 1 };
            }
            let (item, rest) = rest.split_at(end.min(rest.len()));
            items.push(Text::of(item));
            raw = rest.strip_prefix(b"\", ").unwrap_or_default();
        }
        List { items }
    }

    /// Whether each of the items is text.
    pub fn is_plain(&self) -> bool {
        self.items.iter().all(|item| item.plain().is_some())
    }

    /// The items; where one of them is not text, all of them as the log's own escapes.
    pub fn shown(&self) -> impl Iterator<Item = &str> {
        let plain = self.is_plain();
        self.items.iter().map(move |item| if plain { item.shown() } else { item.raw })
    }
}

impl<'l> Entry<'l> {
    /// Reads a line without its newline. It must be canonical.
    pub fn parse(line: &'l [u8]) -> Result<Entry<'l>, Deviation> {
        let mut fields = Vec::with_capacity(32);
        scan(line, |member| fields.push(Field { member, placed: Cell::new(false) }))?;
        Ok(Entry { line, fields })
    }

    fn field(&self, key: &str) -> Option<&Field<'l>> {
        let at = self.fields.binary_search_by(|field| field.member.key.cmp(key)).ok()?;
        self.fields.get(at)
    }

    /// The value of `key` if `read` takes it; with that it has found its place.
    fn place<T>(&self, key: &str, read: impl FnOnce(&Raw<'l>) -> Option<T>) -> Option<T> {
        let field = self.field(key)?;
        let value = read(&field.member.raw)?;
        field.placed.set(true);
        Some(value)
    }

    /// Text.
    pub fn text(&self, key: &str) -> Option<Text<'l>> {
        self.place(key, as_text)
    }

    /// Text, without giving it a place.
    pub fn peek_text(&self, key: &str) -> Option<Text<'l>> {
        as_text(&self.field(key)?.member.raw)
    }

    /// An integer that fits `i64`.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.place(key, as_int)
    }

    /// An integer that fits `i64`, without giving it a place.
    pub fn peek_int(&self, key: &str) -> Option<i64> {
        as_int(&self.field(key)?.member.raw)
    }

    /// An integer of `range`.
    pub fn int_in(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.place(key, |raw| as_int(raw).filter(|number| range.contains(number)))
    }

    /// An integer that is not negative.
    pub fn uint(&self, key: &str) -> Option<u64> {
        self.place(key, Raw::as_u64)
    }

    /// An integer, as its digits.
    pub fn digits(&self, key: &str) -> Option<&'l str> {
        self.place(key, |raw| match raw {
            Raw::Integer(digits) => std::str::from_utf8(digits).ok(),
            _ => None,
        })
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.place(key, |raw| match raw {
            Raw::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list.
    pub fn list(&self, key: &str) -> Option<List<'l>> {
        self.place(key, as_list)
    }

    /// A list, without giving it a place.
    pub fn peek_list(&self, key: &str) -> Option<List<'l>> {
        as_list(&self.field(key)?.member.raw)
    }

    /// A list as it stands in the log, brackets included.
    pub fn json_list(&self, key: &str) -> Option<&'l str> {
        let field = self.field(key).filter(|field| matches!(field.member.raw, Raw::List(_)))?;
        let Member { start, end, .. } = field.member;
        // Behind the key stands `": `.
        let value = self.line.get(start + key.len() + 4..end)?;
        field.placed.set(true);
        std::str::from_utf8(value).ok()
    }

    /// What has found no place yet, ascending by key.
    pub fn rest(&self) -> impl Iterator<Item = &Member<'l>> {
        self.fields.iter().filter(|field| !field.placed.get()).map(|field| &field.member)
    }

    /// [`Entry::rest`] for forms that put [`ESCAPED`] among those keys: a line that has it says nothing by it.
    pub fn rest_beside_escaped(&self) -> impl Iterator<Item = &Member<'l>> {
        self.rest().filter(|member| member.key != ESCAPED)
    }

    /// What has found no place yet as one object of JSON, in the log's own bytes; `None` where nothing is left.
    pub fn rest_json(&self) -> Option<String> {
        let mut json = String::new();
        for member in self.rest() {
            json.push_str(if json.is_empty() { "{" } else { ", " });
            json.push_str(&String::from_utf8_lossy(&self.line[member.start..member.end]));
        }
        (!json.is_empty()).then(|| json + "}")
    }

    /// The keys whose value is not text, or a list with an item that is not.
    pub fn escaped(&self) -> Vec<&'l str> {
        self.keys(|raw| match raw {
            Raw::List(_) => as_list(raw).is_some_and(|list| !list.is_plain()),
            _ => as_text(raw).is_some_and(|text| text.plain().is_none()),
        })
    }

    /// The keys whose value is not text, or not such that it `fits`. Lists are not asked: they are for forms that
    /// have them as the log has them.
    pub fn escaped_texts(&self, fits: impl Fn(&str) -> bool) -> Vec<&'l str> {
        self.keys(|raw| as_text(raw).is_some_and(|text| !text.plain().is_some_and(&fits)))
    }

    fn keys(&self, meant: impl Fn(&Raw<'l>) -> bool) -> Vec<&'l str> {
        self.fields.iter().filter(|field| meant(&field.member.raw)).map(|field| field.member.key).collect()
    }

    /// The event's type; empty where there is none.
    pub fn event_type(&self) -> &'l str {
        self.peek_text("event_type").map_or("", |text| text.raw())
    }

    /// What became of the attempt; empty where the line does not say.
    pub fn action(&self) -> &'l str {
        self.peek_text("action").map_or("", |text| text.raw())
    }
}

/// A text.
pub(super) fn as_text<'l>(raw: &Raw<'l>) -> Option<Text<'l>> {
    raw.as_text().map(Text::of)
}

/// A list.
pub(super) fn as_list<'l>(raw: &Raw<'l>) -> Option<List<'l>> {
    match raw {
        Raw::List(items) => Some(List::of(items)),
        _ => None,
    }
}

fn as_int(raw: &Raw<'_>) -> Option<i64> {
    match raw.decode() {
        Value::Int(number) => Some(number),
        _ => None,
    }
}
