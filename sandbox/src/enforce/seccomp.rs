//! The system call filter of every enforced run: what the policy's plan closes (EPERM), and the calls of other
//! architectures, whose numbers mean something else (ENOSYS, as on a kernel without them).
//!
//! What is closed and why is the plan's ([`policy::compile::seccomp`]).

pub mod profile;

use std::collections::BTreeMap;
use std::io;

use policy::compile::seccomp::{self as plan, ClosedSocket, SeccompPlan};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// The number of a call that a plan closes; `None` where this architecture has no such call.
///
/// # Errors
///
/// A name that is not known here: a filter without it would be weaker than its plan.
fn number(name: &str) -> io::Result<Option<libc::c_long>> {
    Ok(Some(match name {
        #[cfg(target_arch = "x86_64")]
        "uselib" => libc::SYS_uselib,
        #[cfg(not(target_arch = "x86_64"))]
        "uselib" => return Ok(None),
        "fcntl" => libc::SYS_fcntl,
        "ioctl" => libc::SYS_ioctl,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "io_uring_enter" => libc::SYS_io_uring_enter,
        "io_uring_register" => libc::SYS_io_uring_register,
        "open_tree" => libc::SYS_open_tree,
        "fsopen" => libc::SYS_fsopen,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fspick" => libc::SYS_fspick,
        "mount_setattr" => libc::SYS_mount_setattr,
        "setns" => libc::SYS_setns,
        #[cfg(target_arch = "x86_64")]
        "iopl" => libc::SYS_iopl,
        #[cfg(target_arch = "x86_64")]
        "ioperm" => libc::SYS_ioperm,
        #[cfg(not(target_arch = "x86_64"))]
        "iopl" | "ioperm" => return Ok(None),
        "perf_event_open" => libc::SYS_perf_event_open,
        "init_module" => libc::SYS_init_module,
        "finit_module" => libc::SYS_finit_module,
        "delete_module" => libc::SYS_delete_module,
        "kexec_load" => libc::SYS_kexec_load,
        "kexec_file_load" => libc::SYS_kexec_file_load,
        "add_key" => libc::SYS_add_key,
        "request_key" => libc::SYS_request_key,
        "keyctl" => libc::SYS_keyctl,
        "settimeofday" => libc::SYS_settimeofday,
        "clock_settime" => libc::SYS_clock_settime,
        "adjtimex" => libc::SYS_adjtimex,
        "clock_adjtime" => libc::SYS_clock_adjtime,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("no number is known of {name}"))),
    }))
}

/// The bits of socket(2)'s type that are the type.
const SOCK_TYPE_MASK: u64 = 0xf;

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h).
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;

/// Instruction codes of classic BPF (include/uapi/linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
#[cfg(target_arch = "x86_64")]
const JUMP_AT_LEAST: u16 = 0x35;

/// Numbers from here on are x32 calls (__X32_SYSCALL_BIT), which share the architecture's own value.
#[cfg(target_arch = "x86_64")]
const X32_NUMBERS: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const NATIVE: (TargetArch, u32) = (TargetArch::x86_64, 0xC000_003E);
#[cfg(target_arch = "aarch64")]
const NATIVE: (TargetArch, u32) = (TargetArch::aarch64, 0xC000_00B7);

/// Installs the filter on the calling thread, for good, with no_new_privs. What it executes inherits it.
/// Nothing else can be installed afterwards that makes it weaker; call it last before exec. `allowed` are the words
/// of the policy's section `kernel`.
pub fn install(allowed: &[&str]) -> io::Result<()> {
    let program = program(&plan::compile(allowed))?;
    seccompiler::apply_filter(&program).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        other => io::Error::other(other),
    })
}

/// The filter: the guard against other architectures, then what seccompiler makes of the denials.
fn program(plan: &SeccompPlan) -> io::Result<BpfProgram> {
    let (architecture, _) = NATIVE;
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in &plan.calls {
        // No conditions: the call is denied whatever its arguments are.
        if let Some(number) = number(call.name)? {
            rules.insert(number, Vec::new());
        }
    }
    let sockets: Result<Vec<SeccompRule>, BackendError> = plan.sockets.iter().map(socket).collect();
    rules.insert(libc::SYS_socket, sockets.map_err(io::Error::other)?);
    for closed in &plan.commands {
        let Some(number) = number(closed.call)? else { continue };
        let command = u64::from(closed.command);
        let is = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command);
        let rule = is.and_then(|is| SeccompRule::new(vec![is])).map_err(io::Error::other)?;
        rules.entry(number).or_default().push(rule);
    }
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno(libc::EPERM), architecture);
    let denials = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
    let mut program = guard();
    program.extend(denials);
    Ok(program)
}

/// The rule against one kind of socket.
fn socket(closed: &ClosedSocket) -> Result<SeccompRule, BackendError> {
    let argument = |index, operator, value: i32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
    };
    let mut conditions = vec![argument(0, SeccompCmpOp::Eq, closed.family)?];
    if let Some(kind) = closed.kind {
        conditions.push(argument(1, SeccompCmpOp::MaskedEq(SOCK_TYPE_MASK), kind)?);
    }
    if let Some(protocol) = closed.protocol {
        conditions.push(argument(2, SeccompCmpOp::Eq, protocol)?);
    }
    SeccompRule::new(conditions)
}

/// Answers ENOSYS to calls of another architecture; falls through for the native ones. seccompiler's own check
/// would kill the process, and does not see x32.
fn guard() -> BpfProgram {
    let (_, architecture) = NATIVE;
    let no_such_call = u32::from(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut guard = vec![
        step(LOAD_WORD, 0, 0, DATA_ARCH),
        step(JUMP_EQUAL, 1, 0, architecture),
        step(RETURN, 0, 0, no_such_call),
    ];
    #[cfg(target_arch = "x86_64")]
    guard.extend([
        step(LOAD_WORD, 0, 0, DATA_NR),
        step(JUMP_AT_LEAST, 0, 1, X32_NUMBERS),
        step(RETURN, 0, 0, no_such_call),
    ]);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = DATA_NR;
    guard
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const INSIDE: &str = "enforce::seccomp::tests::inside_the_filter";
    const OUTSIDE: &str = "enforce::seccomp::tests::outside_the_filter";

    fn call(number: libc::c_long) -> io::Result<libc::c_long> {
        // SAFETY: every call made here takes integers or null pointers only.
        let result = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    /// AF_SMC and IPPROTO_SMC; libc has no names for them.
    const AF_SMC: i32 = 43;
    const IPPROTO_SMC: i32 = 256;

    const DENIED_SOCKETS: [(i32, i32, i32); 8] = [
        (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        (libc::AF_INET6, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
        (libc::AF_INET, libc::SOCK_SEQPACKET, 0),
        (libc::AF_INET6, libc::SOCK_SEQPACKET, 0),
        (libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SMC),
        (AF_SMC, libc::SOCK_STREAM, 0),
        (libc::AF_RXRPC, libc::SOCK_DGRAM, libc::AF_INET),
        (libc::AF_RDS, libc::SOCK_SEQPACKET, 0),
    ];

    const ALLOWED_SOCKETS: [(i32, i32, i32); 6] = [
        (libc::AF_INET, libc::SOCK_STREAM, 0),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        (libc::AF_NETLINK, libc::SOCK_RAW, 0),
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    ];

    /// Makes a socket and closes it again; the errno if there is none.
    fn socket_errno(family: i32, kind: i32, protocol: i32) -> Option<i32> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(family, kind, protocol) };
        if fd < 0 {
            return io::Error::last_os_error().raw_os_error();
        }
        // SAFETY: made above, and nobody else's.
        unsafe { libc::close(fd) };
        None
    }

    fn errno(number: libc::c_long) -> Option<i32> {
        call(number).err().and_then(|error| error.raw_os_error())
    }

    /// getpid as a 32-bit program makes it; gives what the kernel put into the register.
    #[cfg(target_arch = "x86_64")]
    fn getpid_by_int80() -> i64 {
        let mut result: i64 = 20;
        // SAFETY: the gate preserves all registers but rax (r8 to r11 on old kernels, listed); getpid takes
        // no arguments and touches no memory.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        i64::from(result as i32)
    }

    /// Runs one of the tests below in a process of its own.
    fn run(name: &str, filtered: bool) -> std::process::Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        if filtered {
            // SAFETY: between fork and exec only allocations and system calls happen; the test process's
            // other threads hold no lock that they need (glibc's allocator is safe after fork).
            unsafe { command.pre_exec(|| install(&[])) };
        }
        command.output().unwrap()
    }

    #[test]
    fn the_filter_denies_what_it_should_and_nothing_else() {
        for (name, filtered) in [(INSIDE, true), (OUTSIDE, false)] {
            let output = run(name, filtered);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
        }
        // Each would fail in the other's place: the difference is the filter.
        assert!(!run(INSIDE, false).status.success());
        assert!(!run(OUTSIDE, true).status.success());
    }

    #[test]
    #[ignore = "run by the_filter_denies_what_it_should_and_nothing_else"]
    fn inside_the_filter() {
        for call in plan::compile(&[]).calls {
            if let Some(number) = number(call.name).unwrap() {
                assert_eq!(errno(number), Some(libc::EPERM), "{}", call.name);
            }
        }
        for (family, kind, protocol) in DENIED_SOCKETS {
            let found = socket_errno(family, kind | libc::SOCK_CLOEXEC, protocol);
            assert_eq!(found, Some(libc::EPERM), "socket {family} {kind} {protocol}");
        }
        for (family, kind, protocol) in ALLOWED_SOCKETS {
            let found = socket_errno(family, kind | libc::SOCK_CLOEXEC, protocol);
            assert_ne!(found, Some(libc::EPERM), "socket {family} {kind} {protocol}");
        }
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(getpid_by_int80(), -i64::from(libc::ENOSYS));
            assert_eq!(errno(0x4000_0000 + libc::SYS_getpid), Some(libc::ENOSYS));
        }
        assert_eq!(call(libc::SYS_getpid).unwrap(), libc::c_long::from(std::process::id()));
    }

    #[test]
    #[ignore = "run by the_filter_denies_what_it_should_and_nothing_else"]
    fn outside_the_filter() {
        // Null parameters: EFAULT where io_uring is there, EPERM where the machine has switched it off.
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        if disabled.trim() != "2" {
            assert_ne!(errno(libc::SYS_io_uring_setup), Some(libc::EPERM));
        }
        #[cfg(target_arch = "x86_64")]
        assert_eq!(getpid_by_int80(), i64::from(std::process::id()), "this kernel runs no 32-bit programs");
        for (family, kind, protocol) in DENIED_SOCKETS {
            // What this kernel has of them can be made, the rest is not known.
            assert_ne!(socket_errno(family, kind, protocol), Some(libc::EPERM));
        }
    }

    #[test]
    fn a_call_without_a_known_number_makes_no_filter() {
        let mut plan = plan::compile(&[]);
        plan.calls[0].name = "nothing";
        assert!(program(&plan).unwrap_err().to_string().contains("nothing"));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_numbers_do_not_reach_the_rest() {
        let program = program(&plan::compile(&[])).unwrap();
        let refused = u32::from(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
        assert_eq!(evaluate(&program, 0xC000_003E, 0x4000_0000), refused);
        assert_eq!(evaluate(&program, 0xC000_003E, u32::MAX), refused);
        assert_eq!(evaluate(&program, 0x4000_0003, 0), refused, "i386");
        assert_eq!(evaluate(&program, 0xC000_003E, 0x3FFF_FFFF), u32::from(SeccompAction::Allow));
        assert_eq!(evaluate(&program, 0xC000_003E, 425), u32::from(SeccompAction::Errno(1)));
    }

    /// A classic BPF machine for the instructions that filters have, over a call without arguments.
    #[cfg(target_arch = "x86_64")]
    fn evaluate(program: &BpfProgram, architecture: u32, number: u32) -> u32 {
        let (mut at, mut value) = (0usize, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                LOAD_WORD => value = if step.k == DATA_ARCH { architecture } else { number },
                JUMP_EQUAL => at += jump(value == step.k),
                JUMP_AT_LEAST => at += jump(value >= step.k),
                0x05 => at += step.k as usize,
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }
}
