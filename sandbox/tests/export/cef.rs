//! CEF, by a strict reader of its grammar.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use audit_verify::canonical::{Raw, Record, Value, scan};

use crate::logs;
use crate::rebuild::unescaped;
use crate::scene::lines;

/// A line: the seven fields of the header behind the version, and the extension.
struct Line {
    header: Vec<String>,
    extension: BTreeMap<String, String>,
}

/// Reads a line. In the header `\|` and `\\` are escapes and nothing else is; in the extension `\=`, `\\`, `\n` and
/// `\r` are. Keys are letters and digits, each once.
fn read(line: &str) -> Line {
    let rest = line.strip_prefix("CEF:0|").expect("the version");
    assert!(!line.contains(|c: char| c.is_control() || "\u{2028}\u{2029}\u{85}".contains(c)), "{line:?}");
    let mut header = vec![String::new()];
    let mut characters = rest.chars();
    while header.len() < 7 {
        match characters.next().expect("six fields end with a pipe") {
            '|' => header.push(String::new()),
            '\\' => match characters.next() {
                Some(escaped @ ('|' | '\\')) => header.last_mut().unwrap().push(escaped),
                other => panic!("\\{other:?} in a header"),
            },
            other => header.last_mut().unwrap().push(other),
        }
    }
    let extension = header.pop().unwrap() + characters.as_str();
    Line { header, extension: pairs(&extension) }
}

/// The pairs: a key begins behind a space (or at the beginning) and ends with a `=` that is not escaped.
fn pairs(extension: &str) -> BTreeMap<String, String> {
    let bytes = extension.as_bytes();
    let signs: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at] == b'=')
        .filter(|at| bytes[..*at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0)
        .collect();
    let mut pairs = BTreeMap::new();
    let mut begin = 0;
    for (number, sign) in signs.iter().enumerate() {
        let key = &extension[begin..*sign];
        assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key:?}");
        let end = match signs.get(number + 1) {
            Some(next) => extension[..*next].rfind(' ').expect("a space before a key"),
            None => extension.len(),
        };
        let twice = pairs.insert(key.to_owned(), value(&extension[sign + 1..end]));
        assert_eq!(twice, None, "{key} stands twice");
        begin = (end + 1).min(extension.len());
    }
    pairs
}

fn value(raw: &str) -> String {
    let mut value = String::new();
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        value.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(escaped @ ('=' | '\\')) => escaped,
                other => panic!("\\{other:?} in {raw:?}"),
            },
            other => other,
        });
    }
    assert_eq!(raw.trim_matches(' '), raw, "a reader may cut spaces off");
    value
}

/// The keys of CEF's dictionary that stand for one of the log.
const KNOWN: &[(&str, &str)] = &[
    ("action", "act"),
    ("because", "msg"),
    ("bytes_in", "in"),
    ("bytes_out", "out"),
    ("dst_port", "dpt"),
    ("exe", "sproc"),
    ("exit_code", "cn3"),
    ("file_mode", "filePermission"),
    ("hash_self", "cs2"),
    ("host", "dhost"),
    ("ino", "fileId"),
    ("path", "filePath"),
    ("pid", "spid"),
    ("policy_rule", "cs1"),
    ("ppid", "cn2"),
    ("proc_id", "cs4"),
    ("proto", "proto"),
    ("reason", "reason"),
    ("ret", "cn1"),
    ("run_id", "cs3"),
    ("seq", "externalId"),
    ("src_port", "spt"),
    ("uid", "suid"),
    ("user", "suser"),
];

/// Where a key of the log stands in a line.
fn found<'l>(line: &'l Line, key: &str) -> Option<&'l str> {
    let own: String = key
        .split('_')
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .fold("sandbox".to_owned(), |own, word| own + &word);
    if let Some(value) = line.extension.get(&own) {
        return Some(value);
    }
    let places: &[&str] = match key {
        "dst_ip" => &["dst", "c6a3"],
        "src_ip" => &["src", "c6a2"],
        "target_pid" | "child_pid" => &["dpid"],
        "event_type" => return Some(&line.header[3]),
        _ => &[KNOWN.iter().find(|(known, _)| *known == key)?.1],
    };
    places.iter().find_map(|place| line.extension.get(*place)).map(String::as_str)
}

#[test]
fn every_value_of_the_log_is_found_again() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        check(&log);
    }
}

/// Every value of each line is found in its line of CEF.
pub fn check(log: &[u8]) {
    let exported = lines(log, "cef");
    assert_eq!(exported.len(), logs::lines(log).len());
    for (exported, line) in exported.iter().zip(logs::lines(log)) {
        let exported = read(exported);
        let escaped: Vec<&str> =
            exported.extension.get("sandboxEscaped").map_or(Vec::new(), |keys| keys.split(' ').collect());
        for (key, value) in Record::parse(line).unwrap().fields() {
            // A key of this name is not the log's.
            if *key == "escaped" {
                continue;
            }
            let shown =
                found(&exported, key).unwrap_or_else(|| panic!("{key} is lost: {:?}", exported.extension));
            match value {
                Value::Int(mode)
                    if *key == "file_mode"
                        && found(&exported, key)
                            == exported.extension.get("filePermission").map(String::as_str) =>
                {
                    assert_eq!(shown, format!("{mode:04o}"));
                }
                Value::Int(number) => assert_eq!(shown, number.to_string(), "{key}"),
                Value::Uint(number) => assert_eq!(shown, number.to_string(), "{key}"),
                Value::Flag(flag) => assert_eq!(shown, flag.to_string(), "{key}"),
                Value::Bytes(bytes) if escaped.contains(key) => {
                    // Spaces at the ends are escaped too, which the log itself does not do.
                    assert_eq!(unescaped(&shown.replace("\\u0020", " ")), bytes.as_ref(), "{key}");
                }
                Value::Bytes(bytes) => assert_eq!(shown.as_bytes(), bytes.as_ref(), "{key}"),
                Value::List(_) => assert_eq!(shown, list(line, key), "{key}"),
            }
        }
    }
}

/// A list as the log has it.
fn list(line: &[u8], wanted: &str) -> String {
    let mut found = String::new();
    scan(line, |member| {
        if let (true, Raw::List(items)) = (member.key == wanted, member.raw) {
            found = format!("[{}]", std::str::from_utf8(items).unwrap());
        }
    })
    .unwrap();
    found
}

#[test]
fn keys_of_the_dictionary_have_values_of_their_types() {
    for log in [logs::every_type(), logs::hostile(), logs::forged()] {
        for line in lines(&log, "cef") {
            let Line { header, extension } = read(&line);
            assert_eq!(header.len(), 6);
            assert_eq!(&header[..2], ["sandbox", "sandbox"]);
            assert!(header[5].parse::<u8>().unwrap() <= 10, "the severity");
            for (key, value) in &extension {
                let fits = match key.as_str() {
                    "rt" => value.parse::<i64>().is_ok(),
                    "dst" | "src" => value.parse::<Ipv4Addr>().is_ok(),
                    "c6a2" | "c6a3" => value.parse::<Ipv6Addr>().is_ok(),
                    "dpt" | "spt" => value.parse::<u16>().is_ok(),
                    "cn1" | "cn2" | "cn3" => value.parse::<i64>().is_ok(),
                    "spid" | "dpid" | "externalId" | "fileId" | "suid" | "in" | "out" => {
                        value.parse::<u64>().is_ok()
                    }
                    "outcome" => ["success", "failure"].contains(&value.as_str()),
                    _ => true,
                };
                assert!(fits, "{key}={value}");
                let custom = key.strip_prefix("cs").or(key.strip_prefix("cn")).or(key.strip_prefix("c6a"));
                if custom.is_some_and(|number| number.parse::<u8>().is_ok()) {
                    assert!(extension.contains_key(&format!("{key}Label")), "{key} has no label");
                }
            }
        }
    }
}

#[test]
fn a_denial_is_told_as_one() {
    let denied = lines(&logs::every_type(), "cef")
        .iter()
        .map(|line| read(line))
        .filter(|line| line.extension.get("act").map(String::as_str) == Some("BLOCKED"))
        .map(|line| {
            assert_eq!(line.header[5], "7");
            assert_eq!(line.extension["outcome"], "failure");
        })
        .count();
    assert_eq!(denied, 2 * (sandbox::event::EventType::ALL.len() - 2));
}
