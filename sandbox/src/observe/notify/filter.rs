//! The system call filter that hands the observed calls to the supervisor. It denies nothing: the one that does is
//! `enforce::seccomp`.
//!
//! A task can have one filter with a listener, so the question of `sandbox why` comes by the same one where a run is
//! enforced.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use sandbox_ebpf::abi::event::{Kind, arch};

use crate::inside::{PASSWORD, QUESTION};
use crate::kernel::syscalls::{self, Entry};

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h); of an argument its low half.
pub(crate) const DATA_NR: u32 = 0;
pub(crate) const DATA_ARCH: u32 = 4;
pub(crate) const fn data_argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Instruction codes of classic BPF (include/uapi/linux/bpf_common.h).
pub(crate) const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
pub(crate) const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
pub(crate) const RETURN: u16 = 0x06;

/// Architectures as seccomp names them (include/uapi/linux/audit.h): the machine's own, and its 32-bit one.
#[cfg(target_arch = "x86_64")]
pub(crate) const ARCHITECTURES: [u32; 2] = [0xC000_003E, 0x4000_0003];
#[cfg(target_arch = "aarch64")]
pub(crate) const ARCHITECTURES: [u32; 2] = [0xC000_00B7, 0x4000_0028];

/// The bit of x32 system call numbers.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls of the 32-bit table that tell of a process which uses it, where none of them is read: open, execve, connect,
/// openat of 32-bit Arm (arch/arm64/tools/syscall_32.tbl).
#[cfg(target_arch = "aarch64")]
const TELLING: &[u32] = &[5, 11, 283, 322];
#[cfg(not(target_arch = "aarch64"))]
const TELLING: &[u32] = &[];

/// Whether the calls of the run include the question that `sandbox why` asks its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Nobody answers it: the kernel says ENOSYS.
    None,
    /// It waits for the runner as well.
    Asked,
}

/// The call by which a process ends: an execution that it began is looked at before. Threads end by another one, which
/// libraries repeat for ever where it fails.
pub const END: libc::c_long = libc::SYS_exit_group;

/// prctl(2) by which a process changes what it shows as its executable, among other things of its memory.
const SWAP: u32 = libc::PR_SET_MM as u32;
/// The same call's number for 32-bit programs (syscall_32.tbl of x86, syscall.tbl of arm).
const COMPAT_PRCTL: u32 = 172;

/// Whether this call may change what its process shows as its executable.
pub fn swaps(call: &super::listener::Call) -> bool {
    let number = match call.architecture {
        found if found == ARCHITECTURES[0] => libc::SYS_prctl,
        _ => COMPAT_PRCTL.into(),
    };
    libc::c_long::from(call.number & !X32_BIT) == number && call.arguments[0] as u32 == SWAP
}

/// Hands over the prctl that does so, and no other.
fn swapping(number: u32) -> [libc::sock_filter; 5] {
    [
        step(JUMP_EQUAL, 0, 4, number),
        step(LOAD_WORD, 0, 0, data_argument(0)),
        step(JUMP_EQUAL, 0, 1, SWAP),
        step(RETURN, 0, 0, NOTIFY),
        step(RETURN, 0, 0, ALLOW),
    ]
}

/// Whether this call ends its process.
pub fn ends(call: &super::listener::Call) -> bool {
    call.architecture == ARCHITECTURES[0] && libc::c_long::from(call.number & !X32_BIT) == END
}

/// Whether a call of the table is handed over. accept(2) is not: what it tells is known only when it is over.
pub fn observed(entry: &Entry) -> bool {
    entry.spec.kind != Kind::Accept as u8
}

pub(crate) fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

pub(crate) const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
pub(crate) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// The numbers of one table, loaded in the accumulator.
pub(crate) fn table(numbers: impl Iterator<Item = Entry>, bit: u32, program: &mut Vec<libc::sock_filter>) {
    for entry in numbers {
        let number = entry.number | bit;
        if entry.name == "sendto" && entry.arch == arch::NATIVE {
            // Without an address it sends over a connection, which was seen when it was made.
            let address = data_argument(u32::from(entry.spec.path - 1));
            program.extend([
                step(JUMP_EQUAL, 0, 6, number),
                step(LOAD_WORD, 0, 0, address),
                step(JUMP_EQUAL, 0, 3, 0),
                step(LOAD_WORD, 0, 0, address + 4),
                step(JUMP_EQUAL, 0, 1, 0),
                step(RETURN, 0, 0, ALLOW),
                step(RETURN, 0, 0, NOTIFY),
            ]);
        } else {
            program.extend([step(JUMP_EQUAL, 0, 1, number), step(RETURN, 0, 0, NOTIFY)]);
        }
    }
    program.push(step(RETURN, 0, 0, ALLOW));
}

/// The filter, instruction by instruction.
fn program(question: Question) -> Vec<libc::sock_filter> {
    let of = |wanted: u8| syscalls::entries().filter(move |entry| entry.arch == wanted).filter(observed);
    let (mut native, mut x32, mut compat) = (Vec::new(), Vec::new(), Vec::new());
    if question == Question::Asked {
        native.extend([
            step(JUMP_EQUAL, 0, 4, QUESTION as u32),
            step(LOAD_WORD, 0, 0, data_argument(0)),
            step(JUMP_EQUAL, 0, 1, PASSWORD),
            step(RETURN, 0, 0, NOTIFY),
            step(RETURN, 0, 0, ALLOW),
        ]);
    }
    native.extend([step(JUMP_EQUAL, 0, 1, END as u32), step(RETURN, 0, 0, NOTIFY)]);
    x32.extend([step(JUMP_EQUAL, 0, 1, END as u32 | X32_BIT), step(RETURN, 0, 0, NOTIFY)]);
    native.extend(swapping(libc::SYS_prctl as u32));
    x32.extend(swapping(libc::SYS_prctl as u32 | X32_BIT));
    compat.extend(swapping(COMPAT_PRCTL));
    table(of(arch::NATIVE), 0, &mut native);
    for number in TELLING {
        compat.extend([step(JUMP_EQUAL, 0, 1, *number), step(RETURN, 0, 0, NOTIFY)]);
    }
    table(of(arch::COMPAT), 0, &mut compat);
    table(of(arch::X32), X32_BIT, &mut x32);

    let [own, short] = ARCHITECTURES;
    let length = |part: &Vec<libc::sock_filter>| u32::try_from(part.len()).unwrap_or(u32::MAX);
    let mut program = vec![
        step(LOAD_WORD, 0, 0, DATA_ARCH),
        // A table that this program does not know must not go by unseen.
        step(JUMP_EQUAL, 3, 0, own),
        step(JUMP_EQUAL, 1, 0, short),
        step(RETURN, 0, 0, NOTIFY),
        // To the 32-bit numbers, behind the others.
        step(JUMP, 0, 0, 3 + length(&native) + length(&x32)),
        step(LOAD_WORD, 0, 0, DATA_NR),
        step(JUMP_AT_LEAST, 0, 1, X32_BIT),
        step(JUMP, 0, 0, length(&native)),
    ];
    program.extend(native);
    program.extend(x32);
    program.push(step(LOAD_WORD, 0, 0, DATA_NR));
    program.extend(compat);
    program
}

/// Installs the filter on the calling thread, for good, with no_new_privs, and gives the listener. What the thread
/// executes inherits the filter. Other threads of the process do not have it.
///
/// # Errors
/// EBUSY: the thread has a filter with a listener already. EINVAL, ENOSYS: the kernel has none (Linux 5.5), or a filter
/// above forbids it.
pub fn listen(question: Question) -> io::Result<OwnedFd> {
    install_listening(program(question))
}

/// Installs a filter on the calling thread, for good, with no_new_privs, and gives its listener.
///
/// # Errors
/// As [`listen`].
pub(crate) fn install_listening(mut program: Vec<libc::sock_filter>) -> io::Result<OwnedFd> {
    nix::sys::prctl::set_no_new_privs()?;
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // A call that is looked at is not interrupted for less than a death, where the kernel can do that (Linux 5.19):
    // else it may be seen twice.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match install(flags, &program) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &program)
        }
        other => other,
    }
}

/// Installs the filter on the calling thread and lets another one, which does not have it, send the listener away: the
/// call that sends would wait for who is to get it. Gives what `send` gave.
///
/// # Errors
/// No thread can be made.
pub fn hand_over(
    question: Question,
    send: impl FnOnce(io::Result<OwnedFd>) -> bool + Send,
) -> io::Result<bool> {
    let (give, take) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let sender = std::thread::Builder::new().spawn_scoped(scope, move || take.recv().is_ok_and(send))?;
        // There is room for one, and who takes it lives until it is joined.
        let _ = give.send(listen(question));
        Ok(sender.join().unwrap_or(false))
    })
}

fn install(flags: libc::c_ulong, program: &libc::sock_fprog) -> io::Result<OwnedFd> {
    // SAFETY: the program and its length belong together and live through the call, which copies it.
    let listener = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program as *const _)
    };
    match i32::try_from(listener) {
        // SAFETY: the kernel has just made this descriptor for the caller alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a filter says, run as the kernel does.
#[cfg(test)]
pub(crate) fn verdict_of(
    program: &[libc::sock_filter],
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
) -> u32 {
    tests::verdict(program, architecture, number, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does.
    pub(super) fn verdict(
        program: &[libc::sock_filter],
        architecture: u32,
        number: u32,
        arguments: [u64; 6],
    ) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut at, mut word) = (0, 0u32);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD_WORD => {
                    let from = step.k as usize;
                    word = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                JUMP => at += step.k as usize,
                JUMP_EQUAL => at += usize::from(if word == step.k { step.jt } else { step.jf }),
                JUMP_AT_LEAST => at += usize::from(if word >= step.k { step.jt } else { step.jf }),
                RETURN => return step.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_observed_calls_of_every_table_are_handed_over_and_no_others() {
        let program = program(Question::None);
        for entry in syscalls::entries() {
            let (architecture, bit) = match entry.arch {
                arch::COMPAT => (ARCHITECTURES[1], 0),
                arch::X32 => (ARCHITECTURES[0], X32_BIT),
                _ => (ARCHITECTURES[0], 0),
            };
            let found = verdict(&program, architecture, entry.number | bit, [7; 6]);
            assert_eq!(found == NOTIFY, observed(&entry), "{} of table {}", entry.name, entry.arch);
        }
        let prctl = |option: libc::c_int| [option as u64, 7, 7, 7, 7, 7];
        for (architecture, number) in
            [(ARCHITECTURES[0], libc::SYS_prctl as u32), (ARCHITECTURES[1], COMPAT_PRCTL)]
        {
            let found = |option| verdict(&program, architecture, number, prctl(option));
            assert_eq!((found(libc::PR_SET_MM), found(libc::PR_SET_NAME)), (NOTIFY, ALLOW), "{number}");
        }
        let known: Vec<u32> = syscalls::entries()
            .filter(|entry| entry.arch == arch::NATIVE)
            .map(|entry| entry.number)
            .collect();
        assert_eq!(verdict(&program, ARCHITECTURES[0], END as u32, [0; 6]), NOTIFY);
        let known = [known, vec![END as u32]].concat();
        for number in (0..1024).filter(|number| !known.contains(number)) {
            assert_eq!(verdict(&program, ARCHITECTURES[0], number, [7; 6]), ALLOW, "{number}");
        }
        assert_eq!(verdict(&program, 0x1234, 1, [0; 6]), NOTIFY, "a table that nobody knows");
        assert_eq!(verdict(&program, ARCHITECTURES[0], QUESTION as u32, [PASSWORD.into(); 6]), ALLOW);
    }

    #[test]
    fn sending_over_a_connection_goes_by() {
        let program = program(Question::None);
        let sendto =
            |address| verdict(&program, ARCHITECTURES[0], libc::SYS_sendto as u32, [3, 1, 1, 0, address, 16]);
        assert_eq!(sendto(0), ALLOW);
        assert_eq!(sendto(1), NOTIFY);
        assert_eq!(sendto(1 << 40), NOTIFY);
    }

    #[test]
    fn the_question_comes_by_the_same_filter() {
        let program = program(Question::Asked);
        let ask = |word| verdict(&program, ARCHITECTURES[0], QUESTION as u32, [word, 0, 0, 0, 0, 0]);
        assert_eq!(ask(PASSWORD.into()), NOTIFY);
        assert_eq!(ask(0), ALLOW);
        assert_eq!(verdict(&program, ARCHITECTURES[0], libc::SYS_openat as u32, [0; 6]), NOTIFY);
    }
}
