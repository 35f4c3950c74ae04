//! What names look like, in questions and in connections.

use super::{DEFAULT, NONE, PLAIN_POLICY};
use crate::trial::{Case, Event, Step};

/// Two names share an address: the server name tells them apart.
pub(super) const TLS_NAMES: Case = Case {
    name: "another name on the same address by TLS",
    steps: &[
        Step::same("resolve=good.lab.test", "2001:db8:113::80,203.0.113.80"),
        Step::same("tls=203.0.113.80:443,good.lab.test", "200 good.lab.test 203.0.113.80"),
        Step::same("tls=203.0.113.80:443,GOOD.lab.test", "200 GOOD.lab.test 203.0.113.80"),
        Step::held("tls=203.0.113.80:443,other.lab.test", "200 other.lab.test 203.0.113.80", CUT),
        Step::held("tls=[2001:db8:113::80]:443,other.lab.test", "200 other.lab.test 2001:db8:113::80", CUT),
        Step::held(
            "curl=--resolve other.lab.test:443:203.0.113.80 https://other.lab.test/curl",
            "0 other.lab.test 203.0.113.80",
            "35|56",
        ),
    ],
    events: &[
        asked!("good.lab.test", "A", "203.0.113.80"),
        connected!("203.0.113.80", "443", "good.lab.test"),
        Event {
            kind: "net_name",
            action: "BLOCKED",
            fields: &[("dst_ip", "203.0.113.80"), ("sni", "other.lab.test"), ("host", "good.lab.test")],
        },
        Event {
            kind: "net_name",
            action: "BLOCKED",
            fields: &[("dst_ip", "2001:db8:113::80"), ("sni", "other.lab.test"), ("host", "good.lab.test")],
        },
    ],
    arrives: &["tls hello good.lab.test 203.0.113.80", "tls request good.lab.test /tls"],
    never: &["tls hello other.lab.test", "tls request other.lab.test"],
    ..NONE
};

/// How a connection ends that is cut off: never by waiting for its end.
const CUT: &str = "ECONNRESET|EPIPE|ECONNABORTED|EPERM|SSLEOFError|SSLZeroReturnError";

/// The same by the host of a request.
pub(super) const HTTP_NAMES: Case = Case {
    name: "another name on the same address by HTTP",
    policy: PLAIN_POLICY,
    steps: &[
        Step::same("resolve=good.lab.test", "2001:db8:113::80,203.0.113.80"),
        Step::same("http=203.0.113.80:80,good.lab.test", "200 good.lab.test 203.0.113.80"),
        Step::held(
            "http=203.0.113.80:80,other.lab.test",
            "200 other.lab.test 203.0.113.80",
            "ECONNRESET|EPIPE|ECONNABORTED|EPERM|nothing",
        ),
        Step::held(
            "http_behind=203.0.113.80:80,other.lab.test",
            "200 other.lab.test 203.0.113.80",
            "ECONNRESET|EPIPE|ECONNABORTED|EPERM|nothing",
        ),
    ],
    events: &[
        asked!("good.lab.test", "A", "203.0.113.80"),
        connected!("203.0.113.80", "80", "good.lab.test"),
        Event {
            kind: "net_name",
            action: "BLOCKED",
            fields: &[("dst_ip", "203.0.113.80"), ("dst_port", "80"), ("host", "good.lab.test")],
        },
    ],
    arrives: &["http request good.lab.test /http"],
    never: &["http request other.lab.test"],
    ..NONE
};

/// Nobody of the run takes questions for names, which may be the runner's.
pub(super) const TAKERS: Case = Case {
    name: "answering questions",
    policy: PLAIN_POLICY,
    steps: &[
        Step::held("take=127.0.0.1:53", "ok", "EPERM"),
        Step::held("take=0.0.0.0:53", "ok", "EPERM"),
        Step::same("take=127.0.0.1:5353", "ok"),
    ],
    events: &[
        Event {
            kind: "net_bind",
            action: "BLOCKED",
            fields: &[("src_ip", "127.0.0.1"), ("src_port", "53"), ("policy_rule", "")],
        },
        Event {
            kind: "net_bind",
            action: "BLOCKED",
            fields: &[("src_ip", "0.0.0.0"), ("src_port", "53"), ("policy_rule", "")],
        },
    ],
    ..NONE
};

/// One name, however it is written; and bytes that only look like it.
pub(super) const SPELLING: Case = Case {
    name: "spelling",
    steps: &[
        Step::same("resolve=good.lab.test.", "2001:db8:113::80,203.0.113.80"),
        Step::same("resolve=CODE.Git.Lab.Test", "2001:db8:113::90,203.0.113.90"),
        Step::same("tcp=203.0.113.80:443", "ok"),
        Step::same("tcp=203.0.113.90:443", "ok"),
        Step::held("resolve=Denied.Lab.Test.", "203.0.113.84", "EAI_NONAME"),
        Step::same(r"ask=203.0.113.53,good\000.git.lab.test,A", "NXDOMAIN"),
        Step::same(r"ask=203.0.113.53,spa\032ce.git.lab.test,A", "NXDOMAIN"),
        Step::held("tcp=203.0.113.84:443", "ok", "EPERM"),
    ],
    events: &[
        asked!("good.lab.test", "A", "203.0.113.80"),
        asked!("code.git.lab.test", "A", "203.0.113.90"),
        connected!("203.0.113.80", "443", "good.lab.test"),
        connected!("203.0.113.90", "443", "code.git.lab.test"),
        refused!("denied.lab.test", "A"),
        refused!("denied.lab.test", "AAAA"),
        NOT_A_HOST_NAME_NUL,
        NOT_A_HOST_NAME_SPACE,
        blocked!("203.0.113.84", "443"),
    ],
    arrives: &["resolver A good.lab.test"],
    never: &["spa", "enied", "accept 203.0.113.84"],
    ..NONE
};

const NOT_A_HOST_NAME_NUL: Event = Event {
    kind: "dns_answer",
    action: "BLOCKED",
    fields: &[
        ("host", r"good\000.git.lab.test"),
        ("question", "A"),
        ("rcode", "NXDOMAIN"),
        ("policy_rule", ""),
    ],
};

const NOT_A_HOST_NAME_SPACE: Event = Event {
    kind: "dns_answer",
    action: "BLOCKED",
    fields: &[
        ("host", r"spa\032ce.git.lab.test"),
        ("question", "A"),
        ("rcode", "NXDOMAIN"),
        ("policy_rule", ""),
    ],
};

/// The name that was asked counts, and not those that it is an alias of.
pub(super) const ALIASES: Case = Case {
    name: "aliases",
    steps: &[
        Step::same(
            "get=https://alias.git.lab.test/alias",
            "200 alias.git.lab.test 2001:db8:113::80|200 alias.git.lab.test 203.0.113.80",
        ),
        Step::same("ask=203.0.113.53,alias.git.lab.test,A", "NOERROR 203.0.113.80"),
        Step::same("tcp=203.0.113.80:443", "ok"),
        Step::held("resolve=step.lab.test", "2001:db8:113::80,203.0.113.80", "EAI_NONAME"),
    ],
    events: &[
        asked!("alias.git.lab.test", "A", "203.0.113.80", "target" = "good.lab.test"),
        asked!("alias.git.lab.test", "AAAA", "2001:db8:113::80", "target" = "good.lab.test"),
        connected!("203.0.113.80", "443", "alias.git.lab.test"),
        refused!("step.lab.test", "A"),
        refused!("step.lab.test", "AAAA"),
    ],
    arrives: &["tls request alias.git.lab.test /alias"],
    never: &["step.lab.test"],
    ..NONE
};

/// Answers that a datagram does not hold.
pub(super) const LARGE: Case = Case {
    name: "large answers",
    steps: &[
        Step::same("ask=203.0.113.53,many.git.lab.test,A", "NOERROR TC"),
        Step::same("ask=203.0.113.53,many.git.lab.test,A,edns", "NOERROR TC"),
        Step::same("ask=203.0.113.53,many.git.lab.test,A,tcp", "NOERROR 100 addresses"),
        Step::same("ask=203.0.113.53,text.git.lab.test,TXT", "NOERROR TC"),
        Step::same("ask=203.0.113.53,text.git.lab.test,TXT,edns", "NOERROR text of 753"),
        Step::same("ask=203.0.113.53,text.git.lab.test,TXT,tcp,edns", "NOERROR text of 753"),
        // The C library asks again over TCP.
        Step::same("resolve=many.git.lab.test", "100 addresses"),
        Step::same("tcp=203.0.113.128:443", "ok"),
        Step::same("tcp=203.0.113.227:443", "ok"),
        Step::held("tcp=203.0.113.228:443", "ok", "EPERM"),
    ],
    events: &[
        connected!("203.0.113.128", "443", "many.git.lab.test"),
        connected!("203.0.113.227", "443", "many.git.lab.test"),
        blocked!("203.0.113.228", "443"),
        Event {
            kind: "dns_answer",
            action: "ALLOWED",
            fields: &[
                ("host", "text.git.lab.test"),
                ("question", "TXT"),
                ("proto", "tcp"),
                ("rcode", "NOERROR"),
            ],
        },
    ],
    arrives: &["tls accept 203.0.113.227:443", "resolver TXT text.git.lab.test"],
    never: &["accept 203.0.113.228"],
    ..NONE
};

/// Sockets as other C libraries use them.
pub(super) const SOCKETS: Case = Case {
    name: "sockets of other resolver libraries",
    steps: &[
        Step::same("pair=203.0.113.53,good.lab.test", "NOERROR 203.0.113.80; NOERROR 2001:db8:113::80"),
        Step::held(
            "pair=203.0.113.53,denied.lab.test",
            "NOERROR 203.0.113.84; NOERROR",
            "NXDOMAIN; NXDOMAIN",
        ),
        Step::same("peer=203.0.113.53", "203.0.113.53:53"),
        Step::same("tcp=203.0.113.80:443", "ok"),
    ],
    events: &[
        asked!("good.lab.test", "A", "203.0.113.80"),
        asked!("good.lab.test", "AAAA", "2001:db8:113::80"),
        refused!("denied.lab.test", "A"),
        refused!("denied.lab.test", "AAAA"),
        connected!("203.0.113.80", "443", "good.lab.test"),
    ],
    arrives: &["resolver A good.lab.test", "resolver AAAA good.lab.test"],
    never: &["denied.lab.test"],
    ..NONE
};
