//! The stub resolver: its sockets, its limits, and its thread.
//!
//! For each resolver of the machine there is a UDP and a TCP port on the loopback address of its family. That the run's
//! questions come to them, and that the answers seem to come from the resolver, is the work of others.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};

use crate::gate::Gate;
use crate::listen;
use crate::server::Server;
use crate::settings::Settings;

/// A port for one of the machine's resolvers cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listen on {local} for the resolver {resolver}: {source}")]
pub struct BindError {
    /// The resolver.
    pub resolver: SocketAddr,
    /// The loopback address that was tried.
    pub local: IpAddr,
    /// Why not.
    pub source: io::Error,
}

/// Where the questions for a resolver are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The resolver.
    pub resolver: SocketAddr,
    /// Where its datagrams go.
    pub udp: SocketAddr,
    /// Where its connections go.
    pub tcp: SocketAddr,
}

/// A stub that has its ports, and does not yet answer.
#[derive(Debug)]
pub struct Stub {
    sockets: Vec<(Ports, UdpSocket, TcpListener)>,
    settings: Settings,
}

impl Stub {
    /// Opens the ports for these resolvers: 127.0.0.1 for IPv4 ones, ::1 for IPv6 ones, numbers of the kernel's choice.
    ///
    /// # Errors
    ///
    /// For one of them there is none: without `::1` there is no IPv6 resolver to be asked either.
    pub fn bind(resolvers: &[SocketAddr], settings: Settings) -> Result<Stub, BindError> {
        let sockets = resolvers.iter().map(|resolver| {
            let local: IpAddr = match resolver {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            bind(*resolver, local).map_err(|source| BindError { resolver: *resolver, local, source })
        });
        Ok(Stub { sockets: sockets.collect::<Result<_, _>>()?, settings })
    }

    /// One that answers on sockets which were made elsewhere, for the resolver beside them; they need not be on loopback,
    /// nor in this network namespace.
    ///
    /// # Errors
    ///
    /// A socket is none of these kinds.
    pub fn on(
        sockets: impl IntoIterator<Item = (SocketAddr, UdpSocket, TcpListener)>,
        settings: Settings,
    ) -> io::Result<Stub> {
        let sockets = sockets.into_iter().map(|(resolver, udp, tcp)| {
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((Ports { resolver, udp: udp.local_addr()?, tcp: tcp.local_addr()? }, udp, tcp))
        });
        Ok(Stub { sockets: sockets.collect::<io::Result<_>>()?, settings })
    }

    /// The ports, in the resolvers' order.
    pub fn ports(&self) -> Vec<Ports> {
        self.sockets.iter().map(|(ports, ..)| *ports).collect()
    }

    /// Answers in a thread of its own, from now on.
    ///
    /// # Errors
    ///
    /// The system has no thread or no event queue for it.
    pub fn start(self, gate: impl Gate + 'static) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // The sender may be gone without a word.
            _ = stopped.await;
        };
        let thread = thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || runtime.block_on(self.run(gate, stopped)))?;
        Ok(Running { stop, thread })
    }

    /// Answers until `stop` is there, on a tokio runtime with I/O and time. What is being asked then is dropped.
    ///
    /// # Errors
    ///
    /// A socket cannot be used, or one of the listeners came to an end.
    pub async fn run(self, gate: impl Gate + 'static, stop: impl Future<Output = ()>) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(self.settings.connections));
        let server = Rc::new(Server::new(gate, self.settings));
        let listeners = async {
            let mut listeners = JoinSet::new();
            for (Ports { resolver, .. }, udp, tcp) in self.sockets {
                let udp = tokio::net::UdpSocket::from_std(udp)?;
                let tcp = tokio::net::TcpListener::from_std(tcp)?;
                listeners.spawn_local(listen::datagrams(Rc::clone(&server), udp, resolver));
                listeners.spawn_local(listen::connections(
                    Rc::clone(&server),
                    tcp,
                    resolver,
                    Arc::clone(&places),
                ));
            }
            tokio::select! {
                () = stop => Ok(()),
                Some(_) = listeners.join_next() => Err(io::Error::other("a listener of the stub resolver ended")),
            }
        };
        LocalSet::new().run_until(listeners).await
    }
}

fn bind(resolver: SocketAddr, local: IpAddr) -> io::Result<(Ports, UdpSocket, TcpListener)> {
    let (udp, tcp) = (UdpSocket::bind((local, 0))?, TcpListener::bind((local, 0))?);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((Ports { resolver, udp: udp.local_addr()?, tcp: tcp.local_addr()? }, udp, tcp))
}

/// A stub that answers. When it is dropped, the thread comes to its end by itself.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Whether it still answers. It ends by itself only when something is broken; then no name is answered.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends it. The gate is dropped, and will not be called again.
    ///
    /// # Errors
    ///
    /// It had ended by itself.
    pub fn stop(self) -> io::Result<()> {
        // Nobody listens where it has ended.
        _ = self.stop.send(());
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the stub resolver's thread panicked")))
    }
}
