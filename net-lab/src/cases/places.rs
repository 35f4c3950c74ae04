//! Where connections go: which addresses are open, and what opens them.

use super::{DEFAULT, NO_ADDRESS, NONE};
use crate::trial::{Case, Event, Move, Step};

/// An address is open by its name only, and only where the rule says so.
pub(super) const ADDRESSES: Case = Case {
    name: "addresses without a name",
    steps: &[
        Step::held("tcp=203.0.113.80:443", "ok", "EPERM"),
        Step::held("tcp=[2001:db8:113::80]:443", "ok", "EPERM"),
        Step::same("resolve=good.lab.test", "2001:db8:113::80,203.0.113.80"),
        Step::same("tcp=203.0.113.80:443", "ok"),
        Step::same("tcp=[::ffff:203.0.113.80]:443", "ok"),
        Step::same("tcp=[2001:db8:113::80]:443", "ok"),
        Step::held("tcp=203.0.113.80:80", "ok", "EPERM"),
        Step::held("tcp=203.0.113.80:8443", "ok", "EPERM"),
        Step::held("tcp=203.0.113.81:443", "ok", "EPERM"),
        Step::held("tcp=[::ffff:203.0.113.82]:443", "ok", "EPERM"),
        Step::held("tcp=[2001:db8:113::85]:443", "ok", "EPERM"),
    ],
    events: &[
        blocked!("203.0.113.80", "443"),
        blocked!("2001:db8:113::80", "443"),
        connected!("203.0.113.80", "443", "good.lab.test"),
        connected!("2001:db8:113::80", "443", "good.lab.test"),
        blocked!("203.0.113.80", "80"),
        blocked!("203.0.113.80", "8443"),
        blocked!("203.0.113.81", "443"),
        blocked!("203.0.113.82", "443"),
        blocked!("2001:db8:113::85", "443"),
    ],
    arrives: &["tls accept 203.0.113.80:443", "tls accept [2001:db8:113::80]:443"],
    never: &[
        "http accept",
        "accept 203.0.113.80:8443",
        "accept 203.0.113.81",
        "accept 203.0.113.82",
        "accept [2001:db8:113::85]",
    ],
    ..NONE
};

/// Only the machine's resolver is asked, and only as it is configured.
pub(super) const RESOLVERS: Case = Case {
    name: "other resolvers",
    steps: &[
        Step::held("ask=203.0.113.54,good.lab.test,A", "NOERROR 203.0.113.80", "EPERM"),
        Step::held("ask=203.0.113.54,good.lab.test,A,tcp", "NOERROR 203.0.113.80", "EPERM"),
        Step::held("pair=203.0.113.54,good.lab.test", "NOERROR 203.0.113.80; NOERROR", "EPERM"),
        Step::held("ask=2001:db8:113::53,v4.git.lab.test,A", "NOERROR 203.0.113.85", "EPERM"),
        // By TLS, at the resolver's own address, and by HTTPS.
        Step::held("tcp=203.0.113.53:853", "ok", "EPERM"),
        Step::held("tcp=203.0.113.84:443", "ok", "EPERM"),
        Step::same("ask=203.0.113.53,good.lab.test,A", "NOERROR 203.0.113.80"),
    ],
    events: &[
        blocked!("203.0.113.54", "53"),
        blocked!("net_send", "203.0.113.54", "53"),
        blocked!("2001:db8:113::53", "53"),
        blocked!("203.0.113.53", "853"),
        blocked!("203.0.113.84", "443"),
        asked!("good.lab.test", "A", "203.0.113.80"),
    ],
    arrives: &["resolver A good.lab.test"],
    never: &[
        "rogue question",
        "rogue accept",
        "resolver A v4.git.lab.test",
        "dot accept",
        "accept 203.0.113.84",
    ],
    ..NONE
};

/// By way of another address than the one that is open.
pub(super) const ROUTES: Case = Case {
    name: "a routing header",
    policy: ROUTES_POLICY,
    steps: &[Step::held("routed=2001:db8:113::80,9,2001:db8:113::85", "sent", "EPERM")],
    ..NONE
};

const ROUTES_POLICY: &str = r#"
version: 1
name: lab
network:
  default: deny
  rules:
    - { name: there, allow: [send], to: ["[2001:db8:113::80]:9/udp"] }
"#;

/// What the run tells itself opens nothing.
pub(super) const FORGED: Case = Case {
    name: "forged answers",
    steps: &[
        Step::same("resolve=good.lab.test", "2001:db8:113::80,203.0.113.80"),
        Step::same("forge=good.lab.test,203.0.113.84", "NOERROR 203.0.113.84"),
        Step::same("forge_to=203.0.113.53,good.lab.test,203.0.113.84", "sent"),
        Step::held("tcp=203.0.113.84:443", "ok", "EPERM"),
        Step::same("tcp=203.0.113.80:443", "ok"),
    ],
    events: &[
        asked!("good.lab.test", "A", "203.0.113.80"),
        blocked!("203.0.113.84", "443"),
        connected!("203.0.113.80", "443", "good.lab.test"),
    ],
    arrives: &["tls accept 203.0.113.80:443"],
    never: &["accept 203.0.113.84"],
    ..NONE
};

/// Names that lead to this machine and its link: such addresses are taken out of the answer.
pub(super) const REBINDING: Case = Case {
    name: "rebinding",
    steps: &[
        Step::held("resolve=loop.git.lab.test", "127.0.0.1", NO_ADDRESS),
        Step::held("resolve=loop6.git.lab.test", "::1", NO_ADDRESS),
        Step::held("ask=203.0.113.53,mapped.git.lab.test,AAAA", "NOERROR ::ffff:127.0.0.1", "NXDOMAIN"),
        Step::held("resolve=metadata.git.lab.test", "169.254.169.254", NO_ADDRESS),
        Step::held("resolve=machine.git.lab.test", "203.0.113.1", NO_ADDRESS),
        Step::held(
            "ask=203.0.113.53,mixed.git.lab.test,A",
            "NOERROR 127.0.0.1,203.0.113.87",
            "NOERROR 203.0.113.87",
        ),
        Step::same("resolve=private.git.lab.test", "10.113.0.5"),
        Step::same("tcp=10.113.0.5:443", "ok"),
        Step::same("tcp=203.0.113.87:443", "ok"),
        // A database on the machine.
        Step::held("tcp=127.0.0.1:5432", "ok", "EPERM"),
        Step::held("tcp=[::1]:5432", "ok", "EPERM"),
        Step::held("tcp=203.0.113.1:5432", "ok", "EPERM"),
        Step::held("tcp=0.0.0.0:5432", "ok", "EPERM"),
        Step::held("tcp=169.254.169.254:443", "ok", "EPERM"),
    ],
    events: &[
        emptied!("loop.git.lab.test", "A", "127.0.0.1 is not opened: loopback"),
        emptied!("loop6.git.lab.test", "AAAA", "::1 is not opened: loopback"),
        emptied!("metadata.git.lab.test", "A", "169.254.169.254 is not opened: link-local"),
        emptied!("machine.git.lab.test", "A", "203.0.113.1 is not opened: this machine's own"),
        asked!("mixed.git.lab.test", "A", "203.0.113.87", "reason" = "127.0.0.1 is not opened: loopback"),
        asked!("private.git.lab.test", "A", "10.113.0.5"),
        connected!("10.113.0.5", "443", "private.git.lab.test"),
        connected!("203.0.113.87", "443", "mixed.git.lab.test"),
        blocked!("127.0.0.1", "5432"),
        blocked!("::1", "5432"),
        blocked!("203.0.113.1", "5432"),
        // For a connection, that is loopback; the record has it as it was given.
        blocked!("0.0.0.0", "5432"),
        blocked!("169.254.169.254", "443"),
    ],
    arrives: &["tls accept 10.113.0.5:443", "resolver A metadata.git.lab.test"],
    never: &["database accept", "accept 169.254.169.254"],
    ..NONE
};

/// The name gets another address: that is open when it was answered, and what was answered before stays open for as long
/// as it was to.
pub(super) const MOVING: Case = Case {
    name: "another address meanwhile",
    steps: &[
        Step::same("resolve=moving.git.lab.test", "203.0.113.81"),
        Step::same("tcp=203.0.113.81:443", "ok"),
        Step::same("mark=asked", "ok"),
        Step::same("wait=go", "ok"),
        Step::held("tcp=203.0.113.82:443", "ok", "EPERM"),
        Step::same("resolve=moving.git.lab.test", "203.0.113.82"),
        Step::same("tcp=203.0.113.82:443", "ok"),
        Step::same("tcp=203.0.113.81:443", "ok"),
    ],
    events: &[
        asked!("moving.git.lab.test", "A", "203.0.113.81"),
        asked!("moving.git.lab.test", "A", "203.0.113.82"),
        blocked!("203.0.113.82", "443"),
        connected!("203.0.113.81", "443", "moving.git.lab.test"),
        connected!("203.0.113.82", "443", "moving.git.lab.test"),
    ],
    arrives: &["tls accept 203.0.113.81:443", "tls accept 203.0.113.82:443"],
    moves: Some(Move { name: "moving.git.lab.test", from: "203.0.113.81", to: "203.0.113.82" }),
    ..NONE
};

/// Names that the machine knows without asking.
pub(super) const HOSTS_FILE: Case = Case {
    name: "names of the hosts file",
    steps: &[
        Step::same("get=https://listed.git.lab.test/listed", "200 listed.git.lab.test 203.0.113.83"),
        // The policy does not allow this one.
        Step::same("resolve=kept.lab.test", "203.0.113.86"),
        Step::held("tcp=203.0.113.86:443", "ok", "EPERM"),
    ],
    events: &[connected!("203.0.113.83", "443", "listed.git.lab.test"), blocked!("203.0.113.86", "443")],
    arrives: &["tls request listed.git.lab.test /listed"],
    never: &["accept 203.0.113.86"],
    ..NONE
};

/// Servers of the run's own, and their clients.
pub(super) const OWN_SERVERS: Case = Case {
    name: "own servers",
    steps: &[
        Step::same("listen=127.0.0.1:5433", "own"),
        Step::same("listen=[::1]:5434", "own"),
        Step::same("datagrams=127.0.0.1", "own"),
        Step::held("tcp=127.0.0.1:5432", "ok", "EPERM"),
        Step::held("pretend=203.0.113.80:8447,everywhere", "ECONNREFUSED", "EPERM"),
        Step::held("pretend=203.0.113.80:8447,there", "ECONNREFUSED", "EPERM"),
    ],
    events: &[blocked!("127.0.0.1", "5432"), blocked!("203.0.113.80", "8447")],
    never: &["database accept"],
    ..NONE
};

/// An answer that has ended opens nothing any more: a minute is the least that it lasts.
pub const EXPIRED: Case = Case {
    name: "expired answer",
    steps: &[
        Step::same("resolve=short.git.lab.test", "203.0.113.81"),
        Step::same("tcp=203.0.113.81:443", "ok"),
        Step::same("sleep=61", "ok"),
        Step::held("tcp=203.0.113.81:443", "ok", "EPERM"),
        Step::same("resolve=short.git.lab.test", "203.0.113.81"),
        Step::same("tcp=203.0.113.81:443", "ok"),
    ],
    events: &[
        asked!("short.git.lab.test", "A", "203.0.113.81", "ttl" = "1"),
        connected!("203.0.113.81", "443", "short.git.lab.test"),
        blocked!("203.0.113.81", "443"),
    ],
    arrives: &["tls accept 203.0.113.81:443"],
    ..NONE
};
