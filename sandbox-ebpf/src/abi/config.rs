//! A run's configuration and counters, one entry per slot.

/// Runs that one set of attached programs can tell apart.
pub const MAX_SLOTS: u32 = 64;

/// What the programs do for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// The slot is not in use.
    Idle = 0,
    /// Record; there is no policy.
    Observe = 1,
    /// Record, and judge by the policy without blocking.
    Audit = 2,
    /// Record, and block what the policy denies.
    Enforce = 3,
    /// The run is being ended: every hook denies and kills, no task may be made.
    Ended = 4,
}

/// Configuration of one run, written by userspace before the run is armed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunConfig {
    /// A [`Mode`].
    pub mode: u32,
    /// Level of the run's cgroup in the v2 tree; 0 where it has none.
    pub cgroup_level: u32,
    /// Id of the run's cgroup (its inode number); 0 where it has none.
    pub cgroup_id: u64,
    /// 1 where hooks judge; else the programs of the control group judge the network alone.
    pub hooks: u32,
    /// Zero.
    pub _pad: u32,
}

/// Counters of one run, written by the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounters {
    /// The last kernel sequence number given out.
    pub kseq: u64,
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Tasks that could not be followed, so that what they did is unknown.
    pub untracked: u64,
    /// Denials made.
    pub blocked: u64,
}

const _: () = assert!(size_of::<RunConfig>() == 24);
const _: () = assert!(size_of::<RunCounters>() == 32);
