//! What the stub asks of the rest and tells it: leave to ask a name, the opening of addresses, and what became of
//! each question.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::Reason;
use crate::message::{Question, rcode};

/// What decides and what opens. The stub calls it from its own thread, one call at a time; a call should not block
/// for long, because all other questions wait for it.
pub trait Gate: Send {
    /// May this name be asked? It is in lower case, without a dot at its end, and all of it is letters, digits, `-`,
    /// `_` and dots; the root is a lone dot. Names with other bytes are refused without asking.
    fn may_ask(&mut self, name: &str, resolver: IpAddr) -> Leave;

    /// Makes the addresses reachable by the name for as long as it says, before the client has the answer.
    ///
    /// # Errors
    ///
    /// It could not; then it must have opened nothing. The client gets SERVFAIL instead of the answer.
    fn open(&mut self, opening: &Opening) -> io::Result<()>;

    /// Every question with what became of it, for the record. Packets that are not replied to are not told.
    fn tell(&mut self, told: Told);
}

/// Whether a name may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Yes {
        /// The rule that says so, where it was one.
        rule: Option<String>,
    },
    /// It may not.
    No {
        /// The rule that says so; the client is told it too, where it speaks EDNS.
        rule: String,
        /// The rule's own reason, for the record.
        because: Option<String>,
    },
}

/// Addresses that an answer makes reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The name that was asked, as [`Gate::may_ask`] had it. Aliases on the way do not count.
    pub name: String,
    /// Who gave the answer.
    pub resolver: IpAddr,
    /// Each address once, never IPv4-mapped, and how long it stays reachable.
    pub addresses: Vec<(IpAddr, Duration)>,
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        })
    }
}

/// The type of a question; shown as `A`, or as `TYPE65280` where it has no well-known name (RFC 3597, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            28 => "AAAA",
            33 => "SRV",
            35 => "NAPTR",
            39 => "DNAME",
            43 => "DS",
            46 => "RRSIG",
            47 => "NSEC",
            48 => "DNSKEY",
            52 => "TLSA",
            64 => "SVCB",
            65 => "HTTPS",
            251 => "IXFR",
            252 => "AXFR",
            255 => "ANY",
            257 => "CAA",
            other => return write!(f, "TYPE{other}"),
        })
    }
}

/// A response code, with the bits that EDNS adds; shown as `NXDOMAIN`, or as `RCODE25`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            16 => "BADVERS",
            other => return write!(f, "RCODE{other}"),
        })
    }
}

/// A question with what became of it.
#[derive(Debug)]
pub struct Told {
    /// What was asked: the name as [`Asked::name`] has it, and the type. `None` where it could not be read.
    pub asked: Option<Asked>,
    /// How it came.
    pub transport: Transport,
    /// The resolver that the client meant to ask.
    pub resolver: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// What the client got.
    pub rcode: Rcode,
    /// Whether the answer was cut, so that the client asks again by TCP.
    pub cut: bool,
    /// The rule that allowed the question, where one did.
    pub rule: Option<String>,
    /// The asked name's addresses in the answer that the client got; they were opened. In the answer's order, each once.
    pub answers: Vec<IpAddr>,
    /// The other names on the way from the asked one to the addresses, in order, escaped like the asked one.
    pub aliases: Vec<String>,
    /// The least time to live on this way, in seconds, as the resolver has it.
    pub ttl: Option<u32>,
    /// Why it was not asked.
    pub refused: Option<Refused>,
    /// Addresses that were taken out of the answer.
    pub refused_addresses: Vec<(IpAddr, Reason)>,
    /// What went wrong.
    pub error: Option<Error>,
}

impl Told {
    /// What is told of any question; the rest is for the caller to fill in.
    pub(crate) fn of(
        question: Option<&Question>,
        transport: Transport,
        resolver: IpAddr,
        client_port: u16,
    ) -> Told {
        let asked = |question: &Question| Asked { name: question.name.text(), kind: Kind(question.kind) };
        Told {
            asked: question.map(asked),
            transport,
            resolver,
            client_port,
            rcode: Rcode(rcode::NOERROR),
            cut: false,
            rule: None,
            answers: Vec::new(),
            aliases: Vec::new(),
            ttl: None,
            refused: None,
            refused_addresses: Vec::new(),
            error: None,
        }
    }
}

/// A question's name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// In lower case, without a dot at the end. Bytes that host names do not have are escaped: `\.` and `\\` for
    /// those inside a label, else `\DDD`.
    pub name: String,
    /// The type.
    pub kind: Kind,
}

/// Why a question was not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A rule says so.
    Rule {
        /// Which.
        rule: String,
        /// Its own reason.
        because: Option<String>,
    },
    /// The name has bytes that host names do not have.
    NotAHostName,
}

impl Refused {
    /// What the client is told that the policy is blocking by.
    pub(crate) fn by(&self) -> Cow<'_, str> {
        match self {
            Refused::Rule { rule, .. } => Cow::Borrowed(rule),
            Refused::NotAHostName => Cow::Borrowed("not a host name"),
        }
    }
}

/// Why a question got no proper answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a message with one question (FORMERR), or one of a class or kind that no resolver is asked.
    #[error("read a question that can be asked")]
    Unfit,
    /// As many as may be are being asked.
    #[error("ask: too many questions at a time")]
    TooMany,
    /// The resolver said nothing that answers the question.
    #[error("get an answer within {0:?}")]
    Silent(Duration),
    /// The resolver cannot be asked.
    #[error("ask the resolver: {0}")]
    Resolver(#[source] io::Error),
    /// The answer does not add up.
    #[error("read the resolver's answer")]
    Unreadable,
    /// [`Gate::open`] failed.
    #[error("open the addresses: {0}")]
    Open(#[source] io::Error),
}
