//! `sandbox why` inside an enforced run: its own denials, told by the runner.
//!
//! The store is closed to the run, and so may be everything that a program usually asks another by: a socket needs
//! `connect`, which `network: default: deny` denies, a file needs `read`, a descriptor or a variable of the
//! environment is lost where a program on the way closes or drops it (Python's `subprocess`, `env -i`). What no
//! policy judges and every program of the run has inherited is its system call filter. So the question is a system
//! call that no kernel has ([`QUESTION`]), and a second filter (seccomp_unotify(2)) hands it to the runner:
//!
//! ```text
//! sandbox why ──QUESTION──▶ filter ──listener──▶ thread of the collector
//!      ▲                                            │ writes the denials on the board
//!      └──── descriptor of the board (ADDFD) ◀──────┘
//! ```
//!
//! - Only tasks of the run have the filter, so nobody else can ask, and each is answered about its own run. Outside,
//!   and in a run that only audits, the kernel itself answers ENOSYS.
//! - Nothing of what the caller passes is read: the answer is the same for all. No byte and no descriptor comes
//!   from the run into the runner.
//! - The [`board`] is one piece of memory of fixed size, sealed so that only the runner's mapping can change it.
//!   It leads nowhere: a descriptor of it can be read, and nothing else.
//! - Questions are answered one at a time with a pause between, by a thread that does nothing else: whoever asks
//!   without end waits longer, and the record does not wait at all.
//! - A process that asks waits in the kernel. When the runner dies the kernel answers ENOSYS.
//!
//! A task can have one listener: inside a run no other seccomp listener can be made (EBUSY). Where the runner
//! itself is below one, the run starts and says that it will not answer.

pub mod answer;
pub mod ask;
mod board;
pub mod filter;
pub mod notify;
#[cfg(test)]
mod tests;

/// The system call: `WHY` in ASCII. Numbers of x86_64 and aarch64 are far below, those of x32 far above.
pub const QUESTION: libc::c_long = 0x0057_4859;

/// Its first argument, so that no stray call is one.
pub const PASSWORD: u32 = 0x7361_6e64;
