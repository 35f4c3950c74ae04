//! What recorded runs asked, as [`policy::learn`] takes it.
//!
//! It reads what a replay reads ([`super::replay`]), so that what is learned from a run is what a replay of it asks.

use std::net::IpAddr;

use policy::learn::{Reach, Seen};
use policy::{Access, End, Owner, Variables};
use rayon::prelude::*;

use super::replay::attempt::Asked;
use super::replay::{self, Attempt, Read};
use super::start::Start;
use super::view::ViewError;
use crate::record::store::Found;

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

/// Reads runs, several at once; they are given back in their order.
///
/// # Errors
/// The log of one cannot be read: of the first that cannot.
pub fn gather_all(runs: &[Found]) -> Result<Vec<Gathered>, ViewError> {
    // Each is read to its end: which error is told depends on no race.
    runs.par_iter().map(gather).collect::<Vec<_>>().into_iter().collect()
}

/// Reads a run.
///
/// # Errors
/// The log cannot be read.
fn gather(run: &Found) -> Result<Gathered, ViewError> {
    let mut seen = Seen::default();
    let mut read = replay::read(run, |attempt| add(&mut seen, attempt))?;
    seen.settle();
    let start = Start::of(run)?;
    read.notes.extend(start.note(run));
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
            Asked::NewName { old, new, swap, tree } => {
                seen.renamed(old, new, *swap);
                if *tree {
                    seen.moved(old, new, *swap);
                }
            }
            Asked::Kernel(words) => seen.kernel(words, by, times),
            // A replay says so; no rule would change it.
            Asked::Unjudged(_) => {}
        }
    }
}

/// The other end of an access as what is learned has it.
pub fn reach(access: Access, end: &End<'_>, host: Option<&str>) -> Reach {
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
