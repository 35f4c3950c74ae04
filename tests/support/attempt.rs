//! An attempt: what both witnesses, strace and our log, must tell alike.

use std::fmt;
use std::net::IpAddr;

use crate::strace::errno;

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// execve, execveat.
    Exec,
    /// open, openat, openat2, creat.
    Open,
    /// unlink, unlinkat.
    Unlink,
    /// rename, renameat, renameat2.
    Rename,
    /// connect.
    Connect,
    /// mkdir, mkdirat.
    Mkdir,
    /// rmdir, unlinkat with AT_REMOVEDIR.
    Rmdir,
    /// link, linkat.
    Link,
    /// symlink, symlinkat.
    Symlink,
}

impl Kind {
    /// Every kind, in the order of the reports.
    pub const ALL: &'static [Kind] = &[
        Kind::Exec,
        Kind::Open,
        Kind::Unlink,
        Kind::Rename,
        Kind::Connect,
        Kind::Mkdir,
        Kind::Rmdir,
        Kind::Link,
        Kind::Symlink,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exec => "exec",
            Kind::Open => "open",
            Kind::Unlink => "unlink",
            Kind::Rename => "rename",
            Kind::Connect => "connect",
            Kind::Mkdir => "mkdir",
            Kind::Rmdir => "rmdir",
            Kind::Link => "link",
            Kind::Symlink => "symlink",
        }
    }
}

/// One attempt, without what the two witnesses need not agree on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Thread group id.
    pub pid: u32,
    /// What was attempted.
    pub kind: Kind,
    /// The object, absolute; `None` where the call named none that could be read.
    pub path: Option<Vec<u8>>,
    /// The second object of rename, link; the text of a symbolic link.
    pub path2: Option<Vec<u8>>,
    /// Arguments of an exec.
    pub argv: Option<Vec<Vec<u8>>>,
    /// Other end of a connection, v4-mapped addresses as v4.
    pub address: Option<(IpAddr, u16)>,
    /// Address family of a connection, as in `AF_UNIX`.
    pub family: Option<i64>,
    /// 0 or above, or -errno.
    pub ret: i64,
}

/// Whether a successful open made the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It did.
    Yes,
    /// It did not, or failed.
    No,
    /// Nothing says.
    Unknown,
}

/// Longest part of a name that is compared when the kernel refused it as too long.
const COMPARED_OF_TOO_LONG: usize = 1024;

impl Attempt {
    /// Drops what cannot be known: a path behind a bad pointer or descriptor, the end of one too long.
    pub fn settle(&mut self) {
        let errno = errno::name(-self.ret);
        for path in [&mut self.path, &mut self.path2] {
            match errno {
                Some("EFAULT" | "EBADF") => *path = None,
                Some("ENAMETOOLONG") => {
                    if let Some(path) = path {
                        path.truncate(COMPARED_OF_TOO_LONG);
                    }
                }
                _ => {}
            }
        }
        if errno == Some("EFAULT") {
            (self.argv, self.address, self.family) = (None, None, None);
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} {}", self.pid, self.kind.name())?;
        for path in [&self.path, &self.path2].into_iter().flatten() {
            write!(f, " \"{}\"", path.escape_ascii())?;
        }
        if let Some(argv) = &self.argv {
            let argv: Vec<_> = argv.iter().map(|arg| format!("\"{}\"", arg.escape_ascii())).collect();
            write!(f, " [{}]", argv.join(", "))?;
        }
        if let Some((address, port)) = self.address {
            write!(f, " {address} port {port}")?;
        }
        if let Some(family) = self.family {
            write!(f, " family {family}")?;
        }
        match errno::name(-self.ret) {
            Some(name) => write!(f, " = -{name}"),
            None => write!(f, " = {}", self.ret),
        }
    }
}

/// Joins a start directory and a name as the log does: empty and `.` components go, leading `..` are
/// resolved against the directory (a real one, so that this is exact), later ones stay as given.
pub fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> =
        if name.first() == Some(&b'/') { Vec::new() } else { components(base).collect() };
    let mut leading = true;
    for part in components(name) {
        if part == b".." && leading {
            parts.pop();
        } else {
            leading = false;
            parts.push(part);
        }
    }
    let mut path = Vec::new();
    for part in parts {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn names_are_joined_as_the_log_joins_them() {
        for (base, name, expected) in [
            ("/a/b", "c", "/a/b/c"),
            ("/a/b", "./c//d/", "/a/b/c/d"),
            ("/a/b", "../c", "/a/c"),
            ("/a/b", "./.././../../../c", "/c"),
            ("/a/b", "c/../d", "/a/b/c/../d"),
            ("/a/b", "../c/../../d", "/a/c/../../d"),
            ("/a/b", "/c/./d", "/c/d"),
            ("/a/b", "/../c", "/c"),
            ("/a/b", "", "/a/b"),
            ("/", "..", "/"),
        ] {
            assert_eq!(join(base.as_bytes(), name.as_bytes()), expected.as_bytes(), "{base} {name}");
        }
    }
}
