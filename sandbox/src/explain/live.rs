//! The denials of a run that goes on and the policies that it has, shared between the collector and who explains
//! them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::Policies;

use super::{Denials, LIVE};
use crate::event::{Action, Event};

/// Written by the collector alone.
#[derive(Debug)]
pub struct Live {
    denials: Mutex<Denials>,
    policies: Mutex<Option<Arc<Policies>>>,
    looks: AtomicU64,
}

impl Live {
    /// Nothing was denied yet.
    pub fn new(policies: Option<Policies>) -> Self {
        Live {
            denials: Mutex::new(Denials::new(LIVE)),
            policies: Mutex::new(policies.map(Arc::new)),
            looks: AtomicU64::new(0),
        }
    }

    /// The policies that hold now, if there are any.
    pub fn policies(&self) -> Option<Arc<Policies>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these hold.
    pub fn now_hold(&self, policies: Arc<Policies>) {
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = Some(policies);
    }

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
