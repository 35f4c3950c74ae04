//! Proof that a system call filter holds: a process of its own installs it and tries one call of each group.
//!
//! The calls are made so that they come to nothing where they are not refused: descriptors that are not open,
//! addresses where nothing lies, flags that no call knows.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use policy::compile::seccomp::{Answer, Closed, DENIED, STRICT, SeccompPlan, What};
use policy::syscalls;

use super::HELD;
use crate::enforce::seccomp::{ARCHITECTURE, install};
use crate::record::SelfTest;

/// What `strict` does not leave, and no kernel refuses with EPERM when its arguments mean nothing.
const NOT_LISTED: &str = "kcmp";

/// Calls that ask for nothing: one of them passes every filter that does not name all.
const HARMLESS: [&str; 4] = ["getpid", "getppid", "gettid", "sched_yield"];

/// What takes no argument, so that nothing keeps it from acting where it is not refused.
const ACTS: &str = "vhangup";

/// A call and the errno that it is refused with.
struct Attempt {
    group: &'static str,
    number: libc::c_long,
    arguments: [libc::c_long; 6],
    denied: i32,
}

/// Statuses of the child beside the number of the group that failed.
const NOT_INSTALLED: u8 = 255;
const NOTHING_PASSES: u8 = 254;

/// Proves the filter of a plan, group by group. This process must have one thread: it forks.
///
/// # Errors
/// The kernel has no filters, or refuses this one.
pub fn filter(plan: &SeccompPlan) -> Result<Vec<SelfTest>, String> {
    available()?;
    let attempts = attempts(plan);
    let control = control(plan);
    let status = apart(|| tried(plan, &attempts, control))?;
    let failed = match status {
        0 => None,
        NOT_INSTALLED => return Err("the kernel refuses the filter".to_owned()),
        NOTHING_PASSES => return Err("with the filter not even getpid(2) passes".to_owned()),
        failed => Some(usize::from(failed) - 1),
    };
    let result = |number: usize| match failed {
        Some(failed) if number == failed => "a call that it closes was not refused".to_owned(),
        Some(failed) if number > failed => "not tried".to_owned(),
        _ => HELD.to_owned(),
    };
    let check = |(number, attempt): (usize, &Attempt)| SelfTest {
        check: attempt.group.to_owned(),
        result: result(number),
    };
    Ok(attempts.iter().enumerate().map(check).collect())
}

/// Whether the kernel has filters at all.
fn available() -> Result<(), String> {
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_GET_SECCOMP) } < 0 {
        return Err("this kernel has no seccomp (CONFIG_SECCOMP)".to_owned());
    }
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the call reads one u32.
    let found =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    match found {
        0 => Ok(()),
        _ => {
            Err(format!("this kernel has no system call filters (CONFIG_SECCOMP_FILTER): {}", Errno::last()))
        }
    }
}

/// One attempt for each group of the plan that has a call here. What the policy itself denies is tried last, since
/// nothing is known of those calls.
fn attempts(plan: &SeccompPlan) -> Vec<Attempt> {
    let mut chosen: BTreeMap<&'static str, &Closed> = BTreeMap::new();
    for closed in &plan.closed {
        let exists = number(closed.what.call()).is_some() && closed.what != What::Call(ACTS);
        let better = |known: &&Closed| {
            // What does not exist may not exist without the filter either.
            (known.answer, closed.answer) == (Answer::NoSuchCall, Answer::NotPermitted)
        };
        if exists && chosen.get(closed.group).is_none_or(better) {
            chosen.insert(closed.group, closed);
        }
    }
    let denied = chosen.remove(DENIED);
    let mut all: Vec<Attempt> = chosen.values().filter_map(|closed| attempt(closed)).collect();
    if plan.only.is_some()
        && let Some(number) = number(NOT_LISTED)
    {
        all.push(Attempt { group: STRICT, number, arguments: [-1; 6], denied: libc::EPERM });
    }
    all.extend(denied.and_then(attempt));
    all
}

fn attempt(closed: &Closed) -> Option<Attempt> {
    let mut arguments = [-1; 6];
    match closed.what {
        What::Call(_) => {}
        What::Argument(argument) => arguments = argument.example(-1),
        What::Socket(socket) => {
            arguments[0] = socket.family.into();
            arguments[1] = socket.kind.unwrap_or(libc::SOCK_STREAM.unsigned_abs()).into();
            arguments[2] = socket.protocol.unwrap_or(0).into();
        }
    }
    let denied = match closed.answer {
        Answer::NotPermitted => libc::EPERM,
        Answer::NoSuchCall => libc::ENOSYS,
    };
    Some(Attempt { group: closed.group, number: number(closed.what.call())?, arguments, denied })
}

fn number(name: &str) -> Option<libc::c_long> {
    syscalls::find(name)?.number(ARCHITECTURE).map(Into::into)
}

/// A call that the plan leaves; `None` where the policy denies all that could be one. Then it is leaving the child.
fn control(plan: &SeccompPlan) -> Option<libc::c_long> {
    let closed = |name: &&'static str| plan.closed.iter().any(|closed| closed.what == What::Call(name));
    HARMLESS.iter().find(|name| !closed(name)).and_then(|name| number(name))
}

/// Installs the filter and makes the attempts; gives the child's status.
fn tried(plan: &SeccompPlan, attempts: &[Attempt], control: Option<libc::c_long>) -> u8 {
    if install(plan, &[]).is_err() {
        return NOT_INSTALLED;
    }
    // SAFETY: these calls take no argument.
    if control.is_some_and(|number| unsafe { libc::syscall(number) } < 0) {
        return NOTHING_PASSES;
    }
    let refused = |attempt: &Attempt| {
        let [a, b, c, d, e, f] = attempt.arguments;
        // SAFETY: no argument is an address where something lies.
        let result = unsafe { libc::syscall(attempt.number, a, b, c, d, e, f) };
        result == -1 && Errno::last_raw() == attempt.denied
    };
    let failed = attempts.iter().position(|attempt| !refused(attempt));
    failed.map_or(0, |failed| u8::try_from(failed + 1).unwrap_or(NOT_INSTALLED))
}

/// The status of a child that does this and ends.
fn apart(act: impl FnOnce() -> u8) -> Result<u8, String> {
    // SAFETY: this process has one thread; the child acts and leaves by _exit.
    match unsafe { fork() } {
        // SAFETY: ends the child at once.
        Ok(ForkResult::Child) => unsafe { libc::_exit(act().into()) },
        Ok(ForkResult::Parent { child }) => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, status)) => {
                    return u8::try_from(status).map_err(|_| status.to_string());
                }
                Err(Errno::EINTR) => {}
                other => return Err(format!("the process that tried it ended otherwise: {other:?}")),
            }
        },
        Err(errno) => Err(format!("cannot make a process to try it in: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::compile::seccomp::{Filter, Hooks, Level, compile, data};

    fn groups(plan: &SeccompPlan) -> Vec<&'static str> {
        attempts(plan).iter().map(|attempt| attempt.group).collect()
    }

    #[test]
    fn every_group_that_exists_here_has_its_attempt() {
        let denied = vec!["chmod"];
        let filter = Filter { level: Level::Strict, denied, ..Filter::new(Vec::new()) };
        let plan = compile(&filter, Hooks::Missing);
        let groups = groups(&plan);
        for group in &data().closed {
            let exists = group.entries.iter().any(|entry| number(entry.what.call()).is_some());
            assert_eq!(groups.contains(&group.name.as_str()), exists, "{}", group.name);
        }
        assert!(groups.ends_with(&[STRICT, DENIED]) && groups.len() > 15, "{groups:?}");
        assert!(!plan.only.as_ref().unwrap().contains(&NOT_LISTED));
    }

    #[test]
    fn a_filter_that_leaves_something_open_is_found_out() {
        let whole = compile(&Filter::new(Vec::new()), Hooks::Missing);
        // The same attempts under a filter that lacks their group.
        let attempts = attempts(&whole);
        for (at, attempt) in attempts.iter().enumerate() {
            let mut plan = whole.clone();
            plan.closed.retain(|closed| closed.group != attempt.group);
            let status = apart(|| tried(&plan, &attempts, None)).unwrap();
            assert_eq!(usize::from(status), at + 1, "{}", attempt.group);
        }
        let held = filter(&whole).unwrap();
        assert_eq!(held.len(), attempts.len());
        assert!(held.iter().all(|check| check.result == HELD), "{held:?}");
    }

    #[test]
    fn nothing_is_a_control_where_everything_harmless_is_denied() {
        let filter_of = |denied: Vec<&'static str>| Filter { denied, ..Filter::new(Vec::new()) };
        let plan = compile(&filter_of(vec!["getpid"]), Hooks::Judge);
        assert_eq!(control(&plan), number("getppid"));
        assert!(filter(&plan).unwrap().iter().any(|check| check.check == DENIED && check.result == HELD));
        let plan = compile(&filter_of(HARMLESS.to_vec()), Hooks::Judge);
        assert_eq!(control(&plan), None);
        assert!(filter(&plan).is_ok());
    }
}
