//! Parquet, by the crate's own reader, and by others where they are there.

use std::collections::BTreeMap;
use std::process::Command;

use parquet::basic::{Compression, LogicalType, TimeUnit};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use sandbox::export::columns::COLUMNS;

use crate::logs;
use crate::rebuild::{Cell, line};
use crate::scene::Scene;

fn open(scene: &Scene) -> SerializedFileReader<std::fs::File> {
    let place = scene.path("events.parquet");
    scene.exported(&["--format", "parquet", "-o", place.to_str().unwrap()]);
    SerializedFileReader::new(std::fs::File::open(place).unwrap()).unwrap()
}

/// The cells of a row that are not null.
fn cells(row: &Row) -> BTreeMap<String, Cell> {
    let cell = |(name, field): (&String, &Field)| {
        let cell = match field {
            Field::Null => return None,
            Field::Bool(flag) => Cell::Flag(*flag),
            Field::Long(number) => Cell::Int(*number),
            Field::ULong(number) => i64::try_from(*number).map_or(Cell::Uint(*number), Cell::Int),
            Field::Str(text) => Cell::Text(text.clone()),
            Field::ListInternal(list) => {
                let item = |field: &Field| match field {
                    Field::Str(text) => text.clone().into_bytes(),
                    other => panic!("{name}: {other:?}"),
                };
                Cell::List(list.elements().iter().map(item).collect())
            }
            other => panic!("{name}: {other:?}"),
        };
        // The row reader knows no nanoseconds: it hands out the number.
        let is_time = name == "timestamp";
        Some((
            name.clone(),
            match cell {
                Cell::Int(ns) if is_time => Cell::Text(sandbox::record::time::format(ns)),
                cell => cell,
            },
        ))
    };
    row.get_column_iter().filter_map(cell).collect()
}

#[test]
fn the_log_comes_back_from_the_table() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        check(&log);
    }
}

/// Every line comes back from its row.
pub fn check(log: &[u8]) {
    let reader = open(&Scene::new(log));
    let rows: Vec<Row> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let lines = logs::lines(log);
    assert_eq!(rows.len(), lines.len());
    for (row, expected) in rows.iter().zip(lines) {
        let made = line(cells(row));
        assert_eq!(String::from_utf8_lossy(&made), String::from_utf8_lossy(expected));
    }
}

#[test]
fn columns_have_types() {
    let reader = open(&Scene::new(&logs::every_type()));
    let schema = reader.metadata().file_metadata().schema_descr();
    assert_eq!(schema.num_columns(), COLUMNS.len() + 2);
    let logical = |name: &str| {
        let column = schema.columns().iter().find(|column| column.path().parts()[0] == name).unwrap();
        column.logical_type_ref().cloned()
    };
    match logical("timestamp") {
        Some(LogicalType::Timestamp(kind)) => {
            assert!(kind.is_adjusted_to_u_t_c);
            assert_eq!(kind.unit, TimeUnit::NANOS);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(logical("path"), Some(LogicalType::String));
    assert_eq!(logical("argv"), Some(LogicalType::String));
    assert!(
        matches!(logical("ino"), Some(LogicalType::Integer(kind)) if kind.bit_width == 64 && !kind.is_signed)
    );
    assert_eq!(logical("ret"), None, "an INT64 without more");
    let group = reader.metadata().row_group(0);
    for column in group.columns() {
        assert_eq!(column.compression(), Compression::SNAPPY);
    }
}

/// `python3` with pyarrow and duckdb, as `FOREIGN_PYTHON` names it.
#[test]
#[ignore = "needs FOREIGN_PYTHON, a python3 with pyarrow and duckdb"]
fn other_readers_read_it() {
    let python =
        std::env::var("FOREIGN_PYTHON").expect("FOREIGN_PYTHON names a python3 with pyarrow and duckdb");
    for log in [logs::every_type(), logs::hostile()] {
        let scene = Scene::new(&log);
        open(&scene);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/export/foreign.py");
        let mut command = Command::new(&python);
        let done = command.arg(script).arg(scene.path("events.parquet")).arg(scene.log()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
