//! The one file that wires the stages of a run together.
//!
//! ```text
//! sensor ──▶ observe ──▶ decode ──▶ resolve ──▶ enrich ──▶ judge ──▶ recorder
//! ```
//!
//! It also keeps the account: every attempt of the run is an event, or counted as lost in a `gap`.

mod paths;

use std::{sync::Arc, time::Duration};

use policy::other_names::Marks;
use sandbox_ebpf::abi::{
    config::RunCounters,
    event::{Kind, flag},
};

use paths::Paths;

use crate::{
    asking::Acted,
    baseline::watch::Watch,
    control::Change,
    enforce::lsm::Force,
    enforce::{cut, relay::Relay},
    event::{
        Action, Event, EventType, Key, ProcId, Value,
        decode::{Decoded, Decoder},
        enrich::Enricher,
        judge::{Apart, Judge, Judging},
        living::Living,
    },
    evidence::{Changes, Hashes},
    explain::live::Live,
    kernel::object::ObjectError,
    launch::{cgroup::Cgroup, handshake::Fenced, plan::Mode},
    names::{Answer, Askers, Known, Law, Names},
    record::{LogError, Recorder, runner_event, time},
    sensor::{FIRST_POLICY, Sensor},
    settings::Layer,
};

/// Records taken from the ring before the recorder gets what they became.
const BATCH: usize = 1024;

/// How long the end of a run waits for hashes of executables.
const HASHES_END: Duration = Duration::from_secs(10);

/// What can stop the flow.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The record cannot go on.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The kernel refuses something.
    #[error(transparent)]
    Kernel(#[from] ObjectError),
    /// What somebody allowed once cannot be closed again.
    #[error("{0}")]
    Asking(String),
}

/// The stages between the sensor and the recorder.
pub struct Pipeline {
    sensor: Sensor,
    decoder: Decoder,
    /// Resolves names, where the kernel does not.
    paths: Option<Paths>,
    enricher: Enricher,
    judge: Judge,
    denials: Arc<Live>,
    living: Living,
    /// Whose events the pipeline's own are.
    process: ProcId,
    account: Account,
    decoded: Vec<Decoded>,
    names: Option<Names>,
    askers: Askers,
    /// What leads out of the run's network namespace, where it has one.
    relay: Option<Relay>,
    /// The run's control group.
    group: Option<Cgroup>,
    /// Ends connections that named another server.
    cutter: cut::Cutter,
    hashes: Hashes,
    changes: Option<Changes>,
    /// Tells what no run of a baseline did.
    watch: Option<Watch>,
    /// Who waits for acts of the run.
    acted: Option<Arc<Acted>>,
}

/// What became of the run's attempts so far.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Attempts that came, malformed ones included.
    received: u64,
    /// Records that could not be understood.
    malformed: u64,
    /// Counters as they stand in `gap` events already.
    told: RunCounters,
    /// Malformed records told in `gap` events already.
    told_malformed: u64,
    /// Answers that were lost, told in `gap` events already.
    told_answers: u64,
    /// Events of the relay that were lost, told in `gap` events already.
    told_relayed: u64,
}

impl Pipeline {
    /// Stages for one run; `marks` are the files that hooks deny by another name, `names` answers its questions, `process`
    /// is its first process, in `group`.
    pub fn new(
        sensor: Sensor,
        mode: &Mode,
        marks: Marks,
        names: Option<Names>,
        (process, group): (ProcId, Option<Cgroup>),
    ) -> Pipeline {
        let judging = match mode {
            Mode::Enforce(..) if sensor.has_hooks() => Judging::Enforced,
            Mode::Audit(_) if sensor.has_hooks() => Judging::Audited,
            Mode::Enforce(..) if sensor.fenced() != Fenced::No => match sensor.unheld() {
                [] => Judging::FencedWhole,
                _ => Judging::Fenced,
            },
            _ => Judging::Observed,
        };
        let mut judge = Judge::new(mode.policies(), FIRST_POLICY, judging, process).with_marks(marks);
        judge = judge.observed_by(sensor.observer().name());
        if let Some(names) = &names {
            judge = judge.with_names(Box::new(Known(Arc::clone(&names.directory))));
        }
        let alone = sensor.observer() == Layer::Trace && !sensor.has_hooks();
        Pipeline {
            sensor,
            decoder: Decoder::new(),
            paths: alone.then(|| Paths::of(process.pid)),
            enricher: Enricher::new(),
            judge,
            denials: Arc::new(Live::new(mode.policies().cloned())),
            living: Living::default(),
            process,
            account: Account::default(),
            decoded: Vec::new(),
            names,
            askers: Askers::default(),
            relay: None,
            group,
            cutter: cut::Cutter::default(),
            hashes: Hashes::start(),
            changes: None,
            watch: None,
            acted: None,
        }
    }

    /// For a run in a network namespace, with what leads out of it.
    pub fn with_relay(mut self, relay: Option<(Relay, Apart)>) -> Pipeline {
        let (relay, apart) = relay.unzip();
        self.askers = Askers::of(apart.as_ref().map(|apart| apart.relay));
        self.judge = self.judge.with_namespace(apart);
        self.relay = relay;
        self
    }

    /// Looks also at what the run changes.
    pub fn with_changes(self, changes: Option<Changes>) -> Pipeline {
        Pipeline { changes, ..self }
    }

    /// Tells also what is new.
    pub fn with_watch(self, watch: Option<Watch>) -> Pipeline {
        Pipeline { watch, ..self }
    }

    /// How much was new, where that is told.
    pub fn found(&self) -> Option<u64> {
        self.watch.as_ref().map(Watch::found)
    }

    /// Tells who waits for acts of the run.
    pub fn with_acted(self, acted: Option<Arc<Acted>>) -> Pipeline {
        Pipeline { acted, ..self }
    }

    /// Where the records come from.
    pub fn sensor(&self) -> &Sensor {
        &self.sensor
    }

    /// What was denied so far, shared with who explains it.
    pub fn denials(&self) -> &Arc<Live> {
        &self.denials
    }

    /// Processes of the run whose end was not seen yet.
    pub fn living(&self) -> impl Iterator<Item = ProcId> {
        self.living.processes()
    }

    /// Puts other policies in force and records it. Records that were judged before are told by the policies that
    /// judged them.
    ///
    /// # Errors
    /// The kernel refuses (then those before still hold), or the record cannot go on.
    pub fn apply(&mut self, change: &Change, recorder: &Recorder) -> Result<(), PipelineError> {
        self.put(change)?;
        self.denials.now_hold(Arc::clone(&change.policies));
        // What was judged before stands before the event: every line after it is about the new ones.
        self.settle(recorder)?;
        let mut event = runner_event(EventType::PolicyApply, self.process);
        let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        event.details = vec![
            (Key::PolicyName, text(&change.applied.names)),
            (Key::PolicySha256, text(&change.applied.sha256)),
            (Key::Target, text(&change.applied.file)),
            (Key::Reason, text(if change.widen { "put in the place of those before" } else { "narrowed" })),
            (Key::TargetPid, Value::Uint(change.peer.pid.into())),
            (Key::Uid, Value::Uint(change.peer.uid.into())),
        ];
        recorder.append(&[event])?;
        recorder.flush()?;
        Ok(())
    }

    /// Records questions and answers, then puts in force what they open: an act that an answer allowed stands behind it.
    ///
    /// # Errors
    /// As [`Pipeline::apply`]; what was recorded is.
    pub fn answer(
        &mut self,
        events: &[Event],
        change: Option<&Change>,
        recorder: &Recorder,
    ) -> Result<(), PipelineError> {
        // What was denied before it stands before it.
        self.settle(recorder)?;
        if !events.is_empty() {
            recorder.append(events)?;
            recorder.flush()?;
        }
        change.map_or(Ok(()), |change| self.put(change))
    }

    /// Puts other policies in force.
    fn put(&mut self, change: &Change) -> Result<(), PipelineError> {
        let (id, force) = (change.planned.id, change.force);
        // First: records that the new ones judge may come at once. What no hook asks for anything but names that stay is
        // not what holds from now on.
        let since_ns = if force == Force::Lasting { u64::MAX } else { time::mono_now_ns() };
        self.judge.adopt(&change.policies, id, since_ns, change.marks.clone());
        let sensor = &mut self.sensor;
        let mut put = || sensor.apply(&change.planned, force);
        let applied = match (&self.names, change.planned.plan()) {
            _ if force == Force::Lasting => put(),
            (Some(names), plan) => {
                let plan = plan.filter(|_| names.answers.is_some()).cloned();
                let law = Law { plan, policies: (*change.policies).clone() };
                let what = "open the addresses of names under the new policy";
                names.directory.adopt(law, put, |source| ObjectError::Call { what, source })
            }
            (None, _) => put(),
        };
        if let Err(error) = applied {
            self.judge.abandon(id);
            return Err(error.into());
        }
        if force != Force::Now {
            self.judge.lasts(id);
        }
        Ok(())
    }

    /// Moves what waits in the ring to the recorder, at most one batch; returns how many records there were.
    ///
    /// # Errors
    /// The record cannot go on.
    pub fn step(&mut self, recorder: &Recorder) -> Result<usize, PipelineError> {
        let offset = wall_offset_ns();
        // Before the ring: who asked is there when the answer is.
        let mut answers = self.names.as_mut().map(Names::take).unwrap_or_default();
        let relayed = self.relay.as_mut().map(Relay::take).unwrap_or_default();
        let mut intake = Intake {
            sensor: &mut self.sensor,
            decoder: &mut self.decoder,
            account: &mut self.account,
            names: self.names.as_ref(),
            answers: &mut answers,
            offset,
        };
        let mut count = intake.take(&mut self.decoded);
        if count < BATCH {
            intake.decoder.expire(time::mono_now_ns(), offset, &mut self.decoded);
        }
        if let Some(paths) = &mut self.paths {
            let before = intake.account.received;
            paths.resolve(&mut self.decoded, &mut intake);
            count += usize::try_from(intake.account.received - before).unwrap_or(usize::MAX);
        }
        self.askers.learn(&self.decoded);
        self.askers.wait(answers);
        self.askers.wait_for(relayed.into_iter().map(|told| (told.client_port, told.event)));
        self.askers.tell(count < BATCH, self.process, &mut self.decoded);
        self.forward(recorder)?;
        if count < BATCH {
            self.denials.looked();
        }
        Ok(count)
    }

    /// Tells of losses that no `gap` event tells of yet.
    ///
    /// # Errors
    /// The counters cannot be read, or the record cannot go on.
    pub fn tell_losses(&mut self, recorder: &Recorder) -> Result<(), PipelineError> {
        let now = self.sensor.counters()?;
        let answers = self.names.as_ref().map_or(0, |names| names.directory.lost());
        let relayed = self.relay.as_ref().map_or(0, Relay::lost);
        let told = &mut self.account.told;
        let lost = [
            (now.lost - told.lost, self.sensor.loss()),
            (now.untracked - told.untracked, "a task could not be followed: what it did is not known"),
            (self.account.malformed - self.account.told_malformed, "a record could not be understood"),
            (answers - self.account.told_answers, "questions for names came faster than they could be told"),
            (
                relayed - self.account.told_relayed,
                "connections by the relay came faster than they could be told",
            ),
        ];
        self.account.told_relayed = relayed;
        self.account.told_answers = answers;
        let unseen = now.lost > told.lost || now.untracked > told.untracked;
        if let Some(paths) = self.paths.as_mut().filter(|_| unseen) {
            paths.lost();
        }
        *told = now;
        self.account.told_malformed = self.account.malformed;
        self.gaps(recorder, &lost)
    }

    /// Takes what is left in the ring, ends what waits for its second half, and settles the account.
    /// Attempts made after the call began (by processes that outlive the run) may be left out.
    ///
    /// # Errors
    /// The counters cannot be read, or the record cannot go on.
    pub fn finish(&mut self, recorder: &Recorder) -> Result<(), PipelineError> {
        self.sensor.tell_connections()?;
        self.sensor.end();
        if let Some(relay) = &mut self.relay {
            relay.end();
        }
        let attempts = self.settle(recorder)?;
        let offset = wall_offset_ns();
        self.decoder.finish(offset, &mut self.decoded);
        let mut answers = Vec::new();
        if let Some(paths) = &mut self.paths {
            let mut intake = Intake {
                sensor: &mut self.sensor,
                decoder: &mut self.decoder,
                account: &mut self.account,
                names: self.names.as_ref(),
                answers: &mut answers,
                offset,
            };
            paths.resolve(&mut self.decoded, &mut intake);
        }
        self.askers.wait(answers);
        // What has not waited yet waits once here; then nobody is left to learn from.
        self.askers.tell(true, self.process, &mut self.decoded);
        self.askers.tell(true, self.process, &mut self.decoded);
        self.forward(recorder)?;
        self.tell_contents(recorder)?;
        self.tell_losses(recorder)?;
        let accounted = self.account.received + self.account.told.lost;
        let missing = attempts.saturating_sub(accounted);
        self.gaps(recorder, &[(missing, "the kernel counted attempts of which no record came")])
    }

    /// Tells what the executables held that were not known at once, and what the run changed.
    fn tell_contents(&mut self, recorder: &Recorder) -> Result<(), PipelineError> {
        recorder.append(&self.hashes.finish(HASHES_END))?;
        let Some(mut changes) = self.changes.take() else { return Ok(()) };
        recorder.append(&changes.tell(self.process))?;
        self.gaps(recorder, &[(changes.forgotten(), "more files were changed than can be looked at")])
    }

    /// Takes what is in the ring now; gives how many attempts there were. What goes on cannot hold it up.
    fn settle(&mut self, recorder: &Recorder) -> Result<u64, PipelineError> {
        let attempts = self.sensor.counters()?.kseq;
        // One empty look proves that everything up to `attempts` was read.
        while self.step(recorder)? > 0 && self.account.received < attempts {}
        self.step(recorder)?;
        Ok(attempts)
    }

    fn forward(&mut self, recorder: &Recorder) -> Result<(), PipelineError> {
        let mut events = Vec::with_capacity(self.decoded.len());
        for mut decoded in self.decoded.drain(..) {
            self.enricher.enrich(&mut decoded);
            self.judge.judge(&mut decoded);
            // Behind this, nobody sees a secret: not the log, and not who explains it.
            decoded.event.redact();
            self.denials.add(&decoded.event);
            if let Some(acted) = &self.acted {
                acted.saw(&decoded.event);
            }
            cut(&mut self.cutter, self.group.as_ref(), &decoded);
            self.living.learn(&decoded);
            self.hashes.add(&mut decoded.event);
            if let Some(changes) = &mut self.changes {
                changes.learn(&decoded.event);
            }
            let new = self.watch.as_mut().map(|watch| watch.look(&decoded.event)).unwrap_or_default();
            events.push(decoded.event);
            events.extend(new);
        }
        events.extend(self.hashes.take());
        Ok(recorder.append(&events)?)
    }

    fn gaps(&self, recorder: &Recorder, losses: &[(u64, &str)]) -> Result<(), PipelineError> {
        let mono_ns = time::mono_now_ns();
        let events = losses.iter().filter(|(lost, _)| *lost > 0).map(|(lost, reason)| Event {
            event_type: EventType::Gap,
            action: Action::Observed,
            wall_ns: mono_ns as i64 + wall_offset_ns(),
            mono_ns,
            kseq: 0,
            process: self.process,
            details: vec![
                (Key::Lost, Value::Uint(*lost)),
                (Key::Reason, Value::Bytes(reason.as_bytes().to_vec())),
            ],
        });
        Ok(recorder.append(&events.collect::<Vec<_>>())?)
    }
}

/// What records go through until they are events.
struct Intake<'a> {
    sensor: &'a mut Sensor,
    decoder: &'a mut Decoder,
    account: &'a mut Account,
    names: Option<&'a Names>,
    /// Answers about names that were heard.
    answers: &'a mut Vec<Answer>,
    offset: i64,
}

impl Intake<'_> {
    /// Moves what waits in the ring to `decoded`, at most one batch; returns how many records there were.
    fn take(&mut self, decoded: &mut Vec<Decoded>) -> usize {
        let Intake { sensor, decoder, account, names, answers, offset } = self;
        sensor.drain(BATCH, |raw| {
            // What cannot even be cut has no place in the account but its own.
            let Ok(raw) = raw else {
                account.received += 1;
                account.malformed += 1;
                return;
            };
            let new = raw.header.flags & flag::FOLLOWS_CHECK == 0;
            account.received += u64::from(new);
            if raw.header.kind == Kind::Answer as u8 {
                let heard = names.and_then(|names| names.hear(&raw, *offset));
                // Something else may come from that port.
                return answers.extend(heard);
            }
            if decoder.decode(raw, *offset, decoded).is_err() {
                account.malformed += 1;
            }
        })
    }
}

/// Ends a connection of the group's that named another server than the one that it is open for.
fn cut(cutter: &mut cut::Cutter, group: Option<&Cgroup>, Decoded { event, facts }: &Decoded) {
    let (Some((address, port)), EventType::NetName, Action::Blocked) =
        (facts.end, event.event_type, event.action)
    else {
        return;
    };
    let Some(Value::Int(own_port)) = event.get(Key::SrcPort) else { return };
    let own_port = u16::try_from(*own_port).unwrap_or(0);
    let connection = cut::Connection { own_port, remote: (address, port).into() };
    // Whoever made it may have handed it on.
    let (first, group) = (event.process.pid, group.cloned());
    cutter.end(connection, move || {
        std::iter::once(first).chain(group.iter().flat_map(Cgroup::processes)).collect()
    });
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC, now.
fn wall_offset_ns() -> i64 {
    time::wall_now_ns() - time::mono_now_ns() as i64
}
