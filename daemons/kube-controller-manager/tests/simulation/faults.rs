//! What goes wrong between a client and the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Body, Client, Error, Transport, TransportError};
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, BodyStream, StreamBody};

/// Numbers from a seed. Clones share the sequence.
#[derive(Clone)]
pub struct Dice(Arc<AtomicU64>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// splitmix64.
    pub fn roll(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    pub fn one_in(&self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    pub fn milliseconds(&self, max: u64) -> Duration {
        Duration::from_millis(self.below(max + 1))
    }
}

/// How often what goes wrong; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// One request in so many never reaches the server.
    pub lost_requests: u64,
    /// One answer in so many is lost on its way back, the write done.
    pub lost_answers: u64,
    /// One watch frame in so many is the last of its watch.
    pub cut_watches: u64,
    /// A watch shows the world as it was up to so long ago.
    pub stale_ms: u64,
    /// The process dies right after this write (counted from 1).
    pub dies_after_write: usize,
}

/// A client as one process has it: everything it sends goes through here, and nothing after its death.
#[derive(Clone)]
pub struct Wire {
    inner: Client,
    dice: Dice,
    faults: Faults,
    alive: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
    died: Arc<tokio::sync::Notify>,
}

impl Wire {
    pub fn new(inner: Client, dice: Dice, faults: Faults) -> Self {
        Self { inner, dice, faults, alive: Arc::new(AtomicBool::new(true)), writes: Arc::default(), died: Arc::default() }
    }

    pub fn client(&self) -> Client {
        Client::with_transport(self.clone())
    }

    pub fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    /// Returns when the fault that kills has struck.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

fn unreachable() -> TransportError {
    let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    TransportError::Connect { address: "in process".to_owned(), source }
}

impl Transport for Wire {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let wire = self.clone();
        Box::pin(async move {
            if !wire.is_alive() {
                // A dead process sends nothing and waits for nothing.
                return std::future::pending().await;
            }
            let is_read = request.method() == Method::GET;
            let is_event = request.uri().path().contains("/events");
            tokio::time::sleep(wire.dice.milliseconds(3)).await;
            if !wire.is_alive() {
                return std::future::pending().await;
            }
            if wire.dice.one_in(wire.faults.lost_requests) {
                return Err(unreachable());
            }
            let is_watch = request.uri().query().is_some_and(|q| q.contains("watch=true"));
            let answer = wire.inner.raw(request).await;
            // Events are hints: what dies with them is not interesting.
            if !is_read && !is_event && answer.as_ref().is_ok_and(|r| r.status().is_success()) {
                let count = wire.writes.fetch_add(1, Ordering::Relaxed) + 1;
                if count == wire.faults.dies_after_write {
                    wire.kill();
                    wire.died.notify_one();
                }
            }
            if !wire.is_alive() {
                return std::future::pending().await;
            }
            if !is_read && wire.dice.one_in(wire.faults.lost_answers) {
                return Err(unreachable());
            }
            let response = answer.map_err(|error| match error {
                Error::Transport(error) => error,
                other => panic!("a raw request fails only on its way: {other}"),
            })?;
            Ok(if is_watch { response.map(|body| wire.disturb(body)) } else { response })
        })
    }
}

impl Wire {
    /// A watch that lags, and that ends when it is unlucky.
    fn disturb(self, body: Body) -> Body {
        let frames = BodyStream::new(body);
        let wire = self;
        let disturbed = frames.then(move |frame| {
            let wire = wire.clone();
            async move {
                tokio::time::sleep(wire.dice.milliseconds(wire.faults.stale_ms)).await;
                if !wire.is_alive() {
                    std::future::pending::<()>().await;
                }
                if wire.dice.one_in(wire.faults.cut_watches) {
                    return Err(Box::new(unreachable()) as Box<dyn std::error::Error + Send + Sync>);
                }
                frame
            }
        });
        StreamBody::new(disturbed).boxed_unsync()
    }
}
