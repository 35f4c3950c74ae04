//! Raw records to events.
//!
//! A [`Decoder`] gives one event an attempt: it joins names with the directories they start from, turns
//! numbers into the log's words, and puts a hook's verdict and the call's result, two records with one
//! `kseq`, together. It looks nothing up on the machine and judges nothing; who acted is `enrich`'s, which
//! rule decided is `judge`'s.
//!
//! # Two records, one event
//!
//! A record with `RESULT_FOLLOWS` is held until its thread's next record. If that is the result, one event
//! tells both, with the path or address that the hook judged. If it is another, or the process ends, or the
//! call takes longer than [`HOLD_NS`], the record becomes an event of its own, without `ret`; a result that
//! comes after that is dropped, since its attempt has been told.

pub(super) mod address;
mod attempt;
mod path;
#[cfg(test)]
mod tests;
mod way;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use sandbox_ebpf::abi::event::{Cause, Header, Judgement, Kind, arch, flag};

use super::{Event, EventType, Key, ProcId, Value};
use crate::observe::RawEvent;
pub use address::rule_protocol;
use attempt::Builder;
pub(crate) use attempt::reason;
pub use attempt::{FAILED, MISSED, UNKNOWN};
pub(super) use way::leaf;

/// How long a record waits for its result: longer than connect(2) tries (tcp_syn_retries, some 130 s).
pub const HOLD_NS: u64 = 180_000_000_000;

/// Most processes of foreign call tables that are remembered; beyond it some are told of again.
const FOREIGN_MAX: usize = 4096;

/// The address in a record's socket address; `None` where it has none.
pub fn end(bytes: &[u8]) -> Option<IpAddr> {
    match address::parse(bytes, 0)?.end {
        address::End::Internet(address, _) => Some(address),
        _ => None,
    }
}

/// An event, and what a policy would be asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The event, as far as the record tells it.
    pub event: Event,
    /// What later stages need and the log does not.
    pub facts: Facts,
}

/// What a record says beyond its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's verdict.
    pub judgement: Judgement,
    /// Why, where a hook denied.
    pub cause: Cause,
    /// Bits of [`sandbox_ebpf::abi::policy::access`] asked for at `path` (at `exe`, where an exec has one).
    pub access: u16,
    /// The same at `path2`.
    pub access2: u16,
    /// The accesses denied at `path` that the object has at `path2`, its new name, by the kernel's word; none
    /// where no object gets a name; `None` where the kernel was not asked.
    pub gained: Option<u16>,
    /// One of [`sandbox_ebpf::abi::policy::kernel`].
    pub kernel: u32,
    /// Bits of [`sandbox_ebpf::abi::policy::net_access`].
    pub net_access: u8,
    /// The protocol, one of [`sandbox_ebpf::abi::policy::proto`].
    pub proto: u8,
    /// The number of the mark that denied, where the cause is another name of the object.
    pub mark: usize,
    /// The object stands in no directory: a pipe, a socket, a memfd.
    pub detached: bool,
    /// The other end of a connect or send, the own end of a bind or listen.
    pub end: Option<(IpAddr, u16)>,
    /// That end is a unix socket, and its name is of this kind.
    pub unix: Option<Unix>,
    /// A listener of the run is at the other end.
    pub own: bool,
    /// The runner stands in for the resolver at the other end.
    pub resolver: bool,
    /// The runner's relay is at the other end.
    pub relay: bool,
    /// It is about a server that a connection named, which must be one that opens the address.
    pub named: bool,
    /// An exec of a text whose first line names an interpreter: `path` was executed as well as `exe`.
    pub script: bool,
    /// The new process of a fork.
    pub child: Option<ProcId>,
    /// It was seen before it happened: whether it did is not known, and nothing says that it did not.
    pub unseen: bool,
    /// It was seen before it happened, and known not to have: why is not known.
    pub failed: bool,
    /// SHA-256 of the executed file, where a hook read it.
    pub digest: Option<[u8; 32]>,
    /// The number of the policy that a judgement rests on; 0 where there is none.
    pub policy: u32,
    /// How the call took `path` and `path2`, where they are names as it gave them: symbolic links may be on their way. None
    /// where the kernel says what the object is.
    pub ways: [Option<Way>; 2],
}

/// How a call takes a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// So many bytes of the path are the kernel's own: no symbolic link is on the way there.
    pub known: usize,
    /// What it does with a link in the last place.
    pub last: Last,
}

/// What a call does with a symbolic link in the last place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is about the link itself.
    Itself,
    /// It is about what the link leads to.
    Followed,
    /// The record does not tell: fchownat(2), whose flags it has not.
    Untold,
}

/// What names a unix socket; the event's path has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unix {
    /// A path.
    Path,
    /// A name of the abstract space, behind an `@`.
    Abstract,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            judgement: Judgement::None,
            cause: Cause::Policy,
            access: 0,
            access2: 0,
            gained: Some(0),
            kernel: 0,
            net_access: 0,
            proto: 0,
            mark: 0,
            detached: false,
            end: None,
            unix: None,
            own: false,
            resolver: false,
            relay: false,
            named: false,
            script: false,
            child: None,
            unseen: false,
            failed: false,
            digest: None,
            policy: 0,
            ways: [None; 2],
        }
    }
}

/// A record that the ABI does not allow. Nothing is known of its attempt: it counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Of no known kind.
    #[error("record {kseq} is of the unknown kind {kind}")]
    Kind {
        /// Its sequence number.
        kseq: u64,
        /// The number that should be a kind.
        kind: u8,
    },
    /// Taken on entry of a call whose kind is none.
    #[error("record {kseq} announces a result of the unknown kind {kind}")]
    Entry {
        /// Its sequence number.
        kseq: u64,
        /// The number that should be a kind.
        kind: u64,
    },
}

/// A record that waits for the call's result.
#[derive(Debug)]
struct Held {
    raw: RawEvent,
    /// Its event was let go: a result has nothing to add to.
    told: bool,
}

/// Decodes the records of one run, in the order in which they come.
#[derive(Debug, Default)]
pub struct Decoder {
    /// By thread id; a thread is in one call at a time.
    held: HashMap<u32, Held>,
    /// Processes whose first call of a foreign table was told.
    foreign: HashSet<ProcId>,
}

impl Decoder {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one record and appends the events that are complete, oldest first.
    ///
    /// `wall_offset_ns` is CLOCK_REALTIME minus CLOCK_MONOTONIC, as it is now.
    ///
    /// # Errors
    /// The record is not what the ABI says. What was held is unharmed.
    pub fn decode(
        &mut self,
        raw: RawEvent,
        wall_offset_ns: i64,
        out: &mut Vec<Decoded>,
    ) -> Result<(), DecodeError> {
        let kind = check(&raw.header)?;
        let mut stage = Stage { wall_offset_ns, out };
        let before = self.first_half(&raw.header, kind, &mut stage);
        if kind == Kind::Exit {
            self.release(&mut stage, |header| header.pid == raw.header.pid);
            self.foreign.remove(&attempt::process(&raw.header));
        }
        if raw.header.arch != arch::NATIVE {
            self.tell_foreign(&raw.header, kind, &mut stage);
        }
        if raw.header.flags & flag::RESULT_FOLLOWS != 0 {
            self.held.insert(raw.header.tid, Held { raw, told: false });
            return Ok(());
        }
        match before {
            Some(Held { told: true, .. }) => {}
            Some(Held { raw: first, .. }) => stage.both(first, raw),
            None => stage.alone(&raw),
        }
        Ok(())
    }

    /// What was held of this thread, if it belongs to this record; if not it is let go.
    fn first_half(&mut self, next: &Header, kind: Kind, stage: &mut Stage) -> Option<Held> {
        let waits = next.flags & flag::RESULT_FOLLOWS != 0;
        let aside = kind == Kind::Close || attempt::is_check(kind);
        if self.held.is_empty() || (aside && !waits) {
            // A verdict that stands for itself may come between the two (a further level of an exec), and the end of a
            // connection at any time.
            return None;
        }
        let held = self.held.remove(&next.tid)?;
        if held.raw.header.kseq == next.kseq && !waits {
            return Some(held);
        }
        let entered = Kind::from_raw(held.raw.header.kind) == Kind::Entry;
        if held.raw.header.kseq == next.kseq && entered {
            // A hook's word on the names that were taken on entry: the kernel's own, which are better.
            return None;
        }
        stage.let_go(&held);
        None
    }

    /// Whether a call that has begun, and whose end was not seen yet, may give or take away a name with this last component.
    pub fn in_flight(&self, is: impl Fn(&[u8]) -> bool) -> bool {
        let moves = |held: &&Held| Kind::from_raw(held.raw.header.kind) == Kind::Entry;
        self.held.values().filter(moves).any(|Held { raw, .. }| {
            [&raw.parts[1], &raw.parts[3]].iter().any(|name| leaf(name).is_some_and(&is))
        })
    }

    /// Lets go of the records whose calls have taken longer than [`HOLD_NS`] at the time `now_mono_ns`.
    pub fn expire(&mut self, now_mono_ns: u64, wall_offset_ns: i64, out: &mut Vec<Decoded>) {
        if self.held.is_empty() {
            return;
        }
        let mut stage = Stage { wall_offset_ns, out };
        let begin = stage.out.len();
        for held in self.held.values_mut().filter(|held| !held.told) {
            if now_mono_ns.saturating_sub(held.raw.header.mono_ns) > HOLD_NS {
                stage.let_go(held);
                held.told = true;
            }
        }
        stage.sort(begin);
    }

    /// Lets go of everything that still waits: no record will come any more.
    pub fn finish(&mut self, wall_offset_ns: i64, out: &mut Vec<Decoded>) {
        self.release(&mut Stage { wall_offset_ns, out }, |_| true);
    }

    fn release(&mut self, stage: &mut Stage, which: impl Fn(&Header) -> bool) {
        let begin = stage.out.len();
        for (_, held) in self.held.extract_if(|_, held| which(&held.raw.header)) {
            stage.let_go(&held);
        }
        stage.sort(begin);
    }

    /// The first call of a process through a table that is not the machine's own is an event of its own.
    fn tell_foreign(&mut self, header: &Header, kind: Kind, stage: &mut Stage) {
        let process = attempt::process(header);
        if kind == Kind::Compat || self.foreign.contains(&process) {
            return;
        }
        if self.foreign.len() >= FOREIGN_MAX {
            self.foreign.clear();
        }
        self.foreign.insert(process);
        let table = if header.arch == arch::X32 { "x32" } else { "32-bit" };
        let mut builder = Builder::new(header, EventType::ProcCompat, stage.wall_offset_ns);
        builder.put(Key::Target, Value::Bytes(table.into()));
        stage.out.push(builder.done());
    }
}

/// The record's kind, if it is one.
fn check(header: &Header) -> Result<Kind, DecodeError> {
    let kind = Kind::from_raw(header.kind);
    match kind {
        Kind::Unknown => Err(DecodeError::Kind { kseq: header.kseq, kind: header.kind }),
        Kind::Entry if attempt::announced(header).is_none() => {
            Err(DecodeError::Entry { kseq: header.kseq, kind: header.args[1] })
        }
        kind => Ok(kind),
    }
}

/// Where events go.
struct Stage<'a> {
    wall_offset_ns: i64,
    out: &'a mut Vec<Decoded>,
}

impl Stage<'_> {
    fn alone(&mut self, raw: &RawEvent) {
        self.out.push(attempt::decode(raw, self.wall_offset_ns));
    }

    fn let_go(&mut self, held: &Held) {
        if !held.told {
            self.alone(&held.raw);
        }
    }

    /// A call's paths or verdict, and its result.
    fn both(&mut self, first: RawEvent, mut result: RawEvent) {
        if Kind::from_raw(first.header.kind) == Kind::Entry {
            // The names stand in the first record, everything else in the second.
            let names =
                flag::TRUNCATED | flag::UNREADABLE | flag::DETACHED | flag::NO_BASE | flag::BY_DESCRIPTOR;
            result.header.flags = (result.header.flags & !flag::FOLLOWS_CHECK) | (first.header.flags & names);
            result.parts = first.parts;
            return self.alone(&result);
        }
        let verdict = attempt::decode(&first, self.wall_offset_ns);
        let mut decoded = attempt::decode(&result, self.wall_offset_ns);
        attempt::add_verdict(&mut decoded, verdict);
        self.out.push(decoded);
    }

    /// What a map gave in no order, in the kernel's.
    fn sort(&mut self, begin: usize) {
        if let Some(new) = self.out.get_mut(begin..) {
            new.sort_by_key(|decoded| decoded.event.kseq);
        }
    }
}
