//! Typed messages between the processes of a run.
//!
//! Each pair of processes that talk has one SOCK_SEQPACKET socket (unix(7)): a message arrives whole or not at
//! all, descriptors travel with it, and the death of the peer is an end of file. No receive can therefore wait
//! for a process that is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::process::Change;
use crate::asking::Sections;
use crate::enforce::mountns::Mounts;
use crate::enforce::namespaces::{Description, Namespaces};
use crate::exit::CommandStatus;

/// The longest message, bytes. Notes and names are short; what is longer is a fault of ours.
const MAX_MESSAGE: usize = 128 * 1024;
/// The most descriptors with one message (the kernel's SCM_MAX_FD).
const MAX_FDS: usize = 253;

/// Collector to front-end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromCollector {
    /// The command's process was made; only where it is the collector's child.
    Child {
        /// Its pid.
        pid: u32,
    },
    /// Something happened to the command's process; only where it is the collector's child.
    Changed(Change),
    /// Everything is armed: the command may start.
    Ready {
        /// What the user should know before it starts.
        notes: Vec<String>,
    },
    /// The run cannot start; nothing was left behind by the collector.
    Refused {
        /// Exit status for it.
        exit: u8,
        /// What, why, what to do.
        message: String,
    },
    /// The collector is about to die of a fault of its own.
    Failed {
        /// Which.
        message: String,
    },
    /// The record is finished, one way or the other.
    Summary(Summary),
    /// And so is what is made from it: nothing of the run's is written any more.
    Complete,
}

/// What the front-end says when a run is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Events in the log.
    pub events: u64,
    /// Events that are missing from it.
    pub lost: u64,
    /// Denials made.
    pub blocked: u64,
    /// Denials that an enforced policy would have made.
    pub would_block: u64,
    /// `hash_self` of the last event.
    pub head: String,
    /// Processes that go on after an audit-only run.
    pub left_running: Vec<u32>,
    /// Why the log was not sealed, if it was not.
    pub unsealed: Option<String>,
    /// Why the runner ended the run, if it did.
    pub ended_by_runner: Option<String>,
    /// Whether it did so because its time was over.
    pub out_of_time: bool,
    /// What was denied, by rule: lines for people.
    pub denials: Vec<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// Front-end to collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromFrontEnd {
    /// The first process of the run has ended.
    CommandEnded(CommandStatus),
}

/// Collector to child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// Leave the machine's namespaces for these. It comes first, if it comes.
    Enter(Namespaces),
    /// Cover this.
    Cover(Mounts),
    /// Make an ender, which keeps from signals to others whatever this process will be and make. It comes behind the covers, if
    /// it comes: from then on nothing can be mounted.
    Guard {
        /// A process that may be signalled now, and not afterwards.
        outside: u32,
    },
    /// Become a member of the run, with the descriptor that travels along, if any.
    Join(Join),
}

/// How a process becomes a member of a run, and how it is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// How it becomes one.
    pub by: By,
    /// Whether hooks judge the run: what they do not hold is the filter's.
    pub hooks: bool,
    /// Which capabilities it gives up, where it is enforced.
    pub gives_up: GivesUp,
    /// Whether it puts its fence around itself.
    pub fence: Fenced,
    /// The sections of which calls wait to be asked about; where there are some, their listener is sent with [`Armed::Yes`].
    pub asks: Sections,
}

/// How a process becomes a member of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// By the program that travels along.
    Program,
    /// By a filter that hands the calls of the run to the collector, to which it sends the listener.
    Calls,
}

/// Which capabilities an enforced command gives up (`policy::compile::capabilities`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GivesUp {
    /// None: hooks judge what they give.
    Nothing,
    /// Those that show the memory of other processes, of which this kernel asks no hook.
    Sight,
    /// All that the policies do not open.
    Unopened,
}

/// Whether Landlock holds the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fenced {
    /// It is not used.
    #[default]
    No,
    /// It is.
    Yes,
    /// It is, but for ports of TCP.
    WithoutPorts,
}

/// Child to collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Armed {
    /// The child is a member. What the run asks its runner by travels along, where it is enforced; or the listener that
    /// all its calls come by.
    Yes,
    /// It could not become one.
    Failed {
        /// The error number.
        errno: i32,
    },
    /// What is to be covered is.
    Covered,
    /// It could not cover what is denied.
    NotCovered {
        /// Why not.
        why: String,
    },
    /// The ender waits for its word; the link to it travels along.
    Guarded,
    /// There is none.
    NotGuarded {
        /// Why not.
        why: String,
    },
    /// It is in its namespaces. What listens there travels along.
    Entered(Option<Description>),
    /// It is not.
    NotEntered {
        /// Why not.
        why: String,
    },
}

/// Front-end to child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Go {
    /// Execute the command.
    Now,
}

/// Child to front-end, only when something failed: a successful exec closes the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildFailure {
    /// What the child was doing.
    pub step: ChildStep,
    /// The error number.
    pub errno: i32,
}

/// What a child does between the go message and its first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildStep {
    /// Taking the user's ids.
    Identity,
    /// Beginning a session.
    Session,
    /// Limiting itself.
    Limits,
    /// Giving up the gain of privileges.
    NoNewPrivs,
    /// Giving up capabilities.
    Capabilities,
    /// Restricting itself by Landlock.
    Landlock,
    /// Looking at its standard descriptors.
    Standard,
    /// Installing the system call filter.
    Seccomp,
    /// execve(2).
    Exec,
}

/// Collector to guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuardian {
    /// The run is about to start: keep the descriptors that travel along, and watch.
    Watch,
    /// The run's calls wait for the collector: let them go on, with the descriptors that travel along, when it cannot.
    StandIn,
    /// The run has an ender: what tells it, and what tells of it, travels along.
    Ender {
        /// Its pid.
        pid: u32,
    },
    /// The collector is alive.
    Beat,
    /// The run is over and recorded.
    Release,
}

/// Guardian to collector; mostly it says nothing, it only lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuardian {
    /// The guardian ends the run.
    EndsRun {
        /// Why.
        why: String,
    },
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received<R> {
    /// A message and the descriptors that came with it.
    Message(R, Vec<OwnedFd>),
    /// The peer has closed its end, which also means: it has ended.
    Closed,
}

/// One end of a socket that sends `S` and receives `R`.
#[derive(Debug)]
pub struct Channel<S, R> {
    fd: OwnedFd,
    types: PhantomData<fn(S) -> R>,
}

/// A connected pair; both ends are close-on-exec.
pub fn pair<A: Serialize + DeserializeOwned, B: Serialize + DeserializeOwned>()
-> io::Result<(Channel<A, B>, Channel<B, A>)> {
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Channel { fd: one, types: PhantomData }, Channel { fd: other, types: PhantomData }))
}

impl<S: Serialize, R: DeserializeOwned> Channel<S, R> {
    /// The end of a SOCK_SEQPACKET socket that was made elsewhere.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Channel { fd, types: PhantomData }
    }

    /// Sends a message. `EPIPE` when the peer is gone.
    pub fn send(&self, message: &S) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends a message with descriptors.
    pub fn send_with(&self, message: &S, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &control };
        loop {
            let sent = sendmsg::<()>(
                self.fd.as_raw_fd(),
                &[IoSlice::new(&bytes)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a message, or for the end of the peer.
    pub fn receive(&self) -> io::Result<Received<R>> {
        loop {
            match self.receive_flags(MsgFlags::empty()) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                other => return other,
            }
        }
    }

    /// Takes a message that is there; `WouldBlock` when there is none.
    pub fn try_receive(&self) -> io::Result<Received<R>> {
        self.receive_flags(MsgFlags::MSG_DONTWAIT)
    }

    fn receive_flags(&self, flags: MsgFlags) -> io::Result<Received<R>> {
        let mut bytes = vec![0u8; MAX_MESSAGE];
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let (length, fds, cut) = {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
            let received = match recvmsg::<()>(self.fd.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                // The peer died with a message of ours unread. That is told once, and before what it had sent (sock_error()
                // in net/core/datagram.c): its messages are still there, and after them its end.
                Err(Errno::ECONNRESET) => return self.receive_flags(flags),
                other => other?,
            };
            let mut fds = Vec::new();
            for message in received.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raw) = message {
                    // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
                    fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            let cut = received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
            (received.bytes, fds, cut)
        };
        if cut {
            return Err(io::Error::other("a message between the runner's processes was cut short"));
        }
        if length == 0 {
            return Ok(Received::Closed);
        }
        Ok(Received::Message(serde_json::from_slice(&bytes[..length])?, fds))
    }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<S, R> AsRawFd for Channel<S, R> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn what_a_peer_sent_is_heard_although_it_died_with_a_message_unread() {
        let (one, other) = pair::<ToGuardian, FromGuardian>().unwrap();
        one.send(&ToGuardian::Beat).unwrap();
        one.send(&ToGuardian::Release).unwrap();
        other.send(&FromGuardian::EndsRun { why: "unread".into() }).unwrap();
        drop(one);
        assert!(matches!(other.receive().unwrap(), Received::Message(ToGuardian::Beat, _)));
        assert!(matches!(other.try_receive().unwrap(), Received::Message(ToGuardian::Release, _)));
        assert!(matches!(other.receive().unwrap(), Received::Closed));
    }

    #[test]
    fn a_message_carries_descriptors_and_the_end_is_seen() {
        let (one, other) = pair::<ToGuardian, FromGuardian>().unwrap();
        let (mut reader, mut writer) = io::pipe().unwrap();
        one.send_with(&ToGuardian::Watch, &[reader.as_fd()]).unwrap();
        drop(one);
        match other.receive().unwrap() {
            Received::Message(ToGuardian::Watch, fds) => {
                assert_eq!(fds.len(), 1);
                writer.write_all(b"x").unwrap();
                drop(writer);
                let mut text = String::new();
                std::fs::File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
                assert_eq!(text, "x");
            }
            unexpected => panic!("{unexpected:?}"),
        }
        reader.read_to_end(&mut Vec::new()).unwrap();
        assert!(matches!(other.receive().unwrap(), Received::Closed));
    }

    #[test]
    fn last_words_are_heard_from_one_who_did_not_listen() {
        let (one, other) = pair::<ToGuardian, FromGuardian>().unwrap();
        one.send(&ToGuardian::Beat).unwrap();
        one.send(&ToGuardian::Release).unwrap();
        other.send(&FromGuardian::EndsRun { why: "unread".to_owned() }).unwrap();
        drop(one);
        for word in [ToGuardian::Beat, ToGuardian::Release] {
            assert!(matches!(other.receive().unwrap(), Received::Message(found, _) if found == word));
        }
        assert!(matches!(other.receive().unwrap(), Received::Closed));
    }

    #[test]
    fn nothing_there_is_not_the_end() {
        let (one, other) = pair::<ToGuardian, FromGuardian>().unwrap();
        assert_eq!(other.try_receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert!(matches!(other.try_receive().unwrap(), Received::Closed));
    }

    #[test]
    fn sending_to_the_dead_is_an_error_and_no_signal() {
        let (one, other) = pair::<ToGuardian, FromGuardian>().unwrap();
        drop(other);
        assert_eq!(one.send(&ToGuardian::Beat).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
