//! The sensor: the programs of one run, loaded, attached, proven and read; or, where there are none, the supervisor of
//! its calls.
//!
//! It decides which layers the run has. It neither decodes what it reads nor knows how the run is recorded.

mod by_notify;
pub mod covers;
mod elsewhere;
mod held;
mod net;
mod other_names;
mod source;
pub mod spellings;
mod streams;
mod terms;
mod tmp;
mod tried;
mod walls;

use std::{
    io,
    net::IpAddr,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use policy::{
    Policies, Policy,
    compile::{
        layers::Kept,
        lsm::{LsmPlan, SetTable, compile},
    },
};
use sandbox_ebpf::abi::{
    config::{Mode, RunConfig, RunCounters},
    resolver::Stub,
};

use crate::{
    enforce::{
        group::{self, Purpose},
        landlock::Fence,
        lsm::{self, Force, Installed, Known, Lease, Marker},
        mountns::Mounts,
        namespaces::Namespaces,
        tmp::PrivateTmp,
    },
    inside::notify::Waiting,
    kernel::{
        object::{Object, ObjectError},
        turn::Turn,
    },
    launch::{handshake::Fenced, limits::LimitGroups, standard::Standard},
    layers::probe,
    observe::{Malformed, RawEvent},
    record::LayerReport,
    settings::{Layer, LayerChoice, OnUnheld},
};

pub use by_notify::{rules_the_machine, wanted as wants_notify};
pub use held::{HELD_BY_HOOKS, groups_are_kept, held, time_is_held, words};
pub use net::{is_closed, with_namespace};
pub use terms::{Planned, Successor, Terms};
pub use tmp::keeps_mounts;
pub use tried::{FILTER, TMP, survey};

use held::{Ending, Layers, held_here, unheld};
use source::Source;
use spellings::Spellings;
use tried::{NO_GROUP, Tried, discard, report, try_group, try_lsm, try_trace, watch_group};
use walls::Walls;

/// What a note begins with that tells of a rule which nothing holds (`--best-effort`).
pub const NOT_HELD: &str = "not held: ";

/// The slot of the run: a runner holds one.
pub const SLOT: u32 = 0;

/// The number of a run's first policy; the self-test's is 0.
pub const FIRST_POLICY: u32 = 1;

/// How long entries of policies in the tables that all share are kept, once others hold.
const KEPT: Duration = Duration::from_secs(60);

/// What is asked of the sensor.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Layers to use.
    pub layers: &'a LayerChoice,
    /// Layers without which the run must not start.
    pub required: &'a [Layer],
    /// The policy and what to do with it.
    pub judging: Judging<'a>,
    /// The directory of the run's control group, where it has one.
    pub group: Option<&'a Path>,
    /// The groups that limit the run.
    pub limits: &'a LimitGroups,
    /// What the command's process can put around itself, or why there is nothing; `None` where that is not wanted.
    pub fence: Option<&'a Result<Fence, String>>,
    /// What is kept from the command beside all layers.
    pub kept: &'a [Kept],
    /// A /tmp of the run's own, or why there is none; `None` where that is not asked for.
    pub tmp: Option<&'a Result<PrivateTmp, String>>,
    /// Its standard descriptors that lead to something with a path.
    pub standard: &'a [Standard],
    /// Whether the command runs as root, which can leave its groups where no hook keeps it.
    pub root: bool,
}

impl Request<'_> {
    /// Whether the command can make no unix socket, in a network namespace.
    fn closes_unix_sockets(&self) -> bool {
        matches!(self.judging, Judging::Enforce(policies, _) if policies.closes_unix_sockets())
    }
}

/// What is done with a policy.
#[derive(Clone, Copy, Debug)]
pub enum Judging<'a> {
    /// There is none.
    Nothing,
    /// Verdicts are recorded.
    Audit(&'a Policies),
    /// Verdicts are law.
    Enforce(&'a Policies, OnUnheld),
}

impl<'a> Judging<'a> {
    fn policies(self) -> Vec<&'a Policy> {
        match self {
            Judging::Nothing => Vec::new(),
            Judging::Audit(policies) | Judging::Enforce(policies, _) => policies.iter().collect(),
        }
    }

    fn mode(self) -> Mode {
        match self {
            Judging::Nothing => Mode::Observe,
            Judging::Audit(_) => Mode::Audit,
            Judging::Enforce(..) => Mode::Enforce,
        }
    }
}

/// Why a run cannot have the layers that it needs.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// The object could not be loaded or configured.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The policy is too large for the kernel's tables.
    #[error(transparent)]
    Compile(#[from] policy::compile::CompileError),
    /// A layer that was asked for does not work here.
    #[error("layer `{layer}` is not to be had: {reason}")]
    Missing {
        /// Which.
        layer: &'static str,
        /// Why.
        reason: String,
    },
    /// No layer that observes works here.
    #[error("no layer that observes works here: {0}")]
    Blind(String),
    /// What is mounted where cannot be read.
    #[error("cannot read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// The policy says things that nothing holds.
    #[error(
        "the policy cannot be held here:\n{}\n  go on without these: --best-effort (`sandbox doctor` says what this machine holds)",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    )]
    Unheld(Vec<String>),
}

/// A policy of the run, in the kernel's tables.
struct InForce {
    policy: Installed,
    /// When it was put in force.
    since: Instant,
}

impl InForce {
    fn now(policy: Installed) -> Self {
        Self { policy, since: Instant::now() }
    }
}

/// The programs of one run.
pub struct Sensor {
    source: Source,
    reports: Vec<LayerReport>,
    unheld: Vec<String>,
    /// What was not looked at for other names of denied files.
    unseen: Vec<String>,
    /// Whether hooks judge.
    hooks: bool,
    /// Whether anything in the kernel judges, hooks or programs of the control group.
    judges: bool,
    /// The policies so far, the one in force last; programs may look at an older one's pages for a moment.
    installed: Vec<InForce>,
    /// The tables of policies that name hosts, where they are law.
    asked: Option<Arc<LsmPlan>>,
    /// Whether records tell what resolvers answer.
    hears: bool,
    walls: Walls,
    /// What the run's first process leaves.
    namespaces: Namespaces,
}

impl Sensor {
    /// Loads, attaches and proves the layers of a run; gives what later policies must fit, too. Nothing is a member yet.
    /// This process must have one thread: the self-tests fork.
    ///
    /// # Errors
    /// A required layer is missing, nothing observes, or the policy cannot be held.
    pub fn start(request: Request<'_>) -> Result<(Sensor, Terms), SensorError> {
        let mut sets = SetTable::new();
        let policies = request.judging.policies();
        let plan = match policies.as_slice() {
            [] => None,
            policies => Some(Arc::new(compile(policies, FIRST_POLICY, &mut sets)?)),
        };
        if by_notify::wanted(request.layers) {
            return by_notify::start(&request, plan.as_deref(), sets);
        }
        let known = match &plan {
            Some(plan) if plan.header.hashes != 0 => Known::Contents,
            _ => Known::Path,
        };
        let wanted = |layer| request.layers.includes(layer);
        let obstacle = wanted(Layer::Lsm).then(probe::lsm_obstacle);
        let mut spelled = Spellings::default();
        if obstacle == Some(None) {
            // What hooks do not hold, no try will tell; a try takes long.
            spelled = spellings::look(&policies)?;
            let works = Some(Ok(Vec::new()));
            let group = wanted(Layer::CgroupNet).then(|| match request.group {
                Some(_) => Ok(Vec::new()),
                None => Err(NO_GROUP.to_owned()),
            });
            let (lsm, group, kept) = (&works, &group, request.kept);
            let tmp = tmp::expected(&request);
            let layers = Layers {
                lsm,
                group,
                netns: &None,
                fence: None,
                kept,
                uncovered: None,
                tmp: &tmp,
                round: &[],
                spelled: &spelled.unheld,
            };
            unheld(&request, plan.as_deref(), &layers)?;
        }
        let _turn = (obstacle == Some(None)).then(Turn::begin);
        let mut object = Object::load(obstacle == Some(None))?;
        let mut ring = object.take_ring()?;
        let lsm = obstacle.map(|obstacle| try_lsm(&mut object, obstacle, known));
        let trace = wanted(Layer::Trace).then(|| try_trace(&mut object, &mut ring));
        let law = matches!(request.judging, Judging::Enforce(..));
        let purpose = match (&plan, &lsm) {
            (Some(plan), Some(Ok(_))) if plan.header.names == 0 && plan.header.own.count == 0 => {
                Purpose::Read
            }
            (_, Some(Ok(_))) => Purpose::Assist,
            _ => Purpose::Judge,
        };
        let netns = net::try_netns(&request, matches!(lsm, Some(Ok(_))));
        demand(&request, Layer::Netns, &netns)?;
        let apart = matches!(netns, Some(Ok(_)));
        let in_group = (wanted(Layer::CgroupNet) && law && !apart)
            .then(|| try_group(&mut object, request.group, purpose));
        // What names addresses have is no layer of its own: a record without is as true.
        let hears = wanted(Layer::CgroupNet)
            && !law
            && request.group.is_some_and(|group| watch_group(&mut object, group));
        discard(&mut ring);
        demand(&request, Layer::Lsm, &lsm)?;
        demand(&request, Layer::Trace, &trace)?;
        demand(&request, Layer::CgroupNet, &in_group)?;
        let (holds, sees) = (matches!(lsm, Some(Ok(_))), matches!(trace, Some(Ok(_))));
        if !holds && !sees && by_notify::can_stand_in(request.layers) {
            // What the programs could not do the calls themselves can tell.
            return by_notify::start(&request, plan.as_deref(), sets);
        }
        if !holds && !sees {
            let reasons = [&trace, &lsm].into_iter().flatten().filter_map(|tried| tried.as_ref().err());
            return Err(SensorError::Blind(reasons.cloned().collect::<Vec<_>>().join("; ")));
        }
        if !holds {
            spelled = Spellings::default();
        }
        let tried = walls::Tries { lsm: &lsm, group: &in_group, netns: &netns, spelled: &spelled.unheld };
        let (walls, unheld, walled) = walls::raise(&request, plan.as_deref(), tried)?;
        let namespaces = net::namespaces(apart)?;
        // From here on the slot is in use.
        let installed =
            plan.as_deref().map(|plan| lsm::install(&object, SLOT, plan, Force::Whole)).transpose()?;
        let installed = installed.map(InForce::now).into_iter().collect();
        object.configure(
            SLOT,
            RunConfig { mode: request.judging.mode() as u32, hooks: holds.into(), ..RunConfig::default() },
        )?;
        let in_force = matches!(in_group, Some(Ok(_)));
        let asked = plan.as_ref().filter(|plan| in_force && plan.header.names != 0).cloned();
        let marker = if holds { Some(Marker::new(&object, SLOT)?) } else { None };
        let mut terms = Terms {
            judges: holds || in_force || apart,
            held: walls.tmp.held(held_here(held(holds, in_force, walls.limits), &request, apart)),
            law,
            known,
            sets,
            names: asked.is_some() || apart,
            own: (in_force && purpose != Purpose::Read) || apart,
            next: FIRST_POLICY + 1,
            accepted: unheld.clone(),
            marker,
        };
        let mut unseen = terms.mark(&policies)?;
        unseen.extend(spelled.notes);
        let mut reports = Vec::new();
        let role = if holds && plan.is_some() { "observes and enforces" } else { "observes" };
        reports.extend(report(Layer::Lsm, role, lsm));
        reports.extend(report(Layer::Trace, "observes", trace));
        reports.extend(report(Layer::CgroupNet, "enforces", in_group));
        reports.extend(report(Layer::Netns, "enforces", netns));
        reports.extend(walled);
        Ok((
            Sensor {
                source: Source::Programs { object: Box::new(object), ring },
                reports,
                unheld,
                unseen,
                hooks: holds,
                judges: holds || in_force,
                installed,
                asked,
                hears,
                walls,
                namespaces,
            },
            terms,
        ))
    }

    /// The layers that hold, each with its self-test, and those that were tried and do not.
    pub fn reports(&self) -> &[LayerReport] {
        &self.reports
    }

    /// What the policy says and nothing holds; empty unless the user chose to go on without it.
    pub fn unheld(&self) -> &[String] {
        &self.unheld
    }

    /// Whether the command's process is to restrict itself.
    pub fn fenced(&self) -> Fenced {
        self.walls.fenced
    }

    /// Whether the command's process is to make an ender.
    pub fn wants_ender(&self) -> bool {
        self.walls.ending == Ending::Ender
    }

    /// What the command's process is to cover.
    pub fn mounts(&self) -> &Mounts {
        &self.walls.mounts
    }

    /// What the run's first process leaves before it executes the command.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Whether hooks judge the run.
    pub fn has_hooks(&self) -> bool {
        self.hooks
    }

    /// The program that the run's first process must run to be observed; `None` where it installs a filter instead and
    /// sends the listener for [`Sensor::supervise`].
    ///
    /// # Errors
    /// The object has no such program.
    pub fn arm_program(&self) -> Result<Option<BorrowedFd<'_>>, ObjectError> {
        self.source.object().map(Object::arm_program).transpose()
    }

    /// Begins to serve the listener of the run's first process, where calls are what is observed. `questions` takes what
    /// the run asks its runner.
    ///
    /// # Errors
    /// Its calls do not come, or its memory cannot be read here.
    pub fn supervise(&mut self, listener: OwnedFd, questions: Option<Sender<Waiting>>) -> io::Result<()> {
        self.source.supervise(listener, questions)
    }

    /// What a guardian needs to let calls go on when the collector cannot; empty where no call waits.
    pub fn stand_in_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.source.supervisor().map(|supervisor| supervisor.stand_in_fds().to_vec()).unwrap_or_default()
    }

    /// A second descriptor of the listener, to answer questions on; `None` where there is no supervisor.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn listener(&self) -> io::Result<Option<OwnedFd>> {
        self.source.supervisor().map(|supervisor| supervisor.listener()).transpose()
    }

    /// The layer that observes where no hook does.
    pub fn observer(&self) -> Layer {
        if self.source.object().is_some() { Layer::Trace } else { Layer::Notify }
    }

    /// Makes the run's first process a member as the hooks see it.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses.
    pub fn admit(&self, pid: u32) -> Result<(), ObjectError> {
        match self.source.object() {
            Some(object) if self.hooks => lsm::admit(object, SLOT, pid),
            _ => Ok(()),
        }
    }

    /// What a guardian needs to keep the run enforced and to end it; empty where nothing in the kernel judges.
    ///
    /// # Errors
    /// The object has no such map.
    pub fn lease_fds(&self) -> Result<Vec<BorrowedFd<'_>>, ObjectError> {
        match self.source.object() {
            Some(object) if self.judges => Lease::fds(object),
            _ => Ok(Vec::new()),
        }
    }

    /// The collector's own hold on the programs; `None` where nothing in the kernel judges.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn lease(&self) -> io::Result<Option<Lease>> {
        let fds = self.lease_fds().map_err(io::Error::other)?;
        let fds = fds.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        Ok(Lease::from_fds(SLOT, fds))
    }

    /// Puts other policies in force. When this returns, no hook that does not sleep looks at those before any more.
    ///
    /// # Errors
    /// The kernel refuses; what was in force still is.
    pub fn apply(&mut self, planned: &Planned, force: Force) -> Result<(), ObjectError> {
        let Some(plan) = &planned.plan else { return Ok(()) };
        let object = self.source.programs()?;
        let installed = lsm::install(object, SLOT, plan, force)?;
        self.installed.push(InForce::now(installed));
        // What belonged to an older one stays for a while: a program that sleeps may still look at it, and answers to
        // questions change policies in quick succession. What cannot be removed is never asked again: a number is not
        // given twice.
        let replaced = self.installed.iter().skip(1).take_while(|next| next.since.elapsed() > KEPT).count();
        let old = replaced.min(self.installed.len().saturating_sub(2));
        for older in &mut self.installed[..old] {
            let _ = lsm::remove(object, &mut older.policy);
        }
        Ok(())
    }

    /// A descriptor that becomes readable when records wait.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn ready(&self) -> io::Result<OwnedFd> {
        self.source.ready()
    }

    /// What the user should know before the command starts.
    pub fn notes(&self) -> Vec<String> {
        let unheld = self.unheld.iter().map(|line| format!("{NOT_HELD}{line}"));
        let observer = self.source.object().is_none().then(by_notify::note);
        let rest = self.unseen.iter().chain(&self.walls.notes).cloned();
        observer.into_iter().chain(unheld).chain(rest).collect()
    }

    /// Hands the next records of the run to `take`, at most `limit` of them; returns how many there were.
    pub fn drain(&mut self, limit: usize, take: impl FnMut(Result<RawEvent, Malformed>)) -> usize {
        self.source.drain(limit, take)
    }

    /// Why records are lost, where some are.
    pub fn loss(&self) -> &'static str {
        self.source.loss()
    }

    /// The end of the run has begun: whatever is in hand can be drained when this returns, and of calls that are made
    /// after it nothing need be told.
    pub fn end(&self) {
        if let Some(supervisor) = self.source.supervisor() {
            supervisor.end();
        }
    }

    /// The tables by which questions for names are to be answered; `None` where they need not be.
    pub fn asked(&self) -> Option<&Arc<LsmPlan>> {
        self.asked.as_ref()
    }

    /// Whether records tell what resolvers answer to a run that is only watched.
    pub fn hears_answers(&self) -> bool {
        self.hears
    }

    /// The runner stands in for a resolver of the machine's at these ports.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stand_in(&self, resolver: IpAddr, stub: Stub) -> Result<(), ObjectError> {
        group::stand_in(self.source.programs()?, SLOT, resolver, stub)
    }

    /// The kernel's map of named addresses.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn hosts(&self) -> Result<OwnedFd, ObjectError> {
        let hosts = self.source.programs()?.map("HOSTS")?.try_clone_to_owned();
        hosts.map_err(|source| ObjectError::Call { what: "hold the table of named addresses", source })
    }

    /// Has the ends told of connections that outlive the run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn tell_connections(&self) -> Result<(), ObjectError> {
        self.source.object().map_or(Ok(()), |object| object.tell_connections(SLOT))
    }

    /// The run's counters.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<RunCounters, ObjectError> {
        self.source.counters()
    }
}

/// A layer that was named must be there.
fn demand(request: &Request<'_>, layer: Layer, tried: &Option<Tried>) -> Result<(), SensorError> {
    let named = request.layers.names(layer);
    match tried {
        Some(Err(reason)) if named || request.required.contains(&layer) => {
            Err(SensorError::Missing { layer: layer.name(), reason: reason.clone() })
        }
        _ => Ok(()),
    }
}
