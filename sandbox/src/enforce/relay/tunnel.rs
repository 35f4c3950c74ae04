//! Two connections as one: bytes go both ways, those of the client's through the reader.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::reader::{Named, Next, Reader};

/// How long nothing may move. Requests to language models wait for minutes, and connections are kept for later.
pub const SILENCE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long nothing may move when the server has said all that it had to say.
const AFTER: Duration = Duration::from_secs(60);
/// How long bytes may wait for the rest of what names a server.
const HELLO: Duration = Duration::from_secs(15);
/// How long an end may take to take what it is sent last.
const FAREWELL: Duration = Duration::from_secs(10);
/// Bytes that are moved at a time.
const PIECE: usize = 32 * 1024;

/// How many bytes went which way.
#[derive(Debug, Default)]
pub struct Moved {
    /// To the server.
    pub out: Cell<u64>,
    /// To the client.
    pub back: Cell<u64>,
}

impl Moved {
    fn add(place: &Cell<u64>, bytes: usize) {
        place.set(place.get() + bytes as u64);
    }

    fn sum(&self) -> u64 {
        self.out.get() + self.back.get()
    }
}

/// Why a tunnel ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Both ends have said all that they had to say, or one is gone.
    Over,
    /// What the client sent was not for the server that it is open for.
    Cut(Named),
}

/// Moves bytes until both have ended. `early` are bytes of the client's that came already; `first` is told the first
/// thing that was read.
pub async fn run(
    client: &mut TcpStream,
    server: &mut TcpStream,
    early: Vec<u8>,
    mut reader: Reader,
    moved: &Moved,
    mut first: impl FnMut(Named),
) -> End {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let out = async {
        let mut buffer = vec![0; PIECE];
        let mut piece = early;
        let mut waits: Option<Instant> = None;
        loop {
            if !piece.is_empty() {
                let next = reader.take(&piece);
                if let Some(named) = reader.take_first() {
                    first(named);
                }
                match next {
                    Next::Cut(named) => return Some(named),
                    Next::Wait => waits = waits.or(Some(Instant::now())),
                    Next::Pass(bytes) => {
                        waits = None;
                        if to_server.write_all(&bytes).await.is_err() {
                            return None;
                        }
                        Moved::add(&moved.out, bytes.len());
                    }
                }
            }
            // What waits for its rest does not wait for ever.
            let read = match waits {
                None => from_client.read(&mut buffer).await,
                Some(since) => tokio::select! {
                    read = from_client.read(&mut buffer) => read,
                    () = sleep_until(since + HELLO) => return reader.end(),
                },
            };
            match read {
                Ok(length @ 1..) => {
                    piece.clear();
                    piece.extend_from_slice(&buffer[..length]);
                }
                Ok(0) => {
                    let unread = reader.end();
                    let _ = to_server.shutdown().await;
                    return unread;
                }
                Err(_) => return None,
            }
        }
    };
    let back = async {
        let _ = copy(&mut from_server, &mut to_client, |length| Moved::add(&moved.back, length)).await;
        let _ = to_client.shutdown().await;
    };
    let both = async {
        tokio::pin!(out, back);
        // The server's end does not end the client's direction; the client's cut ends everything.
        tokio::select! {
            cut = &mut out => match cut {
                Some(named) => End::Cut(named),
                None => { back.await; End::Over }
            },
            () = &mut back => tokio::select! {
                cut = &mut out => cut.map_or(End::Over, End::Cut),
                // Clients keep connections for later, and look only then whether the server has closed them.
                () = silence(moved, AFTER) => End::Over,
            },
        }
    };
    tokio::select! {
        end = both => end,
        () = silence(moved, SILENCE) => End::Over,
    }
}

/// Moves bytes until there are none any more.
pub async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut moved: impl FnMut(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            length => {
                to.write_all(&buffer[..length]).await?;
                moved(length);
            }
        }
    }
}

/// Comes back when nothing has moved for so long, or a little longer.
pub async fn silence(moved: &Moved, time: Duration) {
    let mut before = moved.sum();
    loop {
        sleep_until(Instant::now() + time).await;
        if moved.sum() == before {
            return;
        }
        before = moved.sum();
    }
}

/// Ends a connection so that its other end sees that it was cut.
pub fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger);
}

/// Sends the last words, and waits until the client has closed, so that it reads them.
pub async fn farewell(client: &mut TcpStream, words: &[u8]) {
    let said = async {
        client.write_all(words).await?;
        client.shutdown().await?;
        let mut buffer = [0; 1024];
        while client.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, said).await;
}
