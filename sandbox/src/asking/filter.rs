//! The filter that hands calls over which may be asked about. It denies nothing, and neither does who takes them.

use std::io;
use std::os::fd::OwnedFd;

use sandbox_ebpf::abi::event::{Kind, arch};

use super::Sections;
use crate::inside::{PASSWORD, QUESTION};
use crate::kernel::syscalls::{self, Entry};
use crate::observe::notify::filter::{
    ALLOW, ARCHITECTURES, DATA_ARCH, DATA_NR, JUMP_EQUAL, LOAD_WORD, NOTIFY, RETURN, data_argument,
    install_listening, step, table,
};

/// The first argument of [`QUESTION`] that proves to the supervisor that calls come and can be read.
const PROBE: u32 = 0x6173_6b3f;

/// A text that the probe's second argument leads to.
pub(super) const PROBED: &[u8] = b"sandbox-asks";

/// Whether a call is one that this section's rules are asked at.
fn concerns(entry: &Entry, sections: Sections) -> bool {
    match Kind::from_raw(entry.spec.kind) {
        Kind::Exec => sections.exec,
        Kind::Connect | Kind::Send => sections.network,
        Kind::Open
        | Kind::Unlink
        | Kind::Rename
        | Kind::Link
        | Kind::Symlink
        | Kind::Mkdir
        | Kind::Rmdir
        | Kind::Mknod
        | Kind::Truncate
        | Kind::Chmod
        | Kind::Chown
        | Kind::Utimes
        | Kind::Xattr => sections.files,
        _ => false,
    }
}

/// The filter, instruction by instruction. Calls of other tables than the machine's own go by: the hooks judge them, and
/// nobody is asked.
fn program(sections: Sections) -> Vec<libc::sock_filter> {
    let mut program = vec![
        step(LOAD_WORD, 0, 0, DATA_ARCH),
        step(JUMP_EQUAL, 1, 0, ARCHITECTURES[0]),
        step(RETURN, 0, 0, ALLOW),
        step(LOAD_WORD, 0, 0, DATA_NR),
        step(JUMP_EQUAL, 0, 5, QUESTION as u32),
        step(LOAD_WORD, 0, 0, data_argument(0)),
        step(JUMP_EQUAL, 1, 0, PASSWORD),
        step(JUMP_EQUAL, 0, 1, PROBE),
        step(RETURN, 0, 0, NOTIFY),
        step(RETURN, 0, 0, ALLOW),
    ];
    let own = syscalls::entries().filter(|entry| entry.arch == arch::NATIVE);
    table(own.filter(|entry| concerns(entry, sections)), 0, &mut program);
    program
}

/// Installs the filter on the calling thread, for good, with no_new_privs, and gives the listener. What the thread
/// executes inherits the filter.
///
/// # Errors
/// EBUSY: the thread has a filter with a listener already. EINVAL, ENOSYS: the kernel has none.
pub fn listen(sections: Sections) -> io::Result<OwnedFd> {
    install_listening(program(sections))
}

/// Makes the first call through the filter, from the thread that has it.
pub fn probe() {
    // On the heap, and so in memory that is present.
    let text = [PROBED, b"\0"].concat();
    // SAFETY: the text ends with a NUL and lives through the call; no kernel has this call.
    unsafe { libc::syscall(QUESTION, libc::c_ulong::from(PROBE), text.as_ptr()) };
}

/// Whether this is [`probe`]'s call.
pub(super) fn is_probe(number: u32, arguments: &[u64; 6]) -> bool {
    libc::c_long::from(number) == QUESTION && arguments[0] == u64::from(PROBE)
}

/// Whether this is the question of `sandbox why`.
pub(super) fn is_why(number: u32, arguments: &[u64; 6]) -> bool {
    libc::c_long::from(number) == QUESTION && arguments[0] == u64::from(PASSWORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::notify::filter::verdict_of;

    fn handed(sections: Sections, number: libc::c_long, arguments: [u64; 6]) -> bool {
        verdict_of(&program(sections), ARCHITECTURES[0], number as u32, arguments) == NOTIFY
    }

    #[test]
    fn only_calls_of_sections_that_ask_are_handed_over() {
        let files = Sections { files: true, ..Sections::default() };
        let exec = Sections { exec: true, ..Sections::default() };
        let network = Sections { network: true, ..Sections::default() };
        for (sections, own, others) in [
            (files, libc::SYS_openat, [libc::SYS_execve, libc::SYS_connect]),
            (exec, libc::SYS_execve, [libc::SYS_openat, libc::SYS_connect]),
            (network, libc::SYS_connect, [libc::SYS_openat, libc::SYS_execve]),
        ] {
            assert!(handed(sections, own, [7; 6]));
            assert!(!others.iter().any(|other| handed(sections, *other, [7; 6])));
            assert!(!handed(sections, libc::SYS_read, [7; 6]) && !handed(sections, libc::SYS_listen, [7; 6]));
            assert!(handed(sections, QUESTION, [PASSWORD.into(), 0, 0, 0, 0, 0]));
            assert!(handed(sections, QUESTION, [PROBE.into(), 0, 0, 0, 0, 0]));
            assert!(!handed(sections, QUESTION, [0; 6]));
        }
        // Over a connection nothing is asked.
        assert!(!handed(network, libc::SYS_sendto, [3, 1, 1, 0, 0, 0]));
        assert!(handed(network, libc::SYS_sendto, [3, 1, 1, 0, 1, 16]));
        assert_eq!(verdict_of(&program(files), 0x1234, libc::SYS_openat as u32, [7; 6]), ALLOW);
    }
}
