//! One stream of a session: a pipe in each direction.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{DropGuard, PollSender};

use super::frame::{Frame, STATUS_CANCEL};
use super::headers::Headers;
use super::session::Shared;
use super::window::Window;

/// Payload of one data frame that we send.
const CHUNK: usize = 32 * 1024;
/// Received bytes after which the peer's window is opened again.
pub(super) const WINDOW_STEP: u32 = 32 * 1024;

/// What the session and the stream both know.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) window: Window,
    /// The peer will send no more, in order: FIN, or RST after which nobody cares.
    pub(super) finished: AtomicBool,
    /// The peer reset the stream: what is written is lost.
    pub(super) reset: AtomicBool,
}

/// A stream. Reading ends with `Ok(0)` after the peer's FIN or RST, and with an error when the connection broke before.
/// `shutdown` sends FIN. Dropping it resets what is not finished.
pub struct Stream {
    id: u32,
    headers: Headers,
    shared: Arc<Shared>,
    ends: Arc<Ends>,
    incoming: mpsc::Receiver<Bytes>,
    current: Bytes,
    consumed: u32,
    outgoing: PollSender<Frame>,
    fin_sent: bool,
    /// Keeps the session open.
    _guard: Arc<DropGuard>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(
        id: u32,
        headers: Headers,
        shared: Arc<Shared>,
        (ends, guard): (Arc<Ends>, Arc<DropGuard>),
        incoming: mpsc::Receiver<Bytes>,
        fin_sent: bool,
    ) -> Self {
        let outgoing = PollSender::new(shared.data.clone());
        Self { id, headers, shared, ends, incoming, current: Bytes::new(), consumed: 0, outgoing, fin_sent, _guard: guard }
    }

    /// The headers the stream was opened with; names are lower-case.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    fn count(&mut self, bytes: usize) {
        self.consumed += bytes as u32;
        if self.consumed >= WINDOW_STEP {
            let delta = std::mem::take(&mut self.consumed);
            self.shared.control(Frame::WindowUpdate { id: self.id, delta });
        }
        self.shared.count(bytes);
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.incoming.poll_recv(cx)) {
                Some(bytes) => self.current = bytes,
                None if self.ends.finished.load(Ordering::Acquire) => return Poll::Ready(Ok(())),
                None => {
                    let e = io::Error::new(io::ErrorKind::ConnectionAborted, "the SPDY connection was lost");
                    return Poll::Ready(Err(e));
                }
            }
        }
        let n = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..n]);
        self.current.advance(n);
        self.count(n);
        Poll::Ready(Ok(()))
    }
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.fin_sent || self.ends.reset.load(Ordering::Acquire) {
            return Poll::Ready(Err(broken()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.ends.window.poll_room(&self.shared.peer, cx));
        let room = room.min(ready!(self.shared.window.poll_room(&self.shared.peer, cx)));
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| broken())?;
        let n = buf.len().min(room).min(CHUNK);
        let frame = Frame::Data { id: self.id, fin: false, payload: Bytes::copy_from_slice(&buf[..n]) };
        self.outgoing.send_item(frame).map_err(|_| broken())?;
        self.ends.window.sent(n);
        self.shared.window.sent(n);
        Poll::Ready(Ok(n))
    }

    /// The session's writer flushes whenever it has nothing more to write.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fin_sent || self.ends.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        // A session that is gone has nobody left to tell.
        if ready!(self.outgoing.poll_reserve(cx)).is_ok() {
            let fin = Frame::Data { id: self.id, fin: true, payload: Bytes::new() };
            let _ = self.outgoing.send_item(fin);
        }
        self.fin_sent = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.fin_sent || self.ends.reset.load(Ordering::Acquire) {
            // The peer may go on sending; nobody listens.
            self.shared.orphan(self.id);
            return;
        }
        // In order behind the data, if there is room.
        let reset = Frame::RstStream { id: self.id, status: STATUS_CANCEL };
        self.outgoing.abort_send();
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(reset)) = self.shared.data.try_send(reset) {
            self.shared.control(reset);
        }
        self.shared.forget(self.id);
    }
}
