//! Waits, and how much there is at a time. The clock stands still but when nothing else is to be done: then it jumps
//! to the next end of a wait.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

use names::{Error, Settings, Stub};
use simple_dns::{RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::*;

/// A resolver that takes questions and says nothing.
struct Silent {
    udp: UdpSocket,
    _tcp: TcpListener,
}

impl Silent {
    fn new() -> Silent {
        loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            udp.set_nonblocking(true).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                return Silent { udp, _tcp: tcp };
            }
        }
    }

    fn questions(&self) -> usize {
        std::iter::from_fn(|| self.udp.recv(&mut [0; 512]).ok()).count()
    }
}

/// Runs the stub beside the test, on its clock.
fn beside<F: Future>(
    settings: Settings,
    silent: &Silent,
    test: impl FnOnce(names::Ports, TestGate) -> F,
) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let stub = Stub::bind(&[silent.udp.local_addr().unwrap()], settings).unwrap();
    let (ports, gate) = (stub.ports()[0], TestGate::default());
    let seen = TestGate { log: std::sync::Arc::clone(&gate.log), ..TestGate::default() };
    runtime.block_on(async {
        tokio::select! {
            ended = stub.run(gate, std::future::pending()) => panic!("{ended:?}"),
            output = test(ports, seen) => output,
        }
    })
}

async fn client(ports: names::Ports) -> tokio::net::UdpSocket {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(ports.udp).await.unwrap();
    socket
}

async fn reply(socket: &tokio::net::UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}

fn numbered(id: u16) -> Vec<u8> {
    let mut asked = question("www.example.org", TYPE::A, Some(1232));
    asked[..2].copy_from_slice(&id.to_be_bytes());
    asked
}

#[test]
fn a_silent_resolver_is_waited_for_five_seconds() {
    let silent = Silent::new();
    beside(Settings::default(), &silent, async |ports, gate| {
        let begin = Instant::now();
        let socket = client(ports).await;
        socket.send(&numbered(1)).await.unwrap();
        let answer = reply(&socket).await;
        assert_eq!((rcode(&answer), explanation(&answer).unwrap().0), (RCODE::ServerFailure, 22));
        let mut stream = TcpStream::connect(ports.tcp).await.unwrap();
        stream.write_all(&framed(&numbered(2))).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!((rcode(&answer), explanation(&answer).unwrap().0), (RCODE::ServerFailure, 22));
        let waited = begin.elapsed();
        assert!((10..11).contains(&waited.as_secs()), "{waited:?}");
        let log = gate.log.lock().unwrap();
        assert_eq!(log.told.len(), 2);
        let five = Duration::from_secs(5);
        assert!(log.told.iter().all(|told| matches!(told.error, Some(Error::Silent(wait)) if wait == five)));
    });
}

#[test]
fn more_questions_than_may_be_fail_at_once() {
    let silent = Silent::new();
    beside(Settings { questions: 2, ..Settings::default() }, &silent, async |ports, gate| {
        let (begin, socket) = (Instant::now(), client(ports).await);
        for id in 1..=3 {
            socket.send(&numbered(id)).await.unwrap();
        }
        let third = reply(&socket).await;
        assert_eq!((third[1], rcode(&third)), (3, RCODE::ServerFailure));
        assert_eq!(explanation(&third), Some((0, "too many questions at a time".to_owned())));
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert!(
            matches!(gate.log.lock().unwrap().told[..], [ref told] if matches!(told.error, Some(Error::TooMany)))
        );
        for _ in 0..2 {
            assert_eq!(rcode(&reply(&socket).await), RCODE::ServerFailure);
        }
        assert!(begin.elapsed() >= Duration::from_secs(5));
        assert_eq!(silent.questions(), 2);
        // Then there is room again, also for connections.
        let mut stream = TcpStream::connect(ports.tcp).await.unwrap();
        socket.send(&numbered(4)).await.unwrap();
        stream.write_all(&framed(&numbered(5))).await.unwrap();
        reply(&socket).await;
        stream.read_u16().await.unwrap();
        let log = gate.log.lock().unwrap();
        assert!(log.told[3..].iter().all(|told| matches!(told.error, Some(Error::Silent(_)))));
    });
}

#[test]
fn of_a_flood_as_many_are_asked_as_may_be() {
    let silent = Silent::new();
    beside(Settings::default(), &silent, async |ports, gate| {
        let (begin, socket) = (Instant::now(), client(ports).await);
        let (mut answered, mut asked) = (0, 0);
        for id in 0..5000 {
            socket.send(&numbered(id)).await.unwrap();
            if id % 16 == 0 {
                tokio::task::yield_now().await;
                asked += silent.questions();
            }
            while socket.try_recv(&mut [0; 2048]).is_ok() {
                answered += 1;
            }
        }
        while begin.elapsed() < Duration::from_secs(4) {
            while socket.try_recv(&mut [0; 2048]).is_ok() {
                answered += 1;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        asked += silent.questions();
        assert_eq!(asked, 512);
        let log = gate.log.lock().unwrap();
        assert!(log.told.iter().all(|told| matches!(told.error, Some(Error::TooMany))));
        assert!(answered > 0 && log.told.len() >= answered);
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    for said in [&b""[..], b"\x00", b"\x00\x20half"] {
        let silent = Silent::new();
        beside(Settings::default(), &silent, async |ports, _| {
            let begin = Instant::now();
            let mut stream = TcpStream::connect(ports.tcp).await.unwrap();
            stream.write_all(said).await.unwrap();
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
            let waited = begin.elapsed();
            assert!((10..11).contains(&waited.as_secs()), "{said:?} {waited:?}");
        });
    }
}

#[test]
fn a_connection_whose_client_takes_nothing_is_closed() {
    let silent = Silent::new();
    beside(Settings::default(), &silent, async |ports, gate| {
        let mut stream = TcpStream::connect(ports.tcp).await.unwrap();
        let refused = framed(&question("no.example.net", TYPE::A, Some(1232))).repeat(100);
        let begin = Instant::now();
        // Replies fill the ways back, then questions the ways there, then it is cut off.
        while stream.write_all(&refused).await.is_ok() {}
        assert!(begin.elapsed() >= Duration::from_secs(10));
        assert!(!gate.log.lock().unwrap().told.is_empty());
    });
}

#[test]
fn more_connections_than_may_be_wait() {
    let silent = Silent::new();
    beside(Settings { connections: 2, ..Settings::default() }, &silent, async |ports, _| {
        let begin = Instant::now();
        let _idle =
            [TcpStream::connect(ports.tcp).await.unwrap(), TcpStream::connect(ports.tcp).await.unwrap()];
        let mut third = TcpStream::connect(ports.tcp).await.unwrap();
        third.write_all(&framed(&question("no.example.net", TYPE::A, None))).await.unwrap();
        third.read_u16().await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(10), "until the idle ones were closed");
    });
}
