//! Exit statuses: the command's own, and those that only the runner gives.
//!
//! The command's status passes through `sandbox run`; the runner's own begin at 121, where commands rarely
//! go. The other subcommands use 0, 1 (it failed) and 2 (usage);
//! `baseline check` 3 where it could not check, as `audit-verify` does.

use serde::{Deserialize, Serialize};

/// How the command of a run ended, as wait(2) told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandStatus {
    /// It exited with this status, 0..=255.
    Exited(u8),
    /// This signal ended it.
    Signalled(i32),
}

/// The exit status of `sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// All went well.
    pub const SUCCESS: Exit = Exit(0);
    /// A subcommand other than `run` failed.
    pub const FAILURE: Exit = Exit(1);
    /// A subcommand other than `run` was called wrongly.
    pub const USAGE: Exit = Exit(2);
    /// A `--fail-on` condition was met.
    pub const CONDITION_MET: Exit = Exit(121);
    /// The runner ended the run: log error, loss, its own fault.
    pub const ENDED_BY_RUNNER: Exit = Exit(122);
    /// The time limit ended the run.
    pub const TIME_LIMIT: Exit = Exit(124);
    /// The run could not start: usage, policy, layer, privilege.
    pub const CANNOT_START: Exit = Exit(125);
    /// The command was found and could not be executed.
    pub const NOT_EXECUTABLE: Exit = Exit(126);
    /// The command was not found.
    pub const NOT_FOUND: Exit = Exit(127);

    /// The status as a number.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The status with this number.
    pub const fn from_code(code: u8) -> Exit {
        Exit(code)
    }
}

impl From<CommandStatus> for Exit {
    fn from(status: CommandStatus) -> Exit {
        match status {
            CommandStatus::Exited(code) => Exit(code),
            // Signals are 1..=64, so the sum fits.
            CommandStatus::Signalled(signal) => Exit(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_gives_128_and_its_number() {
        assert_eq!(Exit::from(CommandStatus::Signalled(2)).code(), 130);
        assert_eq!(Exit::from(CommandStatus::Signalled(64)).code(), 192);
        assert_eq!(Exit::from(CommandStatus::Exited(255)).code(), 255);
    }
}
