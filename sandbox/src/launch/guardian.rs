//! The guardian: a small process that ends an enforced run when the others no longer can.
//!
//! It watches the collector and the front-end by pidfd and the collector by its heartbeat. It holds the
//! descriptors that keep the programs attached, so that enforcement stays in force until the tree is dead. It
//! records nothing, and in an audit-only run it ends nothing. Where calls of such a run wait for the collector, it lets
//! them go on while that is stopped, and when it has ended, until no process of the run is left.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::background;
use super::cgroup::Cgroup;
use super::descendants::{self, Below};
use super::ender::Ender;
use super::ending::{Membership, Patience, Tree, end_tree};
use super::handshake::{Channel, FromGuardian, Received, ToGuardian};
use super::process::Process;
use crate::observe::notify::StandIn;

/// How often the collector says that it lives.
pub const HEARTBEAT: Duration = Duration::from_millis(200);
/// After how long without a word it counts as stopped. CLOCK_MONOTONIC, so a sleeping machine does not count.
const SILENCE: Duration = Duration::from_secs(3);

/// How often what came to the front-end is looked at, at the end.
const LOOK: Duration = Duration::from_millis(5);

/// How long, in milliseconds, the collector may take to go once it has said that all is well.
const LAST: u16 = 10_000;

/// What becomes of a run whose runner fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Enforced: everything inside is ended.
    EndTree,
    /// Audit-only: the command goes on.
    LetGo,
}

/// Makes a membership out of the descriptors that the collector sent along.
pub type LeaseFrom = fn(Vec<OwnedFd>) -> Option<Box<dyn Membership>>;

/// What the guardian holds from birth.
#[derive(Debug)]
pub struct GuardianLinks {
    /// To the collector.
    pub collector: Channel<FromGuardian, ToGuardian>,
    /// The collector.
    pub collector_process: Process,
    /// The front-end.
    pub front_process: Process,
    /// The first process of the run.
    pub child: Process,
    /// By what descent the run is found.
    pub descent: Descent,
}

/// From whom a run descends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// From the collector.
    OfCollector,
    /// What loses its parent is not found by descent.
    Unknown,
}

/// What the guardian learned in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Nothing,
    Released,
    Failed(Failure),
}

/// How the runner failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    CollectorDied,
    CollectorSilent,
    FrontEndDied,
}

impl Failure {
    fn why(self) -> &'static str {
        match self {
            Failure::CollectorDied => "the collector died",
            Failure::CollectorSilent => "the collector was stopped, or could not run for 3 seconds",
            Failure::FrontEndDied => "the front-end died",
        }
    }
}

struct Guardian {
    links: GuardianLinks,
    on_failure: OnFailure,
    lease_from: LeaseFrom,
    lease: Option<Box<dyn Membership>>,
    /// When the collector was last heard; `None` until the run is about to start.
    heard: Option<Instant>,
    /// Who ends the run where neither hooks nor a control group do.
    ender: Option<Ender>,
    /// What the front-end had below it before the run.
    before: Vec<u32>,
    /// Where calls of the run wait for the collector.
    stand_in: Option<StandIn>,
    /// Whether it stands in just now.
    standing_in: bool,
}

/// Runs the guardian; gives the exit status of its process.
pub fn run(
    links: GuardianLinks,
    cgroup: Option<&Cgroup>,
    on_failure: OnFailure,
    lease_from: LeaseFrom,
) -> i32 {
    let before = match links.descent {
        Descent::OfCollector => strangers(&links),
        Descent::Unknown => Vec::new(),
    };
    let keep: [BorrowedFd<'_>; 4] = [
        links.collector.as_fd(),
        links.collector_process.as_fd(),
        links.front_process.as_fd(),
        links.child.as_fd(),
    ];
    // A guardian that could not detach is better than none.
    let _ = background::detach(c"sandbox-guard", &keep);
    let mut guardian = Guardian {
        links,
        on_failure,
        lease_from,
        lease: None,
        heard: None,
        ender: None,
        before,
        stand_in: None,
        standing_in: false,
    };
    let news = guardian.watch();
    if let News::Failed(failure) = news {
        // Before anything dies: a collector that is only stopped must find out that this is no ordinary end.
        let _ = guardian.links.collector.send(&FromGuardian::EndsRun { why: failure.why().to_owned() });
    }
    if on_failure == OnFailure::EndTree && guardian.heard.is_some() {
        // After a release the collector has done this already, unless something would not die.
        guardian.end_run(cgroup);
    }
    if on_failure == OnFailure::LetGo
        && let Some(stand_in) = &guardian.stand_in
    {
        // Nobody is told of a failure here: what is left of the run has lost no more than its record.
        let _ = stand_in.stay(&guardian.links.collector_process);
    }
    let failed = matches!(news, News::Failed(_));
    if let Some(cgroup) = cgroup.filter(|_| failed && on_failure == OnFailure::EndTree) {
        cgroup.remove(Duration::from_secs(1));
    }
    if let Some(lease) = guardian.lease.take() {
        // Whoever closes the last copies waits, and nobody waits for this process.
        let mut collector = [PollFd::new(guardian.links.collector_process.as_fd(), PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut collector, PollTimeout::from(LAST));
        lease.let_go();
    }
    i32::from(failed)
}

/// What is below the front-end and none of the run's: whoever started it may have left it children.
fn strangers(links: &GuardianLinks) -> Vec<u32> {
    let mut all = descendants::all_below(links.front_process.pid());
    let runs = descendants::all_below(links.collector_process.pid());
    all.retain(|pid| !runs.contains(pid));
    all
}

impl Guardian {
    /// Ends all of the run, and returns when nothing of it is found.
    fn end_run(&self, cgroup: Option<&Cgroup>) {
        let ender = self.ender.as_ref();
        let done = ender.is_some_and(Ender::end);
        let tree = Tree {
            cgroup,
            membership: self.lease.as_deref(),
            first: Some(&self.links.child),
            ender,
            below: None,
        };
        if self.links.descent == Descent::Unknown {
            end_tree(tree, Patience::Forever);
            return;
        }
        let (front, collector) = (&self.links.front_process, &self.links.collector_process);
        let below = Below::of_collector(collector.pid(), ender);
        let taken_in = Below::of_front_end(front.pid(), collector.pid(), &self.before);
        loop {
            let (alive, front_alive) = (!collector.has_ended(), !front.has_ended());
            end_tree(Tree { below: alive.then_some(&below), ..tree }, Patience::Forever);
            // What lost the collector came to the front-end; where an ender did its part, there is nothing.
            let stray = !done && front_alive && !taken_in.kill().is_empty();
            // One that was stopped may have died meanwhile, and left something.
            if !stray && collector.has_ended() != alive {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Returns when the run is over, one way or the other.
    fn watch(&mut self) -> News {
        loop {
            if self.on_failure == OnFailure::LetGo {
                self.stand_in();
            }
            if !self.standing_in {
                self.wait();
            }
            // Messages first: a collector may end right after it said that all is well.
            let news = match self.hear() {
                News::Nothing => self.look(),
                news => news,
            };
            if news != News::Nothing {
                return news;
            }
        }
    }

    /// Lets calls go on while the collector is silent.
    fn stand_in(&mut self) {
        let silent = self.heard.is_some_and(|heard| heard.elapsed() >= SILENCE);
        let Some(stand_in) = self.stand_in.as_ref().filter(|_| silent) else {
            self.standing_in = false;
            return;
        };
        if !self.standing_in {
            // What it took before it was stopped.
            stand_in.release();
            self.standing_in = true;
        }
        if !stand_in.serve(self.links.collector.as_fd()) {
            // No task is left that could call.
            (self.stand_in, self.standing_in) = (None, false);
        }
    }

    fn wait(&self) {
        let mut fds = vec![
            PollFd::new(self.links.collector.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.links.collector_process.as_fd(), PollFlags::POLLIN),
        ];
        // An audit-only run goes on without its front-end.
        if self.on_failure == OnFailure::EndTree {
            fds.push(PollFd::new(self.links.front_process.as_fd(), PollFlags::POLLIN));
        }
        let timeout = match self.heard {
            Some(heard) if self.on_failure == OnFailure::EndTree || self.stand_in.is_some() => {
                let left = (heard + SILENCE).saturating_duration_since(Instant::now());
                // Rounded up, so as not to spin in the last millisecond.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
            _ => PollTimeout::NONE,
        };
        let _ = nix::poll::poll(&mut fds, timeout);
    }

    fn hear(&mut self) -> News {
        loop {
            match self.links.collector.try_receive() {
                Ok(Received::Message(ToGuardian::Watch, fds)) => {
                    self.lease = (self.lease_from)(fds);
                    self.heard = Some(Instant::now());
                }
                Ok(Received::Message(ToGuardian::StandIn, fds)) => self.stand_in = StandIn::from_fds(fds),
                Ok(Received::Message(ToGuardian::Ender { pid }, fds)) => {
                    self.ender = Ender::from_fds(pid, fds)
                }
                Ok(Received::Message(ToGuardian::Beat, _)) => self.heard = Some(Instant::now()),
                Ok(Received::Message(ToGuardian::Release, _)) => return News::Released,
                Ok(Received::Closed) => return News::Failed(Failure::CollectorDied),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return News::Nothing,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(_) => return News::Failed(Failure::CollectorDied),
            }
        }
    }

    fn look(&self) -> News {
        let enforced = self.on_failure == OnFailure::EndTree;
        let silent = self.heard.is_some_and(|heard| heard.elapsed() >= SILENCE);
        if self.links.collector_process.has_ended() {
            News::Failed(Failure::CollectorDied)
        } else if enforced && self.links.front_process.has_ended() {
            News::Failed(Failure::FrontEndDied)
        } else if enforced && silent {
            News::Failed(Failure::CollectorSilent)
        } else {
            News::Nothing
        }
    }
}
