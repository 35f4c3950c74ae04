//! What the language means, case by case: globs, variables, defaults, names, exceptions, addresses.

use std::net::IpAddr;

use policy::compile::{
    CompileError, Unheld, Unsupported,
    lsm::{self, Held, NetEnd, SetTable, Sets},
};
use policy::{Access, AccessSet, Decision, Policy, Protocol, Variables, evaluate};

fn parse(text: &str, variables: &Variables) -> Policy {
    Policy::parse("test.yaml", &format!("version: 1\nname: p\n{text}"), variables)
        .unwrap_or_else(|e| panic!("{e}"))
}

/// A policy that denies reading what the patterns match.
fn denying(patterns: &str, except: &str, variables: &Variables) -> Policy {
    let rule = format!("{{ name: r, deny: [read], path: [{patterns}], except: [{except}] }}");
    parse(&format!("files:\n  default: allow\n  rules:\n    - {rule}\n"), variables)
}

/// Both the oracle and the automaton, which must agree.
fn denied(policy: &Policy, path: &[u8]) -> bool {
    let oracle = evaluate::file(policy, Access::Read.into(), path).decision == Decision::Deny;
    let plan = lsm::compile(&[policy], 0, &mut SetTable::new()).expect("small");
    assert_eq!(
        plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), path)
            .expect("it works")
            .accesses
            .contains(Access::Read),
        oracle,
        "{}",
        path.escape_ascii()
    );
    oracle
}

fn check(pattern: &str, matching: &[&[u8]], others: &[&[u8]]) {
    let policy = denying(&format!("'{pattern}'"), "", &Variables::new());
    for path in matching {
        assert!(denied(&policy, path), "{pattern} matches {}", path.escape_ascii());
    }
    for path in others {
        assert!(!denied(&policy, path), "{pattern} does not match {}", path.escape_ascii());
    }
}

#[test]
fn globs_mean_what_the_language_says() {
    check("/a", &[b"/a"], &[b"/ab", b"/a/b", b"/", b"a", b"/b/a"]);
    check("/a/**", &[b"/a", b"/a/b", b"/a/b/c"], &[b"/ab", b"/", b"/b/a"]);
    check("/**", &[b"/", b"/a", b"/a/b", b"/\xff\n"], &[b"pipe:[7]", b"", b"(unreachable)/a"]);
    check("/", &[b"/"], &[b"/a", b""]);
    check("/*", &[b"/a", b"/.a"], &[b"/", b"/a/b"]);
    check("/a/*", &[b"/a/b", b"/a/.b", b"/a/\n"], &[b"/a", b"/a/b/c"]);
    check("/a/*.c", &[b"/a/x.c", b"/a/.c"], &[b"/a/b/x.c", b"/a/x.cc"]);
    check("/a/**/b", &[b"/a/b", b"/a/x/b", b"/a/x/y/b"], &[b"/a", b"/ab", b"/a/xb", b"/a/b/c"]);
    check("/a/**/b/**", &[b"/a/b", b"/a/x/b/y"], &[b"/a", b"/a/x/bb"]);
    check("**/b", &[b"/b", b"/a/b", b"/b/b"], &[b"/ab", b"/b/a", b"b"]);
    check("**/.env", &[b"/.env", b"/a/.env"], &[b"/a/.envrc", b"/a.env"]);
    check("**/*.pem", &[b"/x.pem", b"/a/.pem"], &[b"/x.pem/a", b"/xpem"]);
    check("**/node_modules/**", &[b"/node_modules", b"/a/node_modules/b/c"], &[b"/a/node_modulesx"]);
    check("/a**z", &[b"/az", b"/a/b/z", b"/axz"], &[b"/a", b"/a/b/zz/"]);
    check("/a?c", &[b"/abc", b"/a\xffc"], &[b"/ac", b"/a/c", b"/a\xc3\xa9c"]);
    check("/[a-c]", &[b"/a", b"/c"], &[b"/d", b"/ab", b"//"]);
    check("/x[!a-c]", &[b"/xd", b"/x\xff"], &[b"/xa", b"/x", b"/x/"]);
    check("/x[+-9]y", &[b"/x+y", b"/x9y"], &[b"/x/y"]);
    check(r"/x[\]-]", &[b"/x]", b"/x-"], &[b"/x"]);
    check("/{a,b/c,}d", &[b"/ad", b"/b/cd", b"/d"], &[b"/cd", b"/a"]);
    check("{/a,**/b}/{x,{y,z}1}", &[b"/a/x", b"/q/b/z1"], &[b"/a/z"]);
    check(r"/a\*\x0a\[b\]", &[b"/a*\n[b]"], &[b"/axx\nb"]);
    check("/caf\u{e9}", &["/caf\u{e9}".as_bytes()], &[b"/cafe"]);
    check("/A", &[b"/A"], &[b"/a"]);
    check("/a b,c$d", &[b"/a b,c$d"], &[]);
}

#[test]
fn long_paths_and_patterns_hold() {
    let component = "c".repeat(200);
    let long: String = (0..20).map(|_| format!("/{component}")).collect();
    let policy = denying(&format!("\"{long}/**\""), "", &Variables::new());
    assert!(denied(&policy, long.as_bytes()));
    assert!(denied(&policy, format!("{long}/x").as_bytes()));
    assert!(!denied(&policy, &long.as_bytes()[..long.len() - 1]));
    let deep: String = (0..30).map(|i| format!("/d{i}")).collect();
    let policy = denying("\"/d0/**/d29\"", "", &Variables::new());
    assert!(denied(&policy, deep.as_bytes()));
}

#[test]
fn exceptions_belong_to_their_rule() {
    let policy = parse(
        "files:\n  default: allow\n  rules:\n    \
         - { name: a, deny: [read], path: [\"/s/**\"], except: [\"/s/ok/**\", \"**/*.pub\"] }\n    \
         - { name: b, deny: [read], path: [\"/s/ok/never\"] }\n",
        &Variables::new(),
    );
    assert!(denied(&policy, b"/s") && denied(&policy, b"/s/x"));
    assert!(!denied(&policy, b"/s/ok") && !denied(&policy, b"/s/ok/x") && !denied(&policy, b"/s/x.pub"));
    assert!(denied(&policy, b"/s/ok/never"));
}

#[test]
fn variables_are_literal() {
    let mut variables = Variables::new();
    variables.set("HOME", b"/home/[slug]*\xff{a,b}$/".as_slice()).unwrap();
    variables.set_env("SOCK", "/run/x?");
    let policy = denying(
        "\"${HOME}/x\", \"{${HOME},/root}/y\", \"${env.SOCK}\", \"${env.NONE:-none}\"",
        "",
        &variables,
    );
    assert!(denied(&policy, b"/home/[slug]*\xff{a,b}$/x") && denied(&policy, b"/root/y"));
    assert!(denied(&policy, b"/run/x?") && !denied(&policy, b"/run/xy") && !denied(&policy, b"/home/s/x"));
    let notes: Vec<&str> = policy.notes().iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["rule `r`: `${env.NONE:-none}` is left out, a variable in it has no value"]);
    // What is stored beside the record needs no variable.
    let stored = policy.effective_yaml();
    let again = Policy::parse("stored", &stored, &Variables::new()).unwrap();
    assert_eq!(again.effective_yaml(), stored);
    assert!(denied(&again, b"/home/[slug]*\xff{a,b}$/x") && !denied(&again, b"/run/xy"));
    // A home of `/`, as root has in some containers.
    variables.set("HOME", "/").unwrap();
    let policy = denying("\"${HOME}/.ssh/**\"", "", &variables);
    assert!(denied(&policy, b"/.ssh/id") && !denied(&policy, b"/root/.ssh"));
    let own = "vars: { B: \"${A}/b\", A: \"${HOME}a\" }\nfiles:\n  default: allow\n  rules:\n    - { name: r, deny: [read], path: [\"${B}\"] }\n";
    assert!(denied(&parse(own, &variables), b"/a/b"));
}

#[test]
fn a_workspace_that_holds_home_is_refused() {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/me").unwrap();
    for refused in ["/", "/home", "/home/", "/home/me", "/home/me/"] {
        variables.set_workspace(refused).expect_err(refused);
    }
    for good in ["/home/me/work", "/home/m", "/home/me2", "/srv"] {
        variables.set_workspace(good).expect(good);
    }
    variables.set("NOPE", "x").expect_err("not given");
}

const OVERLAP: &str = "files:
  default: deny
  rules:
    - { name: z-read, allow: [read], path: [\"/a/**\"] }
    - { name: m-all, deny: [all], path: [\"/a/b\"], because: secret }
    - { name: c-write, deny: [write], path: [\"/a/**\"] }
    - { name: b-read, allow: [read, write], path: [\"/a/c\"] }
";

#[test]
fn deny_beats_allow_and_the_first_by_name_is_named() {
    let policy = parse(OVERLAP, &Variables::new());
    let both = AccessSet::from_iter([Access::Read, Access::Write]);
    let says = |accesses: AccessSet, path: &[u8]| {
        let verdict = evaluate::file(&policy, accesses, path);
        (verdict.decision, verdict.rule.to_string(), verdict.because)
    };
    use Decision::{Allow, Deny};
    assert_eq!(says(Access::Read.into(), b"/a/x"), (Allow, "p/z-read".into(), None));
    assert_eq!(says(Access::Read.into(), b"/a/c"), (Allow, "p/b-read".into(), None));
    assert_eq!(says(both, b"/a/c"), (Deny, "p/c-write".into(), None));
    assert_eq!(says(Access::Read.into(), b"/a/b"), (Deny, "p/m-all".into(), Some("secret")));
    assert_eq!(says(both, b"/a/b"), (Deny, "p/c-write".into(), None));
    assert_eq!(says(Access::Load.into(), b"/a/x"), (Deny, "p/files.default".into(), None));
    assert_eq!(says(both, b"/q"), (Deny, "p/files.default".into(), None));
    assert_eq!(says(AccessSet::EMPTY, b"/q"), (Allow, "p/files.default".into(), None));
    // The section that the file leaves out.
    let verdict = evaluate::exec(&policy, b"/a/b");
    assert_eq!((verdict.decision, verdict.rule.as_str()), (Allow, "p/exec.default"));
}

#[test]
fn addresses_mean_what_the_language_says() {
    let network = |default: &str, rule: &str| {
        parse(
            &format!("network:\n  default: {default}\n  rules:\n    - {{ name: r, {rule} }}\n"),
            &Variables::new(),
        )
    };
    let denied = |policy: &Policy, access: Access, address: &str, port, protocol| {
        let address: IpAddr = address.parse().unwrap();
        let oracle =
            evaluate::network(policy, access.into(), address, port, protocol).decision == Decision::Deny;
        let plan = lsm::compile(&[policy], 9, &mut SetTable::new()).unwrap();
        assert_eq!(
            plan.denied_to(&Sets::UNKNOWN, access.into(), &NetEnd::address(address, port, protocol))
                .unwrap()
                .contains(access),
            oracle,
            "{address}"
        );
        oracle
    };
    use Access::{Bind, Connect, Send};
    use Protocol::{Tcp, Udp};
    let metadata = network("allow", "deny: [connect], to: [\"169.254.169.254:80\"]");
    assert!(denied(&metadata, Connect, "169.254.169.254", 80, Tcp));
    assert!(denied(&metadata, Connect, "::ffff:169.254.169.254", 80, Tcp));
    assert!(!denied(&metadata, Connect, "169.254.169.254", 81, Tcp));
    assert!(!denied(&metadata, Send, "169.254.169.254", 80, Udp));
    let loopback = network("allow", "deny: [all], to: [\"localhost\"]");
    for address in ["127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "::", "::ffff:0.0.0.0", "::ffff:127.0.0.1"] {
        assert!(
            denied(&loopback, Connect, address, 1, Tcp) && denied(&loopback, Send, address, 1, Udp),
            "{address}"
        );
    }
    assert!(!denied(&loopback, Bind, "0.0.0.0", 1, Tcp) && !denied(&loopback, Bind, "::", 1, Tcp));
    assert!(denied(&loopback, Bind, "127.0.0.1", 1, Tcp));
    let v6 = network("deny", "allow: [connect], to: [\"::/0\"]");
    assert!(!denied(&v6, Connect, "2001:db8::1", 1, Tcp));
    assert!(denied(&v6, Connect, "10.0.0.1", 1, Tcp) && denied(&v6, Connect, "::ffff:10.0.0.1", 1, Tcp));
    let any = network("deny", "allow: [connect], to: [\"any:443/tcp\", \"[2001:db8::]/32:1000-2000\"]");
    assert!(!denied(&any, Connect, "10.0.0.1", 443, Tcp) && !denied(&any, Connect, "fe80::1", 443, Tcp));
    assert!(denied(&any, Connect, "10.0.0.1", 443, Udp) && denied(&any, Connect, "10.0.0.1", 444, Tcp));
    assert!(
        !denied(&any, Connect, "2001:db8::9", 2000, Udp) && denied(&any, Connect, "2001:db8::9", 2001, Udp)
    );
}

/// The access that nothing judges.
fn access(unheld: &Unheld) -> Access {
    match unheld.what {
        Unsupported::Access(access) => access,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn what_has_no_hook_is_named() {
    let text = "files:
  default: deny
  rules:
    - { name: a, allow: [create, delete, attributes, load], path: [\"/**\"] }
    - { name: b, deny: [write, create], path: [\"/x\"] }
    - { name: c, allow: [create], path: [\"/y\"] }
network:
  default: deny
";
    let held =
        AccessSet::from_iter([Access::Read, Access::Write, Access::Run, Access::Connect, Access::Send]);
    let plan = lsm::compile(&[&parse(text, &Variables::new())], 0, &mut SetTable::new()).unwrap();
    let unheld: Vec<String> =
        plan.unheld(&Held::of(held)).iter().map(|u| format!("{} {}", u.rule, access(u))).collect();
    assert_eq!(unheld, ["p/b create", "p/network.default bind", "p/network.default listen"]);
    assert_eq!(
        plan.unheld(&Held::of(held))[0].to_string(),
        "rule `p/b` denies `create`, which no layer of this run holds"
    );
    let without_read = plan.unheld(&Held::of(held.without(Access::Read.into())));
    assert!(without_read.iter().any(|u| u.rule.as_str() == "p/files.default" && access(u) == Access::Read));
    let everything = Access::ALL.into_iter().collect();
    assert_eq!(plan.unheld(&Held::of(everything)), []);
    let all = parse(
        "files: { default: allow, rules: [{ name: a, deny: [all], path: [\"/x\"] }] }\n",
        &Variables::new(),
    );
    let unheld: Vec<Access> = lsm::compile(&[&all], 0, &mut SetTable::new())
        .unwrap()
        .unheld(&Held::of(held))
        .iter()
        .map(access)
        .collect();
    assert_eq!(unheld, [Access::Create, Access::Delete, Access::Attributes, Access::Load]);
}

#[test]
fn the_automaton_is_minimal_and_rules_of_one_meaning_do_not_multiply() {
    let states = |patterns: &str| {
        lsm::compile(&[&denying(patterns, "", &Variables::new())], 0, &mut SetTable::new())
            .unwrap()
            .states()
            .to_vec()
    };
    // Dead; one per byte of "/etc/x"; the end.
    assert_eq!(states("\"/etc/x\""), [8]);
    assert_eq!(states("\"/etc/x\", \"/etc/{x,x}\", \"/{etc,etc}/x\""), [8]);
    assert_eq!(states("\"/**\", \"/etc/x\", \"**/x\""), [3]);
    let floating: Vec<String> = (0..200).map(|i| format!("\"**/n{i}/**\"")).collect();
    assert!(states(&floating.join(", "))[0] < 1000);
}

#[test]
fn an_automaton_that_does_not_fit_is_refused_by_name() {
    let text = format!(
        "files:\n  default: allow\n  rules:\n    - {{ name: small, deny: [read], path: [\"/etc/**\"] }}\n    - {{ name: big, deny: [read], path: [\"/**a{}\"] }}\n",
        "?".repeat(40)
    );
    let error = lsm::compile(&[&parse(&text, &Variables::new())], 0, &mut SetTable::new()).unwrap_err();
    let CompileError::PathsTooLarge { rules, .. } = &error else { panic!("{error}") };
    assert_eq!(rules[0].as_str(), "p/big", "{error}");
}

#[test]
fn ports_that_do_not_fit_are_refused_by_name() {
    let ports: Vec<String> = (0..5000).map(|i| format!("\"10.0.0.1:{}\"", i * 2)).collect();
    let text = format!(
        "network:\n  default: allow\n  rules:\n    - {{ name: many, deny: [connect], to: [{}] }}\n",
        ports.join(", ")
    );
    let error = lsm::compile(&[&parse(&text, &Variables::new())], 0, &mut SetTable::new()).unwrap_err();
    assert!(
        matches!(&error, CompileError::PortsTooMany { rules, .. } if rules[0].as_str() == "p/many"),
        "{error}"
    );
}

#[test]
fn examples_that_fail_are_named_with_their_place() {
    let text = format!(
        "{OVERLAP}examples:\n  - {{ open: /a/x, access: read, verdict: allow, rule: z-read }}\n  - {{ open: /a/x, access: read, verdict: deny }}\n  - {{ open: /a/c, access: read, verdict: allow, rule: p/z-read }}\n"
    );
    let errors = parse(&text, &Variables::new()).check_examples().unwrap_err().to_string();
    let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("test.yaml:")).collect();
    assert_eq!(
        lines,
        [
            "test.yaml:12:5: the policy says allow by `p/z-read`, the example says deny",
            "test.yaml:13:5: the policy says allow by `p/b-read`, the example says allow by `p/z-read`"
        ]
    );
}

#[test]
fn likely_mistakes_are_noted() {
    let notes = |text: &str| -> Vec<String> {
        parse(text, &Variables::new()).notes().iter().map(|note| note.text.clone()).collect()
    };
    let rule = |path: &str| {
        format!("files: {{ default: allow, rules: [{{ name: a, deny: [read], path: [{path}] }}] }}\n")
    };
    assert_eq!(
        notes(&rule("\"/app/[slug]/x\"")),
        ["`[slug]` is one of these bytes; a directory of that name is `\\[slug\\]`"]
    );
    assert_eq!(notes(&rule("\"/app/[a-z]/x\"")), [""; 0]);
    let to = "network: { default: allow, rules: [{ name: a, deny: [connect], to: [\"::1:80\"] }] }\n";
    assert_eq!(notes(to), ["`::1:80` is an address without a port; with one it is `[::1]:80`"]);
    let vars = "vars: { A: \"/x/*\" }\n";
    assert_eq!(notes(vars), ["variable `A` is literal text: its `*` and `?` match themselves only"]);
}

#[test]
fn a_section_whose_rules_are_all_left_out_is_printed_without_any() {
    let rule = "{ name: a, deny: [run], path: [\"${GIT_DIR:-none}/**\"] }";
    let policy = parse(&format!("exec: {{ default: deny, rules: [{rule}] }}\n"), &Variables::new());
    let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new());
    assert_eq!(again.map(|policy| policy.effective_yaml()), Ok(policy.effective_yaml()));
}
