//! The sockets that clients talk to: datagrams, and connections with several questions each (RFC 7766).
//!
//! Nothing here grows with what clients send: datagrams wait in the kernel, connections and the questions that are
//! being asked are counted, and a connection is read no further while its replies are not taken.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket, tcp::OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::gate::{Gate, Transport};
use crate::message::MAX_MESSAGE;
use crate::server::{Client, Next, Server};
use crate::upstream::{read_message, write_message};

/// How long to wait when the system refuses a socket or a packet: it is short of something.
const RETRY: Duration = Duration::from_millis(50);
/// Replies that wait for a connection's client to take them.
const QUEUE: usize = 16;

/// A reply, and the place of its question.
type Reply = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Serves the datagrams of a resolver's clients. Does not end.
pub(crate) async fn datagrams<G: Gate + 'static>(
    server: Rc<Server<G>>,
    socket: UdpSocket,
    resolver: SocketAddr,
) {
    let (socket, mut buffer) = (Rc::new(socket), vec![0; MAX_MESSAGE]);
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            sleep(RETRY).await;
            continue;
        };
        let client = Client { resolver, transport: Transport::Udp, port: peer.port() };
        match server.receive(&buffer[..length], client) {
            Next::Nothing => {}
            // A datagram may be lost, so an error is one that was.
            Next::Reply(reply) => _ = socket.send_to(&reply, peer).await,
            Next::Ask(pending) => {
                let (server, socket) = (Rc::clone(&server), Rc::clone(&socket));
                spawn_local(async move {
                    let (reply, _place) = server.ask(pending, client).await;
                    _ = socket.send_to(&reply, peer).await;
                });
            }
        }
    }
}

/// Serves the connections of a resolver's clients, each in one of the `places`. Does not end.
pub(crate) async fn connections<G: Gate + 'static>(
    server: Rc<Server<G>>,
    listener: TcpListener,
    resolver: SocketAddr,
    places: Arc<Semaphore>,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        // Others wait in the kernel meanwhile. The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let client = Client { resolver, transport: Transport::Tcp, port: peer.port() };
        let server = Rc::clone(&server);
        spawn_local(async move {
            connection(server, stream, client).await;
            drop(place);
        });
    }
}

/// Reads questions until there are no more for a while; answers go out as they come, not in the questions' order.
async fn connection<G: Gate + 'static>(server: Rc<Server<G>>, stream: TcpStream, client: Client) {
    let idle = server.settings.idle;
    // Only how soon a reply arrives hangs on it.
    _ = stream.set_nodelay(true);
    let (mut reader, writer) = stream.into_split();
    let (replies, waiting) = mpsc::channel(QUEUE);
    let writing = spawn_local(write_replies(writer, waiting, idle));
    loop {
        let packet = tokio::select! {
            packet = timeout(idle, read_message(&mut reader)) => packet,
            () = replies.closed() => break,
        };
        let Ok(Ok(packet)) = packet else { break };
        match server.receive(&packet, client) {
            Next::Nothing => {}
            Next::Reply(reply) => {
                if replies.send((reply, None)).await.is_err() {
                    break;
                }
            }
            Next::Ask(pending) => {
                let (server, replies) = (Rc::clone(&server), replies.clone());
                spawn_local(async move {
                    let (reply, place) = server.ask(pending, client).await;
                    // Nobody is there to take it any more, if it fails.
                    _ = replies.send((reply, Some(place))).await;
                });
            }
        }
    }
    // What is being asked is still answered: the client may have closed its own direction only.
    drop(replies);
    _ = writing.await;
}

async fn write_replies(mut writer: OwnedWriteHalf, mut waiting: mpsc::Receiver<Reply>, idle: Duration) {
    while let Some((reply, _place)) = waiting.recv().await {
        if !matches!(timeout(idle, write_message(&mut writer, &reply)).await, Ok(Ok(()))) {
            return;
        }
    }
}
