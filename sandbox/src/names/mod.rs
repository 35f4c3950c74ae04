//! Host names of an enforced run: its questions come to a stub resolver of the runner's, and what is answered is opened.
//!
//! ```text
//! command ──question──▶ programs of the control group ──▶ stub (crate `names`) ──▶ the machine's resolver
//!                                                           │ Gate: may it be asked?
//!                       HOSTS map ◀── Directory ◀───────────┘ what did it answer?
//! ```
//!
//! The [`Directory`] knows by which names addresses are known, and writes that into the kernel's map before the command
//! has the answer. It judges nothing that is not a question: rules on addresses, ports and processes are the kernel's.

mod askers;
mod directory;
mod gate;
pub mod machine;
mod told;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use ::names::{Overheard, Running, Settings, Stub};
use policy::{Policies, compile::lsm::LsmPlan};
use sandbox_ebpf::abi::resolver;
use tokio::sync::mpsc;

use crate::event::decode;
use crate::kernel::object::ObjectError;
use crate::observe::RawEvent;
use crate::sensor::Sensor;
use crate::settings::Layer;

pub use askers::Askers;
use directory::boot_ns;
pub use directory::{Directory, Known, Law};
pub use gate::judged;
pub use told::Answer;

/// Answers that wait to be recorded at most; the stub has no more questions under way at a time.
const WAITING: usize = 4096;

/// Why names of the run cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// What the machine says of its resolvers cannot be read.
    #[error("cannot read {file}")]
    Machine {
        /// Which file.
        file: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A port cannot be had.
    #[error("cannot {0}")]
    Bind(#[from] ::names::BindError),
    /// The kernel refuses.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// There is no thread for it.
    #[error("cannot start the resolver's thread")]
    Thread(#[source] io::Error),
}

/// What the collector holds of it.
#[derive(Debug)]
pub struct Names {
    /// Which names addresses have.
    pub directory: Arc<Directory>,
    /// What was asked and answered; `None` where only records tell it.
    pub answers: Option<mpsc::Receiver<Answer>>,
    /// It answers while this is held.
    stub: Option<Running>,
}

impl Names {
    /// Of a run that is only watched, with what it is judged by.
    ///
    /// # Errors
    /// What the machine says of its resolvers cannot be read.
    pub fn of_watched(policies: Option<&Policies>) -> Result<Self, NamesError> {
        let resolvers = machine::resolvers()?.iter().map(SocketAddr::ip).collect();
        let directory = Arc::new(Directory::of_watched(policies.cloned(), resolvers));
        keep_hosts(&directory)?;
        Ok(Names { directory, answers: None, stub: None })
    }

    /// Whether questions are answered as they should be; those that are not find every name closed.
    pub fn answers(&self) -> bool {
        self.stub.as_ref().is_none_or(Running::is_alive)
    }

    /// What came from the stub.
    pub fn take(&mut self) -> Vec<Answer> {
        let Some(answers) = &mut self.answers else { return Vec::new() };
        std::iter::from_fn(|| answers.try_recv().ok()).collect()
    }

    /// A resolver's answer that a record shows; `None` where it is none.
    pub fn hear(&self, raw: &RawEvent, wall_offset_ns: i64) -> Option<Answer> {
        let resolver = decode::end(&raw.parts[0])?;
        let client_port = u16::try_from(raw.header.args[0]).ok()?;
        let Overheard { mut told, addresses } = ::names::overhear(&raw.parts[1], resolver, client_port)?;
        if let Some(asked) = &told.asked {
            // What does not fit into the book is told all the same.
            let _ = self.directory.open_at(&asked.name, &addresses, boot_ns(raw.header.mono_ns));
            (told.rule, told.refused) = judged(&self.directory, &asked.name, resolver);
        }
        let mono_ns = raw.header.mono_ns;
        Some(Answer { told, mono_ns, wall_ns: (mono_ns as i64).wrapping_add(wall_offset_ns), layer: None })
    }
}

/// Begins to answer the questions of a run that is judged by `plan`, made of `policies`.
///
/// # Errors
/// The machine's resolvers cannot be read, or the runner cannot stand in for them.
pub fn start(sensor: &Sensor, plan: Arc<LsmPlan>, policies: &Policies) -> Result<Names, NamesError> {
    let resolvers = machine::resolvers()?;
    let stub = Stub::bind(&resolvers, settings())?;
    for ports in stub.ports() {
        let stub = resolver::Stub { udp: ports.udp.port(), tcp: ports.tcp.port() };
        sensor.stand_in(ports.resolver.ip(), stub)?;
    }
    let directory = Arc::new(Directory::new(
        sensor.hosts()?,
        Law { plan: Some(plan), policies: policies.clone() },
        resolvers.iter().map(SocketAddr::ip).collect(),
    ));
    keep_hosts(&directory)?;
    let (send, answers) = mpsc::channel(WAITING);
    let gate = gate::Doorman::new(Arc::clone(&directory), send, Layer::CgroupNet);
    let stub = stub.start(gate).map_err(NamesError::Thread)?;
    Ok(Names { directory, answers: Some(answers), stub: Some(stub) })
}

/// Begins to answer, on sockets of the run's network namespace, the questions of a run that is judged by `policies`.
/// Nothing in the kernel opens addresses there: who knows which names they have does.
///
/// # Errors
/// What the machine says of its names cannot be read, or there is no thread.
pub fn start_inside(
    sockets: Vec<(SocketAddr, UdpSocket, TcpListener)>,
    policies: &Policies,
) -> Result<Names, NamesError> {
    let resolvers = sockets.iter().map(|(resolver, ..)| resolver.ip()).collect();
    let directory = Arc::new(Directory::of_watched(Some(policies.clone()), resolvers));
    keep_hosts(&directory)?;
    let stub = Stub::on(sockets, settings()).map_err(NamesError::Thread)?;
    let (send, answers) = mpsc::channel(WAITING);
    let gate = gate::Doorman::new(Arc::clone(&directory), send, Layer::Netns);
    let stub = stub.start(gate).map_err(NamesError::Thread)?;
    Ok(Names { directory, answers: Some(answers), stub: Some(stub) })
}

/// What every question of a run is asked by.
pub fn settings() -> Settings {
    Settings { own: Box::new(machine::is_own), ..Settings::default() }
}

/// What the machine knows itself is known for good.
fn keep_hosts(directory: &Directory) -> Result<(), NamesError> {
    for (address, names) in machine::hosts()? {
        for name in names {
            // An entry too many is one that is not opened: the file is the machine's, and small.
            let _ = directory.keep(&name, address);
        }
    }
    Ok(())
}
