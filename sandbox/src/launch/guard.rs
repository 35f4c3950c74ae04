//! What every enforced run keeps from its command, whatever its policy says: its own record and its own policy.
//!
//! It is a policy like any other, held beside the run's: so it is in the record, and denials by it are explained. Root
//! inside the run is kept out as well. Reading is not its matter, but for the key that signs records.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::{Errors, Policy, Variables, settings::KERNEL};

use crate::record::keys;

/// Its name, and so the beginning of its rules' names.
pub const NAME: &str = "runner";

/// The rule that keeps the key that signs, as records and refusals call it.
pub const SIGNING_KEY: &str = "`runner/signing-key`";

/// Sockets that answer questions for names beside DNS: nscd, systemd-resolved, Avahi, and D-Bus, over which the second may
/// be asked. Libraries that find them closed ask DNS.
const NAME_SERVICES: &str = "\"unix:/{var/,}run/nscd/**\", \"unix:/{var/,}run/systemd/resolve/**\", \
                             \"unix:/{var/,}run/avahi-daemon/**\", \"unix:/{var/,}run/dbus/**\"";

/// What the runner keeps from a command: under all names that they have.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Directories of records.
    pub records: Vec<PathBuf>,
    /// Files of policies.
    pub policies: Vec<PathBuf>,
    /// The terminal that questions are put on.
    pub terminal: Vec<PathBuf>,
}

impl Own {
    /// Directories of records.
    pub fn records(&self) -> impl Iterator<Item = &Path> {
        self.records.iter().map(PathBuf::as_path)
    }

    /// Files of policies.
    pub fn policies(&self) -> impl Iterator<Item = &Path> {
        self.policies.iter().map(PathBuf::as_path)
    }

    /// Files that are not to be read either.
    pub fn secrets(&self) -> Vec<PathBuf> {
        let of = |record: &PathBuf| keys::SECRETS.map(|name| record.join(keys::DIRECTORY).join(name));
        self.records.iter().flat_map(of).collect()
    }

    /// The policy that closes them.
    ///
    /// # Errors
    /// A path is longer than the language takes.
    pub fn policy(&self, names: bool) -> Result<Policy, Errors> {
        policy(self, names)
    }
}

/// The policy that closes directories of records and files of policies for changes, and a terminal whole: by these names, so
/// all that they have must be among them (see [`super::aliases`]). A link among them is closed itself, not what else is
/// where it leads. `names`: questions for names must come to the runner, so what else answers them is closed too.
fn policy(own: &Own, names: bool) -> Result<Policy, Errors> {
    let Own { records, policies, terminal } = own;
    // Paths go in as variables: nothing in their values is ever a pattern.
    let mut variables = Variables::new();
    let (mut record_paths, mut key_paths) = (Vec::new(), Vec::new());
    for (number, directory) in records.iter().enumerate() {
        variables.set_env(format!("RECORD_{number}"), directory.as_os_str().as_bytes());
        record_paths.extend([format!("${{env.RECORD_{number}}}"), format!("${{env.RECORD_{number}}}/**")]);
        let secret = |name| format!("${{env.RECORD_{number}}}/{}/{name}", keys::DIRECTORY);
        key_paths.extend(keys::SECRETS.map(secret));
    }
    let mut policy_paths = Vec::new();
    for (number, file) in policies.iter().enumerate() {
        variables.set_env(format!("POLICY_{number}"), file.as_os_str().as_bytes());
        policy_paths.push(format!("${{env.POLICY_{number}}}"));
    }
    let mut terminal_paths = Vec::new();
    for (number, path) in terminal.iter().enumerate() {
        variables.set_env(format!("TERMINAL_{number}"), path.as_os_str().as_bytes());
        terminal_paths.push(format!("${{env.TERMINAL_{number}}}"));
    }
    const CHANGES: &str = "write, create, delete, attributes";
    let rule = |name: &str, denied: &str, paths: &[String], because: &str| match paths {
        [] => String::new(),
        paths => format!(
            "    - {{ name: {name}, deny: [{denied}], path: [{}], because: {because} }}\n",
            paths.iter().map(|path| format!("\"{path}\"")).collect::<Vec<_>>().join(", ")
        ),
    };
    let name_services = match names {
        false => String::new(),
        true => format!(
            "  rules:\n    - {{ name: name-services, deny: [connect, send], to: [{NAME_SERVICES}], because: names are \
             asked over DNS in this run }}\n"
        ),
    };
    let text = format!(
        "version: 1\nname: {NAME}\nfiles:\n  default: allow\n  rules:\n{}{}{}{}exec: {{ default: allow }}\n\
         network:\n  default: allow\n{name_services}kernel: {{ allow: [{}] }}\nsyscalls: off\n",
        rule("signing-key", "read", &key_paths, "the key that signs records is not for the run"),
        rule("record", CHANGES, &record_paths, "the record of a run is not the run's to change"),
        rule("policy", CHANGES, &policy_paths, "what a run is judged by is changed outside of it"),
        rule(
            "terminal",
            "read, write, attributes",
            &terminal_paths,
            "where questions are answered is not the run's"
        ),
        KERNEL.join(", "),
    );
    Policy::parse("the runner's own policy", &text, &variables)
}

#[cfg(test)]
mod tests {
    use policy::{Access, Decision, evaluate};

    use super::*;

    #[test]
    fn paths_are_taken_literally() {
        let store = PathBuf::from("/no/such/st*re [x]");
        let own = Own {
            records: vec![store],
            policies: vec![PathBuf::from("/no/such/${HOME}.yaml")],
            terminal: vec![PathBuf::from("/dev/pts/7")],
        };
        let policy = own.policy(true).unwrap();
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
        for access in [Access::Read, Access::Write, Access::Attributes] {
            assert_eq!(denied(access, "/dev/pts/7"), Some("runner/terminal".to_owned()));
            assert_eq!(denied(access, "/dev/pts/70"), None);
        }
        let key = Some("runner/signing-key".to_owned());
        for name in keys::SECRETS {
            assert_eq!(denied(Access::Read, &format!("/no/such/st*re [x]/keys/{name}")), key);
        }
        assert_eq!(policy.settings().kernel_allowed().len(), KERNEL.len());
    }

    #[test]
    fn what_lies_beside_the_record_stays_open() {
        let place = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(place.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let records = crate::launch::aliases::of(&root.join("link/store")).unwrap();
        let policy = Own { records, ..Own::default() }.policy(false).unwrap();
        let denied = |path: &str| {
            let path = root.join(path);
            let path = path.as_os_str().as_bytes();
            evaluate::file(&policy, Access::Delete.into(), path).decision == Decision::Deny
        };
        assert!(denied("real/store/runs/1/events.jsonl") && denied("real/store"), "where the link leads");
        assert!(denied("link"), "another link would lead elsewhere");
        assert!(!denied("real/other") && !denied("real"), "what else is there is not the record");
    }
}
