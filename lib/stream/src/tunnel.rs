//! Bytes through WebSocket messages: SPDY inside a WebSocket (`SPDY/3.1+portforward.k8s.io`), logs over WebSocket, and
//! plain pass-through between two connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::{Sink, SinkExt, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::Io;

/// Prefix of WebSocket subprotocols that carry SPDY.
pub const SPDY_PREFIX: &str = "SPDY/3.1+";
/// One message; clients send at most some tens of kilobytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is written in one message.
const CHUNK: usize = 32 * 1024;
/// An end that is neither read nor written for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .write_buffer_size(0)
        .max_write_buffer_size(4 * 1024 * 1024)
}

pub(crate) fn to_io(e: tungstenite::Error) -> io::Error {
    match e {
        tungstenite::Error::Io(e) => e,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

/// The goodbye that clients take for a success; without a code Go's complain.
pub(crate) fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// A WebSocket as a pipe of bytes: every write is a binary message, message borders mean nothing.
#[derive(Debug)]
pub struct Tunnel<T> {
    socket: WebSocketStream<T>,
    current: Bytes,
    ended: bool,
    closing: bool,
}

impl<T: Io> Tunnel<T> {
    pub async fn client(io: T) -> Self {
        Self::new(io, Role::Client).await
    }

    pub async fn server(io: T) -> Self {
        Self::new(io, Role::Server).await
    }

    async fn new(io: T, role: Role) -> Self {
        let socket = WebSocketStream::from_raw_socket(io, role, Some(config())).await;
        Self { socket, current: Bytes::new(), ended: false, closing: false }
    }
}

impl<T: Io> AsyncRead for Tunnel<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.current = bytes,
                Some(Ok(Message::Text(_))) => {
                    let e = io::Error::new(io::ErrorKind::InvalidData, "a tunnel carries binary messages only");
                    return Poll::Ready(Err(e));
                }
                Some(Ok(Message::Close(_))) | None => self.ended = true,
                Some(Ok(_)) => {}
                Some(Err(e)) => {
                    self.ended = true;
                    match to_io(e) {
                        e if e.kind() == io::ErrorKind::BrokenPipe => {}
                        e => return Poll::Ready(Err(e)),
                    }
                }
            }
        }
        let n = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..n]);
        self.current.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<T: Io> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(to_io)?;
        let n = buf.len().min(CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&buf[..n]));
        Pin::new(&mut self.socket).start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            match ready!(Pin::new(&mut self.socket).poll_ready(cx)) {
                Ok(()) => {
                    self.closing = true;
                    // The peer may have closed first.
                    let _ = Pin::new(&mut self.socket).start_send(farewell());
                }
                Err(_) => self.closing = true,
            }
        }
        match ready!(Pin::new(&mut self.socket).poll_close(cx)).map_err(to_io) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// Copies bytes both ways until both ends are done, or nothing has moved for hours.
pub async fn pass_through<A: Io, B: Io>(mut a: A, mut b: B) -> io::Result<()> {
    let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut ar, mut aw) = tokio::io::split(&mut a);
    let (mut br, mut bw) = tokio::io::split(&mut b);
    let forth = copy(&mut ar, &mut bw, &mut buffers.0);
    let back = copy(&mut br, &mut aw, &mut buffers.1);
    tokio::pin!(forth, back);
    // When the backend is done the client has nothing left to say; the other way round it may still listen.
    tokio::select! {
        done = &mut back => done,
        done = &mut forth => {
            done?;
            back.await
        }
    }
}

async fn copy<R, W>(from: &mut R, to: &mut W, buffer: &mut [u8]) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    use tokio::io::AsyncWriteExt;
    loop {
        let n = tokio::time::timeout(IDLE_TIMEOUT, from.read(buffer)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..n]).await?;
        to.flush().await?;
    }
}

/// How a plain stream of text is put into messages (`pods/log` over a WebSocket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Binary,
    Base64,
}

impl Framing {
    /// The first of the offered subprotocols that is known; none offered is plain binary.
    pub fn negotiate<'p>(offered: &[&'p str]) -> Option<(Self, &'p str)> {
        if offered.is_empty() {
            return Some((Self::Binary, ""));
        }
        offered.iter().find_map(|p| match *p {
            "" | "binary.k8s.io" => Some((Self::Binary, *p)),
            "base64.binary.k8s.io" => Some((Self::Base64, *p)),
            _ => None,
        })
    }
}

/// Sends a stream as messages and closes in order at its end; stops when the client goes.
pub async fn send_all<T: Io>(io: T, mut from: impl AsyncRead + Unpin, framing: Framing) -> io::Result<()> {
    use base64::Engine as _;
    use futures::StreamExt as _;
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    let (mut sink, mut source) = socket.split();
    let gone = async {
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    let send = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = from.read(&mut buffer).await?;
            if n == 0 {
                return sink.send(farewell()).await.map_err(to_io);
            }
            let message = match framing {
                Framing::Binary => Message::Binary(Bytes::copy_from_slice(&buffer[..n])),
                Framing::Base64 => Message::Text(base64::engine::general_purpose::STANDARD.encode(&buffer[..n]).into()),
            };
            sink.send(message).await.map_err(to_io)?;
        }
    };
    tokio::pin!(gone, send);
    let sent = tokio::select! {
        () = &mut gone => return Ok(()),
        sent = &mut send => sent,
    };
    sent?;
    // The client answers the close.
    let _ = tokio::time::timeout(Duration::from_secs(2), gone).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn bytes_survive_the_tunnel() {
        let (a, b) = tokio::io::duplex(4096);
        let (mut client, mut server) = tokio::join!(Tunnel::client(a), Tunnel::server(b));
        let sent: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let want = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == want);
        drop(server);
        tokio::time::timeout(Duration::from_secs(5), writer).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn spdy_through_a_websocket() {
        let (a, b) = tokio::io::duplex(64 * 1024);
        let (client, server) = tokio::join!(Tunnel::client(a), Tunnel::server(b));
        let client = crate::spdy::Session::new(client, crate::spdy::Config::client()).unwrap();
        let server = crate::spdy::Session::new(server, crate::spdy::Config::server()).unwrap();
        let mut ours = client.open(&[("port", "80")]).await.unwrap();
        let mut theirs = server.accept().await.unwrap();
        theirs.write_all(b"hello").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut got = String::new();
        ours.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "hello");
    }

    #[tokio::test]
    async fn pass_through_ends_with_the_backend() {
        let (client, front) = tokio::io::duplex(1024);
        let (back, mut backend) = tokio::io::duplex(1024);
        let passing = tokio::spawn(pass_through(front, back));
        let (mut r, mut w) = tokio::io::split(client);
        w.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        backend.read_exact(&mut got).await.unwrap();
        backend.write_all(b"pong").await.unwrap();
        drop(backend);
        let mut all = String::new();
        r.read_to_string(&mut all).await.unwrap();
        assert_eq!((&got[..], all.as_str()), (&b"ping"[..], "pong"));
        passing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn logs_are_sent_as_messages() {
        use futures::StreamExt as _;
        let (a, b) = tokio::io::duplex(1024);
        let sending = tokio::spawn(send_all(b, &b"one\ntwo\n"[..], Framing::Base64));
        let mut client = WebSocketStream::from_raw_socket(a, Role::Client, None).await;
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Text("b25lCnR3bwo=".into()));
        assert!(client.next().await.unwrap().unwrap().is_close());
        // Reading on answers the close.
        assert!(client.next().await.is_none());
        sending.await.unwrap().unwrap();
        assert_eq!(Framing::negotiate(&["x", "binary.k8s.io"]), Some((Framing::Binary, "binary.k8s.io")));
        assert_eq!(Framing::negotiate(&["x"]), None);
    }
}
