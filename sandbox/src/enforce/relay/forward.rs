//! A plain request of HTTP/1 on its way to a server, and the answer on its way back: one of each, then both connections
//! end.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::body::Body;
use super::http::request::Forward;
use super::http::{Fault, response};
use super::tunnel::{Moved, SILENCE, silence};

/// Bytes that are moved at a time.
const PIECE: usize = 32 * 1024;

/// Why an exchange ended too early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client's body is none.
    #[error("the request's body: {0}")]
    Request(Fault),
    /// The server's answer is none.
    #[error("the server's answer: {0}")]
    Answer(Fault),
    /// One end is gone.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Sends the request, and then the answer. `early` are bytes of the body that came already; `answered` says whether the
/// client has seen something of an answer.
///
/// # Errors
/// It ended too early.
pub async fn run(
    client: &mut TcpStream,
    server: &mut TcpStream,
    forward: Forward,
    early: &[u8],
    moved: &Moved,
    answered: &std::cell::Cell<bool>,
) -> Result<(), Broken> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let is_head = forward.is_head;
    let sending = async {
        to_server.write_all(&forward.head).await?;
        moved.out.set(moved.out.get() + forward.head.len() as u64);
        let mut body = forward.body;
        let mut buffer = vec![0; PIECE];
        let mut piece = early.to_vec();
        loop {
            // What follows the body is no part of the request, and goes nowhere.
            let taken = body.take(&piece).map_err(Broken::Request)?;
            to_server.write_all(&piece[..taken]).await?;
            moved.out.set(moved.out.get() + taken as u64);
            if body.is_over() {
                return Ok(());
            }
            match from_client.read(&mut buffer).await? {
                0 => return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
                length => {
                    piece.clear();
                    piece.extend_from_slice(&buffer[..length]);
                }
            }
        }
    };
    let receiving = async {
        let mut held = Vec::new();
        let mut buffer = vec![0; PIECE];
        let mut body = loop {
            match response::read(&held, is_head).map_err(Broken::Answer)? {
                Some((answer, length)) => {
                    to_client.write_all(&answer.head).await?;
                    answered.set(true);
                    moved.back.set(moved.back.get() + answer.head.len() as u64);
                    held.drain(..length);
                    if !answer.interim {
                        break answer.body;
                    }
                }
                None => match from_server.read(&mut buffer).await? {
                    0 => return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
                    length => held.extend_from_slice(&buffer[..length]),
                },
            }
        };
        loop {
            let taken = body.take(&held).map_err(Broken::Answer)?;
            to_client.write_all(&held[..taken]).await?;
            moved.back.set(moved.back.get() + taken as u64);
            if body.is_over() {
                return Ok(());
            }
            match from_server.read(&mut buffer).await? {
                0 if body == Body::UntilClose => return Ok(()),
                0 => return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
                length => {
                    held.clear();
                    held.extend_from_slice(&buffer[..length]);
                }
            }
        }
    };
    let both = async {
        tokio::pin!(sending, receiving);
        // A server may answer before it has the whole request; then the rest is nobody's any more.
        tokio::select! {
            received = &mut receiving => received,
            sent = &mut sending => match sent {
                Ok(()) => receiving.await,
                // What the server says about it comes first, where it says something.
                Err(Broken::Io(error)) => match receiving.await {
                    Ok(()) => Ok(()),
                    Err(_) => Err(Broken::Io(error)),
                },
                Err(broken) => Err(broken),
            },
        }
    };
    tokio::select! {
        done = both => done,
        () = silence(moved, SILENCE) => Err(Broken::Io(io::ErrorKind::TimedOut.into())),
    }
}
