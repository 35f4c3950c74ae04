//! What the stub resolver keeps to.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Limits, and what this machine is.
pub struct Settings {
    /// The shortest time that an address is opened for, whatever its time to live: 60 s. Clients keep addresses longer
    /// than they may.
    pub floor: Duration,
    /// The longest: a day.
    pub ceiling: Duration,
    /// How long a resolver has for its answer: 5 s.
    pub wait: Duration,
    /// How long a connection may be silent, or not take its answers: 10 s.
    pub idle: Duration,
    /// How many questions are asked at a time, of all resolvers: 512. More of them get SERVFAIL.
    pub questions: usize,
    /// How many connections there are at a time, to all ports: 64. More of them wait.
    pub connections: usize,
    /// Whether it is an address of one of this machine's interfaces: such are not opened. Asked at each answer, with
    /// addresses that are not IPv4-mapped; by default, none is.
    pub own: Box<dyn Fn(IpAddr) -> bool + Send>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            floor: Duration::from_secs(60),
            ceiling: Duration::from_secs(24 * 60 * 60),
            wait: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            questions: 512,
            connections: 64,
            own: Box::new(|_| false),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("floor", &self.floor)
            .field("ceiling", &self.ceiling)
            .field("wait", &self.wait)
            .field("idle", &self.idle)
            .field("questions", &self.questions)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
