//! What every enforced run keeps from its command, whatever its policy says: its own record and its own policy.
//!
//! It is a policy like any other, held beside the run's: so it is in the record, and denials by it are explained. Root
//! inside the run is kept out as well; reading is not its matter.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use policy::{Errors, Policy, Variables, settings::KERNEL};

use super::links::Ways;

/// Its name, and so the beginning of its rules' names.
pub const NAME: &str = "runner";

/// The policy that closes directories of records and files of policies for changes.
///
/// # Errors
/// A path is longer than the language takes.
pub fn policy(records: &[PathBuf], policies: &[PathBuf]) -> Result<Policy, Errors> {
    // Paths go in as variables: nothing in their values is ever a pattern.
    let mut variables = Variables::new();
    let mut record_paths = Vec::new();
    for (number, directory) in records.iter().enumerate() {
        variables.set_env(format!("RECORD_{number}"), directory.as_os_str().as_bytes());
        record_paths.extend([format!("${{env.RECORD_{number}}}"), format!("${{env.RECORD_{number}}}/**")]);
    }
    let mut policy_paths = Vec::new();
    for (number, file) in policies.iter().enumerate() {
        variables.set_env(format!("POLICY_{number}"), file.as_os_str().as_bytes());
        policy_paths.push(format!("${{env.POLICY_{number}}}"));
    }
    let rule = |name: &str, paths: &[String], because: &str| match paths {
        [] => String::new(),
        paths => format!(
            "    - {{ name: {name}, deny: [write, create, delete, attributes], path: [{}], because: {because} }}\n",
            paths.iter().map(|path| format!("\"{path}\"")).collect::<Vec<_>>().join(", ")
        ),
    };
    let text = format!(
        "version: 1\nname: {NAME}\nfiles:\n  default: allow\n  rules:\n{}{}exec: {{ default: allow }}\n\
         network: {{ default: allow }}\nkernel: {{ allow: [{}] }}\n",
        rule("record", &record_paths, "the record of a run is not the run's to change"),
        rule("policy", &policy_paths, "the policy of a run is changed outside of it"),
        KERNEL.join(", "),
    );
    let policy = Policy::parse("the runner's own policy", &text, &variables)?;
    let ways = Ways::default();
    Ok(policy.follow_links(&|path| ways.resolve(path)))
}

#[cfg(test)]
mod tests {
    use policy::{Access, Decision, evaluate};

    use super::*;

    #[test]
    fn paths_are_taken_literally() {
        let store = PathBuf::from("/no/such/st*re [x]");
        let policy = policy(&[store], &[PathBuf::from("/no/such/${HOME}.yaml")]).unwrap();
        let denied = |access: Access, path: &str| {
            let verdict = evaluate::file(&policy, access.into(), path.as_bytes());
            (verdict.decision == Decision::Deny).then(|| verdict.rule.to_string())
        };
        let record = Some("runner/record".to_owned());
        for access in [Access::Write, Access::Create, Access::Delete, Access::Attributes] {
            assert_eq!(denied(access, "/no/such/st*re [x]/runs/1/events.jsonl"), record);
            assert_eq!(denied(access, "/no/such/st*re [x]"), record);
            assert_eq!(denied(access, "/no/such/store x/runs"), None);
            assert_eq!(denied(access, "/no/such/${HOME}.yaml"), Some("runner/policy".to_owned()));
        }
        assert_eq!(denied(Access::Read, "/no/such/st*re [x]/runs/1/events.jsonl"), None);
        assert_eq!(policy.settings().kernel_allowed().len(), KERNEL.len());
    }
}
