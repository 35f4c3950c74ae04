//! The runner's side: a thread of the collector that hears who may apply policies, and prepares them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, accept4, bind, getsockopt, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use policy::{Policies, Policy, Variables};
use tokio::sync::mpsc::Sender;

use super::change::{Beginning, Peer};
use super::office::{Office, Request};
use super::{FromRunner, FromUser, Surroundings, address, memory};
use crate::asking::Desk as Questions;
use crate::enforce::lsm::Lease;
use crate::kernel::bpf;
use crate::launch::cgroup::Cgroup;
use crate::launch::ending::Membership;
use crate::launch::handshake::{Channel, Received};
use crate::record::store::RunDir;
use crate::sensor::Terms;

/// How long the other side may take for a message.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest text of policies, bytes: above what the language takes, for each of several.
const LONGEST: u64 = 64 << 20;

/// What the thread knows of its run.
pub struct Run {
    /// Its directory.
    pub dir: RunDir,
    /// What a policy's variables mean in it.
    pub variables: Variables,
    /// The user whose command it is.
    pub uid: u32,
    /// Its control group.
    pub cgroup: Option<Cgroup>,
    /// Its identity in the kernel, where hooks judge.
    pub lease: Option<Arc<Lease>>,
    /// Its policies at the start, which hold.
    pub policies: Policies,
    /// Whether their verdicts are law.
    pub law: bool,
    /// The runner's own policy, which always holds.
    pub guard: Option<Policy>,
    /// What others must fit.
    pub terms: Terms,
}

/// Listens until the process ends. What is to be done comes out of `changes`, one at a time; `questions` are answered
/// there. Gives what changes go through.
///
/// # Errors
/// The name is taken, or there is no thread.
pub fn start(
    run: Run,
    changes: Sender<Request>,
    questions: Option<Questions>,
) -> io::Result<Arc<Mutex<Office>>> {
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &address(run.dir.path())?)?;
    listen(&listener, Backlog::new(8)?)?;
    let Run { dir, variables, uid, cgroup, lease, policies, law, guard, terms } = run;
    let surroundings = serde_json::to_vec(&Surroundings::from(&variables))?;
    let beginning = Beginning { policies: policies.clone(), law, guard };
    let who = Who { uid, cgroup, lease };
    let office = Arc::new(Mutex::new(Office::new(dir, policies, beginning, terms, changes)));
    let desk = Desk { surroundings, who, office: Arc::clone(&office), questions };
    let serve = move || {
        loop {
            match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: a descriptor that was just made, and nobody else owns.
                Ok(fd) => desk.serve(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }),
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {}
                // Descriptors ran out, for example: the next one may be heard.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    std::thread::Builder::new().name("control".into()).spawn(serve)?;
    Ok(office)
}

/// Who may apply policies.
struct Who {
    uid: u32,
    cgroup: Option<Cgroup>,
    lease: Option<Arc<Lease>>,
}

impl Who {
    /// Who is at the other end, if it may.
    fn admit(&self, connection: &OwnedFd) -> Result<Peer, String> {
        let found = getsockopt(connection, sockopt::PeerCredentials)
            .map_err(|error| format!("it is not known who asks: {error}"))?;
        let peer = Peer { pid: found.pid() as u32, uid: found.uid() };
        if peer.uid != 0 && peer.uid != self.uid {
            return Err(format!("only root and uid {} may apply policies to this run", self.uid));
        }
        match self.is_member(peer.pid) {
            Ok(false) => Ok(peer),
            Ok(true) => Err("a process of the run cannot apply policies to it".to_owned()),
            Err(error) => {
                Err(format!("it is not known whether process {} is one of the run: {error}", peer.pid))
            }
        }
    }

    /// Whether a process belongs to the run; what is not known is an error.
    fn is_member(&self, pid: u32) -> io::Result<bool> {
        if pid == 0 {
            return Err(io::Error::other("it is in another pid namespace"));
        }
        // By identity first: the descriptor is of the process that has the number now.
        let process = bpf::pidfd_open(pid)?;
        if let Some(lease) = &self.lease
            && lease.is_member(process.as_fd())?
        {
            return Ok(true);
        }
        Ok(self.cgroup.as_ref().is_some_and(|cgroup| cgroup.contains(pid)))
    }
}

/// The thread's work.
struct Desk {
    surroundings: Vec<u8>,
    who: Who,
    office: Arc<Mutex<Office>>,
    questions: Option<Questions>,
}

impl Desk {
    /// Hears one of those who ask. What goes wrong with the talk itself ends the talk, and nothing else.
    fn serve(&self, connection: OwnedFd) {
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        let limited = setsockopt(&connection, sockopt::ReceiveTimeout, &patience)
            .and_then(|()| setsockopt(&connection, sockopt::SendTimeout, &patience));
        if limited.is_err() {
            return;
        }
        let admitted = self.who.admit(&connection);
        let channel: Channel<FromRunner, FromUser> = Channel::from_fd(connection);
        let answer = match admitted {
            Ok(peer) => match self.hear(&channel, peer) {
                Ok(Some(answer)) => answer,
                Ok(None) => return,
                Err(message) => FromRunner::Refused { message },
            },
            Err(message) => FromRunner::Refused { message },
        };
        let _ = channel.send(&answer);
    }

    fn hear(
        &self,
        channel: &Channel<FromRunner, FromUser>,
        peer: Peer,
    ) -> Result<Option<FromRunner>, String> {
        let text = |error: io::Error| error.to_string();
        let surroundings = memory::write(&self.surroundings).map_err(text)?;
        channel.send_with(&FromRunner::Ready, &[surroundings.as_fd()]).map_err(text)?;
        let (widen, given) = match channel.receive().map_err(text)? {
            Received::Closed => return Ok(None),
            Received::Message(FromUser::Apply { widen }, fds) => {
                let given = fds.into_iter().next().ok_or("no policy came")?;
                (widen, memory::read(given, LONGEST).map_err(text)?)
            }
            Received::Message(FromUser::Questions, _) => {
                let open = self.questions.as_ref().map(Questions::list).transpose()?.unwrap_or_default();
                return Ok(Some(FromRunner::Questions(open)));
            }
            Received::Message(FromUser::About { number }, _) => {
                let about = self.questions.as_ref().ok_or("this run asks nothing")?.about(number)?;
                let told = serde_json::to_vec(&about).map_err(|error| error.to_string())?;
                let told = memory::write(&told).map_err(text)?;
                channel.send_with(&FromRunner::About, &[told.as_fd()]).map_err(text)?;
                return Ok(None);
            }
            Received::Message(FromUser::Answer { number, answer }, _) => {
                let questions = self.questions.as_ref().ok_or("this run asks nothing")?;
                let told = questions.answer(number, answer, peer)?;
                return Ok(Some(FromRunner::Answered(told)));
            }
        };
        let given = String::from_utf8(given).map_err(|_| "the policy is not UTF-8")?;
        let given = Policies::parse_effective("the policy", &given).map_err(|errors| errors.to_string())?;
        let mut office = self.office.lock().unwrap_or_else(PoisonError::into_inner);
        office.apply(&given, widen, peer).map(|applied| Some(FromRunner::Applied(applied)))
    }
}
