//! The system call filter of every enforced run, as the kernel takes it: what the run's plan closes, and the calls of
//! other architectures, whose numbers mean something else (ENOSYS, as on a kernel without them).
//!
//! What is closed and why is the plan's ([`policy::compile::seccomp`]).

pub mod profile;

use std::collections::BTreeMap;
use std::io;

use policy::compile::seccomp::{Answer, ClosedArgument, ClosedSocket, SeccompPlan, Test, What};
use policy::syscalls::{self, Architecture};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// The architecture that this program is built for.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: Architecture = Architecture::X86_64;
/// The architecture that this program is built for.
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURE: Architecture = Architecture::Aarch64;

/// As seccompiler and the kernel (AUDIT_ARCH_…) call it.
#[cfg(target_arch = "x86_64")]
const NATIVE: (TargetArch, u32) = (TargetArch::x86_64, 0xC000_003E);
#[cfg(target_arch = "aarch64")]
const NATIVE: (TargetArch, u32) = (TargetArch::aarch64, 0xC000_00B7);

/// The bits of socket(2)'s type that are the type.
const SOCK_TYPE_MASK: u64 = 0xf;

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h).
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;

/// Instruction codes of classic BPF (include/uapi/linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ABOVE: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Numbers from here on are x32 calls (__X32_SYSCALL_BIT), which share the architecture's own value. No other
/// architecture has any.
const X32_NUMBERS: u32 = 0x4000_0000;

/// Installs the filter on the calling thread, for good, with no_new_privs. What it executes inherits it.
/// Nothing else can be installed afterwards that makes it weaker; call it last before exec. `answered` are numbers
/// that no kernel has, and that a filter above this one answers: a list leaves them open.
///
/// # Errors
/// The kernel has no filters, or the plan names a call that is not known.
pub fn install(plan: &SeccompPlan, answered: &[u32]) -> io::Result<()> {
    for program in programs(plan, answered)? {
        seccompiler::apply_filter(&program).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            other => io::Error::other(other),
        })?;
    }
    Ok(())
}

/// The programs, in the order in which they are installed. The kernel asks each and takes the strictest answer; of
/// two refusals that of the last one installed.
fn programs(plan: &SeccompPlan, answered: &[u32]) -> io::Result<Vec<BpfProgram>> {
    let list = plan.only.as_ref().map(|only| list(only, answered)).transpose()?;
    Ok(list.into_iter().chain([denials(plan)?]).collect())
}

/// What is closed: the guard against other architectures, then what seccompiler makes of the denials.
fn denials(plan: &SeccompPlan) -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let (mut whole, mut absent) = (Vec::new(), Vec::new());
    for closed in &plan.closed {
        let Some(number) = number(closed.what.call())? else { continue };
        match (&closed.what, closed.answer) {
            (What::Call(_), Answer::NotPermitted) => whole.push(number),
            (What::Call(_), Answer::NoSuchCall) => absent.push(number),
            (What::Argument(closed), _) => {
                let rule = argument(closed).map_err(io::Error::other)?;
                rules.entry(number.into()).or_default().push(rule);
            }
            (What::Socket(closed), _) => {
                let rule = socket(closed).map_err(io::Error::other)?;
                rules.entry(number.into()).or_default().push(rule);
            }
        }
    }
    // No conditions: the call is denied whatever its arguments are.
    rules.extend(whole.into_iter().map(|number| (number.into(), Vec::new())));
    let mut program = guard();
    let no_such_call = answer(libc::ENOSYS);
    for number in absent {
        program.extend([step(JUMP_EQUAL, 0, 1, number), step(RETURN, 0, 0, no_such_call)]);
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    program.extend(compiled(rules, SeccompAction::Allow, denied)?);
    Ok(program)
}

/// A list of the only calls that there are. What is newer than all known ones does not exist, so that libraries go on
/// with an older one; what is known and not listed is denied.
fn list(only: &[&'static str], answered: &[u32]) -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for name in only {
        if let Some(number) = number(name)? {
            rules.insert(number.into(), Vec::new());
        }
    }
    let mut program = guard();
    for number in answered {
        program.extend([step(JUMP_EQUAL, 0, 1, *number), step(RETURN, 0, 0, SeccompAction::Allow.into())]);
    }
    let newest = syscalls::newest(ARCHITECTURE);
    program.extend([step(JUMP_ABOVE, 0, 1, newest), step(RETURN, 0, 0, answer(libc::ENOSYS))]);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    program.extend(compiled(rules, denied, SeccompAction::Allow)?);
    Ok(program)
}

/// What seccompiler makes of rules: it begins with the number, whatever was loaded before.
fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> io::Result<BpfProgram> {
    let (architecture, _) = NATIVE;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture);
    filter.and_then(BpfProgram::try_from).map_err(io::Error::other)
}

/// The number of a call; `None` where this architecture has no such call.
///
/// # Errors
/// A name that is not known: a filter without it would be weaker than its plan.
fn number(name: &str) -> io::Result<Option<u32>> {
    match syscalls::find(name) {
        Some(call) => Ok(call.number(ARCHITECTURE)),
        None => Err(io::Error::new(io::ErrorKind::Unsupported, format!("no number is known of {name}"))),
    }
}

/// The rule against one argument. The kernel reads 32 bits of each that a plan names.
fn argument(closed: &ClosedArgument) -> Result<SeccompRule, BackendError> {
    let condition = |operator, value: u32| {
        SeccompCondition::new(closed.index, SeccompCmpArgLen::Dword, operator, value.into())
    };
    let mut conditions = vec![match closed.test {
        Test::Is(value) => condition(SeccompCmpOp::Eq, value),
        Test::IsNot(value) => condition(SeccompCmpOp::Ne, value),
        Test::Has { bits, .. } => condition(SeccompCmpOp::MaskedEq(bits.into()), bits),
    }?];
    if let Test::Has { but_not: Some(whole), .. } = closed.test {
        conditions.push(condition(SeccompCmpOp::Ne, whole)?);
    }
    if let Some((index, value)) = closed.also {
        let also = SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.into())?;
        conditions.push(also);
    }
    SeccompRule::new(conditions)
}

/// The rule against one kind of socket.
fn socket(closed: &ClosedSocket) -> Result<SeccompRule, BackendError> {
    let argument = |index, operator, value: u32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
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

/// Answers ENOSYS to calls of another architecture; falls through for the native ones, with the number loaded.
/// seccompiler's own check would kill the process, and does not see x32.
pub fn guard() -> BpfProgram {
    let (_, architecture) = NATIVE;
    let no_such_call = answer(libc::ENOSYS);
    vec![
        step(LOAD_WORD, 0, 0, DATA_ARCH),
        step(JUMP_EQUAL, 1, 0, architecture),
        step(RETURN, 0, 0, no_such_call),
        step(LOAD_WORD, 0, 0, DATA_NR),
        step(JUMP_AT_LEAST, 0, 1, X32_NUMBERS),
        step(RETURN, 0, 0, no_such_call),
    ]
}

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn answer(errno: i32) -> u32 {
    SeccompAction::Errno(errno.unsigned_abs()).into()
}

#[cfg(test)]
mod tests;
