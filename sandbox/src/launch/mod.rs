//! Starting a run: its processes, its control group, its first process, and who ends it.
//!
//! ```text
//! front-end ──fork──▶ child ──exec──▶ the command      same terminal, same process group (enforced: below)
//!     ├───────fork──▶ collector                        own session; observes, decodes, records
//!     └───────fork──▶ guardian                         own session; ends an enforced run that lost its runner
//! ```
//!
//! A command that is enforced is in no session of its caller's: on a pseudo terminal that whole tree is in that one's
//! ([`crate::terminal`]), and elsewhere the child begins one. The kernel signals whole process groups for what a member
//! does, and asks no layer (orphaned groups, reading from the background).
//!
//! Where the run is observed by its own calls (`notify`) the child is the collector's instead, in the same place at the
//! terminal ([`plan::Parentage`]).
//!
//! All are forked from one process with one thread, before any runtime exists. They talk over typed sockets
//! ([`handshake`]) on which the death of a peer is a message too. What is observed and how it is recorded is
//! not decided here: the collector brings it as [`Roles`].

pub mod aliases;
pub mod apart;
pub mod background;
pub mod cgroup;
pub mod child;
pub mod descendants;
pub mod ender;
pub mod ending;
pub mod existing;
pub mod frontend;
mod git;
pub mod guard;
pub mod guardian;
pub mod handshake;
pub mod identity;
pub mod inherited;
pub mod limits;
pub mod links;
pub mod permissions;
pub mod plan;
pub mod policy;
pub mod process;
pub mod program;
pub mod readiness;
pub mod rlimits;
pub mod signals;
pub mod standard;
mod terminal;
pub mod tmp;
pub mod workspace;

use std::io;
use std::os::fd::AsFd;

use nix::unistd::{ForkResult, fork};

use crate::exit::CommandStatus;
use child::ChildLinks;
use frontend::{FrontLinks, Job, Outcome};
use guardian::{Descent, GuardianLinks, LeaseFrom};
use handshake::{Armed, Channel, FromCollector, FromFrontEnd, FromGuardian, Received, ToChild, ToGuardian};
use plan::{Parentage, RunPlan};
use process::Process;
use signals::Signals;

/// What the processes of a run do beside living and dying.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// In the child, still root: become a member, with the descriptor that the collector sent.
    pub arm: child::Arm,
    /// In the collector: everything, until the record is finished. Gives the exit status of that process.
    pub collect: fn(&RunPlan, CollectorLinks) -> i32,
    /// In the guardian: make a membership out of descriptors.
    pub lease_from: LeaseFrom,
}

/// What the collector holds from birth.
#[derive(Debug)]
pub struct CollectorLinks {
    /// To the front-end.
    pub front: Channel<FromCollector, FromFrontEnd>,
    /// To the child, until it has executed the command.
    pub child: Channel<ToChild, Armed>,
    /// To the guardian.
    pub guardian: Channel<ToGuardian, FromGuardian>,
    /// The front-end.
    pub front_process: Process,
    /// The first process of the run.
    pub child_process: Process,
}

/// A run could not be launched: the system refused something that it hardly ever refuses.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct LaunchError {
    step: &'static str,
    source: io::Error,
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError { step, source }
}

/// Forks the processes of the run and stays with it until it has ended. `say` prints notes for the user.
///
/// The caller must have one thread only.
pub fn launch(plan: &RunPlan, roles: Roles, say: &dyn Fn(&str)) -> Result<Outcome, LaunchError> {
    let sockets = failed("make the sockets between the run's processes");
    let (front_to_collector, collector_to_front) = handshake::pair().map_err(&sockets)?;
    let (front_to_child, child_to_front) = handshake::pair().map_err(&sockets)?;
    let (collector_to_child, child_to_collector) = handshake::pair().map_err(&sockets)?;
    let (collector_to_guardian, guardian_to_collector) = handshake::pair().map_err(&sockets)?;
    let signals = Signals::take().map_err(failed("take the signals of the run"))?;
    let hold = failed("take hold of a process of the run");

    // In each process only its own ends may stay open: one that lives on elsewhere would hide a death.
    let child_links = ChildLinks { collector: child_to_collector, front: child_to_front };
    let front_process = Process::own().map_err(&hold)?;
    let collector_ends = (collector_to_front, collector_to_child, collector_to_guardian);
    let (child_process, collector_process) = match plan.parentage {
        Parentage::FrontEnd => {
            let child_process = match fork_one().map_err(failed("fork the command's process"))? {
                Forked::Here => {
                    drop((front_to_collector, front_to_child, guardian_to_collector, collector_ends));
                    play_child(child_links, plan, &signals, roles)
                }
                Forked::Child(pid) => Process::open(pid).map_err(&hold)?,
            };
            drop(child_links);
            into_groups(plan, child_process.pid())?;
            let (front, child, guardian) = collector_ends;
            let held = child_process.try_clone().map_err(&hold)?;
            let links = CollectorLinks { front, child, guardian, front_process, child_process: held };
            let collector_process = match fork_one().map_err(failed("fork the collector"))? {
                Forked::Here => stay(|| (roles.collect)(plan, links)),
                Forked::Child(pid) => Process::open(pid).map_err(&hold)?,
            };
            drop(links);
            (child_process, collector_process)
        }
        Parentage::Collector => {
            // Whoever dies between the command and this process leaves it to this one, so that its end is seen.
            descendants::adopt().map_err(failed("take in what loses its parent"))?;
            let collector_process = match fork_one().map_err(failed("fork the collector"))? {
                Forked::Here => {
                    drop((front_to_collector, front_to_child, guardian_to_collector));
                    let child_process = match descendants::adopt().and_then(|()| fork_one()) {
                        Ok(Forked::Here) => {
                            drop(collector_ends);
                            play_child(child_links, plan, &signals, roles)
                        }
                        Ok(Forked::Child(pid)) => Process::open(pid),
                        Err(error) => Err(error),
                    };
                    drop(child_links);
                    let (front, child, guardian) = collector_ends;
                    let made = child_process.map_err(failed("fork the command's process"));
                    let made = made.and_then(|child| into_groups(plan, child.pid()).map(|()| child));
                    let (child_process, told) = match made {
                        Ok(child) => {
                            let told = front.send(&FromCollector::Child { pid: child.pid() });
                            (child, told)
                        }
                        Err(error) => {
                            let message = format!("{error}: {}", error.source);
                            let exit = crate::exit::Exit::CANNOT_START.code();
                            let _ = front.send(&FromCollector::Refused { exit, message });
                            stay(|| 1)
                        }
                    };
                    if told.is_err() {
                        stay(|| 1);
                    }
                    let links = CollectorLinks { front, child, guardian, front_process, child_process };
                    stay(|| (roles.collect)(plan, links))
                }
                Forked::Child(pid) => Process::open(pid).map_err(&hold)?,
            };
            drop((child_links, collector_ends, front_process));
            match front_to_collector.receive().map_err(failed("hear of the command's process"))? {
                Received::Message(FromCollector::Child { pid }, _) => {
                    // Its parent asks for its end only when this process was told of it.
                    (Process::open(pid).map_err(&hold)?, collector_process)
                }
                Received::Message(FromCollector::Refused { exit, message }, _) => {
                    return Ok(Outcome::Refused { exit, message });
                }
                _ => {
                    let ended = collector_process.wait_for_end(frontend::LAST_BREATH);
                    return Ok(Outcome::NeverStarted { ended, message: None });
                }
            }
        }
    };

    let guardian_links = GuardianLinks {
        collector: guardian_to_collector,
        collector_process: collector_process.try_clone().map_err(&hold)?,
        front_process: Process::own().map_err(&hold)?,
        child: child_process.try_clone().map_err(&hold)?,
        descent: match plan.parentage {
            Parentage::Collector => Descent::OfCollector,
            Parentage::FrontEnd => Descent::Unknown,
        },
    };
    let guardian_process = match fork_one().map_err(failed("fork the guardian"))? {
        Forked::Here => {
            let cgroup = plan.cgroup.as_ref();
            background::close_to_others();
            stay(|| guardian::run(guardian_links, cgroup, plan.on_failure(), roles.lease_from))
        }
        Forked::Child(pid) => Process::open(pid).map_err(&hold)?,
    };
    drop(guardian_links);

    let links = FrontLinks {
        collector: front_to_collector,
        child: front_to_child,
        collector_process,
        guardian_process,
        child_process,
        parentage: plan.parentage,
    };
    let terminal = terminal::Kept::now();
    let keep = [
        signals.as_fd(),
        links.collector.as_fd(),
        links.child.as_fd(),
        links.collector_process.as_fd(),
        links.guardian_process.as_fd(),
        links.child_process.as_fd(),
    ];
    let kept_open = terminal.as_ref().map(|kept| kept.terminal.as_fd());
    let keep: Vec<_> = keep.into_iter().chain(kept_open).chain(plan.descriptors()).collect();
    background::leave_streams_to_the_command(&keep).map_err(failed("leave the streams to the command"))?;
    background::close_to_others();
    let outcome =
        frontend::run(links, &signals, plan.cgroup.as_ref(), plan.on_failure(), &Job::of(plan), say);
    if let (Some(terminal), Ok(Outcome::Ran { status: CommandStatus::Signalled(_), .. }) | Err(_)) =
        (&terminal, &outcome)
    {
        terminal.restore();
    }
    outcome.map_err(failed("wait for the run"))
}

/// The child's part, from fork to exec.
fn play_child(links: ChildLinks, plan: &RunPlan, signals: &Signals, roles: Roles) -> ! {
    stay(|| child::run(links, plan.child(signals.found_mask()), roles.arm).code().into())
}

/// Moves the command's process into the groups of the run.
fn into_groups(plan: &RunPlan, pid: u32) -> Result<(), LaunchError> {
    if let Some(cgroup) = &plan.cgroup {
        cgroup.add(pid).map_err(|error| LaunchError {
            step: "move the command into its control group",
            source: io::Error::other(error),
        })?;
    }
    plan.limits.add(pid).map_err(failed("move the command into the groups that limit it"))
}

enum Forked {
    /// This is the new process.
    Here,
    /// This is the old one; the new one's pid.
    Child(u32),
}

fn fork_one() -> io::Result<Forked> {
    // SAFETY: the process has one thread (see `launch`), so the copy may do everything that the original may.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(Forked::Here),
        ForkResult::Parent { child } => Ok(Forked::Child(child.as_raw().unsigned_abs())),
    }
}

/// Exit status of a process of ours that panicked, as Rust has it.
const PANICKED: i32 = 101;

/// Plays a role to its end and ends the process: a panic must not unwind into the copy of the front-end that
/// a fork leaves on the stack, and nothing runs that the original registered for its own end.
fn stay(role: impl FnOnce() -> i32) -> ! {
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(role)).unwrap_or(PANICKED);
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}
