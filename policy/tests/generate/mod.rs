//! Random policies and attempts, from few words, so that they meet.
#![allow(dead_code, reason = "each test uses some of it")]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::compile::lsm::{LsmPlan, NetEnd, Sets};
use policy::{AccessSet, End, Owner, Policy, Protocol, Subject, Variables};
use proptest::prelude::*;
use proptest::sample::select;

/// A component of a pattern, from few letters, so that patterns overlap.
fn component() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => select(vec!["a", "b", "ab", "c", "x.y", ".e"]).prop_map(str::to_owned),
        2 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => select(vec!["[ab]", "[!a]", "[a-c]", "[+-9]", "[!\\x01-\\x7f]"]).prop_map(str::to_owned),
        1 => select(vec!["{a,b}", "{a,bc,}", "{x,{a,b}c}", "\\x0a", "\\xff", "\\*", "é"]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 1..3)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("stars", |text| !text.contains("**") && !text.starts_with("{a,bc,}") && text != ".")
}

pub fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => component(), 2 => Just("**".to_owned()), 1 => component().prop_map(|c| format!("c**{c}"))
        .prop_filter("stars", |text| !text.contains("***"))];
    (any::<bool>(), prop::collection::vec(part, 1..4), any::<bool>()).prop_map(|(floating, parts, below)| {
        let start = if floating { "**/" } else { "/" };
        let end = if below { "/**" } else { "" };
        format!("{start}{}{end}", parts.join("/"))
    })
}

pub fn path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(vec!["a", "b", "c", "ab", "bc", "x.y", ".e", "ac", "bb", "x"]).prop_map(|s| s.as_bytes().to_vec()),
        1 => select(vec![&b"\n"[..], b"\xff", b"*", "é".as_bytes(), b"5", b"+"]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>().prop_filter("a name", |b| *b != 0 && *b != b'/'), 1..4),
    ];
    let component = prop::collection::vec(piece, 1..3).prop_map(|pieces| pieces.concat());
    let absolute = prop::collection::vec(component.boxed(), 0..6).prop_map(|parts| {
        let mut path: Vec<u8> = parts.iter().flat_map(|part| [b"/", part.as_slice()].concat()).collect();
        if path.is_empty() {
            path.push(b'/');
        }
        path
    });
    let absolute = absolute.boxed();
    let deep = (select(vec!["a", "b", "c", "ab"]), 25..40_usize)
        .prop_map(|(name, levels)| format!("/{name}").repeat(levels).into_bytes());
    let long = (select(vec!["a", "x.y", "é"]), 256..1000_usize, absolute.clone())
        .prop_map(|(name, length, below)| [format!("/{}", name.repeat(length)).as_bytes(), &below].concat());
    prop_oneof![
        40 => absolute,
        2 => prop::collection::vec(any::<u8>(), 0..20),
        1 => deep,
        1 => long,
    ]
}

/// A rule, its objects as they are written.
#[derive(Clone, Debug)]
pub struct Rule {
    deny: bool,
    accesses: Vec<&'static str>,
    objects: Vec<String>,
    except: Vec<String>,
    who: &'static str,
}

/// Conditions that meet the executables of [`executed`].
fn who() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "",
        "",
        ", by: [\"/bin/*\"]",
        ", by: [\"**/a\"], under: [\"/opt/**\"]",
        ", unless_by: [\"/bin/a\", \"**/c\"]",
        ", under: [\"**/b\"]",
        ", unless_by: [\"/opt/**\"], under: [\"**/a\"]",
    ])
}

/// The executables of a process, one after the other, its ancestors' included; an empty one is not known.
pub fn executed() -> impl Strategy<Value = Vec<&'static [u8]>> {
    let exes: Vec<&[u8]> = vec![b"/bin/a", b"/bin/b", b"/opt/a", b"/opt/c", b"/x/b", b""];
    prop::collection::vec(select(exes), 0..4)
}

/// What the tables know of such a process.
pub fn sets(plan: &LsmPlan, executed: &[&[u8]]) -> Sets {
    executed.iter().fold(Sets::FIRST, |known, exe| {
        plan.sets_of((!exe.is_empty()).then_some(*exe), &known).expect("whole tables")
    })
}

/// The process as the oracle knows it.
pub fn subject<'a>(executed: &'a [&'a [u8]]) -> Subject<'a> {
    match executed.split_last() {
        Some((exe, ancestors)) => Subject { exe, ancestors },
        // Nothing yet: it may be any, though it is no one's ancestor as that.
        None => Subject { exe: b"", ancestors: &[] },
    }
}

fn rule(
    accesses: &'static [&'static str],
    object: impl Strategy<Value = String> + Clone,
) -> impl Strategy<Value = Rule> {
    let accesses = prop::sample::subsequence(accesses.to_vec(), 1..=accesses.len());
    let except = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(object.clone(), 1..3)];
    (any::<bool>(), accesses, prop::collection::vec(object, 1..4), except, who())
        .prop_map(|(deny, accesses, objects, except, who)| Rule { deny, accesses, objects, except, who })
}

pub fn path_rule(accesses: &'static [&'static str]) -> impl Strategy<Value = Rule> {
    rule(accesses, pattern().boxed())
}

pub fn network_rule() -> impl Strategy<Value = Rule> {
    rule(NETWORK, target().boxed())
}

fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|t| format!("\"{}\"", t.replace('\\', "\\\\"))).collect();
    texts.join(", ")
}

/// A section: `files`, `exec` or `network`.
pub fn section(name: &str, deny: bool, rules: &[Rule]) -> String {
    let word = |deny| if deny { "deny" } else { "allow" };
    let object = if name == "network" { "to" } else { "path" };
    let mut text = format!("{name}:\n  default: {}\n", word(deny));
    if !rules.is_empty() {
        text.push_str("  rules:\n");
    }
    for (i, rule) in rules.iter().enumerate() {
        let _ = writeln!(
            text,
            "    - {{ name: {name}-{i}, {}: [{}], {object}: [{}], except: [{}]{} }}",
            word(rule.deny),
            rule.accesses.join(", "),
            quoted(&rule.objects),
            quoted(&rule.except),
            rule.who,
        );
    }
    text
}

pub fn parse(text: &str) -> Policy {
    Policy::parse("generated.yaml", text, &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}\n\n{text}"))
}

pub const FILES: &[&str] = &["read", "write", "create", "delete", "attributes", "load"];

/// A target of any kind.
pub fn target() -> impl Strategy<Value = String> {
    prop_oneof![6 => address_target(), 3 => host_target(), 1 => own_target(), 2 => unix_target()]
}

/// What may stand behind an address, a name or `own`.
fn ports() -> impl Strategy<Value = String> {
    let port = prop_oneof![3 => Just(String::new()), 1 => select(vec![":80", ":0", ":65535"]).prop_map(str::to_owned),
        2 => (0..8_u16, 0..8_u16).prop_map(|(low, more)| format!(":{}-{}", 78 + low, 78 + low + more))];
    (port, select(vec!["", "", "/tcp", "/udp"])).prop_map(|(port, proto)| format!("{port}{proto}"))
}

fn host_target() -> impl Strategy<Value = String> {
    let host = select(vec![
        "example.com",
        "Example.com.",
        "*.example.com",
        "a.example.com",
        "b.a.example.com",
        "*.a.EXAMPLE.com",
        "*.com",
        "com",
        "x-example.com",
        "_x.org",
    ]);
    (host, ports()).prop_map(|(host, ports)| format!("{host}{ports}"))
}

fn own_target() -> impl Strategy<Value = String> {
    ports().prop_map(|ports| format!("own{ports}"))
}

fn unix_target() -> impl Strategy<Value = String> {
    let names = select(vec!["@a", "@a*", "@*", "@b/**", "@a/{b,c}", "@[!a]b", "/a/**", "/**"]);
    prop_oneof![1 => names.prop_map(|name| format!("unix:{name}")), 1 => pattern().prop_map(|p| format!("unix:{p}"))]
}

/// A name by which an address is known, of any shape.
pub fn host_name() -> impl Strategy<Value = &'static str> {
    select(vec![
        "example.com",
        "EXAMPLE.com.",
        "a.example.com",
        "A.example.COM",
        "b.a.example.com",
        "c.b.a.example.com.",
        "xexample.com",
        "x-example.com",
        ".example.com",
        "a..example.com",
        "example.com..",
        "com",
        "_x.org",
        "y.org",
        "",
        ".",
        "é.com",
        "a\0.example.com",
    ])
}

/// An end that is tried.
#[derive(Clone, Debug)]
pub enum Tried {
    Address { address: IpAddr, port: u16, protocol: Protocol, names: Vec<&'static str>, owner: Owner },
    Path(Vec<u8>),
    Abstract(Vec<u8>),
    Other,
}

pub fn tried() -> impl Strategy<Value = Tried> {
    let port = prop_oneof![6 => 77..93_u16, 1 => Just(0), 1 => any::<u16>()];
    let names = prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(host_name(), 1..4)];
    let owner = select(vec![Owner::Elsewhere, Owner::Elsewhere, Owner::Run]);
    let at = (address(), port, select(Protocol::ALL.to_vec()), names, owner);
    let at = at.prop_map(|(address, port, protocol, names, owner)| Tried::Address {
        address,
        port,
        protocol,
        names,
        owner,
    });
    let name = prop_oneof![
        3 => select(vec!["a", "ab", "b/c", "a/b", "b", "xb", "a\0", ""]).prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop_oneof![
        8 => at,
        2 => path().prop_map(Tried::Path),
        2 => name.prop_map(Tried::Abstract),
        1 => Just(Tried::Other),
    ]
}

impl Tried {
    /// As the oracle knows it.
    pub fn end(&self) -> End<'_> {
        match self {
            Tried::Address { address, port, protocol, names, owner } => {
                End::Address { address: *address, port: *port, protocol: *protocol, names, owner: *owner }
            }
            Tried::Path(path) => End::Path(path),
            Tried::Abstract(name) => End::Abstract(name),
            Tried::Other => End::Other,
        }
    }

    /// What the tables deny there.
    pub fn denied(&self, plan: &LsmPlan, sets: &Sets, accesses: AccessSet) -> AccessSet {
        let nodes: Vec<u32> = match self {
            Tried::Address { names, .. } => {
                names.iter().map(|name| plan.host_node(name).expect("whole tables")).collect()
            }
            _ => Vec::new(),
        };
        let end = match self {
            Tried::Address { address, port, protocol, owner, .. } => {
                let own = *owner == Owner::Run;
                NetEnd::Address { address: *address, port: *port, protocol: *protocol, nodes: &nodes, own }
            }
            Tried::Path(path) => NetEnd::Path(path),
            Tried::Abstract(name) => NetEnd::Abstract(name),
            Tried::Other => NetEnd::Other,
        };
        plan.denied_to(sets, accesses, &end).expect("whole tables")
    }
}

/// A target that is an address, from few ones, so that prefixes lie in each other.
fn address_target() -> impl Strategy<Value = String> {
    let v4 = select(vec![
        "any",
        "localhost",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
        "0.0.0.0/0",
        "0.0.0.0",
        "127.0.0.1",
        "::ffff:10.1.2.0/120",
        "128.0.0.0/1",
        "169.254.169.254",
        "255.255.255.255",
    ]);
    let v6 = select(vec![
        "::/0",
        "::1",
        "::",
        "2001:db8::/32",
        "2001:db8::1",
        "::fffe:0:0/95",
        "::/64",
        "8000::/1",
    ]);
    let port = prop_oneof![3 => Just(String::new()), 1 => select(vec!["80", "0", "65535"]).prop_map(str::to_owned),
        2 => (0..8_u16, 0..8_u16).prop_map(|(low, more)| format!("{}-{}", 78 + low, 78 + low + more))];
    let proto = select(vec!["", "", "/tcp", "/udp"]);
    (prop_oneof![v4, v6], port, proto).prop_map(|(host, port, proto)| {
        let host = match (host.contains(':'), host.split_once('/')) {
            (true, Some((address, length))) if !port.is_empty() => format!("[{address}]/{length}"),
            (true, None) if !port.is_empty() => format!("[{host}]"),
            _ => host.to_owned(),
        };
        let colon = if port.is_empty() { "" } else { ":" };
        format!("{host}{colon}{port}{proto}")
    })
}

pub fn address() -> impl Strategy<Value = IpAddr> {
    let near = select(vec![
        "10.1.2.3",
        "10.1.2.4",
        "10.2.0.0",
        "11.0.0.0",
        "0.0.0.0",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "::1",
        "::",
        "::2",
        "2001:db8::1",
        "2001:db9::",
        "::ffff:10.1.2.3",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::fffe:0:0",
        "::10.1.2.3",
        "255.255.255.255",
        "200.0.0.1",
        "fe80::1",
    ]);
    prop_oneof![
        8 => near.prop_map(|text| text.parse::<IpAddr>().expect("an address")),
        1 => any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
    ]
}

pub const NETWORK: &[&str] = &["connect", "send", "bind", "listen"];
