//! The front-end: the process that the user's shell knows.
//!
//! It waits for the command as a shell's child would want it (stops with it, goes on with it, passes on what
//! others send), tells the collector when the command has ended, and waits for the summary and then for the word that the
//! record is complete: when the front-end is gone the whole record is there, its index too. The collector's process may
//! go on for some seconds, while the kernel takes off its programs. The front-end records nothing. One thread, one poll;
//! every wait also ends when the other side does.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;

use super::cgroup::Cgroup;
use super::ending::{Patience, Tree, end_tree};
use super::guardian::OnFailure;
use super::handshake::{Channel, ChildFailure, FromCollector, FromFrontEnd, Go, Received, Summary};
use super::plan::{Parentage, RunPlan};
use super::process::{self, Change, LookFor, Process, Stat};
use super::signals::{Incoming, Origin, Signals};
use crate::exit::{CommandStatus, Exit};
use crate::terminal::{Bell, Ring};

/// What the front-end holds.
#[derive(Debug)]
pub struct FrontLinks {
    /// To the collector.
    pub collector: Channel<FromFrontEnd, FromCollector>,
    /// To the child.
    pub child: Channel<Go, ChildFailure>,
    /// The collector.
    pub collector_process: Process,
    /// The guardian.
    pub guardian_process: Process,
    /// The first process of the run.
    pub child_process: Process,
    /// Whose child it is.
    pub parentage: Parentage,
}

/// How a run went, as the front-end saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector refused to start the run.
    Refused {
        /// Exit status for it.
        exit: u8,
        /// What, why, what to do.
        message: String,
    },
    /// The collector ended before the run had started.
    NeverStarted {
        /// How it ended, where that is known.
        ended: Option<CommandStatus>,
        /// What it said.
        message: Option<String>,
    },
    /// The command ran, or failed to.
    Ran {
        /// How the first process ended.
        status: CommandStatus,
        /// Why the command was not executed, if it was not.
        failure: Option<ChildFailure>,
        /// What became of the record.
        record: RecordEnd,
    },
}

/// What became of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordEnd {
    /// The collector finished it, or said why not.
    Summary(Summary),
    /// The collector ended before it was finished.
    CollectorDied {
        /// How it ended, where that is known.
        ended: Option<CommandStatus>,
        /// What it said.
        message: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until the collector is ready.
    Starting,
    /// While the command runs.
    Running,
    /// Until the summary is there, and the record complete.
    Ending,
}

/// The collector, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collector {
    Alive,
    /// Stopped by somebody: nothing of ours does that.
    Stopped,
    /// Ended; with how, once it has been waited for.
    Gone(Option<CommandStatus>),
    /// Nothing is to be written any more.
    Done,
    /// The log is finished; the user does not want to wait for what is made from it.
    LeftAlone,
}

/// What this process and the command are to each other, at a terminal.
#[derive(Clone, Debug)]
pub struct Job {
    /// What stops it stops this process too.
    stops: Stops,
    /// Whether the command leads a process group of its own: what the terminal sends here does not reach it.
    apart: bool,
}

/// What happens where the command is stopped.
#[derive(Clone, Debug)]
enum Stops {
    /// This process stops as well, for the shell to see.
    Too,
    /// Whoever holds the user's terminal is told, and stops for it.
    Told(Bell),
    /// Nothing: nobody would have it go on.
    Alone,
}

impl Job {
    /// As a run is planned.
    pub fn of(plan: &RunPlan) -> Job {
        let stops = match &plan.bell {
            Some(bell) => Stops::Told(bell.clone()),
            None if process::is_job() => Stops::Too,
            None => Stops::Alone,
        };
        Job { stops, apart: plan.begins_session() }
    }
}

struct FrontEnd<'a> {
    links: FrontLinks,
    signals: &'a Signals,
    cgroup: Option<&'a Cgroup>,
    on_failure: OnFailure,
    job: &'a Job,
    say: &'a dyn Fn(&str),
    phase: Phase,
    collector: Collector,
    status: Option<CommandStatus>,
    failure: Option<ChildFailure>,
    summary: Option<Summary>,
    /// What the collector said of a fault of its own.
    last_words: Option<String>,
    /// No more messages from the child: it has executed the command, or ended.
    child_silent: bool,
    /// What the collector told of its child and was not looked at yet.
    told: VecDeque<Change>,
}

/// How long to wait for the exit status of a process that has just closed its socket.
pub(super) const LAST_BREATH: Duration = Duration::from_secs(2);

/// Runs the front-end to the end of the run. `say` prints a note for the user before the command starts.
pub fn run(
    links: FrontLinks,
    signals: &Signals,
    cgroup: Option<&Cgroup>,
    on_failure: OnFailure,
    job: &Job,
    say: &dyn Fn(&str),
) -> io::Result<Outcome> {
    let mut front = FrontEnd {
        links,
        signals,
        cgroup,
        on_failure,
        job,
        say,
        phase: Phase::Starting,
        collector: Collector::Alive,
        status: None,
        failure: None,
        summary: None,
        last_words: None,
        child_silent: false,
        told: VecDeque::new(),
    };
    loop {
        front.wait()?;
        while let Some(incoming) = front.signals.next()? {
            front.on_signal(incoming)?;
        }
        if let Some(outcome) = front.hear_collector()? {
            return Ok(outcome);
        }
        front.hear_child();
        front.reap()?;
        if let Some(outcome) = front.finished() {
            return Ok(outcome);
        }
    }
}

impl FrontEnd<'_> {
    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !self.child_silent {
            fds.push(PollFd::new(self.links.child.as_fd(), PollFlags::POLLIN));
        }
        if self.collector_works() {
            fds.push(PollFd::new(self.links.collector.as_fd(), PollFlags::POLLIN));
        }
        if self.waits_for_stopped() {
            fds.push(PollFd::new(self.links.child_process.as_fd(), PollFlags::POLLIN));
        }
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// SIGCHLD needs nothing here: children are looked at after every wait.
    fn on_signal(&mut self, incoming: Incoming) -> io::Result<()> {
        match (incoming.signal, incoming.origin) {
            (libc::SIGINT | libc::SIGQUIT | libc::SIGTERM | libc::SIGHUP, _)
                if self.status.is_some() && self.summary.is_some() =>
            {
                self.collector = Collector::LeftAlone;
            }
            (libc::SIGCHLD, _) => {}
            // A group whose parents are all in another session is not stopped by these (POSIX), but by this.
            (libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU, Origin::Terminal) if self.job.apart => {
                self.tell_group(libc::SIGSTOP);
            }
            (signal, Origin::Terminal) if self.job.apart => self.tell_group(signal),
            (_, Origin::Terminal) => {}
            (libc::SIGCONT, _) if self.job.apart => self.tell_group(libc::SIGCONT),
            (libc::SIGCONT, _) => self.continue_child(),
            (_, Origin::Sender(Some(pid))) if self.is_inside(pid) => {
                // The command signals its own group, as in kill(0, …): it has the signal already.
            }
            (signal, Origin::Sender(_)) => {
                if self.status.is_none() {
                    // It may just have ended; then there is nobody to tell.
                    let _ = self.links.child_process.signal_number(signal);
                }
            }
        }
        Ok(())
    }

    /// Sends a signal to the command's group, as the terminal would.
    fn tell_group(&self, signal: i32) {
        if self.status.is_none()
            && let (Ok(group), Ok(signal)) =
                (i32::try_from(self.links.child_process.pid()), Signal::try_from(signal))
        {
            // Before it leads one it is this process's, and has the signal.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), signal);
        }
    }

    fn is_inside(&self, pid: u32) -> bool {
        pid == self.links.child_process.pid() || self.cgroup.is_some_and(|cgroup| cgroup.contains(pid))
    }

    /// The front-end was continued; where the shell continues the whole group the command was too.
    fn continue_child(&self) {
        // What the terminal has stopped again meanwhile stays stopped: the command shall not miss a Ctrl-Z.
        if self.status.is_none() && self.child_is_stopped() && !self.signals.stops_again() {
            let _ = self.links.child_process.signal(Signal::SIGCONT);
        }
    }

    fn child_is_stopped(&self) -> bool {
        Stat::of(self.links.child_process.pid()).is_some_and(|stat| stat.state == 'T')
    }

    fn hear_collector(&mut self) -> io::Result<Option<Outcome>> {
        loop {
            if !self.collector_works() {
                return Ok(None);
            }
            match self.links.collector.try_receive() {
                Ok(Received::Message(FromCollector::Ready { notes }, _)) => {
                    notes.iter().for_each(|note| (self.say)(note));
                    if self.phase == Phase::Starting {
                        self.phase = Phase::Running;
                        // A child that is gone shows when it is waited for.
                        let _ = self.links.child.send(&Go::Now);
                    }
                }
                Ok(Received::Message(FromCollector::Refused { exit, message }, _)) => {
                    self.kill_child();
                    return Ok(Some(Outcome::Refused { exit, message }));
                }
                Ok(Received::Message(FromCollector::Failed { message }, _)) => {
                    self.last_words = Some(message)
                }
                Ok(Received::Message(FromCollector::Summary(summary), _)) => {
                    self.summarised(summary);
                }
                Ok(Received::Message(FromCollector::Complete, _)) => self.collector = Collector::Done,
                Ok(Received::Message(FromCollector::Changed(change), _)) => self.told.push_back(change),
                // Said before this began.
                Ok(Received::Message(FromCollector::Child { .. }, _)) => {}
                Ok(Received::Closed) => return self.collector_gone(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A summary may come before the command's end is seen here: the run was ended, or an audit-only run goes
    /// on without being recorded.
    fn summarised(&mut self, summary: Summary) {
        // Also an audit-only run may have been ended: where its log failed, and it was not to go on without.
        let ended = summary.ended_by_runner.is_some();
        self.summary = Some(summary);
        if ended || self.on_failure == OnFailure::EndTree {
            self.kill_child();
        }
    }

    fn collector_works(&self) -> bool {
        matches!(self.collector, Collector::Alive | Collector::Stopped)
    }

    fn collector_gone(&mut self) -> io::Result<Option<Outcome>> {
        let ended = self.links.collector_process.wait_for_end(LAST_BREATH);
        self.collector = Collector::Gone(ended);
        if self.summary.is_some() {
            // It had finished the log, and the rest too or not.
            return Ok(None);
        }
        match (self.phase, self.on_failure) {
            (Phase::Starting, _) => {
                self.kill_child();
                Ok(Some(Outcome::NeverStarted { ended, message: self.last_words.take() }))
            }
            (Phase::Running, OnFailure::EndTree) => {
                // The guardian does the same, and knows members by identity; twice is better than never.
                let first = Some(&self.links.child_process);
                let patience = Patience::Until(std::time::Instant::now());
                end_tree(Tree { cgroup: self.cgroup, first, ..Tree::default() }, patience);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn hear_child(&mut self) {
        while !self.child_silent {
            match self.links.child.try_receive() {
                Ok(Received::Message(failure, _)) => self.failure = Some(failure),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Received::Closed) | Err(_) => self.child_silent = true,
            }
        }
    }

    /// Looks at the three children, by pid: others may have been inherited and are not ours to wait for.
    fn reap(&mut self) -> io::Result<()> {
        if self.collector_works() {
            // Its end is seen on the socket, after its last message.
            match self.links.collector_process.change(LookFor::Stops)? {
                Some(Change::Stopped(_)) => self.collector = Collector::Stopped,
                Some(Change::Continued) => self.collector = Collector::Alive,
                Some(Change::Ended(_)) | None => {}
            }
        }
        self.links.guardian_process.change(LookFor::StopsAndEnd)?;
        while self.status.is_none() {
            match self.child_change()? {
                // It may go on already: a Ctrl-Z that stopped this process too, and the shell's SIGCONT, came before this.
                Some(Change::Stopped(_)) if !self.child_is_stopped() => {}
                Some(Change::Stopped(signal)) => match &self.job.stops {
                    Stops::Too => self.signals.stop_like(signal)?,
                    Stops::Told(bell) => bell.ring(&Ring::Stopped),
                    Stops::Alone => {}
                },
                Some(Change::Ended(status)) => self.child_ended(status),
                Some(Change::Continued) => {}
                None => break,
            }
        }
        let over = self.waits_for_stopped() && self.links.child_process.has_ended();
        if (over || self.phase == Phase::Ending) && self.collector == Collector::Stopped {
            // Nothing can be finished by a stopped process; what it missed is counted as lost.
            let _ = self.links.collector_process.signal(Signal::SIGCONT);
            self.collector = Collector::Alive;
        }
        Ok(())
    }

    /// Whether the command's end is to be told by a collector that is stopped.
    fn waits_for_stopped(&self) -> bool {
        self.links.parentage == Parentage::Collector
            && self.collector == Collector::Stopped
            && self.status.is_none()
    }

    /// What has happened to the command since this was last asked.
    fn child_change(&mut self) -> io::Result<Option<Change>> {
        let child = &self.links.child_process;
        match self.links.parentage {
            Parentage::FrontEnd => child.change(LookFor::StopsAndEnd),
            Parentage::Collector if !self.told.is_empty() => Ok(self.told.pop_front()),
            Parentage::Collector if self.collector_works() => Ok(None),
            Parentage::Collector => {
                // A collector that is gone leaves its child to this process.
                let orphaned = self.links.collector_process.has_ended();
                match child.change(LookFor::StopsAndEnd)? {
                    None if orphaned && child.has_ended() => {
                        // The collector asked how it ended, and died before it told.
                        let unknown = CommandStatus::Exited(Exit::ENDED_BY_RUNNER.code());
                        Ok(child.change(LookFor::StopsAndEnd)?.or(Some(Change::Ended(unknown))))
                    }
                    change => Ok(change),
                }
            }
        }
    }

    fn child_ended(&mut self, status: CommandStatus) {
        self.status = Some(status);
        self.hear_child();
        if self.phase == Phase::Running {
            self.phase = Phase::Ending;
        }
        // A collector that is gone shows on its socket.
        let _ = self.links.collector.send(&FromFrontEnd::CommandEnded(status));
    }

    fn finished(&mut self) -> Option<Outcome> {
        let status = self.status?;
        let (ended, indexed) = match self.collector {
            Collector::Gone(ended) => (ended, ended.is_none_or(|ended| ended == CommandStatus::Exited(0))),
            Collector::Done => (None, true),
            Collector::LeftAlone => (None, false),
            Collector::Alive | Collector::Stopped => return None,
        };
        let last_words = self.last_words.take();
        let record = match self.summary.take() {
            Some(mut summary) => {
                if !indexed {
                    let why = last_words.map(|why| format!(": {why}")).unwrap_or_default();
                    summary.notes.push(format!("the record's index may not be complete{why}"));
                }
                RecordEnd::Summary(summary)
            }
            None => RecordEnd::CollectorDied { ended, message: last_words },
        };
        self.hear_child();
        Some(Outcome::Ran { status, failure: self.failure.take(), record })
    }

    fn kill_child(&mut self) {
        let _ = self.links.child_process.signal(Signal::SIGKILL);
        if self.status.is_some() {
            return;
        }
        let ended = self.links.child_process.wait_for_end(LAST_BREATH);
        let told = self.told.iter().find_map(|change| match change {
            Change::Ended(status) => Some(*status),
            Change::Stopped(_) | Change::Continued => None,
        });
        self.status = match self.links.parentage {
            Parentage::FrontEnd => ended,
            // Its parent may not tell any more.
            Parentage::Collector => {
                let killed = CommandStatus::Signalled(Signal::SIGKILL as i32);
                ended.or(told).or_else(|| self.links.child_process.has_ended().then_some(killed))
            }
        };
    }
}
