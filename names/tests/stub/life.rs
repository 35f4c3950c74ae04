//! The stub's ports, its start and its end.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use names::{Gate, Leave, Opening, Settings, Stub, Told};
use simple_dns::TYPE;

use crate::support::*;

#[test]
fn each_resolver_has_ports_on_its_family_s_loopback() {
    let resolvers: [SocketAddr; 3] =
        ["192.0.2.1:53", "[2001:db8::1]:53", "127.0.0.53:53"].map(|resolver| resolver.parse().unwrap());
    let stub = Stub::bind(&resolvers, Settings::default()).unwrap();
    let ports = stub.ports();
    assert_eq!(ports.iter().map(|ports| ports.resolver).collect::<Vec<_>>(), resolvers);
    for (ports, ip) in ports.iter().zip(["127.0.0.1", "::1", "127.0.0.1"]) {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!((ports.udp.ip(), ports.tcp.ip()), (ip, ip));
        assert!(ports.udp.port() != 0 && ports.tcp.port() != 0);
    }
}

#[test]
fn ipv6_resolvers_are_asked_by_ipv6() {
    let resolver = Resolver::on(Ipv6Addr::LOCALHOST.into(), |got| {
        vec![bytes(&got.answer([at("www.example.org", 300, "192.0.2.1")]))]
    });
    let world = World::new(&resolver);
    for reply in [
        world.udp(&question("www.example.org", TYPE::A, None)),
        world.tcp(&question("www.example.org", TYPE::A, None)),
    ] {
        assert_eq!(addresses(&reply).len(), 1);
    }
    assert_eq!(world.opened().len(), 2);
    assert_eq!(world.told().resolver, IpAddr::from(Ipv6Addr::LOCALHOST));
}

#[test]
fn each_port_asks_its_own_resolver() {
    let resolvers =
        ["192.0.2.1", "192.0.2.2"].map(|address| Resolver::with(vec![at("a.example.org", 300, address)]));
    let stub =
        Stub::bind(&resolvers.each_ref().map(|resolver| resolver.address), Settings::default()).unwrap();
    let ports = stub.ports();
    let running = stub.start(TestGate::default()).unwrap();
    for (ports, address) in ports.iter().zip(["192.0.2.1", "192.0.2.2"]) {
        let client = World { ports: *ports, log: std::sync::Arc::default(), running: None };
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(addresses(&client.udp(&question("a.example.org", TYPE::A, None))), [address]);
        assert_eq!(addresses(&client.tcp(&question("a.example.org", TYPE::A, None))), [address]);
    }
    running.stop().unwrap();
}

#[test]
fn when_it_ends_its_ports_are_free() {
    let mut world = World::new(&Resolver::with(vec![]));
    let connection = world.connect();
    world.udp(&question("www.example.org", TYPE::A, None));
    let running = world.running.take().unwrap();
    assert!(running.is_alive());
    running.stop().unwrap();
    drop(connection);
    UdpSocket::bind(world.ports.udp).unwrap();
    TcpListener::bind(world.ports.tcp).unwrap();
}

/// A gate that cannot decide.
struct Broken;

impl Gate for Broken {
    fn may_ask(&mut self, _: &str, _: IpAddr) -> Leave {
        // Without the panic's message, which would look like a failed test.
        std::panic::resume_unwind(Box::new("broken"))
    }

    fn open(&mut self, _: &Opening) -> io::Result<()> {
        Ok(())
    }

    fn tell(&mut self, _: Told) {}
}

#[test]
fn a_gate_that_breaks_ends_it_and_is_seen() {
    let resolver = Resolver::with(vec![]);
    let stub = Stub::bind(&[resolver.address], Settings::default()).unwrap();
    let ports = stub.ports()[0];
    let running = stub.start(Broken).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&question("www.example.org", TYPE::A, None), ports.udp).unwrap();
    while running.is_alive() {
        std::thread::yield_now();
    }
    assert!(running.stop().is_err());
    assert!(resolver.seen().is_empty());
}
