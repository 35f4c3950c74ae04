//! From where a client wants to go to a connection: the name's addresses, the verdict on each, and the dialling of
//! exactly one that was judged.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::names::{Rcode, Refused, Settings};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::{Destination, Host};
use super::judge::{self, Ruling, Way};
use super::told::Teller;
use crate::names::{Directory, judged};

/// How long a server may take to answer at one address.
const ANSWER: Duration = Duration::from_secs(10);
/// Most addresses of a name that are tried.
const TRIED: usize = 6;
/// NXDOMAIN (RFC 1035, 4.1.1).
const NO_SUCH_NAME: Rcode = Rcode(3);

/// Who knows names and policies.
#[derive(Debug)]
pub struct Dialler {
    directory: Arc<Directory>,
    resolvers: Vec<SocketAddr>,
    settings: Settings,
    /// Names that the machine knows itself.
    hosts: HashMap<String, Vec<IpAddr>>,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// What was dialled, and why.
    pub way: Way,
    /// The names by which it is open.
    pub names: Vec<String>,
}

/// Why there is none.
#[derive(Debug)]
pub enum Refusal {
    /// A policy denies it.
    Denied(Ruling),
    /// The name leads only to where no name may lead.
    NotOpened(String),
    /// The name has no address, or nobody says which.
    Unresolved(String),
    /// Nobody answers there.
    Unreachable(io::Error),
}

impl Dialler {
    /// For a run whose names are in `directory`; `hosts` are those that the machine knows itself.
    pub fn new(
        directory: Arc<Directory>,
        resolvers: Vec<SocketAddr>,
        settings: Settings,
        hosts: Vec<(IpAddr, Vec<String>)>,
    ) -> Self {
        let mut by_name: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (address, names) in hosts {
            for name in names {
                by_name.entry(name.to_ascii_lowercase()).or_default().push(address.to_canonical());
            }
        }
        Self { directory, resolvers, settings, hosts: by_name }
    }

    /// Who knows names and policies.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Judges, and connects to one of the addresses that may be; `teller` learns where it leads, and has what it tells
    /// handed to `tell`.
    ///
    /// # Errors
    /// It may not, or cannot; that was told, too.
    pub async fn dial(
        &self,
        to: &Destination,
        teller: &mut Teller,
        tell: impl Fn(super::told::Told),
    ) -> Result<Dialled, Refusal> {
        teller.end.port = to.port;
        let (addresses, names) = match &to.host {
            Host::Address(address) => (vec![*address], self.directory.names_of(*address)),
            Host::Name(name) => {
                teller.end.host = Some(name.clone());
                let addresses = self.addresses(to, name).await;
                let addresses = addresses.inspect_err(|refusal| match refusal {
                    Refusal::Denied(ruling) => tell(teller.connect(Some(ruling), None, None)),
                    Refusal::NotOpened(why) => tell(teller.connect(None, None, Some(why.clone()))),
                    Refusal::Unresolved(_) | Refusal::Unreachable(_) => {}
                })?;
                (addresses, vec![name.clone()])
            }
        };
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let judged = self.directory.ask(|policies| judge::ways(policies, &addresses, to.port, &known));
        let (ways, denied) = judged.unwrap_or_default();
        if let Some((address, ruling)) = denied
            && ways.is_empty()
        {
            teller.end.address = Some(address);
            tell(teller.connect(Some(&ruling), None, None));
            return Err(Refusal::Denied(ruling));
        }
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for way in ways.into_iter().take(TRIED) {
            teller.end.address = Some(way.address);
            if teller.end.host.is_none() && !way.by_address {
                teller.end.host = names.first().cloned();
            }
            match connect(SocketAddr::new(way.address, to.port)).await {
                Ok(stream) => {
                    tell(teller.connect(Some(&way.ruling), Some(0), None));
                    return Ok(Dialled { stream, way, names });
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
                    tell(teller.connect(Some(&way.ruling), Some(-i64::from(errno)), None));
                    failed = error;
                }
            }
        }
        Err(Refusal::Unreachable(failed))
    }

    /// The addresses of a name; it is asked of resolvers only where the policies let it be.
    async fn addresses(&self, to: &Destination, name: &str) -> Result<Vec<IpAddr>, Refusal> {
        if to.host.is_localhost() {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        let Some(resolver) = self.resolvers.first() else {
            return Err(Refusal::Unresolved("this machine has no resolver".to_owned()));
        };
        match judged(&self.directory, name, resolver.ip()) {
            (_, None) => {}
            (_, Some(Refused::Rule { rule, because })) => {
                return Err(Refusal::Denied(Ruling { allowed: false, on_trial: false, rule, because }));
            }
            (_, Some(Refused::NotAHostName)) => {
                return Err(Refusal::Unresolved("it is no name of hosts".to_owned()));
            }
        }
        let found = ::names::lookup(name, &self.resolvers, &self.settings).await;
        let found = found.map_err(|error| Refusal::Unresolved(format!("cannot {error}")))?;
        if found.addresses.is_empty() && !found.refused.is_empty() {
            let refused =
                found.refused.iter().map(|(address, why)| format!("{address} is not opened: {why}"));
            return Err(Refusal::NotOpened(refused.collect::<Vec<_>>().join("; ")));
        }
        if found.addresses.is_empty() {
            return Err(Refusal::Unresolved(match found.rcode {
                NO_SUCH_NAME => "there is no such name".to_owned(),
                _ => "it has no address".to_owned(),
            }));
        }
        // So that events of this address have its name; a full book is told where it matters, by the stub.
        let _ = self.directory.open(name, &found.addresses);
        Ok(found.addresses.into_iter().map(|(address, _)| address).collect())
    }
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(ANSWER, TcpStream::connect(to)).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // What a client writes at once goes out at once.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}
