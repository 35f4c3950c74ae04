//! Host names of a run: the stub resolver that its questions go to, and by which names addresses are known.
//!
//! A rule on host names can only be kept if somebody sees which addresses a name has, before the run does. That is the
//! [`Stub`]: the run's port-53 traffic is sent to it, it asks the machine's resolver on the run's behalf, and has the
//! addresses opened ([`Gate::open`]) before the answer goes out. [`Book`] remembers what was opened.
//!
//! The crate decides nothing about names (the [`Gate`] does), keeps no cache, checks no DNSSEC signatures, and knows
//! neither policies nor the kernel. Messages are read by its own code and not by a library's, because answers go on
//! as they came, byte by byte, and little is read of them; its tests check that against a library.

#![forbid(unsafe_code)]

mod address;
mod answer;
pub mod book;
#[cfg(test)]
mod fuzzed;
mod gate;
mod hosts;
mod listen;
mod lookup;
mod message;
mod name;
mod overheard;
mod question;
mod resolv_conf;
mod server;
mod settings;
mod stub;
mod svcb;
mod upstream;
mod write;

pub use address::Reason;
pub use book::Book;
pub use gate::{Asked, Error, Gate, Kind, Leave, Opening, Rcode, Refused, Told, Transport};
pub use hosts::hosts;
pub use lookup::{Found, lookup};
pub use overheard::{Overheard, overhear};
pub use resolv_conf::{Nameserver, nameservers};
pub use settings::Settings;
pub use stub::{BindError, Ports, Running, Stub};
