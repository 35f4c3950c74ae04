//! Properties over arbitrary and mutated messages: nothing panics, and nothing opens what it should not.
//!
//! Messages are made by another implementation, which also reads what comes out.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME, HTTPS, MX, NS, NULL, RData, SOA, SRV, SVCB, SVCParam, TXT};
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, ResourceRecord, TYPE};

use crate::address;
use crate::answer::{Answer, Terms, answers, judge};
use crate::message::{Header, MAX_MESSAGE, Question, flag, records, u16_at};
use crate::question::{Heard, Query, hear};
use crate::write;

const ID: u16 = 0xbeef;

fn own(address: IpAddr) -> bool {
    address == IpAddr::from([192, 0, 2, 7])
}

fn terms() -> Terms<'static> {
    Terms { lifetimes: (Duration::from_secs(60), Duration::from_secs(86_400)), own: &own }
}

fn name() -> impl Strategy<Value = Name<'static>> {
    // Few, so that they meet; and one that is other's upper case.
    const NAMES: [&str; 6] = ["a.example", "b.example", "c.a.example", "A.Example", "d.test", "mail.d.test"];
    prop::sample::select(&NAMES[..]).prop_map(|name| Name::new(name).unwrap().into_owned())
}

fn v4() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0x7f00_0001), Just(0xa9fe_a9fe), Just(0xc000_0207), 0xc000_0200..0xc000_0210_u32]
}

fn v6() -> impl Strategy<Value = u128> {
    let documentation = 0x2001_0db8_u128 << 96;
    prop_oneof![
        Just(1),
        v4().prop_map(|v4| 0xffff_0000_0000 | u128::from(v4)),
        v4().prop_map(|v4| 0x64_ff9b << 96 | u128::from(v4)),
        documentation..documentation + 16,
    ]
}

fn service() -> impl Strategy<Value = SVCB<'static>> {
    (
        any::<bool>(),
        name(),
        prop::collection::vec(v4(), 0..3),
        prop::collection::vec(v6(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(own, target, v4, v6, mandatory)| {
            let mut service = SVCB::new(1, if own { Name::new_unchecked(".") } else { target });
            service.set_port(443);
            if !v4.is_empty() {
                service.set_param(SVCParam::Ipv4Hint(v4));
                if mandatory {
                    service.set_mandatory([4].into_iter());
                }
            }
            if !v6.is_empty() {
                service.set_param(SVCParam::Ipv6Hint(v6));
            }
            service.into_owned()
        })
}

fn data() -> impl Strategy<Value = RData<'static>> {
    prop_oneof![
        4 => v4().prop_map(|address| RData::A(A { address })),
        3 => v6().prop_map(|address| RData::AAAA(AAAA { address })),
        3 => name().prop_map(|name| RData::CNAME(CNAME(name))),
        2 => service().prop_map(|service| RData::HTTPS(HTTPS(service))),
        1 => name().prop_map(|name| RData::NS(NS(name))),
        1 => (any::<u16>(), name()).prop_map(|(preference, exchange)| RData::MX(MX { preference, exchange })),
        1 => (any::<u16>(), name())
            .prop_map(|(port, target)| RData::SRV(SRV { priority: 1, weight: 2, port, target })),
        1 => (name(), name(), any::<u32>()).prop_map(|(mname, rname, serial)| {
            RData::SOA(SOA { mname, rname, serial, refresh: 1, retry: 2, expire: 3, minimum: 4 })
        }),
        1 => Just(RData::TXT(TXT::new().with_string("text").unwrap().into_owned())),
        1 => prop::collection::vec(any::<u8>(), 1..20)
            .prop_map(|data| RData::NULL(65280, NULL::new(&data).unwrap().into_owned())),
    ]
}

fn some(most: usize) -> impl Strategy<Value = Vec<ResourceRecord<'static>>> {
    let record = (name(), any::<u32>(), data())
        .prop_map(|(owner, ttl, data)| ResourceRecord::new(owner, CLASS::IN, ttl, data));
    prop::collection::vec(record, 0..=most)
}

/// A question's name and type, and an answer to it.
fn packet() -> impl Strategy<Value = Packet<'static>> {
    let kind = prop::sample::select(&[TYPE::A, TYPE::A, TYPE::AAAA, TYPE::HTTPS, TYPE::CNAME, TYPE::MX][..]);
    (name(), kind, some(8), some(2), some(3)).prop_map(|(name, kind, answers, authorities, more)| {
        let mut packet = Packet::new_reply(ID);
        let (kind, class) = (QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN));
        packet.questions.push(simple_dns::Question::new(name, kind, class, false));
        packet.answers = answers;
        packet.name_servers = authorities;
        packet.additional_records = more;
        packet
    })
}

fn bytes(packet: &Packet, compressed: bool) -> Vec<u8> {
    if compressed { packet.build_bytes_vec_compressed() } else { packet.build_bytes_vec() }.unwrap()
}

/// The query that the packet answers.
fn query(message: &[u8]) -> Query {
    let header = Header::read(message).unwrap();
    let question = Question::read(message, &header).unwrap().0;
    Query { id: 7, flags: flag::RD, question, edns: None }
}

/// Bytes are changed, taken out or put in.
fn mutated(mut bytes: Vec<u8>, changes: &[(u16, u8, u8)]) -> Vec<u8> {
    for (at, value, how) in changes {
        let at = usize::from(*at) % (bytes.len() + 1);
        match how % 4 {
            0 => bytes.insert(at, *value),
            1 if at < bytes.len() => _ = bytes.remove(at),
            2 => bytes.truncate(at.max(12)),
            _ if at < bytes.len() => bytes[at] = *value,
            _ => {}
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    let value = prop_oneof![any::<u8>(), Just(0xc0), Just(0), 0..64_u8];
    prop::collection::vec((any::<u16>(), value, prop_oneof![9 => Just(3), 1 => 0..4_u8]), 0..6)
}

/// What holds for whatever was judged.
fn check(query: &Query, answer: &Answer, limit: usize) -> Result<(), TestCaseError> {
    prop_assert!(answer.bytes.len() <= limit);
    prop_assert_eq!(u16_at(&answer.bytes, 0), Ok(query.id));
    let header = Header::read(&answer.bytes).unwrap();
    let (question, at) = Question::read(&answer.bytes, &header).unwrap();
    prop_assert!(question.is(&query.question));
    prop_assert!(records(&answer.bytes, &header, at).is_ok_and(|(_, end)| end == answer.bytes.len()));
    for (address, lifetime) in &answer.addresses {
        prop_assert_eq!(address::refused(*address, &own), None);
        prop_assert_eq!(*address, address.to_canonical());
        prop_assert!((60..=86_400).contains(&lifetime.as_secs()));
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        prop_assert!(answer.bytes.windows(octets.len()).any(|window| window == octets), "the client has it");
    }
    // What is left has nothing to be refused, and is passed on as it is.
    let mut again = answer.bytes.clone();
    again[..2].copy_from_slice(&ID.to_be_bytes());
    let again = judge(query, again, limit, &terms()).unwrap();
    prop_assert_eq!(&again.refused, &[]);
    prop_assert_eq!(&again.bytes, &answer.bytes);
    prop_assert_eq!(&again.addresses, &answer.addresses);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_are_heard(packet in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Heard::Unfit { reply, .. } = hear(&packet) {
            prop_assert!(Header::read(&reply).unwrap().has(flag::QR));
        }
    }

    #[test]
    fn mutated_questions_are_heard(packet in packet(), changes in changes(), payload in any::<Option<u16>>()) {
        let mut question = Packet::new_query(ID);
        question.questions = packet.questions;
        *question.opt_mut() = payload
            .map(|udp_packet_size| simple_dns::rdata::OPT { opt_codes: vec![], udp_packet_size, version: 0 });
        let packet = mutated(bytes(&question, true), &changes);
        match hear(&packet) {
            Heard::Nothing => prop_assert!(packet.len() < 3 || packet[2] & 0x80 != 0),
            Heard::Unfit { reply, .. } => prop_assert_eq!(&reply[..2], &packet[..2]),
            Heard::Question(query) => {
                // It is asked again as the same question, and nothing else goes out with it.
                let asked = write::question(&query, 1);
                let Heard::Question(again) = hear(&asked) else { panic!("{asked:?}") };
                prop_assert_eq!(again.question.name.wire(), query.question.name.wire());
                prop_assert!(again.question.is(&query.question));
                prop_assert_eq!(again.edns, query.edns);
                prop_assert!(asked.len() <= packet.len());
                prop_assert!(!query.question.name.text().contains(|c: char| !c.is_ascii_graphic()));
            }
        }
    }

    #[test]
    fn any_bytes_are_judged(head in prop::collection::vec(any::<u8>(), 0..4), rest in prop::collection::vec(any::<u8>(), 0..60)) {
        let message = [&b"\xbe\xef\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\xc0\x0c"[..], &head, &rest].concat();
        let query = query(&message);
        if let Ok(answer) = judge(&query, message, 512, &terms()) {
            check(&query, &answer, 512)?;
        }
    }

    #[test]
    fn mutated_answers_open_nothing_wrong(
        packet in packet(), compressed: bool, changes in changes(), limit in prop::sample::select(&[512, 200, MAX_MESSAGE][..]),
    ) {
        let sent = bytes(&packet, compressed);
        let query = query(&sent);
        let message = mutated(sent, &changes);
        // Others are not judged at all.
        if answers(&message, ID, &query.question)
            && let Ok(answer) = judge(&query, message, limit, &terms())
        {
            check(&query, &answer, limit)?;
        }
    }

    #[test]
    fn only_this_question_s_answer_counts(packet in packet(), other in packet(), id: u16) {
        let (message, other) = (bytes(&packet, true), bytes(&other, true));
        let same = query(&message).question.is(&query(&other).question);
        prop_assert_eq!(answers(&message, ID, &query(&other).question), same);
        prop_assert_eq!(answers(&message, id, &query(&message).question), id == ID);
    }

    #[test]
    fn what_is_taken_out_is_all_that_changes(packet in packet(), compressed: bool) {
        let message = bytes(&packet, compressed);
        let query = query(&message);
        let answer = judge(&query, message, MAX_MESSAGE, &terms()).unwrap();
        check(&query, &answer, MAX_MESSAGE)?;
        let left = |records: &[ResourceRecord<'static>]| records.iter().filter_map(allowed).collect::<Vec<_>>();
        let found = Packet::parse(&answer.bytes).unwrap();
        if answer.rcode == 3 {
            let kind = query.question.kind;
            let all = packet.answers.iter().filter(|record| u16::from(record.rdata.type_code()) == kind);
            prop_assert!(kind == 1 || kind == 28);
            let all: Vec<_> = all.collect();
            prop_assert!(!all.is_empty() && all.into_iter().all(|record| allowed(record).is_none()));
            prop_assert!(found.answers.is_empty());
            return Ok(());
        }
        prop_assert_eq!(&found.answers, &left(&packet.answers));
        prop_assert_eq!(&found.name_servers, &left(&packet.name_servers));
        prop_assert_eq!(&found.additional_records, &left(&packet.additional_records));
        // Each opened address is of a record that the names lead to.
        let reached = reached(&packet.questions[0], &left(&packet.answers));
        for (address, _) in &answer.addresses {
            prop_assert!(reached.contains(address), "{} of {:?}", address, found);
        }
        if answer.aliases.is_empty() {
            for address in &reached {
                prop_assert!(answer.addresses.iter().any(|(opened, _)| opened == address));
            }
        }
    }
}

/// What of the record may stay.
fn allowed(record: &ResourceRecord<'static>) -> Option<ResourceRecord<'static>> {
    let ok = |address: IpAddr| address::refused(address, &own).is_none();
    match &record.rdata {
        RData::A(a) => ok(a.address.to_be_bytes().into()).then(|| record.clone()),
        RData::AAAA(aaaa) => ok(aaaa.address.to_be_bytes().into()).then(|| record.clone()),
        RData::HTTPS(HTTPS(service)) => {
            let mut left = SVCB::new(service.priority, service.target.clone());
            let mut lost = false;
            for param in service.iter_params() {
                match param {
                    SVCParam::Ipv4Hint(hints) => {
                        let hints: Vec<u32> =
                            hints.iter().copied().filter(|hint| ok(hint.to_be_bytes().into())).collect();
                        lost |= hints.is_empty();
                        left.set_param(SVCParam::Ipv4Hint(hints));
                    }
                    SVCParam::Ipv6Hint(hints) => {
                        let hints: Vec<u128> =
                            hints.iter().copied().filter(|hint| ok(hint.to_be_bytes().into())).collect();
                        if !hints.is_empty() {
                            left.set_param(SVCParam::Ipv6Hint(hints));
                        }
                    }
                    other => left.set_param(other.clone()),
                }
            }
            if lost && left.get_param(0).is_some() {
                return None;
            }
            if lost {
                let params: Vec<_> =
                    left.iter_params().filter(|param| param.key_code() != 4).cloned().collect();
                left = params
                    .into_iter()
                    .fold(SVCB::new(service.priority, service.target.clone()), SVCB::with_param);
            }
            Some(ResourceRecord { rdata: RData::HTTPS(HTTPS(left)), ..record.clone() })
        }
        _ => Some(record.clone()),
    }
}

/// The addresses of all names that the question's may lead to, by any of the aliases.
fn reached(question: &simple_dns::Question, answers: &[ResourceRecord]) -> Vec<IpAddr> {
    let lower = |name: &Name| name.to_string().to_ascii_lowercase();
    let mut names = vec![lower(&question.qname)];
    for _ in 0..8 {
        for record in answers {
            if let RData::CNAME(CNAME(target)) = &record.rdata
                && names.contains(&lower(&record.name))
                && question.qtype != QTYPE::TYPE(TYPE::CNAME)
            {
                names.push(lower(target));
            }
        }
        names.sort();
        names.dedup();
    }
    let mut addresses = Vec::new();
    let of_kind = |record: &&ResourceRecord| QTYPE::TYPE(record.rdata.type_code()) == question.qtype;
    for record in answers.iter().filter(|record| names.contains(&lower(&record.name))).filter(of_kind) {
        match &record.rdata {
            RData::A(a) => addresses.push(a.address.to_be_bytes().into()),
            RData::AAAA(aaaa) => addresses.push(IpAddr::from(aaaa.address.to_be_bytes()).to_canonical()),
            RData::HTTPS(HTTPS(service)) => {
                for param in service.iter_params() {
                    match param {
                        SVCParam::Ipv4Hint(hints) => {
                            addresses.extend(hints.iter().map(|h| IpAddr::from(h.to_be_bytes())))
                        }
                        SVCParam::Ipv6Hint(hints) => {
                            addresses
                                .extend(hints.iter().map(|h| IpAddr::from(h.to_be_bytes()).to_canonical()));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    addresses
}
