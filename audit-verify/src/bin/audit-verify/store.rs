//! Where runs are kept, as `sandbox` keeps them.

use std::cmp::Reverse;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use audit_verify::python::Object;

use crate::target::TargetError;

/// Where root keeps what it records for users.
const SYSTEM_STORES: &str = "/var/lib/sandbox";

/// Whoever wants to know, as far as it says which stores are meant.
#[derive(Debug, Default)]
pub struct Caller {
    sandbox_home: Option<PathBuf>,
    /// Effective user id.
    uid: Option<u32>,
    /// `$SUDO_UID`.
    sudo_uid: Option<u32>,
    home: Option<PathBuf>,
    /// passwd(5).
    users: String,
}

impl Caller {
    /// The caller of this process.
    pub fn of_this_process() -> Caller {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Caller {
            sandbox_home: set("SANDBOX_HOME").map(PathBuf::from),
            uid: effective_uid(),
            sudo_uid: set("SUDO_UID").and_then(|uid| uid.to_str()?.parse().ok()),
            home: set("HOME").map(PathBuf::from),
            users: fs::read_to_string("/etc/passwd").unwrap_or_default(),
        }
    }

    /// `$SANDBOX_HOME` alone if it is set; else what root recorded for the caller, what the caller recorded, and
    /// what the own user of this process recorded. Under sudo the caller is the invoking user.
    pub fn stores(&self) -> Vec<PathBuf> {
        if let Some(store) = &self.sandbox_home {
            return vec![store.clone()];
        }
        let caller = self.sudo_uid.filter(|_| self.uid == Some(0)).or(self.uid);
        let system = caller.map(|uid| Path::new(SYSTEM_STORES).join(uid.to_string()));
        let homes = [caller, self.uid].map(|uid| self.home_of(uid).map(|home| home.join(".sandbox")));
        let mut stores: Vec<PathBuf> = system.into_iter().chain(homes.into_iter().flatten()).collect();
        stores.dedup();
        stores
    }

    /// The home directory that passwd(5) has; `$HOME` for a user that it does not know.
    fn home_of(&self, uid: Option<u32>) -> Option<PathBuf> {
        let uid = uid.map(|uid| uid.to_string());
        let mut known = self.users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = known.find(|fields| fields.get(2).is_some_and(|field| Some(*field) == uid.as_deref()));
        user.and_then(|fields| fields.get(5).map(PathBuf::from)).or_else(|| self.home.clone())
    }
}

/// The effective user id, from proc_pid_status(5); without /proc there is none.
fn effective_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// The name of a run: that of its directory.
pub fn run_name(run: &Path) -> String {
    run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned()
}

/// The directories of the runs in `stores`, oldest first. A store that is not there has none.
///
/// A run's name begins with the second in which it began; only within one second does the start in its
/// `meta.json` decide.
pub fn runs(stores: &[PathBuf]) -> Result<Vec<PathBuf>, TargetError> {
    let mut runs = Vec::new();
    for store in stores {
        let directory = store.join("runs");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(TargetError::read(&directory)(error)),
        };
        for entry in entries {
            let path = entry.map_err(TargetError::read(&directory))?.path();
            if path.is_dir() && !run_name(&path).starts_with('.') {
                runs.push(path);
            }
        }
    }
    let second = |run: &Path| run_name(run).chars().take("YYYYMMDD-HHMMSS".len()).collect::<String>();
    runs.sort_by(|left, right| {
        second(left)
            .cmp(&second(right))
            .then_with(|| start_ns(left).cmp(&start_ns(right)))
            .then_with(|| run_name(left).len().cmp(&run_name(right).len()))
            .then_with(|| run_name(left).cmp(&run_name(right)))
    });
    Ok(runs)
}

/// When a run began, nanoseconds since 1970, from its `meta.json`; 0 where that does not say.
fn start_ns(run: &Path) -> i64 {
    const SIZE_MAX: u64 = 1 << 20;
    let read = || {
        let path = run.join("meta.json");
        let mut text = Vec::new();
        fs::metadata(&path).ok()?.is_file().then_some(())?;
        fs::File::open(&path).ok()?.take(SIZE_MAX).read_to_end(&mut text).ok()?;
        std::str::from_utf8(Object::parse(&text).ok()?.get("start_ns")?).ok()?.parse().ok()
    };
    read().unwrap_or(0)
}

/// Up to five names that begin most like `name`, later runs first.
pub fn alike(name: &str, runs: &[PathBuf]) -> Vec<String> {
    let common = |run: &str| run.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let mut names: Vec<String> = runs.iter().rev().map(|run| run_name(run)).collect();
    names.sort_by_key(|run| (Reverse(run.contains(name)), Reverse(common(run))));
    names.truncate(5);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(caller: Caller) -> Vec<String> {
        let users = "root:x:0:0:root:/root:/bin/bash\njo:x:1000:1000::/home/jo:/bin/sh\n".to_owned();
        let stores = Caller { users, home: Some("/elsewhere".into()), ..caller }.stores();
        stores.iter().map(|store| store.display().to_string()).collect()
    }

    #[test]
    fn the_stores_of_a_caller() {
        let jo = Caller { uid: Some(1000), ..Caller::default() };
        assert_eq!(stores(jo), ["/var/lib/sandbox/1000", "/home/jo/.sandbox"]);
        let root = Caller { uid: Some(0), ..Caller::default() };
        assert_eq!(stores(root), ["/var/lib/sandbox/0", "/root/.sandbox"]);
        let sudo = Caller { uid: Some(0), sudo_uid: Some(1000), ..Caller::default() };
        assert_eq!(stores(sudo), ["/var/lib/sandbox/1000", "/home/jo/.sandbox", "/root/.sandbox"]);
        // Only root is believed about who invoked it.
        let liar = Caller { uid: Some(1000), sudo_uid: Some(0), ..Caller::default() };
        assert_eq!(stores(liar), ["/var/lib/sandbox/1000", "/home/jo/.sandbox"]);
        let unknown = Caller { uid: Some(7), ..Caller::default() };
        assert_eq!(stores(unknown), ["/var/lib/sandbox/7", "/elsewhere/.sandbox"]);
        let set = Caller { sandbox_home: Some("/store".into()), uid: Some(0), ..Caller::default() };
        assert_eq!(stores(set), ["/store"]);
        assert!(Caller::default().stores().is_empty());
    }
}
