//! What becomes of a question: refused, asked, judged, opened, told, answered, in this order.
//!
//! Sockets of clients are not its business (see `listen`).

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answer::{self, Answer, Terms};
use crate::gate::{Error, Gate, Leave, Opening, Rcode, Refused, Told, Transport};
use crate::message::{Header, MAX_MESSAGE, Question, flag, rcode};
use crate::question::{Heard, Query, hear};
use crate::settings::Settings;
use crate::upstream::{self, Buffer};
use crate::write::{self, Explanation};

/// Where a packet came from, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) resolver: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) port: u16,
}

/// What comes next for a packet.
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// This goes back at once.
    Reply(Vec<u8>),
    /// This is to be asked.
    Ask(Pending),
}

/// A question that may be asked, and its place among those that are being asked.
pub(crate) struct Pending {
    query: Query,
    rule: Option<String>,
    place: OwnedSemaphorePermit,
}

/// What all listeners of a stub share.
pub(crate) struct Server<G> {
    gate: RefCell<G>,
    pub(crate) settings: Settings,
    places: Arc<Semaphore>,
    buffer: Buffer,
}

impl<G: Gate> Server<G> {
    pub(crate) fn new(gate: G, settings: Settings) -> Server<G> {
        let places = Arc::new(Semaphore::new(settings.questions));
        Server { gate: RefCell::new(gate), settings, places, buffer: Buffer::new() }
    }

    /// Looks at a packet: no question leaves the machine here.
    pub(crate) fn receive(&self, packet: &[u8], client: Client) -> Next {
        let query = match hear(packet) {
            Heard::Nothing => return Next::Nothing,
            Heard::Unfit { question, rcode, reply } => {
                let error = Some(Error::Unfit);
                self.tell(Told { rcode: Rcode(rcode), error, ..told(question.as_ref(), client) });
                return Next::Reply(reply);
            }
            Heard::Question(query) => query,
        };
        match self.leave(&query, client.resolver.ip()) {
            Err(refused) => {
                let text = format!("blocked by policy: {}", refused.by());
                let told = Told { refused: Some(refused), ..told(Some(&query.question), client) };
                // A definite answer: at SERVFAIL or REFUSED, and at none, libraries would ask on, and wait.
                Next::Reply(self.reply(
                    &query,
                    told,
                    rcode::NXDOMAIN,
                    Explanation::new(Explanation::BLOCKED, text),
                ))
            }
            Ok(rule) => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => Next::Ask(Pending { query, rule, place }),
                Err(_) => {
                    let told = Told { rule, ..told(Some(&query.question), client) };
                    Next::Reply(self.fail(&query, told, Error::TooMany))
                }
            },
        }
    }

    /// Asks, and gives what the client gets, with the question's place: it is free when this was sent.
    pub(crate) async fn ask(&self, pending: Pending, client: Client) -> (Vec<u8>, OwnedSemaphorePermit) {
        let Pending { query, rule, place } = pending;
        let mut told = Told { rule, ..told(Some(&query.question), client) };
        let answer = match self.answer(&query, client).await {
            Ok(answer) => answer,
            Err(error) => return (self.fail(&query, told, error), place),
        };
        told.refused_addresses = answer.refused;
        let addresses: Vec<IpAddr> = answer.addresses.iter().map(|(address, _)| *address).collect();
        if !addresses.is_empty() {
            let name = query.question.name.text();
            let opening = Opening { name, resolver: client.resolver.ip(), addresses: answer.addresses };
            // By itself: the gate is free again before it is told of a failure.
            let opened = self.gate.borrow_mut().open(&opening);
            if let Err(error) = opened {
                return (self.fail(&query, told, Error::Open(error)), place);
            }
        }
        let cut = Header::read(&answer.bytes).is_ok_and(|header| header.has(flag::TC));
        let (rcode, aliases, ttl) = (Rcode(answer.rcode), answer.aliases, answer.ttl);
        self.tell(Told { rcode, cut, answers: addresses, aliases, ttl, ..told });
        (answer.bytes, place)
    }

    /// The rule by which the question may be asked, or why it may not.
    fn leave(&self, query: &Query, resolver: IpAddr) -> Result<Option<String>, Refused> {
        let name = &query.question.name;
        if !name.is_plain() {
            return Err(Refused::NotAHostName);
        }
        let leave = self.gate.borrow_mut().may_ask(&name.text(), resolver);
        match leave {
            Leave::Yes { rule } => Ok(rule),
            Leave::No { rule, because } => Err(Refused::Rule { rule, because }),
        }
    }

    /// Asks the resolver, and judges its answer.
    async fn answer(&self, query: &Query, client: Client) -> Result<Answer, Error> {
        let id = upstream::random_id().map_err(Error::Resolver)?;
        let question = write::question(query, id);
        let answers = |message: &[u8]| answer::answers(message, id, &query.question);
        let asking = async {
            match client.transport {
                Transport::Udp => upstream::by_udp(client.resolver, &question, &self.buffer, answers).await,
                Transport::Tcp => upstream::by_tcp(client.resolver, &question, answers).await,
            }
        };
        let wait = self.settings.wait;
        let message =
            timeout(wait, asking).await.map_err(|_| Error::Silent(wait))?.map_err(Error::Resolver)?;
        let limit = match client.transport {
            Transport::Udp => query.payload(),
            Transport::Tcp => MAX_MESSAGE,
        };
        let terms = Terms {
            lifetimes: (self.settings.floor, self.settings.ceiling),
            own: self.settings.own.as_ref(),
        };
        answer::judge(query, message, limit, &terms).map_err(|_| Error::Unreadable)
    }

    /// Tells of a failure, and makes the reply for it.
    fn fail(&self, query: &Query, told: Told, error: Error) -> Vec<u8> {
        let (code, text) = match error {
            Error::Silent(_) | Error::Resolver(_) => {
                (Explanation::UNREACHABLE, "the resolver gives no answer")
            }
            Error::TooMany => (Explanation::OTHER, "too many questions at a time"),
            Error::Open(_) => (Explanation::OTHER, "the addresses cannot be opened"),
            Error::Unreadable | Error::Unfit => (Explanation::OTHER, "the resolver's answer is unreadable"),
        };
        let told = Told { error: Some(error), ..told };
        self.reply(query, told, rcode::SERVFAIL, Explanation::new(code, text))
    }

    /// Tells, and makes a reply of the stub's own.
    fn reply(&self, query: &Query, told: Told, rcode: u16, explanation: Explanation) -> Vec<u8> {
        self.tell(Told { rcode: Rcode(rcode), ..told });
        write::reply(query, rcode, Some(&explanation))
    }

    fn tell(&self, told: Told) {
        self.gate.borrow_mut().tell(told);
    }
}

/// What is told of any question of the client's.
fn told(question: Option<&Question>, client: Client) -> Told {
    Told::of(question, client.transport, client.resolver.ip(), client.port)
}
