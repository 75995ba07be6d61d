//! Calls of webhooks. Connections are kept: HTTP/2 where the other side speaks it, else HTTP/1.1 with a few idle ones.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dial::{DialError, Dialer};
use super::error::{self, CallError};
use super::target::Target;
use crate::lookup::Lookup;

/// What is read of an answer; upstream's reviews are at most as large as an object, and twice that in base64.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Targets whose connections are kept; the one that was not used for longest goes first.
const TARGETS_MAX: usize = 200;
/// Idle HTTP/1.1 connections to one target.
const IDLE_MAX: usize = 25;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// A call that is under way notices a dead peer in this time.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

struct Open {
    pool: Pool<Dialer, Full<Bytes>>,
    /// The turn it was last used in.
    used: u64,
}

#[derive(Default)]
struct Targets {
    open: HashMap<Arc<Target>, Open>,
    turn: u64,
}

/// Calls webhooks.
pub struct Client {
    lookup: Arc<dyn Lookup>,
    targets: Mutex<Targets>,
}

impl Client {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, targets: Mutex::default() }
    }

    /// Posts JSON and returns the body of a successful answer. `timeout` is also told to the webhook.
    ///
    /// # Errors
    /// In upstream's words; a timeout says `context deadline exceeded`.
    pub async fn post(&self, target: &Arc<Target>, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let pool = self.pool(target)?;
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let separator = if target.path.contains('?') { '&' } else { '?' };
        let query = format!("{separator}timeout={seconds}s");
        let failed = |why: String| CallError::Post { url: format!("{}{query}", target.shown), why };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{}{query}", target.authority(), target.path))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|error| CallError::Target(error.to_string()))?;
        let exchange = async {
            let response = pool.request(request).await.map_err(|error| failed(reason(&error)))?;
            read(response).await.map_err(failed)
        };
        let (code, body) =
            tokio::time::timeout(timeout, exchange).await.map_err(|_| failed("context deadline exceeded".to_owned()))??;
        if (200..300).contains(&code) { Ok(body) } else { Err(error::refused(code, &body)) }
    }

    fn pool(&self, target: &Arc<Target>) -> Result<Pool<Dialer, Full<Bytes>>, CallError> {
        let mut targets = self.targets.lock().unwrap_or_else(|e| e.into_inner());
        targets.turn += 1;
        let turn = targets.turn;
        if let Some(open) = targets.open.get_mut(target) {
            open.used = turn;
            return Ok(open.pool.clone());
        }
        let dialer = Dialer::new(target.clone(), self.lookup.clone()).map_err(CallError::Target)?;
        let pool = Pool::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(dialer);
        if targets.open.len() >= TARGETS_MAX
            && let Some(oldest) = targets.open.iter().min_by_key(|(_, open)| open.used).map(|(target, _)| target.clone())
        {
            targets.open.remove(&oldest);
        }
        targets.open.insert(target.clone(), Open { pool: pool.clone(), used: turn });
        Ok(pool)
    }
}

async fn read(response: Response<Incoming>) -> Result<(u16, Bytes), String> {
    let code = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| reason(&error))?.into_data() else { continue };
        if bytes.len() + data.len() > RESPONSE_BYTES_MAX {
            return Err(format!("the response is larger than {RESPONSE_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((code, bytes.freeze()))
}

/// The first cause that says something: ours if the connection could not be opened, else the innermost.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut current = error;
    loop {
        if let Some(dial) = current.downcast_ref::<DialError>() {
            return dial.0.clone();
        }
        match current.source() {
            Some(source) => current = source,
            None => break,
        }
    }
    let text = current.to_string();
    if text.contains("closed before message completed") { "EOF".to_owned() } else { text }
}
