//! Logs that have everything: each type of event with every key and with none, values that are hostile, values of
//! kinds that no recorder writes.

use std::collections::BTreeMap;

use audit_verify::canonical::{ObjectWriter, Record, Value as Read};
use audit_verify::chain::{ChainWriter, EventWriter};
use audit_verify::merkle::Tree;
use sandbox::event::{Action, Event, EventType, Key, ProcId, Value};
use sandbox::export::columns::{COLUMNS, Kind};

/// The lines of a log, without their newlines.
pub fn lines(log: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]));
    lines
}

/// A key's value, another for each key.
fn value(key: Key, at: usize) -> Value {
    let number = 1000 + at as u64;
    let kind = COLUMNS.iter().find(|column| column.key == key.name()).map(|column| column.kind);
    match (key, kind) {
        (Key::DstIp, _) => Value::Bytes(b"192.0.2.7".into()),
        (Key::SrcIp, _) => Value::Bytes(b"2001:db8::9".into()),
        (Key::Proto, _) => Value::Bytes(b"tcp".into()),
        (Key::Ret, _) => Value::Int(-13),
        (_, Some(Kind::Integer)) => Value::Int(number as i64),
        (_, Some(Kind::Unsigned)) => Value::Uint(number),
        (_, Some(Kind::Flag)) => Value::Flag(true),
        (_, Some(Kind::List)) => Value::List(vec![
            format!("{}-first", key.name()).into_bytes(),
            b"it's \"two\", no?".to_vec(),
            Vec::new(),
        ]),
        (_, _) => Value::Bytes(format!("/{}/of {at}", key.name()).into_bytes()),
    }
}

/// Whether a key has a list.
pub fn is_list(key: Key) -> bool {
    COLUMNS.iter().any(|column| column.key == key.name() && column.kind == Kind::List)
}

fn event(event_type: EventType, action: Action, details: Vec<(Key, Value)>) -> Event {
    let process = ProcId { pid: 4242, start_ns: 77_000_000_001 };
    let (wall_ns, mono_ns) = (1_795_000_000_123_456_789, 55_000_000_321);
    Event { event_type, action, wall_ns, mono_ns, kseq: 31, process, details }
}

/// A whole log of `events`, between a first and a last line that have every key.
pub fn sealed(events: impl IntoIterator<Item = Event>) -> Vec<u8> {
    let mut chain = ChainWriter::default();
    let mut log = Vec::new();
    let every = || Key::ALL.iter().enumerate().map(|(at, key)| (*key, value(*key, at))).collect();
    let mut tree = Tree::default();
    let mut put = |mut event: Event| {
        // What these say of the log is judged. The key of the signatures is one that nobody knows.
        if matches!(event.event_type, EventType::Checkpoint | EventType::RunEnd) {
            event.set(Key::Events, Value::Uint(chain.position().seq + 1));
            event.set(Key::Head, Value::Bytes(chain.position().head.digits().to_vec()));
            event.set(Key::KeyId, Value::Bytes(vec![b'a'; 32]));
            event.set(Key::Signature, Value::Bytes(vec![b'5'; 128]));
            event.set(Key::MerkleRoot, Value::Bytes(tree.root().digits().to_vec()));
        }
        log.extend_from_slice(chain.append(|line| fill(line, event)).unwrap());
        tree.push(&chain.position().head);
    };
    put(event(EventType::RunStart, Action::Observed, every()));
    events.into_iter().for_each(&mut put);
    put(event(EventType::RunEnd, Action::Observed, every()));
    log
}

/// What the recorder makes of an event.
fn fill(line: &mut EventWriter<'_>, event: Event) {
    let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    let mut keys: BTreeMap<&str, Value> =
        event.details.into_iter().map(|(key, value)| (key.name(), value)).collect();
    keys.extend([
        ("action", text(event.action.name())),
        ("agent_id", text("make")),
        ("event_type", text(event.event_type.name())),
        ("kseq", Value::Uint(event.kseq)),
        ("mono_ns", Value::Uint(event.mono_ns)),
        ("pid", Value::Uint(event.process.pid.into())),
        ("proc_id", text(&event.process.to_string())),
        ("run_id", text("20261126-120000-make")),
        ("timestamp", text(&sandbox::record::time::format(event.wall_ns))),
        ("v", Value::Uint(1)),
    ]);
    for (key, value) in &keys {
        match value {
            Value::Int(number) => line.put(key, *number),
            Value::Uint(number) => line.put(key, *number),
            Value::Flag(flag) => line.put(key, *flag),
            Value::Bytes(bytes) => line.put(key, &bytes[..]),
            Value::List(items) => line.put(key, &items[..]),
        };
    }
}

/// Every type, with every action, with every key and with none.
pub fn every_type() -> Vec<u8> {
    let inner = |kind: &&EventType| !matches!(kind, EventType::RunStart | EventType::RunEnd);
    let actions = [Action::Observed, Action::Allowed, Action::Blocked, Action::WouldBlock];
    sealed(EventType::ALL.iter().filter(inner).flat_map(|event_type| {
        let every: Vec<_> = Key::ALL.iter().enumerate().map(|(at, key)| (*key, value(*key, at))).collect();
        actions.iter().flat_map(move |action| {
            [event(*event_type, *action, every.clone()), event(*event_type, *action, Vec::new())]
        })
    }))
}

/// Texts that some form has a meaning for.
pub const HOSTILE: &[&[u8]] = &[
    b"",
    b" ",
    b" /leading and trailing ",
    b"/a\nb\r\nc\rd",
    b"/a\tb",
    b"/quote\"s 'and' \\back\\slash\\n",
    b"/pipe|equals=a,comma;semi\\=\\|",
    b"\x1b]0;title\x07\x1b[2J\x7f",
    b"/nul\0inside",
    b"/\xff\xfe not utf-8 \xc3(",
    b"/half \xed\xb3\xbf of a surrogate",
    b"\\udcff in letters",
    "/é€😀\u{2028}\u{85}\u{feff}\u{202e}".as_bytes(),
    b"=cmd|' /C calc'!A0",
    b"+1",
    b"-1",
    b"@SUM(1)",
    b"'already",
    b"{\"json\": [1]}",
    b"CEF:0|a|b|c|d|e|1|act=x",
    b"act=blocked cs1=forged",
    b"NULL",
    b"999.1.2.3",
];

/// Hostile texts in every text of an event, alone and in lists, and very long arguments.
pub fn hostile() -> Vec<u8> {
    let texts: Vec<Key> = Key::ALL
        .iter()
        .copied()
        .filter(|key| matches!(value(*key, 0), Value::Bytes(_)) && *key != Key::Head)
        .collect();
    let of = |text: &[u8], event_type| {
        let mut details: Vec<_> = texts.iter().map(|key| (*key, Value::Bytes(text.to_vec()))).collect();
        details.push((Key::Argv, Value::List(vec![b"plain".to_vec(), text.to_vec()])));
        details.push((Key::Answers, Value::List(vec![text.to_vec()])));
        event(event_type, Action::Blocked, details)
    };
    let extremes = vec![
        (Key::Ret, Value::Int(i64::MIN)),
        (Key::Ino, Value::Uint(u64::MAX)),
        (Key::DstPort, Value::Int(65536)),
        (Key::SrcPort, Value::Int(-1)),
        (Key::FileMode, Value::Uint(0o7777)),
        (Key::Uid, Value::Int(4_294_967_295)),
        (Key::Argv, Value::List(Vec::new())),
        (Key::Family, Value::Int(44)),
        (Key::BytesIn, Value::Uint(u64::MAX)),
        (Key::Count, Value::Uint(u64::MAX)),
        (Key::DurationNs, Value::Uint(u64::MAX)),
    ];
    let types = [EventType::Exec, EventType::FileRename, EventType::NetConnect, EventType::DnsAnswer];
    let kinds =
        [types.as_slice(), &[EventType::FileSymlink, EventType::ProcBpf, EventType::NetName]].concat();
    let hostile = HOSTILE.iter().flat_map(|text| kinds.iter().map(move |kind| of(text, *kind)));
    let others = EventType::ALL[2..].iter().map(|kind| event(*kind, Action::Observed, extremes.clone()));
    sealed(hostile.chain(others).chain([long_exec()]))
}

/// An event with no more than every event has.
pub fn small() -> Event {
    event(EventType::FileOpen, Action::Observed, Vec::new())
}

/// An exec with ten thousand arguments, one of which is no text.
pub fn long_exec() -> Event {
    let mut words: Vec<Vec<u8>> = (0..10_000).map(|word| format!("word {word}").into_bytes()).collect();
    words.push(b"\xff".to_vec());
    let details = vec![(Key::Argv, Value::List(words)), (Key::Exe, Value::Bytes(vec![b'a'; 100_000]))];
    event(EventType::Exec, Action::Observed, details)
}

/// A log that verifies and that no recorder has written: keys that nobody knows, a type that nobody knows, and
/// every known key with values of the wrong kinds.
pub fn forged() -> Vec<u8> {
    let (mut chain, mut tree) = (ChainWriter::default(), Tree::default());
    let mut log = Vec::new();
    let mut keys: Vec<&str> = COLUMNS.iter().map(|column| column.key).collect();
    keys.extend(["answered_by", "escaped", "more", "sandbox", "tool_call_id", "zz"]);
    keys.retain(|key| !matches!(*key, "seq" | "hash_prev" | "hash_self" | "event_type" | "run_id"));
    keys.extend(["event_type", "run_id"]);
    keys.sort_unstable();
    let mut put = |event_type: &str, kind: usize| {
        let fill = |event: &mut EventWriter<'_>| {
            for (at, key) in keys.iter().enumerate() {
                match *key {
                    "event_type" => event.put(key, event_type),
                    "run_id" => event.put(key, "r"),
                    _ => put_value(event, key, at + kind),
                };
            }
        };
        log.extend_from_slice(chain.append(fill).unwrap());
        tree.push(&chain.position().head);
    };
    put("run_start", 0);
    for kind in 0..6 {
        for event_type in
            ["ask", "net_of_tomorrow", "file_x", "proc_y", "exec", "dns_answer", "fork", "a b\n|="]
        {
            put(event_type, kind);
        }
    }
    let position = chain.position();
    let seal = chain.append(|event| {
        event.put("event_type", "run_end").put("events", position.seq + 1);
        event.put("head", position.head.as_str()).put("merkle_root", tree.root().as_str());
        event.put("run_id", "r");
    });
    log.extend_from_slice(seal.unwrap());
    log
}

fn put_value<'e, 'w>(event: &'e mut EventWriter<'w>, key: &str, at: usize) -> &'e mut EventWriter<'w> {
    match at % 6 {
        0 => event.put(key, -7i64),
        1 => event.put(key, u64::MAX),
        2 => event.put(key, true),
        3 => event.put(key, &b"text \xff of any kind"[..]),
        4 => event.put(key, &[b"list".to_vec(), b"\xfe".to_vec()][..]),
        _ => event.put(key, 5u64),
    }
}

/// The values of a line as they must be found in a document: each text, each item, each number as its digits. Text
/// that is none is found as the log's own escapes.
pub fn shown_values(line: &[u8]) -> Vec<(String, Vec<String>)> {
    let record = Record::parse(line).unwrap();
    let text = |bytes: &[u8], plain: bool| match String::from_utf8(bytes.to_vec()) {
        Ok(text) if plain => text,
        _ => escaped(bytes),
    };
    let is_plain = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0);
    let fields = record.fields().iter().map(|(key, value)| {
        let values = match value {
            Read::Int(number) => vec![number.to_string()],
            Read::Uint(number) => vec![number.to_string()],
            Read::Flag(flag) => vec![flag.to_string()],
            Read::Bytes(bytes) => vec![text(bytes, is_plain(bytes))],
            Read::List(items) => {
                let plain = items.iter().all(|item| is_plain(item));
                items.iter().map(|item| text(item, plain)).collect()
            }
        };
        ((*key).to_owned(), values)
    });
    fields.collect()
}

/// What the log has between the quotes for these bytes, by the log's own writer.
pub fn escaped(bytes: &[u8]) -> String {
    let mut line = Vec::new();
    let mut object = ObjectWriter::new(&mut line);
    object.put("k", bytes);
    object.finish().unwrap();
    let line = String::from_utf8(line).unwrap();
    line.strip_prefix("{\"k\": \"").unwrap().strip_suffix("\"}").unwrap().to_owned()
}
