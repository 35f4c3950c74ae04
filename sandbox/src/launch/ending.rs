//! Ending everything inside an enforced run.
//!
//! The order matters: first the run's slot goes to *ended*, so that every hook denies and no task can be made;
//! then the control group is killed at once; then members are looked for by identity, because a task can leave
//! its group. Whoever calls this holds the programs attached until it returns. Where there are neither hooks nor a
//! group, an [`Ender`] does at once what they would have done, and what descends from the runner is looked for.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cgroup::Cgroup;
use super::descendants::Below;
use super::ender::Ender;
use super::process::{self, Process, Stat};

/// Who belongs to a run, by identity; the `lsm` layer's lease on the programs implements it.
pub trait Membership {
    /// Puts the run's slot to *ended*: from now on every hook denies, and no member can fork.
    fn end(&self) -> io::Result<()>;

    /// Whether the process behind this pidfd is a member.
    fn is_member(&self, process: BorrowedFd<'_>) -> io::Result<bool>;

    /// Takes the hooks off a run that is over. May take seconds.
    fn let_go(self: Box<Self>);
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// Until nothing is left: a process in uninterruptible sleep can make this long.
    Forever,
    /// At most until then.
    Until(Instant),
}

/// What is to be ended, by every means there is.
#[derive(Clone, Copy, Default)]
pub struct Tree<'a> {
    /// The run's control group.
    pub cgroup: Option<&'a Cgroup>,
    /// Identity in the kernel.
    pub membership: Option<&'a dyn Membership>,
    /// The first process of the run.
    pub first: Option<&'a Process>,
    /// Who ends it at one stroke.
    pub ender: Option<&'a Ender>,
    /// What descends from a process of the runner's.
    pub below: Option<&'a Below<'a>>,
}

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Kills all of it, and looks again until nothing alive is found. Gives the pids that are left, none unless
/// patience ran out.
pub fn end_tree(tree: Tree<'_>, patience: Patience) -> Vec<u32> {
    if let Some(ender) = tree.ender {
        // First: what makes processes faster than anybody looks is over then. If it did not work, looking is all there is.
        let _ = ender.end();
    }
    let mut pause = Duration::from_millis(1);
    loop {
        let left = kill_once(tree);
        if left.is_empty() {
            return left;
        }
        if matches!(patience, Patience::Until(end) if Instant::now() >= end) {
            return left;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One round: kills whatever is found alive and gives its pids.
fn kill_once(tree: Tree<'_>) -> Vec<u32> {
    if let Some(membership) = tree.membership {
        // A failure leaves the policy in force and the kills below to do; it is tried again in each round.
        let _ = membership.end();
    }
    let mut found = Vec::new();
    if let Some(cgroup) = tree.cgroup {
        cgroup.kill();
        found.extend(cgroup.processes());
    }
    if let Some(first) = tree.first.filter(|first| !first.has_ended()) {
        let _ = first.signal(Signal::SIGKILL);
        found.push(first.pid());
    }
    if let Some(below) = tree.below {
        found.extend(below.kill());
    }
    if let Some(membership) = tree.membership {
        for pid in process::all_pids() {
            if kill_if_member(pid, membership) {
                found.push(pid);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Kills a process if it is a living member. The pidfd is opened before anything is asked, so that all of it
/// is about the same process.
fn kill_if_member(pid: u32, membership: &dyn Membership) -> bool {
    use std::os::fd::AsFd;
    let Ok(process) = Process::open(pid) else { return false };
    if Stat::of(pid).is_none_or(|stat| stat.is_dead()) {
        return false;
    }
    if !membership.is_member(process.as_fd()).unwrap_or(false) {
        return false;
    }
    process.signal(Signal::SIGKILL).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::fd::AsRawFd;
    use std::process::{Child, Command, Stdio};

    /// Members are the processes with these pids, as told by the pidfd's own fdinfo.
    struct Listed {
        pids: Vec<u32>,
        ended: Cell<bool>,
    }

    impl Membership for Listed {
        fn end(&self) -> io::Result<()> {
            self.ended.set(true);
            Ok(())
        }

        fn is_member(&self, process: BorrowedFd<'_>) -> io::Result<bool> {
            assert!(self.ended.get(), "the slot is ended before anybody is killed");
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
            let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
            Ok(pid.is_some_and(|pid| self.pids.contains(&pid)))
        }

        fn let_go(self: Box<Self>) {}
    }

    fn sleeper() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn members_die_and_others_live() {
        let (mut member, mut outsider) = (sleeper(), sleeper());
        let membership = Listed { pids: vec![member.id()], ended: Cell::new(false) };
        let tree = Tree { membership: Some(&membership), ..Tree::default() };
        // The test does not reap while it ends the tree: a zombie must count as dead.
        let left = end_tree(tree, Patience::Until(Instant::now() + Duration::from_secs(10)));
        assert!(left.is_empty(), "{left:?}");
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(member.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(outsider.try_wait().unwrap().is_none());
        outsider.kill().unwrap();
        outsider.wait().unwrap();
    }

    #[test]
    fn the_first_process_dies_without_any_other_means() {
        let mut child = sleeper();
        let first = Process::open(child.id()).unwrap();
        end_tree(Tree { first: Some(&first), ..Tree::default() }, Patience::Forever);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
