//! What descends from this process: who is taken in, who is reaped, who is left, and who is killed at the end.
//!
//! For runs whose command is the collector's child: there is no control group where the user may not make one, and what
//! loses its parent stays below the collector. Members of its own session are its own helpers, and not the run's.
//!
//! Killing by descent is a race: a process that is found can have made another meanwhile and be gone. Daemons lose it;
//! a chain that forks without a pause may not, and is the [`super::ender`]'s. What is left is counted by what the kernel
//! says of children, which no chain hides from.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};

use super::ender::Ender;
use super::process::{Process, Stat, all_pids};

/// Looks at children in a row, before it is time to look at all that descends from them.
const STRIKES: u32 = 64;

/// Looks for one that is alive.
const LOOKS: u32 = 10_000;

/// Makes this process the new parent of whoever below it loses its own (PR_SET_CHILD_SUBREAPER).
///
/// # Errors
/// The kernel is older than 3.4.
pub fn adopt() -> io::Result<()> {
    // SAFETY: integers only.
    let set = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for the ends of children that were taken in, so that none stays as a zombie; `first` is asked for elsewhere.
pub fn reap_adopted(first: u32) {
    loop {
        // SAFETY: all zeroes is a valid siginfo; waitid leaves it so when there is nothing to tell.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: writes one siginfo, which is ours.
        if unsafe { libc::waitid(libc::P_ALL, 0, &mut info, look) } < 0 {
            return;
        }
        // SAFETY: waitid has filled the fields of a child's siginfo, or left them zero.
        let pid = unsafe { info.si_pid() }.unsigned_abs();
        // A helper of our own is waited for by who made it; then the others are looked at in the next round.
        if pid == 0 || pid == first || is_helper(pid) {
            return;
        }
        let take = libc::WEXITED | libc::WNOHANG;
        // SAFETY: as above.
        if unsafe { libc::waitid(libc::P_PID, pid, &mut info, take) } < 0 {
            return;
        }
    }
}

/// Whether a process is in this one's session, which nobody of the run can enter.
fn is_helper(pid: u32) -> bool {
    matches!((session(pid), getsid(None)), (Some(theirs), Ok(own)) if theirs == own)
}

fn session(pid: u32) -> Option<Pid> {
    getsid(Some(Pid::from_raw(pid.cast_signed()))).ok()
}

/// The living processes below this one, without its own helpers; `reap` takes the ends of its children.
///
/// A look at all processes misses one that has made another and is gone. Whoever lost its parent is a child of this
/// process: of those, one after the other is looked at until one is seen alive, or none is left that was not seen.
pub fn living(reap: &dyn Fn()) -> Vec<u32> {
    let below = Below::of_this(None, reap);
    let is_alive = |pid: &u32| Stat::of(*pid).is_some_and(|stat| !stat.is_dead());
    let mut found: Vec<u32> = below.living().into_iter().map(|(pid, _)| pid).filter(is_alive).collect();
    for _ in 0..LOOKS {
        reap();
        let mut more = if is_childless() { Vec::new() } else { below.children() };
        more.retain(|pid| !found.contains(pid));
        if more.is_empty() {
            break;
        }
        more.retain(is_alive);
        if !more.is_empty() {
            found.extend(more);
            break;
        }
    }
    found
}

/// Processes below one of the runner's that are a run's.
pub struct Below<'a> {
    /// Below whom.
    root: u32,
    /// The session of the runner's helpers.
    helpers: Option<Pid>,
    /// Who is none of the run's, nor is what they made.
    others: HashSet<u32>,
    /// Whether others of the user's may be there, too: then only those are the run's that have more system call filters
    /// than this process, as all of an enforced run have.
    mixed: bool,
    /// In the process that is their parent, or becomes it: takes the ends of those that have ended.
    reap: Option<&'a dyn Fn()>,
}

impl<'a> Below<'a> {
    /// Those below this process, which takes in what loses its parent; `reap` takes their ends.
    pub fn of_this(ender: Option<&Ender>, reap: &'a dyn Fn()) -> Below<'a> {
        Below {
            root: std::process::id(),
            helpers: getsid(None).ok(),
            others: ender.map(|ender| ender.process().pid()).into_iter().collect(),
            mixed: false,
            reap: Some(reap),
        }
    }

    /// Those below the collector, a process of another session.
    pub fn of_collector(collector: u32, ender: Option<&Ender>) -> Below<'static> {
        let helpers = Some(Pid::from_raw(collector.cast_signed()));
        let others = ender.map(|ender| ender.process().pid()).into_iter().collect();
        Below { root: collector, helpers, others, mixed: false, reap: None }
    }

    /// Those that came to the front-end from a collector that died, which had `before` below it already.
    pub fn of_front_end(front: u32, collector: u32, before: &[u32]) -> Below<'static> {
        let others = before.iter().copied().chain([std::process::id(), collector]).collect();
        let helpers = Some(Pid::from_raw(collector.cast_signed()));
        Below { root: front, helpers, others, mixed: true, reap: None }
    }

    /// Kills what is found alive, and gives the pids of what may not be dead yet.
    pub fn kill(&self) -> Vec<u32> {
        let mut left = Vec::new();
        for (pid, started) in self.living() {
            // The pidfd first, so that what follows is about one process, and the number was not given to another.
            let Ok(process) = Process::open(pid) else { continue };
            let same = Stat::of(pid).is_some_and(|stat| !stat.is_dead() && stat.started == started);
            if same && process.signal(Signal::SIGKILL).is_ok() {
                left.push(pid);
            }
        }
        if let Some(reap) = self.reap {
            left.extend(self.strike(reap));
        }
        left
    }

    /// Kills children as soon as they come, and gives those that are there all the same.
    fn strike(&self, reap: &dyn Fn()) -> Vec<u32> {
        for _ in 0..STRIKES {
            reap();
            if is_childless() {
                return Vec::new();
            }
            let children = self.children();
            if children.is_empty() {
                return Vec::new();
            }
            for pid in children {
                // A child's number stays its own until its end is taken, which only this thread does.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
        self.children()
    }

    /// The children of this process that are the run's, dead or alive.
    fn children(&self) -> Vec<u32> {
        let own = std::process::id();
        let of_threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let lists: Option<Vec<String>> =
            of_threads.map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
        let all: Vec<u32> = match lists {
            Some(lists) if !lists.is_empty() => {
                lists.iter().flat_map(|list| list.split_ascii_whitespace()).flat_map(str::parse).collect()
            }
            // CONFIG_PROC_CHILDREN is not set.
            _ => {
                let is_child = |pid: &u32| Stat::of(*pid).is_some_and(|stat| stat.parent == own);
                all_pids().into_iter().filter(is_child).collect()
            }
        };
        all.into_iter().filter(|pid| self.is_of_the_run(*pid)).collect()
    }

    fn is_of_the_run(&self, pid: u32) -> bool {
        !self.others.contains(&pid) && (self.helpers.is_none() || session(pid) != self.helpers)
    }

    /// The living, each with when it started.
    fn living(&self) -> Vec<(u32, u64)> {
        let mut children: HashMap<u32, Vec<(u32, Stat)>> = HashMap::new();
        for pid in all_pids() {
            if let Some(stat) = Stat::of(pid) {
                // One that is dead may still have children: not before it is asked for do they get another parent.
                children.entry(stat.parent).or_default().push((pid, stat));
            }
        }
        let mut below = vec![self.root];
        let mut found = Vec::new();
        while let Some(pid) = below.pop() {
            let mut next = children.remove(&pid).unwrap_or_default();
            next.retain(|(pid, _)| !self.others.contains(pid));
            below.extend(next.iter().map(|(pid, _)| *pid));
            found.extend(next);
        }
        let own = if self.mixed { filters(std::process::id()) } else { None };
        let more = |pid| match (filters(pid), own) {
            (Some(theirs), Some(own)) => theirs > own,
            _ => false,
        };
        found
            .retain(|(pid, stat)| !stat.is_dead() && self.is_of_the_run(*pid) && (!self.mixed || more(*pid)));
        found.sort_unstable_by_key(|(pid, _)| *pid);
        found.into_iter().map(|(pid, stat)| (pid, stat.started)).collect()
    }
}

/// All that is below a process now.
pub fn all_below(root: u32) -> Vec<u32> {
    let below = Below { root, helpers: None, others: HashSet::new(), mixed: false, reap: None };
    below.living().into_iter().map(|(pid, _)| pid).collect()
}

/// Whether this process has no child, dead or alive.
fn is_childless() -> bool {
    // SAFETY: all zeroes is a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: writes one siginfo, which is ours.
    let asked = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, look) };
    asked < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
}

/// How many system call filters a process has (Linux 5.9).
fn filters(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    /// In a child of the test's, which then has nobody's children but its own: a daemon, which nobody but its taker-in
    /// knows of, and one beside it that is not the run's. Says whether all went as it should.
    fn ends_daemons() -> bool {
        let helper = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn();
        let (Ok(mut helper), true) = (helper, adopt().is_ok()) else { return false };
        // SAFETY: this process has one thread; its children make system calls only, and are killed or leave by _exit.
        unsafe {
            if libc::fork() == 0 {
                libc::setsid();
                if libc::fork() == 0 {
                    libc::pause();
                }
                libc::_exit(0);
            }
        }
        let reap = || reap_adopted(helper.id());
        let below = Below::of_this(None, &reap);
        // Until the daemon has lost its parent.
        while below.children().len() != 1 || living(&reap).len() != 1 {
            reap();
            std::thread::yield_now();
        }
        let mut rounds = 0;
        while !below.kill().is_empty() {
            rounds += 1;
            std::thread::yield_now();
        }
        let over = below.children().is_empty() && living(&reap).is_empty() && rounds < 1000;
        let untouched = helper.try_wait().is_ok_and(|ended| ended.is_none());
        let _ = helper.kill();
        let _ = helper.wait();
        over && untouched && is_childless()
    }

    #[test]
    fn daemons_end_and_helpers_do_not() {
        let (mut reader, writer) = io::pipe().unwrap();
        // SAFETY: the C library takes its allocator's lock over in a fork; no other lock is touched.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                drop(reader);
                // A session of its own, like the collector's.
                let good = nix::unistd::setsid().is_ok() && ends_daemons();
                let told = io::Write::write_all(&mut &writer, &[u8::from(good)]);
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(told.is_err())) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                drop(writer);
                let mut word = Vec::new();
                reader.read_to_end(&mut word).unwrap();
                nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(word, [1]);
            }
        }
    }
}
