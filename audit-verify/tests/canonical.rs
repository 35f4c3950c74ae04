//! The writer's bytes are Python's bytes, and the reader gets back what was written.

mod support;

use audit_verify::canonical::{Field, ObjectWriter, Record, scan};
use proptest::prelude::*;
use support::Oracle;

/// A value, in a form that can be described to the oracle.
#[derive(Clone, Debug)]
enum Given {
    Int(i64),
    Uint(u64),
    Flag(bool),
    Bytes(Vec<u8>),
    List(Vec<Vec<u8>>),
}

impl Given {
    fn field(&self) -> Field<'_> {
        match self {
            Given::Int(value) => Field::Int(*value),
            Given::Uint(value) => Field::Uint(*value),
            Given::Flag(value) => Field::Flag(*value),
            Given::Bytes(value) => Field::Bytes(value),
            Given::List(value) => Field::List(value),
        }
    }

    fn described(&self, key: &str) -> String {
        let key = hex(key.as_bytes());
        match self {
            Given::Int(value) => format!("int {key} {value}\n"),
            Given::Uint(value) => format!("int {key} {value}\n"),
            Given::Flag(value) => format!("flag {key} {value}\n"),
            Given::Bytes(value) => format!("bytes {key} {}\n", hex(value)),
            Given::List(items) => {
                let items: String = items.iter().map(|item| format!(" {}", hex(item))).collect();
                format!("list {key}{items}\n")
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as paths have them: mostly text, sometimes text of any script, sometimes anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        3 => "\\PC{0,20}".prop_map(String::into_bytes),
        3 => prop::collection::vec(any::<char>(), 0..12).prop_map(|c| c.into_iter().collect::<String>().into()),
        2 => prop::collection::vec(any::<u8>(), 0..30),
        // Pieces of UTF-8: cut sequences, overlong forms, surrogates, beyond U+10FFFF.
        3 => prop::collection::vec(
            prop::sample::select(vec![
                &b"\xc3"[..], b"\xa9", b"\xe2\x82", b"\xe2\x82\xac", b"\xf0\x9f", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80",
                b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xff", b"a", b"\\", b"\"", b"\x7f", b"\0",
            ]),
            0..8
        ).prop_map(|pieces| pieces.concat()),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        any::<i64>().prop_map(Given::Int),
        (-100i64..100).prop_map(Given::Int),
        any::<u64>().prop_map(Given::Uint),
        any::<bool>().prop_map(Given::Flag),
        bytes().prop_map(Given::Bytes),
        prop::collection::vec(bytes(), 0..5).prop_map(Given::List),
    ]
}

fn members() -> impl Strategy<Value = std::collections::BTreeMap<String, Given>> {
    prop::collection::btree_map("[ !#-\\[\\]-~]{1,12}", given(), 0..12)
}

#[test]
fn written_as_python_prints_and_read_back() {
    let mut oracle = Oracle::default();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1500));
    let oracle = std::cell::RefCell::new(&mut oracle);
    let outcome = runner.run(&members(), |members| {
        let mut line = Vec::new();
        let mut object = ObjectWriter::new(&mut line);
        let mut described = String::new();
        for (key, value) in &members {
            object.put(key, value.field());
            described.push_str(&value.described(key));
        }
        object.finish().unwrap();
        let printed = oracle.borrow_mut().object(&described);
        prop_assert_eq!(String::from_utf8_lossy(&line), String::from_utf8_lossy(&printed));

        let record = Record::parse(&line).unwrap();
        prop_assert_eq!(record.fields().len(), members.len());
        for ((key, value), (read_key, read)) in members.iter().zip(record.fields()) {
            prop_assert_eq!(key, read_key);
            // Equal as a number, whichever of the two kinds of integer holds it.
            match (value.field(), Field::from(read)) {
                (Field::Uint(written), Field::Int(read)) => {
                    prop_assert_eq!(i128::from(written), i128::from(read))
                }
                (written, read) => prop_assert_eq!(written, read),
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

proptest! {
    /// No bytes make the reader panic, and what it accepts it would write the same.
    #[test]
    fn what_is_accepted_is_written_the_same(
        members in members(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()
    ) {
        let mut line = Vec::new();
        let mut object = ObjectWriter::new(&mut line);
        for (key, value) in &members {
            object.put(key, value.field());
        }
        object.finish().unwrap();
        let at = at.index(line.len());
        if cut {
            line.truncate(at);
        } else {
            line[at] = with;
        }
        if let Ok(record) = Record::parse(&line) {
            let mut again = Vec::new();
            let mut object = ObjectWriter::new(&mut again);
            for (key, value) in record.fields() {
                object.put(key, value);
            }
            object.finish().unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&line), String::from_utf8_lossy(&again));
        } else if cut {
            prop_assert!(scan(&line, |_| ()).unwrap_err().is_cut());
        }
    }
}
