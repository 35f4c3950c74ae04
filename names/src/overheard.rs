//! Answers that went past the stub: what a resolver told somebody, read for the record.
//!
//! Nothing is opened by it, and nobody vouches for it: who asked is told by others.

use std::net::IpAddr;
use std::time::Duration;

use crate::answer;
use crate::gate::{Rcode, Told, Transport};
use crate::message::{Header, Question, Section, flag, rcode, records};
use crate::settings::Settings;

/// A resolver's answer, and the addresses that the asked name has by it, with how long they may be believed.
#[derive(Debug)]
pub struct Overheard {
    /// As the stub would tell it.
    pub told: Told,
    /// The same addresses as [`Told::answers`].
    pub addresses: Vec<(IpAddr, Duration)>,
}

/// Reads a datagram that `resolver` sent to `client_port`; `None` where it is no answer.
pub fn overhear(message: &[u8], resolver: IpAddr, client_port: u16) -> Option<Overheard> {
    let header = Header::read(message).ok()?;
    if !header.has(flag::QR) || header.has(flag::OPCODE) {
        return None;
    }
    let (question, at) = Question::read(message, &header).ok()?;
    // One that was cut says what was asked, at least.
    let records = records(message, &header, at).map(|(records, _)| records).unwrap_or_default();
    let rcode = header.flags & flag::RCODE;
    let Settings { floor, ceiling, .. } = Settings::default();
    let terms = answer::Terms { lifetimes: (floor, ceiling), own: &|_| false };
    let mut found = answer::Answer::default();
    if rcode == rcode::NOERROR && records.iter().any(|record| record.section == Section::Answer) {
        let kept: Vec<answer::Kept> = records.iter().map(|record| (record, None)).collect();
        answer::follow(message, &question, &kept, &terms, &mut found).ok()?;
    }
    let told = Told {
        rcode: Rcode(rcode),
        cut: header.has(flag::TC),
        answers: found.addresses.iter().map(|(address, _)| *address).collect(),
        aliases: found.aliases,
        ttl: found.ttl,
        ..Told::of(Some(&question), Transport::Udp, resolver, client_port)
    };
    Some(Overheard { told, addresses: found.addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One question and what follows it.
    fn message(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34];
        bytes.extend(flags.to_be_bytes());
        counts.iter().for_each(|count| bytes.extend(count.to_be_bytes()));
        bytes.extend(rest);
        bytes
    }

    const QUESTION: &[u8] = b"\x04Good\x04test\x00\x00\x01\x00\x01";
    /// `Good.test` by reference, A, IN, 5 s, 203.0.113.7.
    const ANSWER: &[u8] = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xcb\x00\x71\x07";

    #[test]
    fn an_answer_tells_name_and_addresses() {
        let resolver: IpAddr = [192, 0, 2, 53].into();
        let bytes = message(0x8180, [1, 1, 0, 0], &[QUESTION, ANSWER].concat());
        let Overheard { told, addresses } = overhear(&bytes, resolver, 4000).unwrap();
        assert_eq!(told.asked.unwrap().name, "good.test");
        assert_eq!(addresses, [([203, 0, 113, 7].into(), Duration::from_secs(60))]);
        assert_eq!(
            (told.answers, told.ttl, told.client_port),
            (vec![[203, 0, 113, 7].into()], Some(5), 4000)
        );
    }

    #[test]
    fn what_is_no_answer_tells_nothing() {
        let resolver: IpAddr = [192, 0, 2, 53].into();
        assert!(overhear(&message(0x0100, [1, 0, 0, 0], QUESTION), resolver, 1).is_none(), "a question");
        assert!(overhear(b"\x12", resolver, 1).is_none());
        let refused = overhear(&message(0x8183, [1, 0, 0, 0], QUESTION), resolver, 1).unwrap();
        assert_eq!((refused.told.rcode.to_string().as_str(), refused.addresses.len()), ("NXDOMAIN", 0));
        // Cut in the middle of its record.
        let cut = message(0x8180, [1, 1, 0, 0], &[QUESTION, &ANSWER[..8]].concat());
        assert!(overhear(&cut, resolver, 1).is_some_and(|heard| heard.addresses.is_empty()));
    }
}
