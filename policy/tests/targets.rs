//! Targets that are no addresses: host names, the run's own listeners, unix sockets.

use policy::compile::lsm::{self, Held, LsmPlan, NetEnd, SetTable, Sets};
use policy::compile::{CompileError, Unheld};
use policy::{
    Access, AccessSet, Act, Decision, End, Owner, Policy, Protocol, SectionKind, Subject, Variables, evaluate,
};

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

fn masked(bits: u128, unmasked: u32) -> u128 {
    bits.checked_shr(unmasked).map_or(0, |kept| kept << unmasked)
}

proptest::proptest! {
    /// However it begins: `fd00` could be a host as well.
    #[test]
    fn every_prefix_is_read(bits: u128, length in 0..=128u32, v4: u32, v4_length in 0..=32u32) {
        let v6 = std::net::Ipv6Addr::from_bits(masked(bits, 128 - length));
        let v4 = std::net::Ipv4Addr::from_bits(masked(v4.into(), 32 - v4_length) as u32);
        let policy = allowing(&format!(
            "\"{v6}/{length}\", \"[{v6}]/{length}:443/tcp\", \"{v4}/{v4_length}\", \"{v4}/{v4_length}:1-2/udp\""
        ));
        let says = |address: String| judge(&policy, Bind, at(&address, 1, &[], Owner::Elsewhere));
        proptest::prop_assert_eq!(says(v6.to_string()), Allow);
        proptest::prop_assert_eq!(says(v4.to_string()), Allow);
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

fn compile(policy: &Policy) -> LsmPlan {
    lsm::compile(&[policy], 0, &mut SetTable::new()).expect("it fits")
}

#[test]
fn what_a_layer_would_have_to_know_is_named() {
    let policy = parse(
        "network:\n  default: allow\n  rules:\n    \
         - { name: a, deny: [connect], to: [\"10.0.0.0/8\", \"example.com\", \"*.example.org\"] }\n    \
         - { name: b, deny: [connect], to: [\"11.0.0.0/8\"], except: [\"own\"] }\n    \
         - { name: c, allow: [connect], to: [\"10.0.0.0/8\"], except: [\"unix:/x\"] }\n    \
         - { name: d, deny: [connect], to: [\"unix:@x\"], by: [\"/bin/x\"] }\n    \
         - { name: e, deny: [connect], to: [own], mode: audit }\n",
    );
    let all = SectionKind::Network.accesses();
    let plan = compile(&policy);
    let lines = |unheld: Vec<Unheld>| -> Vec<String> { unheld.iter().map(ToString::to_string).collect() };
    let rest = "which no layer of this run holds";
    let names = format!("rule `p/a` is about a host name, {rest}");
    let own = format!("rule `p/b` makes an exception of `own`, {rest}");
    let sockets = [
        format!("rule `p/c` makes an exception of `unix:`, {rest}"),
        format!("rule `p/d` is about `unix:`, {rest}"),
    ];
    let trial = format!("rule `p/e` is about `own`, {rest}");
    let expected = [names.clone(), own.clone(), sockets[0].clone(), sockets[1].clone(), trial.clone()];
    assert_eq!(lines(plan.unheld(&Held::of(all))), expected);
    assert_eq!(lines(lsm::beyond(&policy, &Held::of(AccessSet::EMPTY))), expected);
    assert_eq!(lines(plan.unheld(&Held { unix: false, ..Held::whole(all) })), sockets);
    assert_eq!(lines(plan.unheld(&Held { own: false, ..Held::whole(all) })), [own, trial]);
    assert_eq!(lines(plan.unheld(&Held { names: false, ..Held::whole(all) })), [names]);
    let bound = format!("rule `p/d` is bound to a process by `by`, {rest}");
    assert_eq!(lines(plan.unheld(&Held { conditions: false, ..Held::whole(all) })), [bound]);
    assert_eq!(plan.unheld(&Held::whole(all)), []);
    let (kept, unheld) = lsm::expressible(&policy);
    assert_eq!((kept.network().rules().len(), unheld), (5, Vec::new()));
}

/// What the tables deny, each name by its node.
fn denied(plan: &LsmPlan, access: Access, address: &str, port: u16, names: &[&str], own: bool) -> bool {
    let nodes: Vec<u32> = names.iter().map(|name| plan.host_node(name).expect("whole tables")).collect();
    let address = address.parse().expect("an address");
    let end = NetEnd::Address { address, port, protocol: Protocol::Tcp, nodes: &nodes, own };
    plan.denied_to(&Sets::UNKNOWN, access.into(), &end).expect("whole tables").contains(access)
}

#[test]
fn an_exception_that_only_another_source_knows_is_made() {
    let policy = parse(
        "network:\n  default: deny\n  rules:\n    \
         - { name: all, allow: [connect, bind], to: [any], except: [\"evil.example:443\", \"own:8080\"] }\n",
    );
    let plan = compile(&policy);
    assert_eq!((plan.header.net_marks, plan.header.names, plan.header.parts), (1, 1, 1));
    assert!(!denied(&plan, Connect, "192.0.2.1", 443, &[], false));
    assert!(!denied(&plan, Connect, "192.0.2.1", 443, &["good.example"], false));
    assert!(denied(&plan, Connect, "192.0.2.1", 443, &["good.example", "Evil.example."], false));
    assert!(!denied(&plan, Connect, "192.0.2.1", 80, &["evil.example"], false), "at that port only");
    assert!(denied(&plan, Connect, "127.0.0.1", 8080, &[], true));
    assert!(!denied(&plan, Connect, "127.0.0.1", 8080, &[], false));
    assert!(denied(&plan, Bind, "127.0.0.1", 8080, &[], false), "what is bound is the run's");
    assert!(!denied(&plan, Bind, "127.0.0.1", 443, &[], false));

    let policy = parse(
        "network:\n  default: deny\n  rules:\n    \
         - { name: cdn, allow: [connect], to: [\"*.cdn.example\"], except: [\"10.0.0.0/8\", \"x.cdn.example\"] }\n    \
         - { name: own, allow: [connect], to: [own], except: [\"127.0.0.9\"] }\n",
    );
    let plan = compile(&policy);
    assert!(!denied(&plan, Connect, "192.0.2.1", 443, &["a.cdn.example"], false));
    assert!(denied(&plan, Connect, "10.1.1.1", 443, &["a.cdn.example"], false), "an answer from inside");
    assert!(denied(&plan, Connect, "192.0.2.1", 443, &["a.cdn.example", "x.cdn.example"], false));
    assert!(
        !denied(&plan, Connect, "127.0.0.1", 1, &[], true)
            && denied(&plan, Connect, "127.0.0.9", 1, &[], true)
    );

    // What one source can settle by itself needs no set.
    let policy = parse(
        "network:\n  default: deny\n  rules:\n    \
         - { name: a, allow: [connect], to: [any], except: [\"10.0.0.0/8\", \"unix:/x\"] }\n    \
         - { name: b, allow: [connect], to: [\"unix:/a/**\"], except: [\"unix:/a/b\", \"own\"] }\n    \
         - { name: c, allow: [connect], to: [own], except: [\"own:80\"] }\n",
    );
    assert_eq!(compile(&policy).header.net_marks, 0);
}

#[test]
fn more_lists_of_such_exceptions_than_there_is_room_for_are_refused() {
    let policy = |count: usize| {
        let rule = |i| format!("{{ name: r{i}, allow: [connect], to: [any], except: [\"h{i}.example\"] }}");
        let rules: Vec<String> = (0..count).map(rule).collect();
        // Each list once, however many rules make it.
        let again = "{ name: again, deny: [send], to: [own], except: [\"h0.example\"] }";
        parse(&format!("network: {{ default: deny, rules: [{}, {again}] }}\n", rules.join(", ")))
    };
    let plan = compile(&policy(64));
    assert!(!denied(&plan, Connect, "192.0.2.1", 1, &["h5.example"], false), "63 others allow it");
    let error = lsm::compile(&[&policy(65)], 0, &mut SetTable::new()).unwrap_err();
    assert!(
        matches!(&error, CompileError::ExceptionsTooMany { limit: 64, rules } if rules.len() == 5),
        "{error}"
    );
    assert!(error.to_string().contains("`p/r"), "{error}");
}

#[test]
fn thousands_of_names_fit_and_are_told_apart() {
    let host = |i: usize| match i % 3 {
        0 => format!("host-{i}.example.com:443"),
        1 => format!("*.zone-{i}.example.org"),
        _ => format!("h{i}.internal:80-90/tcp"),
    };
    let hosts: Vec<String> = (0..6000).map(|i| format!("\"{}\"", host(i))).collect();
    let plan = compile(&allowing(&hosts.join(", ")));
    assert!(plan.cells.len() < 1 << 19, "{} cells", plan.cells.len());
    let open = |name: &str, port| !denied(&plan, Connect, "192.0.2.1", port, &[name], false);
    for i in (0..6000).step_by(300) {
        assert!(open(&format!("host-{i}.example.com"), 443) && !open(&format!("host-{i}.example.com"), 80));
        assert!(
            open(&format!("a.b.zone-{}.example.org", i + 1), 7)
                && !open(&format!("zone-{}.example.org", i + 1), 7)
        );
        assert!(open(&format!("h{}.internal", i + 2), 85) && !open(&format!("xh{}.internal", i + 2), 85));
    }
    // Names that mean the same share a node.
    assert_eq!(plan.host_node("host-0.example.com"), plan.host_node("host-3.example.com"));
    let long = |i: usize| {
        format!(
            "\"{}.{i}x.example\"",
            ["a".repeat(58), "b".repeat(58), "c".repeat(58)].join(&format!("{i}."))
        )
    };
    let hosts: Vec<String> = (1000..5000).map(long).collect();
    let error = lsm::compile(&[&allowing(&hosts.join(", "))], 0, &mut SetTable::new()).unwrap_err();
    assert!(
        matches!(&error, CompileError::AddressesTooMany { what: "states for host names", rules, .. } if rules[0].as_str() == "p/r"),
        "{error}"
    );
}

#[test]
fn unix_sockets_are_read_from_their_tables() {
    let policy = parse(
        "network:\n  default: deny\n  rules:\n    \
         - { name: a, allow: [connect], to: [\"unix:/run/**\", \"unix:@app-*\"], except: [\"unix:/run/docker.sock\"] }\n    \
         - { name: b, deny: [connect], to: [\"unix:@app-2\"] }\n",
    );
    let plan = compile(&policy);
    assert_eq!((plan.header.unix, plan.header.names, plan.header.net_marks), (1, 0, 0));
    let open = |end: &NetEnd<'_>| plan.denied_to(&Sets::UNKNOWN, Connect.into(), end).unwrap().is_empty();
    assert!(
        open(&NetEnd::Path(b"/run/x"))
            && !open(&NetEnd::Path(b"/run/docker.sock"))
            && !open(&NetEnd::Path(b"/x"))
    );
    assert!(
        open(&NetEnd::Abstract(b"app-1"))
            && !open(&NetEnd::Abstract(b"app-2"))
            && !open(&NetEnd::Abstract(b"ap"))
    );
    assert!(!open(&NetEnd::Path(b"/@app-1")) && !open(&NetEnd::Other));
}

#[test]
fn binding_to_port_0_is_not_judged_and_listening_is() {
    let policy = parse("network: { default: deny }\n");
    let plan = compile(&policy);
    for (access, port, closed) in
        [(Bind, 0, false), (Bind, 1, true), (Access::Listen, 0, true), (Connect, 0, true)]
    {
        let end = at("127.0.0.1", port, &[], Owner::Run);
        assert_eq!(judge(&policy, access, end) != Allow, closed, "{access} {port}");
        assert_eq!(denied(&plan, access, "127.0.0.1", port, &[], true), closed, "{access} {port}");
    }
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
