//! Apache Parquet: a table with typed columns, Snappy, in row groups of at most 65,536 rows or 64 MiB.
//!
//! Points in time are `TIMESTAMP` in nanoseconds of UTC, lists are lists of strings, all text is UTF-8; what is not text
//! stands as the log's own escapes and is named in `escaped` ([`super::entry`]). A row group is held in memory until it
//! is whole; beside it only the footer grows, by some kilobytes a row group.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;

use super::Run;
use super::columns::{COLUMNS, ESCAPED, Kind, MORE};
use super::entry::Entry;
use super::error::ExportError;
use super::told;
use crate::record::time::Timestamps;

/// When a row group ends.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The most rows.
    rows: usize,
    /// The bytes of text and values, before they are packed, at which it ends.
    bytes: usize,
}

/// What readers split their work by, and what fits memory anywhere.
const LIMITS: Limits = Limits { rows: 65_536, bytes: 64 << 20 };

/// Writes the table.
pub struct Table<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Cells>,
    timestamps: Timestamps,
    run: Run,
    limits: Limits,
    rows: usize,
    bytes: usize,
}

/// The cells of one column in the row group that is being made.
#[derive(Debug)]
struct Cells {
    kind: Kind,
    /// How far each cell is defined: up to the value, or not at all; of a list also up to the list alone.
    definitions: Vec<i16>,
    /// Of a list: 0 where a row begins.
    repetitions: Vec<i16>,
    numbers: Vec<i64>,
    flags: Vec<bool>,
    /// All text, and where each ends in it.
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl<W: Write + Send> std::fmt::Debug for Table<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<W: Write + Send> Table<W> {
    /// A table that has no row yet.
    pub fn new(out: W) -> Result<Self, ExportError> {
        Self::with(LIMITS, out)
    }

    fn with(limits: Limits, out: W) -> Result<Self, ExportError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("sandbox ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let schema = schema().map_err(ExportError::Parquet)?;
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        let kinds = COLUMNS.iter().map(|column| column.kind).chain([Kind::List, Kind::Text]);
        Ok(Table {
            file: file.map_err(ExportError::Parquet)?,
            columns: kinds.map(Cells::new).collect(),
            timestamps: Timestamps::default(),
            run: Run::default(),
            limits,
            rows: 0,
            bytes: 0,
        })
    }

    /// Adds an event.
    pub fn event(&mut self, entry: &Entry<'_>) -> Result<(), ExportError> {
        self.run.learn(entry);
        let mut cells = self.columns.iter_mut();
        for (column, cells) in COLUMNS.iter().zip(cells.by_ref()) {
            self.bytes += match column.kind {
                Kind::Integer => cells.number(entry.int(column.key)),
                // The column is unsigned, its cells have the same 64 bits.
                Kind::Unsigned => cells.number(entry.uint(column.key).map(|number| number as i64)),
                Kind::Flag => cells.flag(entry.flag(column.key)),
                Kind::Time => cells.number(time(&mut self.timestamps, entry)),
                Kind::Text => cells.text(entry.text(column.key).as_ref().map(|text| text.shown())),
                Kind::List => match entry.list(column.key) {
                    Some(list) => cells.list(list.shown()),
                    None => cells.nothing(),
                },
            };
        }
        let escaped = entry.escaped();
        for (last, cells) in [Last::Escaped, Last::More].iter().zip(cells) {
            self.bytes += match last {
                Last::Escaped if escaped.is_empty() => cells.nothing(),
                Last::Escaped => cells.list(escaped.iter().copied()),
                Last::More => cells.text(entry.rest_json().as_deref()),
            };
        }
        self.rows += 1;
        if self.rows >= self.limits.rows || self.bytes >= self.limits.bytes {
            self.end_group()
        } else {
            Ok(())
        }
    }

    /// Writes what is left, and the footer.
    pub fn finish(mut self) -> Result<(), ExportError> {
        if self.rows > 0 {
            self.end_group()?;
        }
        for (key, value) in [
            ("sandbox.version", self.run.version.as_ref()),
            ("sandbox.hostname", self.run.hostname.as_ref()),
            ("sandbox.machine_id", self.run.machine_id.as_ref()),
        ] {
            if let Some(value) = value {
                self.file.append_key_value_metadata(KeyValue::new(key.to_owned(), value.clone()));
            }
        }
        let mut out = self.file.into_inner().map_err(ExportError::Parquet)?;
        out.flush().map_err(ExportError::Output)
    }

    fn end_group(&mut self) -> Result<(), ExportError> {
        let mut write = || {
            let mut group = self.file.next_row_group()?;
            for cells in &mut self.columns {
                let column = group.next_column()?;
                let mut column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
                cells.write(&mut column)?;
                column.close()?;
            }
            group.close().map(|_| ())
        };
        write().map_err(ExportError::Parquet)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

/// The two columns behind those of [`COLUMNS`].
enum Last {
    Escaped,
    More,
}

/// The time of an event, if the column can give back the text that the log has.
fn time(timestamps: &mut Timestamps, entry: &Entry<'_>) -> Option<i64> {
    let ns = told::wall_ns(entry)?;
    let same = entry.peek_text("timestamp")?.raw().as_bytes() == timestamps.format(ns);
    same.then(|| entry.text("timestamp"))?.map(|_| ns)
}

/// The schema, in the language of Parquet's own documentation.
fn schema() -> Result<Type, ParquetError> {
    let mut schema = "message events {\n".to_owned();
    let last = [(ESCAPED, Kind::List), (MORE, Kind::Text)];
    for (name, kind) in COLUMNS.iter().map(|column| (column.key, column.kind)).chain(last) {
        schema.push_str(&match kind {
            Kind::Integer => format!("  optional int64 {name};\n"),
            Kind::Unsigned => format!("  optional int64 {name} (INTEGER(64,false));\n"),
            Kind::Flag => format!("  optional boolean {name};\n"),
            Kind::Time => format!("  optional int64 {name} (TIMESTAMP(NANOS,true));\n"),
            Kind::Text => format!("  optional binary {name} (STRING);\n"),
            Kind::List => format!(
                "  optional group {name} (LIST) {{ repeated group list {{ required binary element (STRING); }} }}\n"
            ),
        });
    }
    schema.push('}');
    parse_message_type(&schema)
}

impl Cells {
    fn new(kind: Kind) -> Cells {
        Cells {
            kind,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            numbers: Vec::new(),
            flags: Vec::new(),
            text: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a cell without a value; says how many bytes it takes, as those below.
    fn nothing(&mut self) -> usize {
        self.define(0, 0)
    }

    fn define(&mut self, definition: i16, repetition: i16) -> usize {
        self.definitions.push(definition);
        if self.kind == Kind::List {
            self.repetitions.push(repetition);
            return 2 * size_of::<i16>();
        }
        size_of::<i16>()
    }

    fn number(&mut self, number: Option<i64>) -> usize {
        let Some(number) = number else { return self.nothing() };
        self.numbers.push(number);
        self.define(1, 0) + size_of::<i64>()
    }

    fn flag(&mut self, flag: Option<bool>) -> usize {
        let Some(flag) = flag else { return self.nothing() };
        self.flags.push(flag);
        self.define(1, 0) + 1
    }

    fn text(&mut self, text: Option<&str>) -> usize {
        let Some(text) = text else { return self.nothing() };
        self.push(text);
        self.define(1, 0) + text.len() + size_of::<usize>()
    }

    fn list<'t>(&mut self, items: impl Iterator<Item = &'t str>) -> usize {
        let mut bytes = 0;
        for (at, item) in items.enumerate() {
            self.push(item);
            bytes += self.define(2, i16::from(at > 0)) + item.len() + size_of::<usize>();
        }
        if bytes == 0 { self.define(1, 0) } else { bytes }
    }

    fn push(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        self.ends.push(self.text.len());
    }

    /// Writes the cells, and forgets them.
    fn write(&mut self, column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self.kind {
            Kind::Integer | Kind::Unsigned | Kind::Time => self.put::<Int64Type>(column, &self.numbers)?,
            Kind::Flag => self.put::<BoolType>(column, &self.flags)?,
            Kind::Text | Kind::List => {
                let text = ByteArray::from(std::mem::take(&mut self.text));
                let begins = [0].into_iter().chain(self.ends.iter().copied());
                let ends = self.ends.iter();
                let texts: Vec<ByteArray> =
                    begins.zip(ends).map(|(begin, end)| text.slice(begin, end - begin)).collect();
                self.put::<ByteArrayType>(column, &texts)?;
            }
        }
        *self = Cells::new(self.kind);
        Ok(())
    }

    fn put<T: DataType>(
        &self,
        column: &mut SerializedColumnWriter<'_>,
        values: &[T::T],
    ) -> Result<(), ParquetError> {
        let repetitions = (self.kind == Kind::List).then_some(&self.repetitions[..]);
        column.typed::<T>().write_batch(values, Some(&self.definitions), repetitions).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    /// The rows of each row group of a table of `events` lines with a path of `length` bytes.
    fn groups(limits: Limits, events: usize, length: usize) -> Vec<i64> {
        let file = tempfile::tempfile().unwrap();
        let mut table = Table::with(limits, file.try_clone().unwrap()).unwrap();
        for number in 0..events {
            let path = "p".repeat(length);
            let line =
                format!("{{\"argv\": [\"a\", \"{number}\"], \"path\": \"{path}\", \"seq\": {number}}}");
            table.event(&Entry::parse(line.as_bytes()).unwrap()).unwrap();
        }
        table.finish().unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<i64> = reader.get_row_iter(None).unwrap().map(|row| seq(&row.unwrap())).collect();
        assert_eq!(rows, (0..events as i64).collect::<Vec<_>>(), "every row, in its order");
        reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
    }

    fn seq(row: &parquet::record::Row) -> i64 {
        match row.get_column_iter().next() {
            Some((_, parquet::record::Field::ULong(seq))) => *seq as i64,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_group_ends_by_rows_or_by_bytes() {
        assert_eq!(groups(Limits { rows: 100, bytes: usize::MAX }, 250, 10), [100, 100, 50]);
        assert_eq!(groups(Limits { rows: 100, bytes: usize::MAX }, 200, 10), [100, 100], "none is empty");
        assert_eq!(groups(Limits { rows: 100, bytes: usize::MAX }, 0, 10), [0i64; 0]);
        let by_bytes = groups(Limits { rows: 1000, bytes: 20_000 }, 50, 5_000);
        assert!(by_bytes.len() >= 12 && by_bytes.iter().all(|rows| *rows <= 4), "{by_bytes:?}");
    }
}
