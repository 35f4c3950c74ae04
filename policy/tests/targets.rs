//! Targets that are no addresses: host names, the run's own listeners, unix sockets. The tables of the `lsm`
//! layer have none of them, and say so.

use policy::compile::lsm::{self, SetTable, Sets};
use policy::{
    Access, Act, Decision, End, Owner, Policy, Protocol, SectionKind, Subject, Variables, evaluate,
};
use proptest::prelude::*;
use proptest::sample::select;

use Access::{Bind, Connect};
use Decision::{Allow, Deny};

fn parse(text: &str) -> Policy {
    let mut variables = Variables::new();
    variables.set_env("SOCK", "/run/agent*");
    Policy::parse("test.yaml", &format!("version: 1\nname: p\n{text}"), &variables)
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn allowing(targets: &str) -> Policy {
    parse(&format!("network:\n  default: deny\n  rules: [{{ name: r, allow: [all], to: [{targets}] }}]\n"))
}

fn judge(policy: &Policy, access: Access, end: End<'_>) -> Decision {
    evaluate::judge(policy, &Subject::UNKNOWN, &Act::Network { accesses: access.into(), end }).decision
}

fn at<'a>(address: &str, port: u16, names: &'a [&'a str], owner: Owner) -> End<'a> {
    End::Address {
        address: address.parse().expect("an address"),
        port,
        protocol: Protocol::Tcp,
        names,
        owner,
    }
}

#[test]
fn host_names_are_those_by_which_an_address_is_known() {
    let policy = allowing("\"Api.example.com:443\", \"*.cdn.example\", \"intranet/udp\"");
    let says = |name: &str, port| judge(&policy, Connect, at("192.0.2.1", port, &[name], Owner::Elsewhere));
    assert_eq!(says("api.example.com", 443), Allow);
    assert_eq!(says("API.example.com.", 443), Allow);
    assert_eq!(says("api.example.com", 80), Deny);
    assert_eq!(says("x.api.example.com", 443), Deny);
    assert_eq!(says("a.b.cdn.example", 1), Allow);
    assert_eq!(says("cdn.example", 1), Deny);
    assert_eq!(says("xcdn.example", 1), Deny);
    assert_eq!(says("intranet", 1), Deny, "another protocol");
    assert_eq!(judge(&policy, Connect, at("192.0.2.1", 443, &[], Owner::Elsewhere)), Deny);
    assert_eq!(judge(&policy, Bind, at("192.0.2.1", 443, &["api.example.com"], Owner::Run)), Deny);
}

#[test]
fn own_listeners_and_unix_sockets() {
    let own = allowing("\"own:1024-65535\"");
    assert_eq!(judge(&own, Connect, at("127.0.0.1", 8080, &[], Owner::Run)), Allow);
    assert_eq!(judge(&own, Connect, at("127.0.0.1", 8080, &[], Owner::Elsewhere)), Deny);
    assert_eq!(judge(&own, Connect, at("127.0.0.1", 80, &[], Owner::Run)), Deny);
    assert_eq!(judge(&own, Bind, at("127.0.0.1", 8080, &[], Owner::Elsewhere)), Allow);
    let unix =
        allowing("\"unix:/run/x/*.sock\", \"unix:@/tmp/.X11-unix/X*\", \"unix:@dbus\", \"unix:${env.SOCK}\"");
    for (path, decision) in [
        ("/run/x/a.sock", Allow),
        ("/run/x/a", Deny),
        ("/run/agent*", Allow),
        ("/run/agents", Deny),
        ("/@dbus", Deny),
    ] {
        assert_eq!(judge(&unix, Connect, End::Path(path.as_bytes())), decision, "{path}");
    }
    for (name, decision) in
        [("dbus", Allow), ("dbus2", Deny), ("/tmp/.X11-unix/X0", Allow), ("/run/x/a.sock", Deny)]
    {
        assert_eq!(judge(&unix, Connect, End::Abstract(name.as_bytes())), decision, "@{name}");
    }
    let any = allowing("any");
    assert_eq!(judge(&any, Connect, End::Path(b"/run/x")), Deny, "`any` is every address");
    assert_eq!(judge(&any, Connect, End::Other), Deny);
}

#[test]
fn the_tables_have_addresses_only_and_the_rest_is_named() {
    let policy = parse(
        "network:\n  default: allow\n  rules:\n    \
         - { name: a, deny: [connect], to: [\"10.0.0.0/8\", \"example.com\", \"*.example.org\"] }\n    \
         - { name: b, deny: [connect], to: [\"11.0.0.0/8\"], except: [\"own\"] }\n    \
         - { name: c, allow: [connect], to: [\"10.0.0.0/8\"], except: [\"unix:/x\"] }\n    \
         - { name: d, deny: [connect], to: [\"unix:@x\"] }\n",
    );
    let plan = lsm::compile(&[&policy], 0, &mut SetTable::new()).unwrap();
    let named: Vec<String> =
        plan.unheld(SectionKind::Network.accesses()).iter().map(ToString::to_string).collect();
    let rest = "which no layer of this run holds";
    assert_eq!(
        named,
        [
            format!("rule `p/a` is about a host name, {rest}"),
            format!("rule `p/b` makes an exception of `own`, {rest}"),
            format!("rule `p/c` makes an exception of `unix:`, {rest}"),
            format!("rule `p/d` is about `unix:`, {rest}"),
        ]
    );
    let (kept, _) = lsm::expressible(&policy);
    let names: Vec<&str> = kept.network().rules().iter().map(|rule| rule.name().as_str()).collect();
    assert_eq!(names, ["p/a", "p/b"]);
}

#[test]
fn examples_have_names_and_sockets() {
    let policy = parse(
        "network:\n  default: deny\n  rules:\n    \
         - { name: r, allow: [connect], to: [\"example.com\", \"own:8000-9000\", \"unix:/run/x\", \"unix:@x\"] }\n\
         examples:\n  \
         - { connect: \"192.0.2.1:443\", host: example.com, verdict: allow }\n  \
         - { connect: \"192.0.2.1:443\", verdict: deny }\n  \
         - { connect: \"own:8080\", verdict: allow }\n  \
         - { connect: \"127.0.0.1:8080\", verdict: deny }\n  \
         - { connect: \"unix:/run/x\", verdict: allow }\n  \
         - { connect: \"unix:@x\", verdict: allow }\n",
    );
    policy.check_examples().unwrap_or_else(|errors| panic!("{errors}"));
    let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
    again.check_examples().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.effective_yaml(), policy.effective_yaml());
}

const TARGETS: [&str; 9] = [
    "any",
    "10.0.0.0/8",
    "localhost:80-90",
    "example.com",
    "*.example.com:80",
    "own",
    "unix:/a/**",
    "unix:@a*",
    "[2001:db8::1]:80",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn tables_and_print_keep_the_meaning(
        default in select(vec!["allow", "deny"]),
        rules in prop::collection::vec(
            (select(vec!["allow", "deny", "ask"]), prop::sample::subsequence(TARGETS.to_vec(), 1..4),
             prop::sample::subsequence(TARGETS.to_vec(), 0..2)), 0..5),
        address in select(vec!["10.1.1.1", "127.0.0.1", "::", "2001:db8::1", "192.0.2.1"]),
        port in select(vec![80_u16, 443]),
        name in select(vec!["example.com", "a.example.com", "x.org"]),
        owner in select(vec![Owner::Run, Owner::Elsewhere]),
    ) {
        let quoted = |targets: &[&str]| targets.iter().map(|t| format!("\"{t}\"")).collect::<Vec<_>>().join(", ");
        let rules: Vec<String> = rules.iter().enumerate().map(|(i, (effect, to, except))| {
            format!("{{ name: r{i}, {effect}: [connect, bind], to: [{}], except: [{}] }}", quoted(to), quoted(except))
        }).collect();
        let policy = parse(&format!("network: {{ default: {default}, rules: [{}] }}\n", rules.join(", ")));
        let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new()).unwrap();
        prop_assert_eq!(again.effective_yaml(), policy.effective_yaml());
        let plan = lsm::compile(&[&policy], 0, &mut SetTable::new()).unwrap();
        let (kept, left_out) = lsm::expressible(&policy);
        for access in [Connect, Bind] {
            let names = [name];
            let ends = [at(address, port, &names, owner), End::Path(b"/a/b"), End::Abstract(b"ab"), End::Other];
            for end in ends {
                prop_assert_eq!(judge(&policy, access, end), judge(&again, access, end));
            }
            let ip = address.parse().unwrap();
            let denied = plan.denied_to(&Sets::UNKNOWN, access.into(), ip, port, Protocol::Tcp).unwrap().contains(access);
            prop_assert_eq!(denied, judge(&kept, access, ends[0]) != Allow);
            // What passes and should not is named.
            prop_assert!(denied || judge(&policy, access, ends[0]) == Allow || !left_out.is_empty());
        }
    }
}
