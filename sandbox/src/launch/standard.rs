//! The standard descriptors of an enforced command: what the user redirects is the user's word, as long as no rule
//! says otherwise.
//!
//! A redirection to a file that merely no rule allows stands: the file is chosen outside, and the command cannot open it
//! again. One that a rule denies is refused before anything is made.

use std::os::{fd::BorrowedFd, unix::ffi::OsStrExt};

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

const STREAMS: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Fails when a standard descriptor gives an access to a file that a rule of a policy denies.
///
/// # Errors
/// The first such descriptor.
pub fn check(policies: &Policies) -> Result<(), DeniedStream> {
    policies.iter().try_for_each(check_one)
}

fn check_one(policy: &Policy) -> Result<(), DeniedStream> {
    let links = Links::new(policy);
    for (fd, stream) in (0..).zip(STREAMS).filter(|(fd, _)| inherited::was_open(*fd)) {
        let Some((path, accesses)) = file(fd) else { continue };
        let accesses = links.denied(&path).intersection(accesses);
        if !accesses.is_empty() {
            let rule = evaluate::file(policy, accesses, &path).rule.to_string();
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(DeniedStream { stream, path, rule, accesses });
        }
    }
    Ok(())
}

/// The path behind a descriptor and the accesses that it gives; `None` for pipes, sockets and what cannot be told.
fn file(fd: i32) -> Option<(Vec<u8>, AccessSet)> {
    // SAFETY: it was open when the program was started, and nothing here closes it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(fd) };
    let found = fstat(descriptor).ok()?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK {
        return None;
    }
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL).ok()?);
    let accesses: &[Access] = match flags & OFlag::O_ACCMODE {
        _ if flags.contains(OFlag::O_PATH) => &[],
        OFlag::O_RDONLY => &[Access::Read],
        OFlag::O_WRONLY => &[Access::Write],
        _ => &[Access::Read, Access::Write],
    };
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let path = path.as_os_str().as_bytes();
    let path = if found.st_nlink == 0 { path.strip_suffix(b" (deleted)").unwrap_or(path) } else { path };
    Some((path.to_vec(), accesses.iter().copied().collect()))
}
