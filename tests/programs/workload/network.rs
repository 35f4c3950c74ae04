//! The network, much of one thing: what the benchmark measures. Each writes one line to stdout: the wall time and the CPU
//! time of its loop, in nanoseconds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, connect, setsockopt, socket, sockopt::Linger,
};
use nix::time::{ClockId, clock_gettime};

/// After so many connections the client waits until the server has taken all of them: none is dropped, and sent again a
/// second later.
const AT_A_TIME: u32 = 128;
const BLOCK: usize = 256 * 1024;
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Ports of [`serve`]: where connections are taken and closed, where datagrams are left lying, and where bytes are moved.
const PORTS: [u16; 3] = [7001, 7002, 7003];

/// Serves on every IPv4 address, until its input ends. A line on stdout says that it does.
pub fn serve() {
    let [taking, lying, moving] = PORTS.map(|port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    let (taking, moving) =
        (TcpListener::bind(taking).expect("bind"), TcpListener::bind(moving).expect("bind"));
    // What does not fit is dropped where it arrives: as cheap as it can be, and always the same.
    let _lying = UdpSocket::bind(lying).expect("bind");
    thread::spawn(move || taking.incoming().for_each(drop));
    thread::spawn(move || {
        for connection in moving.incoming() {
            // A client that went away is its own matter.
            let _ = connection.and_then(move_bytes);
        }
    });
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
}

/// One request: `GET /N` gets N bytes, `PUT /N` brings them.
fn move_bytes(mut connection: TcpStream) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    let head = read_head(&mut connection)?;
    let mut words = head.split([' ', '/']);
    let upload = words.next() == Some("PUT");
    let bytes: usize = words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    if upload {
        read(&mut connection, &mut block, bytes)?;
        return connection.write_all(b"HTTP/1.1 204 Done\r\n\r\n");
    }
    connection.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())?;
    write(&mut connection, &block, bytes)
}

fn read_head(connection: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read(connection: &mut TcpStream, block: &mut [u8], mut bytes: usize) -> std::io::Result<()> {
    while bytes > 0 {
        match connection.read(block)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => bytes = bytes.saturating_sub(length),
        }
    }
    Ok(())
}

fn write(connection: &mut TcpStream, block: &[u8], mut bytes: usize) -> std::io::Result<()> {
    while bytes > 0 {
        let length = bytes.min(block.len());
        connection.write_all(&block[..length])?;
        bytes -= length;
    }
    Ok(())
}

/// Takes the times of `act`, and tells them.
fn measured<T>(act: impl FnOnce() -> T) -> T {
    let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock"));
    let (start, start_cpu) = (Instant::now(), cpu());
    let result = act();
    println!("{} {}", start.elapsed().as_nanos(), (cpu() - start_cpu).as_nanos());
    result
}

/// The IPv4 address of a server by name.
fn find(server: &str) -> SocketAddrV4 {
    let found = server.to_socket_addrs().expect("the server's address").find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    });
    found.expect("an IPv4 address of the server")
}

/// Connects to the server and closes, `count` times.
pub fn connections(count: u32, server: &str) {
    let server = SockaddrIn::from(find(server));
    // It is cut off: no port waits afterwards.
    let cut = libc::linger { l_onoff: 1, l_linger: 0 };
    measured(|| {
        for number in 1..=count {
            let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)
                .expect("socket");
            setsockopt(&fd, Linger, &cut).expect("setsockopt");
            connect(fd.as_raw_fd(), &server).expect("connect");
            if number % AT_A_TIME == 0 || number == count {
                until_closed(fd);
            }
        }
    });
}

fn until_closed(fd: OwnedFd) {
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!(stream.read(&mut [0]).expect("the end of the connection"), 0);
}

/// Sends `count` datagrams to the server, each with its address.
pub fn datagrams(count: u32, server: &str) {
    let server = find(server);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
    measured(|| {
        for _ in 0..count {
            socket.send_to(&PAYLOAD, server).expect("sendto");
        }
    });
}

/// Asks a resolver for the address of a name, `count` times: with a `fresh` socket each time, as C libraries do, with a
/// `reused` one, or by way of the C `library`, which also asks for IPv6 addresses.
pub fn questions(count: u32, resolver: &str, name: &str, how: &str) {
    let resolver: SocketAddr = resolver.parse().expect("the resolver's address");
    let fresh = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        socket
    };
    let mut question = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..]].concat();
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("a short label"));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 512];
    let check = |id: [u8; 2], (length, from): (usize, SocketAddr), answer: &[u8]| {
        assert_eq!((from, &answer[..2]), (resolver, &id[..]), "an answer of the resolver's");
        assert!(length > question_length(name) && answer[7] != 0, "an address");
    };
    match how {
        "fresh" => measured(|| {
            for number in 0..count {
                let id = (number as u16).to_be_bytes();
                question[..2].copy_from_slice(&id);
                let socket = fresh();
                socket.connect(resolver).expect("connect");
                socket.send(&question).expect("send");
                let got = socket.recv_from(&mut answer).expect("an answer");
                check(id, got, &answer);
            }
        }),
        "reused" => {
            let socket = fresh();
            measured(|| {
                for number in 0..count {
                    let id = (number as u16).to_be_bytes();
                    question[..2].copy_from_slice(&id);
                    socket.send_to(&question, resolver).expect("sendto");
                    let got = socket.recv_from(&mut answer).expect("an answer");
                    check(id, got, &answer);
                }
            });
        }
        _ => measured(|| (0..count).for_each(|_| _ = find(&format!("{name}:0")))),
    }
}

/// Bytes of a question: header, name, type and class.
fn question_length(name: &str) -> usize {
    12 + name.len() + 2 + 4
}

/// Moves so many bytes between the server and this process, by a request of HTTP.
pub fn transfer(bytes: usize, server: &str, upload: bool) {
    let host = server.split(':').next().unwrap_or_default();
    let mut block = vec![0; BLOCK];
    let mut stream = TcpStream::connect(find(server)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let method = if upload { "PUT" } else { "GET" };
    let length = if upload { format!("Content-Length: {bytes}\r\n") } else { String::new() };
    let head = format!("{method} /{bytes} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n");
    measured(|| {
        stream.write_all(head.as_bytes()).expect("the request");
        if upload {
            write(&mut stream, &block, bytes).expect("the body");
        }
        read_head(&mut stream).expect("the answer's head");
        if !upload {
            read(&mut stream, &mut block, bytes).expect("the body");
        }
    });
}
