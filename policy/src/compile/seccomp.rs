//! The plan of the system call filter: which calls and sockets an enforced run cannot make, and why.
//!
//! It closes the ways round that other layers cannot see into. Calls are named as the manual pages do; what their
//! numbers are, and how they are refused, is the business of whoever installs the filter. A filter judges no paths
//! and no addresses: it sees pointers, and what they point to can change after it has looked.

/// The filter of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompPlan {
    /// Calls that fail with EPERM, whatever their arguments are; ascending by name.
    pub calls: Vec<ClosedCall>,
    /// Sockets that cannot be made (EPERM).
    pub sockets: Vec<ClosedSocket>,
    /// Commands of calls that fail with EPERM.
    pub commands: Vec<ClosedCommand>,
}

/// A command of a call that does many things: its second argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedCommand {
    /// The call.
    pub call: &'static str,
    /// The argument's value. Linux's, the same on every architecture.
    pub command: u32,
}

/// A call that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClosedCall {
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub because: Because,
}

/// Why something is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Because {
    /// No enforced run may do it: no other layer could judge what it does.
    Unseen,
    /// The policy's section `kernel` does not allow this word.
    Kernel(&'static str),
}

/// Sockets of one kind: all arguments of socket(2) that are given must match. Numbers are Linux's, the same on every
/// architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSocket {
    /// Address family.
    pub family: i32,
    /// Type, without the flags in it.
    pub kind: Option<i32>,
    /// Protocol.
    pub protocol: Option<i32>,
}

/// Calls that no enforced run may make.
const UNSEEN: [&str; 1] = [
    // Opens a file as execve does, so `file_open` leaves it to `bprm_check_security`, which is not asked.
    "uselib",
];

/// Calls that no enforced run may make unless its policy allows them, by the words of `kernel`. What has hooks
/// (mount(2), ptrace(2), bpf(2), …) is theirs.
const CLOSED: [(&str, &[&str]); 8] = [
    ("io-uring", &["io_uring_setup", "io_uring_enter", "io_uring_register"]),
    ("mount", &["open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"]),
    ("setns", &["setns"]),
    ("perf", &["perf_event_open"]),
    ("modules", &["init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"]),
    // Ports of the machine, past every device.
    ("raw-devices", &["iopl", "ioperm"]),
    ("keyrings", &["add_key", "request_key", "keyctl"]),
    ("clock", &["settimeofday", "clock_settime", "adjtimex", "clock_adjtime"]),
];

/// What names another process to be signalled when a descriptor is ready (fcntl(2): F_SETOWN, F_SETOWN_EX; FIOSETOWN and
/// SIOCSPGRP of ioctl(2)): the kernel sends that signal, whichever F_SETSIG has chosen, without asking `task_kill`.
const OWNERS: [(&str, u32); 4] = [("fcntl", 8), ("fcntl", 15), ("ioctl", 0x8901), ("ioctl", 0x8902)];

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
/// RDS, PPPoX, TIPC, RxRPC, SMC: they put an IP address into an address of their own, which no rule of a policy
/// covers, or speak TCP beneath.
const FAMILIES: [i32; 5] = [21, 24, 30, 33, 43];
/// SCTP and SMC: they connect without the hook `socket_connect` (SCTP_SOCKOPT_CONNECTX), or speak TCP beneath.
const PROTOCOLS: [i32; 2] = [132, 256];
/// Protocol 0 stands for the type's own, and that of this type is SCTP.
const SOCK_SEQPACKET: i32 = 5;

/// The filter of an enforced run whose policy allows these words of `kernel`.
pub fn compile(allowed: &[&str]) -> SeccompPlan {
    let unseen = UNSEEN.into_iter().map(|name| ClosedCall { name, because: Because::Unseen });
    let closed = CLOSED.into_iter().filter(|(word, _)| !allowed.contains(word)).flat_map(|(word, calls)| {
        calls.iter().map(move |name| ClosedCall { name, because: Because::Kernel(word) })
    });
    let mut calls: Vec<ClosedCall> = unseen.chain(closed).collect();
    calls.sort_unstable();
    let families = FAMILIES.into_iter().map(|family| ClosedSocket { family, kind: None, protocol: None });
    let ip = [AF_INET, AF_INET6].into_iter().flat_map(|family| {
        let protocols = PROTOCOLS.into_iter().map(move |protocol| ClosedSocket {
            family,
            kind: None,
            protocol: Some(protocol),
        });
        protocols.chain([ClosedSocket { family, kind: Some(SOCK_SEQPACKET), protocol: None }])
    });
    let owners = OWNERS.into_iter().filter(|_| !allowed.contains(&"signal-outside"));
    let commands = owners.map(|(call, command)| ClosedCommand { call, command }).collect();
    SeccompPlan { calls, sockets: families.chain(ip).collect(), commands }
}

/// The words of `kernel` that the filter closes.
pub fn words() -> impl Iterator<Item = &'static str> {
    CLOSED.into_iter().map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::KERNEL;

    #[test]
    fn what_a_policy_allows_is_open_and_nothing_else() {
        let names =
            |allowed: &[&str]| compile(allowed).calls.iter().map(|call| call.name).collect::<Vec<_>>();
        let all = names(&[]);
        assert!(words().all(|word| KERNEL.contains(&word)));
        for (word, calls) in CLOSED {
            let without: Vec<&str> = all.iter().copied().filter(|call| !calls.contains(call)).collect();
            assert_eq!(names(&[word]), without, "{word}");
        }
        assert_eq!(names(&KERNEL), UNSEEN);
        assert_eq!(compile(&[]).commands.len(), OWNERS.len());
        assert_eq!(compile(&["signal-outside"]).commands, []);
        assert_eq!(all.len(), 26);
    }
}
