//! Channels over one WebSocket: each message begins with a channel's number (`v5.channel.k8s.io` and older).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

use crate::Io;
use crate::tunnel::{config, farewell, to_io};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// `[255, n]` says that channel n is finished (version 5).
const CLOSE_SIGNAL: u8 = 255;
/// Channels of a remote command.
pub const REMOTE_COMMAND_CHANNELS: usize = 5;

/// Messages waiting to be written, and waiting for one channel's reader.
const QUEUE: usize = 8;
const CHUNK: usize = 32 * 1024;

/// The versions of the channel protocol, as subprotocols name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// 5: half-close; 4: status as JSON; 1: status as text.
    pub version: u8,
    pub base64: bool,
    pub name: &'static str,
}

/// What a server of remote commands speaks, by preference of the client.
pub const PROTOCOLS: [Protocol; 6] = [
    Protocol { version: 5, base64: false, name: "v5.channel.k8s.io" },
    Protocol { version: 4, base64: false, name: "v4.channel.k8s.io" },
    Protocol { version: 4, base64: true, name: "v4.base64.channel.k8s.io" },
    Protocol { version: 1, base64: false, name: "channel.k8s.io" },
    Protocol { version: 1, base64: true, name: "base64.channel.k8s.io" },
    Protocol { version: 1, base64: false, name: "" },
];

impl Protocol {
    pub const V5: Self = PROTOCOLS[0];

    /// The client's first choice that is known; a client that offers nothing gets version 1.
    pub fn negotiate(offered: &[&str]) -> Option<Self> {
        let offered = if offered.is_empty() { &[""][..] } else { offered };
        offered.iter().find_map(|o| Self::named(o))
    }

    pub fn named(name: &str) -> Option<Self> {
        PROTOCOLS.into_iter().find(|p| p.name == name)
    }
}

/// One end of a WebSocket with channels. Dropping it and all its channels closes the connection.
pub struct Channels {
    readers: Vec<Option<mpsc::Receiver<Bytes>>>,
    outgoing: mpsc::Sender<Bytes>,
    protocol: Protocol,
    stop: CancellationToken,
    guard: Arc<DropGuard>,
}

impl Channels {
    pub async fn client<T: Io>(io: T, protocol: Protocol) -> Self {
        Self::new(io, Role::Client, protocol, REMOTE_COMMAND_CHANNELS).await
    }

    pub async fn server<T: Io>(io: T, protocol: Protocol) -> Self {
        Self::new(io, Role::Server, protocol, REMOTE_COMMAND_CHANNELS).await
    }

    async fn new<T: Io>(io: T, role: Role, protocol: Protocol, count: usize) -> Self {
        let socket = WebSocketStream::from_raw_socket(io, role, Some(config())).await;
        let (sink, source) = socket.split();
        let (senders, readers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(QUEUE)).unzip();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let (control, control_queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(sink, queue, control_queue, protocol, stop.clone()));
        let reading = read(source, senders.into_iter().map(Some).collect(), control, protocol);
        let reader_stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = reading => {}
                () = reader_stop.cancelled() => {}
            }
            reader_stop.cancel();
        });
        Self {
            readers: readers.into_iter().map(Some).collect(),
            outgoing,
            protocol,
            guard: Arc::new(stop.clone().drop_guard()),
            stop,
        }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What comes in on a channel. Messages of channels nobody reads are dropped.
    ///
    /// # Panics
    /// When a channel is taken twice: each has one reader.
    pub fn reader(&mut self, channel: u8) -> ChannelReader {
        let incoming = self.readers[channel as usize].take().expect("a channel has one reader");
        ChannelReader { incoming, current: Bytes::new(), _guard: self.guard.clone() }
    }

    pub fn writer(&self, channel: u8) -> ChannelWriter {
        ChannelWriter {
            channel,
            outgoing: PollSender::new(self.outgoing.clone()),
            half_close: self.protocol.version >= 5,
            closed: false,
            _guard: self.guard.clone(),
        }
    }

    /// Waits until the peer has closed the connection, or it broke.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let stop = self.stop.clone();
        async move { stop.cancelled().await }
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

async fn read<T: Io>(
    mut source: SplitStream<WebSocketStream<T>>,
    mut channels: Vec<Option<mpsc::Sender<Bytes>>>,
    control: mpsc::Sender<Message>,
    protocol: Protocol,
) {
    while let Some(message) = source.next().await {
        let message = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Close(_)) => return,
            Ok(Message::Ping(_)) => {
                // The answer is already queued in the socket; a flush sends it.
                let _ = control.try_send(Message::Pong(Bytes::new()));
                continue;
            }
            Ok(_) => continue,
            Err(e) => {
                tracing::debug!(error = %e, "WebSocket ended");
                return;
            }
        };
        let Some((channel, payload)) = decode(message, protocol) else {
            tracing::debug!("a WebSocket message without a known channel");
            continue;
        };
        if channel == CLOSE_SIGNAL {
            if let Some(slot) = payload.first().and_then(|n| channels.get_mut(*n as usize)) {
                *slot = None;
            }
            continue;
        }
        let Some(slot) = channels.get_mut(channel as usize) else { continue };
        if let Some(to) = slot
            && !payload.is_empty()
            && to.send(payload).await.is_err()
        {
            *slot = None;
        }
    }
}

fn decode(mut message: Bytes, protocol: Protocol) -> Option<(u8, Bytes)> {
    if message.is_empty() {
        return None;
    }
    let channel = message.get_u8();
    if !protocol.base64 {
        return Some((channel, message));
    }
    // In base64 protocols the channel is a digit.
    let channel = channel.checked_sub(b'0')?;
    Some((channel, STANDARD.decode(&message).ok()?.into()))
}

fn encode(channel: u8, payload: &[u8], protocol: Protocol) -> Message {
    if protocol.base64 {
        return Message::Text(format!("{channel}{}", STANDARD.encode(payload)).into());
    }
    let mut out = BytesMut::with_capacity(payload.len() + 1);
    out.put_u8(channel);
    out.extend_from_slice(payload);
    Message::Binary(out.freeze())
}

async fn write<T: Io>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    mut queue: mpsc::Receiver<Bytes>,
    mut control: mpsc::Receiver<Message>,
    protocol: Protocol,
    stop: CancellationToken,
) {
    let send = async {
        loop {
            tokio::select! {
                biased;
                Some(_) = control.recv() => sink.flush().await.map_err(to_io)?,
                // Without writers left the connection stands until the last reader goes, too.
                Some(m) = queue.recv() => sink.send(encode(m[0], &m[1..], protocol)).await.map_err(to_io)?,
                () = stop.cancelled() => break,
            }
        }
        while let Ok(m) = queue.try_recv() {
            sink.send(encode(m[0], &m[1..], protocol)).await.map_err(to_io)?;
        }
        sink.send(farewell()).await.map_err(to_io)?;
        sink.close().await.map_err(to_io)
    };
    let grace = async {
        stop.cancelled().await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let ended: io::Result<()> = tokio::select! {
        ended = send => ended,
        late = grace => late,
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "WebSocket ended");
    }
    stop.cancel();
}

/// What comes in on one channel; ends at the peer's close signal or the end of the connection.
#[derive(Debug)]
pub struct ChannelReader {
    incoming: mpsc::Receiver<Bytes>,
    current: Bytes,
    _guard: Arc<DropGuard>,
}

impl AsyncRead for ChannelReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.incoming.poll_recv(cx)) {
                Some(bytes) => self.current = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..n]);
        self.current.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// What goes out on one channel. `shutdown` sends the close signal where the protocol has one.
pub struct ChannelWriter {
    channel: u8,
    outgoing: PollSender<Bytes>,
    half_close: bool,
    closed: bool,
    _guard: Arc<DropGuard>,
}

impl std::fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelWriter").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl ChannelWriter {
    /// Sends an empty message: tells clients that the connection stands.
    pub async fn announce(&mut self) -> io::Result<()> {
        let message = Bytes::copy_from_slice(&[self.channel]);
        let sender = self.outgoing.get_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        sender.send(message).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, channel: u8, payload: &[u8]) -> Poll<io::Result<()>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| gone())?;
        let mut message = BytesMut::with_capacity(payload.len() + 1);
        message.put_u8(channel);
        message.extend_from_slice(payload);
        Poll::Ready(self.outgoing.send_item(message.freeze()).map_err(|_| gone()))
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = buf.len().min(CHUNK);
        let channel = self.channel;
        ready!(self.poll_send(cx, channel, &buf[..n]))?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.half_close && !self.closed {
            let channel = self.channel;
            // A connection that is gone is closed as well.
            let _ = ready!(self.poll_send(cx, CLOSE_SIGNAL, &[channel]));
        }
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn negotiation() {
        for (offered, want) in [
            (&["v5.channel.k8s.io", "v4.channel.k8s.io"][..], Some("v5.channel.k8s.io")),
            (&["x", "v4.channel.k8s.io"], Some("v4.channel.k8s.io")),
            (&["base64.channel.k8s.io"], Some("base64.channel.k8s.io")),
            (&[], Some("")),
            (&["x"], None),
        ] {
            assert_eq!(Protocol::negotiate(offered).map(|p| p.name), want);
        }
    }

    #[tokio::test]
    async fn channels_carry_data_both_ways() {
        for protocol in PROTOCOLS {
            let (a, b) = tokio::io::duplex(4096);
            let (mut client, mut server) = tokio::join!(Channels::client(a, protocol), Channels::server(b, protocol));
            let mut stdin = server.reader(STDIN);
            let mut stdout = server.writer(STDOUT);
            let serving = tokio::spawn(async move {
                let mut got = vec![0; 100_000];
                stdin.read_exact(&mut got).await.unwrap();
                stdout.announce().await.unwrap();
                stdout.write_all(&got).await.unwrap();
                if protocol.version >= 5 {
                    assert_eq!(stdin.read(&mut got).await.unwrap(), 0, "the client closed its stdin");
                }
            });
            let mut writer = client.writer(STDIN);
            writer.write_all(&vec![9; 100_000]).await.unwrap();
            writer.shutdown().await.unwrap();
            drop(writer);
            let mut got = Vec::new();
            client.reader(STDOUT).take(100_000).read_to_end(&mut got).await.unwrap();
            assert_eq!(got.len(), 100_000, "{protocol:?}");
            serving.await.unwrap();
            let closed = client.closed();
            drop(server);
            tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.unwrap();
        }
    }
}
