//! One client of the relay, from its first byte to its last.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::authority::Destination;
use super::dial::{Dialled, Refusal};
use super::http::request::{self, Asked, Forward};
use super::http::{Fault, MAX_HEAD};
use super::judge;
use super::reader::{Named, Reader, Strictness};
use super::socks::{self, Reply};
use super::told::{Teller, Told};
use super::tunnel::{self, End, Moved};
use super::{GREETING, Shared, forward, reply};

/// What a client speaks, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Socks,
    Http,
    Other,
}

impl Speech {
    fn of(first: u8) -> Self {
        match first {
            socks::VERSION => Speech::Socks,
            b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n' => Speech::Http,
            _ => Speech::Other,
        }
    }
}

/// Bytes of a client's that were read and not used.
struct Client {
    stream: TcpStream,
    held: Vec<u8>,
    /// When it must have said what it wants.
    until: Instant,
}

impl Client {
    /// Reads more; an error where nothing comes, or not in time.
    async fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let read = timeout_at(self.until, self.stream.read(&mut buffer)).await;
        match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.held.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

/// Serves a client. As soon as it has said what it wants, `said` is true; `_place` is its own among all clients.
pub async fn serve(
    shared: Rc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    said: Rc<Cell<bool>>,
    _place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let mut client = Client { stream, held: Vec::new(), until: Instant::now() + GREETING };
    // Who hangs up, or is too slow, is told nothing.
    if client.more().await.is_err() {
        return;
    }
    let teller = Teller::new(peer);
    let _ = match Speech::of(client.held[0]) {
        Speech::Socks => of_socks(&shared, client, teller, &said).await,
        Speech::Http => of_http(&shared, client, teller, &said).await,
        Speech::Other => Ok(()),
    };
}

/// Tells the record, and remembers what was denied last.
struct Telling<'s> {
    shared: &'s Shared,
    denied: RefCell<Option<Told>>,
}

impl<'s> Telling<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self { shared, denied: RefCell::new(None) }
    }

    fn tell(&self, told: Told) {
        if told.event.action == crate::event::Action::Blocked {
            *self.denied.borrow_mut() = Some(told.clone());
        }
        self.shared.tell(told);
    }
}

async fn of_socks(
    shared: &Shared,
    mut client: Client,
    mut teller: Teller,
    said: &Cell<bool>,
) -> io::Result<()> {
    let offers = loop {
        match socks::greeting(&client.held) {
            socks::Read::Whole(offers, length) => {
                client.held.drain(..length);
                break offers;
            }
            socks::Read::More if client.held.len() <= socks::MAX_GREETING => client.more().await?,
            _ => return Ok(()),
        }
    };
    if !offers {
        tunnel::farewell(&mut client.stream, &socks::NO_METHOD).await;
        return Ok(());
    }
    client.stream.write_all(&socks::NO_LOGIN).await?;
    let asked = loop {
        match socks::request(&client.held) {
            socks::Read::Whole(asked, length) => {
                client.held.drain(..length);
                break asked;
            }
            socks::Read::More if client.held.len() <= socks::MAX_REQUEST => client.more().await?,
            _ => return Ok(()),
        }
    };
    let to = match asked {
        Ok(to) => to,
        Err(reply) => {
            tunnel::farewell(&mut client.stream, &socks::reply(reply)).await;
            return Ok(());
        }
    };
    said.set(true);
    let Some(_turn) = shared.turn().await else {
        tunnel::farewell(&mut client.stream, &socks::reply(Reply::Failure)).await;
        return Ok(());
    };
    let telling = Telling::new(shared);
    match shared.dialler.dial(&to, &mut teller, |told| telling.tell(told)).await {
        Ok(dialled) => {
            client.stream.write_all(&socks::reply(Reply::Succeeded)).await?;
            through(shared, client, dialled, teller).await;
        }
        Err(refusal) => {
            let reply = socks::reply(reply::socks(&refusal));
            tunnel::farewell(&mut client.stream, &reply).await;
        }
    }
    Ok(())
}

async fn of_http(
    shared: &Shared,
    mut client: Client,
    mut teller: Teller,
    said: &Cell<bool>,
) -> io::Result<()> {
    let asked = loop {
        match request::read(&client.held) {
            Ok(Some((asked, length))) => {
                client.held.drain(..length);
                break asked;
            }
            Ok(None) if client.held.len() < MAX_HEAD => client.more().await?,
            Ok(None) => {
                tunnel::farewell(&mut client.stream, &reply::fault(&Fault::TooLong)).await;
                return Ok(());
            }
            Err(fault) => {
                tunnel::farewell(&mut client.stream, &reply::fault(&fault)).await;
                return Ok(());
            }
        }
    };
    said.set(true);
    let Some(_turn) = shared.turn().await else {
        let busy = reply::http("503 Service Unavailable", "sandbox: too many connections at a time\n");
        tunnel::farewell(&mut client.stream, &busy).await;
        return Ok(());
    };
    let to = match &asked {
        Asked::Tunnel(to) => to.clone(),
        Asked::Forward(forward) => forward.destination.clone(),
    };
    let telling = Telling::new(shared);
    let dialled = match shared.dialler.dial(&to, &mut teller, |told| telling.tell(told)).await {
        Ok(dialled) => dialled,
        Err(refusal) => {
            let denied = telling.denied.borrow_mut().take();
            refuse(shared, &mut client, &to, &refusal, denied.as_ref()).await;
            return Ok(());
        }
    };
    match asked {
        Asked::Tunnel(_) => {
            client.stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            through(shared, client, dialled, teller).await;
        }
        Asked::Forward(request) => exchange(shared, client, dialled, request, teller).await,
    }
    Ok(())
}

async fn refuse(
    shared: &Shared,
    client: &mut Client,
    to: &Destination,
    refusal: &Refusal,
    denied: Option<&Told>,
) {
    let words = reply::refusal(shared.dialler.directory(), to, refusal, denied);
    tunnel::farewell(&mut client.stream, &words).await;
}

/// Tells of a connection's end, also where that is the end of the relay.
struct Closing<'c> {
    shared: &'c Shared,
    teller: &'c Teller,
    moved: &'c Moved,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.shared.tell(self.teller.close(self.moved.out.get(), self.moved.back.get()));
    }
}

/// Carries a tunnel, whose bytes are read for the server that they name.
async fn through(shared: &Shared, mut client: Client, dialled: Dialled, teller: Teller) {
    let Dialled { stream: mut server, way, names } = dialled;
    let strictness = match way.by_address {
        true => Strictness::Observe,
        false => Strictness::of_named(teller.end.port),
    };
    let names: Vec<String> = names.into_iter().filter(|name| opens(shared, &way, &teller, name)).collect();
    let reader = Reader::new(strictness, names);
    let moved = Moved::default();
    let _closing = Closing { shared, teller: &teller, moved: &moved };
    let early = std::mem::take(&mut client.held);
    let ruling = way.ruling.clone();
    let mut of_names = teller.clone();
    let first = |named: Named| {
        if of_names.end.host.is_none() {
            of_names.end.host.clone_from(&named.name);
        }
        shared.tell(of_names.named(&named, Some(&ruling)));
    };
    let end = tunnel::run(&mut client.stream, &mut server, early, reader, &moved, first).await;
    if let End::Cut(named) = end {
        // The rule that decides about the name that was told; where none was, what does about the address alone.
        let told: Vec<&str> = named.name.iter().map(String::as_str).collect();
        let ask = |names: &[&str]| {
            let port = teller.end.port;
            shared.dialler.directory().ask(|policies| judge::rule(policies, way.address, port, names))
        };
        let mut ruling = ask(&told).filter(|ruling| !ruling.allowed);
        if ruling.is_none() {
            // A rule allows that name here, but its own resolver did not say that it is here.
            ruling = ask(&[]).filter(|ruling| !ruling.allowed);
        }
        shared.tell(teller.named(&named, ruling.as_ref()));
        tunnel::reset(&client.stream);
        tunnel::reset(&server);
    }
}

/// Whether an address is open by this one of its names.
fn opens(shared: &Shared, way: &judge::Way, teller: &Teller, name: &str) -> bool {
    let port = teller.end.port;
    let ruling = shared.dialler.directory().ask(|policies| judge::rule(policies, way.address, port, &[name]));
    ruling.is_some_and(|ruling| ruling.allowed)
}

/// Carries one request and its answer.
async fn exchange(shared: &Shared, mut client: Client, dialled: Dialled, request: Forward, teller: Teller) {
    let Dialled { stream: mut server, way, .. } = dialled;
    let name = request.destination.host.to_string();
    let named = Named { name: Some(name), protocol: "http", ech: false, reason: None };
    shared.tell(teller.named(&named, Some(&way.ruling)));
    let (moved, answered) = (Moved::default(), Cell::new(false));
    let closing = Closing { shared, teller: &teller, moved: &moved };
    let early = std::mem::take(&mut client.held);
    let done = forward::run(&mut client.stream, &mut server, request, &early, &moved, &answered).await;
    drop(closing);
    match done {
        Ok(()) => tunnel::farewell(&mut client.stream, b"").await,
        Err(broken) if !answered.get() => {
            let status = match broken {
                forward::Broken::Request(_) => "400 Bad Request",
                _ => "502 Bad Gateway",
            };
            let words = reply::http(status, &format!("sandbox: {broken}\n"));
            tunnel::farewell(&mut client.stream, &words).await;
        }
        // A client must not take half an answer for a whole one.
        Err(_) => tunnel::reset(&client.stream),
    }
}
