//! The relay: the only way out of a run's network namespace.
//!
//! ```text
//! command ──CONNECT, http://, SOCKS 5──▶ listener inside ──▶ relay (this process, the machine's network)
//!                                                             │ name: may it be asked? what are its addresses?
//!                                                             │ each address: may it be connected to?
//!                                                             ▼
//!                                         server ◀── dials exactly an address that was judged
//! ```
//!
//! It has a thread and a runtime of its own, so that a flood of connections holds up no record. The policies in force
//! judge ([`judge`]); what a client then sends is read for the server that it names ([`reader`]), and both are told to the
//! record ([`told`]). What it cannot know is which program connects.
//!
//! Nothing here grows with what clients send: all clients are counted, and those that are served are; heads, hellos and
//! lines have a bound. Who has not yet said what he wants has [`GREETING`] for it, and makes room for others sooner where
//! there are many of his kind: who says nothing keeps nobody from being served.

pub mod authority;
pub mod dial;
mod forward;
pub mod http;
pub mod judge;
pub mod reader;
mod reply;
mod session;
pub mod socks;
pub mod told;
mod tunnel;
pub mod variables;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{sleep, timeout};

use dial::Dialler;
use told::Told;

/// How long a client has to say what it wants.
pub const GREETING: Duration = Duration::from_secs(15);
/// Clients that have not yet said it, at a time; with one more the oldest of them goes.
const GREETED: usize = 64;
/// Clients that are served at a time, at most: each has two descriptors.
const SERVED: usize = 512;
/// Descriptors of this process that are not the relay's.
const OTHERS: u64 = 256;
/// How long one waits for its turn before it is told that there are too many.
const TURN: Duration = Duration::from_secs(10);
/// Events that wait to be recorded at most.
const WAITING: usize = 4096;
/// How long to wait when the system has no descriptor for a client.
const RETRY: Duration = Duration::from_millis(50);

/// What clients share.
struct Shared {
    dialler: Dialler,
    told: Sender<Told>,
    lost: Arc<AtomicU64>,
    served: Arc<Semaphore>,
}

impl Shared {
    /// The record tells of what is lost.
    fn tell(&self, told: Told) {
        if self.told.try_send(told).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place among those that are served, for one that has said what it wants.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        timeout(TURN, Arc::clone(&self.served).acquire_owned()).await.ok()?.ok()
    }
}

/// A relay that serves. When it is dropped, its thread comes to its end by itself, and connections with it. Should the
/// thread end otherwise, nothing gets out of the namespace any more.
#[derive(Debug)]
pub struct Relay {
    told: Receiver<Told>,
    lost: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Serves the clients of a listener, in a thread of its own, from now on.
    ///
    /// # Errors
    /// The system has no thread or no event queue for it.
    pub fn start(listener: TcpListener, dialler: Dialler) -> io::Result<Relay> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (send, told) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel::<()>();
        let of_thread = Arc::clone(&lost);
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(move || {
            let most = most();
            let served = Arc::new(Semaphore::new(most));
            let shared = Rc::new(Shared { dialler, told: send, lost: of_thread, served });
            let serving = async {
                tokio::select! {
                    () = accept(shared, listener, 2 * most) => {}
                    _ = stopped => {}
                }
            };
            runtime.block_on(LocalSet::new().run_until(serving));
        })?;
        Ok(Relay { told, lost, stop: Some(stop), thread: Some(thread) })
    }

    /// What it has told.
    pub fn take(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    /// Ends it, and the connections that go on; what it then has to tell is there when this returns.
    pub fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has told what it could.
            let _ = thread.join();
        }
    }

    /// How many events could not be told.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// How many clients are served at a time: the process needs descriptors for its record, too.
fn most() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // One for each client, twice as many as are served, and one for each server.
    usize::try_from(limit.saturating_sub(OTHERS) / 3).unwrap_or(SERVED).clamp(8, SERVED)
}

/// One that has not said what it wants.
struct Greeted {
    said: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// Takes clients, `all` of them at a time; others wait in the kernel. Does not end.
async fn accept(shared: Rc<Shared>, listener: tokio::net::TcpListener, all: usize) {
    let places = Arc::new(Semaphore::new(all));
    let mut greeted: VecDeque<Greeted> = VecDeque::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let said = Rc::new(Cell::new(false));
        let serving = session::serve(Rc::clone(&shared), stream, peer, Rc::clone(&said), place);
        let task = tokio::task::spawn_local(serving).abort_handle();
        greeted.retain(|greeted| !greeted.said.get() && !greeted.task.is_finished());
        greeted.push_back(Greeted { said, task });
        if greeted.len() > GREETED
            && let Some(oldest) = greeted.pop_front()
        {
            oldest.task.abort();
        }
    }
}
