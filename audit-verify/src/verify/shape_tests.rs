//! Whatever has a known shape is canonical, and says what is due.

use proptest::prelude::*;

use super::*;
use crate::canonical::{ObjectWriter, scan};

const PREV: &[u8; 64] = &[b'1'; 64];

fn due(seq: u64) -> Due<'static> {
    Due { prev: PREV, seq: Decimal::new(seq) }
}

/// The members of a canonical line that ends with a newline.
fn places(line: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    scan(line.strip_suffix(b"\n").unwrap(), |member| {
        let role = match (member.key, member.raw) {
            ("hash_prev", _) => Role::Prev,
            ("hash_self", _) => Role::Itself,
            ("seq", _) => Role::Seq,
            ("event_type" | "run_id", _) => Role::Fixed,
            (_, raw) => Role::of(raw),
        };
        let value = member.start + member.key.len() + 4;
        places.push(Place { start: member.start, value, end: member.end, role });
    })
    .unwrap();
    places
}

fn learn(shapes: &mut Shapes, line: &[u8]) {
    shapes.learn(line, &places(line));
}

/// Line `seq`, with values of many forms that change from line to line or do not.
fn line(seq: u64) -> Vec<u8> {
    let mut line = Vec::new();
    let mut object = ObjectWriter::new(&mut line);
    let path = format!("/usr/lib/x86_64-linux-gnu/{}.so", "x".repeat(seq as usize % 40));
    object.list("argv", ["cc", "-D\"x\"", &path]).put("comm", "make").put("cwd", "");
    object.put("event_type", "exec").put("hash_prev", str(PREV)).put("hash_self", str(&[b'2'; 64]));
    object.put("ok", seq.is_multiple_of(2)).put("path", path.as_str()).put("pid", 4000 + seq * 7 % 19);
    object.put("ret", if seq.is_multiple_of(3) { -2 } else { 0 }).put("run_id", "20260721-101010-test");
    object.put("seq", seq).put("uid", 1000).put("v", 1);
    object.finish().unwrap();
    line.push(b'\n');
    line
}

fn str(digits: &[u8; 64]) -> &str {
    std::str::from_utf8(digits).unwrap()
}

/// Shapes that know lines 1 to 7.
fn warm() -> Shapes {
    let mut shapes = Shapes::default();
    (1..8).for_each(|seq| learn(&mut shapes, &line(seq)));
    shapes
}

/// Whether a shape is found; if one is, all that is promised of it holds.
#[track_caller]
fn found(shapes: &Shapes, text: &[u8], due: &Due<'_>) -> bool {
    let Some(Found { itself, length }) = shapes.clone().find(text, due) else { return false };
    let mut line = text[..length].to_vec();
    // Of these bytes nothing is promised.
    line[itself..itself + 64].fill(b'0');
    let line = line.strip_suffix(b"\n").expect("a newline");
    let mut members = Vec::new();
    scan(line, |member| members.push((member.key, member.raw, member.start)))
        .unwrap_or_else(|deviation| panic!("{deviation}: {}", line.escape_ascii()));
    let of = |key| members.iter().find(|(name, _, _)| *name == key).expect(key);
    assert_eq!(of("hash_prev").1.as_text(), Some(&due.prev[..]));
    assert_eq!(of("seq").1.as_u64(), Some(due.seq.value()));
    assert_eq!(of("event_type").1.as_text(), Some(&b"exec"[..]));
    assert_eq!(of("run_id").1.as_text(), Some(&b"20260721-101010-test"[..]));
    assert_eq!(of("hash_self").2 + b"\"hash_self\": \"".len(), itself);
    true
}

/// `line` with what may stand behind it in a log.
fn and_more(line: &[u8]) -> Vec<u8> {
    [line, b"{\"action\": \"OBSERVED\"}\n"].concat()
}

#[test]
fn lines_like_those_before_are_found() {
    let shapes = warm();
    for seq in 8..500 {
        assert!(found(&shapes, &and_more(&line(seq)), &due(seq)), "{seq}");
        assert!(!found(&shapes, &and_more(&line(seq)), &due(seq + 1)));
        assert!(!found(&shapes, &and_more(&line(seq)), &Due { prev: &[b'3'; 64], ..due(seq) }));
    }
    assert!(!found(&Shapes::default(), &and_more(&line(8)), &due(8)));
}

#[test]
fn a_cut_anywhere_is_seen() {
    let line = line(8);
    for end in 0..line.len() {
        assert!(!found(&warm(), &line[..end], &due(8)), "{end}");
        found(&warm(), &and_more(&line[..end]), &due(8));
        found(&warm(), &and_more(&[&line[..end], b"\n"].concat()), &due(8));
    }
    // With nothing behind it, it may be found or not.
    found(&warm(), &line, &due(8));
}

#[test]
fn any_other_byte_anywhere_is_canonical_or_not_found() {
    let shapes = warm();
    let line = and_more(&line(8));
    let mut accepted = 0;
    for at in 0..line.len() - b"{\"action\": \"OBSERVED\"}\n".len() {
        for byte in 0..=255 {
            let mut text = line.clone();
            text[at] = byte;
            accepted += usize::from(found(&shapes, &text, &due(8)));
            text.insert(at, line[at]);
            found(&shapes, &text, &due(8));
        }
        found(&shapes, &[&line[..at], &line[at + 1..]].concat(), &due(8));
    }
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn values_that_look_like_the_last_ones() {
    let shapes = warm();
    let line = line(8);
    for place in places(&line) {
        for value in [
            "0",
            "00",
            "01",
            "-0",
            "-",
            "-1",
            "- 1",
            "1.0",
            "1e5",
            "1 ",
            " 1",
            "+1",
            "0x1",
            "12345678",
            "123456789012345",
            "1234567890123456",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "true",
            "false",
            "True",
            "null",
            "[]",
            "[\"\"]",
            "[ ]",
            "[1]",
            "{}",
            "\"\"",
            "\"",
            "\"a",
            "\"a\"\"",
            "\"\\u0041\"",
            "\"\\u00e9\"",
            "\"\\u00E9\"",
            "\"\\n\"",
            "\"\\u000a\"",
            "\"\\/\"",
            "\"\\\"",
            "\"\\\\\"",
            "\"\\udcc3\\udca9\"",
            "\"\\udcff\"",
            "\"\u{e9}\"",
            "\"\u{7f}\"",
            "\"1000\"",
            "\"x\", \"y\": \"z\"",
            "1, \"y\": 2",
            "",
            "\"make\\u0000\"",
            "\"make\0\"",
        ] {
            let text = [&line[..place.value], value.as_bytes(), &line[place.end..]].concat();
            found(&shapes, &and_more(&text), &due(8));
        }
    }
}

/// Lines of the same members in other orders, and of almost the same.
#[test]
fn keys_that_look_like_those_before() {
    let shapes = warm();
    let line = line(8);
    let members: Vec<&[u8]> = places(&line).iter().map(|place| &line[place.start..place.end]).collect();
    let print = |members: &[&[u8]]| and_more(&[b"{", &members.join(&b", "[..])[..], b"}\n"].concat());
    assert!(found(&shapes, &print(&members), &due(8)));
    for one in 0..members.len() {
        for other in 0..members.len() {
            let mut swapped = members.clone();
            swapped.swap(one, other);
            assert_eq!(found(&shapes, &print(&swapped), &due(8)), one == other);
            let mut twice = members.clone();
            twice.insert(other, members[one]);
            assert!(!found(&shapes, &print(&twice), &due(8)));
        }
        let mut fewer = members.clone();
        fewer.remove(one);
        assert!(!found(&shapes, &print(&fewer), &due(8)));
        // A key that is the same up to a length.
        for length in 1..40 {
            let (key, value) =
                members[one].split_at(members[one].iter().position(|b| *b == b':').unwrap() - 1);
            let longer = [key, &vec![b'x'; length][..], value].concat();
            let mut other = members.clone();
            other[one] = &longer;
            assert!(!found(&shapes, &print(&other), &due(8)));
        }
    }
}

/// One line with `keys` among those of every line.
fn with(keys: &[String]) -> Vec<u8> {
    let mut line = Vec::new();
    let mut object = ObjectWriter::new(&mut line);
    keys.iter().for_each(|key| _ = object.put(key, 1));
    object.put("event_type", "exec").put("hash_prev", str(PREV)).put("hash_self", str(&[b'2'; 64]));
    object.put("run_id", "20260721-101010-test").put("seq", 8);
    object.finish().unwrap();
    line.push(b'\n');
    line
}

#[test]
fn what_is_kept_is_bounded_and_new_shapes_are_learned_all_the_same() {
    let mut shapes = Shapes::default();
    for number in 0..10_000 {
        learn(&mut shapes, &with(&[format!("a{number}")]));
    }
    assert_eq!(shapes.known.len(), SHAPES);
    let late = with(&["b".to_owned()]);
    assert!(!found(&shapes, &and_more(&late), &due(8)));
    (0..PATIENCE).for_each(|_| learn(&mut shapes, &late));
    assert!(found(&shapes, &and_more(&late), &due(8)));

    let mut shapes = Shapes::default();
    learn(&mut shapes, &with(&["a".repeat(LINE)]));
    learn(&mut shapes, &with(&(100..100 + MEMBERS).map(|number| format!("a{number}")).collect::<Vec<_>>()));
    assert!(shapes.known.is_empty());
}

#[test]
fn numbers_count_up_as_they_are_written() {
    for from in
        [0, 1, 8, 98, 995, 9_999_998, 999_999_999_999_998, 9_999_999_999_999_990, 99_999_999_999_999_990]
    {
        let mut number = Decimal::new(from);
        for value in from..from + 20 {
            assert_eq!(number.value(), value);
            let text = value.to_string() + ", \"uid\": 1000, \"v\": 1}";
            let length = value.to_string().len();
            assert_eq!(number.begins(text.as_bytes()), (length <= CHUNK).then_some(length), "{text}");
            for at in 0..length {
                let mut other = text.clone().into_bytes();
                other[at] ^= 1;
                assert_eq!(number.begins(&other), None);
            }
            number.advance();
        }
    }
}

proptest! {
    /// Lines of few members, so that almost equal ones meet.
    #[test]
    fn made_up_lines_in_any_order(
        lines in proptest::collection::vec(
            (proptest::collection::btree_map("[a-d]{1,2}", "[0-9]{1,17}|-?[0-9]{1,2}|\"[ab\\\\n\"]{0,20}\"|true|\\[\"a\"\\]", 0..4), 0usize..4),
            1..12,
        ),
    ) {
        let mut shapes = Shapes::default();
        for (members, more) in lines {
            let common = with(&[]);
            let own = members.iter().map(|(key, value)| format!("\"{key}\": {value}, ")).collect::<String>();
            let line = [b"{", own.as_bytes(), &common[1..]].concat();
            found(&shapes, &[&line[..], &vec![b'{'; more * 8][..]].concat(), &due(8));
            if scan(&line[..line.len() - 1], |_| ()).is_ok() {
                learn(&mut shapes, &line);
                prop_assert!(found(&shapes, &and_more(&line), &due(8)));
            }
        }
    }
}
