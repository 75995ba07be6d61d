//! How a request reaches the API server: one shared HTTP/2 connection, or a function call in the same process.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::config::{Config, ConfigError};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An answer's body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With credentials from files, a connection is replaced at this age, so that rotated ones come into use.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("connecting to {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("connecting to {0} took too long")]
    ConnectTimeout(String),
    #[error("{0} does not speak HTTP/2")]
    NoHttp2(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the request could not be built")]
    Request(#[from] http::Error),
    #[error("no answer")]
    Http(#[from] hyper::Error),
    #[error("reading the answer")]
    Body(#[source] BoxError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Of a transport that asks for credentials before it sends.
    #[error("getting credentials for {0}")]
    Credentials(String, #[source] BoxError),
}

/// Sends requests whose URI is a path.
pub trait Transport: Send + Sync + 'static {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>>;

    /// Credentials changed: what is open may end, what comes next must use the new ones.
    fn reconnect(&self) {}
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// One HTTP/2 connection over TLS, opened when it is first needed and again when it is lost.
pub(crate) struct Http2 {
    inner: Arc<Http2Inner>,
}

struct Http2Inner {
    config: Config,
    open: Mutex<Option<Open>>,
}

impl Http2 {
    pub(crate) fn new(config: Config) -> Self {
        Self { inner: Arc::new(Http2Inner { config, open: Mutex::new(None) }) }
    }
}

impl Http2Inner {
    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        // The lock is held while connecting: the others wait for the same connection instead of opening their own.
        let mut open = self.open.lock().await;
        if let Some(o) = &*open
            && !o.sender.is_closed()
            && (!self.config.reads_files() || o.since.elapsed() < CONNECTION_AGE_MAX)
        {
            return Ok(o.sender.clone());
        }
        let sender = self.connect().await?;
        *open = Some(Open { sender: sender.clone(), since: Instant::now() });
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        self.config.check_for_daemon()?;
        let address = format!("{}:{}", self.config.host, self.config.port);
        let tls = TlsConnector::from(Arc::new(self.config.tls(&[b"h2"])?));
        let name = self.config.server_name()?;
        let connect = async {
            let socket = TcpStream::connect((self.config.host.as_str(), self.config.port)).await?;
            socket.set_nodelay(true)?;
            tls.connect(name, socket).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| TransportError::ConnectTimeout(address.clone()))?
            .map_err(|source| TransportError::Connect { address: address.clone(), source })?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(TransportError::NoHttp2(address));
        }
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A dead server is noticed in 45 s even when only watches are open.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .keep_alive_while_idle(false)
            .initial_connection_window_size(8 * 1024 * 1024)
            .initial_stream_window_size(1024 * 1024)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the API server ended");
            }
        });
        Ok(sender)
    }
}

impl Transport for Http2 {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
            parts.uri = format!("{}{path}", inner.config.url()).parse::<Uri>().map_err(http::Error::from)?;
            if let Some(token) = inner.config.bearer()? {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(http::Error::from)?;
                value.set_sensitive(true);
                parts.headers.insert(header::AUTHORIZATION, value);
            }
            for (name, value) in &inner.config.impersonation {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(http::Error::from)?;
                parts.headers.append(name, HeaderValue::from_str(value).map_err(http::Error::from)?);
            }
            let agent = HeaderValue::from_str(&inner.config.user_agent).map_err(http::Error::from)?;
            parts.headers.insert(header::USER_AGENT, agent);
            // One more try when the connection was lost before the request was taken.
            for last in [false, true] {
                let mut sender = inner.sender().await?;
                let ready = sender.ready().await;
                if ready.is_err() && !last {
                    inner.open.lock().await.take();
                    continue;
                }
                ready?;
                let request = Request::from_parts(parts.clone(), Full::new(body.clone()));
                match sender.send_request(request).await {
                    Ok(response) => return Ok(response.map(|b| b.map_err(BoxError::from).boxed_unsync())),
                    Err(error) if !last && error.is_canceled() => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            unreachable!("the last try returns")
        })
    }

    fn reconnect(&self) {
        let inner = self.inner.clone();
        tokio::spawn(async move { inner.open.lock().await.take() });
    }
}

type Call = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// An API server in this process.
pub struct InProcess(Arc<Call>);

impl InProcess {
    pub fn new(call: impl Fn(Request<Bytes>) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl Transport for InProcess {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let answer = (self.0)(request);
        Box::pin(async move { Ok(answer.await) })
    }
}
