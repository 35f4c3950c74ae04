//! What people are told when something cannot be done.
//!
//! A [`Refusal`] is an expected end: it says what, where, why and what to do, and carries the exit status.
//! Anything else travels as an `anyhow::Error` with its context. Both are printed here, and only here, once.

use std::io::Write;

use crate::exit::Exit;
use audit_verify::text;

/// An expected reason not to do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    exit: Exit,
    message: String,
}

impl Refusal {
    /// A refusal: the message may have several lines, the first is the fact, the others say what to do.
    pub fn new(exit: Exit, message: impl Into<String>) -> Refusal {
        Refusal { exit, message: message.into() }
    }

    /// The run cannot start.
    pub fn cannot_start(message: impl Into<String>) -> Refusal {
        Refusal::new(Exit::CANNOT_START, message)
    }

    /// The exit status that goes with it.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The text, without the program's name.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Prints one message of the runner on stderr. A stderr that is gone is no reason to end anything. What others chose in it,
/// and a terminal would act on, is escaped.
pub fn say(message: &str) {
    let mut said = String::with_capacity(message.len() + 16);
    for (index, line) in message.trim_end().lines().enumerate() {
        said.push_str(if index == 0 { "sandbox: " } else { "" });
        said.push_str(&text::clean(line));
        said.push('\n');
    }
    // One write, so that lines of several processes do not mix.
    let _ = std::io::stderr().lock().write_all(said.as_bytes());
}

/// Prints an error and gives the exit status for it: the refusal's own, or `otherwise`.
pub fn report(error: &anyhow::Error, otherwise: Exit) -> Exit {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => {
            say(refusal.message());
            refusal.exit()
        }
        None => {
            say(&format!("{error:#}"));
            otherwise
        }
    }
}
