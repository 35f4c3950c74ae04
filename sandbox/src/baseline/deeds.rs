//! What one run did, each thing once: who did what to which object, and how much of it there was.
//!
//! It takes what a policy would be asked ([`crate::review::replay`]) and counts what no policy is asked: processes, and
//! bytes that left the machine. What failed before a policy would have been asked is no deed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use policy::learn::Reach;
use policy::{Access, Variables};

use super::file::Metric;
use crate::event::lines::Line;
use crate::record::store::Found;
use crate::review::learn::reach;
use crate::review::replay::attempt::Asked;
use crate::review::replay::{self, Attempt, Read};
use crate::review::start::Start;
use crate::review::view::ViewError;

/// Who acts where the run had executed nothing yet.
pub const START: &[u8] = b"(start)";
/// Who acts where the record does not know.
pub const UNKNOWN: &[u8] = b"(unknown)";

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// A file was accessed.
    File(Access, Vec<u8>),
    /// A file was executed.
    Run(Vec<u8>),
    /// Another end was reached (connect and send), or an own one opened (bind and listen).
    Reach(Reach),
    /// A word of the section `kernel`.
    Kernel(&'static str),
}

/// A program, by its place among those of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program(u32);

/// What a run did.
#[derive(Debug, Default)]
pub struct Deeds {
    programs: Vec<Vec<u8>>,
    by_path: HashMap<Vec<u8>, Program>,
    done: HashMap<(Deed, Program), u64>,
    processes: u64,
    /// Bytes over connections that are no run's own.
    bytes_sent: u64,
    own_ports: HashSet<u64>,
    /// Bytes that the deeds take, about.
    bytes: usize,
}

impl Deeds {
    /// Adds an event; gives what of it was not done before by the same program.
    pub fn add(&mut self, attempt: &Attempt<'_, '_>) -> Vec<(Deed, Program)> {
        self.measure(attempt);
        if attempt.asked.is_empty() {
            return Vec::new();
        }
        let program = self.program(actor(attempt.who));
        let mut new = Vec::new();
        for asked in attempt.asked {
            for deed in deeds(asked) {
                match self.done.entry((deed, program)) {
                    Entry::Occupied(mut known) => {
                        *known.get_mut() = known.get().saturating_add(attempt.count)
                    }
                    Entry::Vacant(place) => {
                        self.bytes += size(&place.key().0);
                        new.push(place.key().clone());
                        place.insert(attempt.count);
                    }
                }
            }
        }
        new
    }

    fn measure(&mut self, attempt: &Attempt<'_, '_>) {
        let record = attempt.record;
        match record.text("event_type") {
            Some("fork") => self.processes = self.processes.saturating_add(attempt.count),
            Some("net_listen" | "net_bind") => {
                self.own_ports.extend(record.uint("src_port").filter(|port| *port != 0));
            }
            Some("net_close") => {
                let here = record
                    .text("dst_ip")
                    .and_then(|text| text.parse::<std::net::IpAddr>().ok())
                    .is_some_and(|address| address.to_canonical().is_loopback());
                let own = |key| record.uint(key).is_some_and(|port| self.own_ports.contains(&port));
                if !(here && (own("src_port") || own("dst_port"))) {
                    self.bytes_sent = self.bytes_sent.saturating_add(record.uint("bytes_out").unwrap_or(0));
                }
            }
            _ => {}
        }
    }

    fn program(&mut self, path: &[u8]) -> Program {
        if let Some(known) = self.by_path.get(path) {
            return *known;
        }
        let new = Program(u32::try_from(self.programs.len()).unwrap_or(u32::MAX));
        self.programs.push(path.to_vec());
        self.by_path.insert(path.to_vec(), new);
        new
    }

    /// A program's path, or [`START`] or [`UNKNOWN`].
    pub fn path(&self, program: Program) -> &[u8] {
        self.programs.get(program.0 as usize).map_or(UNKNOWN, Vec::as_slice)
    }

    /// Adds a deed as a test has it.
    #[cfg(test)]
    pub fn did(&mut self, deed: Deed, by: &[u8], times: u64) {
        let by = self.program(by);
        *self.done.entry((deed, by)).or_default() += times;
    }

    /// How many different ones.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// How many bytes they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// All deeds, who did them, and how often; in no order.
    pub fn all(&self) -> impl Iterator<Item = (&Deed, Program, u64)> {
        self.done.iter().map(|((deed, program), times)| (deed, *program, *times))
    }

    /// How much there was of what can be measured.
    pub fn volume(&self, metric: Metric) -> u64 {
        let paths = |wanted: &[Access]| {
            let paths: HashSet<&[u8]> = self
                .done
                .keys()
                .filter_map(|(deed, _)| match deed {
                    Deed::File(access, path) if wanted.contains(access) => Some(path.as_slice()),
                    _ => None,
                })
                .collect();
            paths.len() as u64
        };
        match metric {
            Metric::Processes => self.processes,
            Metric::FilesWritten => paths(&[Access::Write, Access::Create]),
            Metric::FilesDeleted => paths(&[Access::Delete]),
            Metric::BytesSent => self.bytes_sent,
        }
    }
}

/// Who acts, by the executable.
fn actor(who: &Line) -> &[u8] {
    match who.exe() {
        b"" if who.before().next().is_none() => START,
        b"" => UNKNOWN,
        path => path,
    }
}

/// What a deed takes in memory, about.
fn size(deed: &Deed) -> usize {
    /// An entry of the map without its texts.
    const ENTRY: usize = 128;
    let text = match deed {
        Deed::File(_, path) | Deed::Run(path) | Deed::Reach(Reach::Socket(path)) => path.len(),
        Deed::Reach(Reach::Address { host, .. }) => host.as_ref().map_or(0, String::len),
        Deed::Reach(Reach::Question(name)) => name.len(),
        Deed::Reach(Reach::Other) | Deed::Kernel(_) => 0,
    };
    ENTRY + text
}

/// What was asked as deeds. A new name for a file is told by what is done at both names; and whoever gives a file another
/// name can have from it there what the old one is for.
fn deeds(asked: &Asked<'_>) -> Vec<Deed> {
    match asked {
        Asked::File(accesses, path) => {
            accesses.iter().map(|access| Deed::File(access, path.to_vec())).collect()
        }
        Asked::Run(path) => vec![Deed::Run(path.to_vec())],
        Asked::End(access, end, host) => vec![Deed::Reach(reach(*access, end, *host))],
        Asked::Question(name, _) => {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            vec![Deed::Reach(Reach::Question(name))]
        }
        Asked::Kernel(words) => words.first().map(|word| Deed::Kernel(word)).into_iter().collect(),
        Asked::NewName { old, new, swap, .. } => {
            let names = std::iter::once(old).chain(swap.then_some(new));
            names.map(|name| Deed::File(Access::Read, name.to_vec())).collect()
        }
        Asked::Unjudged(_) => Vec::new(),
    }
}

/// A run, read.
#[derive(Debug)]
pub struct Gathered {
    /// Its id.
    pub id: String,
    /// Who acted, as the record has it.
    pub agent: String,
    /// What the variables of policies stood for.
    pub variables: Variables,
    /// Whether the record counts bytes.
    pub counts_bytes: bool,
    /// What it did.
    pub deeds: Deeds,
    /// What was read, with what the record does not tell.
    pub read: Read,
}

impl Gathered {
    /// Reads a run.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn of(run: &Found) -> Result<Self, ViewError> {
        let mut deeds = Deeds::default();
        let mut read = replay::read_all(run, |attempt| _ = deeds.add(attempt))?;
        let start = Start::of(run)?;
        read.notes.extend(start.note(run));
        Ok(Self {
            id: run.id.clone(),
            counts_bytes: counts_bytes(&start),
            agent: start.agent,
            variables: start.variables,
            deeds,
            read,
        })
    }

    /// How much there was of what can be measured; `None` where the record does not tell.
    pub fn volume(&self, metric: Metric) -> Option<u64> {
        (metric != Metric::BytesSent || self.counts_bytes).then(|| self.deeds.volume(metric))
    }
}

/// Whether connections of a run that began so end with their bytes.
fn counts_bytes(start: &Start) -> bool {
    start.layers.iter().any(|layer| layer == b"trace")
}
