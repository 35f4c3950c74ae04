//! Everything up to the point where the command may start: layers, membership, the record, and whoever helps.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::mpsc;

use super::begin::{self, Asked};
use super::{Collector, apart};
use crate::asking::Asking;
use crate::baseline::watch::WatchError;
use crate::control::{
    self,
    office::{Office, Request},
};
use crate::enforce::lsm::Lease;
use crate::event::{ProcId, judge};
use crate::evidence::WorkspaceError;
use crate::inside::answer;
use crate::kernel::object::ObjectError;
use crate::launch::cgroup::Cgroup;
use crate::launch::existing::Unsettled;
use crate::launch::guardian::HEARTBEAT;
use crate::launch::handshake::{Armed, Channel, FromGuardian, ToChild, ToGuardian};
use crate::launch::plan::{Mode, RunPlan};
use crate::launch::process::Process;
use crate::names::{self, Known, Names, NamesError};
use crate::pipeline::Pipeline;
use crate::record::keys::KeysError;
use crate::record::{RecordError, Recorder};
use crate::sensor::{self, Sensor, SensorError, Terms};

/// Why the run cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
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

/// Everything up to the point where the command may start.
pub(super) fn start(
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
    let inside = apart::enter(child, sensor.namespaces())?;
    apart::cover(child, sensor.mounts())?;
    let ender = sensor.wants_ender().then(|| apart::guard(child)).transpose()?;
    let asks = begin::sections(plan, &sensor);
    let asked = begin::arm(child, &mut sensor, matches!(plan.mode, Mode::Enforce(..)), asks)?;
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
    let mut asking = begin::questions(plan, &asked, asks, &mut notes)?;
    let directory = names.as_ref().map(|names| Arc::clone(&names.directory));
    let watch = begin::watch(plan, process, &sensor)?;
    let pipeline = Pipeline::new(sensor, &plan.mode, terms.marks(), names, (process, plan.cgroup.clone()))
        .with_relay(relay)
        .with_changes(changes)
        .with_watch(watch)
        .with_acted(asking.as_ref().map(|asking| Arc::clone(asking.acted())));
    let (changes, office) = match control(plan, terms, lease.clone(), asking.as_ref()) {
        Ok(control) => control.unzip(),
        Err(error) => {
            // What waits could never be opened, nor anybody be asked.
            if asking.is_some() {
                return Err(StartError::System { step: "listen for answers", source: error });
            }
            notes.push(format!("`sandbox policy apply` cannot reach this run: {error}"));
            (None, None)
        }
    };
    if let Mode::Enforce(..) = &plan.mode {
        let denials = Arc::clone(pipeline.denials());
        let answering = match asked {
            Asked::Heard(listener) => answer::start(listener, denials),
            Asked::Handed(listener, questions) => answer::start_handed(listener, questions, denials),
            Asked::Waiting(begun, listener) => {
                let (why, questions) = std::sync::mpsc::channel();
                let names = directory.map(|directory| Box::new(Known(directory)) as Box<dyn judge::Names>);
                let start = begin::asking(plan, why, names, process);
                if let (Some(asking), Some(office)) = (&mut asking, office) {
                    asking
                        .serve(begun, start, office)
                        .map_err(|source| StartError::System { step: "serve calls that wait", source })?;
                }
                answer::start_handed(listener, questions, denials)
            }
            Asked::Nowhere => Err(io::Error::other("the kernel gives no listener; it gives one only")),
        };
        if let Err(error) = answering {
            notes.push(format!("`sandbox why` will not answer inside this run: {error}"));
        }
    }
    let started = Instant::now();
    let guardian_failed = None;
    let collector = Collector {
        recorder,
        pipeline,
        lease,
        changes,
        asking,
        guardian,
        ender,
        guardian_failed,
        process,
        started,
    };
    Ok((collector, notes))
}

/// What is to be done to the policies of a run, and what that goes through.
type Control = (mpsc::Receiver<Request>, Arc<Mutex<Office>>);

/// Begins to hear who applies policies, where the run has some.
fn control(
    plan: &RunPlan,
    terms: Terms,
    lease: Option<Arc<Lease>>,
    asking: Option<&Asking>,
) -> io::Result<Option<Control>> {
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
    let office = control::serve::start(run, send, asking.map(|asking| asking.desk().clone()))?;
    Ok(Some((changes, office)))
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
