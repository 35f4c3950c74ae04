//! The answer to "does the hash chain hold" is Python's, for any bytes.
//!
//! A number of rounds is fixed; `AUDIT_VERIFY_FUZZ_SECONDS=600 cargo test -p audit-verify --test agreement`
//! goes on for that long, from a seed that it prints.

mod support;

use std::time::{Duration, Instant};

use audit_verify::Hash;
use audit_verify::python::{MAX_DEPTH, MAX_DIGITS, Object};
use support::{Oracle, Random, chain_holds, code, sample};

/// Rounds with one seed, or as long as the environment says with another.
fn rounds(fixed: usize, mut round: impl FnMut(&mut Random)) {
    let seconds = std::env::var("AUDIT_VERIFY_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    if let Some(seconds) = seconds {
        let seed = u64::from(std::process::id()) << 32;
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut done = 0;
        while Instant::now() < end {
            round(&mut Random(seed + done));
            done += 1;
        }
        println!("{done} rounds from seed {seed}");
    } else {
        (0..fixed as u64).for_each(|seed| round(&mut Random(seed)));
    }
}

fn printed(line: &[u8]) -> Option<Vec<u8>> {
    let object = Object::parse(line).ok()?;
    let mut out = Vec::new();
    object.print_without("hash_self", &mut out);
    Some(out)
}

#[track_caller]
fn same_line(oracle: &mut Oracle, line: &[u8]) {
    let (ours, theirs) = (printed(line), oracle.print(line));
    let text = |bytes: Option<Vec<u8>>| {
        bytes.map(|bytes| String::from_utf8(bytes).expect("what is printed is ASCII"))
    };
    assert_eq!(text(ours), text(theirs), "{}", line.escape_ascii());
}

#[track_caller]
fn same_file(oracle: &mut Oracle, log: &[u8]) {
    let theirs = oracle.chain_holds(log);
    assert_eq!(chain_holds(log), theirs, "{}", log.escape_ascii());
    if theirs.is_none() {
        assert_ne!(code(log), 0, "a log whose chain does not hold is not intact: {}", log.escape_ascii());
    }
}

/// `body` (the members of an object, in any JSON) as a line of a chain; `hash_self` at the end or in front.
fn linked(oracle: &mut Oracle, prev: &mut Hash, body: &str, random: &mut Random) -> Option<Vec<u8>> {
    let separator = if body.trim().is_empty() { "" } else { "," };
    let object = format!("{{\"hash_prev\":\"{prev}\"{separator}{body}}}");
    let hash = Hash::of(&[&oracle.print(object.as_bytes())?]);
    *prev = hash;
    let line = match random.below(4) {
        0 => format!("{{\"hash_self\": \"{hash}\",{}", &object[1..]),
        1 => format!("{{\"hash_self\": 7,{},\"hash_self\":\"{hash}\"}}", &object[1..object.len() - 1]),
        2 => format!("{} , \"hash\\u005fself\" :\t\"{hash}\" }}", &object[..object.len() - 1]),
        _ => format!("{},\"hash_self\":\"{hash}\"}}", &object[..object.len() - 1]),
    };
    Some(line.into_bytes())
}

const LINES: &[&str] = &[
    // White space and order.
    r#"{}"#,
    " {\t\"b\" :1 ,\r \"a\":[ ] , \"c\":{ } } ",
    r#"{"b": {"z": 1, "a": 2}, "a": [{"y": 1, "x": 2}]}"#,
    "{\"a\":\u{a0}1}",
    "{\"a\":1}\u{b}",
    "{\"a\":1}\0",
    "",
    " ",
    "\u{feff}{}",
    "{}\u{feff}",
    // Equal keys.
    r#"{"a": 1, "a": 2}"#,
    r#"{"a": 2, "b": 0, "\u0061": 1}"#,
    r#"{"b": {"k": 1, "k": {"k": 3, "k": 2}}, "a": 0}"#,
    r#"{"\ud83d\ude00": 1, "😀": 2}"#,
    r#"{"": 1, "": 2}"#,
    // Order is that of code points, not of UTF-16 and not of the printed text.
    r#"{"\uffff": 1, "\ud83d\ude00": 2, "\ud800": 3, "\udfff": 4, "é": 5, "~": 6, "\u007f": 7, "[": 8, "\\": 9}"#,
    // Strings.
    r#"{"a": "\/\b\f\n\r\t\"\\\u0000\u001f\u007f\u00E9\uABCD"}"#,
    "{\"a\": \"\u{7f}\u{80}é€😀\u{2028}\"}",
    r#"{"a": "\ud800"}"#,
    r#"{"a": "\udc00"}"#,
    r#"{"a": "\ud800\ud800\udc00"}"#,
    r#"{"a": "\udc00\ud800"}"#,
    r#"{"a": "\ud800\u0061"}"#,
    r#"{"a": "\ud800x"}"#,
    r#"{"a": "\ud800\n"}"#,
    r#"{"a": "\ud800\u00"}"#,
    r#"{"a": "\ud800\uzzzz"}"#,
    r#"{"a": "\x41"}"#,
    r#"{"a": "\u 041"}"#,
    r#"{"a": "\u+041"}"#,
    r#"{"a": "\U0041"}"#,
    "{\"a\": \"\t\"}",
    "{\"a\": \"\u{1}\"}",
    r#"{"a": "x}"#,
    r#"{"a": 'x'}"#,
    r#"{a: 1}"#,
    r#"{"a"}"#,
    r#"{"a":}"#,
    // Numbers.
    r#"{"a": [0, -0, 1, -1, 10, 123456789012345678901234567890, -99999999999999999999]}"#,
    r#"{"a": [0.0, -0.0, 1.0, 1.50, 0.1, 100.0, 1e0, 1E5, 1e+5, 1e-5, 1e15, 1e16, 1e17, 12345678901234567.0]}"#,
    r#"{"a": [0.0001, 0.00001, 0.000123, 5e-324, 2e-324, 1e-400, 1e308, 1e309, -1e309, 1.7976931348623157e308]}"#,
    r#"{"a": [9007199254740993.0, 0.30000000000000004, 2.675, 4.35, 1e23, 8.41e21, 9.5367431640625e-07, 1e22]}"#,
    r#"{"a": [NaN, Infinity, -Infinity]}"#,
    r#"{"a": -NaN}"#,
    r#"{"a": nan}"#,
    r#"{"a": Infinit}"#,
    r#"{"a": +1}"#,
    r#"{"a": 01}"#,
    r#"{"a": -01}"#,
    r#"{"a": 00}"#,
    r#"{"a": 1.}"#,
    r#"{"a": .5}"#,
    r#"{"a": 1e}"#,
    r#"{"a": 1e+}"#,
    r#"{"a": -}"#,
    r#"{"a": 0x1}"#,
    r#"{"a": 1_0}"#,
    "{\"a\": \u{663}}",
    "{\"a\": 1\u{663}}",
    r#"{"a": 1.5.5}"#,
    r#"{"a": 0e0}"#,
    r#"{"a": -0e-0}"#,
    r#"{"a": 1E400}"#,
    r#"{"a": 0.1e1}"#,
    // Constants and structure.
    r#"{"a": [true, false, null]}"#,
    r#"{"a": True}"#,
    r#"{"a": nul}"#,
    r#"{"a": nulll}"#,
    r#"{"a": [1, ]}"#,
    r#"{"a": [,1]}"#,
    r#"{"a": 1,}"#,
    r#"{,"a": 1}"#,
    r#"{"a": 1 "b": 2}"#,
    r#"{"a": [1 2]}"#,
    r#"{"a": 1}}"#,
    r#"{"#,
    r#"[]"#,
    r#"[{"hash_self": 1}]"#,
    r#""x""#,
    r#"1"#,
    r#"null"#,
    r#"{"a": [}"#,
    r#"{"a": (1)}"#,
    "{} // c",
    "{}{}",
    r#"{1: 2}"#,
    r#"{"a": {"b": [[[{}], []], {}]}}"#,
    r#"{"hash_self": 1}"#,
    r#"{"hash_self": 1, "hash_self": 2, "a": 3}"#,
];

#[test]
fn lines_as_python_reads_and_prints_them() {
    let mut oracle = Oracle::default();
    for line in LINES {
        same_line(&mut oracle, line.as_bytes());
    }
    for bytes in [
        &b"{\"a\": \"\xff\"}"[..],
        b"{\"a\": \"\xed\xa0\x80\"}",
        b"\xef\xbb\xbf{}",
        b"{\"a\": \"\xc3\"}",
        b"{}\xc3",
    ] {
        same_line(&mut oracle, bytes);
    }
    for digits in [MAX_DIGITS, MAX_DIGITS + 1] {
        for (sign, tail) in [("", ""), ("-", ""), ("", ".5"), ("-", "e1")] {
            same_line(&mut oracle, format!("{{\"a\": {sign}{}{tail}}}", "7".repeat(digits)).as_bytes());
        }
    }
}

/// CPython's own bound is that of its stack and differs between versions, so only what is far from it is asked.
#[test]
fn nesting() {
    let mut oracle = Oracle::default();
    let list = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let object = |depth: usize| format!("{}1{}", "{\"b\": 2, \"a\":".repeat(depth), "}".repeat(depth));
    for line in [list(900), object(900)] {
        same_line(&mut oracle, line.as_bytes());
    }
    for line in [list(MAX_DEPTH), object(MAX_DEPTH)] {
        assert!(Object::parse(line.as_bytes()).is_ok());
    }
    for line in [list(MAX_DEPTH + 1), object(MAX_DEPTH + 1), list(3_000_000)] {
        assert!(Object::parse(line.as_bytes()).is_err());
    }
}

#[test]
fn fractions() {
    let mut oracle = Oracle::default();
    rounds(300, |random| {
        let mut numbers = Vec::new();
        for _ in 0..20 {
            let any = f64::from_bits(random.next());
            let decimal = random.next() as f64 / 10f64.powi(random.below(40) as i32 - 10);
            let power = 2f64.powi(random.below(2000) as i32 - 1000);
            // Near 2^53 the shortest digits are often as near on either side.
            let tie = (random.next() >> 11 | 1 << 52) as f64 / 2f64.powi(random.below(12) as i32);
            numbers.extend([any, decimal, power, tie].iter().filter(|number| number.is_finite()).flat_map(
                |number| {
                    [
                        format!("{number:?}"),
                        format!("{number:e}"),
                        format!("{number:.3}"),
                        format!("{number:.17e}"),
                    ]
                },
            ));
        }
        same_line(&mut oracle, format!("{{\"a\": [{}]}}", numbers.join(",")).as_bytes());
    });
}

/// Any JSON, in any of its forms; `depth` bounds it.
fn json(random: &mut Random, depth: usize) -> String {
    let space = |random: &mut Random| random.of(&["", "", "", " ", "\t", "  "]).to_owned();
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => {
            random.of(&["0", "-0", "17", "-5", "1.0", "1e3", "2.5E-7", "true", "false", "null", "NaN"]).into()
        }
        1 => format!("{}", random.next() as i64 >> random.below(64)),
        2 | 3 => string(random),
        4 => {
            let items: Vec<String> = (0..random.below(4)).map(|_| json(random, depth - 1)).collect();
            format!("[{}{}]", space(random), items.join(&format!("{},{}", space(random), space(random))))
        }
        _ => format!("{{{}{}}}", space(random), members(random, depth - 1)),
    }
}

fn members(random: &mut Random, depth: usize) -> String {
    let members: Vec<String> = (0..random.below(5))
        .map(|_| format!("{} :{}{}", string(random), random.of(&["", " "]), json(random, depth)))
        .collect();
    members.join(",")
}

fn string(random: &mut Random) -> String {
    const PIECES: &[&str] = &[
        "a",
        "b",
        "ab",
        "seq",
        "é",
        "\u{7f}",
        "😀",
        "\u{ffff}",
        "/",
        "\\/",
        "\\n",
        "\\u000A",
        "\\u0061",
        "\\u00e9",
        "\\u00E9",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\ude00",
        "\\udcff",
        "\\uDCFF",
        "\\\"",
        "\\\\",
        " ",
        "~",
    ];
    let pieces: String = (0..random.below(4)).map(|_| random.of(PIECES)).collect();
    format!("\"{pieces}\"")
}

/// A few bytes changed, added or taken away.
fn damaged(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"0",
        b"-",
        b".",
        b"e1",
        b"\\u",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\0",
        b"\t",
        b"\"a\": 1, ",
        b"\x7f",
        b"\xe2\x80\xa8",
    ];
    for _ in 0..1 + random.below(2) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => drop(bytes.drain(at..(at + 1 + random.below(3)).min(bytes.len()))),
            _ => drop(bytes.splice(at..at, random.of(PIECES).iter().copied())),
        }
    }
    bytes
}

#[test]
fn lines_fuzzed() {
    let mut oracle = Oracle::default();
    rounds(4000, |random| {
        let line = format!("{{{}}}", members(random, 3)).into_bytes();
        same_line(&mut oracle, &line);
        let line = damaged(random, line);
        // A line has no end inside it; files with such lines are asked about below.
        if !line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            same_line(&mut oracle, &line);
        }
    });
}

#[test]
fn foreign_logs_whose_chain_holds() {
    let mut oracle = Oracle::default();
    rounds(400, |random| {
        let mut prev = Hash::ZERO;
        let mut log = Vec::new();
        let lines = random.below(6);
        for _ in 0..lines {
            let body = members(random, 2);
            let line = linked(&mut oracle, &mut prev, &body, random).expect("the generator makes JSON");
            log.extend_from_slice(random.of(&["", " ", "\t "]).as_bytes());
            log.extend_from_slice(&line);
            log.extend_from_slice(random.of(&["\n", "\n", "\r\n", "\r", " \n"]).as_bytes());
        }
        assert_eq!(chain_holds(&log), Some((lines as u64, prev)), "{}", log.escape_ascii());
        same_file(&mut oracle, &log);
        let log = damaged(random, log);
        same_file(&mut oracle, &log);
    });
}

#[test]
fn own_logs_with_every_kind_of_edit() {
    let mut oracle = Oracle::default();
    let lines = sample(12);
    let log = lines.concat();
    let text = String::from_utf8(log.clone()).unwrap();
    let mut edits: Vec<Vec<u8>> = vec![
        log.clone(),
        Vec::new(),
        b"\n".to_vec(),
        text.replace('\n', "\r\n").into(),
        text.replace('\n', "\r").into(),
        text.replace('\n', "\n\n").into(),
        format!("\u{feff}{text}").into(),
        format!("\n{text}").into(),
        format!("{text}\n").into(),
        format!("{text}{{}}\n").into(),
        format!("{text}garbage").into(),
        text.replace(": ", ":").into(),
        text.replace("\\u00f6", "ö").into(),
        text.replace("\\u00f6", "\\u00F6").into(),
        text.replace("\\ud83d\\ude00", "😀").into(),
        text.replace("\\udcff", "\\uDCFF").into(),
        text.replace("\\u007f", "\u{7f}").into(),
        text.replace("\"v\": 1", "\"v\": 1.0").into(),
        text.replace("\"v\": 1", "\"v\": 1e0").into(),
        text.replace("\"v\": 1", "\"v\": 01").into(),
        text.replace("\"v\": 1", "\"v\": 2, \"v\": 1").into(),
        text.replace("\"v\": 1", "\"v\": 1, \"v\": 2").into(),
        text.replace("{\"action\": \"OBSERVED\", ", "{").into(),
        text.trim_end().into(),
        [&log[..], &log[..]].concat(),
    ];
    for index in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(index);
        edits.push(without.concat());
        let mut twice = lines.clone();
        twice.insert(index, lines[index].clone());
        edits.push(twice.concat());
        if index > 0 {
            let mut swapped = lines.clone();
            swapped.swap(index - 1, index);
            edits.push(swapped.concat());
        }
        edits.push(lines[..index].concat());
        edits.push([&lines[..index].concat()[..], &lines[index][..lines[index].len() / 2]].concat());
    }
    let holding = edits.iter().filter(|edit| oracle.chain_holds(edit).is_some()).count();
    assert!((20..edits.len() - 20).contains(&holding), "{holding} of {} hold", edits.len());
    for edit in &edits {
        same_file(&mut oracle, edit);
    }
}

#[test]
fn own_logs_fuzzed() {
    let mut oracle = Oracle::default();
    let log = sample(6).concat();
    rounds(2000, |random| {
        let damaged = damaged(random, log.clone());
        same_file(&mut oracle, &damaged);
    });
}
