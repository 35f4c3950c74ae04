//! What recorded runs asked, as [`policy::learn`] takes it.
//!
//! It reads what a replay reads ([`super::replay`]), so that what is learned from a run is what a replay of it asks.

use std::net::IpAddr;

use audit_verify::canonical::Record;
use policy::learn::{Reach, Seen};
use policy::{Access, End, Owner, Variables};

use super::replay::attempt::Asked;
use super::replay::{self, Attempt, Read};
use super::view::{ViewError, log_error};
use crate::record::LOG;
use crate::record::lines::Lines;
use crate::record::store::{Found, open_regular};

/// A run, as far as a policy can be learned from it.
#[derive(Debug)]
pub struct Gathered {
    /// What it asked.
    pub seen: Seen,
    /// What the variables of policies stood for.
    pub variables: Variables,
    /// Its command.
    pub command: Vec<Vec<u8>>,
    /// What was read, with what the record does not tell.
    pub read: Read,
}

/// Reads a run.
///
/// # Errors
/// The log cannot be read.
pub fn gather(run: &Found) -> Result<Gathered, ViewError> {
    let mut seen = Seen::default();
    let mut read = replay::read(run, |attempt| add(&mut seen, attempt))?;
    let start = Start::of(run)?;
    if start.variables.get("WORKSPACE").is_none() {
        read.notes
            .push(format!("{}: the record names no workspace: its paths are taken as they are", run.id));
    }
    Ok(Gathered { seen, variables: start.variables, command: start.command, read })
}

fn add(seen: &mut Seen, attempt: &Attempt<'_, '_>) {
    let by = attempt.who.exe();
    let times = attempt.count;
    for asked in attempt.asked {
        match asked {
            Asked::File(accesses, path) => seen.file(*accesses, path, by, times),
            Asked::Run(path) => seen.executed(path, by, times),
            Asked::End(access, end, host) => {
                seen.reached(Some(*access), reach(*access, end, *host), by, times);
            }
            Asked::Question(name, _) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                seen.reached(None, Reach::Question(name), by, times);
            }
            Asked::NewName { old, new, swap } => seen.renamed(old, new, *swap),
            Asked::Kernel(words) => seen.kernel(words, by, times),
            // A replay says so; no rule would change it.
            Asked::Unjudged(_) => {}
        }
    }
}

fn reach(access: Access, end: &End<'_>, host: Option<&str>) -> Reach {
    match *end {
        End::Address { address, port, protocol, owner, .. } => Reach::Address {
            address: unmapped(address),
            port,
            protocol,
            host: host.map(str::to_owned),
            own: owner == Owner::Run,
            listens: matches!(access, Access::Bind | Access::Listen),
        },
        End::Path(path) => Reach::Socket(path.to_vec()),
        End::Abstract(name) => Reach::Socket([b"@", name].concat()),
        End::Other => Reach::Other,
    }
}

fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// What the first line says.
#[derive(Debug, Default)]
struct Start {
    variables: Variables,
    command: Vec<Vec<u8>>,
}

impl Start {
    fn of(run: &Found) -> Result<Self, ViewError> {
        let path = run.path.join(LOG);
        let file = open_regular(&path).map_err(|error| log_error("open", &path, error))?;
        let mut lines = Lines::new(file, 0);
        let mut start = Self::default();
        let Some(line) = lines.next_line().map_err(|error| log_error("read", &path, error))? else {
            return Ok(start);
        };
        let Ok(record) = Record::parse(line.text) else { return Ok(start) };
        if record.text("event_type") != Some("run_start") {
            return Ok(start);
        }
        start.command = record.list("command").unwrap_or_default().to_vec();
        for entry in record.list("variables").unwrap_or_default() {
            let Some(at) = entry.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&entry[..at], &entry[at + 1..]);
            // A record may be anybody's: what is none of a run's variables is no variable.
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let _ = match name {
                "WORKSPACE" => start.variables.set_workspace(value),
                name => start.variables.set(name, value),
            };
        }
        Ok(start)
    }
}
