//! Rules whose paths lead through symbolic links.

use policy::links::{Links, Resolved};
use policy::{Access, Decision, Policy, Severity, Variables, evaluate};
use proptest::prelude::*;
use proptest::sample::select;

fn parse(text: &str) -> Policy {
    Policy::parse("p.yaml", &format!("version: 1\nname: p\n{text}"), &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// Every path is there; what lies at or below `from` is at or below `to`.
fn link(from: &'static str, to: &'static str, links: Links) -> impl Fn(&[u8]) -> Option<Resolved> {
    move |path| {
        let rest =
            path.strip_prefix(from.as_bytes()).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
        Some(match rest {
            Some(rest) if to == "/" && !rest.is_empty() => Resolved { path: rest.to_vec(), links },
            Some(rest) => Resolved { path: [to.as_bytes(), rest].concat(), links },
            None => Resolved { path: path.to_vec(), links: Links::Trusted },
        })
    }
}

fn decides(policy: &Policy, path: &str) -> Decision {
    evaluate::file(policy, Access::Read.into(), path.as_bytes()).decision
}

const RULES: &str = "files:
  default: allow
  rules:
    - { name: r, deny: [read], path: [\"/var/run/{x,y}/**\", \"/var/run/*.pid\"], except: [\"/var/run/x/open\"] }
network:
  default: allow
  rules:
    - { name: s, deny: [connect], to: [\"unix:/var/run/x.sock\"] }
";

#[test]
fn a_rule_holds_for_what_its_path_leads_to() {
    let policy = parse(RULES).follow_links(&link("/var/run", "/run", Links::Trusted));
    for path in ["/run/x/a", "/run/y", "/run/a.pid", "/var/run/x/a"] {
        assert_eq!(decides(&policy, path), Decision::Deny, "{path}");
    }
    for path in ["/run/x/open", "/var/run/x/open", "/run/z", "/run/xy"] {
        assert_eq!(decides(&policy, path), Decision::Allow, "{path}");
    }
    let text = policy.effective_yaml();
    assert!(text.contains("\"unix:/run/x.sock\"") && text.contains("\"unix:/var/run/x.sock\""), "{text}");
    assert_eq!(Policy::parse("again", &text, &Variables::new()).unwrap().effective_yaml(), text);
    let notes: Vec<String> = policy.notes().iter().map(|note| note.to_string()).collect();
    assert!(notes[0].starts_with("p.yaml:6:15: note: rule `p/r`: `/var/run"), "{notes:?}");
    assert!(policy.notes().iter().all(|note| note.severity == Severity::Remark), "{notes:?}");
}

#[test]
fn what_loosens_does_not_follow_links_that_a_run_could_have_made() {
    let text = "files:
  default: deny
  rules:
    - { name: cache, allow: [read], path: [\"/home/me/.cache/**\"] }
    - { name: all, allow: [read], path: [\"/srv/**\"] }
    - { name: keys, deny: [read], path: [\"/srv/**\"], except: [\"/home/me/.cache/**\"] }
";
    let to = link("/home/me/.cache", "/srv/secret", Links::Untrusted);
    let policy = parse(text).follow_links(&to);
    assert_eq!(decides(&policy, "/srv/secret/x"), Decision::Deny);
    let warned = policy.notes().iter().filter(|note| note.severity == Severity::Warning).count();
    assert_eq!(warned, 2, "{:?}", policy.notes());
    assert_eq!(policy.effective_yaml(), parse(text).effective_yaml());
    // The system's own links are followed.
    let policy = parse(text).follow_links(&link("/home/me/.cache", "/srv/secret", Links::Trusted));
    assert_eq!(decides(&policy, "/srv/secret/x"), Decision::Allow);
}

#[test]
fn the_longest_beginning_that_exists_is_followed() {
    let policy = parse("files: { default: allow, rules: [{ name: r, deny: [read], path: [\"/a/b/c\"] }] }\n");
    let policy = policy.follow_links(&|path: &[u8]| {
        let to: &[u8] = if path == b"/a" { b"/z" } else { return None };
        Some(Resolved { path: to.to_vec(), links: Links::Untrusted })
    });
    assert_eq!(decides(&policy, "/z/b/c"), Decision::Deny);
    assert_eq!(decides(&policy, "/z/b/d"), Decision::Allow);
}

#[test]
fn a_link_to_the_root_is_everything() {
    let text =
        "files: { default: allow, rules: [{ name: r, deny: [read], path: [\"/mnt/**\", \"/mnt/x/*\"] }] }\n";
    let policy = parse(text).follow_links(&link("/mnt", "/", Links::Untrusted));
    assert_eq!(decides(&policy, "/etc/x"), Decision::Deny);
}

#[test]
fn sets_and_stars_are_written_as_they_were_meant() {
    let text = "files: { default: allow, rules: [{ name: r, deny: [read], path: [\"/l/[!a-c]?*/**/x{1,2}/a**b\"] }] }\n";
    let policy = parse(text).follow_links(&link("/l", "/t \\é$", Links::Trusted));
    let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
    for (path, decision) in [
        ("/t \\é$/dx/x1/ab", Decision::Deny),
        ("/t \\é$/dx/q/r/x2/a/b", Decision::Deny),
        ("/t \\é$/ax/x1/ab", Decision::Allow),
        ("/t \\é$/dx/x3/ab", Decision::Allow),
        ("/l/dx/x1/ab", Decision::Deny),
    ] {
        assert_eq!(decides(&policy, path), decision, "{path}");
        assert_eq!(decides(&again, path), decision, "{path}, printed and read");
    }
}

const PATTERNS: &[&str] =
    &["/a/**", "/a/b/*", "/a/b", "/b/**", "**/b", "/a/{b,c}/d", "/a/?", "/c/a", "/**/d"];

fn policy() -> impl Strategy<Value = String> {
    let patterns = || proptest::collection::vec(select(PATTERNS), 1..4);
    let rule = (select(vec!["allow", "deny"]), patterns(), proptest::option::of(patterns()));
    let rules = proptest::collection::vec(rule, 1..5);
    (select(vec!["allow", "deny"]), rules).prop_map(|(default, rules)| {
        let mut text = format!("files:\n  default: {default}\n  rules:\n");
        for (at, (effect, paths, except)) in rules.iter().enumerate() {
            let except = except.as_ref().map(|list| format!(", except: {list:?}")).unwrap_or_default();
            text.push_str(&format!("    - {{ name: r{at}, {effect}: [read], path: {paths:?}{except} }}\n"));
        }
        text
    })
}

fn all_paths() -> Vec<String> {
    let names = ["a", "b", "c", "d"];
    let mut all = vec!["/".to_owned()];
    let mut last = vec![String::new()];
    for _ in 0..3 {
        last = last.iter().flat_map(|path| names.iter().map(move |name| format!("{path}/{name}"))).collect();
        all.extend(last.iter().cloned());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..Default::default() })]

    #[test]
    fn without_links_nothing_changes(text in policy()) {
        let plain = parse(&text);
        let same = |path: &[u8]| Some(Resolved { path: path.to_vec(), links: Links::Trusted });
        for followed in [plain.clone().follow_links(&same), plain.clone().follow_links(&|_: &[u8]| None)] {
            prop_assert_eq!(followed.effective_yaml(), plain.effective_yaml());
            prop_assert_eq!(followed.notes(), plain.notes());
        }
    }

    #[test]
    fn links_of_a_run_never_open_anything(
        text in policy(), from in select(vec!["/a", "/a/b", "/b", "/c"]), to in select(vec!["/d", "/", "/b/c", "/a"])
    ) {
        let plain = parse(&text);
        let followed = plain.clone().follow_links(&link(from, to, Links::Untrusted));
        for path in all_paths() {
            let (before, after) = (decides(&plain, &path), decides(&followed, &path));
            prop_assert!(after >= before, "{path}: {before} became {after}");
        }
    }

    #[test]
    fn a_list_only_grows(text in policy(), from in select(vec!["/a", "/a/b", "/b"]), to in select(vec!["/d", "/b/c"])) {
        let plain = parse(&text);
        let followed = plain.clone().follow_links(&link(from, to, Links::Trusted));
        for (before, after) in plain.files().rules().iter().zip(followed.files().rules()) {
            prop_assert!(after.objects().starts_with(before.objects()) && after.except().starts_with(before.except()));
        }
    }
}
