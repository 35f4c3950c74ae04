//! Reads messages (RFC 1035, 4): the header, the one question, and where each record stands.
//!
//! Only what the stub must know is read; the data of other records is left as it is. Nothing is read in a way that
//! depends on the sender's good will: every length is checked, and a message that does not add up is [`Junk`].

use std::ops::Range;

use crate::name::{Junk, Name};

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;
/// Longest message: TCP has two bytes for the length (RFC 1035, 4.2.2), and UDP carries no more.
pub(crate) const MAX_MESSAGE: usize = 65535;

/// Types of records and questions.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const DNAME: u16 = 39;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const SVCB: u16 = 64;
    pub(crate) const HTTPS: u16 = 65;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// The class of the Internet.
pub(crate) const IN: u16 = 1;

/// Bits of a header's second word (RFC 1035, 4.1.1; RFC 4035, 3.1.6 and 3.2.2).
pub(crate) mod flag {
    pub(crate) const QR: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const TC: u16 = 0x0200;
    pub(crate) const RD: u16 = 0x0100;
    pub(crate) const RA: u16 = 0x0080;
    pub(crate) const AD: u16 = 0x0020;
    pub(crate) const CD: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

/// Response codes (RFC 1035, 4.1.1).
pub(crate) mod rcode {
    pub(crate) const NOERROR: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const SERVFAIL: u16 = 2;
    pub(crate) const NXDOMAIN: u16 = 3;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
}

/// A header's fields. `counts` are of the questions, answers, authorities and additional records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) counts: [u16; 4],
}

impl Header {
    /// Reads the header.
    pub(crate) fn read(message: &[u8]) -> Result<Header, Junk> {
        let mut words = [0; 6];
        for (index, word) in words.iter_mut().enumerate() {
            *word = u16_at(message, index * 2)?;
        }
        let [id, flags, counts @ ..] = words;
        Ok(Header { id, flags, counts })
    }

    /// Whether any of the bits is set.
    pub(crate) fn has(&self, bits: u16) -> bool {
        self.flags & bits != 0
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

impl Question {
    /// Reads the question, which must be the only one, and where the records begin.
    pub(crate) fn read(message: &[u8], header: &Header) -> Result<(Question, usize), Junk> {
        if header.counts[0] != 1 {
            return Err(Junk);
        }
        let (name, at) = Name::read(message, HEADER)?;
        let question = Question { name, kind: u16_at(message, at)?, class: u16_at(message, at + 2)? };
        Ok((question, at + 4))
    }

    /// Whether the same is asked.
    pub(crate) fn is(&self, other: &Question) -> bool {
        self.kind == other.kind && self.class == other.class && self.name.is(&other.name)
    }
}

/// The part of a message that a record is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record: its head, and where its data is.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) section: Section,
    pub(crate) owner: Name,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Range<usize>,
}

/// Reads all records, and where they end.
pub(crate) fn records(message: &[u8], header: &Header, begin: usize) -> Result<(Vec<Record>, usize), Junk> {
    let mut records = Vec::new();
    let mut at = begin;
    let sections = [Section::Answer, Section::Authority, Section::Additional];
    for (section, count) in sections.into_iter().zip(&header.counts[1..]) {
        for _ in 0..*count {
            let (owner, head) = Name::read(message, at)?;
            let data = head + 10;
            let end = data + usize::from(u16_at(message, head + 8)?);
            if end > message.len() {
                return Err(Junk);
            }
            records.push(Record {
                section,
                owner,
                kind: u16_at(message, head)?,
                class: u16_at(message, head + 2)?,
                ttl: u32::from(u16_at(message, head + 4)?) << 16 | u32::from(u16_at(message, head + 6)?),
                data: data..end,
            });
            at = end;
        }
    }
    Ok((records, at))
}

/// What an OPT record's head says (RFC 6891, 6.1.3). Its options are between neighbours, and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest UDP message that the sender takes.
    pub(crate) payload: u16,
    pub(crate) extended_rcode: u8,
    pub(crate) version: u8,
    /// DO and what may come.
    pub(crate) flags: u16,
}

impl Edns {
    /// Looks for the OPT record among the additional ones: there may be one, and the root owns it.
    pub(crate) fn find(records: &[Record]) -> Result<Option<Edns>, Junk> {
        let mut options = records.iter().filter(|record| record.kind == kind::OPT);
        let (found, more) = (options.next(), options.next());
        match found {
            None => Ok(None),
            Some(opt) if more.is_none() && opt.section == Section::Additional && opt.owner.is_root() => {
                let [extended_rcode, version, high, low] = opt.ttl.to_be_bytes();
                let flags = u16::from_be_bytes([high, low]);
                Ok(Some(Edns { payload: opt.class, extended_rcode, version, flags }))
            }
            Some(_) => Err(Junk),
        }
    }
}

/// The number at `at`, high byte first.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Junk> {
    let pair = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Junk)?;
    Ok(u16::from_be_bytes(*pair))
}
