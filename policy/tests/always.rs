//! What an answer makes of a policy's text: what was asked about is allowed, everything else is as it was, and what
//! cannot be said so is refused.

use std::net::IpAddr;

use policy::always::{AlwaysError, allow};
use policy::extend::{Resolver, Source};
use policy::{Access, AccessSet, Act, Decision, End, Owner, Policy, Protocol, Subject, Variables, evaluate};

const SOMEBODY: Subject<'static> = Subject { exe: b"/usr/bin/ssh", ancestors: &[] };

const BASE: &str = "\
version: 1
name: team
files:
  default: deny
  rules:
    - { name: work, allow: [read, write], path: [\"/work/**\"] }
    - { name: asked, ask: [read, write], path: [\"/ask/**\"], because: a person decides }
    - { name: closed, deny: [all], path: [\"/closed/**\"] }
";

struct Base;

impl Resolver for Base {
    fn resolve(&self, path: &str, _: &str) -> Result<Source, String> {
        match path {
            "./team.yaml" => Ok(Source { name: path.to_owned(), bytes: BASE.as_bytes().to_vec() }),
            _ => Err("is not there".to_owned()),
        }
    }
}

fn variables() -> Variables {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/ann").expect("a variable");
    variables
}

fn read(text: &str) -> Result<Policy, String> {
    Policy::parse_with("p.yaml", text.as_bytes(), &variables(), &Base).map_err(|errors| errors.to_string())
}

fn file(accesses: &[Access], path: &'static str) -> Act<'static> {
    Act::File { accesses: accesses.iter().copied().collect(), path: path.as_bytes() }
}

fn always(text: &str, acts: &[Act<'_>]) -> Result<String, AlwaysError> {
    allow(text, &read, &SOMEBODY, acts, &variables())
}

/// The lines that are new, and those that are gone.
fn changes(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let only = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|known| known == *line)).map(str::to_owned).collect()
    };
    (only(after, before), only(before, after))
}

fn decision(text: &str, access: Access, path: &str) -> Decision {
    evaluate::file(&read(text).expect("a policy"), access.into(), path.as_bytes()).decision
}

const OWN: &str = "\
# mine
version: 1
name: p
files:
  default: allow   # open
  rules:
    # of ssh
    - { name: keys, ask: [read, write, create], path: [\"${HOME}/.ssh/**\"], timeout: 5m, because: \"a person, always\" } # kept
    - { name: plain, ask: [read], path: [/plain] }

# end
";

#[test]
fn a_rule_that_asks_gets_an_exception_and_the_rest_of_it_stays() {
    let made = always(OWN, &[file(&[Access::Read], "/home/ann/.ssh/config")]).unwrap();
    let (new, gone) = changes(OWN, &made);
    assert_eq!(gone.len(), 1);
    assert_eq!(
        new,
        [
            "    - { name: keys, ask: [read, write, create], path: [\"${HOME}/.ssh/**\"], except: \
             [\"${HOME}/.ssh/config\"], timeout: 5m, because: \"a person, always\" } # kept",
            "    - name: \"keys-rest\"",
            "      ask: [write, create]",
            "      path: [\"${HOME}/.ssh/config\"]",
            "      timeout: \"5m\"",
            "      because: \"a person, always\"",
        ]
    );
    assert!(made.starts_with("# mine\n") && made.ends_with("\n\n# end\n"), "{made}");
    use Decision::{Allow, Ask};
    for (access, path, decided) in [
        (Access::Read, "/home/ann/.ssh/config", Allow),
        (Access::Write, "/home/ann/.ssh/config", Ask),
        (Access::Create, "/home/ann/.ssh/config", Ask),
        (Access::Read, "/home/ann/.ssh/config2", Ask),
        (Access::Read, "/home/ann/.ssh/config/x", Ask),
    ] {
        assert_eq!(decision(&made, access, path), decided, "{access:?} {path}");
    }
    let timeouts: Vec<_> = read(&made).unwrap().files().rules().iter().map(|rule| rule.timeout()).collect();
    assert_eq!(timeouts.iter().flatten().count(), 2);
    // Nothing is left where the rule is about this access alone, and again it changes nothing.
    let plain = always(OWN, &[file(&[Access::Read], "/plain")]).unwrap();
    assert_eq!(changes(OWN, &plain).0.len(), 1);
    assert_eq!(always(&plain, &[file(&[Access::Read], "/plain")]).unwrap(), plain);
    // Another answer about the rest, and another file.
    let more = always(&made, &[file(&[Access::Write], "/home/ann/.ssh/config")]).unwrap();
    assert_eq!(decision(&more, Access::Write, "/home/ann/.ssh/config"), Allow);
    assert_eq!(decision(&more, Access::Create, "/home/ann/.ssh/config"), Ask);
    let other = always(&more, &[file(&[Access::Read], "/home/ann/.ssh/id")]).unwrap();
    assert!(other.contains("except: [\"${HOME}/.ssh/id\", \"${HOME}/.ssh/config\"]"), "{other}");
}

#[test]
fn what_a_default_denies_is_allowed_by_a_rule() {
    let text = "version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n    - { name: a, allow: [read], path: [/a] }\n\
                exec:\n  default: deny\n";
    let acts = [file(&[Access::Delete], "/home/ann/old"), file(&[Access::Create], "/home/ann/new")];
    let made = always(text, &acts).unwrap();
    let (new, gone) = changes(text, &made);
    assert!(gone.is_empty());
    assert_eq!(
        new,
        [
            "    - { name: delete-old, allow: [delete], path: [\"${HOME}/old\"] }",
            "    - { name: create-new, allow: [create], path: [\"${HOME}/new\"] }",
        ]
    );
    let made = always(text, &[Act::Exec { path: b"/usr/bin/wget", sha256: None }]).unwrap();
    assert!(made.ends_with("exec:\n  default: deny\n  rules:\n    - { name: run-wget, allow: [run], path: [\"/usr/bin/wget\"] }\n"));
    // One call with both at the same file.
    let made = always(text, &[file(&[Access::Read, Access::Write], "/b")]).unwrap();
    assert!(made.contains("{ name: read-b, allow: [read, write], path: [\"/b\"] }"), "{made}");
}

#[test]
fn conditions_of_a_rule_stay_with_what_is_left_of_it() {
    let text = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    - name: tokens\n      deny: [read, write]\n      \
                path: [/t/**]\n      unless_by: [/usr/bin/node]\n";
    let made = always(text, &[file(&[Access::Read], "/t/a")]).unwrap();
    assert!(made.contains("      except: [\"/t/a\"]\n      unless_by: [/usr/bin/node]\n"), "{made}");
    let policy = read(&made).unwrap();
    for (exe, decided) in [("/usr/bin/node", Decision::Allow), ("/usr/bin/curl", Decision::Deny)] {
        let subject = Subject { exe: exe.as_bytes(), ancestors: &[] };
        let verdict = evaluate::judge(&policy, &subject, &file(&[Access::Write], "/t/a"));
        assert_eq!(verdict.decision, decided, "{exe}");
    }
}

#[test]
fn a_base_may_ask_but_what_it_denies_stays_denied() {
    let text = "version: 1\nname: p\nextends: [./team.yaml]\n";
    let made = always(text, &[file(&[Access::Read], "/ask/x")]).unwrap();
    assert!(made.contains("- { amend: team/asked, except: [\"/ask/x\"] }"), "{made}");
    assert!(made.contains("allow: [read], path: [\"/ask/x\"]"), "{made}");
    assert_eq!(decision(&made, Access::Read, "/ask/x"), Decision::Allow);
    assert_eq!(decision(&made, Access::Write, "/ask/x"), Decision::Ask);
    assert_eq!(decision(&made, Access::Read, "/ask/y"), Decision::Ask);
    assert_eq!(decision(&made, Access::Delete, "/elsewhere"), Decision::Deny, "the default stays its own");
    match always(text, &[file(&[Access::Read], "/closed/x")]) {
        Err(AlwaysError::Inherited { rule, line }) => {
            assert_eq!(rule.as_str(), "team/closed");
            assert_eq!(line, "- { amend: team/closed, except: [\"/closed/x\"] }");
        }
        other => panic!("{other:?}"),
    }
}

fn network(text: &str) -> String {
    format!("version: 1\nname: p\nnetwork:\n{text}")
}

fn end<'a>(address: &str, port: u16, names: &'a [&'a str]) -> End<'a> {
    let address: IpAddr = address.parse().expect("an address");
    End::Address { address, port, protocol: Protocol::Tcp, names, owner: Owner::Elsewhere }
}

#[test]
fn ends_are_named_as_narrowly_as_they_can_be() {
    let accesses: AccessSet = Access::Connect.into();
    let judged = |text: &str, access: Access, end: End<'_>| {
        let act = Act::Network { accesses: access.into(), end };
        evaluate::judge(&read(text).unwrap(), &SOMEBODY, &act).decision
    };
    let asks = network("  default: allow\n  rules: \n    - { name: out, ask: [connect, send], to: [any] }\n");
    let made = always(&asks, &[Act::Network { accesses, end: end("192.0.2.1", 443, &[]) }]).unwrap();
    assert!(made.contains("to: [any]") && made.contains("except: [\"192.0.2.1:443/tcp\"]"), "{made}");
    use Decision::{Allow, Ask, Deny};
    assert_eq!(judged(&made, Access::Connect, end("192.0.2.1", 443, &[])), Allow);
    assert_eq!(judged(&made, Access::Send, end("192.0.2.1", 443, &[])), Ask);
    assert_eq!(judged(&made, Access::Connect, end("192.0.2.1", 80, &[])), Ask);
    let closed = network("  default: deny\n");
    let names = ["api.example.com"];
    let named = Act::Network { accesses, end: end("192.0.2.1", 443, &names) };
    let made = always(&closed, &[named]).unwrap();
    assert!(made.contains("allow: [connect], to: [\"api.example.com:443/tcp\"]"), "{made}");
    assert_eq!(judged(&made, Access::Connect, end("192.0.2.1", 443, &[])), Deny);
    let made = always(&asks, &[named]).unwrap();
    assert_eq!(judged(&made, Access::Connect, end("192.0.2.1", 443, &names)), Allow, "{made}");
    assert_eq!(judged(&made, Access::Send, end("192.0.2.1", 443, &names)), Ask, "{made}");
    // A socket with a path.
    let unix = End::Path(b"/run/x.sock");
    let made = always(&closed, &[Act::Network { accesses, end: unix }]).unwrap();
    assert!(made.contains("to: [\"unix:/run/x.sock\"]"), "{made}");
}

#[test]
fn what_cannot_be_said_is_refused() {
    let flow = "version: 1\nname: p\nfiles: { default: deny }\n";
    let read_x = [file(&[Access::Read], "/x")];
    assert!(matches!(always(flow, &read_x), Err(AlwaysError::Edit(_))));
    assert!(matches!(always("version: 2\n", &read_x), Err(AlwaysError::NoPolicy(_))));
    let text = "version: 1\nname: p\nfiles:\n  default: deny\n";
    assert!(matches!(always(text, &[file(&[Access::Read], "pipe:[1]")]), Err(AlwaysError::Nameless(_))));
    // A rule on contents is read by the kernel alone, and stays what it is.
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let text = format!(
        "version: 1\nname: p\nexec:\n  default: allow\n  rules:\n    - {{ name: bad, deny: [run], sha256: [{digest}] }}\n    \
         - {{ name: wget, ask: [run], path: [/usr/bin/wget] }}\n"
    );
    let made = always(&text, &[Act::Exec { path: b"/usr/bin/wget", sha256: None }]).unwrap();
    assert!(made.contains(&format!("{{ name: bad, deny: [run], sha256: [{digest}] }}")), "{made}");
    assert!(
        made.contains("{ name: wget, ask: [run], except: [\"/usr/bin/wget\"], path: [/usr/bin/wget] }"),
        "{made}"
    );
}
