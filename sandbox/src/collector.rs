//! The collector: the process that keeps the pipeline going until the run is over.
//!
//! It runs in a session of its own, on one thread; the recorder's threads and the heartbeat are its helpers.
//! It decides when a run is over and whether its log may be sealed: only after an end that was seen whole.
//! What flows through the pipeline is no concern of its.

mod apart;
mod begin;
mod child;
mod end;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use begin::Asked;
use end::{End, ends_run, run_end, verdict};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use sandbox_ebpf::abi::ABI_VERSION;

use crate::baseline::watch::WatchError;
use crate::control::{self, serve::Request};
use crate::enforce::lsm::Lease;
use crate::event::ProcId;
use crate::evidence::WorkspaceError;
use crate::exit::Exit;
use crate::explain::{self, Remedies};
use crate::inside::answer;
use crate::kernel::{bpf, object::ObjectError};
use crate::launch::cgroup::Cgroup;
use crate::launch::descendants::Below;
use crate::launch::ender::Ender;
use crate::launch::ending::{Membership, Patience, Tree, end_tree};
use crate::launch::existing::Unsettled;
use crate::launch::guardian::{HEARTBEAT, OnFailure};
use crate::launch::handshake::{
    Armed, Channel, FromCollector, FromFrontEnd, FromGuardian, Received, Summary, ToChild, ToGuardian,
};
use crate::launch::plan::{Mode, Parentage, RunPlan};
use crate::launch::process::{Process, Stat};
use crate::launch::readiness::readable;
use crate::launch::{CollectorLinks, Roles, background, descendants};
use crate::names::{self, Names, NamesError};
use crate::pipeline::{Pipeline, PipelineError};
use crate::record::keys::KeysError;
use crate::record::{OnLogError, RecordError, Recorder, anchor::AnchorReport};
use crate::sensor::{self, Sensor, SensorError, Terms};

/// What the processes of a run do in this program.
pub const ROLES: Roles = Roles { arm, collect, lease_from };

/// How often the collector looks into a ring that is not full enough to wake it, whether the log can still be
/// written, and whether a run without front-end still has processes.
const LOOK: Duration = Duration::from_millis(50);

/// Batches taken from the ring before the collector looks at what else happens.
const BATCHES_A_TURN: usize = 16;

/// How long the end of an enforced run may take before its log is closed. Enforcement goes on after it, held
/// by the guardian, until the last process is dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// In the child: become a member of the run.
fn arm(program: BorrowedFd<'_>) -> io::Result<()> {
    match bpf::run_program(program, &[u64::from(sensor::SLOT)])? {
        ABI_VERSION => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// In the guardian: who is a member.
fn lease_from(fds: Vec<OwnedFd>) -> Option<Box<dyn Membership>> {
    Some(Box::new(Lease::from_fds(sensor::SLOT, fds)?))
}

/// Why the run cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the command's process ended before it was armed")]
    ChildGone,
    #[error("the command's process cannot be put into its namespaces: {0}")]
    NotApart(String),
    #[error("there is nobody to end the run at one stroke: {0}")]
    NotGuarded(String),
    #[error("cannot make the command's process a member of the run")]
    Arm(#[source] io::Error),
    #[error("the mountns layer does not hold: {0}")]
    Cover(String),
    #[error(transparent)]
    Existing(#[from] Unsettled),
    #[error("cannot observe the command by its calls (`notify`)")]
    Supervise(#[source] io::Error),
    #[error("cannot talk to the {peer}")]
    Peer { peer: &'static str, source: io::Error },
    #[error("cannot {step}")]
    System { step: &'static str, source: io::Error },
    #[error(transparent)]
    Sensor(#[from] SensorError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Names(#[from] NamesError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// The collector's process, from fork to exit status.
fn collect(plan: &RunPlan, links: CollectorLinks) -> i32 {
    let keep = [
        links.front.as_fd(),
        links.child.as_fd(),
        links.guardian.as_fd(),
        links.front_process.as_fd(),
        links.child_process.as_fd(),
    ];
    let keep: Vec<_> = keep.into_iter().chain(plan.descriptors()).collect();
    let detached = background::detach(c"sandbox-collect", &keep);
    let front = Arc::new(links.front);
    tell_panics(&front);
    let started = detached
        .map_err(|source| StartError::System { step: "detach the collector", source })
        .and_then(|()| start(plan, &links.child, links.guardian, &links.child_process));
    let collector = match started {
        Ok((collector, notes)) => {
            // Behind the self-tests, whose children must be looked into.
            background::close_to_others();
            if front.send(&FromCollector::Ready { notes }).is_err() {
                return 1;
            }
            collector
        }
        Err(error) => {
            let message = format!("{:#}", anyhow::Error::new(error));
            let _ = front.send(&FromCollector::Refused { exit: Exit::CANNOT_START.code(), message });
            return 1;
        }
    };
    // From here on the child's socket would only hide when it is closed.
    drop(links.child);
    collector.run(plan, &front, &links.front_process, links.child_process)
}

/// A collector has no stderr; what made it panic goes to the user with the front-end.
fn tell_panics(front: &Arc<Channel<FromCollector, FromFrontEnd>>) {
    let front = Arc::clone(front);
    std::panic::set_hook(Box::new(move |panic| {
        let _ = front.send(&FromCollector::Failed { message: panic.to_string() });
    }));
}

struct Collector {
    recorder: Recorder,
    pipeline: Pipeline,
    lease: Option<Arc<Lease>>,
    /// Policies to put in force; `None` where nobody listens for any.
    changes: Option<mpsc::Receiver<Request>>,
    guardian: Arc<Channel<ToGuardian, FromGuardian>>,
    /// Who ends the run where neither hooks nor a control group do.
    ender: Option<Ender>,
    /// Why the guardian no longer guards, if it does not.
    guardian_failed: Option<String>,
    process: ProcId,
    started: Instant,
}

/// Everything up to the point where the command may start.
fn start(
    plan: &RunPlan,
    child: &Channel<ToChild, Armed>,
    guardian: Channel<ToGuardian, FromGuardian>,
    child_process: &Process,
) -> Result<(Collector, Vec<String>), StartError> {
    let changes = begin::changes(plan)?;
    let judging = begin::judging(plan);
    let group = plan.cgroup.as_ref().map(Cgroup::directory);
    // The root of a user namespace has none of the machine's capabilities.
    let (limits, root) = (&plan.limits, plan.target.uid == 0 && sensor::rules_the_machine());
    let request = sensor::Request {
        layers: &plan.layers,
        required: &plan.required,
        judging,
        group,
        limits,
        fence: plan.fence.as_ref(),
        kept: &plan.kept,
        tmp: plan.tmp.as_ref(),
        standard: &plan.standard,
        root,
    };
    let (mut sensor, terms) = Sensor::start(request)?;
    let mut notes = sensor.notes();
    let changes = changes.map(|(changes, note)| {
        notes.push(note);
        changes
    });
    let ender = sensor.wants_ender().then(|| apart::guard(child)).transpose()?;
    let inside = apart::enter(child, sensor.namespaces())?;
    let asked = begin::arm(child, &mut sensor, matches!(plan.mode, Mode::Enforce(..)))?;
    // Behind the covers: what they close stays closed wherever it is moved from now on.
    plan.expanded.check()?;
    sensor.admit(child_process.pid())?;
    let process = ProcId { pid: child_process.pid(), start_ns: 0 };
    let dir = plan
        .run_dir
        .try_clone()
        .map_err(|source| StartError::System { step: "hold the run directory", source })?;
    let policy = begin::store_policy(plan)?;
    let start = begin::run_start(plan, process, policy, &sensor);
    let recorder = Recorder::begin(
        dir,
        &plan.agent_id,
        &start,
        begin::record_settings(plan),
        begin::attestation(plan, &sensor)?,
    )?;
    let guardian = Arc::new(guardian);
    guardian
        .send_with(&ToGuardian::Watch, &sensor.lease_fds()?)
        .map_err(|source| StartError::Peer { peer: "guardian", source })?;
    let stand_in = sensor.stand_in_fds();
    if !stand_in.is_empty() {
        guardian
            .send_with(&ToGuardian::StandIn, &stand_in)
            .map_err(|source| StartError::Peer { peer: "guardian", source })?;
    }
    if let Some(ender) = &ender {
        guardian
            .send_with(&ToGuardian::Ender { pid: ender.process().pid() }, &ender.descriptors())
            .map_err(|source| StartError::Peer { peer: "guardian", source })?;
    }
    beat(&guardian).map_err(|source| StartError::System { step: "start the heartbeat", source })?;
    let lease = sensor.lease().map_err(|source| StartError::System { step: "hold the programs", source })?;
    let lease = lease.map(Arc::new);
    let (inside, relay) = inside.map(|inside| apart::begin(inside, plan)).transpose()?.unzip();
    let names = match (plan.mode.policies(), sensor.asked().cloned()) {
        _ if inside.is_some() => inside,
        (Some(policies), Some(plan)) => Some(names::start(&sensor, plan, policies)?),
        _ if sensor.hears_answers() => Some(Names::of_watched(plan.mode.policies())?),
        _ => None,
    };
    let watch = begin::watch(plan, process, &sensor)?;
    let pipeline = Pipeline::new(sensor, &plan.mode, terms.marks(), names, (process, plan.cgroup.clone()))
        .with_relay(relay)
        .with_changes(changes)
        .with_watch(watch);
    let changes = match control(plan, terms, lease.clone()) {
        Ok(changes) => changes,
        Err(error) => {
            notes.push(format!("`sandbox policy apply` cannot reach this run: {error}"));
            None
        }
    };
    if let Mode::Enforce(..) = &plan.mode {
        let denials = Arc::clone(pipeline.denials());
        let answering = match asked {
            Asked::Heard(listener) => answer::start(listener, denials),
            Asked::Handed(listener, questions) => answer::start_handed(listener, questions, denials),
            Asked::Nowhere => Err(io::Error::other("the kernel gives no listener; it gives one only")),
        };
        if let Err(error) = answering {
            notes.push(format!("`sandbox why` will not answer inside this run: {error}"));
        }
    }
    let started = Instant::now();
    let guardian_failed = None;
    let collector =
        Collector { recorder, pipeline, lease, changes, guardian, ender, guardian_failed, process, started };
    Ok((collector, notes))
}

/// Begins to hear who applies policies, where the run has some.
fn control(
    plan: &RunPlan,
    terms: Terms,
    lease: Option<Arc<Lease>>,
) -> io::Result<Option<mpsc::Receiver<Request>>> {
    let Some(policies) = plan.mode.policies() else { return Ok(None) };
    let run = control::serve::Run {
        dir: plan.run_dir.try_clone()?,
        variables: plan.variables.clone(),
        uid: plan.target.uid,
        cgroup: plan.cgroup.clone(),
        lease,
        policies: policies.clone(),
        law: matches!(plan.mode, Mode::Enforce(..)),
        guard: plan.guard.clone(),
        terms,
    };
    let (send, changes) = mpsc::channel(1);
    control::serve::start(run, send)?;
    Ok(Some(changes))
}

/// Says every 200 ms that this process is neither dead nor stopped. A thread of its own, because a slow disk
/// may hold up the collector for longer, and that is no reason to end a run.
fn beat(guardian: &Arc<Channel<ToGuardian, FromGuardian>>) -> io::Result<()> {
    let guardian = Arc::clone(guardian);
    std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
        while guardian.send(&ToGuardian::Beat).is_ok() {
            std::thread::sleep(HEARTBEAT);
        }
    })?;
    Ok(())
}

impl Collector {
    /// From the go message to the summary.
    fn run(
        mut self,
        plan: &RunPlan,
        front: &Channel<FromCollector, FromFrontEnd>,
        front_process: &Process,
        child: Process,
    ) -> i32 {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = front.send(&FromCollector::Failed { message: format!("no event loop: {error}") });
                return 1;
            }
        };
        let mut end = match runtime.block_on(self.watch(plan, front, front_process, &child)) {
            Ok(end) => end,
            Err(error) => End::Log(format!("the collector's event loop failed: {error}")),
        };
        if plan.on_failure() == OnFailure::LetGo && end == End::FrontEndDied {
            end = self.outlive(plan, &child);
        }
        let summary = self.finish(plan, &end, front, &child);
        if plan.parentage == Parentage::Collector {
            // Whoever ended it, the front-end hears how before it hears that all is over.
            child::tell(front, &child);
        }
        // The guardian first: the front-end's end must find it released.
        if summary.unsealed.is_none() || plan.on_failure() == OnFailure::LetGo {
            let _ = self.guardian.send(&ToGuardian::Release);
        }
        let told = front.send(&FromCollector::Summary(summary)).is_ok();
        if let Some(cgroup) = plan.cgroup.as_ref().filter(|_| !told) {
            // The front-end would have done it.
            cgroup.remove(LOOK);
            plan.limits.remove(LOOK);
        }
        // The front-end waits for this word: what it reports then is there to be read. For the end of this process it
        // does not wait: the kernel takes about a tenth of a second for each hook that is taken off.
        match self.recorder.finish_index() {
            Ok(_) => {
                let _ = front.send(&FromCollector::Complete);
                0
            }
            Err(error) => {
                let _ = front.send(&FromCollector::Failed { message: error.to_string() });
                1
            }
        }
    }

    /// Waits for the end of the run.
    async fn watch(
        &mut self,
        plan: &RunPlan,
        front: &Channel<FromCollector, FromFrontEnd>,
        front_process: &Process,
        child: &Process,
    ) -> io::Result<End> {
        let guardian = Arc::clone(&self.guardian);
        let front_ready = readable(front.as_fd())?;
        let guardian_ready = readable(guardian.as_fd())?;
        let front_ended = readable(front_process.as_fd())?;
        let ring = self.pipeline.sensor().ready()?;
        let ring_ready = readable(ring.as_fd())?;
        let mut told = signal(SignalKind::terminate())?;
        let parent = plan.parentage == Parentage::Collector;
        let mut child_changed = signal(SignalKind::child())?;
        let mut look = tokio::time::interval(LOOK);
        let mut changes = self.changes.take();
        let out_of_time = out_of_time(self.started, plan.mode.limits().time);
        tokio::pin!(out_of_time);
        loop {
            tokio::select! {
                time = &mut out_of_time => return Ok(End::Time(time)),
                ready = front_ready.readable() => {
                    let mut ready = ready?;
                    match front.try_receive() {
                        Ok(Received::Message(FromFrontEnd::CommandEnded(status), _)) => {
                            return Ok(End::Command(status));
                        }
                        Ok(Received::Closed) => return Ok(End::FrontEndDied),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                        Err(error) => return Err(error),
                    }
                }
                ready = guardian_ready.readable(), if self.guardian_failed.is_none() => {
                    let mut ready = ready?;
                    self.hear_guardian();
                    match &self.guardian_failed {
                        Some(why) if plan.on_failure() == OnFailure::EndTree => {
                            return Ok(End::Guardian(why.clone()));
                        }
                        _ => ready.clear_ready(),
                    }
                }
                ready = front_ended.readable() => {
                    let _ = ready?;
                    return Ok(End::FrontEndDied);
                }
                _ = told.recv() => return Ok(End::Told),
                _ = child_changed.recv(), if parent => child::tell(front, child),
                ready = ring_ready.readable() => {
                    ready?.clear_ready();
                    if let Err(error) = self.collect() {
                        return Ok(End::Log(error.to_string()));
                    }
                }
                request = next_change(&mut changes) => {
                    if let Err(error) = self.apply(request) {
                        return Ok(End::Log(error.to_string()));
                    }
                }
                _ = look.tick() => {
                    if parent {
                        child::tell(front, child);
                    }
                    if let Some(end) = self.ender.as_ref().and_then(end::without_ender) {
                        return Ok(end);
                    }
                    let looked = self.collect().and_then(|()| self.pipeline.tell_losses(&self.recorder));
                    if let Err(error) = looked {
                        return Ok(End::Log(error.to_string()));
                    }
                    if let Err(error) = self.recorder.check() && plan.on_log_error() == OnLogError::Stop {
                        return Ok(End::Log(error.to_string()));
                    }
                }
            }
        }
    }

    /// Puts policies in force, and says what came of it.
    ///
    /// # Errors
    /// The record cannot go on.
    fn apply(&mut self, Request { change, answer }: Request) -> Result<(), PipelineError> {
        let applied = self.pipeline.apply(&change, &self.recorder);
        // Whoever asked may be gone.
        let _ = answer.send(applied.as_ref().copied().map_err(ToString::to_string));
        match applied {
            Err(error @ PipelineError::Log(_)) => Err(error),
            // What held before still does.
            Ok(()) | Err(PipelineError::Kernel(_)) => Ok(()),
        }
    }

    /// Empties the ring, a bounded number of batches at a time: whoever fills it must not hide the run's end.
    fn collect(&mut self) -> Result<(), PipelineError> {
        for _ in 0..BATCHES_A_TURN {
            if self.pipeline.step(&self.recorder)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Looks whether the guardian is still on guard.
    fn hear_guardian(&mut self) {
        match self.guardian.try_receive() {
            Ok(Received::Message(FromGuardian::EndsRun { why }, _)) => self.guardian_failed = Some(why),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(Received::Closed) | Err(_) => self.guardian_failed = Some("the guardian died".to_owned()),
        }
    }

    /// An audit-only run that lost its front-end goes on, and so does its record, until nothing is left. Gives why it
    /// is over.
    fn outlive(&mut self, plan: &RunPlan, child: &Process) -> End {
        while child::goes_on(plan, child) {
            std::thread::sleep(LOOK);
            let collected = self.collect().map_err(|error| error.to_string());
            let looked = collected.and_then(|()| self.recorder.check().map_err(|error| error.to_string()));
            if let Err(error) = looked {
                return End::Log(error);
            }
        }
        End::FrontEndDied
    }

    /// Ends what is to be ended, writes what is to be written, and seals the log if its end was seen whole.
    fn finish(
        &mut self,
        plan: &RunPlan,
        end: &End,
        front: &Channel<FromCollector, FromFrontEnd>,
        child: &Process,
    ) -> Summary {
        let ends = ends_run(plan, end);
        let duration = self.started.elapsed();
        let reap = || child::tell(front, child);
        let mut left_running = if ends {
            let membership = self.lease.as_deref().map(|lease| lease as &dyn Membership);
            let below = Below::of_this(self.ender.as_ref(), &reap);
            let below = (plan.parentage == Parentage::Collector).then_some(&below);
            let (cgroup, ender) = (plan.cgroup.as_ref(), self.ender.as_ref());
            let tree = Tree { cgroup, membership, first: Some(child), ender, below };
            end_tree(tree, Patience::Until(Instant::now() + PATIENCE))
        } else {
            plan.cgroup.as_ref().map(|group| group.processes()).unwrap_or_default()
        };
        if plan.parentage == Parentage::Collector && !ends {
            left_running.extend(descendants::living(&reap));
        }
        let drained = self.pipeline.finish(&self.recorder);
        // Only now: what the command did last tells of processes that its control group does not know.
        left_running
            .extend(self.pipeline.living().filter(|process| lives(*process)).map(|process| process.pid));
        left_running.sort_unstable();
        left_running.dedup();
        // A command may have ended because the guardian ended it; a run without guardian is never sealed.
        self.hear_guardian();
        let end = match (end, &self.guardian_failed) {
            (End::Command(_), Some(why)) => &End::Guardian(why.clone()),
            (end, _) => end,
        };
        let (unsealed, ended_by_runner) = verdict(end, ends);
        let unsealed = unsealed.or_else(|| drained.err().map(|error| error.to_string()));
        let mut summary = Summary { left_running, unsealed, ended_by_runner, ..Summary::default() };
        summary.out_of_time = matches!(end, End::Time(_));
        if summary.unsealed.is_none() {
            let run_end = run_end(end, &summary, duration, self.process);
            match self.recorder.seal(&run_end) {
                Ok(sealed) => {
                    if let Err(error) = self.recorder.enter_end(&sealed) {
                        summary.notes.push(format!("the end of this run is not in the ledger: {error}"));
                    }
                    summary.head = sealed.head;
                }
                Err(error) => summary.unsealed = Some(error.to_string()),
            }
            let fault = self.recorder.meta_fault();
            summary.notes.extend(
                fault.map(|fault| format!("`sandbox runs` will not know how this run ended: {fault}")),
            );
            summary.notes.extend(self.recorder.anchored().and_then(AnchorReport::note));
        }
        summary.notes.extend(
            self.pipeline
                .found()
                .filter(|found| *found > 0)
                .map(|found| format!("{found} new against the baseline (`sandbox view` tells them as NEW)")),
        );
        let counts = self.recorder.counts();
        summary.events = counts.events;
        summary.lost = counts.lost;
        summary.blocked = counts.blocked;
        summary.would_block = counts.would_block;
        summary.denials = self.explain();
        summary
    }
}

impl Collector {
    /// What was denied, for the end of the run.
    fn explain(&self) -> Vec<String> {
        let Some(policies) = self.pipeline.denials().policies() else { return Vec::new() };
        let mut remedies = Remedies::new(&policies);
        let mut denials = self.pipeline.denials().denials();
        explain::summary::lines(&mut denials, |group| remedies.of(group))
    }
}

/// The next policies to put in force; waits for ever where none can come.
async fn next_change(changes: &mut Option<mpsc::Receiver<Request>>) -> Request {
    let next = match changes {
        Some(changes) => changes.recv().await,
        None => None,
    };
    match next {
        Some(request) => request,
        None => std::future::pending().await,
    }
}

/// The time that a run may take, once it is over; waits for ever where there is no such limit.
async fn out_of_time(started: Instant, time: Option<Duration>) -> Duration {
    match time {
        Some(time) => {
            tokio::time::sleep_until((started + time).into()).await;
            time
        }
        None => std::future::pending().await,
    }
}

/// Whether a process of the run goes on.
fn lives(process: ProcId) -> bool {
    Stat::of(process.pid).is_some_and(|stat| !stat.is_dead() && stat.started_at(process.start_ns))
}
