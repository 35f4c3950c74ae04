//! The filter beside a network namespace: sockets that no namespace holds back cannot be made.
//!
//! Of some families a socket belongs to the machine whatever namespace it was made in (vsock reaches the hypervisor), and
//! no rule of a policy can name them: a closed network closes them. What is open are IPv4, IPv6, unix sockets, and
//! netlink for addresses and routes, as where hooks judge. It adds to the filter of every enforced run.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::enforce::seccomp::guard;

/// Families whose sockets a network namespace holds.
const OPEN: [i32; 3] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Whether unix sockets can be made. Those with a path are files, which no namespace holds back: where the policies open
/// none, none is made. A pair (socketpair(2)) leads nowhere, and can be made all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixSockets {
    /// They can.
    Open,
    /// They cannot.
    Closed,
}

#[cfg(target_arch = "x86_64")]
const NATIVE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: TargetArch = TargetArch::aarch64;

/// Installs the filter on the calling thread, for good; it needs no_new_privs.
///
/// # Errors
/// The kernel refuses.
pub fn install(unix: UnixSockets) -> io::Result<()> {
    let program = program(unix).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        other => io::Error::other(other),
    })
}

fn program(unix: UnixSockets) -> Result<BpfProgram, BackendError> {
    let argument = |index, operator, value: i32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
    };
    let other = |unix: UnixSockets| {
        let own = (unix == UnixSockets::Open).then_some(libc::AF_UNIX);
        let open = OPEN.into_iter().chain(own);
        let none_of = open.map(|family| argument(0, SeccompCmpOp::Ne, family));
        SeccompRule::new(none_of.collect::<Result<_, _>>()?)
    };
    let netlink = SeccompRule::new(vec![
        argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?,
        argument(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?,
    ])?;
    let rules: BTreeMap<i64, Vec<SeccompRule>> = [
        (libc::SYS_socket, vec![other(unix)?, netlink.clone()]),
        (libc::SYS_socketpair, vec![other(UnixSockets::Open)?, netlink]),
    ]
    .into();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, NATIVE)?.try_into()?;
    // Calls of other architectures do not exist, as in the filter beside it; seccompiler would kill whoever makes one.
    Ok(guard().into_iter().chain(filter).collect())
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Whether sockets of these families and protocols can be made: 0, or the errno.
    fn made(family: i32, kind: i32, protocol: i32) -> i32 {
        // SAFETY: integers only.
        let fd = unsafe { libc::socket(family, kind, protocol) };
        if fd < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
    }

    #[test]
    fn other_families_are_closed_and_these_are_not() {
        let open = [
            (libc::AF_UNIX, libc::SOCK_STREAM, 0),
            (libc::AF_INET, libc::SOCK_STREAM, 0),
            (libc::AF_INET6, libc::SOCK_DGRAM, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        ];
        let closed = [
            (libc::AF_PACKET, libc::SOCK_RAW, 0),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
            (-1, libc::SOCK_STREAM, 0),
        ];
        let before = open.map(|(family, kind, protocol)| made(family, kind, protocol));
        // SAFETY: the child makes system calls only, and ends by _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let installed =
                    nix::sys::prctl::set_no_new_privs().is_ok() && install(UnixSockets::Open).is_ok();
                let same = open.map(|(family, kind, protocol)| made(family, kind, protocol)) == before;
                let denied = closed
                    .iter()
                    .all(|(family, kind, protocol)| made(*family, *kind, *protocol) == libc::EPERM);
                let closed = install(UnixSockets::Closed).is_ok()
                    && made(libc::AF_UNIX, libc::SOCK_STREAM, 0) == libc::EPERM
                    && made(libc::AF_INET, libc::SOCK_STREAM, 0) == before[1]
                    && std::os::unix::net::UnixStream::pair().is_ok();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!(installed && same && denied && closed))) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(before[0], 0);
                assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Exited(_, 0)));
            }
        }
    }
}
