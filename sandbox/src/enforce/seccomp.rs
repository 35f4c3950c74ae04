//! The system call filter of every enforced run.
//!
//! It closes the ways round that other layers cannot see into: io_uring, which makes calls without calling
//! (EPERM), and the calls of other architectures, whose numbers mean something else (ENOSYS, as on a kernel
//! without them). It judges no paths and no addresses: a filter sees pointers, and what they point to can
//! change after it has looked.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};

/// Calls that no enforced run may make.
const DENIED: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

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
/// Nothing else can be installed afterwards that makes it weaker; call it last before exec.
pub fn install() -> io::Result<()> {
    let program = program().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        other => io::Error::other(other),
    })
}

/// The filter: the guard against other architectures, then what seccompiler makes of [`DENIED`].
fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let (architecture, _) = NATIVE;
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    // No conditions: the call is denied whatever its arguments are.
    let rules: BTreeMap<i64, _> = DENIED.into_iter().map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno(libc::EPERM), architecture)?;
    let denials: BpfProgram = filter.try_into()?;
    let mut program = guard();
    program.extend(denials);
    Ok(program)
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
            unsafe { command.pre_exec(install) };
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
        for number in DENIED {
            assert_eq!(errno(number), Some(libc::EPERM), "call {number}");
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
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_numbers_do_not_reach_the_rest() {
        let program = program().unwrap();
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
