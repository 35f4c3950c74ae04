//! What people are told when something cannot be done.
//!
//! A [`Refusal`] is an expected end: it says what, where, why and what to do, and carries the exit status.
//! Anything else travels as an `anyhow::Error` with its context. Both are printed here, and only here, once.

use std::io::Write;

use crate::exit::Exit;
use crate::review::terminal_width;
use crate::review::text::{clean, wrap};

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

/// Narrower terminals are taken to be so wide, in characters: words are longer than that allows.
const NARROWEST: usize = 40;

/// What a line begins with that is a command, to be pasted.
const PASTED: &str = "sudo ";

/// Prints one message of the runner on stderr, broken into lines where that is a terminal. A stderr that is gone is no
/// reason to end anything. What others chose in it, and a terminal would act on, is escaped.
pub fn say(message: &str) {
    let stderr = std::io::stderr();
    let width = terminal_width(&stderr);
    // One write, so that lines of several processes do not mix.
    let _ = stderr.lock().write_all(lines(message, width).as_bytes());
}

/// A message as it is printed; its lines stay whole where no width is given.
fn lines(message: &str, width: Option<usize>) -> String {
    let mut said = String::with_capacity(message.len() + 16);
    for (index, line) in message.trim_end().lines().enumerate() {
        let line = format!("{}{}", if index == 0 { "sandbox: " } else { "" }, clean(line));
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let room = width.map(|width| width.max(NARROWEST).saturating_sub(indent));
        // A shell would take the half of a command for a whole one.
        let whole = text.starts_with(PASTED);
        match room.filter(|room| !whole && text.chars().count() > *room) {
            None => said.extend([line.as_str(), "\n"]),
            Some(room) => {
                for broken in wrap(text, room) {
                    said.extend([&line[..indent], &broken, "\n"]);
                }
            }
        }
    }
    said
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

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "the policy cannot be held here:\n  Landlock grants nothing where nothing is when the run starts: \
                           make /home/ann/work/build/out first if the command is to write there\n  - { allow: [read], \
                           path: [\"/a name/with blanks/that is not to be broken anywhere, however long\"] }\n";

    #[test]
    fn a_message_fits_the_terminal_and_is_whole_elsewhere() {
        assert_eq!(lines(MESSAGE, None), format!("sandbox: {MESSAGE}"));
        assert_eq!(
            lines(MESSAGE, Some(80)),
            "sandbox: the policy cannot be held here:\n  \
             Landlock grants nothing where nothing is when the run starts: make\n    \
             /home/ann/work/build/out first if the command is to write there\n  \
             - { allow: [read], path:\n    \
             [\"/a name/with blanks/that is not to be broken anywhere, however long\"] }\n"
        );
        for width in [0, 1, 39, 40, 200] {
            let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(one_line(&lines(MESSAGE, Some(width))), one_line(&lines(MESSAGE, None)), "{width}");
        }
        // A command to be pasted stays one line.
        let command = format!("it would:\nsudo -E env {}\n", "word ".repeat(40).trim_end());
        assert_eq!(lines(&command, Some(80)), format!("sandbox: {command}"));
        // What a terminal would act on is escaped before.
        assert!(!lines("a\u{1b}[2J", Some(80)).contains('\u{1b}'));
    }
}
