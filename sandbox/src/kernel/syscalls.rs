//! The system call table: which calls the observer records, and how it reads their arguments.
//!
//! Numbers: `libc` for the machine's own table, `arch/x86/entry/syscalls/syscall_32.tbl` for 32-bit calls.

use std::sync::LazyLock;

use sandbox_ebpf::abi::{
    event::{Kind, arch},
    syscall::{CALLS, CALLS_PER_ARCH, SyscallSpec, behaviour},
};

/// Flags that creat(2) stands for.
const CREAT: u32 = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32;

/// One observed call of one table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// One of [`arch`].
    pub arch: u8,
    /// Its number in that table.
    pub number: u32,
    /// How to read it.
    pub spec: SyscallSpec,
}

const NONE: SyscallSpec = SyscallSpec {
    kind: 0,
    dir: 0,
    path: 0,
    dir2: 0,
    path2: 0,
    fd: 0,
    value: 0,
    value2: 0,
    behaviour: 0,
    _pad: [0; 3],
    constant: 0,
};

/// A call whose first name is argument `path`, absolute or from the working directory.
const fn path(kind: Kind, path: u8) -> SyscallSpec {
    SyscallSpec { kind: kind as u8, path, ..NONE }
}

/// A call whose first name is argument `path`, from the directory in argument `dir`.
const fn at(kind: Kind, dir: u8, path: u8) -> SyscallSpec {
    SyscallSpec { kind: kind as u8, dir, path, ..NONE }
}

/// A call on the descriptor in argument `fd`.
const fn on(kind: Kind, fd: u8) -> SyscallSpec {
    SyscallSpec { kind: kind as u8, fd, ..NONE }
}

/// How each call is read, by name. Arguments count from 1.
fn specification(name: &str) -> SyscallSpec {
    use behaviour::{AT_ENTRY, EMPTY_PATH, INDIRECT, MESSAGE, MESSAGES, TEXT};
    match name {
        "open" => SyscallSpec { value: 2, value2: 3, ..path(Kind::Open, 1) },
        "creat" => SyscallSpec { constant: CREAT, value2: 2, ..path(Kind::Open, 1) },
        "openat" => SyscallSpec { value: 3, value2: 4, ..at(Kind::Open, 1, 2) },
        "openat2" => SyscallSpec { value: 3, behaviour: INDIRECT, ..at(Kind::Open, 1, 2) },
        "open_by_handle_at" => SyscallSpec { value: 3, ..on(Kind::Open, 1) },
        "unlink" => path(Kind::Unlink, 1),
        "unlinkat" => SyscallSpec { value: 3, ..at(Kind::Unlink, 1, 2) },
        "rename" => SyscallSpec { path2: 2, behaviour: AT_ENTRY, ..path(Kind::Rename, 1) },
        "renameat" => SyscallSpec { dir2: 3, path2: 4, behaviour: AT_ENTRY, ..at(Kind::Rename, 1, 2) },
        "renameat2" => {
            SyscallSpec { dir2: 3, path2: 4, value: 5, behaviour: AT_ENTRY, ..at(Kind::Rename, 1, 2) }
        }
        "link" => SyscallSpec { path2: 2, ..path(Kind::Link, 1) },
        "linkat" => {
            SyscallSpec { dir2: 3, path2: 4, value: 5, behaviour: EMPTY_PATH, ..at(Kind::Link, 1, 2) }
        }
        "symlink" => SyscallSpec { path2: 1, behaviour: TEXT, ..path(Kind::Symlink, 2) },
        "symlinkat" => SyscallSpec { path2: 1, behaviour: TEXT, ..at(Kind::Symlink, 2, 3) },
        "mkdir" => SyscallSpec { value: 2, ..path(Kind::Mkdir, 1) },
        "mkdirat" => SyscallSpec { value: 3, ..at(Kind::Mkdir, 1, 2) },
        "rmdir" => path(Kind::Rmdir, 1),
        "mknod" => SyscallSpec { value: 2, value2: 3, ..path(Kind::Mknod, 1) },
        "mknodat" => SyscallSpec { value: 3, value2: 4, ..at(Kind::Mknod, 1, 2) },
        "truncate" | "truncate64" => SyscallSpec { value: 2, ..path(Kind::Truncate, 1) },
        "ftruncate" | "ftruncate64" => SyscallSpec { value: 2, ..on(Kind::Truncate, 1) },
        "chmod" => SyscallSpec { value: 2, ..path(Kind::Chmod, 1) },
        "fchmod" => SyscallSpec { value: 2, ..on(Kind::Chmod, 1) },
        "fchmodat" => SyscallSpec { value: 3, ..at(Kind::Chmod, 1, 2) },
        "fchmodat2" => SyscallSpec { value: 3, value2: 4, behaviour: EMPTY_PATH, ..at(Kind::Chmod, 1, 2) },
        "chown" | "lchown" | "chown32" | "lchown32" => {
            SyscallSpec { value: 2, value2: 3, ..path(Kind::Chown, 1) }
        }
        "fchown" | "fchown32" => SyscallSpec { value: 2, value2: 3, ..on(Kind::Chown, 1) },
        "fchownat" => SyscallSpec { value: 3, value2: 4, behaviour: EMPTY_PATH, ..at(Kind::Chown, 1, 2) },
        "utime" | "utimes" => path(Kind::Utimes, 1),
        "futimesat" => SyscallSpec { behaviour: EMPTY_PATH, ..at(Kind::Utimes, 1, 2) },
        "utimensat" | "utimensat_time64" => {
            SyscallSpec { value: 4, behaviour: EMPTY_PATH, ..at(Kind::Utimes, 1, 2) }
        }
        "setxattr" | "lsetxattr" | "removexattr" | "lremovexattr" => {
            SyscallSpec { path2: 2, behaviour: TEXT, ..path(Kind::Xattr, 1) }
        }
        "fsetxattr" | "fremovexattr" => SyscallSpec { path2: 2, behaviour: TEXT, ..on(Kind::Xattr, 1) },
        "setxattrat" | "removexattrat" => {
            SyscallSpec { path2: 4, value: 3, behaviour: TEXT | EMPTY_PATH, ..at(Kind::Xattr, 1, 2) }
        }
        "execve" => SyscallSpec { value: 2, ..path(Kind::Exec, 1) },
        "execveat" => SyscallSpec { value: 3, ..at(Kind::Exec, 1, 2) },
        "connect" => SyscallSpec { path: 2, value: 3, ..on(Kind::Connect, 1) },
        "bind" => SyscallSpec { path: 2, value: 3, ..on(Kind::Bind, 1) },
        "sendto" => SyscallSpec { path: 5, value: 6, value2: 4, ..on(Kind::Send, 1) },
        "sendmsg" => SyscallSpec { path: 2, value2: 3, behaviour: MESSAGE, ..on(Kind::Send, 1) },
        "sendmmsg" => SyscallSpec { path: 2, value2: 4, behaviour: MESSAGES, ..on(Kind::Send, 1) },
        "listen" => on(Kind::Listen, 1),
        "accept" | "accept4" => on(Kind::Accept, 1),
        "io_uring_setup" => SyscallSpec { kind: Kind::IoUring as u8, value: 1, ..NONE },
        "socketcall" => SyscallSpec { kind: Kind::Compat as u8, value: 1, ..NONE },
        _ => NONE,
    }
}

/// The machine's own calls.
const NATIVE: &[(&str, libc::c_long)] = &[
    #[cfg(target_arch = "x86_64")]
    ("open", libc::SYS_open),
    #[cfg(target_arch = "x86_64")]
    ("creat", libc::SYS_creat),
    #[cfg(target_arch = "x86_64")]
    ("unlink", libc::SYS_unlink),
    #[cfg(target_arch = "x86_64")]
    ("rename", libc::SYS_rename),
    #[cfg(target_arch = "x86_64")]
    ("link", libc::SYS_link),
    #[cfg(target_arch = "x86_64")]
    ("symlink", libc::SYS_symlink),
    #[cfg(target_arch = "x86_64")]
    ("mkdir", libc::SYS_mkdir),
    #[cfg(target_arch = "x86_64")]
    ("rmdir", libc::SYS_rmdir),
    #[cfg(target_arch = "x86_64")]
    ("mknod", libc::SYS_mknod),
    #[cfg(target_arch = "x86_64")]
    ("chmod", libc::SYS_chmod),
    #[cfg(target_arch = "x86_64")]
    ("chown", libc::SYS_chown),
    #[cfg(target_arch = "x86_64")]
    ("lchown", libc::SYS_lchown),
    #[cfg(target_arch = "x86_64")]
    ("utime", libc::SYS_utime),
    #[cfg(target_arch = "x86_64")]
    ("utimes", libc::SYS_utimes),
    #[cfg(target_arch = "x86_64")]
    ("futimesat", libc::SYS_futimesat),
    ("openat", libc::SYS_openat),
    ("openat2", libc::SYS_openat2),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("unlinkat", libc::SYS_unlinkat),
    ("renameat", libc::SYS_renameat),
    ("renameat2", libc::SYS_renameat2),
    ("linkat", libc::SYS_linkat),
    ("symlinkat", libc::SYS_symlinkat),
    ("mkdirat", libc::SYS_mkdirat),
    ("mknodat", libc::SYS_mknodat),
    ("truncate", libc::SYS_truncate),
    ("ftruncate", libc::SYS_ftruncate),
    ("fchmod", libc::SYS_fchmod),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchmodat2", 452),
    ("fchown", libc::SYS_fchown),
    ("fchownat", libc::SYS_fchownat),
    ("utimensat", libc::SYS_utimensat),
    ("setxattr", libc::SYS_setxattr),
    ("lsetxattr", libc::SYS_lsetxattr),
    ("fsetxattr", libc::SYS_fsetxattr),
    ("removexattr", libc::SYS_removexattr),
    ("lremovexattr", libc::SYS_lremovexattr),
    ("fremovexattr", libc::SYS_fremovexattr),
    ("setxattrat", 463),
    ("removexattrat", 466),
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("connect", libc::SYS_connect),
    ("bind", libc::SYS_bind),
    ("listen", libc::SYS_listen),
    ("accept", libc::SYS_accept),
    ("accept4", libc::SYS_accept4),
    ("sendto", libc::SYS_sendto),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendmmsg", libc::SYS_sendmmsg),
    ("io_uring_setup", libc::SYS_io_uring_setup),
];

/// 32-bit calls on x86-64.
#[cfg(target_arch = "x86_64")]
const COMPAT: &[(&str, libc::c_long)] = &[
    ("open", 5),
    ("creat", 8),
    ("link", 9),
    ("unlink", 10),
    ("execve", 11),
    ("mknod", 14),
    ("chmod", 15),
    ("lchown", 16),
    ("utime", 30),
    ("rename", 38),
    ("mkdir", 39),
    ("rmdir", 40),
    ("symlink", 83),
    ("truncate", 92),
    ("ftruncate", 93),
    ("fchmod", 94),
    ("fchown", 95),
    ("socketcall", 102),
    ("chown", 182),
    ("truncate64", 193),
    ("ftruncate64", 194),
    ("lchown32", 198),
    ("fchown32", 207),
    ("chown32", 212),
    ("setxattr", 226),
    ("lsetxattr", 227),
    ("fsetxattr", 228),
    ("removexattr", 235),
    ("lremovexattr", 236),
    ("fremovexattr", 237),
    ("utimes", 271),
    ("openat", 295),
    ("mkdirat", 296),
    ("mknodat", 297),
    ("fchownat", 298),
    ("futimesat", 299),
    ("unlinkat", 301),
    ("renameat", 302),
    ("linkat", 303),
    ("symlinkat", 304),
    ("fchmodat", 306),
    ("utimensat", 320),
    ("open_by_handle_at", 342),
    ("sendmmsg", 345),
    ("renameat2", 353),
    ("execveat", 358),
    ("bind", 361),
    ("connect", 362),
    ("listen", 363),
    ("accept4", 364),
    ("sendto", 369),
    ("sendmsg", 370),
    ("utimensat_time64", 412),
    ("io_uring_setup", 425),
    ("openat2", 437),
    ("fchmodat2", 452),
    ("setxattrat", 463),
    ("removexattrat", 466),
];

/// 32-bit calls on other machines: enforced runs refuse them, the observer does not decode them.
#[cfg(not(target_arch = "x86_64"))]
const COMPAT: &[(&str, libc::c_long)] = &[];

/// x32 calls that have numbers of their own; the others share the native ones.
#[cfg(target_arch = "x86_64")]
const X32: &[(&str, libc::c_long)] =
    &[("execve", 520), ("sendmsg", 518), ("sendmmsg", 538), ("execveat", 545)];
#[cfg(not(target_arch = "x86_64"))]
const X32: &[(&str, libc::c_long)] = &[];

/// Every observed call of every table.
pub fn entries() -> impl Iterator<Item = Entry> {
    let shared = NATIVE.iter().filter(|(name, _)| !X32.iter().any(|(own, _)| own == name));
    let x32 = shared.chain(X32).filter(|_| cfg!(target_arch = "x86_64"));
    let entry = |arch: u8| {
        move |(name, number): &(&'static str, libc::c_long)| Entry {
            name,
            arch,
            number: *number as u32,
            spec: specification(name),
        }
    };
    NATIVE
        .iter()
        .map(entry(arch::NATIVE))
        .chain(COMPAT.iter().map(entry(arch::COMPAT)))
        .chain(x32.map(entry(arch::X32)))
}

/// The table as the kernel side reads it, by `arch * CALLS_PER_ARCH + number`.
pub fn table() -> Vec<SyscallSpec> {
    let mut table = vec![NONE; CALLS as usize];
    for entry in entries() {
        table[(u32::from(entry.arch) * CALLS_PER_ARCH + entry.number) as usize] = entry.spec;
    }
    table
}

/// The name of an observed call.
pub fn name(arch: u8, number: u32) -> Option<&'static str> {
    static NAMES: LazyLock<Vec<Option<&'static str>>> = LazyLock::new(|| {
        let mut names = vec![None; CALLS as usize];
        for entry in entries() {
            names[(u32::from(entry.arch) * CALLS_PER_ARCH + entry.number) as usize] = Some(entry.name);
        }
        names
    });
    if number >= CALLS_PER_ARCH {
        return None;
    }
    NAMES.get((u32::from(arch) * CALLS_PER_ARCH + number) as usize).copied().flatten()
}

/// Where the machine keeps a system call's arguments and number, inside `pt_regs`, bytes: the native six,
/// two of padding, the 32-bit six, two of padding. Sources: `arch/x86/include/asm/ptrace.h`,
/// `arch/arm64/include/asm/ptrace.h`.
#[cfg(target_arch = "x86_64")]
pub const ARGUMENT_REGISTERS: [u64; 16] = [
    112, 104, 96, 56, 72, 64, 0, 0, // di si dx r10 r8 r9
    40, 88, 96, 104, 112, 32, 0, 0, // bx cx dx si di bp
];
/// As above; on exit x0 holds the result, so the first argument is taken from `orig_x0`.
#[cfg(target_arch = "aarch64")]
pub const ARGUMENT_REGISTERS: [u64; 16] = [
    272, 8, 16, 24, 32, 40, 0, 0, //
    272, 8, 16, 24, 32, 40, 0, 0,
];

/// The member of `pt_regs` that holds the number, in its lower 32 bits.
#[cfg(target_arch = "x86_64")]
pub const NUMBER_REGISTER: &str = "orig_ax";
/// As above.
#[cfg(target_arch = "aarch64")]
pub const NUMBER_REGISTER: &str = "syscallno";

/// Calls that make names, as `hooks/calls.rs` of the programs knows them; `u64::MAX` where the machine has no such call.
pub fn making_calls() -> [u64; 5] {
    let number = |name: &str| {
        let known = NATIVE.iter().find(|(known, _)| *known == name);
        known.map_or(u64::MAX, |(_, number)| number.unsigned_abs())
    };
    ["open", "openat", "bind", "mknod", "mknodat"].map(number)
}

/// The member of `task_struct` that tells 32-bit calls, and the bit: TS_COMPAT, TIF_32BIT.
#[cfg(target_arch = "x86_64")]
pub const COMPAT_FLAG: (&str, u64) = ("thread_info.status", 2);
/// As above.
#[cfg(target_arch = "aarch64")]
pub const COMPAT_FLAG: (&str, u64) = ("thread_info.flags", 1 << 22);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_specification_and_every_number_one_name() {
        let mut seen = std::collections::HashSet::new();
        for entry in entries() {
            assert_eq!(name(entry.arch, entry.number), Some(entry.name));
            assert_ne!(entry.spec.kind, 0, "{}", entry.name);
            assert!(entry.number < CALLS_PER_ARCH, "{}", entry.name);
            assert!(seen.insert((entry.arch, entry.number)), "{} stands twice", entry.name);
        }
        assert_eq!(name(arch::NATIVE, 0), None);
        assert_eq!(name(u8::MAX, u32::MAX), None);
    }

    #[test]
    fn calls_that_make_names_have_the_machines_numbers() {
        let [open, openat, bind, mknod, mknodat] = making_calls();
        assert_eq!(openat, libc::SYS_openat as u64);
        assert_eq!(bind, libc::SYS_bind as u64);
        assert_eq!(mknodat, libc::SYS_mknodat as u64);
        #[cfg(target_arch = "x86_64")]
        assert_eq!((open, mknod), (libc::SYS_open as u64, libc::SYS_mknod as u64));
        #[cfg(not(target_arch = "x86_64"))]
        assert_eq!((open, mknod), (u64::MAX, u64::MAX));
    }

    #[test]
    fn numbers_are_those_of_the_shared_table() {
        let here = crate::enforce::seccomp::ARCHITECTURE;
        for (name, number) in NATIVE {
            let call = policy::syscalls::find(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(call.number(here).map(libc::c_long::from), Some(*number), "{name}");
        }
    }
}
