//! Recorded runs put to a policy: what it would have blocked.
//!
//! [`attempt`] says what an event asked ([`device`] where that is no data, [`directories`] what is no file), [`lineage`] who
//! asked, [`court`] what a policy says, [`groups`] puts the denials together. What a record cannot tell is said as a note, never guessed.

pub mod attempt;
pub mod court;
mod device;
mod directories;
pub mod groups;
mod lineage;

use std::collections::HashSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use audit_verify::canonical::Record;
use audit_verify::verify::{Question, Verdict, Verifier};
use memchr::memmem;
use policy::{Access, End, Owner, Protocol};
use sandbox_ebpf::abi::resolver::PORT;

use super::text::grouped;
use super::view::{ViewError, log_error};
use crate::event::lines::Line;
use crate::record::LOG;
use crate::record::lines::Lines;
use crate::record::store::{Found, open_regular};
use attempt::{Asked, Reading};
use directories::Directories;
use lineage::Lineage;

/// One event that asked something; of [`Story`], also one that asked nothing.
#[derive(Debug)]
pub struct Attempt<'a, 'l> {
    /// What, at least one part.
    pub asked: &'a [Asked<'l>],
    /// Its line.
    pub record: &'a Record<'l>,
    /// Who.
    pub who: &'a Arc<Line>,
    /// How many attempts the line stands for.
    pub count: u64,
}

/// What a run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Lines that tell of something that the run did.
    pub events: u64,
    /// Attempts that a policy judges.
    pub attempts: u64,
    /// What the record does not tell, a line each.
    pub notes: Vec<String>,
    /// Events that the record says were lost, and lines of it that cannot be read.
    pub missing: u64,
    /// What is wrong with the log as a whole; a note says it too.
    pub doubt: Option<Doubt>,
}

/// Why a log is not the whole truth of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It does not go to the end.
    Incomplete(String),
    /// It was edited, or is no log.
    Edited(String),
}

impl Doubt {
    /// In words.
    pub fn text(&self) -> &str {
        match self {
            Self::Incomplete(text) | Self::Edited(text) => text,
        }
    }
}

/// Reads one run, and hands over each attempt in it.
///
/// # Errors
/// The log cannot be read.
pub fn read(run: &Found, mut each: impl FnMut(&Attempt<'_, '_>)) -> Result<Read, ViewError> {
    verified_and_put(run, resolvers, |attempt| {
        if !attempt.asked.is_empty() {
            each(attempt);
        }
    })
}

/// The same with events that ask nothing of a policy, and with what only carries questions for names.
///
/// # Errors
/// As there.
pub fn read_all(run: &Found, each: impl FnMut(&Attempt<'_, '_>)) -> Result<Read, ViewError> {
    verified_and_put(run, |_| Ok(HashSet::new()), each)
}

/// What is sent to `resolvers` is judged by the names in it, and so asks nothing by itself.
fn verified_and_put(
    run: &Found,
    resolvers: impl FnOnce(&Path) -> Result<HashSet<IpAddr>, ViewError>,
    each: impl FnMut(&Attempt<'_, '_>),
) -> Result<Read, ViewError> {
    let path = run.path.join(LOG);
    std::thread::scope(|scope| {
        // Hashing takes as long as all the rest.
        let verifying = scope.spawn(|| verified(&path));
        let read = resolvers(&path).and_then(|resolvers| put(&path, resolvers, each));
        let doubt = verifying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut read = read?;
        read.notes.splice(..0, doubt.as_ref().map(|doubt| doubt.text().to_owned()));
        read.notes.iter_mut().for_each(|note| *note = format!("{}: {note}", run.id));
        read.doubt = doubt;
        Ok(read)
    })
}

/// The same without a word on the log as a whole.
fn put(
    path: &Path,
    resolvers: HashSet<IpAddr>,
    mut each: impl FnMut(&Attempt<'_, '_>),
) -> Result<Read, ViewError> {
    let mut lines = Lines::new(open(path)?, 0);
    let mut story = Story { resolvers, ..Story::default() };
    while let Some(line) = lines.next_line().map_err(|e| log_error("read", path, e))? {
        story.line(line.text, &mut each);
    }
    Ok(story.end())
}

/// The lines of a run as they come, with what those before tell of them: who acts, and which listeners are the run's.
#[derive(Debug, Default)]
pub struct Story {
    read: Read,
    lineage: Lineage,
    listeners: HashSet<(Protocol, IpAddr, u16)>,
    directories: Directories,
    /// Whom the run asks for names, and what is sent to them is judged by the names.
    resolvers: HashSet<IpAddr>,
    missed: Missed,
}

impl Story {
    /// The next line; an event is handed over, whether it asked something or not.
    pub fn line(&mut self, text: &[u8], each: impl FnOnce(&Attempt<'_, '_>)) {
        let Ok(record) = Record::parse(text) else {
            self.missed.unread += 1;
            return;
        };
        match record.text("event_type") {
            None | Some("run_end" | "policy_apply" | "detection" | "ask" | "answer") => return,
            Some("run_start") => {
                self.lineage = Lineage::begin(&record);
                return;
            }
            Some("gap") => {
                self.missed.lost = self.missed.lost.saturating_add(record.uint("lost").unwrap_or(1));
                return;
            }
            Some("proc_io_uring") => self.missed.rings += 1,
            Some(_) => {}
        }
        let count = record.uint("count").unwrap_or(1).max(1);
        self.read.events = self.read.events.saturating_add(count);
        // The runner's own, which may come when the process that they are about has ended.
        if let Some("checkpoint" | "file_hash" | "file_change") = record.text("event_type") {
            return;
        }
        let who = self.lineage.actor(&record);
        let mut asked = match attempt::read(&record, |pid| self.lineage.has_pid(pid)) {
            Reading::Nothing => Vec::new(),
            Reading::Asked(asked) if asked.iter().all(|part| questions(part, &self.resolvers)) => Vec::new(),
            Reading::Unknown => {
                self.missed.unknown = self.missed.unknown.saturating_add(count);
                Vec::new()
            }
            Reading::Asked(asked) => {
                if record.flag("path_unresolved") == Some(true) {
                    self.missed.unresolved = self.missed.unresolved.saturating_add(count);
                }
                self.read.attempts = self.read.attempts.saturating_add(count);
                asked
            }
        };
        let makes = record.text("event_type") == Some("dir_create");
        for part in &mut asked {
            own(part, &self.listeners);
            if record.int("ret").is_none_or(|ret| ret == 0) {
                self.listeners.extend(listener(part));
            }
            self.directories.mark(part);
        }
        asked.iter().for_each(|part| self.directories.learn(part, makes));
        each(&Attempt { asked: &asked, record: &record, who: &who, count });
        self.lineage.learn(&record);
    }

    /// What it came to.
    pub fn end(mut self) -> Read {
        self.missed.strangers = self.lineage.strangers() as u64;
        self.read.missing = self.missed.lost.saturating_add(self.missed.unread);
        self.read.notes.extend(self.missed.notes());
        self.read
    }
}

/// What became of attempts that are not put to the policy, or not as they were made.
#[derive(Debug, Default)]
struct Missed {
    unread: u64,
    lost: u64,
    unknown: u64,
    unresolved: u64,
    rings: u64,
    strangers: u64,
}

impl Missed {
    fn notes(&self) -> impl Iterator<Item = String> {
        let all = [
            (self.unread, "lines could not be read"),
            (self.lost, "events were lost, and are not judged"),
            (self.unknown, "attempts do not name their object, and are not judged"),
            (
                self.unresolved,
                "attempts may have led elsewhere over symbolic links: they are judged by the name that they called",
            ),
            (self.strangers, "processes began unrecorded: rules that ask who acts take them for unknown"),
            (
                self.rings,
                "io_uring were set up: an enforced run refuses them unless `kernel` allows io-uring",
            ),
        ];
        all.into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", grouped(count)))
    }
}

fn open(path: &Path) -> Result<File, ViewError> {
    open_regular(path).map_err(|e| log_error("open", path, e))
}

/// What is wrong with the log as a whole.
fn verified(path: &Path) -> Result<Option<Doubt>, ViewError> {
    let report = Verifier::new(Question::Log).run(open(path)?).map_err(|e| log_error("verify", path, e))?;
    Ok(match report.verdict {
        Verdict::Incomplete { why, .. } => {
            Some(Doubt::Incomplete(format!("the record is incomplete: {why}")))
        }
        Verdict::Tampered(fault) => {
            let text = format!("TAMPERED, from line {} on: {}", grouped(fault.line), fault.why);
            Some(Doubt::Edited(text))
        }
        Verdict::Unchecked(why) => Some(Doubt::Edited(format!("cannot be checked: {why}"))),
        Verdict::Intact { .. } | Verdict::ChainHolds { .. } => None,
    })
}

/// Resolvers that answered questions of the run, as far as their answers were recorded.
fn resolvers(path: &Path) -> Result<HashSet<IpAddr>, ViewError> {
    let answer = memmem::Finder::new("\"dns_answer\"");
    let mut found = HashSet::new();
    let mut lines = Lines::new(open(path)?, 0);
    while let Some(line) = lines.next_line().map_err(|e| log_error("read", path, e))? {
        // Few lines are one: the others need not be taken apart twice.
        if answer.find(line.text).is_none() {
            continue;
        }
        let Ok(record) = Record::parse(line.text) else { continue };
        if record.text("event_type") == Some("dns_answer") {
            found.extend(record.text("dst_ip").and_then(|address| address.parse::<IpAddr>().ok()));
        }
    }
    Ok(found)
}

/// Whether the part only carries questions to a resolver that answered: those are judged by the names in them, which
/// events of their own tell. A rule on the resolver's address would be leave to ask for any name.
fn questions(part: &Asked<'_>, resolvers: &HashSet<IpAddr>) -> bool {
    match part {
        Asked::End(Access::Connect | Access::Send, End::Address { address, port, .. }, _) => {
            *port == PORT && resolvers.contains(&address.to_canonical())
        }
        _ => false,
    }
}

/// The run's own listener, where the part binds one.
fn listener(part: &Asked<'_>) -> Option<(Protocol, IpAddr, u16)> {
    match part {
        Asked::End(Access::Bind | Access::Listen, End::Address { address, port, protocol, .. }, _)
            if *port != 0 =>
        {
            Some((*protocol, address.to_canonical(), *port))
        }
        _ => None,
    }
}

/// Marks what reaches a listener of the run on this machine.
fn own(part: &mut Asked<'_>, listeners: &HashSet<(Protocol, IpAddr, u16)>) {
    if let Asked::End(Access::Connect | Access::Send, End::Address { address, port, protocol, owner, .. }, _) =
        part
        && (address.is_loopback() || address.is_unspecified())
    {
        // To no address is to this machine; who listens at no address listens at all of them.
        let reached = match address.to_canonical() {
            IpAddr::V4(four) if four.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(six) if six.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            other => other,
        };
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let listens = |at: IpAddr| listeners.contains(&(*protocol, at, *port));
        if listens(reached) || everywhere.into_iter().any(listens) {
            *owner = Owner::Run;
        }
    }
}

#[cfg(test)]
mod tests;
