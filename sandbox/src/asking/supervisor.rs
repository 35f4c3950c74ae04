//! The supervisor: a thread of the collector that takes the calls which may be asked about.
//!
//! While a question on a rule is open, other calls of the same rule wait behind it, and are no questions of their own. An
//! answer that allows is about the call that asked (once), or about whatever asks the same (for the run); what waits
//! behind is then looked at again. A denial, and a question that nobody answers in time, deny all that waits.

mod always;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use nix::sys::eventfd::{EfdFlags, EventFd};
use policy::asking::Question;
use policy::asking::{Askable, Inquiry, Permit};
use policy::suggest::narrowest;
use policy::{Owner, Policies, Subject, Variables};

use super::acted::{Acted, Expected};
use super::begin::Begun;
use super::calls::{Calls, Tried, found, may_be_own, with_acts};
use super::desk::{By, Desk, Message};
use super::told::{Told, Verdict, act, is_whole};
use super::{Answer, Command, Open, PolicyFile, filter};
use crate::control::office::{Grant, Lasting, Office, Standing};
use crate::event::judge::Names;
use crate::event::{Event, ProcId};
use crate::inside::notify::Waiting;
use crate::observe::notify::filter::ARCHITECTURES;
use crate::observe::notify::listener::{Call, Listener, Ready};
use crate::observe::notify::task::{self, Tasks, Who};
use crate::record::time;
use crate::terminal::{Bell, Ring};
use always::Always;

/// How long what was allowed once stays open, where no record of the act comes.
const LEASE: Duration = Duration::from_secs(2);

/// How often it is looked whether those that wait still live.
const LOOK: Duration = Duration::from_millis(500);

/// Calls that wait behind questions at most; those beyond it go on, and are denied.
const MOST: usize = 4096;

/// Why nothing is opened.
const ANOTHER: &str = "what is there now is another object than when it was asked about";

/// What a supervisor begins with.
pub struct Start {
    /// What may be asked about.
    pub askable: Askable,
    /// Who is asked, beside people.
    pub command: Option<Command>,
    /// Takes what the run asks its runner (`sandbox why`).
    pub why: Sender<Waiting>,
    /// Who knows names of addresses.
    pub names: Option<Box<dyn Names>>,
    /// The run's first process.
    pub process: ProcId,
    /// What paths in lines for policies are written with.
    pub variables: Variables,
    /// The file of the run's policy, or why answers cannot be written into one.
    pub policy: Result<PolicyFile, String>,
    /// Who puts questions on the run's own terminal.
    pub bell: Option<Bell>,
}

/// A supervisor that is about to serve.
#[derive(Debug)]
pub struct Asking {
    desk: Desk,
    acted: Arc<Acted>,
    messages: Option<Receiver<Message>>,
    nudge: Arc<EventFd>,
    left: Arc<Mutex<Vec<Event>>>,
}

impl Asking {
    /// One that nobody serves yet.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn new() -> io::Result<Asking> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let nudge = Arc::new(event()?);
        let (desk, messages) = Desk::new(Arc::clone(&nudge));
        let acted = Arc::new(Acted::new(Arc::clone(&nudge)));
        Ok(Asking { desk, acted, messages: Some(messages), nudge, left: Arc::default() })
    }

    /// Where questions are listed and answered.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// What wants to see the run's events.
    pub fn acted(&self) -> &Arc<Acted> {
        &self.acted
    }

    /// Begins to serve. Calls that were made meanwhile have waited.
    ///
    /// # Errors
    /// There is no thread, or it serves already.
    pub fn serve(&mut self, begun: Begun, start: Start, office: Arc<Mutex<Office>>) -> io::Result<()> {
        let messages = self.messages.take().ok_or(io::ErrorKind::AlreadyExists)?;
        let standing = office.lock().unwrap_or_else(PoisonError::into_inner).standing();
        let policies = standing.now();
        let work = Work {
            calls: Calls::new(begun.way, start.names),
            listener: begun.listener,
            inquiry: Inquiry::new(&policies, start.askable.clone()),
            policies,
            askable: start.askable,
            command: start.command,
            why: start.why,
            process: start.process,
            variables: start.variables,
            always: Always::new(start.policy),
            standing,
            office,
            tasks: Tasks::new(),
            messages,
            nudge: Arc::clone(&self.nudge),
            desk: self.desk.clone(),
            acted: Arc::clone(&self.acted),
            left: Arc::clone(&self.left),
            open: Vec::new(),
            lent: Vec::new(),
            bell: start.bell,
            rung: Vec::new(),
            number: 0,
            looked: Instant::now(),
            ended: false,
        };
        let work = move || {
            // Without the thread all calls would wait for ever; without the process they fail, and the run is ended.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run())).is_err() {
                std::process::abort();
            }
        };
        std::thread::Builder::new().name("asking".into()).spawn(work)?;
        Ok(())
    }

    /// The run has ended: no question stays open. Gives what the record does not have yet.
    pub fn end(&self) -> Vec<Event> {
        self.desk.end();
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A call that waits.
struct Held {
    id: u64,
    who: Who,
    tried: Vec<Tried>,
}

/// A question that is open.
struct Asked {
    number: u64,
    question: Question,
    first: Held,
    /// What was at the paths of the first when it asked.
    found: Vec<Option<(u64, u64)>>,
    behind: VecDeque<Held>,
    /// Calls that found no room behind it.
    beyond: u64,
    deadline: Instant,
    /// Set when it is answered.
    closed: Arc<AtomicBool>,
}

impl Asked {
    fn calls(&self) -> u64 {
        1 + self.behind.len() as u64 + self.beyond
    }
}

/// What was allowed once, and is open.
struct Lent {
    grant: Grant,
    number: u64,
    until: Instant,
}

/// The thread's own.
struct Work {
    listener: Listener,
    calls: Calls,
    tasks: Tasks,
    /// The policies by which questions are put.
    policies: Arc<Policies>,
    inquiry: Inquiry,
    askable: Askable,
    standing: Standing,
    office: Arc<Mutex<Office>>,
    command: Option<Command>,
    why: Sender<Waiting>,
    process: ProcId,
    variables: Variables,
    always: Always,
    messages: Receiver<Message>,
    nudge: Arc<EventFd>,
    desk: Desk,
    acted: Arc<Acted>,
    left: Arc<Mutex<Vec<Event>>>,
    open: Vec<Asked>,
    lent: Vec<Lent>,
    bell: Option<Bell>,
    /// The questions that were open when it last rang.
    rung: Vec<u64>,
    number: u64,
    looked: Instant,
    ended: bool,
}

impl Work {
    fn run(mut self) {
        loop {
            let timeout = self.timeout();
            let ready = self.listener.wait(&[self.nudge.as_fd()], timeout);
            let _ = self.nudge.read();
            self.hear();
            self.withdraw();
            self.expire();
            match ready {
                Ok(Ready::Call) => self.serve(),
                Ok(Ready::Nothing) => {}
                Ok(Ready::Over) | Err(_) => break,
            }
            self.ring();
        }
        // Who asked has ended; the collector may still want to know what became of it.
        self.close_all(Verdict::End);
        while let Ok(message) = self.messages.recv() {
            self.answer_message(message);
        }
    }

    /// Tells whoever puts questions on the run's terminal that they are others now.
    fn ring(&mut self) {
        let Some(bell) = &self.bell else { return };
        if !self.open.iter().map(|asked| asked.number).eq(self.rung.iter().copied()) {
            self.rung = self.open.iter().map(|asked| asked.number).collect();
            bell.ring(&Ring::Questions);
        }
    }

    fn timeout(&self) -> PollTimeout {
        let deadlines = self.open.iter().map(|asked| asked.deadline.min(self.looked + LOOK));
        let next = deadlines.chain(self.lent.iter().map(|lent| lent.until)).min();
        match next {
            None => PollTimeout::NONE,
            // Rounded up, so as not to spin in the last millisecond.
            Some(next) => {
                let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    fn office(&self) -> MutexGuard<'_, Office> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records events; what the collector does not take any more it finds at the end.
    fn tell(&self, events: Vec<Event>) {
        if self.office().tell(events.clone()).is_err() {
            self.left.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
        }
    }

    /// Takes one call.
    fn serve(&mut self) {
        // A caller that was killed meanwhile has nothing to be let go on.
        let Ok(call) = self.listener.receive() else { return };
        if filter::is_why(call.number, &call.arguments) && self.why.send(Waiting::of(call.id)).is_ok() {
            return;
        }
        let own = call.architecture == ARCHITECTURES[0];
        if let Some(held) = self.read(&call).filter(|_| own && !self.ended) {
            // What was read is the caller's only if the caller still waits.
            if self.listener.is_valid(held.id) {
                return self.judge(held);
            }
            return;
        }
        let _ = self.listener.go_on(call.id);
    }

    fn read(&mut self, call: &Call) -> Option<Held> {
        let (mut who, _) = self.tasks.who(call.tid)?;
        // It may have executed another file since it was seen first.
        who.exe = self.tasks.look_again(who.pid);
        let tried = self.calls.read(call, &who);
        (!tried.is_empty()).then_some(Held { id: call.id, who, tried })
    }

    /// Asks, or lets the call go on to the hook.
    fn judge(&mut self, held: Held) {
        let standing = self.standing.now();
        if !Arc::ptr_eq(&standing, &self.policies) {
            self.inquiry = Inquiry::new(&standing, self.askable.clone());
            self.policies = standing;
        }
        match self.question(&held) {
            Some(question) => self.hold(held, question),
            None => _ = self.listener.go_on(held.id),
        }
    }

    fn question(&self, held: &Held) -> Option<Question> {
        with_subject(&self.inquiry, &held.who, self.process, |subject| {
            let about = |owner| with_acts(&held.tried, owner, |acts| self.inquiry.about(subject, acts));
            let question = about(Owner::Elsewhere).filter(|_| is_whole(&held.tried))?;
            // Whose socket it is the kernel knows: where that may matter, it judges alone.
            if may_be_own(&held.tried) { about(Owner::Run).map(|_| question) } else { Some(question) }
        })
    }

    /// Has a call wait: as a question of its own, or behind the one about the same rules.
    fn hold(&mut self, held: Held, question: Question) {
        let waiting: usize = self.open.iter().map(|asked| 1 + asked.behind.len()).sum();
        if let Some(asked) = self.open.iter_mut().find(|asked| asked.question.rules == question.rules) {
            if waiting < MOST {
                asked.behind.push_back(held);
            } else {
                asked.beyond += 1;
                let _ = self.listener.go_on(held.id);
            }
            return;
        }
        if waiting >= MOST {
            let _ = self.listener.go_on(held.id);
            return;
        }
        self.number += 1;
        let asked = Asked {
            number: self.number,
            deadline: Instant::now() + question.timeout,
            question,
            found: found(&held.tried),
            first: held,
            behind: VecDeque::new(),
            beyond: 0,
            closed: Arc::new(AtomicBool::new(false)),
        };
        let event = self.told(&asked).ask(asked.question.timeout.as_secs());
        self.tell(vec![event]);
        if let Some(command) = &self.command {
            let closed = Arc::clone(&asked.closed);
            command.ask(&shown(&asked), asked.deadline, closed, self.desk.clone());
        }
        self.open.push(asked);
    }

    fn told<'a>(&'a self, asked: &'a Asked) -> Told<'a> {
        Told {
            number: asked.number,
            rules: &asked.question.rules,
            because: asked.question.because.as_deref(),
            pid: asked.first.who.pid,
            exe: asked.first.who.exe.as_deref(),
            tried: &asked.first.tried,
            process: self.process,
            policy: self.always.file().map(|file| file.path.as_path()),
        }
    }

    fn hear(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.answer_message(message);
        }
    }

    fn answer_message(&mut self, message: Message) {
        match message {
            Message::List(to) => _ = to.send(self.open.iter().map(shown).collect()),
            Message::About { number, told } => _ = told.send(self.about(number)),
            Message::Answer { number, answer, by, told } => {
                let settled = self.settle(number, answer, by);
                let _ = told.send(settled);
            }
            Message::End(to) => {
                self.close_all(Verdict::End);
                self.ended = true;
                let _ = to.send(());
            }
        }
    }

    /// An answer has come.
    fn settle(&mut self, number: u64, answer: Answer, by: By) -> Result<String, String> {
        let at = self.open.iter().position(|asked| asked.number == number);
        let Some(at) = at else { return Err(format!("there is no open question {number}")) };
        self.may_last(answer)?;
        let asked = self.open.remove(at);
        asked.closed.store(true, Ordering::Release);
        let about = act(&asked.first.tried);
        let lasting = match answer {
            Answer::Deny => {
                let calls = asked.calls();
                self.deny(asked, Verdict::Given(answer, by), None);
                return Ok(format!("denied: {about} ({calls} calls)"));
            }
            Answer::Once => Lasting::Lent,
            Answer::Run | Answer::Always { .. } => Lasting::Given,
        };
        match self.allow(&asked, answer, by, lasting) {
            Ok(()) => {
                let lines = if answer == Answer::Run { self.lines(&asked.first) } else { Vec::new() };
                if let Answer::Always { sha256 } = answer {
                    self.always.wrote(&sha256);
                }
                for held in asked.behind {
                    // It may be another question now, or none.
                    if self.listener.is_valid(held.id) {
                        self.judge(held);
                    }
                }
                let scope = if lasting == Lasting::Lent { "once" } else { "for this run" };
                let told = format!("allowed {scope}: {about}");
                Ok(match lines.as_slice() {
                    [] => told,
                    lines => format!("{told}\n  in the policy, for later runs:\n  {}", lines.join("\n  ")),
                })
            }
            Err(why) => {
                self.deny(asked, Verdict::Given(Answer::Deny, by), Some(&why));
                Err(format!("denied, since it cannot be opened: {why}"))
            }
        }
    }

    /// The lines that would allow it in later runs.
    fn lines(&self, held: &Held) -> Vec<String> {
        let base = Arc::clone(self.office().base());
        with_subject(&self.inquiry, &held.who, self.process, |subject| {
            with_acts(&held.tried, Owner::Elsewhere, |acts| {
                let pairs = acts.iter().flat_map(|act| base.iter().map(move |policy| (policy, act)));
                let found = pairs.filter_map(|(policy, act)| {
                    let lines = narrowest(policy, subject, act, &self.variables).ok()?;
                    Some(lines.to_string().lines().map(str::to_owned).collect::<Vec<String>>())
                });
                found.flatten().collect()
            })
        })
    }

    /// Opens what a question asked for, then lets its call go on.
    fn allow(&mut self, asked: &Asked, answer: Answer, by: By, lasting: Lasting) -> Result<(), String> {
        let held = &asked.first;
        if !self.listener.is_valid(held.id) {
            return Err("who asked waits no more".to_owned());
        }
        if found(&held.tried) != asked.found {
            return Err(ANOTHER.to_owned());
        }
        let calls = 1;
        let event = self.told(asked).answer(Verdict::Given(answer, by), None, calls);
        let grant = {
            let mut office = self.office();
            let base = Arc::clone(office.base());
            let permit = with_subject(&self.inquiry, &held.who, self.process, |subject| {
                with_acts(&held.tried, Owner::Elsewhere, |acts| {
                    Permit::new(&base, &self.askable, subject, acts)
                })
            });
            let permit = permit.ok_or("no rule can name it")?;
            let grant = office.open(permit, lasting, vec![event])?;
            // From now on the hooks let nothing closed be moved to where this is. What was moved before is found here.
            if found(&held.tried) != asked.found {
                office.withdraw(grant)?;
                return Err(ANOTHER.to_owned());
            }
            grant
        };
        if lasting == Lasting::Lent {
            let path = held.tried.iter().find_map(|tried| match tried {
                Tried::File { path, .. } | Tried::Exec { path } | Tried::Socket { path, .. } => {
                    Some(path.clone())
                }
                Tried::Address { .. } => None,
            });
            let (number, pid, since_ns) = (asked.number, held.who.pid, time::mono_now_ns());
            self.acted.expect(Expected { number, pid, since_ns, path });
            self.lent.push(Lent { grant, number, until: Instant::now() + LEASE });
        }
        let _ = self.listener.go_on(held.id);
        Ok(())
    }

    /// Lets all that wait at a question go on to the hook, which denies them.
    fn deny(&mut self, asked: Asked, verdict: Verdict, why: Option<&str>) {
        asked.closed.store(true, Ordering::Release);
        let event = self.told(&asked).answer(verdict, why, asked.calls());
        self.tell(vec![event]);
        for held in std::iter::once(&asked.first).chain(&asked.behind) {
            let _ = self.listener.go_on(held.id);
        }
    }

    fn close_all(&mut self, verdict: Verdict) {
        for asked in std::mem::take(&mut self.open) {
            self.deny(asked, verdict, None);
        }
    }

    /// Closes what was open for one call that has been made, or was to be made long ago.
    fn withdraw(&mut self) {
        if self.lent.is_empty() {
            return;
        }
        let (seen, now) = (self.acted.take(), Instant::now());
        let over = |lent: &Lent| seen.contains(&lent.number) || lent.until <= now;
        let (over, lent): (Vec<Lent>, Vec<Lent>) = std::mem::take(&mut self.lent).into_iter().partition(over);
        self.lent = lent;
        for Lent { grant, number, .. } in over {
            self.acted.forget(number);
            // Where it cannot be closed the run is ended.
            let _ = self.office().withdraw(grant);
        }
    }

    /// Denies what nobody answered in time, and forgets what nobody waits for.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.looked + LOOK <= now {
            self.looked = now;
            self.look();
        }
        while let Some(at) = self.open.iter().position(|asked| asked.deadline <= now) {
            let asked = self.open.remove(at);
            self.deny(asked, Verdict::Timeout, None);
        }
    }

    /// Whether those that asked still wait.
    fn look(&mut self) {
        for asked in &mut self.open {
            asked.behind.retain(|held| self.listener.is_valid(held.id));
        }
        while let Some(at) = self.open.iter().position(|asked| !self.listener.is_valid(asked.first.id)) {
            let mut asked = self.open.remove(at);
            let behind = std::mem::take(&mut asked.behind);
            self.deny(asked, Verdict::Withdrawn, None);
            for held in behind {
                self.judge(held);
            }
        }
    }
}

/// Asks `judge` about a process of the run that began with `first`. Its ancestors are those that are there.
fn with_subject<T>(inquiry: &Inquiry, who: &Who, first: ProcId, judge: impl FnOnce(&Subject<'_>) -> T) -> T {
    let exe = who.exe.as_deref().unwrap_or_default();
    let ancestors = if inquiry.by_ancestors() { task::ancestors(who.pid, first.pid) } else { Vec::new() };
    let ancestors: Vec<&[u8]> = ancestors.iter().map(AsRef::as_ref).collect();
    judge(&Subject { exe, ancestors: &ancestors })
}

/// A question, for people.
fn shown(asked: &Asked) -> Open {
    let left = asked.deadline.saturating_duration_since(Instant::now());
    Open {
        number: asked.number,
        rules: asked.question.rules.iter().map(|rule| rule.as_str().to_owned()).collect(),
        because: asked.question.because.clone(),
        pid: asked.first.who.pid,
        program: String::from_utf8_lossy(asked.first.who.exe.as_deref().unwrap_or_default()).into_owned(),
        act: act(&asked.first.tried),
        waiting: asked.calls() - asked.beyond,
        seconds_left: left.as_secs(),
    }
}
