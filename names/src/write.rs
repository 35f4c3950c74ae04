//! Writes messages: questions for a resolver, the stub's own replies, and answers that some records are taken out of.

use std::collections::HashMap;

use crate::message::{Edns, HEADER, Header, IN, MAX_MESSAGE, Question, Record, Section, flag, kind, rcode};
use crate::name::{Junk, Name};
use crate::question::Query;

/// What UDP carries without EDNS (RFC 1035, 4.2.1).
pub(crate) const PLAIN_PAYLOAD: u16 = 512;
/// What IPv4 has room for in a datagram.
pub(crate) const MAX_PAYLOAD: u16 = 65507;
/// The largest UDP message that the stub asks its clients for: it fits into one packet nearly everywhere.
const PAYLOAD: u16 = 1232;
/// The option for [`Explanation`]s (RFC 8914, 2).
const EXPLANATION: u16 = 15;
/// Most bytes of an explanation's text.
const MAX_TEXT: usize = 200;

/// An extended error (RFC 8914): its code and a text for people.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Explanation {
    /// "Other Error".
    pub(crate) const OTHER: u16 = 0;
    /// "Blocked": by a policy of whoever runs the server.
    pub(crate) const BLOCKED: u16 = 15;
    /// "No Reachable Authority".
    pub(crate) const UNREACHABLE: u16 = 22;

    /// An explanation.
    pub(crate) fn new(code: u16, text: impl Into<String>) -> Explanation {
        Explanation { code, text: text.into() }
    }
}

/// The question for a resolver: what the client asked, with its wishes (RD, AD, CD, EDNS) and nothing else of its
/// bytes.
pub(crate) fn question(query: &Query, id: u16) -> Vec<u8> {
    let mut out = Writer::new(id, query.flags & (flag::RD | flag::AD | flag::CD), &query.question);
    if let Some(edns) = query.edns {
        out.options(edns, &[]);
    }
    out.finish()
}

/// A reply of the stub itself. The explanation goes to those that speak EDNS.
pub(crate) fn reply(query: &Query, rcode: u16, explanation: Option<&Explanation>) -> Vec<u8> {
    let mut out = Writer::new(query.id, reply_flags(query.flags, rcode), &query.question);
    if let Some(edns) = query.edns {
        let mut options = Vec::new();
        if let Some(Explanation { code, text }) = explanation {
            let text = &text[..text.floor_char_boundary(MAX_TEXT)];
            options.extend_from_slice(&EXPLANATION.to_be_bytes());
            options.extend_from_slice(&be16(2 + text.len()));
            options.extend_from_slice(&code.to_be_bytes());
            options.extend_from_slice(text.as_bytes());
        }
        // Of the flags there is only DO, which is copied (RFC 3225, 3).
        out.options(
            Edns { payload: PAYLOAD, extended_rcode: 0, version: 0, flags: edns.flags & 0x8000 },
            &options,
        );
    }
    out.finish()
}

/// A reply to what has no question that one can read.
pub(crate) fn bare_reply(id: u16, flags: u16, rcode: u16) -> Vec<u8> {
    [id, reply_flags(flags, rcode), 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The answer for one who takes no more than its head: he asks again by TCP (RFC 2181, 9).
pub(crate) fn cut(query: &Query, header: &Header) -> Vec<u8> {
    let mut out = reply(query, rcode::NOERROR, None);
    out[2..4].copy_from_slice(&(header.flags | flag::TC).to_be_bytes());
    out
}

fn reply_flags(asked: u16, rcode: u16) -> u16 {
    flag::QR | flag::RA | asked & (flag::OPCODE | flag::RD | flag::CD) | rcode
}

/// The answer with those records that are kept; `changed` gives other data to a record. What it says is no longer
/// all that was signed, so AD goes.
pub(crate) fn rebuilt(
    message: &[u8],
    (header, question): (&Header, &Question),
    records: &[(&Record, Option<Vec<u8>>)],
) -> Result<Vec<u8>, Junk> {
    let mut out = Writer::new(header.id, header.flags & !flag::AD, question);
    for (record, changed) in records {
        let data = match changed {
            Some(data) => data.clone(),
            None => uncompressed(message, record)?,
        };
        out.record(record, &data)?;
    }
    Ok(out.finish())
}

/// Writes a message piece by piece. Owners' names are compressed where the whole name was written before.
struct Writer {
    bytes: Vec<u8>,
    names: HashMap<Vec<u8>, u16>,
}

impl Writer {
    fn new(id: u16, flags: u16, question: &Question) -> Writer {
        let mut bytes = Vec::with_capacity(64);
        for word in [id, flags, 1, 0, 0, 0] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let mut out = Writer { bytes, names: HashMap::new() };
        out.name(&question.name);
        out.bytes.extend_from_slice(&question.kind.to_be_bytes());
        out.bytes.extend_from_slice(&question.class.to_be_bytes());
        out
    }

    fn name(&mut self, name: &Name) {
        if let Some(at) = self.names.get(name.wire()) {
            self.bytes.extend_from_slice(&(0xc000 | at).to_be_bytes());
            return;
        }
        // A pointer has fourteen bits (RFC 1035, 4.1.4); one to the root would be longer than the root.
        if let Some(at) = u16::try_from(self.bytes.len()).ok().filter(|at| *at < 0x4000 && !name.is_root()) {
            self.names.insert(name.wire().to_vec(), at);
        }
        self.bytes.extend_from_slice(name.wire());
    }

    fn record(&mut self, record: &Record, data: &[u8]) -> Result<(), Junk> {
        self.name(&record.owner);
        self.bytes.extend_from_slice(&record.kind.to_be_bytes());
        self.bytes.extend_from_slice(&record.class.to_be_bytes());
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        self.bytes.extend_from_slice(&u16::try_from(data.len()).map_err(|_| Junk)?.to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.count(record.section);
        if self.bytes.len() > MAX_MESSAGE { Err(Junk) } else { Ok(()) }
    }

    fn options(&mut self, edns: Edns, options: &[u8]) {
        self.bytes.push(0);
        self.bytes.extend_from_slice(&kind::OPT.to_be_bytes());
        self.bytes.extend_from_slice(&edns.payload.to_be_bytes());
        self.bytes.extend_from_slice(&[edns.extended_rcode, edns.version]);
        self.bytes.extend_from_slice(&edns.flags.to_be_bytes());
        self.bytes.extend_from_slice(&be16(options.len()));
        self.bytes.extend_from_slice(options);
        self.count(Section::Additional);
    }

    fn count(&mut self, section: Section) {
        let at = match section {
            Section::Answer => 6,
            Section::Authority => 8,
            Section::Additional => 10,
        };
        let count = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]).saturating_add(1);
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    fn finish(self) -> Vec<u8> {
        debug_assert!(self.bytes.len() >= HEADER, "a message has a header");
        self.bytes
    }
}

/// A length that the caller keeps small.
fn be16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// The record's data with the names in it written out, where the type is one of those that may compress them
/// (RFC 3597, 4). Data of all other types holds no pointers.
fn uncompressed(message: &[u8], record: &Record) -> Result<Vec<u8>, Junk> {
    let data = &message[record.data.clone()];
    if record.class != IN {
        return Ok(data.to_vec());
    }
    // Bytes before the first name, and how many names follow one another.
    let (fixed, names) = match record.kind {
        2..=5 | 7..=9 | 12 | 39 => (0, 1), // NS MD MF CNAME, MB MG MR, PTR, DNAME
        6 | 14 | 17 => (0, 2),             // SOA, MINFO, RP
        15 | 18 | 21 | 36 => (2, 1),       // MX, AFSDB, RT, KX
        24 => (18, 1),                     // SIG
        26 => (2, 2),                      // PX
        30 => (0, 1),                      // NXT
        33 => (6, 1),                      // SRV
        35 => (naptr(data)?, 1),
        _ => return Ok(data.to_vec()),
    };
    let mut out = data.get(..fixed).ok_or(Junk)?.to_vec();
    let mut at = record.data.start + fixed;
    for _ in 0..names {
        let (name, end) = Name::read(&message[..record.data.end], at)?;
        out.extend_from_slice(name.wire());
        at = end;
    }
    out.extend_from_slice(message.get(at..record.data.end).ok_or(Junk)?);
    Ok(out)
}

/// Where the name in a NAPTR record begins: behind two numbers and three strings (RFC 3403, 4.1).
fn naptr(data: &[u8]) -> Result<usize, Junk> {
    (0..3).try_fold(4, |at: usize, _| Ok(at + 1 + usize::from(*data.get(at).ok_or(Junk)?)))
}
