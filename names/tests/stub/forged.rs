//! Answers that are none: of somebody else, to something else, or of no sense.

use std::net::UdpSocket;

use names::{Error, Settings, Transport};
use simple_dns::{RCODE, TYPE};

use crate::support::*;

fn good(got: &Got) -> Vec<u8> {
    bytes(&got.answer([at("www.example.org", 300, "192.0.2.1")]))
}

fn forged(got: &Got) -> Vec<u8> {
    bytes(&got.answer([at("www.example.org", 300, "192.0.2.66")]))
}

/// Sends what `forge` makes, then the good answer.
fn resolver(forge: impl Fn(&Got) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Resolver {
    Resolver::new(move |got| {
        let mut answers = forge(got);
        answers.push(good(got));
        answers
    })
}

#[test]
fn by_udp_only_the_question_s_own_answer_counts() {
    let resolver = resolver(|got| {
        let change = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut forged = forged(got);
            change(&mut forged);
            forged
        };
        // The question is at 12: \x03www\x07example\x03org\x00, type, class.
        vec![
            change(&|m| m[0] ^= 1), // another id
            change(&|m| m[1] ^= 1),
            change(&|m| m[2] &= 0x7f), // a question
            change(&|m| m[2] |= 0x28), // another kind of message
            change(&|m| m[13] = b'x'), // another name
            change(&|m| m[30] = 28),   // another type
            change(&|m| m[32] = 3),    // another class
            change(&|m| m[5] = 0),     // no question
            change(&|m| m[5] = 2),
            change(&|m| m.truncate(15)),
            change(&|m| m.truncate(11)),
            vec![],
        ]
    });
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(addresses(&reply), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 300"]);
}

#[test]
fn the_question_s_case_does_not_count() {
    let resolver = Resolver::new(|got| {
        let mut answer = good(got);
        answer[13..16].make_ascii_uppercase();
        vec![answer]
    });
    let world = World::new(&resolver);
    world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn nobody_else_s_datagrams_count() {
    let resolver = Resolver::new(|got| {
        let (_, peer) = got.udp.unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(&forged(got), peer).unwrap();
        let elsewhere = UdpSocket::bind("127.0.0.2:0").unwrap();
        elsewhere.send_to(&forged(got), peer).unwrap();
        vec![good(got)]
    });
    let world = World::new(&resolver);
    world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(world.opened(), ["www.example.org 192.0.2.1 300"]);
}

#[test]
fn each_question_has_a_port_of_its_own() {
    let ports = std::sync::Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    let seen = std::sync::Arc::clone(&ports);
    let resolver = Resolver::new(move |got| {
        seen.lock().unwrap().insert(got.udp.unwrap().1.port());
        vec![good(got)]
    });
    let world = World::new(&resolver);
    for _ in 0..8 {
        world.udp(&question("www.example.org", TYPE::A, None));
    }
    assert!(ports.lock().unwrap().len() > 4);
}

#[test]
fn who_guesses_ends_the_wait() {
    let resolver = resolver(|got| {
        let guess = |number: u8| {
            let mut forged = forged(got);
            forged[0] ^= 1 + number;
            forged
        };
        (0..64).map(guess).collect()
    });
    let world = World::new(&resolver);
    assert_eq!(rcode(&world.udp(&question("www.example.org", TYPE::A, None))), RCODE::ServerFailure);
    assert!(world.opened().is_empty());
    assert!(matches!(world.told().error, Some(Error::Resolver(_))));
}

#[test]
fn by_tcp_a_wrong_answer_is_an_error() {
    let resolver = resolver(|got| {
        let mut forged = forged(got);
        forged[1] ^= 1;
        vec![forged]
    });
    let world = World::new(&resolver);
    let reply = world.tcp(&question("www.example.org", TYPE::A, Some(1232)));
    assert_eq!((rcode(&reply), explanation(&reply).unwrap().0), (RCODE::ServerFailure, 22));
    assert!(world.opened().is_empty());
}

#[test]
fn an_answer_that_does_not_add_up_is_not_passed_on() {
    // Too many records; an address of three bytes; and one of five.
    for change in [
        (|m: &mut Vec<u8>| m[7] += 1) as fn(&mut Vec<u8>),
        |m| {
            let end = m.len();
            m[end - 5] = 3;
            m.pop();
        },
        |m| {
            let end = m.len();
            m[end - 5] = 5;
            m.push(0);
        },
    ] {
        let resolver = Resolver::new(move |got| {
            let mut answer = good(got);
            change(&mut answer);
            vec![answer]
        });
        let world = World::new(&resolver);
        assert_eq!(rcode(&world.udp(&question("www.example.org", TYPE::A, None))), RCODE::ServerFailure);
        assert!(world.opened().is_empty());
        assert!(matches!(world.told().error, Some(Error::Unreadable)));
    }
}

#[test]
fn what_stands_behind_an_answer_is_cut_off() {
    let resolver = Resolver::new(|got| vec![[good(got), b"more".to_vec()].concat()]);
    let world = World::new(&resolver);
    let reply = world.udp(&question("www.example.org", TYPE::A, None));
    assert_eq!(addresses(&reply).len(), 1);
    assert!(!reply.ends_with(b"more"));
}

#[test]
fn errors_of_the_resolver_are_passed_on_and_open_nothing() {
    let resolver = Resolver::new(|got| {
        let mut answer = forged(got);
        answer[3] |= 3;
        vec![answer]
    });
    let world = World::new(&resolver);
    assert_eq!(rcode(&world.udp(&question("www.example.org", TYPE::A, None))), RCODE::NameError);
    assert_eq!(world.told().rcode, names::Rcode(3));
    assert!(world.opened().is_empty());
}

#[test]
fn a_resolver_that_is_not_there() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(nobody, Settings::default(), TestGate::default());
    for transport in [Transport::Udp, Transport::Tcp] {
        let asked = question("www.example.org", TYPE::A, Some(1232));
        let reply = if transport == Transport::Udp { world.udp(&asked) } else { world.tcp(&asked) };
        assert_eq!((rcode(&reply), explanation(&reply).unwrap().0), (RCODE::ServerFailure, 22));
        assert!(matches!(world.told().error, Some(Error::Resolver(_))), "at once, not after a wait");
    }
}
