//! Whether what an answer allowed once has happened: the record of the act says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::EventFd;

use crate::event::{Event, EventType, Key, Value};

/// An act that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// Which of those that wait it is.
    pub number: u64,
    /// Who acts.
    pub pid: u32,
    /// From when on, CLOCK_MONOTONIC nanoseconds.
    pub since_ns: u64,
    /// A path of it, or nothing where it is about an address.
    pub path: Option<Vec<u8>>,
}

impl Expected {
    fn is(&self, event: &Event) -> bool {
        let same = |key| matches!((event.get(key), &self.path), (Some(Value::Bytes(a)), Some(b)) if a == b);
        let about = match &self.path {
            Some(_) => [Key::Path, Key::Target, Key::Exe].into_iter().any(same),
            None => matches!(event.event_type, EventType::NetConnect | EventType::NetSend),
        };
        event.process.pid == self.pid && event.mono_ns >= self.since_ns && about
    }
}

/// What the pipeline sees, for who waits for it.
#[derive(Debug)]
pub struct Acted {
    waits: AtomicBool,
    expected: Mutex<Vec<Expected>>,
    seen: Mutex<Vec<u64>>,
    nudge: Arc<EventFd>,
}

impl Acted {
    pub(super) fn new(nudge: Arc<EventFd>) -> Acted {
        Acted { waits: AtomicBool::new(false), expected: Mutex::default(), seen: Mutex::default(), nudge }
    }

    fn expected(&self) -> MutexGuard<'_, Vec<Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one more.
    pub(super) fn expect(&self, expected: Expected) {
        self.expected().push(expected);
        self.waits.store(true, Ordering::Release);
    }

    /// It is not waited for any more.
    pub(super) fn forget(&self, number: u64) {
        let mut expected = self.expected();
        expected.retain(|expected| expected.number != number);
        self.waits.store(!expected.is_empty(), Ordering::Release);
    }

    /// Those that were seen since the last call.
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An event of the run.
    pub fn saw(&self, event: &Event) {
        if !self.waits.load(Ordering::Acquire) {
            return;
        }
        let numbers: Vec<u64> = self
            .expected()
            .iter()
            .filter(|expected| expected.is(event))
            .map(|expected| expected.number)
            .collect();
        if !numbers.is_empty() {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend(numbers);
            let _ = self.nudge.write(1);
        }
    }
}
