//! Judging a log, line by line, in constant memory.
//!
//! Two questions are answered at once. *Does the hash chain hold?* Here any JSON counts, as Python would read
//! it. *Is this a log that `sandbox` wrote and finished?* Here every line is canonical and ends with a newline,
//! `seq` rises from 1 by 1, the first line and no other is `run_start`, all lines are of one run, the last is the
//! seal (`run_end`), which counts the lines (itself included) and names the head before it and the root of the
//! [`crate::merkle`] tree over them.
//!
//! What no log can show by itself is that its tail was cut off and sealed anew, or that all of it was written
//! anew by someone who may write the file. For that, hand in the head as it was kept elsewhere
//! ([`Verifier::expect_head`]).
//!
//! # Tampered, or not a log?
//!
//! A file is *not a log* ([`Unchecked::NotALog`]) only if none of its lines is a JSON object with a `hash_self`. So
//! an edit can turn a log into something that is not one only by destroying every line of it; damage to the first
//! line is tampering like any other. Where a head is expected, a file without any log line is tampered too.

mod state;
mod verdict;

use std::io::{self, Read};

use state::{State, is_log_line};
pub use verdict::{Chain, Fault, Missing, Report, Unchecked, Verdict, Why};

use crate::Hash;
use crate::lines::{Line, Lines};

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Question {
    /// Whether `sandbox` wrote and finished the log, and nobody edited it.
    #[default]
    Log,
    /// Only whether the hash chain holds.
    Chain,
}

/// What events that were lost mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Losses {
    /// They are counted.
    #[default]
    Count,
    /// They make a log incomplete.
    Incomplete,
}

/// Judges one log.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    question: Question,
    losses: Losses,
    expected_head: Option<Hash>,
    state: State,
}

impl Verifier {
    /// Asks `question`.
    pub fn new(question: Question) -> Self {
        Verifier { question, ..Verifier::default() }
    }

    /// Demands that the last line has this hash.
    pub fn expect_head(mut self, head: Option<Hash>) -> Self {
        self.expected_head = head;
        self
    }

    /// Says what events that were lost mean.
    pub fn losses(mut self, losses: Losses) -> Self {
        self.losses = losses;
        self
    }

    /// Reads and judges a whole log.
    ///
    /// A read that fails is an error only as long as nothing bad was found.
    pub fn run(mut self, source: impl Read) -> io::Result<Report> {
        let mut lines = Lines::new(source);
        loop {
            match lines.next_line() {
                Ok(Some(line)) => self.line(&line),
                Ok(None) => return Ok(self.report(Chain::Holds)),
                Err(error) if self.state.fault.is_none() || !self.state.log_line_seen => return Err(error),
                Err(_) => return Ok(self.report(Chain::Unknown)),
            }
            if self.state.broken.is_some() && self.state.log_line_seen {
                return Ok(self.report(Chain::Holds));
            }
        }
    }

    fn line(&mut self, line: &Line<'_>) {
        let state = &mut self.state;
        state.lines += 1;
        if state.broken.is_some() {
            state.log_line_seen |= is_log_line(line);
        } else if self.question == Question::Chain || state.fault.is_some() {
            if let Err(fault) = state.foreign_line(line) {
                state.broken = Some(fault);
            }
        } else {
            state.own_line(line);
        }
        if state.broken.is_none() && self.expected_head == Some(state.prev) {
            state.anchored.get_or_insert(state.lines);
        }
    }

    fn report(self, unbroken: Chain) -> Report {
        let Verifier { question, losses, expected_head, state } = self;
        let lines = state.lines;
        let chain = state.broken.clone().map_or(unbroken, Chain::Broken);
        let anchor = state.anchor_fault(expected_head);
        let State { events, lost, prev: head, .. } = state;
        let fault = match question {
            Question::Log => state.fault,
            Question::Chain => state.broken,
        };
        let verdict = match (fault, anchor) {
            (Some(Fault { line, why: Why::TooLong, .. }), None) if question == Question::Chain => {
                Verdict::Unchecked(Unchecked::TooLong { line })
            }
            (Some(_), None) if !state.log_line_seen => Verdict::Unchecked(Unchecked::NotALog),
            (Some(fault), _) => Verdict::Tampered(fault),
            (None, Some(fault)) => Verdict::Tampered(fault),
            (None, None) if question == Question::Chain => Verdict::ChainHolds { lines, head },
            (None, None) => {
                let incomplete = |why| Verdict::Incomplete { events, lost, head, why };
                match state.torn {
                    Some(line) => incomplete(Missing::LineRest { line }),
                    None if lines == 0 => incomplete(Missing::All),
                    None if !state.sealed => incomplete(Missing::Seal),
                    None if lost > 0 && losses == Losses::Incomplete => incomplete(Missing::Events),
                    None => Verdict::Intact { events, lost, head },
                }
            }
        };
        Report { verdict, chain, lines }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
