//! What a client's packet asks, or what it gets for it that is none of the stub's business to ask.

use crate::message::{Edns, Header, IN, Question, flag, kind, rcode, records, u16_at};
use crate::name::Junk;
use crate::write;

/// A question that may be asked, if its name may.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Question,
    pub(crate) edns: Option<Edns>,
}

impl Query {
    /// The largest answer that the client takes by UDP (RFC 6891, 6.2.3).
    pub(crate) fn payload(&self) -> usize {
        let payload = self.edns.map_or(0, |edns| edns.payload);
        usize::from(payload.clamp(write::PLAIN_PAYLOAD, write::MAX_PAYLOAD))
    }
}

/// What to do with a packet.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It is no question: a response, or too short to be replied to.
    Nothing,
    /// It is no question that the stub asks. The question, where it can be read, and the reply.
    Unfit { question: Option<Question>, rcode: u16, reply: Vec<u8> },
    /// It is one.
    Question(Query),
}

/// Reads a client's packet.
pub(crate) fn hear(packet: &[u8]) -> Heard {
    let Ok(id) = u16_at(packet, 0) else { return Heard::Nothing };
    let Ok(header) = Header::read(packet) else {
        let flags = u16::from(packet.get(2).copied().unwrap_or(0)) << 8;
        return if flags & flag::QR == 0 { bare(id, flags, rcode::FORMERR) } else { Heard::Nothing };
    };
    if header.has(flag::QR) {
        return Heard::Nothing;
    }
    if header.has(flag::OPCODE) {
        return bare(id, header.flags, rcode::NOTIMP);
    }
    let Ok(query) = read(packet, header) else { return bare(id, header.flags, rcode::FORMERR) };
    let rcode = match (query.question.class, query.question.kind) {
        // Transfers of zones have answers of many messages, and no resolver gives them.
        (IN, kind::AXFR | kind::IXFR) => rcode::NOTIMP,
        (IN, _) => return Heard::Question(query),
        _ => rcode::REFUSED,
    };
    let reply = write::reply(&query, rcode, None);
    Heard::Unfit { question: Some(query.question), rcode, reply }
}

fn bare(id: u16, flags: u16, rcode: u16) -> Heard {
    Heard::Unfit { question: None, rcode, reply: write::bare_reply(id, flags, rcode) }
}

/// A query has one question, no records but additional ones, and nothing behind them.
fn read(packet: &[u8], header: Header) -> Result<Query, Junk> {
    let (question, at) = Question::read(packet, &header)?;
    let (records, end) = records(packet, &header, at)?;
    if end != packet.len() || header.counts[1] != 0 || header.counts[2] != 0 {
        return Err(Junk);
    }
    Ok(Query { id: header.id, flags: header.flags, question, edns: Edns::find(&records)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `id`, flags, counts, and the question `a. IN A`, then `rest`.
    fn packet(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xab, 0xcd];
        packet.extend(flags.to_be_bytes());
        packet.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        packet.extend(b"\x01a\x00\x00\x01\x00\x01");
        packet.extend(rest);
        packet
    }

    const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

    fn rcode_of(packet: &[u8]) -> Option<u16> {
        match hear(packet) {
            Heard::Nothing => None,
            Heard::Question(_) => Some(rcode::NOERROR),
            Heard::Unfit { rcode, reply, .. } => {
                assert_eq!(reply[..2], packet[..2], "the client's id");
                let flags = u16_at(&reply, 2).unwrap();
                assert_eq!(flags & (flag::QR | flag::RCODE), flag::QR | rcode);
                Some(rcode)
            }
        }
    }

    #[test]
    fn only_whole_questions_of_class_in() {
        let plain = packet(flag::RD, [1, 0, 0, 0], &[]);
        assert_eq!(rcode_of(&plain), Some(rcode::NOERROR));
        assert_eq!(rcode_of(&packet(0, [1, 0, 0, 1], OPT)), Some(rcode::NOERROR));
        for (packet, expected) in [
            (vec![], None),
            (vec![1], None),
            (packet(flag::QR, [1, 0, 0, 0], &[]), None),
            (vec![1, 2, 0x80], None),
            (vec![1, 2], Some(rcode::FORMERR)),
            (plain[..11].to_vec(), Some(rcode::FORMERR)),
            (plain[..plain.len() - 1].to_vec(), Some(rcode::FORMERR)),
            (packet(0, [1, 0, 0, 0], b"x"), Some(rcode::FORMERR)),
            (packet(0, [0, 0, 0, 0], &[]), Some(rcode::FORMERR)),
            (packet(0, [2, 0, 0, 0], b"\x01b\x00\x00\x01\x00\x01"), Some(rcode::FORMERR)),
            (packet(0, [1, 1, 0, 0], OPT), Some(rcode::FORMERR)),
            (packet(0, [1, 0, 1, 0], OPT), Some(rcode::FORMERR)),
            (packet(0, [1, 0, 0, 2], &[OPT, OPT].concat()), Some(rcode::FORMERR)),
            (
                packet(0, [1, 0, 0, 1], b"\x01x\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"),
                Some(rcode::FORMERR),
            ),
            (packet(0x2800, [1, 0, 0, 0], &[]), Some(rcode::NOTIMP)),
        ] {
            assert_eq!(rcode_of(&packet), expected, "{packet:?}");
        }
        for (kind, class, expected) in [
            (1_u16, 3_u16, rcode::REFUSED),
            (1, 255, rcode::REFUSED),
            (252, 1, rcode::NOTIMP),
            (251, 1, rcode::NOTIMP),
            (65, 1, rcode::NOERROR),
            (65280, 1, rcode::NOERROR),
        ] {
            let mut packet = plain.clone();
            let end = packet.len();
            packet[end - 4..end - 2].copy_from_slice(&kind.to_be_bytes());
            packet[end - 2..].copy_from_slice(&class.to_be_bytes());
            assert_eq!(rcode_of(&packet), Some(expected), "{kind} {class}");
        }
    }

    #[test]
    fn edns_sizes() {
        let payload = |packet: &[u8]| match hear(packet) {
            Heard::Question(query) => query.payload(),
            other => panic!("{other:?}"),
        };
        assert_eq!(payload(&packet(0, [1, 0, 0, 0], &[])), 512);
        assert_eq!(payload(&packet(0, [1, 0, 0, 1], OPT)), 1232);
        assert_eq!(payload(&packet(0, [1, 0, 0, 1], b"\x00\x00\x29\x00\x10\x00\x00\x80\x00\x00\x00")), 512);
    }
}
