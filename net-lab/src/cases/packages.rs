//! Package managers against the registries that they have built in, under the policy for agents as it ships. Each case
//! has a place of its own to work in ([`Lab::work_in`](crate::Lab::work_in)): what one has in its caches, the next does
//! not ask for.

use super::NONE;
use crate::trial::{Case, Event, Step};

const RULE: &str = "coding-agent/registries";

/// The same policy without the one rule that names the registries.
const WITHOUT: &str = r#"
version: 1
name: without
extends: [coding-agent@1]
network:
  rules:
    - { amend: coding-agent/registries, disable: true }
"#;

/// A question for the name, and a connection to the address that was answered.
macro_rules! reached {
    ($($host:literal $address:literal),+) => {
        &[$(
            Event {
                kind: "dns_answer",
                action: "ALLOWED",
                fields: &[
                    ("host", $host), ("question", "A"), ("answers", $address), ("rcode", "NOERROR"), ("policy_rule", RULE),
                ],
            },
            Event {
                kind: "net_connect",
                action: "ALLOWED",
                fields: &[
                    ("dst_ip", $address), ("dst_port", "443"), ("proto", "tcp"), ("host", $host), ("policy_rule", RULE),
                ],
            },
        )+]
    };
}

/// A connection that the relay made, and the server that was named on it.
macro_rules! relayed {
    ($($host:literal $address:literal),+) => {
        &[$(
            Event {
                kind: "net_connect",
                action: "ALLOWED",
                fields: &[
                    ("dst_ip", $address), ("dst_port", "443"), ("proto", "tcp"), ("host", $host), ("policy_rule", RULE),
                    ("layer", "netns"), ("ret", "0"),
                ],
            },
            Event {
                kind: "net_name",
                action: "ALLOWED",
                fields: &[("dst_ip", $address), ("sni", $host), ("proto", "tls"), ("layer", "netns")],
            },
        )+]
    };
}

/// A question that is not asked.
macro_rules! refused {
    ($($host:literal $kind:literal),+) => {
        &[$(
            Event {
                kind: "dns_answer",
                action: "BLOCKED",
                fields: &[
                    ("host", $host), ("question", $kind), ("answers", ""), ("rcode", "NXDOMAIN"),
                    ("policy_rule", "without/network.default"),
                ],
            },
        )+]
    };
}

/// The group names of the policy are enough.
pub const SHIPPED: Case = Case {
    name: "registries",
    policy: "coding-agent",
    steps: &[
        Step::same("npm=netlab-top", "0 netlab-leaf@1.0.0 netlab-top@1.0.0"),
        Step::same(
            "pip=netlab-top",
            "0 netlab_leaf-1.0.0-py3-none-any.whl netlab_top-1.0.0-py3-none-any.whl",
        ),
        Step::same("cargo=netlab-top", "0 and a lock netlab-leaf-1.0.0.crate netlab-top-1.0.0.crate"),
        // Names of the groups that these clients do not ask for.
        Step::same("get=https://registry.yarnpkg.com/", "404"),
        Step::same("get=https://crates.io/", "404"),
    ],
    events: reached!(
        "registry.npmjs.org" "203.0.113.91",
        "registry.yarnpkg.com" "203.0.113.92",
        "pypi.org" "203.0.113.93",
        "files.pythonhosted.org" "203.0.113.94",
        "crates.io" "203.0.113.95",
        "index.crates.io" "203.0.113.96",
        "static.crates.io" "203.0.113.97"
    ),
    arrives: &[
        "tls request registry.npmjs.org /netlab-top/-/netlab-top-1.0.0.tgz 203.0.113.91:443",
        "tls request registry.npmjs.org /netlab-leaf/-/netlab-leaf-1.0.0.tgz 203.0.113.91:443",
        "tls request pypi.org /simple/netlab-leaf/ 203.0.113.93:443",
        "tls request files.pythonhosted.org /packages/netlab_leaf-1.0.0-py3-none-any.whl 203.0.113.94:443",
        "tls request index.crates.io /ne/tl/netlab-leaf 203.0.113.96:443",
        "tls request static.crates.io /crates/netlab-leaf/1.0.0/download 203.0.113.97:443",
    ],
    ..NONE
};

/// The same in a network namespace: the relay asks for the names, and who goes there is told by it.
pub const RELAYED: Case = Case {
    name: "registries by the relay",
    events: relayed!(
        "registry.npmjs.org" "203.0.113.91",
        "registry.yarnpkg.com" "203.0.113.92",
        "pypi.org" "203.0.113.93",
        "files.pythonhosted.org" "203.0.113.94",
        "crates.io" "203.0.113.95",
        "index.crates.io" "203.0.113.96",
        "static.crates.io" "203.0.113.97"
    ),
    ..SHIPPED
};

/// Without them no question leaves the machine.
pub const CLOSED: Case = Case {
    name: "without registries",
    policy: WITHOUT,
    steps: &[
        Step::held("npm=netlab-top", "0 netlab-leaf@1.0.0 netlab-top@1.0.0", "1 enotfound"),
        Step::held(
            "pip=netlab-top",
            "0 netlab_leaf-1.0.0-py3-none-any.whl netlab_top-1.0.0-py3-none-any.whl",
            "1 no matching distribution found",
        ),
        Step::held(
            "cargo=netlab-top",
            "0 and a lock netlab-leaf-1.0.0.crate netlab-top-1.0.0.crate",
            "101 could not resolve host",
        ),
    ],
    events: refused!(
        "registry.npmjs.org" "A",
        "registry.npmjs.org" "AAAA",
        "pypi.org" "A",
        "pypi.org" "AAAA",
        "index.crates.io" "A",
        "index.crates.io" "AAAA"
    ),
    never: &["registry.npmjs.org", "pypi.org", "index.crates.io"],
    ..NONE
};
