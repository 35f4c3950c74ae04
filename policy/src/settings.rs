//! The sections that are no rules: `kernel`, `syscalls`, `landlock`, `limits`, `env`, `observe`.
//!
//! They are read, checked and printed. Of them `kernel` is held, but for [`KERNEL_UNHELD`]; [`Settings::keys`] says
//! which of the others a policy has, so that an enforced run refuses by name. Inherited ones hold where the file says nothing itself.

use std::time::Duration;

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

/// Of [`KERNEL`], what nothing keeps closed yet.
pub const KERNEL_UNHELD: [&str; 2] = ["raw-devices", "sysctl-write"];

/// Which system calls there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syscalls {
    /// The usual ones.
    Default,
    /// Few.
    Strict,
    /// All.
    Off,
    /// The usual ones without these.
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
            ("syscalls", self.syscalls.as_ref().is_some_and(|syscalls| *syscalls != Syscalls::Off)),
            ("landlock", self.landlock == Some(Landlock::Auto)),
            ("limits", self.limits.is_some()),
            ("env", self.env.is_some()),
            ("observe", self.fold == Some(Fold::On)),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(key, _)| key)
    }
}
