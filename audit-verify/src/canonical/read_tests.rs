use super::*;
use crate::canonical::ObjectWriter;

#[test]
fn reads_what_is_written() {
    let argv: Vec<Vec<u8>> = vec![b"a\"b\\".to_vec(), b"".to_vec(), b"\xff, \"".to_vec(), "é😀".into()];
    let mut line = Vec::new();
    let mut object = ObjectWriter::new(&mut line);
    object.put("a", i64::MIN).put("b", u64::MAX).put("c", -1).put("d", true).put("e", false);
    object.put("f", &b"\x00\x7f\n\xc3\xa9\xf0\x9f\x98\x80\xff\xed\xa0\x80"[..]).list("g", &argv);
    object.finish().unwrap();

    let record = Record::parse(&line).unwrap();
    assert_eq!(record.int("a"), Some(i64::MIN));
    assert_eq!((record.uint("b"), record.int("b")), (Some(u64::MAX), None));
    assert_eq!((record.uint("c"), record.int("c")), (None, Some(-1)));
    assert_eq!((record.flag("d"), record.flag("e")), (Some(true), Some(false)));
    assert_eq!(record.bytes("f").unwrap(), b"\x00\x7f\n\xc3\xa9\xf0\x9f\x98\x80\xff\xed\xa0\x80");
    assert_eq!(record.text("f"), None);
    assert_eq!(record.list("g").unwrap(), argv);
    assert_eq!(record.get("h"), None);

    let mut again = Vec::new();
    let mut object = ObjectWriter::new(&mut again);
    for (key, value) in record.fields() {
        object.put(key, value);
    }
    object.finish().unwrap();
    assert_eq!(line, again);
}

#[test]
fn each_deviation_is_named_with_its_offset() {
    for (line, offset, expected) in [
        (r#"["a"]"#, 0, "`{`"),
        (r#"{ "a": 1}"#, 1, "a key"),
        (r#"{"a":1}"#, 5, "`: ` behind the key"),
        (r#"{"a":  1}"#, 6, "an integer, a string, true, false or a list of strings"),
        (r#"{"a": 1,"b": 2}"#, 8, "`, ` or `}`"),
        (r#"{"a": 1, }"#, 9, "a key"),
        (r#"{"b": 1, "a": 2}"#, 10, "a key that sorts behind the one before it"),
        (r#"{"a": 1, "a": 2}"#, 10, "a key that sorts behind the one before it"),
        (r#"{"": 1}"#, 2, "a key of at least one plain ASCII character"),
        (r#"{"\u0061": 1}"#, 2, "a key of at least one plain ASCII character"),
        (r#"{"a": 01}"#, 7, "an integer without leading zeros"),
        (r#"{"a": -0}"#, 6, "`0` without a sign"),
        (r#"{"a": -}"#, 7, "a digit"),
        (r#"{"a": 1.0}"#, 7, "`, ` or `}`"),
        (r#"{"a": 1e5}"#, 7, "`, ` or `}`"),
        (r#"{"a": 18446744073709551616}"#, 6, "an integer of at most 64 bits"),
        (r#"{"a": -9223372036854775809}"#, 6, "an integer of at most 64 bits"),
        (r#"{"a": null}"#, 6, "an integer, a string, true, false or a list of strings"),
        (r#"{"a": {}}"#, 6, "an integer, a string, true, false or a list of strings"),
        (r#"{"a": [1]}"#, 7, "a string"),
        (r#"{"a": ["x","y"]}"#, 11, "`, ` or `]`"),
        (r#"{"a": tru1}"#, 9, "`true`"),
        (r#"{"a": "\/"}"#, 8, "one of the escapes \\\" \\\\ \\n \\r \\t \\b \\f \\u"),
        (r#"{"a": "\u00E9"}"#, 11, "a lower-case hexadecimal digit"),
        (r#"{"a": "\u0041"}"#, 7, "the short form of this character"),
        (r#"{"a": "\u000a"}"#, 7, "the short form of this character"),
        (r#"{"a": "\ud800"}"#, 13, "the second half of a surrogate pair"),
        (r#"{"a": "\ud800\u0061"}"#, 15, "the second half of a surrogate pair"),
        (r#"{"a": "\udc00"}"#, 7, "a character, or a byte as \\udc80 to \\udcff"),
        (r#"{"a": "\udd00"}"#, 7, "a character, or a byte as \\udc80 to \\udcff"),
        (r#"{"a": "\udcc3\udca9"}"#, 9, "bytes that are UTF-8 as text"),
        ("{\"a\": \"\u{e9}\"}", 7, "printable ASCII or an escape in a string"),
        ("{\"a\": \"\u{7f}\"}", 7, "printable ASCII or an escape in a string"),
        ("{\"a\": \"\t\"}", 7, "printable ASCII or an escape in a string"),
        (r#"{"a": 1} "#, 8, "the end of the line behind `}`"),
        (r#"{"a": 1}{}"#, 8, "the end of the line behind `}`"),
    ] {
        let deviation = scan(line.as_bytes(), |_| ()).unwrap_err();
        assert_eq!((deviation.offset, deviation.expected), (offset, expected), "{line}");
        assert!(!deviation.is_cut(), "{line}");
    }
}

#[test]
fn every_cut_is_a_cut() {
    let line = r#"{"a": -10, "b": ["x\n", "\ud83d\ude00"], "c": "\udcff\u00e9", "d": true, "e": false}"#;
    assert_eq!(scan(line.as_bytes(), |_| ()), Ok(()));
    for end in 0..line.len() {
        let deviation = scan(&line.as_bytes()[..end], |_| ()).unwrap_err();
        assert!(deviation.is_cut(), "{end}: {deviation}");
        assert_eq!(deviation.offset, end);
    }
}

#[test]
fn the_message_shows_the_byte() {
    let shown = |line: &[u8]| scan(line, |_| ()).unwrap_err().to_string();
    assert_eq!(shown(b"[]"), "byte 0: expected `{`, found `[`");
    assert_eq!(shown(b"\xef\xbb\xbf{}"), "byte 0: expected `{`, found byte 0xef");
    assert_eq!(shown(b"{"), "byte 1: expected a key, found the end of the line");
}
