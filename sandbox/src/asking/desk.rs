//! The way to the supervisor: who lists its questions and answers them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::{About, Answer, Open};
use crate::control::Peer;

/// How long the supervisor may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Somebody with `sandbox asks`.
    Person(Peer),
    /// The program of `--ask-cmd`.
    Command,
}

/// What the supervisor is told.
#[derive(Debug)]
pub enum Message {
    /// Which questions are open?
    List(SyncSender<Vec<Open>>),
    /// What is to be known for an answer that holds for good?
    About {
        /// The question's number.
        number: u64,
        /// What there is, or why there can be no such answer.
        told: SyncSender<Result<About, String>>,
    },
    /// An answer to one of them.
    Answer {
        /// Its number.
        number: u64,
        /// The answer.
        answer: Answer,
        /// Whose.
        by: By,
        /// What it settles, or why it does not count.
        told: SyncSender<Result<String, String>>,
    },
    /// The run ends: no question stays open.
    End(SyncSender<()>),
}

/// One who talks to the supervisor.
#[derive(Clone, Debug)]
pub struct Desk {
    to: Sender<Message>,
    nudge: Arc<EventFd>,
}

impl Desk {
    /// One, and where what it says comes out; `nudge` is written when something waits there.
    pub(super) fn new(nudge: Arc<EventFd>) -> (Desk, Receiver<Message>) {
        let (to, from) = channel();
        (Desk { to, nudge }, from)
    }

    fn say<T>(&self, message: impl FnOnce(SyncSender<T>) -> Message) -> Result<T, String> {
        const OVER: &str = "the run has just ended";
        let (answer, wait) = sync_channel(1);
        self.to.send(message(answer)).map_err(|_| OVER)?;
        let _ = self.nudge.write(1);
        wait.recv_timeout(PATIENCE).map_err(|_| OVER.to_owned())
    }

    /// The questions that are open.
    ///
    /// # Errors
    /// The run is over.
    pub fn list(&self) -> Result<Vec<Open>, String> {
        self.say(Message::List)
    }

    /// What is to be known for an answer that holds for good.
    ///
    /// # Errors
    /// There is no such question, or no file that could hold the answer.
    pub fn about(&self, number: u64) -> Result<About, String> {
        self.say(|told| Message::About { number, told })?
    }

    /// Answers a question; gives what that settles, for people.
    ///
    /// # Errors
    /// There is no such question, or what it asks for cannot be opened.
    pub fn answer(&self, number: u64, answer: Answer, peer: Peer) -> Result<String, String> {
        self.say(|told| Message::Answer { number, answer, by: By::Person(peer), told })?
    }

    /// The same for the program of `--ask-cmd`.
    pub(super) fn answer_by_command(&self, number: u64, answer: Answer) {
        // The question may be answered already.
        let _ = self.say(|told| Message::Answer { number, answer, by: By::Command, told });
    }

    /// Has all questions closed.
    pub(super) fn end(&self) {
        let _ = self.say(Message::End);
    }
}
