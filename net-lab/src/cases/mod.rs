//! The tables: what is tried, and what must come of it with and without a sandbox.

use crate::trial::Case;

/// The policy of most cases.
const POLICY: &str = r#"
version: 1
name: lab
network:
  default: deny
  rules:
    - { name: web, allow: [connect], to: ["good.lab.test:443/tcp", "*.git.lab.test:443/tcp"] }
    - { name: own, allow: [bind, listen, connect, send], to: ["own:1024-65535"] }
    - { name: local, allow: [all], to: ["unix:/tmp/**"] }
"#;

/// One that leads to a web server without TLS.
const PLAIN_POLICY: &str = r#"
version: 1
name: lab
network:
  default: deny
  rules:
    - { name: web, allow: [connect], to: ["good.lab.test:80/tcp"] }
    - { name: own, allow: [bind], to: ["own"] }
"#;

const DEFAULT: &str = "lab/network.default";

/// A question that the policy allows, and what was answered.
macro_rules! asked {
    ($host:literal, $kind:literal, $answers:literal $(, $key:literal = $value:literal)*) => {
        Event {
            kind: "dns_answer",
            action: "ALLOWED",
            fields: &[
                ("host", $host), ("question", $kind), ("answers", $answers), ("rcode", "NOERROR"),
                ("dst_ip", "203.0.113.53"), ("policy_rule", "lab/web"), $(($key, $value)),*
            ],
        }
    };
}

/// A question that it does not allow.
macro_rules! refused {
    ($host:literal, $kind:literal) => {
        Event {
            kind: "dns_answer",
            action: "BLOCKED",
            fields: &[
                ("host", $host),
                ("question", $kind),
                ("answers", ""),
                ("rcode", "NXDOMAIN"),
                ("dst_ip", "203.0.113.53"),
                ("policy_rule", DEFAULT),
            ],
        }
    };
}

/// A question that the policy allows, with no address in the answer that may be opened.
macro_rules! emptied {
    ($host:literal, $kind:literal, $reason:literal) => {
        Event {
            kind: "dns_answer",
            action: "ALLOWED",
            fields: &[
                ("host", $host),
                ("question", $kind),
                ("answers", ""),
                ("rcode", "NXDOMAIN"),
                ("dst_ip", "203.0.113.53"),
                ("policy_rule", "lab/web"),
                ("reason", $reason),
            ],
        }
    };
}

/// A connection to an address that is known by a name.
macro_rules! connected {
    ($address:literal, $port:literal, $host:literal) => {
        Event {
            kind: "net_connect",
            action: "ALLOWED",
            fields: &[("dst_ip", $address), ("dst_port", $port), ("host", $host)],
        }
    };
}

/// A connection, or a datagram, that the policy does not allow.
macro_rules! blocked {
    ($kind:literal, $address:literal, $port:literal) => {
        Event {
            kind: $kind,
            action: "BLOCKED",
            fields: &[("dst_ip", $address), ("dst_port", $port), ("policy_rule", DEFAULT)],
        }
    };
    ($address:literal, $port:literal) => {
        blocked!("net_connect", $address, $port)
    };
}

const NONE: Case =
    Case { name: "", policy: POLICY, steps: &[], events: &[], arrives: &[], never: &[], moves: None };

mod clients;
mod names;
pub mod packages;
mod places;

pub use places::EXPIRED;

/// Every case that takes no longer than its command, in groups that can be one run each: where a run takes long to start.
/// A group's cases do not open or ask for what another of them must find closed; those that must find something closed
/// at first come first.
pub const GROUPS: &[&[Case]] = &[
    &[clients::ALLOWED_OVER_IPV4, clients::ALLOWED_OVER_IPV6, clients::DENIED],
    &[
        places::ADDRESSES,
        places::RESOLVERS,
        places::FORGED,
        places::HOSTS_FILE,
        places::OWN_SERVERS,
        names::TLS_NAMES,
        names::SPELLING,
        names::LARGE,
        names::SOCKETS,
    ],
    &[places::MOVING, places::REBINDING, clients::METADATA, names::ALIASES],
    &[names::HTTP_NAMES, names::TAKERS],
    &[places::ROUTES],
];

/// What getaddrinfo says of a name that has no address.
const NO_ADDRESS: &str = "EAI_NODATA|EAI_NONAME";
