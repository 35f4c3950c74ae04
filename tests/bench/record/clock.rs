//! Wall and CPU time of a piece of work.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// On the wall.
    pub wall: Duration,
    /// Of all processors, in the kernel too.
    pub cpu: Duration,
}

/// Waits until so many events may have come at `pace` events a second.
pub fn keep_pace(start: Instant, pace: Option<u32>, events: u64) {
    if let Some(pace) = pace {
        let due = start + Duration::from_secs_f64(events as f64 / f64::from(pace));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Of work in this process.
pub fn costs(work: impl FnOnce()) -> Cost {
    // getrusage(2) counts what goes on only at the next tick, which is too coarse for a batch.
    of(|| clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("clock_gettime").into(), work)
}

/// Of a command, whose output is thrown away.
pub fn costs_of(command: &mut Command) -> Cost {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
        duration(usage.user_time()) + duration(usage.system_time())
    };
    of(used, || {
        let status = command.status().expect("the command must start");
        assert!(status.success(), "{command:?}: {status}");
    })
}

fn of(used: impl Fn() -> Duration, work: impl FnOnce()) -> Cost {
    let (before, start) = (used(), Instant::now());
    work();
    Cost { wall: start.elapsed(), cpu: used() - before }
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
}
