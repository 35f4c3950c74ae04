//! What may be asked, what may not, and how addresses are found in answers.

use names::{Asked, Error, Kind, Rcode, Refused, Transport};
use simple_dns::rdata::{HTTPS, MX, RData, SVCB, SVCParam};
use simple_dns::{Packet, PacketFlag, RCODE, TYPE};

use crate::support::*;

#[test]
fn an_allowed_name_is_asked_opened_told_and_answered() {
    let resolver = Resolver::with(vec![
        at("Www.Example.org", 300, "192.0.2.1"),
        at("www.example.org", 300, "192.0.2.2"),
    ]);
    let world = World::new(&resolver);
    let answer = world.udp(&question("wWw.example.ORG", TYPE::A, None));
    assert_eq!(answer[..2], [0x12, 0x34]);
    assert_eq!(addresses(&answer).len(), 2);
    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 300", "www.example.org 192.0.2.2 300"]);
    let told = world.told();
    assert_eq!(told.asked, Some(Asked { name: "www.example.org".to_owned(), kind: Kind(1) }));
    assert_eq!((told.transport, told.rcode, told.ttl), (Transport::Udp, Rcode(0), Some(300)));
    assert_eq!((told.resolver, told.rule.as_deref()), (resolver.address.ip(), Some("example")));
    assert_eq!(told.answers.len(), 2);
    assert!(told.refused.is_none() && told.error.is_none() && told.aliases.is_empty());
    let log = world.log.lock().unwrap();
    assert_eq!(log.asked, [("www.example.org".to_owned(), resolver.address.ip())]);
    assert_eq!(log.openings[0].resolver, resolver.address.ip());
}

#[test]
fn the_answer_goes_on_byte_by_byte_but_for_its_id() {
    let rrsig = raw("www.example.org", 300, 46, vec![0, 1, 13, 3, 0, 0, 1, 44, 9, 9, 9, 9]);
    let resolver = Resolver::new(move |got| {
        let mut answer = got.answer([at("www.example.org", 300, "192.0.2.1"), rrsig.clone()]);
        answer.set_flags(PacketFlag::AUTHENTIC_DATA | PacketFlag::AUTHORITATIVE_ANSWER);
        answer.name_servers.push(raw("example.org", 9, 65280, vec![0xc0, 0xff]));
        vec![bytes(&answer)]
    });
    let world = World::new(&resolver);
    let asked = question("www.example.org", TYPE::A, Some(1400));
    let answer = world.udp(&asked);
    let seen = resolver.seen();
    assert_eq!(seen[0][2..], asked[2..], "RD, the question and EDNS are passed on");
    let direct = {
        let got = Got { bytes: &seen[0], transport: Transport::Udp, udp: None };
        let mut answer = got.answer([
            at("www.example.org", 300, "192.0.2.1"),
            raw("www.example.org", 300, 46, vec![0, 1, 13, 3, 0, 0, 1, 44, 9, 9, 9, 9]),
        ]);
        answer.set_flags(PacketFlag::AUTHENTIC_DATA | PacketFlag::AUTHORITATIVE_ANSWER);
        answer.name_servers.push(raw("example.org", 9, 65280, vec![0xc0, 0xff]));
        bytes(&answer)
    };
    assert_eq!(answer[2..], direct[2..]);
    assert_eq!(answer[..2], asked[..2]);
}

#[test]
fn ids_are_fresh_and_dnssec_wishes_are_kept() {
    let resolver = Resolver::with(vec![]);
    let world = World::new(&resolver);
    let mut asked = question("a.example.org", TYPE::A, Some(4000));
    asked[3] |= 0x30; // AD, CD
    let end = asked.len();
    asked[end - 4] = 0x80; // DO
    for _ in 0..8 {
        world.udp(&asked);
    }
    let seen = resolver.seen();
    assert!(seen.iter().all(|seen| seen[2..] == asked[2..]));
    let ids: std::collections::HashSet<_> = seen.iter().map(|seen| seen[..2].to_vec()).collect();
    assert!(ids.len() > 4, "eight ids of 65,536: {ids:?}");
}

#[test]
fn options_do_not_leave_the_machine() {
    let resolver = Resolver::with(vec![]);
    let world = World::new(&resolver);
    let mut asked = question("a.example.org", TYPE::A, Some(1232));
    let end = asked.len();
    asked[end - 1] = 8;
    asked.extend_from_slice(b"\xff\x00\x00\x04leak");
    assert_eq!(rcode(&world.udp(&asked)), RCODE::NoError);
    assert!(!resolver.seen()[0].windows(4).any(|window| window == b"leak"));
}

#[test]
fn a_refused_name_does_not_exist_and_is_not_asked() {
    let resolver = Resolver::with(vec![at("www.example.net", 300, "192.0.2.1")]);
    let world = World::new(&resolver);
    for reply in [
        world.udp(&question("www.Example.net", TYPE::A, Some(1232))),
        world.tcp(&question("www.Example.net", TYPE::A, Some(1232))),
    ] {
        assert_eq!(rcode(&reply), RCODE::NameError);
        assert_eq!(explanation(&reply), Some((15, "blocked by policy: only-example".to_owned())));
        let packet = Packet::parse(&reply).unwrap();
        assert_eq!((packet.id(), packet.questions.len(), packet.answers.len()), (0x1234, 1, 0));
        assert!(packet.has_flags(
            PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE
        ));
        let told = world.told();
        let because = Some("no need".to_owned());
        assert_eq!(told.refused, Some(Refused::Rule { rule: "only-example".to_owned(), because }));
        assert_eq!((told.rcode, told.asked.unwrap().name.as_str()), (Rcode(3), "www.example.net"));
    }
    let plain = world.udp(&question("www.example.net", TYPE::A, None));
    assert_eq!((rcode(&plain), Packet::parse(&plain).unwrap().opt().is_none()), (RCODE::NameError, true));
    // The honest control, after which all that could have come has come.
    world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(resolver.seen().len(), 1, "only the allowed question");
    assert!(world.opened().is_empty(), "the answer's addresses were another name's");
}

#[test]
fn odd_names_are_refused_without_asking_the_gate() {
    let resolver = Resolver::with(vec![]);
    let world = World::new(&resolver);
    for (label, text) in [
        (b"a.b".as_slice(), "a\\.b.example.org"),
        (b"a b", "a\\032b.example.org"),
        (b"a\0b", "a\\000b.example.org"),
        (b"a\\b", "a\\\\b.example.org"),
        (b"\xffA", "\\255a.example.org"),
    ] {
        let mut asked = question("X.example.org", TYPE::A, Some(1232));
        asked.splice(12..14, [&[u8::try_from(label.len()).unwrap()], label].concat());
        let reply = world.udp(&asked);
        assert_eq!(reply[3] & 15, 3, "NXDOMAIN");
        let told = world.told();
        assert_eq!(told.asked.unwrap().name, text);
        assert_eq!(told.refused, Some(Refused::NotAHostName));
    }
    assert!(world.log.lock().unwrap().asked.is_empty());
    assert!(resolver.seen().is_empty());
}

#[test]
fn what_is_no_question_is_answered_and_told() {
    let resolver = Resolver::with(vec![]);
    let world = World::new(&resolver);
    let asked = question("www.example.org", TYPE::A, None);
    let mut update = asked.clone();
    update[2] |= 0x28;
    assert_eq!(rcode(&world.udp(&update)), RCODE::NotImplemented);
    assert!(world.told().asked.is_none());
    let mut chaos = asked.clone();
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(rcode(&world.tcp(&chaos)), RCODE::Refused);
    let told = world.told();
    assert_eq!(told.asked.unwrap().name, "www.example.org");
    assert!(matches!(told.error, Some(Error::Unfit)));
    assert_eq!(rcode(&world.udp(&asked[..20])), RCODE::FormatError);
    // A response and a byte get nothing, so that the next reply is the next question's.
    let socket = world.socket();
    let mut response = asked.clone();
    (response[2], response[1]) = (0x80, 0x99);
    socket.send(&response).unwrap();
    socket.send(&[7]).unwrap();
    socket.send(&question("no.example.net", TYPE::A, None)).unwrap();
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).unwrap();
    assert_eq!(rcode(&reply[..length]), RCODE::NameError);
    assert!(resolver.seen().is_empty());
}

#[test]
fn addresses_are_those_that_the_aliases_lead_to() {
    let resolver = Resolver::with(vec![
        at("cdn.example.net", 100, "192.0.2.1"), // the order does not count
        cname("www.example.org", 900, "a.example.net"),
        at("unrelated.example.net", 300, "192.0.2.66"),
        at("www.example.org", 300, "192.0.2.67"), // beside a CNAME there is nothing (RFC 1034, 3.6.2)
        cname("A.example.net", 200, "CDN.example.net"),
        at("cdn.example.net", 100, "2001:db8::1"), // not asked for
        at("cdn.example.net", 80, "192.0.2.2"),
    ]);
    let world = World::new(&resolver);
    world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 100", "www.example.org 192.0.2.2 80"]);
    let told = world.told();
    assert_eq!(told.aliases, ["a.example.net", "cdn.example.net"]);
    assert_eq!(told.ttl, Some(80));
}

#[test]
fn records_of_other_sections_and_names_open_nothing() {
    let resolver = Resolver::new(|got| {
        let mut answer = got.answer([at("other.example.org", 300, "192.0.2.1")]);
        answer.name_servers.push(at("www.example.org", 300, "192.0.2.2"));
        answer.additional_records.push(at("www.example.org", 300, "192.0.2.3"));
        vec![bytes(&answer)]
    });
    let world = World::new(&resolver);
    assert_eq!(
        addresses(&world.udp(&question("www.example.org", TYPE::A, None))).len(),
        1,
        "it is passed on"
    );
    assert!(world.opened().is_empty());
}

#[test]
fn dname_leads_on() {
    let target = b"\x03new\x07example\x03net\x00".to_vec();
    let resolver = Resolver::with(vec![
        raw("old.example.org", 120, 39, target),
        at("a.new.example.net", 300, "192.0.2.1"),
        at("b.new.example.net", 300, "192.0.2.2"),
    ]);
    let world = World::new(&resolver);
    world.udp(&question("a.old.example.org", TYPE::A, None));
    assert_eq!(world.opened(), ["a.old.example.org 192.0.2.1 120"]);
    assert_eq!(world.told().aliases, ["a.new.example.net"]);
}

#[test]
fn chains_end() {
    let chain = |length: usize| {
        let mut records: Vec<_> = (0..length)
            .map(|step| cname(&format!("{step}.example.org"), 300, &format!("{}.example.org", step + 1)))
            .collect();
        records.push(at(&format!("{length}.example.org"), 300, "192.0.2.1"));
        records
    };
    for (records, opened) in [
        (chain(16), 1),
        (chain(17), 0),
        (vec![cname("0.example.org", 300, "0.example.org"), at("0.example.org", 300, "192.0.2.1")], 0),
        (
            vec![
                cname("0.example.org", 300, "1.example.org"),
                cname("1.example.org", 300, "0.example.org"),
                at("0.example.org", 300, "192.0.2.1"),
            ],
            0,
        ),
    ] {
        let world = World::new(&Resolver::with(records));
        assert_eq!(rcode(&world.tcp(&question("0.example.org", TYPE::A, None))), RCODE::NoError);
        assert_eq!(world.opened().len(), opened);
    }
}

#[test]
fn lifetimes_have_a_floor_and_a_ceiling() {
    for (ttl, lifetime) in
        [(0, 60), (59, 60), (61, 61), (86_400, 86_400), (90_000, 86_400), (0x8000_0000, 60)]
    {
        let world = World::new(&Resolver::with(vec![at("www.example.org", ttl, "192.0.2.1")]));
        let answer = world.udp(&question("www.example.org", TYPE::A, None));
        assert_eq!(world.opened(), [format!("www.example.org 192.0.2.1 {lifetime}")]);
        assert_eq!(Packet::parse(&answer).unwrap().answers[0].ttl, ttl, "the client's is as it was");
    }
}

#[test]
fn all_types_may_be_asked_and_only_their_own_addresses_open() {
    let mx = RData::MX(MX { preference: 10, exchange: name("mail.example.org") });
    let resolver = Resolver::new(move |got| {
        let mut answer = got.answer([record("example.org", 300, mx.clone())]);
        answer.additional_records.push(at("mail.example.org", 300, "192.0.2.1"));
        vec![bytes(&answer)]
    });
    let world = World::new(&resolver);
    for kind in [TYPE::MX, TYPE::TXT, TYPE::SRV, TYPE::PTR, TYPE::SOA, TYPE::CNAME, TYPE::NAPTR] {
        assert_eq!(rcode(&world.udp(&question("example.org", kind, None))), RCODE::NoError);
    }
    assert_eq!(resolver.seen().len(), 7);
    assert!(world.opened().is_empty());
    assert_eq!(rcode(&world.udp(&question("1.2.0.192.in-addr.arpa", TYPE::PTR, None))), RCODE::NameError);
}

#[test]
fn hints_are_opened_for_the_asked_name() {
    let service = SVCB::new(1, name("."))
        .with_param(SVCParam::Port(443))
        .with_param(SVCParam::Ipv4Hint(vec![0xc000_0201, 0xc000_0202]))
        .with_param(SVCParam::Ipv6Hint(vec![0x2001_0db8 << 96 | 1]));
    let alias = SVCB::new(0, name("svc.example.net"));
    let resolver = Resolver::with(vec![
        cname("www.example.org", 200, "web.example.net"),
        record("web.example.net", 300, RData::HTTPS(HTTPS(service.clone()))),
        record("web.example.net", 300, RData::HTTPS(HTTPS(alias))),
        record("svc.example.net", 300, RData::HTTPS(HTTPS(service))),
        at("svc.example.net", 300, "192.0.2.99"),
    ]);
    let world = World::new(&resolver);
    world.udp(&question("www.example.org", TYPE::HTTPS, Some(1232)));
    assert_eq!(
        world.opened(),
        ["www.example.org 192.0.2.1 200", "www.example.org 192.0.2.2 200", "www.example.org 2001:db8::1 200"]
    );
}

#[test]
fn mapped_addresses_are_ipv4() {
    let world = World::new(&Resolver::with(vec![at("www.example.org", 300, "::ffff:192.0.2.1")]));
    world.udp(&question("www.example.org", TYPE::AAAA, None));
    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 300"]);
}

#[test]
fn what_cannot_be_opened_is_not_told_to_the_client() {
    let resolver = Resolver::with(vec![at("www.example.org", 300, "192.0.2.1")]);
    let gate = TestGate { cannot_open: true, ..TestGate::default() };
    let world = World::with(resolver.address, names::Settings::default(), gate);
    for reply in [
        world.udp(&question("www.example.org", TYPE::A, Some(1232))),
        world.tcp(&question("www.example.org", TYPE::A, Some(1232))),
    ] {
        assert_eq!((rcode(&reply), addresses(&reply).len()), (RCODE::ServerFailure, 0));
        assert!(explanation(&reply).is_some());
        let told = world.told();
        assert_eq!((told.rcode, told.answers.len()), (Rcode(2), 0));
        assert_eq!(told.error.unwrap().to_string(), "open the addresses: the map is full");
    }
}
