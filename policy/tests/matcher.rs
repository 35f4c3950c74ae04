//! The oracle's matcher against regular expressions: a third opinion, written from the language's text.

use policy::{Access, Decision, Policy, Variables, evaluate};
use proptest::prelude::*;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::{Anchored, Input, util::syntax};

/// A glob and the regular expression that means the same; built side by side, component by component.
fn both() -> impl Strategy<Value = (String, String)> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![("a", "a"), ("b", "b"), (".", r"\."), ("+", r"\+"), (r"\*", r"\*"), (r"\xff", r"\xFF")]),
        1 => Just(("?", "[^/]")),
        1 => Just(("[a-c]", "[a-c]")),
        1 => Just(("[!a]", "[^a/]")),
        1 => Just(("{a,bb,{c,}d}", "(?:a|bb|(?:c|)d)")),
    ];
    let pieces = prop::collection::vec(piece, 1..4).prop_map(|pieces| {
        let join = |part: fn(&(&str, &str)) -> String| pieces.iter().map(part).collect::<String>();
        (join(|p| p.0.to_owned()), join(|p| p.1.to_owned()))
    });
    let named = (pieces.clone(), pieces.clone())
        .prop_map(|(a, b)| (format!("{}*{}", a.0, b.0), format!("{}[^/]*{}", a.1, b.1)));
    let crossing = (pieces.clone(), pieces.clone())
        .prop_map(|(a, b)| (format!("{}**{}", a.0, b.0), format!("{}.*{}", a.1, b.1)));
    let component = prop_oneof![
        4 => pieces,
        2 => named,
        1 => crossing,
        1 => Just(("*".to_owned(), "[^/]+".to_owned())),
    ];
    let component = component.prop_filter("dots", |(glob, _)| glob != "." && glob != "..");
    let gap = prop_oneof![4 => Just(("/", "/")), 1 => Just(("/**/", "/(?:.*/)?"))];
    let end = prop_oneof![2 => Just(("", "")), 1 => Just(("/**", "(?:/.*)?"))];
    let start = prop_oneof![2 => Just(("/", "/")), 1 => Just(("**/", "/(?:.*/)?"))];
    (start, component.clone(), prop::collection::vec((gap, component), 0..3), end)
        .prop_map(|(start, first, more, end)| {
            let mut glob = format!("{}{}", start.0, first.0);
            let mut regex = format!("{}{}", start.1, first.1);
            for ((glob_gap, regex_gap), (glob_part, regex_part)) in more {
                glob.push_str(&format!("{glob_gap}{glob_part}"));
                regex.push_str(&format!("{regex_gap}{regex_part}"));
            }
            (format!("{glob}{}", end.0), format!("{regex}{}", end.1))
        })
        // Four alternatives each: a sixth would be more than a pattern may have.
        .prop_filter("braces", |(glob, _)| glob.matches("{a,").count() <= 5)
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(b"aabbccd..+*x\n\xff//".to_vec());
    prop::collection::vec(byte, 0..14)
        .prop_map(|bytes| [b"/".as_slice(), &bytes].concat())
        .prop_filter("clean", |path| {
            !path.windows(2).any(|pair| pair == b"//") && (path.len() == 1 || !path.ends_with(b"/"))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn globs_match_as_their_regular_expressions((glob, regex) in both(), paths in prop::collection::vec(path(), 1..50)) {
        let text = format!(
            "version: 1\nname: p\nfiles: {{ default: allow, rules: [{{ name: r, deny: [read], path: ['{glob}'] }}] }}\n"
        );
        let policy = Policy::parse("generated", &text, &Variables::new()).unwrap_or_else(|errors| panic!("{errors}"));
        let dfa = dense::Builder::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
            .build(&format!("(?:{regex})$"))
            .unwrap();
        for path in paths {
            let verdict = evaluate::file(&policy, Access::Read.into(), &path);
            let found = dfa.try_search_fwd(&Input::new(&path).anchored(Anchored::Yes)).unwrap();
            prop_assert_eq!(
                verdict.decision == Decision::Deny, found.is_some(),
                "{} as {} on {}", glob, regex, path.escape_ascii()
            );
        }
    }
}

#[test]
fn a_search_of_the_third_opinion_does_find_things() {
    let dfa = dense::Builder::new().build("(?:/a[^/]+)$").unwrap();
    assert!(
        dfa.has_empty() || dfa.try_search_fwd(&Input::new("/abc").anchored(Anchored::Yes)).unwrap().is_some()
    );
}
