//! The filter of an enforced run as a profile that OCI runtimes take (`runtime-spec`, `config-linux.md`, seccomp).
//!
//! What the filter closes is closed by the profile, by name; where the plan has a list, the profile is one. Calls of
//! other architectures are not answered with ENOSYS there but by the runtime's own choice: libseccomp ends the process.

use std::collections::BTreeSet;

use serde::Serialize;

use policy::compile::seccomp::{Answer, SeccompPlan, Test, What};
use policy::syscalls::Architecture;

use super::{ARCHITECTURE, SOCK_TYPE_MASK};

/// A profile.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<i32>,
    architectures: Vec<&'static str>,
    syscalls: Vec<Rule>,
}

/// Calls and what becomes of them.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
}

/// A condition on an argument; all of a rule's must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_two: Option<u64>,
    op: &'static str,
}

impl Argument {
    fn equal(index: u32, value: u32) -> Self {
        Self { index, value: value.into(), value_two: None, op: "SCMP_CMP_EQ" }
    }

    fn other(index: u32, value: u32) -> Self {
        Self { index, value: value.into(), value_two: None, op: "SCMP_CMP_NE" }
    }

    fn masked(index: u32, mask: u64, value: u32) -> Self {
        Self { index, value: mask, value_two: Some(value.into()), op: "SCMP_CMP_MASKED_EQ" }
    }
}

const DENY: &str = "SCMP_ACT_ERRNO";
const ALLOW: &str = "SCMP_ACT_ALLOW";

impl Rule {
    fn denies(names: Vec<&'static str>, errno: i32, args: Vec<Argument>) -> Self {
        Self { names, action: DENY, errno_ret: Some(errno), args }
    }
}

/// The profile of a plan, and what of the plan no profile can say: there it is wider.
pub fn profile(plan: &SeccompPlan) -> (Profile, Vec<String>) {
    let mut wider = Vec::new();
    let calls = |answer: Answer| {
        let calls = plan.closed.iter().filter(|closed| closed.answer == answer);
        let mut names: Vec<&'static str> = calls
            .filter_map(|closed| match closed.what {
                What::Call(name) => Some(name),
                What::Argument(_) | What::Socket(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let (denied, absent) = (calls(Answer::NotPermitted), calls(Answer::NoSuchCall));
    let mut syscalls = Vec::new();
    if let Some(only) = &plan.only {
        let open = only.iter().copied().filter(|name| !denied.contains(name) && !absent.contains(name));
        syscalls.push(Rule { names: open.collect(), action: ALLOW, errno_ret: None, args: Vec::new() });
    }
    for (names, errno) in [(denied, libc::EPERM), (absent, libc::ENOSYS)] {
        if !names.is_empty() {
            syscalls.push(Rule::denies(names, errno, Vec::new()));
        }
    }
    // Beside a rule that allows a call, one on its arguments has no effect.
    let conditions = if plan.only.is_some() { &[][..] } else { &plan.closed };
    if let Some(only) = &plan.only {
        let with = plan
            .closed
            .iter()
            .filter(|closed| !matches!(closed.what, What::Call(_)) && only.contains(&closed.what.call()));
        let calls: BTreeSet<&str> = with.map(|closed| closed.what.call()).collect();
        let calls: Vec<&str> = calls.into_iter().collect();
        wider.push(format!(
            "a profile that is a list says nothing of arguments: {} are open whatever theirs are",
            calls.join(", ")
        ));
    }
    for closed in conditions {
        let args = match closed.what {
            What::Call(_) => continue,
            What::Argument(argument) => {
                let index = argument.index.into();
                let mut args = vec![match argument.test {
                    Test::Is(value) => Argument::equal(index, value),
                    Test::IsNot(value) => Argument::other(index, value),
                    Test::Has { bits, but_not: None } => Argument::masked(index, bits.into(), bits),
                    // Runtimes take two conditions on one argument for alternatives.
                    Test::Has { bits, but_not: Some(_) } => {
                        wider.push(format!("{}: closed where {bits:#x} stands alone", argument.call));
                        Argument::equal(index, bits)
                    }
                }];
                args.extend(argument.also.map(|(index, value)| Argument::equal(index.into(), value)));
                args
            }
            What::Socket(socket) => {
                let mut args = vec![Argument::equal(0, socket.family)];
                args.extend(socket.kind.map(|kind| Argument::masked(1, SOCK_TYPE_MASK, kind)));
                args.extend(socket.protocol.map(|protocol| Argument::equal(2, protocol)));
                args
            }
        };
        syscalls.push(Rule::denies(vec![closed.what.call()], libc::EPERM, args));
    }
    let architecture = match ARCHITECTURE {
        Architecture::X86_64 => "SCMP_ARCH_X86_64",
        Architecture::Aarch64 => "SCMP_ARCH_AARCH64",
    };
    let (default_action, default_errno_ret) = match plan.only {
        Some(_) => (DENY, Some(libc::EPERM)),
        None => (ALLOW, None),
    };
    (Profile { default_action, default_errno_ret, architectures: vec![architecture], syscalls }, wider)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::compile::seccomp::{Filter, Hooks, Level, compile};

    fn plan(filter: Filter) -> SeccompPlan {
        compile(&filter, Hooks::Missing)
    }

    #[test]
    fn every_closed_call_is_in_it_unless_its_word_is_allowed() {
        let names = |allowed: &[&'static str]| -> Vec<&'static str> {
            let filter = Filter { denied: vec!["chmod"], ..Filter::new(allowed.to_vec()) };
            let denies = |rule: &Rule| rule.action == DENY && rule.args.is_empty();
            let rules = profile(&plan(filter)).0.syscalls.into_iter().filter(denies);
            rules.flat_map(|rule| rule.names).collect()
        };
        let all = names(&[]);
        for name in ["chmod", "uselib", "mount", "ptrace", "setns", "reboot", "clone3", "file_setattr"] {
            assert!(all.contains(&name), "{name}");
        }
        for (word, name) in [("mount", "mount"), ("ptrace-own", "ptrace")] {
            assert!(!names(&[word]).contains(&name), "{name} with {word}");
        }
    }

    #[test]
    fn its_form_is_the_runtimes() {
        let plan = plan(Filter::new(Vec::new()));
        let (profile, wider) = profile(&plan);
        assert_eq!(wider, ["personality: closed where 0x400000 stands alone"]);
        let value = serde_json::to_value(profile).unwrap();
        assert_eq!(value["defaultAction"], "SCMP_ACT_ALLOW");
        assert_eq!(value.get("defaultErrnoRet"), None);
        let rules = value["syscalls"].as_array().unwrap();
        assert!(rules.iter().all(|rule| rule["action"] == "SCMP_ACT_ERRNO"));
        let of = |name: &str| {
            let named = |rule: &&serde_json::Value| rule["names"] == serde_json::json!([name]);
            rules.iter().filter(named).cloned().collect::<Vec<_>>()
        };
        let sockets = plan.closed.iter().filter(|closed| matches!(closed.what, What::Socket(_))).count();
        assert_eq!(of("socket").len(), sockets);
        let kind =
            of("socket").into_iter().find(|rule| rule["args"][1]["op"] == "SCMP_CMP_MASKED_EQ").unwrap();
        assert_eq!((&kind["args"][1]["valueTwo"], &kind["errnoRet"]), (&5.into(), &1.into()));
        assert_eq!(of("unshare")[0]["args"][0]["value"], 0x1000_0000);
        assert_eq!(of("personality")[0]["args"].as_array().unwrap().len(), 1);
        let absent = rules.iter().find(|rule| rule["errnoRet"] == 38).unwrap();
        assert_eq!(absent["names"], serde_json::json!(["clone3", "file_setattr", "memfd_secret", "openat2"]));
    }

    #[test]
    fn a_strict_one_is_a_list() {
        let filter = Filter { level: Level::Strict, denied: vec!["chmod"], ..Filter::new(Vec::new()) };
        let (profile, wider) = profile(&plan(filter));
        assert!(
            wider.len() == 1 && wider[0].contains("personality, prlimit64, setpriority, socket are"),
            "{wider:?}"
        );
        let value = serde_json::to_value(profile).unwrap();
        let rules = value["syscalls"].as_array().unwrap();
        assert!(rules.iter().all(|rule| rule.get("args").is_none()));
        assert_eq!(
            (&value["defaultAction"], &value["defaultErrnoRet"]),
            (&"SCMP_ACT_ERRNO".into(), &1.into())
        );
        let list = &value["syscalls"][0];
        assert_eq!((&list["action"], list.get("errnoRet")), (&"SCMP_ACT_ALLOW".into(), None));
        let names = list["names"].as_array().unwrap();
        let has = |name: &str| names.iter().any(|known| known == name);
        assert!(has("openat") && has("socket") && !has("chmod") && !has("clone3") && !has("kcmp"));
    }
}
