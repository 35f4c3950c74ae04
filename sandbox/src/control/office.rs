//! What holds in a run that goes on: the policies, and what answers to questions opened in them.
//!
//! Whoever changes either goes through here, one at a time: who applies policies (`sandbox policy apply`), and who answers
//! ([`crate::asking`]). What an answer opened stays what it is when policies are applied: it opens only the policies that
//! were asked about, in the very text that they had.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use policy::asking::Permit;
use policy::{Policies, Policy};
use tokio::sync::mpsc::Sender;

use super::Applied;
use super::change::{Beginning, Change, Peer, Prepared, Ways, prepare};
use crate::enforce::lsm::Force;
use crate::event::Event;
use crate::record::store::RunDir;
use crate::sensor::Terms;

/// Bytes of tables that answers may take in a run: the kernel keeps what once held for as long as the run lives.
const ROOM: usize = 256 << 20;

/// What the collector is to do.
#[derive(Debug)]
pub enum What {
    /// Put policies in force.
    Apply(Box<Change>),
    /// Record questions and answers, then put in force what they open, if anything.
    Answer(Vec<Event>, Option<Box<Change>>),
    /// End the run: something that must hold does not any more.
    End(String),
}

/// Work for the collector, and where to say what came of it: nothing, or why it was not done.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub what: What,
    /// Who waits for the answer.
    pub answer: SyncSender<Result<(), String>>,
}

const OVER: &str = "the run has just ended";
const FULL: &str = "this run has no room for more answers";

/// The policies by which questions are put: those that hold, with what was opened for the rest of the run.
#[derive(Clone, Debug)]
pub struct Standing(Arc<Mutex<Arc<Policies>>>);

impl Standing {
    fn new(policies: Arc<Policies>) -> Self {
        Standing(Arc::new(Mutex::new(policies)))
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Policies> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, policies: Arc<Policies>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = policies;
    }
}

/// How long an answer opens something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// Until it is withdrawn.
    Lent,
    /// For the rest of the run.
    Given,
}

/// What an answer opened, for [`Office::withdraw`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant(u64);

struct Opened {
    grant: Grant,
    lasting: Lasting,
    permit: Permit,
}

/// The policies of a run, and who may change them.
pub struct Office {
    dir: RunDir,
    /// Without what answers opened.
    base: Arc<Policies>,
    opened: Vec<Opened>,
    /// The runner's own, which came later.
    kept: Vec<Policy>,
    beginning: Beginning,
    terms: Terms,
    changes: Sender<Request>,
    standing: Standing,
    /// Bytes of tables that answers have taken.
    taken: usize,
    grants: u64,
}

impl Office {
    /// Of a run that begins with `policies`; what is to be done comes out of `changes`, one at a time.
    pub fn new(
        dir: RunDir,
        policies: Policies,
        beginning: Beginning,
        terms: Terms,
        changes: Sender<Request>,
    ) -> Office {
        let base = Arc::new(policies);
        let standing = Standing::new(Arc::clone(&base));
        let (opened, kept) = (Vec::new(), Vec::new());
        Office { dir, base, opened, kept, beginning, terms, changes, standing, taken: 0, grants: 0 }
    }

    /// The policies by which questions are put, for whoever puts them.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// The policies without what answers opened.
    pub fn base(&self) -> &Arc<Policies> {
        &self.base
    }

    /// Whether the policies are those that the run began with.
    pub fn is_as_it_began(&self) -> bool {
        self.base.effective_yaml() == self.beginning.policies.effective_yaml()
    }

    /// Holds one of the runner's own beside them, from now on; it is in force when this returns.
    ///
    /// # Errors
    /// Why not; nothing has changed.
    pub fn keep(&mut self, policy: Policy) -> Result<(), String> {
        if self.taken >= ROOM {
            return Err(FULL.to_owned());
        }
        self.kept.push(policy);
        let changed = self.put(self.force(), Vec::new()).and_then(|()| self.last());
        match &changed {
            Ok(()) => self.show(),
            Err(_) => _ = self.kept.pop(),
        }
        changed
    }

    /// Puts other policies in force.
    ///
    /// # Errors
    /// Why not; those before still hold.
    pub fn apply(&mut self, given: &Policies, widen: bool, peer: Peer) -> Result<Applied, String> {
        let (opened, kept) = (&self.opened, &self.kept);
        let open = |policies: &Policies| with(opened, kept, policies, |_| true);
        let ways = Ways { in_force: &self.base, beginning: &self.beginning, run_dir: &self.dir, open: &open };
        let (base, change) = match prepare(given, widen, peer, &ways, &mut self.terms)? {
            Prepared::Change(base, change) => (base, change),
            Prepared::Nothing(applied) => return Ok(applied),
        };
        let mut applied = change.applied.clone();
        let adopted = change.planned.successor();
        let change = Box::new(Change { force: self.force(), ..*change });
        self.send(What::Apply(change))?;
        self.base = Arc::new(base);
        self.terms.adopt(adopted);
        self.last()?;
        self.show();
        // Names that were made between the first look and the change.
        let list: Vec<&Policy> = self.base.iter().collect();
        if let Err(error) = self.terms.mark(&list) {
            applied.notes.push(format!("files may have other names that are not denied: {error}"));
        }
        if widen && let Err(error) = self.terms.forget_earlier_marks() {
            applied.notes.push(format!("files may still be denied by their other names: {error}"));
        }
        Ok(applied)
    }

    /// Records `events` and opens what an answer allows; it is in force when this returns.
    ///
    /// # Errors
    /// Why not; nothing was opened. What was recorded is.
    pub fn open(&mut self, permit: Permit, lasting: Lasting, events: Vec<Event>) -> Result<Grant, String> {
        if self.taken >= ROOM {
            return Err(FULL.to_owned());
        }
        self.grants += 1;
        let grant = Grant(self.grants);
        self.opened.push(Opened { grant, lasting, permit });
        let changed = match lasting {
            // What lasts is what it was.
            Lasting::Lent => self.put(Force::Now, events),
            Lasting::Given => self.put(self.force(), events).and_then(|()| self.last()),
        };
        match changed {
            Ok(()) => {
                self.show();
                Ok(grant)
            }
            Err(why) => {
                self.opened.retain(|opened| opened.grant != grant);
                Err(why)
            }
        }
    }

    /// Closes what an answer opened; it is closed when this returns.
    ///
    /// # Errors
    /// It may still be open: then the run is ended, or over.
    pub fn withdraw(&mut self, grant: Grant) -> Result<(), String> {
        self.opened.retain(|opened| opened.grant != grant);
        let changed = self.put(self.force(), Vec::new());
        if let Err(why) = &changed {
            let _ = self.send(What::End(format!("what an answer opened once cannot be closed again: {why}")));
        }
        changed
    }

    /// Records events that open nothing.
    ///
    /// # Errors
    /// The run is over, or its record cannot go on.
    pub fn tell(&self, events: Vec<Event>) -> Result<(), String> {
        self.send(What::Answer(events, None))
    }

    /// Where a change belongs: while something is open for a moment, what lasts is put in force by itself
    /// ([`Office::last`]).
    fn force(&self) -> Force {
        if self.opened.iter().any(|opened| opened.lasting == Lasting::Lent) {
            Force::Now
        } else {
            Force::Whole
        }
    }

    /// Puts in force what lasts, where something is open for a moment: a new name that stays must not open what that does.
    fn last(&mut self) -> Result<(), String> {
        if self.force() == Force::Whole {
            return Ok(());
        }
        let put = self.put(Force::Lasting, Vec::new());
        if let Err(why) = &put {
            let _ =
                self.send(What::End(format!("what holds for the rest of it cannot be put in force: {why}")));
        }
        put
    }

    /// Puts the policies in force as they now are: with all that is open, or with what is open for the rest of the run.
    fn put(&mut self, force: Force, events: Vec<Event>) -> Result<(), String> {
        let meant = |opened: &Opened| force != Force::Lasting || opened.lasting == Lasting::Given;
        let policies = with(&self.opened, &self.kept, &self.base, meant);
        let list: Vec<&Policy> = policies.iter().collect();
        let planned = self.terms.plan(&list).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        let (adopted, bytes) = (planned.successor(), planned.bytes());
        let applied = Applied::default();
        let peer = Peer { pid: std::process::id(), uid: nix::unistd::getuid().as_raw() };
        let (policies, marks) = (Arc::new(policies), self.terms.marks());
        let change = Change { policies, planned, force, marks, applied, peer, widen: false };
        self.taken += bytes;
        self.send(What::Answer(events, Some(Box::new(change))))?;
        self.terms.adopt(adopted);
        Ok(())
    }

    fn show(&self) {
        let given = |opened: &Opened| opened.lasting == Lasting::Given;
        self.standing.set(Arc::new(with(&self.opened, &self.kept, &self.base, given)));
    }

    fn send(&self, what: What) -> Result<(), String> {
        let (answer, wait) = sync_channel(1);
        self.changes.blocking_send(Request { what, answer }).map_err(|_| OVER)?;
        wait.recv().unwrap_or_else(|_| Err(OVER.to_owned()))
    }
}

/// The policies with what of `opened` is `meant`, and with what is `kept` beside them.
fn with(
    opened: &[Opened],
    kept: &[Policy],
    policies: &Policies,
    meant: impl Fn(&Opened) -> bool + Copy,
) -> Policies {
    let permits = opened.iter().filter(|opened| meant(opened)).map(|opened| &opened.permit);
    kept.iter().cloned().fold(Permit::apply(permits, policies), Policies::and)
}
