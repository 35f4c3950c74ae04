//! Rules about what is there when a run starts.

use std::cell::Cell;
use std::collections::BTreeMap;

use policy::existing::{Entry, ExistingFault, MOST_PLACES, Tree};
use policy::{Access, Decision, Policy, Variables, evaluate};
use proptest::prelude::*;
use proptest::sample::select;

/// A file system: paths, and whether they are directories.
#[derive(Debug, Default)]
struct Paths(BTreeMap<String, bool>, Cell<usize>);

impl Paths {
    fn new<'p>(files: impl IntoIterator<Item = &'p str>) -> Self {
        let mut paths = BTreeMap::new();
        for file in files {
            for (at, _) in file.match_indices('/').skip(1) {
                paths.insert(file[..at].to_owned(), true);
            }
            paths.entry(file.to_owned()).or_insert(false);
        }
        Self(paths, Cell::new(0))
    }
}

impl Tree for Paths {
    fn look(&self, path: &[u8]) -> Result<Option<bool>, String> {
        Ok(self.0.get(&*String::from_utf8_lossy(path)).copied())
    }

    fn list(&self, directory: &[u8]) -> Result<Vec<Entry>, String> {
        self.1.set(self.1.get() + 1);
        let directory = &*String::from_utf8_lossy(directory);
        assert!(directory.ends_with('/'));
        let entries = self.0.iter().filter_map(|(path, is_directory)| {
            let name = path.strip_prefix(directory).filter(|name| !name.contains('/'))?;
            Some(Entry { name: name.into(), is_directory: *is_directory })
        });
        Ok(entries.collect())
    }
}

fn parse(text: &str) -> Policy {
    try_parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn try_parse(text: &str) -> Result<Policy, policy::Errors> {
    Policy::parse("p.yaml", &format!("version: 1\nname: p\n{text}"), &Variables::new())
}

fn files(default: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("    - {{ {rule} }}\n")).collect();
    format!("files:\n  default: {default}\n  rules:\n{rules}")
}

fn reads(policy: &Policy, path: &str) -> Decision {
    evaluate::file(policy, Access::Read.into(), path.as_bytes()).decision
}

const SECRETS: &str = "name: secrets, deny: [read], existing: [\"/w/**/.env\", \"/w/**/*.pem\", \"/w/.git/{config,hooks/**}\"], \
                       except: [\"/w/test/**\"]";

#[test]
fn a_rule_is_about_what_is_there_and_nothing_later() {
    let policy = parse(&files("allow", &[SECRETS]));
    // Before it is looked up, as if all was there.
    assert_eq!(reads(&policy, "/w/new/.env"), Decision::Deny);
    assert!(policy.has_existing());
    let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
    assert_eq!(again.effective_yaml(), policy.effective_yaml());
    assert!(policy.effective_yaml().contains("      existing: [\"/w/**/.env\", "));

    let tree = Paths::new([
        "/w/.env",
        "/w/a/b/.env",
        "/w/a/key.pem",
        "/w/test/key.pem",
        "/w/.git/config",
        "/w/venv/.env/x",
    ]);
    let policy = policy.with_existing(&tree).unwrap();
    assert!(!policy.has_existing());
    for path in
        ["/w/.env", "/w/a/b/.env", "/w/a/key.pem", "/w/.git/config", "/w/venv/.env/lib/x", "/w/venv/.env"]
    {
        assert_eq!(reads(&policy, path), Decision::Deny, "{path}");
    }
    for path in ["/w/new/.env", "/w/key.pem", "/w/test/key.pem", "/w/.git/hooks/x", "/w/a", "/w/.envs"] {
        assert_eq!(reads(&policy, path), Decision::Allow, "{path}");
    }
    let text = policy.effective_yaml();
    assert!(!text.contains("existing") && !text.contains("**/.env"), "{text}");
    // Each directory was looked into once for both patterns; what the rule denies whole, and what no pattern leads to,
    // was not.
    assert_eq!(tree.1.get(), 6, "/w/, a, a/b, test, .git, venv");
}

#[test]
fn what_is_allowed_is_no_wider_than_its_pattern() {
    let rule = "name: settings, allow: [read], path: [\"/etc/hosts\"], existing: [\"/etc/java*/**\", \"/etc/*\", \"/h/.cargo/.package-cache*\"]";
    let policy = parse(&files("deny", &[rule]));
    let tree = Paths::new([
        "/etc/java-17/x/y",
        "/etc/passwd",
        "/etc/ssl/key",
        "/h/.cargo/.package-cache",
        "/h/.cargo/credentials",
    ]);
    let policy = policy.with_existing(&tree).unwrap();
    for path in ["/etc/hosts", "/etc/java-17/x/new", "/etc/passwd", "/etc/ssl", "/h/.cargo/.package-cache"] {
        assert_eq!(reads(&policy, path), Decision::Allow, "{path}");
    }
    for path in
        ["/etc/ssl/key", "/etc/java-21/x", "/etc/new", "/h/.cargo/credentials", "/h/.cargo/.package-cache2"]
    {
        assert_eq!(reads(&policy, path), Decision::Deny, "{path}");
    }
}

#[test]
fn a_rule_that_finds_nothing_says_nothing() {
    let policy = parse(&files("allow", &["name: a, deny: [read], existing: [\"/w/**/.env\", \"/w/x\"]"]));
    let policy = policy.with_existing(&Paths::default()).unwrap();
    assert_eq!(reads(&policy, "/w/.env"), Decision::Allow);
    assert!(!policy.effective_yaml().contains("name: \"a\""));
}

#[test]
fn it_begins_somewhere_and_is_about_paths() {
    let error = |text: &str| try_parse(text).unwrap_err().to_string();
    for everywhere in ["**/.env", "/**/x", "/*/**/x", "/a**x"] {
        let rule = format!("name: a, deny: [read], existing: [\"{everywhere}\"]");
        assert!(error(&files("allow", &[&rule])).contains("begins nowhere"), "{everywhere}");
    }
    for somewhere in ["/*/x", "/a*/**", "/a/**/x", "/**"] {
        parse(&files("allow", &[&format!("name: a, deny: [read], existing: [\"{somewhere}\"]")]));
    }
    let network =
        "network:\n  default: deny\n  rules:\n    - { name: a, allow: [connect], existing: [\"/x\"] }\n";
    assert!(error(network).contains("existing"), "{}", error(network));
    let both = "exec:\n  default: deny\n  rules:\n    - { name: a, deny: [run], existing: [\"/x\"], sha256: [\"00\"] }\n";
    assert!(error(both).contains("paths or about contents"), "{}", error(both));
    parse(
        "exec:\n  default: allow\n  rules:\n    - { name: a, deny: [run], existing: [\"/usr/bin/{sudo,su}\"] }\n",
    );
}

#[test]
fn too_much_is_an_error_that_names_the_rule() {
    let names: Vec<String> = (0..=MOST_PLACES).map(|at| format!("/w/{at}.pem")).collect();
    let policy = parse(&files("allow", &["name: keys, deny: [read], existing: [\"/w/*.pem\"]"]));
    let many = Paths::new(names.iter().map(String::as_str));
    assert!(
        matches!(policy.clone().with_existing(&many), Err(ExistingFault::TooMany { rule }) if rule.as_str() == "p/keys")
    );
    let fewer = Paths::new(names.iter().skip(1).map(String::as_str));
    assert!(policy.clone().with_existing(&fewer).is_ok());

    struct Closed;
    impl Tree for Closed {
        fn look(&self, _: &[u8]) -> Result<Option<bool>, String> {
            Err("it is closed".to_owned())
        }
        fn list(&self, _: &[u8]) -> Result<Vec<Entry>, String> {
            Err("it is closed".to_owned())
        }
    }
    let error = policy.with_existing(&Closed).unwrap_err().to_string();
    assert_eq!(error, "rule `p/keys`: what its `existing` stands for cannot be looked up: it is closed");

    struct Endless;
    impl Tree for Endless {
        fn look(&self, _: &[u8]) -> Result<Option<bool>, String> {
            Ok(None)
        }
        fn list(&self, _: &[u8]) -> Result<Vec<Entry>, String> {
            Ok(vec![
                Entry { name: b"a".to_vec(), is_directory: true },
                Entry { name: b"b".to_vec(), is_directory: true },
            ])
        }
    }
    let policy = parse(&files(
        "allow",
        &["name: deep, deny: [read], existing: [\"/w/?/?/?/?/?/?/?/?/?/?/?/?/?/?/?/?/?/?/?/?/x\"]"],
    ));
    assert!(matches!(policy.with_existing(&Endless), Err(ExistingFault::TooLarge { .. })));
}

fn piece() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b", ".env", "ab", "*", "?", "a*", "[ab]", "**", "{a,b/a}"]);
    prop::collection::vec(name, 1..5).prop_map(|names| names.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The oracle looks at every path with the pattern as it is.
    #[test]
    fn places_are_those_that_the_patterns_match(
        files in prop::collection::vec(prop::collection::vec(select(vec!["a", "b", ".env", "ab", "c"]), 1..5), 0..12),
        patterns in prop::collection::vec(piece(), 1..4),
        denies in any::<bool>(),
    ) {
        let files: Vec<String> = files.iter().map(|names| format!("/w/{}", names.join("/"))).collect();
        let tree = Paths::new(files.iter().map(String::as_str));
        let list: Vec<String> = patterns.iter().map(|pattern| format!("\"/w/{pattern}\"")).collect();
        let (default, effect) = if denies { ("allow", "deny") } else { ("deny", "allow") };
        let rule = format!("name: r, {effect}: [read], existing: [{}]", list.join(", "));
        let all = parse(&self::files(default, &[&rule]));
        let now = all.clone().with_existing(&tree).unwrap();
        let hit = |policy: &Policy, path: &str| reads(policy, path).name() == effect;
        for path in tree.0.keys() {
            let matched = hit(&all, path);
            // What is in a directory that is denied is denied with it.
            let above = denies && path.match_indices('/').skip(1).any(|(at, _)| hit(&all, &path[..at]));
            prop_assert_eq!(hit(&now, path), matched || above, "{}", path);
            let later = format!("{path}/new");
            prop_assert!(!hit(&now, &later) || hit(&all, &later) || (denies && hit(&now, path)));
        }
    }
}

#[test]
fn what_appeared_at_a_place_that_a_rule_denies_is_told() {
    let text = files(
        "allow",
        &[
            "name: git, deny: [write], existing: [\"/w/**/.git/config\"]",
            "name: free, allow: [write], existing: [\"/w/**/free\"]",
        ],
    );
    let at = |paths: &[&str]| parse(&text).with_existing(&Paths::new(paths.iter().copied())).expect("places");
    let before = at(&["/w/a/.git/config", "/w/b/.git/config"]);
    assert_eq!(before.appeared_since(&before), None);
    // What is gone, and what is allowed besides.
    assert_eq!(at(&["/w/a/.git/config", "/w/free"]).appeared_since(&before), None);
    let moved = at(&["/w/c/.git/config", "/w/b/.git/config"]);
    let (rule, place) = moved.appeared_since(&before).expect("it is new");
    assert_eq!((rule.to_string().as_str(), place.as_str()), ("p/git", "/w/c/.git/config"));
}
