//! The standard descriptors of an enforced command: what the user redirects is the user's word, as long as no rule
//! says otherwise.
//!
//! A redirection to a file that merely no rule allows stands: the file is chosen outside, and the command cannot open it
//! again. One that a rule denies is refused before anything is made. Which of them lead round the run's own mounts is not
//! asked here, since what these are is not known yet ([`crate::sensor`]).

use std::{
    io,
    os::{
        fd::{BorrowedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::{SFlag, fstat},
};
use policy::{Access, AccessSet, Policies, Policy, evaluate, other_names::Links};

use super::inherited;

/// A standard descriptor leads to a file that a rule denies.
#[derive(Debug, thiserror::Error)]
#[error(
    "{stream} is {path}, which the rule `{rule}` closes for the command ({accesses}); redirect it elsewhere, or make \
     an exception in the rule"
)]
pub struct DeniedStream {
    stream: &'static str,
    path: String,
    rule: String,
    accesses: AccessSet,
}

/// It is not known where a standard descriptor leads.
#[derive(Debug, thiserror::Error)]
#[error("where {stream} leads cannot be told; redirect it elsewhere")]
pub struct UnknownStream {
    stream: &'static str,
    source: io::Error,
}

/// A standard descriptor that leads to something with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standard {
    /// Its number.
    pub descriptor: RawFd,
    /// Where it leads.
    pub path: PathBuf,
    /// Device and inode.
    pub file: (u64, u64),
    /// What is there.
    pub kind: Kind,
    /// Whether the file has a name: it may have been removed, or never had one.
    pub is_named: bool,
    /// The accesses that the descriptor itself gives.
    pub accesses: AccessSet,
    /// Whether what is written goes to the end.
    pub appends: bool,
}

/// What a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// What holds bytes, and so may hold code.
    Contents,
    /// A terminal or another device of characters, a named pipe, a socket.
    Other,
}

const STREAMS: [&str; 3] = ["standard input", "standard output", "standard error"];

impl Standard {
    /// What people call it.
    pub fn name(&self) -> &'static str {
        name(self.descriptor)
    }
}

fn name(descriptor: RawFd) -> &'static str {
    usize::try_from(descriptor).ok().and_then(|at| STREAMS.get(at)).unwrap_or(&"a descriptor")
}

/// Those that were open when `sandbox` was started and lead to something with a path: no pipes and no sockets but by name.
///
/// # Errors
/// One cannot be looked at, as where its path is too long.
pub fn found() -> Result<Vec<Standard>, UnknownStream> {
    let open = (0..).take(STREAMS.len()).filter(|fd| inherited::was_open(*fd));
    let found = open.map(|fd| look(fd).map_err(|source| UnknownStream { stream: name(fd), source }));
    found.filter_map(Result::transpose).collect()
}

/// Fails when a standard descriptor gives an access to a file that a rule of a policy denies.
///
/// # Errors
/// The first such descriptor.
pub fn check(found: &[Standard], policies: &Policies) -> Result<(), DeniedStream> {
    policies.iter().try_for_each(|policy| check_one(found, policy))
}

fn check_one(found: &[Standard], policy: &Policy) -> Result<(), DeniedStream> {
    let links = Links::new(policy);
    for one in found {
        let path = one.path.as_os_str().as_bytes();
        let accesses = links.denied(path).intersection(one.accesses);
        if !accesses.is_empty() {
            let rule = evaluate::file(policy, accesses, path).rule.to_string();
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(DeniedStream { stream: one.name(), path, rule, accesses });
        }
    }
    Ok(())
}

/// What is behind a descriptor; `None` for what has no path.
fn look(descriptor: RawFd) -> io::Result<Option<Standard>> {
    // SAFETY: it was open when the program was started, and nothing here closes it.
    let open = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let found = fstat(open)?;
    let flags = OFlag::from_bits_retain(fcntl(open, FcntlArg::F_GETFL)?);
    let accesses: &[Access] = match flags & OFlag::O_ACCMODE {
        _ if flags.contains(OFlag::O_PATH) => &[],
        OFlag::O_RDONLY => &[Access::Read],
        OFlag::O_WRONLY => &[Access::Write],
        _ => &[Access::Read, Access::Write],
    };
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}"))?;
    let path = path.as_os_str().as_bytes();
    // Of what has no path the kernel tells the number: `pipe:[1]`.
    if !path.starts_with(b"/") {
        return Ok(None);
    }
    let is_named = found.st_nlink > 0 || !path.ends_with(DELETED);
    let path = if is_named { path } else { path.strip_suffix(DELETED).unwrap_or(path) };
    let kind = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFREG | SFlag::S_IFBLK => Kind::Contents,
        _ => Kind::Other,
    };
    Ok(Some(Standard {
        descriptor,
        path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        file: (found.st_dev, found.st_ino),
        kind,
        is_named,
        accesses: accesses.iter().copied().collect(),
        appends: flags.contains(OFlag::O_APPEND),
    }))
}

/// What the kernel appends to a path whose name was removed.
const DELETED: &[u8] = b" (deleted)";
