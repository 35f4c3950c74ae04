//! Variables that lead programs to the relay.
//!
//! Programs that do not look at them have no network. Those of the machine's own proxy, which could not be reached, are
//! replaced. A policy's section `env` has the last word: what it drops is not set, and what it sets stays.

use std::ffi::OsString;
use std::net::SocketAddr;

use policy::{Mode, Policies};

/// What is said of hosts that are reached directly: the run's own.
const DIRECT: &str = "localhost,127.0.0.1,::1";

/// What a variable is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// The relay, as a proxy for HTTP.
    Http,
    /// The relay by SOCKS, where names are left to it.
    Socks,
    /// Hosts that are reached directly.
    Direct,
    /// This.
    Text(&'static str),
}

/// Each variable, and who looks at it: curl, git, pip, go and Python's library know the first ones in lower case, others
/// only in upper case.
const VARIABLES: [(&str, Value); 14] = [
    ("http_proxy", Value::Http),
    ("https_proxy", Value::Http),
    ("all_proxy", Value::Socks),
    ("no_proxy", Value::Direct),
    ("HTTP_PROXY", Value::Http),
    ("HTTPS_PROXY", Value::Http),
    ("ALL_PROXY", Value::Socks),
    ("NO_PROXY", Value::Direct),
    // npm and what stands in for it read their own first.
    ("npm_config_proxy", Value::Http),
    ("npm_config_https_proxy", Value::Http),
    ("npm_config_noproxy", Value::Direct),
    // cargo reads https_proxy, but its own configuration comes first.
    ("CARGO_HTTP_PROXY", Value::Http),
    // node(1) from 22.21 and 24 on: fetch() and http look at the variables above.
    ("NODE_USE_ENV_PROXY", Value::Text("1")),
    ("ELECTRON_GET_USE_PROXY", Value::Text("1")),
];

/// The names that every policy lets be set.
pub fn allowed(policies: Option<&Policies>) -> Vec<&'static str> {
    let law = |name: &str| {
        let policies = policies.into_iter().flat_map(Policies::iter);
        let mut envs = policies
            .filter(|policy| policy.mode() == Mode::Enforce)
            .filter_map(|policy| policy.settings().env.as_ref());
        envs.all(|env| env.keeps(name.as_bytes()) && !env.set.iter().any(|(set, _)| set == name))
    };
    VARIABLES.iter().map(|(name, _)| *name).filter(|name| law(name)).collect()
}

/// Values of these names, for a relay that is found there.
pub fn values(allowed: &[&str], relay: SocketAddr) -> Vec<(&'static str, OsString)> {
    let value = |value| match value {
        Value::Http => format!("http://{relay}"),
        Value::Socks => format!("socks5h://{relay}"),
        Value::Direct => DIRECT.to_owned(),
        Value::Text(text) => text.to_owned(),
    };
    let named = VARIABLES.iter().filter(|(name, _)| allowed.contains(name));
    named.map(|(name, of)| (*name, value(*of).into())).collect()
}

#[cfg(test)]
mod tests {
    use policy::{Policy, Variables};

    use super::*;

    #[test]
    fn a_policy_has_the_last_word() {
        let text = "version: 1\nname: p\nenv:\n  drop: [\"npm_*\"]\n  set: { no_proxy: \"x.example\" }\n";
        let policies: Policies =
            Policy::parse("p", text, &Variables::new()).unwrap_or_else(|e| panic!("{e}")).into();
        let names = allowed(Some(&policies));
        assert!(names.contains(&"https_proxy") && names.contains(&"NO_PROXY"));
        assert!(!names.contains(&"no_proxy") && !names.iter().any(|name| name.starts_with("npm")));
        let values = values(&["all_proxy", "NO_PROXY"], "127.0.0.1:8118".parse().unwrap());
        assert_eq!(values[0], ("all_proxy", "socks5h://127.0.0.1:8118".into()));
        assert_eq!(values[1], ("NO_PROXY", DIRECT.into()));
        assert_eq!(allowed(None).len(), VARIABLES.len());
    }
}
