//! Suggested lines, put into the policy: they allow the attempt, and change nothing else.

use std::fmt::Write as _;
use std::net::IpAddr;

use policy::extend::{Resolver, Source};
use policy::suggest::{self, NoSuggestion, Site, Suggestion};
use policy::{
    Access, AccessSet, Act, Decision, End, Owner, Policy, Protocol, SectionKind, Subject, Variables, Verdict,
    evaluate,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A policy that can be added to, and the text that it extends.
#[derive(Clone, Debug)]
struct Draft {
    mode: &'static str,
    /// Default and rules of files, exec and network.
    sections: [(&'static str, Vec<Entry>); 3],
    base: [(&'static str, Vec<Entry>); 3],
    /// Entries as suggested.
    more: [Vec<String>; 3],
    kernel: Option<String>,
}

/// A rule.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    /// The keys but `name` and `except`.
    keys: String,
    except: Vec<String>,
}

const KINDS: [SectionKind; 3] = SectionKind::ALL;

impl Draft {
    fn text(&self) -> String {
        let mut text = format!("version: 1\nname: p\nmode: {}\nextends: [./base.yaml]\n", self.mode);
        sections(&mut text, &self.sections, &self.more);
        text.extend(self.kernel.iter().flat_map(|line| [line.as_str(), "\n"]));
        text
    }

    fn policy(&self, variables: &Variables) -> Policy {
        let text = self.text();
        Policy::parse_with("p.yaml", text.as_bytes(), variables, self)
            .unwrap_or_else(|errors| panic!("{errors}\n\n{text}"))
    }

    /// The draft with the lines where they belong.
    fn with(&self, suggestion: &Suggestion) -> Self {
        let mut draft = self.clone();
        for edit in &suggestion.edits {
            match &edit.site {
                Site::Kernel => draft.kernel = Some(edit.line.clone()),
                Site::Rules(kind) => draft.more[*kind as usize].push(edit.line.clone()),
                Site::Rule { section, rule } => {
                    let inside = edit.line.strip_prefix("except: [").and_then(|rest| rest.strip_suffix(']'));
                    let rules = &mut draft.sections[*section as usize].1;
                    let entry =
                        rules.iter_mut().find(|entry| entry.name == *rule).expect("a rule of the file");
                    entry.except.push(inside.expect("a list").to_owned());
                }
            }
        }
        draft
    }
}

fn sections(text: &mut String, sections: &[(&'static str, Vec<Entry>); 3], more: &[Vec<String>; 3]) {
    for ((kind, (default, rules)), more) in KINDS.iter().zip(sections).zip(more) {
        let _ = writeln!(text, "{}:\n  default: {default}\n  rules:", kind.name());
        for Entry { name, keys, except } in rules {
            let except =
                if except.is_empty() { String::new() } else { format!(", except: [{}]", except.join(", ")) };
            let _ = writeln!(text, "    - {{ name: {name}, {keys}{except} }}");
        }
        // A list is never empty here.
        let key = if *kind == SectionKind::Network { "to: [\"203.0.113.9\"]" } else { "path: [\"/never\"]" };
        let access = kind.accesses().iter().next().expect("an access").name();
        let _ = writeln!(text, "    - {{ name: last-{}, allow: [{access}], {key} }}", kind.name());
        for line in more {
            let _ = writeln!(text, "    {line}");
        }
    }
}

impl Resolver for Draft {
    fn resolve(&self, _: &str, _: &str) -> Result<Source, String> {
        let mut text = "version: 1\nname: base\n".to_owned();
        sections(&mut text, &self.base, &Default::default());
        Ok(Source { name: "base.yaml".to_owned(), bytes: text.into_bytes() })
    }
}

const PATHS: [&str; 9] = [
    "/",
    "/a",
    "/a/b",
    "/a/b c",
    "/home/u",
    "/home/u/.npmrc",
    "/home/u/ws/[x]/a,b",
    "/etc/é\n\u{200b}",
    "/usr/bin/npm",
];
const PATTERNS: [&str; 8] = [
    "\"/**\"",
    "\"/a/**\"",
    "\"**/b\"",
    "\"/a/b\"",
    "\"/home/u/**\"",
    "\"${WORKSPACE}/**\"",
    "\"/{etc,usr}/**\"",
    "\"/a/?\"",
];
const TARGETS: [&str; 9] = [
    "any",
    "localhost",
    "\"10.0.0.0/8\"",
    "\"10.0.0.1:443/tcp\"",
    "\"[2001:db8::]/32:1-500\"",
    "\"api.example\"",
    "\"own:80\"",
    "\"unix:/run/**\"",
    "\"unix:@b*\"",
];
const EXES: [&str; 4] = ["", "/usr/bin/npm", "/usr/bin/node", "/bin/sh"];
const WHO: [&str; 6] = [
    "",
    "",
    ", by: [\"**/npm\"]",
    ", unless_by: [\"**/node\"]",
    ", under: [\"**/sh\"]",
    ", by: [\"/usr/**\"], under: [\"**/npm\"]",
];
const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Effect, accesses, objects, exception, who, on trial, by contents.
type Generated =
    (&'static str, Vec<&'static str>, Vec<&'static str>, Option<&'static str>, &'static str, bool, bool);

fn rules(kind: SectionKind, prefix: &'static str) -> impl Strategy<Value = Vec<Entry>> {
    let accesses: Vec<&str> = kind.accesses().iter().map(Access::name).collect();
    let count = accesses.len();
    let (key, objects) =
        if kind == SectionKind::Network { ("to", &TARGETS[..]) } else { ("path", &PATTERNS[..]) };
    let rule = (
        select(&["allow", "deny", "deny", "ask"][..]),
        subsequence(accesses, 1..=count),
        subsequence(objects, 1..=2),
        proptest::option::weighted(0.3, select(objects)),
        select(&WHO[..]),
        proptest::bool::weighted(0.15),
        proptest::bool::weighted(0.2),
    );
    proptest::collection::vec(rule, 0..5).prop_map(move |rules| {
        let entry = |(at, rule): (usize, Generated)| {
            let (effect, accesses, objects, except, who, trial, digest) = rule;
            let trial = if trial && effect != "allow" { ", mode: audit" } else { "" };
            let accesses = accesses.join(", ");
            let object = if digest && kind == SectionKind::Exec {
                format!("sha256: [{SHA256}]")
            } else {
                format!("{key}: [{}]", objects.join(", "))
            };
            let name = format!("{prefix}{}{at}", kind.name());
            let except = except.into_iter().map(str::to_owned).collect();
            Entry { name, keys: format!("{effect}: [{accesses}], {object}{who}{trial}"), except }
        };
        rules.into_iter().enumerate().map(entry).collect()
    })
}

fn all_sections(prefix: &'static str) -> impl Strategy<Value = [(&'static str, Vec<Entry>); 3]> {
    let default = || select(&["allow", "deny"][..]);
    KINDS.map(|kind| (default(), rules(kind, prefix)))
}

fn drafts() -> impl Strategy<Value = Draft> {
    let mode = prop_oneof![4 => Just("enforce"), 1 => Just("audit")];
    (mode, all_sections("r"), all_sections("b")).prop_map(|(mode, sections, base)| Draft {
        mode,
        sections,
        base,
        more: Default::default(),
        kernel: None,
    })
}

fn variables() -> Variables {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/u").expect("HOME is given");
    variables.set("TMP", "/tmp").expect("TMP is given");
    variables.set_workspace("/home/u/ws").expect("a workspace");
    variables
}

/// Which of [`ends`] is the unspecified address.
const UNSPECIFIED: usize = 4;

/// Everything that is tried, by section, with the number of its object.
fn ends() -> Vec<End<'static>> {
    let address = |text: &str, port, protocol, names: &'static [&'static str], owner| {
        let address: IpAddr = text.parse().expect("an address");
        End::Address { address, port, protocol, names, owner }
    };
    vec![
        address("10.0.0.1", 443, Protocol::Tcp, &[], Owner::Elsewhere),
        address("10.0.0.1", 443, Protocol::Udp, &[], Owner::Elsewhere),
        address("10.0.0.1", 80, Protocol::Tcp, &["api.example"], Owner::Elsewhere),
        address("10.0.0.2", 0, Protocol::Other, &[], Owner::Elsewhere),
        address("0.0.0.0", 80, Protocol::Tcp, &[], Owner::Run),
        address("127.0.0.2", 80, Protocol::Udp, &[], Owner::Run),
        address("::ffff:10.0.0.9", 80, Protocol::Tcp, &[], Owner::Elsewhere),
        address("2001:db8::1", 53, Protocol::Udp, &[], Owner::Elsewhere),
        End::Path(b"/run/x.sock"),
        End::Path(b"/home/u/a*b"),
        End::Abstract(b"bus/\xff"),
    ]
}

/// All that can be tried of a section: the object's number and the access.
fn acts(kind: SectionKind, ends: &[End<'static>], accesses: AccessSet) -> Vec<(usize, Act<'static>)> {
    let paths = PATHS.iter().enumerate();
    match kind {
        SectionKind::Files => {
            paths.map(|(at, path)| (at, Act::File { accesses, path: path.as_bytes() })).collect()
        }
        SectionKind::Exec => {
            paths.map(|(at, path)| (at, Act::Exec { path: path.as_bytes(), sha256: None })).collect()
        }
        SectionKind::Network => {
            ends.iter().enumerate().map(|(at, end)| (at, Act::Network { accesses, end: *end })).collect()
        }
    }
}

fn told(verdict: &Verdict<'_>) -> (Decision, String, Option<Decision>) {
    let audited = verdict.audited.as_ref().map(|audited| audited.decision);
    (verdict.decision, verdict.rule.to_string(), audited)
}

/// How strict a verdict is, first as law, then with what is on trial.
fn strict(verdict: &Verdict<'_>) -> (Decision, Decision) {
    (verdict.decision, verdict.audited.as_ref().map_or(verdict.decision, |audited| audited.decision))
}

/// Whether something closes it, as law or on trial.
fn closed(verdict: &Verdict<'_>) -> bool {
    verdict.decision != Decision::Allow || verdict.audited.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_suggestion_allows_the_attempt_and_nothing_else(
        draft in drafts(),
        kind in select(&KINDS[..]),
        object in any::<prop::sample::Index>(),
        mask in 1u16..64,
        exe in select(&EXES[..]),
        known in any::<bool>(),
    ) {
        let variables = variables();
        let ends = ends();
        let tried: AccessSet =
            kind.accesses().iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0).map(|(_, a)| a).collect();
        let tried = if tried.is_empty() || kind == SectionKind::Exec {
            kind.accesses().iter().next().into_iter().collect()
        } else {
            tried
        };
        let ancestors: &[&[u8]] = if known { &[b"/bin/sh"] } else { &[b""] };
        let subject = Subject { exe: exe.as_bytes(), ancestors };
        let acts_tried = acts(kind, &ends, tried);
        let (number, act) = acts_tried[object.index(acts_tried.len())];

        let before = draft.policy(&variables);
        let verdict = evaluate::judge(&before, &subject, &act);
        let suggestion = match suggest::narrowest(&before, &subject, &act, &variables) {
            Ok(suggestion) => suggestion,
            Err(NoSuggestion::Allowed) => {
                prop_assert!(!closed(&verdict));
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(format!("{other}"))),
        };
        prop_assert!(closed(&verdict));
        let decided = match (verdict.decision, &verdict.audited) {
            (Decision::Allow, Some(audited)) => audited.rule,
            _ => verdict.rule,
        };
        prop_assert_eq!(&suggestion.rule, decided);

        let amended = draft.with(&suggestion);
        let after = amended.policy(&variables);
        let now = evaluate::judge(&after, &subject, &act);
        prop_assert_eq!(now.decision, Decision::Allow, "{}\n{}", suggestion, amended.text());
        if verdict.decision == Decision::Allow {
            prop_assert_eq!(&now.audited, &None, "{}\n{}", suggestion, amended.text());
        }
        // Each line is needed.
        for left_out in 0..suggestion.edits.len() {
            let mut fewer = suggestion.clone();
            fewer.edits.remove(left_out);
            let policy = draft.with(&fewer).policy(&variables);
            let verdict_then = evaluate::judge(&policy, &subject, &act);
            let still = if verdict.decision == Decision::Allow { closed(&verdict_then) } else { verdict_then.decision != Decision::Allow };
            prop_assert!(still, "{}\nline {} is not needed", suggestion, left_out);
        }

        for exe in EXES {
            for ancestors in [&[b"/bin/sh" as &[u8]] as &[&[u8]], &[b""]] {
                let other = Subject { exe: exe.as_bytes(), ancestors };
                for other_kind in KINDS {
                    for access in other_kind.accesses().iter() {
                        for (at, act) in acts(other_kind, &ends, access.into()) {
                            let was = evaluate::judge(&before, &other, &act);
                            let is = evaluate::judge(&after, &other, &act);
                            if other_kind == kind && at == number {
                                let opened = tried.contains(access) || suggestion.also.contains(access);
                                // What is reached at 0.0.0.0 is named 127.0.0.1.
                                let named = kind != SectionKind::Network || at != UNSPECIFIED;
                                if other == subject && named && suggestion.also.contains(access) {
                                    let (was, is) = (strict(&was), strict(&is));
                                    let looser = if verdict.decision == Decision::Allow { is < was } else { is.0 < was.0 };
                                    prop_assert!(looser, "{} is not loosened: {}", access, suggestion);
                                }
                                if other == subject && !opened {
                                    // What asked may fall to a default that denies.
                                    prop_assert!(strict(&is) >= strict(&was), "{}: {}", suggestion, access);
                                }
                                continue;
                            }
                            prop_assert_eq!(told(&was), told(&is), "{}\n{:?} {:?}", suggestion, act, other);
                        }
                    }
                }
            }
        }
    }
}

fn small(text: &str) -> Policy {
    Policy::parse("p.yaml", &format!("version: 1\nname: p\n{text}"), &variables())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn suggested(policy: &Policy, act: &Act<'_>) -> String {
    let found = suggest::narrowest(policy, &Subject::UNKNOWN, act, &variables());
    found.map_or_else(|why| format!("none: {why}"), |found| found.to_string())
}

fn open<'a>(path: &'a str, accesses: &[Access]) -> Act<'a> {
    Act::File { accesses: accesses.iter().copied().collect(), path: path.as_bytes() }
}

#[test]
fn lines_are_what_a_person_would_write() {
    use Access::{Read, Write};
    let policy = small(
        r#"
extends: [base@1]
files:
  default: deny
  rules:
    - { name: ours, deny: [read, write], path: ["${WORKSPACE}/keep/**"] }
    - { name: all, allow: [read, write], path: ["/home/**"] }
network:
  default: deny
kernel: { allow: [userns] }
"#,
    );
    let cases = [
        (
            open("/etc/my hosts", &[Read, Write]),
            r#"- { name: read-my-hosts, allow: [read, write], path: ["/etc/my hosts"] }  # in files"#,
        ),
        (
            open("/home/u/ws/keep/[a]", &[Read]),
            r#"except: ["${WORKSPACE}/keep/\\[a\\]"]  # in rule ours; opens write too"#,
        ),
        (
            open("/home/u/.ssh/id_rsa", &[Read]),
            r#"- { amend: base/credentials, except: ["${HOME}/.ssh/id_rsa"] }  # in files; opens write too"#,
        ),
        (open("/home/user", &[Read]), "none: nothing denies it"),
        (open("pipe:[12]", &[Read]), "none: no pattern can name it"),
        (open("/srv/a\0b", &[Read]), "none: no pattern can name it"),
        (
            Act::Network { accesses: Access::Connect.into(), end: ends()[7] },
            r#"- { name: connect-2001-db8-1-53, allow: [connect], to: ["[2001:db8::1]:53/udp"] }  # in network"#,
        ),
        (
            Act::Network { accesses: Access::Bind.into(), end: ends()[UNSPECIFIED] },
            r#"- { name: bind-0.0.0.0-80, allow: [bind], to: ["0.0.0.0:80/tcp"] }  # in network"#,
        ),
        (
            Act::Network { accesses: Access::Connect.into(), end: ends()[UNSPECIFIED] },
            r#"- { name: connect-own-80, allow: [connect], to: ["own:80/tcp"] }  # in network"#,
        ),
        (Act::Network { accesses: Access::Connect.into(), end: End::Other }, "none: no target can name it"),
    ];
    for (act, line) in cases {
        assert_eq!(suggested(&policy, &act), line, "{act:?}");
    }
    let kernel = suggest::kernel(&policy, "mount").unwrap();
    assert_eq!(kernel.to_string(), "kernel: { allow: [mount, userns] }  # at the top");
    assert_eq!(kernel.rule.as_str(), "p/kernel.default");
    assert_eq!(suggest::kernel(&policy, "userns"), Err(NoSuggestion::Allowed));
    assert_eq!(suggest::kernel(&policy, "magic"), Err(NoSuggestion::Kernel));
}

#[test]
fn names_are_not_given_twice() {
    let policy =
        small("files: { default: deny, rules: [{ name: read-a, allow: [read], path: [\"/x\"] }] }\n");
    let variables = Variables::new();
    let mut suggester = suggest::Suggester::new(&policy, &variables);
    let mut name = |path: &str| {
        let found = suggester.narrowest(&Subject::UNKNOWN, &open(path, &[Access::Read])).unwrap();
        found.edits[0].line.split([' ', ',']).nth(3).unwrap().to_owned()
    };
    assert_eq!(
        [name("/1/a"), name("/2/a"), name("/-.-"), name("/")],
        ["read-a-2", "read-a-3", "read", "read-2"]
    );
    // What was asked before has the line that it had.
    assert_eq!([name("/2/a"), name("/3/a"), name("/1/a")], ["read-a-3", "read-a-4", "read-a-2"]);
}

#[test]
fn lines_for_several_allow_it_to_each_and_touch_nothing_else() {
    use Access::{Read, Write};
    let policy = small(
        r#"
files:
  default: deny
  rules:
    - { name: node, allow: [read], path: ["/x"], by: ["/bin/node"] }
    - { name: no-sh, deny: [write], path: ["/x"], by: ["/bin/sh"] }
    - { name: no-cat, deny: [read], path: ["/x"], by: ["/bin/cat"] }
"#,
    );
    let variables = variables();
    let by = |exe: &'static str| Subject { exe: exe.as_bytes(), ancestors: &[] };
    let lines = |subjects: &[Subject<'_>], accesses: &[Access]| {
        let found =
            suggest::Suggester::new(&policy, &variables).narrowest_for(subjects, &open("/x", accesses));
        found.map_or_else(
            |why| vec![why.to_string()],
            |found| found.edits.iter().map(|e| e.to_string()).collect(),
        )
    };
    let reads = r#"- { name: read-x, allow: [read], path: ["/x"] }  # in files"#;
    assert_eq!(lines(&[by("/bin/node")], &[Read]), ["nothing denies it"]);
    assert_eq!(lines(&[by("/bin/node"), by("/bin/sh")], &[Read]), [reads], "no-cat is about neither");
    assert_eq!(
        lines(&[by("/bin/node"), by("/bin/cat")], &[Read]),
        [r#"except: ["/x"]  # in rule no-cat"#, reads]
    );
    let both = r#"- { name: read-x, allow: [read, write], path: ["/x"] }  # in files"#;
    assert_eq!(
        lines(&[by("/bin/node"), by("/bin/sh")], &[Read, Write]),
        [r#"except: ["/x"]  # in rule no-sh"#, both]
    );
}
