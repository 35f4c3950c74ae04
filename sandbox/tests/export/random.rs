//! Logs with random texts, of an alphabet that forms have meanings for.

use proptest::collection::vec;
use proptest::prelude::*;
use sandbox::event::{EventType, Key, Value};

use crate::{cef, csv, ecs, logs, ocsf, otlp, table};

const PIECES: &[&[u8]] = &[
    b"a",
    b"/",
    b" ",
    b"=",
    b"|",
    b"\\",
    b"\"",
    b"'",
    b",",
    b";",
    b"\n",
    b"\r",
    b"\t",
    b"\0",
    b"\x1b",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\\n",
    b"\\u",
    b"\\udcff",
    b"{",
    b"[",
    b"+",
    b"-",
    b"@",
    "\u{85}".as_bytes(),
    "\u{2028}".as_bytes(),
    "é😀".as_bytes(),
    b"act=",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(PIECES), 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_logs_come_back(
        events in vec((2..EventType::ALL.len(), vec((0..Key::ALL.len(), text(), vec(text(), 0..4)), 0..10)), 60),
    ) {
        let events = events.into_iter().map(|(kind, values)| {
            let mut event = logs::small();
            event.event_type = EventType::ALL[kind];
            for (key, text, items) in values {
                let is_list = logs::is_list(Key::ALL[key]);
                event.set(Key::ALL[key], if is_list { Value::List(items) } else { Value::Bytes(text) });
            }
            event
        });
        let log = logs::sealed(events.collect::<Vec<_>>());
        for check in [csv::check, table::check, cef::check, ecs::check, ocsf::check, otlp::check] {
            check(&log);
        }
    }
}
