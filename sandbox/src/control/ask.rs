//! The user's side: talks to the runner of a run.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, getsockopt, socket, sockopt};
use policy::{Policies, Variables};

use super::{Applied, FromRunner, FromUser, Surroundings, address, memory};
use crate::asking::{About, Answer, Open};
use crate::launch::handshake::{Channel, Received};

/// The largest surroundings, bytes: no environment is larger.
const LARGEST: u64 = 64 << 20;

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no runner answers for this run: it has ended, it is in another network namespace, or it was started by an \
         older version"
    )]
    Nobody,
    /// Somebody else listens where the runner should.
    #[error("uid {0} listens in the runner's place; a runner is root")]
    Stranger(u32),
    /// The runner says no.
    #[error("{0}")]
    Refused(String),
    /// The talk broke off.
    #[error("cannot talk to the runner: {0}")]
    Talk(#[from] io::Error),
}

/// A runner that listens.
#[derive(Debug)]
pub struct Talk {
    channel: Channel<FromUser, FromRunner>,
    variables: Variables,
}

impl Talk {
    /// Begins a talk with the runner of the run in `run_dir`.
    ///
    /// # Errors
    /// There is none, or it does not talk to this process.
    pub fn begin(run_dir: &Path) -> Result<Talk, AskError> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(io::Error::from)?;
        match connect(fd.as_raw_fd(), &address(run_dir)?) {
            Ok(()) => {}
            Err(Errno::ECONNREFUSED) => return Err(AskError::Nobody),
            Err(Errno::EPERM) => {
                let message =
                    "a process of an enforced run cannot apply policies, and answers nothing that it asks";
                return Err(AskError::Refused(message.to_owned()));
            }
            Err(error) => return Err(AskError::Talk(error.into())),
        }
        // Anybody can take a name that is free.
        let listener = getsockopt(&fd, sockopt::PeerCredentials).map_err(io::Error::from)?;
        if listener.uid() != 0 {
            return Err(AskError::Stranger(listener.uid()));
        }
        let channel: Channel<FromUser, FromRunner> = Channel::from_fd(fd);
        let surroundings = match channel.receive()? {
            Received::Message(FromRunner::Ready, fds) => {
                let memory =
                    fds.into_iter().next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                memory::read(memory, LARGEST)?
            }
            Received::Message(FromRunner::Refused { message }, _) => return Err(AskError::Refused(message)),
            Received::Message(..) => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            Received::Closed => return Err(AskError::Nobody),
        };
        let surroundings: Surroundings = serde_json::from_slice(&surroundings).map_err(io::Error::from)?;
        Ok(Talk { channel, variables: surroundings.variables() })
    }

    /// What the variables of a policy mean in the run.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Applies policies, beside those that hold or in their place.
    ///
    /// # Errors
    /// The runner refuses; then those that held still do.
    pub fn apply(self, policies: &Policies, widen: bool) -> Result<Applied, AskError> {
        let text = memory::write(policies.effective_yaml().as_bytes())?;
        match self.say(&FromUser::Apply { widen }, &[text.as_fd()])? {
            FromRunner::Applied(applied) => Ok(applied),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    /// The questions that are open.
    ///
    /// # Errors
    /// The runner refuses.
    pub fn questions(self) -> Result<Vec<Open>, AskError> {
        match self.say(&FromUser::Questions, &[])? {
            FromRunner::Questions(open) => Ok(open),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    /// What is to be known for an answer to a question that holds for good.
    ///
    /// # Errors
    /// The runner refuses: there is no such question, or no file that could hold the answer.
    pub fn about(self, number: u64) -> Result<About, AskError> {
        self.channel.send(&FromUser::About { number })?;
        match self.channel.receive()? {
            Received::Message(FromRunner::About, fds) => {
                let told =
                    fds.into_iter().next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                let told = memory::read(told, LARGEST)?;
                Ok(serde_json::from_slice(&told).map_err(io::Error::from)?)
            }
            Received::Message(FromRunner::Refused { message }, _) => Err(AskError::Refused(message)),
            Received::Message(..) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            Received::Closed => Err(AskError::Refused("the run ended meanwhile".to_owned())),
        }
    }

    /// Answers a question; gives what that settles, for people.
    ///
    /// # Errors
    /// The runner refuses, or there is no such question.
    pub fn answer(self, number: u64, answer: Answer) -> Result<String, AskError> {
        match self.say(&FromUser::Answer { number, answer }, &[])? {
            FromRunner::Answered(told) => Ok(told),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    fn say(self, what: &FromUser, fds: &[BorrowedFd<'_>]) -> Result<FromRunner, AskError> {
        self.channel.send_with(what, fds)?;
        match self.channel.receive()? {
            Received::Message(FromRunner::Refused { message }, _) => Err(AskError::Refused(message)),
            Received::Message(said, _) => Ok(said),
            Received::Closed => Err(AskError::Refused("the run ended meanwhile".to_owned())),
        }
    }
}
