//! A session: one task reads frames and hands data to streams, one writes what streams and the session send.
//!
//! All queues are bounded. A stream whose reader is slow stops the reading task, and with it the whole session, as in
//! Go's SPDY: TCP then slows the peer down.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{
    Decoder, Encoder, Frame, HEAD_LEN, Head, SETTINGS_INITIAL_WINDOW, STATUS_PROTOCOL_ERROR, STATUS_REFUSED_STREAM,
};
use super::headers::Headers;
use super::stream::{Ends, Stream, WINDOW_STEP};
use super::window::{INITIAL, Peer, Window};

/// Streams open at the same time.
const STREAMS_MAX: usize = 512;
/// Data frames waiting to be written.
const DATA_QUEUE: usize = 16;
/// Replies, resets, pings and window updates waiting to be written. A peer that makes us owe more is dropped.
const CONTROL_QUEUE: usize = 2048;
/// Pieces of data waiting for one stream's reader.
const STREAM_QUEUE: usize = 8;
/// Streams the peer opened that nobody has accepted.
const ACCEPT_QUEUE: usize = 64;
/// Data frames are handed on in pieces of this size.
const READ_CHUNK: usize = 32 * 1024;
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which end opened the connection; its streams have odd numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub role: Role,
    /// How often to send a PING, so that nothing on the way takes the connection for dead.
    pub ping: Option<Duration>,
}

impl Config {
    pub fn client() -> Self {
        Self { role: Role::Client, ping: Some(Duration::from_secs(5)) }
    }

    pub fn server() -> Self {
        Self { role: Role::Server, ping: None }
    }
}

/// What streams share with the session's tasks.
pub(super) struct Shared {
    pub(super) data: mpsc::Sender<Frame>,
    control: mpsc::Sender<Frame>,
    pub(super) peer: Peer,
    pub(super) window: Window,
    streams: Mutex<HashMap<u32, Entry>>,
    /// Bytes consumed by all streams since the session's window was last opened.
    consumed: AtomicU32,
    stop: CancellationToken,
}

struct Entry {
    /// Absent once the peer finished.
    incoming: Option<mpsc::Sender<Bytes>>,
    reply: Option<oneshot::Sender<()>>,
    ends: Arc<Ends>,
    orphan: bool,
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a small frame without waiting.
    pub(super) fn control(&self, frame: Frame) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.control.try_send(frame) {
            tracing::debug!("SPDY peer does not read; dropping the connection");
            self.stop.cancel();
        }
    }

    /// Opens the session's window again after so many bytes were consumed, or thrown away.
    pub(super) fn count(&self, bytes: usize) {
        let consumed = self.consumed.fetch_add(bytes as u32, Ordering::AcqRel) + bytes as u32;
        if consumed >= WINDOW_STEP {
            let delta = self.consumed.swap(0, Ordering::AcqRel);
            if delta > 0 {
                self.control(Frame::WindowUpdate { id: 0, delta });
            }
        }
    }

    pub(super) fn forget(&self, id: u32) {
        self.streams().remove(&id);
    }

    /// Nobody reads the stream any more; it is forgotten once the peer finished it.
    pub(super) fn orphan(&self, id: u32) {
        let mut streams = self.streams();
        match streams.get_mut(&id) {
            Some(entry) if !entry.ends.finished.load(Ordering::Acquire) => entry.orphan = true,
            _ => {
                streams.remove(&id);
            }
        }
    }

    /// The peer sends no more on this stream.
    fn finish(&self, id: u32, reset: bool) {
        let mut streams = self.streams();
        if let Some(entry) = streams.get_mut(&id) {
            if reset {
                entry.ends.reset.store(true, Ordering::Release);
                entry.ends.window.grow(i64::from(INITIAL));
                entry.reply = None;
            }
            entry.ends.finished.store(true, Ordering::Release);
            entry.incoming = None;
            if entry.orphan {
                streams.remove(&id);
            }
        }
    }

    fn new_ends(&self) -> Arc<Ends> {
        Arc::new(Ends {
            window: Window::new(self.peer.initial()),
            finished: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        })
    }
}

/// A SPDY connection. When the last handle and the last stream are gone it is closed in order.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    next_id: Arc<tokio::sync::Mutex<u32>>,
    accepted: Arc<tokio::sync::Mutex<mpsc::Receiver<Stream>>>,
    guard: Arc<DropGuard>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Session {
    /// Starts a session on an upgraded connection.
    ///
    /// # Errors
    /// Only when the compression state cannot be set up.
    pub fn new<T>(io: T, config: Config) -> io::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (decoder, encoder) = (Decoder::new()?, Encoder::new()?);
        let (data, data_queue) = mpsc::channel(DATA_QUEUE);
        let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
        let (accept, accepted) = mpsc::channel(ACCEPT_QUEUE);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            data,
            control,
            peer: Peer::default(),
            window: Window::new(INITIAL),
            streams: Mutex::new(HashMap::new()),
            consumed: AtomicU32::new(0),
            stop: stop.clone(),
        });
        let (read_half, write_half) = tokio::io::split(io);
        let guard = Arc::new(stop.clone().drop_guard());
        let reader = Reader {
            io: read_half,
            decoder,
            role: config.role,
            shared: shared.clone(),
            guard: Arc::downgrade(&guard),
            accept,
            last: 0,
        };
        tokio::spawn(async move {
            let shared = reader.shared.clone();
            let ended = tokio::select! {
                () = shared.stop.cancelled() => Ok(()),
                ended = reader.run() => ended,
            };
            if let Err(e) = ended {
                tracing::debug!(error = %e, "SPDY connection ended");
            }
            // Readers of streams see the end; what the peer finished in order stays so.
            shared.streams().clear();
            shared.stop.cancel();
        });
        let writer = Writer { io: write_half, encoder, data: data_queue, control: control_queue, stop };
        tokio::spawn(writer.run(config));
        Ok(Self {
            shared,
            next_id: Arc::new(tokio::sync::Mutex::new(if config.role == Role::Client { 1 } else { 2 })),
            accepted: Arc::new(tokio::sync::Mutex::new(accepted)),
            guard,
        })
    }

    /// Opens a stream and waits until the peer accepted it.
    pub async fn open(&self, headers: &[(&str, &str)]) -> io::Result<Stream> {
        let headers: Headers = headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), (*v).to_owned())).collect();
        let (reply, replied) = oneshot::channel();
        let stream = {
            // Numbers must reach the peer in order.
            let mut next = self.next_id.lock().await;
            let id = *next;
            if id > 0x7fff_ff00 {
                return Err(io::Error::other("the SPDY connection has no stream numbers left"));
            }
            *next += 2;
            let ends = self.shared.new_ends();
            let (incoming, queue) = mpsc::channel(STREAM_QUEUE);
            {
                let mut streams = self.shared.streams();
                if streams.len() >= STREAMS_MAX {
                    return Err(io::Error::other("too many SPDY streams"));
                }
                streams.insert(id, Entry { incoming: Some(incoming), reply: Some(reply), ends: ends.clone(), orphan: false });
            }
            let ends = (ends, self.guard.clone());
            let stream = Stream::new(id, headers.clone(), self.shared.clone(), ends, queue, false);
            let syn = Frame::SynStream { id, fin: false, unidirectional: false, headers };
            let lost = || io::Error::new(io::ErrorKind::ConnectionAborted, "the SPDY connection is closed");
            tokio::select! {
                () = self.shared.stop.cancelled() => return Err(lost()),
                sent = self.shared.data.send(syn) => sent.map_err(|_| lost())?,
            }
            stream
        };
        match tokio::time::timeout(OPEN_TIMEOUT, replied).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the peer refused the stream")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not answer a new stream")),
        }
    }

    /// The next stream the peer opened; `None` when the connection is closed.
    pub async fn accept(&self) -> Option<Stream> {
        let mut accepted = self.accepted.lock().await;
        tokio::select! {
            biased;
            stream = accepted.recv() => stream,
            () = self.shared.stop.cancelled() => accepted.try_recv().ok(),
        }
    }

    /// Ends the connection; what is queued is still written.
    pub fn close(&self) {
        self.shared.stop.cancel();
    }

    pub fn is_closed(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Waits until the connection is closed, by either side.
    pub async fn closed(&self) {
        self.shared.stop.cancelled().await;
    }
}

struct Reader<R> {
    io: R,
    decoder: Decoder,
    role: Role,
    shared: Arc<Shared>,
    /// Gone when nobody uses the session any more.
    guard: Weak<DropGuard>,
    accept: mpsc::Sender<Stream>,
    /// Highest number of a stream the peer opened.
    last: u32,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(mut self) -> io::Result<()> {
        let mut body = Vec::new();
        loop {
            let mut head = [0; HEAD_LEN];
            match self.io.read_exact(&mut head).await {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            }
            match Head::parse(head)? {
                Head::Data { id, fin, len } => self.data(id, fin, len).await?,
                Head::Control { kind, flags, len } => {
                    body.resize(len, 0);
                    self.io.read_exact(&mut body).await?;
                    let frame = self.decoder.control(kind, flags, &body)?;
                    if let Frame::GoAway { .. } = frame {
                        return Ok(());
                    }
                    self.control(frame);
                }
            }
        }
    }

    async fn data(&mut self, id: u32, fin: bool, mut len: usize) -> io::Result<()> {
        let to = self.shared.streams().get(&id).and_then(|e| e.incoming.clone());
        while len > 0 {
            let n = len.min(READ_CHUNK);
            let mut piece = BytesMut::zeroed(n);
            self.io.read_exact(&mut piece).await?;
            len -= n;
            // What nobody reads any more is dropped.
            let handed_on = match &to {
                Some(to) => to.send(piece.freeze()).await.is_ok(),
                None => false,
            };
            if !handed_on {
                self.shared.count(n);
            }
        }
        if fin {
            self.shared.finish(id, false);
        }
        Ok(())
    }

    fn control(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream { id, fin, headers, unidirectional } => self.opened(id, fin, unidirectional, headers),
            Frame::SynReply { id, fin, .. } => {
                if let Some(reply) = self.shared.streams().get_mut(&id).and_then(|e| e.reply.take()) {
                    // The opener may have given up.
                    let _ = reply.send(());
                }
                if fin {
                    self.shared.finish(id, false);
                }
            }
            Frame::RstStream { id, .. } => self.shared.finish(id, true),
            Frame::Headers { id, fin, .. } => {
                if fin {
                    self.shared.finish(id, false);
                }
            }
            Frame::Ping(id) => {
                // Those of our own parity are answers to ours.
                let theirs = (id % 2 == 1) == (self.role == Role::Server);
                if theirs {
                    self.shared.control(Frame::Ping(id));
                }
            }
            Frame::Settings(entries) => {
                for (_, size) in entries.into_iter().filter(|(id, _)| *id == SETTINGS_INITIAL_WINDOW) {
                    let change = self.shared.peer.set_initial(size.min(0x7fff_ffff));
                    self.shared.streams().values().for_each(|e| e.ends.window.grow(change));
                }
            }
            Frame::WindowUpdate { id, delta } => {
                self.shared.peer.has_windows();
                if id == 0 {
                    self.shared.window.grow(i64::from(delta));
                } else if let Some(entry) = self.shared.streams().get(&id) {
                    entry.ends.window.grow(i64::from(delta));
                }
            }
            Frame::Unknown(_) | Frame::GoAway { .. } | Frame::Data { .. } => {}
        }
    }

    fn opened(&mut self, id: u32, fin: bool, unidirectional: bool, headers: Headers) {
        let theirs = (id % 2 == 1) == (self.role == Role::Server);
        if !theirs || id <= self.last {
            self.shared.control(Frame::RstStream { id, status: STATUS_PROTOCOL_ERROR });
            return;
        }
        self.last = id;
        let ends = self.shared.new_ends();
        let (incoming, queue) = mpsc::channel(STREAM_QUEUE);
        ends.finished.store(fin, Ordering::Release);
        let full = {
            let mut streams = self.shared.streams();
            let full = streams.len() >= STREAMS_MAX;
            if !full {
                let incoming = (!fin).then_some(incoming);
                streams.insert(id, Entry { incoming, reply: None, ends: ends.clone(), orphan: false });
            }
            full
        };
        match (self.accept.try_reserve(), self.guard.upgrade()) {
            (Ok(permit), Some(guard)) if !full => {
                self.shared.control(Frame::SynReply { id, fin: false, headers: Headers::new() });
                permit.send(Stream::new(id, headers, self.shared.clone(), (ends, guard), queue, unidirectional));
            }
            _ => {
                self.shared.forget(id);
                self.shared.control(Frame::RstStream { id, status: STATUS_REFUSED_STREAM });
            }
        }
    }
}

struct Writer<W> {
    io: W,
    encoder: Encoder,
    data: mpsc::Receiver<Frame>,
    control: mpsc::Receiver<Frame>,
    stop: CancellationToken,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(mut self, config: Config) {
        if let Err(e) = self.write_all(config).await {
            tracing::debug!(error = %e, "SPDY connection lost");
        }
        self.stop.cancel();
        // Senders see that nobody writes any more.
        self.data.close();
        self.control.close();
        let farewell = async {
            let mut out = BytesMut::new();
            while let Ok(frame) = self.control.try_recv() {
                self.encoder.encode(&frame, &mut out)?;
            }
            while let Ok(frame) = self.data.try_recv() {
                self.encoder.encode(&frame, &mut out)?;
            }
            self.encoder.encode(&Frame::GoAway { last: 0, status: 0 }, &mut out)?;
            self.io.write_all(&out).await?;
            self.io.shutdown().await
        };
        // The peer may be gone already.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
    }

    async fn write_all(&mut self, config: Config) -> io::Result<()> {
        let mut ping_id = if config.role == Role::Client { 1u32 } else { 2 };
        let period = config.ping.unwrap_or(Duration::from_secs(3600));
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut out = BytesMut::with_capacity(64 * 1024);
        loop {
            let frame = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                Some(frame) = self.control.recv() => frame,
                Some(frame) = self.data.recv() => frame,
                _ = ping.tick(), if config.ping.is_some() => {
                    let id = ping_id;
                    ping_id = ping_id.wrapping_add(2);
                    Frame::Ping(id)
                }
                else => return Ok(()),
            };
            self.encoder.encode(&frame, &mut out)?;
            while out.len() < 64 * 1024 {
                let next = self.control.try_recv().or_else(|_| self.data.try_recv());
                let Ok(frame) = next else { break };
                self.encoder.encode(&frame, &mut out)?;
            }
            // A peer that stops reading must not keep a session alive that was told to stop.
            tokio::select! {
                written = self.io.write_all(&out) => written?,
                () = cancelled_for(&self.stop, CLOSE_TIMEOUT) => return Err(io::ErrorKind::TimedOut.into()),
            }
            self.io.flush().await?;
            out.clear();
        }
    }
}

async fn cancelled_for(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Session, Session) {
        let (a, b) = tokio::io::duplex(64 * 1024);
        (Session::new(a, Config::client()).unwrap(), Session::new(b, Config::server()).unwrap())
    }

    #[tokio::test]
    async fn streams_carry_data_both_ways() {
        let (client, server) = pair();
        let echo = tokio::spawn(async move {
            while let Some(mut stream) = server.accept().await {
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    all.extend_from_slice(stream.header("port").unwrap_or("none").as_bytes());
                    stream.write_all(&all).await.unwrap();
                    stream.shutdown().await.unwrap();
                });
            }
        });
        for port in ["80", "443"] {
            let mut stream = client.open(&[("streamType", "data"), ("Port", port)]).await.unwrap();
            let sent = vec![b'x'; 300_000];
            let (mut r, mut w) = tokio::io::split(&mut stream);
            let (_, got) = tokio::join!(
                async {
                    w.write_all(&sent).await.unwrap();
                    w.shutdown().await.unwrap();
                },
                async {
                    let mut got = Vec::new();
                    r.read_to_end(&mut got).await.unwrap();
                    got
                }
            );
            assert_eq!(got.len(), sent.len() + port.len());
            assert!(got.ends_with(port.as_bytes()));
        }
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), echo).await.expect("the peer sees the end").unwrap();
    }

    #[tokio::test]
    async fn a_dropped_stream_is_reset() {
        let (client, server) = pair();
        let mut stream = client.open(&[]).await.unwrap();
        let theirs = server.accept().await.unwrap();
        drop(theirs);
        let mut buf = Vec::new();
        assert_eq!(stream.read_to_end(&mut buf).await.unwrap(), 0);
        assert!(stream.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn a_lost_connection_is_an_error() {
        let (a, b) = tokio::io::duplex(1024);
        let client = Session::new(a, Config::client()).unwrap();
        let server = Session::new(b, Config::server()).unwrap();
        let mut stream = client.open(&[]).await.unwrap();
        let _theirs = server.accept().await.unwrap();
        server.close();
        let mut buf = Vec::new();
        let e = stream.read_to_end(&mut buf).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionAborted);
        client.closed().await;
        assert!(client.open(&[]).await.is_err());
    }

    #[tokio::test]
    async fn garbage_ends_the_session() {
        let (a, mut b) = tokio::io::duplex(1024);
        let session = Session::new(a, Config::server()).unwrap();
        b.write_all(b"GET / HTTP/1.1\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff").await.unwrap();
        drop(b);
        tokio::time::timeout(Duration::from_secs(5), session.closed()).await.unwrap();
        assert!(session.accept().await.is_none());
    }

    #[tokio::test]
    async fn the_peers_window_is_obeyed_once_it_has_one() {
        let (a, b) = tokio::io::duplex(1 << 20);
        let client = Session::new(a, Config { role: Role::Client, ping: None }).unwrap();
        let (mut r, mut w) = tokio::io::split(b);
        // A peer by hand: a small window, one stream accepted.
        let (mut encoder, mut wire) = (Encoder::new().unwrap(), BytesMut::new());
        encoder.encode(&Frame::Settings(vec![(SETTINGS_INITIAL_WINDOW, 10)]), &mut wire).unwrap();
        encoder.encode(&Frame::SynReply { id: 1, fin: false, headers: Headers::new() }, &mut wire).unwrap();
        let open = client.open(&[]);
        let mut stream = {
            tokio::pin!(open);
            let mut head = [0; 8];
            tokio::select! {
                _ = &mut open => panic!("nobody answered yet"),
                got = r.read_exact(&mut head) => { got.unwrap(); }
            }
            w.write_all(&wire).await.unwrap();
            open.await.unwrap()
        };
        let writing = tokio::spawn(async move {
            stream.write_all(&[7; 25]).await.unwrap();
            stream
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!writing.is_finished(), "only 10 bytes may go");
        wire.clear();
        encoder.encode(&Frame::WindowUpdate { id: 1, delta: 100 }, &mut wire).unwrap();
        w.write_all(&wire).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), writing).await.unwrap().unwrap();
    }
}
