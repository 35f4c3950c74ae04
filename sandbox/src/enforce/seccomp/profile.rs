//! The filter of an enforced run as a profile that OCI runtimes take (`runtime-spec`, `config-linux.md`, seccomp).
//!
//! What the filter closes is closed by the profile, by name. Calls of other architectures are not answered with
//! ENOSYS there but by the runtime's own choice: libseccomp ends the process.

use serde::Serialize;

use policy::compile::seccomp;

/// A profile.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: &'static str,
    architectures: Vec<&'static str>,
    syscalls: Vec<Rule>,
}

/// Calls and what becomes of them.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: &'static str,
    errno_ret: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
}

/// A condition on an argument; all of a rule's must hold.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_two: Option<u64>,
    op: &'static str,
}

impl Rule {
    fn denies(names: Vec<String>, args: Vec<Argument>) -> Self {
        Self { names, action: "SCMP_ACT_ERRNO", errno_ret: libc::EPERM, args }
    }
}

/// The mask under which socket(2) reads a type.
const SOCK_TYPE_MASK: u64 = 0xf;

/// The profile of a run whose policy has these words in its section `kernel`, and denies these calls.
pub fn profile(allowed: &[&str], denied: &[String]) -> Profile {
    let plan = seccomp::compile(allowed);
    let mut names: Vec<String> = plan.calls.iter().map(|call| call.name.to_owned()).collect();
    names.extend(denied.iter().cloned());
    names.sort();
    names.dedup();
    let mut syscalls = vec![Rule::denies(names, Vec::new())];
    let equal = |index, value: i32| Argument {
        index,
        value: u64::from(value.unsigned_abs()),
        value_two: None,
        op: "SCMP_CMP_EQ",
    };
    for socket in &plan.sockets {
        let mut args = vec![equal(0, socket.family)];
        args.extend(socket.kind.map(|kind| Argument {
            index: 1,
            value: SOCK_TYPE_MASK,
            value_two: Some(u64::from(kind.unsigned_abs())),
            op: "SCMP_CMP_MASKED_EQ",
        }));
        args.extend(socket.protocol.map(|protocol| equal(2, protocol)));
        syscalls.push(Rule::denies(vec!["socket".to_owned()], args));
    }
    for closed in &plan.commands {
        let command = Argument { index: 1, value: closed.command.into(), value_two: None, op: "SCMP_CMP_EQ" };
        syscalls.push(Rule::denies(vec![closed.call.to_owned()], vec![command]));
    }
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    Profile { default_action: "SCMP_ACT_ALLOW", architectures: vec![architecture], syscalls }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_closed_call_is_in_it_unless_its_word_is_allowed() {
        let names = |allowed: &[&str]| profile(allowed, &["reboot".to_owned()]).syscalls[0].names.clone();
        let all = names(&[]);
        let closed = seccomp::compile(&[]).calls;
        assert!(closed.len() > 20);
        for call in closed {
            assert!(all.iter().any(|known| known == call.name), "{}", call.name);
            if let seccomp::Because::Kernel(word) = call.because {
                let open = names(&[word]);
                assert!(!open.iter().any(|known| known == call.name), "{} with {word}", call.name);
            }
        }
        assert!(all.contains(&"reboot".to_owned()));
    }

    #[test]
    fn its_form_is_the_runtimes() {
        let value = serde_json::to_value(profile(&[], &[])).unwrap();
        assert_eq!(value["defaultAction"], "SCMP_ACT_ALLOW");
        let rules = value["syscalls"].as_array().unwrap();
        assert!(rules.iter().all(|rule| rule["action"] == "SCMP_ACT_ERRNO" && rule["errnoRet"] == 1));
        let sockets = rules.iter().filter(|rule| rule["names"] == serde_json::json!(["socket"]));
        assert_eq!(sockets.count(), seccomp::compile(&[]).sockets.len());
        let masked = rules.iter().find(|rule| rule["args"][1]["op"] == "SCMP_CMP_MASKED_EQ").unwrap();
        assert_eq!(masked["args"][1]["valueTwo"], 5);
    }
}
