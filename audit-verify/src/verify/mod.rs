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
//! # How it goes quickly
//!
//! A log is read in pieces of whole lines. A piece whose lines are all plain is judged as one, on as many threads as
//! [`Verifier::threads`] allows, and joined to what came before; any other piece is judged line by line. The answer
//! is the same in every word, as the tests compare. Memory is that of a few pieces, or of the longest line.
//!
//! # Tampered, or not a log?
//!
//! A file is *not a log* ([`Unchecked::NotALog`]) only if none of its lines is a JSON object with a `hash_self`. So
//! an edit can turn a log into something that is not one only by destroying every line of it; damage to the first
//! line is tampering like any other. Where a head is expected, a file without any log line is tampered too.

mod pieces;
mod segment;
mod shape;
mod signed;
mod state;
mod verdict;
mod workers;

use std::io::{self, Read};
use std::num::NonZeroUsize;

use pieces::{PIECE, Piece, Pieces};
use segment::{Judge, Summary, Terms};
use state::{State, is_log_line};
pub use verdict::{
    APPLIED_MAX, Applied, Chain, Fault, Genesis, Missing, Report, Signed, Unchecked, Verdict, Why,
};
use workers::Wanted;

use crate::Hash;
use crate::lines::{Line, Lines};
use crate::sign::PublicKey;

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
    threads: Option<NonZeroUsize>,
    state: State,
}

/// After so many pieces further threads are worth their start.
const ALONE: usize = 8;

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

    /// Demands that checkpoints and the seal are signed by one of these keys; of no key, demands nothing.
    pub fn demand_keys(mut self, keys: Vec<PublicKey>) -> Self {
        self.state.signatures.demand(keys);
        self
    }

    /// Checks signatures by these keys where there are some.
    pub fn know_keys(mut self, keys: Vec<PublicKey>) -> Self {
        self.state.signatures.know(keys);
        self
    }

    /// Says what events that were lost mean.
    pub fn losses(mut self, losses: Losses) -> Self {
        self.losses = losses;
        self
    }

    /// Judges a long log on so many threads; without this, on one alone.
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Judges lines that stand before those that [`Verifier::run`] will read, each whole and with its newline.
    pub fn after(mut self, lines: &[u8]) -> Self {
        self.join(lines, None);
        self
    }

    /// Reads and judges a whole log.
    ///
    /// A read that fails is an error only as long as nothing bad was found.
    pub fn run(self, source: impl Read) -> io::Result<Report> {
        self.run_in_pieces(source, PIECE)
    }

    /// The same with pieces of a length.
    fn run_in_pieces(mut self, source: impl Read, length: usize) -> io::Result<Report> {
        let mut pieces = Pieces::new(source, length);
        let mut piece = Piece::default();
        let mut judge = Judge::default();
        let mut judged = 0;
        while pieces.fill(&mut piece, length) {
            let summary = self.terms().and_then(|terms| judge.summary(piece.lines(), &terms));
            if self.join(piece.lines(), summary) == Wanted::Nothing {
                return Ok(self.report(Chain::Holds));
            }
            judged += 1;
            let threads = self.threads.filter(|threads| threads.get() > 1 && judged > ALONE);
            if let Some((threads, terms)) = threads.zip(self.terms()) {
                workers::judge(
                    &mut pieces,
                    length,
                    threads,
                    (&mut judge, &terms),
                    |lines, summary| match self.join(lines, summary) {
                        Wanted::More if self.is_plain() => Wanted::More,
                        _ => Wanted::Nothing,
                    },
                );
                // What is left is judged alone, if anything is.
                if self.has_ended() {
                    return Ok(self.report(Chain::Holds));
                }
                self.threads = None;
            }
        }
        drop(piece);
        self.run_by_line(pieces.into_rest())
    }

    /// Reads and judges the rest of a log line by line.
    fn run_by_line(mut self, source: impl Read) -> io::Result<Report> {
        let mut lines = Lines::new(source);
        loop {
            match lines.next_line() {
                Ok(Some(line)) => self.line(&line),
                Ok(None) => return Ok(self.report(Chain::Holds)),
                Err(error) if self.state.fault.is_none() || !self.state.log_line_seen => return Err(error),
                Err(_) => return Ok(self.report(Chain::Unknown)),
            }
            if self.has_ended() {
                return Ok(self.report(Chain::Holds));
            }
        }
    }

    /// Judges a piece that comes next, of which there may be a summary.
    fn join(&mut self, lines: &[u8], summary: Option<Summary>) -> Wanted {
        if self.has_ended() {
            return Wanted::Nothing;
        }
        match summary.filter(|summary| self.is_plain() && summary.follows(&self.state)) {
            Some(summary) => summary.tell(&mut self.state),
            None => {
                let mut lines = Lines::new(lines);
                // Reading from memory does not fail.
                while let Ok(Some(line)) = lines.next_line() {
                    self.line(&line);
                    if self.has_ended() {
                        return Wanted::Nothing;
                    }
                }
            }
        }
        Wanted::More
    }

    /// Whether more lines would change nothing.
    fn has_ended(&self) -> bool {
        self.state.broken.is_some() && self.state.log_line_seen
    }

    /// Whether plain lines may come next.
    fn is_plain(&self) -> bool {
        let state = &self.state;
        self.question == Question::Log
            && state.lines > 0
            && state.fault.is_none()
            && state.broken.is_none()
            && !state.sealed
    }

    /// What plain lines that come next are compared with.
    fn terms(&self) -> Option<Terms> {
        let State { run_id, .. } = &self.state;
        self.is_plain().then(|| Terms { run_id: run_id.clone(), expected_head: self.expected_head })
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
        let Verifier { question, losses, expected_head, state, .. } = self;
        let lines = state.lines;
        let chain = state.broken.clone().map_or(unbroken, Chain::Broken);
        let anchor = state.anchor_fault(expected_head);
        let signed = state.signatures.found();
        let State { events, lost, prev: head, genesis, applied, .. } = state;
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
        Report { verdict, chain, lines, signed, genesis, applied }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod pieces_tests;
