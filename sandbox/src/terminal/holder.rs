//! The process that the user's shell knows, where the command has a terminal of its own.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr,
};

use super::editor::{Editor, Step};
use super::{Here, Prompt, Put, Ring, copy_size};
use crate::exit::{CommandStatus, Exit};
use crate::launch::background;
use crate::launch::handshake::{Channel, Received};
use crate::launch::process::{self, Change, LookFor, Process};
use crate::launch::signals::{Incoming, Origin, Signals};

/// How often it is looked whether the terminal is this job's again, or the command has left it in its usual mode,
/// in milliseconds: nothing tells.
const LOOK: u16 = 250;

/// What makes whatever a program has left a terminal in readable: the end of a sequence that was begun (CAN, ST), a soft
/// reset (DECSTR), colours, the character set, the palette.
const READABLE: &[u8] = b"\x18\x1b\\\x1b[!p\x1b[0m\x0f\x1b(B\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\";

/// What the holder is made with.
#[derive(Debug)]
pub(super) struct Ends {
    /// The user's terminal: writing waits.
    pub screen: OwnedFd,
    /// The same: reading does not wait.
    pub keys: OwnedFd,
    /// The other end of the command's.
    pub master: OwnedFd,
    /// What the run tells.
    pub rung: Channel<(), Ring>,
    /// The leader of the run's session.
    pub leader: Process,
    /// This process's signals.
    pub signals: Signals,
    /// How the user's terminal was.
    pub settings: Termios,
}

/// What came of waiting for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// This was typed.
    Line(String),
    /// Other questions are open than before.
    Changed,
    /// Nobody will type one: a key for the run was pressed, the run has ended or was stopped, or the terminal is gone.
    Left,
}

/// Holds the user's terminal while the run goes on.
#[derive(Debug)]
pub struct Holder {
    ends: Ends,
    /// Whether the terminal is this job's.
    front: bool,
    /// Whether it is still there.
    there: bool,
    /// Whether the run may still tell something.
    rings: bool,
    /// What was typed and not yet taken.
    typed: VecDeque<u8>,
    here: Option<Here>,
    /// Whether open questions may be others than when they were last put.
    asked: bool,
    /// Whether one is being put.
    putting: bool,
    /// The answer so far.
    editor: Editor,
    /// Whether the run was told to go on and does not yet: a key that stops it would be lost.
    resuming: bool,
    ended: Option<CommandStatus>,
    stopped: bool,
}

impl Holder {
    pub(super) fn new(ends: Ends) -> Holder {
        Holder {
            ends,
            front: false,
            there: true,
            rings: true,
            typed: VecDeque::new(),
            here: None,
            asked: false,
            putting: false,
            editor: Editor::default(),
            resuming: false,
            ended: None,
            stopped: false,
        }
    }

    /// Stays with the run to its end; gives its exit status.
    ///
    /// # Errors
    /// The system refuses something that it hardly ever refuses. The run then loses its terminal.
    pub fn hold(mut self, put: Put<'_>) -> io::Result<Exit> {
        background::close_to_others();
        let keep = [
            self.ends.screen.as_fd(),
            self.ends.keys.as_fd(),
            self.ends.master.as_fd(),
            self.ends.rung.as_fd(),
            self.ends.leader.as_fd(),
            self.ends.signals.as_fd(),
        ];
        // A pipe that the command writes to ends when the command has closed it.
        background::keep_no_stream(&keep)?;
        rustix::stdio::dup2_stdin(&self.ends.screen)?;
        rustix::stdio::dup2_stdout(&self.ends.screen)?;
        rustix::stdio::dup2_stderr(&self.ends.screen)?;
        let result = self.stay(put);
        self.give_back();
        result.map(Exit::from)
    }

    fn stay(&mut self, put: Put<'_>) -> io::Result<CommandStatus> {
        loop {
            self.look();
            self.turn()?;
            if let Some(status) = self.ended {
                while self.show()? {}
                return Ok(status);
            }
            self.stop_with_the_run()?;
            if self.asked && self.front && self.there && self.is_in_lines() {
                self.asked = false;
                self.put_next(put)?;
            }
        }
    }

    /// Whether the terminal is this job's; it is set up as it is found to be.
    fn look(&mut self) {
        let front = self.there && tcgetpgrp(&self.ends.keys).is_ok_and(|group| group == getpgrp());
        if front && !self.front {
            let mut raw = self.ends.settings.clone();
            raw.make_raw();
            let _ = tcsetattr(&self.ends.keys, OptionalActions::Drain, &raw);
            copy_size(&self.ends.keys, &self.ends.master);
        }
        self.front = front;
    }

    /// Leaves the terminal as it was found, if it is this job's.
    fn give_back(&mut self) {
        self.look();
        if self.front {
            let _ = tcsetattr(&self.ends.keys, OptionalActions::Drain, &self.ends.settings);
        }
        self.front = false;
    }

    /// Whether the command leaves its terminal in the mode in which lines are typed.
    fn is_in_lines(&self) -> bool {
        tcgetattr(&self.ends.master).is_ok_and(|now| now.local_modes.contains(LocalModes::ICANON))
    }

    /// Waits until something happens, and does what is to be done about it.
    fn turn(&mut self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.ends.signals.as_fd(), PollFlags::POLLIN)];
        let mut wait = |fd, flags| {
            fds.push(PollFd::new(fd, flags));
            Some(fds.len() - 1)
        };
        let rung = self.rings.then(|| wait(self.ends.rung.as_fd(), PollFlags::POLLIN)).flatten();
        let taken = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        // While a question is put, nothing of the run's is shown.
        let shown = if self.putting { PollFlags::empty() } else { PollFlags::POLLIN };
        let master = match (taken | shown).is_empty() {
            true => None,
            false => wait(self.ends.master.as_fd(), taken | shown),
        };
        let reads = self.front && self.there && !self.resuming && (self.putting || self.typed.is_empty());
        let keys = reads.then(|| wait(self.ends.keys.as_fd(), PollFlags::POLLIN)).flatten();
        let looks = !self.front || (self.asked && !self.putting);
        let timeout = if looks { PollTimeout::from(LOOK) } else { PollTimeout::NONE };
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |at: Option<usize>, flags| {
            let found = at.and_then(|at| fds.get(at)).and_then(PollFd::revents);
            found.is_some_and(|found| found.intersects(flags))
        };
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        let (rung, keys) = (ready(rung, PollFlags::POLLIN | gone), ready(keys, PollFlags::POLLIN | gone));
        let (show, take) = (ready(master, PollFlags::POLLIN), ready(master, PollFlags::POLLOUT));
        if rung {
            self.hear();
        }
        if take {
            self.pass_on();
        }
        if show && !self.putting {
            self.show()?;
        }
        if keys && !self.putting {
            self.read_keys();
        }
        while let Some(incoming) = self.ends.signals.next()? {
            self.on_signal(incoming);
        }
        while let Some(change) = self.ends.leader.change(LookFor::StopsAndEnd)? {
            match change {
                Change::Ended(status) => self.ended = Some(status),
                Change::Stopped(_) | Change::Continued => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self) {
        loop {
            match self.ends.rung.try_receive() {
                Ok(Received::Message(Ring::Run(here), _)) => self.here = Some(here),
                Ok(Received::Message(Ring::Questions, _)) => self.asked = true,
                Ok(Received::Message(Ring::Stopped, _)) => self.stopped = true,
                Ok(Received::Message(Ring::GoesOn, _)) => self.resuming = false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Ok(Received::Closed) | Err(_) => {
                    self.rings = false;
                    return;
                }
            }
        }
    }

    /// Shows what the command has written; whether there was something.
    fn show(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        match rustix::io::read(&self.ends.master, &mut bytes) {
            Ok(0) | Err(rustix::io::Errno::IO | rustix::io::Errno::AGAIN) => Ok(false),
            Ok(count) => {
                self.write(&bytes[..count]);
                Ok(true)
            }
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes on the user's terminal. One that is gone shows nothing.
    fn write(&mut self, bytes: &[u8]) {
        if self.there && io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()).is_err() {
            self.there = false;
        }
    }

    fn read_keys(&mut self) {
        let mut bytes = [0; 1024];
        match rustix::io::read(&self.ends.keys, &mut bytes) {
            Ok(0) => self.there = false,
            Ok(count) => self.typed.extend(&bytes[..count]),
            // Another job has it now.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.there = tcgetattr(&self.ends.keys).is_ok(),
        }
        self.pass_on();
    }

    /// Passes on what was typed, as far as it is taken.
    fn pass_on(&mut self) {
        let (first, _) = self.typed.as_slices();
        match rustix::io::write(&self.ends.master, first) {
            Ok(count) => _ = self.typed.drain(..count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // Nobody will read it.
            Err(_) => self.typed.clear(),
        }
    }

    fn on_signal(&mut self, incoming: Incoming) {
        match (incoming.signal, incoming.origin) {
            (libc::SIGCHLD, _) | (libc::SIGTTIN | libc::SIGTTOU, Origin::Terminal) => {}
            (libc::SIGWINCH, _) => copy_size(&self.ends.keys, &self.ends.master),
            (signal, _) => _ = self.ends.leader.signal_number(signal),
        }
    }

    /// Where the run was stopped this job stops too, and goes on together with it.
    fn stop_with_the_run(&mut self) -> io::Result<()> {
        // Without a shell that would have it go on, it goes on where somebody else has it.
        if !std::mem::take(&mut self.stopped) || !process::is_job() {
            return Ok(());
        }
        while self.show()? {}
        self.give_back();
        // What else is in this job, as behind a pipe, would have been stopped by the key.
        // This process is among them, and has it once more: both are taken by one stop.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(0), Signal::SIGTSTP);
        self.ends.signals.stop_like(libc::SIGTSTP)?;
        while let Some(incoming) = self.ends.signals.next()? {
            // The shell's is told once.
            if incoming.signal != libc::SIGCONT {
                self.on_signal(incoming);
            }
        }
        self.resuming = true;
        self.ends.leader.signal(Signal::SIGCONT)
    }

    /// Puts an open question.
    fn put_next(&mut self, put: Put<'_>) -> io::Result<()> {
        let Some(here) = self.here.clone() else { return Ok(()) };
        let done = put(&here, self);
        if std::mem::take(&mut self.putting) {
            // Raw again, if the terminal is still this job's.
            self.front = false;
        }
        // There may be another.
        self.asked |= done?;
        Ok(())
    }
}

impl Prompt for Holder {
    fn begin(&mut self) -> io::Result<bool> {
        while self.show()? {}
        // It may have left the mode before it asked.
        if !self.is_in_lines() {
            return Ok(false);
        }
        let mut lines = self.ends.settings.clone();
        lines.make_raw();
        lines.output_modes.insert(OutputModes::OPOST | OutputModes::ONLCR);
        let _ = tcsetattr(&self.ends.keys, OptionalActions::Drain, &lines);
        self.putting = true;
        self.editor = Editor::default();
        Ok(true)
    }

    fn line(&mut self) -> io::Result<Typed> {
        loop {
            let mut bytes = [0; 1];
            match rustix::io::read(&self.ends.keys, &mut bytes) {
                Ok(0) => self.there = false,
                Ok(_) => match self.editor.take(bytes[0]) {
                    Step::Echo(text) => self.write(text.as_bytes()),
                    Step::Show(character) => self.write(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    Step::Line(line) => {
                        self.write(b"\n");
                        return Ok(Typed::Line(line.trim().to_owned()));
                    }
                    Step::Leave(key) => {
                        self.write(b"\n");
                        self.typed.push_back(key);
                        self.pass_on();
                        return Ok(Typed::Left);
                    }
                },
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                    self.turn()?;
                    self.front = tcgetpgrp(&self.ends.keys).is_ok_and(|group| group == getpgrp());
                    if self.ended.is_some() || self.stopped || !self.front {
                        return Ok(Typed::Left);
                    }
                    if std::mem::take(&mut self.asked) {
                        return Ok(Typed::Changed);
                    }
                }
                Err(_) => self.there = false,
            }
            if !self.there {
                return Ok(Typed::Left);
            }
        }
    }
}

/// Forgets what was typed: before a question stands there it is no answer.
///
/// # Errors
/// As tcflush(3).
pub fn forget_typed() -> io::Result<()> {
    Ok(tcflush(rustix::stdio::stdin(), QueueSelector::IFlush)?)
}

/// Makes the terminal readable, whatever a program has left it in; where it is one that knows sequences at all.
pub fn readable() -> &'static [u8] {
    match std::env::var_os("TERM") {
        Some(term) if !term.is_empty() && term != "dumb" => READABLE,
        _ => b"",
    }
}
