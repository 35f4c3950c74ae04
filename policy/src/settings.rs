//! The sections that are no rules: `kernel`, `syscalls`, `landlock`, `tmp`, `limits`, `env`, `observe`.
//!
//! They are read, checked and printed. Of them `kernel`, `env`, `tmp`, `limits` and `syscalls` can be held;
//! [`Settings::keys`] says which of the others a policy has, so that an enforced run refuses by name. Inherited ones hold
//! where the file says nothing itself.

use std::time::Duration;

pub use crate::units::write_duration;

/// What the section `kernel` can allow; everything else in it is denied when enforced.
pub const KERNEL: [&str; 15] = [
    "mount",
    "userns",
    "chroot",
    "setns",
    "ptrace-own",
    "ptrace-any",
    "bpf",
    "perf",
    "modules",
    "keyrings",
    "raw-devices",
    "sysctl-write",
    "signal-outside",
    "io-uring",
    "clock",
];

/// Which system calls there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syscalls {
    /// All but a surface that no agent's command needs.
    Default,
    /// Those of a list.
    Strict,
    /// That surface too. What `kernel` closes, and ways round other layers, stay closed.
    Off,
    /// Those of `default` without these: names of [`crate::syscalls`], ascending.
    Deny(Vec<String>),
}

/// Whether Landlock holds too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// Where the kernel has it.
    Auto,
    /// Never.
    Off,
}

/// Whose directories for temporary files the command has; of two policies that hold together the later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tmp {
    /// The machine's.
    Shared,
    /// Empty ones of its own, which go with the run.
    Private,
}

/// Limits of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processor time per time, percent of one processor.
    pub cpu: Option<u64>,
    /// Time from start to end.
    pub time: Option<Duration>,
}

/// One of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// `memory`.
    Memory,
    /// `processes`.
    Processes,
    /// `cpu`.
    Cpu,
    /// `time`.
    Time,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 4] = [Limit::Memory, Limit::Processes, Limit::Cpu, Limit::Time];

    /// The key in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::Processes => "processes",
            Limit::Cpu => "cpu",
            Limit::Time => "time",
        }
    }
}

/// Some of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSet(u8);

impl LimitSet {
    /// None of them.
    pub const EMPTY: LimitSet = LimitSet(0);
    /// All of them.
    pub const ALL: LimitSet = LimitSet(0b1111);

    /// Whether it has this one.
    pub fn contains(self, limit: Limit) -> bool {
        self.0 & 1 << limit as u8 != 0
    }

    /// Those that it has.
    pub fn iter(self) -> impl Iterator<Item = Limit> {
        Limit::ALL.into_iter().filter(move |limit| self.contains(*limit))
    }

    /// With this one.
    pub fn with(self, limit: Limit) -> LimitSet {
        LimitSet(self.0 | 1 << limit as u8)
    }
}

impl FromIterator<Limit> for LimitSet {
    fn from_iter<I: IntoIterator<Item = Limit>>(limits: I) -> Self {
        limits.into_iter().fold(LimitSet::EMPTY, LimitSet::with)
    }
}

impl Limits {
    /// Those that are set.
    pub fn set(&self) -> LimitSet {
        let Limits { memory, processes, cpu, time } = self;
        let set = [memory.is_some(), processes.is_some(), cpu.is_some(), time.is_some()];
        Limit::ALL.into_iter().zip(set).filter(|(_, set)| *set).map(|(limit, _)| limit).collect()
    }

    /// The tighter of each, of two policies that hold together.
    pub fn and(&self, other: &Limits) -> Limits {
        fn least<T: Ord + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        Limits {
            memory: least(self.memory, other.memory),
            processes: least(self.processes, other.processes),
            cpu: least(self.cpu, other.cpu),
            time: least(self.time, other.time),
        }
    }
}

/// The command's environment. A name may have `*` at its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// Names that are taken away.
    pub drop: Vec<String>,
    /// Names that stay although `drop` has them.
    pub keep: Vec<String>,
    /// Names and values that are added, by name.
    pub set: Vec<(String, String)>,
}

impl Env {
    /// Whether a variable of this name stays.
    pub fn keeps(&self, name: &[u8]) -> bool {
        let any = |names: &[String]| names.iter().any(|pattern| is_named(pattern, name));
        any(&self.keep) || !any(&self.drop)
    }
}

/// Whether `name` is meant by a name that may have `*` at its ends.
fn is_named(pattern: &str, name: &[u8]) -> bool {
    let pattern = pattern.as_bytes();
    match (pattern.strip_prefix(b"*"), pattern.strip_suffix(b"*")) {
        (Some(inside), Some(_)) => {
            let inside = inside.strip_suffix(b"*").unwrap_or(inside);
            inside.is_empty() || name.windows(inside.len()).any(|window| window == inside)
        }
        (Some(end), None) => name.ends_with(end),
        (None, Some(begin)) => name.starts_with(begin),
        (None, None) => name == pattern,
    }
}

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Events that repeat are counted.
    On,
    /// Each event is recorded.
    Off,
}

/// All of them; what a policy does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `kernel`: what is allowed, by the words of [`KERNEL`].
    pub kernel: Option<Vec<&'static str>>,
    /// `syscalls`.
    pub syscalls: Option<Syscalls>,
    /// `landlock`.
    pub landlock: Option<Landlock>,
    /// `tmp`.
    pub tmp: Option<Tmp>,
    /// `limits`.
    pub limits: Option<Limits>,
    /// `env`.
    pub env: Option<Env>,
    /// `observe`.
    pub fold: Option<Fold>,
}

impl Settings {
    /// What `kernel` allows; nothing where there is no such section.
    pub fn kernel_allowed(&self) -> &[&'static str] {
        self.kernel.as_deref().unwrap_or_default()
    }

    /// The sections that ask for something that must be held.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        let has = [
            ("tmp", self.tmp == Some(Tmp::Private)),
            ("limits", self.limits.is_some()),
            ("observe", self.fold == Some(Fold::On)),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(key, _)| key)
    }
}
