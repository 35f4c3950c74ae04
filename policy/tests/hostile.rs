//! Files made to hurt: each is refused with a place, quickly and in little memory.

use std::time::{Duration, Instant};

use policy::extend::{Resolver, Source};
use policy::{Errors, Policy, Problem, Variables};

fn refused(bytes: &[u8]) -> Errors {
    let start = Instant::now();
    let errors = Policy::parse_bytes("hostile.yaml", bytes, &Variables::new()).err();
    // Far more than any needs, far less than an attack on time would take.
    assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
    let errors = errors.expect("must be refused");
    let shown = errors.to_string();
    assert!(shown.len() < 100_000, "{} bytes of errors", shown.len());
    assert!(shown.starts_with("hostile.yaml:"), "{shown}");
    errors
}

fn first(bytes: &[u8]) -> Problem {
    refused(bytes).iter().next().expect("an error").problem.clone()
}

const BEGIN: &str = "version: 1\nname: p\n";

#[test]
fn an_alias_bomb_is_refused_at_its_first_anchor() {
    let mut text = format!("{BEGIN}vars:\n  a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (from, to) in ('a'..='y').zip('b'..='z') {
        text.push_str(&format!("  {to}: &{to} [*{from}, *{from}, *{from}, *{from}, *{from}, *{from}]\n"));
    }
    assert_eq!(first(text.as_bytes()), Problem::Alias);
}

#[test]
fn variables_cannot_be_a_bomb_either() {
    let mut text = format!("{BEGIN}vars:\n  a0: {}\n", "x".repeat(1000));
    for i in 1..60 {
        text.push_str(&format!("  a{i}: \"${{a{0}}}${{a{0}}}${{a{0}}}\"\n", i - 1));
    }
    let errors = refused(text.as_bytes());
    assert_eq!(errors.count(), 1, "only the first that grows too long: {errors}");
    assert!(errors.to_string().contains("variable `a2` becomes longer than 4096 bytes"), "{errors}");
}

#[test]
fn a_chain_of_variables_of_any_length_ends() {
    let mut text = format!("{BEGIN}vars:\n");
    for i in 0..20_000 {
        text.push_str(&format!("  v{i}: \"${{v{}}}\"\n", i + 1));
    }
    refused(text.as_bytes());
}

#[test]
fn deep_nesting_is_refused() {
    let deep = Problem::TooDeep { limit: 16 };
    for text in
        ["[".repeat(2_000_000), "- ".repeat(2_000_000), "{a: ".repeat(1_000_000), "? ".repeat(100_000)]
    {
        let problem = first(format!("{BEGIN}vars:\n  {text}").as_bytes());
        let syntax = matches!(problem, Problem::Syntax { .. } | Problem::KeyNotText);
        assert!(problem == deep || syntax, "{problem:?}");
    }
    let indented: String = (0..100).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert_eq!(first(indented.as_bytes()), deep);
    let braces = format!(
        "{BEGIN}files:\n  default: allow\n  rules:\n    - {{ name: r, deny: [read], path: [\"/{}\"] }}\n",
        "{".repeat(1_000_000)
    );
    assert!(matches!(first(braces.as_bytes()), Problem::Pattern { .. }));
}

#[test]
fn long_files_are_refused_by_their_length() {
    let text = format!("{BEGIN}# {}\n", "x".repeat(10 << 20));
    assert!(matches!(first(text.as_bytes()), Problem::TooLong { .. }));
    assert!(matches!(first(&vec![0xff; 10 << 20]), Problem::TooLong { .. }));
    // Nearly as long as a file may be, and wrong everywhere.
    for text in
        [format!("{BEGIN}{}", "x: y\n".repeat(700_000)), (0..100_000).map(|i| format!("x{i}: y\n")).collect()]
    {
        let errors = refused(text.as_bytes());
        assert_eq!(errors.count(), 1000);
        assert!(errors.to_string().ends_with("and 900 more"), "the rest is counted");
    }
    for piece in [
        "\"", "'", "|\n", "a\n", "*", "!", "%", "@", "`", ">", "\u{85}", "\r", ",", "]", "}", ": ", "-",
        "- -\n",
    ] {
        // Some of these are text after all; none may take long.
        let text = format!("{BEGIN}description: {}", piece.repeat(100_000));
        let start = Instant::now();
        let _ = Policy::parse("hostile.yaml", &text, &Variables::new());
        assert!(start.elapsed() < Duration::from_secs(60), "{piece:?} took {:?}", start.elapsed());
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let errors = refused(b"version: 1\nname: p\ndescription: \"\xc3\xa9\xff\"\n");
    assert_eq!(
        errors.to_string().lines().next(),
        Some("hostile.yaml:3:16: byte 0xff is not UTF-8 text; write other bytes of a path as `\\xff`")
    );
    let utf16: Vec<u8> = BEGIN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(&[b"\xff\xfe".as_slice(), &utf16].concat());
    assert!(matches!(first(b"\xef\xbb\xbfversion: 1\n"), Problem::ByteOrderMark));
    assert!(matches!(first(b"version: 1\nname: \x00p\n"), Problem::Invisible { code: 0 }));
    assert!(matches!(first(b"version: 1\nname: \x1b[31mp\n"), Problem::Invisible { code: 0x1b }));
    refused(b"");
    refused(b"\n\n");
    refused(b"---\n...\n");
}

#[test]
fn groups_cannot_be_a_bomb() {
    let mut text = format!("{BEGIN}groups:\n  g0: [\"/x\"]\n");
    for i in 1..60 {
        text.push_str(&format!("  g{i}: [{0}, {0}, {0}, {0}]\n", format_args!("\"@g{}\"", i - 1)));
    }
    let rules = "files: { default: allow, rules: [{ name: r, deny: [read], path: [\"@g59\", \"@g9\"] }] }\n";
    let errors = refused(format!("{text}{rules}").as_bytes());
    assert_eq!(errors.count(), 2, "{errors}");
    assert!(errors.to_string().contains("`@g9` stands for more than 4096 entries"), "{errors}");
}

/// Every path names a file that extends the next two.
struct Endless;

impl Resolver for Endless {
    fn resolve(&self, path: &str, _: &str) -> Result<Source, String> {
        let text = format!("{BEGIN}extends: [{path}a, {path}b]\nfiles: {{ default: allow }}\n");
        Ok(Source { name: path.to_owned(), bytes: text.into_bytes() })
    }
}

#[test]
fn files_that_extend_one_another_without_end_are_refused() {
    let text = format!("{BEGIN}extends: [./x, ./y]\n");
    let start = Instant::now();
    let errors =
        Policy::parse_with("hostile.yaml", text.as_bytes(), &Variables::new(), &Endless).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
    assert!(
        errors.to_string().contains("is one of more than 8 policies that extend one another"),
        "{errors}"
    );
}

#[test]
fn doubts_about_a_policy_made_to_hurt_end() {
    let stars: String = (0..24).map(|i| format!("\"/**a{}b*\", ", "?".repeat(i))).collect();
    let mut text = format!("{BEGIN}files:\n  default: deny\n  rules:\n");
    for i in 0..40 {
        for effect in ["allow", "deny"] {
            text.push_str(&format!(
                "    - {{ name: {effect}{i}, {effect}: [all], path: [{stars}\"/{i}\"] }}\n"
            ));
        }
    }
    let policy = Policy::parse("hostile.yaml", &text, &Variables::new()).unwrap();
    let start = Instant::now();
    let _ = policy.warnings();
    assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
}

#[test]
fn text_of_the_file_never_reaches_a_terminal_as_it_is() {
    // Escapes in double quotes are YAML, and come out of it as control characters.
    let text = format!(
        "{BEGIN}\"\\e[2J\\u202E\": x\nfiles:\n  default: allow\n  rules:\n    - {{ name: \"\\a\", deny: [read], path: [\"a\\nb\\e[0m\"] }}\n"
    );
    let shown = refused(text.as_bytes()).to_string();
    assert!(
        !shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
        "{}",
        shown.escape_debug()
    );
    assert_eq!(shown.lines().filter(|line| line.starts_with("hostile.yaml:")).count(), 3, "{shown}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 500, ..Default::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = Policy::parse_bytes("random", &bytes, &Variables::new());
    }

    #[test]
    fn a_policy_with_a_piece_changed_never_panics(
        at in 0..9000_usize, length in 0..20_usize, with in "[\\[\\]{}:,\"'*?\\\\ \n~|>&!%@$#a-]{0,6}"
    ) {
        let good = include_str!("../../policies/base.yaml");
        let at = (0..=at).rev().find(|at| good.is_char_boundary(*at)).unwrap_or(0);
        let end = (at + length..=good.len()).find(|end| good.is_char_boundary(*end)).unwrap_or(good.len());
        let text = format!("{}{with}{}", &good[..at], &good[end..]);
        let mut variables = Variables::new();
        variables.set("HOME", "/home/x").unwrap();
        variables.set("TMP", "/tmp").unwrap();
        match Policy::parse("changed", &text, &variables) {
            Ok(policy) => {
                let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new());
                assert_eq!(again.map(|p| p.effective_yaml()), Ok(policy.effective_yaml()));
            }
            Err(errors) => assert!(!errors.to_string().is_empty()),
        }
    }
}
