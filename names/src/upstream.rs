//! Asks a resolver: each question by a socket of its own, so that who would forge an answer must guess the port as
//! well as the id (RFC 5452, 9.2).
//!
//! Nothing is asked twice: who asked asks again, as he would without the stub.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{RecvFlags, recvfrom};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};

use crate::message::MAX_MESSAGE;

/// So many datagrams that answer something else end the wait: somebody is guessing.
const MAX_WRONG: usize = 64;

/// The buffer for datagrams, which is never borrowed over a wait: all questions share one.
pub(crate) struct Buffer(RefCell<Vec<u8>>);

impl Buffer {
    pub(crate) fn new() -> Buffer {
        Buffer(RefCell::new(vec![0; MAX_MESSAGE]))
    }
}

/// An id that nobody can guess.
pub(crate) fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    // So few bytes come at once or not at all (getrandom(2)).
    getrandom(&mut id[..], GetRandomFlags::empty())?;
    Ok(u16::from_be_bytes(id))
}

/// Asks by UDP, and waits for what `answers` takes for an answer.
pub(crate) async fn by_udp(
    resolver: SocketAddr,
    question: &[u8],
    buffer: &Buffer,
    answers: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    // That nobody is there is told as an error, without data.
    let readable = Interest::READABLE | Interest::ERROR;
    for _ in 0..MAX_WRONG {
        let answer = socket.async_io(readable, || receive(&socket, resolver, buffer)).await?;
        if answers(&answer) {
            return Ok(answer);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many answers to other questions"))
}

/// Takes a datagram; one of somebody else is as good as empty. There may be some that came before the socket was
/// connected.
fn receive(socket: &UdpSocket, resolver: SocketAddr, buffer: &Buffer) -> io::Result<Vec<u8>> {
    let mut buffer = buffer.0.borrow_mut();
    let (length, _, from) = recvfrom(socket, &mut buffer[..], RecvFlags::empty())?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    if from.is_some_and(|from| from.ip() == resolver.ip() && from.port() == resolver.port()) {
        Ok(buffer[..length].to_vec())
    } else {
        Ok(Vec::new())
    }
}

/// Asks by TCP (RFC 7766): one question, one answer.
pub(crate) async fn by_tcp(
    resolver: SocketAddr,
    question: &[u8],
    answers: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_message(&mut stream, question).await?;
    let answer = read_message(&mut stream).await?;
    if answers(&answer) {
        return Ok(answer);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
}

/// Reads a message behind its length (RFC 1035, 4.2.2).
pub(crate) async fn read_message(reader: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(reader.read_u16().await?)];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message behind its length, in one piece (RFC 7766, 8).
pub(crate) async fn write_message(
    writer: &mut (impl AsyncWriteExt + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    writer.write_all(&[&length.to_be_bytes(), message].concat()).await
}
