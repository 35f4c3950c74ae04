//! What descends from this process: who is taken in, who is reaped, who is left.
//!
//! For runs whose command is the collector's child: there is no control group where the user may not make one, and what
//! loses its parent stays below the collector. Members of its own session are its own helpers, and not the run's.

use std::collections::HashMap;
use std::io;

use super::process::{Stat, all_pids};

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
    let session = |pid: u32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.cast_signed())));
    matches!((session(pid), nix::unistd::getsid(None)), (Ok(theirs), Ok(own)) if theirs == own)
}

/// The living processes below this one, without its own helpers.
pub fn living() -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all_pids() {
        if let Some(stat) = Stat::of(pid) {
            // One that is dead may still have children: not before it is asked for do they get another parent.
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut below = vec![std::process::id()];
    let mut found = Vec::new();
    while let Some(pid) = below.pop() {
        let next = children.remove(&pid).unwrap_or_default();
        found.extend(next.iter().copied());
        below.extend(next);
    }
    found.retain(|pid| Stat::of(*pid).is_some_and(|stat| !stat.is_dead()) && !is_helper(*pid));
    found.sort_unstable();
    found
}
