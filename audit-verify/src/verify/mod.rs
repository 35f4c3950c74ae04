//! Judging a log, line by line, in constant memory.
//!
//! Two questions are answered at once. *Does the hash chain hold?* Here any JSON counts, as Python would read
//! it. *Is this a log that `sandbox` wrote and finished?* Here every line is canonical and ends with a newline,
//! `seq` rises from 1 by 1, the first line and no other is `run_start`, all lines are of one run, the last is the
//! seal (`run_end`), which counts the lines (itself included) and names the head before it.
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

mod signed;
mod verdict;

use std::io::{self, Read};

use verdict::shown;
pub use verdict::{Chain, Fault, Genesis, Missing, Report, Signed, Unchecked, Verdict, Why};

use crate::Hash;
use crate::canonical::{Member, scan};
use crate::lines::{Line, LineEnd, Lines};
use crate::python::Object;
use crate::sign::PublicKey;
use signed::Signatures;

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

/// What is known so far.
#[derive(Clone, Debug, Default)]
struct State {
    /// Lines read.
    lines: u64,
    /// Lines that hold.
    events: u64,
    prev: Hash,
    /// `run_id` of the first line, as it is written there.
    run_id: Option<Vec<u8>>,
    lost: u64,
    sealed: bool,
    torn: Option<u64>,
    /// The first reason why this is not a log of ours.
    fault: Option<Fault>,
    /// The first break of the chain.
    broken: Option<Fault>,
    /// Whether a line was a JSON object with a `hash_self`.
    log_line_seen: bool,
    /// The line that has the expected head.
    anchored: Option<u64>,
    signatures: Signatures,
    genesis: Option<Genesis>,
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
        let signed = state.signatures.found();
        let State { events, lost, prev: head, genesis, .. } = state;
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
        Report { verdict, chain, lines, signed, genesis }
    }
}

/// The members of a line that are judged, as they are written.
#[derive(Default)]
struct Links<'l> {
    prev: Option<&'l [u8]>,
    itself: Option<(&'l [u8], usize, usize)>,
    seq: Option<u64>,
    event_type: Option<&'l [u8]>,
    run_id: Option<&'l [u8]>,
    lost: Option<u64>,
    events: Option<u64>,
    head: Option<&'l [u8]>,
    ledger_prev: Option<&'l [u8]>,
    policy_sha256: Option<&'l [u8]>,
}

impl<'l> Links<'l> {
    fn take(&mut self, member: Member<'l>) {
        match member.key {
            "hash_prev" => self.prev = member.raw.as_text(),
            "hash_self" => self.itself = member.raw.as_text().map(|text| (text, member.start, member.end)),
            "seq" => self.seq = member.raw.as_u64(),
            "event_type" => self.event_type = member.raw.as_text(),
            "run_id" => self.run_id = member.raw.as_text(),
            "lost" => self.lost = member.raw.as_u64(),
            "events" => self.events = member.raw.as_u64(),
            "head" => self.head = member.raw.as_text(),
            "ledger_prev" => self.ledger_prev = member.raw.as_text(),
            "policy_sha256" => self.policy_sha256 = member.raw.as_text(),
            _ => {}
        }
    }
}

impl Links<'_> {
    /// What the first line, whose hash is `first`, binds the run to.
    fn genesis(&self, first: Hash) -> Genesis {
        let hash = |digits: Option<&[u8]>| digits.and_then(Hash::from_digits);
        let run_id = self.run_id.map(|id| String::from_utf8_lossy(id).into_owned());
        Genesis {
            run_id: run_id.unwrap_or_default(),
            first,
            ledger_prev: hash(self.ledger_prev),
            policy_sha256: hash(self.policy_sha256),
        }
    }
}

impl State {
    fn fault(&self, why: Why, expected: impl Into<String>, found: impl Into<String>) -> Fault {
        Fault { line: self.lines, why, expected: expected.into(), found: found.into() }
    }

    /// Judges a line of a log that has been ours so far.
    fn own_line(&mut self, line: &Line<'_>) {
        if self.sealed {
            self.fault = Some(self.fault(Why::BehindSeal, "the end of the file", shown(line.bytes)));
            self.broken = self.foreign_line(line).err();
            return;
        }
        if line.is_too_long() {
            self.log_line_seen |= is_log_line(line);
            let fault = self.fault(Why::TooLong, "a shorter line", format!("{} bytes", line.len));
            self.broken = Some(fault.clone());
            self.fault = Some(fault);
            return;
        }
        let mut links = Links::default();
        if let Err(deviation) = scan(line.bytes, |member| links.take(member)) {
            if deviation.is_cut() && line.end == LineEnd::File {
                self.torn = Some(self.lines);
            } else {
                let found = shown(line.bytes.get(deviation.offset..).unwrap_or_default());
                let found = if found.is_empty() { "the end of the line".to_owned() } else { found };
                self.fault = Some(self.fault(Why::Canonical(deviation), deviation.expected, found));
            }
            self.broken = self.foreign_line(line).err();
            return;
        }
        self.log_line_seen |= links.itself.is_some();
        let before = self.prev;
        match self.link(line.bytes, &links) {
            Err(fault) => {
                self.broken = Some(fault.clone());
                self.fault = Some(fault);
            }
            Ok(head) => {
                self.fault = self.own_order(line, &links, &before).err();
                if self.lines == 1 {
                    self.genesis = Some(links.genesis(head));
                }
                self.prev = head;
                if self.fault.is_none() {
                    self.events += 1;
                    self.torn = (line.end == LineEnd::File).then_some(self.lines);
                }
            }
        }
    }

    /// Proves the two hashes of a canonical line; returns its own.
    fn link(&self, bytes: &[u8], links: &Links<'_>) -> Result<Hash, Fault> {
        let (Some(prev), Some((itself, start, end))) = (links.prev, links.itself) else {
            let key = if links.prev.is_none() { "hash_prev" } else { "hash_self" };
            return Err(self.fault(Why::Key(key), "a hash", shown(bytes)));
        };
        if prev != self.prev.digits() {
            return Err(self.unlinked(prev, links.seq));
        }
        // hash_prev stands before it, so a separator does too.
        let hash = Hash::of(&[&bytes[..start - b", ".len()], &bytes[end..]]);
        if itself != hash.digits() {
            return Err(self.fault(Why::Itself, hash.as_str(), shown(itself)));
        }
        Ok(hash)
    }

    /// The fault of a line that is linked to another one; `seq` often tells what happened.
    fn unlinked(&self, prev: &[u8], seq: Option<u64>) -> Fault {
        let due = self.lines;
        let hint = match seq {
            Some(seq) if seq != due => format!(" (seq {seq} where {due} is due)"),
            _ => String::new(),
        };
        self.fault(Why::Link, self.prev.as_str(), shown(prev) + &hint)
    }

    /// Judges what the chain alone does not: count, run, genesis, seal and end of the line.
    fn own_order(&mut self, line: &Line<'_>, links: &Links<'_>, before: &Hash) -> Result<(), Fault> {
        let kind = links.event_type.ok_or_else(|| self.fault(Why::Key("event_type"), "a string", "none"))?;
        let seq = links.seq.ok_or_else(|| self.fault(Why::Key("seq"), "a number", "none"))?;
        if seq != self.lines {
            return Err(self.fault(Why::Sequence, self.lines.to_string(), seq.to_string()));
        }
        if (kind == b"run_start") != (self.lines == 1) {
            let expected = if self.lines == 1 { "run_start" } else { "any other event_type" };
            return Err(self.fault(Why::Genesis, expected, shown(kind)));
        }
        if self.lines == 1 {
            self.run_id = links.run_id.map(<[u8]>::to_vec);
        } else if self.run_id.as_deref() != links.run_id {
            let shown = |id: Option<&[u8]>| id.map_or("no run_id".to_owned(), shown);
            return Err(self.fault(Why::Run, shown(self.run_id.as_deref()), shown(links.run_id)));
        }
        let end = line.end;
        if !matches!(end, LineEnd::Newline | LineEnd::File) {
            let found = if end == LineEnd::CarriageReturn { "\\r" } else { "\\r\\n" };
            return Err(self.fault(Why::End(end), "\\n", found));
        }
        match kind {
            b"gap" => self.lost = self.lost.saturating_add(links.lost.unwrap_or(0)),
            b"checkpoint" => {
                self.counted(links, before)?;
                self.signatures.line(self.lines, line.bytes)?;
            }
            b"run_end" => {
                self.counted(links, before)?;
                self.signatures.line(self.lines, line.bytes)?;
                // The seal counts all losses of the run, so it and the gaps are two accounts of the same.
                self.lost = self.lost.max(links.lost.unwrap_or(0));
                self.sealed = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Judges what a checkpoint or the seal says of the lines before it.
    fn counted(&self, links: &Links<'_>, before: &Hash) -> Result<(), Fault> {
        let events = links.events.ok_or_else(|| self.fault(Why::Key("events"), "a number", "none"))?;
        if events != self.lines {
            return Err(self.fault(Why::SealEvents, self.lines.to_string(), events.to_string()));
        }
        let head = links.head.ok_or_else(|| self.fault(Why::Key("head"), "a hash", "none"))?;
        if head != before.digits() {
            return Err(self.fault(Why::SealHead, before.as_str(), shown(head)));
        }
        Ok(())
    }

    /// Proves the two hashes of any line, as Python would.
    fn foreign_line(&mut self, line: &Line<'_>) -> Result<(), Fault> {
        if line.is_too_long() {
            self.log_line_seen |= is_log_line(line);
            return Err(self.fault(Why::TooLong, "a shorter line", format!("{} bytes", line.len)));
        }
        let mut links = Links::default();
        if scan(line.bytes, |member| links.take(member)).is_ok() {
            self.log_line_seen |= links.itself.is_some();
            self.prev = self.link(line.bytes, &links)?;
            return Ok(());
        }
        let object = Object::parse(line.bytes).map_err(|error| {
            self.fault(Why::Json(error), "a JSON object", format!("{error}: {}", shown(line.bytes)))
        })?;
        let itself = object.get("hash_self");
        self.log_line_seen |= itself.is_some();
        let missing = |key| self.fault(Why::Key(key), "a hash", shown(line.bytes));
        let prev = object.get("hash_prev").ok_or_else(|| missing("hash_prev"))?;
        let itself = itself.ok_or_else(|| missing("hash_self"))?;
        if unquoted(prev) != Some(self.prev.digits()) {
            let seq = object.get("seq").and_then(|seq| std::str::from_utf8(seq).ok()?.parse().ok());
            return Err(self.unlinked(unquoted(prev).unwrap_or(prev), seq));
        }
        let mut bytes = Vec::with_capacity(line.bytes.len());
        object.print_without("hash_self", &mut bytes);
        let hash = Hash::of(&[&bytes]);
        if unquoted(itself) != Some(hash.digits()) {
            return Err(self.fault(Why::Itself, hash.as_str(), shown(unquoted(itself).unwrap_or(itself))));
        }
        self.prev = hash;
        Ok(())
    }

    /// The fault of a log that does not end with the expected head.
    fn anchor_fault(&self, expected: Option<Hash>) -> Option<Fault> {
        let expected = expected.filter(|expected| *expected != self.prev)?;
        let found = if self.prev == Hash::ZERO { "no line that holds" } else { self.prev.as_str() };
        Some(self.fault(Why::Anchor { anchored: self.anchored }, expected.as_str(), found))
    }
}

/// What stands between the quotes of a printed string.
fn unquoted(printed: &[u8]) -> Option<&[u8]> {
    printed.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Whether a line is a JSON object with a `hash_self`. One that is too long to be read is if it shows the key.
fn is_log_line(line: &Line<'_>) -> bool {
    const KEY: &[u8] = b"\"hash_self\"";
    if line.is_too_long() {
        return line.bytes.windows(KEY.len()).any(|window| window == KEY);
    }
    Object::parse(line.bytes).is_ok_and(|object| object.get("hash_self").is_some())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
