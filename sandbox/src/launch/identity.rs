//! Whose ids and environment the command gets.
//!
//! Under sudo the command is the invoking user's, not root's: their ids, groups, HOME. Everything is looked up
//! before the first fork, so that no name service runs in the child. A plain root shell stays root.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

/// Variables that describe the user, set anew when the command's user is not the runner's.
const SUDO_VARIABLES: [&str; 6] =
    ["SUDO_COMMAND", "SUDO_GID", "SUDO_HOME", "SUDO_TTY", "SUDO_UID", "SUDO_USER"];

/// Why the user could not be determined.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// `--user` names nobody.
    #[error("there is no user {0:?}")]
    NoSuchUser(String),
    /// sudo's variables make no sense.
    #[error("{name} is {value:?}, not a number: run `sandbox` through sudo, or name the user with --user")]
    BadSudoId {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// The user database could not be asked.
    #[error("cannot look up {what}")]
    Lookup {
        /// The user or the group list.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

/// Whether the child changes its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The command runs with the runner's ids and environment, untouched.
    Keep,
    /// The command runs with the target's.
    Switch,
}

/// The command's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether that is somebody else than the runner.
    pub identity: Identity,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, as initgroups(3) would set them.
    pub groups: Vec<u32>,
    /// Login name, or the number where there is none.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// The environment of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Environment {
    /// The runner's own, byte for byte.
    AsFound,
    /// `NAME=value` strings.
    Changed(Vec<CString>),
}

/// What sudo says about who called it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sudo {
    /// SUDO_UID.
    pub uid: Option<String>,
    /// SUDO_GID.
    pub gid: Option<String>,
    /// SUDO_USER.
    pub user: Option<String>,
}

impl Sudo {
    /// From the environment.
    pub fn from_environment() -> Sudo {
        let get = |name| std::env::var(name).ok();
        Sudo { uid: get("SUDO_UID"), gid: get("SUDO_GID"), user: get("SUDO_USER") }
    }
}

impl Target {
    /// Decides, for a runner that is root: `--user`, else sudo's caller, else root itself.
    pub fn resolve(user: Option<&str>, sudo: &Sudo) -> Result<Target, IdentityError> {
        if let Some(asked) = user {
            let found = look_up(asked)?.ok_or_else(|| IdentityError::NoSuchUser(asked.to_owned()))?;
            return Target::of(found);
        }
        let Some(uid) = number("SUDO_UID", sudo.uid.as_deref())?.filter(|uid| *uid != 0) else {
            return Target::own();
        };
        let gid = number("SUDO_GID", sudo.gid.as_deref())?;
        match by_uid(uid)? {
            Some(mut user) => {
                user.gid = gid.map_or(user.gid, Gid::from_raw);
                Target::of(user)
            }
            // A user that this machine does not list (a container, LDAP that is down): the ids are enough.
            None => {
                let gid = gid.unwrap_or(uid);
                let name = sudo.user.clone().unwrap_or_else(|| uid.to_string());
                Ok(Target {
                    identity: Identity::Switch,
                    uid,
                    gid,
                    groups: vec![gid],
                    name,
                    home: "/".into(),
                    shell: "/bin/sh".into(),
                })
            }
        }
    }

    /// The runner's own user.
    pub fn own() -> Result<Target, IdentityError> {
        let uid = Uid::effective().as_raw();
        let listed = by_uid(uid)?;
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Ok(Target {
            identity: Identity::Keep,
            uid,
            gid: Gid::effective().as_raw(),
            groups: Vec::new(),
            name: listed.as_ref().map_or_else(|| uid.to_string(), |user| user.name.clone()),
            home: home.or_else(|| listed.as_ref().map(|user| user.dir.clone())).unwrap_or_else(|| "/".into()),
            shell: listed.map_or_else(|| "/bin/sh".into(), |user| user.shell),
        })
    }

    fn of(user: User) -> Result<Target, IdentityError> {
        if user.uid == Uid::effective() {
            return Target::own();
        }
        let lookup = |source: nix::Error| IdentityError::Lookup {
            what: format!("the groups of {}", user.name),
            source: source.into(),
        };
        let name = CString::new(user.name.as_bytes()).map_err(|_| lookup(nix::Error::EINVAL))?;
        let groups = nix::unistd::getgrouplist(&name, user.gid).map_err(lookup)?;
        Ok(Target {
            identity: Identity::Switch,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: user.name,
            home: user.dir,
            shell: user.shell,
        })
    }

    /// Whose the files are that are made for the command's user; `None` where that is the runner.
    pub fn owner(&self) -> Option<(u32, u32)> {
        (self.identity == Identity::Switch).then_some((self.uid, self.gid))
    }

    /// The environment that the command gets.
    ///
    /// For another user HOME, USER, LOGNAME, SHELL and MAIL become theirs and sudo's own variables go: the
    /// command runs as if its user had started it, and is not "under sudo". PATH and the rest stay as they are.
    pub fn environment(&self) -> Environment {
        match self.identity {
            Identity::Keep => Environment::AsFound,
            Identity::Switch => Environment::Changed(self.changed(std::env::vars_os())),
        }
    }

    fn changed(&self, found: impl Iterator<Item = (OsString, OsString)>) -> Vec<CString> {
        let mut variables: Vec<(OsString, OsString)> =
            found.filter(|(name, _)| !SUDO_VARIABLES.iter().any(|gone| name == gone)).collect();
        for (name, value) in [
            ("HOME", self.home.as_os_str()),
            ("USER", OsStr::new(&self.name)),
            ("LOGNAME", OsStr::new(&self.name)),
        ] {
            set(&mut variables, name, value);
        }
        if has(&variables, "SHELL") {
            set(&mut variables, "SHELL", self.shell.as_os_str());
        }
        if has(&variables, "MAIL") {
            set(&mut variables, "MAIL", Path::new("/var/mail").join(&self.name).as_os_str());
        }
        joined(variables)
    }

    /// Takes the target's ids, for good. Call it in the child.
    pub fn assume(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups)?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)?;
        Ok(())
    }
}

impl Environment {
    /// A variable of it.
    pub fn get(&self, name: &str) -> Option<OsString> {
        match self {
            Environment::AsFound => std::env::var_os(name),
            Environment::Changed(variables) => variables.iter().find_map(|variable| {
                let value = variable.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                Some(OsStr::from_bytes(value).to_owned())
            }),
        }
    }

    /// What a policy's section `env` makes of it.
    #[must_use]
    pub fn under(&self, env: &policy::settings::Env) -> Environment {
        let kept = self.variables().into_iter().filter(|(name, _)| env.keeps(name.as_bytes()));
        let mut variables: Vec<(OsString, OsString)> = kept.collect();
        for (name, value) in &env.set {
            set(&mut variables, name, OsStr::new(value));
        }
        Environment::Changed(joined(variables))
    }

    /// The same with these variables.
    #[must_use]
    pub fn with(&self, values: impl IntoIterator<Item = (&'static str, OsString)>) -> Environment {
        let mut variables = self.variables();
        for (name, value) in values {
            set(&mut variables, name, &value);
        }
        Environment::Changed(joined(variables))
    }

    /// All of it, as names and values.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        match self {
            Environment::AsFound => std::env::vars_os().collect(),
            Environment::Changed(variables) => variables
                .iter()
                .filter_map(|variable| {
                    let bytes = variable.as_bytes();
                    let at = bytes.iter().position(|byte| *byte == b'=')?;
                    let text = |part: &[u8]| OsStr::from_bytes(part).to_owned();
                    Some((text(&bytes[..at]), text(&bytes[at + 1..])))
                })
                .collect(),
        }
    }
}

/// `NAME=value`, as exec takes them.
fn joined(variables: Vec<(OsString, OsString)>) -> Vec<CString> {
    let join = |(name, value): (OsString, OsString)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend(value.as_bytes());
        CString::new(text).ok()
    };
    variables.into_iter().filter_map(join).collect()
}

fn has(variables: &[(OsString, OsString)], name: &str) -> bool {
    variables.iter().any(|(found, _)| found == name)
}

fn set(variables: &mut Vec<(OsString, OsString)>, name: &str, value: &OsStr) {
    match variables.iter_mut().find(|(found, _)| found == name) {
        Some((_, slot)) => *slot = value.to_owned(),
        None => variables.push((name.into(), value.to_owned())),
    }
}

fn number(name: &'static str, value: Option<&str>) -> Result<Option<u32>, IdentityError> {
    value
        .filter(|value| !value.is_empty())
        .map(|value| value.parse().map_err(|_| IdentityError::BadSudoId { name, value: value.to_owned() }))
        .transpose()
}

fn by_uid(uid: u32) -> Result<Option<User>, IdentityError> {
    User::from_uid(Uid::from_raw(uid))
        .map_err(|source| IdentityError::Lookup { what: format!("user {uid}"), source: source.into() })
}

/// A user by name, or by number.
fn look_up(asked: &str) -> Result<Option<User>, IdentityError> {
    let found = User::from_name(asked)
        .map_err(|source| IdentityError::Lookup { what: format!("user {asked}"), source: source.into() })?;
    match (found, asked.parse()) {
        (None, Ok(uid)) => by_uid(uid),
        (found, _) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sudo(uid: &str, gid: &str, user: &str) -> Sudo {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Sudo { uid: some(uid), gid: some(gid), user: some(user) }
    }

    #[test]
    fn sudo_means_its_caller() {
        let target = Target::resolve(None, &sudo("65534", "65534", "nobody")).unwrap();
        assert_eq!((target.identity, target.uid, target.gid), (Identity::Switch, 65534, 65534));
        assert_eq!(target.name, "nobody");
        assert!(target.groups.contains(&65534));
    }

    #[test]
    fn an_unlisted_caller_keeps_the_ids() {
        let target = Target::resolve(None, &sudo("4012345", "4012346", "ghost")).unwrap();
        assert_eq!(
            (target.uid, target.gid, target.groups.as_slice()),
            (4012345, 4012346, [4012346].as_slice())
        );
        assert_eq!(target.name, "ghost");
    }

    #[test]
    fn nonsense_is_refused_and_root_stays_root() {
        assert!(matches!(
            Target::resolve(None, &sudo("me", "", "")),
            Err(IdentityError::BadSudoId { name: "SUDO_UID", .. })
        ));
        assert!(matches!(
            Target::resolve(Some("no-such-user"), &sudo("", "", "")),
            Err(IdentityError::NoSuchUser(_))
        ));
        assert_eq!(Target::resolve(None, &sudo("0", "0", "root")).unwrap().identity, Identity::Keep);
    }

    #[test]
    fn the_environment_is_the_users() {
        let target = Target {
            identity: Identity::Switch,
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            name: "ada".into(),
            home: "/home/ada".into(),
            shell: "/bin/zsh".into(),
        };
        let found =
            [("HOME", "/root"), ("PATH", "/x"), ("SUDO_UID", "1000"), ("SHELL", "/bin/bash"), ("A", "=")];
        let changed = target.changed(found.into_iter().map(|(name, value)| (name.into(), value.into())));
        let text: Vec<&str> = changed.iter().map(|variable| variable.to_str().unwrap()).collect();
        assert_eq!(text, ["HOME=/home/ada", "PATH=/x", "SHELL=/bin/zsh", "A==", "USER=ada", "LOGNAME=ada"]);
        let environment = Environment::Changed(changed);
        assert_eq!(environment.get("PATH").unwrap(), "/x");
        assert_eq!(environment.get("PAT"), None);
        assert_eq!(environment.variables()[3], ("A".into(), "=".into()));
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let env = policy::settings::Env {
            drop: text(&["*A*", "US*", "*ME"]),
            keep: text(&["HOME", "SHELL"]),
            set: vec![("CI".into(), "1".into()), ("SHELL".into(), "/bin/sh".into())],
        };
        let under: Vec<_> = environment.under(&env).variables();
        let expected = [("HOME", "/home/ada"), ("SHELL", "/bin/sh"), ("CI", "1")];
        assert_eq!(under, expected.map(|(name, value)| (name.into(), value.into())));
    }
}
