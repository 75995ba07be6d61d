//! One HTTP server for all daemons: HTTP/1.1 and HTTP/2 over TLS or plain, upgrades, limits, graceful end.
//!
//! **Invariants:** a TLS handshake has a deadline and their number is bounded (GHSA-6vch-q96h-7gc3's class); headers
//! have a deadline and a size limit; a connection that ends takes its requests with it.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::UpgradeableConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Shutdown;
use crate::tls::{PeerCertificates, ServerTls};

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub handshake_timeout: Duration,
    pub handshakes_max: usize,
    pub connections_max: usize,
    pub header_bytes_max: u32,
    pub header_timeout: Duration,
    pub streams_per_connection_max: u32,
    /// Streams that a client opened and took back before they were looked at; a connection with more is ended
    /// (CVE-2023-44487).
    pub resets_per_connection_max: usize,
    /// How long a graceful end waits for requests under way.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 256,
            connections_max: 20_000,
            header_bytes_max: 64 * 1024,
            header_timeout: Duration::from_secs(30),
            streams_per_connection_max: 1000,
            resets_per_connection_max: 20,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// A response's body, whatever makes it.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A response whose body is in memory.
pub fn in_memory(response: Response<http_body_util::Full<Bytes>>) -> Response<Body> {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// The address of the peer; a request extension.
#[derive(Clone, Copy, Debug)]
pub struct RemoteAddr(pub SocketAddr);

/// The connection that a request came on; a request extension.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(CancellationToken);

impl ConnectionHandle {
    /// Takes no further request on this connection, and ends it when those under way have ended.
    pub fn close_when_idle(&self) {
        self.0.cancel();
    }
}

/// Serves until `shutdown` is requested, then lets requests under way end. `handler` is called once for each request;
/// it finds [`PeerCertificates`], [`RemoteAddr`] and [`ConnectionHandle`] in the request's extensions.
pub async fn serve<H, F>(listener: TcpListener, tls: Option<Arc<ServerTls>>, limits: Limits, shutdown: Shutdown, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_max));
    let (draining, tasks) = (CancellationToken::new(), TaskTracker::new());
    loop {
        // The semaphore is never closed.
        let permit = connections.clone().acquire_owned().await.expect("an open semaphore");
        let (socket, peer) = tokio::select! {
            () = shutdown.requested() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // EMFILE and the like: the backlog keeps what waits.
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (tls, handshakes, handler, closing) = (tls.clone(), handshakes.clone(), handler.clone(), draining.child_token());
        tasks.spawn(async move {
            let _permit = permit;
            let _ = socket.set_nodelay(true);
            if let Err(error) = connection(socket, peer, tls, &handshakes, limits, closing, handler).await {
                tracing::debug!(%peer, "connection ended: {}", crate::chain(error.as_ref()));
            }
        });
    }
    drop(listener);
    draining.cancel();
    tasks.close();
    if tokio::time::timeout(limits.drain_timeout, tasks.wait()).await.is_err() {
        tracing::info!("requests were still under way at the end");
    }
}

async fn connection<H, F>(
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    handshakes: &Semaphore,
    limits: Limits,
    closing: CancellationToken,
    handler: H,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let handle = ConnectionHandle(closing.clone());
    let service = move |certificates: PeerCertificates| {
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(certificates.clone());
            request.extensions_mut().insert(RemoteAddr(peer));
            request.extensions_mut().insert(handle.clone());
            let answer = handler(request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let builder = builder(limits);
    let Some(tls) = tls else {
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service(PeerCertificates::default()));
        return until_closed(connection, &closing).await;
    };
    let stream = {
        let _permit = handshakes.acquire().await?;
        tokio::time::timeout(limits.handshake_timeout, TlsAcceptor::from(tls.current()).accept(socket)).await??
    };
    let (_, state) = stream.get_ref();
    let certificates =
        PeerCertificates(state.peer_certificates().map(|chain| Arc::new(chain.iter().map(|c| c.clone().into_owned()).collect())));
    // ALPN has decided: no sniffing of the first bytes.
    let h2 = state.alpn_protocol() == Some(b"h2".as_slice());
    let builder = if h2 { builder.http2_only() } else { builder.http1_only() };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service(certificates));
    until_closed(connection, &closing).await
}

/// A connection that ends by itself, or with the requests that are under way when it is told to close.
async fn until_closed<I, S, B>(
    connection: UpgradeableConnection<'_, I, S, TokioExecutor>,
    closing: &CancellationToken,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Future: 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    TokioExecutor: hyper_util::server::conn::auto::HttpServerConnExec<S::Future, B>,
{
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn builder(limits: Limits) -> hyper_util::server::conn::auto::Builder<TokioExecutor> {
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max.max(8192) as usize)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(limits.header_bytes_max)
        .max_pending_accept_reset_streams(limits.resets_per_connection_max)
        .max_local_error_reset_streams(limits.resets_per_connection_max * 4)
        // Several watches and uploads share a connection: one that is not read must not starve its siblings.
        .initial_connection_window_size(4 * 1024 * 1024)
        .initial_stream_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    builder
}
