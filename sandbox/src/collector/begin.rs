//! What a run is begun with: its first process made a member; and of its record the first line, the policies, who signs
//! it, and what a failure means.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use policy::Variables;

use super::start::StartError;
use crate::asking::{self, Asking, Sections};
use crate::baseline::watch::Watch;
use crate::enforce::capabilities;
use crate::event::ProcId;
use crate::event::judge::Names;
use crate::evidence::{Before, Changes};
use crate::inside::notify::Waiting;
use crate::launch::guard;
use crate::launch::guardian::OnFailure;
use crate::launch::handshake::{Armed, By, Channel, GivesUp, Join, Received, ToChild};
use crate::launch::plan::{Mode, RecordPlan, RunPlan};
use crate::record::ledger::LedgerFile;
use crate::record::meta::MetaPolicy;
use crate::record::{self, Attestation, KeyReach, OwnTmp, RecordError, RecordSettings, RunStart, keys};
use crate::sensor::{Judging, Sensor};
use crate::settings::Layer;

/// By what the run asks its runner.
pub(super) enum Asked {
    /// A listener that nothing else comes by.
    Heard(OwnedFd),
    /// A listener whose calls the supervisor takes; it hands the questions on.
    Handed(OwnedFd, Receiver<Waiting>),
    /// A filter whose calls may wait for somebody's answer; what the run asks its runner comes by it as well.
    Waiting(asking::Begun, OwnedFd),
    /// By nothing.
    Nowhere,
}

/// The sections of which calls wait to be asked about: some only where hooks judge them, and verdicts are law.
pub(super) fn sections(plan: &RunPlan, sensor: &Sensor) -> Sections {
    match &plan.mode {
        Mode::Enforce(policies, _) if sensor.has_hooks() => plan.asking.sections(policies),
        _ => Sections::default(),
    }
}

/// What the questions of the run come to, where calls wait; the user is told what asks nobody.
pub(super) fn questions(
    plan: &RunPlan,
    asked: &Asked,
    asks: Sections,
    notes: &mut Vec<String>,
) -> Result<Option<Asking>, StartError> {
    let waits = matches!(asked, Asked::Waiting(..));
    if let Mode::Enforce(policies, _) = &plan.mode {
        notes.extend(asking::asked_by_nobody(policies, if waits { asks } else { Sections::default() }));
    }
    if !waits && (plan.asking != asking::Settings::default() || plan.asks_here) {
        notes.push(
            "nobody is asked in this run, since only the lsm layer lets a call wait (`sandbox doctor` says what it lacks): \
             what is denied is denied at once"
                .to_owned(),
        );
    }
    if waits {
        let here = if plan.asks_here { "here, while the command takes whole lines, or by " } else { "" };
        notes.push(format!(
            "calls that are asked about wait for an answer: {here}`sandbox asks`, in another terminal"
        ));
    }
    let system = |source| StartError::System { step: "make what questions come to", source };
    waits.then(Asking::new).transpose().map_err(system)
}

/// What a supervisor of such calls begins with.
pub(super) fn asking(
    plan: &RunPlan,
    why: Sender<Waiting>,
    names: Option<Box<dyn Names>>,
    process: ProcId,
) -> asking::Start {
    let command = plan.asking.command.as_ref().map(|program| asking::Command {
        program: program.into(),
        target: plan.target.clone(),
        run_id: plan.run_dir.id().to_owned(),
    });
    let (askable, variables) = (plan.asking.askable(), plan.variables.clone());
    let policy = plan.policy_file.clone();
    let bell = plan.bell.clone().filter(|_| plan.asks_here);
    asking::Start { askable, command, why, names, process, variables, policy, bell }
}

/// Makes the child a member of the run: by the program that it runs for that, or by the filter that hands its calls over.
pub(super) fn arm(
    child: &Channel<ToChild, Armed>,
    sensor: &mut Sensor,
    enforced: bool,
    asks: Sections,
) -> Result<Asked, StartError> {
    if let Some(program) = sensor.arm_program()? {
        let listener = ask(child, join(sensor, By::Program, asks), &[program])?;
        return match listener {
            None => Ok(Asked::Nowhere),
            Some(listener) if asks.is_empty() => Ok(Asked::Heard(listener)),
            Some(listener) => {
                let answering = listener.try_clone().map_err(StartError::Supervise)?;
                let begun = asking::begin(listener).map_err(StartError::Supervise)?;
                Ok(Asked::Waiting(begun, answering))
            }
        };
    }
    let listener =
        ask(child, join(sensor, By::Calls, Sections::default()), &[]).map_err(|error| match error {
            StartError::Arm(source) if source.raw_os_error() == Some(libc::EBUSY) => {
                StartError::Supervise(io::Error::other(
                    "this process has a filter with a listener already; a run inside another needs root",
                ))
            }
            error => error,
        })?;
    let listener = listener.ok_or_else(|| StartError::Supervise(io::ErrorKind::NotFound.into()))?;
    let (questions, handed) = channel();
    sensor.supervise(listener, enforced.then_some(questions)).map_err(StartError::Supervise)?;
    let answering = sensor.listener().map_err(StartError::Supervise)?.filter(|_| enforced);
    Ok(answering.map_or(Asked::Nowhere, |listener| Asked::Handed(listener, handed)))
}

/// What the child is told: how it joins, and what it puts around itself.
fn join(sensor: &Sensor, by: By, asks: Sections) -> ToChild {
    let fence = sensor.fenced();
    let gives_up = match sensor.has_hooks() {
        false => GivesUp::Unopened,
        true if capabilities::show_memory() => GivesUp::Sight,
        true => GivesUp::Nothing,
    };
    ToChild::Join(Join { by, hooks: sensor.has_hooks(), gives_up, fence, asks })
}

/// Has the child become a member; gives the listener that it sends, if it does.
fn ask(
    child: &Channel<ToChild, Armed>,
    how: ToChild,
    fds: &[BorrowedFd<'_>],
) -> Result<Option<OwnedFd>, StartError> {
    let peer = |source| StartError::Peer { peer: "command's process", source };
    child.send_with(&how, fds).map_err(peer)?;
    match child.receive().map_err(peer)? {
        Received::Message(Armed::Yes, fds) => Ok(fds.into_iter().next()),
        Received::Message(Armed::Failed { errno }, _) => {
            Err(StartError::Arm(io::Error::from_raw_os_error(errno)))
        }
        Received::Message(Armed::NotCovered { why }, _) => Err(StartError::Cover(why)),
        Received::Message(_, _) => Err(StartError::Arm(io::ErrorKind::InvalidData.into())),
        Received::Closed => Err(StartError::ChildGone),
    }
}

/// How the log is written, and what a failure of it means.
pub(super) fn record_settings(plan: &RunPlan) -> RecordSettings {
    let on_log_error = plan.on_log_error();
    let RecordPlan { durability, checkpoints, .. } = plan.record;
    RecordSettings { durability, on_log_error, checkpoints }
}

/// The ledger, the key and the anchors of the run.
pub(super) fn attestation(plan: &RunPlan, sensor: &Sensor) -> Result<Attestation, StartError> {
    let ledger = plan.store.as_ref().filter(|_| plan.record.entered);
    let ledger = ledger.map(LedgerFile::open).transpose().map_err(RecordError::from)?;
    // In the ledger a key signs as long as it is in force there.
    let signer = plan.store.as_ref().filter(|_| ledger.is_none());
    let signer = signer.map(keys::signer).transpose()?.flatten();
    let reach = match plan.on_failure() {
        // A rule of the runner's own keeps it, also from root, unless nothing holds that here.
        OnFailure::EndTree if sensor.unheld().iter().any(|line| line.contains(guard::SIGNING_KEY)) => {
            KeyReach::WithinReach
        }
        OnFailure::EndTree => KeyReach::Kept,
        OnFailure::LetGo
            if plan.target.uid != nix::unistd::Uid::effective().as_raw() && plan.target.uid != 0 =>
        {
            KeyReach::Kept
        }
        OnFailure::LetGo => KeyReach::WithinReach,
    };
    Ok(Attestation { ledger, signer, reach, anchors: plan.record.anchors.clone() })
}

/// Puts the policies as they hold, without variables, beside the log.
pub(super) fn store_policy(plan: &RunPlan) -> Result<Option<MetaPolicy>, StartError> {
    let Some(policies) = plan.mode.policies() else { return Ok(None) };
    let text = policies.effective_yaml();
    plan.run_dir
        .replace_file(record::EFFECTIVE_POLICY, text.as_bytes())
        .map_err(|source| StartError::System { step: "write policy.effective.yaml", source })?;
    Ok(Some(MetaPolicy { name: policies.names(), sha256: record::sha256_hex(text.as_bytes()) }))
}

pub(super) fn run_start(
    plan: &RunPlan,
    process: ProcId,
    policy: Option<MetaPolicy>,
    sensor: &Sensor,
) -> RunStart {
    let mode = match plan.mode {
        Mode::Observe | Mode::Audit(_) => record::Mode::AuditOnly,
        Mode::Enforce(..) => record::Mode::Enforce,
    };
    RunStart {
        command: plan.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: plan.cwd.as_os_str().as_bytes().to_vec(),
        uid: plan.target.uid,
        user: plan.target.name.clone(),
        home: plan.target.home.as_os_str().as_bytes().to_vec(),
        environment: plan.target.environment().variables(),
        mode,
        layers: sensor.reports().to_vec(),
        policy,
        variables: recorded(&plan.variables).given().map(|(name, value)| (name, value.to_vec())).collect(),
        unheld: sensor.unheld().to_vec(),
        tmp: sensor
            .mounts()
            .tmp()
            .map(|tmp| OwnTmp { private: tmp.places().to_vec(), kept: tmp.kept().to_vec() }),
        process,
        wall_ns: record::time::wall_now_ns(),
        mono_ns: record::time::mono_now_ns(),
    }
}

/// Looks at the files that the run may change, where that is asked for; with a note for the user.
pub(super) fn changes(plan: &RunPlan) -> Result<Option<(Changes, String)>, StartError> {
    let Some(contents) = &plan.contents else { return Ok(None) };
    let before = Before::look(contents, plan.run_dir.path())?;
    let note = before.note();
    let tmp = plan.tmp.as_ref().and_then(|tmp| tmp.as_ref().ok()).cloned();
    let own = move |path: &Path| tmp.as_ref().is_some_and(|tmp| tmp.makes(path));
    Ok(Some((Changes::new(contents.max, before, own), note)))
}

/// What the hooks are to do with the policies.
pub(super) fn judging(plan: &RunPlan) -> Judging<'_> {
    match &plan.mode {
        Mode::Observe => Judging::Nothing,
        Mode::Audit(policies) => Judging::Audit(policies),
        Mode::Enforce(policies, on_unheld) => Judging::Enforce(policies, *on_unheld),
    }
}

/// Begins to tell what is new, where that is asked for.
pub(super) fn watch(plan: &RunPlan, process: ProcId, sensor: &Sensor) -> Result<Option<Watch>, StartError> {
    let Some(baseline) = &plan.baseline else { return Ok(None) };
    let counts_bytes =
        sensor.reports().iter().any(|report| report.name == Layer::Trace.name() && !report.is_off());
    Ok(Some(Watch::new(
        Arc::clone(baseline),
        &plan.agent_id,
        &recorded(&plan.variables),
        process,
        counts_bytes,
    )?))
}

/// The variables with the places that links lead to: paths of a record are those of files.
fn recorded(variables: &Variables) -> Variables {
    let mut recorded = variables.clone();
    for name in ["HOME", "TMP"] {
        let place = variables.get(name).map(|value| Path::new(OsStr::from_bytes(value)));
        if let Some(place) = place.and_then(|place| place.canonicalize().ok()) {
            // A place that no policy could name stays as it was given.
            let _ = recorded.set(name, place.into_os_string().into_vec());
        }
    }
    recorded
}
