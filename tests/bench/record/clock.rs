//! Wall and CPU time of a piece of work.

use std::ops::AddAssign;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// What something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// On the wall.
    pub wall: Duration,
    /// Of all processors, in the kernel too.
    pub cpu: Duration,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// Of work in this thread.
pub fn costs(work: impl FnOnce()) -> Cost {
    of(UsageWho::RUSAGE_THREAD, work)
}

/// Of a command, whose output is thrown away.
pub fn costs_of(command: &mut Command) -> Cost {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    of(UsageWho::RUSAGE_CHILDREN, || {
        let status = command.status().expect("the command must start");
        assert!(status.success(), "{command:?}: {status}");
    })
}

fn of(who: UsageWho, work: impl FnOnce()) -> Cost {
    let used = || {
        let usage = getrusage(who).expect("getrusage");
        duration(usage.user_time()) + duration(usage.system_time())
    };
    let (before, start) = (used(), Instant::now());
    work();
    Cost { wall: start.elapsed(), cpu: used() - before }
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
}
