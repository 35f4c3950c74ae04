//! A world for the stub: resolvers that answer as a test says, a gate that remembers, and a client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use names::{Gate, Leave, Opening, Ports, Running, Settings, Stub, Told, Transport};
use simple_dns::rdata::{A, AAAA, CNAME, NULL, OPT, OPTCode, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, TYPE};

/// So long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a resolver got, and how.
pub struct Got<'q> {
    pub bytes: &'q [u8],
    pub transport: Transport,
    /// The socket that it came to by UDP, and from where.
    pub udp: Option<(&'q UdpSocket, SocketAddr)>,
}

impl Got<'_> {
    pub fn packet(&self) -> Packet<'_> {
        Packet::parse(self.bytes).unwrap()
    }

    /// An answer to it with these records.
    pub fn answer<'a>(&self, records: impl IntoIterator<Item = ResourceRecord<'a>>) -> Packet<'a> {
        let asked = self.packet();
        let mut reply = Packet::new_reply(asked.id());
        reply.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        reply.questions = asked.questions.into_iter().map(Question::into_owned).collect();
        reply.answers.extend(records);
        reply
    }
}

/// A resolver, with one port for UDP and TCP.
pub struct Resolver {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Resolver {
    /// `say` gives the messages that each question is answered with.
    pub fn new(say: impl Fn(&Got) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Resolver {
        Resolver::on(Ipv4Addr::LOCALHOST.into(), say)
    }

    pub fn on(ip: IpAddr, say: impl Fn(&Got) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Resolver {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((ip, 0)).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let (address, say) = (udp.local_addr().unwrap(), Arc::new(say));
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (say_udp, seen_udp, seen_tcp) = (Arc::clone(&say), Arc::clone(&seen), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 65535];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).unwrap();
                let bytes = &buffer[..length];
                seen_udp.lock().unwrap().push(bytes.to_vec());
                let got = Got { bytes, transport: Transport::Udp, udp: Some((&udp, peer)) };
                for answer in say_udp(&got) {
                    udp.send_to(&answer, peer).unwrap();
                }
            }
        });
        thread::spawn(move || {
            loop {
                let (mut stream, _) = tcp.accept().unwrap();
                let (say, seen) = (Arc::clone(&say), Arc::clone(&seen_tcp));
                thread::spawn(move || {
                    while let Ok(bytes) = receive(&mut stream) {
                        seen.lock().unwrap().push(bytes.clone());
                        let got = Got { bytes: &bytes, transport: Transport::Tcp, udp: None };
                        for answer in say(&got) {
                            stream.write_all(&framed(&answer)).unwrap();
                        }
                    }
                });
            }
        });
        Resolver { address, seen }
    }

    /// One that answers each question with the same records.
    pub fn with(records: Vec<ResourceRecord<'static>>) -> Resolver {
        Resolver::new(move |got| vec![bytes(&got.answer(records.clone()))])
    }

    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }
}

/// What the gate was asked and told.
#[derive(Default)]
pub struct Log {
    pub asked: Vec<(String, IpAddr)>,
    pub openings: Vec<Opening>,
    pub told: Vec<Told>,
}

/// Allows `example.org` and what is below it.
#[derive(Default)]
pub struct TestGate {
    pub log: Arc<Mutex<Log>>,
    pub cannot_open: bool,
}

impl Gate for TestGate {
    fn may_ask(&mut self, name: &str, resolver: IpAddr) -> Leave {
        self.log.lock().unwrap().asked.push((name.to_owned(), resolver));
        if name == "example.org" || name.ends_with(".example.org") {
            Leave::Yes { rule: Some("example".to_owned()) }
        } else {
            Leave::No { rule: "only-example".to_owned(), because: Some("no need".to_owned()) }
        }
    }

    fn open(&mut self, opening: &Opening) -> io::Result<()> {
        if self.cannot_open {
            return Err(io::Error::other("the map is full"));
        }
        self.log.lock().unwrap().openings.push(opening.clone());
        Ok(())
    }

    fn tell(&mut self, told: Told) {
        self.log.lock().unwrap().told.push(told);
    }
}

/// A stub that runs before one resolver.
pub struct World {
    pub ports: Ports,
    pub log: Arc<Mutex<Log>>,
    pub running: Option<Running>,
}

impl World {
    pub fn new(resolver: &Resolver) -> World {
        World::with(resolver.address, Settings::default(), TestGate::default())
    }

    pub fn with(resolver: SocketAddr, settings: Settings, gate: TestGate) -> World {
        let stub = Stub::bind(&[resolver], settings).unwrap();
        let (ports, log) = (stub.ports()[0], Arc::clone(&gate.log));
        World { ports, log, running: Some(stub.start(gate).unwrap()) }
    }

    /// Sends a datagram and waits for the reply to it.
    pub fn udp(&self, packet: &[u8]) -> Vec<u8> {
        let socket = self.socket();
        socket.send(packet).unwrap();
        let mut buffer = vec![0; 65535];
        let length = socket.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    pub fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.ports.udp.ip(), 0)).unwrap();
        socket.connect(self.ports.udp).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.ports.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks by a connection of its own.
    pub fn tcp(&self, packet: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(&framed(packet)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        receive(&mut stream).unwrap()
    }

    /// All that was opened: `name address seconds`.
    pub fn opened(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let line = |opening: &Opening, (address, lifetime): &(IpAddr, Duration)| {
            format!("{} {address} {}", opening.name, lifetime.as_secs())
        };
        let all =
            log.openings.iter().flat_map(|opening| opening.addresses.iter().map(move |a| line(opening, a)));
        all.collect()
    }

    /// What was told last.
    pub fn told(&self) -> Told {
        self.log.lock().unwrap().told.pop().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = self.running.take().filter(|_| !thread::panicking()) {
            running.stop().unwrap();
        }
    }
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

pub fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub fn name(text: &str) -> Name<'static> {
    Name::new(text).unwrap().into_owned()
}

pub fn record(owner: &str, ttl: u32, data: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(name(owner), CLASS::IN, ttl, data)
}

/// An A or AAAA record.
pub fn at(owner: &str, ttl: u32, address: &str) -> ResourceRecord<'static> {
    let data = match address.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A::from(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA { address: address.into() }),
    };
    record(owner, ttl, data)
}

pub fn cname(owner: &str, ttl: u32, target: &str) -> ResourceRecord<'static> {
    record(owner, ttl, RData::CNAME(CNAME(name(target))))
}

/// A record of a type that the library does not know.
pub fn raw(owner: &str, ttl: u32, kind: u16, data: Vec<u8>) -> ResourceRecord<'static> {
    record(owner, ttl, RData::NULL(kind, NULL::new(&data).unwrap().into_owned()))
}

/// A question with the id 0x1234; `payload` is the EDNS size.
pub fn question(text: &str, kind: TYPE, payload: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        name(text),
        QTYPE::TYPE(kind),
        simple_dns::QCLASS::CLASS(CLASS::IN),
        false,
    ));
    *packet.opt_mut() = payload.map(|size| OPT { opt_codes: Vec::new(), udp_packet_size: size, version: 0 });
    bytes(&packet)
}

pub fn bytes(packet: &Packet) -> Vec<u8> {
    packet.build_bytes_vec_compressed().unwrap()
}

pub fn rcode(message: &[u8]) -> RCODE {
    Packet::parse(message).unwrap().rcode()
}

/// The extended error in the reply: its code and text.
pub fn explanation(message: &[u8]) -> Option<(u16, String)> {
    let packet = Packet::parse(message).unwrap();
    let OPTCode { data, .. } = packet.opt()?.opt_codes.iter().find(|option| option.code == 15)?;
    let (code, text) = data.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap()))
}

/// The addresses in the answer section.
pub fn addresses(message: &[u8]) -> Vec<IpAddr> {
    let packet = Packet::parse(message).unwrap();
    let address = |record: &ResourceRecord| match &record.rdata {
        RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        RData::AAAA(aaaa) => Some(IpAddr::from(aaaa.address.to_be_bytes())),
        _ => None,
    };
    packet.answers.iter().filter_map(address).collect()
}
