//! A run that can be started: everything is looked up, found, checked and made.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use policy::compile::seccomp::Filter;
use policy::settings::Limits;
use policy::{Policies, Policy, Variables};

use policy::compile::layers::Kept;

use super::cgroup::Cgroup;
use super::child::{ChildPlan, Confinement};
use super::existing::Expanded;
use super::guardian::OnFailure;
use super::identity::Target;
use super::limits::LimitGroups;
use super::program::Program;
use super::standard::Standard;
use crate::asking;
use crate::baseline::file::Baseline;
use crate::enforce::landlock::Fence;
use crate::enforce::namespaces::families::UnixSockets;
use crate::enforce::relay::variables;
use crate::enforce::tmp::PrivateTmp;
use crate::evidence::Contents;
use crate::record::store::{RunDir, StoreDir};
use crate::record::{Checkpoints, Durability, OnLogError, anchor};
use crate::settings::{Layer, LayerChoice, OnUnheld};
use crate::terminal::Bell;

/// What the run does with a policy.
#[derive(Clone, Debug)]
pub enum Mode {
    /// There is none: record only.
    Observe,
    /// Judge by them without blocking.
    Audit(Policies),
    /// Hold them; those on trial are only judged by.
    Enforce(Policies, OnUnheld),
}

/// Whose child the command's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parentage {
    /// The front-end's, as a shell would have it.
    FrontEnd,
    /// The collector's, which must be able to look into the run's processes: Yama lets an ordinary user do that only to
    /// who descends from it. What loses its parent becomes its child.
    Collector,
}

/// How the record is written and attested.
#[derive(Clone, Debug)]
pub struct RecordPlan {
    /// Whether the run is entered into the store's ledger: not where `--run-dir` puts its record elsewhere.
    pub entered: bool,
    /// When the log is made durable.
    pub durability: Durability,
    /// What happens when it cannot be written, where that was said.
    pub on_log_error: Option<OnLogError>,
    /// When it is signed and anchored.
    pub checkpoints: Checkpoints,
    /// Where its heads go.
    pub anchors: Vec<anchor::Target>,
}

/// A run, before its processes exist.
#[derive(Debug)]
pub struct RunPlan {
    /// What it does with a policy.
    pub mode: Mode,
    /// What the `existing` of its policies stood for, to be looked up again; empty where nothing is enforced.
    pub expanded: Expanded,
    /// The policy of the runner itself, which is among them in an enforced run.
    pub guard: Option<Policy>,
    /// What of it is asked about, and whom.
    pub asking: asking::Settings,
    /// The way to whoever holds the user's terminal, where the run has another.
    pub bell: Option<Bell>,
    /// Whether it puts questions there.
    pub asks_here: bool,
    /// The file of its policy, or why answers cannot be written into one.
    pub policy_file: Result<asking::PolicyFile, String>,
    /// What the variables of its policies mean.
    pub variables: Variables,
    /// Layers to use.
    pub layers: LayerChoice,
    /// Layers that must be there.
    pub required: Vec<Layer>,
    /// Whose child the command's process is.
    pub parentage: Parentage,
    /// The record's directory, which also names the run.
    pub run_dir: RunDir,
    /// The store, where there is one: its ledger and its key.
    pub store: Option<StoreDir>,
    /// How the record is written and attested.
    pub record: RecordPlan,
    /// Who acts, in the record.
    pub agent_id: String,
    /// The command as it was given.
    pub command: Vec<OsString>,
    /// The command as it is executed.
    pub program: Program,
    /// Its user.
    pub target: Target,
    /// Its directory.
    pub cwd: PathBuf,
    /// What is to be known of the files that it changes, where that is asked for.
    pub contents: Option<Contents>,
    /// What runs usually do, where what is new is to be told.
    pub baseline: Option<Arc<Baseline>>,
    /// Its control group, where there could be one.
    pub cgroup: Option<Cgroup>,
    /// The groups that limit it.
    pub limits: LimitGroups,
    /// What the command's process can put around itself, or why there is nothing; `None` where that is not wanted.
    pub fence: Option<Result<Fence, String>>,
    /// A /tmp of its own, or why there is none; `None` where that is not asked for.
    pub tmp: Option<Result<PrivateTmp, String>>,
    /// The standard descriptors that lead to something with a path.
    pub standard: Vec<Standard>,
    /// What is kept from the command beside all layers.
    pub kept: Vec<Kept>,
    /// What the user should know before it starts.
    pub notes: Vec<String>,
}

impl Mode {
    /// The policies, where there are any.
    pub fn policies(&self) -> Option<&Policies> {
        match self {
            Mode::Observe => None,
            Mode::Audit(policies) | Mode::Enforce(policies, _) => Some(policies),
        }
    }
}

impl Mode {
    /// The limits that are to hold: a run that is only recorded has none.
    pub fn limits(&self) -> Limits {
        match self {
            Mode::Enforce(policies, _) => policies.limits(),
            Mode::Observe | Mode::Audit(_) => Limits::default(),
        }
    }
}

impl RunPlan {
    /// What becomes of the run when its runner fails.
    pub fn on_failure(&self) -> OnFailure {
        match self.mode {
            Mode::Observe | Mode::Audit(_) => OnFailure::LetGo,
            Mode::Enforce(..) => OnFailure::EndTree,
        }
    }

    /// What becomes of it when its log cannot be written: an enforced run ends with its record; one that only
    /// audits changes nothing about the command, so it goes on and the record tells of the hole, unless the user said
    /// otherwise.
    pub fn on_log_error(&self) -> OnLogError {
        self.record.on_log_error.unwrap_or(match self.on_failure() {
            OnFailure::EndTree => OnLogError::Stop,
            OnFailure::LetGo => OnLogError::Continue,
        })
    }

    /// Whether the command begins a session of its own, without a terminal: an enforced one is never in its caller's, where
    /// the kernel signals whole process groups for it. One on a terminal of its own is in that one's.
    pub fn begins_session(&self) -> bool {
        self.on_failure() == OnFailure::EndTree && self.bell.is_none()
    }

    /// The descriptors that it holds: processes of the runner which close all others keep these.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let beside =
            self.store.as_ref().map(AsFd::as_fd).into_iter().chain(self.bell.as_ref().map(AsFd::as_fd));
        std::iter::once(self.run_dir.as_fd()).chain(beside)
    }

    /// What the child needs of it.
    pub fn child<'a>(&'a self, mask: &'a SigSet) -> ChildPlan<'a> {
        let confinement = match self.on_failure() {
            OnFailure::LetGo => Confinement::None,
            OnFailure::EndTree => Confinement::Enforced,
        };
        let filter = self.mode.policies().map_or_else(|| Filter::new(Vec::new()), Policies::filter);
        let fence = self.fence.as_ref().and_then(|fence| fence.as_ref().ok());
        ChildPlan {
            program: &self.program,
            target: &self.target,
            confinement,
            begins_session: self.begins_session(),
            limits: self.limits.own(),
            filter,
            cwd: &self.cwd,
            fence,
            mask,
            unix: match self.mode.policies() {
                Some(policies) if policies.closes_unix_sockets() => UnixSockets::Closed,
                _ => UnixSockets::Open,
            },
            proxied: variables::allowed(self.mode.policies()),
        }
    }
}
