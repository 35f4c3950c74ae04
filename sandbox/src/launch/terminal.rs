//! The settings of the terminal, for a command that cannot put back what it changed: it was killed, by its limit of time or
//! by anybody else. A shell does the same for its own jobs, but the front-end, which ends with a status, does not look killed.
//!
//! A command that ends by itself keeps what it set, as it does without a sandbox (stty(1)).

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// What the terminal was set to.
pub struct Kept {
    pub terminal: OwnedFd,
    settings: Termios,
}

impl Kept {
    /// The settings now of the terminal that the run was started from; `None` where there is none.
    pub fn now() -> Option<Kept> {
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        streams.into_iter().find_map(|stream| {
            let settings = tcgetattr(stream).ok()?;
            Some(Kept { terminal: stream.as_fd().try_clone_to_owned().ok()?, settings })
        })
    }

    /// Puts them back, if the terminal is this job's: others have theirs.
    pub fn restore(&self) {
        if tcgetpgrp(&self.terminal).is_ok_and(|group| group == getpgrp()) {
            // Whoever hung the terminal up needs no settings.
            let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.settings);
        }
    }
}
