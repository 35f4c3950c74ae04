//! The denials of a run that goes on, shared between the collector and who explains them inside the run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Denials, LIVE};
use crate::event::{Action, Event};

/// Written by the collector alone.
#[derive(Debug)]
pub struct Live {
    denials: Mutex<Denials>,
    looks: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        Live { denials: Mutex::new(Denials::new(LIVE)), looks: AtomicU64::new(0) }
    }
}

impl Live {
    /// Takes a judged event.
    pub fn add(&self, event: &Event) {
        if matches!(event.action, Action::Blocked | Action::WouldBlock) {
            self.denials().add(event);
        }
    }

    /// What was denied so far. Whoever holds it for long holds up the record.
    pub fn denials(&self) -> MutexGuard<'_, Denials> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts that everything was taken from the ring.
    pub fn looked(&self) {
        self.looks.fetch_add(1, Ordering::Release);
    }

    /// How often everything was taken. What was denied before a call is among the denials once this has risen by
    /// two since: one look may have been under way.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }
}
