//! Limits that the command's process sets on itself, and that everything it starts inherits: what is left where no control
//! group has the controller (setrlimit(2)).
//!
//! | limit | by | says |
//! |---|---|---|
//! | `processes` | RLIMIT_NPROC | counts the processes and threads of the user, in the run's user namespace where it has one: never more than asked for, but less where others of the user's are counted too |
//! | `memory` | RLIMIT_DATA | of each process alone, and without memory that is shared: not the limit that a policy means |
//!
//! There is nothing of the kind for `cpu`: RLIMIT_CPU is an amount of time, and no share. Whoever may raise them again
//! (CAP_SYS_RESOURCE), or is not counted (the machine's root), is not limited; that is tried, not assumed.

use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::identity::{Identity, Target};

/// What a process is to set before it executes the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rlimits {
    /// Processes and threads of its user.
    pub processes: Option<u64>,
    /// Bytes of data of each process.
    pub memory: Option<u64>,
}

impl Rlimits {
    /// With room for so many processes that are none of the command's.
    #[must_use]
    pub fn beside(self, others: u64) -> Rlimits {
        Rlimits { processes: self.processes.map(|processes| processes.saturating_add(others)), ..self }
    }

    /// Sets them on the calling process, unless tighter ones are there.
    ///
    /// # Errors
    /// The kernel refuses, or does not give back what was set.
    pub fn set(&self) -> io::Result<()> {
        for (resource, wanted) in
            [(Resource::RLIMIT_NPROC, self.processes), (Resource::RLIMIT_DATA, self.memory)]
        {
            let Some(wanted) = wanted else { continue };
            let (soft, hard) = getrlimit(resource)?;
            let (soft, hard) = (soft.min(wanted), hard.min(wanted));
            setrlimit(resource, soft, hard)?;
            if getrlimit(resource)? != (soft, hard) {
                return Err(io::Error::other(format!("{resource:?} is not as it was set")));
            }
        }
        Ok(())
    }
}

/// Statuses of the process that tries it.
const COUNTED: i32 = 0;
const NOT_COUNTED: i32 = 1;
const NOT_TRIED: i32 = 2;

/// Whether processes of the command's user are counted, so that RLIMIT_NPROC holds them. This process must have one
/// thread: it forks.
///
/// # Errors
/// They are not, or it could not be tried.
pub fn counted(target: &Target) -> Result<(), String> {
    // SAFETY: this process has one thread; the child leaves by _exit.
    match unsafe { fork() } {
        // SAFETY: ends the child at once.
        Ok(ForkResult::Child) => unsafe { libc::_exit(try_it(target)) },
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, COUNTED)) => Ok(()),
            Ok(WaitStatus::Exited(_, NOT_COUNTED)) => {
                Err("the kernel counts no processes of the command's user (RLIMIT_NPROC)".to_owned())
            }
            _ => Err("RLIMIT_NPROC could not be tried".to_owned()),
        },
        Err(errno) => Err(format!("RLIMIT_NPROC could not be tried: {errno}")),
    }
}

/// In the child: with room for no process one more must be refused.
fn try_it(target: &Target) -> i32 {
    let became = match target.identity {
        Identity::Keep => Ok(()),
        Identity::Switch => target.assume(),
    };
    let none = Rlimits { processes: Some(0), memory: None };
    if became.and_then(|()| none.set()).is_err() {
        return NOT_TRIED;
    }
    // SAFETY: as above; the one that is not to be leaves at once.
    match unsafe { fork() } {
        Err(Errno::EAGAIN) => COUNTED,
        // SAFETY: ends the child at once.
        Ok(ForkResult::Child) => unsafe { libc::_exit(0) },
        Ok(ForkResult::Parent { child }) => {
            let _ = waitpid(child, None);
            NOT_COUNTED
        }
        Err(_) => NOT_TRIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uid: u32, identity: Identity) -> Target {
        let mut target = Target::own().unwrap();
        (target.uid, target.gid, target.groups, target.identity) = (uid, uid, vec![uid], identity);
        target
    }

    #[test]
    fn what_is_set_is_never_looser() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_DATA).unwrap();
        let wider = Rlimits { memory: Some(u64::MAX), processes: None };
        wider.set().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_DATA).unwrap(), (soft, hard));
        Rlimits::default().set().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_DATA).unwrap(), (soft, hard));
    }

    /// Needs root; an ordinary user finds out about itself alone.
    #[test]
    fn root_is_not_counted_and_others_are() {
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(counted(&target(nix::unistd::getuid().as_raw(), Identity::Keep)), Ok(()));
            return;
        }
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
            eprintln!("skipped: this is not the machine's root");
            return;
        }
        assert!(counted(&target(0, Identity::Keep)).unwrap_err().contains("counts no processes"));
        assert_eq!(counted(&target(65534, Identity::Switch)), Ok(()));
    }
}
