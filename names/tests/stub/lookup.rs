//! Questions of the caller's own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use names::{Error, Found, Rcode, Settings, lookup};
use simple_dns::{PacketFlag, QTYPE, RCODE, TYPE};

use crate::support::*;

fn look(name: &str, resolvers: &[SocketAddr], settings: &Settings) -> Result<Found, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(lookup(name, resolvers, settings))
}

fn found(found: &Found) -> Vec<String> {
    found.addresses.iter().map(|(address, life)| format!("{address} {}", life.as_secs())).collect()
}

/// One that knows an address of each family.
fn both() -> Resolver {
    Resolver::new(|got| {
        let packet = got.packet();
        let answer = match packet.questions[0].qtype {
            QTYPE::TYPE(TYPE::AAAA) => {
                got.answer([at("www.example.org", 300, "2001:db8::1"), at("www.example.org", 300, "::1")])
            }
            _ => got.answer([
                cname("www.example.org", 100, "a.example.net"),
                at("a.example.net", 300, "192.0.2.1"),
                at("a.example.net", 300, "127.0.0.1"),
                at("unrelated.example.net", 300, "192.0.2.9"),
            ]),
        };
        vec![bytes(&answer)]
    })
}

#[test]
fn both_families_are_found_and_refused_addresses_are_left_out() {
    let resolver = both();
    let answer = look("WWW.example.org.", &[resolver.address], &Settings::default()).unwrap();
    assert_eq!(found(&answer), ["2001:db8::1 300", "192.0.2.1 100"]);
    let refused: Vec<String> = answer.refused.iter().map(|(a, why)| format!("{a} {why}")).collect();
    assert_eq!(refused, ["::1 loopback", "127.0.0.1 loopback"]);
    assert_eq!(answer.rcode, Rcode(0));
    let seen = resolver.seen();
    assert!(seen.len() == 2 && seen[0][..2] != seen[1][..2], "questions of their own");
}

#[test]
fn the_next_resolver_is_asked_where_one_gives_no_definite_answer() {
    let settings = Settings { wait: Duration::from_millis(300), ..Settings::default() };
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let failing = Resolver::new(|got| {
        let mut answer = got.answer([]);
        *answer.rcode_mut() = RCODE::ServerFailure;
        vec![bytes(&answer)]
    });
    let resolvers = [silent.local_addr().unwrap(), failing.address, both().address];
    assert_eq!(found(&look("www.example.org", &resolvers, &settings).unwrap()).len(), 2);
    assert!(matches!(look("www.example.org", &resolvers[..1], &settings), Err(Error::Silent(_))));
    assert!(matches!(look("www.example.org", &resolvers[1..2], &settings), Err(Error::Unreadable)));
    assert!(look("www.example.org", &[], &settings).is_err());
}

#[test]
fn a_name_that_is_not_there_is_not_asked_for_elsewhere() {
    let none = Resolver::new(|got| {
        let mut answer = got.answer([]);
        *answer.rcode_mut() = RCODE::NameError;
        vec![bytes(&answer)]
    });
    let other = both();
    let answer = look("www.example.org", &[none.address, other.address], &Settings::default()).unwrap();
    assert!(answer.addresses.is_empty() && answer.rcode == Rcode(3));
    assert!(other.seen().is_empty());
}

#[test]
fn what_is_cut_is_asked_by_tcp() {
    let resolver = Resolver::new(|got| {
        let mut answer = got.answer([at("www.example.org", 300, "192.0.2.1")]);
        if got.udp.is_some() {
            answer.answers.clear();
            answer.set_flags(PacketFlag::TRUNCATION);
        }
        vec![bytes(&answer)]
    });
    let answer = look("www.example.org", &[resolver.address], &Settings::default()).unwrap();
    assert_eq!(found(&answer), ["192.0.2.1 300"]);
}

#[test]
fn names_of_hosts_only() {
    let resolver = both();
    for name in ["", ".", "a..b", "a b", "b\u{fc}cher.example", "a\0b", &"a".repeat(64)] {
        assert!(
            matches!(look(name, &[resolver.address], &Settings::default()), Err(Error::Unfit)),
            "{name:?}"
        );
    }
    assert!(resolver.seen().is_empty());
}
