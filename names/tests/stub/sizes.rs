//! What fits into a datagram, and what goes by a connection.

use std::io::{Read, Write};
use std::net::Shutdown;

use names::Transport;
use simple_dns::{Packet, PacketFlag, RCODE, ResourceRecord, TYPE};

use crate::support::*;

/// `count` addresses: sixteen bytes each.
fn many(count: u16) -> Vec<ResourceRecord<'static>> {
    (0..count).map(|n| at("www.example.org", 300, &format!("192.0.{}.{}", n >> 8, n & 255))).collect()
}

#[test]
fn what_is_longer_than_the_client_takes_is_cut_and_opens_nothing() {
    // 33 bytes of header and question, 11 of EDNS.
    for (payload, count, whole) in [
        (None, 29, true),
        (None, 30, false),
        (Some(1232), 74, true),
        (Some(1232), 75, false),
        (Some(100), 30, false),
    ] {
        let world = World::new(&Resolver::with(many(count)));
        let reply = world.udp(&question("www.example.org", TYPE::A, payload));
        let packet = Packet::parse(&reply).unwrap();
        assert_eq!(packet.has_flags(PacketFlag::TRUNCATION), !whole, "{payload:?} {count}");
        assert_eq!((packet.id(), packet.rcode()), (0x1234, RCODE::NoError));
        assert_eq!(world.told().cut, !whole);
        let expected = if whole { usize::from(count) } else { 0 };
        assert_eq!((packet.answers.len(), world.opened().len()), (expected, expected), "{payload:?} {count}");
        assert_eq!(
            packet.opt().is_some(),
            payload.is_some() && !whole,
            "what the resolver does not say is not said"
        );
        assert!(reply.len() <= usize::from(payload.unwrap_or(512).max(512)));
        // By TCP there is room.
        assert_eq!(
            addresses(&world.tcp(&question("www.example.org", TYPE::A, payload))).len(),
            usize::from(count)
        );
    }
}

#[test]
fn the_longest_message_goes_by_tcp() {
    let resolver = Resolver::new(|got| {
        let mut answer = got.answer(many(2));
        answer.answers.push(raw("www.example.org", 1, 65280, vec![0; 65535 - 33 - 32 - 12]));
        vec![bytes(&answer)]
    });
    let world = World::new(&resolver);
    assert_eq!(world.tcp(&question("www.example.org", TYPE::A, None)).len(), 65535);
    assert_eq!(world.opened().len(), 2);
}

#[test]
fn tc_of_the_resolver_is_passed_on_and_the_client_asks_by_tcp() {
    let resolver = Resolver::new(|got| {
        let mut answer = bytes(&got.answer(many(3)));
        if got.transport == Transport::Udp {
            answer[2] |= 2;
            // Cut within a record, as some do.
            answer.truncate(answer.len() - 5);
        }
        vec![answer]
    });
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::A, Some(1232)));
    let packet = Packet::parse(&reply).unwrap();
    assert!(packet.has_flags(PacketFlag::TRUNCATION));
    assert!(packet.answers.is_empty() && packet.opt().is_some());
    assert!(world.opened().is_empty());
    assert_eq!(resolver.seen().len(), 1, "the stub does not ask again");
    assert_eq!(addresses(&world.tcp(&question("www.example.org", TYPE::A, Some(1232)))).len(), 3);
    assert_eq!(world.opened().len(), 3);
    assert_eq!(world.told().transport, Transport::Tcp);
}

#[test]
fn whole_records_beside_tc_count() {
    let resolver = Resolver::new(|got| {
        let mut answer = bytes(&got.answer(many(3)));
        answer[2] |= 2;
        vec![answer]
    });
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::A, None));
    assert!(Packet::parse(&reply).unwrap().has_flags(PacketFlag::TRUNCATION));
    assert_eq!((addresses(&reply).len(), world.opened().len()), (3, 3));
}

#[test]
fn a_connection_has_several_questions_at_a_time() {
    let resolver = Resolver::new(|got| {
        let owner = got.packet().questions[0].qname.to_string();
        vec![bytes(&got.answer([at(&owner, 300, "192.0.2.1")]))]
    });
    let world = World::new(&resolver);
    let mut stream = world.connect();
    let mut sent = Vec::new();
    for id in 0..50_u16 {
        // Every fifth is refused: such are answered at once.
        let zone = if id % 5 == 0 { "net" } else { "org" };
        let mut asked = question(&format!("n{id}.example.{zone}"), TYPE::A, None);
        asked[..2].copy_from_slice(&id.to_be_bytes());
        sent.extend(framed(&asked));
    }
    // In odd pieces.
    for piece in sent.chunks(37) {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut ids = Vec::new();
    for _ in 0..50 {
        let reply = receive(&mut stream).unwrap();
        let packet = Packet::parse(&reply).unwrap();
        let refused = packet.rcode() == RCODE::NameError;
        assert_eq!(refused, packet.id().is_multiple_of(5));
        assert!(packet.questions[0].qname.to_string().starts_with(&format!("n{}.", packet.id())));
        assert_eq!(addresses(&reply).len(), usize::from(!refused));
        ids.push(packet.id());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "then it is closed");
    assert_eq!(world.opened().len(), 40);
    assert_eq!(resolver.seen().len(), 40);
}

#[test]
fn junk_on_a_connection() {
    let world = World::new(&Resolver::with(many(1)));
    let mut stream = world.connect();
    stream.write_all(&[0, 0, 0, 1, 7]).unwrap(); // nothing, and a byte
    stream.write_all(&framed(&[9, 9, 1, 1, 1])).unwrap();
    stream.write_all(&framed(&question("www.example.org", TYPE::A, None))).unwrap();
    let reply = receive(&mut stream).unwrap();
    assert_eq!((&reply[..2], reply[3] & 15), (&[9, 9][..], 1));
    assert_eq!(addresses(&receive(&mut stream).unwrap()).len(), 1);
}
