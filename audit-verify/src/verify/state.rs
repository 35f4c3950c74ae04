//! The judge: what is known of a log so far, and what one more line makes of it.
//!
//! [`super::segment`] passes over plain lines more quickly; whatever is not plain comes here.

use super::signed::Signatures;
use super::verdict::{APPLIED_MAX, Applied, Fault, Genesis, Why, shown};
use crate::Hash;
use crate::canonical::{Member, scan};
use crate::lines::{Line, LineEnd};
use crate::merkle::Tree;
use crate::python::Object;
use crate::sign::KeyId;

/// What is known so far.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Lines read.
    pub lines: u64,
    /// Lines that hold.
    pub events: u64,
    /// `hash_self` of the last line that holds.
    pub prev: Hash,
    /// The tree over the lines that hold, the seal not among them; no one asks for it but the seal.
    pub tree: Tree,
    /// `run_id` of the first line, as it is written there.
    pub run_id: Option<Vec<u8>>,
    pub lost: u64,
    pub sealed: bool,
    pub torn: Option<u64>,
    /// The first reason why this is not a log of ours.
    pub fault: Option<Fault>,
    /// The first break of the chain.
    pub broken: Option<Fault>,
    /// Whether a line was a JSON object with a `hash_self`.
    pub log_line_seen: bool,
    /// The line that has the expected head.
    pub anchored: Option<u64>,
    /// The keys, and what they signed so far.
    pub signatures: Signatures,
    /// What the first line binds it to.
    pub genesis: Option<Genesis>,
    /// Policies that were applied later.
    pub applied: Vec<Applied>,
}

/// The members of a line that are judged, as they are written.
#[derive(Default)]
pub(super) struct Links<'l> {
    pub prev: Option<&'l [u8]>,
    pub itself: Option<(&'l [u8], usize, usize)>,
    pub seq: Option<u64>,
    pub event_type: Option<&'l [u8]>,
    pub run_id: Option<&'l [u8]>,
    pub lost: Option<u64>,
    pub events: Option<u64>,
    pub head: Option<&'l [u8]>,
    pub merkle_root: Option<&'l [u8]>,
    pub ledger_prev: Option<&'l [u8]>,
    pub policy_sha256: Option<&'l [u8]>,
    pub target: Option<&'l [u8]>,
    pub key_id: Option<&'l [u8]>,
}

impl<'l> Links<'l> {
    /// Keeps a member if it is one of those.
    pub fn take(&mut self, member: Member<'l>) {
        match member.key {
            "hash_prev" => self.prev = member.raw.as_text(),
            "hash_self" => self.itself = member.raw.as_text().map(|text| (text, member.start, member.end)),
            "seq" => self.seq = member.raw.as_u64(),
            "event_type" => self.event_type = member.raw.as_text(),
            "run_id" => self.run_id = member.raw.as_text(),
            "lost" => self.lost = member.raw.as_u64(),
            "events" => self.events = member.raw.as_u64(),
            "head" => self.head = member.raw.as_text(),
            "merkle_root" => self.merkle_root = member.raw.as_text(),
            "ledger_prev" => self.ledger_prev = member.raw.as_text(),
            "policy_sha256" => self.policy_sha256 = member.raw.as_text(),
            "target" => self.target = member.raw.as_text(),
            "key_id" => self.key_id = member.raw.as_text(),
            _ => {}
        }
    }

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

/// A line that says something about the log before it.
struct Statement<'s, 'l> {
    /// Its `event_type`.
    kind: &'l [u8],
    /// Its bytes, without what ends it.
    line: &'l [u8],
    /// Its members, as far as they are judged.
    links: &'s Links<'l>,
    /// `hash_self` of the line before it.
    before: &'s Hash,
}

/// Whether a line of this `event_type` is judged by what it says about the log, so that it is never a plain one.
pub(super) fn is_statement(kind: &[u8]) -> bool {
    matches!(kind, b"run_start" | b"run_end" | b"checkpoint" | b"policy_apply")
}

impl State {
    fn fault(&self, why: Why, expected: impl Into<String>, found: impl Into<String>) -> Fault {
        Fault { line: self.lines, why, expected: expected.into(), found: found.into() }
    }

    /// Judges a line of a log that has been ours so far.
    pub fn own_line(&mut self, line: &Line<'_>) {
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
                    self.signatures.name(links.key_id.and_then(KeyId::from_digits));
                }
                self.prev = head;
                if self.fault.is_none() {
                    self.events += 1;
                    self.tree.push(&head);
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
        if !matches!(line.end, LineEnd::Newline | LineEnd::File) {
            let found = if line.end == LineEnd::CarriageReturn { "\\r" } else { "\\r\\n" };
            return Err(self.fault(Why::End(line.end), "\\n", found));
        }
        if kind == b"gap" {
            self.lost = self.lost.saturating_add(links.lost.unwrap_or(0));
        }
        self.statement(&Statement { kind, line: line.bytes, links, before })
    }

    /// Judges what a line says about the log before it.
    ///
    /// This is the one place where such lines are judged: their hashes and their place are proven by now. A kind that
    /// is judged here is to be named in [`is_statement`] as well.
    fn statement(&mut self, statement: &Statement<'_, '_>) -> Result<(), Fault> {
        match statement.kind {
            b"checkpoint" => {
                self.counted(statement)?;
                self.signatures.line(self.lines, statement.line)
            }
            b"run_end" => {
                self.counted(statement)?;
                self.seal(statement)
            }
            b"policy_apply" => {
                let named = |file: &[u8]| String::from_utf8_lossy(file).into_owned();
                let sha256 = statement.links.policy_sha256.and_then(Hash::from_digits);
                if let (Some(file), Some(sha256)) = (statement.links.target.map(named), sha256)
                    && self.applied.len() < APPLIED_MAX
                {
                    self.applied.push(Applied { file, sha256 });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Judges what a checkpoint or the seal says of the lines before it.
    fn counted(&self, Statement { line, links, before, .. }: &Statement<'_, '_>) -> Result<(), Fault> {
        let missing = |key, expected| self.fault(Why::Key(key), expected, shown(line));
        let events = links.events.ok_or_else(|| missing("events", "a number"))?;
        if events != self.lines {
            return Err(self.fault(Why::SealEvents, self.lines.to_string(), events.to_string()));
        }
        let head = links.head.ok_or_else(|| missing("head", "a hash"))?;
        if head != before.digits() {
            return Err(self.fault(Why::SealHead, before.as_str(), shown(head)));
        }
        Ok(())
    }

    fn seal(&mut self, Statement { line, links, .. }: &Statement<'_, '_>) -> Result<(), Fault> {
        let missing = |key, expected| self.fault(Why::Key(key), expected, shown(line));
        let root = links.merkle_root.ok_or_else(|| missing("merkle_root", "a hash"))?;
        let own_root = self.tree.root();
        if root != own_root.digits() {
            return Err(self.fault(Why::SealRoot, own_root.as_str(), shown(root)));
        }
        self.signatures.line(self.lines, line)?;
        // The seal counts all losses of the run, so it and the gaps are two accounts of the same.
        self.lost = self.lost.max(links.lost.unwrap_or(0));
        self.sealed = true;
        Ok(())
    }

    /// Proves the two hashes of any line, as Python would.
    pub fn foreign_line(&mut self, line: &Line<'_>) -> Result<(), Fault> {
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
    pub fn anchor_fault(&self, expected: Option<Hash>) -> Option<Fault> {
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
pub(super) fn is_log_line(line: &Line<'_>) -> bool {
    const KEY: &[u8] = b"\"hash_self\"";
    if line.is_too_long() {
        return line.bytes.windows(KEY.len()).any(|window| window == KEY);
    }
    Object::parse(line.bytes).is_ok_and(|object| object.get("hash_self").is_some())
}
