//! Answers that would lead the run to this machine.

use std::net::IpAddr;

use names::{Rcode, Reason, Settings};
use simple_dns::rdata::{HTTPS, MX, RData, SOA, SVCB, SVCParam};
use simple_dns::{Packet, PacketFlag, RCODE, TYPE};

use crate::support::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn refused_addresses_are_taken_out_and_told() {
    let resolver = Resolver::new(|got| {
        let mut answer = got.answer([
            cname("www.example.org", 300, "a.example.net"),
            at("a.example.net", 300, "127.0.0.1"),
            at("a.example.net", 300, "192.0.2.1"),
            at("a.example.net", 300, "169.254.169.254"),
            at("a.example.net", 300, "192.0.2.7"),
            at("unrelated.example.net", 300, "0.0.0.0"),
        ]);
        answer.set_flags(PacketFlag::AUTHENTIC_DATA);
        let soa = SOA {
            mname: name("ns.example.net"),
            rname: name("admin.example.net"),
            serial: 1,
            refresh: 2,
            retry: 3,
            expire: 4,
            minimum: 5,
        };
        answer.name_servers.push(record("example.net", 9, RData::SOA(soa)));
        answer.additional_records.push(at("ns.example.net", 9, "::1"));
        let mx = MX { preference: 7, exchange: name("mail.a.example.net") };
        answer.additional_records.push(record("example.net", 9, RData::MX(mx)));
        *answer.opt_mut() = got.packet().opt().map(|opt| opt.clone().into_owned());
        vec![bytes(&answer)]
    });
    let settings = Settings { own: Box::new(|address| address == ip("192.0.2.7")), ..Settings::default() };
    let world = World::with(resolver.address, settings, TestGate::default());
    let reply = world.udp(&question("www.example.org", TYPE::A, Some(1232)));
    let packet = Packet::parse(&reply).unwrap();
    assert_eq!((packet.id(), packet.rcode()), (0x1234, RCODE::NoError));
    assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED) && !packet.has_flags(PacketFlag::AUTHENTIC_DATA));
    assert_eq!(
        packet.answers,
        [cname("www.example.org", 300, "a.example.net"), at("a.example.net", 300, "192.0.2.1")]
    );
    // The rest is as it was, with its names in full.
    let RData::SOA(soa) = &packet.name_servers[0].rdata else { panic!("{packet:?}") };
    assert_eq!((soa.mname.to_string().as_str(), soa.minimum), ("ns.example.net", 5));
    assert_eq!(packet.additional_records.len(), 1);
    let RData::MX(mx) = &packet.additional_records[0].rdata else { panic!("{packet:?}") };
    assert_eq!(mx.exchange.to_string(), "mail.a.example.net");
    assert_eq!(packet.opt().unwrap().udp_packet_size, 1232);

    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 300"]);
    let told = world.told();
    assert_eq!(told.answers, [ip("192.0.2.1")]);
    assert_eq!(
        told.refused_addresses,
        [
            (ip("127.0.0.1"), Reason::Loopback),
            (ip("169.254.169.254"), Reason::LinkLocal),
            (ip("192.0.2.7"), Reason::Own),
            (ip("0.0.0.0"), Reason::Unspecified),
            (ip("::1"), Reason::Loopback),
        ]
    );
}

#[test]
fn a_name_with_refused_addresses_only_does_not_exist() {
    for (kind, refused, reason) in [
        (TYPE::A, "127.0.0.1", "loopback"),
        (TYPE::A, "224.0.0.251", "multicast"),
        (TYPE::A, "255.255.255.255", "broadcast"),
        (TYPE::AAAA, "::", "unspecified"),
        (TYPE::AAAA, "fe80::1", "link-local"),
        (TYPE::AAAA, "64:ff9b::7f00:1", "loopback"),
    ] {
        let world = World::new(&Resolver::with(vec![at("www.example.org", 300, refused)]));
        let reply = world.udp(&question("www.example.org", kind, Some(1232)));
        assert_eq!((rcode(&reply), addresses(&reply).len()), (RCODE::NameError, 0));
        assert_eq!(explanation(&reply), Some((15, format!("addresses refused: {refused} ({reason})"))));
        assert!(world.opened().is_empty());
        let told = world.told();
        assert_eq!((told.rcode, told.refused_addresses.len()), (Rcode(3), 1));
    }
    let world = World::new(&Resolver::with(vec![at("www.example.org", 300, "::ffff:127.0.0.1")]));
    assert_eq!(rcode(&world.udp(&question("www.example.org", TYPE::AAAA, None))), RCODE::NameError);
    assert_eq!(world.told().refused_addresses, [(ip("127.0.0.1"), Reason::Loopback)]);
}

#[test]
fn a_name_without_addresses_still_exists() {
    let resolver = Resolver::new(|got| {
        let mut answer = got.answer([cname("www.example.org", 300, "a.example.net")]);
        answer.additional_records.push(at("ns.example.net", 9, "::1"));
        vec![bytes(&answer)]
    });
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::AAAA, None));
    let packet = Packet::parse(&reply).unwrap();
    assert_eq!(
        (packet.rcode(), packet.answers.len()),
        (RCODE::NoError, 1),
        "what was refused is not its own"
    );
    assert!(packet.additional_records.is_empty());
}

#[test]
fn refused_hints_are_taken_out() {
    let service = SVCB::new(1, name("."))
        .with_param(SVCParam::Port(443))
        .with_param(SVCParam::Ipv4Hint(vec![0x7f00_0001, 0xc000_0201]))
        .with_param(SVCParam::Ipv6Hint(vec![1]));
    let resolver = Resolver::with(vec![record("www.example.org", 300, RData::HTTPS(HTTPS(service)))]);
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::HTTPS, Some(1232)));
    let packet = Packet::parse(&reply).unwrap();
    let RData::HTTPS(HTTPS(service)) = &packet.answers[0].rdata else { panic!("{packet:?}") };
    let params: Vec<_> = service.iter_params().cloned().collect();
    assert_eq!(params, [SVCParam::Port(443), SVCParam::Ipv4Hint(vec![0xc000_0201])]);
    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 300"]);
    assert_eq!(world.told().refused_addresses.len(), 2);
}

#[test]
fn a_record_that_is_of_no_use_without_its_hints_opens_nothing() {
    let mut service = SVCB::new(1, name("."))
        .with_param(SVCParam::Ipv4Hint(vec![0x7f00_0001]))
        .with_param(SVCParam::Ipv6Hint(vec![0x2001_0db8 << 96 | 1]));
    service.set_mandatory([4].into_iter());
    let resolver = Resolver::with(vec![record("www.example.org", 300, RData::HTTPS(HTTPS(service)))]);
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::HTTPS, None));
    assert!(Packet::parse(&reply).unwrap().answers.is_empty());
    assert!(world.opened().is_empty());
}

#[test]
fn hints_that_do_not_add_up_are_taken_out() {
    let resolver = Resolver::with(vec![
        raw("www.example.org", 300, 65, vec![0, 1, 0, 0, 4, 0, 5, 192, 0, 2, 1, 127]),
        raw("www.example.org", 300, 65, vec![0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 2]),
    ]);
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::HTTPS, None));
    assert_eq!(Packet::parse(&reply).unwrap().answers.len(), 1);
    assert_eq!(world.opened(), ["www.example.org 192.0.2.2 300"]);
}

#[test]
fn private_networks_are_not_refused() {
    let world = World::new(&Resolver::with(vec![at("www.example.org", 300, "10.1.2.3")]));
    world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(world.opened(), ["www.example.org 10.1.2.3 300"]);
}
