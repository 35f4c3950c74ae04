//! The stage that resolves names, wired to the machine and to the ring.
//!
//! Only where tracepoints alone watch: hooks are told objects, and `notify` looks before the call runs.

use std::collections::VecDeque;

use super::{BATCH, Intake};
use crate::event::{
    ProcId,
    decode::Decoded,
    resolve::{Resolver, World},
};
use crate::observe::look::{Place, Seen};
use crate::record::time;

/// Records that are taken beside a batch at most, while its names are resolved.
const BESIDE_MAX: usize = 16 * BATCH;

/// Resolves names of one run.
#[derive(Debug)]
pub(super) struct Paths {
    resolver: Resolver,
    /// The run's root and mounts; none where they could not be looked at.
    place: Option<Place>,
}

impl Paths {
    /// For the run whose first process is `pid`, which has all its mounts.
    pub fn of(pid: u32) -> Paths {
        Paths { resolver: Resolver::default(), place: Place::of(pid).ok() }
    }

    /// Resolves the names in `events`; what comes meanwhile stands behind them.
    pub fn resolve(&mut self, events: &mut Vec<Decoded>, intake: &mut Intake<'_>) {
        self.resolver.resolve(events, &mut Machine { place: self.place.as_ref(), intake, beside: 0 });
    }

    /// Events were lost.
    pub fn lost(&mut self) {
        self.resolver.lost();
    }
}

/// The machine, and the ring.
struct Machine<'a, 'i> {
    place: Option<&'a Place>,
    intake: &'a mut Intake<'i>,
    /// Records that were taken so far.
    beside: usize,
}

impl World for Machine<'_, '_> {
    fn look(&mut self, path: &[u8], wall_ns: i64) -> Seen {
        self.place.map_or(Seen::Unknown, |place| place.look(path, wall_ns))
    }

    fn at_home(&mut self, process: ProcId) -> Option<bool> {
        self.place.and_then(|place| place.is_root_of(process.pid))
    }

    fn now_ns(&self) -> u64 {
        time::mono_now_ns()
    }

    fn more(&mut self, to: &mut VecDeque<Decoded>) -> bool {
        let mut come = Vec::new();
        while self.beside < BESIDE_MAX {
            let taken = self.intake.take(&mut come);
            self.beside += taken;
            if taken < BATCH {
                to.extend(come);
                return true;
            }
        }
        to.extend(come);
        false
    }

    fn in_flight(&self, is: &dyn Fn(&[u8]) -> bool) -> bool {
        self.intake.decoder.in_flight(is)
    }
}
