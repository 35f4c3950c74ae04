//! The filter in a process of its own, and its programs on a machine for classic BPF.

use std::os::unix::process::CommandExt;
use std::process::Command;

use policy::compile::seccomp::{self as plan, Filter, Hooks, Level};

use super::*;

const INSIDE: &str = "enforce::seccomp::tests::inside_the_filter";
const STRICTLY: &str = "enforce::seccomp::tests::inside_a_strict_filter";
const OUTSIDE: &str = "enforce::seccomp::tests::outside_the_filter";

/// A number that stands for one that the runner answers.
const ANSWERED: u32 = 0x57_4859;

fn call(number: libc::c_long) -> io::Result<libc::c_long> {
    // SAFETY: every call made here takes integers or null pointers only.
    let result = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A call with this argument; the others lead nowhere.
fn errno_of_arguments(number: u32, [a, b, c, d, e, f]: [i64; 6]) -> Option<i32> {
    // SAFETY: no argument is a pointer that the kernel could read or write by.
    let result = unsafe { libc::syscall(number.into(), a, b, c, d, e, f) };
    if result < 0 { io::Error::last_os_error().raw_os_error() } else { None }
}

/// AF_SMC and IPPROTO_SMC; libc has no names for them.
const AF_SMC: i32 = 43;
const IPPROTO_SMC: i32 = 256;

const DENIED_SOCKETS: [(i32, i32, i32); 9] = [
    (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
    (libc::AF_INET6, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
    (libc::AF_INET, libc::SOCK_SEQPACKET, 0),
    (libc::AF_INET6, libc::SOCK_SEQPACKET, 0),
    (libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SMC),
    (AF_SMC, libc::SOCK_STREAM, 0),
    (libc::AF_RXRPC, libc::SOCK_DGRAM, libc::AF_INET),
    (libc::AF_RDS, libc::SOCK_SEQPACKET, 0),
    (libc::AF_X25, libc::SOCK_SEQPACKET, 0),
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

/// A plan that closes as much as any: nothing is allowed, and no hooks judge.
fn closing() -> SeccompPlan {
    plan::compile(&Filter { denied: vec!["chmod", "mlock"], ..Filter::new(Vec::new()) }, Hooks::Missing)
}

fn strict() -> SeccompPlan {
    plan::compile(&Filter { level: Level::Strict, ..Filter::new(Vec::new()) }, Hooks::Judge)
}

/// Runs one of the tests below in a process of its own.
fn run(name: &str, plan: Option<SeccompPlan>) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    if let Some(plan) = plan {
        // SAFETY: between fork and exec only allocations and system calls happen; the test process's
        // other threads hold no lock that they need (glibc's allocator is safe after fork).
        unsafe { command.pre_exec(move || install(&plan, &[])) };
    }
    command.output().unwrap()
}

#[test]
fn the_filter_denies_what_it_should_and_nothing_else() {
    for (name, plan) in [(INSIDE, Some(closing())), (STRICTLY, Some(strict())), (OUTSIDE, None)] {
        let output = run(name, plan);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
    }
    // Each would fail in the other's place: the difference is the filter.
    assert!(!run(INSIDE, None).status.success());
    assert!(!run(STRICTLY, Some(closing())).status.success());
    assert!(!run(OUTSIDE, Some(closing())).status.success());
}

#[test]
#[ignore = "run by the_filter_denies_what_it_should_and_nothing_else"]
fn inside_the_filter() {
    for closed in closing().closed {
        let Some(number) = number(closed.what.call()).unwrap() else { continue };
        let found = match closed.what {
            What::Call(_) => errno(number.into()),
            What::Argument(closed) => errno_of_arguments(number, closed.example(-1)),
            What::Socket(closed) => {
                let kind = closed.kind.unwrap_or(2) as i32;
                socket_errno(closed.family as i32, kind, closed.protocol.unwrap_or(0) as i32)
            }
        };
        let denied = match closed.answer {
            Answer::NotPermitted => libc::EPERM,
            Answer::NoSuchCall => libc::ENOSYS,
        };
        assert_eq!(found, Some(denied), "{closed:?}");
    }
    for (family, kind, protocol) in DENIED_SOCKETS {
        let found = socket_errno(family, kind | libc::SOCK_CLOEXEC, protocol);
        assert_eq!(found, Some(libc::EPERM), "socket {family} {kind} {protocol}");
    }
    for (family, kind, protocol) in ALLOWED_SOCKETS {
        let found = socket_errno(family, kind | libc::SOCK_CLOEXEC, protocol);
        assert_ne!(found, Some(libc::EPERM), "socket {family} {kind} {protocol}");
    }
    // The same calls with other arguments: asking for the persona, a new session of files, asking the terminal's size.
    // SAFETY: no pointers.
    assert!(unsafe { libc::personality(0xffff_ffff) } >= 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
    // SAFETY: no such descriptor; nothing is written.
    assert_eq!(unsafe { libc::ioctl(-1, libc::TIOCGWINSZ, std::ptr::null_mut::<u8>()) }, -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    // Threads are made although clone3 does not exist.
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(getpid_by_int80(), -i64::from(libc::ENOSYS));
        assert_eq!(errno(0x4000_0000 + libc::SYS_getpid), Some(libc::ENOSYS));
    }
    assert_eq!(call(libc::SYS_getpid).unwrap(), libc::c_long::from(std::process::id()));
}

#[test]
#[ignore = "run by the_filter_denies_what_it_should_and_nothing_else"]
fn inside_a_strict_filter() {
    let only = strict().only.unwrap();
    let named = |name: &str| number(name).unwrap().map(libc::c_long::from);
    for name in ["kcmp", "io_setup", "mq_unlink", "unshare", "ptrace", "remap_file_pages", "process_mrelease"]
    {
        assert!(!only.contains(&name));
        assert_eq!(errno(named(name).unwrap()), Some(libc::EPERM), "{name}");
    }
    // What was closed already stays so, by its own answer.
    assert_eq!(errno(named("file_setattr").unwrap()), Some(libc::ENOSYS));
    assert_eq!(socket_errno(libc::AF_X25, libc::SOCK_STREAM, 0), Some(libc::EPERM));
    // Newer than the list: not there.
    let newest = libc::c_long::from(syscalls::newest(ARCHITECTURE));
    assert_eq!(errno(newest + 1), Some(libc::ENOSYS));
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    assert!(std::fs::read("/proc/self/status").is_ok());
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
    // What must be there for the tests inside to show anything.
    for number in [libc::SYS_kcmp, libc::SYS_process_vm_readv, libc::SYS_pidfd_getfd] {
        assert!(!matches!(errno(number), Some(libc::EPERM | libc::ENOSYS)), "{number}");
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
    let mut plan = closing();
    plan.closed[0].what = What::Call("nothing");
    assert!(programs(&plan, &[]).unwrap_err().to_string().contains("nothing"));
    let plan = SeccompPlan { only: Some(vec!["nothing"]), ..closing() };
    assert!(programs(&plan, &[]).unwrap_err().to_string().contains("nothing"));
}

#[test]
fn numbers_are_those_of_the_c_library() {
    macro_rules! check {
        ($($name:ident),* $(,)?) => {
            [$((stringify!($name), libc::$name)),*]
        };
    }
    let known = check![
        SYS_read,
        SYS_openat,
        SYS_openat2,
        SYS_execve,
        SYS_execveat,
        SYS_exit,
        SYS_exit_group,
        SYS_clone,
        SYS_clone3,
        SYS_unshare,
        SYS_setns,
        SYS_mount,
        SYS_umount2,
        SYS_move_mount,
        SYS_pivot_root,
        SYS_open_tree,
        SYS_fsopen,
        SYS_fsconfig,
        SYS_fsmount,
        SYS_fspick,
        SYS_mount_setattr,
        SYS_chroot,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_pidfd_getfd,
        SYS_bpf,
        SYS_perf_event_open,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
        SYS_kexec_file_load,
        SYS_add_key,
        SYS_request_key,
        SYS_keyctl,
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_adjtimex,
        SYS_clock_adjtime,
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_userfaultfd,
        SYS_personality,
        SYS_reboot,
        SYS_swapon,
        SYS_swapoff,
        SYS_acct,
        SYS_quotactl,
        SYS_quotactl_fd,
        SYS_sethostname,
        SYS_setdomainname,
        SYS_vhangup,
        SYS_syslog,
        SYS_fanotify_init,
        SYS_socket,
        SYS_ioctl,
        SYS_fcntl,
        SYS_kcmp,
        SYS_seccomp,
        SYS_futex_waitv,
        SYS_getrandom,
        SYS_rt_sigreturn,
        SYS_renameat,
        SYS_statx,
        SYS_rseq,
        SYS_landlock_restrict_self,
    ];
    for (name, expected) in known {
        let found = number(name.strip_prefix("SYS_").unwrap()).unwrap().map(libc::c_long::from);
        assert_eq!(found, Some(expected), "{name}");
    }
    #[cfg(target_arch = "x86_64")]
    for (name, expected) in
        check![SYS_uselib, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_ustat, SYS_sysfs, SYS_open]
    {
        let found = number(name.strip_prefix("SYS_").unwrap()).unwrap().map(libc::c_long::from);
        assert_eq!(found, Some(expected), "{name}");
    }
    #[cfg(not(target_arch = "x86_64"))]
    for name in ["uselib", "iopl", "ioperm", "modify_ldt", "ustat", "sysfs", "open"] {
        assert_eq!(number(name).unwrap(), None, "{name}");
    }
}

/// What the programs of a plan say to a call without arguments: the strictest, of two refusals the last one's.
fn verdict(plan: &SeccompPlan, architecture: u32, number: u32) -> u32 {
    let programs = programs(plan, &[ANSWERED]).unwrap();
    let allowed = u32::from(SeccompAction::Allow);
    let answers = programs.iter().rev().map(|program| evaluate(program, architecture, number));
    answers.into_iter().find(|answer| *answer != allowed).unwrap_or(allowed)
}

#[test]
fn numbers_of_other_architectures_do_not_reach_the_rest() {
    let (_, native) = NATIVE;
    let foreign = if native == 0xC000_003E { 0xC000_00B7 } else { 0xC000_003E };
    for plan in [closing(), strict()] {
        let verdict = |architecture, number| verdict(&plan, architecture, number);
        let refused = answer(libc::ENOSYS);
        assert_eq!(verdict(native, X32_NUMBERS), refused);
        assert_eq!(verdict(native, u32::MAX), refused);
        assert_eq!(verdict(0x4000_0003, 0), refused, "i386");
        assert_eq!(verdict(0x4000_0028, 0), refused, "arm");
        assert_eq!(verdict(foreign, 63), refused);
        assert_eq!(verdict(native, ANSWERED), u32::from(SeccompAction::Allow));
        assert_eq!(verdict(native, 425), answer(libc::EPERM));
    }
    assert_eq!(verdict(&closing(), native, X32_NUMBERS - 1), u32::from(SeccompAction::Allow));
    assert_eq!(verdict(&strict(), native, X32_NUMBERS - 1), answer(libc::ENOSYS));
}

#[test]
fn every_known_number_has_the_verdict_of_the_plan() {
    let (_, native) = NATIVE;
    for plan in [closing(), strict()] {
        for call in syscalls::all() {
            let Some(number) = call.number(ARCHITECTURE) else { continue };
            // Arguments are 0 here, which is not what some must be.
            let closed = plan.closed.iter().find(|closed| match closed.what {
                What::Call(name) => name == call.name,
                What::Argument(argument) => {
                    argument.call == call.name && matches!(argument.test, Test::IsNot(value) if value != 0)
                }
                What::Socket(_) => false,
            });
            let listed = plan.only.as_ref().is_none_or(|only| only.contains(&call.name));
            let expected = match closed.map(|closed| closed.answer) {
                Some(Answer::NotPermitted) => answer(libc::EPERM),
                Some(Answer::NoSuchCall) => answer(libc::ENOSYS),
                None if !listed => answer(libc::EPERM),
                None => SeccompAction::Allow.into(),
            };
            assert_eq!(verdict(&plan, native, number), expected, "{}", call.name);
        }
    }
}

/// A classic BPF machine for the instructions that filters have, over a call whose arguments are 0.
fn evaluate(program: &BpfProgram, architecture: u32, number: u32) -> u32 {
    let (mut at, mut value) = (0usize, 0u32);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            LOAD_WORD => {
                value = match step.k {
                    DATA_ARCH => architecture,
                    DATA_NR => number,
                    _ => 0,
                }
            }
            JUMP_EQUAL => at += jump(value == step.k),
            JUMP_ABOVE => at += jump(value > step.k),
            JUMP_AT_LEAST => at += jump(value >= step.k),
            0x54 => value &= step.k,
            0x05 => at += step.k as usize,
            RETURN => return step.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}
