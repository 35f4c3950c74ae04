//! The first process of a run, from fork to exec.
//!
//! It waits to be armed, waits for the go, takes the user's ids, puts back what the runner changed, and
//! executes the command. In an audit-only run nothing else happens here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use policy::compile::capabilities::{given_up, seeing_memory};
use policy::compile::seccomp::{self, Filter, Hooks};

use super::apart::{self, Apart};
use super::handshake::{
    Armed, By, Channel, ChildFailure, ChildStep, Fenced, GivesUp, Go, Join, Received, ToChild,
};
use super::identity::{Identity, Target};
use super::inherited;
use super::program::Program;
use super::rlimits::Rlimits;
use crate::asking::{self, Sections};
use crate::enforce::capabilities::give_up;
use crate::enforce::landlock::{Fence, LandlockError, Ports};
use crate::enforce::namespaces::families::UnixSockets;
use crate::enforce::seccomp::install;
use crate::exit::Exit;
use crate::inside::{self, filter};
use crate::observe::notify;

/// Makes the calling task a member of the run, with the descriptor that the collector sent.
pub type Arm = fn(BorrowedFd<'_>) -> io::Result<()>;

/// What holds the command beside the kernel's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Audit-only: nothing.
    None,
    /// Enforced: no gain of privileges, and the system call filter.
    Enforced,
}

/// What the child holds from birth.
#[derive(Debug)]
pub struct ChildLinks {
    /// To the collector.
    pub collector: Channel<Armed, ToChild>,
    /// To the front-end.
    pub front: Channel<ChildFailure, Go>,
}

/// What the child executes, and as whom.
#[derive(Clone, Debug)]
pub struct ChildPlan<'a> {
    /// The command.
    pub program: &'a Program,
    /// Whose ids it runs with.
    pub target: &'a Target,
    /// What holds it.
    pub confinement: Confinement,
    /// Whether it begins a session of its own.
    pub begins_session: bool,
    /// What it sets on itself, where no control group does.
    pub limits: Rlimits,
    /// What the policies ask of the system call filter, where they are held.
    pub filter: Filter,
    /// Its directory.
    pub cwd: &'a Path,
    /// What it puts around itself where the collector says so.
    pub fence: Option<&'a Fence>,
    /// The signal mask it starts with.
    pub mask: &'a SigSet,
    /// Whether unix sockets can be made in a network namespace.
    pub unix: UnixSockets,
    /// Variables that may lead it to the relay, where it has a network namespace.
    pub proxied: Vec<&'static str>,
}

/// Runs the child. It returns only when the command was not executed, with the exit status of the process.
pub fn run(links: ChildLinks, plan: ChildPlan<'_>, arm: Arm) -> Exit {
    let Some(orders) = become_member(&links, &plan, arm) else { return Exit::CANNOT_START };
    match links.front.receive() {
        Ok(Received::Message(Go::Now, _)) => {}
        // The front-end has ended: nobody wants the command any more.
        _ => return Exit::CANNOT_START,
    }
    // The collector must be able to tell a command from a child that still waits.
    drop(links.collector);
    let failure = execute(&plan, &orders);
    let exit = match (failure.step, Errno::from_raw(failure.errno)) {
        // A file that is there and "not found" names an interpreter that is not.
        (ChildStep::Exec, Errno::ENOENT | Errno::ENOTDIR) if !plan.program.is_there() => Exit::NOT_FOUND,
        (ChildStep::Exec, _) => Exit::NOT_EXECUTABLE,
        _ => Exit::CANNOT_START,
    };
    let _ = links.front.send(&failure);
    exit
}

/// What the collector says of how the command is held.
struct Orders {
    apart: Apart,
    hooks: Hooks,
    gives_up: GivesUp,
    fence: Fenced,
    /// The fence as its places are inside, where the process has a /tmp of its own.
    inside: Option<Fence>,
}

/// Makes the child a member, behind its namespaces and covers; gives how it is held. `None`: it could not become one.
fn become_member(links: &ChildLinks, plan: &ChildPlan<'_>, arm: Arm) -> Option<Orders> {
    // While none of its calls wait.
    let (apart, Join { by, hooks, gives_up, fence, asks }, fds) =
        apart::enter_until_joined(&links.collector, plan.cwd)?;
    let inside = match fence_inside(plan, fence, apart.has_tmp()) {
        Ok(inside) => inside,
        Err(error) => {
            let _ = links.collector.send(&Armed::NotCovered { why: error.to_string() });
            return None;
        }
    };
    let joined = match by {
        By::Program if !asks.is_empty() => run_program_and_ask(links, asks, arm, &fds),
        By::Program => run_program(links, plan.confinement, arm, &fds),
        By::Calls => hand_over_calls(links, plan.confinement),
    };
    let hooks = if hooks { Hooks::Judge } else { Hooks::Missing };
    joined.then_some(Orders { apart, hooks, gives_up, fence, inside })
}

/// The same, where calls are to wait: their filter comes with it, and its listener is sent by a thread that does not have
/// it, since the call that sends could be one that waits.
fn run_program_and_ask(links: &ChildLinks, asks: Sections, arm: Arm, fds: &[OwnedFd]) -> bool {
    let (give, take) = std::sync::mpsc::sync_channel::<(Option<OwnedFd>, Armed)>(1);
    let send = move || {
        let Ok((listener, armed)) = take.recv() else { return false };
        let listener: Vec<BorrowedFd<'_>> = listener.iter().map(AsFd::as_fd).collect();
        links.collector.send_with(&armed, &listener).is_ok() && armed == Armed::Yes
    };
    std::thread::scope(|scope| {
        // Before the process is a member: the thread is none, and has no filter.
        let Ok(sender) = std::thread::Builder::new().spawn_scoped(scope, send) else { return false };
        // Without one the run is as safe: what asks is denied, and the collector says so.
        let listener = asking::filter::listen(asks).ok();
        let listens = listener.is_some();
        let _ = give.send((listener, armed_by(arm, fds)));
        let sent = sender.join().unwrap_or(false);
        if sent && listens {
            asking::filter::probe();
        }
        sent
    })
}

/// Runs the program that the collector sent.
fn armed_by(arm: Arm, fds: &[OwnedFd]) -> Armed {
    match fds.first() {
        None => Armed::Yes,
        Some(fd) => match arm(fd.as_fd()) {
            Ok(()) => Armed::Yes,
            Err(error) => Armed::Failed { errno: error.raw_os_error().unwrap_or(libc::EIO) },
        },
    }
}

/// Becomes a member by the program that the collector sent.
fn run_program(links: &ChildLinks, confinement: Confinement, arm: Arm, fds: &[OwnedFd]) -> bool {
    let listener = match confinement {
        Confinement::None => None,
        // Without one the run is as safe; the collector says that it will not answer.
        Confinement::Enforced => filter::listen().ok(),
    };
    let armed = armed_by(arm, fds);
    let listener: Vec<BorrowedFd<'_>> = listener.iter().map(AsFd::as_fd).collect();
    links.collector.send_with(&armed, &listener).is_ok() && armed == Armed::Yes
}

/// Becomes a member by the filter that hands this thread's calls, and those of whatever it executes, to the collector.
fn hand_over_calls(links: &ChildLinks, confinement: Confinement) -> bool {
    // A task has one listener, so what an enforced run asks its runner comes by the same one.
    let question = match confinement {
        Confinement::None => notify::filter::Question::None,
        Confinement::Enforced => notify::filter::Question::Asked,
    };
    let sent = notify::filter::hand_over(question, |listener| match listener {
        Ok(listener) => links.collector.send_with(&Armed::Yes, &[listener.as_fd()]).is_ok(),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = links.collector.send(&Armed::Failed { errno });
            false
        }
    });
    let sent = sent.unwrap_or(false);
    if sent {
        notify::probe();
    }
    sent
}

/// Everything up to exec; comes back with what failed.
fn execute(plan: &ChildPlan<'_>, orders: &Orders) -> ChildFailure {
    let failed =
        |step, error: &io::Error| ChildFailure { step, errno: error.raw_os_error().unwrap_or(libc::EIO) };
    if let Identity::Switch = plan.target.identity
        && let Err(error) = plan.target.assume()
    {
        return failed(ChildStep::Identity, &error);
    }
    inherited::restore_dispositions();
    inherited::restore_closed_descriptors();
    // A signal that came in meanwhile, Ctrl-C for instance, acts here as it would have on the command.
    if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(plan.mask), None) {
        return failed(ChildStep::Exec, &error.into());
    }
    if plan.begins_session
        && let Err(error) = nix::unistd::setsid()
    {
        return failed(ChildStep::Session, &error.into());
    }
    if plan.confinement == Confinement::Enforced {
        if let Err(error) = inherited::keep_standard_descriptors_only() {
            return failed(ChildStep::Exec, &error);
        }
        // As the user who is counted, and who is the ender's, too, where nobody else is meant.
        let ender = orders.apart.is_guarded() && matches!(plan.target.identity, Identity::Keep);
        if let Err(error) = plan.limits.beside(u64::from(ender)).set() {
            return failed(ChildStep::Limits, &error);
        }
        if let Err(error) = nix::sys::prctl::set_no_new_privs() {
            return failed(ChildStep::NoNewPrivs, &error.into());
        }
        if let Err(error) = give_up_capabilities(&plan.filter.allowed, orders.gives_up) {
            return failed(ChildStep::Capabilities, &error);
        }
        if let Err(error) = fence(plan, orders) {
            return failed(ChildStep::Landlock, &error);
        }
        if let Err(error) = orders.apart.check_standard_descriptors() {
            return failed(ChildStep::Standard, &error);
        }
        if let Err(error) = orders.apart.close_other_families(plan.unix) {
            return failed(ChildStep::Seccomp, &error);
        }
        let filter = seccomp::compile(&plan.filter, orders.hooks);
        if let Err(error) = install(&filter, &[inside::QUESTION as u32]) {
            return failed(ChildStep::Seccomp, &error);
        }
    }
    let led = orders.apart.lead(plan.program, &plan.proxied);
    ChildFailure { step: ChildStep::Exec, errno: exec(led.as_ref().unwrap_or(plan.program)) as i32 }
}

/// Gives up the capabilities by which nothing would judge what it does.
fn give_up_capabilities(allowed: &[&str], gives_up: GivesUp) -> io::Result<()> {
    match gives_up {
        GivesUp::Nothing => Ok(()),
        GivesUp::Sight => give_up(seeing_memory(allowed)),
        GivesUp::Unopened => give_up(given_up(allowed)),
    }
}

/// The fence again, with what is at its places now: Landlock goes by what was opened, and in a /tmp of the run's own that
/// is something else.
fn fence_inside(plan: &ChildPlan<'_>, fenced: Fenced, tmp: bool) -> Result<Option<Fence>, LandlockError> {
    match plan.fence.filter(|_| tmp && fenced != Fenced::No) {
        Some(fence) => Fence::of(fence.plans().to_vec()).map(Some),
        None => Ok(None),
    }
}

/// Puts the fence up where it is to be.
fn fence(plan: &ChildPlan<'_>, orders: &Orders) -> io::Result<()> {
    match (orders.fence, orders.inside.as_ref().or(plan.fence)) {
        (Fenced::No, _) => Ok(()),
        (Fenced::Yes, Some(fence)) => fence.restrict(Ports::Held),
        (Fenced::WithoutPorts, Some(fence)) => fence.restrict(Ports::Free),
        (_, None) => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Tries each candidate as execvp(3) does: a file that may not be executed does not hide a later one.
fn exec(program: &Program) -> Errno {
    let mut denied = None;
    for path in program.candidates() {
        match program.exec(path) {
            Errno::ENOEXEC => return exec_script(program, path),
            Errno::EACCES => denied = Some(Errno::EACCES),
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            other => return other,
        }
    }
    denied.unwrap_or(Errno::ENOENT)
}

/// A text without `#!` is a shell script, to execvp(3) and to every shell.
fn exec_script(program: &Program, path: &CString) -> Errno {
    let mut argv = vec![c"/bin/sh".to_owned(), path.clone()];
    argv.extend(program.argv().iter().skip(1).cloned());
    program.exec_with(c"/bin/sh", &argv)
}
